"""One recorded handshake as a value and as JSON: the schema of docs/tools.md, which the project's own vectors have.

A file may come from a stranger. So its size and the number of its messages are bounded, and whatever is not of the
schema is an error that names the key.
"""

import binascii
import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Self, TypeAlias

from acredssp.errors import CredSSPError
from acredssp.mechanisms.ntlm.messages import AuthenticateMessage, decode_text
from acredssp.wire import TSRequest, spnego
from acredssp.wire.spnego import NegTokenInit, NegTokenResp, TokenKind

__all__ = ["MOST_BYTES", "MOST_MESSAGES", "Flight", "Message", "RecordedError", "Recording", "Sender", "tokens"]

MOST_BYTES: Final = 1 << 24
"""Bytes of a file."""
MOST_MESSAGES: Final = 1_000

Sender: TypeAlias = Literal["client", "server"]

_DIRECTIONS: Final[dict[str, Sender]] = {"c2s": "client", "s2c": "server"}
_SIDES: Final[dict[str, Sender]] = {"client": "client", "server": "server"}
_FORMAT: Final = 1
_MOST_OF_FOUR_BYTES: Final = 0xFFFFFFFF
_AUTHENTICATE: Final = b"NTLMSSP\0\3\0\0\0"


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One TSRequest.

    Attributes:
        sender: The side that sent it.
        data: The message. Bytes of secrets are zeros in a record without secrets.
        redacted: The places of these zeros: offset, size and the secret's name.
    """

    sender: Sender
    data: bytes = dataclasses.field(repr=False)
    redacted: tuple[tuple[int, int, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Flight:
    """Bytes that crossed the network, mostly encrypted.

    Attributes:
        sender: The side that sent them.
        moment: When, in seconds since 1970.
        data: The bytes.
    """

    sender: Sender
    moment: float
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedError:
    """How a handshake failed at the side that recorded it.

    Attributes:
        kind: The class of the error, such as `AuthenticationError`.
        message: Its text.
        stage: The stage of the handshake; None where it is not known.
        security_status: The name of the SECURITY_STATUS.
        nt_status: The NTSTATUS as its text; None for none.
    """

    kind: str
    message: str
    stage: str | None
    security_status: str | None
    nt_status: str | None

    @classmethod
    def of(cls, error: CredSSPError) -> Self:
        """Return an error as a record holds it."""
        return cls(
            type(error).__name__,
            error.message,
            str(error.stage) if error.stage else None,
            str(error.security_status),
            str(error.nt_status) if error.nt_status is not None else None,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One handshake.

    Attributes:
        label: A name for people.
        utc: When it was recorded, in ISO 8601.
        recorder: The program that recorded it.
        side: The side that recorded it; the other side is the peer.
        x224_request: The client's Connection Request; empty where RDP does not negotiate.
        x224_confirm: The server's Connection Confirm; empty where there is none.
        messages: Every TSRequest, in order.
        early_result: The four bytes of the early user authorization; empty where there are none.
        tls: Facts of TLS by name: `version`, `cipher`, `cert_der`, `subject_public_key`, `sni`.
        version: The CredSSP version that the recording side speaks itself; 0 where it is not known.
        accounts: The accounts with their secrets, as lines of a users file: only in a record with secrets.
        result: How it ended: `success`, or a word for the failure.
        error: The error of the recording side; None for a success, and where it is not known.
        closed: Whether the peer closed the connection before the handshake was complete.
        with_secrets: Whether the messages are whole.
        flights: The bytes that crossed the network, for a capture; JSON does not hold them.
    """

    label: str = ""
    utc: str = ""
    recorder: str = ""
    side: Sender = "client"
    x224_request: bytes = b""
    x224_confirm: bytes = b""
    messages: tuple[Message, ...] = ()
    early_result: bytes = b""
    tls: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    version: int = 0
    accounts: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    result: str = ""
    error: RecordedError | None = None
    closed: bool = False
    with_secrets: bool = True
    flights: tuple[Flight, ...] = dataclasses.field(default=(), repr=False, compare=False)

    @property
    def public_key(self) -> bytes:
        """The SubjectPublicKey of the server's certificate; empty where it is not recorded."""
        return bytes.fromhex(self.tls.get("subject_public_key") or "")

    @property
    def claimed(self) -> tuple[str, str] | None:
        """The domain and the user that the client wrote in NTLM; None where it wrote none."""
        token = next((token for sender, token in tokens(self) if token.startswith(_AUTHENTICATE)), None)
        if token is None:
            return None
        try:
            message = AuthenticateMessage.decode(token)
            return decode_text(message.domain, "domain"), decode_text(message.user, "user")
        except CredSSPError:
            return None

    def to_json(self) -> str:
        """Return the record as JSON in ASCII, with a line for each message."""
        facts: dict[str, Any] = {
            "format": _FORMAT,
            "label": self.label,
            "utc": self.utc,
            "recorder": self.recorder,
            "recorder_role": self.side,
            "x224_cr": self.x224_request.hex() or None,
            "x224_cc": self.x224_confirm.hex() or None,
            "tls": dict(self.tls),
            f"{self.side}_version": self.version,
            "messages": [_message_facts(each) for each in self.messages],
            "early_user_auth_result": int.from_bytes(self.early_result, "little") if self.early_result else None,
            "result": self.result,
            "error": dataclasses.asdict(self.error) if self.error else None,
            "closed": self.closed,
            "with_secrets": self.with_secrets,
        }
        if self.accounts:
            facts["accounts"] = list(self.accounts)
        return json.dumps(facts, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recording":
        """Read a record.

        Raises:
            ValueError: The text is no record. The error names the key that is wrong, and quotes no value.
        """
        if len(text) > MOST_BYTES:
            raise ValueError(f"expected a record of at most {MOST_BYTES} bytes, got {len(text)}")
        if not text.strip():
            raise ValueError("expected a record in json, got nothing: no handshake has filled the file")
        try:
            facts = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"expected a record in json, got text that breaks off or is none at {_where(error)}"
            ) from None
        except (ValueError, RecursionError):
            raise ValueError("expected a record in json, got other text") from None
        if not isinstance(facts, dict) or not isinstance(facts.get("messages"), list):
            raise ValueError("expected a record with a list of messages, got other json")  # noqa: TRY004 - as below
        if facts.get("format", _FORMAT) != _FORMAT:
            raise ValueError(f"format: expected {_FORMAT}: a newer acredssp may have made this record")
        return cls._from_facts(_Facts(facts))

    @classmethod
    def _from_facts(cls, facts: "_Facts") -> "Recording":
        side = _SIDES.get(facts.text("recorder_role") or "client")
        if side is None:
            raise ValueError("recorder_role: expected client or server")
        listed = facts.values["messages"]
        if len(listed) > MOST_MESSAGES:
            raise ValueError(f"messages: expected at most {MOST_MESSAGES}, got {len(listed)}")
        early = facts.number("early_user_auth_result", _MOST_OF_FOUR_BYTES)
        error, tls = facts.object("error"), facts.object("tls")
        return cls(
            label=facts.text("label"),
            utc=facts.text("utc"),
            recorder=facts.text("recorder"),
            side=side,
            x224_request=facts.hex("x224_cr"),
            x224_confirm=facts.hex("x224_cc"),
            messages=tuple(_message(_Facts(each, f"messages[{at}]: ")) for at, each in enumerate(listed)),
            early_result=b"" if early is None else early.to_bytes(4, "little"),
            tls=tls.texts("version", "cipher", "cert_der", "subject_public_key", "sni") if tls else {},
            version=facts.number(f"{side}_version", _MOST_OF_FOUR_BYTES) or 0,
            accounts=facts.accounts(),
            result=facts.text("result"),
            error=_error(error) if error else None,
            closed=facts.flag("closed", default=False),
            with_secrets=facts.flag("with_secrets", default=True),
        )


def _where(error: json.JSONDecodeError) -> str:
    return "its end" if error.pos >= len(error.doc.rstrip()) else f"line {error.lineno}, column {error.colno}"


class _Facts:
    """An object of JSON whose values are checked when they are read."""

    def __init__(self, values: object, where: str = "") -> None:
        if not isinstance(values, dict):
            raise ValueError(f"{where}expected an object")  # noqa: TRY004 - a file's content, no argument
        self.values: dict[str, Any] = values
        self._where = where

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ValueError(f"{self._where}{key}: expected a text")  # noqa: TRY004 - as above
        return value

    def hex(self, key: str) -> bytes:
        text = self.text(key)
        try:
            return binascii.unhexlify(text)
        except (binascii.Error, ValueError):
            raise ValueError(f"{self._where}{key}: expected hex digits") from None

    def number(self, key: str, most: int) -> int | None:
        value = self.values.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most):
            return value
        raise ValueError(f"{self._where}{key}: expected a number from 0 to {most}")

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        raise ValueError(f"{self._where}{key}: expected true or false")

    def list(self, key: str) -> list[Any]:
        value = self.values.get(key)
        if value is None or isinstance(value, list):
            return value or []
        raise ValueError(f"{self._where}{key}: expected a list")

    def lines(self, key: str) -> tuple[str, ...]:
        value = self.list(key)
        if not all(isinstance(each, str) for each in value):
            raise ValueError(f"{self._where}{key}: expected a list of texts")
        return tuple(value)

    def object(self, key: str) -> "_Facts | None":
        value = self.values.get(key)
        return None if value is None else _Facts(value, f"{self._where}{key}: ")

    def texts(self, *keys: str) -> dict[str, str | None]:
        for key in ("cert_der", "subject_public_key"):
            self.hex(key)
        return {key: self.text(key) or None for key in keys}

    def accounts(self) -> tuple[str, ...]:
        """The lines of `accounts`, or the one of `credentials`."""
        used = self.object("credentials")
        if used is not None:
            return (f"{used.text('domain')}:{used.text('user')}:{used.text('password')}",)
        return self.lines("accounts")


def tokens(record: Recording) -> Iterator[tuple[Sender, bytes]]:
    """Yield the tokens of the mechanism, out of SPNEGO, with their senders; what cannot be read is left out."""
    for message in record.messages:
        with contextlib.suppress(CredSSPError):
            token = TSRequest.decode(message.data).nego_token
            if token:
                yield message.sender, _unwrapped(token)


def _unwrapped(token: bytes) -> bytes:
    """Return the token inside SPNEGO."""
    match spnego.token_kind(token):
        case TokenKind.SPNEGO_INIT:
            return NegTokenInit.decode(token).mech_token or b""
        case TokenKind.SPNEGO_RESP:
            return NegTokenResp.decode(token).response_token or b""
    return token


def _message(facts: _Facts) -> Message:
    direction = facts.text("dir")
    if direction not in _DIRECTIONS:
        raise ValueError("messages: dir: expected c2s or s2c")
    data, redacted = facts.hex("hex"), facts.list("redacted")
    if facts.number("len", MOST_BYTES) not in {None, len(data)}:
        raise ValueError(f"messages: len: expected {len(data)}, the bytes of hex: the record may be cut")
    return Message(_DIRECTIONS[direction], data, tuple(_place(each, len(data)) for each in redacted))


def _place(place: object, size: int) -> tuple[int, int, str]:
    match place:
        case [int(start), int(count), str(name)] if 0 <= start <= size and 0 <= count <= size - start:
            return start, count, name
    raise ValueError("messages: redacted: expected offset, size and name within the message")


def _message_facts(message: Message) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "dir": "c2s" if message.sender == "client" else "s2c",
        "len": len(message.data),
        "hex": message.data.hex(),
    }
    if message.redacted:
        facts["redacted"] = [list(place) for place in message.redacted]
    return facts


def _error(facts: _Facts) -> RecordedError:
    return RecordedError(
        facts.text("kind"),
        facts.text("message"),
        facts.text("stage") or None,
        facts.text("security_status") or None,
        facts.text("nt_status") or None,
    )

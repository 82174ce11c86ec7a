"""A carriage that records the handshakes it carries: `RecordingCarriage`.

A record holds the TSRequests inside TLS. So the recorder stands between the engine and OpenSSL for as long as the
handshake lasts: it copies what one reads and the other writes. Nothing of a handshake changes, and a handshake that is
not recorded costs nothing.
"""

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import acredssp
from acredssp.carriage import Carriage, CarriedHandshake, NewContext, PassedOn
from acredssp.config import ServerConfig
from acredssp.core.context import SecurityContext
from acredssp.core.server_name import server_name_of
from acredssp.errors import CredSSPError
from acredssp.events import Answered, Buffer, HandshakeInfo, Question, StepResult
from acredssp.rdp import ConnectionRequest
from acredssp.recording.recording import MOST_MESSAGES, Flight, Message, RecordedError, Recording, Sender
from acredssp.status import SecurityStatus
from acredssp.tls import subject_public_key
from acredssp.wire import der

__all__ = ["RecordingCarriage"]

_MOST: Final = 1 << 20
"""Bytes of each direction that are kept: more than any handshake may have."""
_EARLY_SIZE: Final = 4


class RecordingCarriage:
    """A carriage around another one, which records each handshake.

    Args:
        carriage: The carriage that carries the handshakes.
        done: Called with the record when a handshake has ended, in the thread of the handshake. It must not block.
        label: The label of the records.
    """

    def __init__(self, carriage: Carriage, done: Callable[[Recording], object], *, label: str = "") -> None:
        self._carriage = carriage
        self._done = done
        self._label = label

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        """Make a client's handshake, which uses `context`; the context is new."""
        return _Recorded(self._carriage.initiator(context), "client", self._done, self._label)

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:
        """Make a server's handshake, as `Carriage.acceptor` describes."""
        return _Recorded(self._carriage.acceptor(config, new_context), "server", self._done, self._label)


class _Tap:
    """Stands in for the object of OpenSSL below an `ssl.SSLObject`, and copies the plaintext.

    Args:
        inner: The object of OpenSSL.
        copy: Called with whether the plaintext was received, and the plaintext.
    """

    __slots__ = ("_copy", "_inner")

    def __init__(self, inner: Any, copy: Callable[[bool, bytes], None]) -> None:
        object.__setattr__(self, "_inner", inner)
        object.__setattr__(self, "_copy", copy)

    def read(self, size: int, *buffer: Any) -> Any:
        got = self._inner.read(size, *buffer)
        self._copy(True, bytes(buffer[0][:got]) if buffer else bytes(got))
        return got

    def write(self, data: Any) -> Any:
        written = self._inner.write(data)
        self._copy(False, bytes(data))
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)


class _Recorded:
    """A handshake that is recorded; the methods are those of the carried one.

    Args:
        carried: The handshake.
        side: The side that it is.
        done: Called with the record.
        label: The record's label.
    """

    def __init__(
        self, carried: CarriedHandshake, side: Sender, done: Callable[[Recording], object], label: str
    ) -> None:
        self._carried = carried
        self._side: Sender = side
        self._peer: Sender = "server" if side == "client" else "client"
        self._done: Callable[[Recording], object] | None = done
        self._label = label
        self._began = dt.datetime.now(dt.UTC)
        self._flights: list[Flight] = []
        self._flown = 0
        """Bytes of the flights together."""
        self._plain: dict[Sender, bytearray] = {"client": bytearray(), "server": bytearray()}
        self._messages: list[Message] = []
        self._tapped: SecurityContext | None = None
        self._closed = False
        self._tap()

    # --- facts ---

    @property
    def context(self) -> SecurityContext:
        return self._carried.context

    @property
    def cookie(self) -> str:
        return self._carried.cookie

    @property
    def request(self) -> ConnectionRequest | None:
        return self._carried.request

    @property
    def chosen(self) -> ServerConfig | None:
        return self._carried.chosen

    @property
    def passed_on(self) -> PassedOn | None:
        return self._carried.passed_on

    @property
    def extra_info(self) -> Mapping[str, object]:
        return self._carried.extra_info

    @property
    def heard_all(self) -> bool:
        return self._carried.heard_all

    @property
    def farewell(self) -> bytes:
        return self._carried.farewell

    @property
    def last_token(self) -> bytes:
        return self._carried.last_token

    # --- calls ---

    def step(self, data: Buffer = b"") -> StepResult:
        try:
            result = self._carried.step(data)
        except CredSSPError:
            self._note(self._peer, bytes(data))
            raise
        self._note(self._peer, bytes(data[: len(data) - result.extra]))
        return self._after(result)

    def resume(self, event: Question[Answered], answer: Answered, early: Buffer = b"") -> StepResult:
        return self._after(self._carried.resume(event, answer, early))

    def receive_eof(self) -> NoReturn:
        self._closed = True
        self._carried.receive_eof()

    def fail(self, error: CredSSPError) -> None:
        self._carried.fail(error)
        self._note(self._side, bytes(self._carried.farewell))
        self._end(error)

    def _after(self, result: StepResult) -> StepResult:
        self._note(self._side, bytes(result.output))
        if result.event is None and result.status is SecurityStatus.SEC_E_OK:
            self._end(None)
        else:
            self._tap()
        return result

    # --- what is kept ---

    def _tap(self) -> None:
        """Stand between the engine and OpenSSL; a server's routing may choose another context until TLS begins."""
        context = self._carried.context
        if context is self._tapped or context.tls is None:
            return
        self._tapped = context
        tls: Any = context.tls.ssl_object
        tls._sslobj = _Tap(tls._sslobj, self._copy)  # noqa: SLF001 - OpenSSL's object has no other door

    def _copy(self, received: bool, data: bytes) -> None:
        sender = self._peer if received else self._side
        kept = self._plain[sender]
        if self._done is None or len(kept) > _MOST:
            return
        kept += data
        while self._take(sender):
            pass

    def _take(self, sender: Sender) -> bool:
        """Move a whole TSRequest from the plaintext to the messages; return whether there was one."""
        kept = self._plain[sender]
        if not kept or kept[0] != der.SEQUENCE or len(self._messages) == MOST_MESSAGES:
            return False
        try:
            frame = der.frame_size(kept, _MOST)
        except CredSSPError:
            return False
        if frame.missing or not frame.total:
            return False
        self._messages.append(Message(sender, bytes(kept[: frame.total])))
        del kept[: frame.total]
        return True

    def _note(self, sender: Sender, data: bytes) -> None:
        if data and self._flown < 2 * _MOST:
            self._flown += len(data)
            self._flights.append(Flight(sender, time.time(), data))

    # --- the record ---

    def _end(self, error: CredSSPError | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if self._tapped is not None and self._tapped.tls is not None:
            tls: Any = self._tapped.tls.ssl_object
            tls._sslobj = tls._sslobj._inner  # noqa: SLF001 - as above
        done(self._record(error))

    def _record(self, error: CredSSPError | None) -> Recording:
        context = self._carried.context
        early = bytes(self._plain["server"][:_EARLY_SIZE])
        return Recording(
            label=self._label,
            utc=self._began.isoformat(timespec="seconds"),
            recorder=f"acredssp {acredssp.__version__}",
            side=self._side,
            x224_request=self._in_clear("client"),
            x224_confirm=self._in_clear("server"),
            messages=tuple(self._messages),
            early_result=early if early in {b"\0\0\0\0", b"\5\0\0\0"} else b"",
            tls=_tls_facts(context, context.info, self._side),
            version=context.handshake.policy.max_version,
            result="success" if error is None else type(error).__name__,
            error=RecordedError.of(error) if error is not None else None,
            closed=self._closed,
            flights=tuple(self._flights),
        )

    def _in_clear(self, sender: Sender) -> bytes:
        """Return what a side sent before TLS: PDUs of X.224, which begin with 3, behind a preconnection PDU."""
        sent = b"".join(flight.data for flight in self._flights[:4] if flight.sender == sender)
        if sent[:1] == b"\x03":
            return sent[: int.from_bytes(sent[2:4], "big")]
        size = int.from_bytes(sent[:4], "little")
        behind = sent[size:]
        return behind[: int.from_bytes(behind[2:4], "big")] if sent[4:8] == bytes(4) and behind[:2] == b"\3\0" else b""


def _tls_facts(context: SecurityContext, info: HandshakeInfo, side: Sender) -> dict[str, str | None]:
    tls = context.tls
    facts: dict[str, str | None] = {"version": info.tls_version or None, "cipher": info.cipher or None}
    if tls is None or not info.tls_version:
        return facts
    with contextlib.suppress(CredSSPError, ValueError):
        certificate = tls.peer_certificate if side == "client" else context.own_chain[0]
        if certificate:
            facts["cert_der"] = certificate.hex()
            facts["subject_public_key"] = subject_public_key(certificate).hex()
    name = tls.ssl_object.server_hostname if side == "client" else server_name_of(tls.ssl_object)
    facts["sni"] = name or None
    return facts

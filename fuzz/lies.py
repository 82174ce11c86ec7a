"""A peer that lies: a whole side of ours, and the ways in which an input changes what it says.

A lie changes the peer's mechanism token, the plaintext that it seals, or the message around both. Where the peer could
make a seal, a proof or a MIC anew with its keys, it does.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, Final

from acredssp.core.context import SecurityContext
from acredssp.core.server import ServerHandshake
from acredssp.credentials import Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import Mechanism, Sealing
from acredssp.mechanisms.ntlm.crypto import message_mic, nt_proof, ntowf_v2
from acredssp.mechanisms.ntlm.messages import with_mic
from acredssp.wire import der, ts_credentials
from acredssp.wire.ts_request import TSRequest
from fuzz.program import Program

__all__ = [
    "ALICE", "C2S", "KEY", "KINDS", "MAX_MESSAGE", "ON_SECRETS", "OTHER_CREDENTIALS", "OTHER_KEY", "S2C",
    "Bent", "Liar", "Lie", "Peer", "flipped", "lie_of", "request_in",
]  # fmt: skip

ALICE: Final = Password("Passw0rd!", "alice", "CONTOSO")
OTHER_CREDENTIALS: Final = ts_credentials.TSPasswordCreds.of("CONTOSO", "bob", "another secret")
KEY: Final = b"\x30\x82\x01\x0a" + bytes(range(256))
OTHER_KEY: Final = b"\x30\x82\x01\x0a" + bytes(range(255, -1, -1))
MAX_MESSAGE: Final = 16 * 1024
_AUTHENTICATE: Final = b"NTLMSSP\0\3\0\0\0"


@dataclasses.dataclass(slots=True)
class Lie:
    """What is done to one message of the peer. `kind` is one of `KINDS`."""

    kind: str = "honest"
    at: int = 0
    value: int = 0
    content: bytes = b""
    """New bytes for what is changed."""


_FIELDS: Final = ("nego_token", "auth_info", "pub_key_auth", "client_nonce", "error_code", "version")
_ON_MESSAGES: Final = ("flip", "cut", "append", "leave_out", "repeat", "older", "field", "field_of", "flood", "before")
ON_SECRETS: Final = ("flip_token", "flip_and_sign", "flip_heard", "flip_plain", "other_plain", "seal_twice")
KINDS: Final = ("honest", *ON_SECRETS, *_ON_MESSAGES)


def lie_of(program: Program) -> Lie:
    """Read which lie comes next. Less than half of all bytes mean the truth, and so does the end."""
    kind = KINDS[max(0, program.byte() - 111) % len(KINDS)]
    if kind == "honest":
        return Lie()
    return Lie(kind, program.number(1024), program.byte(), program.take(program.number(48)))


def flipped(data: bytes, lie: Lie) -> bytes:
    """Return bytes of which one is another, as the lie says."""
    if not data:
        return lie.content
    at = lie.at % len(data)
    return data[:at] + bytes((data[at] ^ (lie.value or 1),)) + data[at + 1 :]


class Bent:
    """A mechanism that lies: it changes what it hears, what it says and what it seals. All else is the inner one's."""

    def __init__(self, inner: Mechanism, session_key: Callable[[], bytes]) -> None:
        self._inner = inner
        self._session_key = session_key
        self._heard: list[bytes] = []
        self._said: list[bytes] = []
        self.lie = Lie()
        self.sealed: dict[bytes, bytes] = {}
        """What was sealed, by its seal."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def step(self, token: bytes) -> object:
        """Take a token, perhaps changed; return the inner mechanism's, perhaps changed."""
        if self.lie.kind == "flip_heard":
            token = flipped(token, self.lie)
        self._heard.append(token)
        return self._bend(self._inner.step(token))

    def resume(self, answer: object) -> object:
        """Take the answer to an event of the inner mechanism."""
        return self._bend(self._inner.resume(answer))

    def _bend(self, token: object) -> object:
        if not isinstance(token, bytes):
            return token
        self._said.append(token)
        if self.lie.kind == "flip_token":
            return flipped(token, self.lie)
        if self.lie.kind == "flip_and_sign" and _AUTHENTICATE in token:
            return self._signed(token)
        return token

    def _signed(self, token: bytes) -> bytes:
        """Change an AUTHENTICATE_MESSAGE behind its MIC, and make proof and MIC anew with the true keys."""
        start = token.index(_AUTHENTICATE)
        message = token[start:]
        at = self.lie.at % (len(message) - 12) + 12
        changed = message[:at] + bytes((message[at] ^ (self.lie.value or 1),)) + message[at + 1 :]
        negotiate, challenge = self._ntlm(self._said[0]), self._ntlm(self._heard[1])
        size, offset = int.from_bytes(changed[20:22], "little"), int.from_bytes(changed[24:28], "little")
        if self.lie.content and size > 44 and offset + size <= len(changed):
            key = ntowf_v2(ALICE.nt_hash, ALICE.user, ALICE.domain.encode("utf-16-le"))
            proof = nt_proof(key, challenge[24:32], changed[offset + 16 : offset + size])
            changed = changed[:offset] + proof + changed[offset + 16 :]
        return token[:start] + with_mic(
            changed, message_mic(self._session_key(), negotiate, challenge, with_mic(changed, bytes(16)))
        )

    def _ntlm(self, token: bytes) -> bytes:
        """The NTLM message in a token. A message at the end of SPNEGO's token ends where that ends."""
        return token[max(0, token.find(b"NTLMSSP\0")) :]

    @property
    def sealing(self) -> Sealing:
        """What seals lies, and what unseals the truth."""
        return self.wrap, self._inner.unwrap

    def wrap(self, plaintext: bytes) -> bytes:
        """Seal a plaintext, perhaps another one, with the true key."""
        kind = self.lie.kind
        if kind == "flip_plain":
            plaintext = flipped(plaintext, self.lie)
        elif kind == "other_plain":
            plaintext = self._other(plaintext)
        elif kind == "seal_twice":
            self._inner.wrap(plaintext)
        sealed = self._inner.wrap(plaintext)
        self.sealed[sealed] = plaintext
        return sealed

    def _other(self, plaintext: bytes) -> bytes:
        """Plaintexts that somebody who attacks the binding or the credentials would seal."""
        nonce = self.lie.content[:32].ljust(32, b"\0")
        choices = (
            b"",
            KEY,
            OTHER_KEY,
            bytes((KEY[0] + 1,)) + KEY[1:],
            hashlib.sha256(C2S + nonce + KEY).digest(),
            hashlib.sha256(S2C + nonce + KEY).digest(),
            hashlib.sha256(C2S + nonce + OTHER_KEY).digest(),
            hashlib.sha256(S2C + nonce + OTHER_KEY).digest(),
            ts_credentials.encode(OTHER_CREDENTIALS),
            plaintext[::-1],
            plaintext + self.lie.content,
            self.lie.content,
        )
        return choices[self.lie.value % len(choices)]


C2S: Final = b"CredSSP Client-To-Server Binding Hash\0"
S2C: Final = b"CredSSP Server-To-Client Binding Hash\0"


class Liar:
    """Somebody who lies about whole messages, for which no key is needed.

    Args:
        older: Messages of an older conversation.
    """

    def __init__(self, older: list[bytes]) -> None:
        self._older = older
        self.said: list[bytes] = []
        """The messages as they were before any lie."""

    def tell(self, honest: bytes, lie: Lie) -> list[bytes]:
        """Return what is said in place of an honest message."""
        if honest:
            self.said.append(honest)
        told: list[bytes] = getattr(self, f"_tell_{lie.kind}", self._as_it_is)(honest, lie)
        return [each for each in told if each]

    def _as_it_is(self, message: bytes, _lie: Lie) -> list[bytes]:
        return [message]

    def _tell_flip(self, message: bytes, lie: Lie) -> list[bytes]:
        return [flipped(message, lie)]

    def _tell_cut(self, message: bytes, lie: Lie) -> list[bytes]:
        return [message[: lie.at % (len(message) or 1)]]

    def _tell_append(self, message: bytes, lie: Lie) -> list[bytes]:
        return [message + (lie.content or message)]

    def _tell_leave_out(self, _message: bytes, _lie: Lie) -> list[bytes]:
        return []

    def _tell_repeat(self, message: bytes, lie: Lie) -> list[bytes]:
        return [message, self.said[lie.at % len(self.said)] if self.said else b""]

    def _tell_before(self, message: bytes, lie: Lie) -> list[bytes]:
        return [self._pool(lie), message]

    def _tell_older(self, message: bytes, lie: Lie) -> list[bytes]:
        return [self._pool(lie) or message]

    def _pool(self, lie: Lie) -> bytes:
        pool = [*self._older, *self.said]
        return pool[lie.at % len(pool)] if pool else b""

    def _tell_field(self, message: bytes, lie: Lie) -> list[bytes]:
        """Give a field other bytes, or none."""
        request = request_in(message)
        if request is None:
            return [message]
        name = _FIELDS[lie.value % len(_FIELDS)]
        number = int.from_bytes(lie.content[:4], "big")
        value = {"version": number % 128, "error_code": number}.get(name, lie.content or None)
        return [_encoded(dataclasses.replace(request, **{name: value}), message)]

    def _tell_field_of(self, message: bytes, lie: Lie) -> list[bytes]:
        """Give a field what it had in another message."""
        request, other = request_in(message), request_in(self._pool(lie))
        if request is None or other is None:
            return [message]
        name = _FIELDS[lie.value % len(_FIELDS)]
        return [_encoded(dataclasses.replace(request, **{name: getattr(other, name)}), message)]

    def _tell_flood(self, message: bytes, lie: Lie) -> list[bytes]:
        """Announce a message that is much too long, and send some of it."""
        sent = 1 << 15 + lie.value % 4
        return [b"\x30\x83" + (sent + (lie.at << 10) + 1024).to_bytes(3, "big") + bytes(sent), message]


class Peer(Liar):
    """The lying side. Give `say` what the other side sent; it returns the messages to send, each whole.

    Args:
        context: Its own context, in the bare shape, with a bent mechanism.
        bent: That mechanism.
        answer: Answers the context's events.
        older: The messages of this side in an older conversation.
    """

    def __init__(
        self, context: SecurityContext, bent: Bent, answer: Callable[[object], object], older: list[bytes]
    ) -> None:
        super().__init__(older)
        self._context, self._bent, self._answer = context, bent, answer
        self._begun = isinstance(context.handshake, ServerHandshake)
        self._silent = False

    def say(self, heard: bytes, lie: Lie) -> list[bytes]:
        """Answer honestly, and then lie."""
        self._bent.lie = lie
        return self.tell(self._honest(heard), lie)

    def _honest(self, heard: bytes) -> bytes:
        if self._silent:
            return b""
        try:
            result = self._context.step(heard if self._begun else b"")
            self._begun = True
            output = result.output
            while result.event is not None:
                result = self._context.resume(result.event, self._answer(result.event))
                output += result.output
        except CredSSPError:
            self._silent = True
            return self._context.farewell
        self._silent = self._context.state.name == "ESTABLISHED"
        return output


def request_in(message: bytes) -> TSRequest | None:
    """The TSRequest that bytes begin with."""
    try:
        size = der.frame_size(message, MAX_MESSAGE).total
        return TSRequest.decode(message[:size]) if message else None
    except CredSSPError:
        return None


def _encoded(request: TSRequest, otherwise: bytes) -> bytes:
    nonce = request.client_nonce
    if nonce is not None and len(nonce) != 32:
        request.client_nonce = nonce[:32].ljust(32, b"\0")
    return request.encode() or otherwise

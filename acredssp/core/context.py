"""A CredSSP security context: ciphertext in, `StepResult` out. The one engine behind aio, SSPI and the carriages.

How to drive it
===============

`step(data)` takes whole TLS records (in the bare shape: one whole TSRequest) from the front of `data`. What it did
not take is `extra` bytes at the end of `data`: keep them, and present them again with more behind. Nothing of a
partial record is kept inside, so a repeated call is harmless.

    status                        what to do
    SEC_I_CONTINUE_NEEDED         send `output`; if `event`, give its answer to `resume()`; else step again with
                                  `extra` bytes and at least `missing` more
    SEC_I_INCOMPLETE_CREDENTIALS  the same, with an `event`: the server asks for a client certificate
    SEC_E_INCOMPLETE_MESSAGE      nothing was taken: step again with the same data and `missing` bytes more
    SEC_E_OK                      send `output`; the context is established, `extra` is application ciphertext

`missing` never reaches past the record in hand: with one byte less the answer is again SEC_E_INCOMPLETE_MESSAGE and 1;
with exactly that many a header becomes known or a record is taken.

A failure raises a `CredSSPError`. It is sticky: every later call raises the same error. `farewell` then holds what the
peer should still be sent (an alert, an errorCode, a close_notify) before the connection is closed.

Who calls: the driver in `aio`, the SSPI functions, the carriages, or thirty lines of a user's own.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Final, NoReturn, TypeAlias

from acredssp.core.client import ClientHandshake
from acredssp.core.events import ChooseCertificate, Event, JudgeCertificate
from acredssp.core.handshake import Answer
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.core.tls import TLSSession
from acredssp.errors import AccessDenied, CredSSPError, LocalProtocolError, RemoteProtocolError
from acredssp.mechanisms.base import Principal
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.wire import der, early_auth, tls_record
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.x509 import pin_of

__all__ = ["Buffer", "HandshakeInfo", "SecurityContext", "StepResult"]

# IronRDP's acceptor refuses with the early user authorization result even where a TSRequest is due.
_ACCESS_DENIED: Final = early_auth.encode(early_auth.AuthorizationResult.ACCESS_DENIED)

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclasses.dataclass(slots=True)
class StepResult:
    """The answer to one `step()` or `resume()`; the module's text says what to do with it.

    The caller's alone: the engine keeps none. So it is not frozen, which would treble the price of each of ten a logon.
    """

    status: SecurityStatus
    output: bytes = dataclasses.field(default=b"", repr=False)
    """Bytes for the peer; may be empty."""
    missing: int = 0
    """Bytes to add behind `extra` (or behind the same data) before the next call can do anything."""
    extra: int = 0
    """Bytes at the end of `data` that were not taken."""
    event: Event | None = None
    """Whom the engine waits for; None for the peer."""

    @classmethod
    def unfinished(cls, missing: int, size: int, taken: int = 0) -> "StepResult":
        """Ask for `missing` bytes behind the `size` that were given, after whole units of `taken` bytes."""
        status = SecurityStatus.SEC_I_CONTINUE_NEEDED if taken else SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
        return cls(status, missing=missing, extra=size - taken)


@dataclasses.dataclass(frozen=True, slots=True)
class HandshakeInfo:
    """The facts of an established context; holds no secret."""

    version: int
    """The effective CredSSP version."""
    mechanism: str
    """What authenticated: `"kerberos"` or `"ntlm"`."""
    principal: Principal | None
    """Server: who logged on. Client: None."""
    delegated: str
    """The kind of credentials that went over: `"password"`, `"smartcard"`, `"remote_guard"`, `"nothing"`."""
    tls_version: str
    """Empty in the bare shape, as is `cipher`."""
    cipher: str
    peer_key_sha256: str | None
    """Client: SHA-256 of the server's SubjectPublicKeyInfo in hex, what a pin is compared with."""
    fallback: str = ""
    """Client: why it was not its first choice of mechanism; empty where it was."""


class SecurityContext:
    """One CredSSP handshake, client or server.

    Args:
        handshake: The exchange inside, fresh.
        tls: A fresh TLS connection; None in the bare shape, where the caller runs TLS and `public_key` is given.
        public_key: Bare shape: the SubjectPublicKey of the server's certificate (content of the BIT STRING); None for a
            client that learns it later and calls `bind()` before its second step.
        judge: Client: whether to stop with `JudgeCertificate` when TLS is up.

    Raises:
        ValueError: Neither `tls` nor a `public_key`.
    """

    def __init__(
        self,
        handshake: ClientHandshake | ServerHandshake,
        tls: TLSSession | None,
        *,
        public_key: bytes | None = b"",
        judge: bool = False,
    ) -> None:
        self.handshake = handshake
        self.tls = tls
        self.trailing_data = b""
        """Server: plaintext that came behind authInfo in the same record; the application's first bytes."""
        self._is_client = self._first_call = isinstance(handshake, ClientHandshake)
        self._judge = judge
        self._event: Event | None = None
        """Whom the engine waits for."""
        self._max_fragment = tls_record.MAX_FRAGMENT
        self._plaintext = bytearray()
        """What came of a TSRequest that is not whole."""
        self._outgoing = b""
        self._farewell = b""
        if tls is None:
            if public_key == b"" or (public_key is None and not self._first_call):
                raise ValueError("the bare shape needs the server's public key: without one nothing is bound")
            handshake.tls_established(public_key or b"")

    # --- driving ---

    @property
    def state(self) -> State:
        """What the engine waits for."""
        return self.handshake.state

    @property
    def context(self) -> "SecurityContext":
        """The context itself: with nothing around it, it is its own carriage."""
        return self

    @property
    def cookie(self) -> str:
        """Nothing: a bare context hears nothing of the client before TLS."""
        return ""

    @property
    def extra_info(self) -> Mapping[str, object]:
        """Facts of a carriage, for `get_extra_info`: a bare context has none."""
        return {}

    @property
    def farewell(self) -> bytes:
        """What the peer should still be sent after a failure; the same bytes however often it is read."""
        return self._farewell

    @property
    def alert(self) -> bytes:
        """The TLS alert at the end of `farewell`, as level and description (RFC 8446 6).

        Empty for none, and where OpenSSL has encrypted one and does not tell which.
        """
        if not self._farewell or self.tls is None:
            return b""
        return self.tls.alert or tls_record.alert_in_clear(self._farewell)

    def step(self, data: Buffer = b"") -> StepResult:
        """Take whole records from the front of `data` until there is something to answer.

        A client's first call takes no data.

        Raises:
            LocalProtocolError: The context is established, or waits for `resume()`; nothing changed.
            CredSSPError: The handshake failed, now or earlier: send `farewell` and close.
        """
        self._check_usable(waiting=False)
        view = memoryview(data)
        try:
            if self._first_call:
                self._first_call = False
                return self._result(self._start(), len(view))
            return self._step_records(self.tls, view) if self.tls else self._step_message(view)
        except LocalProtocolError:
            raise
        except CredSSPError as error:
            self.fail(error)
            raise

    def resume(self, answer: object) -> StepResult:
        """Give the answer to `StepResult.event`. Go on as after `step()`, with the bytes that were left over.

        Raises:
            LocalProtocolError: Nobody asked.
            CredSSPError: The answer was no, or the handshake failed: send `farewell` and close.
        """
        self._check_usable(waiting=True)
        try:
            return self._result(self._resume(answer), 0)
        except CredSSPError as error:
            self.fail(error)
            raise

    def bind(self, public_key: bytes, *, certified: bool = False) -> None:
        """Bare shape: give the server's SubjectPublicKey that was not known when the context was made.

        `certified` says whether the certificate that has it authenticates the server.

        Raises:
            LocalProtocolError: It is known already, or empty; nothing changed.
        """
        if self.tls is not None or self.handshake.public_key or not public_key:
            raise LocalProtocolError("a context is bound once, to a key")
        self.handshake.public_key = public_key
        self._client.certified = certified

    def receive_eof(self) -> NoReturn:
        """Note that the transport ended before the context was established.

        Raises:
            AuthenticationError: The server closed after our logon, which is how some refuse it.
            PeerClosed: Anywhere else.
        """
        self._check_usable(waiting=self.waiting)
        error = self.handshake.closed_by_peer()
        self.fail(error)
        raise error

    def fail(self, error: CredSSPError, last_words: bytes = b"") -> None:
        """End the handshake: every later call raises `error`, and `farewell` says good-bye.

        `last_words` is plaintext of a carriage that goes out before the close. A context that has failed stays
        as it is.
        """
        if self.handshake.error is not None:
            return
        up = self.state is not State.TLS
        self.handshake.fail(error)
        self._event = None
        if self.tls is not None:
            self.tls.certificate_request = None
        try:
            if up and (message := last_words or self.handshake.farewell()):
                self._send(message)
        except CredSSPError:
            pass  # TLS itself is broken: there is no way left to say anything
        if self.tls is not None:
            self.tls.close()
        self._farewell = self._drain()

    # --- afterwards ---

    @property
    def waiting(self) -> bool:
        """Whether an event has not been answered yet."""
        return self._event is not None

    @property
    def info(self) -> HandshakeInfo:
        """The facts; what is not known yet is empty."""
        handshake, tls = self.handshake, self.tls
        certificate = tls.peer_certificate if tls and isinstance(handshake, ClientHandshake) else None
        return HandshakeInfo(
            version=handshake.version,
            mechanism=handshake.mechanism.name,
            principal=handshake.mechanism.principal,
            delegated=handshake.delegated,
            tls_version=tls.version if tls else "",
            cipher=tls.cipher if tls else "",
            peer_key_sha256=_pin(certificate) if certificate else None,
            fallback=handshake.mechanism.fallback,
        )

    def take_credentials(self) -> TSCredentials | None:
        """Server: hand the delegated credentials over, once; None after that, and on a client."""
        if not isinstance(self.handshake, ServerHandshake):
            return None
        credentials, self.handshake.credentials = self.handshake.credentials, None
        return credentials

    # --- records and messages ---

    @property
    def _client(self) -> ClientHandshake:
        assert isinstance(self.handshake, ClientHandshake)
        return self.handshake

    def _check_usable(self, *, waiting: bool) -> None:
        if self.handshake.error is not None:
            raise self.handshake.error
        if self.handshake.state is State.ESTABLISHED:
            raise LocalProtocolError("the context is established")
        if waiting is not (self._event is not None):
            due = "does not wait for an answer: call step()" if waiting else "waits for an answer: call resume()"
            raise LocalProtocolError(f"the context {due}")

    def _resume(self, answer: object) -> Event | bool:
        event, self._event = self._event, None
        match event:
            case JudgeCertificate():
                self._client.certified = answer is True
                return self._answer(self._client.start())
            case ChooseCertificate():
                assert self.tls is not None
                self.tls.answer_certificate_request(answer)
                return self._shake_hands(self.tls)
            case _:
                return self._answer(self.handshake.resume(answer))

    def _start(self) -> Event | bool:
        if self.tls is None:
            return self._answer(self._client.start())
        self.tls.handshake()
        return True

    def _step_message(self, data: memoryview) -> StepResult:
        if not self.handshake.public_key:
            raise LocalProtocolError("the context has no key to bind to: call bind()")
        frame = der.frame_size(data, self.handshake.policy.max_message)
        if frame.missing:
            return StepResult.unfinished(frame.missing, len(data))
        message = bytes(data[: frame.total])
        return self._result(self._answer(self.handshake.receive(message)), len(data) - frame.total)

    def _step_records(self, tls: TLSSession, data: memoryview) -> StepResult:
        taken, end = 0, self._flight_end(tls, data)
        while True:
            if not end:
                frame = tls_record.frame_size(data, taken, max_fragment=self._max_fragment)
                if frame.missing:
                    return StepResult.unfinished(frame.missing, len(data), taken)
                end = taken + frame.total
            tls.feed(data[taken:end])
            taken, end = end, 0
            if stop := self._take_record(tls):
                return self._result(stop, len(data) - taken)

    def _flight_end(self, tls: TLSSession, data: memoryview) -> int:
        """How much of the handshake to feed at once: all records of a flight but the last one; 0 to take one by one.

        The last one ends the handshake, and is taken alone. Where a peer has that sooner, what it sent behind waits
        inside TLS, and the record that was left out here sees to it that somebody looks.
        """
        if self.handshake.state is not State.TLS or tls.stops_at_records:
            return 0
        return tls_record.before_last(data, self._max_fragment)

    # Each of the following tells whether to stop taking records: an event or True, or False to go on.

    def _take_record(self, tls: TLSSession) -> Event | bool:
        if self.handshake.state is State.TLS:
            return self._shake_hands(tls)
        plaintext: bytes | bytearray = tls.read()
        if tls.peer_closed:
            raise self.handshake.closed_by_peer()
        if self._plaintext:
            self._plaintext += plaintext
            plaintext = self._plaintext
        return bool(plaintext) and self._take_message(plaintext)

    def _shake_hands(self, tls: TLSSession) -> Event | bool:
        if tls.handshake():
            return self._tls_established(tls)
        if tls.certificate_request is not None:
            return ChooseCertificate(tls.certificate_request)
        return tls.has_output

    def _tls_established(self, tls: TLSSession) -> Event | bool:
        self._max_fragment = tls.max_fragment
        if not self._is_client:
            self.handshake.tls_established(tls.own_public_key())
            return tls.has_output
        self.handshake.tls_established(tls.peer_public_key())
        if self._judge:
            return JudgeCertificate(tls.peer_chain())
        # Not sent yet: the client's Finished and its first TSRequest leave together under TLS 1.3.
        return self._answer(self._client.start())

    def _take_message(self, plaintext: bytes | bytearray) -> Event | bool:
        if self._is_client and plaintext == _ACCESS_DENIED:
            raise AccessDenied(
                "the server refused access in the middle of credssp", nt_status=NTSTATUS.STATUS_ACCESS_DENIED
            )
        total, missing = der.frame_size(plaintext, self.handshake.policy.max_message)
        if missing:
            self._plaintext = bytearray(plaintext) if plaintext is not self._plaintext else self._plaintext
            return False
        if len(plaintext) > total and self.handshake.state is not State.AUTH_INFO:
            raise RemoteProtocolError(f"{len(plaintext) - total} bytes behind a TSRequest")
        self._plaintext = bytearray(plaintext[total:])
        return self._answer(self.handshake.receive(bytes(plaintext[:total])))

    def _answer(self, answer: Answer) -> Event | bool:
        if not isinstance(answer, bytes):
            return answer
        if answer:
            self._send(answer)
        if self.handshake.state is not State.ESTABLISHED:
            return bool(answer)
        self.trailing_data = bytes(self._plaintext)
        self._plaintext.clear()
        return True

    def _send(self, message: bytes) -> None:
        # One write, so one record: Windows servers take a TSRequest only whole ([MS-CSSP] note 8).
        if self.tls is None:
            self._outgoing = message
        else:
            self.tls.write(message)

    def _drain(self) -> bytes:
        if self.tls is not None:
            return self.tls.output()
        message, self._outgoing = self._outgoing, b""
        return message

    def _result(self, stop: Event | bool, extra: int) -> StepResult:
        if isinstance(stop, bool):
            established = self.handshake.state is State.ESTABLISHED
            status = SecurityStatus.SEC_E_OK if established else SecurityStatus.SEC_I_CONTINUE_NEEDED
            return StepResult(status, self._drain(), 0, extra)
        self._event = stop
        if isinstance(stop, ChooseCertificate):
            return StepResult(SecurityStatus.SEC_I_INCOMPLETE_CREDENTIALS, b"", 0, extra, stop)
        return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED, b"", 0, extra, stop)


def _pin(certificate: bytes) -> str | None:
    """None when it has no key that can be read: OpenSSL takes BER, too."""
    with contextlib.suppress(RemoteProtocolError):
        return pin_of(certificate)
    return None

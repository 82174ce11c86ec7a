"""A CredSSP security context: ciphertext in, `StepResult` out. The one engine behind aio, SSPI and the carriages.

How to drive it
===============

`step(data)` takes whole TLS records (in the bare shape: one whole TSRequest) from the front of `data`. It leaves
`extra` bytes at the end of `data`: keep them, and give them again with more bytes behind them. The context keeps no
part of a partial record, so a repeated call is harmless.

    status                        what to do
    SEC_I_CONTINUE_NEEDED         send `output`; if `event`, give it and its answer to `resume()`; else step again with
                                  `extra` bytes and at least `missing` more
    SEC_I_INCOMPLETE_CREDENTIALS  give `event` and its answer to `resume()`: the server asks for a client certificate
    SEC_E_INCOMPLETE_MESSAGE      nothing was taken: step again with the same data and `missing` bytes more
    SEC_E_OK                      send `output`; the context is established, `extra` is application ciphertext

`missing` never reaches past the current record. With one byte less the answer is again SEC_E_INCOMPLETE_MESSAGE, and
`missing` is 1. With exactly that many bytes the record's header becomes known, or the record is taken.

One call takes at most 64 records. Where whole records are left, the answer is SEC_I_CONTINUE_NEEDED with no output and
nothing missing: step again at once or, in a loop that serves other connections, after their turn. Before the handshake
ends a peer may send 64 records of any size, and one more for each 512 bytes. More records are a `LimitExceeded`. A
logon takes 6 to 9 records from each side.

A failure raises a `CredSSPError`. It is final: every later call raises the same error. `farewell` then holds the last
bytes for the peer (an alert, an errorCode, a close_notify), to be sent before the connection is closed. A caller that
carries single tokens and has no connection to close (SSPI, HTTP) sends `last_token` instead.

Who calls: the driver in `aio`, the SSPI functions, the carriages, or a user's own code of some thirty lines.
"""

import contextlib
import functools
from collections.abc import Mapping
from typing import ClassVar, Final, NoReturn

from acredssp.core.alerts import alert_for
from acredssp.core.client import ClientHandshake
from acredssp.core.events import Admit, ChooseCertificate, Event, JudgeCertificate, Question
from acredssp.core.handshake import Answer
from acredssp.core.own_certificate import OwnCertificate, ask_again, own_certificate, remembered
from acredssp.core.record_sizes import RecordSizes, record_sizes
from acredssp.core.results import Buffer, HandshakeInfo, StepResult
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.core.tls import TLSSession, peer_public_key
from acredssp.credentials import DelegatedKind
from acredssp.errors import (
    AccessDenied,
    CertificateError,
    CredSSPError,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from acredssp.mechanisms.base import Answered
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.tracebacks import forget_locals
from acredssp.wire import der, early_auth, first_bytes, tls_record, ts_request
from acredssp.wire.first_bytes import OTHER_SIDE_RDP
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.x509 import pin_of

__all__ = ["MOST_RECORDS_A_CALL", "SecurityContext", "other_event"]

MOST_RECORDS_A_CALL: Final = 64
"""Records that one call takes at most. So no call takes longer than a handshake's own arithmetic does."""

_MOST_SMALL_RECORDS: Final = 64
"""Nearly empty records that a peer may send before the handshake ends: several times what any TLS stack needs."""
_SMALLEST_FRAGMENT: Final = tls_record.SMALLEST_FRAGMENT
_CREDIT: Final = _MOST_SMALL_RECORDS * _SMALLEST_FRAGMENT
"""Bytes by which all records of a peer may fall short of the smallest fragment."""

# IronRDP's acceptor refuses a logon with the early user authorization result even in place of a TSRequest.
_ACCESS_DENIED: Final = early_auth.encode(early_auth.AuthorizationResult.ACCESS_DENIED)

# Every record needs some of these members, and `State.X` would look them up in the class each time.
_TLS: Final = State.TLS
_ESTABLISHED: Final = State.ESTABLISHED
_FAILED: Final = State.FAILED
_OK: Final = SecurityStatus.SEC_E_OK
_CONTINUE: Final = SecurityStatus.SEC_I_CONTINUE_NEEDED
_INCOMPLETE_CREDENTIALS: Final = SecurityStatus.SEC_I_INCOMPLETE_CREDENTIALS

_FRAME: Final = ts_request.FRAME

_OF_TLS: Final = (JudgeCertificate, ChooseCertificate)
"""The events of the TLS handshake; all others belong to the exchange inside."""


class SecurityContext:
    """One CredSSP handshake, client or server.

    Args:
        handshake: The exchange inside TLS, fresh.
        tls: A fresh TLS connection; None in the bare shape, where the caller runs TLS and gives `public_key`.
        public_key: Bare shape: the SubjectPublicKey of the server's certificate (content of the BIT STRING); None for a
            client that learns it later and calls `bind()` before its second step.
        judge: Client: whether to stop with `JudgeCertificate` once the server has shown its certificate.

    Attributes:
        trailing_data: Server: plaintext behind authInfo in the same record, the first bytes of the application.

    Raises:
        ValueError: Neither `tls` nor `public_key` is given.
    """

    __slots__ = (
        "_chain",
        "_client",
        "_event",
        "_farewell",
        "_first_call",
        "_info",
        "_judge",
        "_last_token",
        "_max_fragment",
        "_own_certificate",
        "_own_context",
        "_plaintext",
        "_record_credit",
        "_unnamed",
        "handshake",
        "tls",
        "trailing_data",
    )

    _closes_behind_message: ClassVar[bool] = True
    """Whether a failed context closes TLS behind an errorCode. A context that fails without an errorCode closes TLS."""

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
        self._client = handshake if isinstance(handshake, ClientHandshake) else None
        self._first_call = self._client is not None
        self._judge = judge
        """Whether the server's certificate still has to be judged."""
        self._chain: tuple[bytes, ...] = ()
        """The chain that was judged before TLS was up."""
        self._event: Event | None = None
        """The event that the engine waits for; `step()` may not be called before its answer."""
        self._max_fragment = tls_record.MAX_FRAGMENT
        self._record_credit = _CREDIT
        """Bytes by which the peer's records may still fall short of the smallest fragment that TLS can agree on."""
        self._plaintext = bytearray()
        """The first part of a TSRequest that is not whole; in the end, the plaintext behind the last TSRequest."""
        self._unnamed: CredSSPError | None = None
        """The refusal of the first bytes, until more of them tell which protocol they begin."""
        self._farewell = self._last_token = b""
        self._info: HandshakeInfo | None = None
        """The facts of the established context, once somebody has asked for them."""
        self._own_context: object = None
        """Server: the TLS context whose certificate is presented."""
        self._own_certificate: OwnCertificate | None = None
        """Server: the context's certificate when the connection was made, which OpenSSL keeps for the connection."""
        if tls is not None and self._client is None:
            self._own_context = context = tls.context
            self._own_certificate = remembered(context)
        if tls is None:
            if public_key == b"" or (public_key is None and self._client is None):
                raise ValueError("public_key: expected the server's public key, since there is no tls, got none")
            handshake.tls_established(public_key or b"")

    # --- driving ---

    @property
    def state(self) -> State:
        """The state, which names what the engine waits for."""
        return self.handshake.state

    @property
    def context(self) -> "SecurityContext":
        """The context itself, which is its own carriage where no other is around it."""
        return self

    @property
    def cookie(self) -> str:
        """An empty text, since a client without a carriage sends no cookie before TLS."""
        return ""

    @property
    def heard_all(self) -> bool:
        """Whether the engine waits for its last answer, after which it needs no more bytes of the peer."""
        return isinstance(self._event, Admit)

    @property
    def chosen(self) -> None:
        """None, since there is no carriage that could choose another configuration."""
        return None

    @property
    def passed_on(self) -> None:
        """None, since there is no carriage that could pass the connection on."""
        return None

    @property
    def request(self) -> None:
        """None, since a client without a carriage sends no request before TLS."""
        return None

    @property
    def extra_info(self) -> Mapping[str, object]:
        """The facts of a carriage, for `get_extra_info`: empty, since there is none."""
        return {}

    @property
    def farewell(self) -> bytes:
        """The last bytes for the peer after a failure. Reading them does not consume them."""
        return self._farewell

    @property
    def last_token(self) -> bytes:
        """The farewell without the close_notify behind an errorCode.

        pyspnego's client, which requests-credssp and pywinrm use, hangs on a token with both.
        """
        return self._last_token

    @property
    def alert(self) -> bytes:
        """The TLS alert at the end of `farewell`, as level and description (RFC 8446 6).

        It is empty where there is none, and where OpenSSL has encrypted an alert and does not tell which one.
        """
        if not self._farewell or self.tls is None:
            return b""
        return self.tls.alert or tls_record.alert_in_clear(self._farewell)

    def step(self, data: Buffer = b"") -> StepResult:
        """Take whole records from the front of `data`, at most 64, until there is something to send or to ask.

        A client's first call takes no data.

        Raises:
            LocalProtocolError: The context is established, or waits for `resume()`; nothing changed.
            LimitExceeded: The peer has sent too many records that are too small: send `farewell` and close.
            CredSSPError: The handshake failed, now or earlier: send `farewell` and close.
        """
        state = self.handshake.state
        if self._event is not None or state is _ESTABLISHED or state is _FAILED:
            data = b""  # an error's traceback keeps the local names of this call
            self._refuse_call("waits for an answer: call resume()")
        try:
            if self._first_call:
                self._first_call = False
                return self._result(self._start(), len(data))
            return self._step_records(self.tls, data) if self.tls is not None else self._step_message(data)
        except BaseException as error:
            if isinstance(error, RemoteProtocolError) and self._is_undecided(data):
                self._unnamed = error.with_traceback(None)  # whose frames hold the data
                return StepResult.unfinished(1, len(data))
            data = b""
            if isinstance(error, CredSSPError) and not isinstance(error, LocalProtocolError):
                self.fail(error)
            forget_locals(error)
            raise

    def resume(
        self,
        event: Question[Answered],
        answer: Answered,
        early: Buffer = b"",  # noqa: ARG002 - for carriages
    ) -> StepResult:
        """Give the answer to `StepResult.event`. Go on as after `step()`, with the bytes that were left over.

        Args:
            event: The event that is answered: `StepResult.event` itself, not a copy of it.
            answer: One of the answers that the event's class names. A value of another type is taken for a refusal.
            early: The bytes that the peer has sent since the event. Only a carriage that negotiates in clear looks at
                them, and refuses them where the peer has to wait.

        Raises:
            LocalProtocolError: The context does not wait for an answer, or waits for the answer to another event.
                Nothing changed.
            CredSSPError: The answer is a refusal, or the handshake failed: send `farewell` and close.
        """
        pending = self._event
        if event is not pending or pending is None:
            answer = None  # type: ignore[assignment] # a frame of an error is kept with it
            self._refuse_answer(event)
        self._event = None
        try:
            if isinstance(pending, _OF_TLS):
                return self._result(self._resume_tls(pending, answer) or b"", 0)
            return self._result(self.handshake.resume(answer), 0)
        except BaseException as error:
            answer = None  # type: ignore[assignment] # mypyc takes no `del` of an argument
            if isinstance(error, CredSSPError):
                self.fail(error)
            forget_locals(error)
            raise

    def bind(self, public_key: bytes, *, certified: bool = False) -> None:
        """Bare shape: give the server's SubjectPublicKey, where it was not known when the context was made.

        `certified` says whether the certificate with this key authenticates the server.

        Raises:
            LocalProtocolError: The key is known already, or empty; nothing changed.
        """
        if self._client is None or self.tls is not None or self.handshake.public_key or not public_key:
            raise LocalProtocolError("expected bind() once, with a key, on a client's context in the bare shape")
        self.handshake.public_key = public_key
        self._client.certified = certified

    def count_records(self, count: int, size: int) -> None:
        """Count whole records of the peer before TLS takes them. `size` is their bytes, headers included.

        Raises:
            LimitExceeded: The records are too many for their size.
        """
        self._record_credit += size - count * _SMALLEST_FRAGMENT
        if self._record_credit < 0:
            _refuse_records()

    def receive_eof(self, hint: str | None = OTHER_SIDE_RDP) -> NoReturn:
        """Note that the transport ended before the context was established.

        Args:
            hint: The hint for a client whose server has not answered at all; a carriage gives a better one.

        Raises:
            AuthenticationError: The server closed after our logon, as some servers do to refuse it.
            PeerClosed: The peer closed at any other moment.
        """
        if self.handshake.state is _ESTABLISHED or self.handshake.state is _FAILED:
            self._refuse_call("is over")
        error = self._unnamed or self.handshake.closed_by_peer()
        if error is not self._unnamed and self._client is not None and self.tls is not None and not self.tls.cipher:
            error.hint = hint  # not even a ServerHello came
        self.fail(error)
        raise error

    def fail(self, error: CredSSPError, last_words: bytes = b"") -> None:
        """End the handshake: every later call raises `error`, and `farewell` holds the last bytes for the peer.

        `last_words` is plaintext of a carriage, to be sent before the close. A context that has failed already does
        not change.
        """
        if self.handshake.error is not None:
            return
        up = self.state is not State.TLS
        judging = isinstance(self._event, JudgeCertificate)
        self.handshake.fail(error)
        self._event = None
        if judging and self.tls is not None and self.tls.has_output:
            # Our second flight has not been sent. An alert in clear takes its place, and tells the peer why.
            self.tls.refuse(alert_for(error))
            self._last_token = self._farewell = self.tls.output()
            return
        message = (last_words or self.handshake.farewell()) if up else b""
        closing = b""
        if self.tls is not None:
            message = _last_record(self.tls, message)
            if not message or self._closes_behind_message:
                self.tls.close()
                closing = self.tls.output()
        self._last_token = message or closing
        self._farewell = message + closing

    # --- afterwards ---

    @property
    def info(self) -> HandshakeInfo:
        """The facts of the handshake. Facts that are not known yet are empty."""
        if self._info is not None:
            return self._info
        info = self.info_with(self.handshake.delegated)
        if self.handshake.state is _ESTABLISHED:
            self._info = info
        return info

    def info_with(self, delegated: DelegatedKind | None) -> HandshakeInfo:
        """Return the facts of the handshake with the kind of the credentials, which may not be admitted yet."""
        handshake, tls = self.handshake, self.tls
        certificate = tls.peer_certificate if tls and self._client else None
        return HandshakeInfo(
            version=handshake.version,
            mechanism=handshake.mechanism.name,
            principal=handshake.logged_on,
            delegated=delegated,
            tls_version=tls.version if tls else "",
            cipher=tls.cipher if tls else "",
            peer_key_sha256=_pin(certificate) if certificate else None,
            fallback=handshake.mechanism.fallback,
        )

    @property
    def own_chain(self) -> tuple[bytes, ...]:
        """The certificates that a server presents, in DER, its own first."""
        assert self.tls is not None
        own, key = self._own_certificate, self.handshake.public_key
        if own is None or self.tls.context is not self._own_context or (key and key != own[0]):
            return own_certificate(self.tls.context)[1]
        return own[1]

    @property
    def record_sizes(self) -> RecordSizes:
        """What a TLS record adds to the application's data, for a caller that seals messages one by one.

        Raises:
            LocalProtocolError: TLS is not up yet, or is the caller's own (the bare shape).
            PolicyError: SEC_E_CRYPTO_SYSTEM_INVALID: the cipher suite protects no messages.
        """
        if self.tls is None or not self.tls.cipher:
            raise LocalProtocolError("expected a context whose tls connection is established, got one without")
        return record_sizes(self.tls.version, self.tls.cipher)

    def take_credentials(self) -> TSCredentials | None:
        """Server: return the delegated credentials, once.

        The result is None before the context is established, after the first call, and on a client.
        """
        if not isinstance(self.handshake, ServerHandshake) or self.handshake.state is not _ESTABLISHED:
            return None
        credentials, self.handshake.credentials = self.handshake.credentials, None
        return credentials

    # --- records and messages ---

    def _refuse_call(self, what: str) -> NoReturn:
        if self.handshake.error is not None:
            raise self.handshake.error
        if self.handshake.state is _ESTABLISHED:
            raise LocalProtocolError("the context is established: there are no more steps")
        raise LocalProtocolError(f"the context {what}")

    def _refuse_answer(self, event: object) -> NoReturn:
        if self._event is None:
            self._refuse_call("does not wait for an answer: call step()")
        raise other_event(self._event, event)

    # Each of the following methods returns what to do next: send a TSRequest (an empty one where only TLS has output),
    # ask the application (an event), or take the next record (None).

    def _start(self) -> Answer:
        if self.tls is None:
            assert self._client is not None
            return self._client.start()
        self.tls.handshake()
        return b""

    def _resume_tls(self, event: JudgeCertificate | ChooseCertificate, answer: object) -> Answer | None:
        assert self.tls is not None
        assert self._client is not None
        if isinstance(event, ChooseCertificate):
            self.tls.answer_certificate_request(answer)
            return self._shake_hands(self.tls, b"")
        if answer is not True and answer is not False:
            self._event = event  # `fail` then tells the server why
            raise CertificateError(
                "expected True or False as the answer to JudgeCertificate, got something else: the server was refused",
                security_status=SecurityStatus.SEC_E_CERT_UNKNOWN,
            )
        self._client.certified = answer is True
        # Up to TLS 1.2 our second flight goes first, and the logon begins once TLS is up.
        return b"" if self.handshake.state is _TLS else self._begin()

    def _shake_hands(self, tls: TLSSession, records: Buffer) -> Answer | None:
        if tls.handshake(records):
            return self._tls_established(tls)
        if tls.certificate_request is not None:
            return ChooseCertificate(tls.certificate_request)
        if not tls.has_output:
            return None
        if self._judge:
            self._chain = tls.peer_chain()
        # Output with a chain known is our second flight, up to TLS 1.2. It waits, so that an alert can take its place.
        return self._ask_judge(self._chain) if self._judge and self._chain else b""

    def _ask_judge(self, chain: tuple[bytes, ...]) -> JudgeCertificate:
        self._judge = False
        return JudgeCertificate(chain)

    def _tls_established(self, tls: TLSSession) -> Answer | None:
        self._max_fragment = tls.max_fragment
        if self._client is None:
            self._note_own_certificate(tls)
            return b"" if tls.has_output else None
        chain, self._chain = self._chain or tls.peer_chain(), ()
        self._client.tls_established(peer_public_key(chain))
        # In TLS 1.3 the client's Finished has not been sent yet: it leaves together with the first TSRequest.
        return self._ask_judge(chain) if self._judge else self._begin()

    def _begin(self) -> Answer | None:
        """Client: begin the exchange inside TLS."""
        assert self._client is not None
        return self._client.start()

    def _note_own_certificate(self, tls: TLSSession) -> None:
        assert isinstance(self.handshake, ServerHandshake)
        context = tls.context
        if self._own_certificate is None or context is not self._own_context:  # an SNI callback has chosen it
            self._own_context, self._own_certificate = context, own_certificate(context)
        self.handshake.ask_key = functools.partial(ask_again, context)
        self.handshake.tls_established(self._own_certificate[0])

    def _take_plaintext(self, data: bytes) -> Answer | None:
        if self._plaintext or len(data) > self.handshake.policy.max_message or not _FRAME.begin(data):
            message = self._whole_message(data)
            if message is None:
                return None
            data = message
        answer = self.handshake.receive(data)
        return answer if answer or self.handshake.state is _ESTABLISHED else None

    def _whole_message(self, data: bytes) -> bytes | None:
        """Return a TSRequest that comes in several records or with something behind it; None while it is not whole."""
        plaintext: bytes | bytearray = data
        if self._plaintext:
            self._plaintext += data
            plaintext = self._plaintext
        try:
            total, missing = der.frame_size(plaintext, self.handshake.policy.max_message)
        except RemoteProtocolError:
            if self._client is not None and plaintext == _ACCESS_DENIED:
                raise _access_denied() from None
            raise
        if missing:
            self._plaintext = plaintext if isinstance(plaintext, bytearray) else bytearray(plaintext)
            return None
        if len(plaintext) > total or not isinstance(plaintext, bytes):
            plaintext = self._split(plaintext, total)
        return bytes(plaintext)

    def _split(self, plaintext: bytes | bytearray, total: int) -> bytes:
        """Return the TSRequest, which is the first `total` bytes, and keep the bytes behind it."""
        behind = len(plaintext) - total
        if behind and self.handshake.state is not State.AUTH_INFO:
            raise RemoteProtocolError(f"expected nothing behind a TSRequest, got {behind} bytes")
        self._plaintext = bytearray(plaintext[total:])
        return bytes(plaintext[:total])

    def _is_undecided(self, data: Buffer) -> bool:
        """Whether more of a connection's first bytes, which begin no TLS, may tell which protocol they begin."""
        return self.handshake.state is _TLS and self._record_credit == _CREDIT and first_bytes.undecided(data)

    # --- results ---

    def _step_message(self, data: Buffer) -> StepResult:
        if not self.handshake.public_key:
            raise LocalProtocolError("the context has no public key of the server yet: call bind()")
        frame = der.frame_size(data, self.handshake.policy.max_message)
        if frame.missing:
            return StepResult.unfinished(frame.missing, len(data))
        message = bytes(data[: frame.total])
        return self._result(self.handshake.receive(message), len(data) - frame.total)

    def _step_records(self, tls: TLSSession, data: Buffer) -> StepResult:
        size, taken, left = len(data), 0, MOST_RECORDS_A_CALL
        while self.handshake.state is _TLS:
            # OpenSSL takes a whole flight of its handshake in one call, and leaves the bytes behind the handshake. A
            # flight has as many records as may come even if all are empty, but at least one.
            most = self._record_credit // _SMALLEST_FRAGMENT or 1
            most = min(most, left)
            end, count = tls_record.whole_records(data, taken, self._max_fragment, most)
            if not count:
                end = tls_record.record_end(data, taken, self._max_fragment)
                return StepResult.unfinished(max(0, end - size), size, taken)
            self.count_records(count, end - taken)
            left -= count
            flight = data[taken:end]
            answer = self._shake_hands(tls, flight)
            taken = end
            if self.handshake.state is not _TLS and (behind := tls.give_back()):
                taken -= behind  # these records are counted when their turn comes
                _, uncounted = tls_record.whole_records(flight, len(flight) - behind)
                self._record_credit += uncounted * _SMALLEST_FRAGMENT - behind
            if answer is not None:
                return self._result(answer, size - taken)
        while True:
            end = tls_record.record_end(data, taken, self._max_fragment)
            if end > size or not left:
                return StepResult.unfinished(max(0, end - size), size, taken)
            # This repeats `count_records`, since the call would cost more than its work.
            self._record_credit += end - taken - _SMALLEST_FRAGMENT
            if self._record_credit < 0:
                _refuse_records()
            left -= 1
            plaintext, more = tls.decrypt(data[taken:end])
            if more:
                self._check_end(tls)
            taken = end
            answer = self._take_plaintext(bytes(plaintext)) if plaintext else None
            if answer is not None:
                return self._result(answer, size - taken)

    def _check_end(self, tls: TLSSession) -> None:
        """Raise the error that ends the handshake, where a faulty record or the peer's close_notify came."""
        tls.raise_fault()
        if tls.peer_closed:
            raise self.handshake.closed_by_peer()

    def _result(self, answer: Answer, extra: int) -> StepResult:
        if not isinstance(answer, bytes):
            self._event = answer
            status = _INCOMPLETE_CREDENTIALS if isinstance(answer, ChooseCertificate) else _CONTINUE
            return StepResult(status, b"", 0, extra, answer)
        output = answer
        if self.tls is not None:
            # One write makes one record: Windows servers take a TSRequest only in one piece ([MS-CSSP] note 8).
            output = self.tls.encrypt(answer) if answer else self.tls.output()
        if self.handshake.state is not _ESTABLISHED:
            return StepResult(_CONTINUE, output, 0, extra)
        if self._plaintext:
            self.trailing_data = bytes(self._plaintext)
            self._plaintext.clear()
        return StepResult(_OK, output, 0, extra)


def other_event(pending: object, given: object) -> LocalProtocolError:
    """Return the error for an answer to another event than the one that waits for it. The events may hold secrets."""
    expected, came = type(pending).__name__, type(given).__name__
    return LocalProtocolError(
        f"expected the answer to the pending {expected}, got one to {'another' if came == expected else 'a'} {came}",
        hint="give resume() the event of the newest StepResult",
    )


def _access_denied() -> AccessDenied:
    return AccessDenied("the server denied access before the end of credssp", nt_status=NTSTATUS.STATUS_ACCESS_DENIED)


def _refuse_records() -> NoReturn:
    raise LimitExceeded(
        f"the peer sent too many tls records before the end of the handshake: at most {_MOST_SMALL_RECORDS} may come, "
        f"and one more for every {_SMALLEST_FRAGMENT} bytes"
    )


def _last_record(tls: TLSSession, message: bytes) -> bytes:
    """Return the record of the last message. It is empty if there is no message, or if TLS can send nothing more."""
    tls.certificate_request = None
    if message:
        with contextlib.suppress(CredSSPError):
            return tls.encrypt(message)
    return b""


def _pin(certificate: bytes) -> str | None:
    """The pin of a certificate; None where its key cannot be read, since OpenSSL also takes BER."""
    with contextlib.suppress(RemoteProtocolError):
        return pin_of(certificate)
    return None

"""Kerberos contexts of both sides (RFC 4121, [MS-KILE]): AP-REQ, AP-REP, then sealed messages in SSPI's layout.

Every step may wait for a KDC, a name server or a replay cache. The first step also makes the library's context, and may
fetch the first ticket. So each step is a `StepMechanism` event, which runs where blocking is allowed; `resume` takes
its outcome. Sealing and signing only compute, and are done at once.

The peer's tokens are checked before the library sees them. A token that is not whole, not expected or not sealed is
refused (`acredssp.wire.gss`).
"""

import dataclasses
import enum
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from acredssp.credentials import TicketCache
from acredssp.errors import AuthenticationError, CredSSPError, LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.mechanisms.base import Principal, Sealing, StepMechanism
from acredssp.mechanisms.kerberos.errors import Phase
from acredssp.mechanisms.kerberos.tickets import ServiceKeys, Tickets, parse_spn
from acredssp.names import split_principal, upper
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.wire import gss
from acredssp.wire.gss import ContextToken
from acredssp.wire.spnego import KERBEROS, KERBEROS_MICROSOFT

if TYPE_CHECKING:
    from acredssp.mechanisms.kerberos.library import NativeContext

__all__ = ["KerberosAcceptor", "KerberosInitiator"]

_ANONYMOUS: Final = "WELLKNOWN/ANONYMOUS"
_ANONYMOUS_REALM: Final = "WELLKNOWN:ANONYMOUS"


class _State(enum.Enum):
    START = enum.auto()
    WAITING = enum.auto()
    """The step is an event whose answer has not come yet."""
    REPLY = enum.auto()
    """Initiator: the server's AP-REP is expected."""
    DONE = enum.auto()
    FAILED = enum.auto()


class _KerberosContext(ABC):
    """What both sides of Kerberos share. See `acredssp.mechanisms.base.Mechanism`.

    Args:
        channel_bindings: The application data of the bindings (RFC 5929); None for none, since CredSSP needs none.
        allow_rc4: Whether messages may be sealed with RC4, as a context with an RC4 ticket does.
    """

    name = "kerberos"
    mech_types = (KERBEROS, KERBEROS_MICROSOFT)
    needs_mech_list_mic = False
    fallback = ""
    _peer_accepts: bool
    """Whether the peer is the acceptor."""

    def __init__(self, *, channel_bindings: bytes | None = None, allow_rc4: bool = False) -> None:
        self.complete = False
        self.principal: Principal | None = None
        self.ends: int | None = None
        self.authenticates_server = False
        self._channel_bindings = channel_bindings
        self._allow_rc4 = allow_rc4
        self._native: NativeContext | None = None
        self._state = _State.START

    def step(self, token: bytes) -> StepMechanism:
        """Take the peer's token (empty for an initiator's first step); return the event that runs the step.

        Raises:
            RemoteProtocolError: The token is not whole, or not expected now.
        """
        state = self._state
        if state is _State.WAITING or state is _State.FAILED:
            raise LocalProtocolError(f"expected no kerberos token in state {state.name.lower()}, got one")
        self._state = _State.FAILED
        if state is _State.DONE:
            raise RemoteProtocolError("kerberos is complete: expected no more tokens")
        phase = self._check_due(state, token)
        self._state = _State.WAITING
        return StepMechanism(lambda: self._run(token, phase))  # a partial would show the token in its repr

    def resume(self, answer: object) -> bytes:
        """Take the outcome of the step: what it returned, or the exception that it raised.

        Raises:
            CredSSPError: The step failed, or was not run.
        """
        if self._state is not _State.WAITING:
            raise LocalProtocolError("the kerberos context does not wait for an answer")
        self._state = _State.FAILED
        if isinstance(answer, CredSSPError):
            raise answer
        if not isinstance(answer, bytes) or self._native is None:
            cause = answer if isinstance(answer, BaseException) else None
            raise CredSSPError("kerberos: the step was not run") from cause
        if self._native.complete:
            self._finish(self._native)
            self.authenticates_server = self._native.mutual
            self._state = _State.DONE
            self.complete = True
        else:
            self._state = _State.REPLY
        return answer

    @property
    def sealing(self) -> Sealing:
        """What seals and unseals; see `Mechanism.sealing`."""
        return self.wrap, self.unwrap

    def wrap(self, plaintext: bytes) -> bytes:
        """Sign and seal, in SSPI's layout.

        Raises:
            PolicyError: The context's key is for RC4, which the policy does not allow.
        """
        token = self._established().seal(plaintext)
        self._check_algorithm(token)
        return gss.rotate(token, len(plaintext))

    def unwrap(self, sealed: bytes) -> bytes:
        """Verify and unseal the peer's next message, whatever its rotation.

        Raises:
            RemoteProtocolError: SEC_E_INVALID_TOKEN, SEC_E_MESSAGE_ALTERED or SEC_E_OUT_OF_SEQUENCE.
            PolicyError: The context's key is for RC4, which the policy does not allow.
        """
        native = self._established()
        likeliest, *others = gss.unrotated(sealed, from_acceptor=self._peer_accepts)
        self._check_algorithm(sealed)
        try:
            return native.unseal(likeliest)
        except RemoteProtocolError as error:
            if not others or error.security_status is not SecurityStatus.SEC_E_MESSAGE_ALTERED:
                raise
        return native.unseal(others[0])

    def get_mic(self, message: bytes) -> bytes:
        """Sign a mechTypes list."""
        return self._established().sign(message)

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """Verify the peer's mechListMIC. Raises what `unwrap` raises."""
        native = self._established()
        gss.check_mic(mic, from_acceptor=self._peer_accepts)
        native.verify(message, mic)

    # --- what each side defines ---

    @abstractmethod
    def _check_due(self, state: _State, token: bytes) -> Phase:
        """Check that the peer's token is the expected one; return the phase of the step that takes it."""

    @abstractmethod
    def _make(self) -> "NativeContext":
        """Make the library's context. The call may block."""

    @abstractmethod
    def _finish(self, native: "NativeContext") -> None:
        """Check and note what the library has established."""

    def _run(self, token: bytes, phase: Phase) -> bytes:
        """Make the step, in a thread. Nothing else uses the library's context meanwhile."""
        if self._native is None:
            self._native = self._make()
        output = self._native.step(token, phase)
        if self._native.complete:
            self.ends = self._native.end_of_ticket(acceptor=not self._peer_accepts)
        return output

    def _established(self) -> "NativeContext":
        if not self.complete or self._native is None:
            raise LocalProtocolError("the kerberos context is not established")
        return self._native

    def _check_algorithm(self, token: bytes) -> None:
        if gss.is_rc4(token) and not self._allow_rc4:
            raise PolicyError(
                "kerberos: the ticket's key is for rc4",
                security_status=SecurityStatus.SEC_E_STRONG_CRYPTO_NOT_SUPPORTED,
                hint="let the kdc issue aes tickets, or set dangerous_allow_kerberos_rc4",
            )


class KerberosInitiator(_KerberosContext):
    """A client's Kerberos context.

    Call `step(b"")`, then `step` with the server's AP-REP. After that it is complete, and has no more tokens.

    Args:
        tickets: The tickets to log on with.
        spn: The service's name, such as `TERMSRV/host`.
        channel_bindings: The application data of the bindings (RFC 5929); None for none, since CredSSP needs none.
        allow_rc4: Whether messages may be sealed with RC4.

    Raises:
        PolicyError: SEC_E_TARGET_UNKNOWN: `spn` is not of the form `SERVICE/host`.
    """

    _peer_accepts = True

    def __init__(
        self, tickets: Tickets, *, spn: str, channel_bindings: bytes | None = None, allow_rc4: bool = False
    ) -> None:
        super().__init__(channel_bindings=channel_bindings, allow_rc4=allow_rc4)
        self._tickets = tickets
        self._service, self._host = parse_spn(spn)

    def resume(self, answer: object) -> bytes:
        """Take the outcome of the step. After a failure the next context fetches new tickets."""
        try:
            return super().resume(answer)
        except CredSSPError:
            self._tickets.cache = None  # the KDC or the service may have changed its key meanwhile
            raise

    def _check_due(self, state: _State, token: bytes) -> Phase:
        if state is _State.START:
            if token:
                raise RemoteProtocolError("kerberos: expected no token before the client's first, got one")
            return Phase.INITIATE
        gss.check_context_token(token, ContextToken.AP_REP, ContextToken.KRB_ERROR)
        return Phase.REPLY

    def _make(self) -> "NativeContext":
        from acredssp.mechanisms.kerberos.library import NativeContext  # noqa: PLC0415 - loads libkrb5

        return NativeContext.initiator(self._tickets, self._service, self._host, self._channel_bindings)

    def _finish(self, native: "NativeContext") -> None:
        native.cache = None
        if not native.protected:
            raise PolicyError(
                "kerberos: expected mutual authentication and sealing, got a context without one of them",
                security_status=SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED,
            )


class KerberosAcceptor(_KerberosContext):
    """A server's Kerberos context. It is complete once it has taken the client's AP-REQ.

    Args:
        keys: The service's keys.
        channel_bindings: The application data of the bindings (RFC 5929); None for none, since CredSSP needs none.
        allow_rc4: Whether messages may be sealed with RC4.
    """

    _peer_accepts = False

    def __init__(self, keys: ServiceKeys, *, channel_bindings: bytes | None = None, allow_rc4: bool = False) -> None:
        super().__init__(channel_bindings=channel_bindings, allow_rc4=allow_rc4)
        self._keys = keys
        self._tickets: TicketCache | None = None

    def _check_due(self, state: _State, token: bytes) -> Phase:
        if state is not _State.START:
            raise RemoteProtocolError("kerberos: expected one ap-req, got more tokens")
        gss.check_context_token(token, ContextToken.AP_REQ)
        return Phase.ACCEPT

    def _make(self) -> "NativeContext":
        from acredssp.mechanisms.kerberos.library import NativeContext  # noqa: PLC0415 - loads libkrb5

        return NativeContext.acceptor(self._keys, self._channel_bindings)

    def _run(self, token: bytes, phase: Phase) -> bytes:
        output = super()._run(token, phase)
        if self._native is not None and self._native.complete and self._keys.keytab.constrained_delegation:
            self._tickets = self._native.delegated_tickets()
        return output

    def _finish(self, native: "NativeContext") -> None:
        self.principal = dataclasses.replace(_named(*split_principal(native.client_principal)), tickets=self._tickets)


def _named(user: str, realm: str) -> Principal:
    """Return who logged on.

    Raises:
        AuthenticationError: The ticket is anonymous (RFC 8062), and proves nothing but its KDC.
    """
    if not user or upper(user) == _ANONYMOUS or upper(realm) == _ANONYMOUS_REALM:
        raise AuthenticationError(
            "kerberos: an anonymous ticket is not accepted",
            security_status=SecurityStatus.SEC_E_LOGON_DENIED,
            nt_status=NTSTATUS.STATUS_LOGON_FAILURE,
        )
    return Principal(user, realm)

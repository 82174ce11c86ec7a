"""One exception tree: whatever a peer, a policy, a credential or the network does ends as a `CredSSPError`.

The class says who is at fault, `security_status` is what SSPI would return, `stage` is how far the handshake
came, `nt_status` is the number a server gave (or would give) for a refused logon, and `hint` says what to do.
An error text never holds a token, a key or a password.
"""

from acredssp.status import NTSTATUS, SecurityStatus, Stage

__all__ = [
    "AccessDenied",
    "AuthenticationError",
    "CertificateError",
    "CredSSPError",
    "HandshakeAborted",
    "HandshakeTimeout",
    "LimitExceeded",
    "LocalProtocolError",
    "NegotiationFailure",
    "PeerClosed",
    "PolicyError",
    "PublicKeyMismatch",
    "RemoteProtocolError",
    "TLSError",
]


class CredSSPError(Exception):
    """The root. `str()` is one sentence: what failed, then the hint in parentheses.

    Args:
        message: What was expected and what came: lower case, no full stop.
        security_status: The SECURITY_STATUS for SSPI callers; each class has its usual one.
        stage: Where the handshake stood. The engine fills it in when the raiser does not know.
        nt_status: The NTSTATUS of a refused logon, None where there is none.
        hint: What to do about it, for a person.
    """

    security_status: SecurityStatus = SecurityStatus.SEC_E_INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        security_status: SecurityStatus | None = None,
        stage: Stage | None = None,
        nt_status: NTSTATUS | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if security_status is not None:
            self.security_status = security_status
        self.stage = stage
        self.nt_status = nt_status
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class LocalProtocolError(CredSSPError, RuntimeError):
    """The caller asked for what the state does not allow. The peer was told nothing; the state is unchanged."""

    security_status = SecurityStatus.SEC_E_OUT_OF_SEQUENCE


class RemoteProtocolError(CredSSPError):
    """The peer sent what the protocol does not allow."""

    security_status = SecurityStatus.SEC_E_INVALID_TOKEN


class LimitExceeded(RemoteProtocolError):
    """The peer went past a bound of the policy: message size, number of rounds."""


class TLSError(RemoteProtocolError):
    """TLS failed, or the peer sent a fatal alert; `security_status` follows the alert."""

    security_status = SecurityStatus.SEC_E_ILLEGAL_MESSAGE


class NegotiationFailure(RemoteProtocolError):
    """The RDP negotiation ended without CredSSP ([MS-RDPBCGR] 2.2.1.2.2).

    Attributes:
        failure_code: The code of RDP_NEG_FAILURE; None when the peer chose another protocol instead.
    """

    security_status = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION

    def __init__(self, message: str, *, failure_code: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, stage=Stage.NEGOTIATION, hint=hint)
        self.failure_code = failure_code


class PublicKeyMismatch(CredSSPError):
    """pubKeyAuth does not fit the TLS channel: somebody sits in between ([MS-CSSP] 3.1.5)."""

    security_status = SecurityStatus.SEC_E_MESSAGE_ALTERED


class AuthenticationError(CredSSPError):
    """The logon was refused: by the peer (client side), or by us (server side). `nt_status` says why."""

    security_status = SecurityStatus.SEC_E_LOGON_DENIED


class AccessDenied(AuthenticationError):
    """The logon was right, but the user may not: `authorize` or `admit` refused, or the peer said so early."""


class PolicyError(CredSSPError):
    """Our own policy forbids going on: version, TLS, mechanism, kind of credential."""

    security_status = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


class CertificateError(PolicyError):
    """The server's certificate is refused. The text says which one of its chain is at fault, and why."""

    security_status = SecurityStatus.SEC_E_UNTRUSTED_ROOT


class HandshakeTimeout(CredSSPError, TimeoutError):
    """The handshake did not end before its deadline."""


class HandshakeAborted(CredSSPError, ConnectionError):
    """We ended the handshake ourselves: the server closed its clients, or the task was cancelled."""

    security_status = SecurityStatus.SEC_E_CONTEXT_EXPIRED


class PeerClosed(CredSSPError, ConnectionError):
    """The peer, or the network, ended the connection in the middle of the handshake."""

    security_status = SecurityStatus.SEC_E_CONTEXT_EXPIRED

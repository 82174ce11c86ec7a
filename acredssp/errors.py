"""The tree of exceptions. Every failure by a peer, a policy, a credential or the network is a `CredSSPError`.

The class tells who is at fault, `security_status` is the status that SSPI would return, `stage` tells how far the
handshake came, `nt_status` is the status that a server gave (or would give) for a refused logon, and `hint` tells what
to do. An error text never holds a token, a key or a password.
"""

from typing import Final

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


_PAGE: Final = "docs/statuses.md"
"""The page that explains each status, by its name."""


class CredSSPError(Exception):
    """The base class of all errors. `str()` gives one sentence: what failed, then the hint in parentheses.

    Args:
        message: What was expected and what came, in lower case, without a full stop.
        security_status: The SECURITY_STATUS for SSPI callers; None for the usual one of the class.
        stage: The stage of the handshake; None where the engine is to fill it in.
        nt_status: The NTSTATUS of a refused logon; None where there is none.
        hint: What a person can do about the failure; None for no hint.
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

    @property
    def anchor(self) -> str:
        """Where the documentation explains the status: `docs/statuses.md#STATUS_LOGON_FAILURE`, for instance.

        It is that of `nt_status` if a server gave one that has a name, and that of `security_status` otherwise.
        """
        told = None if self.nt_status is None else self.nt_status.stands_for
        status = told if isinstance(told, NTSTATUS) and told.known else self.security_status
        return f"{_PAGE}#{status}" if status.known else _PAGE

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class LocalProtocolError(CredSSPError, RuntimeError):
    """The caller made a call that the state does not allow. Nothing was sent, and the state is unchanged."""

    security_status = SecurityStatus.SEC_E_OUT_OF_SEQUENCE


class RemoteProtocolError(CredSSPError):
    """The peer broke the protocol."""

    security_status = SecurityStatus.SEC_E_INVALID_TOKEN


class LimitExceeded(RemoteProtocolError):
    """The peer exceeded a protocol limit, such as the size of a message or the number of rounds."""


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
    """pubKeyAuth is not bound to this TLS connection: an attacker may be in between ([MS-CSSP] 3.1.5)."""

    security_status = SecurityStatus.SEC_E_MESSAGE_ALTERED


class AuthenticationError(CredSSPError):
    """The logon was refused, by the server or (on the server's side) by this server. `nt_status` tells why."""

    security_status = SecurityStatus.SEC_E_LOGON_DENIED


class AccessDenied(AuthenticationError):
    """The logon was proven, but the user is not allowed in: `authorize` or `admit` refused, or the server told so."""


class PolicyError(CredSSPError):
    """Our own policy forbids to go on, because of the version, TLS, the mechanism or the kind of credentials."""

    security_status = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


class CertificateError(PolicyError):
    """The server's certificate is refused. The text tells which certificate of the chain is at fault, and why."""

    security_status = SecurityStatus.SEC_E_UNTRUSTED_ROOT


class HandshakeTimeout(CredSSPError, TimeoutError):
    """The handshake did not end before its deadline."""


class HandshakeAborted(CredSSPError, ConnectionError):
    """This side ended the handshake: the server closes, or the task was cancelled."""

    security_status = SecurityStatus.SEC_E_CONTEXT_EXPIRED


class PeerClosed(CredSSPError, ConnectionError):
    """The peer, or the network, ended the connection in the middle of the handshake."""

    security_status = SecurityStatus.SEC_E_CONTEXT_EXPIRED

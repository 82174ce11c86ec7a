"""The alert that tells a TLS server why a client refuses its certificate (RFC 8446 6.2).

Who calls: `context`.
"""

from typing import Final

from acredssp.errors import CertificateError, CredSSPError
from acredssp.status import SecurityStatus

__all__ = ["alert_for"]

_CERTIFICATE_UNKNOWN: Final = 46
_HANDSHAKE_FAILURE: Final = 40
_ALERTS: Final = {
    SecurityStatus.SEC_E_UNTRUSTED_ROOT: 48,  # unknown_ca
    SecurityStatus.SEC_E_CERT_EXPIRED: 45,  # certificate_expired
    SecurityStatus.SEC_E_CERT_WRONG_USAGE: 43,  # unsupported_certificate
    SecurityStatus.SEC_E_WRONG_PRINCIPAL: 42,  # bad_certificate
    SecurityStatus.SEC_E_ALGORITHM_MISMATCH: 42,  # a weak key or signature, for which OpenSSL sends the same alert
}
"""The alerts that tell a server why its certificate is refused (RFC 8446 6.2)."""


def alert_for(error: CredSSPError) -> int:
    """The number of the alert for a server whose certificate was refused, or could not be judged."""
    if not isinstance(error, CertificateError):
        return _HANDSHAKE_FAILURE
    return _ALERTS.get(error.security_status, _CERTIFICATE_UNKNOWN)

"""The TLS part of pAuthData: SCHANNEL_CRED or SCH_CREDENTIALS, whose certificate and versions make an SSLContext."""

import dataclasses
import ssl
from collections.abc import Callable, Collection
from typing import Final, TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from acredssp import tls_config
from acredssp.errors import LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.policy import Policy
from acredssp.sspi.arguments import refusal
from acredssp.sspi.ciphers import protocol
from acredssp.sspi.constants import SCH_CREDENTIALS_VERSION, SCHANNEL_CRED_VERSION
from acredssp.sspi.structures import SCHANNEL_CRED, CertContext, SchannelCred
from acredssp.status import SecurityStatus
from acredssp.wire.x509 import front

__all__ = [
    "Certificate",
    "certificate_of",
    "client_context",
    "issuers_of",
    "policy_of",
    "server_context",
    "unknown_credentials",
    "usable",
]

Certificate: TypeAlias = CertContext | ssl.SSLContext

_VERSIONS: Final = {
    ssl.TLSVersion.TLSv1: "TLSv1",
    ssl.TLSVersion.TLSv1_1: "TLSv1.1",
    ssl.TLSVersion.TLSv1_2: "TLSv1.2",
    ssl.TLSVersion.TLSv1_3: "TLSv1.3",
}
_WEAKEST_SUITE: Final = 128
"""The bits of the weakest cipher suite that acredssp's contexts offer."""

_T = TypeVar("_T")


def certificate_of(schannel: SchannelCred | None) -> Certificate | None:
    """Return the certificate in `schannel`; None if it has none.

    Raises:
        LocalProtocolError: SEC_E_UNKNOWN_CREDENTIALS: a structure of another version, or several certificates.
    """
    if schannel is None:
        return None
    version = SCHANNEL_CRED_VERSION if isinstance(schannel, SCHANNEL_CRED) else SCH_CREDENTIALS_VERSION
    if schannel.dwVersion != version:
        raise unknown_credentials(
            f"expected {type(schannel).__name__} with dwVersion {version}, got {schannel.dwVersion}"
        )
    if len(schannel.paCred) > 1:
        # The peer would decide which of them it is shown and CredSSP is bound to.
        raise unknown_credentials(f"expected at most one certificate in paCred, got {len(schannel.paCred)}")
    return schannel.paCred[0] if schannel.paCred else None


def client_context(policy: Policy, certificate: Certificate | None) -> ssl.SSLContext | None:
    """Return the TLS context that holds a client's certificate; None without a certificate.

    Raises:
        LocalProtocolError: SEC_E_UNKNOWN_CREDENTIALS: the certificate cannot be loaded.
    """
    if isinstance(certificate, CertContext):
        return usable(lambda: tls_config.client_context_from_pem(policy, certificate.chain_pem, certificate.key_pem))
    return certificate


def server_context(base: Policy, policy: Policy, certificate: Certificate) -> ssl.SSLContext:
    """Return the TLS context that holds a server's certificate.

    Args:
        base: The policy without the versions that pSchannelCred names.
        policy: The policy with these versions.
        certificate: The certificate, or a context of the caller's own that has one.

    Raises:
        LocalProtocolError: SEC_E_UNKNOWN_CREDENTIALS: the certificate cannot be loaded. SEC_E_INVALID_PARAMETER:
            versions are named beside an SSLContext of the caller's own.
    """
    if isinstance(certificate, CertContext):
        return usable(lambda: tls_config.server_context_from_pem(policy, certificate.chain_pem, certificate.key_pem))
    if policy != base:
        raise refusal(
            "pSchannelCred has an SSLContext, which sets the tls versions, and names versions too",
            SecurityStatus.SEC_E_INVALID_PARAMETER,
            hint="set the versions on the SSLContext, or give the certificate as a CertContext",
        )
    return certificate


def usable(make: Callable[[], _T]) -> _T:
    """Return the result of `make`, which uses a certificate.

    Raises:
        LocalProtocolError: SEC_E_UNKNOWN_CREDENTIALS: the certificate cannot be used.
    """
    try:
        return make()
    except (ssl.SSLError, ValueError, PolicyError, RemoteProtocolError) as error:
        raise unknown_credentials(f"the certificate in paCred cannot be used ({type(error).__name__})") from error


def issuers_of(certificate: Certificate | None) -> frozenset[bytes] | None:
    """Return the issuers in a certificate's chain, any of whom a server may list; None if they are unknown."""
    if not isinstance(certificate, CertContext):
        return None  # Python cannot read the chain of an SSLContext
    chain = usable(lambda: x509.load_pem_x509_certificates(certificate.chain_pem))
    return usable(lambda: frozenset(front(link.public_bytes(Encoding.DER)).issuer for link in chain))


def policy_of(policy: Policy, schannel: SchannelCred | None, *, server: bool) -> Policy:
    """Return the policy without the versions of TLS that `schannel` forbids; no version is added.

    Raises:
        LocalProtocolError: SEC_E_ALGORITHM_MISMATCH: no version is left, or there is a gap between the versions left.
    """
    allowed = _protocols(schannel)
    if allowed is None:
        return policy
    bits = {version: protocol(name, server=server) for version, name in _VERSIONS.items()}
    newest = ssl.TLSVersion.TLSv1_3 if policy.max_tls is ssl.TLSVersion.MAXIMUM_SUPPORTED else policy.max_tls
    possible = [version for version in bits if policy.min_tls <= version <= newest]
    versions = [version for version in possible if bits[version] & allowed]
    if not versions:
        raise _no_version(policy, {version for version in bits if bits[version] & allowed})
    if versions == possible:
        return policy
    if versions != [version for version in possible if versions[0] <= version <= versions[-1]]:
        # A policy has a lowest and a highest version, so the versions in the gap would be allowed unasked.
        raise refusal(
            f"expected tls versions in a row, got {_names(versions)} with a version switched off in between",
            SecurityStatus.SEC_E_ALGORITHM_MISMATCH,
        )
    return dataclasses.replace(policy, min_tls=versions[0], max_tls=versions[-1])


def _no_version(policy: Policy, named: Collection[ssl.TLSVersion]) -> LocalProtocolError:
    """Make the error for a policy that accepts none of the allowed versions."""
    if named and max(named) < ssl.TLSVersion.TLSv1_2 and not policy.legacy_tls:
        return refusal(
            f"no version of tls is left: {_names(named)} alone cannot be used, since they are broken (RFC 8996)",
            SecurityStatus.SEC_E_ALGORITHM_MISMATCH,
            hint="name newer versions too, or give a ClientConfig or ServerConfig as pSpnegoCred, with "
            "Policy(min_tls=ssl.TLSVersion.TLSv1, dangerous_allow_legacy_tls=True)",
        )
    return refusal(
        f"no version of tls is left: the policy allows {policy.min_tls.name} to {policy.max_tls.name}, and "
        f"pSchannelCred allows {_names(named) or 'none'}",
        SecurityStatus.SEC_E_ALGORITHM_MISMATCH,
    )


def _names(versions: Collection[ssl.TLSVersion]) -> str:
    return ", ".join([_VERSIONS[version] for version in sorted(versions)])


def _protocols(schannel: SchannelCred | None) -> int | None:
    """Return the bits of the allowed versions; None for no restriction."""
    if isinstance(schannel, SCHANNEL_CRED):
        if schannel.dwMinimumCipherStrength > _WEAKEST_SUITE:
            raise refusal(
                f"expected dwMinimumCipherStrength of at most {_WEAKEST_SUITE}, the bits of the weakest suite offered, "
                f"got {schannel.dwMinimumCipherStrength}",
                SecurityStatus.SEC_E_ALGORITHM_MISMATCH,
            )
        return int(schannel.grbitEnabledProtocols) or None
    if schannel is None or not schannel.pTlsParameters:
        return None
    disabled = 0
    for parameters in schannel.pTlsParameters:
        disabled |= int(parameters.grbitDisabledProtocols)
    return ~disabled if disabled else None


def unknown_credentials(what: str) -> LocalProtocolError:
    """Make the error for credentials that are not recognised."""
    return refusal(f"the credentials are not recognised: {what}", SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS)

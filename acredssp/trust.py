"""Is this the right server? One function judges a certificate, after the TLS handshake and before any logon.

TLS itself runs unverified under CredSSP ([MS-CSSP] 3.1.5 step 1). The verdict is a value: aio makes anything but
TRUSTED fatal, the SSPI functions report it. The clock is an argument.
"""

import dataclasses
import datetime as dt
import enum
import functools
import ipaddress
import pathlib
import re
import ssl
import warnings
from collections.abc import Sequence
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from acredssp.errors import CertificateError
from acredssp.status import SecurityStatus, Stage
from acredssp.wire.x509 import pin_of

__all__ = ["Trust", "Verdict", "pin_of"]

RDP_AUTHENTICATION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.54.1.2")
"""szOID_TS_KP_TS_SERVER_AUTH: the extended key usage of Windows' own RDP certificates."""


_UNREADABLE: Final = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
    CryptographyDeprecationWarning,
)
"""What cryptography says of certificates that OpenSSL took; of a negative serial number it warns, which may raise."""


class Verdict(enum.Enum):
    """What a certificate is worth to a client."""

    TRUSTED = SecurityStatus.SEC_E_OK
    UNTRUSTED = SecurityStatus.SEC_E_UNTRUSTED_ROOT
    EXPIRED = SecurityStatus.SEC_E_CERT_EXPIRED
    WRONG_NAME = SecurityStatus.SEC_E_WRONG_PRINCIPAL


_REASONS: Final = {
    Verdict.UNTRUSTED: "no trusted authority vouches for the server's certificate",
    Verdict.EXPIRED: "the server's certificate is expired or not yet valid",
    Verdict.WRONG_NAME: "the server's certificate is for another name than {name}",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """Whom a client believes: authorities, and keys it knows."""

    authorities: tuple[x509.Certificate, ...] = ()
    """Roots; a server's own self-signed certificate in here is trusted for the names it has."""
    pins: frozenset[str] = frozenset()
    """SHA-256 of SubjectPublicKeyInfos in lower-case hex. A pinned key needs no name, authority or date."""

    @classmethod
    def system(cls) -> Self:
        """What the operating system trusts. Read once a process."""
        return cls(authorities=_system_authorities())

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Trust the certificates of a PEM file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds no certificate in PEM.
        """
        return cls(authorities=tuple(x509.load_pem_x509_certificates(pathlib.Path(path).read_bytes())))

    @classmethod
    def pinned(cls, *pins: str) -> Self:
        """Trust keys by their SHA-256 (`pin_of`), in hex; colons and case do not matter.

        Raises:
            ValueError: A pin is no SHA-256 in hex.
        """
        cleaned = [pin.replace(":", "").strip().lower() for pin in pins]
        for pin in cleaned:
            if not re.fullmatch("[0-9a-f]{64}", pin):
                raise ValueError("a pin is a SHA-256: 64 hex digits")
        return cls(pins=frozenset(cleaned))

    def judge(self, chain: Sequence[bytes], name: str, now: dt.datetime) -> Verdict:
        """Judge the chain of a server that was asked for as `name`.

        Args:
            chain: Certificates in DER, the server's own first, as they came.
            name: DNS name or IP address.
            now: The time, aware.
        """
        if pin_of(chain[0]) in self.pins:
            return Verdict.TRUSTED
        try:
            leaf, *intermediates = (x509.load_der_x509_certificate(link) for link in chain)
            return self._judge(leaf, intermediates, name, now)
        except _UNREADABLE:
            return Verdict.UNTRUSTED  # a certificate that does not parse vouches for nothing

    def check(self, chain: Sequence[bytes], name: str, now: dt.datetime) -> None:
        """Judge as `judge` does, and raise unless the verdict is TRUSTED.

        Raises:
            CertificateError: Not trusted; the text has the pin to use.
        """
        verdict = self.judge(chain, name, now)
        if verdict is not Verdict.TRUSTED:
            raise CertificateError(
                _REASONS[verdict].format(name=name),
                security_status=verdict.value,
                stage=Stage.TLS,
                hint=f"if you know this server, trust its authority or pin its key: {pin_of(chain[0])}",
            )

    def _judge(
        self, leaf: x509.Certificate, intermediates: list[x509.Certificate], name: str, now: dt.datetime
    ) -> Verdict:
        if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
            return Verdict.EXPIRED
        if leaf not in self.authorities and not self._vouched_for(leaf, intermediates, now):
            return Verdict.UNTRUSTED
        return Verdict.TRUSTED if _is_for(leaf, name) else Verdict.WRONG_NAME

    def _vouched_for(self, leaf: x509.Certificate, intermediates: list[x509.Certificate], now: dt.datetime) -> bool:
        if not self.authorities:
            return False
        # The verifier without a name: the name is looked at apart, since its failure has a status of its own.
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(self.authorities)))
            .time(now)
            .extension_policies(ca_policy=_AUTHORITY, ee_policy=_SERVER)
            .build_client_verifier()
        )
        try:
            verifier.verify(leaf, intermediates)
        except verification.VerificationError:
            return False
        return True


@functools.cache
def _system_authorities() -> tuple[x509.Certificate, ...]:
    paths = ssl.get_default_verify_paths()
    links = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not links and paths.capath is not None:
        # OpenSSL reads a folder of hashed names only as it meets issuers.
        links = [
            ssl.PEM_cert_to_DER_cert(file.read_text("ascii"))
            for file in sorted(pathlib.Path(paths.capath).glob("*.[0-9]"))
        ]
    with warnings.catch_warnings():
        # Some roots have a serial number that RFC 5280 forbids; that is between them and the system.
        warnings.simplefilter("ignore")
        return tuple(certificate for link in links if (certificate := _parsed(link)) is not None)


def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None  # an odd root of the system must not take the others with it


def _check_usage(
    _policy: verification.Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None
) -> None:
    if usage is not None and not {ExtendedKeyUsageOID.SERVER_AUTH, RDP_AUTHENTICATION} & set(usage):
        raise ValueError("the certificate is not for servers")


_AUTHORITY: Final = verification.ExtensionPolicy.webpki_defaults_ca()
# Everything else of a server's certificate may be as Windows makes it: no web profile, but the right usage.
_SERVER: Final = verification.ExtensionPolicy.permit_all().may_be_present(
    x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _check_usage
)


def _is_for(leaf: x509.Certificate, name: str) -> bool:
    """Whether the subjectAltName has `name` (RFC 6125; the common name does not count)."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(name) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        wanted = name.lower().rstrip(".")
        return any(_matches(pattern.lower(), wanted) for pattern in names.get_values_for_type(x509.DNSName))


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == name
    label, _, rest = name.partition(".")
    return bool(label) and rest == pattern[2:] and "." in rest

"""The facts of a server's certificate, for people: names, dates, key, signature, usage. Trust is not decided here."""

import dataclasses
import datetime as dt
import warnings
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from acredssp.trust import pin_of

__all__ = ["CertificateFacts"]

_SERVER_USAGES: Final = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    x509.ObjectIdentifier("1.3.6.1.4.1.311.54.1.2"): "remoteDesktop",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
}
_OTHER_USAGES: Final = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.CODE_SIGNING: "codeSigning",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "emailProtection",
    ExtendedKeyUsageOID.SMARTCARD_LOGON: "smartcardLogon",
}


@dataclasses.dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says.

    Attributes:
        subject: The subject, as RFC 4514 writes it.
        issuer: The issuer, in the same form.
        names: The DNS names and IP addresses of subjectAltName.
        not_before: The begin of its validity.
        not_after: The end of its validity.
        key: Type and size of the key, as `RSA 2048` or `EC secp256r1`.
        key_bits: The size of the key in bits; 0 where it is not known.
        digest: The hash of its signature, as `sha256`; empty where the signature has none of its own.
        usages: The extended key usages; empty where there is no such extension.
        for_servers: Whether the extended key usages allow a server.
        self_signed: Whether it is signed by its own key. A certificate whose signature cannot be checked is not.
        pin: The SHA-256 of the key, as `--pin` takes it.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    key: str
    key_bits: int
    digest: str
    usages: tuple[str, ...]
    for_servers: bool
    self_signed: bool
    pin: str

    @classmethod
    def of(cls, certificate: bytes) -> "CertificateFacts | None":
        """Read a certificate in DER; None where it cannot be read."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as for a serial number that RFC 5280 forbids
            try:
                return cls._of(x509.load_der_x509_certificate(certificate), pin_of(certificate))
            except Exception:  # noqa: BLE001 - the parser raises whatever it likes for a hostile certificate
                return None

    @classmethod
    def _of(cls, certificate: x509.Certificate, pin: str) -> "CertificateFacts":
        usages = _usages(certificate)
        digest = certificate.signature_hash_algorithm
        key, bits = _key(certificate)
        return cls(
            certificate.subject.rfc4514_string(),
            certificate.issuer.rfc4514_string(),
            _names(certificate),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            key,
            bits,
            digest.name if digest else "",
            tuple(_SERVER_USAGES.get(each) or _OTHER_USAGES.get(each) or each.dotted_string for each in usages or ()),
            usages is None or any(each in _SERVER_USAGES for each in usages),
            _is_signed_by_itself(certificate),
            pin,
        )


def _is_signed_by_itself(certificate: x509.Certificate) -> bool:
    """Return whether the certificate's own key signed it. Equal names prove nothing, since anybody can write them."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier] | None:
    try:
        return [*certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value]
    except x509.ExtensionNotFound:
        return None


def _key(certificate: x509.Certificate) -> tuple[str, int]:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}", key.key_size
        case ec.EllipticCurvePublicKey() as key:
            return f"EC {key.curve.name}", key.key_size
        case dsa.DSAPublicKey() as key:
            return f"DSA {key.key_size}", key.key_size
        case key:
            return type(key).__name__.strip("_").removesuffix("PublicKey"), 0

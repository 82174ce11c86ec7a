"""What a certificate must be to authenticate a server, or to vouch for one (RFC 5280 6.1, and [MS-RDPBCGR] 5.4.5).

The rules accept what Windows and private authorities issue: an authority needs no keyUsage, and its basicConstraints
need not be critical. Whatever a certificate does say is enforced.
"""

import datetime as dt
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from acredssp.certificates.judgement import Refusal, Verdict
from acredssp.certificates.link import Link
from acredssp.wire.x509 import key_algorithm

__all__ = ["RDP_AUTHENTICATION", "check_authority", "check_server", "check_signature_kind", "check_strength"]

RDP_AUTHENTICATION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.54.1.2")
"""szOID_TS_KP_TS_SERVER_AUTH: the extended key usage of Windows' own RDP certificates."""

_FOR_SERVERS: Final = frozenset({
    ExtendedKeyUsageOID.SERVER_AUTH, RDP_AUTHENTICATION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
})  # fmt: skip

_USAGE_NAMES: Final = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.CODE_SIGNING: "codeSigning",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "emailProtection",
    ExtendedKeyUsageOID.TIME_STAMPING: "timeStamping",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSPSigning",
    ExtendedKeyUsageOID.SMARTCARD_LOGON: "smartcardLogon",
}
_MOST_USAGES: Final = 4
"""The most usages of a certificate that the text of an error lists."""

_STRONG_RSA: Final = 2048
_LEAST_RSA: Final = 1024
"""Shorter keys have been factored in public, so no switch accepts them."""
_LARGEST_RSA: Final = 8192
"""The limit of Go's TLS: a larger key takes a millisecond for each signature."""
_LARGEST_EXPONENT: Final = 64
"""Bits of the public exponent, which usually has 17. With one as long as the key a signature takes 8 milliseconds."""
_STRONG_CURVE: Final = 224
"""Bits of a curve that is as strong as RSA of 2048 bits (NIST SP 800-57)."""

_NAMED_CURVE: Final = b"\x06"
"""The tag of a curve's OBJECT IDENTIFIER."""

_STRONG_DIGESTS: Final = (
    hashes.SHA224, hashes.SHA256, hashes.SHA384, hashes.SHA512,
    hashes.SHA3_224, hashes.SHA3_256, hashes.SHA3_384, hashes.SHA3_512,
)  # fmt: skip


def check_server(link: Link, now: dt.datetime) -> None:
    """Refuse a certificate that is not for servers, or is not valid now.

    Raises:
        Refusal: EXPIRED, WRONG_USAGE, or UNTRUSTED for a critical extension.
    """
    _check_dates(link, now)
    _check_critical(link)
    if link.usages is not None and _FOR_SERVERS.isdisjoint(link.usages):
        raise Refusal(Verdict.WRONG_USAGE, f"{link.who} is not for servers: {_usages(link.usages)}", link.position)
    usage = link.key_usage
    if usage is not None and not (usage.digital_signature or usage.key_encipherment or usage.key_agreement):
        reason = f"{link.who} is not for servers: its keyUsage has neither digitalSignature nor keyEncipherment"
        raise Refusal(Verdict.WRONG_USAGE, reason, link.position)


def check_authority(link: Link, below: int, now: dt.datetime) -> None:
    """Refuse an authority that may not vouch for a server, or is not valid now.

    Args:
        link: The certificate of the authority.
        below: The number of authorities between this one and the server, without the self-issued ones.
        now: The time.

    Raises:
        Refusal: EXPIRED, WRONG_USAGE or UNTRUSTED.
    """
    _check_dates(link, now)
    _check_critical(link)
    if link.basic is None or not link.basic.ca:
        lacks = "it has no basicConstraints" if link.basic is None else "its basicConstraints say so"
        raise Refusal(Verdict.UNTRUSTED, f"{link.who} is not an authority: {lacks}", link.position)
    if link.key_usage is not None and not link.key_usage.key_cert_sign:
        reason = f"{link.who} may not sign certificates: its keyUsage has no keyCertSign"
        raise Refusal(Verdict.UNTRUSTED, reason, link.position)
    if link.usages is not None and _FOR_SERVERS.isdisjoint(link.usages):
        reason = f"{link.who} may not vouch for servers: {_usages(link.usages)}"
        raise Refusal(Verdict.WRONG_USAGE, reason, link.position)
    most = link.basic.path_length
    if most is not None and below > most:
        reason = f"{link.who} allows {most} authorities below it (pathLenConstraint), but there are {below}"
        raise Refusal(Verdict.UNTRUSTED, reason, link.position)


def check_strength(link: Link, *, allow_weak: bool) -> None:
    """Refuse a key that can be broken, that is too slow to check, or whose kind is not supported.

    Raises:
        Refusal: WEAK for a key that can be broken, UNTRUSTED for any other fault.
    """
    match link.key:
        case rsa.RSAPublicKey(key_size=size) if size > _LARGEST_RSA:
            reason = f"{link.who} has too large a key: rsa of {size} bits, expected at most {_LARGEST_RSA}"
            raise Refusal(Verdict.UNTRUSTED, reason, link.position)
        case rsa.RSAPublicKey() as key if (size := key.public_numbers().e.bit_length()) > _LARGEST_EXPONENT:
            reason = f"{link.who} has too large a key: an exponent of {size} bits, expected at most {_LARGEST_EXPONENT}"
            raise Refusal(Verdict.UNTRUSTED, reason, link.position)
        case rsa.RSAPublicKey(key_size=size) if size < (_LEAST_RSA if allow_weak else _STRONG_RSA):
            reason = f"{link.who} has a weak key: rsa of {size} bits, expected at least {_STRONG_RSA}"
            raise Refusal(Verdict.WEAK, reason, link.position)
        case ec.EllipticCurvePublicKey(key_size=size) if size < _STRONG_CURVE and not allow_weak:
            reason = f"{link.who} has a weak key: a curve of {size} bits, expected at least {_STRONG_CURVE}"
            raise Refusal(Verdict.WEAK, reason, link.position)
        case ec.EllipticCurvePublicKey() if key_algorithm(link.key_info)[1][:1] != _NAMED_CURVE:
            reason = f"{link.who} has a key whose curve is described by parameters, expected a named curve (rfc 5480)"
            raise Refusal(Verdict.UNTRUSTED, reason, link.position)
        case rsa.RSAPublicKey() | ec.EllipticCurvePublicKey() | ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            pass
        case _:
            reason = f"{link.who} has a key of an unsupported kind: expected rsa, ecdsa, ed25519 or ed448"
            raise Refusal(Verdict.UNTRUSTED, reason, link.position)


def check_signature_kind(link: Link, *, allow_weak: bool) -> None:
    """Refuse a signature whose digest can be forged.

    Raises:
        Refusal: WEAK, or UNTRUSTED where the signature's algorithm cannot be read.
    """
    digest = link.ask(lambda: link.certificate.signature_hash_algorithm)
    if digest is None or isinstance(digest, _STRONG_DIGESTS):  # None is for Ed25519 and Ed448, which name no digest
        return
    if not (allow_weak and isinstance(digest, hashes.SHA1)):
        raise Refusal(Verdict.WEAK, f"{link.who} has a weak signature: {digest.name} can be forged", link.position)


def _check_dates(link: Link, now: dt.datetime) -> None:
    if now < link.not_before:
        raise Refusal(Verdict.EXPIRED, f"{link.who} is not valid before {_date(link.not_before)}", link.position)
    if now > link.not_after:
        raise Refusal(Verdict.EXPIRED, f"{link.who} expired on {_date(link.not_after)}", link.position)


def _check_critical(link: Link) -> None:
    if link.not_understood is not None:
        reason = f"{link.who} has a critical extension that is not supported: {link.not_understood}"
        raise Refusal(Verdict.UNTRUSTED, reason, link.position)


def _usages(usages: x509.ExtendedKeyUsage) -> str:
    all_names = [_USAGE_NAMES.get(usage, usage.dotted_string) for usage in usages]
    return f"its extendedKeyUsage is {', '.join(all_names[:_MOST_USAGES])}"


def _date(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

"""The public key, names and serial number of a certificate, found by walking its front (RFC 5280 4.1) and nothing else.

Whether the certificate is to be trusted is judged elsewhere: here bytes are cut out, and compared by others.
"""

import functools
import hashlib
from typing import Final, NamedTuple

from acredssp.errors import RemoteProtocolError
from acredssp.wire import der

__all__ = ["Front", "front", "pin_of", "signature_algorithms", "subject_public_key"]

_CERTIFICATES: Final = 16
"""Certificates whose key is remembered, of some KiB each: a client sees the same few again and again, and finding a key
and hashing it takes 65,000 instructions."""


class Front(NamedTuple):
    """What stands in the front of a certificate, as its bytes."""

    serial_number: bytes
    """The content of the INTEGER: a signed number, its most significant byte first."""
    issuer: bytes
    """The DER of the issuer's Name."""
    subject: bytes
    """The DER of the subject's Name: what `issuer` is in the certificates that it signs."""
    key_info: bytes
    """The DER of the SubjectPublicKeyInfo, tag and length included: what a pin is the SHA-256 of (RFC 7469 2.4)."""


@functools.lru_cache(_CERTIFICATES)
def front(certificate: bytes) -> Front:
    """Read the front of a certificate in one walk.

    Args:
        certificate: The DER of a certificate.

    Raises:
        RemoteProtocolError: `certificate` is none.
    """
    offset, end = _find_serial_number(certificate)
    number, after_number = der.element(certificate, offset, end, der.INTEGER, "serialNumber")
    _, issuer = der.element(certificate, after_number, end, der.SEQUENCE, "signature")
    _, validity = der.element(certificate, issuer, end, der.SEQUENCE, "issuer")
    _, subject = der.element(certificate, validity, end, der.SEQUENCE, "validity")
    _, key_info = der.element(certificate, subject, end, der.SEQUENCE, "subject")
    _, stop = der.element(certificate, key_info, end, der.SEQUENCE, "subjectPublicKeyInfo")
    return Front(
        certificate[number:after_number],
        certificate[issuer:validity],
        certificate[subject:key_info],
        certificate[key_info:stop],
    )


@functools.lru_cache(_CERTIFICATES)
def subject_public_key(certificate: bytes) -> bytes:
    """The content of the SubjectPublicKey BIT STRING, what pubKeyAuth binds ([MS-CSSP] 3.1.5 step 3).

    A PKCS#1 RSAPublicKey, an uncompressed EC point, or the 32 bytes of an Ed25519 key: never the SubjectPublicKeyInfo
    around it.

    Args:
        certificate: The DER of a certificate.

    Raises:
        RemoteProtocolError: `certificate` is none.
    """
    key_info = front(certificate).key_info
    offset, end = der.only(key_info, 0, len(key_info), der.SEQUENCE, "subjectPublicKeyInfo")
    _, offset = der.element(key_info, offset, end, der.SEQUENCE, "algorithm")
    start, stop = der.element(key_info, offset, end, der.BIT_STRING, "subjectPublicKey")
    der.expect_end(stop, end, "subjectPublicKeyInfo")
    if start == stop or key_info[start]:
        raise RemoteProtocolError(
            f"subjectPublicKey: expected a BIT STRING of whole bytes at byte {start} of the SubjectPublicKeyInfo"
        )
    return key_info[start + 1 : stop]


@functools.lru_cache(_CERTIFICATES)
def pin_of(certificate: bytes) -> str:
    """The SHA-256 of a certificate's SubjectPublicKeyInfo, in lower-case hex.

    Args:
        certificate: The DER of a certificate.

    Raises:
        RemoteProtocolError: `certificate` is none.
    """
    return hashlib.sha256(front(certificate).key_info).hexdigest()


def signature_algorithms(certificate: bytes) -> tuple[bytes, bytes]:
    """The DER of the signature's AlgorithmIdentifier, as the certificate has it inside, signed, and outside.

    Args:
        certificate: The DER of a certificate.

    Raises:
        RemoteProtocolError: `certificate` is none.
    """
    offset, inner_end = _find_serial_number(certificate)
    _, offset = der.element(certificate, offset, inner_end, der.INTEGER, "serialNumber")
    _, stop = der.element(certificate, offset, inner_end, der.SEQUENCE, "signature")
    end = len(certificate)
    _, outer_stop = der.element(certificate, inner_end, end, der.SEQUENCE, "signatureAlgorithm")
    return certificate[offset:stop], certificate[inner_end:outer_stop]


def _find_serial_number(certificate: bytes) -> tuple[int, int]:
    """Where the serialNumber begins, and where the tbsCertificate ends."""
    offset, end = der.only(certificate, 0, len(certificate), der.SEQUENCE, "certificate")
    offset, end = der.element(certificate, offset, end, der.SEQUENCE, "tbsCertificate")
    if offset < end and certificate[offset] == der.CONTEXT:  # version [0], absent in a version 1 certificate
        _, offset = der.element(certificate, offset, end, der.CONTEXT, "version")
    return offset, end

"""Cuts the public key, names, serial number and algorithms out of a certificate's DER (RFC 5280 4.1).

Whether the certificate is trusted is judged elsewhere: this module only finds the bytes that other modules compare.
"""

import functools
import hashlib
from typing import Final, NamedTuple

from acredssp.errors import RemoteProtocolError
from acredssp.wire import der

__all__ = [
    "RSASSA_PSS",
    "Front",
    "PSSParameters",
    "front",
    "key_algorithm",
    "pin_of",
    "pss_parameters",
    "signature_algorithms",
    "signature_parameters",
    "subject_public_key",
]

RSASSA_PSS: Final = bytes.fromhex("2a864886f70d01010a")
"""The content of the OBJECT IDENTIFIER id-RSASSA-PSS (RFC 4055 1.2). It marks signatures, and keys limited to them."""

_CERTIFICATES: Final = 16
"""How many certificates, of some KiB each, keep their results. A client sees the same few certificates again and again,
and finding and hashing a key takes 65,000 instructions."""


class Front(NamedTuple):
    """The fields in the front of a certificate, as bytes."""

    serial_number: bytes
    """The content of the INTEGER: a signed number, most significant byte first."""
    issuer: bytes
    """The DER of the issuer's Name."""
    subject: bytes
    """The DER of the subject's Name. Certificates that this subject signs have it as their `issuer`."""
    key_info: bytes
    """The DER of the SubjectPublicKeyInfo, tag and length included. A pin is the SHA-256 of it (RFC 7469 2.4)."""


@functools.lru_cache(_CERTIFICATES)
def front(certificate: bytes) -> Front:
    """Read the front of a certificate in one walk.

    Args:
        certificate: The DER of a certificate.

    Raises:
        RemoteProtocolError: `certificate` is not a certificate.
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
    """The content of the SubjectPublicKey BIT STRING, which pubKeyAuth binds ([MS-CSSP] 3.1.5 step 3).

    It is a PKCS#1 RSAPublicKey, an uncompressed EC point, or the 32 bytes of an Ed25519 key, without the
    SubjectPublicKeyInfo around it.

    Args:
        certificate: The DER of a certificate.

    Raises:
        RemoteProtocolError: `certificate` is not a certificate.
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
        RemoteProtocolError: `certificate` is not a certificate.
    """
    return hashlib.sha256(front(certificate).key_info).hexdigest()


def signature_algorithms(certificate: bytes) -> tuple[bytes, bytes]:
    """The DER of the signature's AlgorithmIdentifier, from inside the signed part and from outside of it.

    Args:
        certificate: The DER of a certificate.

    Raises:
        RemoteProtocolError: `certificate` is not a certificate.
    """
    offset, inner_end = _find_serial_number(certificate)
    _, offset = der.element(certificate, offset, inner_end, der.INTEGER, "serialNumber")
    _, stop = der.element(certificate, offset, inner_end, der.SEQUENCE, "signature")
    end = len(certificate)
    _, outer_stop = der.element(certificate, inner_end, end, der.SEQUENCE, "signatureAlgorithm")
    return certificate[offset:stop], certificate[inner_end:outer_stop]


def key_algorithm(key_info: bytes) -> tuple[bytes, bytes]:
    """The algorithm of a SubjectPublicKeyInfo: the content of its OBJECT IDENTIFIER, and the DER of its parameters.

    Args:
        key_info: `Front.key_info` of a certificate.

    Raises:
        RemoteProtocolError: `key_info` is not a SubjectPublicKeyInfo.
    """
    offset, end = der.only(key_info, 0, len(key_info), der.SEQUENCE, "subjectPublicKeyInfo")
    _, stop = der.element(key_info, offset, end, der.SEQUENCE, "algorithm")
    return _algorithm(key_info[offset:stop])


class PSSParameters(NamedTuple):
    """The parameters of RSASSA-PSS (RFC 4055 3.1)."""

    digest: bytes = b""
    """The DER of the digest's AlgorithmIdentifier; empty for the default, SHA-1."""
    mask: bytes = b""
    """The DER of the mask generation function's AlgorithmIdentifier; empty for the default, MGF1 with SHA-1."""
    salt: int = 20
    """The length of the salt in bytes. For a key it is the least length that its signatures may have."""
    trailer: int = 1
    """The number of the trailer field; 1 is the only one defined."""


def pss_parameters(parameters: bytes) -> PSSParameters:
    """Read the parameters of RSASSA-PSS.

    Args:
        parameters: The DER of the parameters.

    Raises:
        RemoteProtocolError: `parameters` is not the DER of RSASSA-PSS-params.
    """
    offset, end = der.only(parameters, 0, len(parameters), der.SEQUENCE, "RSASSA-PSS-params")
    found: dict[int, bytes] = {}
    for number in range(len(PSSParameters._fields)):
        if offset < end and parameters[offset] == der.CONTEXT + number:
            start, offset = der.element(parameters, offset, end, der.CONTEXT + number, "RSASSA-PSS-params")
            found[number] = parameters[start:offset]
    der.expect_end(offset, end, "RSASSA-PSS-params")
    usual = PSSParameters()
    return PSSParameters(
        found.get(0, usual.digest),
        found.get(1, usual.mask),
        _number(found[2]) if 2 in found else usual.salt,
        _number(found[3]) if 3 in found else usual.trailer,
    )


def signature_parameters(certificate: bytes) -> bytes:
    """The DER of the parameters of a certificate's signature; empty where it has none.

    Args:
        certificate: The DER of a certificate.

    Raises:
        RemoteProtocolError: `certificate` is not a certificate.
    """
    return _algorithm(signature_algorithms(certificate)[1])[1]


def _algorithm(identifier: bytes) -> tuple[bytes, bytes]:
    offset, end = der.only(identifier, 0, len(identifier), der.SEQUENCE, "AlgorithmIdentifier")
    start, stop = der.element(identifier, offset, end, der.OBJECT_IDENTIFIER, "algorithm")
    return identifier[start:stop], identifier[stop:end]


def _number(integer: bytes) -> int:
    start, stop = der.only(integer, 0, len(integer), der.INTEGER, "RSASSA-PSS-params")
    return int.from_bytes(integer[start:stop], "big", signed=True)


def _find_serial_number(certificate: bytes) -> tuple[int, int]:
    """Where the serialNumber begins, and where the tbsCertificate ends."""
    offset, end = der.only(certificate, 0, len(certificate), der.SEQUENCE, "certificate")
    offset, end = der.element(certificate, offset, end, der.SEQUENCE, "tbsCertificate")
    if offset < end and certificate[offset] == der.CONTEXT:  # version [0], absent in a version 1 certificate
        _, offset = der.element(certificate, offset, end, der.CONTEXT, "version")
    return offset, end

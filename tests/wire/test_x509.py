import contextlib
import datetime as dt
import functools
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from vectors import hostile, messages
from vectors.load import capture, captures

from acredssp.errors import RemoteProtocolError
from acredssp.wire import der
from acredssp.wire.x509 import front, pin_of, signature_algorithms, subject_public_key

KEYS = {
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "p-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "dsa": lambda: dsa.generate_private_key(1024),  # noqa: S505 - quickly made
}
BOUND_BYTES = {
    "rsa-2048": (Encoding.DER, PublicFormat.PKCS1),
    "rsa-3072": (Encoding.DER, PublicFormat.PKCS1),
    "p-256": (Encoding.X962, PublicFormat.UncompressedPoint),
    "p-384": (Encoding.X962, PublicFormat.UncompressedPoint),
    "p-521": (Encoding.X962, PublicFormat.UncompressedPoint),
    "ed25519": (Encoding.Raw, PublicFormat.Raw),
    "ed448": (Encoding.Raw, PublicFormat.Raw),
}
"""What cryptography writes for the bytes that CredSSP binds, by kind of key."""


@functools.cache
def certificate(kind: str) -> x509.Certificate:
    key = KEYS[kind]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server.example")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x7F << 150)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("server.example")]), critical=False)
        .sign(key, None if kind.startswith("ed") else hashes.SHA256())
    )


def certificate_der(kind: str) -> bytes:
    return certificate(kind).public_bytes(Encoding.DER)


@pytest.mark.requirement("binding.key")
@pytest.mark.parametrize("kind", BOUND_BYTES)
def test_the_key_is_the_one_that_cryptography_finds(kind):
    assert subject_public_key(certificate_der(kind)) == certificate(kind).public_key().public_bytes(*BOUND_BYTES[kind])


@pytest.mark.parametrize("kind", KEYS)
def test_the_key_info_is_the_one_that_cryptography_finds(kind):
    expected = certificate(kind).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert front(certificate_der(kind)).key_info == expected
    assert expected.endswith(subject_public_key(certificate_der(kind)))


@pytest.mark.requirement("binding.key")
@pytest.mark.parametrize("recorded", [c for c in captures() if c.get("tls")], ids=str)
def test_recorded_certificates_give_the_recorded_keys(recorded):
    tls = recorded["tls"]
    assert subject_public_key(bytes.fromhex(tls["cert_der"])) == bytes.fromhex(tls["subject_public_key"])


def test_the_published_keys_are_those_of_the_captures():
    rsa_certificate = bytes.fromhex(capture("freerdp3.10-ntlm-v6")["tls"]["cert_der"])
    assert subject_public_key(rsa_certificate) == messages.SPK_RSA
    digest = hashlib.sha256(subject_public_key(rsa_certificate)).hexdigest()
    assert digest == "6f8197dd64bced9efb8bfcf0455fc152bac56447fc55a48fb76fcb6a8d6bce47"
    ec_certificate = bytes.fromhex(capture("freerdp3.10-ntlm-eccert")["tls"]["cert_der"])
    assert subject_public_key(ec_certificate) == messages.SPK_EC


def rebuilt(*, version: bytes | None = None, key_info: bytes | None = None) -> bytes:
    """The P-256 certificate, with parts of its front replaced; its signature is not looked at."""
    data = certificate_der("p-256")
    info = front(data).key_info
    start, stop = der.element(data, *der.element(data, 0, len(data), der.SEQUENCE, "certificate"), der.SEQUENCE, "tbs")
    tbs = data[start:stop]
    if version is not None:
        tbs = tbs.replace(bytes.fromhex("a003020102"), version, 1)
    if key_info is not None:
        tbs = tbs.replace(info, key_info, 1)
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, tbs) + data[stop:])


def test_a_version_1_certificate_has_no_version_field():
    data = rebuilt(version=b"")
    assert subject_public_key(data) == subject_public_key(certificate_der("p-256"))


def key_info(bits: bytes, tail: bytes = b"") -> bytes:
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, b"") + bits + tail)


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (key_info(b""), "subjectPublicKey: expected an element"),
        (key_info(b"\x03\x00"), "expected a BIT STRING of whole bytes"),
        (key_info(b"\x03\x02\x01\x80"), "expected a BIT STRING of whole bytes"),
        (key_info(b"\x04\x02\x00\x80"), "subjectPublicKey: expected tag 0x03"),
        (key_info(b"\x03\x02\x00\x80", b"\x05\x00"), "subjectPublicKeyInfo: expected the end"),
        (b"\x30\x00", "algorithm: expected an element"),
        (b"\x04\x00", "subjectPublicKeyInfo: expected tag 0x30"),
    ],
)
def test_a_malformed_key_info_is_refused(info, text):
    with pytest.raises(RemoteProtocolError, match=text):
        subject_public_key(rebuilt(key_info=info))


def test_a_key_info_without_key_bytes_binds_nothing_but_is_read():
    assert subject_public_key(rebuilt(key_info=key_info(b"\x03\x01\x00"))) == b""


@pytest.mark.parametrize("read", [subject_public_key, pin_of, front])
def test_every_truncation_and_trailing_byte_is_refused(read):
    data = certificate_der("p-256")
    for cut in hostile.truncations(data):
        with pytest.raises(RemoteProtocolError):
            read(cut)
    with pytest.raises(RemoteProtocolError, match="certificate: expected the end"):
        read(data + b"\0")


@pytest.mark.requirement("defect.malformed-der")
@pytest.mark.parametrize("read", [subject_public_key, pin_of, front])
@pytest.mark.parametrize("spoil", [hostile.flips, hostile.replacements])
def test_spoilt_certificates_raise_only_our_errors(spoil, read):
    for spoilt in spoil(certificate_der("p-256")[:300] + bytes(40)):
        with contextlib.suppress(RemoteProtocolError):
            read(spoilt)
    for spoilt in spoil(certificate_der("p-256")):
        with contextlib.suppress(RemoteProtocolError):
            read(spoilt)


@pytest.mark.parametrize("kind", KEYS)
def test_the_front_and_the_algorithms_are_the_bytes_of_the_certificate(kind):
    made = certificate(kind)
    found = front(certificate_der(kind))
    assert found.issuer == made.issuer.public_bytes()
    assert found.subject == made.subject.public_bytes()
    assert pin_of(certificate_der(kind)) == hashlib.sha256(found.key_info).hexdigest()
    assert int.from_bytes(found.serial_number, "big", signed=True) == made.serial_number
    inner, outer = signature_algorithms(certificate_der(kind))
    assert inner == outer
    assert made.tbs_certificate_bytes + outer in certificate_der(kind)

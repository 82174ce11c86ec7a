"""The channel binding `tls-server-end-point` is the hash of the certificate by its signature's digest (RFC 5929 4)."""

import hashlib
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from support.certificates import Made, Remade, integer

from acredssp.tls import end_point_binding

NAME = b"tls-server-end-point:"
ROOT = Made("root", ca=True)
RSA = Made("rsa", ca=True, key="rsa")


def signed_by(digest):
    """A certificate whose signature is by a digest, in DER."""
    usual = Made("server", by=ROOT).certificate
    builder = x509.CertificateBuilder(
        issuer_name=usual.issuer,
        subject_name=usual.subject,
        public_key=usual.public_key(),
        serial_number=1,
        not_valid_before=usual.not_valid_before_utc,
        not_valid_after=usual.not_valid_after_utc,
    )
    return builder.sign(ROOT.key, digest).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("digest", "name"),
    [
        (hashes.SHA224(), "sha224"),
        (hashes.SHA256(), "sha256"),
        (hashes.SHA384(), "sha384"),
        (hashes.SHA512(), "sha512"),
        (hashes.SHA3_256(), "sha3_256"),
        (hashes.SHA3_512(), "sha3_512"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_by_the_digest_of_the_signature(digest, name):
    der = signed_by(digest)
    assert end_point_binding(der) == NAME + hashlib.new(name, der).digest()


@pytest.mark.parametrize("weak", ["md5", "sha1"])
def test_it_is_by_sha256_where_the_signature_is_by_a_digest_that_can_be_forged(weak):
    der = Made("server", by=RSA, digest=weak).der
    assert end_point_binding(der) == NAME + hashlib.sha256(der).digest()


def test_it_is_not_defined_for_a_signature_without_a_digest():
    assert end_point_binding(Made("server", ca=True, key="ed25519").der) is None


@pytest.mark.parametrize("der", [b"", b"0\x00", b"no certificate"])
def test_there_is_none_of_what_cannot_be_read(der):
    assert end_point_binding(der) is None


def test_it_warns_of_nothing_in_the_certificate():
    made = Made("server", by=ROOT, serial=0x1122334455667788)
    with pytest.warns(UserWarning, match="serial number"):
        odd = Remade(made, ROOT, [(integer(0x1122334455667788), b"\x02\x08\x91\x22\x33\x44\x55\x66\x77\x88")]).der
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert end_point_binding(odd) == NAME + hashlib.sha256(odd).digest()

"""Facts of a certificate that attributes of a context are made of, from its DER."""

import contextlib
import hashlib
import warnings
from typing import Final

from cryptography import x509

from acredssp.certificates.judgement import Refusal
from acredssp.certificates.link import place, read_link, readable
from acredssp.certificates.path import verify_signature

__all__ = ["end_point_binding", "is_self_signed"]

_TOO_WEAK: Final = frozenset({"md5", "sha1"})
"""Replaced by SHA-256 (RFC 5929 4.1)."""


def is_self_signed(certificate: bytes) -> bool:
    """Whether its own key has signed it; no for one that cannot be read."""
    with contextlib.suppress(Refusal):
        link = read_link(certificate, 0)
        if link.self_issued:
            verify_signature(link, link)
            return True
    return False


def end_point_binding(certificate: bytes) -> bytes | None:
    """The channel binding `tls-server-end-point` of a server's certificate (RFC 5929 4).

    Returns:
        Its name, a colon, and the hash; None where the signature has no hash of its own (Ed25519), which leaves the
        binding undefined, or one that cannot be made here.
    """
    with contextlib.suppress(Refusal):
        return readable(lambda: _end_point_binding(certificate), lambda: place(0), 0)
    return None


def _end_point_binding(certificate: bytes) -> bytes | None:
    algorithm = _load(certificate).signature_hash_algorithm
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in _TOO_WEAK else algorithm.name
    return b"tls-server-end-point:" + hashlib.new(name.replace("-", "_"), certificate).digest()


def _load(certificate: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # Of a serial number that RFC 5280 forbids, which matters to nobody here.
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(certificate)

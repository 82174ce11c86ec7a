"""The channel binding of a TLS server's certificate (RFC 5929 4)."""

import contextlib
import hashlib
import warnings
from typing import Final

from cryptography import x509

from acredssp.certificates.judgement import Refusal
from acredssp.certificates.link import place, readable

__all__ = ["end_point_binding"]

_TOO_WEAK: Final = frozenset({"md5", "sha1"})
"""The hashes in place of which SHA-256 is used (RFC 5929 4.1)."""


def end_point_binding(certificate: bytes) -> bytes | None:
    """Return the channel binding `tls-server-end-point` of a server's certificate (RFC 5929 4), for `channel_bindings`.

    Args:
        certificate: The certificate in DER.

    Returns:
        The binding's name, a colon, and the hash; None if the signature has no hash of its own (Ed25519), which leaves
        the binding undefined, or if the certificate cannot be read.
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
        # The library warns about serial numbers that RFC 5280 forbids, which do not matter here.
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(certificate)

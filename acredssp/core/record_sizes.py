"""What a TLS record holds beside its plaintext, by version and cipher suite. No other module knows these sizes.

RFC 8446 5.2, RFC 5246 6.2.3, RFC 5288 3, RFC 6655 3, RFC 7905 2:

    TLS 1.3   header 5                    | plaintext | content type 1, tag
    GCM, CCM  header 5, explicit nonce 8  | plaintext | tag
    ChaCha20  header 5                    | plaintext | tag
    CBC       header 5, IV of a block     | plaintext | MAC and padding of 1 byte to a block, in either order (RFC 7366)
    TLS 1.0   header 5                    | plaintext | MAC and padding of 1 byte to a block

The trailer of CBC varies with the length of the plaintext, so `trailer` is the longest one. The exact trailer of a
record has `len(record) - header - len(plaintext)` bytes.
"""

import dataclasses
import functools
from typing import Final

from acredssp.core.tls import MAX_PLAINTEXT
from acredssp.errors import PolicyError
from acredssp.status import SecurityStatus
from acredssp.values import made_by
from acredssp.wire.tls_record import HEADER_SIZE

__all__ = ["DIGEST_SIZES", "RecordSizes", "record_sizes"]

DIGEST_SIZES: Final = {"SHA": 20, "SHA256": 32, "SHA384": 48}
"""Bytes of the hash, by the end of OpenSSL's name of a suite."""

_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_EXPLICIT_NONCE: Final = 8
_CONTENT_TYPE: Final = 1

# The order matters: names of CBC suites have no mark of their own, and "CCM" is also in the names of "CCM_8".
_TAGS: Final = (
    ("GCM", _EXPLICIT_NONCE, 16),
    ("CCM_8", _EXPLICIT_NONCE, 8),
    ("CCM8", _EXPLICIT_NONCE, 8),
    ("CCM", _EXPLICIT_NONCE, 16),
    ("CHACHA20", 0, 16),
)
"""AEAD ciphers. Each row has a part of the suite's name, the bytes of the explicit nonce that TLS 1.2 and below send,
and the bytes of the authentication tag."""
_BLOCKS: Final = (("AES128", 16), ("AES256", 16), ("CAMELLIA", 16), ("ARIA", 16), ("SEED", 16), ("DES-CBC3", 8))
"""Block ciphers. Each row has a part of the suite's name, and the bytes of a block."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordSizes:
    """Sizes of a TLS record under one version and one cipher suite, in bytes.

    Attributes:
        header: Bytes of a record in front of its plaintext.
        trailer: Bytes of a record behind its plaintext, at most: authentication tag, or MAC and padding.
        max_message: Bytes of plaintext that one record holds at most.
        block: The plaintext is padded to a multiple of this; 1 where there is no padding, so that all trailers are
            equal.
        front: Bytes, at most, of the record without plaintext that OpenSSL sends in front of each: 0 except in TLS 1.0.
    """

    header: int
    trailer: int
    max_message: int = MAX_PLAINTEXT
    block: int = 1
    front: int = 0

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return made_by(self)


@functools.lru_cache
def record_sizes(tls_version: str, cipher: str) -> RecordSizes:
    """Describe the records of a connection.

    Args:
        tls_version: `"TLSv1"`, `"TLSv1.1"`, `"TLSv1.2"` or `"TLSv1.3"`.
        cipher: OpenSSL's name of the suite, as `SSLObject.cipher()` returns it.

    Raises:
        PolicyError: SEC_E_CRYPTO_SYSTEM_INVALID: the suite does not encrypt, or this module does not know it.
    """
    sizes = _with_tag(tls_version, cipher) or _with_blocks(tls_version, cipher)
    if sizes is None or tls_version not in _VERSIONS:
        raise PolicyError(
            f"expected a cipher suite that protects messages, got {cipher or 'none'} under "
            f"{tls_version or 'no version of tls'}",
            security_status=SecurityStatus.SEC_E_CRYPTO_SYSTEM_INVALID,
        )
    return sizes


def _with_tag(tls_version: str, cipher: str) -> RecordSizes | None:
    for mark, nonce, tag in _TAGS:
        if mark in cipher:
            if tls_version == "TLSv1.3":
                return RecordSizes(HEADER_SIZE, tag + _CONTENT_TYPE)
            return RecordSizes(HEADER_SIZE + nonce, tag)
    return None


def _with_blocks(tls_version: str, cipher: str) -> RecordSizes | None:
    digest = DIGEST_SIZES.get(cipher.rpartition("-")[2])
    for mark, block in _BLOCKS:
        if mark in cipher and digest is not None:
            trailer = digest + block
            if tls_version == "TLSv1":  # its IV is the end of the previous record
                return RecordSizes(HEADER_SIZE, trailer, block=block, front=HEADER_SIZE + trailer)
            return RecordSizes(HEADER_SIZE + block, trailer, block=block)
    return None

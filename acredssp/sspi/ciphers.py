"""What a TLS cipher suite is, by OpenSSL's name: how much a record adds, and its algorithms' ALG_IDs.

What a record holds beside its plaintext (RFC 8446 5.2, RFC 5246 6.2.3, RFC 5288 3, RFC 6655 3, RFC 7905 2):

    TLS 1.3   header 5                    | plaintext | content type 1, tag
    GCM, CCM  header 5, explicit nonce 8  | plaintext | tag
    ChaCha20  header 5                    | plaintext | tag
    CBC       header 5, IV of a block     | plaintext | MAC and padding of 1 byte to a block, in either order (RFC 7366)
    TLS 1.0   header 5                    | plaintext | the same

The trailer of CBC varies with the length of the plaintext: `trailer` is the longest, as STREAM_SIZES has to give it.
In TLS 1.0 OpenSSL puts a record without plaintext in front of each of its own (against BEAST): `front` is what it
takes. Suites that do not encrypt are not in here.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Final

from acredssp.errors import PolicyError
from acredssp.sspi.flags import SP_PROT
from acredssp.status import SecurityStatus
from acredssp.wire.tls_record import HEADER_SIZE

__all__ = ["CipherSuite", "cipher_suite", "protocol"]

_EXPLICIT_NONCE: Final = 8
_CONTENT_TYPE: Final = 1
_TAG: Final = 16
_SHORT_TAG: Final = 8
"""Of the CCM_8 suites."""

# ALG_IDs of wincrypt.h. Ciphers that Windows does not have are 0.
_CIPHER_IDS: Final = {"AES128": 0x660E, "AES256": 0x6610, "DES": 0x6603}
_HASHES: Final = {"SHA": (0x8004, 20), "SHA256": (0x800C, 32), "SHA384": (0x800D, 48)}
"""OpenSSL's word: ALG_ID, and bytes of the MAC."""
_EXCHANGES: Final = {"ECDHE": 0xAE06, "DHE": 0xAA02}
_RSA_EXCHANGE: Final = 0xA400


@dataclasses.dataclass(frozen=True, slots=True)
class CipherSuite:
    """A cipher suite under one version of TLS."""

    header: int
    """Bytes of a record in front of the plaintext's place."""
    trailer: int
    """Bytes behind it, at most."""
    front: int
    """Bytes of the record without plaintext that OpenSSL sends in front, at most: 0 but for TLS 1.0."""
    block: int
    """Bytes of a block that is always full: 1 where there is no padding."""
    cipher_id: int
    """ALG_ID, 0 for none: as for the other two."""
    hash_id: int
    hash_bits: int
    exchange_id: int
    """0 in TLS 1.3, where the suite does not say."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Protection:
    """How one kind of suite protects the records of TLS 1.1 and 1.2; `trailer` is made from the bytes of the MAC."""

    header: int
    trailer: Callable[[int], int]
    block: int = 1


def _cbc(block: int) -> _Protection:
    return _Protection(HEADER_SIZE + block, lambda mac: mac + block, block)


# Tried in this order: the names of CBC suites have no mark of their own.
_PROTECTIONS: Final = (
    (re.compile("GCM"), _Protection(HEADER_SIZE + _EXPLICIT_NONCE, lambda _: _TAG)),
    (re.compile("CCM_?8"), _Protection(HEADER_SIZE + _EXPLICIT_NONCE, lambda _: _SHORT_TAG)),
    (re.compile("CCM"), _Protection(HEADER_SIZE + _EXPLICIT_NONCE, lambda _: _TAG)),
    (re.compile("CHACHA20"), _Protection(HEADER_SIZE, lambda _: _TAG)),
    (re.compile("AES(128|256)|CAMELLIA|ARIA|SEED"), _cbc(16)),
    (re.compile("DES-CBC3"), _cbc(8)),
)
_HASH: Final = re.compile("[-_](SHA(?:256|384)?)$")
_CIPHER: Final = re.compile("AES_?(?:128|256)|DES")


def cipher_suite(tls_version: str, name: str) -> CipherSuite:
    """Describe a suite.

    Args:
        tls_version: `"TLSv1"`, `"TLSv1.1"`, `"TLSv1.2"` or `"TLSv1.3"`.
        name: OpenSSL's, as `SSLObject.cipher()` has it.

    Raises:
        PolicyError: SEC_E_CRYPTO_SYSTEM_INVALID: it is none of those above.
    """
    protection = next((kind for pattern, kind in _PROTECTIONS if pattern.search(name)), None)
    if protection is None or tls_version not in _VERSIONS:
        raise PolicyError(
            f"messages are not protected by {name or 'no cipher'} under {tls_version or 'no version of tls'}",
            security_status=SecurityStatus.SEC_E_CRYPTO_SYSTEM_INVALID,
        )
    match = _HASH.search(name)
    hash_id, mac = _HASHES[match[1]] if match else (0, 0)
    trailer = protection.trailer(mac)
    tls13 = tls_version == "TLSv1.3"
    tls10 = tls_version == "TLSv1"  # whose suites are all of CBC
    return CipherSuite(
        header=HEADER_SIZE if tls13 or tls10 else protection.header,
        trailer=trailer + _CONTENT_TYPE if tls13 else trailer,
        front=HEADER_SIZE + trailer if tls10 else 0,
        block=protection.block,
        cipher_id=_cipher_id(name),
        hash_id=hash_id,
        hash_bits=mac * 8,
        exchange_id=0 if tls13 else _EXCHANGES.get(name.partition("-")[0], _RSA_EXCHANGE),
    )


def _cipher_id(name: str) -> int:
    match = _CIPHER.search(name)
    return _CIPHER_IDS[match[0].replace("_", "")] if match else 0


_VERSIONS: Final = {
    "TLSv1": (SP_PROT.TLS1_0_CLIENT, SP_PROT.TLS1_0_SERVER),
    "TLSv1.1": (SP_PROT.TLS1_1_CLIENT, SP_PROT.TLS1_1_SERVER),
    "TLSv1.2": (SP_PROT.TLS1_2_CLIENT, SP_PROT.TLS1_2_SERVER),
    "TLSv1.3": (SP_PROT.TLS1_3_CLIENT, SP_PROT.TLS1_3_SERVER),
}


def protocol(tls_version: str, *, server: bool) -> SP_PROT:
    """The SP_PROT bit of a version that `cipher_suite` takes, on one side."""
    return _VERSIONS[tls_version][server]

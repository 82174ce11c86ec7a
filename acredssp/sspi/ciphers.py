"""The ALG_IDs of a TLS cipher suite's algorithms and the SP_PROT bits of TLS's versions, by OpenSSL's names."""

import dataclasses
import re
from typing import Final

from acredssp.core.record_sizes import DIGEST_SIZES, record_sizes
from acredssp.sspi.flags import SP_PROT

__all__ = ["CipherSuite", "cipher_suite", "protocol"]

# The ALG_IDs of wincrypt.h. A cipher that Windows does not have is 0.
_CIPHER_IDS: Final = {"AES128": 0x660E, "AES256": 0x6610, "DES": 0x6603}
_HASH_IDS: Final = {"SHA": 0x8004, "SHA256": 0x800C, "SHA384": 0x800D}
_EXCHANGES: Final = {"ECDHE": 0xAE06, "DHE": 0xAA02}
_RSA_EXCHANGE: Final = 0xA400


@dataclasses.dataclass(frozen=True, slots=True)
class CipherSuite:
    """The algorithms of a cipher suite under one version of TLS, as ALG_IDs; 0 where Windows has none."""

    cipher_id: int
    hash_id: int
    hash_bits: int
    exchange_id: int
    """The key exchange; 0 in TLS 1.3, where the suite does not name one."""


_HASH: Final = re.compile("[-_](SHA(?:256|384)?)$")
_CIPHER: Final = re.compile("AES_?(?:128|256)|DES")


def cipher_suite(tls_version: str, name: str) -> CipherSuite:
    """Return the algorithms of a cipher suite.

    Args:
        tls_version: `"TLSv1"`, `"TLSv1.1"`, `"TLSv1.2"` or `"TLSv1.3"`.
        name: OpenSSL's name of the suite, as `SSLObject.cipher()` gives it.

    Raises:
        PolicyError: SEC_E_CRYPTO_SYSTEM_INVALID: the version or the suite is unknown.
    """
    record_sizes(tls_version, name)  # this refuses a suite that protects no messages
    match = _HASH.search(name)
    return CipherSuite(
        cipher_id=_cipher_id(name),
        hash_id=_HASH_IDS[match[1]] if match else 0,
        hash_bits=DIGEST_SIZES[match[1]] * 8 if match else 0,
        exchange_id=0 if tls_version == "TLSv1.3" else _EXCHANGES.get(name.partition("-")[0], _RSA_EXCHANGE),
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
    """Return the SP_PROT bit of a version, for a server or a client; the versions are those of `cipher_suite`."""
    return _VERSIONS[tls_version][server]

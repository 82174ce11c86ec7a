"""What pubKeyAuth seals: the tie between the logon and the TLS channel ([MS-CSSP] 3.1.5 steps 3 and 4).

The functions depend on nothing but the version, the client's nonce and the server's SubjectPublicKey (the content of
the BIT STRING). The negotiated version alone decides which of the two forms applies, never the presence of a nonce: a
peer that leaves the nonce out must not be able to choose the old form (CVE-2018-0886).
"""

import hashlib
from typing import Final

from acredssp.policy import FIRST_SAFE_VERSION

__all__ = ["client_value", "server_value"]

# The terminating NUL is part of what is hashed.
_CLIENT_TO_SERVER: Final = b"CredSSP Client-To-Server Binding Hash\0"
_SERVER_TO_CLIENT: Final = b"CredSSP Server-To-Client Binding Hash\0"


def client_value(version: int, nonce: bytes | None, public_key: bytes) -> bytes:
    """Return the value that the client seals: a SHA-256 hash from version 5 on, the key itself in older versions."""
    if version < FIRST_SAFE_VERSION:
        return public_key
    assert nonce is not None
    return hashlib.sha256(_CLIENT_TO_SERVER + nonce + public_key).digest()


def server_value(version: int, nonce: bytes | None, public_key: bytes) -> bytes:
    """Return the value that the server seals: a SHA-256 hash from version 5 on.

    In older versions it is the key with 1 added to its first byte.
    """
    if version < FIRST_SAFE_VERSION:
        # The sum is taken modulo 256. A carry is unspecified, and cannot occur, since keys begin with 0x30 or 0x04.
        return bytes([(public_key[0] + 1) & 0xFF]) + public_key[1:]
    assert nonce is not None
    return hashlib.sha256(_SERVER_TO_CLIENT + nonce + public_key).digest()

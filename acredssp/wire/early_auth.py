"""The Early User Authorization Result PDU, four bytes that follow the handshake ([MS-RDPBCGR] 2.2.10.2)."""

import enum
from typing import Final

from acredssp.errors import RemoteProtocolError

__all__ = ["SIZE", "AuthorizationResult", "decode", "encode"]

SIZE: Final = 4
"""Bytes of the whole PDU: it has no header."""


class AuthorizationResult(enum.IntEnum):
    """authorizationResult ([MS-RDPBCGR] 2.2.10.2)."""

    SUCCESS = 0x00000000
    ACCESS_DENIED = 0x00000005


def encode(result: AuthorizationResult) -> bytes:
    """The four bytes of the PDU that carries `result`."""
    return result.to_bytes(SIZE, "little")


def decode(data: bytes | bytearray | memoryview) -> AuthorizationResult:
    """The result that the four bytes of a PDU carry.

    Raises:
        RemoteProtocolError: `data` has another size, or the result is not a defined one.
    """
    if len(data) != SIZE:
        raise RemoteProtocolError(f"authorizationResult: expected {SIZE} bytes, got {len(data)}")
    value = int.from_bytes(data, "little")
    if value == AuthorizationResult.SUCCESS:
        return AuthorizationResult.SUCCESS
    if value == AuthorizationResult.ACCESS_DENIED:
        return AuthorizationResult.ACCESS_DENIED
    raise RemoteProtocolError(f"authorizationResult: expected 0 or 5, got 0x{value:08X}")

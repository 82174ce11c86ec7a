"""The Early User Authorization Result PDU, four bytes behind the handshake ([MS-RDPBCGR] 2.2.10.2)."""

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
    """The four bytes that say `result`."""
    return result.to_bytes(SIZE, "little")


def decode(data: bytes | bytearray | memoryview) -> AuthorizationResult:
    """What four bytes say.

    Raises:
        RemoteProtocolError: They say nothing that is defined, or are not four.
    """
    if len(data) != SIZE:
        raise RemoteProtocolError(f"authorizationResult: expected {SIZE} bytes, got {len(data)}")
    value = int.from_bytes(data, "little")
    if value == AuthorizationResult.SUCCESS:
        return AuthorizationResult.SUCCESS
    if value == AuthorizationResult.ACCESS_DENIED:
        return AuthorizationResult.ACCESS_DENIED
    raise RemoteProtocolError(f"authorizationResult: expected 0 or 5, got 0x{value:08X}")

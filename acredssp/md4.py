"""MD4 (RFC 1320), for the NT hash alone.

No supported OpenSSL offers MD4 by default. MD4 is broken as a hash; here it only turns a password into the 16 bytes
of its key ([MS-NLMP] 3.3.1).
"""

import struct

__all__ = ["md4"]

_MASK = 0xFFFFFFFF
_INITIAL = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_BLOCK = struct.Struct("<16I")


def md4(data: bytes) -> bytes:
    """The MD4 digest of `data`, 16 bytes."""
    # RFC 1320 section 3.1-3.2: a one bit, zeros up to 56 modulo 64, the length in bits as u64le.
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8 & 0xFFFFFFFFFFFFFFFF)
    state = _INITIAL
    for offset in range(0, len(padded), 64):
        state = _compress(state, _BLOCK.unpack_from(padded, offset))
    return struct.pack("<4I", *state)


def _compress(state: tuple[int, int, int, int], x: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Take one block through the three rounds of RFC 1320 section 3.4. A turn of a loop has four steps, for speed."""
    a, b, c, d = state
    for i in (0, 4, 8, 12):
        a = a + (d ^ (b & (c ^ d))) + x[i] & _MASK
        a = (a << 3 | a >> 29) & _MASK
        d = d + (c ^ (a & (b ^ c))) + x[i + 1] & _MASK
        d = (d << 7 | d >> 25) & _MASK
        c = c + (b ^ (d & (a ^ b))) + x[i + 2] & _MASK
        c = (c << 11 | c >> 21) & _MASK
        b = b + (a ^ (c & (d ^ a))) + x[i + 3] & _MASK
        b = (b << 19 | b >> 13) & _MASK
    for i in (0, 1, 2, 3):
        a = a + ((b & c) | (d & (b | c))) + x[i] + 0x5A827999 & _MASK
        a = (a << 3 | a >> 29) & _MASK
        d = d + ((a & b) | (c & (a | b))) + x[i + 4] + 0x5A827999 & _MASK
        d = (d << 5 | d >> 27) & _MASK
        c = c + ((d & a) | (b & (d | a))) + x[i + 8] + 0x5A827999 & _MASK
        c = (c << 9 | c >> 23) & _MASK
        b = b + ((c & d) | (a & (c | d))) + x[i + 12] + 0x5A827999 & _MASK
        b = (b << 13 | b >> 19) & _MASK
    for i in (0, 2, 1, 3):
        a = a + (b ^ c ^ d) + x[i] + 0x6ED9EBA1 & _MASK
        a = (a << 3 | a >> 29) & _MASK
        d = d + (a ^ b ^ c) + x[i + 8] + 0x6ED9EBA1 & _MASK
        d = (d << 9 | d >> 23) & _MASK
        c = c + (d ^ a ^ b) + x[i + 4] + 0x6ED9EBA1 & _MASK
        c = (c << 11 | c >> 21) & _MASK
        b = b + (c ^ d ^ a) + x[i + 12] + 0x6ED9EBA1 & _MASK
        b = (b << 15 | b >> 17) & _MASK
    return (a + state[0] & _MASK, b + state[1] & _MASK, c + state[2] & _MASK, d + state[3] & _MASK)

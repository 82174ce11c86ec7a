"""Kerberos' per-message tokens from the RFCs alone, an oracle: RFC 4121 (AES) and RFC 4757 (RC4-HMAC)."""

import dataclasses
import hashlib
import hmac
import struct

from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher
from support.rfc3961 import Altered

SENT_BY_ACCEPTOR, SEALED, ACCEPTOR_SUBKEY = 1, 2, 4
ACCEPTOR_SEAL, ACCEPTOR_SIGN, INITIATOR_SEAL, INITIATOR_SIGN = 22, 23, 24, 25
"""Key usages, RFC 4121 section 2."""
HEADER = struct.Struct(">HBBHHQ")
"""TOK_ID, Flags, Filler 0xFF, EC, RRC, SND_SEQ: section 4.2.6.2."""
WRAP, MIC = 0x0504, 0x0404
MIC_HEADER = struct.Struct(">HB5sQ")


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """What a Wrap token holds, and how it lay there."""

    plaintext: bytes
    flags: int
    extra_count: int
    rotation: int
    sequence: int
    confounder: bytes


def unwrap(key, token):
    """Open a sealed Wrap token of either side, whatever its rotation.

    Raises:
        Altered: Another key, or other bytes.
    """
    token_id, flags, filler, extra_count, rotation, sequence = HEADER.unpack_from(token)
    assert (token_id, filler, flags & SEALED) == (WRAP, 0xFF, SEALED)
    usage = ACCEPTOR_SEAL if flags & SENT_BY_ACCEPTOR else INITIATOR_SEAL
    data, confounder = key.decrypt(usage, rotate(token[HEADER.size :], -rotation))
    plaintext, header = data[: -HEADER.size - extra_count], data[-HEADER.size :]
    if header != HEADER.pack(WRAP, flags, 0xFF, extra_count, 0, sequence):
        raise Altered
    return Wrapped(plaintext, flags, extra_count, rotation, sequence, confounder)


def wrap(key, wrapped):
    """Make the token that `unwrap` gives `wrapped` for."""
    usage = ACCEPTOR_SEAL if wrapped.flags & SENT_BY_ACCEPTOR else INITIATOR_SEAL
    fields = WRAP, wrapped.flags, 0xFF, wrapped.extra_count
    data = wrapped.plaintext + bytes(wrapped.extra_count) + HEADER.pack(*fields, 0, wrapped.sequence)
    body = key.encrypt(usage, data, wrapped.confounder)
    return HEADER.pack(*fields, wrapped.rotation, wrapped.sequence) + rotate(body, wrapped.rotation)


def rotate(body, count):
    """Turn right by `count` bytes; left, where it is negative."""
    count %= len(body)
    return body[-count:] + body[:-count] if count else body


def get_mic(key, flags, sequence, message):
    """The MIC token of `message`, section 4.2.6.1."""
    usage = ACCEPTOR_SIGN if flags & SENT_BY_ACCEPTOR else INITIATOR_SIGN
    header = MIC_HEADER.pack(MIC, flags, b"\xff" * 5, sequence)
    return header + key.checksum(usage, message + header)


def mic_fields(token):
    """Flags and sequence number of a MIC token."""
    token_id, flags, filler, sequence = MIC_HEADER.unpack_from(token)
    assert (token_id, filler) == (MIC, b"\xff" * 5)
    return flags, sequence


# RFC 4757 sections 7.2 and 7.3: MD5 in several rounds, RC4 under keys made of it.

RC4_HEADER = bytes.fromhex("06092a864886f712010202 0201 1100 1000 ffff")
"""The mechanism, TOK_ID, SGN_ALG HMAC, SEAL_ALG RC4, Filler."""
RC4_DIRECTIONS = {bytes(4), b"\xff" * 4}
"""Behind a sequence number: from the initiator, from the acceptor."""
RC4_USAGE = (13).to_bytes(4, "little")
"""Of a Wrap token; a MIC token's is 15."""


def rc4_unwrap(key, token):
    """Open a sealed RC4-HMAC Wrap token; gives the plaintext (with its padding), sequence number and confounder."""
    header, sealed_sequence, checksum, body = _rc4_fields(token)
    sequence = _rc4(_hmac(_hmac(key, bytes(4)), checksum), sealed_sequence)
    stream_key = _rc4_stream_key(key, sequence)
    data = _rc4(stream_key, body)
    if _rc4_checksum(key, header, data) != checksum or sequence[4:] not in RC4_DIRECTIONS:
        raise Altered
    return data[8:], sequence, data[:8]


def _rc4_fields(token):
    assert token[:1] == b"\x60"
    start = token.index(RC4_HEADER)
    at = start + len(RC4_HEADER)
    return token[at - 8 : at], token[at : at + 8], token[at + 8 : at + 16], token[at + 16 :]


def _rc4_stream_key(key, sequence):
    local = bytes(byte ^ 0xF0 for byte in key)
    return _hmac(_hmac(local, bytes(4)), sequence[:4])


def _rc4_checksum(key, header, data):
    signing = _hmac(key, b"signaturekey\0")
    return _hmac(signing, _md5(RC4_USAGE + header + data))[:8]


def _hmac(key, data):
    return hmac.digest(key, data, "md5")


def _md5(data):
    return hashlib.md5(data, usedforsecurity=False).digest()


def _rc4(key, data):
    return Cipher(ARC4(key), None).encryptor().update(data)

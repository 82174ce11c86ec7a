"""The outside of Kerberos' GSS-API tokens: their checks, and SSPI's layout (RFC 4121, RFC 4757, [MS-KILE]).

Nothing is decrypted here. A token that the protocol does not allow is refused before the Kerberos library sees it:
MIT's library handled lengths wrongly twice (CVE-2024-37370, CVE-2024-37371).

A context token:

    60 L | object identifier of Kerberos | 01 00 AP-REQ, 02 00 AP-REP, 03 00 KRB-ERROR | the message in DER

A sealed Wrap token of RFC 4121 4.2.6.2, as `gss_wrap` makes it, and rotated right by RRC:

    05 04 | flags | FF | EC | RRC | SND_SEQ | confounder, plaintext, EC bytes of filler, copy of the header, checksum
    05 04 | flags | FF | EC | RRC | SND_SEQ | copy of the header, checksum, confounder, plaintext

SSPI's EncryptMessage makes the second layout, with everything in front of the plaintext, as [MS-CSSP] 2.2.1 demands.
FreeRDP 3.10 takes no other. A conforming receiver takes both, since RRC tells them apart.
"""

import enum
from typing import Final

from acredssp.errors import LimitExceeded, RemoteProtocolError
from acredssp.status import SecurityStatus
from acredssp.wire import der
from acredssp.wire.spnego import KERBEROS, KERBEROS_MICROSOFT

__all__ = ["MAX_CONTEXT_TOKEN", "ContextToken", "check_context_token", "check_mic", "is_rc4", "rotate", "unrotated"]

MAX_CONTEXT_TOKEN: Final = 65_535
"""Bytes of the longest AP-REQ that is taken: the largest MaxTokenSize of Windows."""

_GSS_HEADER: Final = 0x60
_WRAP: Final = b"\x05\x04"
_MIC: Final = b"\x04\x04"
_RC4_WRAP: Final = b"\x02\x01\x11\x00\x10\x00\xff\xff"
"""TOK_ID, SGN_ALG HMAC, SEAL_ALG RC4, filler (RFC 4757 7.3). A token that is only signed has SEAL_ALG FF FF."""
_RC4_MIC: Final = b"\x01\x01\x11\x00\xff\xff\xff\xff"
_RC4_MIC_SIZE: Final = 24
_RC4_OVERHEAD: Final = 32
"""The identifiers, sequence number, checksum and confounder, 8 bytes each."""

_HEADER: Final = 16
_CONFOUNDER: Final = 16
_LEAST_CHECKSUM: Final = 12
"""aes-cts-hmac-sha1-96; aes128-cts-hmac-sha256-128 has 16, aes256-cts-hmac-sha384-192 has 24."""
_MOST_CHECKSUM: Final = 24
_FROM_ACCEPTOR: Final = 0x01
_SEALED: Final = 0x02
_KNOWN_FLAGS: Final = 0x07
_FILLERS: Final = (0, 16)
"""Values of EC: no filler, or SSPI's, which may fill a token to a block of AES ([MS-KILE] 3.4.5.4.1)."""


class ContextToken(enum.Enum):
    """What a context token holds, by its TOK_ID (RFC 4121 4.1), with the message's tag (RFC 4120 5.5)."""

    AP_REQ = (b"\x01\x00", 0x6E)
    AP_REP = (b"\x02\x00", 0x6F)
    KRB_ERROR = (b"\x03\x00", 0x7E)


def check_context_token(token: bytes, *kinds: ContextToken) -> None:
    """Check that a context token is whole and of one of the expected kinds.

    Raises:
        RemoteProtocolError: The token is not whole, or of another kind.
        LimitExceeded: The token is longer than `MAX_CONTEXT_TOKEN`.
    """
    if len(token) > MAX_CONTEXT_TOKEN:
        raise LimitExceeded(f"kerberos: expected a token of at most {MAX_CONTEXT_TOKEN} bytes, got {len(token)}")
    offset, end = _mechanism_token(token)
    for kind in kinds:
        identifier, tag = kind.value
        if token.startswith(identifier, offset):
            der.only(token, offset + len(identifier), end, tag, f"kerberos {kind.name}")
            return
    wanted = " or ".join(kind.name for kind in kinds)
    raise RemoteProtocolError(f"kerberos: expected an {wanted}, got a token 0x{token[offset : offset + 2].hex()}")


def is_rc4(token: bytes) -> bool:
    """Whether a Wrap or MIC token has the older form, which only RC4 keys use (and DES keys, which nobody has)."""
    return token[:1] == bytes((_GSS_HEADER,))


def rotate(token: bytes, plaintext_size: int) -> bytes:
    """Put a Wrap token that `gss_wrap` sealed into SSPI's layout. A token of RC4 has that layout already.

    RRC becomes the size of the header's copy and the checksum: 28 bytes with HMAC-SHA1, 32 or 40 with SHA-2.

    Args:
        token: A sealed token with EC 0. A token that is rotated already (Windows' is) is returned as it is.
        plaintext_size: Bytes of plaintext in the token, from which the size of the checksum follows.
    """
    if not token.startswith(_WRAP) or token[6:8] != b"\0\0":
        return token
    count = len(token) - _HEADER - _CONFOUNDER - plaintext_size
    assert token[4:6] == b"\0\0"
    assert _HEADER + _LEAST_CHECKSUM <= count <= _HEADER + _MOST_CHECKSUM
    split = len(token) - count
    return token[:6] + count.to_bytes(2, "big") + token[8:_HEADER] + token[split:] + token[_HEADER:split]


def unrotated(token: bytes, *, from_acceptor: bool) -> tuple[bytes, ...]:
    """Check that a sealed Wrap token of the peer is whole and made for this direction, and undo its rotation.

    Returns:
        One or two copies without rotation, the likelier one first. There is a second one where the first may not open:
        SSPI announces RRC, but rotates by RRC and EC together ([MS-KILE] 3.4.5.4.1). They are copies because MIT's
        `gss_unwrap` rotates a token in place.

    Raises:
        RemoteProtocolError: The token is not whole, not sealed, or made for the other direction.
    """
    if is_rc4(token):
        offset, end = _mechanism_token(token)
        _expect_start(token, offset, _RC4_WRAP)
        if end - offset <= _RC4_OVERHEAD:
            raise _too_short(len(token))
        return (bytes(memoryview(token)),)
    _expect_start(token, 0, _WRAP)
    _check_header(token, _SEALED, from_acceptor=from_acceptor)
    filler, rotation = int.from_bytes(token[4:6], "big"), int.from_bytes(token[6:8], "big")
    if filler not in _FILLERS:
        raise RemoteProtocolError(f"kerberos: expected no filler in a sealed token, or 16 bytes, got {filler}")
    if len(token) < _HEADER + _CONFOUNDER + filler + _HEADER + _LEAST_CHECKSUM:
        raise _too_short(len(token))
    turns = (rotation, rotation + filler) if filler else (rotation,)
    return tuple(_turned_back(token, count) for count in turns)


def _turned_back(token: bytes, count: int) -> bytes:
    body = token[_HEADER:]
    count %= len(body)
    return token[:6] + b"\0\0" + token[8:_HEADER] + body[count:] + body[:count]


def check_mic(mic: bytes, *, from_acceptor: bool) -> None:
    """Check that a MIC token of the peer is whole and made for this direction (RFC 4121 4.2.6.1, RFC 4757 7.2).

    Raises:
        RemoteProtocolError: The token is not whole, or made for the other direction.
    """
    if is_rc4(mic):
        offset, end = _mechanism_token(mic)
        _expect_start(mic, offset, _RC4_MIC)
        if end - offset != _RC4_MIC_SIZE:
            raise _too_short(len(mic))
        return
    _expect_start(mic, 0, _MIC)
    if not _HEADER + _LEAST_CHECKSUM <= len(mic) <= _HEADER + _MOST_CHECKSUM:
        raise RemoteProtocolError(f"kerberos: expected a mic of 28 to 40 bytes, got {len(mic)}")
    _check_header(mic, 0, from_acceptor=from_acceptor)
    if mic[3:8] != b"\xff" * 5:
        raise RemoteProtocolError("kerberos: expected filler in a mic")


def _mechanism_token(token: bytes) -> tuple[int, int]:
    """The bounds of the content behind the GSS header and Kerberos' object identifier (RFC 2743 3.1)."""
    offset, end = der.only(token, 0, len(token), _GSS_HEADER, "kerberos")
    if not token.startswith((KERBEROS, KERBEROS_MICROSOFT), offset):
        raise RemoteProtocolError("kerberos: expected the object identifier of kerberos")
    return offset + len(KERBEROS), end


def _check_header(token: bytes, sealed: int, *, from_acceptor: bool) -> None:
    if len(token) < _HEADER:
        raise _too_short(len(token))
    flags = token[2]
    if flags & ~_KNOWN_FLAGS or token[3] != 0xFF or flags & _SEALED != sealed:
        raise RemoteProtocolError(
            f"kerberos: expected a {'sealed' if sealed else 'signed'} token, got flags 0x{flags:02X}{token[3]:02X}"
        )
    if bool(flags & _FROM_ACCEPTOR) is not from_acceptor:
        raise RemoteProtocolError(
            "kerberos: a token of our own came back", security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED
        )


def _expect_start(token: bytes, offset: int, start: bytes) -> None:
    if not token.startswith(start, offset):
        got = token[offset : offset + len(start)].hex()
        raise RemoteProtocolError(f"kerberos: expected a token 0x{start.hex()}, got 0x{got}")


def _too_short(size: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"kerberos: expected a sealed or signed token, got {size} bytes")

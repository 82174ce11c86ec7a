"""Framing of TLS records (RFC 8446 5.1, RFC 5246 6.2.1): where a record ends, not what it contains.

`TLSPlaintext`: type (1) | legacy_record_version (2, major always 3) | length (2, big-endian) | fragment.
"""

import struct
from collections.abc import Callable
from typing import Final, NoReturn

from acredssp.errors import RemoteProtocolError
from acredssp.wire import first_bytes

__all__ = [
    "ALERT",
    "APPLICATION_DATA",
    "CHANGE_CIPHER_SPEC",
    "HANDSHAKE",
    "HEADER_SIZE",
    "MAX_FRAGMENT",
    "MAX_FRAGMENT_TLS13",
    "SMALLEST_FRAGMENT",
    "alert_in_clear",
    "record_end",
    "whole_records",
]

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

HEADER_SIZE: Final = 5
_MAJOR: Final = 3
_BEGINNINGS: Final = frozenset(
    content_type << 8 | _MAJOR for content_type in range(CHANGE_CIPHER_SPEC, APPLICATION_DATA + 1)
)
"""The values that the first two bytes of a record may have, as one number."""
_read_header: Final[Callable[[bytes | bytearray | memoryview, int], tuple[int, int]]] = struct.Struct(
    ">HxH"
).unpack_from
"""Returns type and major version as one number, and the length. One call in C takes the place of five indices."""
_ALERT_SIZE: Final = 2
MAX_FRAGMENT: Final = 16_384 + 2_048
"""Bytes of a TLSCiphertext fragment up to TLS 1.2 (RFC 5246 6.2.3)."""
MAX_FRAGMENT_TLS13: Final = 16_384 + 256
"""Bytes of a TLSCiphertext fragment in TLS 1.3 (RFC 8446 5.2)."""
SMALLEST_FRAGMENT: Final = 512
"""Bytes of the smallest limit that can bind a peer's fragments (max_fragment_length, RFC 6066 4). A peer that sends
much has no reason to send smaller fragments."""


def record_end(data: bytes | bytearray | memoryview, offset: int = 0, max_fragment: int = MAX_FRAGMENT) -> int:
    """Where the record that begins at `offset` ends, as far as `data` tells.

    The end lies past `len(data)` where the record is not whole: by the bytes that the header lacks while it is
    incomplete, and by the bytes that the record lacks after that. Once that many more bytes are there, ask again.

    Args:
        data: Ciphertext, cut anywhere.
        offset: Where the record begins, at most `len(data)`.
        max_fragment: The longest fragment allowed: `MAX_FRAGMENT_TLS13` once TLS 1.3 is negotiated.

    Raises:
        RemoteProtocolError: These bytes begin no record; raised as soon as the offending byte is there.
    """
    if len(data) - offset < HEADER_SIZE:
        _check_partial(data, offset, max_fragment)
        return offset + HEADER_SIZE
    beginning, length = _read_header(data, offset)
    if length > max_fragment or beginning not in _BEGINNINGS:
        _refuse(data, offset, length, max_fragment)
    return offset + HEADER_SIZE + length


def whole_records(
    data: bytes | bytearray | memoryview, offset: int = 0, max_fragment: int = MAX_FRAGMENT, most: int = MAX_FRAGMENT
) -> tuple[int, int]:
    """Where the whole records that begin at `offset` end, and their number; `offset` and 0 where none is whole.

    The count ends before the records exceed `max_fragment` bytes together, and before bytes that begin no record:
    `record_end` refuses those when their turn comes.

    Args:
        data: Ciphertext, cut anywhere.
        offset: Where the first record begins, at most `len(data)`.
        max_fragment: The longest fragment allowed, and the most bytes that all records together may have.
        most: The most records to count. The default is more than fit.
    """
    last = min(len(data), offset + HEADER_SIZE + max_fragment)
    for count in range(most):
        body = offset + HEADER_SIZE
        if body > last:
            return offset, count
        beginning, length = _read_header(data, offset)
        if body + length > last or beginning not in _BEGINNINGS:
            return offset, count
        offset = body + length
    return offset, most


def alert_in_clear(records: bytes) -> bytes:
    """The alert in clear at the end of `records`, as level and description (RFC 8446 6); empty where there is none.

    Args:
        records: Whole records that this side made.
    """
    content_type, fragment, offset = 0, b"", 0
    while offset < len(records):
        end = record_end(records, offset)
        content_type, fragment = records[offset], records[offset + HEADER_SIZE : end]
        offset = end
    return fragment if content_type == ALERT and len(fragment) == _ALERT_SIZE else b""


def _check_partial(data: bytes | bytearray | memoryview, offset: int, max_fragment: int) -> None:
    """Refuse a header that is wrong in its first 0 to 4 bytes already."""
    have = len(data) - offset
    wrong_type = have >= 1 and not CHANGE_CIPHER_SPEC <= data[offset] <= APPLICATION_DATA
    wrong_version = have >= 2 and data[offset + 1] != _MAJOR
    # The first length byte alone tells the least that the length can be.
    least_length = data[offset + 3] << 8 if have == 4 else 0
    if wrong_type or wrong_version or least_length > max_fragment:
        _refuse(data, offset, least_length, max_fragment)


def _refuse(data: bytes | bytearray | memoryview, offset: int, length: int, max_fragment: int) -> NoReturn:
    content_type = data[offset]
    if not CHANGE_CIPHER_SPEC <= content_type <= APPLICATION_DATA:
        otherwise = f"expected a TLS record of type 20 to 23, got type {content_type}"
        raise first_bytes.refusal(data, offset, "a TLS record", otherwise)
    major = data[offset + 1]
    if major != _MAJOR:
        raise RemoteProtocolError(f"expected a TLS record of major version 3, got {major}")
    raise RemoteProtocolError(f"expected a TLS record of at most {max_fragment} bytes, got {length} or more")

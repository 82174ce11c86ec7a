"""DER by hand: the few forms that CredSSP, SPNEGO and the front of a certificate need (X.690 8.1, 10.1).

Written for the path every handshake takes several times: offsets into one buffer, no object for each element.
The reader takes definite lengths even when they are not minimal, since rdesktop sends `30 82 00 9E`; it
refuses indefinite lengths, lengths of more than four bytes, and whatever does not fill its container to the
last byte. The writer makes DER and nothing else.

The reading functions take `data` with `offset` and `end`, the bounds of the container. They answer with the
content, or with its bounds `(start, stop)`; the next element begins at `stop`. `field` names the element in
error texts.
"""

import functools
from collections.abc import Sequence
from typing import Final, NoReturn, TypeAlias

from acredssp.errors import LimitExceeded, RemoteProtocolError
from acredssp.wire.framing import FrameSize

__all__ = [
    "BIT_STRING",
    "CONTEXT",
    "ENUMERATED",
    "INTEGER",
    "LAST_CONTEXT",
    "OBJECT_IDENTIFIER",
    "OCTETS",
    "OCTET_STRING",
    "SEQUENCE",
    "Field",
    "Nesting",
    "content_of",
    "element",
    "encode",
    "encode_integer",
    "encode_octets",
    "expect_end",
    "explicit",
    "fields",
    "frame_size",
    "integer",
    "integer_of",
    "octets",
    "octets_of",
    "only",
]

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30
CONTEXT: Final = 0xA0
"""Context-specific, constructed: `CONTEXT + n` is the explicit tag [n]."""
LAST_CONTEXT: Final = CONTEXT + 30
"""[31] and above take several bytes (X.690 8.1.2.4), and are in no message that is read here."""

_MAX_LENGTH_BYTES: Final = 4
_SIZES: Final = 1024
"""Sizes whose headers are kept, a hundred bytes for each: those of an application's tokens are always the same few."""


def frame_size(data: bytes | bytearray | memoryview, limit: int, offset: int = 0) -> FrameSize:
    """The size of the SEQUENCE that begins at `offset`.

    Args:
        data: Plaintext, cut anywhere.
        limit: The largest total that is accepted, in bytes.
        offset: Where the SEQUENCE begins, at most `len(data)`.

    Raises:
        LimitExceeded: The header announces more than `limit` bytes; raised before the body is there.
        RemoteProtocolError: No SEQUENCE of definite length begins so.
    """
    have = len(data) - offset
    if have < 2:
        if have and data[offset] != SEQUENCE:
            _refuse_tag("message", SEQUENCE, data[offset], offset)
        return FrameSize(0, 2 - have)
    if data[offset] != SEQUENCE:
        _refuse_tag("message", SEQUENCE, data[offset], offset)
    header, length = 2, data[offset + 1]
    if length > 0x7F:
        header += _length_bytes(length, "message", offset + 1)
        if have < header:
            return FrameSize(0, header - have)
        length = int.from_bytes(data[offset + 2 : offset + header], "big")
    total = header + length
    if total > limit:
        raise LimitExceeded(f"message: expected at most {limit} bytes, got a length of {total}")
    return FrameSize(total, total - have if total > have else 0)


def element(data: bytes, offset: int, end: int, tag: int, field: str) -> tuple[int, int]:
    """The bounds of the content of the element of `tag` at `offset`.

    Raises:
        RemoteProtocolError: Another tag, nothing there, or a length that is not definite or reaches past
            `end`.
    """
    start = offset + 2
    if start > end:
        _refuse_end(field, offset, end)
    if data[offset] != tag:
        _refuse_tag(field, tag, data[offset], offset)
    length = data[offset + 1]
    if length == 0x82 and start + 2 <= end:
        length = data[start] << 8 | data[start + 1]
        start += 2
    elif length > 0x7F:
        body = start + _length_bytes(length, field, offset + 1)
        if body > end:
            _refuse_end(field, offset, end)
        length = int.from_bytes(data[start:body], "big")
        start = body
    stop = start + length
    if stop > end:
        raise RemoteProtocolError(
            f"{field}: length {length} at byte {offset} reaches past the end of its container at byte {end}"
        )
    return start, stop


def only(data: bytes, offset: int, end: int, tag: int, field: str) -> tuple[int, int]:
    """The bounds of the content of the element of `tag` that fills its container.

    Raises:
        RemoteProtocolError: As `element`, or something is left behind it.
    """
    start, stop = element(data, offset, end, tag, field)
    if stop != end:
        _refuse_surplus(field, stop, end)
    return start, stop


Field: TypeAlias = tuple[int, int, int, int]
"""The element inside an explicit tag: its tag, where it begins, and the bounds of its content."""


def fields(data: bytes, offset: int, end: int, names: Sequence[str], message: str) -> dict[int, Field]:
    """What is inside every explicit tag of a SEQUENCE's content, by tag number.

    Numbers must ascend. Those above the last name are passed over: their length is all that must be understood.

    Args:
        data: See the module's text.
        offset: Where the first tag is.
        end: Where the SEQUENCE ends.
        names: What the tags are called in an error, by number.
        message: What the SEQUENCE is called.

    Raises:
        RemoteProtocolError: As `explicit`, or a tag that is none, or none that may come next.
    """
    found: dict[int, Field] = {}
    previous = -1
    while offset < end:
        number = data[offset] - CONTEXT
        if not previous < number <= LAST_CONTEXT - CONTEXT:
            _refuse_order(message, number, offset, names)
        previous = number
        start = offset + 4
        length = data[offset + 1] if start <= end else 0x80
        if length <= 0x7F and data[offset + 3] == length - 2 and start + length - 2 <= end:
            # Both lengths short and right: nearly every field but the mechanism's longest token.
            end_of_field = start + length - 2
            found[number] = data[offset + 2], offset + 2, start, end_of_field
            offset = end_of_field
        elif number < len(names):
            found[number] = field = _field(data, offset, end, number, names[number])
            offset = field[3]
        else:
            _, offset = element(data, offset, end, CONTEXT + number, message)
    return found


def _field(data: bytes, offset: int, end: int, number: int, name: str) -> Field:
    start, stop = element(data, offset, end, CONTEXT + number, name)
    if start == stop:
        _refuse_end(name, start, stop)
    return data[start], start, *only(data, start, stop, data[start], name)


def content_of(field: Field, tag: int, name: str) -> tuple[int, int]:
    """The bounds of the content of a field's element of `tag`.

    Raises:
        RemoteProtocolError: It has another tag.
    """
    if field[0] != tag:
        _refuse_tag(name, tag, field[0], field[1])
    return field[2], field[3]


def octets_of(data: bytes, field: Field, name: str) -> bytes:
    """The OCTET STRING of a field; raises as `content_of`."""
    if field[0] != OCTET_STRING:
        _refuse_tag(name, OCTET_STRING, field[0], field[1])
    return data[field[2] : field[3]]


def integer_of(data: bytes, field: Field, name: str) -> int:
    """The INTEGER of a field; raises as `content_of` and `integer`."""
    if field[0] == INTEGER and field[3] - field[2] == 1 and data[field[2]] <= 0x7F:
        return data[field[2]]  # every version there is
    return _signed(data, *content_of(field, INTEGER, name), name)


def explicit(  # noqa: PLR0913, PLR0917 - an object that holds bounds, tag and name is what this module avoids
    data: bytes, offset: int, end: int, number: int, tag: int, field: str
) -> tuple[int, int]:
    """The bounds of the content of the element of `tag` inside the explicit tag [number] at `offset`.

    It fills the explicit tag, so what comes next begins at the same `stop`.

    Raises:
        RemoteProtocolError: As `element`, or the explicit tag holds more than the one element.
    """
    stop = offset + 2
    if stop + 2 <= end and data[offset] == CONTEXT + number and data[stop] == tag:
        # Both lengths short and right: nearly every field but the mechanism's longest token.
        length = data[offset + 1]
        if length <= 0x7F and data[stop + 1] == length - 2 and stop + length <= end:
            return stop + 2, stop + length
    start, stop = element(data, offset, end, CONTEXT + number, field)
    return only(data, start, stop, tag, field)


def octets(data: bytes, offset: int, end: int, number: int, field: str) -> tuple[bytes, int]:
    """The OCTET STRING inside the explicit tag [number] at `offset`, and where it ends.

    Raises:
        RemoteProtocolError: As `explicit`.
    """
    start, stop = explicit(data, offset, end, number, OCTET_STRING, field)
    return data[start:stop], stop


def integer(data: bytes, offset: int, end: int, number: int, field: str) -> tuple[int, int]:
    """The INTEGER inside the explicit tag [number] at `offset`, and where it ends.

    Every INTEGER of CredSSP is a 32-bit number, signed or not: five bytes of content are the most.

    Raises:
        RemoteProtocolError: As `explicit`, or the content is empty or longer than 5 bytes.
    """
    start, stop = explicit(data, offset, end, number, INTEGER, field)
    return _signed(data, start, stop, field), stop


def _signed(data: bytes, start: int, stop: int, field: str) -> int:
    if not 1 <= stop - start <= 5:
        raise RemoteProtocolError(f"{field}: expected an INTEGER of 1 to 5 bytes at byte {start}, got {stop - start}")
    return int.from_bytes(data[start:stop], "big", signed=True)


def expect_end(offset: int, end: int, field: str) -> None:
    """Refuse what is left of a container after its last element.

    Raises:
        RemoteProtocolError: `offset` is not `end`.
    """
    if offset != end:
        _refuse_surplus(field, offset, end)


def _length_bytes(first: int, field: str, offset: int) -> int:
    """How many bytes hold a long length, by its first byte 0x80 to 0xFF."""
    count = first & 0x7F
    if not 1 <= count <= _MAX_LENGTH_BYTES:
        what = "an indefinite length" if count == 0 else f"a length of {count} bytes"
        raise RemoteProtocolError(
            f"{field}: expected a definite length of at most 4 bytes at byte {offset}, got {what}"
        )
    return count


def _refuse_order(message: str, number: int, offset: int, names: Sequence[str]) -> NoReturn:
    got = names[number] if 0 <= number < len(names) else f"tag 0x{CONTEXT + number:02X}"
    raise RemoteProtocolError(
        f"{message}: expected the fields once each and in ascending order, got {got} at byte {offset}"
    )


def _refuse_tag(field: str, expected: int, got: int, offset: int) -> NoReturn:
    raise RemoteProtocolError(f"{field}: expected tag 0x{expected:02X} at byte {offset}, got 0x{got:02X}")


def _refuse_end(field: str, offset: int, end: int) -> NoReturn:
    raise RemoteProtocolError(f"{field}: expected an element at byte {offset}, got {end - offset} bytes")


def _refuse_surplus(field: str, offset: int, end: int) -> NoReturn:
    raise RemoteProtocolError(f"{field}: expected the end at byte {offset}, got {end - offset} bytes more")


def encode(tag: int, content: bytes | bytearray) -> bytes:
    """One element, with its length in the fewest bytes (X.690 10.1)."""
    return _header(tag, len(content)) + content


def _header(tag: int, length: int) -> bytes:
    if length < 0x80:
        return bytes((tag, length))
    length_bytes = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length_bytes))) + length_bytes


def encode_octets(number: int, content: bytes | bytearray) -> bytes:
    """An OCTET STRING inside the explicit tag [number], up to [7]."""
    return OCTETS[number].encode(content)


def encode_integer(number: int, value: int) -> bytes:
    """An INTEGER inside the explicit tag [number], in the fewest bytes (X.690 8.3.2)."""
    if 0 <= value <= 0x7F:
        return bytes((CONTEXT + number, 3, INTEGER, 1, value))
    content = value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True)
    return encode(CONTEXT + number, encode(INTEGER, content))


class Nesting:
    """Elements within one another, the outermost tag first; each holds the next one, the last one the content.

    In DER their headers follow from the size of the content alone. So they are made once for a size, and compared in
    one go where they are read; only what is written otherwise is read element by element.
    """

    __slots__ = ("_headers_around", "_headers_within", "_tags")

    def __init__(self, *tags: int) -> None:
        self._tags = tags
        self._headers_around = functools.lru_cache(_SIZES)(self._headers)
        self._headers_within = functools.lru_cache(_SIZES)(self._headers_of)

    def encode(self, content: bytes | bytearray) -> bytes:
        """The elements with this content."""
        return self._headers_around(len(content)) + content

    def start(self, data: bytes, offset: int, end: int) -> int:
        """Where the content begins if all that is from `offset` to `end` is the elements in DER; else 0."""
        headers = self._headers_within(end - offset)
        return offset + len(headers) if headers and data.startswith(headers, offset, end) else 0

    def bounds(self, data: bytes, offset: int, end: int, field: str) -> tuple[int, int]:
        """The bounds of the content; each element has to fill its container, the first one `offset` to `end`.

        Raises:
            RemoteProtocolError: As `only`, for any of them.
        """
        if start := self.start(data, offset, end):
            return start, end
        for tag in self._tags:
            offset, end = only(data, offset, end, tag, field)
        return offset, end

    def _headers(self, size: int) -> bytes:
        headers = b""
        for tag in reversed(self._tags):
            headers = _header(tag, size + len(headers)) + headers
        return headers

    def _headers_of(self, total: int) -> bytes:
        """The headers that make `total` bytes with their content; empty where no content does."""
        # No content within has longer headers than one of `total` bytes: nearly always they are the same.
        for size in range(max(total - len(self._headers(total)), 0), total):
            headers = self._headers(size)
            if len(headers) + size >= total:
                return headers if len(headers) + size == total else b""
        return b""


OCTETS: Final = tuple(Nesting(CONTEXT + number, OCTET_STRING) for number in range(8))
"""An OCTET STRING inside an explicit tag, by its number."""

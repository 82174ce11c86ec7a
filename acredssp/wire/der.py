"""DER by hand: the few forms that CredSSP, SPNEGO and the front of a certificate need (X.690 8.1, 10.1).

Every handshake runs this code several times, so the functions work with offsets into one buffer and make no object
for an element. The reader takes definite lengths that are not minimal, since rdesktop sends `30 82 00 9E`. It
refuses indefinite lengths, lengths of more than four bytes, and content that does not fill its container to the
last byte. The writer makes DER and nothing else.

The reading functions take `data` with `offset` and `end`, the bounds of the container. They return the content, or
its bounds `(start, stop)`; the next element begins at `stop`. `field` names the element in error texts.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

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
    "Nesting",
    "element",
    "encode",
    "encode_integer",
    "encode_octets",
    "expect_end",
    "explicit",
    "frame_size",
    "integer",
    "only",
    "pass_over",
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
"""The highest tag of one byte. [31] and above take several bytes (X.690 8.1.2.4); no message read here has them."""

_MAX_LENGTH_BYTES: Final = 4
_TWO_BYTES: Final = 0x82
"""The first byte of a length in two further bytes, as nearly every length above 127 is."""
_SIZES: Final = 256
"""How many sizes a `Nesting` keeps headers for, up to 400 bytes each: an application's tokens have few sizes."""
_OUTERMOST: Final = 4
"""How many first bytes tell the size of the outermost element in DER, if that is below 64 KiB."""
_NOWHERE: Final = 1 << 62
"""More bytes than any buffer has."""


def frame_size(data: bytes | bytearray | memoryview, limit: int, offset: int = 0) -> FrameSize:
    """The size of the SEQUENCE that begins at `offset`.

    Args:
        data: Plaintext, cut anywhere.
        limit: The largest total that is accepted, in bytes.
        offset: Where the SEQUENCE begins, at most `len(data)`.

    Raises:
        LimitExceeded: The header announces more than `limit` bytes; raised before the body arrives.
        RemoteProtocolError: The bytes do not begin a SEQUENCE of definite length.
    """
    have = len(data) - offset
    if have < 2:
        if have and data[offset] != SEQUENCE:
            _refuse_tag("message", SEQUENCE, data[offset], offset)
        return FrameSize(0, 2 - have)
    if data[offset] != SEQUENCE:
        _refuse_tag("message", SEQUENCE, data[offset], offset)
    length = data[offset + 1]
    if length <= 0x7F:
        total = 2 + length
    elif length == _TWO_BYTES and have >= 4:
        total = 4 + (data[offset + 2] << 8 | data[offset + 3])
    else:
        header = 2 + _length_bytes(length, "message", offset + 1)
        if have < header:
            return FrameSize(0, header - have)
        total = header + int.from_bytes(data[offset + 2 : offset + header], "big")
    if total > limit:
        raise LimitExceeded(f"message: expected at most {limit} bytes, got a length of {total}")
    # The constructor of a NamedTuple is a Python function, which takes twice the instructions.
    return tuple.__new__(FrameSize, (total, total - have if total > have else 0))


def element(data: bytes, offset: int, end: int, tag: int, field: str) -> tuple[int, int]:
    """The bounds of the content of the element of `tag` at `offset`.

    Raises:
        RemoteProtocolError: The tag is another one, no element is left, or the length is indefinite or reaches past
            `end`.
    """
    start = offset + 2
    if start > end:
        _refuse_end(field, offset, end)
    if data[offset] != tag:
        _refuse_tag(field, tag, data[offset], offset)
    length = data[offset + 1]
    if length == _TWO_BYTES and start + 2 <= end:
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
        RemoteProtocolError: `element` refuses it, or bytes follow the element in its container.
    """
    start, stop = element(data, offset, end, tag, field)
    if stop != end:
        _refuse_surplus(field, stop, end)
    return start, stop


def pass_over(data: bytes, offset: int, end: int, names: Sequence[str], message: str, least: int = 0) -> None:  # noqa: PLR0913, PLR0917 - as `explicit`
    """Skip the fields of newer versions, which are all that may follow the known fields of a SEQUENCE.

    Only the tags and lengths of these fields are read. A known field is out of order here, and refused.

    Args:
        data: The buffer, as the module's text describes it.
        offset: The end of the last field that was read.
        end: Where the SEQUENCE ends.
        names: The names of the known fields, by number.
        message: The name of the SEQUENCE.
        least: The lowest tag number that may come; 0 for the first number without a name.

    Raises:
        RemoteProtocolError: `element` refuses a field, or a tag is not explicit or out of order.
    """
    previous = (least or len(names)) - 1
    while offset < end:
        number = data[offset] - CONTEXT
        if not previous < number <= LAST_CONTEXT - CONTEXT:
            _refuse_order(message, number, offset, names)
        previous = number
        _, offset = element(data, offset, end, CONTEXT + number, message)


def explicit(  # noqa: PLR0913, PLR0917 - an object that holds bounds, tag and name is what this module avoids
    data: bytes, offset: int, end: int, number: int, tag: int, field: str
) -> tuple[int, int]:
    """The bounds of the content of the element of `tag` inside the explicit tag [number] at `offset`.

    The element fills the explicit tag, so the next field begins at the same `stop`.

    Raises:
        RemoteProtocolError: `element` refuses it, or the explicit tag holds more than the one element.
    """
    start, stop = element(data, offset, end, CONTEXT + number, field)
    return only(data, start, stop, tag, field)


def integer(data: bytes, offset: int, end: int, number: int, field: str) -> tuple[int, int]:
    """The INTEGER inside the explicit tag [number] at `offset`, and where it ends.

    Every INTEGER of CredSSP is a 32-bit number, signed or unsigned, so its content has at most five bytes.

    Raises:
        RemoteProtocolError: `explicit` refuses it, or the content is empty or longer than 5 bytes.
    """
    start, stop = _INTEGERS[number].bounds(data, offset, end, field)
    size = stop - start
    if size == 1 and data[start] <= 0x7F:
        return data[start], stop
    if not 1 <= size <= 5:
        raise RemoteProtocolError(f"{field}: expected an INTEGER of 1 to 5 bytes at byte {start}, got {size}")
    return int.from_bytes(data[start:stop], "big", signed=True), stop


def expect_end(offset: int, end: int, field: str) -> None:
    """Refuse bytes that follow the last element of a container.

    Raises:
        RemoteProtocolError: `offset` is not `end`.
    """
    if offset != end:
        _refuse_surplus(field, offset, end)


def _length_bytes(first: int, field: str, offset: int) -> int:
    """How many bytes of a long length follow its first byte, which is 0x80 to 0xFF."""
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
    return OCTETS[number].headers(len(content)) + content


def encode_integer(number: int, value: int) -> bytes:
    """An INTEGER inside the explicit tag [number], in the fewest bytes (X.690 8.3.2)."""
    if 0 <= value <= 0x7F:
        return bytes((CONTEXT + number, 3, INTEGER, 1, value))
    content = value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True)
    return encode(CONTEXT + number, encode(INTEGER, content))


class Nesting:
    """Nested elements, the outermost first. Each ends with the next one; the innermost holds the content.

    In DER the size of the content alone decides all headers. So the headers for a size are made once, and a reader
    compares them in one go. Only headers that are not in DER are read one by one.

    Args:
        outermost: The tag of the outermost element.
        parts: For each inner element its tag; or fixed bytes that stand in front of the next element.
    """

    __slots__ = ("_known", "_outermost", "_parts", "headers")

    def __init__(self, outermost: int, *parts: int | bytes) -> None:
        self._outermost = outermost
        self._parts = parts
        self.headers: Callable[[int], bytes] = functools.lru_cache(_SIZES)(self._headers)
        """Return all bytes in front of a content of the given size."""
        self._known: dict[bytes, tuple[bytes, int, int]] = {}
        """The results of `_learn`, by the first bytes of the outermost element."""

    def encode(self, content: bytes | bytearray) -> bytes:
        """The elements with this content."""
        return self.headers(len(content)) + content

    def bounds(self, data: bytes, offset: int, end: int, field: str) -> tuple[int, int]:
        """The bounds of the content. The bytes behind the elements begin at the same `stop`.

        Raises:
            RemoteProtocolError: `element` refuses the outermost element, `only` refuses an inner one, or the fixed
                bytes are others.
        """
        first = data[offset : offset + _OUTERMOST]
        headers, size, total = self._known.get(first) or self._learn(first)
        stop = offset + total
        if stop <= end and (size <= _OUTERMOST or data[offset : offset + size] == headers):
            return offset + size, stop
        return self._one_by_one(data, offset, end, field)

    def begin(self, data: bytes) -> int:
        """Where the content begins if `data`, up to 64 KiB, is these elements in DER and nothing else; otherwise 0."""
        first = data[:_OUTERMOST]
        headers, size, total = self._known.get(first) or self._learn(first)
        return size if total == len(data) and data.startswith(headers) else 0

    def _one_by_one(self, data: bytes, offset: int, end: int, field: str) -> tuple[int, int]:
        """The bounds of the content where the headers are not in DER, or wrong."""
        start, stop = element(data, offset, end, self._outermost, field)
        for part in self._parts:
            if isinstance(part, int):
                start, stop = only(data, start, stop, part, field)
            elif data.startswith(part, start, stop):
                start += len(part)
            else:
                raise RemoteProtocolError(f"{field}: expected 0x{part.hex()} at byte {start}")
        return start, stop

    def _headers(self, size: int) -> bytes:
        headers = b""
        for part in reversed((self._outermost, *self._parts)):
            headers = (part if isinstance(part, bytes) else _header(part, size + len(headers))) + headers
        return headers

    def _learn(self, first: bytes) -> tuple[bytes, int, int]:
        """The headers that begin with these first bytes, the size of the headers, and the size with the content.

        First bytes that do not begin these elements in DER get a size that no buffer has.
        """
        total = _total(first)
        headers = self._headers_of(total)
        size = len(headers)
        found = (headers, size, total) if headers and first[:size] == headers[: len(first)] else (b"", 0, _NOWHERE)
        if len(self._known) == _SIZES:
            self._known.clear()
        self._known[first] = found
        return found

    def _headers_of(self, total: int) -> bytes:
        """The headers that have `total` bytes together with their content; empty where no content fits."""
        # The headers of a smaller content are never longer than those of `total` bytes, and mostly equally long.
        for size in range(max(total - len(self._headers(total)), 0), total):
            headers = self._headers(size)
            if len(headers) + size >= total:
                return headers if len(headers) + size == total else b""
        return b""


def _total(first: bytes) -> int:
    """The size of the element that begins with `first`, where its length has up to two bytes; 0 for a longer length."""
    if len(first) < 2:
        return 0
    header = 2 if first[1] <= 0x7F else 2 + (first[1] & 0x7F)
    if header == 2:
        return 2 + first[1]
    return header + int.from_bytes(first[2:header], "big") if header <= len(first) else 0


OCTETS: Final[tuple[Nesting, ...]] = tuple(Nesting(CONTEXT + number, OCTET_STRING) for number in range(8))
"""An OCTET STRING inside an explicit tag, by the tag's number."""
_INTEGERS: Final[tuple[Nesting, ...]] = tuple(Nesting(CONTEXT + number, INTEGER) for number in range(8))

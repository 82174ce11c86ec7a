"""DER by a table: the fields of a SEQUENCE by the number of their explicit tag.

The reader shows what is there. So it takes lengths that are not minimal, and fields that the table does not have.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from acredssp.decoding.nodes import Malformed, Node, Secret, Source

__all__ = [
    "CONTEXT",
    "ENUMERATED",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "OIDS",
    "SEQUENCE",
    "Decoder",
    "Fields",
    "bit_string",
    "dotted",
    "element",
    "expect",
    "integer",
    "object_identifier",
    "octets",
    "sequence",
    "sequence_of",
    "text",
    "wrapped",
]

Decoder: TypeAlias = Callable[[Source, Node, str, int, int], None]
"""Adds the field of a name to a node; the numbers are the bounds of its whole element."""
Fields: TypeAlias = Mapping[int, tuple[str, Decoder]]
"""Name and decoder of each field, by the number of its tag."""

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30
CONTEXT: Final = 0xA0
_LONG_TAG: Final = 0x1F
_MAX_LENGTH_BYTES: Final = 4
_MOST_ELEMENTS: Final = 64

OIDS: Final = {
    "1.3.6.1.5.5.2": "SPNEGO",
    "1.3.6.1.4.1.311.2.2.10": "NTLM",
    "1.3.6.1.4.1.311.2.2.30": "NegoEx",
    "1.2.840.113554.1.2.2": "Kerberos",
    "1.2.840.48018.1.2.2": "Kerberos (Microsoft)",
    "1.2.840.113554.1.2.2.3": "Kerberos, user to user",
    "1.3.6.1.5.2.5": "IAKERB",
}
"""The mechanisms that peers name."""


def element(source: Source, start: int, end: int, what: str) -> tuple[int, int, int]:
    """Return the tag of the element at `start`, and the bounds of its content.

    Raises:
        Malformed: There is no element, or its length is indefinite or reaches past `end`.
    """
    data = source.data
    source.need(start, 2, end, what)
    tag, length, body = data[start], data[start + 1], start + 2
    if tag & _LONG_TAG == _LONG_TAG:  # a tag of two bytes, as MCS has
        source.need(start, 3, end, what)
        tag, length, body = tag << 8 | length, data[start + 2], start + 3
    if length > 0x7F:
        count = length & 0x7F
        if not 1 <= count <= _MAX_LENGTH_BYTES:
            got = "an indefinite length" if not count else f"a length of {count} bytes"
            raise Malformed(body - 1, f"{what}: expected a definite length of at most 4 bytes, got {got}")
        length = source.number(body, count, end, f"{what}: length", "big")
        body += count
    if body + length > end:
        raise Malformed(start, f"{what}: length {length} reaches past the end at byte {end}")
    return tag, body, body + length


def expect(source: Source, tag: int, start: int, end: int, what: str) -> tuple[int, int]:
    """Return the bounds of the content of the element at `start`, which must have this tag.

    Raises:
        Malformed: `element` finds a fault, or the tag is another one.
    """
    got, body, stop = element(source, start, end, what)
    if got != tag:
        raise Malformed(start, f"{what}: expected tag 0x{tag:02X}, got 0x{got:02X}")
    return body, stop


def sequence(fields: Fields) -> Decoder:
    """Return a decoder of a SEQUENCE with these fields, each inside its explicit tag."""

    def decode(source: Source, parent: Node, name: str, start: int, end: int) -> None:
        body, stop = expect(source, SEQUENCE, start, end, name)
        node = source.new(parent, name, start, stop)
        while body < stop:
            tag, inner, after = element(source, body, stop, name)
            field, read = fields.get(tag - CONTEXT, ("", opaque))
            read(source, node, field or f"[{tag - CONTEXT}]" if tag >= CONTEXT else f"tag 0x{tag:02X}", inner, after)
            body = after

    return decode


def sequence_of(item: str, read: Decoder) -> Decoder:
    """Return a decoder of a SEQUENCE OF: at most 64 elements are shown."""

    def decode(source: Source, parent: Node, name: str, start: int, end: int) -> None:
        body, stop = expect(source, SEQUENCE, start, end, name)
        node = source.new(parent, name, start, stop)
        while body < stop:
            if len(node.children) == _MOST_ELEMENTS:
                node.note = f"only the first {_MOST_ELEMENTS} elements are shown"
                return
            _, _, after = element(source, body, stop, name)
            read(source, node, item, body, after)
            body = after

    return decode


def wrapped(tag: int, read: Decoder) -> Decoder:
    """Return a decoder of an element that stands inside another one, such as [APPLICATION 1]."""

    def decode(source: Source, parent: Node, name: str, start: int, end: int) -> None:
        body, stop = expect(source, tag, start, end, name)
        read(source, parent, name, body, stop)

    return decode


def opaque(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add an element that the table does not have. It stays hidden, since a spoilt tag may stand before a secret."""
    source.secret(parent, Secret.UNKNOWN, name, start, end).note = "unknown"


def integer(names: Mapping[int, str] | Callable[[int], str] | None = None, tag: int = INTEGER) -> Decoder:
    """Return a decoder of an INTEGER or ENUMERATED; `names` tells what its values mean."""

    def decode(source: Source, parent: Node, name: str, start: int, end: int) -> None:
        body, stop = expect(source, tag, start, end, name)
        if not 1 <= stop - body <= 16:
            raise Malformed(body, f"{name}: expected a number of 1 to 16 bytes, got {stop - body}")
        value = int.from_bytes(source.data[body:stop], "big", signed=True)
        note = names(value) if callable(names) else (names or {}).get(value, "")
        source.new(parent, name, start, stop, value, note)

    return decode


def octets(secret: Secret | None = None, inner: Decoder | None = None) -> Decoder:
    """Return a decoder of an OCTET STRING: bytes, a secret, or something to look into.

    Args:
        secret: Which secret it is.
        inner: The decoder of what it holds, called with the bounds of the content.
    """

    def decode(source: Source, parent: Node, name: str, start: int, end: int) -> None:
        body, stop = expect(source, OCTET_STRING, start, end, name)
        if inner is not None:
            inner(source, parent, name, body, stop)
        elif secret is not None:
            source.secret(parent, secret, name, body, stop)
        else:
            source.new(parent, name, start, stop, source.data[body:stop])

    return decode


def text(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Show a GeneralString or a KerberosTime."""
    _, body, stop = element(source, start, end, name)
    source.new(parent, name, start, stop, source.data[body:stop].decode("utf-8", "backslashreplace"))


def bit_string(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Show a BIT STRING in hex, without the byte that counts unused bits."""
    body, stop = expect(source, BIT_STRING, start, end, name)
    source.new(parent, name, start, stop, source.data[body + 1 : stop])


def object_identifier(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Show an OBJECT IDENTIFIER with the name of the mechanism."""
    body, stop = expect(source, OBJECT_IDENTIFIER, start, end, name)
    value = dotted(source.data[body:stop])
    source.new(parent, name, start, stop, value, OIDS.get(value, ""))


def dotted(content: bytes) -> str:
    """Return the usual text of an object identifier; bytes that are none are shown in hex."""
    if not 1 <= len(content) <= 64 or content[-1] & 0x80:
        return content[:64].hex()
    numbers, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))

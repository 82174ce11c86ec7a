"""The two MCS fields in which RDP repeats the protocols negotiated in clear ([MS-RDPBCGR] 2.2.1.3, 2.2.1.4).

    TPKT (4)   03 | 00 | length of the whole packet, u16 big-endian
    X.224 (3)  02 F0 80: a Data PDU, the last of its unit
    MCS        7F 65 Connect-Initial, 7F 66 Connect-Response, in BER
    GCC        the MCS user data: Conference Create Request or Response, in PER
    blocks     the GCC user data: type, u16; length with this header, u16; content. Little-endian

A client repeats in Client Core Data which protocol the server has selected. A server repeats in Server Core Data which
protocols the client has requested. A gateway between two legs has to write there what the other leg negotiated. Both
fields have a fixed size, so nothing else of a PDU changes.

Every length on the way to a field is checked against the lengths around it.
"""

import dataclasses
import struct
from collections.abc import Callable, Iterator
from typing import Final

from acredssp.errors import LocalProtocolError, RemoteProtocolError
from acredssp.wire import der
from acredssp.wire.framing import FrameSize
from acredssp.wire.x224 import Protocols

__all__ = ["TPKT_SIZE", "frame_size", "per_length", "requested_protocols_at", "selected_protocol_at", "write_protocols"]

TPKT_SIZE: Final = 4
"""The bytes of a PDU that tell its length."""
_HEADER_SIZE: Final = 7
_DATA: Final = b"\x02\xf0\x80"
_CONNECT_INITIAL: Final = b"\x7f\x65"
_CONNECT_RESPONSE: Final = b"\x7f\x66"
_BOOLEAN: Final = 0x01

_T124: Final = bytes.fromhex("0005 0014 7c00 01")
"""The object identifier of T.124, which begins every GCC Conference Create (T.124 8.7)."""
_CREATE_REQUEST: Final = bytes.fromhex("0008 0010 0001 c000") + b"Duca"
"""The conference is named "1" and has one set of user data, the client's."""
_CREATE_RESPONSE: Final = 0x14
_RESPONSE_DATA: Final = bytes.fromhex("01 c000") + b"McDn"
"""One set of user data, the server's."""

_CLIENT_CORE: Final = 0xC001
_SELECTED_PROTOCOL: Final = 212
"""The offset of serverSelectedProtocol in Client Core Data, header included. Only fields of newer versions follow."""
_SERVER_CORE: Final = 0x0C01
_REQUESTED_PROTOCOLS: Final = 8
_FIELD_SIZE: Final = 4

_INITIAL_FIELDS: Final = (
    (der.OCTET_STRING, "connect-initial: callingDomainSelector"),
    (der.OCTET_STRING, "connect-initial: calledDomainSelector"),
    (_BOOLEAN, "connect-initial: upwardFlag"),
    (der.SEQUENCE, "connect-initial: targetParameters"),
    (der.SEQUENCE, "connect-initial: minimumParameters"),
    (der.SEQUENCE, "connect-initial: maximumParameters"),
)
"""Tag and name of each field in front of the user data."""
_RESPONSE_FIELDS: Final = (
    (der.ENUMERATED, "connect-response: result"),
    (der.INTEGER, "connect-response: calledConnectId"),
    (der.SEQUENCE, "connect-response: domainParameters"),
)

_BLOCK: Final = struct.Struct("<HH")
_BLOCK_HEADER: Final = 4
_KEY_AND_LENGTH: Final = 6
"""The bytes of the key of GCC's user data, which is at its front's end, and of the longest length behind it."""
_FRONTS: Final = 64
"""How many fronts are remembered."""
_LONGEST_FRONT: Final = 256
"""The longest front that is remembered, in bytes. Those of FreeRDP have some 140."""
_MOST_BLOCKS: Final = 32
"""The most blocks that are remembered. FreeRDP sends seven."""
_FIELD: Final = struct.Struct("<I")


def frame_size(data: bytes | bytearray | memoryview) -> FrameSize:
    """The size of the PDU that `data` begins with (RFC 1006 6).

    Raises:
        RemoteProtocolError: `data` does not begin an X.224 Data PDU; raised as soon as the offending byte is there.
    """
    have = len(data)
    if have and data[0] != 3:
        raise RemoteProtocolError(f"TPKT: expected version 3, got {data[0]}")
    if have < TPKT_SIZE:
        return FrameSize(0, TPKT_SIZE - have)
    total = data[2] << 8 | data[3]
    if total < _HEADER_SIZE:
        raise RemoteProtocolError(f"TPKT: expected a length of at least {_HEADER_SIZE}, got {total}")
    start = data[TPKT_SIZE:_HEADER_SIZE]
    if start != _DATA and not _DATA.startswith(bytes(start)):
        raise RemoteProtocolError(f"x.224: expected a data PDU (02 f0 80), got {bytes(start).hex(' ')}")
    # The constructor of a NamedTuple is a Python function, which takes twice the instructions.
    return tuple.__new__(FrameSize, (total, total - have if total > have else 0))


def selected_protocol_at(data: bytes) -> int | None:
    """Where serverSelectedProtocol is in the Connect-Initial that `data` begins with; None where the client omits it.

    Raises:
        LocalProtocolError: `data` does not hold the whole PDU that `frame_size` measures.
        RemoteProtocolError: The PDU is not a Connect-Initial, or one of its lengths is wrong.
    """
    return _INITIAL.field_at(data)


def requested_protocols_at(data: bytes) -> int | None:
    """Where clientRequestedProtocols is in the Connect-Response that `data` begins with; None if the server omits it.

    Raises:
        LocalProtocolError: `data` does not hold the whole PDU that `frame_size` measures.
        RemoteProtocolError: The PDU is not a Connect-Response, or one of its lengths is wrong.
    """
    return _RESPONSE.field_at(data)


def write_protocols(data: bytes, offset: int, protocols: Protocols) -> bytes:
    """Return `data` with other protocols at `offset`."""
    return data[:offset] + _FIELD.pack(protocols) + data[offset + _FIELD_SIZE :]


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of PDU with a field.

    Attributes:
        name: Its name, for errors.
        front: Reads all that is in front of the blocks; returns where the blocks begin.
        key: The last bytes in front of the length of the blocks.
        block: The type of the block that has the field.
        block_name: The name of that block, for errors.
        at: Where the field is in the block, header included.
    """

    name: str
    front: Callable[[bytes, int], int]
    key: bytes
    block: int
    block_name: str
    at: int


class _Reader:
    """Finds the field of one kind of PDU.

    Most connections come from few programs, and a program sends the same front each time, and blocks of the same types
    and sizes. Where these were read before, they are compared and not read again: the field is in the same place.
    """

    __slots__ = ("_kind", "_known")

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        self._known: dict[bytes, tuple[struct.Struct, tuple[int, ...], int | None]] = {}
        """What follows a front, by the front: the headers of the blocks, their values, and where the field is."""

    def field_at(self, data: bytes) -> int | None:
        """Where the field is in the PDU that `data` begins with; None where the PDU does not have it.

        Raises:
            LocalProtocolError: `data` does not hold the whole PDU.
            RemoteProtocolError: The PDU is of another kind, or one of its lengths is wrong.
        """
        total, missing = frame_size(data)
        if missing:
            raise LocalProtocolError(f"{self._kind.name}: expected a whole PDU, {missing} bytes are missing")
        front = data[: data.find(self._kind.key, 0, _LONGEST_FRONT) + _KEY_AND_LENGTH]
        known = self._known.get(front)
        if known is not None and known[0].unpack_from(data) == known[1]:
            return known[2]
        return self._read(front, data, total)

    def _read(self, front: bytes, data: bytes, total: int) -> int | None:
        kind = self._kind
        start = kind.front(data, total)
        blocks = [*_blocks(data, start, total, kind.name)]
        found = [(at, size) for at, block, size in blocks if block == kind.block]
        if len(found) != 1:
            expected = f"expected one block of type 0x{kind.block:04X}"
            raise RemoteProtocolError(f"{kind.block_name}: {expected}, got {len(found)}")
        field = _field(*found[0], kind.at, kind.block_name)
        if start <= len(front) and len(blocks) <= _MOST_BLOCKS:  # `front` has all bytes that were read
            if len(self._known) >= _FRONTS:
                self._known.clear()
            headers = "".join([f"HH{size - _BLOCK_HEADER}x" for _, _, size in blocks])
            values = tuple(value for _, block, size in blocks for value in (block, size))
            self._known[front] = struct.Struct(f"<{start}x{headers}"), values, field
        return field


def _read_initial(data: bytes, total: int) -> int:
    what = "connect-initial"
    offset, end = _connect_data(data, total, _CONNECT_INITIAL, _INITIAL_FIELDS, what)
    offset = _length_of_rest(data, offset, end, f"{what}: connectPDU")
    offset = _expect(data, offset, end, _CREATE_REQUEST, f"{what}: conference create request")
    return _length_of_rest(data, offset, end, f"{what}: user data")


def _read_response(data: bytes, total: int) -> int:
    what = "connect-response"
    offset, end = _connect_data(data, total, _CONNECT_RESPONSE, _RESPONSE_FIELDS, what)
    # Windows always writes 42 here, whatever the length is; the specification says to ignore it (4.1.4).
    _, offset = per_length(data, offset, end, f"{what}: connectPDU")
    offset = _pass_over_create_response(data, offset, end, what)
    return _length_of_rest(data, offset, end, f"{what}: user data")


_INITIAL: Final = _Reader(
    _Kind("connect-initial", _read_initial, b"Duca", _CLIENT_CORE, "client core data", _SELECTED_PROTOCOL)
)
_RESPONSE: Final = _Reader(
    _Kind("connect-response", _read_response, b"McDn", _SERVER_CORE, "server core data", _REQUESTED_PROTOCOLS)
)


def _connect_data(
    data: bytes, total: int, tag: bytes, fields: tuple[tuple[int, str], ...], what: str
) -> tuple[int, int]:
    """The bounds of the rest of T.124's ConnectData, behind its identifier, in the MCS PDU that fills the packet."""
    offset = _expect(data, _HEADER_SIZE, total, tag, f"{what}: tag")
    # The second byte of the tag stands where `only` looks for a tag of one byte.
    offset, end = der.only(data, offset - 1, total, tag[1], what)
    for field_tag, field in fields:
        _, offset = der.element(data, offset, end, field_tag, field)
    offset, end = der.only(data, offset, end, der.OCTET_STRING, f"{what}: userData")
    return _expect(data, offset, end, _T124, f"{what}: T.124 identifier"), end


def _pass_over_create_response(data: bytes, offset: int, end: int, what: str) -> int:
    """Skip choice, nodeID, tag and result, which mean nothing to RDP; return the offset behind "McDn"."""
    tag_at = offset + 3
    if tag_at >= end or data[offset] != _CREATE_RESPONSE:
        raise RemoteProtocolError(f"{what}: expected a conference create response at byte {offset}, got none")
    result_at = tag_at + 1 + data[tag_at]
    return _expect(data, result_at + 1, end, _RESPONSE_DATA, f"{what}: conference create response")


def _blocks(data: bytes, offset: int, end: int, what: str) -> Iterator[tuple[int, int, int]]:
    """Yield where each block of the user data begins, its type and its size; the blocks fill the user data."""
    while offset < end:
        kind, size = _BLOCK.unpack_from(data, offset) if offset + _BLOCK_HEADER <= end else (0, 0)
        if not _BLOCK_HEADER <= size <= end - offset:
            expected = f"a block of 4 to {end - offset} bytes at byte {offset}"
            raise RemoteProtocolError(f"{what}: expected {expected}, got a length of {size}")
        yield offset, kind, size
        offset += size


def _field(start: int, size: int, at: int, block: str) -> int | None:
    """The offset of a field, `at` bytes into a block; None where the block ends before it."""
    if size <= at:
        return None
    if size < at + _FIELD_SIZE:
        raise RemoteProtocolError(f"{block}: expected at most {at} or at least {at + _FIELD_SIZE} bytes, got {size}")
    return start + at


def per_length(data: bytes, offset: int, end: int, field: str) -> tuple[int, int]:
    """Return a length in PER, which has one byte or two, and the offset behind it (X.691 10.9).

    Raises:
        RemoteProtocolError: There is none, or it is that of a fragment.
    """
    size = 2 if offset < end and data[offset] & 0x80 else 1
    if offset + size > end or data[offset] & 0xC0 == 0xC0:
        raise RemoteProtocolError(f"{field}: expected a length of one or two bytes at byte {offset}, got another")
    if size == 1:
        return data[offset], offset + 1
    return (data[offset] & 0x3F) << 8 | data[offset + 1], offset + 2


def _length_of_rest(data: bytes, offset: int, end: int, field: str) -> int:
    """Read a length in PER that reaches to `end`; return the offset behind it."""
    length, offset = per_length(data, offset, end, field)
    stop = offset + length
    if stop != end:
        raise RemoteProtocolError(f"{field}: expected a length that ends at byte {end}, got one that ends at {stop}")
    return offset


def _expect(data: bytes, offset: int, end: int, expected: bytes, field: str) -> int:
    """Refuse any other bytes than `expected`; return the offset behind them."""
    stop = offset + len(expected)
    if stop > end or data[offset:stop] != expected:
        got = data[offset : min(stop, end)].hex(" ") or "nothing"
        raise RemoteProtocolError(f"{field}: expected {expected.hex(' ')} at byte {offset}, got {got}")
    return stop

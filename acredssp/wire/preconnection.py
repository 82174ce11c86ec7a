"""The preconnection PDU, by which a client tells a listener the target of a connection ([MS-RDPEPS] 2.2.1).

    version 1    cbSize (4) | Flags 0 (4) | Version 1 (4) | Id (4)
    version 2    the same with Version 2, then cchPCB (2) | wszPCB: cchPCB characters of UTF-16, NUL at their end

Numbers are little-endian, and cbSize counts the whole PDU. A client sends the PDU in clear text before anything else.
It gets no answer, so the next bytes may arrive together with the PDU: `frame_size` tells where the PDU ends, and the
rest belongs to the caller. cbSize is even, so the PDU never begins as TPKT does.
"""

import dataclasses
import struct
from typing import Final, Self

from acredssp.errors import LocalProtocolError, RemoteProtocolError
from acredssp.wire import first_bytes
from acredssp.wire.framing import FrameSize

__all__ = ["MAX_SIZE", "PreconnectionPDU", "frame_size"]

MAX_SIZE: Final = 16 * 1024
"""Bytes of the longest PDU that is accepted. The blob may be a signed token of some thousand characters. The fields
would allow 131,088 bytes, which is too much for a client that is not known yet."""

_HEADER: Final = struct.Struct("<IIII")
_COUNT: Final = struct.Struct("<H")
_SIZE_SIZE: Final = 4
_LEAST_WITH_BLOB: Final = _HEADER.size + _COUNT.size
_HIGHEST_ID: Final = 0xFFFFFFFF
_DUE: Final = "a preconnection PDU or RDP's negotiation (TPKT)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PreconnectionPDU:
    """The target of a connection, as a number or a text. Any client can send any value, so it proves nothing.

    Attributes:
        id: The RDP source, a number of 32 bits whose meaning both sides have agreed on.
        blob: A text for the listener, such as the name of a virtual machine, or a token; empty for none. It is kept out
            of logs, since a token may be all that somebody needs to get in.
    """

    id: int = 0
    blob: str = dataclasses.field(default="", repr=False)

    def encode(self) -> bytes:
        """The whole PDU: version 2 where there is a blob, version 1 where there is none.

        Raises:
            LocalProtocolError: A field cannot be encoded.
        """
        if not 0 <= self.id <= _HIGHEST_ID:
            raise LocalProtocolError(f"preconnection id: expected a number from 0 to {_HIGHEST_ID}, got {self.id}")
        if not self.blob:
            return _HEADER.pack(_HEADER.size, 0, 1, self.id)
        if "\0" in self.blob:
            raise LocalProtocolError("preconnection blob: expected text without NUL, got one")
        try:
            text = f"{self.blob}\0".encode("utf-16-le")
        except UnicodeEncodeError:
            raise LocalProtocolError("preconnection blob: expected Unicode, got a lone surrogate") from None
        size = _LEAST_WITH_BLOB + len(text)
        if size > MAX_SIZE:
            raise LocalProtocolError(
                f"preconnection pdu: expected at most {MAX_SIZE} bytes, got {size}: shorten the blob"
            )
        return _HEADER.pack(size, 0, 2, self.id) + _COUNT.pack(len(text) // 2) + text

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a PDU. `data` is one whole frame, as `frame_size` measures it, with nothing behind it.

        Raises:
            RemoteProtocolError: `data` is not a preconnection PDU.
        """
        total, missing = frame_size(data)
        if missing or len(data) != total:
            raise RemoteProtocolError(
                f"preconnection pdu: expected {total or len(data) + missing} bytes, got {len(data)}"
            )
        _, _, version, number = _HEADER.unpack_from(data)  # the flags must be ignored (2.2.1.1)
        if version not in (1, 2):
            raise RemoteProtocolError(f"preconnection pdu: expected version 1 or 2 at byte 8, got {version}")
        if (version == 1) != (total == _HEADER.size):
            expected = "16 bytes" if version == 1 else "at least 18 bytes"
            raise RemoteProtocolError(f"preconnection pdu: expected {expected} of version {version}, got {total}")
        return cls(id=number, blob="" if version == 1 else _decode_blob(data))


def frame_size(data: bytes | bytearray | memoryview, offset: int = 0) -> FrameSize:
    """The size of the preconnection PDU that begins at `offset`.

    Raises:
        RemoteProtocolError: These bytes begin no preconnection PDU, or one that is longer than `MAX_SIZE`.
    """
    have = len(data) - offset
    if have and data[offset] % 2:
        raise first_bytes.refusal(data, offset, _DUE, f"expected {_DUE}, got 0x{data[offset]:02X}")
    if have < _SIZE_SIZE:
        return FrameSize(0, _SIZE_SIZE - have)
    end = offset + _SIZE_SIZE
    total = int.from_bytes(data[offset:end], "little")
    if not _HEADER.size <= total <= MAX_SIZE:
        otherwise = f"preconnection pdu: expected {_HEADER.size} to {MAX_SIZE} bytes, got {total}"
        raise first_bytes.refusal(data, offset, _DUE, otherwise)
    return FrameSize(total, max(0, total - have))


def _decode_blob(data: bytes) -> str:
    """The text of version 2, without the NULs at its end. FreeRDP 2.11 writes two of them, [MS-RDPEPS] 4 shows one."""
    (count,) = _COUNT.unpack_from(data, _HEADER.size)
    expected = _LEAST_WITH_BLOB + 2 * count
    if len(data) != expected:
        raise RemoteProtocolError(
            f"preconnection pdu: expected {expected} bytes for {count} characters at byte 16, got {len(data)}"
        )
    try:
        text = data[_LEAST_WITH_BLOB:].decode("utf-16-le")
    except UnicodeDecodeError:
        raise RemoteProtocolError("preconnection pdu: expected UTF-16 at byte 18, got a lone surrogate") from None
    text = text.rstrip("\0")
    if "\0" in text:
        raise RemoteProtocolError("preconnection pdu: expected NULs at the end of the blob only, got another")
    return text

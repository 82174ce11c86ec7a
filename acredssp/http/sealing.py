"""Sealing of bodies ([MS-WSMV] 2.2.9.1.3): plaintext in, pairs of parts with TLS records out.

No more than one part of plaintext is held, so a body of any size can be sealed as a stream.
"""

from typing import Final

from acredssp.events import Buffer, SecurityContext
from acredssp.http.envelope import BOUNDARY, OCTETS, PROTOCOL, SOAP, media_type
from acredssp.tls import RecordSizes, TLSSession

__all__ = ["PART_SIZE", "Sealer", "seal_body"]

PART_SIZE: Final = 16_384
"""Bytes of plaintext in a part at most: what one TLS record holds."""

_HEADER_SIZE: Final = 5
_TRAILER_FIELD: Final = 4
_END: Final = f"--{BOUNDARY}--\r\n".encode()


class Sealer:
    """Seals one body. Give it all bytes by `feed()`, and then call `finish()`; send what both return.

    The records of one connection have to arrive in the order in which they were made. So a body must be sealed and
    sent to its end, or the connection closed, before the next body is sealed.

    Args:
        context: The established context of the connection.
        length: The size of the plaintext in bytes; None where it is not known beforehand.
        content_type: The Content-Type of the plaintext.

    Attributes:
        media_type: The Content-Type of the sealed body.
        size: The size of the sealed body in bytes, for Content-Length. It is None where only the end shows it: where
            `length` is None, and with cipher suites whose records are padded. Use chunks in these cases.

    Raises:
        ValueError: `length` is negative, or `content_type` has control characters.
    """

    def __init__(self, context: SecurityContext, length: int | None, content_type: str = SOAP) -> None:
        if length is not None and length < 0:
            raise ValueError(f"length: expected 0 or more bytes, got {length}")
        if not content_type or not content_type.isascii() or not content_type.isprintable():
            raise ValueError("content_type: expected printable characters of ascii, got others or none")
        assert context.tls is not None
        self._tls: TLSSession = context.tls
        self._sizes: RecordSizes = context.record_sizes
        self._content_type = content_type
        self._length = length
        self._taken = 0
        self._pending = bytearray()
        self._any_part = False
        self.media_type = media_type(multi=length is None or length > PART_SIZE)
        self.size = self._sealed_size(length)

    def feed(self, data: Buffer) -> bytes:
        """Take plaintext; return the parts that are whole now.

        Raises:
            ValueError: There is more plaintext than `length` says; the body cannot be sent.
            TLSError: The session is broken: close the connection.
        """
        self._taken += len(data)
        if self._length is not None and self._taken > self._length:
            raise ValueError(f"length: expected {self._length} bytes of plaintext, got more")
        if len(self._pending) + len(data) < PART_SIZE:
            self._pending += data
            return b""
        view = memoryview(bytes(self._pending) + data if self._pending else data).cast("B")
        whole = len(view) - len(view) % PART_SIZE
        self._pending[:] = view[whole:]
        return self._sealed(*[view[start : start + PART_SIZE] for start in range(0, whole, PART_SIZE)])

    def flush(self) -> bytes:
        """Return what is held back, as a part of its own, so that the peer gets it now.

        A body whose `length` is known has whole parts alone, and the result is empty.
        """
        if not self._pending or self._length is not None:
            return b""
        part = self._sealed(bytes(self._pending))
        self._pending.clear()
        return part

    def finish(self) -> bytes:
        """Return the rest of the sealed body.

        Raises:
            ValueError: There is less plaintext than `length` says; the body cannot be sent.
        """
        if self._length is not None and self._taken < self._length:
            raise ValueError(f"length: expected {self._length} bytes of plaintext, got {self._taken}")
        rest = b"" if self._any_part and not self._pending else self._sealed(bytes(self._pending))
        self._pending.clear()
        return rest + _END

    def _sealed(self, *parts: bytes | memoryview) -> bytes:
        self._any_part = True
        sealed: list[bytes] = []
        for plaintext in parts:
            records = self._tls.encrypt(plaintext) if plaintext else b""
            trailer = _last_size(records) - self._sizes.header - len(plaintext) if records else 0
            lines = _lines(self._content_type, len(plaintext))
            sealed += (lines, trailer.to_bytes(_TRAILER_FIELD, "little"), records)
        return b"".join(sealed)

    def _sealed_size(self, length: int | None) -> int | None:
        sizes = self._sizes
        if length is None or sizes.block != 1 or sizes.front:
            return None
        self._tls.answer()  # the answer to a key update goes in front of the first record
        parts, rest = divmod(length, PART_SIZE)
        size = parts * self._part_size(PART_SIZE) + (self._part_size(rest) if rest or not parts else 0)
        return size + len(_END) + (self._tls.output_size if length else 0)

    def _part_size(self, length: int) -> int:
        record = self._sizes.header + length + self._sizes.trailer if length else 0
        return len(_lines(self._content_type, length)) + _TRAILER_FIELD + record


def seal_body(context: SecurityContext, plaintext: Buffer, content_type: str = SOAP) -> tuple[str, bytes]:
    """Seal a whole body; return its Content-Type and its bytes."""
    sealer = Sealer(context, len(plaintext), content_type)
    return sealer.media_type, sealer.feed(plaintext) + sealer.finish()


def _lines(content_type: str, length: int) -> bytes:
    """Return the bytes of a pair of parts in front of the trailer's length."""
    return (
        f"--{BOUNDARY}\r\n"
        f"\tContent-Type: {PROTOCOL}\r\n"
        f"\tOriginalContent: type={content_type};Length={length}\r\n"
        f"--{BOUNDARY}\r\n"
        f"\tContent-Type: {OCTETS}\r\n"
    ).encode()


def _last_size(records: bytes) -> int:
    """Return the size of the plaintext's record, the last one. TLS 1.0 puts an empty one in front, a key update may."""
    start = 0
    while True:
        end = start + _HEADER_SIZE + int.from_bytes(records[start + 3 : start + _HEADER_SIZE], "big")
        if end >= len(records):
            return len(records) - start
        start = end

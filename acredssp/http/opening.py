"""Opening of sealed bodies ([MS-WSMV] 2.2.9.1.3): bytes as they come in, plaintext out.

The bytes of TLS records may hold anything, a boundary too. So the parser never searches for a boundary: it takes each
record by the length in the record's own header, until the records have given as many bytes as `OriginalContent` says.
It holds one line or one record that is not whole, never more, whatever the peer announces.

Peers write the lines in several ways, and all of these are taken: Exchange puts a space between the dashes and the
boundary; MIME has an empty line behind the headers of a part, and a line break in front of a boundary, which Windows
leaves out. The length of the trailer says nothing that the records do not say, and pyspnego gives wrong ones for
ChaCha20, so it is held against a bound only.

There are two ways to read the lines of a part. One pattern reads them if they are all there and are written as `Sealer`
writes them, which is the usual case. Otherwise a parser reads them byte by byte. Both ways have the same result, but
the parser alone would cost more than the cipher.
"""

import re
from collections.abc import Generator
from typing import Final, NoReturn, TypeAlias

from acredssp.errors import CredSSPError
from acredssp.events import Buffer, SecurityContext
from acredssp.http.envelope import BOUNDARY, OCTETS, PROTOCOL, boundary_of, original_content
from acredssp.http.errors import HTTPProtocolError
from acredssp.tls import TLSSession

__all__ = ["DEFAULT_LIMIT", "Opener", "open_body"]

DEFAULT_LIMIT: Final = 64 << 20
"""Bytes of plaintext that one body may have."""

_LINE_SIZE: Final = 1_024
"""Bytes of one header line of a part: several times what the longest Content-Type needs."""
_MOST_LINES: Final = 8
_MOST_SPACES: Final = 16
_MOST_TRAILER: Final = 2_048
"""Bytes by which a record may be longer than its plaintext (RFC 5246 6.2.3)."""
_MOST_EMPTY: Final = 16
"""Records without plaintext, and parts without records, that may come on end. TLS 1.0 sends one before each record."""
_MOST_WAITING: Final = 16_384
"""The most bytes of TLS itself that may wait for the next sealed body: 600 answers to key updates, which a peer could
otherwise have put between its records of one byte."""
_RECORD_HEADER: Final = 5
_RECORD_TYPES: Final = range(20, 24)
_RECORD_OF_DATA: Final = 23
_END_OF_LINE: Final = b"\r\n"
_USUAL_BOUNDARY: Final = BOUNDARY.encode()
_USUAL_LINES: Final = re.compile(
    rf"--{BOUNDARY}\r\n\tContent-Type: {re.escape(PROTOCOL)}\r\n\tOriginalContent: ([^\r\n]{{1,900}})\r\n"
    rf"--{BOUNDARY}\r\n\tContent-Type: {OCTETS}\r\n(?=[^\r])".encode()
)
"""The lines of a pair of parts in front of the trailer's length, as we and Windows write them."""

_Reads: TypeAlias = Generator[None, None, bytes]


class Opener:
    """Opens one sealed body. Give it the bytes by `feed()` as they come, and call `finish()` behind the last one.

    After an error the session has lost its place in the peer's records: answer, and close the connection.

    Args:
        context: The established context of the connection.
        content_type: The Content-Type of the sealed body.
        limit: Bytes of plaintext that the body may have.
        prove: Whether `finish()` refuses a body without any record, which anybody could have written.

    Attributes:
        content_type: The Content-Type of the plaintext; empty until the first part has told it.
        complete: Whether the last boundary has come.
        proven: Whether a record has opened, which only the peer of this context can have made.

    Raises:
        HTTPProtocolError: The Content-Type is not one of a body that CredSSP has sealed.
    """

    def __init__(
        self, context: SecurityContext, content_type: str, *, limit: int = DEFAULT_LIMIT, prove: bool = False
    ) -> None:
        assert context.tls is not None
        self._tls: TLSSession = context.tls
        self._boundary = boundary_of(content_type)
        self._last = b"--%b--" % self._boundary
        self._limit = limit
        self._prove = prove
        self.content_type = ""
        self.complete = False
        self._buffer = b""
        """Bytes that have come. They are seldom more than a piece as it came, which is then not copied."""
        self._start = 0
        """How many bytes of the buffer have been taken."""
        self._size = 0
        """Bytes of plaintext that the parts have announced so far."""
        self.proven = False
        self._empty = 0
        """Records and parts without plaintext since the last one with some."""
        self._opened: list[bytes] = []
        self._error: CredSSPError | None = None
        self._parser = self._body()

    def feed(self, data: Buffer) -> bytes:
        """Take bytes of the sealed body, cut anywhere; return the plaintext of the records that are whole now.

        Raises:
            HTTPProtocolError: The body breaks the rules, or is larger than `limit`.
            TLSError: A record does not verify.
        """
        if self._error is not None:
            raise self._error
        self._buffer += data
        try:
            next(self._parser)
        except CredSSPError as error:
            self._error = error
            self._buffer = b""
            self._opened.clear()
            raise
        self._buffer, self._start = self._buffer[self._start :], 0
        opened = b"".join(self._opened)
        self._opened.clear()
        return opened

    def finish(self) -> None:
        """Check that the body has come to its end.

        Raises:
            HTTPProtocolError: The body ends in the middle, or proves nothing although it has to.
        """
        if self._error is not None:
            raise self._error
        if not self.complete:
            raise HTTPProtocolError("the sealed body ends before its last boundary")
        if self._prove and not self.proven:
            raise HTTPProtocolError(
                "expected a sealed body with a record of tls, got an empty one without any, which anybody can send", 403
            )

    # --- the grammar ---

    def _body(self) -> Generator[None, None, None]:
        yield from self._line_break()
        while True:
            if (length := self._usual_lines()) is None:
                if (yield from self._delimiter()):
                    break
                length = yield from self._description()
            yield from self._records(length)
        if not self.content_type:
            _refuse("a part", "the last boundary")
        yield from self._ended()

    def _usual_lines(self) -> int | None:
        """Take the lines of a pair of parts, as `_delimiter()` and `_description()` do, where they are usual ones."""
        usual = _USUAL_LINES.match(self._buffer, self._start) if self._boundary == _USUAL_BOUNDARY else None
        if usual is None:
            return None
        self._start = usual.end()
        return self._content(usual[1].decode("latin-1").strip(" \t"))

    def _description(self) -> Generator[None, None, int]:
        """Take the lines of a pair of parts behind the boundary; return the size of the plaintext."""
        headers = yield from self._headers()
        if (yield from self._delimiter()):
            _refuse("a part with records", "the last boundary")
        _check_type(headers, PROTOCOL)
        length = self._content(headers.get("originalcontent", ""))
        name, value = _header((yield from self._line()))
        _check_type({name: value}, OCTETS)
        yield from self._line_break()  # no trailer is as long as these two bytes would say
        return length

    def _content(self, original: str) -> int:
        """Note what was sealed, from the value of `OriginalContent`; return its size."""
        content_type, length = original_content(original)
        if self.content_type not in {"", content_type}:
            _refuse("parts of one content", f"a part of type {content_type!a}")
        self.content_type = content_type
        self._size += length
        if self._size > self._limit:
            raise HTTPProtocolError(f"expected a body of at most {self._limit} bytes, got one of {self._size}", 413)
        return length

    def _headers(self) -> Generator[None, None, dict[str, str]]:
        headers: dict[str, str] = {}
        for _ in range(_MOST_LINES):
            if (yield from self._peek()) == b"-":
                return headers
            line = yield from self._line()
            if not line:
                return headers
            name, value = _header(line)
            if name in headers:
                _refuse("each header of a part once", f"{name!a} twice")
            headers[name] = value
        _refuse(f"at most {_MOST_LINES} header lines in a part", "more")

    def _records(self, length: int) -> Generator[None, None, None]:
        """Take the records of a pair of parts."""
        trailer = int.from_bytes((yield from self._read(4)), "little")
        if trailer > _MOST_TRAILER:
            _refuse(f"a trailer of at most {_MOST_TRAILER} bytes", f"one of {trailer}")
        if not length:
            self._note(b"")
        left = length
        while left or (yield from self._peek())[0] in _RECORD_TYPES:
            plaintext = yield from self._record()
            self._note(plaintext)
            left -= len(plaintext)
            if left < 0:
                _refuse(f"{length} bytes in a part", f"{length - left}")
        yield from self._line_break()

    def _note(self, plaintext: bytes) -> None:
        """Keep the plaintext of a record. A peer must not keep us busy with records that have none."""
        if self._tls.peer_closed:
            _refuse("records of data", "close_notify")
        self._empty = 0 if plaintext else self._empty + 1
        if self._empty > _MOST_EMPTY:
            _refuse(f"at most {_MOST_EMPTY} records or parts without data on end", "more")
        if self._tls.output_size > _MOST_WAITING:
            _refuse(f"records that make tls answer with at most {_MOST_WAITING} bytes", f"{self._tls.output_size}")
        if plaintext:
            self._opened.append(plaintext)

    def _record(self) -> _Reads:
        """Take a record; return its plaintext."""
        yield from self._wait(_RECORD_HEADER)
        kind, size = self._buffer[self._start], self._buffer[self._start + 3 : self._start + _RECORD_HEADER]
        length = int.from_bytes(size, "big")
        if kind not in _RECORD_TYPES or length > 16_384 + _MOST_TRAILER:
            _refuse("a tls record", f"bytes of type {kind} and length {length}")
        yield from self._wait(_RECORD_HEADER + length)
        start, self._start = self._start, self._start + _RECORD_HEADER + length
        plaintext = self._tls.read(memoryview(self._buffer)[start : self._start])
        # OpenSSL has verified a record of data, even one without a byte, which Windows makes of an empty body.
        self.proven = self.proven or kind == _RECORD_OF_DATA
        return plaintext

    def _delimiter(self) -> Generator[None, None, bool]:
        """Take a boundary; return whether it is the last one."""
        if self._buffer.startswith(self._last, self._start):
            self._start += len(self._last)
            return True
        yield from self._expect(b"--")
        yield from self._spaces()
        yield from self._expect(self._boundary)
        if (yield from self._peek()) == b"-":
            yield from self._expect(b"--")
            return True
        yield from self._spaces()
        yield from self._expect(_END_OF_LINE)
        return False

    def _ended(self) -> Generator[None, None, None]:
        self.complete = True
        yield from self._line_break()
        yield from self._wait(1)
        _refuse("nothing behind the last boundary", "more bytes")

    # --- bytes ---

    def _wait(self, size: int) -> Generator[None, None, None]:
        while len(self._buffer) - self._start < size:
            yield

    def _read(self, size: int) -> _Reads:
        while len(self._buffer) - self._start < size:  # as in _wait(), without the cost of one more generator
            yield
        start, self._start = self._start, self._start + size
        return self._buffer[start : self._start]

    def _peek(self) -> _Reads:
        while len(self._buffer) <= self._start:
            yield
        return self._buffer[self._start : self._start + 1]

    def _expect(self, expected: bytes) -> Generator[None, None, None]:
        came = yield from self._read(len(expected))
        if came != expected:
            _refuse(f"{expected.decode()!a} of a boundary or of a line's end", f"{len(came)} other bytes")

    def _line_break(self) -> Generator[None, None, None]:
        """Skip a line break, if there is one. A trailer of 13 bytes, which pywinrm announces, begins with a CR too."""
        if (yield from self._peek()) == b"\r":
            yield from self._wait(len(_END_OF_LINE))
            if self._buffer.startswith(_END_OF_LINE, self._start):
                self._start += len(_END_OF_LINE)

    def _spaces(self) -> Generator[None, None, None]:
        for _ in range(_MOST_SPACES):
            if (yield from self._peek()) not in {b" ", b"\t"}:
                return
            self._start += 1

    def _line(self) -> _Reads:
        while (end := self._buffer.find(_END_OF_LINE, self._start, self._start + _LINE_SIZE)) < 0:
            if len(self._buffer) - self._start >= _LINE_SIZE:
                _refuse(f"a header line of at most {_LINE_SIZE} bytes", "a longer one")
            yield
        line = yield from self._read(end - self._start)
        self._start += len(_END_OF_LINE)
        return line


def open_body(
    context: SecurityContext, content_type: str, body: Buffer, *, limit: int = DEFAULT_LIMIT
) -> tuple[str, bytes]:
    """Open a whole sealed body; return the Content-Type and the bytes of what was sealed.

    Raises:
        HTTPProtocolError: The body breaks the rules, or is larger than `limit`: close the connection.
        TLSError: A record does not verify: close the connection.
    """
    opener = Opener(context, content_type, limit=limit)
    plaintext = opener.feed(body)
    opener.finish()
    return opener.content_type, plaintext


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon:
        _refuse("a header line with a colon", f"a line of {len(line)} bytes without one")
    return name.strip(" \t").lower(), value.strip(" \t")


def _check_type(headers: dict[str, str], expected: str) -> None:
    came = headers.get("content-type", "")
    if came.lower() != expected.lower():
        _refuse(f"a part of type {expected}", f"one of type {came[:100]!a}")


def _refuse(expected: str, came: str) -> NoReturn:
    raise HTTPProtocolError(f"sealed body: expected {expected}, got {came}")

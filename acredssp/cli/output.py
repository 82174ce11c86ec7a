"""The standard streams of the commands: output that cannot be written is a failure apart from any logon's result.

A full disk, a closed pipe and a closed standard output all raise `OutputError` when the bytes are written. Text that
cannot be written to the standard error is dropped: no other place is left to report it.
"""

import contextlib
import io
import mmap
import os
import pathlib
import select
import stat
import sys
from collections.abc import Iterator
from typing import IO, Any, Final, TextIO, cast

from acredssp.aio import reason_of

__all__ = [
    "CANNOT_WRITE",
    "OutputError",
    "WholeLines",
    "abandon",
    "guarded",
    "never_wait_for_stderr",
    "write_bytes",
    "write_private",
]

CANNOT_WRITE = 74
"""The exit status for output that cannot be written: EX_IOERR of sysexits.h."""

_AT_ONCE: Final = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe is sure to take without waiting once `poll` has reported it as ready."""


class OutputError(OSError):
    """The standard output cannot be written."""


class _Errors:
    """Surrounds a block that writes. If the block cannot, this raises `OutputError`, or nothing if it is quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def __enter__(self) -> None:
        """Do nothing. A class takes fewer steps than a generator, and each line of a log needs this."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, OSError | ValueError):  # a ValueError says that this process has closed the stream
            return False
        if not self._quiet:
            raise _output_error(error) from None
        return True


class _Guarded:
    """A text stream that raises `OutputError` if text cannot be written, or drops such text if it is quiet.

    Args:
        stream: The stream; None if the process was started without one.
        quiet: Whether to drop text that cannot be written.
    """

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        self._stream = stream
        self._errors = _Errors(quiet=quiet)
        self._impatient: WholeLines | None = None
        if stream is not None and hasattr(stream, "reconfigure"):  # a stand-in for a stream may lack the method
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write text, as a text stream does."""
        with self._errors:
            if self._stream is None:
                raise OSError("it is closed")
            if self._impatient is not None:
                self._impatient.write(text)
            else:
                self._stream.write(text)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are, behind the text that was written before; nothing stays in a buffer."""
        with self._errors:
            if self._stream is None:
                raise OSError("it is closed")
            self._stream.flush()
            self._stream.buffer.write(data)
            self._stream.buffer.flush()

    def never_wait(self) -> None:
        """From now on, drop text that the system does not take at once."""
        if self._stream is not None:
            self._impatient = WholeLines(self._stream, waits=False)

    def flush(self) -> None:
        """Flush the stream, as a text stream does."""
        with self._errors:
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class WholeLines:
    """Writes text past a stream's own buffer, which would keep text that the system has not taken and write it later.

    A full disk may take only a part of a line. The next text is then preceded by a line feed.

    Args:
        stream: The stream. A stream without a file below it is written in the usual way.
        torn: One byte that is not zero while the last line has no end; all processes that write to the stream share it.
        waits: Whether to wait for a reader who has stopped reading. Otherwise `write` raises `BlockingIOError`.
    """

    def __init__(self, stream: IO[str], torn: bytearray | mmap.mmap | None = None, *, waits: bool = True) -> None:
        self._stream = stream
        self._torn = bytearray(1) if torn is None else torn
        self._waits = waits or not hasattr(select, "poll")

    def write(self, text: str) -> None:
        """Write whole lines.

        Raises:
            OSError: The lines cannot be written: this is an `OutputError`, or the stream's own error.
        """
        self._stream.flush()
        raw = _file_below(self._stream)
        if raw is None:
            self._stream.write(text)
            self._stream.flush()
            return
        data = text.replace("\n", os.linesep).encode(
            getattr(self._stream, "encoding", None) or "utf-8", "backslashreplace"
        )
        self._write(raw, b"\n" + data if self._torn[0] else data)

    def _write(self, raw: io.RawIOBase, data: bytes) -> None:
        written, torn = 0, self._torn[0]
        self._torn[0] = 1  # in case this process is killed while it writes
        try:
            while written < len(data):
                written += self._write_some(raw, data[written:])
        except (OSError, ValueError) as error:
            raise _output_error(error) from None
        finally:
            if written:
                torn = int(written < len(data) and data[written - 1 : written] != b"\n")
            self._torn[0] = torn

    def _write_some(self, raw: io.RawIOBase, data: bytes) -> int:
        if not self._waits:
            poll = select.poll()
            poll.register(raw.fileno(), select.POLLOUT)
            if not poll.poll(0):
                raise BlockingIOError
            data = data[:_AT_ONCE]
        written = raw.write(data)
        if written is None:
            raise BlockingIOError
        return written


def write_bytes(stream: IO[str], data: bytes) -> None:
    """Write bytes as they are to `sys.stdout` or `sys.stderr` while these are guarded.

    Raises:
        OutputError: The standard output cannot be written.
    """
    assert isinstance(stream, _Guarded)
    stream.write_bytes(data)


def _output_error(error: OSError | ValueError) -> OutputError:
    """Return the `OutputError` for a failed write; a ValueError says that the stream was closed."""
    reason = reason_of(error) if isinstance(error, OSError) else "it is closed"
    return OutputError(f"cannot write the output: {reason}")


def _file_below(stream: IO[str]) -> io.RawIOBase | None:
    """Return the unbuffered file that a text stream writes to; None for a stream in memory."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, io.RawIOBase) else None


def never_wait_for_stderr() -> None:
    """From now on, drop text that the standard error does not take at once: its reader must not hold up a server."""
    if isinstance(sys.stderr, _Guarded):
        sys.stderr.never_wait()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """While the block runs, have the standard output raise `OutputError`, and have the standard error raise nothing."""
    _occupy_standard_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", _Guarded(sys.stdout))
    sys.stderr = cast("TextIO", _Guarded(sys.stderr, quiet=True))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _occupy_standard_descriptors() -> None:
    """Open the null device on each of the descriptors 0 to 2 that is closed.

    A socket would get the number otherwise, and libuv aborts the process when it closes a handle with such a number.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # this takes the lowest free number, which is `descriptor`


def abandon() -> None:
    """Drop the text that the standard output still buffers: Python would fail to write it again and exit with 120."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        target = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, target)
        os.close(nowhere)


def write_private(path: pathlib.Path, data: bytes, *, anew: bool = False) -> None:
    """Write a file that its owner alone can read, also where it was there before for others to read.

    Args:
        path: The file.
        data: Its content.
        anew: Whether a file that is there is an error, and never written to.

    Raises:
        OSError: It cannot be written.
    """
    # A pipe that nobody reads is an error, and nothing to wait for.
    at_once = getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_EXCL if anew else os.O_TRUNC) | at_once, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if at_once:
            os.set_blocking(descriptor, True)
        if os.name != "nt" and stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
        file.write(data)

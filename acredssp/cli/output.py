"""The standard streams of the commands: output that cannot be written is a failure of its own, no logon's result.

A full disk, a closed pipe and a closed standard output all end in `OutputError`, where the bytes leave. What cannot be
written to the standard error is dropped: there is nobody left to tell.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from acredssp.cli.outcome import reason_of

__all__ = ["CANNOT_WRITE", "OutputError", "abandon", "guarded"]

CANNOT_WRITE = 74
"""The exit status for output that cannot be written: EX_IOERR of sysexits.h."""


class OutputError(OSError):
    """The standard output cannot be written."""


class _Guarded:
    """A text stream that raises `OutputError` where it cannot be written; quiet: that drops what cannot be written.

    Args:
        stream: The stream; None where the process was started without one.
        quiet: Whether to drop what cannot be written.
    """

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        if stream is not None and hasattr(stream, "reconfigure"):  # not every stand-in has it
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write, as a text stream does."""
        with self._errors():
            if self._stream is None:
                raise OSError("it is closed")
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, as a text stream does."""
        with self._errors():
            if self._stream is not None:
                self._stream.flush()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it was closed in this process
            if self._quiet:
                return
            reason = reason_of(error) if isinstance(error, OSError) else "it is closed"
            raise OutputError(f"cannot write the output: {reason}") from None

    def isatty(self) -> bool:
        """Whether a person reads it at a terminal."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Have the standard output raise `OutputError`, and the standard error nothing, for as long as the block runs."""
    _occupy_standard_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", _Guarded(sys.stdout))
    sys.stderr = cast("TextIO", _Guarded(sys.stderr, quiet=True))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _occupy_standard_descriptors() -> None:
    """Leave none of 0 to 2 closed: a socket would get the number, and libuv aborts the process when it closes that."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def abandon() -> None:
    """Drop what the standard output still holds: Python would fail on it once more at its end, with status 120."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        target = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, target)
        os.close(nowhere)

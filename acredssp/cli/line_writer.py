"""A thread that writes the lines of `serve`, so that a reader who stops reading holds up no logon.

Lines wait in a queue of bounded length. Lines that do not fit or cannot be written are dropped and counted.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from acredssp.cli.output import OutputError

__all__ = ["LineWriter"]

_MOST: Final = 1000
"""The most lines that may wait: about as many as one core serves logons in a second, and about one MiB."""
_END: Final = 1.0
"""Seconds that `end` waits for the lines that are left."""


class LineWriter:
    """Writes lines from a thread of its own, which starts with the first line.

    Args:
        write: Writes one line; it may raise `OutputError`.
        warn: Called with a sentence when lines are lost, from either thread. It must not block.
        most: The most lines that may wait.
        end: Seconds that `end` waits for the lines that are left.
    """

    def __init__(
        self, write: Callable[[str], None], warn: Callable[[str], None], *, most: int = _MOST, end: float = _END
    ) -> None:
        self._write = write
        self._warn = warn
        self._end = end
        self._lines: queue.Queue[str | None] = queue.Queue(most)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._lost = 0
        """How many lines were lost since the output could last be written."""

    def put(self, line: str) -> None:
        """Queue a line; it is written after those before it. Never waits."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="acredssp lines", daemon=True)
            self._thread.start()
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lose("cannot write the output: the program that reads it has stopped reading")

    def end(self) -> None:
        """Wait a moment for the lines that are left to be written."""
        if self._thread is None:
            return
        deadline = time.monotonic() + self._end
        try:
            self._lines.put(None, timeout=self._end)
        except queue.Full:
            pass
        else:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._warn(f"the output cannot be written: {self._lost + self._lines.qsize()} lines were lost")

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line)
            except OutputError as error:  # the reader has gone, or the disk is full: serving goes on all the same
                self._lose(str(error))
            else:
                if self._lost and self._lines.empty():
                    self._found()

    def _lose(self, why: str) -> None:
        with self._lock:
            first, self._lost = not self._lost, self._lost + 1
        if first:
            self._warn(f"{why}: the server goes on without a line for each handshake")

    def _found(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        self._warn(f"the output can be written again: {lost} lines were lost")

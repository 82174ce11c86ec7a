"""A thread that writes the lines of `serve`: a reader who lives and does not read holds up no logon.

Lines wait in a queue of bounded length. Those beyond it are dropped and counted, as are those that cannot be written.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from acredssp.cli.output import OutputError

__all__ = ["LineWriter"]

_MOST: Final = 1000
"""Lines that may wait: about one second of what one core can serve, and one MiB."""
_END: Final = 1.0
"""Seconds that the end waits for the lines that are left."""


class LineWriter:
    """Writes lines, from a thread of its own that begins with the first one.

    Args:
        write: Writes one line; it may raise `OutputError`.
        warn: Told in a sentence what is lost, from either thread. It must not wait for anybody.
        most: Lines that may wait.
        end: Seconds that the end waits for the lines that are left.
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
        """Lines that were lost since all was well."""

    def put(self, line: str) -> None:
        """Have a line written, in its turn."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="acredssp lines", daemon=True)
            self._thread.start()
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lose("cannot write the output: its reader does not read")

    def end(self) -> None:
        """Wait for the lines that are left, and not for long."""
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
            self._warn(f"the output cannot be written: {self._lost + self._lines.qsize()} lines are lost")

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line)
            except OutputError as error:  # the reader has gone, or the disk is full: no reason to serve nobody
                self._lose(str(error))
            else:
                if self._lost and self._lines.empty():
                    self._found()

    def _lose(self, why: str) -> None:
        with self._lock:
            first, self._lost = not self._lost, self._lost + 1
        if first:
            self._warn(f"{why}: serving goes on without a line for each handshake")

    def _found(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        self._warn(f"the output can be written again: {lost} lines are lost")

"""How connections are accepted: a few in each turn of the loop, and none while the process has no descriptor left.

The servers of the loops behave differently. asyncio accepts as many connections in one callback as its backlog says,
and writes as many tracebacks when descriptors run out. uvloop then accepts each waiting connection and closes it again.
This module leaves connections in the kernel's queue until there are descriptors.

A loop that watches no sockets (Windows' proactor) accepts by itself; see `CredSSPServer.start_serving`.

Who calls: `server`.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from typing import Final

from acredssp.aio.reasons import reason_of
from acredssp.aio.report import Sparingly
from acredssp.logs import get_logger

__all__ = ["ACCEPTS_A_TURN", "Listening"]

_logger = get_logger("acredssp")

ACCEPTS_A_TURN: Final = 32
"""The most connections to accept in one callback. A thousand would hold up all others for 5 to 10 ms."""

_GONE: Final = frozenset({
    errno.ECONNABORTED, errno.EINTR, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.EOPNOTSUPP,
})  # fmt: skip
"""Errors of the one connection that was to be accepted, which say nothing of the next one (accept(2))."""

_RETRY: Final = 1.0
"""Seconds between two tries while nothing can be accepted."""


class Listening:
    """Listening sockets, and whether connections are accepted from them.

    Args:
        sockets: Bound sockets, which belong to this object; `close()` closes them.
        accepted: Called with each connection, a non-blocking socket, and its peer address.
    """

    def __init__(self, sockets: Iterable[socket.socket], accepted: Callable[[socket.socket, object], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = [*sockets]
        self._accepted = accepted
        self._retry: asyncio.TimerHandle | None = None
        self._lines = Sparingly()
        self.active = False
        """Whether connections are accepted, or will be as soon as there are descriptors."""

    def start(self, backlog: int) -> None:
        """Listen, and accept connections.

        Args:
            backlog: Connections that the kernel keeps while the loop is busy.

        Raises:
            NotImplementedError: The loop watches no sockets.
        """
        if self.active:
            return
        for listening in self._sockets:
            self._watch(listening)  # comes first, since it may raise
            listening.listen(backlog)
        self.active = True

    def resume(self) -> None:
        """If descriptors had run out, try again at once, since one is free now."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
            for listening in self._sockets:
                self._watch(listening)

    def close(self) -> None:
        """Stop listening, and close the sockets."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        elif self.active:
            self._ignore_all()
        self.active = False
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()

    def _watch(self, listening: socket.socket) -> None:
        self._loop.add_reader(listening, self._accept, listening)

    def _ignore_all(self) -> None:
        for listening in self._sockets:
            self._loop.remove_reader(listening)

    def _accept(self, listening: socket.socket) -> None:
        """Accept a few of the waiting connections; the loop calls again for the others."""
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._pause(error)
                return
            connection.setblocking(False)
            self._accepted(connection, address)
            if not self.active:
                return  # `_accepted` has closed this object

    def _pause(self, error: OSError) -> None:
        """Leave the connections in the kernel's queue for a while."""
        self._ignore_all()
        self._retry = self._loop.call_later(_RETRY, self.resume)
        if self._lines.lets(self._loop.time()):
            _logger.warning("no connection can be accepted: %s; new connections have to wait", reason_of(error))

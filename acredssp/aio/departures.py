"""Tells when the peer of a connection leaves while nothing is read from the connection.

A reader of the loop (`add_reader`) cannot do this: the loop calls it for data, too, and again and again, since nobody
reads the data. So an epoll object watches for the end alone (EPOLLRDHUP), and the loop watches the epoll object. The
epoll object exists only while a connection is watched.

Who calls: `server`, for connections that wait in the queue, and while it waits for the answer of `accept`.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable, Iterator

__all__ = ["Departures", "has_left"]


class Departures:
    """Watches those connections of one server from which nothing is read.

    Only Linux tells of an end behind unread data. On other systems, no connection is watched. The same holds while no
    file descriptor is left for the epoll object.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._told: dict[int, Callable[[], object]] = {}

    @contextlib.contextmanager
    def watching(self, connection: socket.socket, left: Callable[[], object]) -> Iterator[None]:
        """Call `left` once, from the loop, if the peer ends the connection meanwhile or has ended it before.

        Args:
            connection: The socket to watch. Do not read from it or close it before the block has ended.
            left: Called without arguments.
        """
        descriptor = connection.fileno()
        try:
            with contextlib.suppress(OSError):
                self._watch(descriptor, left)
            yield
        finally:
            self._forget(descriptor)

    def _watch(self, descriptor: int, left: Callable[[], object]) -> None:
        if self._epoll is None:
            if not hasattr(select, "EPOLLRDHUP"):
                return
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._tell)
        self._told[descriptor] = left
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def _forget(self, descriptor: int) -> None:
        if self._told.pop(descriptor, None) is None:
            return
        assert self._epoll is not None
        with contextlib.suppress(OSError):  # it could not be registered
            self._epoll.unregister(descriptor)
        if not self._told:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _tell(self) -> None:
        assert self._epoll is not None
        for descriptor, _ in self._epoll.poll(0):
            self._told[descriptor]()


def has_left(connection: socket.socket) -> bool:
    """Whether the peer of a connection has closed it, even if data in front of the end is not read yet.

    Only Linux tells this; on other systems the answer is always False.
    """
    if not hasattr(select, "POLLRDHUP"):
        return False
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))

"""A bounded pool of connections that are logged on, each for one identity.

A connection is taken by one request at a time. If none is idle and no more may be made, requests wait in line, and the
first of the line is served first, whatever its identity. An idle connection of another identity makes room.

No method but `take` waits, so none is cut short by a cancellation.
"""

import asyncio
import collections
from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

from acredssp.errors import LocalProtocolError
from acredssp.http.errors import PoolTimeout

__all__ = ["Pool", "Poolable"]

_CLOSED_HINT: Final = "send requests before its close(), or within its `async with`; or make another client"


class Poolable(Protocol):
    """A connection."""

    @property
    def identity(self) -> Hashable:
        """Whose connection to which service it is. Connections of equal identities may be exchanged for each other."""

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""

    def abort(self) -> None:
        """End the connection at once."""


_Connection = TypeVar("_Connection", bound=Poolable)


class Pool(Generic[_Connection]):
    """The connections of one client.

    Args:
        max_connections: How many connections may be there at a time, those that are being made included.
        idle_timeout: Seconds after which an idle connection is closed.
    """

    def __init__(self, max_connections: int, idle_timeout: float) -> None:
        self._max, self._idle_timeout = max_connections, idle_timeout
        self._idle: dict[_Connection, float] = {}
        """When each idle connection ends, in the loop's time; the one that has been idle for longest comes first."""
        self._idle_of: dict[Hashable, dict[_Connection, None]] = {}
        """The idle connections of each identity, in the same order."""
        self._busy: set[_Connection] = set()
        self._places = 0
        """How many connections are being made."""
        self._line: collections.deque[tuple[Hashable, asyncio.Future[_Connection | None]]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy) + self._places

    async def take(self, identity: Hashable, seconds: float | None) -> _Connection | None:
        """Take an idle connection, or a place for a new one; wait for either if there is none.

        Args:
            identity: The identity of the connection.
            seconds: How long to wait.

        Returns:
            A connection, to be given back by `put`. None is a place: call `add` with the connection that was made, or
            `leave` if none could be made.

        Raises:
            PoolTimeout: No connection became free in time.
            LocalProtocolError: The pool is closed.
        """
        future: asyncio.Future[_Connection | None] = asyncio.get_running_loop().create_future()
        self._line.append((identity, future))
        self._serve()
        if future.done():
            return future.result()
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            self._withdraw(future)
            raise PoolTimeout(
                f"no connection became free within {seconds:g} seconds, {len(self)} are in use",
                hint="raise max_connections, or close responses that are no longer read",
            ) from None
        except BaseException as error:
            self._withdraw(future)
            if isinstance(error, asyncio.CancelledError):  # a caller whose time limit has passed learns of it
                error.add_note("while it waited for a connection")
            raise

    def add(self, connection: _Connection) -> None:
        """Put a new connection, which is in use, into the place that was taken for it."""
        self._places -= 1
        self._busy.add(connection)
        if self.closed:
            self.put(connection)

    def leave(self) -> None:
        """Give a place back."""
        self._places -= 1
        self._serve()

    def put(self, connection: _Connection) -> None:
        """Give a connection back. It is kept for other requests if it can be used."""
        if connection not in self._busy:
            return
        self._busy.discard(connection)
        if self.closed or not connection.is_usable:
            connection.abort()
        else:
            self._idle[connection] = asyncio.get_running_loop().time() + self._idle_timeout
            self._idle_of.setdefault(connection.identity, {})[connection] = None
            self._set_timer()
        self._serve()

    def close(self) -> None:
        """End all connections, and turn away all requests that wait."""
        self.closed = True
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()
        self._idle_of.clear()
        self._set_timer()
        self._serve()

    def _withdraw(self, future: "asyncio.Future[_Connection | None]") -> None:
        """Take a request out of the line. If the request was given a connection or a place meanwhile, give it back."""
        self._line = collections.deque(each for each in self._line if each[1] is not future)
        if not future.done() or future.cancelled() or future.exception() is not None:
            return
        connection = future.result()
        if connection is None:
            self.leave()
        else:
            self.put(connection)

    def _serve(self) -> None:
        """Give connections and places to the waiting requests, in their order, until none is left to give."""
        while self._line:
            identity, future = self._line[0]
            if future.done():  # its request was cancelled, and has not been told yet
                self._line.popleft()
            elif self.closed:
                self._line.popleft()
                future.set_exception(LocalProtocolError("the client is closed: nothing was sent", hint=_CLOSED_HINT))
            elif (connection := self._idle_one(identity)) is not None:
                self._line.popleft()
                self._busy.add(connection)
                future.set_result(connection)
            elif len(self) < self._max or self._evict():
                self._line.popleft()
                self._places += 1
                future.set_result(None)
            else:
                return

    def _idle_one(self, identity: Hashable) -> _Connection | None:
        """Take the idle connection of an identity that was used last, and end those that the server has closed."""
        while idle := self._idle_of.get(identity):
            connection = next(reversed(idle))
            self._forget(connection)
            if connection.is_usable:
                return connection
            connection.abort()
        return None

    def _evict(self) -> bool:
        """End the connection that has been idle for longest; return whether there was one."""
        oldest = next(iter(self._idle), None)
        if oldest is None:
            return False
        self._forget(oldest)
        oldest.abort()
        return True

    def _forget(self, connection: _Connection) -> None:
        """Remove an idle connection from `_idle` and `_idle_of`."""
        del self._idle[connection]
        same = self._idle_of[connection.identity]
        del same[connection]
        if not same:
            del self._idle_of[connection.identity]

    def _set_timer(self) -> None:
        if not self._idle and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif self._idle and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(next(iter(self._idle.values())), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in [each for each, end in self._idle.items() if end <= now]:
            self._forget(connection)
            connection.abort()
        self._set_timer()

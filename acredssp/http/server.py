"""A small server of HTTP/1.1 on asyncio, for labs, tests and gateways: h11 under it, CredSSP on every connection.

    server = await start_http_server(app, "127.0.0.1", 5985, config=config)
    async with server:
        await server.serve_forever()

The application is one of ASGI, and the same under uvicorn (`acredssp.http.uvicorn`), which has more: worker processes,
access logs, the events of `lifespan`.
"""

import asyncio
import contextlib
import socket
import ssl as tls
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, cast

from acredssp.aio import FailureLimit, HandshakeHook
from acredssp.config import ServerConfig
from acredssp.errors import LimitExceeded
from acredssp.http.asgi import ASGIApp, CredSSPMiddleware
from acredssp.http.h11_connection import READ_SIZE, H11Connection
from acredssp.http.limits import HTTPLimits
from acredssp.http.places import places_of
from acredssp.tls import own_chain

__all__ = ["HTTPLimits", "HTTPServer", "start_http_server"]

_LOOK_SECONDS: Final = 1.0
"""Seconds between two looks at what clients of HTTPS leave unread."""
_SHUTDOWN_SECONDS: Final = 5.0
"""Seconds that a client of HTTPS gets for its close_notify."""


async def start_http_server(  # noqa: PLR0913 - the shape of asyncio.start_server
    app: ASGIApp,
    host: str | None = None,
    port: int | None = None,
    *,
    config: ServerConfig,
    ssl: tls.SSLContext | None = None,
    limits: HTTPLimits | None = None,
    max_failures: FailureLimit | None = None,
    max_failed_per_second: int | None = 20,
    on_handshake: HandshakeHook | None = None,
    dangerous_allow_unsealed: bool = False,
    sock: socket.socket | None = None,
    backlog: int = 100,
) -> "HTTPServer":
    """Listen, and serve an ASGI application to clients that log on by CredSSP.

    Args:
        app: The application. `CredSSPMiddleware` is put around it: give it without one.
        host: The address to listen on; None for all addresses of the machine.
        port: The TCP port.
        config: The certificate inside CredSSP, the hooks and the policy.
        ssl: The certificate of HTTPS; None for plain HTTP, in which CredSSP has its own TLS all the same. Logons are
            bound to this certificate: a client that sends channel bindings must send this one's.
        limits: What the server takes of its clients; None for the defaults of `HTTPLimits`.
        max_failures: How many wrong passwords a source may send for an account before it has to wait; None for no
            limit.
        max_failed_per_second: As for `CredSSPMiddleware`.
        on_handshake: Called with a report once each logon has ended; it must not block.
        dangerous_allow_unsealed: As for `CredSSPMiddleware`.
        sock: A bound socket, in place of host and port.
        backlog: Connections that the kernel keeps while the loop is busy.

    Raises:
        OSError: The address cannot be listened on.
        PolicyError: `ssl` presents no certificate, or certificates of several kinds.
    """
    if isinstance(app, CredSSPMiddleware):
        raise TypeError("app: expected an application, got a CredSSPMiddleware, which the server adds by itself")
    if ssl is not None:
        own_chain(ssl)
    middleware = CredSSPMiddleware(
        app,
        config,
        max_failures=max_failures,
        max_failed_per_second=max_failed_per_second,
        on_handshake=on_handshake,
        dangerous_allow_unsealed=dangerous_allow_unsealed,
    )
    server = HTTPServer(middleware, limits or HTTPLimits(), ssl)
    await server.listen(host, port, sock, backlog)
    return server


class HTTPServer:
    """What `start_http_server` returns. As an asynchronous context manager it drains at its end."""

    def __init__(self, app: ASGIApp, limits: HTTPLimits, ssl: tls.SSLContext | None) -> None:
        self._app = app
        self._limits = limits
        self._ssl = ssl
        self._listener: asyncio.Server
        self._places = places_of(limits)
        self._connections: dict[H11Connection, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    def __repr__(self) -> str:
        where = ", ".join(str(each.getsockname()) for each in self.sockets)
        return f"<HTTPServer {where or 'closed'}, {len(self._connections)} connections>"

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty after the server is closed."""
        return tuple(self._listener.sockets)

    async def listen(self, host: str | None, port: int | None, sock: socket.socket | None, backlog: int) -> None:
        """Listen; `start_http_server` does so."""
        options: dict[str, Any] = {"sock": sock} if sock is not None else {"host": host, "port": port}
        if self._ssl is not None:
            options |= {
                "ssl": self._ssl,
                "ssl_handshake_timeout": self._limits.logon_timeout,
                "ssl_shutdown_timeout": _SHUTDOWN_SECONDS,
            }
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Accepting(self._accepted), backlog=backlog, **options)

    async def serve_forever(self) -> None:
        """Serve until cancelled, then drain."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.drain()

    def close(self) -> None:
        """Stop listening. Connections stay open."""
        self._listener.close()

    async def drain(self, seconds: float = 10.0) -> None:
        """Stop listening, close idle connections, and let requests that have begun end.

        Args:
            seconds: After this time, the connections that are left are cut.
        """
        self.close()
        for connection in self._connections:
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._connections:
                    await asyncio.wait(self._connections.values())
        for task in self._connections.values():
            task.cancel()
        while self._connections:
            await asyncio.wait(self._connections.values())

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at: float) -> H11Connection:
        connection = H11Connection(reader, writer, self._app, self._limits, at)
        try:
            self._places.enter(connection)
        except LimitExceeded:
            connection.turn_away()
            return connection
        connection.task = task = asyncio.get_running_loop().create_task(connection.run())
        self._connections[connection] = task
        if self._ssl is not None and self._timer is None:
            self._look_later()
        task.add_done_callback(lambda _: self._ended(connection))
        return connection

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Cut the clients of HTTPS that flood us."""
        for connection in self._connections:
            connection.cut_if_flooded()
        self._look_later()

    def _ended(self, connection: H11Connection) -> None:
        task = self._connections.pop(connection)
        self._places.leave(connection)
        if not self._connections and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": "a connection of http failed", "exception": error})


class _Accepting(asyncio.StreamReaderProtocol):
    """Hands over a connection at once, so that limits are checked before anything of it is read; tells of its end."""

    def __init__(self, accepted: Callable[[asyncio.StreamReader, asyncio.StreamWriter, float], H11Connection]) -> None:
        self._accepted_at = asyncio.get_running_loop().time()  # loops make a protocol before the handshake of TLS
        self._reader = asyncio.StreamReader(READ_SIZE)
        self._accepted = accepted
        self._connection: H11Connection | None = None
        super().__init__(self._reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection = cast("asyncio.WriteTransport", transport)  # uvloop's have other base classes
        writer = asyncio.StreamWriter(connection, self, self._reader, asyncio.get_running_loop())
        self._connection = self._accepted(self._reader, writer, self._accepted_at)

    def eof_received(self) -> bool | None:
        self._tell_end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell_end()
        super().connection_lost(exc)

    def _tell_end(self) -> None:
        if self._connection is not None:
            self._connection.note_left()

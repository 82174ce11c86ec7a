"""Pages over HTTP on a socket that listens already.

A connection has so many seconds to bring a whole request and take the answer, and a source so many connections at a
time: aiohttp itself waits for ever for the rest of a request.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, cast

from aiohttp import web

from acredssp.aio import source_of

__all__ = ["serve"]

_logger = logging.getLogger("acredssp.proxy.web")

_PATIENCE: Final = 30.0
"""Seconds for a request with its answer, and between two of them. Prometheus comes every 15 seconds by default."""
_MOST_PER_SOURCE: Final = 64


def _without_quotes(record: logging.LogRecord) -> bool:
    """Keep an error's traceback out of the log: that of a request which cannot be parsed quotes its headers."""
    if record.exc_info and record.exc_info[0] is not None:
        record.msg, record.args = "a request failed with %s", (record.exc_info[0].__name__,)
        record.exc_info = None
    return True


_logger.addFilter(_without_quotes)


class _Door(asyncio.Protocol):
    """Takes one connection, and hands it to aiohttp."""

    def __init__(self, house: "_House") -> None:
        self._house = house

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._house.take(cast("asyncio.Transport", transport))


class _House:
    """The connections to one server.

    Args:
        runner: Makes aiohttp's protocol of a connection.
        context: TLS; None for none.
    """

    def __init__(self, runner: web.AppRunner, context: ssl.SSLContext | None) -> None:
        self._runner = runner
        self._context = context
        self._sources: dict[asyncio.Transport, str] = {}
        self._timers: dict[asyncio.BaseProtocol, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}
        self._securing: set[asyncio.Task[None]] = set()

    def take(self, transport: asyncio.Transport) -> None:
        """Take a connection, or cut it if its source has too many."""
        source = source_of(transport.get_extra_info("peername"))
        self._sources = {each: whose for each, whose in self._sources.items() if not each.is_closing()}
        if [*self._sources.values()].count(source) >= _MOST_PER_SOURCE:
            transport.abort()
            return
        self._sources[transport] = source
        handler = cast("web.Server", self._runner.server)()
        self._wait(transport, handler)
        if self._context is None:
            transport.set_protocol(handler)
            handler.connection_made(transport)
        else:
            transport.pause_reading()  # until TLS reads
            task = asyncio.get_running_loop().create_task(self._secure(transport, handler, self._context))
            self._securing.add(task)
            task.add_done_callback(self._securing.discard)

    async def _secure(self, transport: asyncio.Transport, handler: web.RequestHandler, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            loop = asyncio.get_running_loop()
            secure = await loop.start_tls(
                transport, handler, context, server_side=True, ssl_handshake_timeout=_PATIENCE
            )
            if secure is not None and not transport.is_closing():
                handler.connection_made(secure)
                return
        transport.abort()

    def _wait(self, transport: asyncio.Transport, handler: asyncio.BaseProtocol) -> None:
        def late() -> None:
            del self._timers[handler]
            transport.abort()

        self._timers[handler] = transport, asyncio.get_running_loop().call_later(_PATIENCE, late)

    @web.middleware
    async def wait_again(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer a request; the time of the next one begins then."""
        response = await handler(request)
        if request.protocol in self._timers:
            transport, timer = self._timers[request.protocol]
            timer.cancel()
            self._wait(transport, request.protocol)
        return response

    async def close(self) -> None:
        """Cut what is left."""
        for transport, timer in self._timers.values():
            timer.cancel()
            transport.abort()
        if self._securing:
            await asyncio.wait(self._securing)


@contextlib.asynccontextmanager
async def serve(
    pages: web.Application, sock: socket.socket, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve pages for as long as the block runs.

    Args:
        pages: The pages.
        sock: The socket.
        context: TLS; None for none.
    """
    runner = web.AppRunner(pages, access_log=None, logger=_logger, shutdown_timeout=1.0)
    house = _House(runner, context)
    pages.middlewares.append(house.wait_again)
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(lambda: _Door(house), sock=sock)
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()
        await house.close()

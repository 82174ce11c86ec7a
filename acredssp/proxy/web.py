"""Pages over HTTP on a socket that listens already."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

from aiohttp import web

__all__ = ["serve"]


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
    runner = web.AppRunner(pages, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, sock, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()

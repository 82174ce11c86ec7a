"""Pages over HTTP on a socket that listens already."""

import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator

from aiohttp import web

__all__ = ["serve"]

_logger = logging.getLogger("acredssp.proxy.web")


def _without_quotes(record: logging.LogRecord) -> bool:
    """Keep an error's traceback out of the log: that of a request which cannot be parsed quotes its headers."""
    if record.exc_info and record.exc_info[0] is not None:
        record.msg, record.args = "a request failed with %s", (record.exc_info[0].__name__,)
        record.exc_info = None
    return True


_logger.addFilter(_without_quotes)


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
    await runner.setup()
    try:
        await web.SockSite(runner, sock, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()

"""Bare TLS in plumbing of the same shape as acredssp's: what CredSSP alone adds over loopback.

A buffered protocol that shares one read buffer, stores what comes and wakes a coroutine under a deadline; two memory
BIOs; one write a flight; a task for each accepted connection. Written for its own sake, with nothing of acredssp, and
with nothing that a handshake and a clean close do not need.
"""

import asyncio
import contextlib
import ssl

from benchmarks.links import BACKLOG, HOST, PATIENCE, keep
from benchmarks.peers import NAME, Setting

_BUFFER = memoryview(bytearray(64 * 1024))


class Connection(asyncio.BufferedProtocol):
    """One end."""

    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=name is None, server_hostname=name)
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def get_buffer(self, _sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, size: int) -> None:
        self._incoming.write(_BUFFER[:size])
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        self._ended = True
        self._wake()
        self._lost.set_result(None)

    async def shake_hands(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self._try_handshake():
                await self._more()

    def _try_handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            if self._outgoing.pending:
                self._transport.write(self._outgoing.read())
        return True

    async def read_to_the_end(self) -> None:
        while not self._ended:
            try:
                if not self._tls.read(16384):
                    return
            except ssl.SSLWantReadError:
                await self._more()
            except ssl.SSLZeroReturnError:
                return

    async def close(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # the peer has not answered yet
            self._tls.unwrap()
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
        self._transport.close()
        await self._lost

    async def _more(self) -> None:
        if self._ended:
            raise ConnectionResetError
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Accepted(Connection):
    """A server's end, which looks after itself."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        keep(asyncio.get_running_loop().create_task(self._serve()))

    async def _serve(self) -> None:
        await self.shake_hands()
        await self.read_to_the_end()
        await self.close()


async def listen(setting: Setting) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Accepted(setting.server_context, None), HOST, 0, backlog=BACKLOG)


async def connect(setting: Setting, port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(setting.client_context, NAME), HOST, port)
    await connection.shake_hands()
    return connection

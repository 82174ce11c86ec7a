"""The bytes of one connection of httpcore: what a lost connection raises, on every loop."""

import asyncio
import contextlib
import ssl

import httpcore
import pytest
from support.listener import Listener

from acredssp.http import httpcore_wire

CONTEXT = ssl.create_default_context()


class Dropping(Listener):
    """Ends each connection as soon as it is open."""

    async def __aenter__(self):
        return await self.listen()

    async def serve(self, reader, writer):
        writer.close()


@contextlib.asynccontextmanager
async def lost_connection(monkeypatch):
    """Give a connection that has been lost: the loop has closed its transport."""
    gone = asyncio.Event()
    connection_lost = httpcore_wire._Stream.connection_lost

    def noting(self, error):
        connection_lost(self, error)
        asyncio.get_running_loop().call_soon(gone.set)

    monkeypatch.setattr(httpcore_wire._Stream, "connection_lost", noting)
    async with Dropping() as port:
        stream = await httpcore_wire._Stream.connect(httpcore, "127.0.0.1", port)
        await gone.wait()
        yield stream


async def test_a_write_to_a_lost_connection_is_a_write_error(monkeypatch):
    """uvloop raises a RuntimeError, which is of no documented class."""
    async with lost_connection(monkeypatch) as stream:
        with pytest.raises(httpcore.WriteError, match="the connection ended"):
            await stream.write(b"x")
        assert await stream.read(1) == b""
        assert not stream.is_quiet


async def test_tls_on_a_lost_connection_is_a_lost_connection(monkeypatch):
    async with lost_connection(monkeypatch) as stream:
        with pytest.raises(ConnectionResetError, match="the connection ended before the handshake of tls"):
            await stream.start_tls(CONTEXT, "localhost")

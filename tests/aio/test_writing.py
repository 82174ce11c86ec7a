"""What is written to a connection that closes: nothing on any loop, and no error."""

import asyncio
import contextlib

import pytest
from support.endpoints import client_config

from acredssp.aio import check_rdp, judge_server, pass_until_answer, write_if_open
from acredssp.errors import PeerClosed
from acredssp.rdp import read_negotiation


@contextlib.asynccontextmanager
async def connections(number=1):
    """Connections to a server that takes them and says nothing."""
    accepted = []
    server = await asyncio.start_server(lambda *streams: accepted.append(streams), "127.0.0.1", 0)
    opened = [await asyncio.open_connection(*server.sockets[0].getsockname()) for _ in range(number)]
    try:
        yield opened
    finally:
        for _, writer in [*opened, *accepted]:
            writer.transport.abort()
        server.close()


async def end(writer):
    """End a connection. uvloop raises an error for whatever is written once the transport knows of the end."""
    writer.transport.abort()
    await writer.wait_closed()


async def test_a_connection_that_has_closed_gets_nothing():
    async with connections() as [(_, writer)]:
        await end(writer)
        write_if_open(writer, b"late")
        write_if_open(writer.transport, b"late")


async def test_the_check_of_a_host_tells_that_the_connection_has_closed():
    async with connections() as [streams]:
        await end(streams[1])
        with pytest.raises(PeerClosed, match="it ended the connection in place of a connection confirm"):
            await check_rdp(streams)


async def test_the_check_of_a_certificate_tells_that_the_connection_has_closed():
    async with connections() as [streams]:
        await end(streams[1])
        with pytest.raises(PeerClosed):
            await judge_server(streams, client_config(), server_hostname="server")


async def test_what_a_client_sends_to_a_target_that_has_closed_is_dropped():
    async with connections(2) as [client, target]:
        client[0].feed_data(b"early")
        await end(target[1])
        with pytest.raises(EOFError):
            await pass_until_answer(client, target, read_negotiation)

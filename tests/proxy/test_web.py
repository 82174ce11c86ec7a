"""Pages over HTTP: what one client may hold of them."""

import asyncio
import contextlib
import socket

import pytest
from aiohttp import web as aio
from support.endpoints import until

from acredssp import Policy, self_signed, server_context_from_pem
from acredssp.proxy import web

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture(scope="module")
def context():
    return server_context_from_pem(Policy(), *self_signed(["localhost"], "ec"))


@contextlib.asynccontextmanager
async def served(context=None):
    async def echo(request):
        return aio.Response(body=await request.read())

    pages = aio.Application()
    pages.add_routes([aio.post("/", echo)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        async with web.serve(pages, listener, context):
            yield port


async def closed(reader):
    """Whatever comes until the connection has ended."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


@pytest.mark.parametrize("sent", [b"", b"POST / HT", HEAD[:-2], HEAD, HEAD + b"1234"])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_request_that_is_not_finished_is_cut(monkeypatch, context, sent, tls):
    monkeypatch.setattr(web, "_PATIENCE", 0.2)
    async with served(context if tls else None) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await closed(reader)
        writer.close()


async def test_a_source_has_so_many_connections_and_no_more(monkeypatch):
    monkeypatch.setattr(web, "_MOST_PER_SOURCE", 3)
    async with served() as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in held:
            writer.write(HEAD + b"12345")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        more, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await closed(more) == b""
        writer.close()
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"12345")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_connection_stays_as_long_as_requests_come(monkeypatch):
    monkeypatch.setattr(web, "_PATIENCE", 3600)
    waits = []
    monkeypatch.setattr(web._House, "_wait", lambda self, *args, wait=web._House._wait: waits.append(wait(self, *args)))
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(2, 5):
            writer.write(HEAD + b"12345")
            await reader.readuntil(b"12345")
            await until(lambda: len(waits) == number)  # noqa: B023
        writer.close()

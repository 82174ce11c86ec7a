"""Our clients and our server over HTTP, with each other."""

import asyncio
import contextlib
import tracemalloc

import httpx
import pytest
from support import endpoints
from support.http_senders import SENDERS
from support.http_toy import OUTER, TRUSTING, client_config, lookup

from acredssp.credentials import Password
from acredssp.errors import AuthenticationError, PeerClosed
from acredssp.http.httpx import CredSSPTransport
from acredssp.http.server import HTTPLimits, start_http_server

PIECE = 65_536
SIZES = [1, 16_383, 16_384, 16_385, 1 << 20]
CONFIGS = {version: client_config(endpoints.tls_policy(version)) for version in endpoints.TLS_VERSIONS}
WRONG = client_config(authenticate=Password("wrong", "bob", "CONTOSO"))


class App:
    """Gives bodies back in upper case, and notes who sent how many bytes.

    The answer begins when the whole body has come: like httpx over plain HTTP, its client reads nothing before.
    """

    def __init__(self):
        self.served = []

    async def __call__(self, scope, receive, send):
        event = await receive()
        body = event["body"]
        while event.get("more_body", False):
            event = await receive()
            body += event["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body.upper()})
        self.served.append((str(scope["credssp"].principal), len(body)))


@contextlib.asynccontextmanager
async def serving(scheme, app=None):
    app, config = app or App(), endpoints.server_config(lookup=lookup)
    outer = OUTER.context if scheme == "https" else None
    limits = HTTPLimits(body_size=64 << 20)
    async with await start_http_server(app, "127.0.0.1", 0, config=config, ssl=outer, limits=limits) as server:
        port = server.sockets[0].getsockname()[1]
        yield app, f"{scheme}://localhost:{port}/wsman"


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("version", CONFIGS)
async def test_each_client_logs_on_and_bodies_pass_both_ways(send, scheme, version):
    bodies = [b"x" * size for size in SIZES]
    async with serving(scheme) as (app, url):
        assert await send(CONFIGS[version], url, bodies) == [body.upper() for body in bodies]
    assert app.served == [("CONTOSO\\bob", size) for size in SIZES]


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
async def test_a_body_of_20_mib_passes_both_ways(send):
    async with serving("http") as (app, url):
        (answer,) = await send(CONFIGS["TLSv1.3"], url, [b"x" * (20 << 20)])
    assert answer == b"X" * (20 << 20)
    assert app.served == [("CONTOSO\\bob", 20 << 20)]


class Counter:
    """Takes a body of any size and answers with as many bytes, in pieces, and keeps none of them."""

    async def __call__(self, scope, receive, send):
        size, more = 0, True
        while more:
            event = await receive()
            size, more = size + len(event["body"]), event.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(size // PIECE):
            await send({"type": "http.response.body", "body": bytes(PIECE), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def test_streams_take_little_memory_however_large_they_are():
    """Both sides are in this process: 32 MiB pass up and down through less than 4 MiB."""

    async def pieces():
        for _ in range(512):
            yield bytes(PIECE)

    got = 0
    async with serving("http", Counter()) as (_, url):
        transport = CredSSPTransport(CONFIGS["TLSv1.3"], ssl_context=TRUSTING)
        async with httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as client:
            await client.post(url, content=b"x")  # what is made once is made
            tracemalloc.start()
            try:
                async with client.stream("POST", url, content=pieces()) as answer:
                    async for piece in answer.aiter_raw():
                        got += len(piece)
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert got == 512 * PIECE
    assert most < 4 << 20


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
async def test_a_wrong_password_is_told(send):
    async with serving("http") as (app, url):
        with pytest.raises(AuthenticationError):
            await send(WRONG, url, [b"x"])
    assert app.served == []


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
async def test_a_url_of_http_at_a_port_of_https_is_told_so(send):
    asyncio.get_running_loop().set_exception_handler(None)  # in debug mode, asyncio reports a handshake that fails
    async with serving("https") as (_, url):
        with pytest.raises(PeerClosed, match="check the scheme and the port of the url") as caught:
            await send(CONFIGS["TLSv1.3"], url.replace("https", "http"), [b"x"])
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
async def test_a_url_of_https_at_a_port_of_http_is_told_so(send):
    async with serving("http") as (_, url):
        with pytest.raises(Exception, match=r"got an answer that is no tls \(check the scheme and the port of the url"):
            await send(CONFIGS["TLSv1.3"], url.replace("http", "https"), [b"x"])

"""Answers that the server of the logon did not seal, as somebody in between writes them: what clients take of them."""

import asyncio
import contextlib

import aiohttp
import httpx
import httpx2
import pytest
from support.http_bodies import END, TYPE, pair
from support.http_senders import SENDERS
from support.http_toy import OUTER, TRUSTING, Toy, client_config

from acredssp.errors import LocalProtocolError, RemoteProtocolError
from acredssp.http import HTTPProtocolError
from acredssp.http.aiohttp import CredSSPSession
from acredssp.http.failures import ONCE
from acredssp.http.httpx import CredSSPTransport
from acredssp.http.httpx2 import CredSSPTransport as CredSSPTransport2

# Made at import, since making a context reads files, which no test may do on its loop.
CONFIG = client_config()
LIBRARIES = {"httpx": (httpx, CredSSPTransport), "httpx2": (httpx2, CredSSPTransport2)}
REFUSED = (HTTPProtocolError, aiohttp.ClientError, httpx.TransportError, httpx2.TransportError)

CHUNKED = b"6\r\nforged\r\n0\r\n\r\n"
UPGRADE = b"101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n"
FORGED = {
    "a length of 0 and chunks": b"200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "chunks": b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "up to the end": b"200 OK\r\n\r\nforged",
    "101": UPGRADE + b"\r\nforged",
    "101 with a length of 0": UPGRADE + b"Content-Length: 0\r\n\r\nforged",
    "100 and more": b"100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    "two types": b"200 OK\r\nContent-Type: a/b\r\nContent-Type: multipart/encrypted\r\nContent-Length: 6\r\n\r\nforged",
    "two lengths": b"200 OK\r\nContent-Length: 0\r\nContent-Length: 6\r\n\r\nforged",
    "a list of lengths": b"200 OK\r\nContent-Length: 0, 6\r\n\r\nforged",
    "a folded length": b"200 OK\r\nX: y\r\n Content-Length: 0\r\nContent-Length: 6\r\n\r\nforged",
    "a redirect": b"302 Found\r\nLocation: /other\r\nContent-Length: 6\r\n\r\nforged",
}
WITHOUT_BODY = {
    "204": b"204 No Content\r\nContent-Length: 6\r\n\r\nforged",
    "304": b"304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
}


@pytest.fixture(params=SENDERS)
def send(request):
    return SENDERS[request.param]


@pytest.mark.parametrize("answer", FORGED.values(), ids=FORGED)
async def test_a_plain_answer_with_a_body_is_refused_however_it_says_its_length(send, answer):
    async with Toy(answer=lambda asked: b"HTTP/1.1 " + answer) as toy:
        with pytest.raises(REFUSED):
            await send(CONFIG, toy.url, [b"x"])
    assert len(toy.served) == 1


SEALED = {
    "no boundary": b"sealed, and nothing else",
    "another connection's record": pair(b"\x17\x03\x03\x00\x20" + b"x" * 32, 1) + END,
    "no record": pair(b"", 1) + END,
}


@pytest.mark.parametrize("body", SEALED.values(), ids=SEALED)
async def test_a_sealed_answer_that_cannot_be_opened_is_told_with_what_may_be_in_between(send, body):
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {TYPE}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with Toy(answer=lambda asked: head + body) as toy:
        said = r"localhost:\d+: the sealed answer cannot be opened: .* \(a proxy in between may share connections among"
        with pytest.raises(RemoteProtocolError, match=said) as raised:
            await send(CONFIG, toy.url, [b"x"])
    assert raised.value.hint.endswith(ONCE)


@pytest.mark.parametrize("answer", WITHOUT_BODY.values(), ids=WITHOUT_BODY)
async def test_no_byte_is_taken_behind_an_answer_that_has_no_body(send, answer):
    async with Toy(answer=lambda asked: b"HTTP/1.1 " + answer) as toy:
        with contextlib.suppress(aiohttp.ClientError):
            assert await send(CONFIG, toy.url, [b"x"]) == [b""]


@pytest.mark.parametrize("sealed", [False, True])
async def test_an_answer_that_proves_nothing_ends_its_connection(send, sealed):
    """Somebody in between may have put it in front of the server's answer, which the next request would then get."""
    async with Toy(answer=lambda asked: (200, b"" if asked.body == b"a" else asked.body.upper(), sealed)) as toy:
        assert await send(CONFIG, toy.url, [b"a", b"a"]) == [b"", b""]
    assert [asked.connection for asked in toy.served] == [1, 2]


async def test_over_https_such_an_answer_ends_nothing(send):
    answer = {"channel_bindings": OUTER.binding, "answer": lambda asked: (200, b"", asked.body == b"sealed")}
    async with Toy(tls=OUTER.context, **answer) as toy:
        assert await send(CONFIG, toy.url, [b"sealed", b"plain", b"sealed"]) == [b"", b"", b""]
    assert len({asked.connection for asked in toy.served}) == 1


@contextlib.asynccontextmanager
async def following(library):
    httpx, transport = LIBRARIES[library]
    made = transport(CONFIG, ssl_context=TRUSTING)
    async with httpx.AsyncClient(transport=made, timeout=30, trust_env=False, follow_redirects=True) as client:
        yield client


def redirect(url):
    return f"HTTP/1.1 307 Found\r\nLocation: {url}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_redirect_to_another_origin_is_not_followed_with_the_user_s_credentials(library):
    async with Toy() as other, Toy(answer=lambda asked: redirect(other.url)) as toy, following(library) as client:
        with pytest.raises(
            LocalProtocolError, match=rf"within http://localhost:{toy.port}, got one to .*:{other.port}"
        ):
            await client.post(toy.url, content=b"x")
        assert other.connections == 0
        assert (await client.post(other.url, content=b"x")).content == b"X"


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_redirect_within_the_origin_is_followed(library):
    def answer(asked):
        return redirect("/other") if asked.target == "/wsman" else (200, asked.target.encode(), True)

    tls = {"tls": OUTER.context, "channel_bindings": OUTER.binding}
    async with Toy(answer=answer, **tls) as toy, following(library) as client:
        assert (await client.post(toy.url, content=b"x")).content == b"/other"


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_redirect_over_plain_http_does_not_send_a_request_twice(library):
    async with Toy(answer=lambda asked: redirect("/other")) as toy, following(library) as client:
        with pytest.raises(LocalProtocolError, match="expected no redirect over plain http"):
            await client.post(toy.url, content=b"x")
        assert [asked.target for asked in toy.served] == ["/wsman"]


async def test_a_request_that_is_sent_again_by_its_sender_is_no_redirect():
    async with Toy() as toy, following("httpx") as client:
        request = client.build_request("POST", toy.url, content=b"x")
        assert [(await client.send(request)).content for _ in range(2)] == [b"X", b"X"]


async def test_an_answer_in_tiny_chunks_does_not_hold_the_loop():
    """The body of an error may come in plain. Each of its bytes is a piece by itself here."""
    answer = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (10_000 * b"1\r\nx\r\n")
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    transport = CredSSPTransport(CONFIG)
    async with (
        Toy(answer=lambda asked: answer) as toy,
        httpx.AsyncClient(transport=transport, trust_env=False) as http,
        http.stream("POST", toy.url, content=b"x") as response,
    ):
        other = asyncio.create_task(others())
        try:
            assert len(await response.aread()) == 10_000
        finally:
            other.cancel()
    assert turns >= 90


@pytest.mark.parametrize("library", LIBRARIES)
async def test_provisional_answers_come_to_an_end(library):
    """The last answer is behind more of them than a client reads; somebody in between may write them without end."""
    http, transport = LIBRARIES[library]
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000 + b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    async with (
        Toy(answer=lambda asked: answer) as toy,
        http.AsyncClient(transport=transport(CONFIG), trust_env=False) as client,
    ):
        with pytest.raises(http.RemoteProtocolError, match="expected an answer of http, got something else"):
            await client.post(toy.url, content=b"x")
        answer = b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        assert (await client.post(toy.url, content=b"x")).status_code == 404


async def test_provisional_answers_come_to_an_end_with_aiohttp():
    """aiohttp itself takes any number of them, at full cost and without a turn for others."""
    count = 20_000

    def answer(asked):
        return b"HTTP/1.1 100 Continue\r\n\r\n" * count + b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    async with Toy(answer=answer) as toy, CredSSPSession(CONFIG) as session:
        with pytest.raises(aiohttp.ClientResponseError, match="expected an answer of http"):
            async with session.post(toy.url, data=b"x"):
                pass
        count = 1_000
        async with session.post(toy.url, data=b"x") as response:
            assert response.status == 404

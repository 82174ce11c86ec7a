"""The session for aiohttp: one connector of one connection for each logon."""

import asyncio
import contextlib
import gc
import ssl
import warnings

import aiohttp
import pytest
from support import endpoints
from support.endpoints import until
from support.http_toy import CAROL, DEFAULT, OUTER, TRUSTING, Toy, client_config, lookup

from acredssp.credentials import Password
from acredssp.errors import AuthenticationError, HandshakeTimeout, LocalProtocolError
from acredssp.http import HTTPProtocolError, PoolTimeout
from acredssp.http.aiohttp import CredSSPSession
from acredssp.policy import Policy
from acredssp.tls_config import self_signed, server_context_from_pem
from acredssp.trust import Trust, pin_of

# Made at import, since making a context reads files, which no test may do on its loop.
CONFIG = client_config()
CAROLS = client_config(authenticate=CAROL)
VERSIONS = {version: client_config(endpoints.tls_policy(version)) for version in endpoints.TLS_VERSIONS}
WRONG = client_config(authenticate=Password("wrong", "bob", "CONTOSO"))
LARGE, LARGE_KEY = self_signed(["localhost", *(f"name-{number}.of.the.service.example" for number in range(400))], "ec")
LARGE_SERVER = endpoints.server_config(lookup=lookup, ssl_context=server_context_from_pem(Policy(), LARGE, LARGE_KEY))
LARGE_CLIENT = client_config(trust=Trust.pinned(pin_of(ssl.PEM_cert_to_DER_cert(LARGE.decode()))))
"""A certificate whose token does not fit into aiohttp's own limit of a header field."""


def session_of(config=CONFIG, **options):
    return CredSSPSession(config, **{"ssl_context": TRUSTING} | options)


@pytest.mark.parametrize("config", VERSIONS.values(), ids=VERSIONS)
@pytest.mark.parametrize("tls", [None, OUTER], ids=["http", "https"])
async def test_a_request_is_logged_on_and_sealed(config, tls):
    async with Toy(tls=tls and tls.context, channel_bindings=tls and tls.binding) as toy, session_of(config) as session:
        for _ in range(3):
            async with session.post(f"{toy.url}?a=b%20c", data="hello", headers={"Content-Type": "text/x-a"}) as answer:
                assert (answer.status, await answer.text(), answer.sealed) == (200, "HELLO", True)
                assert answer.headers["content-type"] == "text/plain"
        assert toy.connections == 1
        assert [asked.content_type for asked in toy.served] == ["text/x-a"] * 3
        assert (toy.served[0].user, toy.served[0].target) == ("bob", "/wsman?a=b%20c")


async def pieces(count):
    for _ in range(count):
        yield bytes(1 << 20)


async def test_bodies_are_streams_in_both_directions():
    got = 0
    async with Toy() as toy, session_of() as session:
        async with session.post(toy.url, data=pieces(20)) as answer:
            async for piece in answer:
                got += len(piece)
                assert len(piece) <= 1 << 18
        assert got == 20 << 20
        async with session.post(toy.url, data=b"[1]") as answer:
            assert await answer.json() == [1]
        assert toy.connections == 1


async def test_two_identities_have_connections_of_their_own():
    async with Toy() as toy, session_of() as session:
        for _ in range(2):
            for config in CONFIG, CAROLS:
                async with session.post(toy.url, data=b"x", config=config) as answer:
                    await answer.read()
        assert toy.connections == 2
        assert [(asked.connection, asked.user) for asked in toy.served] == [(1, "bob"), (2, "carol")] * 2


async def test_an_answer_that_is_not_read_to_its_end_ends_the_connection():
    async with Toy(answer=lambda asked: (200, bytes(1 << 20), True)) as toy, session_of() as session:
        async with session.post(toy.url, data=b"x") as answer:
            async for _ in answer:
                break
        async with session.post(toy.url, data=b"x") as answer:
            assert await answer.read() == bytes(1 << 20)
        assert toy.connections == 2


@pytest.mark.parametrize(("method", "body"), [("POST", b"once"), ("PUT", b"once"), ("GET", b"once"), ("GET", None)])
async def test_a_request_whose_connection_ends_is_not_sent_again(method, body):
    """aiohttp would send a GET without a body again, over another connection, which nobody has logged on."""
    async with (
        Toy(unsealed=True, answer=lambda asked: (200, b"y", True) if asked.body == b"well" else None) as toy,
        session_of(dangerous_allow_unsealed=True) as session,
    ):
        async with session.post(toy.url, data=b"well") as answer:
            await answer.read()
        with pytest.raises(aiohttp.ClientError):
            async with session.request(method, toy.url, data=body):
                pass
        assert [asked.method for asked in toy.served] == ["POST", method]
        assert toy.connections == 1


async def test_refusals():
    async with Toy(answer=lambda asked: (200, b"forged", False)) as toy:
        async with session_of() as session:
            with pytest.raises(HTTPProtocolError, match="expected a sealed answer"):
                async with session.post(toy.url, data=b"x"):
                    pass
            with pytest.raises(LocalProtocolError, match="set dangerous_allow_unsealed"):
                async with session.request("GET", toy.url):
                    pass
        async with session_of(WRONG) as session:
            with pytest.raises(AuthenticationError):
                async with session.post(toy.url, data=b"x"):
                    pass


async def test_a_server_that_is_not_there():
    async with Toy() as toy:
        url = toy.url
    async with session_of() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            async with session.post(url, data=b"x"):
                pass


async def test_a_certificate_of_many_names():
    async with (
        Toy(LARGE_SERVER) as toy,
        session_of(LARGE_CLIENT) as session,
        session.post(toy.url, data=b"x") as answer,
    ):
        assert await answer.read() == b"X"


async def test_a_certificate_outside_that_nobody_vouches_for_is_refused():
    async with Toy(tls=OUTER.context) as toy, session_of(ssl_context=DEFAULT) as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match="this is the certificate of https"):
            async with session.post(toy.url, data=b"x"):
                pass


async def test_a_server_of_https_that_does_not_answer():
    async def serve(reader, writer):
        with contextlib.suppress(OSError):
            await writer.start_tls(OUTER.context)
            await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
    async with server, session_of() as session:
        with pytest.raises(HandshakeTimeout, match="gave no answer in time, in leg 1 of the logon"):
            async with session.post(url, data=b"x", timeout=aiohttp.ClientTimeout(sock_connect=5, sock_read=0.05)):
                pass


FAR = 7_000
METHODS = ("get", "options", "post", "put", "patch", "delete")


@pytest.mark.parametrize("method", METHODS)
async def test_each_method_has_a_name(method):
    async with Toy() as toy, session_of() as session:
        async with getattr(session, method)(toy.url, data=b"x") as answer:
            await answer.read()
            assert answer.method == method.upper()
        assert [asked.method for asked in toy.served] == [method.upper()]


@pytest.mark.parametrize(
    ("options", "body", "content_type"),
    [
        ({"data": b"\0"}, b"\0", "application/octet-stream"),
        ({"data": bytearray(b"ab")}, b"ab", "application/octet-stream"),
        ({"data": memoryview(b"ab")}, b"ab", "application/octet-stream"),
        ({"data": {"a": "1 2", "b": ["\u00e4", 3]}}, b"a=1+2&b=%C3%A4&b=3", "application/x-www-form-urlencoded"),
        ({"json": {"a": [1, None]}}, b'{"a": [1, null]}', "application/json"),
        ({"json": 0, "headers": {"content-type": "text/x-a"}}, b"0", "text/x-a"),
    ],
)
async def test_what_a_body_may_be(options, body, content_type):
    async with Toy() as toy, session_of() as session:
        async with session.post(toy.url, **options) as answer:
            await answer.read()
        (asked,) = toy.served
        assert (asked.body, asked.content_type) == (body, content_type)


@pytest.mark.parametrize("params", [{"a": "1 2", "b": "3"}, [("a", "1 2"), ("b", "3")], "a=1 2&b=3"])
async def test_parameters_go_behind_those_of_the_url(params):
    async with Toy() as toy, session_of() as session:
        async with session.post(f"{toy.url}?a=0", data=b"x", params=params) as answer:
            await answer.read()
        assert toy.served[0].target == "/wsman?a=0&a=1+2&b=3"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"data": 3}, TypeError, "data: expected bytes, str, a mapping or an async iterable, got int"),
        ({"data": b"x", "json": 1}, ValueError, "expected data or json, got both"),
        ({"data": b"x", "auth": 1}, TypeError, "expected options among those of RequestOptions, got auth"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is_sent(options, error, said):
    async with Toy() as toy, session_of() as session:
        with pytest.raises(error, match=said):
            async with session.post(toy.url, **options):
                pass
        assert toy.connections == 0


async def test_a_session_has_header_fields_and_time_limits_of_its_own():
    session = session_of(headers={"Content-Type": "text/x-a"}, timeout=aiohttp.ClientTimeout(total=0.001))
    async with asyncio.timeout(30), Toy() as toy, session:
        long = aiohttp.ClientTimeout(total=FAR)
        for headers in None, {"content-TYPE": "text/x-b"}:
            async with session.post(toy.url, data=b"x", headers=headers, timeout=long) as answer:
                await answer.read()
        assert [asked.content_type for asked in toy.served] == ["text/x-a", "text/x-b"]
        with pytest.raises(TimeoutError, match=r"took longer than 0.001 seconds"):
            async with session.post(toy.url, data=b"x"):
                await asyncio.Event().wait()


async def test_a_status_is_an_error_where_that_is_asked_for():
    async with Toy(answer=lambda asked: (404, b"not here", True)) as toy, session_of() as session:
        async with session.post(toy.url, data=b"x") as answer:
            assert (answer.ok, answer.status, await answer.text()) == (False, 404, "not here")
            assert (answer.content_type, answer.charset) == ("text/plain", None)
            with pytest.raises(aiohttp.ClientResponseError, match="404"):
                answer.raise_for_status()
        with pytest.raises(aiohttp.ClientResponseError, match="404"):
            async with session.post(toy.url, data=b"x", raise_for_status=True):
                pass
        async with session.post(toy.url, data=b"x") as answer:
            assert answer.status == 404


async def test_objects_say_what_they_are_and_no_secret():
    async with Toy() as toy, session_of() as session:
        url = f"{toy.url}?c4nary"
        async with session.post(url, data=b"c4nary") as answer:
            assert repr(session) == "<CredSSPSession open, 1 connections>"
            assert repr(answer) == f"<CredSSPResponse POST {toy.url} [200 '']>"
            await answer.read()
        await session.close()
        assert session.closed
        assert repr(session) == "<CredSSPSession closed, 0 connections>"


@pytest.fixture
def total(monkeypatch):
    """The limits for everything that a test has set by `FAR`, for it to let them pass."""
    limits, whole = [], asyncio.timeout

    def noting(delay):
        limit = whole(delay)
        if delay == FAR:
            limits.append(limit)
        return limit

    monkeypatch.setattr(asyncio, "timeout", noting)
    return limits


def passes(limit):
    limit.reschedule(asyncio.get_running_loop().time())


async def test_a_total_time_limit_that_passes_in_the_logon_names_the_leg(total):
    asked = asyncio.Event()

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await reader.read()
        writer.transport.abort()

    async def post():
        with pytest.raises(
            TimeoutError, match=r"\(total\), in leg 1 of the logon, the tls handshake inside credssp \(the request"
        ):
            async with session.post(url, data=b"x", timeout=aiohttp.ClientTimeout(total=FAR)):
                pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://localhost:{server.sockets[0].getsockname()[1]}/"
    async with server, session_of() as session, asyncio.TaskGroup() as group:
        group.create_task(post())
        await asked.wait()
        passes(total[0])


async def test_a_total_time_limit_that_passes_behind_the_logon_warns_that_the_server_may_have_acted(total):
    asked, never = asyncio.Event(), asyncio.Event()

    async def serve(_asked):
        asked.set()
        await never.wait()

    async def post():
        said = r"\(total\) \(the server may have acted on the request, which is not sent again: find out before"
        with pytest.raises(TimeoutError, match=said):
            async with session.post(toy.url, data=b"x", timeout=aiohttp.ClientTimeout(total=FAR)):
                pass

    async with Toy(answer=serve) as toy, session_of() as session, asyncio.TaskGroup() as group:
        group.create_task(post())
        await asked.wait()
        passes(total[0])


async def test_a_total_time_limit_that_passes_before_there_is_a_connection_says_that_nothing_was_sent(total):
    async def post():
        with pytest.raises(TimeoutError, match=r"while it waited for a connection \(the request was not sent;"):
            async with session.post(toy.url, data=b"x", timeout=aiohttp.ClientTimeout(total=FAR)):
                pass

    async with Toy() as toy, session_of(max_connections=1) as session, contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(session.post(toy.url, data=b"x"))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(post())
        await until(lambda: session._client._pool._line)
        passes(total[0])


async def test_a_total_time_limit_is_told():
    async with asyncio.timeout(30), Toy() as toy, session_of() as session:
        with pytest.raises(TimeoutError, match=r"POST to http://\S+ took longer than 0.001 seconds \(total\)"):
            async with session.post(toy.url, data=b"x", timeout=aiohttp.ClientTimeout(total=0.001)):
                await asyncio.Event().wait()


async def test_a_time_limit_within_the_block_is_the_caller_s_own():
    async with Toy() as toy, session_of() as session:
        with pytest.raises(TimeoutError, match="mine"):
            async with session.post(toy.url, data=b"x"):
                raise TimeoutError("mine")


async def test_a_pool_that_is_full():
    async with Toy() as toy, session_of(max_connections=1) as session, session.post(toy.url, data=b"x"):
        with pytest.raises(PoolTimeout, match=r"no connection became free within 0.01 seconds, 1 are in use"):
            async with session.post(toy.url, data=b"y", timeout=aiohttp.ClientTimeout(connect=0.01)):
                pass


async def test_a_proxy_for_plain_http_is_refused():
    async with session_of(proxy="http://127.0.0.1:1") as session:
        with pytest.raises(ValueError, match="proxy: expected https behind a proxy, got http"):
            async with session.post("http://localhost:1/", data=b"x"):
                pass


@pytest.mark.parametrize("user", ["bob:secret@", "bob@", ":secret@"])
async def test_a_user_in_the_url_is_refused_as_nobody_would_log_on_by_it(user):
    async with Toy() as toy, session_of() as session:
        with pytest.raises(LocalProtocolError, match="expected a url without a user") as caught:
            async with session.post(toy.url.replace("://", f"://{user}"), data=b"x"):
                pass
    assert "secret" not in str(caught.value)
    assert toy.connections == 0


# --- use by mistake ---


async def test_a_body_that_is_read_behind_the_block_is_no_lost_connection():
    async with Toy() as toy, session_of() as session:
        async with session.post(toy.url, data=b"x") as kept:
            pass
        async with session.post(toy.url, data=b"x") as read:
            await read.read()
        with pytest.raises(
            LocalProtocolError, match=r"its body can be read once, and only while .*read the body within"
        ):
            await kept.text()
        assert await read.text() == "X"


async def test_a_session_that_is_closed_sends_nothing():
    async with Toy() as toy:
        async with session_of() as session:
            pass
        with pytest.raises(
            LocalProtocolError, match=r"the client is closed: nothing was sent .*or make another client"
        ):
            async with session.post(toy.url, data=b"x"):
                pass
        assert toy.connections == 0


@pytest.mark.parametrize("tls", [None, OUTER], ids=["http", "https"])
async def test_a_session_that_nobody_closes_warns_by_its_own_name(tls):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["message"]))
    async with Toy(tls=tls and tls.context, channel_bindings=tls and tls.binding) as toy:
        session = session_of()
        for _ in range(2):
            async with session.post(toy.url, data=b"x") as answer:
                await answer.read()
        del answer
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del session
            gc.collect()
            await asyncio.sleep(0)
    assert [str(each.message).partition(":")[0] for each in caught] == ["unclosed <CredSSPSession open, 1 connections>"]
    assert told == []


async def test_a_session_without_a_connection_needs_no_end():
    session_of()
    gc.collect()

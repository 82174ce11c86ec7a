"""What the network does to a client is told in the same sentence by every adapter: what, where, and what to do next."""

import asyncio
import contextlib
import re
import socket
import ssl

import aiohttp
import httpx
import httpx2
import pytest
from support.http_by_hand import SERVERS, connected, serving
from support.http_toy import DEFAULT, OUTER, TRUSTING, Toy, client_config
from support.peers import free_port

from acredssp.errors import HandshakeTimeout, PeerClosed, RemoteProtocolError
from acredssp.http import failures
from acredssp.http.aiohttp import CredSSPSession
from acredssp.http.httpx import CredSSPTransport
from acredssp.http.httpx2 import CredSSPTransport as CredSSPTransport2
from acredssp.http.limits import HTTPLimits
from acredssp.http.wire import Fault, Origin
from acredssp.policy import Policy

CONFIG = client_config()
HASTY = client_config(Policy(handshake_timeout=0.05))
"""Made at import, since making a context reads files, which no test may do on its loop."""
PORTS = "WinRM has http at port 5985, https at 5986"
ONCE = "the server may have acted on the request, which is not sent again: find out before you repeat it"
FULL = "the server has no room for more connections, or the service behind it does not run"
FIRST = "in leg 1 of the logon, the tls handshake inside credssp"


@contextlib.asynccontextmanager
async def by_httpx(config=CONFIG, *, library=httpx, transport=CredSSPTransport, **options):
    async def send(url, limit=None, body=b"x"):
        timeout = library.Timeout(None, connect=limit, read=limit)
        return (await client.post(url, content=body, timeout=timeout)).content

    options.setdefault("ssl_context", DEFAULT)
    async with library.AsyncClient(transport=transport(config, **options), trust_env=False) as client:
        yield send


def by_httpx2(config=CONFIG, **options):
    return by_httpx(config, library=httpx2, transport=CredSSPTransport2, **options)


@contextlib.asynccontextmanager
async def by_aiohttp(config=CONFIG, **options):
    async def send(url, limit=None, body=b"x"):
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=limit, sock_read=limit)
        async with session.post(url, data=body, timeout=timeout) as answer:
            return await answer.read()

    options.setdefault("ssl_context", DEFAULT)
    async with CredSSPSession(config, **options) as session:
        yield send


ADAPTERS = {"httpx": by_httpx, "httpx2": by_httpx2, "aiohttp": by_aiohttp}
NAMES = {"httpx": httpx, "httpx2": httpx2, "aiohttp": aiohttp}


@pytest.fixture(params=ADAPTERS)
def library(request):
    return request.param


@pytest.fixture
def post(library):
    return ADAPTERS[library]


async def failure(post, url, *arguments, limit=None, **options):
    """The error of a request."""
    async with post(*arguments, **options) as send:
        return await failed(send(url, limit))


async def failed(sending):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the tests ask for its class
        await sending
    return caught.value


def kind(library, error, name, name_of_aiohttp):
    """Whether an error is of the class that the library has for it."""
    return isinstance(error, getattr(NAMES[library], name_of_aiohttp if library == "aiohttp" else name))


@contextlib.asynccontextmanager
async def server(serve, scheme="http"):
    """A server without any CredSSP; yield its url."""

    async def guarded(reader, writer):
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError, AttributeError):
            await serve(reader, writer)
        writer.transport.abort()

    listener = await asyncio.start_server(guarded, "127.0.0.1", 0)
    async with listener:
        yield f"{scheme}://localhost:{listener.sockets[0].getsockname()[1]}"


async def silent(reader, writer):
    while await reader.read(65_536):
        pass


async def leaving(reader, writer):
    await reader.read(10)


async def greeting(reader, writer):
    """As ssh and mail do, and then it waits."""
    writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    await silent(reader, writer)


async def greeting_in_tls(reader, writer):
    await writer.start_tls(OUTER.context)
    await reader.readuntil(b"\r\n\r\n")
    await greeting(reader, writer)


# --- there is no connection ---


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nothing_listens(library, post, scheme):
    url = f"{scheme}://localhost:{free_port()}"
    error = await failure(post, f"{url}/wsman")
    assert str(error) == (
        f"cannot connect to {url}: expected a service at this port, and nothing listens there "
        f"(check the host and the port of the url, and that the service runs: {PORTS})"
    )
    assert kind(library, error, "ConnectError", "ClientConnectorError")


async def test_a_name_without_an_address(library, post, monkeypatch):
    async def unknown(*_arguments, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown, raising=False)
    error = await failure(post, "http://nowhere.invalid:5985/wsman")
    assert str(error) == (
        "cannot connect to http://nowhere.invalid:5985: expected the address of nowhere.invalid, got none: name or "
        "service not known (check the host of the url, and the resolver of this machine)"
    )
    assert kind(library, error, "ConnectError", "ClientConnectorDNSError")


async def test_a_server_of_https_that_does_not_answer(library, post):
    async with server(silent, "https") as url:
        error = await failure(post, url, limit=0.05)
    assert str(error) == (
        f"cannot connect to {url}: expected a connection within 0.05 seconds, got none (check the host and the port of "
        "the url, and whether a firewall is in between, or raise the time limit for connecting)"
    )
    assert kind(library, error, "ConnectTimeout", "ServerTimeoutError")


@pytest.mark.parametrize(
    ("serve", "came"), [(greeting, "an answer that is no tls"), (leaving, "the end of the connection")]
)
async def test_a_port_without_tls(library, post, serve, came):
    async with server(serve, "https") as url:
        error = await failure(post, url)
    assert str(error) == (
        f"cannot connect to {url}: expected a handshake of tls, as of https, got {came} "
        f"(check the scheme and the port of the url: {PORTS})"
    )
    assert kind(library, error, "ConnectError", "ClientConnectorError")


async def test_a_certificate_of_https_that_nobody_vouches_for(library, post):
    async with Toy(tls=OUTER.context) as toy:
        error = await failure(post, toy.url)
    origin = toy.url.removesuffix("/wsman")
    assert re.fullmatch(
        rf"cannot connect to {origin}: expected a certificate of https that is trusted, got another: self.signed "
        r"certificate \(this is the certificate of https: trust its authority \(ssl_context\); Trust.pinned is for "
        r"the one inside credssp\)",
        str(error),
    )
    assert kind(library, error, "ConnectError", "ClientConnectorCertificateError")


async def test_tls_of_another_version(post):
    async def alert(reader, writer):
        await reader.read(10)
        writer.write(bytes.fromhex("15030100020246"))  # protocol_version
        await silent(reader, writer)

    async with server(alert, "https") as url:
        error = await failure(post, url)
    assert str(error) == (
        f"cannot connect to {url}: the handshake of tls failed: tlsv1 alert protocol version (check the scheme and the "
        "port of the url, and which versions of tls the server takes)"
    )


async def test_a_proxy_that_is_not_there(post):
    proxy = f"http://127.0.0.1:{free_port()}"
    error = await failure(post, "https://localhost:5986/", proxy=proxy.replace("//", "//user:c4nary@"))
    assert str(error) == (
        f"cannot connect to https://localhost:5986: the proxy {proxy} cannot be reached: connection refused "
        "(check the proxy's url, and whether it lets this client connect there)"
    )


async def test_a_proxy_that_refuses(post):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await silent(reader, writer)

    async with server(refuse) as proxy:
        error = await failure(post, "https://localhost:5986/", proxy=proxy)
    assert str(error) == (
        f"cannot connect to https://localhost:5986: the proxy {proxy} answered CONNECT with status 403 "
        "(check the proxy's url, and whether it lets this client connect there)"
    )


# --- it ends in the logon ---

SCHEME = f"check the scheme and the port of the url: a server of https answers nothing, or 400, to plain http; {PORTS}"


async def test_a_server_of_http_that_does_not_answer(post):
    async with server(silent) as url:
        error = await failure(post, url, HASTY)
    assert str(error) == f"{url} gave no answer in time, {FIRST} ({SCHEME})"
    assert isinstance(error, HandshakeTimeout)


async def test_a_server_of_http_that_ends_the_connection(post):
    async with server(leaving) as url:
        error = await failure(post, url)
    assert str(error) == f"the connection to {url} ended, {FIRST} ({SCHEME})"
    assert isinstance(error, PeerClosed)


@pytest.mark.parametrize(("serve", "scheme"), [(greeting, "http"), (greeting_in_tls, "https")])
async def test_a_port_of_another_protocol(post, serve, scheme):
    async with server(serve, scheme) as url:
        error = await failure(post, url, ssl_context=TRUSTING)
    assert str(error) == (
        f"expected an answer of http from {url}, got something else, {FIRST} "
        f"(check the scheme and the port of the url: {PORTS})"
    )
    assert isinstance(error, RemoteProtocolError)


# --- it ends behind the logon ---


async def never(_asked):
    await asyncio.Event().wait()


CUT = b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\ncut"
ANSWERS = {
    "none": (never, "an answer within 0.05 seconds, got none", "ReadTimeout", "SocketTimeoutError"),
    "the end": (
        lambda _: None, "an answer, got the end of the connection", "RemoteProtocolError",
        "ServerDisconnectedError",
    ),
    "no http": (
        lambda _: b"nonsense\r\n\r\n", "an answer of http, got something else", "RemoteProtocolError",
        "ClientResponseError",
    ),
    "a part": (
        lambda _: CUT, "the rest of the answer, got the end of the connection", "RemoteProtocolError",
        "ClientPayloadError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_does_not_come(library, post, case):
    """The first request logs on, which takes its time. The second one has a limit, which only "none" reaches."""
    limit = 0.05 if case == "none" else 60.0
    answer, what, name, name_of_aiohttp = ANSWERS[case]
    async with Toy(answer=lambda asked: answer(asked) if asked.body == b"x" else (200, b"y", True)) as toy:
        async with post() as send:
            await send(toy.url, body=b"first")
            error = await failed(send(toy.url, limit))
        assert [asked.body for asked in toy.served] == [b"first", b"x"]
        assert toy.connections == 1
    assert str(error) == f"{toy.url.removesuffix('/wsman')}: expected {what} ({ONCE})"
    assert kind(library, error, name, name_of_aiohttp)


@pytest.mark.parametrize(("seconds", "within"), [(5.0, "within 5 seconds"), (None, "in time")])
def test_an_answer_that_stops(seconds, within):
    origin = Origin("http", "web", 5985)
    told = failures.of_answer(origin, Fault.TIMEOUT, seconds)
    assert str(told) == f"{origin}: expected the rest of the answer {within}, got nothing more ({ONCE})"
    assert f"expected an answer {within}, got none" in str(failures.of_request(origin, Fault.TIMEOUT, seconds))


async def test_what_the_program_itself_raises_in_a_body_is_passed_on():
    async def body():
        yield b"x"
        raise LookupError("mine")

    async with Toy() as toy, by_httpx() as send:
        with pytest.raises(LookupError, match="mine"):
            await send(toy.url, body=body())


# --- urls ---


@pytest.mark.parametrize(
    "url",
    [
        "localhost:5985/wsman",
        "alice:c4nary@localhost/wsman?c4nary",
        "/wsman",
        "",
        "ftp://alice:c4nary@localhost/?c4nary",
        "http:///wsman",
        "http://[x/",
        "https://",
        "web.contoso.example",
    ],
)
async def test_what_is_no_url_of_http_is_a_value_error_that_shows_one(post, url):
    error = await failure(post, url)
    assert isinstance(error, ValueError)
    assert str(error).startswith(
        "url: expected http:// or https:// and a host, such as https://web.contoso.example:5986/wsman, got '"
    )
    assert "c4nary" not in str(error)


@pytest.mark.parametrize(("url", "port"), [("http://u:c4nary@localhost:99999/?c4nary", 99_999), ("http://[::1]:0", 0)])
async def test_a_port_that_is_none_is_told(post, url, port):
    error = await failure(post, url)
    assert isinstance(error, ValueError)
    assert str(error).startswith(f"url: expected a port from 1 to 65535, got '{port}' in 'http://")
    assert "c4nary" not in str(error)


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
async def test_a_url_of_which_the_library_has_cut_the_beginning_off_is_told_so(name):
    error = await failure(ADAPTERS[name], "localhost:5985/wsman")
    assert str(error).endswith(
        f"got '/5985/wsman', which is all that {name} keeps of a url without http:// or https://"
    )


# --- the wrong client ---


def test_a_synchronous_client_is_refused_by_name():
    said = r"transport: CredSSPTransport is asynchronous: expected httpx.AsyncClient.*, got httpx.Client"
    client = httpx.Client(transport=CredSSPTransport(CONFIG))
    with pytest.raises(TypeError, match=said):
        client.post("http://localhost/", content=b"x")
    with pytest.raises(TypeError, match=said), httpx.Client(transport=CredSSPTransport(CONFIG)):
        pass
    with pytest.raises(TypeError, match=r"expected httpx2.AsyncClient.*, got httpx2.Client"):
        httpx2.Client(transport=CredSSPTransport2(CONFIG)).post("http://localhost/", content=b"x")


async def test_a_request_of_aiohttp_that_is_awaited_says_how_it_is_sent():
    said = r"expected `async with session.post\(...\) as answer:`, which ends with its block, got `{}`"
    async with CredSSPSession(CONFIG) as session:
        with pytest.raises(TypeError, match=said.format("await")):
            await session.post("http://localhost/", data=b"x")
        with pytest.raises(TypeError, match=said.format("with")), session.post("http://localhost/", data=b"x"):
            pass
        with pytest.raises(TypeError, match=r"expected `async with CredSSPSession\(...\)"), session:
            pass


@pytest.mark.parametrize("method", ["request", "get", "head", "options", "post", "put", "patch", "delete"])
def test_the_help_of_a_method_has_its_options(method):
    text = getattr(CredSSPSession, method).__doc__
    for option in "params", "data", "json", "headers", "timeout", "raise_for_status", "config":
        assert re.search(rf"^    {option}: \w", text, re.MULTILINE), option


@pytest.mark.parametrize("server_kind", SERVERS)
async def test_a_server_without_a_place_is_told_in_its_own_words(post, server_kind):
    async with serving(server_kind, None, limits=HTTPLimits(connections_per_source=1)) as port, connected(port):
        error = await failure(post, f"http://localhost:{port}/")
        assert type(error) is RemoteProtocolError
        assert f"got status 503, and the server says 'too many connections' ({FULL}" in str(error)

"""The transports for httpx and httpx2: one connection, one logon, and sealed bodies as streams."""

import asyncio
import base64
import contextlib
import gzip

import httpx
import httpx2
import pytest
from support import endpoints
from support.endpoints import BOB
from support.http_toy import CAROL, DEFAULT, OUTER, TRUSTING, Toy, client_config
from support.listener import Listener
from support.peers import free_port

from acredssp.credentials import Password
from acredssp.errors import AuthenticationError, LocalProtocolError, NegotiationFailure, PolicyError
from acredssp.http import HTTPProtocolError
from acredssp.http.httpx import CredSSPTransport
from acredssp.http.httpx2 import CredSSPTransport as CredSSPTransport2
from acredssp.policy import MechanismChoice, Policy

LIBRARIES = {"httpx": (httpx, CredSSPTransport), "httpx2": (httpx2, CredSSPTransport2)}

# Made at import, since making a context reads files, which no test may do on its loop.
CONFIG = client_config()
CAROLS = client_config(authenticate=CAROL)
VERSIONS = {version: client_config(endpoints.tls_policy(version)) for version in endpoints.TLS_VERSIONS}
NEGOTIATE = client_config(Policy(mechanism=MechanismChoice.NEGOTIATE))
WRONG = client_config(authenticate=Password("wrong", "bob", "CONTOSO"))


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


@contextlib.asynccontextmanager
async def client_of(library, config=CONFIG, **options):
    httpx, transport = library
    made = transport(config, **{"ssl_context": TRUSTING} | options)
    async with httpx.AsyncClient(transport=made, timeout=30, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("config", [*VERSIONS.values(), NEGOTIATE], ids=[*VERSIONS, "negotiate"])
async def test_a_request_is_logged_on_and_sealed(library, config):
    async with Toy() as toy, client_of(library, config) as client:
        for _ in range(3):
            answer = await client.post(f"{toy.url}?a=b", content=b"hello", headers={"Content-Type": "text/x-hello"})
            assert (answer.status_code, answer.content) == (200, b"HELLO")
            assert answer.headers["Content-Type"] == "text/plain"
            assert answer.extensions["credssp_sealed"]
    assert toy.connections == 1
    assert [status for _, status in toy.legs] == [401] * (len(toy.legs) - 1) + [200]
    assert [asked.content_type for asked in toy.served] == ["text/x-hello"] * 3
    asked = toy.served[0]
    assert (asked.user, asked.method, asked.target) == ("bob", "POST", "/wsman?a=b")
    assert asked.headers[b"content-type"].startswith(b"multipart/encrypted")


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 1 << 20])
async def test_bodies_of_every_size(library, size):
    body = bytes(range(97, 122)) * (size // 25 + 1)
    async with Toy() as toy, client_of(library) as client:
        answer = await client.post(toy.url, content=body[:size])
    assert answer.content == body[:size].upper()


async def test_bodies_are_streams_in_both_directions(library):
    """Of 20 MiB, the transport never holds more than a piece: the next one is asked for when this one is sent."""
    given, got = 0, 0

    async def pieces():
        nonlocal given
        for _ in range(20):
            given += 1 << 20
            yield bytes(1 << 20)

    async with Toy() as toy, client_of(library) as client:
        async with client.stream("POST", toy.url, content=pieces()) as answer:
            async for piece in answer.aiter_raw():
                got += len(piece)
                assert len(piece) <= 1 << 18
        assert (answer.status_code, given, got) == (200, 20 << 20, 20 << 20)
        assert toy.served[0].headers[b"transfer-encoding"] == b"chunked"


async def test_an_answer_that_is_not_read_to_its_end_ends_the_connection(library):
    async with Toy(answer=lambda asked: (200, bytes(1 << 20), True)) as toy, client_of(library) as client:
        async with client.stream("POST", toy.url, content=b"x") as answer:
            async for _ in answer.aiter_raw():
                break
        assert (await client.post(toy.url, content=b"x")).content == bytes(1 << 20)
        assert toy.connections == 2


async def test_an_empty_answer(library):
    async with Toy(answer=lambda asked: (200, b"", asked.body == b"sealed")) as toy, client_of(library) as client:
        for body in b"sealed", b"plain", b"sealed":
            answer = await client.post(toy.url, content=body)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.extensions["credssp_sealed"] is (body == b"sealed")


async def test_an_error_in_plain_is_shown_and_its_connection_is_not_used_again(library):
    async with Toy(answer=lambda asked: (500, b"broken", False)) as toy, client_of(library) as client:
        for _ in range(2):
            answer = await client.post(toy.url, content=b"x")
            assert (answer.status_code, answer.content) == (500, b"broken")
            assert not answer.extensions["credssp_sealed"]
        assert toy.connections == 2


async def test_an_error_in_plain_that_would_be_unpacked_is_refused(library):
    """A few bytes of somebody in between could become gigabytes."""
    packed = gzip.compress(bytes(1 << 20))
    head = b"HTTP/1.1 500 Broken\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with Toy(answer=lambda asked: head + packed) as toy, client_of(library, response_limit=100_000) as client:
        with pytest.raises(HTTPProtocolError, match="without another coding, got 'gzip'"):
            await client.post(toy.url, content=b"x")


@pytest.mark.parametrize("config", [None, "carol"])
async def test_an_identity_that_is_none_is_not_replaced_by_another_one(library, config):
    async with Toy() as toy, client_of(library) as client:
        with pytest.raises(TypeError, match=r"expected a ClientConfig, got (NoneType|str)"):
            await client.post(toy.url, content=b"x", extensions={"credssp": config})
        assert toy.connections == 0


async def test_an_error_in_plain_without_end_is_refused(library):
    """Anybody in between can write one."""
    async with Toy(answer=lambda asked: (500, bytes(200_000), False)) as toy:
        async with client_of(library, response_limit=100_000) as client:
            with pytest.raises(HTTPProtocolError, match="expected a body of at most 100000 bytes, got a longer one"):
                await client.post(toy.url, content=b"x")
        async with client_of(library, response_limit=200_000) as client:
            assert (await client.post(toy.url, content=b"x")).content == bytes(200_000)


async def test_a_plain_answer_is_refused_where_a_sealed_one_is_due(library):
    async with Toy(answer=lambda asked: (200, b"forged", False)) as toy, client_of(library) as client:
        with pytest.raises(HTTPProtocolError, match="expected a sealed answer, got a plain one with status 200"):
            await client.post(toy.url, content=b"x")


async def test_a_request_without_a_body_needs_a_switch(library):
    async with Toy(unsealed=True, answer=lambda asked: (200, b"plain", False)) as toy:
        async with client_of(library) as client:
            with pytest.raises(LocalProtocolError, match="set dangerous_allow_unsealed"):
                await client.get(toy.url)
            assert toy.connections == 0
        async with client_of(library, dangerous_allow_unsealed=True) as client:
            answer = await client.get(toy.url)
            assert (answer.status_code, answer.content) == (200, b"plain")


async def test_https_outside_binds_the_logon_to_its_certificate(library):
    async with Toy(tls=OUTER.context, channel_bindings=OUTER.binding) as toy, client_of(library) as client:
        answer = await client.post(toy.url, content=b"hello")
        assert (answer.status_code, answer.content) == (200, b"HELLO")


async def test_a_logon_that_was_bound_to_another_certificate_outside_is_refused(library):
    other = b"tls-server-end-point:" + bytes(32)
    async with Toy(tls=OUTER.context, channel_bindings=other) as toy, client_of(library) as client:
        with pytest.raises(AuthenticationError):
            await client.post(toy.url, content=b"hello")


async def test_a_certificate_outside_that_nobody_vouches_for_is_refused(library):
    httpx, _ = library
    async with Toy(tls=OUTER.context) as toy, client_of(library, ssl_context=DEFAULT) as client:
        with pytest.raises(httpx.ConnectError, match=r"self.signed certificate \(this is the certificate of https"):
            await client.post(toy.url, content=b"hello")


async def test_the_service_has_a_name_apart_from_the_urls(library):
    asked = []
    config = endpoints.server_config(lookup=lambda request: asked.append(request) or BOB)
    async with Toy(config) as toy, client_of(library, server_hostname="localhost", spn="WSMAN/elsewhere") as client:
        await client.post(toy.url.replace("localhost", "127.0.0.1"), content=b"x")
    assert {request.server_name for request in asked} == {"localhost"}
    assert {request.principal.target_name for request in asked} == {"WSMAN/elsewhere"}


async def test_a_service_that_may_not_have_the_credentials(library):
    async with Toy() as toy, client_of(library, spn="OTHER/service") as client:
        with pytest.raises(PolicyError, match="OTHER/service"):
            await client.post(toy.url, content=b"x")


async def test_a_wrong_password(library):
    async with Toy() as toy, client_of(library, WRONG) as client:
        with pytest.raises(AuthenticationError):
            await client.post(toy.url, content=b"x")
    assert toy.served == []


async def test_a_header_that_would_break_the_logon(library):
    async with Toy() as toy, client_of(library) as client:
        with pytest.raises(LocalProtocolError, match="expected no authorization header"):
            await client.post(toy.url, content=b"x", auth=("user", "password"))
    assert toy.connections == 0


async def plain_server(answer):
    """A server that gives one answer to everything."""

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/wsman"


async def test_a_server_without_credssp(library):
    answer = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate, Basic realm=x\r\nContent-Length: 0\r\n\r\n"
    server, url = await plain_server(answer)
    async with server, client_of(library) as client:
        with pytest.raises(NegotiationFailure, match=r"got Negotiate, Basic.*Enable-WSManCredSSP -Role Server"):
            await client.post(url, content=b"x")


async def test_a_server_that_is_not_there(library):
    httpx, _ = library
    server, url = await plain_server(b"")
    server.close()
    await server.wait_closed()
    async with client_of(library) as client:
        with pytest.raises(httpx.ConnectError):
            await client.post(url, content=b"x")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["connect", "socks5"])
@pytest.mark.parametrize("user", [None, "proxy"])
async def test_proxies_are_passed_by_a_tunnel(library, scheme, kind, user):
    async with (
        Toy(tls=OUTER.context if scheme == "https" else None, channel_bindings=OUTER.binding) as toy,
        Tunnel(user) as proxy,
    ):
        async with client_of(library, proxy=proxy.url(kind)) as client:
            answer = await client.post(toy.url, content=b"hello")
            assert answer.content == b"HELLO"
        assert proxy.targets == [("localhost", toy.port)]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_is_not_there(library, scheme):
    httpx, _ = library
    proxy = f"{scheme}://user:c4nary@127.0.0.1:{free_port()}"
    async with client_of(library, proxy=proxy) as client:
        with pytest.raises(
            httpx.ConnectError, match=f"the proxy {scheme}://127.0.0.1:.* cannot be reached: "
        ) as caught:
            await client.post("http://localhost/wsman", content=b"x")
        assert "c4nary" not in str(caught.value)


async def test_a_proxy_that_wants_another_user(library):
    httpx, _ = library
    async with Tunnel("proxy") as proxy:
        url = proxy.url("connect").replace("proxy:", "other:")
        async with client_of(library, proxy=url) as client:
            with pytest.raises(httpx.ProxyError, match="answered CONNECT with status 407"):
                await client.post("http://localhost/wsman", content=b"x")
        url = proxy.url("socks5").replace("proxy:", "other:")
        async with client_of(library, proxy=url) as client:
            with pytest.raises(httpx.ProxyError, match="refused the user or the password"):
                await client.post("http://localhost/wsman", content=b"x")
        async with client_of(library, proxy=proxy.url("socks5").replace("proxy:pass@", "")) as client:
            with pytest.raises(httpx.ProxyError, match="takes no logon to it of the kind"):
                await client.post("http://localhost/wsman", content=b"x")


class NoProxy(Listener):
    """Answers whatever comes by HTTP."""

    async def __aenter__(self):
        self.port = await self.listen()
        return self

    async def serve(self, reader, writer):
        await reader.readexactly(3)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()


async def test_a_proxy_that_does_not_speak_socks(library):
    httpx, _ = library
    async with NoProxy() as other, client_of(library, proxy=f"socks5://127.0.0.1:{other.port}") as client:
        with pytest.raises(httpx.ProxyError, match="does not answer by SOCKS5: check the scheme and the port"):
            await client.post("http://localhost/wsman", content=b"x")


@pytest.mark.parametrize(
    "url",
    ["", "proxy:3128", "ftp://user:c4nary@proxy", "http://", "http://proxy:99999", "http://[::1", "socks4://proxy"],
)
async def test_a_url_of_no_proxy_is_refused_without_being_quoted(library, url):
    with pytest.raises(ValueError, match=r"^proxy: expected a URL of http, https or socks5, such as .*, got another$"):
        async with client_of(library, proxy=url):
            pass


class Tunnel(Listener):
    """A proxy for CONNECT and SOCKS5, which notes where it connects to."""

    def __init__(self, user):
        super().__init__()
        self.user, self.targets = user, []

    def url(self, kind):
        logon = f"{self.user}:pass@" if self.user else ""
        return f"{'http' if kind == 'connect' else 'socks5'}://{logon}127.0.0.1:{self.port}"

    async def __aenter__(self):
        self.port = await self.listen()
        return self

    async def serve(self, reader, writer):
        theirs = None
        try:
            target = await (self.socks if (first := await reader.readexactly(1)) == b"\x05" else self.connect)(
                first, reader, writer
            )
            if target is None:
                return
            self.targets.append(target)
            their_reader, theirs = await asyncio.open_connection("127.0.0.1", target[1])
            await asyncio.gather(self.pump(reader, theirs), self.pump(their_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            if theirs is not None:
                theirs.transport.abort()

    async def pump(self, reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    async def connect(self, first, reader, writer):
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        wanted = base64.b64encode(f"{self.user}:pass".encode()).decode()
        if self.user and f"Basic {wanted}" not in head:
            writer.write(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n")
            return None
        method, target, _ = head.split(" ", 2)
        assert method == "CONNECT"
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        host, _, port = target.rpartition(":")
        return host, int(port)

    async def socks(self, first, reader, writer):
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        wanted = 2 if self.user else 0
        if wanted not in methods:
            writer.write(b"\x05\xff")
            return None
        writer.write(bytes([5, wanted]))
        if self.user:
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            right = (user, password) == (self.user.encode(), b"pass")
            writer.write(bytes([1, not right]))
            if not right:
                return None
        assert await reader.readexactly(4) == b"\x05\x01\x00\x03"
        host = await reader.readexactly((await reader.readexactly(1))[0])
        port = int.from_bytes(await reader.readexactly(2))
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        return host.decode(), port

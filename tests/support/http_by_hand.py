"""A client of HTTP/1.1 by hand, that can break any rule; and the servers of our acceptor, by one function."""

import asyncio
import contextlib
import socket
import ssl
import struct

import uvicorn
from support.endpoints import BOB, CERTIFICATE, KEY, client_config, server_config
from support.peers import free_port

from acredssp.aio import ClientAnswers, answer_events
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.http import ClientExchange, open_body, seal_body
from acredssp.http.asgi import CredSSPMiddleware
from acredssp.http.limits import HTTPLimits
from acredssp.http.server import start_http_server
from acredssp.http.uvicorn import H11Protocol, HttpToolsProtocol
from acredssp.policy import Policy
from acredssp.tls import server_context_from_pem

NAME = "localhost"
WEB = SPNList.of("HTTP/*", "WSMAN/*")
DELEGATION = DelegationPolicy(allow_fresh_credentials=WEB, allow_fresh_credentials_when_ntlm_only=WEB)
OUTSIDE = server_context_from_pem(Policy(), CERTIFICATE, KEY)
"""TLS outside, with a certificate that is the one inside as well. Made at import: it writes a file."""
NO_CHECK = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
NO_CHECK.check_hostname, NO_CHECK.verify_mode = False, ssl.CERT_NONE

PROTOCOLS = {"uvicorn-h11": H11Protocol, "uvicorn-httptools": HttpToolsProtocol}
SERVERS = ["ours", *PROTOCOLS]


class Response:
    """A response: its status, its headers by lower-case name, and its body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:200]!r}"

    @property
    def closes(self):
        return self.headers.get("connection", "").lower() == "close"


class ByHand:
    """One connection of a client."""

    def __init__(self, reader, writer, config, bindings=None):
        self.reader, self.writer = reader, writer
        self.config = config
        self.exchange = ClientExchange(config, NAME, channel_bindings=bindings)

    async def send(self, headers=(), body=b"", method="POST", target="/wsman", version="1.1"):
        lines = [f"{method} {target} HTTP/{version}", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def response(self, *, head=False):
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        if status == 100:
            return await self.response(head=head)
        if head or status in {204, 304}:
            return Response(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, await self.chunks())
        length = headers.get("content-length")
        return Response(
            status, headers, await (self.reader.read() if length is None else self.reader.readexactly(int(length)))
        )

    async def chunks(self):
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def ask(self, headers=(), body=b"", **how):
        """Send a request with a Content-Length; return the response."""
        await self.send([*headers, ("Content-Length", str(len(body)))], body, **how)
        return await self.response(head=how.get("method") == "HEAD")

    async def log_on(self):
        """Log on; return the last response."""
        answers = ClientAnswers(self.config, NAME)
        turn = await answer_events(self.exchange, self.exchange.start(), answers)
        while turn.authorization:
            response = await self.ask([("Authorization", turn.authorization)])
            turn = self.exchange.receive(response.status, response.headers.items())
            turn = await answer_events(self.exchange, turn, answers)
        return response

    @property
    def context(self):
        return self.exchange.context

    async def post(self, plaintext, content_type="text/plain", **how):
        """Send a sealed body; return the response with its body opened."""
        media_type, body = seal_body(self.context, plaintext, content_type)
        response = await self.ask([("Content-Type", media_type)], body, **how)
        return self.opened(response)

    def opened(self, response):
        if "multipart/" in response.headers.get("content-type", ""):
            kind, body = open_body(self.context, response.headers["content-type"], response.body)
            return Response(response.status, response.headers | {"content-type": kind, "sealed": "yes"}, body)
        return response

    async def at_end(self):
        """Whether the server closes the connection, without another byte."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


def config_of_client(**changes):
    return client_config(delegation=DELEGATION, **changes)


@contextlib.asynccontextmanager
async def connected(port, *, bindings=None, secure=False, sock=None, **changes):
    """One connection of a client to a server on loopback; `sock` is connected already."""
    tls = NO_CHECK if secure else None
    where = {"host": "127.0.0.1", "port": port} if sock is None else {"sock": sock}
    reader, writer = await asyncio.open_connection(**where, ssl=tls)
    try:
        yield ByHand(reader, writer, config_of_client(**changes), bindings)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def listening():
    """A bound socket, below the ports that the system gives to clients."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", free_port()))
    return sock


async def from_port(own, port):
    """A socket of a client's own port, connected to a server; it ends by a reset, so that the port is free at once."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind(("127.0.0.1", own))
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.asynccontextmanager
async def serving(kind, app, config=None, *, limits=None, ssl=None, **options):
    """Serve an application by one of `SERVERS`; yield the port."""
    config, limits = config or server_config(lookup=lambda request: BOB), limits or HTTPLimits()
    sock = listening()
    port = sock.getsockname()[1]
    if kind == "ours":
        server = await start_http_server(app, config=config, limits=limits, ssl=ssl, sock=sock, **options)
        try:
            yield port
        finally:
            await server.drain(0.0)
        return
    protocol = type("Protocol", (PROTOCOLS[kind],), {"limits": limits})
    settings = uvicorn.Config(
        CredSSPMiddleware(app, config, **options), http=protocol, log_config=None, lifespan="off", access_log=False
    )
    settings.load()
    if ssl is not None:
        settings.ssl, settings.ssl_certfile = ssl, "one"
    server = uvicorn.Server(settings)
    task = asyncio.create_task(server._serve([sock]))  # `serve` would also take the signals of the tests
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0)
        yield port
    finally:
        server.should_exit = server.force_exit = True
        await task


def shorten(limits, name):
    """Make a limit short from here on, so that nothing before it depends on how fast the machine is."""
    object.__setattr__(limits, name, 0.05)

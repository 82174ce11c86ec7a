"""The small server: its connections, its limits, its end; and cut and mixed connections."""

import asyncio
import contextlib
import random
import socket

import pytest
from support.endpoints import BOB, PASSWORD, server_config, until
from support.http_by_hand import OUTSIDE, SERVERS, connected, listening, serving, shorten
from support.openssl import channel
from support.peers import DEADLINE

from acredssp.aio import HandshakeOutcome, Places
from acredssp.aio.pacing import Pacing
from acredssp.credentials import Password
from acredssp.errors import CredSSPError
from acredssp.http import h11_connection, seal_body
from acredssp.http.asgi import CredSSPMiddleware
from acredssp.http.limits import MOST_AHEAD, HTTPLimits
from acredssp.http.server import HTTPServer, start_http_server


async def body_of(receive):
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        more = message["more_body"]
    return bytes(body)


async def answer(send, body=b""):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send):
    await answer(send, await body_of(receive) or b"")


async def who(scope, receive, send):
    await body_of(receive)
    await answer(send, str(scope["credssp"].principal).encode())


@contextlib.asynccontextmanager
async def started(app, **options):
    """The server itself, and its port."""
    sock = listening()
    server = await start_http_server(app, config=server_config(lookup=lambda _: BOB), sock=sock, **options)
    try:
        yield server, sock.getsockname()[1]
    finally:
        await server.drain(0.0)


# --- its turns ---


async def test_a_client_with_many_requests_at_once_lets_others_have_their_turn():
    """The other request comes when the first of the many is served already."""
    many, served = MOST_AHEAD + 1, []  # the first request is ahead of no answer
    other = socket.socket()
    other.setblocking(False)

    async def app(scope, receive, send):
        served.append(scope["path"])
        if len(served) == 1:
            other.send(b"GET /other HTTP/1.1\r\nHost: s\r\n\r\n")
        await answer(send)

    server = HTTPServer(app, HTTPLimits(), None)
    await server.listen("127.0.0.1", 0, None, 100)
    address, loop = server.sockets[0].getsockname(), asyncio.get_running_loop()
    await loop.sock_connect(other, address)
    reader, writer = await asyncio.open_connection(*address)
    with other:
        writer.write(b"GET /many HTTP/1.1\r\nHost: s\r\n\r\n" * many)
        assert (await loop.sock_recv(other, 100)).startswith(b"HTTP/1.1 200")
        while len(served) <= many:
            assert await reader.read(65_536)
    writer.close()
    await server.drain(0.0)
    assert served.index("/other") < many


async def test_a_source_whose_logons_fail_waits_and_nobody_else_does(monkeypatch):
    monkeypatch.setattr(Pacing, "wait", lambda _self, source, _now: 3600.0 * (source == "127.0.0.2"))
    reports = []
    async with started(echo, on_handshake=reports.append) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        writer.write(b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\nAuthorization: CredSSP FgMB\r\n\r\n")
        async with connected(port) as good:
            await good.log_on()
        assert [report.outcome for report in reports] == [HandshakeOutcome.SUCCESS]
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""  # it waited until the server ended
    writer.close()


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_client_that_leaves_while_its_logon_waits_frees_its_place_at_once(kind, monkeypatch, caplog):
    """The wait would be as long as the limit of a logon, which no test waits for."""
    waits, free, leave = asyncio.Event(), asyncio.Event(), Places.leave

    def wait(_self, _source, _now):
        waits.set()
        return 3600.0

    def leaving(self, place):
        leave(self, place)
        free.set()

    monkeypatch.setattr(Places, "leave", leaving)
    limits = HTTPLimits(connections_per_source=1, logon_timeout=3600.0)
    async with serving(kind, echo, limits=limits) as port, asyncio.timeout(DEADLINE):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        with monkeypatch.context() as patch:
            patch.setattr(Pacing, "wait", wait)
            writer.write(b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\nAuthorization: CredSSP FgMB\r\n\r\n")
            await waits.wait()
            writer.close()
            await free.wait()
        async with connected(port) as next_one:
            assert (await next_one.log_on()).status == 200
    assert "the application failed" not in caplog.text


# --- its end ---


async def test_drain_closes_idle_connections_and_lets_requests_end():
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        await body_of(receive)
        begun.set()
        await may_end.wait()
        await answer(send, b"done")

    async with started(slow) as (server, port), connected(port) as idle, connected(port) as busy:
        await idle.log_on()
        await busy.log_on()
        request = asyncio.create_task(busy.post(b"x"))
        await begun.wait()
        draining = asyncio.create_task(server.drain())
        assert await idle.at_end()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        may_end.set()
        response = await request
        assert (response.body, response.closes) == (b"done", True)
        assert await busy.at_end()
        await draining


async def test_drain_cuts_what_does_not_end():
    begun, cancelled = asyncio.Event(), []

    async def hangs(scope, receive, send):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with started(hangs) as (server, port), connected(port) as client:
        await client.log_on()
        media_type, body = seal_body(client.context, b"x")
        await client.send([("Content-Type", media_type), ("Content-Length", str(len(body)))], body)
        await begun.wait()
        await server.drain(0.01)
        assert await client.at_end()
    assert cancelled == [True]


async def test_the_block_of_a_server_drains_at_its_end():
    sock = listening()
    server = await start_http_server(echo, config=server_config(), sock=sock)
    async with server:
        assert [each.getsockname() for each in server.sockets] == [sock.getsockname()]
    assert server.sockets == ()


async def test_serve_forever_drains_when_it_is_cancelled():
    async with started(echo) as (server, port), connected(port) as client:
        serving_forever = asyncio.create_task(server.serve_forever())
        assert (await client.ask()).status == 401
        serving_forever.cancel()
        assert await client.at_end()
        with pytest.raises(asyncio.CancelledError):
            await serving_forever


# --- its limits ---


@pytest.mark.parametrize("kind", SERVERS)
async def test_too_many_connections_are_told_so(kind):
    async with serving(kind, echo, limits=HTTPLimits(connections_per_source=1)) as port, connected(port) as one:
        await one.log_on()
        async with connected(port) as two:
            refused = await two.response()
            assert (refused.status, refused.closes, refused.body) == (503, True, b"too many connections\n")
        assert (await one.post(b"x")).status == 200


async def test_a_stranger_who_takes_all_connections_loses_one_to_a_newcomer():
    """The connections that are logged on keep theirs."""
    limits = HTTPLimits(connections=3, connections_per_source=3)
    async with started(echo, limits=limits) as (_, port), connected(port) as one:
        await one.log_on()
        async with connected(port) as silent, connected(port) as second:
            assert (await second.ask()).status == 401
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            try:
                assert await silent.at_end()
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
            finally:
                writer.transport.abort()
            assert (await one.post(b"x")).status == 200


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    ("limits", "answers", "line"),
    [
        (
            HTTPLimits(connections_per_source=1),
            [("127.0.0.1", b"503"), ("127.0.0.1", b"503")],
            (
                "more than 1 connections at a time from 127.0.0.1 (where many clients come from one address, raise "
                "connections_per_source of HTTPLimits)"
            ),
        ),
        (
            HTTPLimits(connections=2),
            [("127.0.0.2", b"401"), ("127.0.0.1", b"503")],
            (
                "more than 2 connections at a time, 2 of them from 127.0.0.1: one made room for 127.0.0.2 (where so "
                "many clients come together, raise connections of HTTPLimits)"
            ),
        ),
    ],
    ids=["refused", "made-room"],
)
async def test_the_log_says_once_that_connections_run_out(kind, limits, answers, line, caplog):
    caplog.set_level("INFO", "acredssp")
    async with serving(kind, echo, limits=limits) as port, connected(port), connected(port):
        for own, status in answers:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(own, 0))
            try:
                if status == b"401":
                    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                assert (await reader.readline()).split()[1] == status
            finally:
                writer.transport.abort()
    lines = [each.getMessage() for each in caplog.records if "without a place" in each.getMessage()]
    assert lines == [f"connections without a place since the last such line: 1; the newest: {line}"]


async def test_an_idle_connection_is_closed():
    limits = HTTPLimits()
    async with started(echo, limits=limits) as (_, port), connected(port) as client:
        await client.log_on()
        shorten(limits, "idle_timeout")
        assert (await client.post(b"x")).status == 200
        assert await client.at_end()


@pytest.mark.parametrize("logged_on", [False, True])
@pytest.mark.parametrize("kind", SERVERS)
async def test_a_head_that_comes_too_slowly_ends_the_connection(kind, logged_on):
    limits = HTTPLimits()
    if not logged_on:
        shorten(limits, "idle_timeout")
    async with serving(kind, echo, limits=limits) as port, connected(port) as client:
        if logged_on:
            await client.log_on()
            shorten(limits, "idle_timeout")
            assert (await client.post(b"x")).status == 200
        client.writer.write(b"POST / HTTP/1.1\r\nHost:")
        assert await client.at_end()


@pytest.mark.parametrize(
    "limits",
    [{"connections": 0}, {"body_size": -1}, {"header_size": "1"}, {"logon_timeout": 0}, {"idle_timeout": float("inf")}],
)
def test_a_limit_that_is_none_is_refused_by_its_name(limits):
    with pytest.raises(ValueError, match=f"^{next(iter(limits))}: expected "):
        HTTPLimits(**limits)


async def test_a_middleware_is_not_put_around_another_one():
    with pytest.raises(TypeError, match=r"^app: expected an application, got a CredSSPMiddleware"):
        await start_http_server(CredSSPMiddleware(echo, server_config()), config=server_config())


def test_a_middleware_wants_the_configuration_of_a_server():
    with pytest.raises(TypeError, match=r"^config: expected a ServerConfig, got NoneType"):
        CredSSPMiddleware(echo, None)


# --- clients that leave or wait ---


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_application_that_waits_for_the_client_s_end_is_told_of_it(kind):
    told, waits = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await body_of(receive)
        waits.set()
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with serving(kind, app) as port:
        async with connected(port) as client:
            await client.log_on()
            media_type, body = seal_body(client.context, b"x")
            await client.send([("Content-Type", media_type), ("Content-Length", str(len(body)))], body)
            await waits.wait()
        await told.wait()


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_body_that_nobody_takes_is_not_read(kind):
    """What the client sends stays in its own buffers until the application asks for it."""
    goes_on, begun, size = asyncio.Event(), asyncio.Event(), 32 << 20
    taken = []

    async def app(scope, receive, send):
        begun.set()
        await goes_on.wait()
        more = True
        while more:
            message = await receive()
            taken.append(len(message["body"]))
            more = message["more_body"]
        await answer(send)

    async with serving(kind, app) as port, connected(port) as client:
        await client.log_on()
        media_type, body = seal_body(client.context, bytes(size))
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.writer.write(head.encode() + body)
        await begun.wait()
        left, before = client.writer.transport.get_write_buffer_size(), None
        while left != before:
            await asyncio.sleep(0.05)
            before, left = left, client.writer.transport.get_write_buffer_size()
        assert left > size // 2
        goes_on.set()
        assert (await client.response()).status == 200
    assert sum(taken) == size
    assert max(taken) <= 1 << 19


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_answer_that_nobody_takes_ends_its_connection_in_time(kind):
    ended = asyncio.Event()

    async def app(scope, receive, send):
        await body_of(receive)
        await answer(send, bytes(64 << 20))
        ended.set()

    async with serving(kind, app, limits=HTTPLimits(body_timeout=0.3)) as port, connected(port) as client:
        await client.log_on()
        client.writer.transport.pause_reading()
        media_type, body = seal_body(client.context, b"x")
        await client.send([("Content-Type", media_type), ("Content-Length", str(len(body)))], body)
        await ended.wait()


class Cutting:
    """A writer that ends its connection after so many bytes."""

    def __init__(self, writer, left):
        self.writer, self.left = writer, left

    def __getattr__(self, name):
        return getattr(self.writer, name)

    def write(self, data):
        self.writer.write(data[: max(self.left, 0)])
        self.left -= len(data)

    async def drain(self):
        await self.writer.drain()
        if self.left <= 0:
            self.writer.close()


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_connection_may_be_cut_at_any_byte_of_a_logon(kind):
    """Nobody is logged on by a piece, and the server goes on."""
    served = []

    async def app(scope, receive, send):
        served.append(str(scope["credssp"].principal))
        await echo(scope, receive, send)

    async with serving(kind, app, limits=HTTPLimits(connections_per_source=500)) as port:
        for cut in range(1, 6_000, 211):
            async with connected(port) as client:
                client.writer = cutting = Cutting(client.writer, cut)
                with contextlib.suppress(OSError, EOFError, CredSSPError):
                    await client.log_on()
                client.writer = cutting.writer
            if client.exchange.logged_on:
                break
        assert client.exchange.logged_on, "a whole logon has more bytes"
        assert served == []
        async with connected(port) as client:
            await client.log_on()
            assert (await client.post(b"x")).body == b"x"
    assert served == ["CONTOSO\\bob"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", SERVERS)
async def test_identities_never_mix_whatever_the_order_is(kind, seed):
    """Clients log on, ask who they are and come again, in an order that the seed makes."""
    choose = random.Random(seed)
    accounts = {f"user{number}": Password(PASSWORD, f"user{number}", "CONTOSO") for number in range(5)}
    config = server_config(lookup=lambda request: accounts[request.principal.user])

    async def act(port, name, moves):
        async with contextlib.AsyncExitStack() as stack:
            client = None
            for move in moves:
                await asyncio.sleep(0)
                if client is None or move == "again":
                    client = await stack.enter_async_context(connected(port, authenticate=accounts[name]))
                    await client.log_on()
                assert (await client.post(move.encode())).body == f"CONTOSO\\{name}".encode()

    async with serving(kind, who, config) as port:
        moves = {name: choose.choices(["ask", "ask", "again"], k=6) for name in accounts}
        await asyncio.gather(*(act(port, name, each) for name, each in moves.items()))


async def test_tls_that_fails_takes_no_place():
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, _context: None)  # asyncio tells of failed handshakes in debug mode
    async with started(echo, ssl=OUTSIDE, limits=HTTPLimits(connections_per_source=1)) as (_, port):
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"POST / HTTP/1.1\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            finally:
                writer.transport.abort()
        loop.set_exception_handler(handler)
        async with connected(port, secure=True) as client:
            assert (await client.log_on()).status == 200


# --- what stands around a body ---


TRAILERS = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1_000) for number in range(64))


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("piece", [TRAILERS, b"a" * 65_536], ids=["fields", "one-field"])
async def test_trailers_without_end_end_the_connection(kind, piece):
    """Nobody reads trailers, and nobody may make the server keep them."""
    async with serving(kind, echo) as port, connected(port) as client:
        await client.send([("Transfer-Encoding", "chunked")], b"0\r\nX: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(256):
                client.writer.write(piece)
                await client.writer.drain()
                await asyncio.sleep(0)
            pytest.fail("the server takes 16 MiB of trailers")


@pytest.mark.parametrize("kind", SERVERS)
async def test_trailers_are_no_header_fields(kind):
    """A proxy in front may have looked at the header fields alone."""
    seen = []

    async def app(scope, receive, send):
        seen.extend(name for name, _ in scope["headers"])
        await echo(scope, receive, send)

    async with serving(kind, app) as port, connected(port) as client:
        await client.log_on()
        media_type, body = seal_body(client.context, b"hello")
        chunks = b"%x\r\n%s\r\n0\r\nX-Late: 1\r\nAuthorization: CredSSP x\r\n\r\n" % (len(body), body)
        await client.send([("Content-Type", media_type), ("Transfer-Encoding", "chunked")], chunks)
        assert client.opened(await client.response()).body == b"hello"
        assert b"x-late" not in seen
        assert (await client.post(b"again")).body == b"again"


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_request_with_two_lengths_ends_the_connection(kind):
    """A proxy in front may believe the other length, and then takes bytes of the body for the next request."""
    async with serving(kind, echo) as port, connected(port) as client:
        both = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")]
        await client.send(both, b"0\r\n\r\n")
        response = await client.response()
        assert response.status == 400
        assert response.closes


# --- clients that make TLS answer, and read nothing ---


@pytest.mark.requirement("defect.never-reads")
async def test_a_client_of_https_that_reads_no_answer_to_its_key_updates_is_cut(monkeypatch):
    """asyncio's TLS reads on, so the server looks at what waits. The client is OpenSSL's own."""
    async with started(echo, ssl=OUTSIDE) as (server, port):
        loop = asyncio.get_running_loop()
        with channel(socket.socket()) as peer:
            peer.socket.setblocking(False)
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            await loop.sock_connect(peer.socket, ("127.0.0.1", port))
            await peer.start_tls()
            await until(lambda: server._connections)
            [(connection, task)] = server._connections.items()
            transport = connection._writer.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            await peer.send(peer.peer.key_updates(15_000))
            await until(lambda: transport.get_write_buffer_size() > 50_000)
            server._look()
            assert not transport.is_closing(), "so few may wait"
            monkeypatch.setattr(h11_connection, "_MOST_UNREAD", 10_000)
            server._look()
            await asyncio.wait({task})
            assert not server._connections
            assert server._timer is None


class Sized:
    """A writer, and its transport, with a write buffer of the test's size."""

    def __init__(self):
        self.size, self.transport, self.cut = 0, self, False

    def get_extra_info(self, name):
        return ("127.0.0.1", 1) if name == "peername" else None

    def get_write_buffer_size(self):
        assert not self.cut, "as asyncio's TLS"
        return self.size

    def is_closing(self):
        return self.cut

    def write(self, data):
        self.size += len(data)

    async def drain(self):
        pass

    def abort(self):
        self.cut = True


async def test_what_was_written_is_no_flood_and_what_came_by_itself_is():
    writer, most = Sized(), h11_connection._MOST_UNREAD
    connection = h11_connection.H11Connection(None, writer, None, HTTPLimits())
    await connection.write(bytes(10 * most))
    for size in (10 * most, 11 * most, 5 * most, 6 * most, 0, most):
        writer.size = size
        connection.cut_if_flooded()
        assert not writer.cut
    writer.size = most + 1
    connection.cut_if_flooded()
    assert writer.cut
    connection.cut_if_flooded()

"""The peer's connection breaks at every state of both sides, by RST and by FIN: nothing is left, and each is told once.

`support.breaking` says what a state is. After every broken connection the process must hold what it held before, the
same server must serve, and the loop's exception handler must not have been called.
"""

import asyncio
import collections
import contextlib
import itertools
import socket

import aiohttp
import httpx
import pytest
import uvloop
from support import http_toy
from support.breaking import WAYS, Breaker
from support.cancelling import Holdings, Secrets, _idle
from support.endpoints import BOB, client_config, server_config
from support.gateway import ALICE, INJECTED, Target, World, leave, settings_of, talk
from support.http_by_hand import serving
from support.http_hosted import Echo
from support.http_toy import TRUSTING
from support.scenarios import echo, hooks, prepare, soon, use
from support.security_figures import rows_of

from acredssp import RDP, TLS, CredSSPError
from acredssp.aio.streams import open_connection, start_credssp_streams, start_server
from acredssp.http.aiohttp import CredSSPSession
from acredssp.http.httpx import CredSSPTransport

pytestmark = pytest.mark.interpreted_only("the compiled engine has no connections: aio has")

HOST = "127.0.0.1"
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
EXPECTED = (CredSSPError, OSError, EOFError)
"""How a program may end whose connection has broken."""


class Scenario:
    """What breaks.

    Attributes:
        breaker: The relay in the middle.
        run: One connection, from its beginning to its end.
        held: What is held by now.
        told: What the server has told of its connections, one for each.
        expected: More errors with which `run` may end.
    """

    def __init__(self, breaker, run, held=dict, told=None, expected=()):
        self.breaker, self.run, self.held, self.told, self.expected = breaker, run, held, told, expected


@contextlib.asynccontextmanager
async def connecting(ours=None, theirs=None):
    """`open_connection` to `start_server`."""
    reports, config = [], client_config()
    server = await start_server(
        echo, HOST, 0, config=server_config(**hooks()), accept=lambda _: soon("session"), carriage=theirs or TLS(),
        on_handshake=reports.append,
    )  # fmt: skip

    def held():
        return {"handshakes": len(server._handshakes), "connections": len(server._connections)}

    async with Breaker(server.sockets[0].getsockname()) as breaker:

        async def run():
            options = {"config": config, "carriage": ours or TLS(), "server_hostname": "localhost"}
            await use(*await open_connection(*breaker.address, **options))

        yield Scenario(breaker, run, held, reports)
    server.close()
    server.abort_clients()
    await server.wait_closed()


def connecting_by_rdp():
    route = server_config(**hooks())
    return connecting(RDP(routing_token="7"), RDP(hybrid_ex=True, route=lambda _: soon(route)))


@contextlib.asynccontextmanager
async def upgrading():
    """Streams that are there, at both ends."""
    ours, theirs, served = client_config(), server_config(**hooks()), []

    async def serve(reader, writer):
        secure = None
        try:
            secure = await start_credssp_streams(reader, writer, theirs)
            await echo(*secure)
        except EXPECTED as error:
            served.append(error)
        else:
            served.append(None)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server, Breaker(server.sockets[0].getsockname()) as breaker:

        async def run():
            reader, writer = await asyncio.open_connection(*breaker.address)
            try:
                await use(*await start_credssp_streams(reader, writer, ours, server_hostname="localhost"))
            finally:
                writer.transport.abort()

        yield Scenario(breaker, run, told=served)


@contextlib.asynccontextmanager
async def answering():
    """The acceptor of HTTP, and what breaks its connections."""
    config = server_config(**hooks(lookup=lambda _: soon(BOB)))
    async with serving("ours", Echo(), config) as port, Breaker((HOST, port)) as breaker:
        yield breaker


@contextlib.asynccontextmanager
async def asking_by_httpx():
    config = http_toy.client_config()
    async with answering() as breaker:

        async def run():
            transport = CredSSPTransport(config, ssl_context=TRUSTING, max_connections=1)
            async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=30) as client:
                url = f"http://localhost:{breaker.address[1]}/wsman"
                assert (await client.post(url, content=b"hello")).status_code == 200

        yield Scenario(breaker, run, expected=(httpx.TransportError,))


@contextlib.asynccontextmanager
async def asking_by_aiohttp():
    config = http_toy.client_config()
    async with answering() as breaker:

        async def run():
            async with CredSSPSession(config, ssl_context=TRUSTING, max_connections=1) as session:
                url = f"http://localhost:{breaker.address[1]}/wsman"
                async with session.post(url, data=b"hello") as answer:
                    assert answer.status == 200
                    await answer.read()

        yield Scenario(breaker, run, expected=(aiohttp.ClientError,))


@contextlib.asynccontextmanager
async def through_a_gateway(folder, leg, more="", **settings):
    """A gateway, whose client or whose target breaks."""
    prepare(folder)
    target, world = await Target().start(), World(folder)
    host, _, port = target.address.rpartition(":")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(target.stop)
        address = target.address
        if leg == "target":
            breaker = await stack.enter_async_context(Breaker((host, int(port))))
            address = f"{HOST}:{breaker.address[1]}"
        await world.write(settings_of({"desktops": ([address], more)}, **settings))
        await world.gateway.start()
        stack.push_async_callback(world.gateway.stop)
        if leg == "client":
            breaker = await stack.enter_async_context(Breaker(world.address))
        gateway = world.gateway

        async def run():
            streams = await world.connect(ALICE, address=breaker.address if leg == "client" else world.address)
            try:
                await talk(streams)
                await leave(streams)
            finally:
                streams[1].transport.abort()

        def held():
            return {str(key): count for key, count in gateway._counts.items()} | {
                "connections of the gateway": len(gateway.connections),
                "to the host": sum(host.connections for host in gateway.plan.targets["desktops"].pool.hosts),
            }

        yield Scenario(breaker, run, held)
        ended = [record.connection_id for record in world.records]
        assert len(ended) == len(set(ended)), "a connection has two records"


PASSTHROUGH = '[[listeners.routes]]\ntarget = "desktops"\nmode = "passthrough"\nallow_without_nla = true\n'
SCENARIOS = {
    "connect and accept, TLS": lambda _: connecting(),
    "connect and accept, RDP with a route": lambda _: connecting_by_rdp(),
    "upgrade of streams, both sides": lambda _: upgrading(),
    "HTTP acceptor, and a client by httpx": lambda _: asking_by_httpx(),
    "HTTP acceptor, and a client by aiohttp": lambda _: asking_by_aiohttp(),
    "gateway, its client": lambda folder: through_a_gateway(folder, "client"),
    "gateway, its target": lambda folder: through_a_gateway(folder, "target"),
    "gateway with an account of its own, its target": lambda folder: through_a_gateway(folder, "target", INJECTED),
    "gateway that does not decrypt, its client": lambda folder: through_a_gateway(folder, "client", routes=PASSTHROUGH),
    "gateway that does not decrypt, its target": lambda folder: through_a_gateway(folder, "target", routes=PASSTHROUGH),
}


async def ended(run, expected):
    """How a connection ends: the error; None for none."""
    try:
        await asyncio.wait_for(run(), 60)
    except expected as error:
        return error
    return None


async def everywhere(scenario, secrets):
    """Break one connection after the other; return how many, and what their errors were."""
    unhandled, errors = [], collections.Counter()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
    broken = 0
    async with scenario as it:
        expected = (*EXPECTED, *it.expected)
        it.breaker.next(None, "FIN")
        for _ in range(2):  # the second finds what the first has made for all
            assert await ended(it.run, ()) is None
            await _idle()
        holdings = Holdings(secrets, it.held)
        for how in WAYS:
            for at in itertools.count():
                it.breaker.next(at, how)
                before = None if it.told is None else len(it.told)
                error = await ended(it.run, expected)
                await holdings.settle(f"{how} after {at} pieces")
                assert not unhandled, f"{how} after {at} pieces: {unhandled}"
                if before is not None:
                    assert len(it.told) == before + 1, f"{how} after {at} pieces: told {it.told[before:]}"
                if not it.breaker.broken:
                    assert error is None
                    break
                broken += 1
                errors[type(error).__name__] += 1
            it.breaker.next(None, "FIN")
            assert await ended(it.run, ()) is None, "it does not go on"
            await holdings.settle("at the end")
    assert not unhandled
    return broken, errors


@pytest.mark.requirement("defect.never-reads")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_left_wherever_the_connection_breaks(name, loop, tmp_path, figure):
    with Secrets() as secrets, asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        broken, errors = runner.run(everywhere(SCENARIOS[name](tmp_path), secrets))
    assert broken > 2 * len(WAYS)
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(errors.items()))
    figure("breaking", f"{name}, {loop}", broken=broken, how_it_ended=told)


def test_the_page_has_the_figures_of_all_scenarios():
    assert rows_of("breaking") == [f"{name}, {loop}" for name in SCENARIOS for loop in LOOPS]


async def test_a_relay_that_resets_does_so():
    """What breaks must be a reset: else the tests above would show half of it."""
    listener = socket.create_server((HOST, 0))
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    async with Breaker(listener.getsockname()) as breaker:
        breaker.next(1, "RST")
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, breaker.address)
            server, _ = await loop.sock_accept(listener)
            server.setblocking(False)
            await loop.sock_sendall(client, b"x")
            for end in (client, server):
                with pytest.raises(ConnectionResetError):
                    await loop.sock_recv(end, 1)
            server.close()
    listener.close()

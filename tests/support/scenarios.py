"""What the package offers, as scenarios: each begins and ends by itself, and runs again and again.

A scenario is a function whose asynchronous context manager gives two functions: `run()`, a coroutine that begins and
ends by itself, and `held()`, a mapping of what is held by now: what to the number. `cancelling` cancels their runs
everywhere, `resetting` breaks their connections, and `canaries` looks for their secrets.
"""

import asyncio
import contextlib
import functools
import io
import signal
import socket
import sys
from unittest import mock

import aiohttp
import httpx
import rich.console
from support import http_toy, ntlm_auth, sspi
from support.endpoints import BOB, CERTIFICATE, KEY, PASSWORD, client_config, server_config
from support.gateway import ALICE, INJECTED, Target, World, leave, settings_of, talk
from support.http_by_hand import serving
from support.http_hosted import Echo
from support.http_toy import TRUSTING, Toy
from support.logon import session_base_key
from support.peers import free_port
from support.stores import running
from support.wsman_http import app_of
from support.wsman_toy import Toy as WSManToy
from support.wsman_toy import greet, upper

import acredssp
from acredssp import RDP, TLS, Account, Password
from acredssp.aio import check_rdp, judge_server
from acredssp.aio.server import CredSSPServer
from acredssp.aio.streams import open_connection, start_credssp, start_credssp_streams, start_server
from acredssp.cli import arguments, winrm
from acredssp.cli.certificate import Certificate
from acredssp.cli.login import Login, log_on
from acredssp.cli.outcome import Interrupted
from acredssp.cli.probing import Pace, Prober
from acredssp.cli.rdp_logon import Patient, examine
from acredssp.cli.serve import serve
from acredssp.cli.service import Limits, Serve
from acredssp.credentials import Oracle
from acredssp.hosts import HealthCheck, HostPool
from acredssp.http.aiohttp import CredSSPSession
from acredssp.http.httpx import CredSSPTransport
from acredssp.http.server import start_http_server
from acredssp.proxy import service as proxy_service
from acredssp.proxy import web
from acredssp.proxy.admin import admin_pages, checks_of
from acredssp.proxy.api import Broker
from acredssp.proxy.metrics import Metrics
from acredssp.proxy.tokens import TokenOrder
from acredssp.sspi import DeleteSecurityContext, establish, secure_streams
from acredssp.stores import Grant, LockoutRule, MemoryStore, Sealer, new_keys
from acredssp.winrm import CommandShell, WSMan
from acredssp.workers import Address

HOST = "127.0.0.1"


async def soon(answer):
    await asyncio.sleep(0)
    return answer


def hooks(**more):
    """Hooks that all wait."""
    return {
        "lookup": lambda _: soon(Password(PASSWORD)),
        "authorize": lambda _: soon(True),
        "admit": lambda _: soon(True),
    } | more


async def echo(reader, writer):
    try:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
    except (OSError, EOFError):
        pass
    finally:
        writer.transport.abort()


async def use(reader, writer):
    """Have a word come back, and close."""
    try:
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
    finally:
        writer.transport.abort()


# --- connections ---


@contextlib.asynccontextmanager
async def listening(connected=echo, **options):
    """A server: its address, and what it holds."""
    options = {"config": server_config(**hooks()), "accept": lambda _: soon("session")} | options
    reports = []
    server = await start_server(connected, HOST, 0, on_handshake=reports.append, **options)
    try:
        yield server.sockets[0].getsockname(), lambda: held_by(server)
        told = [report.connection_id for report in reports]
        assert len(told) == len(set(told)), "a handshake was reported twice"
    finally:
        server.close()
        server.abort_clients()
        await server.wait_closed()


def held_by(server: CredSSPServer):
    return {
        "handshakes": len(server._handshakes),
        "connections": len(server._connections),
        "places": len(server._places),
    }


@contextlib.asynccontextmanager
async def connecting(ours=None, theirs=None, client=None, names=None, **options):
    """`open_connection` to `start_server`."""
    config, names = client or client_config(), names or {}
    async with listening(**({"carriage": theirs} if theirs else {}), **options) as (address, held):

        async def run():
            await use(*await open_connection(*address, config=config, carriage=ours or TLS(), **names))

        yield run, held


def connecting_by_rdp():
    route = server_config(**hooks())
    return connecting(RDP(routing_token="7"), RDP(hybrid_ex=True, route=lambda _: soon(route)))


@contextlib.asynccontextmanager
async def connecting_to_an_oracle():
    """A server that asks another about the password, and limits wrong ones."""
    oracle = Oracle(lambda exchange: soon(session_base_key(exchange, BOB)))
    config = server_config(**hooks(lookup=lambda _: soon(oracle)))
    async with connecting(config=config, max_failures=acredssp.FailureLimit(5, 60)) as scenario:
        yield scenario


@contextlib.asynccontextmanager
async def upgrading():
    """Both ends of a connection that is there: by streams, and by transport."""
    ours, theirs = client_config(), server_config(**hooks())

    async def serve(end):
        reader, writer = await asyncio.open_connection(sock=end)
        try:
            await echo(*await start_credssp_streams(reader, writer, theirs))
        finally:
            writer.transport.abort()

    async def run():
        ends = socket.socketpair()
        serving = asyncio.create_task(serve(ends[1]))
        reader, writer = None, None
        try:
            reader, writer = await asyncio.open_connection(sock=ends[0])
            secure = await start_credssp_streams(reader, writer, ours, server_hostname="localhost")
            await use(*secure)
        finally:
            if writer is None:
                ends[0].close()
            else:
                writer.transport.abort()
            serving.cancel()
            await asyncio.wait({serving})
            ends[1].close()
            _ = serving.cancelled() or serving.exception()

    yield run, dict


@contextlib.asynccontextmanager
async def upgrading_a_transport():
    ours, theirs = client_config(), server_config(**hooks())

    class Quiet(asyncio.Protocol):
        pass

    async def run():
        loop = asyncio.get_running_loop()
        ends, transports = socket.socketpair(), []
        try:
            for end in ends:
                transport, _ = await loop.connect_accepted_socket(Quiet, end)
                transports.append(transport)
            await asyncio.gather(
                start_credssp(transports[0], Quiet(), ours, server_hostname="localhost"),
                start_credssp(transports[1], Quiet(), theirs),
            )
        finally:
            for transport in transports:
                transport.abort()
            for end in ends[len(transports) :]:
                end.close()

    yield run, dict


@contextlib.asynccontextmanager
async def relaying():
    """A gateway of two legs, with a recording that has to wait."""

    async def record(*_):
        await asyncio.sleep(0)

    async def run():
        pairs = [socket.socketpair() for _ in range(2)]
        open_ones, writers = [end for pair in pairs for end in pair], []
        try:
            streams = []
            for end in [pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1]]:
                streams.append(await asyncio.open_connection(sock=end))
                open_ones.remove(end)
                writers.append(streams[-1][1])
            relay = asyncio.create_task(
                acredssp.relay(streams[1], streams[2], recording=acredssp.aio.Recording(sink=record))
            )
            try:
                streams[0][1].write(b"hello")
                assert await streams[3][0].readexactly(5) == b"hello"
                for end in (0, 3):
                    streams[end][1].close()
                await relay
            finally:
                relay.cancel()
                await asyncio.wait({relay})
                _ = relay.cancelled() or relay.exception()
        finally:
            for writer in writers:
                writer.transport.abort()
            for end in open_ones:
                end.close()

    yield run, dict


@contextlib.asynccontextmanager
async def calling_sspi():
    """The functions of SSPI over streams, and streams that encrypt."""
    config = client_config()

    async def serve(reader, writer):
        handle = None
        try:
            handle = await establish(reader, writer, theirs)
            await echo(*await secure_streams(handle, reader, writer))
        except (acredssp.CredSSPError, OSError, asyncio.CancelledError):
            pass  # Python 3.11's streams tell the loop of a task that ends as cancelled
        finally:
            writer.transport.abort()
            if handle is not None:
                await asyncio.sleep(0)
                await DeleteSecurityContext(handle)

    theirs = server_config(**hooks())
    server = await asyncio.start_server(serve, HOST, 0)

    async def run():
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            handle = await establish(reader, writer, config, sspi.TARGET)
            try:
                await use(*await secure_streams(handle, reader, writer))
            finally:
                writer.transport.abort()
                await DeleteSecurityContext(handle)
        finally:
            writer.transport.abort()

    async with server:
        yield run, dict


@contextlib.asynccontextmanager
async def probing():
    """What a health check and a gateway's `check` do."""
    config = client_config()
    async with listening(carriage=RDP()) as (address, held):

        async def run():
            await check_rdp(await asyncio.open_connection(*address))
            streams = await asyncio.open_connection(*address)
            await judge_server(streams, config, carriage=RDP(), server_hostname="localhost")

        yield run, held


# --- http ---


@contextlib.asynccontextmanager
async def asking_by_httpx():
    """With one place, so that one that is lost would stop the next request."""
    config, pools = http_toy.client_config(), []
    async with Toy() as toy:

        async def run():
            transport = CredSSPTransport(config, ssl_context=TRUSTING, max_connections=1)
            pools.append(transport._client._pool)
            async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=30) as client:
                for _ in range(2):
                    assert (await client.post(toy.url, content=b"hello")).content == b"HELLO"

        yield run, lambda: {"places": sum(map(len, pools))}


@contextlib.asynccontextmanager
async def asking_by_aiohttp():
    config = http_toy.client_config()
    async with Toy() as toy:

        async def run():
            async with CredSSPSession(config, ssl_context=TRUSTING, max_connections=1) as session:
                for _ in range(2):
                    async with session.post(toy.url, data=b"hello") as answer:
                        assert await answer.read() == b"HELLO"

        yield run, dict


@contextlib.asynccontextmanager
async def answering_http(kind):
    """The acceptor, asked by a client that is cut off as well."""
    config = http_toy.client_config()
    async with serving(kind, Echo(), server_config(**hooks(lookup=lambda _: soon(BOB)))) as port:

        async def run():
            transport = CredSSPTransport(config, ssl_context=TRUSTING)
            async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=30) as client:
                url = f"http://localhost:{port}/wsman"
                with contextlib.suppress(httpx.TransportError):
                    assert (await client.post(url, content=b"hello")).status_code in {200, 500}

        yield run, dict


INPUT = "C4n4ry-of-the-input"
"""What a command over WinRM reads."""


@contextlib.asynccontextmanager
async def using_winrm():
    toy = WSManToy({"greet": greet, "upper": upper})

    async def post(envelope):
        return await soon(await toy.post(envelope))

    wsman = WSMan(post, "http://toy:5985/wsman", first_delay=0)

    async def run():
        async with await CommandShell.open(wsman) as shell:
            assert (await shell.run("greet", "you")).stdout == "hello\r\n"
            assert (await shell.run("upper", stdin=INPUT.encode())).stdout == INPUT.upper()

    try:
        yield run, dict
    finally:
        await toy.aclose()


# --- gateways ---


def prepare(folder):
    """What a gateway's settings name."""
    certificate, key = CERTIFICATE, KEY
    for name, text in {
        "gateway.pem": certificate, "gateway.key": key, "users": b"CONTOSO:alice:wonderland\n", "secret": b"server's\n",
    }.items():  # fmt: skip
        (folder / name).write_bytes(text)


@contextlib.asynccontextmanager
async def through_a_gateway(folder, more="", who=ALICE, *, by_token=False, refused=False, **settings):
    prepare(folder)
    if by_token:
        (folder / "api").write_text(API_SECRET)
        settings |= {"routes": "[[listeners.routes]]\ntoken = true\n", "rest": API}
    target, world = await Target().start(), World(folder)
    await world.write(settings_of({"desktops": ([target.address], more)}, **settings))
    await world.gateway.start()
    gateway, order = world.gateway, TokenOrder(user="CONTOSO\\alice", target="desktops")

    async def run():
        token = {"routing_token": await order.issue(gateway.node.store)} if by_token else {}
        if refused:
            with contextlib.suppress(acredssp.AuthenticationError, acredssp.AccessDenied):
                await world.connect(who, **token)
            return
        streams = await world.connect(who, **token)
        try:
            await talk(streams)
            await leave(streams)
        finally:
            streams[1].transport.abort()

    def held():
        return {str(key): count for key, count in gateway._counts.items()} | {
            "connections of the gateway": len(gateway.connections),
            "connections to the host": sum(host.connections for host in gateway.plan.targets["desktops"].pool.hosts),
        }

    try:
        yield run, held
        ended = [record.connection_id for record in world.records]
        assert len(ended) == len(set(ended)), "a connection has two records"
    finally:
        await target.stop()
        await gateway.stop()


def passing_through(folder):
    routes = '[[listeners.routes]]\ntarget = "desktops"\nmode = "passthrough"\nallow_without_nla = true\n'
    return through_a_gateway(folder, routes=routes)


@contextlib.asynccontextmanager
async def asking_winbind(folder):
    """A process that is ended with each question that is given up."""
    command = (sys.executable, "-S", "-E", ntlm_auth.__file__, str(folder / "log"))
    async with acredssp.aio.WinbindOracle(command=command, processes=1, timeout=60) as oracle:
        client = client_config(authenticate=Password("Passw0rd!", "bob", "CONTOSO"))
        async with connecting(client=client, config=server_config(**hooks(lookup=oracle))) as scenario:
            yield scenario


@contextlib.asynccontextmanager
async def choosing_a_host():
    async with listening(carriage=RDP()) as (address, _):
        addresses = [Address(*address), Address(HOST, 1)]
        pool = HostPool("desktops", addresses, check=HealthCheck(failures=10**9), directory=MemoryStore())
        alice = Account("alice", "CONTOSO")

        async def run():
            for each in addresses:
                await pool.check(each)
            for each in await pool.in_order(alice):
                with pool.connection(each):
                    await pool.stick(alice, each)
                    assert (await pool.in_order(alice))[0] == each
            watching = asyncio.create_task(pool.watch())
            try:
                await asyncio.sleep(0.01)
            finally:
                watching.cancel()
                await asyncio.wait({watching})

        yield run, lambda: {"connections": sum(host.connections for host in pool.hosts)}


@contextlib.asynccontextmanager
async def asking_a_store(folder):
    """A real server; with one connection, so that a lost one would stop the next run."""
    with running(folder, "valkey-server") as server:
        options = {"deadline": 30, "connections": 1, **server.logon}
        store = acredssp.stores.redis.RedisStore(server.url, Sealer(new_keys()), **options)
        alice, grant = Account("alice", "CONTOSO"), Grant(user="alice", target="desktops", uses=5, window=60)

        async def run():
            attempt = acredssp.stores.LogonAttempt(store, alice, LockoutRule(most=10**6))
            await attempt.begin()
            await attempt.failed()
            await attempt.begin()
            await attempt.succeeded()
            token = await acredssp.stores.issue_token(store, grant, 60)
            found = await acredssp.stores.find_token(store, token)
            await acredssp.stores.redeem_token(store, token, found, "here", alice)
            await store.stick(alice, "desktops", "host", 60)
            assert await store.host_of(alice, "desktops") == "host"
            await store.ping()

        try:
            yield run, lambda: {"in use": len(store._client.connection_pool._in_use_connections)}
        finally:
            await store.close()


SCENARIOS = {
    "connect and accept, TLS": connecting,
    "connect and accept, RDP with a route": connecting_by_rdp,
    "connect and accept, an oracle": connecting_to_an_oracle,
    "upgrade of streams, both sides": upgrading,
    "upgrade of transports, both sides": upgrading_a_transport,
    "relay with a recording": relaying,
    "functions of SSPI over streams": calling_sspi,
    "probes": probing,
    "HTTP client by httpx": asking_by_httpx,
    "HTTP client by aiohttp": asking_by_aiohttp,
    "HTTP acceptor": functools.partial(answering_http, "ours"),
    "HTTP acceptor under uvicorn": functools.partial(answering_http, "uvicorn-h11"),
    "WinRM shell": using_winrm,
    "pool of hosts": choosing_a_host,
}


IN_FOLDERS = {
    "logon through a gateway": through_a_gateway,
    "logon through a gateway, an account of its own": lambda folder: through_a_gateway(folder, INJECTED),
    "logon through a gateway, a token": functools.partial(through_a_gateway, by_token=True),
    "connection that a gateway does not decrypt": passing_through,
    "store in Valkey": asking_a_store,
    "oracle of winbind": asking_winbind,
}


# --- the gateway's pages, and its settings read again ---


@contextlib.asynccontextmanager
async def asking_pages(folder):
    """The pages of `[admin]`, and the API for brokers."""
    prepare(folder)
    (folder / "api").write_text(API_SECRET)
    world = World(folder)
    await world.write(settings_of({"desktops": ([f"{HOST}:1"], "")}, rest=API))
    await world.gateway.start()
    gateway, metrics = world.gateway, Metrics()
    applications = {
        "admin": admin_pages(checks_of(gateway, metrics), metrics),
        "api": Broker(gateway.node, lambda: gateway.plan).app(),
    }
    order, bearer = {"user": "CONTOSO\\alice", "target": "desktops"}, {"Authorization": f"Bearer {API_SECRET}"}
    async with contextlib.AsyncExitStack() as stack:
        ports = {}
        for name, application in applications.items():
            listener = stack.enter_context(socket.create_server((HOST, 0)))
            listener.setblocking(False)
            ports[name] = listener.getsockname()[1]
            await stack.enter_async_context(web.serve(application, listener))

        async def run():
            async with aiohttp.ClientSession() as session:
                for path in ("healthz", "readyz", "metrics"):
                    async with session.get(f"http://{HOST}:{ports['admin']}/{path}") as answer:
                        await answer.read()
                base = f"http://{HOST}:{ports['api']}/v1"
                for method, path, body in (
                    ("POST", "tokens", order),
                    ("GET", "connections", None),
                    ("POST", "kick", {"user": "CONTOSO\\alice"}),
                    ("DELETE", "connections/nobody", None),
                ):
                    async with session.request(method, f"{base}/{path}", json=body, headers=bearer) as answer:
                        assert answer.status in {200, 201, 202, 404}, await answer.text()
                        await answer.read()

        try:
            yield run, lambda: {"locked": gateway._changing.locked()}
        finally:
            await gateway.stop()


API_SECRET = "the long secret of the API"
API = f"[api]\naddress = '{HOST}:0'\nsecret = 'file:api'\n"


@contextlib.asynccontextmanager
async def reloading(folder):
    """A gateway's settings read again: with a listener more, and then without it."""
    prepare(folder)
    world = World(folder)
    one, two = (
        settings_of({"desktops": ([f"{HOST}:1"], "")}, rest="".join(LISTENER_MORE.format(number) for number in more))
        for more in ((), (2, 3))
    )
    await world.write(one)
    await world.gateway.start()
    gateway = world.gateway

    async def run():
        try:
            (folder / "settings.toml").write_text(two)
            await gateway.reload()
            assert len(gateway.addresses) == 3
        finally:
            (folder / "settings.toml").write_text(one)
            for _ in range(2):  # the first may be the one that is cancelled
                again = asyncio.get_running_loop().create_task(gateway.reload())
                await asyncio.wait({again})
                if not again.cancelled():
                    break

    def held():
        servers = [server for listening in gateway._servers.values() for server in listening]
        return {
            "locked": gateway._changing.locked(),
            "servers that do not serve": sum(not server.is_serving() for server in servers),
            "listeners": len(gateway._servers),
        }

    try:
        yield run, held
    finally:
        await gateway.stop()


LISTENER_MORE = """
[[listeners]]
address = "127.0.0.{0}:0"
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}]
logon = {{ users = "users" }}
routes = [{{ target = "desktops" }}]
"""


# --- commands ---


@contextlib.asynccontextmanager
async def commanding(command):
    """A command against a server."""
    async with listening(carriage=RDP(hybrid_ex=True)) as (address, held):
        yield functools.partial(command, Address(*address)), held


def login_of(address):
    return Login(
        address=address, config=client_config(), carriage=RDP(hybrid_ex=True), server_hostname="localhost", spn=None,
        timeout=60,
    )  # fmt: skip


async def logging_in(address):
    _, error = await log_on(login_of(address))
    if error is not None:  # the command says so, and raises nothing
        raise error


def prober(kind=Prober):
    return kind(pace=Pace(0), timeout=60, trust=client_config().trust, server_name="localhost")


async def probing_one(address):
    """The questions about CredSSP; those for each version of TLS are asked by the same code."""
    await prober().server(address, thorough=False)


class Brief(Prober):
    """Asks about CredSSP alone, whatever it is told."""

    async def server(self, target, *, thorough=False, facts=None):
        return await super().server(target, thorough=False, facts=facts)


async def examining(address):
    examination = await examine(Patient.of(login_of(address)), prober(Brief))
    if isinstance(examination.error, Interrupted):  # it gives what was known, for the report
        raise asyncio.CancelledError
    if examination.error is not None:
        raise examination.error


@contextlib.contextmanager
def noted_signals():
    """The handlers of signals in the running loop, by their numbers: the process's own signals are not touched."""
    handlers = {}

    def note(number, call, *args):
        handlers[number] = functools.partial(call, *args)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler, loop.remove_signal_handler = note, lambda number: True
    try:
        yield handlers
    finally:
        del loop.add_signal_handler, loop.remove_signal_handler


async def until_told(command, ready, handlers, use):
    """Run a command that serves until SIGTERM, use it once it is ready, and tell it to end."""
    serving, waiting = asyncio.create_task(command), asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await use()
            handlers[signal.SIGTERM]()
        await asyncio.wait({serving})
    finally:
        waiting.cancel()
        if not serving.cancelling():  # no run is cancelled a second time while it ends
            serving.cancel()
        await asyncio.wait({serving, waiting})
    if not serving.cancelled():
        serving.result()


class Console(rich.console.Console):
    """Tells of the first line that is written."""

    def __init__(self, ready):
        super().__init__(file=io.StringIO())
        self._ready = ready

    def print(self, *args, **options):
        super().print(*args, **options)
        self._ready.set()


@contextlib.asynccontextmanager
async def serving_by_command():
    limits = Limits(handshakes=None, per_source=None, failures=None, failed_per_second=None, handshake_timeout=60)
    certificate = Certificate.self_made("localhost", "ec")

    async def run():
        address = Address(HOST, free_port())
        task = Serve(
            address=address, accounts=None, keytab=None, realms=(), refuse=(), certificate=certificate,
            carriage=RDP(hybrid_ex=True), policy=acredssp.Policy(), limits=limits, as_json=False,
        )  # fmt: skip
        ready, config = asyncio.Event(), server_config(**hooks())
        with noted_signals() as handlers:
            command = serve(task, config, Console(ready), lambda _: None)
            await until_told(command, ready, handlers, lambda: logging_in(address))

    yield run, dict


@contextlib.asynccontextmanager
async def commanding_windows():
    """The command `winrm`: a command in cmd.exe, with CredSSP over HTTP."""
    toy = WSManToy({"greet": greet})
    server = await start_http_server(
        app_of(toy), HOST, free_port(), config=server_config(**hooks(lookup=lambda _: BOB))
    )
    port = server.sockets[0].getsockname()[1]
    task = winrm._Task(
        service=arguments.service(f"http://localhost:{port}/wsman"), config=http_toy.client_config(), options={},
        shell=winrm.ShellChoice.CMD, command="greet you", with_input=False, profile=False,
    )  # fmt: skip

    async def run():
        written = winrm._Written(as_json=True)
        error = await winrm._run(task, written)
        if error is not None:
            raise error
        assert written.exit_code in {3, None}  # None where the task that reads was cancelled

    try:
        yield run, dict
    finally:
        await toy.aclose()
        await server.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def running_a_gateway(folder):
    """The command `proxy run`, with its pages."""
    prepare(folder)
    (folder / "api").write_text(API_SECRET)
    world, target = World(folder), await Target().start()
    rest = API + f"[admin]\naddress = '{HOST}:0'\n[run]\nleave = 0\ngrace = 0.01\n"

    async def run():
        port, ready = free_port(), asyncio.Event()
        text = settings_of({"desktops": ([target.address], "")}, rest=rest).replace(f"{HOST}:0", f"{HOST}:{port}", 1)
        await world.write(text)

        async def use():
            streams = await world.connect(ALICE, address=(HOST, port))
            try:
                await talk(streams)
                await leave(streams)
            finally:
                streams[1].transport.abort()

        def tell(line):
            if line.startswith("listening"):
                ready.set()

        with noted_signals() as handlers:
            await until_told(proxy_service.run(folder / "settings.toml", tell), ready, handlers, use)

    with mock.patch.object(proxy_service, "_collect_seldom"), mock.patch.object(proxy_service, "_log_as"):
        try:
            yield run, dict
        finally:
            await target.stop()


COMMANDS = {
    "the command login": functools.partial(commanding, logging_in),
    "the command probe": functools.partial(commanding, probing_one),
    "the command doctor": functools.partial(commanding, examining),
    "the command serve": serving_by_command,
    "the command winrm": commanding_windows,
}
COMMANDS_IN_FOLDERS = {"the command proxy run": running_a_gateway}
PAGES = {
    "pages and API of a gateway": asking_pages,
    "settings of a gateway read again": reloading,
}

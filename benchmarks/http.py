"""CredSSP over HTTP: the CPU of many clients at once, over plain HTTPS and over the other clients of the field.

    python -m benchmarks.http                       takes one to two minutes
    python -m benchmarks.http --rounds 5
    python -m benchmarks.http --quick               shows that it runs; the figures mean nothing
    python -m benchmarks.http --profile httpx       shows where one client's CPU goes

200 clients log on at once, each over a connection of its own, and send ten requests of 2 KiB each, whose answers are as
long. The server is a process of its own: `start_http_server`, and the same server without CredSSP for HTTPS. So the
CPU of this process, all threads together, is the clients' alone. All contenders run in turns, and a round's figure is a
ratio within that round. The first request of each client, which connects and logs on, is measured apart from the
others. Making the clients, and closing them, does not count.

Everybody uses NTLM, TLS 1.3 and an address without a name. Ours have one client object for all connections, and so has
aiohttp for HTTPS. httpx has one object for each connection of HTTPS: the cost of its own pool grows with the square of
the connections, and with 200 in one pool it is nearly a hundred times what is measured here. requests-credssp has a
session and a thread for each client. It only logs on, so the bodies are sealed by its `wrap_winrm`, as pywinrm and
pypsrp do. awinrm has a transport for each client; they share one TLS context, which awinrm would make anew for each.

Large bodies are measured by `benchmarks.http_bodies`, in memory: their sealing and opening over bare TLS.

Another round, which does not count, shows what holds up the loop: blockbuster refuses blocking calls of our clients
there, and every callback is timed.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import cProfile
import dataclasses
import importlib.util
import json
import pathlib
import pstats
import re
import ssl
import statistics
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from rich.console import Console

import acredssp
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.http.asgi import Receive, Scope, Send
from acredssp.http.server import HTTPLimits, HTTPServer, start_http_server
from acredssp.policy import MechanismChoice
from benchmarks import http_bodies, report
from benchmarks.children import child
from benchmarks.harness import Figure, Results, Row, environment, raise_file_limit, ratios, settle
from benchmarks.lags import clocked_callbacks
from benchmarks.links import BACKLOG, HOST
from benchmarks.peers import ALICE, DOMAIN, NAME, PASSWORD, Setting
from benchmarks.workers import cpu_of

MESSAGE = b"<" + b"x" * 2046 + b">"
SOAP = "application/soap+xml;charset=UTF-8"
SPN = f"HTTP/{NAME}"
PATIENCE = 600.0
LIBRARIES = ("httpx", "aiohttp")
OTHERS = {"requests_credssp": "requests-credssp in threads", "awinrm": "awinrm"}
OTHERS_GOAL = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What happens in a run."""

    clients: int
    requests: int
    """Requests of each client, at least two."""
    rounds: int
    body: int
    """Bytes of a large body."""


FULL = Plan(clients=200, requests=10, rounds=3, body=20 << 20)
QUICK = Plan(clients=3, requests=2, rounds=1, body=1 << 20)


# --- the server, a process ---


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Give back the body of a request."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    headers = [(b"content-type", SOAP.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def be_server() -> None:
    """Serve by CredSSP and by HTTPS until the standard input ends; the certificate comes first."""
    chain, key = json.loads(sys.stdin.readline())
    setting = Setting.of((chain.encode(), key.encode()), "1.3")
    limits = HTTPLimits(connections=10_000, connections_per_source=10_000, logon_timeout=3600.0)
    by_credssp = await start_http_server(echo, HOST, 0, config=setting.server_config(), limits=limits, backlog=BACKLOG)
    by_https = HTTPServer(echo, limits, setting.server_context)
    await by_https.listen(HOST, 0, None, BACKLOG)
    async with by_credssp, by_https:
        print(json.dumps([server.sockets[0].getsockname()[1] for server in (by_credssp, by_https)]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """The server, and what its clients have to know."""

    pid: int
    credssp: str
    """The URL where clients log on by CredSSP."""
    https: str
    client: acredssp.ClientConfig
    tls: ssl.SSLContext


@contextlib.contextmanager
def running() -> Iterator[World]:
    certificate = acredssp.self_signed([NAME], "rsa")
    setting = Setting.of(certificate, "1.3")
    config = setting.client_config(MechanismChoice.NTLM)
    names = SPNList.of(SPN)
    delegation = DelegationPolicy(allow_fresh_credentials=names, allow_fresh_credentials_when_ntlm_only=names)
    with child("benchmarks.http", "--be-server") as process:
        process.stdin.write(json.dumps([part.decode() for part in certificate]) + "\n")
        process.stdin.flush()
        ports = json.loads(process.stdout.readline())
        yield World(
            process.pid,
            f"http://{HOST}:{ports[0]}/wsman",
            f"https://{HOST}:{ports[1]}/wsman",
            dataclasses.replace(config, delegation=delegation),
            setting.client_context,
        )


# --- the clients ---

Together = Callable[[int], Awaitable[None]]
"""Has every client send so many requests, one after the other, all clients at once."""

Ask = Callable[[int], Awaitable[bytes]]
"""Sends a request of the client with this number, and returns the answer."""


def crowd(clients: int, ask: Ask) -> Together:
    async def one(number: int, requests: int) -> None:
        for _ in range(requests):
            assert await ask(number) == MESSAGE

    async def together(requests: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(one(number, requests))

    return together


def _credssp_options(clients: int) -> dict[str, Any]:
    return {"spn": SPN, "server_hostname": NAME, "max_connections": clients, "idle_timeout": PATIENCE}


@contextlib.asynccontextmanager
async def httpx_by_credssp(world: World, clients: int) -> AsyncIterator[Together]:
    import httpx  # noqa: PLC0415 - the server's process needs no client

    from acredssp.http.httpx import CredSSPTransport  # noqa: PLC0415 - as above

    transport = CredSSPTransport(world.client, **_credssp_options(clients))
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE, trust_env=False) as client:
        yield crowd(clients, lambda _number: _post(client, world.credssp))


@contextlib.asynccontextmanager
async def httpx_by_https(world: World, clients: int) -> AsyncIterator[Together]:
    import httpx  # noqa: PLC0415 - as above

    limits = httpx.Limits(keepalive_expiry=PATIENCE)
    everybody = [
        httpx.AsyncClient(verify=world.tls, limits=limits, timeout=PATIENCE, trust_env=False) for _ in range(clients)
    ]
    yield crowd(clients, lambda number: _post(everybody[number], world.https))
    for client in everybody:
        await client.aclose()


async def _post(client: Any, url: str) -> bytes:
    answer = await client.post(url, content=MESSAGE, headers={"Content-Type": SOAP})
    content: bytes = answer.content
    return content


@contextlib.asynccontextmanager
async def aiohttp_by_credssp(world: World, clients: int) -> AsyncIterator[Together]:
    from acredssp.http.aiohttp import CredSSPSession  # noqa: PLC0415 - as above

    async with CredSSPSession(world.client, **_credssp_options(clients)) as session:
        yield crowd(clients, _aiohttp(session, world.credssp))


@contextlib.asynccontextmanager
async def aiohttp_by_https(world: World, clients: int) -> AsyncIterator[Together]:
    import aiohttp  # noqa: PLC0415 - as above

    connector = aiohttp.TCPConnector(limit=clients, ssl=world.tls, keepalive_timeout=PATIENCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield crowd(clients, _aiohttp(session, world.https))


def _aiohttp(session: Any, url: str) -> Ask:
    async def ask(_number: int) -> bytes:
        async with session.post(url, data=MESSAGE, headers={"Content-Type": SOAP}) as answer:
            return await answer.read()

    return ask


@contextlib.asynccontextmanager
async def requests_credssp(world: World, clients: int) -> AsyncIterator[Together]:
    everybody = [Blocking(world.credssp) for _ in range(clients)]
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:

        async def together(requests: int) -> None:
            jobs = [pool.submit(each.send, requests) for each in everybody]
            await asyncio.to_thread(lambda: [job.result() for job in jobs])

        yield together
        for each in everybody:
            each.session.close()


class Blocking:
    """A client by requests-credssp, which logs on before its first request."""

    def __init__(self, url: str) -> None:
        import requests  # noqa: PLC0415 - may be missing
        import requests_credssp  # noqa: PLC0415 - as above

        self._url = url
        self._auth = requests_credssp.HttpCredSSPAuth(
            f"{DOMAIN}\\{ALICE.user}", PASSWORD, auth_mechanism="ntlm", minimum_version=5
        )
        self.session = requests.Session()
        self.session.trust_env = False

    def send(self, requests: int) -> None:
        if not self._auth.contexts:
            self.session.post(self._url, auth=self._auth, timeout=PATIENCE).raise_for_status()
        [context] = self._auth.contexts.values()
        for _ in range(requests):
            kind, body = _sealed(*context.wrap_winrm(MESSAGE)[:2])
            answer = self.session.post(self._url, data=body, headers={"Content-Type": kind}, timeout=PATIENCE)
            answer.raise_for_status()
            part = re.split(rb"--Encrypted Boundary(?:--)?\r\n", answer.content)[2]
            assert context.unwrap(part.partition(b"octet-stream\r\n")[2][4:]) == MESSAGE


def _sealed(header: bytes, data: bytes) -> tuple[str, bytes]:
    """Return the type and the bytes of a body with one record, as pywinrm makes them."""
    protocol = "application/HTTP-CredSSP-session-encrypted"
    lines = (
        f"--Encrypted Boundary\r\n\tContent-Type: {protocol}\r\n"
        f"\tOriginalContent: type={SOAP};Length={len(MESSAGE)}\r\n"
        "--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
    )
    body = lines.encode() + struct.pack("<I", len(header)) + header + data + b"--Encrypted Boundary--\r\n"
    return f'multipart/encrypted;protocol="{protocol}";boundary="Encrypted Boundary"', body


@contextlib.asynccontextmanager
async def awinrm(world: World, clients: int) -> AsyncIterator[Together]:
    import httpx  # noqa: PLC0415 - may be missing
    from asyauth.common.constants import asyauthSecret  # noqa: PLC0415 - as above
    from asyauth.common.credentials.ntlm import NTLMCredential  # noqa: PLC0415 - as above
    from awinrm.transport import Transport  # noqa: PLC0415 - as above

    everybody = [
        Transport(
            world.credssp,
            NTLMCredential(PASSWORD, ALICE.user, DOMAIN, asyauthSecret.PASSWORD),
            "credssp",
            read_timeout_sec=PATIENCE,
            transport=httpx.AsyncHTTPTransport(
                verify=world.tls, trust_env=False, limits=httpx.Limits(keepalive_expiry=PATIENCE)
            ),
        )
        for _ in range(clients)
    ]
    yield crowd(clients, lambda number: everybody[number].send_message(MESSAGE))
    for each in everybody:
        await each.close_session()


Contender = Callable[[World, int], contextlib.AbstractAsyncContextManager[Together]]

OURS: dict[str, Contender] = {"httpx": httpx_by_credssp, "aiohttp": aiohttp_by_credssp}
HTTPS: dict[str, Contender] = {"httpx.https": httpx_by_https, "aiohttp.https": aiohttp_by_https}
FIELD: dict[str, Contender] = {"requests_credssp": requests_credssp, "awinrm": awinrm}


# --- measuring ---


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of CPU of all clients, or of the server."""

    first: float
    """For the first request of each client, with the logon or TLS's handshake in front."""
    rest: float
    """For all other requests."""

    @property
    def all(self) -> float:
        return self.first + self.rest


async def spend(world: World, contender: Contender, plan: Plan) -> tuple[Spent, Spent]:
    """Return the CPU of the clients and that of the server."""
    settle()
    async with contender(world, plan.clients) as together:
        clocks = [_clocks(world)]
        for requests in (1, plan.requests - 1):
            await together(requests)
            clocks.append(_clocks(world))
    ours, servers = ([after - before for before, after in zip(each, each[1:])] for each in zip(*clocks))  # noqa: B905, RUF007
    return Spent(*ours), Spent(*servers)


def _clocks(world: World) -> tuple[float, float]:
    return time.process_time(), cpu_of(world.pid)


async def longest_callback(world: World, contender: Contender, plan: Plan) -> float:
    """Return the longest callback of the loop in milliseconds of CPU."""
    settle()
    async with contender(world, plan.clients) as together:
        with clocked_callbacks() as clock:
            await together(plan.requests)
    return clock.longest * 1e3


@contextlib.contextmanager
def without_blocking_calls(results: Results) -> Iterator[None]:
    """Have each blocking call on the loop raise an error, where blockbuster is installed."""
    try:
        from blockbuster import blockbuster_ctx  # noqa: PLC0415 - may be missing
    except ImportError:
        results.leave_out("blocking calls on the loop", "blockbuster is missing: pip install blockbuster")
        yield
        return
    with blockbuster_ctx():
        yield


def measure(plan: Plan, results: Results, console: Console) -> None:
    contenders = OURS | HTTPS
    for name, contender in FIELD.items():
        if importlib.util.find_spec(name) is None:
            results.leave_out(name, f"it is not installed: pip install {name.replace('_', '-')}")
        else:
            contenders[name] = contender
    rounds: list[dict[str, tuple[Spent, Spent]]] = []
    with running() as world, asyncio.Runner() as runner:
        console.print("a round that does not count")
        for each in contenders.values():
            runner.run(spend(world, each, plan))
        console.print("callbacks")
        with without_blocking_calls(results):
            longest = {name: runner.run(longest_callback(world, each, plan)) for name, each in OURS.items()}
        for name in contenders.keys() - OURS.keys() - {"requests_credssp"}:
            longest[name] = runner.run(longest_callback(world, contenders[name], plan))
        for number in range(plan.rounds):
            console.print(f"round {number + 1} of {plan.rounds}")
            rounds.append({name: runner.run(spend(world, each, plan)) for name, each in contenders.items()})
    console.print("large bodies")
    results.rows += [*_rows(rounds, plan), *_callback_rows(longest), *http_bodies.rows(plan.body, plan.rounds)]
    results.details["http"] = _details(rounds, plan)


# --- rows ---

PARTS: dict[str, tuple[str, Callable[[Spent], float]]] = {
    "": ("logon and requests", lambda spent: spent.all),
    ".first": ("logon and one request", lambda spent: spent.first),
    ".rest": ("requests after the logon", lambda spent: spent.rest),
}


def _rows(rounds: list[dict[str, tuple[Spent, Spent]]], plan: Plan) -> Iterator[Row]:
    at_once = f"{plan.clients} clients at once"
    for which, side in enumerate(("client", "acceptor")):
        for library in LIBRARIES:
            who = f"our client for {library}" if side == "client" else f"our acceptor, clients by {library}"
            for part, (what, of) in PARTS.items():
                spent = [{name: of(found[which]) for name, found in each.items()} for each in rounds]
                yield Row(
                    key=f"http.{side}.{library}.https{part}",
                    what=f"CPU of {who}, over plain HTTPS by {library}, {at_once}, {what}",
                    figure=ratios(spent, library, f"{library}.https"),
                )
    for library in LIBRARIES:
        for other, name in OTHERS.items():
            if other in rounds[0]:
                yield Row(
                    key=f"http.client.{library}.{other}",
                    what=f"CPU of our client for {library}, over {name}, {at_once}, logon and requests",
                    figure=ratios(
                        [{who: found[0].all for who, found in each.items()} for each in rounds], library, other
                    ),
                    goal=OTHERS_GOAL,
                )


def _callback_rows(longest: dict[str, float]) -> Iterator[Row]:
    for name, milliseconds in longest.items():
        yield Row(
            key=f"http.callback.{name}",
            what=f"longest callback of the loop, {name}",
            figure=Figure.of([milliseconds]),
            unit="ms",
        )


def _details(rounds: list[dict[str, tuple[Spent, Spent]]], plan: Plan) -> dict[str, dict[str, float]]:
    """Return milliseconds of CPU of each contender, as medians of the rounds."""
    counts = {"first": plan.clients, "rest": plan.clients * (plan.requests - 1)}
    return {
        name: {
            f"{side}_{part}_ms": round(
                statistics.median(getattr(each[name][which], part) for each in rounds) / count * 1e3, 3
            )
            for which, side in enumerate(("client", "server"))
            for part, count in counts.items()
        }
        for name in rounds[0]
    }


# --- profiles ---


def profile(name: str, plan: Plan) -> None:
    """Print where the CPU of one contender goes: the logons with one request each, and then all other requests."""

    async def run(world: World) -> None:
        async with (OURS | HTTPS | FIELD)[name](world, plan.clients) as together:
            for requests in (1, plan.requests - 1):
                profiler = cProfile.Profile(time.process_time)
                profiler.enable()
                await together(requests)
                profiler.disable()
                pstats.Stats(profiler).sort_stats("tottime").print_stats(45)

    with running() as world:
        asyncio.run(run(world))


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.http", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help=f"how many rounds count, {FULL.rounds} without it")
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    parser.add_argument("--profile", choices=OURS | HTTPS | FIELD, help="only profile one contender")
    parser.add_argument("--output", type=pathlib.Path, default=report.FOLDER)
    parser.add_argument("--be-server", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    raise_file_limit()
    plan = QUICK if options.quick else FULL
    if options.be_server:
        asyncio.run(be_server())
    elif options.profile:
        profile(options.profile, plan)
    else:
        _report(dataclasses.replace(plan, rounds=options.rounds or plan.rounds), options)
    return 0


def _report(plan: Plan, options: argparse.Namespace) -> None:
    console, results = Console(), Results("quick" if options.quick else "http", environment())
    measure(plan, results, console)
    report.write(results, options.output)
    report.show(results, console)
    for name, found in results.details["http"].items():
        console.print(f"ms of CPU, {name}: {found}")


if __name__ == "__main__":
    sys.exit(main())

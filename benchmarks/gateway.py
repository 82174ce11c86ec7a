"""The gateway as a whole: relays with traffic, idle connections and logons at once; two legs over one; and HAProxy.

    python -m benchmarks.gateway                    two minutes quiet, and two minutes beside an attacker
    python -m benchmarks.gateway --seconds 20
    python -m benchmarks.gateway --count            counts instructions of bytecode alone (`gateway_counts`)
    python -m benchmarks.gateway --quick            shows that it runs; the figures mean nothing

`acredssp proxy run` is a process of its own, with one worker, the default limits and one target. The target and the
users are processes, too, all on one machine. A user logs on by NTLM and delegates a password, by which the gateway logs
on to the target. Logons come at a fixed rate, whether those before them are through or not; a logon is over when the
target's first byte is there. A relay is busy if its user sends a message every half second and waits for the echo.

The attacker of the second run is one of `benchmarks.attackers`, behind RDP's negotiation, and with an address of his
own.

The cost of two legs is the gateway's CPU for a logon, divided by the target's CPU for a logon without the gateway. Both
are measured in turns of a few logons, by the same users, over uvloop and with a certificate of RSA-2048, once with one
user at a time and once with several. The CPU of the users does not count, nor that of the target behind the gateway. So
one leg is that of a server, which signs; the gateway has that leg and the leg of a client, which verifies, and it
passes on two PDUs, counts, and writes a line. What the two legs cost without a gateway is measured in the same turns:
the CPU of the target and of the users, who are clients, while they log on without the gateway. The target has no limits
and writes no line; `acredssp serve`, which does both as the gateway does, is measured in the same turns, too.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvloop
from rich.console import Console

import acredssp
from acredssp import cli
from acredssp.rdp import ConnectionRequest, Protocols, read_pdu
from benchmarks import attackers, gateway_counts, relay, report
from benchmarks.children import PATIENCE, child
from benchmarks.gateway_counts import LOGONS, counting, table
from benchmarks.harness import Figure, Results, Row, environment, raise_file_limit
from benchmarks.links import HOST
from benchmarks.peers import ALICE, DOMAIN, NAME, PASSWORD, Setting
from benchmarks.relay import Ends
from benchmarks.workers import cpu_of

TWO_LEGS_GOAL = 2.2
GROWTH_GOAL = 1.05
"""The gateway's memory at the end of a run over its memory when a quarter of the run was over."""
AT_ONCE = 20
"""How many users connect at a time before a run, and how many log on at a time where several do."""
TURN = 25
"""How many logons a turn has, through the gateway or without it."""
PAUSE = 0.5
"""Seconds between two messages of a relay."""
MESSAGE = bytes(4096)
SETTINGS = """\
[[listeners]]
address = "{address}"
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}]
logon = {{ users = "users" }}
routes = [{{ target = "desktops" }}]

[targets.desktops]
addresses = ["{target}"]
pins = ["{pin}"]
"""


# The first PDUs of MCS, as xfreerdp3 3.10.3 and freerdp-shadow-cli3 send them.
INITIAL = bytes.fromhex(
    "030001d302f0807f658201c70401010401010101ff301a020122020102020100020101020100020101020300ffff0201023019020101"
    "020101020101020101020100020101020204200201023020020300ffff020300fc17020300ffff020101020100020101020300ffff02"
    "010204820161000500147c00018158000800100001c00044756361814a01c0ea00110008000004000301ca03aa00000000bb47000076"
    "006d000000000000000000000000000000000000000000000000000000000004000000000000000c0000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001"
    "ca01000000000018000f00b20f0000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000070008000000e8030000e80300000000640000006400000004c00c00150000"
    "000000000002c00c00000000000000000003c03800040000007264706472000000000080c0726470736e640000000000c0636c697072"
    "6472000000a0c0647264796e766300000080c006c00800000000000ac0080001000000"
)
RESPONSE = bytes.fromhex(
    "0300007e02f0807f66740a0100020100301a020122020103020100020101020100020101020300fff80201020450000500147c00012a"
    "14760a01010001c0004d63446e3a010c100011000800030000000a000000030c1000eb030400ec03ed03ee03ef03020c0c0000000000"
    "00000000040c0600f003080c080001000000"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What happens in a run."""

    seconds: float
    relays: int
    idle: int
    rate: float
    """Logons a second."""
    rounds: int
    """Rounds of two legs over one, and of HAProxy."""
    logons: int
    """Logons in a round."""
    bulk: int
    """Bytes of a transfer through a relay."""
    pings: int
    """Messages through a relay that are answered one by one."""


FULL = Plan(seconds=120.0, relays=500, idle=2000, rate=100.0, rounds=5, logons=300, bulk=1 << 25, pings=2000)
QUICK = Plan(seconds=1.0, relays=3, idle=3, rate=10.0, rounds=1, logons=5, bulk=1 << 18, pings=20)


# --- the target, a process ---


async def be_target() -> None:
    """Echo what those who have logged on send, until the standard input ends."""
    certificate, key = acredssp.self_signed([NAME], "rsa")
    config = acredssp.ServerConfig(
        ssl_context=acredssp.server_context_from_pem(acredssp.Policy(), certificate, key), lookup=lambda _request: ALICE
    )
    server = await acredssp.start_server(
        _echo,
        HOST,
        0,
        config=config,
        carriage=acredssp.RDP(hybrid_ex=True),
        backlog=4096,
        max_handshakes_per_source=None,
    )
    say([server.sockets[0].getsockname()[1], acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))])
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    server.abort_clients()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, EOFError, acredssp.CredSSPError):
        await read_pdu(reader)
        writer.write(RESPONSE)
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


# --- the users, a process ---


class Users:
    """Connects to a port, logs on, and says the first PDU."""

    def __init__(self, port: int) -> None:
        self._port = port
        policy = acredssp.Policy(dangerous_accept_any_certificate=True)
        self._config = acredssp.ClientConfig(authenticate=ALICE, policy=policy)
        self._carriage = acredssp.RDP(hybrid_ex=True)

    async def log_on(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await self._connected()
        streams[1].write(INITIAL)
        await read_pdu(streams[0])
        return streams

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await acredssp.open_connection(
            HOST, self._port, config=self._config, carriage=self._carriage, server_hostname=NAME
        )

    async def log_on_and_leave(self, *, greet: bool = True) -> None:
        """Log on, and leave once the first PDU is answered; at once without `greet`, where nobody would answer."""
        _, writer = await (self.log_on() if greet else self._connected())
        writer.close()
        with contextlib.suppress(OSError, acredssp.CredSSPError):
            await writer.wait_closed()


class Crowd:
    """All users: busy, idle, and those who log on. The first two stay for all runs."""

    def __init__(self, port: int, plan: Plan) -> None:
        self._users = Users(port)
        self._plan = plan
        self._busy: list[asyncio.Task[None]] = []
        self._idle: list[Any] = []
        self._errors: list[str] = []
        self._latencies: list[tuple[float, float]] = []
        self._echoes = 0

    async def come(self) -> None:
        """Have everybody connect who stays."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one() -> Any:
            async with turns:
                return await self._users.log_on()

        everybody = await asyncio.gather(*(one() for _ in range(self._plan.relays + self._plan.idle)))
        self._idle = everybody[self._plan.relays :]
        self._busy = [asyncio.create_task(self._talk(*each)) for each in everybody[: self._plan.relays]]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(MESSAGE)
            assert await reader.readexactly(len(MESSAGE)) == MESSAGE
            self._echoes += 1
            await asyncio.sleep(PAUSE)

    async def run(self) -> dict[str, Any]:
        """Log on at the rate of the plan; return what everybody has seen."""
        self._errors, self._latencies, self._echoes = [], [], 0
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(self._plan.seconds * self._plan.rate)):
                due = number / self._plan.rate
                await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
                group.create_task(self._one_logon(started, due))
        self._errors += [f"relay: {task.exception()!r}" for task in self._busy if task.done()]
        gone = [reader for reader, writer in self._idle if reader.at_eof() or writer.is_closing()]
        self._errors += ["an idle connection was ended"] * len(gone)
        return {"latencies": self._latencies, "errors": self._errors, "echoes": self._echoes}

    async def leave(self) -> None:
        """Have the busy ones stop."""
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def _one_logon(self, started: float, due: float) -> None:
        try:
            await self._users.log_on_and_leave()
        except (OSError, EOFError, acredssp.CredSSPError) as error:
            self._errors.append(f"logon: {type(error).__name__}: {error}")
        else:
            self._latencies.append((round(due, 3), round(time.perf_counter() - started - due, 5)))


async def be_users() -> None:
    """Do what each line of the standard input says."""
    crowd: Crowd | None = None
    while line := await asyncio.to_thread(sys.stdin.readline):
        match json.loads(line):
            case ["come", port, plan]:
                crowd = Crowd(port, Plan(**plan))
                await crowd.come()
                say("here")
            case ["run"]:
                assert crowd is not None
                say(await crowd.run())
            case ["log on" | "log on alone" as what, port, count, at_once]:
                await _log_on(Users(port), count, at_once, greet=what == "log on")
                say("done")
    if crowd is not None:
        await crowd.leave()


async def _log_on(users: Users, count: int, at_once: int, *, greet: bool) -> None:
    """Log on so many times, and so many at a time."""
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            await users.log_on_and_leave(greet=greet)

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))


# --- the attacker, a process ---


class RDPAttack(attackers.Attack):
    """One of the attackers, behind RDP's negotiation."""

    def _connection(self) -> socket.socket:
        connection = super()._connection()
        connection.sendall(ConnectionRequest(requested_protocols=Protocols.HYBRID).encode())
        connection.recv(19)
        return connection


def attack(kind: str, port: int) -> None:
    """Attack until the process is ended."""
    found = RDPAttack(port, time.perf_counter() + 3600)
    while not found.over:
        with contextlib.suppress(OSError):  # ssl.SSLError is one
            getattr(found, kind)()


def say(word: object) -> None:
    print(json.dumps(word), flush=True)


# --- the gateway ---


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """The processes."""

    gateway: subprocess.Popen[str]
    port: int
    target: subprocess.Popen[str]
    target_port: int
    serve: subprocess.Popen[str]
    """`acredssp serve`, a server of one leg that has limits and writes a line, too."""
    serve_port: int
    users: subprocess.Popen[str]

    def tell(self, *words: object) -> Any:
        """Tell the users to do something; return what they have to say when it is done."""
        self.users.stdin.write(json.dumps(words) + "\n")
        self.users.stdin.flush()
        return json.loads(self.users.stdout.readline())


@contextlib.contextmanager
def running(*, counted: bool = False) -> Iterator[World]:
    more = ["counted"] if counted else []
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        target = stack.enter_context(child("benchmarks.gateway", "--be", "target", *more))
        target_port, pin = json.loads(target.stdout.readline())
        port = free_port()
        certificate, key = acredssp.self_signed([NAME], "rsa")
        (folder / "gateway.pem").write_bytes(certificate)
        (folder / "gateway.key").write_bytes(key)
        (folder / "users").write_text(f"{DOMAIN}:{ALICE.user}:{PASSWORD}\n", "utf-8")
        addresses = {"address": f"{HOST}:{port}", "target": f"{HOST}:{target_port}"}
        (folder / "settings.toml").write_text(SETTINGS.format(**addresses, pin=pin), "utf-8")
        program = ["benchmarks.gateway", "--be", "acredssp"] if counted else ["acredssp"]
        argv = [sys.executable, "-m", *program, "proxy", "run", str(folder / "settings.toml"), *more]
        log = stack.enter_context((folder / "log").open("wb"))
        gateway = stack.enter_context(
            subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 - ourselves
        )
        stack.callback(gateway.kill)
        serve_port = free_port()
        argv = [sys.executable, "-m", "acredssp", "serve", "--listen", f"{HOST}:{serve_port}", "--carriage", "rdp"]
        argv += ["--hybrid-ex", "--cert", f"{folder}/gateway.pem", "--key", f"{folder}/gateway.key"]
        argv += ["--users", f"{folder}/users"]
        serve = stack.enter_context(subprocess.Popen(argv, stdout=log, stderr=log, text=True))  # noqa: S603 - ourselves
        stack.callback(serve.kill)
        until_listening(port, gateway)
        until_listening(serve_port, serve)
        users = stack.enter_context(child("benchmarks.gateway", "--be", "users", *more))
        yield World(gateway, port, target, target_port, serve, serve_port, users)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def until_listening(port: int, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port)):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} did not come up within {PATIENCE:g} seconds: status {process.poll()}")


def resident(pid: int) -> float:
    """MiB of a process that are in memory."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- a run with everybody ---


def crowded(world: World, plan: Plan, kind: str | None) -> dict[str, Any]:
    """Have everybody at work, beside an attacker of that kind; return what was seen, and the gateway's memory."""
    memory: list[tuple[float, float]] = []
    started, cpu = time.perf_counter(), cpu_of(world.gateway.pid)
    with contextlib.ExitStack() as stack:
        if kind is not None:
            attacker = stack.enter_context(
                child("benchmarks.gateway", "--be", kind, str(world.port), stderr=subprocess.DEVNULL)
            )
            stack.callback(attacker.kill)
        world.users.stdin.write(json.dumps(["run"]) + "\n")
        world.users.stdin.flush()
        with _sampled(world, plan, memory):
            seen: dict[str, Any] = json.loads(world.users.stdout.readline())
        elapsed = time.perf_counter() - started
    return seen | {"memory": memory, "cpu": (cpu_of(world.gateway.pid) - cpu) / elapsed, "attacker": kind or ""}


@contextlib.contextmanager
def _sampled(world: World, plan: Plan, memory: list[tuple[float, float]]) -> Iterator[None]:
    """Note the gateway's memory a hundred times in a run."""
    over, started = threading.Event(), time.perf_counter()

    def sample() -> None:
        while not over.wait(plan.seconds / 100):
            memory.append((round(time.perf_counter() - started, 2), round(resident(world.gateway.pid), 2)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def crowd_rows(seen: dict[str, Any], plan: Plan) -> Iterator[Row]:
    key = "gateway.attacked" if seen["attacker"] else "gateway.quiet"
    what = f"{plan.relays} relays, {plan.idle} idle, {plan.rate:g} logons a second"
    what += f", beside the attacker {seen['attacker']}" if seen["attacker"] else ""
    latencies = [1e3 * latency for _, latency in seen["latencies"]] or [0.0]
    p99 = statistics.quantiles(latencies, n=100)[-1] if len(latencies) > 1 else latencies[0]
    note = f"{len(seen['latencies'])} logons, {seen['echoes']} echoes, {seen['cpu']:.0%} of a core"
    errors = Figure.of([len(seen["errors"])])
    yield Row(key=f"{key}.errors", what=f"errors: {what}", figure=errors, goal=0.0, unit="", note=note)
    note = f"median {statistics.median(latencies):.1f} ms"
    yield Row(key=f"{key}.p99", what=f"p99 of a logon: {what}", figure=Figure.of([p99]), unit="ms", note=note)
    early, late = _memory_of(seen["memory"])
    note = f"{early:.0f} to {late:.0f} MiB"
    growth = Figure.of([late / early])
    yield Row(key=f"{key}.memory", what=f"growth of memory: {what}", figure=growth, goal=GROWTH_GOAL, note=note)


def _memory_of(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """The memory around a quarter of the run, and at its end: the medians of a tenth of the run."""
    sizes = [size for _, size in samples]
    tenth = max(1, len(sizes) // 10)
    return statistics.median(sizes[len(sizes) // 4 :][:tenth]), statistics.median(sizes[-tenth:])


# --- two legs over one ---


def two_legs(world: World, plan: Plan) -> Iterator[Row]:
    """Compare the gateway's CPU of a logon with that of one leg, with one user at a time and with several."""
    for at_once, key in ((1, "gateway.two_legs"), (AT_ONCE, "gateway.two_legs.at_once")):
        rounds = [_costs(world, plan.logons, at_once) for _ in range(plan.rounds + 1)][1:]
        costs = [statistics.median(costs) / plan.logons for costs in zip(*rounds, strict=True)]
        gateway, server, client, serve = (f"{1e3 * cost:.2f} ms" for cost in costs)
        through, several = "CPU of a logon through the gateway, over one at", f"{at_once} at a time"
        yield Row(
            key=key,
            what=f"{through} the target itself, {several}",
            figure=Figure.of(gateway / server for gateway, server, *_ in rounds),
            goal=TWO_LEGS_GOAL,
            note=f"gateway {gateway}, a server's leg {server}, a client's {client}",
        )
        yield Row(
            key=f"{key}.serve",
            what=f"{through} acredssp serve, {several}",
            figure=Figure.of(gateway / serve for gateway, _, _, serve in rounds),
            note=f"acredssp serve {serve}",
        )
        yield Row(
            key=f"{key}.alone",
            what=f"CPU of both legs without a gateway, over the server's leg, {several}",
            figure=Figure.of((server + client) / server for _, server, client, _ in rounds),
        )


def _costs(world: World, logons: int, at_once: int) -> tuple[float, float, float, float]:
    """Return the CPU for so many logons: of the gateway, of target and users without it, and of `acredssp serve`."""
    gateway = server = client = serve = 0.0
    for _ in range(0, logons, TURN):
        count, users = min(TURN, logons), world.users.pid
        before = cpu_of(world.gateway.pid)
        world.tell("log on", world.port, count, at_once)
        gateway += cpu_of(world.gateway.pid) - before
        before, before_users = cpu_of(world.target.pid), cpu_of(users)
        world.tell("log on", world.target_port, count, at_once)
        server += cpu_of(world.target.pid) - before
        client += cpu_of(users) - before_users
        before = cpu_of(world.serve.pid)
        world.tell("log on alone", world.serve_port, count, at_once)
        serve += cpu_of(world.serve.pid) - before
    return gateway, server, client, serve


def count(console: Console) -> None:
    """Print what a logon through the gateway executes above both its legs (`gateway_counts`)."""
    with running(counted=True) as world:
        for port in (world.port, world.target_port):
            world.tell("log on", port, LOGONS, AT_ONCE)
        with counting(world.gateway) as through:
            world.tell("log on", world.port, LOGONS, AT_ONCE)
        with counting(world.target, world.users) as alone:
            world.tell("log on", world.target_port, LOGONS, AT_ONCE)
    for what, instructions, calls in table(*through, *alone):
        console.print(f"{what:<66}{instructions:>8,.0f}{calls:>6,.0f}", highlight=False)


# --- HAProxy ---

HAPROXY = """\
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen relay
    bind {host}:{port} ssl crt {pem}
    server sink {host}:{sink} ssl verify none sni str({name})
"""


def beside_haproxy(plan: Plan) -> Iterator[Row]:
    """Compare HAProxy, which terminates TLS and encrypts again, with our relay."""
    certificate = acredssp.self_signed([NAME], "rsa")
    links = relay.links_of(Setting.of(certificate, "1.3"))
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ends = stack.enter_context(Ends.of(certificate))
        port = free_port()
        (folder / "pem").write_bytes(b"".join(certificate))
        text = HAPROXY.format(host=HOST, port=port, pem=folder / "pem", sink=ends.port, name=NAME)
        (folder / "haproxy.cfg").write_text(text, "ascii")
        argv = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
        haproxy = stack.enter_context(subprocess.Popen(argv, stderr=subprocess.DEVNULL))  # noqa: S603 - installed
        stack.callback(haproxy.kill)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        until_listening(port, haproxy)
        for name, load, _ in relay.loads(plan.bulk, plan.pings):
            rounds = []
            for _ in range(plan.rounds + 1):
                ours = runner.run(relay.transfer(ends, "acredssp", links["acredssp"], load))
                theirs = runner.run(_through_haproxy(ends, haproxy.pid, port, load))
                rounds.append((ours[0] / theirs[0], ours[1] / theirs[1]))
            for which, what in enumerate(("CPU", "seconds")):
                yield Row(
                    key=f"gateway.haproxy.{load.key}.{what.lower()}",
                    what=f"{what} of our relay over HAProxy's, {name}, uvloop",
                    figure=Figure.of(each[which] for each in rounds[1:]),
                )


async def _through_haproxy(ends: Ends, pid: int, port: int, load: relay.Load) -> tuple[float, float]:
    ends.expect("ssl", load)
    await ends.send("ssl", port, load)
    wall, cpu = time.perf_counter(), cpu_of(pid)
    ends.go()
    taken = await ends.taken()
    assert taken == load.size
    return cpu_of(pid) - cpu, time.perf_counter() - wall


# --- everything ---


def measure(plan: Plan, kind: str, results: Results, console: Console) -> None:
    with running() as world:
        console.print("two legs over one")
        results.rows += two_legs(world, plan)
        console.print(f"{plan.relays + plan.idle} users come")
        world.tell("come", world.port, dataclasses.asdict(plan))
        runs = []
        for attacker in (None, kind):
            console.print(f"{plan.seconds:g} seconds beside {attacker or 'nobody'}")
            seen = crowded(world, plan, attacker)
            for error in seen["errors"][:3]:
                console.print(f"  {error}")
            results.rows += crowd_rows(seen, plan)
            runs.append(seen)
        results.details["gateway"] = runs
    console.print("HAProxy")
    try:
        results.rows += beside_haproxy(plan)
    except FileNotFoundError:
        results.leave_out("haproxy", "it is not installed")


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, help=f"the length of a run, {FULL.seconds:g} without it")
    parser.add_argument("--rate", type=float, help=f"logons a second, {FULL.rate:g} without it")
    parser.add_argument("--attack", choices=attackers.KINDS, default="hellos", help="who is there in the second run")
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    parser.add_argument("--count", action="store_true", help="only count what a logon executes above both its legs")
    parser.add_argument("--output", type=pathlib.Path, default=report.FOLDER)
    parser.add_argument("--be", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    raise_file_limit()
    be = options.be or []
    if be[-1:] == ["counted"]:
        be.pop()
        gateway_counts.begin()
    match be:
        case ["target"]:
            uvloop.run(be_target())
        case ["users"]:
            uvloop.run(be_users())
        case ["acredssp", *argv]:
            sys.argv = ["acredssp", *argv]
            cli.main()
        case [kind, port]:
            attack(kind, int(port))
        case _ if options.count:
            count(Console())
        case _:
            plan = QUICK if options.quick else FULL
            changed = {name: getattr(options, name) for name in ("seconds", "rate") if getattr(options, name)}
            _report(dataclasses.replace(plan, **changed), options)
    return 0


def _report(plan: Plan, options: argparse.Namespace) -> None:
    from benchmarks.plots import draw  # noqa: PLC0415 - matplotlib takes a second

    console, results = Console(), Results("quick" if options.quick else "gateway", environment())
    measure(plan, options.attack, results, console)
    report.write(results, options.output)
    draw(results, options.output)
    report.show(results, console)


if __name__ == "__main__":
    sys.exit(main())

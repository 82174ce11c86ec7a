"""Handshakes over real loopback sockets, many at once, server and clients in one event loop.

Each handshake connects, shakes hands, and closes cleanly. All of this counts as CPU, of all threads; the latency ends
with the handshake. All links have the same certificate, contexts and backlog. acredssp is compared through streams with
`ssl=`, and through protocols with the plumbing: the cost of streams is asyncio's, and not that of TLS or CredSSP.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import ssl
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import acredssp
from acredssp.policy import MechanismChoice
from benchmarks import plumbing
from benchmarks.harness import LOOPS, Figure, Results, Row, Size, Watch, raise_file_limit, settle
from benchmarks.links import BACKLOG, HOST, PATIENCE, keep, port_of, serving
from benchmarks.peers import NAME, Setting

MOST_OF_A_LISTENER = 2500
"""The most simultaneous connections for one listener. The kernel's queue holds net.core.somaxconn connections, often
4096, and a connection that finds it full comes a second later."""

PLUMBING_GOAL = 1.5
STREAMS_GOALS = {"asyncio": 1.1, "uvloop": 1.2}
P99_GOAL = 1.1
CROWD_GOAL = 1.1
FILES_OF_A_HANDSHAKE = 2
SPARE_FILES = 200

Stop = Callable[[], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Contender:
    """Listens, and logs on."""

    listen: Callable[[], Awaitable[asyncio.AbstractServer]]
    connect: Callable[[int], Awaitable[Callable[[], Awaitable[None]]]]
    """Connects to a port, returns once the handshake is done, and gives the function that closes."""


def contenders(setting: Setting, *, with_pyspnego: bool) -> dict[str, Contender]:
    found = {
        "acredssp": _acredssp(setting),
        "protocols": _protocols(setting),
        "plumbing": _plumbing(setting),
        "streams": _streams(setting),
        "messages": _plumbing(setting, plumbing.Talker, plumbing.AcceptedTalker),
    }
    if with_pyspnego:
        from benchmarks import pyspnego_loopback  # noqa: PLC0415 - its import keeps gssapi out of the process

        found["pyspnego"] = Contender(*pyspnego_loopback.functions(setting))
    return found


async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server's application: waits until its client closes."""
    keep(asyncio.current_task())
    await reader.read()
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


def _acredssp(setting: Setting) -> Contender:
    client, server = setting.client_config(MechanismChoice.NEGOTIATE), setting.server_config()

    async def connect(port: int) -> Callable[[], Awaitable[None]]:
        _, writer = await acredssp.open_connection(
            HOST, port, config=client, server_hostname=NAME, handshake_timeout=PATIENCE
        )
        return lambda: _close(writer)

    return Contender(
        lambda: acredssp.start_server(
            until_the_end, HOST, 0, config=server, backlog=BACKLOG, handshake_timeout=PATIENCE
        ),
        connect,
    )


class _End(asyncio.Protocol):
    """An application without streams: a server's closes when its client does."""

    def __init__(self) -> None:
        self._lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost.set_result(None)

    async def close(self) -> None:
        self._transport.close()
        await self._lost


def _protocols(setting: Setting) -> Contender:
    client, server = setting.client_config(MechanismChoice.NEGOTIATE), setting.server_config()

    async def connect(port: int) -> Callable[[], Awaitable[None]]:
        _, end = await acredssp.create_connection(
            _End, HOST, port, config=client, server_hostname=NAME, handshake_timeout=PATIENCE
        )
        return end.close

    return Contender(
        lambda: acredssp.create_server(_End, HOST, 0, config=server, backlog=BACKLOG, handshake_timeout=PATIENCE),
        connect,
    )


def _streams(setting: Setting) -> Contender:
    async def connect(port: int) -> Callable[[], Awaitable[None]]:
        _, writer = await asyncio.open_connection(
            HOST, port, ssl=setting.client_context, server_hostname=NAME, ssl_handshake_timeout=PATIENCE
        )
        return lambda: _close(writer)

    return Contender(
        lambda: asyncio.start_server(
            until_the_end, HOST, 0, ssl=setting.server_context, backlog=BACKLOG, ssl_handshake_timeout=PATIENCE
        ),
        connect,
    )


def _plumbing(
    setting: Setting,
    client: type[plumbing.Connection] = plumbing.Connection,
    accepted: type[plumbing.Accepted] = plumbing.Accepted,
) -> Contender:
    async def connect(port: int) -> Callable[[], Awaitable[None]]:
        return (await plumbing.connect(setting, port, client)).close

    return Contender(lambda: plumbing.listen(setting, accepted), connect)


# --- one storm ---


@dataclasses.dataclass(frozen=True, slots=True)
class Storm:
    """The results of one storm of handshakes."""

    cpu: float
    """The CPU of a handshake, both ends together, in seconds."""
    latencies: list[float]
    """The latencies by the wall clock, in seconds, sorted."""
    own_latencies: list[float]
    """The latencies by the clock of the process's CPU, which other processes do not stretch."""

    def percentile(self, percent: int, *, own: bool = False) -> float:
        latencies = self.own_latencies if own else self.latencies
        return statistics.quantiles(latencies, n=100, method="inclusive")[percent - 1]


@contextlib.asynccontextmanager
async def listening(contender: Contender, at_once: int) -> AsyncIterator[itertools.cycle]:
    """Listen while the block runs, and yield the ports in turns."""
    servers = [await contender.listen() for _ in range(1 + at_once // MOST_OF_A_LISTENER)]
    try:
        yield itertools.cycle([port_of(server) for server in servers])
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()
        await asyncio.gather(*serving)


async def storm(contender: Contender, count: int, at_once: int) -> Storm:
    """Complete `count` handshakes, `at_once` of them at a time."""
    latencies: list[float] = []
    own_latencies: list[float] = []
    jobs = iter(range(count))
    started = time.process_time()
    async with listening(contender, at_once) as ports:

        async def work() -> None:
            for _ in jobs:
                begun, own_begun = time.perf_counter(), time.process_time()
                close = await contender.connect(next(ports))
                latencies.append(time.perf_counter() - begun)
                own_latencies.append(time.process_time() - own_begun)
                await close()

        async with asyncio.TaskGroup() as workers:
            for _ in range(at_once):
                workers.create_task(work())
    return Storm((time.process_time() - started) / count, sorted(latencies), sorted(own_latencies))


# --- rows ---

Rounds = list[dict[tuple[str, int], Storm]]
"""For each contender and each concurrency, the storm of each round."""


def measure(size: Size, results: Results, watch: Watch) -> None:
    setting = Setting.of(acredssp.self_signed([NAME], "rsa"), "1.3")
    possible = (raise_file_limit() - SPARE_FILES) // FILES_OF_A_HANDSHAKE
    for at_once in size.loopback_rounds:
        if at_once > possible:
            results.leave_out(f"loopback, {at_once} at once", f"RLIMIT_NOFILE allows {possible}")
    for loop, factory in LOOPS.items():
        watch.step(f"loopback: {loop}")
        with asyncio.Runner(loop_factory=factory) as runner:
            rounds = runner.run(_rounds(setting, size, possible))
        results.rows += _rows(loop, rounds)
        results.details.setdefault("loopback", {})[loop] = _details(rounds)
        watch.done()


async def _rounds(setting: Setting, size: Size, possible: int) -> Rounds:
    everybody = contenders(setting, with_pyspnego=size.every_pyspnego)
    rounds: Rounds = []
    with contextlib.ExitStack() as stack:
        if size.every_pyspnego:
            from benchmarks import pyspnego_loopback  # noqa: PLC0415 - as above

            stack.enter_context(pyspnego_loopback.users())
        for contender in everybody.values():
            await storm(contender, 10, 2)
        for number in range(max(size.loopback_rounds.values())):
            done = {}
            for at_once, how_often in size.loopback_rounds.items():
                if number >= how_often or at_once > possible:
                    continue
                for name, contender in everybody.items():
                    if _takes_part(name, at_once, size):
                        settle()
                        done[name, at_once] = await storm(contender, max(at_once, size.loopback_handshakes), at_once)
            rounds.append(done)
    return rounds


def _takes_part(name: str, at_once: int, size: Size) -> bool:
    if name == "messages":
        return at_once == size.messages_at
    return name == "acredssp" or at_once <= {"pyspnego": 100}.get(name, 1000)


def _over(rounds: Rounds, over: tuple[str, int], under: tuple[str, int], what: Callable[[Storm], float]) -> Figure:
    return Figure.of(what(each[over]) / what(each[under]) for each in rounds if over in each and under in each)


def _cpu(one: Storm) -> float:
    return one.cpu


def _p99(one: Storm) -> float:
    return one.percentile(99)


def _own_p99(one: Storm) -> float:
    return one.percentile(99, own=True)


def _rows(loop: str, rounds: Rounds) -> list[Row]:
    rows = []
    crowds = sorted({at_once for _, at_once in rounds[0]})
    for at_once in crowds:
        for key, ours, other, what, goal in (
            ("plumbing", "protocols", "plumbing", "CPU over bare TLS in the same plumbing", PLUMBING_GOAL),
            ("streams", "acredssp", "streams", "CPU over ssl= streams", STREAMS_GOALS[loop]),
            ("protocols", "protocols", "streams", "CPU of our protocols over ssl= streams", None),
            ("messages", "messages", "streams", "CPU of a logon's messages, empty, over ssl= streams", None),
        ):
            if (ours, at_once) in rounds[0] and (other, at_once) in rounds[0]:
                rows.append(
                    Row(
                        key=f"loopback.{loop}.{at_once}.{key}",
                        what=f"{what}, loopback, {loop}, {at_once} at once",
                        figure=_over(rounds, (ours, at_once), (other, at_once), _cpu),
                        goal=goal,
                    )
                )
    together = [at_once for at_once in crowds if at_once <= 1000][-1]
    for key, clock, p99 in (("wall", "", _p99), ("own", ", by the process's clock", _own_p99)):
        rows.append(
            Row(
                key=f"p99.{loop}.{key}",
                what=f"p99 latency over ssl= streams, loopback, {loop}, {together} at once{clock}",
                figure=_over(rounds, ("acredssp", together), ("streams", together), p99),
                goal=P99_GOAL,
            )
        )
    rows.append(
        Row(
            key=f"crowd.{loop}",
            what=f"CPU a handshake, loopback, {loop}, {crowds[-1]} at once over {crowds[0]} at a time",
            figure=_over(rounds, ("acredssp", crowds[-1]), ("acredssp", crowds[0]), _cpu),
            goal=CROWD_GOAL,
        )
    )
    return rows


def _details(rounds: Rounds) -> list[dict[str, object]]:
    """Return absolute figures, as medians over the rounds. The latencies are 100 quantiles of the last round."""
    found = []
    for name, at_once in rounds[0]:
        storms = [each[name, at_once] for each in rounds if (name, at_once) in each]
        found.append(
            {
                "who": name,
                "at_once": at_once,
                "cpu_us": round(statistics.median(one.cpu for one in storms) * 1e6, 1),
                "p50_ms": round(statistics.median(one.percentile(50) for one in storms) * 1e3, 3),
                "p99_ms": round(statistics.median(one.percentile(99) for one in storms) * 1e3, 3),
                "own_p99_ms": round(statistics.median(one.percentile(99, own=True) for one in storms) * 1e3, 3),
                "latencies_ms": [
                    round(one * 1e3, 3) for one in statistics.quantiles(storms[-1].latencies, n=100, method="inclusive")
                ],
            }
        )
    return found

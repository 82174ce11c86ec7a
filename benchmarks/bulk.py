"""Application data: bulk in both directions, bursts of small messages through a relay, and small messages to and fro.

Both ends are in one thread, so the figure is the CPU of a transfer, in turns with the loop's own `ssl=`. The speed by
the wall clock is reported beside it. The application is the same protocol over both.
"""

import asyncio
import contextlib
import functools
import statistics
import time
from collections.abc import AsyncIterator, Callable

import acredssp
from benchmarks.harness import LOOPS, Figure, Results, Row, Size, Watch, settle
from benchmarks.links import Acredssp, Link, LoopTLS, port_of
from benchmarks.peers import NAME, Setting

CHUNK = bytes(64 * 1024)
"""The bytes that an application writes at a time."""
PING = bytes(64)
CONNECTIONS = (1, 64)
GOAL, REACH = 1.0, 1.1
BURSTS = {"128 B": 128, "1 KiB": 1024}
"""Messages back to back, each in a record of its own."""
BURST_SHARE = 16
"""Bursts transfer this part of the bytes of bulk data, since a byte in a burst costs about as many times more."""


class End(asyncio.Protocol):
    """An application's end of a connection."""

    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport


class Source(End):
    """Writes a given number of bytes, as fast as the transport takes them."""

    chunk = CHUNK

    def __init__(self) -> None:
        self._left = 0
        self._paused = False

    def send(self, size: int) -> None:
        self._left = size
        self._pump()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def _pump(self) -> None:
        while self._left and not self._paused:
            chunk = self.chunk if self._left >= len(self.chunk) else self.chunk[: self._left]
            self._left -= len(chunk)
            self.transport.write(chunk)


class Sink(End):
    """Counts the bytes that come."""

    def expect(self, size: int) -> asyncio.Future[None]:
        self._left = size
        self._all = asyncio.get_running_loop().create_future()
        return self._all

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if not self._left:
            self._all.set_result(None)


class Echo(End):
    """Sends back the bytes that come."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Burst(Source):
    """Writes small messages back to back to an `Echo`, and counts the bytes that come back."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.chunk = bytes(size)

    def burst(self, size: int) -> asyncio.Future[None]:
        self._missing = size
        self._all = asyncio.get_running_loop().create_future()
        self.send(size)
        return self._all

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if not self._missing:
            self._all.set_result(None)


class Pinger(End):
    """Sends one message after each answer."""

    def ping(self, times: int) -> asyncio.Future[None]:
        self._left, self._heard = times, 0
        self._all = asyncio.get_running_loop().create_future()
        self.transport.write(PING)
        return self._all

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard < len(PING):
            return
        self._heard = 0
        self._left -= 1
        if self._left:
            self.transport.write(PING)
        else:
            self._all.set_result(None)


@contextlib.asynccontextmanager
async def connections(
    link: Link, at_client: Callable[[], End], at_server: type[End], count: int
) -> AsyncIterator[tuple[list[End], list[End]]]:
    """Open `count` connections, and yield the clients' protocols and the server's."""
    accepted: list[End] = []
    everybody = asyncio.get_running_loop().create_future()

    class Accepted(at_server):  # type: ignore[misc,valid-type]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            accepted.append(self)
            if len(accepted) == count:
                everybody.set_result(None)

    server = await link.listen(Accepted)
    clients = [await link.connect(at_client, port_of(server)) for _ in range(count)]
    await everybody
    try:
        yield [protocol for _, protocol in clients], accepted
    finally:
        for transport, _ in clients:
            transport.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)


async def transfer(link: Link, count: int, size: int, *, upward: bool) -> tuple[float, float]:
    """Return the CPU and the wall-clock seconds of sending `size` bytes over `count` connections."""
    each = size // count
    at_client, at_server = (Source, Sink) if upward else (Sink, Source)
    async with connections(link, at_client, at_server, count) as (clients, accepted):
        sources, sinks = (clients, accepted) if upward else (accepted, clients)
        settle()
        wall, cpu = time.perf_counter(), time.thread_time()
        arrived = [sink.expect(each) for sink in sinks]
        for source in sources:
            source.send(each)
        await asyncio.gather(*arrived)
        return time.thread_time() - cpu, time.perf_counter() - wall


async def relayed(link: Link, chunk: int, size: int) -> tuple[float, float]:
    """Return the CPU and the wall-clock seconds of `size` bytes through a relay and back, `chunk` bytes a message."""
    async with connections(link, functools.partial(Burst, chunk), Echo, 1) as ([source], _):
        settle()
        wall, cpu = time.perf_counter(), time.thread_time()
        await source.burst(size)
        return time.thread_time() - cpu, time.perf_counter() - wall


async def ping_pong(link: Link, times: int) -> tuple[float, float]:
    """Return the CPU and the wall-clock seconds of `times` messages and answers."""
    async with connections(link, Pinger, Echo, 1) as ([pinger], _):
        settle()
        wall, cpu = time.perf_counter(), time.thread_time()
        await pinger.ping(times)
        return time.thread_time() - cpu, time.perf_counter() - wall


def measure(size: Size, results: Results, watch: Watch) -> None:
    setting = Setting.of(acredssp.self_signed([NAME], "rsa"), "1.3")
    for loop, factory in LOOPS.items():
        watch.step(f"bulk data: {loop}")
        links = {"acredssp": Acredssp.of(setting), "ssl": LoopTLS(setting)}
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_measure(loop, links, size, results))
        watch.done()


async def _measure(loop: str, links: dict[str, Link], size: Size, results: Results) -> None:
    for count in CONNECTIONS:
        for upward in (True, False):
            rounds = [
                {name: await transfer(link, count, size.bulk, upward=upward) for name, link in links.items()}
                for _ in range(size.bulk_rounds + 1)
            ]
            way = "client to server" if upward else "server to client"
            what = f"bulk data over ssl=, {loop}, {count} connection{'s' * (count > 1)}, {way}"
            results.rows.append(_row(f"bulk.{loop}.{count}.{'up' if upward else 'down'}", what, rounds[1:], size.bulk))
    for messages, chunk in BURSTS.items():
        relay_size = size.bulk // BURST_SHARE
        rounds = [
            {name: await relayed(link, chunk, relay_size) for name, link in links.items()}
            for _ in range(size.bulk_rounds + 1)
        ]
        what = f"bursts of {messages} through a relay and back over ssl=, {loop}"
        results.rows.append(_row(f"burst.{loop}.{chunk}", what, rounds[1:], relay_size))
    rounds = [
        {name: await ping_pong(link, size.pings) for name, link in links.items()} for _ in range(size.bulk_rounds + 1)
    ]
    row = _row(f"ping.{loop}", f"64 B messages and answers over ssl=, {loop}", rounds[1:], None, size.pings)
    results.rows.append(row)


def _row(key: str, what: str, rounds: list[dict], transferred: int | None, messages: int = 0) -> Row:
    wall = statistics.median(each["acredssp"][1] for each in rounds)
    note = f"{transferred / wall / 1e6:.0f} MB/s" if transferred else f"{messages / wall:.0f} a second"
    return Row(
        key=key,
        what=what,
        figure=Figure.of(each["ssl"][0] / each["acredssp"][0] for each in rounds),
        goal=GOAL,
        reach=REACH,
        at_most=False,
        note=note,
    )

"""A gateway's relay between two secured connections: `acredssp.relay` over acredssp's and over asyncio's own TLS.

    python -m benchmarks --only relay

The relay runs here, and what counts is its CPU: it opens every record of one connection and seals it for the other one.
A source and a sink are processes of their own, on uvloop, over the same kind of TLS as the relay. The source writes
messages of one size back to back, each in a record of its own. All figures are ratios of neighbouring transfers.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import uvloop

import acredssp
from benchmarks.bulk import End, Source
from benchmarks.children import child
from benchmarks.harness import LOOPS, Figure, Results, Row, Size, Watch, settle
from benchmarks.links import Acredssp, Link, LoopTLS, port_of
from benchmarks.peers import NAME, Setting

MESSAGES = {"16 KiB": (16 * 1024, 1), "1 KiB": (1024, 4), "128 B": (128, 16)}
"""The size of a message, and the divisor of a bulk transfer's size: a byte in small messages costs more."""
GOAL, REACH = 1.0, 1.1

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def links_of(setting: Setting) -> dict[str, Link]:
    """Return the links that the rows compare."""
    return {"acredssp": Acredssp.of(setting), "ssl": LoopTLS(setting)}


# --- the two ends, each in a process of its own ---


class Whole(Source):
    """Writes a given number of bytes, and closes."""

    def __init__(self, message: int) -> None:
        super().__init__()
        self.chunk = bytes(message)
        self.gone = asyncio.get_running_loop().create_future()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.gone.set_result(None)

    def _pump(self) -> None:
        super()._pump()
        if not self._left:
            self.transport.close()


async def write_all(link: Link, port: int, message: int, size: int) -> None:
    """Be the source of one transfer."""
    _, source = await link.connect(lambda: Whole(message), port)
    source.send(size)
    await source.gone


async def take_all(links: dict[str, Link]) -> None:
    """Be the sink of every transfer, until the standard input ends."""
    servers = {name: await link.listen(End) for name, link in links.items()}
    say({name: port_of(server) for name, server in servers.items()})
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def say(word: object) -> None:
    print(json.dumps(word), flush=True)


def main() -> None:
    """Run one of the two ends."""
    parser = argparse.ArgumentParser("python -m benchmarks.relay")
    parser.add_argument("end", choices=["source", "sink"])
    end = parser.parse_args().end
    chain, key = json.loads(sys.stdin.readline())
    links = links_of(Setting.of((chain.encode(), key.encode()), "1.3"))
    if end == "sink":
        uvloop.run(take_all(links))
        return
    for line in sys.stdin:
        name, *transfer = json.loads(line)
        uvloop.run(write_all(links[name], *transfer))


class Ends:
    """The two processes, as this process sees them."""

    def __init__(self, source: subprocess.Popen[str], sink: subprocess.Popen[str]) -> None:
        self._source = source
        self.sinks: dict[str, int] = json.loads(sink.stdout.readline())
        """The port of the sink, for each link."""

    @classmethod
    @contextlib.contextmanager
    def of(cls, certificate: tuple[bytes, bytes]) -> Iterator["Ends"]:
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(child("benchmarks.relay", end)) for end in ("source", "sink")]
            for process in processes:
                _tell(process, [part.decode() for part in certificate])
            yield cls(*processes)

    def send(self, link: str, port: int, message: int, size: int) -> None:
        """Tell the source to begin a transfer."""
        _tell(self._source, [link, port, message, size])


def _tell(process: subprocess.Popen[str], word: object) -> None:
    process.stdin.write(json.dumps(word) + "\n")
    process.stdin.flush()


# --- the relay ---


@contextlib.asynccontextmanager
async def accepting(link: Link) -> AsyncIterator[tuple[int, "asyncio.Future[Streams]"]]:
    """Listen, and yield the port and a future of the connection's streams."""
    accepted = asyncio.get_running_loop().create_future()

    def factory() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), lambda *streams: accepted.set_result(streams))

    server = await link.listen(factory)
    try:
        yield port_of(server), accepted
    finally:
        server.close()
        await server.wait_closed()


async def connect(link: Link, port: int) -> Streams:
    reader = asyncio.StreamReader()
    transport, protocol = await link.connect(lambda: asyncio.StreamReaderProtocol(reader), port)
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


async def transfer(ends: Ends, name: str, link: Link, message: int, size: int) -> tuple[float, float]:
    """Return the CPU and the wall-clock seconds that a relay takes for `size` bytes in messages."""
    async with accepting(link) as (port, accepted):
        target = await connect(link, ends.sinks[name])
        settle()
        ends.send(name, port, message, size)
        client = await accepted
        wall, cpu = time.perf_counter(), time.thread_time()
        result = await acredssp.relay(client, target)
        spent = time.thread_time() - cpu, time.perf_counter() - wall
    assert result.bytes_up == size
    return spent


def measure(size: Size, results: Results, watch: Watch) -> None:
    certificate = acredssp.self_signed([NAME], "rsa")
    links = links_of(Setting.of(certificate, "1.3"))
    with Ends.of(certificate) as ends:
        for loop, factory in LOOPS.items():
            watch.step(f"relay: {loop}")
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(_measure(loop, ends, links, size, results))
            watch.done()


async def _measure(loop: str, ends: Ends, links: dict[str, Link], size: Size, results: Results) -> None:
    for what, (message, part) in MESSAGES.items():
        transferred = size.bulk // part
        rounds = [
            {name: await transfer(ends, name, link, message, transferred) for name, link in links.items()}
            for _ in range(size.bulk_rounds + 1)
        ]
        results.rows += _rows(f"relay.{loop}.{message}", f"{what} messages, {loop}", rounds[1:], transferred)


def _rows(key: str, what: str, rounds: list[dict[str, tuple[float, float]]], transferred: int) -> Iterator[Row]:
    speed = transferred / statistics.median(each["acredssp"][1] for each in rounds)
    yield Row(
        key=key,
        what=f"CPU of a relay over ssl=, {what}",
        figure=Figure.of(each["ssl"][0] / each["acredssp"][0] for each in rounds),
        goal=GOAL,
        reach=REACH,
        at_most=False,
    )
    yield Row(
        key=f"{key}.speed",
        what=f"throughput of a relay over ssl=, {what}",
        figure=Figure.of(each["ssl"][1] / each["acredssp"][1] for each in rounds),
        at_most=False,
        note=f"{speed / 1e6:.0f} MB/s",
    )


if __name__ == "__main__":
    main()

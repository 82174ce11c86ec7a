"""Resident memory of an idle connection, per end, each case in a process of its own that holds both ends.

    python -m benchmarks.memory LINK LOOP COUNT     measures one case, and prints a JSON object in KiB

The figure is the growth of the resident set to COUNT open connections, after two connections were opened, used and
closed. Then 64 KiB go over each connection in each direction, in one write each, and the growth is measured again.
"""

import asyncio
import gc
import json
import os
import pathlib
import subprocess
import sys

import acredssp
from benchmarks.harness import LOOPS, Figure, Results, Row, Size, Watch, raise_file_limit
from benchmarks.links import TCP, Acredssp, Link, LoopTLS, port_of
from benchmarks.peers import NAME, Setting

PAYLOAD = bytes(64 * 1024)
AT_ONCE = 20
"""The connections that open, or transfer, at the same time. All are idle when memory is measured."""
CASES = (("acredssp", "asyncio"), ("acredssp", "uvloop"), ("ssl", "asyncio"), ("ssl", "uvloop"), ("tcp", "asyncio"))
ESTABLISHED_GOAL, USED_GOAL = 28.0, 64.0
SHARE_GOAL = 0.1


class Client(asyncio.Protocol):
    """A client that writes 64 KiB and waits for 64 KiB."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._left = 0
        self._done: asyncio.Future[None] | None = None

    async def exchange(self) -> None:
        self._left = len(PAYLOAD)
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(PAYLOAD)
        await self._done
        self._done = None

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if not self._left:
            self._done.set_result(None)


class Server(asyncio.Protocol):
    """A server that waits for 64 KiB and writes 64 KiB."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._heard = 0

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard == len(PAYLOAD):
            self._heard = 0
            self.transport.write(PAYLOAD)


def resident() -> int:
    """Return the resident set of this process, in bytes."""
    gc.collect()
    return int(pathlib.Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def in_batches(count: int, job) -> list:
    done = []
    for start in range(0, count, AT_ONCE):
        done += await asyncio.gather(*[job(number) for number in range(start, min(start + AT_ONCE, count))])
    return done


async def case(link: Link, count: int) -> dict[str, float]:
    server = await link.listen(Server)
    port = port_of(server)
    for _ in range(2):
        transport, client = await link.connect(Client, port)
        await client.exchange()
        transport.close()
        del transport, client
    await asyncio.sleep(0.1)
    before = resident()
    connections = await in_batches(count, lambda _number: link.connect(Client, port))
    await asyncio.sleep(0.1)
    established = resident()
    await in_batches(count, lambda number: connections[number][1].exchange())
    await asyncio.sleep(0.1)
    used = resident()
    for transport, _ in connections:
        transport.abort()
    server.close()
    await asyncio.sleep(0.1)
    ends = 2 * count * 1024
    return {"established": growth(before, established) / ends, "used": growth(before, used) / ends}


def growth(before: int, after: int) -> int:
    """Return the bytes by which a process grew: at least one page, since a smaller growth cannot be measured."""
    return max(after - before, os.sysconf("SC_PAGE_SIZE"))


def make_link(name: str) -> Link:
    setting = Setting.of(acredssp.self_signed([NAME], "rsa"), "1.3")
    return {"acredssp": Acredssp.of, "ssl": LoopTLS, "tcp": lambda _setting: TCP()}[name](setting)


def measure(size: Size, results: Results, watch: Watch) -> None:
    found = {}
    for link, loop in CASES:
        watch.step(f"memory: {link}, {loop}")
        run = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "benchmarks.memory", link, loop, str(size.connections)],
            cwd=pathlib.Path(__file__).parent.parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[link, loop] = json.loads(run.stdout)
        watch.done()
    results.details["memory"] = {f"{link}, {loop}": kib for (link, loop), kib in found.items()}
    for loop in LOOPS:
        ours, theirs = found["acredssp", loop], found["ssl", loop]
        for when, what, goal in (
            ("established", "just established", ESTABLISHED_GOAL),
            ("used", "after 64 KiB each way", USED_GOAL),
        ):
            results.rows.append(
                Row(
                    key=f"memory.{loop}.{when}",
                    what=f"resident memory of an idle connection, per end, {loop}, {what}",
                    figure=_once(ours[when]),
                    unit="KiB",
                    goal=goal,
                    note=f"ssl= {theirs[when]:.1f} KiB",
                )
            )
    results.rows.append(
        Row(
            key="memory.share",
            what="resident memory of an idle connection over asyncio's ssl=, just established",
            figure=_once(found["acredssp", "asyncio"]["established"] / found["ssl", "asyncio"]["established"]),
            goal=SHARE_GOAL,
        )
    )


def _once(value: float) -> Figure:
    return Figure(value, value, value, 1)


def _main(link: str, loop: str, count: str) -> None:
    raise_file_limit()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        json.dump(runner.run(case(make_link(link), int(count))), sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])

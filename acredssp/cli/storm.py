"""Many handshakes at once over real loopback sockets, server and clients on one event loop."""

import asyncio
import contextlib
import dataclasses
import statistics
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from acredssp.aio import create_connection, create_server
from acredssp.cli.nobody import Nobody
from acredssp.config import ClientConfig, ServerConfig
from acredssp.errors import CredSSPError
from acredssp.rdp import RDP

__all__ = ["HOST", "Storm", "listening", "log_on", "log_on_often"]

HOST: Final = "127.0.0.1"
_CARRIAGE: Final = RDP(hybrid_ex=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Storm:
    """The figures of many handshakes."""

    concurrency: int
    failures: int
    latencies: tuple[float, ...]
    """The seconds that each successful handshake took, connecting included; sorted."""
    seconds: float
    """The seconds that all handshakes took together."""

    @property
    def count(self) -> int:
        """How many handshakes were tried."""
        return len(self.latencies) + self.failures

    @property
    def rate(self) -> float:
        """How many handshakes succeeded in each second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: int) -> float:
        """Return the latency in seconds that this percentage of the successes did not exceed; 0 without a success."""
        if len(self.latencies) < 2:
            return self.latencies[0] if self.latencies else 0.0
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]


@contextlib.asynccontextmanager
async def listening(server: ServerConfig) -> AsyncIterator[int]:
    """Listen on the loopback interface while the block runs; yields the port."""
    listener = await create_server(Nobody, HOST, 0, config=server, carriage=_CARRIAGE)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


async def log_on(client: ClientConfig, port: int) -> float:
    """Log on once and close the connection; return the seconds that connecting and the logon took.

    Raises:
        CredSSPError: The logon failed.
        OSError: The connection could not be made.
    """
    started = time.perf_counter()
    transport, behind = await create_connection(Nobody, HOST, port, config=client, carriage=_CARRIAGE)
    seconds = time.perf_counter() - started
    transport.close()
    await behind.ended
    return seconds


async def log_on_often(
    client: ClientConfig, port: int, *, count: int, concurrency: int, done: Callable[[], None]
) -> Storm:
    """Log on `count` times, `concurrency` at a time; `done` is called after each logon."""
    latencies: list[float] = []
    jobs = iter(range(count))

    async def work() -> None:
        for _ in jobs:
            with contextlib.suppress(CredSSPError, OSError):  # a failure is counted by its missing latency
                latencies.append(await log_on(client, port))
            done()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(work())
    seconds = time.perf_counter() - started
    return Storm(concurrency, count - len(latencies), tuple(sorted(latencies)), seconds)

"""Whether a server's memory grows with the handshakes that it has served.

Good clients log on again and again; every tenth handshake has a wrong password, and they come from 200 addresses in
turn. The server's resident memory is noted in equal steps. The slope is that of a least-squares line through the steps
behind the first quarter, in which tables, pools and free lists fill. Its interval of 95 % is that of the slopes of
1,000 samples of the steps with replacement.
"""

import asyncio
import contextlib
import random
import statistics
from collections.abc import Iterator, Sequence

import acredssp
from benchmarks.harness import LOOPS, Figure, Row
from benchmarks.peers import DOMAIN
from benchmarks.siege.crowds import sources
from benchmarks.siege.logons import ERRORS, Logons
from benchmarks.siege.servers import Server, Variant, World

__all__ = ["LEAK", "Samples", "rows_of", "slope_of", "watched"]

STEPS = 100
"""How often memory is noted."""
AT_ONCE = 4
SPOILT = 10
"""One handshake of so many does not succeed."""
MOST = 8.0
"""The most bytes by which a server may grow for a handshake: 1.5 MiB for 200,000, less than malloc's own noise."""
LEAK = 16_384.0
"""The bytes above which a few hundred handshakes show a leak: less than one connection has, and more than all else that
moves at the beginning."""

Samples = list[tuple[int, int]]
"""Handshakes, and the bytes that are resident then."""


def watched(world: World, server: Server, handshakes: int) -> Samples:
    """Have a server serve so many handshakes; return its memory on the way."""
    with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:
        return runner.run(_watched(world, server, handshakes))


async def _watched(world: World, server: Server, handshakes: int) -> Samples:
    good, samples = Logons.of(world.certificate), []
    wrong = [Logons.of(world.certificate, acredssp.Password("wrong", "alice", DOMAIN), sources(n)) for n in range(200)]
    step, left = max(1, handshakes // STEPS), iter(range(handshakes))

    async def work() -> None:
        for number in left:
            who = wrong[number // SPOILT % len(wrong)] if number % SPOILT == 0 else good
            with contextlib.suppress(*ERRORS):
                await who.log_on(server.variant.kind, server.port)
            if number % step == 0:
                samples.append((number, server.memory))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return samples


def slope_of(samples: Sequence[tuple[int, int]], seed: int = 1) -> Figure:
    """Return the bytes for a handshake, with its interval of 95 %."""
    steady, chance = samples[len(samples) // 4 :], random.Random(seed)  # noqa: S311 - no secret
    slopes = []
    while len(slopes) < 1000:
        drawn = chance.choices(steady, k=len(steady))
        if len({number for number, _ in drawn}) > 1:
            slopes.append(statistics.linear_regression(*zip(*drawn, strict=True)).slope)
    cuts = statistics.quantiles(slopes, n=40)
    return Figure(statistics.linear_regression(*zip(*steady, strict=True)).slope, cuts[0], cuts[-1], len(steady))


def rows_of(variant: Variant, samples: Samples) -> Iterator[Row]:
    first, last = (statistics.median(size for _, size in part) for part in (samples[:5], samples[-5:]))
    yield Row(
        key=f"siege.leak.{variant.kind}.{variant.loop}.{variant.build}",
        what=f"growth of memory for a handshake: {variant}",
        figure=slope_of(samples),
        unit="bytes",
        goal=MOST,
        note=f"{samples[-1][0] + 1} handshakes, {first / 2**20:.1f} to {last / 2**20:.1f} MiB",
    )

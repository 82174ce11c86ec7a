"""How long the loop is held up while many shake hands at once, beside bare TLS in the same plumbing.

The longest single callback in CPU time, which other processes do not stretch: each `Handle._run` of asyncio between two
readings of the thread's clock, the collector's pauses included. And the lag of a heartbeat in wall-clock time: how late
a sleep of 10 ms ends at worst, which is about what one turn of the loop takes.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterator

import acredssp
from benchmarks.harness import LOOPS, Figure, Results, Row, Size, Watch, settle
from benchmarks.loopback import Contender, contenders, storm
from benchmarks.peers import NAME, Setting

CALLBACK_GOAL = 5.0
"""Milliseconds."""
LAG_GOAL = 1.5
MOST_AT_ONCE = 1000
BEAT = 0.01


@contextlib.contextmanager
def clocked_callbacks() -> Iterator[list[float]]:
    """Time every callback of asyncio's loops for as long as the block runs; gives the longest, in seconds."""
    run = asyncio.Handle._run  # noqa: SLF001 - the one place that all callbacks of a loop go through
    longest = [0.0]

    def clocked(self: asyncio.Handle) -> None:
        started = time.thread_time()
        run(self)
        longest[0] = max(longest[0], time.thread_time() - started)

    asyncio.Handle._run = clocked  # noqa: SLF001
    try:
        yield longest
    finally:
        asyncio.Handle._run = run  # noqa: SLF001


async def heartbeat(lags: list[float]) -> None:
    """Note how late each beat is, in seconds."""
    while True:
        due = time.perf_counter() + BEAT
        await asyncio.sleep(BEAT)
        lags.append(time.perf_counter() - due)


async def worst_lag(contender: Contender, at_once: int) -> float:
    lags: list[float] = []
    heart = asyncio.get_running_loop().create_task(heartbeat(lags))
    await storm(contender, at_once, at_once)
    heart.cancel()
    return max(lags, default=0.0)


async def longest_callback(contender: Contender, at_once: int) -> float:
    with clocked_callbacks() as longest:
        await storm(contender, at_once, at_once)
    return longest[0]


def measure(size: Size, results: Results, watch: Watch) -> None:
    at_once = max(crowd for crowd in size.loopback_rounds if crowd <= MOST_AT_ONCE)
    everybody = contenders(Setting.of(acredssp.self_signed([NAME], "rsa"), "1.3"), with_pyspnego=False)
    everybody = {name: everybody[name] for name in ("acredssp", "plumbing")}
    rounds = size.loopback_rounds[at_once]
    watch.step("longest callback")
    callbacks = asyncio.run(_rounds(everybody, at_once, rounds, longest_callback))
    bare = statistics.median(each["plumbing"] for each in callbacks) * 1e3
    results.rows.append(
        Row(
            key="callback.asyncio",
            what=f"longest single callback, asyncio, {at_once} at once, CPU",
            figure=Figure.of(each["acredssp"] * 1e3 for each in callbacks),
            unit="ms",
            goal=CALLBACK_GOAL,
            note=f"bare TLS {bare:.1f} ms",
        )
    )
    results.leave_out("longest single callback, uvloop", "its callbacks do not pass through Python")
    watch.done()
    for loop, factory in LOOPS.items():
        watch.step(f"heartbeat: {loop}")
        with asyncio.Runner(loop_factory=factory) as runner:
            lags = runner.run(_rounds(everybody, at_once, rounds, worst_lag))
        ours, theirs = (statistics.median(each[name] for each in lags) * 1e3 for name in everybody)
        results.rows.append(
            Row(
                key=f"lag.{loop}",
                what=f"heartbeat lag over bare TLS in the same plumbing, {loop}, {at_once} at once",
                figure=Figure.of(each["acredssp"] / each["plumbing"] for each in lags),
                goal=LAG_GOAL,
                note=f"{ours:.0f} ms, bare TLS {theirs:.0f} ms",
            )
        )
        watch.done()


async def _rounds(everybody: dict[str, Contender], at_once: int, rounds: int, what) -> list[dict[str, float]]:
    for contender in everybody.values():
        await storm(contender, 10, 2)
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        found.append({})
        for name, contender in everybody.items():
            settle()
            found[-1][name] = await what(contender, at_once)
    return found

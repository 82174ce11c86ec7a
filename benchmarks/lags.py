"""How long many simultaneous handshakes hold up the loop, beside bare TLS in the same plumbing.

The first figure is the longest single callback in CPU time, which other processes do not stretch. It is the time of one
`Handle._run` of asyncio by the thread's clock, less the pauses of the garbage collector, which hit any callback that
allocates; the longest of these pauses is reported beside it. Callbacks of the benchmark's own task, which begins the
handshakes, are left out. The second figure is the lag of a heartbeat in wall-clock time: how late a sleep of 10 ms ends
at worst, which is about one turn of the loop.
"""

import asyncio
import contextlib
import dataclasses
import gc
import statistics
import time
from collections.abc import Iterator

import acredssp
from benchmarks.harness import LOOPS, Figure, Results, Row, Size, Watch, settle
from benchmarks.loopback import Contender, contenders, storm
from benchmarks.peers import NAME, Setting

CALLBACK_GOAL = 5.0
"""The goal for the longest callback, in milliseconds."""
LAG_GOAL = 1.5
MOST_AT_ONCE = 1000
BEAT = 0.01
GRAIN = 0.001
"""The resolution of the loops' timers, above all uvloop's. A smaller lag cannot be told from none, and counts as this
much, so a ratio of two lags never divides by zero."""


@dataclasses.dataclass(slots=True)
class Clock:
    """Measures how long callbacks take."""

    longest: float = 0.0
    """The longest callback, in seconds of CPU."""
    longest_pause: float = 0.0
    """The longest pause of the garbage collector, in seconds."""
    paused: float = 0.0
    """The sum of its pauses so far, in seconds."""
    _pause_began: float = 0.0

    def note_pause(self, phase: str, _info: object) -> None:
        """Note the beginning and the end of a collection; `gc.callbacks` calls this."""
        if phase == "start":
            self._pause_began = time.thread_time()
        else:
            pause = time.thread_time() - self._pause_began
            self.paused += pause
            self.longest_pause = max(self.longest_pause, pause)


@contextlib.contextmanager
def clocked_callbacks() -> Iterator[Clock]:
    """Time every callback of asyncio's loops for as long as the block runs, except those of the task that runs it."""
    run = asyncio.Handle._run  # noqa: SLF001 - the one place that all callbacks of a loop go through
    own, clock = asyncio.current_task(), Clock()

    def clocked(self: asyncio.Handle) -> None:
        callback = self._callback
        paused, started = clock.paused, time.thread_time()
        run(self)
        taken = time.thread_time() - started - (clock.paused - paused)
        if taken > clock.longest and getattr(callback, "__self__", None) is not own:
            clock.longest = taken

    asyncio.Handle._run = clocked  # noqa: SLF001
    gc.callbacks.append(clock.note_pause)
    try:
        yield clock
    finally:
        gc.callbacks.remove(clock.note_pause)
        asyncio.Handle._run = run  # noqa: SLF001


async def heartbeat(stopped: asyncio.Event) -> float:
    """Beat until `stopped` is set and the current beat is over; return the longest delay of a beat, in seconds."""
    latest = GRAIN
    while not stopped.is_set():
        due = time.perf_counter() + BEAT
        await asyncio.sleep(BEAT)
        latest = max(latest, time.perf_counter() - due)
    return latest


async def worst_lag(contender: Contender, at_once: int) -> float:
    stopped = asyncio.Event()
    heart = asyncio.get_running_loop().create_task(heartbeat(stopped))
    await storm(contender, at_once, at_once)
    stopped.set()
    return await heart


async def longest_callback(contender: Contender, at_once: int) -> Clock:
    with clocked_callbacks() as clock:
        await storm(contender, at_once, at_once)
    return clock


def measure(size: Size, results: Results, watch: Watch) -> None:
    at_once = max(crowd for crowd in size.loopback_rounds if crowd <= MOST_AT_ONCE)
    everybody = contenders(Setting.of(acredssp.self_signed([NAME], "rsa"), "1.3"), with_pyspnego=False)
    everybody = {name: everybody[name] for name in ("acredssp", "plumbing")}
    rounds = size.loopback_rounds[at_once]
    watch.step("longest callback")
    callbacks = asyncio.run(_rounds(everybody, at_once, rounds, longest_callback))
    bare = statistics.median(each["plumbing"].longest for each in callbacks) * 1e3
    pause = statistics.median(each["acredssp"].longest_pause for each in callbacks) * 1e3
    results.rows.append(
        Row(
            key="callback.asyncio",
            what=f"longest single callback, asyncio, {at_once} at once, CPU",
            figure=Figure.of(each["acredssp"].longest * 1e3 for each in callbacks),
            unit="ms",
            goal=CALLBACK_GOAL,
            note=f"bare TLS {bare:.1f} ms; collector {pause:.1f} ms",
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


async def _rounds(everybody: dict[str, Contender], at_once: int, rounds: int, what) -> list[dict]:
    for contender in everybody.values():
        await storm(contender, 10, 2)
    found: list[dict] = []
    for _ in range(rounds):
        found.append({})
        for name, contender in everybody.items():
            settle()
            found[-1][name] = await what(contender, at_once)
    return found

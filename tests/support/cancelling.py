"""Cancels at every `await`: a run is repeated, and cancelled once at each place where one of its tasks was suspended.

Every task that begins within a run is driven by a `Cutter`. Each time that a task is suspended in this package, the
cutter notes where: the lines of the package that wait, from the outermost to the innermost, and the how many-eth time
it is. This is a *point*. Then the run is repeated for each point and each of the two moments at which a task can be
cancelled there, and once more for each turn of the loop that a run takes, to cancel the run's own task in that turn:

- `waiting`: while what it waits for has not come;
- `answered`: as it has come, but before the task has seen it, so that a result may get lost.

A task that is cancelled must end as cancelled if it is the one that runs the public function. After every run the
process must hold what it held before: tasks, descriptors, threads, secrets, and what the scenario says (places at
limits, connections). Nothing may reach the loop's exception handler, and the scenario must still work at the end.
"""

import ast
import asyncio
import collections
import collections.abc
import dataclasses
import functools
import gc
import os
import sys
import threading
import types
from pathlib import Path

import acredssp
from acredssp.secret import SecretBytes

PACKAGE = str(Path(acredssp.__file__).parent) + os.sep
MOMENTS = ("waiting", "answered")
MOST_TURNS = 50
LONG = 60
"""Seconds after which what is still held is a leak: everything in a scenario ends by itself, or by its peer's end."""
TURNS = 20
"""Turns of the loop in which what has ended is forgotten."""
POOLS, MOST_THREADS = ("acredssp-", "asyncio_"), 50
"""The threads of the package's own pools and of the loop's executor, which stay, and are so many at most."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A place where a task was suspended: lines of the package, and the how many-eth time."""

    lines: tuple
    time: int

    def __str__(self):
        return f"{' > '.join(f'{name}:{line}' for name, line in self.lines)}, time {self.time}"


@dataclasses.dataclass
class Tally:
    """What was tried."""

    points: int = 0
    """Points of a run, each of which was tried at both moments."""
    cancelled: int = 0
    """Cancellations at points that were made: a run may come by fewer points than the one before."""
    turns: int = 0
    """Cancellations in a turn of the loop that were made."""
    sites: set = dataclasses.field(default_factory=set)
    """Lines of the package at which a task waited as it was cancelled, those above the innermost one too."""


class Cutter:
    """Drives the tasks of a run, and cancels one of them.

    Attributes:
        seen: The points of the run so far, in order.
        cut: The task that was cancelled.
    """

    def __init__(self, point=None, moment="waiting"):
        self.point, self._moment = point, moment
        self._times = collections.Counter()
        self.seen, self.cut = [], None

    def __str__(self):
        return f"cancelled as {self._moment} at {self.point}"

    def begin(self, main):
        """Take notice that the task of the run begins."""

    def factory(self, loop, coroutine, **options):
        """A loop's task factory."""
        return asyncio.Task(_Driven(coroutine, self._suspended), loop=loop, **options)

    def _suspended(self, coroutine, waits_for):
        lines = lines_of(coroutine)
        if not lines:
            return
        self._times[lines] += 1
        point = Point(lines, self._times[lines])
        self.seen.append(point)
        if point != self.point or self.cut is not None:
            return
        self.cut = task = asyncio.current_task()
        if self._moment == "answered" and waits_for is not None:
            waits_for.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(task.cancel)


class InTurn(Cutter):
    """Cancels the task of a run in a turn of the loop, wherever it is then."""

    def __init__(self, turn):
        super().__init__()
        self._turn = turn

    def __str__(self):
        return f"cancelled in turn {self._turn}"

    def begin(self, main):
        asyncio.get_running_loop().call_soon(self._count, main, self._turn)

    def _count(self, main, left):
        if main.done():
            return
        if left:
            asyncio.get_running_loop().call_soon(self._count, main, left - 1)
        else:
            self.cut = main
            main.cancel()


class _Driven(collections.abc.Coroutine):
    """A coroutine that tells each time that it is suspended."""

    def __init__(self, coroutine, suspended):
        self._coroutine, self._suspended = coroutine, suspended

    def send(self, value):
        return self._noted(self._coroutine.send(value))

    def throw(self, *error):
        return self._noted(self._coroutine.throw(*error))

    def _noted(self, waits_for):
        self._suspended(self._coroutine, waits_for)
        return waits_for

    def close(self):
        self._coroutine.close()

    def __await__(self):
        raise NotImplementedError("a task drives it")

    @property
    def cr_frame(self):
        return self._coroutine.cr_frame


def lines_of(coroutine):
    """The lines of the package at which a coroutine waits, the outermost first."""
    lines, waits = [], coroutine
    while waits is not None:
        frame = _first(waits, _FRAMES)
        if frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
            lines.append((frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_lineno))
        waits = _first(waits, _AWAITS) if isinstance(waits, _OPEN) else _inside(waits)
    return tuple(lines)


_FRAMES, _AWAITS = ("cr_frame", "gi_frame", "ag_frame"), ("cr_await", "gi_yieldfrom", "ag_await")
_OPEN = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
_CLOSED = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable")
"""What stands between them, and does not say for what."""


def _first(thing, names):
    return next((found for name in names if (found := getattr(thing, name, None)) is not None), None)


def _inside(waits):
    """What one of `_CLOSED` waits for; None for a future, an iterator or the like."""
    if type(waits).__name__ not in _CLOSED:
        return None
    inside = gc.get_referents(waits)
    return next((each for each in inside if isinstance(each, _OPEN) or type(each).__name__ in _CLOSED), None)


@functools.cache
def places_that_wait():
    """The places of the package that can wait: (file, first line, last line) of `await`, `async for`, `async with`."""
    found = []
    for path in Path(PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            last = node
            if isinstance(node, ast.AsyncWith):
                last = node.items[-1].context_expr
            elif isinstance(node, ast.AsyncFor):
                last = node.iter
            elif not isinstance(node, ast.Await):
                continue
            found.append((str(path).removeprefix(PACKAGE), node.lineno, last.end_lineno))
    return found


def places_of(sites):
    """Those of the places that can wait at which something has waited.

    Args:
        sites: Files and lines.
    """
    return [
        (file, first, last)
        for file, first, last in places_that_wait()
        if any((file, line) in sites for line in range(first, last + 1))
    ]


# --- what is held ---


class Secrets:
    """Counts the secrets that live, and those that were freed with their bytes still there."""

    def __init__(self):
        self.alive, self.kept = 0, 0

    def __enter__(self):
        self._init, self._del = SecretBytes.__init__, SecretBytes.__del__

        def begin(secret, *args, **options):
            self.alive += 1
            self._init(secret, *args, **options)

        def end(secret):
            self._del(secret)
            self.alive -= 1
            self.kept += any(secret)

        SecretBytes.__init__, SecretBytes.__del__ = begin, end
        return self

    def __exit__(self, *_):
        del SecretBytes.__init__
        SecretBytes.__del__ = self._del


class Holdings:
    """What the process holds, and what a scenario does."""

    def __init__(self, secrets, held):
        self._secrets, self._held = secrets, held
        self._before = self._now()
        self._pooled_before = self._pooled()  # of other tests of the process

    def _now(self):
        found = collections.Counter(tasks=len(asyncio.all_tasks()), secrets=self._secrets.alive)
        found["descriptors"] = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no object for each
        names = [thread.name.rstrip("0123456789") for thread in threading.enumerate()]
        found.update(name for name in names if not name.startswith(POOLS))
        found.update(self._held())
        return found

    @staticmethod
    def _pooled():
        return sum(thread.name.startswith(POOLS) for thread in threading.enumerate())

    def more(self):
        """What is held now, and was not before."""
        return self._now() - self._before

    async def settle(self, what):
        """Wait until no more is held than before.

        Raises:
            AssertionError: After a long time, more is.
        """
        deadline = asyncio.get_running_loop().time() + LONG
        for turn in range(sys.maxsize):
            if not (more := self.more()):
                break
            assert asyncio.get_running_loop().time() < deadline, f"{what}: still held: {+more}, {asyncio.all_tasks()}"
            await asyncio.sleep(0 if turn < TURNS else 0.001)
            if turn % 100 == TURNS:
                gc.collect()
        assert self._secrets.kept == 0, f"{what}: a secret was freed unwiped"
        assert self._pooled() - self._pooled_before <= MOST_THREADS


# --- runs ---

EXPECTED = (asyncio.CancelledError, acredssp.CredSSPError, OSError, EOFError)
"""How a run may end whose tasks were cancelled; a scenario may add to them."""


async def _run(run, cutter, expected):
    """One run, whose tasks the cutter drives."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(cutter.factory)
    main = loop.create_task(run())
    cutter.begin(main)
    _, hangs = await asyncio.wait({main}, timeout=LONG)
    assert not hangs, f"{cutter}: it hangs at {[task.get_stack() for task in asyncio.all_tasks()]}"
    if cutter.cut is None:
        main.result()
    elif cutter.cut is main:
        assert main.cancelled(), f"{cutter}: it was swallowed: {main}"
    elif not main.cancelled() and (error := main.exception()) is not None and not isinstance(error, expected):
        raise AssertionError(f"{cutter}: it led to {error!r}") from error


async def _everywhere(scenario, secrets, tally, most_turns, expected):
    unhandled, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: None if _is_pythons(context) else unhandled.append(context))
    async with scenario() as (run, held):
        for _ in range(2):  # the second finds what the first has made for all
            first = Cutter()
            await _run(run, first, expected)
            await _idle()
        holdings, points = Holdings(secrets, held), list(dict.fromkeys(first.seen))

        async def cancel(cutter):
            await _run(run, cutter, expected)
            await holdings.settle(cutter)
            assert not unhandled, f"{cutter}: {unhandled}"
            return cutter.cut is not None

        for cutter in (Cutter(point, moment) for point in points for moment in MOMENTS):
            if await cancel(cutter):
                tally.cancelled += 1
                tally.sites.update(cutter.point.lines)
        while tally.turns < most_turns and await cancel(InTurn(tally.turns)):
            tally.turns += 1
        tally.points += len(points)
        await _run(run, Cutter(), expected)
        await holdings.settle("at the end")
        loop.set_task_factory(None)
    assert not unhandled, unhandled


def _is_pythons(context):
    """Whether a stream's task was cancelled: asyncio of Python 3.11 takes this for an exception of its callback."""
    return "StreamReaderProtocol.connection_made" in context["message"] and type(context["exception"]) is _CANCELLED


_CANCELLED = asyncio.CancelledError


async def _idle():
    """Wait until what the runs have left behind has ended."""
    tasks = len(asyncio.all_tasks())
    for _ in range(200):
        await asyncio.sleep(0.001)
        if tasks == (tasks := len(asyncio.all_tasks())) == 1:
            break
    gc.collect()


def cancel_everywhere(scenario, *, most_turns=MOST_TURNS, expected=(), loop_factory=asyncio.SelectorEventLoop):
    """Cancel a scenario's run at every point.

    Args:
        scenario: A function whose asynchronous context manager gives two functions: `run()`, a coroutine that begins
            and ends by itself, and `held()`, a mapping of what is held by now: what to the number.
        most_turns: In how many turns the run's own task is cancelled, at most.
        expected: More errors with which a run may end that was cancelled somewhere.
        loop_factory: Makes the event loop.

    Returns:
        The tally.

    Raises:
        AssertionError: Something was left, or a cancellation was swallowed.
    """
    tally, unraisable = Tally(), []
    hook, sys.unraisablehook = sys.unraisablehook, lambda problem: unraisable.append(repr(problem))
    try:
        with Secrets() as secrets, asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_everywhere(scenario, secrets, tally, most_turns, (*EXPECTED, *expected)))
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not unraisable, unraisable
    return tally

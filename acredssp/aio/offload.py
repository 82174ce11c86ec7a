"""Where blocking code runs: small thread pools of acredssp's own, never the loop's default executor.

The default executor resolves host names. A dozen logons that wait there for a silent KDC would stop every connection
of the program for as long; here they stop only one another, and not the logons that a server of the same program takes.

The threads are daemons, unlike those of `concurrent.futures`, for which the interpreter waits at its end: a program
that gave up on a silent KDC would still be there until libkrb5 gives up too, half a minute later.

Who calls: `answers`, for a mechanism's step that may block.
"""

import asyncio
import concurrent.futures
import enum
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["Lane", "run"]

_T = TypeVar("_T")


class Lane(enum.Enum):
    """What a step may wait for. Each has a pool of its own, of at most so many threads."""

    KDC = 16
    """A KDC and name servers, which may be silent: as many as may be stuck at once, each some 100 KiB of memory."""
    LOCAL = 4
    """This machine: files, as an acceptor's keytab."""


async def run(step: Callable[[], _T], lane: Lane = Lane.LOCAL) -> _T | Exception:
    """Run `step` in a thread and return its result, or the exception it raised.

    It cannot be interrupted. When the caller is cancelled a step that has not begun never does; the result of one
    that runs is dropped.
    """
    return await asyncio.wrap_future(_pool(lane).submit(step))


class _Pool:
    """Threads that are made when there is a step for them, up to the lane's bound, and are kept."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._threads = 0
        self.unfinished = 0
        """Steps that wait or run."""
        self._waiting: queue.SimpleQueue[tuple[concurrent.futures.Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        """Over the two numbers. Held for no longer than it takes to start a thread."""

    def submit(self, step: Callable[[], _T]) -> concurrent.futures.Future[_T | Exception]:
        """Have `step` run, now or when a thread is free."""
        future: concurrent.futures.Future[_T | Exception] = concurrent.futures.Future()
        self._waiting.put((future, step))
        with self._lock:
            self.unfinished += 1
            if self._threads < min(self.unfinished, self._lane.value):
                self._threads += 1
                name = f"acredssp-{self._lane.name.lower()}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            future, step = self._waiting.get()
            outcome = _outcome(step) if (wanted := future.set_running_or_notify_cancel()) else None
            with self._lock:  # first, so that whoever goes on with the outcome finds this thread for the next step
                self.unfinished -= 1
            if wanted:
                future.set_result(outcome)
            del future, step, outcome  # a thread that waits keeps nothing of what it did


_pools: Final[dict[Lane, _Pool]] = {}
"""Made when first needed, one a lane and process."""


def _outcome(step: Callable[[], _T]) -> _T | Exception:
    # As a value, since not every exception may pass through a future (StopIteration may not).
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - it is the mechanism's to judge
        return error


def _pool(lane: Lane) -> _Pool:
    # Two loops that both make it keep one: setdefault is atomic.
    return _pools.get(lane) or _pools.setdefault(lane, _Pool(lane))


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child that kept the pool would wait for them for ever.
    os.register_at_fork(after_in_child=_pools.clear)

"""Small thread pools of acredssp's own, in which blocking code runs, and never in the loop's default executor.

The default executor resolves host names. A dozen logons that wait there for a silent KDC would stop every new
connection of the program. In these pools they delay only one another, and not the logons at a server in the same
program.

The threads are daemons. The interpreter waits at its end for the threads of `concurrent.futures`: a program that has
given up on a silent KDC would stay until libkrb5 gives up too, half a minute later.

`answers` calls this module for a mechanism's step that may block.
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
    """The things for which a step may wait. Each has a pool of its own; the value is the most threads of the pool."""

    KDC = 16
    """A KDC or a name server, which may be silent. This many steps may be stuck at a time; each thread takes some 100
    KiB."""
    LOCAL = 4
    """This machine, for instance the file of an acceptor's keytab."""


async def run(step: Callable[[], _T], lane: Lane = Lane.LOCAL) -> _T | Exception:
    """Run `step` in a thread and return its result, or the exception that it raised.

    A running step cannot be interrupted. If the caller is cancelled, a step that has not begun never begins, and the
    result of a step that runs is dropped.
    """
    return await asyncio.wrap_future(_pool(lane).submit(step))


class _Pool:
    """A pool of threads. A thread is made when a step needs one, up to the lane's bound, and is kept."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._threads = 0
        self.unfinished = 0
        """The number of steps that wait or run."""
        self._waiting: queue.SimpleQueue[tuple[concurrent.futures.Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        """Guards the two numbers. It is held no longer than it takes to start a thread."""

    def submit(self, step: Callable[[], _T]) -> concurrent.futures.Future[_T | Exception]:
        """Run `step` in a thread, now or when one is free; return the future of its outcome."""
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
            with self._lock:  # before the outcome is set, so that its receiver finds this thread free for the next step
                self.unfinished -= 1
            if wanted:
                future.set_result(outcome)
            del future, step, outcome  # a waiting thread must keep nothing alive


_pools: Final[dict[Lane, _Pool]] = {}
"""The pools of this process, one for each lane, made when first needed."""


def _outcome(step: Callable[[], _T]) -> _T | Exception:
    # An exception is returned as a value, since not every exception may pass through a future (StopIteration may not).
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - the mechanism judges it
        return error


def _pool(lane: Lane) -> _Pool:
    # If two loops make the pool at the same time, both get the same one: setdefault is atomic.
    return _pools.get(lane) or _pools.setdefault(lane, _Pool(lane))


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child that kept the pool would wait for its threads for ever.
    os.register_at_fork(after_in_child=_pools.clear)

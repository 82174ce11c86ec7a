"""Where blocking code runs: a small thread pool of acredssp's own, never the loop's default executor.

The default executor resolves host names. A dozen logons that wait there for a silent KDC would stop every connection
of the program for as long; here they stop only one another.

Its threads are daemons, unlike those of `concurrent.futures`, for which the interpreter waits at its end: a program
that gave up on a silent KDC would still be there until libkrb5 gives up too, half a minute later.

Who calls: `answers`, for a mechanism's step that may block.
"""

import asyncio
import concurrent.futures
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["run"]

_T = TypeVar("_T")

_MOST_THREADS: Final = 16
"""A step waits for a KDC, not for the processor: as many as may be stuck at once, each some 100 KiB of memory."""


async def run(step: Callable[[], _T]) -> _T | Exception:
    """Run `step` in a thread and return its result, or the exception it raised.

    It cannot be interrupted. When the caller is cancelled a step that has not begun never does; the result of one
    that runs is dropped.
    """
    return await asyncio.wrap_future(_threads().submit(step))


class _Pool:
    """Threads that are made when there is a step for them, up to `most`, and are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
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
            if self._threads < min(self.unfinished, self._most):
                self._threads += 1
                threading.Thread(target=self._work, name=f"acredssp-{self._threads}", daemon=True).start()
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


_pool: _Pool | None = None


def _outcome(step: Callable[[], _T]) -> _T | Exception:
    # As a value, since not every exception may pass through a future (StopIteration may not).
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - it is the mechanism's to judge
        return error


def _threads() -> _Pool:
    global _pool  # noqa: PLW0603 - one pool a process, made when first needed
    if _pool is None:
        _pool = _Pool(_MOST_THREADS)
    return _pool


def _forget() -> None:
    global _pool  # noqa: PLW0603
    _pool = None


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child that kept the pool would wait for them for ever.
    os.register_at_fork(after_in_child=_forget)

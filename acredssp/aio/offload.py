"""Where blocking code runs: a small thread pool of acredssp's own, never the loop's default executor.

The default executor resolves host names. A dozen logons that wait there for a silent KDC would stop every connection
of the program for as long; here they stop only one another.

Who calls: `answers`, for a mechanism's step that may block.
"""

import asyncio
import concurrent.futures
import os
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["run"]

_T = TypeVar("_T")

_MOST_THREADS: Final = 16
"""A step waits for a KDC, not for the processor: as many as may be stuck at once, each some 100 KiB of memory."""

_pool: concurrent.futures.ThreadPoolExecutor | None = None


async def run(step: Callable[[], _T]) -> _T | Exception:
    """Run `step` in a thread and return its result, or the exception it raised.

    It cannot be interrupted. When the caller is cancelled a step that has not begun never does; the result of one
    that runs is dropped.
    """
    return await asyncio.get_running_loop().run_in_executor(_executor(), _outcome, step)


def _outcome(step: Callable[[], _T]) -> _T | Exception:
    # As a value, since not every exception may pass through a future (StopIteration may not).
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - it is the mechanism's to judge
        return error


def _executor() -> concurrent.futures.ThreadPoolExecutor:
    global _pool  # noqa: PLW0603 - one pool a process, made when first needed
    if _pool is None:
        _pool = concurrent.futures.ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="acredssp")
    return _pool


def _forget() -> None:
    global _pool  # noqa: PLW0603
    _pool = None


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child that kept the pool would wait for them for ever.
    os.register_at_fork(after_in_child=_forget)

"""What this process shares with the other processes and nodes of one gateway: its store."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

from acredssp.proxy.memory_store import MemoryStore
from acredssp.proxy.store import Store, StoreError

__all__ = ["Node"]

_OVERLAP: Final = 10.0
"""Seconds after which a store that the settings have no more is given up: what it was asked has been answered."""


class Node:
    """This process, as one of several that share a store.

    Args:
        embedded: The store where the settings name none; None for a new one.

    Attributes:
        store: The store: that of the settings, or the embedded one.
    """

    def __init__(self, embedded: Store | None = None) -> None:
        self._embedded = embedded or MemoryStore()
        self.store = self._embedded
        self._tasks: set[asyncio.Task[None]] = set()

    def use(self, store: Store | None) -> None:
        """Go on with another store; None for the embedded one."""
        before, self.store = self.store, store or self._embedded
        if before is not self.store:
            self.begin(_give_up(before))

    async def close(self) -> None:
        """Give the store up."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.store.close()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something for which nobody waits. A store that is away says so itself."""
        task = asyncio.get_running_loop().create_task(_in_spite_of_the_store(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _in_spite_of_the_store(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(StoreError):
        await work


async def _give_up(store: Store) -> None:
    try:
        await asyncio.sleep(_OVERLAP)
    finally:
        await store.close()

"""What this process shares with the other processes and nodes of one gateway, through their store.

It tells which connections it has, hears which ones are to end, and gives the store to whoever needs an answer of it. No
connection waits for what is told here, and none fails by it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from acredssp.stores.memory import MemoryStore
from acredssp.stores.store import Entry, Kick, Store, StoreError

__all__ = ["Node"]

_LIFE: Final = 60.0
"""Seconds for which the store keeps connections: those of a node that dies vanish by themselves."""
_INTERVAL: Final = 20.0
"""Seconds after which all connections are told again."""
_TOGETHER: Final = 0.1
"""Seconds in which changes come together before the store is told of them. It takes all of them at once."""
_OVERLAP: Final = 10.0
"""Seconds after which a store that the settings have no more is given up: what it was asked has been answered."""


class Node:
    """This process, as one of several that share a store.

    Args:
        on_kick: Called with each order to end connections.
        embedded: The store where the settings name none; None for a new one.

    Attributes:
        name: The node's name, for people.
        store: The store: that of the settings, or the embedded one.
    """

    def __init__(self, on_kick: Callable[[Kick], None], embedded: Store | None = None) -> None:
        self.name = ""
        self._on_kick = on_kick
        self._embedded = embedded or MemoryStore()
        self.store = self._embedded
        self._entries: dict[str, Entry] = {}
        self._new: dict[str, Entry] = {}
        self._gone: set[str] = set()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._talking: list[asyncio.Task[None]] = []
        """Those that talk to the store for as long as it is the store."""

    def use(self, store: Store | None, name: str = "") -> None:
        """Go on with another store.

        Args:
            store: The store; None for the embedded one.
            name: The node's name; empty for that of the machine.
        """
        self.name = name or socket.gethostname()
        before, self.store = self.store, store or self._embedded
        if self._talking and before is self.store:
            return
        retired, self._talking = self._talking, [self.begin(self._listen()), self.begin(self._tell())]
        if before is not self.store:
            self.begin(_give_up(before, retired))

    async def close(self) -> None:
        """Take this process's connections out of the directory, and give the store up."""
        await asyncio.sleep(0)  # a coroutine that has not begun would warn that nobody awaits it
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._talking = []
        with contextlib.suppress(StoreError):
            await self.store.withdraw([*self._entries, *self._gone])
        await self.store.close()

    def announce(self, entry: Entry) -> None:
        """Put a connection into the directory, until it is withdrawn."""
        self._entries[entry.id] = self._new[entry.id] = entry
        self._changed.set()

    def withdraw(self, identity: str) -> None:
        """Take a connection out of the directory; harmless when it is not there."""
        if self._entries.pop(identity, None) is not None and self._new.pop(identity, None) is None:
            self._gone.add(identity)
            self._changed.set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something for which nobody waits. A store that is away says so itself."""
        task = asyncio.get_running_loop().create_task(_in_spite_of_the_store(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _listen(self) -> None:
        async for kick in self.store.kicks():
            self._on_kick(kick)

    async def _tell(self) -> None:
        """Tell of changes soon, and of all connections again and again. What is lost comes with the next time."""
        store, clock, all_at = self.store, asyncio.get_running_loop().time, 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(all_at):
                    await self._changed.wait()
                    await asyncio.sleep(_TOGETHER)
            self._changed.clear()
            new, gone, self._new = self._new, {*self._gone}, {}
            if clock() >= all_at:
                new, all_at = self._entries, clock() + _INTERVAL
            with contextlib.suppress(StoreError):
                await store.withdraw(gone)
                await store.announce([*new.values()], _LIFE)
            self._gone -= gone


async def _in_spite_of_the_store(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(StoreError):
        await work


async def _give_up(store: Store, talking: list[asyncio.Task[None]]) -> None:
    try:
        await asyncio.sleep(_OVERLAP)
    finally:
        for task in talking:
            task.cancel()
        await store.close()

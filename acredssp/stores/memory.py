"""The store in the process, for a gateway of one process. It ends with it."""

import asyncio
import collections
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Final, Generic, TypeVar

from acredssp.credentials import Account
from acredssp.stores.store import KICK_LIFE, Entry, Grant, Kick, LockoutRule, key_text, marks_of, voiding

__all__ = ["Expiring", "MemoryStore"]

_T = TypeVar("_T")

_MOST: Final = 100_000
"""The most values of a kind. An attacker who fails under a new name each time makes so many lockouts, and no more."""


class Expiring(Generic[_T]):
    """Values by key that vanish after their time; the oldest make room where there are too many.

    Args:
        clock: The time in seconds.
        most: The most values.
    """

    def __init__(self, clock: Callable[[], float], most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._values: collections.OrderedDict[str, tuple[_T, float]] = collections.OrderedDict()
        self._tidy_at = 64

    def get(self, key: str) -> _T | None:
        """Return the value; None for none, and after its time."""
        value, end = self._values.get(key, (None, 0.0))
        return value if end > self._clock() else None

    def set(self, key: str, value: _T, ttl: float) -> None:
        """Keep a value for some seconds."""
        self._values[key] = value, self._clock() + ttl
        self._values.move_to_end(key)
        if len(self._values) > self._tidy_at:
            for each in [each for each in self._values if self.get(each) is None]:
                del self._values[each]
            self._tidy_at = 2 * len(self._values) + 64
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def replace(self, key: str, value: _T) -> None:
        """Put another value in the place of one that is there, until the same time."""
        self._values[key] = value, self._values[key][1]

    def drop(self, key: str) -> None:
        """Forget a value."""
        self._values.pop(key, None)

    def values(self) -> list[_T]:
        """Return all values."""
        return [value for key in self._values if (value := self.get(key)) is not None]


class _Token:
    """A token with what is left of it."""

    def __init__(self, grant: Grant, issued: float, ttl: float) -> None:
        self.grant = grant
        self.issued = issued
        self.end = issued + ttl
        self.left = grant.uses
        self.windows: dict[str, float] = {}
        """For each client, the end of its window."""


class MemoryStore:
    """See `Store`. No call of it raises `StoreError`."""

    def __init__(self) -> None:
        clock = self._clock = time.monotonic
        self._tokens: Expiring[_Token] = Expiring(clock)
        self._failures: Expiring[tuple[int, float, str | None]] = Expiring(clock)
        """For each name: the number of wrong passwords, the end of the lock, and the spelling of the name.
        The spelling is None if the clients spelled the name in several ways."""
        self._directory: Expiring[Entry] = Expiring(clock)
        self._figures: Expiring[tuple[str, str]] = Expiring(clock)
        self._hosts: Expiring[str] = Expiring(clock)
        self._kicked: Expiring[float] = Expiring(clock)
        self._watchers: set[asyncio.Queue[Kick]] = set()

    async def ping(self) -> None:
        """Return at once, since this store is always there."""

    async def close(self) -> None:
        """Do nothing, since this store holds no connection."""

    async def put_token(self, key: str, grant: Grant, ttl: float) -> None:
        self._tokens.set(key, _Token(grant, self._clock(), ttl), ttl)

    async def find_token(self, key: str) -> Grant | None:
        token = self._tokens.get(key)
        return token.grant if token else None

    async def use_token(
        self, key: str, client: str, account: Account | None = None, spellings: Sequence[Account] = ()
    ) -> Grant | None:
        token, now = self._tokens.get(key), self._clock()
        if token is None or any(
            (self._kicked.get(mark) or 0.0) >= token.issued for mark in voiding(token.grant, account, spellings)
        ):
            return None
        if token.windows.get(client, 0.0) > now:
            return token.grant
        if token.left < 1 or token.end <= now:
            return None
        window = token.grant.window
        token.left -= 1
        token.windows[client] = now + window
        if token.left or window:
            self._tokens.set(key, token, max(token.end - now, *(end - now for end in token.windows.values())))
        else:
            self._tokens.drop(key)
        return token.grant

    async def attempt(self, name: str, rule: LockoutRule, spelling: str = "") -> float:
        before, end, known = self._failures.get(name) or (0, 0.0, spelling)
        if end > self._clock():
            return end - self._clock()
        count = before + 1
        lock = min(rule.shortest * 2.0 ** min(count - rule.most, 64), rule.longest) if count >= rule.most else 0.0
        same = spelling if known == spelling else None
        self._failures.set(name, (count, self._clock() + lock, same), rule.window + lock)
        return 0.0

    async def release(self, name: str) -> None:
        count, _, spelling = self._failures.get(name) or (0, 0.0, None)
        if count > 1:
            self._failures.replace(name, (count - 1, 0.0, spelling))
        else:
            self._failures.drop(name)

    async def locked(self, name: str) -> float:
        return max(0.0, (self._failures.get(name) or (0, 0.0, None))[1] - self._clock())

    async def forgive(self, name: str, spelling: str = "") -> None:
        if (self._failures.get(name) or (0, 0.0, None))[2] == spelling:
            self._failures.drop(name)

    async def announce(self, entries: Sequence[Entry], ttl: float) -> None:
        for entry in entries:
            self._directory.set(entry.id, entry, ttl)

    async def withdraw(self, ids: Collection[str]) -> None:
        for each in ids:
            self._directory.drop(each)

    async def entries(self) -> list[Entry]:
        return self._directory.values()

    async def publish(self, node: str, figures: str, ttl: float) -> None:
        self._figures.set(node, (node, figures), ttl)

    async def figures(self) -> dict[str, str]:
        return dict(self._figures.values())

    async def stick(self, account: Account, target: str, host: str, ttl: float) -> None:
        self._hosts.set(f"{key_text(account)} {target}", host, ttl)

    async def host_of(self, account: Account, target: str) -> str | None:
        return self._hosts.get(f"{key_text(account)} {target}")

    async def kick(self, kick: Kick) -> None:
        if kick.user:
            for mark in marks_of(kick):
                self._kicked.set(mark, self._clock(), KICK_LIFE)
        for watcher in self._watchers:
            watcher.put_nowait(kick)

    async def kicks(self) -> AsyncIterator[Kick]:
        watcher: asyncio.Queue[Kick] = asyncio.Queue()
        self._watchers.add(watcher)
        try:
            while True:
                yield await watcher.get()
        finally:
            self._watchers.discard(watcher)

"""The store that nodes share, in Redis or Valkey.

Every operation is one command or one Lua script, and so atomic. Every key has a TTL; times are the server's own. All
keys begin with `{PREFIX}:`, a hash tag. Values are sealed, and names of accounts and clients are hashed with a key
(`sealing`); counters and times are plain.

Every call has a deadline. Once one failed, the store counts as gone: calls fail at once, and one call at a time tries
again, after a pause that doubles up to 5 seconds. One line is logged when the store goes, one when it comes. Nothing is
sent twice: a script that counts must not count twice.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import random
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from acredssp.credentials import Account
from acredssp.stores.sealing import Sealer, SealError
from acredssp.stores.store import KICK_LIFE, Entry, Grant, Kick, LockoutRule, StoreError, key_text, marks_of, voiding

__all__ = ["RedisStore"]

_logger = logging.getLogger("acredssp.stores.store")

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_BATCH: Final = 200
"""Connections announced by one script: a few milliseconds of either side's time."""
_MOST_KICKS: Final = 1000
"""Kicks that a node which was away can still read."""
_BLOCK: Final = 5.0
"""Seconds that one question for kicks waits at the server."""

_NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

_PUT: Final = """
redis.call('HSET', KEYS[1], 'grant', ARGV[1], 'left', ARGV[2], 'window', ARGV[3], 'issued', now, 'end', now + ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
"""
_USE: Final = """
local client = 'client:' .. ARGV[1]
local token = redis.call('HMGET', KEYS[1], 'left', 'window', 'issued', 'end', client)
if not token[1] then return 0 end
local left, window, issued = tonumber(token[1]), tonumber(token[2]), tonumber(token[3])
for i = 2, #ARGV do
    if tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or -1) >= issued then return 0 end
end
if token[5] and tonumber(token[5]) > now then return 1 end
if left < 1 or tonumber(token[4]) <= now then return 0 end
if left == 1 and window == 0 then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'left', left - 1, client, now + window)
if redis.call('PTTL', KEYS[1]) < window then redis.call('PEXPIRE', KEYS[1], window) end
return 1
"""
_ATTEMPT: Final = """
local left = tonumber(redis.call('HGET', KEYS[1], 'end') or 0) - now
if left > 0 then return left end
local most, window, shortest, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local count, lock = redis.call('HINCRBY', KEYS[1], 'count', 1), 0
if count >= most then lock = math.floor(math.min(shortest * 2 ^ math.min(count - most, 64), longest)) end
local spelling = redis.call('HGET', KEYS[1], 'spelling')
if spelling and spelling ~= ARGV[5] then spelling = '' else spelling = ARGV[5] end
redis.call('HSET', KEYS[1], 'end', now + lock, 'spelling', spelling)
redis.call('PEXPIRE', KEYS[1], window + lock)
return 0
"""
_RELEASE: Final = """
local count = tonumber(redis.call('HGET', KEYS[1], 'count') or 0)
if count <= 1 then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'count', count - 1, 'end', 0)
"""
_LOCKED: Final = "return math.max(0, tonumber(redis.call('HGET', KEYS[1], 'end') or 0) - now)"
_FORGIVE: Final = "if redis.call('HGET', KEYS[1], 'spelling') == ARGV[1] then redis.call('DEL', KEYS[1]) end"
_TIDY: Final = """
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
for i = 1, #old do redis.call('HDEL', KEYS[2], old[i]); redis.call('ZREM', KEYS[1], old[i]) end
"""
_ANNOUNCE: Final = f"""{_TIDY}
for i = 2, #ARGV, 2 do
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
for i = 1, 2 do
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
end
"""
_WITHDRAW: Final = "for i = 1, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]); redis.call('HDEL', KEYS[2], ARGV[i]) end"
_ENTRIES: Final = _TIDY + "return redis.call('HGETALL', KEYS[2])"
_KICK: Final = """
for i = 4, #ARGV do
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
    redis.call('ZADD', KEYS[2], now, ARGV[i])
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'kick', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


class RedisStore:
    """See `Store`.

    Args:
        url: `redis://HOST:PORT/DB`, `rediss://...` for TLS, or `unix:///PATH`, without user and password.
        sealer: Seals what the store keeps; the same keys at every node.
        username: The ACL user; empty for the default user.
        password: The password; empty for none.
        authorities: A file of authorities in PEM for TLS; None for the operating system's.
        prefix: What the keys begin with; the same at every node.
        deadline: Seconds that a call may take.
        connections: The most connections to the server at a time. Further calls wait, within their deadline.
    """

    def __init__(  # noqa: PLR0913
        self,
        url: str,
        sealer: Sealer,
        *,
        username: str = "",
        password: str = "",
        authorities: str | None = None,
        prefix: str = "acredssp",
        deadline: float = 2.0,
        connections: int = 16,
    ) -> None:
        self._sealer = sealer
        self._prefix = f"{{{prefix}}}:"
        self._deadline = deadline
        self._outage = _Outage(url)
        more = {"username": username or None, "password": password or None}
        if authorities:
            more["ssl_ca_certs"] = authorities

        def client(most: int) -> Redis:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=most,
                timeout=deadline,
                socket_timeout=None,  # `_call` has the deadline; redis-py's own loses cancellations on Python 3.11
                socket_connect_timeout=deadline,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                driver_info=None,  # else every connection looks a version up on the disk
                **more,
            )
            return Redis.from_pool(pool)

        self._client = client(connections)
        self._watching = client(1)

    async def ping(self) -> None:
        """Return if the server answers."""
        await self._command("PING")

    async def close(self) -> None:
        await self._client.aclose()
        await self._watching.aclose()

    async def put_token(self, key: str, grant: Grant, ttl: float) -> None:
        place = self._key("token", key)
        sealed = self._seal(place, grant)
        await self._script(_PUT, [place], [sealed, grant.uses, _ms(grant.window), _ms(ttl)])

    async def find_token(self, key: str) -> Grant | None:
        place = self._key("token", key)
        sealed = await self._command("HGET", place, "grant")
        with _understood():
            return Grant(**self._open(place, sealed)) if sealed else None

    async def use_token(
        self, key: str, client: str, account: Account | None = None, spellings: Sequence[Account] = ()
    ) -> Grant | None:
        if (grant := await self.find_token(key)) is None:
            return None
        kicked = [self._sealer.name("kicked", name) for name in voiding(grant, account, spellings)]
        places = [self._key("token", key), self._key("kicked")]
        return grant if await self._script(_USE, places, [self._sealer.name("client", client), *kicked]) else None

    async def attempt(self, name: str, rule: LockoutRule, spelling: str = "") -> float:
        arguments: list[str | int] = [rule.most, *map(_ms, (rule.window, rule.shortest, rule.longest))]
        arguments.append(self._sealer.name("spelling", spelling))
        answer = await self._script(_ATTEMPT, [self._named("lockout", name)], arguments)
        with _understood():
            return float(answer) / 1000

    async def release(self, name: str) -> None:
        await self._script(_RELEASE, [self._named("lockout", name)], [])

    async def locked(self, name: str) -> float:
        answer = await self._script(_LOCKED, [self._named("lockout", name)], [])
        with _understood():
            return float(answer) / 1000

    async def forgive(self, name: str, spelling: str = "") -> None:
        await self._script(_FORGIVE, [self._named("lockout", name)], [self._sealer.name("spelling", spelling)])

    async def announce(self, entries: Sequence[Entry], ttl: float) -> None:
        for start in range(0, len(entries), _BATCH):
            batch = {entry.id: json.dumps(dataclasses.asdict(entry)) for entry in entries[start : start + _BATCH]}
            await self._list("directory", batch, ttl)

    async def withdraw(self, ids: Collection[str]) -> None:
        if ids:
            await self._script(_WITHDRAW, self._lists("directory"), list(ids))

    async def entries(self) -> list[Entry]:
        listed = await self._listed("directory")
        with _understood():
            return [Entry(**json.loads(value)) for value in listed.values()]

    async def publish(self, node: str, figures: str, ttl: float) -> None:
        await self._list("figures", {node: figures}, ttl)

    async def figures(self) -> dict[str, str]:
        return await self._listed("figures")

    async def stick(self, account: Account, target: str, host: str, ttl: float) -> None:
        place = self._named("host", key_text(account), target)
        await self._command("SET", place, self._sealer.seal(place, host.encode()), "PX", _ms(ttl))

    async def host_of(self, account: Account, target: str) -> str | None:
        place = self._named("host", key_text(account), target)
        sealed = await self._command("GET", place)
        with _understood():
            return self._sealer.open(place, sealed).decode() if sealed else None

    async def kick(self, kick: Kick) -> None:
        places = [self._key("kicks"), self._key("kicked")]
        marks = [self._sealer.name("kicked", mark) for mark in marks_of(kick)] if kick.user else []
        await self._script(_KICK, places, [self._seal(places[0], kick), _ms(KICK_LIFE), _MOST_KICKS, *marks])

    async def kicks(self) -> AsyncIterator[Kick]:
        place, last = self._key("kicks"), ""
        while True:
            kicks: Any = ()
            try:
                seconds, micros = await self._command("TIME")  # this also finds that the store is back
                with self._outage.noticed(), _understood():
                    last = last or str(int(seconds) * 1000 + int(micros) // 1000 - 1)
                    async with asyncio.timeout(_BLOCK + self._deadline):
                        answer: Any = await self._watching.xread({place: last}, count=_BATCH, block=_ms(_BLOCK))
                    kicks = [(identity.decode(), fields) for identity, fields in (answer[0][1] if answer else ())]
            except StoreError:
                await asyncio.sleep(self._outage.pause or _FIRST_PAUSE)
            for last, fields in kicks:  # noqa: B007 - the next question goes on from there
                with _left_out():
                    yield Kick(**self._open(place, fields[b"kick"]))

    # --- the server ---

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def _named(self, kind: str, *names: str) -> str:
        return self._key(kind, self._sealer.name(kind, *names))

    def _lists(self, kind: str) -> list[str]:
        return [self._key(kind, "ends"), self._key(kind)]

    async def _list(self, kind: str, values: Mapping[str, str], ttl: float) -> None:
        """Put values into a list, by their ids, or keep them there."""
        arguments: list[str | bytes | float] = [_ms(ttl)]
        for each, value in values.items():
            arguments += each, self._sealer.seal(self._key(kind, each), value.encode())
        await self._script(_ANNOUNCE, self._lists(kind), arguments)

    async def _listed(self, kind: str) -> dict[str, str]:
        answer, found = await self._script(_ENTRIES, self._lists(kind), []), {}
        with _understood():
            pairs = [*zip(answer[::2], answer[1::2], strict=True)]
        for name, sealed in pairs:
            with _left_out():
                identity = name.decode()
                found[identity] = self._sealer.open(self._key(kind, identity), sealed).decode()
        return found

    def _seal(self, place: str, value: Grant | Kick) -> bytes:
        return self._sealer.seal(place, json.dumps(dataclasses.asdict(value)).encode())

    def _open(self, place: str, sealed: bytes) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self._sealer.open(place, sealed))
        return value

    async def _command(self, *words: str | bytes | float) -> Any:
        return await self._call(lambda: self._client.execute_command(*words))  # type: ignore[no-untyped-call]

    async def _script(self, text: str, keys: Sequence[str], arguments: Sequence[str | bytes | float]) -> Any:
        script = self._client.register_script(_NOW + text)
        return await self._call(lambda: script(keys=keys, args=arguments))

    async def _call(self, make: Callable[[], Awaitable[Any]]) -> Any:
        with self._outage.attempt(), _understood():
            async with asyncio.timeout(self._deadline):
                return await make()


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Turn what an answer raises that makes no sense, as somebody else may have written it, into a `SealError`."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise SealError(f"the store answers what nobody here has written: {type(error).__name__}") from error


@contextlib.contextmanager
def _left_out() -> Iterator[None]:
    """Leave out and log what cannot be opened, where the rest is still of use."""
    try:
        with _understood():
            yield
    except SealError as error:
        _logger.warning("left out: %s", error)


class _Outage:
    """Whether the server is away, and when it may be tried again.

    Args:
        url: Where it is, for the log.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._where = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
        self.pause = 0.0
        """Seconds between two tries; 0 while the server answers."""
        self._again = 0.0
        self._trying = False
        self._count = 0

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Run a call, unless the server is away and it is not yet this call's turn to try."""
        if not self.pause:
            with self.noticed():
                yield
            return
        if self._trying or asyncio.get_running_loop().time() < self._again:
            raise StoreError(f"the store at {self._where} is away")
        self._trying = True
        try:
            with self.noticed():
                yield
            self.pause = 0.0
            _logger.warning("the store at %s is back", self._where)
        finally:
            self._trying = False

    @contextlib.contextmanager
    def noticed(self) -> Iterator[None]:
        """Turn what goes wrong in a call into a `StoreError`, and note it if the server is away."""
        count = self._count
        try:
            yield
        except ResponseError as error:
            raise StoreError(f"the store at {self._where} refuses a command: {type(error).__name__}") from error
        except (RedisError, OSError, TimeoutError) as error:
            if count == self._count:  # else the call is one more of an outage that is known
                self._went(error)
            raise StoreError(f"the store at {self._where} is away: {_reason(error)}") from error

    def _went(self, error: Exception) -> None:
        if not self.pause:
            self._count += 1
            _logger.error("the store at %s is away: %s", self._where, _reason(error))
        self.pause = min(self.pause * 2 or _FIRST_PAUSE, _LONGEST_PAUSE)
        # Nodes that lost the server at the same moment do not come back at the same moment.
        self._again = asyncio.get_running_loop().time() + self.pause * random.uniform(0.5, 1.0)  # noqa: S311


def _reason(error: Exception) -> str:
    return str(error) or "no answer in time"

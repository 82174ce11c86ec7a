"""Relays through a gateway whose bytes are checked, for tests in which somebody else misbehaves meanwhile."""

import asyncio
import collections
import contextlib
import enum
import gc
import itertools
import os

from support.gateway import ALICE, BOB, LONG, Target, World, leave, settings_of, talk

LIMITS = """
[limits]
first_bytes = 1
logon = 5
handshakes_per_source = 500
failures = 100_000
failed_per_second = 100_000
"""
"""Who says nothing is cut soon. The limits of a source are out of the way, since all bad peers share it."""
AT_ONCE = 20
"""The items of `in_turns` that run at the same time."""
ROUTE = '[[listeners.routes]]\ntoken = "{0}"\ntarget = "{0}"\n'


class Relays:
    """Relays with traffic both ways, whose bytes are checked.

    Args:
        world: The gateway's world.
        count: How many.
        who: Whose.
    """

    def __init__(self, world, count, who=ALICE):
        self._world = world
        self._who = who
        self._count = count
        self._streams = []
        self._over = False
        self._tasks = []

    async def __aenter__(self):
        for _ in range(self._count):
            self._streams.append(await self._world.connect(self._who))
            await talk(self._streams[-1])
        self._tasks = [asyncio.create_task(self._traffic(*each)) for each in self._streams]
        return self

    async def _traffic(self, reader, writer):
        for number in itertools.count():
            word = number.to_bytes(8, "little") * (1 + number % 500)
            writer.write(word)
            assert await reader.readexactly(len(word)) == word
            if self._over:
                break
            await asyncio.sleep(0.01)

    async def check(self):
        """See that every relay still passes bytes, and that all of them were right."""
        self._over = True
        await asyncio.gather(*self._tasks)
        for streams in self._streams:
            streams[1].write(b"last")
            assert await streams[0].readexactly(4) == b"last"

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for streams in self._streams:
            await leave(streams)


@contextlib.asynccontextmanager
async def among_relays(folder, bad=(), *, count=50, who=ALICE, listener="", more="", limits=LIMITS):
    """Begin a gateway with relays, which are checked at the end of the block: (world, its honest target).

    Args:
        folder: Where its files are.
        bad: Addresses of bad targets by name; the name is the routing token that leads there.
        count: How many relays.
        who: Whose relays.
        listener: More settings of the listener.
        more: More settings of the bad targets.
        limits: The gateway's limits.
    """
    target, world, bad = await Target().start(), World(folder), dict(bad)
    try:
        routes = "".join(ROUTE.format(name) for name in bad) + '[[listeners.routes]]\ntarget = "desktops"\n'
        targets = {name: ([address], more) for name, address in bad.items()} | {"desktops": ([target.address], "")}
        await world.write(settings_of(targets, routes, listener, limits))
        await world.gateway.start()
        async with Relays(world, count, who) as relays:
            yield world, target
            await relays.check()
            streams = await world.connect(BOB)
            await talk(streams)
            await leave(streams)
    finally:
        await target.stop()
        await world.gateway.stop()


async def in_turns(make, items):
    """Run `make(item)` for all of them, `AT_ONCE` at a time; return their results.

    If all ran at once, a slow machine would spend the time-out of each handshake on the others.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(item):
        async with turn:
            return await make(item)

    return await asyncio.gather(*(one(item) for item in items))


async def until_freed(world, before):
    """Wait until a gateway holds no more than `before`; fail with what it still holds after a long time.

    A handshake is reported before its peer has been told, so a report is not yet the end of what was held.
    """
    deadline = asyncio.get_running_loop().time() + LONG
    while more := await kept(world) - before:
        assert asyncio.get_running_loop().time() < deadline, f"still held: {more}; {world.unended()}"
        await asyncio.sleep(0.01)


async def kept(world):
    """Count what a gateway and its process hold now: slots, connections, tasks, descriptors, objects of ours by type.

    The members of enumerations are left out: Python keeps each value of a flag that it has ever seen.
    """
    for _ in range(10):  # turns in which what has ended is forgotten
        await asyncio.sleep(0)
    gc.collect()
    ours = collections.Counter(
        type(each).__qualname__
        for each in gc.get_objects()
        if str(type(each).__module__).startswith("acredssp.") and not isinstance(each, enum.Enum)
    )
    ours.update({str(key): count for key, count in world.gateway._counts.items()})
    ours["connections"] = len(world.gateway.connections)
    ours["tasks"] = len(asyncio.all_tasks())
    ours["descriptors"] = len(await asyncio.to_thread(os.listdir, "/proc/self/fd"))
    return ours

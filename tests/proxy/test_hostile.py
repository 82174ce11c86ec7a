"""A gateway among bad clients and bad targets: what one of them does touches nobody else.

CVE-2026-23948: one client's negotiation took a whole proxy down.
"""

import asyncio
import contextlib
import itertools

import pytest
from support.bad_peers import CLIENTS, SERVERS
from support.endpoints import server_config
from support.gateway import ALICE, BOB, MCS, Target, World, leave, settings_of, talk
from support.mcs import SHADOW

import acredssp
from acredssp import Password, rdp
from acredssp.proxy import mcs

RELAYS = 50
LIMITS = "[limits]\nfirst_bytes = 1\nlogon = 1\n"
"""The times after which those who say nothing are cut."""
ROUTES = '[[listeners.routes]]\ntoken = "{0}"\ntarget = "{0}"\n'


class Relays:
    """Relays with traffic both ways, whose bytes are checked."""

    def __init__(self, world):
        self._world = world
        self._streams = []
        self._over = False
        self._tasks = []

    async def __aenter__(self):
        for _ in range(RELAYS):
            self._streams.append(await self._world.connect())
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


@pytest.fixture
def among(folder, monkeypatch):
    """Begins a gateway with relays: `async with among(bad targets by name) as (world, relays)`."""
    monkeypatch.setattr(mcs, "_TIMEOUT", 1)

    @contextlib.asynccontextmanager
    async def begin(bad=()):
        target, world = await Target().start(), World(folder)
        try:
            routes = "".join(ROUTES.format(name) for name in dict(bad)) + ROUTES.format("desktops").partition("\n")[0]
            routes += '\ntarget = "desktops"\n'
            targets = {name: ([address], "") for name, address in dict(bad).items()}
            await world.write(settings_of(targets | {"desktops": ([target.address], "")}, routes, rest=LIMITS))
            await world.gateway.start()
            async with Relays(world) as relays:
                yield world, relays
                await relays.check()
                streams = await world.connect(BOB)
                await talk(streams)
                await leave(streams)
        finally:
            await target.stop()
            await world.gateway.stop()

    return begin


# --- bad clients ---


async def misbehave(world, how):
    reader, writer = await asyncio.open_connection(*world.address)
    with contextlib.suppress(OSError, EOFError):
        await how(reader, writer)
    await leave((reader, writer))


async def logs_on_wrongly(world):
    with pytest.raises(acredssp.AuthenticationError):
        await world.connect(Password("wrong", "bob"))


async def behind_the_logon(world, words):
    """Log on, and say something in place of MCS."""
    streams = await world.connect()
    with contextlib.suppress(OSError, EOFError, acredssp.CredSSPError):
        streams[1].write(words)
        await streams[0].read(65_536)
    await leave(streams)


async def never_reads(world):
    """Log on, and send what comes back without reading any of it, for as long as it is taken."""
    streams = await world.connect()
    streams[1].write(MCS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                streams[1].write(bytes(2**20))
                await streams[1].drain()
    streams[1].transport.abort()


BEHIND = {
    "garbage": b"\xff" * 1000,
    "no such version": b"\x02\x00\x00\x08abcd",
    "shorter than its header": b"\x03\x00\x00\x02",
    "half a PDU": MCS[:100],
    "giant PDU": b"\x03\x00\xff\xff" + bytes(70_000),
    "MCS cut to fit": MCS[:2] + (50).to_bytes(2, "big") + MCS[4:50],
    "MCS with other lengths": MCS[:8] + bytes(len(MCS) - 8),
    "answer in place of the request": SHADOW,
}


@pytest.mark.requirement("defect.one-for-all")
async def test_bad_clients_harm_no_relay_and_no_logon(among):
    async with among() as (world, _):
        bad = [misbehave(world, how) for how in CLIENTS.values() for _ in range(3)]
        bad += [logs_on_wrongly(world) for _ in range(3)]
        bad += [behind_the_logon(world, words) for words in BEHIND.values()]
        bad += [never_reads(world) for _ in range(3)]
        outcomes = await asyncio.gather(*bad, return_exceptions=True)
        assert outcomes == [None] * len(bad)


# --- bad targets ---


async def bad_server(how, stack):
    """Listen, and treat everybody who connects so; return the address."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError, EOFError, acredssp.CredSSPError):  # the gateway may refuse us by an alert
            await how(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.callback(server.close)
    host, port = server.sockets[0].getsockname()
    return f"{host}:{port}"


async def logged_on_server(how, stack):
    """The same for those who have logged on."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError, EOFError, acredssp.CredSSPError):
            await how(reader, writer)
        writer.transport.abort()

    server = await acredssp.start_server(
        serve, "127.0.0.1", 0, config=server_config(lookup=lambda _: ALICE), carriage=acredssp.RDP(hybrid_ex=True)
    )
    stack.callback(server.abort_clients)
    stack.callback(server.close)
    host, port = server.sockets[0].getsockname()
    return f"{host}:{port}"


def answers(words):
    async def answer(reader, writer):
        await rdp.read_pdu(reader)
        writer.write(words)
        await reader.read(65_536)

    return answer


async def floods(reader, writer):
    await rdp.read_pdu(reader)
    writer.write(SHADOW)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                writer.write(bytes(2**20))
                await writer.drain()


async def takes_nothing(reader, writer):
    await rdp.read_pdu(reader)
    reader._transport.pause_reading()
    writer.write(SHADOW)
    await asyncio.sleep(1)


INSIDE = {f"answers {name}": answers(words) for name, words in (BEHIND | {"answer": SHADOW[:50]}).items()}
INSIDE |= {each.__name__: each for each in (floods, takes_nothing)}


async def use(world, name):
    """Come for a bad target, with some traffic."""
    with contextlib.suppress(OSError, EOFError, acredssp.CredSSPError, TimeoutError):
        reader, writer = await world.connect(routing_token=name)
        try:
            writer.write(MCS + bytes(2**20))
            async with asyncio.timeout(2):
                await reader.read(65_536)
                await reader.read()
        finally:
            writer.transport.abort()


@pytest.mark.requirement("defect.one-for-all")
async def test_bad_targets_harm_no_relay_and_no_logon(among):
    with contextlib.ExitStack() as stack:
        bad = {name.replace(" ", "-"): await bad_server(how, stack) for name, how in SERVERS.items()}
        bad |= {name.replace(" ", "-"): await logged_on_server(how, stack) for name, how in INSIDE.items()}
        async with among(bad) as (world, _):
            await asyncio.gather(*(use(world, name) for name in bad for _ in range(2)))
            await world.until_ended(2 * len(bad))
            assert {record.target for record in world.records} == bad.keys()
            assert not [record for record in world.records if record.target in SERVERS and record.outcome == "relayed"]

"""A gateway among bad clients and bad targets: what one of them does touches nobody else.

CVE-2026-23948: one client's negotiation took a whole proxy down.
"""

import asyncio
import contextlib

import pytest
from support.bad_peers import CLIENTS, SERVERS
from support.endpoints import server_config
from support.gateway import ALICE, MCS, leave
from support.mcs import SHADOW
from support.relays import LIMITS, among_relays

import acredssp
from acredssp import Password, rdp
from acredssp.proxy import connection


@pytest.fixture(autouse=True)
def short_mcs(monkeypatch):
    monkeypatch.setattr(connection, "_FIRST_PDUS", 1)


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
async def test_bad_clients_harm_no_relay_and_no_logon(folder):
    async with among_relays(folder) as (world, _):
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
async def test_bad_targets_harm_no_relay_and_no_logon(folder):
    with contextlib.ExitStack() as stack:
        bad = {name.replace(" ", "-"): await bad_server(how, stack) for name, how in SERVERS.items()}
        bad |= {name.replace(" ", "-"): await logged_on_server(how, stack) for name, how in INSIDE.items()}
        patient = LIMITS.replace("first_bytes = 1", "first_bytes = 60").replace("logon = 5", "logon = 10")
        async with among_relays(folder, bad, limits=patient) as (world, _):
            await asyncio.gather(*(use(world, name) for name in bad for _ in range(2)))
            await world.until_ended(2 * len(bad))
            strange = [record for record in world.records if record.target not in bad]
            assert not strange, strange
            assert {record.target for record in world.records} == bad.keys()
            assert not [
                record
                for record in world.records
                if record.target in SERVERS and record.outcome in {"relayed", "no_session"}
            ]

"""A gateway among peers whose conversations are changed in one byte, at every place in turn.

A change may only end a conversation. Afterwards the gateway holds what it held before, and has told of every ending.
The places are a sample: the first twenty bytes, which are the negotiation, and one byte of each stride behind them.
Each loop of the matrix begins its strides elsewhere, so that the whole run tries three times as many.
"""

import asyncio
import contextlib

import pytest
from support.gateway import ALICE, leave
from support.puppets import HOWS, Change, act, client_end, server_end
from support.relays import among_relays, in_turns, kept, until_freed

import acredssp
from acredssp import rdp
from acredssp.proxy import connection

LONGEST = {"say": 1500, "hear": 1800}
"""Bytes of a conversation in each direction, some more than there are."""
STRIDE = 97
RELAYS = 10
CAME_IN = {"relayed", "no_session"}
"""What the records have of those who logged on at the target."""


def changes(way, first):
    """The changes of one direction; some are behind its last byte."""
    places = [*range(20), *range(20 + first, LONGEST[way], STRIDE)]
    return [Change(place, how) for place in places for how in HOWS]


@pytest.fixture(autouse=True)
def short_mcs(monkeypatch):
    monkeypatch.setattr(connection, "_FIRST_PDUS", 1)


@pytest.fixture
async def first():
    """Where the strides begin, on each loop at another byte."""
    return {"DebugLoop": 32, "Loop": 64}.get(type(asyncio.get_running_loop()).__name__, 0)


async def log_on(world, who=ALICE, cookie="", **changes):
    """Log on by hand and leave; whether it went through."""
    reader, writer = await asyncio.open_connection(*world.address)
    try:
        with contextlib.suppress(OSError):
            return await act(client_end(who, cookie), reader, writer, **changes)
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def hold(world, tried):
    """What must be true of the records of so many connections."""
    assert len(world.records) + len(world.strangers) == tried
    assert {str(report.outcome) for report in world.strangers} <= {"no_data", "left"}
    assert all(record.outcome for record in world.records)
    assert all(record.reason for record in world.records if record.outcome not in CAME_IN | {"no_data"})
    assert {record.user for record in world.records if record.outcome in CAME_IN} <= {"CONTOSO\\alice"}


@pytest.mark.requirement("defect.one-for-all")
@pytest.mark.parametrize("way", ["say", "hear"])
async def test_any_byte_between_client_and_gateway_changed(folder, way, first):
    async with among_relays(folder, count=RELAYS, listener="handshake_timeout = 8\n") as (world, target):
        await log_on(world)
        await world.until_ended(1)
        target.requests.clear()
        world.records.clear()
        before, tried = await kept(world), changes(way, first)
        through = await in_turns(lambda change: log_on(world, **{way: change}), tried)
        await world.until_ended(len(tried))
        hold(world, len(tried))
        assert not [
            change for change, ok in zip(tried, through, strict=True) if ok and change.done and change.protected
        ]
        assert any(not change.done for change in tried), "the conversation is longer than was thought"
        assert sum(record.outcome in CAME_IN for record in world.records) >= sum(through)
        assert {logon[2] for logon in target.logons} <= {"wonderland"}
        target.requests.clear()
        world.records.clear()
        await until_freed(world, before)


@pytest.mark.requirement("defect.one-for-all")
@pytest.mark.parametrize("way", ["say", "hear"])
async def test_any_byte_between_gateway_and_target_changed(folder, way, first):
    tried = changes(way, first)

    async def serve(reader, writer):
        """Read which change this connection is for, from the correlation id, which the gateway passes on."""
        with contextlib.suppress(OSError, EOFError):
            asked = await rdp.read_negotiation(reader)
            number = int(rdp.ConnectionRequest.decode(asked).correlation_id[1:])
            change = {way: tried[number]} if number < len(tried) else {}
            await act(server_end(ALICE), reader, writer, asked, **change)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    more = "check = { enabled = false }\n"
    try:
        async with among_relays(folder, {"bad": f"{host}:{port}"}, count=RELAYS, more=more) as (world, _):

            async def come(number):
                with contextlib.suppress(OSError, acredssp.CredSSPError):
                    name = f"n{number:015}".encode()
                    await leave(await world.connect(routing_token="bad", correlation_id=name))
                    return True
                return False

            assert await come(len(tried))
            await world.until_ended(1)
            world.records.clear()
            before = await kept(world)
            through = await in_turns(come, range(len(tried)))
            await world.until_ended(len(tried))
            hold(world, len(tried))
            assert sum(through) == sum(record.outcome in CAME_IN for record in world.records)
            came = [change for change, ok in zip(tried, through, strict=True) if ok]
            assert not [change for change in came if change.done and change.protected]
            assert any(not change.done for change in tried), "the conversation is longer than was thought"
            assert {record.target for record in world.records} == {"bad"}
            world.records.clear()
            await until_freed(world, before)
    finally:
        server.close()

"""The limits of the gateway: who is refused or ended, what the record says, and that a place is given back."""

import asyncio
import contextlib

import pytest
from support.endpoints import until
from support.gateway import ALICE, BOB, MCS, leave, talk

import acredssp
from acredssp import NTSTATUS, rdp

LIMITS = "[limits]\n{}\n"


@pytest.mark.parametrize("limit", ["connections", "connections_per_source", "connections_per_user"])
@pytest.mark.parametrize("most", [1, 2])
async def test_a_connection_too_many_is_refused_and_its_place_comes_back(world, limit, most):
    async with world(rest=LIMITS.format(f"{limit} = {most}")) as (here, _target):
        held = [await here.connect() for _ in range(most)]
        with pytest.raises((acredssp.CredSSPError, OSError)):
            await here.connect()
        (record,) = await here.until_ended()
        assert record.limit == limit
        assert f"has {most} connections at once: raise limits.{limit} " in record.reason
        await talk(held[0])
        await leave(held.pop())
        await here.until_ended(2)
        streams = await here.connect()
        await talk(streams)
        for each in (*held, streams):
            await leave(each)


async def test_a_user_s_limit_is_nobody_else_s_and_the_user_is_told(world):
    async with world(rest=LIMITS.format("connections_per_user = 1")) as (here, _target):
        first = await here.connect()
        other = await here.connect(BOB)
        with pytest.raises(acredssp.CredSSPError) as refused:
            await here.connect()
        assert refused.value.nt_status is NTSTATUS.STATUS_LOGON_NOT_GRANTED
        await leave(first)
        await leave(other)


async def test_a_target_s_limit_holds_for_all_users(world):
    async with world(rest=LIMITS.format("connections_per_target = 1")) as (here, target):
        first = await here.connect()
        with pytest.raises(acredssp.CredSSPError):
            await here.connect(BOB)
        (record,) = await here.until_ended()
        assert (record.limit, record.target) == ("connections_per_target", "desktops")
        await leave(first)
    assert len(target.logons) <= 1


@pytest.mark.parametrize("sent", [b"", b"\x03\x00\x00"], ids=["silent", "a part"])
async def test_a_client_that_does_not_say_what_it_wants_is_ended(world, sent):
    async with world(rest=LIMITS.format("first_bytes = 0.05")) as (here, _target):
        reader, writer = await asyncio.open_connection(*here.address)
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        (record,) = await here.until_ended()
        writer.close()
        streams = await here.connect()  # whoever speaks is not cut at that moment
        await asyncio.sleep(0.06)
        await talk(streams)
        await leave(streams)
    assert record.limit == record.ended_by == "first_bytes"
    assert "no Connection Request came within 0.05 seconds" in record.reason


@pytest.mark.parametrize("limit", ["idle", "total"])
async def test_a_relay_that_goes_on_for_too_long_is_cut(world, limit):
    async with world(rest=LIMITS.format(f"{limit} = 0.2")) as (here, _target):
        streams = await here.connect()
        await talk(streams)
        with contextlib.suppress(OSError, acredssp.CredSSPError):
            while await streams[0].read(100):
                pass
        (record,) = await here.until_ended()
        await leave(streams)
    assert (record.outcome, record.ended_by, record.limit) == ("relayed", limit, limit)
    assert record.bytes_up > 5
    assert record.bytes_down > 5


async def test_a_target_that_is_slow_to_log_on_is_given_up(world):
    async with world(rest=LIMITS.format("logon = 0.1")) as (here, target):
        target.release = asyncio.Event()
        with pytest.raises(acredssp.CredSSPError):
            await here.connect()
        (record,) = await here.until_ended()
        target.release.set()
    assert record.outcome == "denied"
    assert "target desktops" in record.reason


async def test_wrong_passwords_make_a_source_wait(world):
    async with world(rest=LIMITS.format("failures = 2")) as (here, _target):
        for _ in range(2):
            with pytest.raises(acredssp.AuthenticationError):
                await here.connect(acredssp.Password("wrong", "alice", "CONTOSO"))
        with pytest.raises(acredssp.AuthenticationError):
            await here.connect(ALICE)
        streams = await here.connect(BOB)
        await leave(streams)
        told = [(record.outcome, record.limit) for record in await here.until_ended(4)]
    assert told == [("denied", ""), ("denied", ""), ("limited", "failures"), ("no_session", "")]


async def test_a_relay_that_is_cut_ends_at_once_though_its_target_takes_nothing(world, monkeypatch):
    """Neither waits for the other: `_CLOSE_TIMEOUT` is for peers that are to get what was sent to them."""
    monkeypatch.setattr("acredssp.aio.relaying._CLOSE_TIMEOUT", 36_000.0)
    async with world() as (here, target):
        target.listens = asyncio.Event()
        reader, writer = await here.connect()
        writer.write(MCS)
        await rdp.read_pdu(reader)
        (connection,) = here.gateway.connections
        towards_target = connection.front.leg.streams[1].transport

        def stuck():
            if writer.transport.get_write_buffer_size() < 2**20:
                writer.write(bytes(2**16))
            return towards_target.get_write_buffer_size() > 0

        await until(stuck)
        connection.cut("kicked")
        (record,) = await here.until_ended()
        target.listens.set()
        writer.transport.abort()
    assert (record.outcome, record.ended_by) == ("relayed", "kicked")


async def test_who_is_turned_away_by_the_library_is_told_of_once_a_second(world, caplog):
    caplog.set_level("INFO", "acredssp.proxy")
    async with world(rest=LIMITS.format("handshakes_per_source = 1")) as (here, _target):
        first = await asyncio.open_connection(*here.address)
        for _ in range(5):
            reader, writer = await asyncio.open_connection(*here.address)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        first[1].close()
        await here.until_ended()
    (told,) = [record.told for record in caplog.records if getattr(record, "told", {}).get("outcome") == "limited"]
    assert told["limit"] == "handshakes"
    assert "more than 1 handshakes at a time from 127.0.0.1" in told["reason"]


async def test_a_source_with_wrong_passwords_for_everybody_is_told_of(world, caplog):
    caplog.set_level("INFO", "acredssp.proxy")
    async with world(rest=LIMITS.format("failures = 1\nfailed_per_second = 1000")) as (here, _target):
        for number in range(10):
            with pytest.raises(acredssp.AuthenticationError):
                await here.connect(acredssp.Password("wrong", f"user{number}", "CONTOSO"))
        with pytest.raises((acredssp.CredSSPError, OSError)):
            await here.connect(BOB)
    (told,) = [record.told for record in caplog.records if getattr(record, "told", {}).get("outcome") == "limited"]
    assert (told["limit"], told["reason"]) == ("failures", "too many wrong passwords from 127.0.0.1")

"""Accounts that are locked out at all nodes after too many wrong passwords."""

import asyncio
import logging

import pytest
from support.gateway import ALICE, BOB, INJECTED, Away, World, leave, talk

import acredssp
from acredssp import NTSTATUS, Deny, Password
from acredssp.accounts import Users
from acredssp.stores import MemoryStore

LOCKOUT = "[limits.lockout]\nfailures = 3\nshortest = 600\nlongest = 9000\n{}\n"
LOCKED = "'account {}' is locked out for "
GUESS = Password("wrong", "alice", "CONTOSO")


@pytest.fixture
def counting(world):
    return lambda more="", target="", **options: world(target, rest=LOCKOUT.format(more), **options)


async def try_to_come(here, who):
    """(what the client is told, the record) of a logon; None where it lets the client in."""
    before = len(here.records)
    told = None
    try:
        streams = await here.connect(who)
    except acredssp.CredSSPError as error:
        told = error.nt_status
    else:
        await talk(streams)
        await leave(streams)
    await here.until_ended(before + 1)
    await until_counted(here)
    return told, here.records[before]


async def until_counted(here):
    """What is told to the store is told in tasks for which no connection waits."""
    while counting := here.gateway.node._tasks - {*here.gateway.node._talking}:
        await asyncio.wait(counting)


async def fail(here, *guesses):
    for guess in guesses:
        told, _ = await try_to_come(here, guess)
        assert told == NTSTATUS.STATUS_LOGON_FAILURE


async def test_an_account_is_locked_out_for_all_its_spellings_and_at_every_node(counting, folder, caplog):
    caplog.set_level(logging.WARNING, "acredssp.proxy")
    store = MemoryStore()
    async with counting(store=store) as (one, target), World(folder, store).running() as two:
        await fail(one, GUESS, Password("wrong", "Alice@contoso"))
        await fail(two, Password("wrong", "alice"))
        for here in (one, two):
            told, record = await try_to_come(here, ALICE)
            assert told == NTSTATUS.STATUS_LOGON_FAILURE  # no guesser is told more
            assert record.limit == "lockout"
            assert record.status == "STATUS_LOGON_FAILURE"
            assert record.reason.startswith(LOCKED.format("ALICE"))
        assert (await try_to_come(one, BOB))[0] is None
    assert target.logons[0][0] == "bob"
    assert [line.message for line in caplog.records if "is locked out for 600 " in line.message] == [
        "'account ALICE' is locked out for 600 seconds after too many wrong passwords"
    ]


async def test_a_name_that_nobody_has_is_locked_out_as_any_other(counting):
    nobody = Password("wrong", "nobody", "CONTOSO")
    async with counting() as (here, _target):
        await fail(here, nobody, nobody, nobody)
        _, record = await try_to_come(here, nobody)
    assert record.reason.startswith(LOCKED.format("NOBODY"))


async def test_a_right_password_clears_the_wrong_ones_of_its_spelling(counting):
    async with counting() as (here, _target):
        await fail(here, GUESS, GUESS)
        assert (await try_to_come(here, ALICE))[0] is None
        await fail(here, GUESS, GUESS)
        assert (await try_to_come(here, ALICE))[0] is None


async def test_what_the_target_refuses_is_no_wrong_password(counting):
    async with counting(target=INJECTED) as (here, target):
        target.answer = Deny(NTSTATUS.STATUS_LOGON_FAILURE)
        for _ in range(4):
            told, record = await try_to_come(here, ALICE)
            assert told == NTSTATUS.STATUS_LOGON_FAILURE
            assert record.limit == ""
        await fail(here, GUESS, GUESS)
        target.answer = True
        assert (await try_to_come(here, ALICE))[0] is None


async def test_a_source_is_locked_out_only_where_the_settings_say_so(counting):
    guesses = [Password("wrong", f"user{number}") for number in range(5)]
    async with counting() as (here, _target):
        await fail(here, *guesses)
        assert (await try_to_come(here, BOB))[0] is None
    async with counting("source_failures = 5") as (here, _target):
        await fail(here, *guesses)
        _, record = await try_to_come(here, BOB)
    assert record.reason.startswith("'source 127.0.0.1' is locked out for ")


@pytest.mark.parametrize("allow", ["false", "true"])
async def test_without_the_store_nobody_logs_on_by_password_unless_the_settings_say_so(counting, allow):
    async with counting(f"allow_without_store = {allow}", store=Away()) as (here, target):
        told, record = await try_to_come(here, ALICE)
    if allow == "true":
        assert told is None
    else:
        assert told == NTSTATUS.STATUS_NO_LOGON_SERVERS
        assert record.reason == "nobody knows whether the account is locked out: the store is away"
        assert target.requests == []


async def test_without_a_lockout_nothing_is_asked(world):
    async with world(store=Away()) as (here, _target):
        await fail(here, GUESS, GUESS, GUESS, GUESS)
        assert (await try_to_come(here, ALICE))[0] is None


class Together(MemoryStore):
    """A store that answers so many tries at once, before the first of them can fail."""

    def __init__(self, count):
        super().__init__()
        self._barrier = asyncio.Barrier(count)

    async def attempt(self, *args):
        answer = await super().attempt(*args)
        await self._barrier.wait()
        return answer


async def test_tries_at_the_same_time_get_no_more_guesses_at_all_nodes(counting, folder):
    store, told = Together(12), []

    async def guess(here):
        with pytest.raises(acredssp.CredSSPError) as error:
            await here.connect(GUESS)
        told.append(error.value.nt_status)

    async with counting(store=store) as (one, _), World(folder, store).running() as two:
        await asyncio.gather(*(guess(here) for here in (one, two) for _ in range(6)))
        records = [*await one.until_ended(6), *await two.until_ended(6)]
    assert told == [NTSTATUS.STATUS_LOGON_FAILURE] * 12
    assert sorted(record.limit == "lockout" for record in records) == [False] * 3 + [True] * 9


async def test_a_try_that_is_not_wrong_counts_for_nothing(counting, monkeypatch):
    monkeypatch.setattr(Users, "lookup", lambda *_: Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, ALICE))
    async with counting() as (here, _target):
        for _ in range(4):
            told, record = await try_to_come(here, ALICE)
            assert (told, record.limit) == (NTSTATUS.STATUS_ACCOUNT_DISABLED, "")

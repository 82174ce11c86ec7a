"""Attempts to log on, counted for all nodes. tests/proxy/test_lockout.py has the same in a gateway."""

import logging

import pytest

from acredssp.credentials import Account
from acredssp.stores import LockedOut, LockoutRule, LogonAttempt, MemoryStore

ALICE = Account("alice", "CONTOSO")
RULE = LockoutRule(most=2, shortest=100.0, longest=300.0)


async def begun(store, account=ALICE, *source):
    attempt = LogonAttempt(store, account, RULE, *source)
    await attempt.begin()
    return attempt


async def test_wrong_passwords_lock_an_account_by_all_its_names(caplog):
    store = MemoryStore()
    caplog.set_level(logging.WARNING, "acredssp.stores")
    for account in (ALICE, Account("ALICE@contoso.example")):
        await (await begun(store, account)).failed()
    assert [record.message for record in caplog.records] == [
        "'account ALICE' is locked out for 100 seconds after too many wrong passwords"
    ]
    with pytest.raises(LockedOut, match=r"^'account ALICE' is locked out for 100\.0 more seconds after") as error:
        await begun(store, Account("alice", "FABRIKAM"))
    assert 0.0 < error.value.seconds <= 100.0
    await begun(store, Account("bob"))


async def test_attempts_at_the_same_time_get_no_more_guesses():
    store = MemoryStore()
    first, second = await begun(store), await begun(store)
    with pytest.raises(LockedOut):
        await begun(store)
    await first.release()
    await begun(store)
    await second.failed()


@pytest.mark.parametrize("way", ["release", "succeeded"])
async def test_what_is_not_wrong_counts_for_nothing(way):
    store = MemoryStore()
    for _ in range(3):
        await getattr(await begun(store), way)()
    await (await begun(store)).failed()
    await begun(store)


async def test_a_right_password_forgets_the_wrong_ones_of_its_spelling_alone():
    store = MemoryStore()
    await (await begun(store)).failed()
    await (await begun(store)).succeeded()
    await (await begun(store)).failed()
    await (await begun(store, Account("alice"))).release()
    with pytest.raises(LockedOut):
        await (await begun(store, Account("alice"))).failed()
        await (await begun(store, Account("alice"))).succeeded()


async def test_a_failure_is_not_released_any_more():
    store = MemoryStore()
    for _ in range(2):
        attempt = await begun(store)
        await attempt.failed()
        await attempt.release()
    with pytest.raises(LockedOut):
        await begun(store)


async def test_a_source_is_locked_out_whatever_accounts_it_tries():
    store = MemoryStore()
    for user in ("alice", "bob"):
        await (await begun(store, Account(user), "10.0.0.1", RULE)).failed()
    with pytest.raises(LockedOut, match=r"source 10\.0\.0\.1"):
        await begun(store, Account("carol"), "10.0.0.1", RULE)
    await begun(store, Account("carol"), "10.0.0.2", RULE)
    await begun(store, Account("dave"), "10.0.0.1")


async def test_right_passwords_lock_out_no_source():
    store = MemoryStore()
    for user in ("alice", "bob", "carol"):
        await (await begun(store, Account(user), "10.0.0.1", RULE)).succeeded()
    await begun(store, Account("dave"), "10.0.0.1", RULE)

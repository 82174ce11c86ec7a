"""What every store does: the one in memory, and those in a real Redis and a real Valkey."""

import asyncio
import contextlib
import dataclasses
import itertools

import pytest
from support.endpoints import until
from support.stores import SERVERS, running

from acredssp.accounts import Domains
from acredssp.credentials import Account
from acredssp.stores import Entry, Grant, Kick, LockoutRule, MemoryStore, Sealer, entries_of, new_keys
from acredssp.stores.redis import RedisStore

ALICE, OTHER_ALICE, BOB = Account("alice", "CONTOSO"), Account("alice", "FABRIKAM"), Account("bob", "CONTOSO")
ONCE = Grant(user="CONTOSO\\alice", target="desktops")
LONG, SHORT = 600.0, 0.05
KEYS = new_keys()


@pytest.fixture(scope="module", params=["memory", *SERVERS])
def server(request, tmp_path_factory):
    """A real server; None for the store in memory."""
    if request.param == "memory":
        yield None
        return
    with running(tmp_path_factory.mktemp(request.param), request.param) as started:
        yield started


@pytest.fixture
async def nodes(server):
    """Two nodes that share a store; for the one in memory both are one."""
    if server is None:
        store = MemoryStore()
        yield store, store
        return
    one, two = (RedisStore(server.url, Sealer(KEYS), deadline=60, **server.logon) for _ in range(2))
    yield one, two
    await one.close()
    await two.close()


def entry(number, user="CONTOSO\\alice", node="one"):
    return Entry(id=f"id{number}", node=node, user=user, target="desktops", host="h:3389", client="c:1", since=1.5)


@pytest.fixture
def key(request):
    """A token's hash that no other test has."""
    return request.node.name


# --- tokens ---


async def test_a_token_is_good_on_every_node(nodes, key):
    one, two = nodes
    await one.put_token(key, ONCE, LONG)
    assert await two.find_token(key) == ONCE
    assert await two.use_token(key, "10.0.0.1", ALICE) == ONCE
    assert await one.use_token(key, "10.0.0.1", ALICE) is None


async def test_of_a_hundred_uses_at_once_of_a_one_time_token_one_wins(nodes, key):
    await nodes[0].put_token(key, ONCE, LONG)
    uses = (nodes[number % 2].use_token(key, f"10.0.0.{number}", ALICE) for number in range(100))
    assert sorted(map(bool, await asyncio.gather(*uses))) == [False] * 99 + [True]


async def test_a_token_is_used_as_often_as_it_says(nodes, key):
    await nodes[0].put_token(key, dataclasses.replace(ONCE, uses=3), LONG)
    uses = [nodes[number % 2].use_token(key, "10.0.0.1", ALICE) for number in range(100)]
    assert sum(map(bool, await asyncio.gather(*uses))) == 3


async def test_within_the_window_the_same_client_comes_again(nodes, key):
    one, two = nodes
    grant = dataclasses.replace(ONCE, window=LONG)
    await one.put_token(key, grant, LONG)
    assert await one.use_token(key, "10.0.0.1", ALICE) == grant
    assert await two.use_token(key, "10.0.0.2", ALICE) is None, "another client has no window"
    assert await two.use_token(key, "10.0.0.1", ALICE) == grant
    assert await one.use_token(key, "10.0.0.1", ALICE) == grant


async def test_each_use_opens_a_window_of_its_own(nodes, key):
    one, two = nodes
    grant = dataclasses.replace(ONCE, uses=2, window=LONG)
    await one.put_token(key, grant, LONG)
    for client, good in (("a", True), ("b", True), ("a", True), ("c", False), ("b", True)):
        assert bool(await two.use_token(key, client, ALICE)) == good


async def test_a_window_ends(nodes, key):
    one, _ = nodes
    await one.put_token(key, dataclasses.replace(ONCE, window=SHORT), LONG)
    assert await one.use_token(key, "10.0.0.1", ALICE)
    await until_async(lambda: one.use_token(key, "10.0.0.1", ALICE), None)


async def test_a_window_outlives_the_time_of_the_uses_that_count(nodes, key):
    one, two = nodes
    grant, others = dataclasses.replace(ONCE, uses=10**6, window=LONG), itertools.count()
    await one.put_token(key, grant, 1.0)
    if await one.use_token(key, "10.0.0.1", ALICE):  # else this machine took a second for it
        await until_async(lambda: one.use_token(key, str(next(others)), ALICE), None)
        assert await two.use_token(key, "10.0.0.1", ALICE) == grant


async def test_a_token_that_nobody_uses_vanishes(nodes, key):
    one, two = nodes
    await one.put_token(key, ONCE, SHORT)
    await until_async(lambda: two.find_token(key), None)
    assert await two.use_token(key, "10.0.0.1", ALICE) is None


async def test_there_is_no_unknown_token(nodes, key):
    assert await nodes[0].find_token(key) is None
    assert await nodes[0].use_token(key, "10.0.0.1", ALICE) is None


# --- kicks ---


@pytest.mark.parametrize(
    ("kicked", "of_user", "account", "good"),
    [
        ("contoso\\ALICE", "CONTOSO\\alice", ALICE, False),
        ("alice", "CONTOSO\\alice", ALICE, False),
        ("alice@contoso", "CONTOSO\\alice", ALICE, False),
        ("CONTOSO\\alice", "alice", ALICE, False),
        ("CONTOSO\\alice", "CONTOSO\\alice", None, False),
        ("alice", "CONTOSO\\alice", None, False),
        ("CONTOSO\\alice", "alice", None, False),
        ("CONTOSO\\alice", "OTHER\\alice", None, True),
        ("CONTOSO\\alice", "bob", None, True),
        ("CONTOSO\\alice", "alice", OTHER_ALICE, True),
        ("CONTOSO\\alice", "CONTOSO\\bob", BOB, True),
    ],
)
async def test_a_kick_makes_the_tokens_of_its_user_void(nodes, key, kicked, of_user, account, good):
    one, two = nodes
    await one.put_token(key, dataclasses.replace(ONCE, user=of_user), LONG)
    await one.kick(Kick(user=kicked))
    assert bool(await two.use_token(key, "10.0.0.1", account)) == good


async def test_a_kick_by_another_name_of_the_domain_makes_tokens_void(nodes, key):
    one, two = nodes
    await one.put_token(key, dataclasses.replace(ONCE, user="alice"), LONG)
    await one.kick(Kick(user="alice@contoso.example"))
    spelled = Account("alice", "CONTOSO.EXAMPLE")
    assert await two.use_token(key, "10.0.0.1", ALICE, [ALICE, Account("alice", "CONTOSO.TEST")])
    await one.put_token(f"{key} again", dataclasses.replace(ONCE, user="alice"), LONG)
    await one.kick(Kick(user="alice@contoso.example"))
    assert await two.use_token(f"{key} again", "10.0.0.1", ALICE, [ALICE, spelled]) is None


async def test_a_kick_ends_windows(nodes, key):
    one, two = nodes
    await one.put_token(key, dataclasses.replace(ONCE, window=LONG), LONG)
    assert await two.use_token(key, "10.0.0.1", ALICE)
    await one.kick(Kick(user="alice"))
    assert await two.use_token(key, "10.0.0.1", ALICE) is None


async def test_a_token_issued_after_a_kick_is_good(nodes, key):
    one, two = nodes
    await one.kick(Kick(user="alice"))
    await until_async(lambda: _fresh(two, key), True)


async def _fresh(store, key):
    """Whether a token issued now is good: within the very millisecond of a kick it is not."""
    await store.put_token(key, ONCE, LONG)
    return await store.use_token(key, "10.0.0.1", ALICE) is not None


async def test_every_node_hears_of_a_kick(nodes):
    heard = [asyncio.create_task(listen(node, 2)) for node in nodes]
    await until_listening(nodes)
    await nodes[1].kick(Kick(user="CONTOSO\\alice"))
    await nodes[1].kick(Kick(connection="id7"))
    for each in heard:
        assert await each == [Kick(user="CONTOSO\\alice"), Kick(connection="id7")]


async def listen(store, count):
    """The next kicks that a node hears of."""
    heard = []
    async with contextlib.aclosing(store.kicks()) as kicks:
        async for kick in kicks:
            heard.append(kick)
            if len(heard) == count:
                return heard
    raise AssertionError


async def until_listening(nodes):
    """Wait until both nodes wait for kicks."""
    if isinstance(nodes[0], MemoryStore):
        await until(lambda: len(nodes[0]._watchers) == 2)
        return
    while (await nodes[0]._client.info("clients"))["blocked_clients"] < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


# --- lockouts ---


RULE = LockoutRule(most=3, window=LONG, shortest=100.0, longest=300.0)
NEVER = LockoutRule(most=10**6)


@pytest.mark.parametrize(("before", "lock"), [(0, 0.0), (1, 0.0), (2, 100.0), (3, 200.0), (4, 300.0), (5, 300.0)])
async def test_failures_lock_on_every_node_and_each_further_one_doubles_the_time(nodes, key, before, lock):
    one = nodes[0]
    for number in range(before):
        assert await nodes[number % 2].attempt(f"{key} {before}", NEVER) == 0.0
    assert await one.attempt(f"{key} {before}", RULE) == 0.0
    for node in nodes:
        left = await node.locked(f"{key} {before}")
        assert lock - 60.0 < left <= lock
        assert (await node.attempt(f"{key} {before}", NEVER) > 0.0) == (lock > 0.0)


async def test_attempts_at_once_are_no_more_than_one_after_another(nodes, key):
    left = await asyncio.gather(*(nodes[number % 2].attempt(key, RULE) for number in range(20)))
    assert sorted(each > 0.0 for each in left) == [False] * 3 + [True] * 17


async def test_an_attempt_that_has_not_failed_is_released_with_its_lock(nodes, key):
    one, two = nodes
    for node in (one, two, one):
        assert await node.attempt(key, RULE) == 0.0
    assert await two.locked(key) > 0.0
    await two.release(key)
    assert await one.locked(key) == 0.0
    assert await one.attempt(key, RULE) == 0.0
    assert await one.attempt(key, RULE) > 0.0
    for _ in range(5):
        await one.release(key)
    assert [await two.attempt(key, RULE) > 0.0 for _ in range(4)] == [False, False, False, True]


async def test_who_is_forgiven_begins_anew(nodes, key):
    one, two = nodes
    for _ in range(3):
        await one.attempt(key, RULE)
    await two.forgive(key)
    assert await one.locked(key) == 0.0
    assert await one.attempt(key, RULE) == 0.0


async def test_only_failures_of_one_spelling_are_forgiven(nodes, key):
    one, two = nodes
    for spelling in ("CONTOSO\\ALICE", "ALICE", "ALICE"):
        await one.attempt(key, RULE, spelling)
    for spelling in ("CONTOSO\\ALICE", "ALICE", ""):
        await two.forgive(key, spelling)
        assert await one.locked(key) > 0
    for _ in range(3):
        await one.attempt(f"{key} alike", RULE, "ALICE")
    await two.forgive(f"{key} alike", "BOB")
    assert await one.locked(f"{key} alike") > 0
    await two.forgive(f"{key} alike", "ALICE")
    assert await one.locked(f"{key} alike") == 0.0


async def test_nobody_else_is_locked(nodes, key):
    for _ in range(3):
        await nodes[0].attempt(key, RULE)
    assert await nodes[1].locked(f"{key} of somebody else") == 0.0


async def test_a_lock_ends(nodes, key):
    one, two = nodes
    assert await one.attempt(key, LockoutRule(most=1, window=LONG, shortest=SHORT)) == 0.0
    await until_async(lambda: two.locked(key), 0.0)


async def test_failures_long_ago_are_forgotten(nodes, key):
    rule = LockoutRule(most=2, window=0.001, shortest=0.001)
    await nodes[0].attempt(key, rule)
    await until_async(lambda: forgotten(nodes[1], key, rule), True)


# --- the directory ---


async def test_every_node_sees_the_connections_of_all(nodes):
    one, two = nodes
    mine = [entry(number) for number in range(450)]
    await one.announce(mine, LONG)
    await two.announce([entry(900, node="two")], LONG)
    assert sorted(await one.entries(), key=repr) == sorted([*mine, entry(900, node="two")], key=repr)
    await one.withdraw([each.id for each in mine])
    await one.withdraw([])
    assert await two.entries() == [entry(900, node="two")]
    await two.withdraw(["id900", "never there"])
    assert await one.entries() == []


async def test_the_connections_of_a_dead_node_vanish(nodes):
    one, two = nodes
    await one.announce([entry(1)], SHORT)
    await two.announce([entry(2)], LONG)
    await until_async(two.entries, [entry(2)])
    await two.withdraw(["id2"])


async def test_what_is_announced_again_stays(nodes):
    one, two = nodes
    await one.announce([entry(1), entry(2)], SHORT)
    await one.announce([entry(1)], LONG)
    await until_async(two.entries, [entry(1)])
    await two.withdraw(["id1"])


async def test_every_node_sees_the_last_figures_of_all(nodes):
    one, two = nodes
    await one.publish("fig one", "old 1\n", LONG)
    await one.publish("fig one", "new 1\n", LONG)
    await two.publish("fig two", "", LONG)
    wanted = {"fig one": "new 1\n", "fig two": ""}
    assert {**await one.figures(), **wanted} == await one.figures() == await two.figures()


async def test_the_figures_of_a_dead_node_vanish(nodes):
    await nodes[0].publish("dead", "x 1\n", SHORT)
    await nodes[1].publish("alive", "x 1\n", LONG)

    async def those_two():
        return (await nodes[1].figures()).keys() & {"dead", "alive"}

    await until_async(those_two, {"alive"})


async def test_a_reconnect_finds_its_host_from_every_node(nodes, key):
    one, two = nodes
    await one.stick(ALICE, key, "10.0.0.7:3389", LONG)
    assert await two.host_of(Account("ALICE", "contoso"), key) == "10.0.0.7:3389"
    assert await two.host_of(OTHER_ALICE, key) is None
    assert await two.host_of(ALICE, f"{key}2") is None
    await two.stick(ALICE, key, "10.0.0.8:3389", LONG)
    assert await one.host_of(ALICE, key) == "10.0.0.8:3389"


async def test_a_host_is_forgotten_after_its_time(nodes, key):
    await nodes[0].stick(ALICE, key, "10.0.0.7:3389", SHORT)
    await until_async(lambda: nodes[1].host_of(ALICE, key), None)


async def test_a_store_that_is_there_answers(nodes):
    await nodes[0].ping()


async def forgotten(node, key, rule):
    """Whether an attempt is the first one of all: it does not lock."""
    return await node.attempt(key, rule) == 0.0 and await node.locked(key) == 0.0


async def until_async(ask, answer):
    """Wait until `ask()` gives the answer, by the store's own clock."""
    while (got := await ask()) != answer:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert got == answer


@pytest.mark.parametrize(
    ("user", "found"),
    [("alice", [1, 2, 4]), ("CONTOSO\\alice", [1, 4]), ("alice@contoso.example", [1, 4]), ("alice@contoso", [1, 4]),
     ("alice@other.example", []), ("bob@contoso.example", [3]), ("carol", [])],
)  # fmt: skip
def test_the_connections_of_a_user_are_found_by_every_name(user, found):
    users = ["CONTOSO\\alice", "FABRIKAM\\alice", "CONTOSO\\bob", "alice@contoso.example"]
    entries = [entry(number, each) for number, each in enumerate(users, 1)]
    known = [Domains(), Domains({"contoso.example": "CONTOSO"})]
    assert entries_of(entries, user, known) == [entries[number - 1] for number in found]
    assert entries_of(entries, "alice@contoso.example") == [entries[3]]

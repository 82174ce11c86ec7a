"""The store in a real Redis and a real Valkey: what lies there, and what happens when it goes and comes back."""

import asyncio
import contextlib
import logging

import pytest
from support.stores import PASSWORD, SERVERS, running

from acredssp.credentials import Account
from acredssp.stores import Entry, Grant, Kick, LockoutRule, Sealer, SealError, StoreError, new_keys
from acredssp.stores.redis import RedisStore

ALICE = Account("alice", "CONTOSO")
GRANT = Grant(user="CONTOSO\\alice", target="desktops", uses=5, window=60, account="svc", password="c4nary")
ENTRY = Entry(
    id="7",
    node="node-one",
    user="CONTOSO\\alice",
    target="desktops",
    host="desktop-nine:3389",
    client="client-five:1",
    since=1.5,
)
KEYS = new_keys()


@pytest.fixture(params=SERVERS)
def server(request, tmp_path):
    with running(tmp_path, request.param) as started:
        yield started


@pytest.fixture
async def new_store(server):
    """`new_store(**options)`: a store, closed at the end."""
    made = []

    def make(keys=KEYS, **options):
        made.append(RedisStore(server.url, Sealer(keys), **{"deadline": 60, **server.logon, **options}))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def lines(caplog):
    """The lines of the store's log."""
    caplog.set_level(logging.DEBUG, "acredssp.stores.store")
    return lambda: [each.message for each in caplog.records if each.name == "acredssp.stores.store"]


async def fill(store):
    await store.put_token("hash of a token", GRANT, 600)
    await store.use_token("hash of a token", "client-five", ALICE)
    await store.attempt("CONTOSO\\alice", LockoutRule())
    await store.announce([ENTRY], 600)
    await store.stick(ALICE, "desktops", "desktop-nine:3389", 600)
    await store.kick(Kick(user="robert"))


async def everything(store):
    """{key: all that it holds}."""
    read = {b"hash": "HGETALL", b"string": "GET", b"stream": "XRANGE", b"zset": "ZRANGE"}
    kept = {}
    for key in await store._command("KEYS", "*"):
        kind = await store._command("TYPE", key)
        bounds = {b"stream": ("-", "+"), b"zset": (0, -1)}.get(kind, ())
        kept[key] = await store._command(read[kind], key, *bounds)
    return kept


# --- what lies there ---


async def test_nothing_lies_there_in_plain_and_every_key_has_an_end(new_store):
    store = new_store()
    await fill(store)
    kept = await everything(store)
    assert len(kept) == 7  # a token, a lockout, the directory and its ends, a host, the kicks, the kicked
    for word in ("alice", "contoso", "desktops", "desktop-nine", "client-five", "node-one", "robert", "svc", "c4nary"):
        assert word not in repr(kept).lower()
    for key in kept:
        assert key.startswith(b"{lab}:")
        assert 0 < await store._command("PTTL", key) <= 86_400_000


async def test_other_keys_open_nothing_and_the_text_says_which_key_would(new_store, lines):
    names, key = KEYS.split()
    value = key.partition(":")[2]
    await fill(new_store(f"{names}\n2026-11:{value}"))
    other = new_store(f"{names}\n2027-01:{value}")
    with pytest.raises(
        SealError,
        match=r"sealed by the key 2026-11, and the keys here are 2027-01: give all nodes the same file of keys",
    ):
        await other.find_token("hash of a token")
    with pytest.raises(StoreError):
        await other.use_token("hash of a token", "client-five", ALICE)
    with pytest.raises(StoreError):
        await other.host_of(ALICE, "desktops")
    assert await other.entries() == []
    assert len(lines()) == 1
    assert "left out" in lines()[0]


async def test_a_rotated_key_still_opens(new_store):
    names, old = KEYS.split()
    new = new_keys().split()[1]
    await fill(new_store(f"{names}\n{old}\n{new}"))
    rotated = new_store(f"{names}\n{new}\n{old}")
    assert await rotated.find_token("hash of a token") == GRANT
    assert await rotated.host_of(ALICE, "desktops") == "desktop-nine:3389"
    assert await rotated.entries() == [ENTRY]


async def test_the_store_cannot_give_out_a_value_in_the_place_of_another(new_store):
    store = new_store()
    await fill(store)
    await store._script("redis.call('COPY', KEYS[1], KEYS[2])", [f"{{lab}}:token:{it}" for it in (
        "hash of a token", "another")], [])  # fmt: skip
    with pytest.raises(SealError, match="changed or moved"):
        await store.use_token("another", "client-five", ALICE)


# --- when it goes ---


async def aside(function):
    await asyncio.to_thread(function)


async def back(store):
    """Wait until the store answers again."""
    while True:
        try:
            return await store.ping()
        except StoreError:
            await asyncio.sleep(0.01)


async def test_a_store_that_is_killed_fails_every_call_and_comes_back(server, new_store, lines):
    store = new_store()
    await fill(store)
    await aside(server.kill)
    calls = [
        store.ping(), store.find_token("hash of a token"), store.use_token("hash of a token", "client-five", ALICE),
        store.put_token("other", GRANT, 60), store.attempt("bob", LockoutRule()), store.locked("bob"),
        store.forgive("bob"), store.announce([ENTRY], 60), store.withdraw(["7"]), store.entries(),
        store.stick(ALICE, "desktops", "host", 60), store.host_of(ALICE, "desktops"), store.kick(Kick(user="robert")),
    ]  # fmt: skip
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in failed] == [StoreError] * len(calls)
    await aside(server.start)
    await back(store)
    assert await store.find_token("hash of a token") is None
    await fill(store)
    assert await store.entries() == [ENTRY]
    assert [line.split(":")[0] for line in lines()] == ["the store at 127.0.0.1", "the store at 127.0.0.1"]
    assert "is away" in lines()[0]
    assert "is back" in lines()[1]


async def test_a_store_that_stalls_costs_one_deadline_and_then_nothing(server, new_store, lines):
    store = new_store(deadline=0.3)
    await back(store)
    await aside(server.freeze)
    loop = asyncio.get_running_loop()
    with pytest.raises(StoreError, match="no answer in time"):
        await store.ping()
    store._outage._again = loop.time() + 3600  # no further try within this test's time
    begun = loop.time()
    for _ in range(1000):
        with pytest.raises(StoreError, match="is away"):
            await store.locked("bob")
    assert loop.time() - begun < 0.3 * 1000 / 2, "a thousand deadlines would be far more"
    assert len(lines()) == 1
    await aside(server.thaw)
    store._outage._again = 0.0
    await back(store)
    assert len(lines()) == 2


async def test_one_call_at_a_time_tries_a_store_that_is_away(server, new_store):
    store = new_store(deadline=60)
    await store.ping()
    await aside(server.freeze)
    store._outage.pause, store._outage._again = 1.0, 0.0
    first = asyncio.create_task(store.ping())
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="is away"):
        await store.ping()
    await aside(server.thaw)
    await first
    await store.ping()


async def test_pauses_grow_and_are_bounded(server, new_store):
    store = new_store()
    await aside(server.kill)
    pauses = []
    for _ in range(9):
        store._outage._again = 0.0
        with pytest.raises(StoreError):
            await store.ping()
        pauses.append(store._outage.pause)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


async def test_an_answer_reaches_the_call_that_asked_even_after_others_were_cancelled(server, new_store):
    store = new_store(connections=1)
    for number in range(3):
        await store.stick(Account(f"user{number}"), "t", f"host{number}", 600)
    for number in range(3):
        await aside(server.freeze)
        lost = asyncio.create_task(store.host_of(Account(f"user{number}"), "t"))
        for _ in range(50):
            await asyncio.sleep(0)
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        await aside(server.thaw)
        assert await store.host_of(Account(f"user{(number + 1) % 3}"), "t") == f"host{(number + 1) % 3}"


async def test_kicks_are_heard_again_after_a_restart(server, new_store):
    store = new_store()
    heard = []

    async def listen():
        async with contextlib.aclosing(store.kicks()) as kicks:
            heard.append(await anext(kicks))

    listener = asyncio.create_task(listen())
    try:
        await until_blocked(store)
        await aside(server.kill)
        await aside(server.start)
        await back(store)
        await until_blocked(store)
        await store.kick(Kick(user="alice"))
        await listener
        assert heard == [Kick(user="alice")]
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def until_blocked(store):
    """Wait until somebody waits for kicks."""
    while not (await store._client.info("clients"))["blocked_clients"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_more_calls_than_connections_wait_for_one(new_store):
    store = new_store(connections=2)
    locks = await asyncio.gather(*(store.attempt("bob", LockoutRule(most=10**6)) for _ in range(500)))
    assert locks == [0.0] * 500
    assert (await store._client.info("clients"))["connected_clients"] <= 2


async def test_a_wrong_password_is_an_outage_whose_reason_holds_no_secret(new_store, lines):
    store = new_store(password="wrong-secret")
    with pytest.raises(StoreError, match="username-password") as error:
        await store.ping()
    assert "wrong-secret" not in f"{error.value!r} {lines()}"
    assert PASSWORD not in f"{error.value!r} {lines()}"


async def test_a_command_that_is_refused_is_no_outage(new_store, lines):
    store = new_store()
    with pytest.raises(StoreError, match="refuses a command: NoPermissionError"):
        await store._command("CONFIG", "GET", "port")
    await store.ping()
    assert lines() == []


# --- what others have written there ---


async def test_kicks_are_heard_behind_one_that_nobody_here_has_written(new_store):
    store = new_store()
    heard = store.kicks()
    first = asyncio.ensure_future(anext(heard))
    while not first.done():
        await store.kick(Kick(user="first"))
        await asyncio.wait([first], timeout=0.01)
    await store._command("XADD", "{lab}:kicks", "*", "foreign", "field")
    await store.kick(Kick(user="second"))
    async with asyncio.timeout(30):
        while (await anext(heard)).user != "second":
            pass
    await heard.aclose()


async def test_who_listens_for_kicks_where_something_else_lies_asks_at_a_measured_pace(new_store):
    store = new_store()
    await store._command("SET", "{lab}:kicks", "no stream", "EX", 60)
    asked, command = [], store._command
    store._command = lambda *words: (asked.append(words), command(*words))[1]
    pauses, before = [], asyncio.sleep

    async def sleep(seconds, *more):
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError
        await before(0, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await anext(store.kicks())
    assert min(pauses) > 0


async def test_a_connection_of_somebody_else_hides_no_other(new_store, lines):
    store = new_store()
    await store.announce([ENTRY], 600)
    await store._command("HSET", "{lab}:directory", b"\xff", "anything")
    assert await store.entries() == [ENTRY]
    assert "left out" in lines()[0]


@pytest.mark.parametrize(
    "answer", [b":abc\r\n", b"+OK\r\n", b"*-1\r\n", b"$-1\r\n", b"*2\r\n:1\r\n:2\r\n", b"*1\r\n$1\r\nx\r\n", b"?\r\n"]
)
async def test_a_server_that_answers_nonsense_raises_no_other_error(answer):
    async def serve(reader, writer):
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        store = RedisStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", Sealer(KEYS))
        for call in (
            lambda: store.find_token("token"),
            lambda: store.use_token("token", "client", ALICE),
            lambda: store.attempt("name", LockoutRule()),
            lambda: store.locked("name"),
            store.entries,
            store.figures,
            lambda: store.host_of(ALICE, "desktops"),
        ):
            with contextlib.suppress(StoreError):
                await call()
        listening = asyncio.ensure_future(anext(store.kicks()))
        assert not (await asyncio.wait([listening], timeout=0.3))[0]
        listening.cancel()
        await store.close()

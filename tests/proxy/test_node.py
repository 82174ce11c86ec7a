"""What a gateway shares with other nodes, through a real Redis and a real Valkey."""

import asyncio
import contextlib
import logging
import time

import pytest
from support.gateway import BOB, Target, World, leave, settings_of, talk
from support.stores import PASSWORD, PREFIX, SERVERS, running

import acredssp
from acredssp.proxy.settings import SettingsError
from acredssp.proxy.tokens import TokenOrder
from acredssp.stores import Kick, MemoryStore, StoreError, TokenRefused, find_token, new_keys
from acredssp.stores.redis import RedisStore

PASSED_ON = '[[listeners.routes]]\ntoken = "tsv://pass"\ntarget = "desktops"\nmode = "passthrough"\n'
ROUTES = '[[listeners.routes]]\ntoken = true\n[[listeners.routes]]\ntarget = "desktops"\n'


@pytest.fixture(params=SERVERS)
def server(request, tmp_path):
    with running(tmp_path, request.param) as started:
        yield started


def stored(server):
    """The settings of a store."""
    return (
        f'\n[store]\nurl = "{server.url}"\nkeys = "file:keys"\nusername = "gateway"\n'
        f'password = "file:store.password"\nprefix = "{PREFIX}"\ntimeout = 60.0\n'
    )


@pytest.fixture
def nodes(world, folder, server):
    """Two gateways of one settings file and one store: `async with nodes() as (one, two, target)`."""
    (folder / "keys").write_text(new_keys())
    (folder / "store.password").write_text(PASSWORD)

    @contextlib.asynccontextmanager
    async def begin(more="", routes=ROUTES, rest=""):
        rest += stored(server)
        async with world(more, routes=routes, rest=rest) as (one, target), World(folder).running() as two:
            yield one, two, target

    return begin


async def test_a_token_of_one_node_is_good_once_on_another(nodes):
    async with nodes() as (one, two, target):
        token = await TokenOrder(user="alice", target="desktops", window=0.0).issue(one.gateway.node.store)
        streams = await two.connect(routing_token=token)
        await talk(streams)
        await leave(streams)
        with pytest.raises(TokenRefused):
            await find_token(one.gateway.node.store, token)
    assert len(target.logons) == 1


async def test_users_come_in_while_the_store_is_away_and_a_line_says_when_it_goes_and_comes(nodes, server, caplog):
    caplog.set_level(logging.WARNING, "acredssp.stores.store")
    async with nodes() as (one, two, _target):
        await one.gateway.node.store.ping()
        await asyncio.to_thread(server.kill)
        with pytest.raises(acredssp.NegotiationFailure):
            await one.connect(routing_token="acredssp=" + "A" * 32)
        streams = await one.connect()
        await talk(streams)
        await leave(streams)
        await asyncio.to_thread(server.start)
        for here in (one, two):
            await once_back(here.gateway.node.store.ping)
    lines = [record.message.partition(": ")[0] for record in caplog.records]
    assert lines == [f"the store at 127.0.0.1:{server.port} is {state}" for state in ("away", "away", "back", "back")]


async def once_back(ask, *arguments):
    """Ask a store that was away until it answers."""
    while True:
        with contextlib.suppress(StoreError):
            return await ask(*arguments)
        await asyncio.sleep(0.01)


async def until_listed(store, *listed):
    """Wait until the directory has these connections: [(node, user, client), ...]."""
    while True:
        found = await store.entries()
        if sorted((each.node, each.user) for each in found) == sorted(listed):
            return {each.user: each for each in found}
        await asyncio.sleep(0.01)


async def test_every_node_knows_who_is_on_which_node_and_host_until_they_have_left(nodes, folder):
    async with nodes(rest='[run]\nnode = "one"\n') as (one, two, target):
        text = await asyncio.to_thread((folder / "settings.toml").read_text)
        await two.write(text.replace('node = "one"', 'node = "two"'))
        await two.gateway.reload()
        streams = [await one.connect(), await two.connect(BOB)]
        listed = await until_listed(one.gateway.node.store, ("one", "CONTOSO\\alice"), ("two", "bob"))
        entry = listed["bob"]
        assert (entry.target, entry.host) == ("desktops", target.address)
        assert entry.client == "127.0.0.1:{}".format(streams[1][1].get_extra_info("sockname")[1])
        assert abs(entry.since - time.time()) < 600
        assert entry.id in {connection.id for connection in two.gateway.connections}
        await leave(streams.pop())
        await until_listed(one.gateway.node.store, ("one", "CONTOSO\\alice"))
        await leave(streams.pop())
        await until_listed(one.gateway.node.store)


async def test_a_store_that_comes_back_empty_is_told_again_who_is_there(nodes, server, monkeypatch):
    monkeypatch.setattr("acredssp.stores.node._INTERVAL", 0.05)
    async with nodes() as (one, _two, _target):
        streams = await one.connect()
        name = one.gateway.node.name
        await until_listed(one.gateway.node.store, (name, "CONTOSO\\alice"))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await once_back(until_listed, one.gateway.node.store, (name, "CONTOSO\\alice"))
        await leave(streams)
        await one.until_ended()


async def test_a_node_that_ends_takes_its_connections_out_of_the_directory(nodes):
    async with nodes(rest="[run]\ngrace = 0.01\n") as (one, two, _target):
        streams = await two.connect(BOB)
        await until_listed(one.gateway.node.store, (two.gateway.node.name, "bob"))
        assert await two.gateway.stop() == 1
        assert await one.gateway.node.store.entries() == []
        await leave(streams)
        await two.gateway.start()


async def test_a_user_who_comes_again_by_another_node_finds_the_same_host(nodes, folder):
    other = await Target().start()
    try:
        async with nodes() as (one, two, target):
            text = await asyncio.to_thread((folder / "settings.toml").read_text)
            await one.write(text.replace(f'"{target.address}"', f'"{target.address}", "{other.address}"'))
            for here in (one, two):
                await here.gateway.reload()
            for here in (one, two, one, two):
                await leave(await here.connect())
                await leave(await here.connect(BOB))
            records = [*await one.until_ended(4), *await two.until_ended(4)]
    finally:
        await other.stop()
    for user in ("CONTOSO\\alice", "bob"):
        assert len({record.host for record in records if record.user == user}) == 1


async def test_a_kick_ends_the_connections_of_its_user_on_every_node_and_no_other(nodes):
    async with nodes(routes=PASSED_ON + ROUTES) as (one, two, _target):
        kicked = [
            await one.connect(),
            await two.connect(),
            await two.connect(routing_token="tsv://pass"),
        ]
        await talk(kicked[0])
        stays = await two.connect(BOB)
        await one.gateway.node.store.kick(Kick(user="Alice"))
        for reader, _ in kicked[:2]:
            with contextlib.suppress(OSError, acredssp.CredSSPError):
                while await reader.read(65536):
                    pass
        await one.until_ended(1)
        await two.until_ended(1)
        await talk(stays)
        for each in (*kicked, stays):
            await leave(each)
        records = [*await one.until_ended(1), *await two.until_ended(3)]
    ended = sorted((record.ended_by, record.user) for record in records)
    assert ended == [("client", ""), ("client", "bob"), ("kicked", "CONTOSO\\alice"), ("kicked", "CONTOSO\\alice")]


async def test_one_connection_is_kicked_by_its_id_also_an_undecrypted_one(nodes):
    async with nodes(routes=PASSED_ON + ROUTES) as (one, two, _target):
        passed_on, other = await two.connect(routing_token="tsv://pass"), await two.connect(BOB)
        (identity,) = {each.id for each in two.gateway.connections if each.front.account is None}
        await one.gateway.node.store.kick(Kick(connection=identity))
        (record,) = await two.until_ended()
        assert (record.outcome, record.ended_by, record.connection_id) == ("passed_on", "kicked", identity)
        await talk(other)
        for each in (passed_on, other):
            await leave(each)
        await two.until_ended(2)


async def test_a_kick_reaches_nodes_whose_store_was_away_and_came_back(nodes, server):
    async with nodes() as (one, two, _target):
        streams = await two.connect()
        await one.gateway.node.store.ping()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await once_back(one.gateway.node.store.kick, Kick(user="CONTOSO\\alice"))
        (record,) = await two.until_ended()
        assert record.ended_by == "kicked"
        await leave(streams)


async def test_a_reload_takes_new_keys_and_goes_on_without_the_store_that_is_no_more(nodes, folder, server):
    async with nodes() as (one, _two, target):
        before = one.gateway.node.store
        keys = await asyncio.to_thread((folder / "keys").read_text)
        added = new_keys().splitlines()[1]
        await one.write(f"{keys}{added}\n", "keys")
        await one.gateway.reload()
        after = one.gateway.node.store
        assert isinstance(after, RedisStore)
        assert after is not before
        assert [*after._sealer._keys] == [each.partition(":")[0] for each in (keys.split()[1], added)]
        await one.write("c4nary", "keys")
        with pytest.raises(SettingsError) as raised:
            await one.gateway.reload()
        assert raised.value.problems[0].startswith("store.keys: ")
        assert "c4nary" not in str(raised.value)
        assert one.gateway.node.store is after
        await one.write(settings_of({"desktops": ([target.address], "")}))
        await one.gateway.reload()
        assert isinstance(one.gateway.node.store, MemoryStore)

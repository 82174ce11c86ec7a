"""What a gateway shares with other nodes, through a real Redis and a real Valkey."""

import asyncio
import contextlib
import logging

import pytest
from support.gateway import World, leave, settings_of, talk
from support.stores import PASSWORD, PREFIX, SERVERS, running

import acredssp
from acredssp.proxy import tokens
from acredssp.proxy.memory_store import MemoryStore
from acredssp.proxy.redis_store import RedisStore
from acredssp.proxy.sealing import new_keys
from acredssp.proxy.settings import SettingsError
from acredssp.proxy.store import StoreError
from acredssp.proxy.tokens import TokenOrder

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
        token = await tokens.issue(one.gateway.node.store, TokenOrder(user="alice", target="desktops", window=0.0))
        streams = await two.connect(routing_token=token)
        await talk(streams)
        await leave(streams)
        assert await tokens.find(one.gateway.node.store, token) is None
    assert len(target.logons) == 1


async def test_users_come_in_while_the_store_is_away_and_a_line_says_when_it_goes_and_comes(nodes, server, caplog):
    caplog.set_level(logging.WARNING, "acredssp.proxy.store")
    async with nodes() as (one, _two, _target):
        await one.gateway.node.store.ping()
        await asyncio.to_thread(server.kill)
        with pytest.raises(acredssp.NegotiationFailure):
            await one.connect(routing_token="acredssp=" + "A" * 32)
        streams = await one.connect()
        await talk(streams)
        await leave(streams)
        await asyncio.to_thread(server.start)
        while True:
            with contextlib.suppress(StoreError):
                await one.gateway.node.store.ping()
                break
            await asyncio.sleep(0.01)
    lines = [record.message.partition(": ")[0] for record in caplog.records]
    assert lines == [f"the store at 127.0.0.1:{server.port} is {state}" for state in ("away", "back")]


async def test_a_reload_takes_new_keys_and_goes_on_without_the_store_that_is_no_more(nodes, folder, server):
    async with nodes() as (one, _two, target):
        before = one.gateway.node.store
        keys = await asyncio.to_thread((folder / "keys").read_text)
        await one.write(keys + new_keys().splitlines()[1].replace("1:", "2:") + "\n", "keys")
        await one.gateway.reload()
        after = one.gateway.node.store
        assert isinstance(after, RedisStore)
        assert after is not before
        assert [*after._sealer._keys] == ["1", "2"]
        await one.write("c4nary", "keys")
        with pytest.raises(SettingsError) as raised:
            await one.gateway.reload()
        assert raised.value.problems[0].startswith("store.keys: ")
        assert "c4nary" not in str(raised.value)
        assert one.gateway.node.store is after
        await one.write(settings_of({"desktops": ([target.address], "")}))
        await one.gateway.reload()
        assert isinstance(one.gateway.node.store, MemoryStore)

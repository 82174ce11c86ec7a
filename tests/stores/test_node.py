"""What a node tells its store, and what it hears of it. tests/proxy/test_node.py has two nodes and a real store."""

import asyncio
import contextlib

from support.endpoints import until

from acredssp.stores import Entry, Kick, MemoryStore, Node, StoreError


@contextlib.asynccontextmanager
async def node_of(store, heard=None):
    node = Node((lambda _kick: None) if heard is None else heard.append, store)
    node.use(None, "one")
    try:
        yield node
    finally:
        await node.close()


def entry(identity):
    return Entry(id=identity, node="one", user="", target="", host="", client="", since=0.0)


class Noting(MemoryStore):
    """A store that notes which connections it is told of."""

    def __init__(self):
        super().__init__()
        self.told = []

    async def announce(self, entries, ttl):
        self.told += [entry.id for entry in entries]
        await super().announce(entries, ttl)

    async def withdraw(self, ids):
        self.told += [f"not {identity}" for identity in ids]
        await super().withdraw(ids)


async def test_a_connection_that_ends_before_the_store_is_told_of_it_is_not_told_of():
    store = Noting()
    async with node_of(store) as node:
        for identity in ("short", "long"):
            node.announce(entry(identity))
        node.withdraw("short")
        await until(lambda: store.told)
        assert store.told == ["long"]
        node.withdraw("long")
        await until(lambda: store.told != ["long"])
        assert store.told == ["long", "not long"]


async def test_a_kick_is_heard():
    store, heard = MemoryStore(), []
    async with node_of(store, heard):
        await until(lambda: store._watchers)
        await store.kick(Kick(user="alice"))
        await until(lambda: heard)
    assert heard == [Kick(user="alice")]


async def test_what_is_begun_fails_nobody_where_the_store_is_away():
    async def away():
        raise StoreError("the store is away")

    async with node_of(MemoryStore()) as node:
        task = node.begin(away())
        await asyncio.wait([task])
        assert task.exception() is None


async def test_another_store_is_told_of_the_connections_that_are_there(monkeypatch):
    monkeypatch.setattr("acredssp.stores.node._OVERLAP", 0.0)
    one, two = MemoryStore(), MemoryStore()
    async with node_of(one) as node:
        node.announce(entry("here"))
        node.use(two, "other name")
        assert (node.store, node.name) == (two, "other name")
        await until(two._directory.values)


async def test_the_name_is_the_machines_without_one():
    async with node_of(MemoryStore()) as node:
        node.use(None)
        assert node.name

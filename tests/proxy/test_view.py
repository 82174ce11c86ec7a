"""What `proxy top` makes of the figures: rates, times and refusals, of one node or of several."""

import asyncio
import contextlib
import socket

import aiohttp.web
import pytest
from support.figures import Node, entry, look
from support.gateway import broker_of

from acredssp.proxy import web
from acredssp.proxy.plan import Access
from acredssp.proxy.view import LookFailed, read_figures, through_http, through_store, view_of
from acredssp.stores import MemoryStore, StoreError
from acredssp.workers import Address


def test_a_node_has_what_is_there_now_and_what_happens_in_a_second():
    node = Node(relays=7, handshakes=2)
    node.handshakes("success", 100)
    before = look(10.0, gw1=node)
    node.handshakes("success", 30)
    node.handshakes("passed_on", 10)
    node.handshakes("denied", 5, "authorize")
    node.handshakes("left", 1000)
    node.ended(bytes_up=4000, bytes_down=80_000, limit="idle")
    view = view_of(look(20.0, gw1=node), before)
    assert view["seconds"] == 10.0
    assert view["nodes"] == [
        {
            "node": "gw1",
            "draining": False,
            "relays": 7,
            "handshakes": 2,
            "let_in_per_second": 4.0,
            "refused_per_second": 0.6,
            "bytes_up_per_second": 400.0,
            "bytes_down_per_second": 8000.0,
        }
    ]


def test_nodes_stand_by_themselves_and_everything_else_is_summed():
    one, two = Node(), Node()
    two.metrics.set_draining()
    before = look(gw2=two, gw1=one)
    one.handshakes("failed", 3)
    two.handshakes("failed", 2)
    view = view_of(look(1.0, gw2=two, gw1=one), before)
    assert [(row["node"], row["draining"], row["refused_per_second"]) for row in view["nodes"]] == [
        ("gw1", False, 3.0),
        ("gw2", True, 2.0),
    ]
    assert view["refusals"] == [{"reason": "failed", "per_second": 5.0, "total": 5}]


def test_refusals_have_their_reason_and_the_most_frequent_comes_first():
    node = Node()
    node.handshakes("denied", 9, "authorize")
    node.handshakes("success", 9)
    node.handshakes("limited", 9)
    node.metrics._limited.labels("failures").inc(4)
    before = look(gw1=node)
    node.handshakes("denied", 1)
    node.metrics._limited.labels("failures").inc(4)
    view = view_of(look(2.0, gw1=node), before)
    assert [tuple(row.values()) for row in view["refusals"]] == [
        ("failures", 2.0, 8),
        ("denied", 0.5, 1),
        ("denied (authorize)", 0.0, 9),
    ]


def test_a_node_that_has_begun_anew_counts_from_zero_and_one_that_was_not_known_has_no_rates():
    old, new, other = Node(), Node(), Node()
    old.handshakes("success", 100)
    new.handshakes("success", 20)
    other.handshakes("success", 500)
    view = view_of(look(10.0, gw1=new, gw2=other), look(gw1=old))
    assert [row["let_in_per_second"] for row in view["nodes"]] == [2.0, 0.0]


def test_times_are_of_the_time_between_in_the_order_of_the_stages():
    node = Node()
    node.ended(seconds={"front": 20.0, "mcs": 0.004, "relay": 50.0})
    before = look(gw1=node)
    for _ in range(98):
        node.ended(seconds={"front": 0.004, "logon": 0.002})
    for _ in range(2):
        node.ended(seconds={"front": 0.7, "logon": 100.0})
    view = view_of(look(1.0, gw1=node), before)
    assert [(row["leg"], row["stage"]) for row in view["stages"]] == [
        ("front", "front"),
        ("target", "logon"),
        ("both", "mcs"),
    ]
    front, logon, mcs = view["stages"]
    assert 0.0025 < front["median"] < 0.005
    assert 0.5 < front["p99"] < 1.0
    assert (0.001 < logon["median"] < 0.0025, logon["p99"]) == (True, 30.0)  # beyond the last bound
    assert (mcs["median"], mcs["p99"]) == (None, None)


def test_targets():
    node = Node()
    node.ended(target="build")
    node.ended(target="desktops", redirected_to="h2")
    node.ended(outcome="denied")
    node.metrics.target("old", up=False)
    node.metrics.target("build", up=True)
    known = [entry(1), entry(2), entry(3, target="new")]
    targets = view_of(look(connections=known, gw1=node), look(gw1=node))["targets"]
    assert [tuple(row.values()) for row in targets] == [
        ("build", True, 0, 1, 0),
        ("desktops", None, 2, 1, 1),
        ("new", None, 1, 0, 0),
        ("old", False, 0, 0, 0),
    ]
    assert {row["connections"] for row in view_of(look(gw1=node), look(gw1=node))["targets"]} == {None}


def test_connections_are_there_where_a_directory_is_the_oldest_first():
    now = look(connections=[entry(2), entry(1)])
    view = view_of(now, now)
    assert [row["id"] for row in view["connections"]] == ["id1", "id2"]
    assert view["connections"][0]["user"] == "CONTOSO\\alice"
    assert view_of(look(), look())["connections"] is None


def test_several_processes_of_one_node_are_one():
    text = "".join(f'acredssp_proxy_open_connections{{phase="relay",pid="{pid}"}} {pid}\n' for pid in (3, 4))
    figures = read_figures(f"# TYPE acredssp_proxy_open_connections gauge\n{text}")
    now = look()
    view = view_of(type(now)(at=1.0, nodes={"gw1": figures}), now)
    assert view["nodes"][0]["relays"] == 7


# --- where the figures come from ---


async def test_the_store_has_all_nodes_and_all_connections():
    store = MemoryStore()
    node = Node(relays=3)
    await store.publish("gw1", node.text, 60)
    await store.publish("gw2", node.text, 60)
    await store.announce([entry(1)], 60)
    seen = await through_store(store)()
    assert [*seen.connections] == [entry(1)]
    assert [row["relays"] for row in view_of(seen, seen)["nodes"]] == [3, 3]


async def test_a_store_that_is_away_is_told():
    class Away(MemoryStore):
        async def entries(self):
            raise StoreError("the store at h:6379 is away")

    with pytest.raises(LookFailed, match="the store at h:6379 is away"):
        await through_store(Away())()


async def test_a_node_that_does_not_answer_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with through_http(Address("127.0.0.1", port)) as look_at:
        with pytest.raises(LookFailed, match=f"the node at 127.0.0.1:{port} does not answer: connection refused"):
            await look_at()


@contextlib.asynccontextmanager
async def one_node(*connections):
    """A node with an API: the addresses of both."""
    store, access = MemoryStore(), Access(secret="the secret of the API")
    await store.announce(connections, 60)
    broker = broker_of(store, access)

    async def figures(_):
        return aiohttp.web.Response(text=Node(relays=2).text)

    admin = aiohttp.web.Application()
    admin.add_routes([aiohttp.web.get("/metrics", figures)])
    async with contextlib.AsyncExitStack() as stack:
        addresses = []
        for app in admin, broker.app():
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.setblocking(False)
            await stack.enter_async_context(web.serve(app, listener))
            addresses.append(Address("127.0.0.1", listener.getsockname()[1]))
        yield addresses


async def test_a_node_with_an_api_has_its_connections_too():
    async with (
        one_node(entry(1), entry(2)) as (admin, api),
        through_http(admin, api, "the secret of the API") as look_at,
    ):
        seen = await look_at()
    assert [*seen.connections] == [entry(1), entry(2)]
    assert view_of(seen, seen)["nodes"][0]["relays"] == 2


async def test_an_api_with_another_secret_is_told_and_the_secret_is_not():
    async with one_node() as (admin, api), through_http(admin, api, "wrong") as look_at:
        with pytest.raises(LookFailed, match=f"the node at {api} does not answer: 401") as raised:
            await look_at()
    assert "wrong" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 500 Broken\r\n\r\n", "500, message='Broken'"),
        (b"HTTP/1.0 200 OK\r\n\r\na b c d e", "does not answer: could not convert string to float"),
        (b"", "does not answer: Server disconnected"),
    ],
)
async def test_a_node_that_answers_with_something_else_is_told(answer, said):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        async with through_http(address) as look_at:
            with pytest.raises(LookFailed, match=said):
                await look_at()

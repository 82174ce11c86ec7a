"""`acredssp proxy top`: the screen by textual's own pilot, and the command beside a gateway that runs."""

import asyncio
import contextlib
import json
import re
import socket
import time

import pytest
from support.endpoints import until
from support.figures import Node, entry, look
from support.gateway import leave, talk
from support.peers import free_port
from textual.containers import VerticalScroll

from acredssp.cli import app
from acredssp.cli.top import Looks, Top
from acredssp.proxy import web
from acredssp.proxy.admin import admin_pages, checks_of
from acredssp.proxy.metrics import Metrics
from acredssp.proxy.view import LookFailed

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning:textual")
SETTINGS = """\
[[listeners]]
address = "127.0.0.1:0"
certificates = [{ certificate = "gateway.pem", key = "gateway.key" }]
logon = { users = "users" }
routes = [{ target = "desktops" }]
[targets.desktops]
addresses = ["127.0.0.1:3389"]
"""
HOSTILE = "ev\x1b[2Jil[bold]x[/bold][/]"


class Source:
    """Gives looks, or raises exceptions, one after the other; then it has nobody look until it has `more`."""

    def __init__(self, *looks):
        self.left = [*looks]
        self.asked = asyncio.Event()
        self._new = asyncio.Event()

    def more(self, look):
        self.asked.clear()
        self.left.append(look)
        self._new.set()

    async def __call__(self):
        while not self.left:
            self._new.clear()
            self.asked.set()
            await self._new.wait()
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


@contextlib.asynccontextmanager
async def screen(source, *, size=(80, 24)):
    """The screen, once it has taken all looks."""
    shown = Top(source, 0.001, "gateway.toml")
    async with shown.run_test(size=size) as pilot:
        await source.asked.wait()
        await pilot.pause()
        yield pilot


def texts(pilot):
    """{panel: its lines as they are on the screen}, the first line as `head`."""
    width = pilot.app.size.width
    strips = [strip.text for strip in pilot.app.screen._compositor.render_strips(pilot.app.size)]
    found = {"head": strips[0].strip(), "all": strips}
    for panel in pilot.app.query(VerticalScroll):
        area = panel.region
        lines = [line[area.x : min(area.right, width)] for line in strips[area.y : area.bottom]]
        found[panel.id] = [" ".join(line.strip("│ ").split()) for line in lines]
    return found


def busy(**more):
    node = Node(relays=61, handshakes=2)
    node.handshakes("success", 5)
    node.handshakes("denied", 3, "authorize")
    node.metrics._limited.labels("connections_per_user").inc(7)
    node.metrics.target("desktops", up=True)
    node.metrics.target("build", up=False)
    node.ended(target="desktops", seconds={"front": 0.004}, redirected_to="h2")
    connections = [
        entry(1, since=time.time() - 3700),
        entry(2, user="bob", node="gw2", client="[2001:db8::1]:50000", since=time.time() - 61),
    ]
    return look(1.0, connections=connections, **({"gw1": node} | more))


@pytest.mark.parametrize("size", [(80, 24), (130, 40)])
async def test_the_screen_shows_nodes_stages_refusals_targets_and_connections(size):
    draining = Node()
    draining.metrics.set_draining()
    async with screen(Source(look(0.0, gw1=Node(), gw2=draining), busy(gw2=draining)), size=size) as pilot:
        shown = texts(pilot)
    assert re.fullmatch(r"gateway\.toml, \S+.*, rates of the last 1 s", shown["head"])
    assert shown["nodes"][1:4] == [
        "node relays logging on let in/s refused/s up/s down/s",
        "gw1 61 2 5.0 10.0 0 bytes 0 bytes",
        "gw2 0 0 0.0 0.0 0 bytes 0 bytes drains",
    ]
    assert shown["stages"][1:3] == ["stage median 99 %", "front 3.8 5.0"]
    refusals = ["denied (authorize) 3.0 3", "connections_per_user 7.0 7"]
    for line, whole in zip(shown["refusals"][2:4], refusals[::-1], strict=True):
        name, _, numbers = line.partition("…")
        assert whole.startswith(name)
        assert whole.endswith(numbers)
        assert "…" not in line or size == (80, 24)
    assert shown["targets"][1:4] == ["target now away", "build down 0 0", "desktops up 2 1"]
    assert "connections (2)" in shown["connections"][0]
    assert re.fullmatch(r"CONTOSO\\alice desktops h1:3389 c1:1 gw1 1:01:\d\d", shown["connections"][2])
    assert re.fullmatch(r"bob desktops h1:3389 \[2001:db8::1\]:50000 gw2 0:01:0\d", shown["connections"][3])


async def test_connections_are_sorted_by_the_next_column():
    async with screen(Source(busy())) as pilot:
        orders = []
        for _ in range(6):
            await pilot.press("s")
            await pilot.pause()
            orders.append([line.split()[0] for line in texts(pilot)["connections"][2:4]])
    alice, bob = "CONTOSO\\alice", "bob"
    # user, target, host, client, node, since
    assert orders == [[alice, bob], [alice, bob], [alice, bob], [bob, alice], [alice, bob], [alice, bob]]


async def test_the_screen_scrolls_and_ends():
    many = look(connections=[entry(number, user=f"user{number:03}") for number in range(300)], gw1=Node())
    async with screen(Source(many)) as pilot:
        assert "user299" not in "".join(texts(pilot)["connections"])
        await pilot.press("end")
        await until(lambda: "user299" in "".join(texts(pilot)["connections"]))
        await pilot.press("q")
        await until(lambda: not pilot.app.is_running)


async def test_names_of_clients_move_no_cursor_and_style_nothing():
    hostile = look(connections=[entry(1, user=HOSTILE)], **{HOSTILE: Node()})
    async with screen(Source(hostile), size=(130, 40)) as pilot:
        shown = texts(pilot)
    assert shown["connections"][2].startswith("ev\\x1b[2Jil[bold]x[/bold][/] desktops")
    assert shown["nodes"][2].startswith("ev\\x1b[2Jil[bold]x[/bold][/] 0")
    assert all(line.isprintable() for line in shown["all"])


async def test_a_failure_is_told_and_what_was_there_stays():
    source = Source(busy(), LookFailed("the node at h:1 does not answer: connection refused"))
    async with screen(source) as pilot:
        shown = texts(pilot)
        assert shown["head"] == "the node at h:1 does not answer: connection refused"
        assert shown["nodes"][2].startswith("gw1 61")
        source.more(busy())
        await source.asked.wait()
        await pilot.pause()
        assert texts(pilot)["head"].startswith("gateway.toml")


async def test_a_failure_from_the_beginning_on():
    async with screen(Source(LookFailed("gone"))) as pilot:
        assert texts(pilot)["head"] == "gone"


async def test_empty_panels_say_why():
    async with screen(Source(look())) as pilot:
        shown = texts(pilot)
    assert {shown[panel][1] for panel in ("nodes", "stages", "refusals", "targets")} == {"none"}
    assert shown["connections"][1] == "the settings need [store] or [api] for this"


# --- what looks are compared ---


async def test_a_view_goes_back_a_minute():
    looks = Looks(Source(*(look(float(at), gw1=Node()) for at in (0, 30, 60, 90, 100))))
    assert [(await looks.view())["seconds"] for _ in range(5)] == [0.0, 30.0, 60.0, 60.0, 40.0]


async def test_a_node_that_comes_begins_the_time_anew_and_one_that_goes_does_not():
    one = Node()
    looks = Looks(Source(look(0.0, a=one), look(10.0, a=one, b=one), look(20.0, a=one, b=one), look(30.0, b=one)))
    assert [(await looks.view())["seconds"] for _ in range(4)] == [0.0, 0.0, 10.0, 20.0]


# --- the command ---


@pytest.fixture
async def running(world):
    """A gateway that runs and shows its figures: `async with running() as (world, path of its settings)`."""

    @contextlib.asynccontextmanager
    async def begin():
        port = free_port()
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.setblocking(False)
            async with world(rest=f'\n[admin]\naddress = "127.0.0.1:{port}"\n') as (here, _target):
                metrics = Metrics()
                here.gateway._observer = metrics
                async with web.serve(admin_pages(checks_of(here.gateway, metrics), metrics), listener):
                    yield here, str(here.folder / "settings.toml")

    return begin


async def top(*words):
    return await asyncio.to_thread(app.run, ["proxy", "top", *words])


async def test_json_has_what_a_running_gateway_does(running, capsys):
    async with running() as (here, path):
        streams = await here.connect()
        await talk(streams)
        assert await top(path, "--once", "--json", "--interval", "0.1") == 0
        await leave(streams)
    (line,) = capsys.readouterr().out.splitlines()
    view = json.loads(line)
    assert [*view] == ["seconds", "nodes", "stages", "refusals", "targets", "connections"]
    assert (view["nodes"][0]["relays"], view["connections"]) == (1, None)
    assert view["seconds"] >= 0.1


async def test_once_prints_the_tables(running, capsys):
    async with running() as (_here, path):
        assert await top(path, "--once", "--interval", "0.1") == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if re.match(r"[a-z]+( \(.*\))?$", line)][:2] == ["nodes", "stages (ms)"]
    assert "the settings need [store] or [api] for this" in out


async def test_the_screen_beside_a_running_gateway(running):
    from acredssp.proxy import settings, view  # noqa: PLC0415

    async with running() as (here, path):
        read = await asyncio.to_thread(settings.read, here.folder / "settings.toml")
        streams = await here.connect()
        await talk(streams)
        async with view.through_http(read.admin.address) as look_at:
            shown = Top(look_at, 0.05, path)
            async with shown.run_test(size=(80, 24)) as pilot:
                await until(lambda: f"{read.admin.address} 1 0" in "".join(texts(pilot)["nodes"]))
        await leave(streams)


def test_a_node_that_is_away_ends_what_machines_read(folder, capsys):
    path = folder / "settings.toml"
    port = free_port()
    path.write_text(f'{SETTINGS}\n[admin]\naddress = "127.0.0.1:{port}"\n', encoding="utf-8")
    assert app.run(["proxy", "top", str(path), "--json"]) == 4
    assert capsys.readouterr().err == f"the node at 127.0.0.1:{port} does not answer: connection refused\n"
    path.write_text(SETTINGS, encoding="utf-8")
    assert app.run(["top", str(path), "--json"]) == 2
    _, err = capsys.readouterr()
    assert "expected [admin] in the settings, for one node, or [store], for all nodes" in err

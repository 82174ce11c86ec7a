"""`acredssp proxy` as a service: workers, drain, rolling restart, systemd, and HAProxy in front of two nodes."""

import asyncio
import contextlib
import dataclasses
import json
import re
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.command import COMMAND
from support.endpoints import PIN
from support.gateway import ALICE, Target, leave, talk
from support.peers import DEADLINE, free_port, listens, program, wait_until
from support.stores import PASSWORD, PREFIX, SERVERS, running

import acredssp
from acredssp.proxy.sealing import new_keys
from acredssp.rdp import PreconnectionPDU

pytestmark = pytest.mark.interop

DEPLOY = Path(__file__).parent.parent.parent / "examples" / "deploy"
SETTINGS = """
[[listeners]]
address = "127.0.0.1:{port}"
preconnection = true
proxy_protocol = {balancers}
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}]
logon = {{ users = "users" }}
routes = [{{ target = "desktops" }}]

[targets.desktops]
addresses = ["{target}"]
pins = ["{pin}"]

[admin]
address = "127.0.0.1:{admin}"

[run]
log = "json"
{run}
"""


class Background:
    """An event loop in a thread: coroutines run there, and the test waits for them."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()


@pytest.fixture
def background():
    loop = Background()
    yield loop
    loop.stop()


@pytest.fixture
def target(background):
    made = background.run(Target().start())
    yield made
    background.run(made.stop())


@dataclasses.dataclass
class Node:
    """A gateway that runs."""

    port: int
    admin: int
    process: object
    folder: Path

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=DEADLINE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def figure(self, name):
        """The sum of a figure's series."""
        _, text = self.get("/metrics")
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def records(self):
        lines = self.process.read_errors().split("\n")[:-1]
        return [told for told in map(json.loads, lines) if told["message"] == "connection"]


@pytest.fixture
def node(lab, target, tmp_path):
    """Starts a gateway: `node("--workers=2", run="grace = 1")`."""
    count = 0

    def start(*options, run="", balancers=(), **popen):
        nonlocal count
        count += 1
        folder = tmp_path / f"node{count}"
        folder.mkdir()
        for name, data in zip(("gateway.pem", "gateway.key"), acredssp.self_signed(["localhost"], "ec"), strict=True):
            (folder / name).write_bytes(data)
        (folder / "users").write_text("CONTOSO:alice:wonderland\n", encoding="utf-8")
        port, admin = free_port(), free_port()
        text = SETTINGS.format(
            port=port, admin=admin, target=target.address, pin=PIN, run=run, balancers=json.dumps([*balancers])
        )
        (folder / "gateway.toml").write_text(text, encoding="utf-8")
        argv = [COMMAND, "proxy", "run", folder / "gateway.toml", *options]
        process = lab.start_server(argv, port, split=True, **popen)
        made = Node(port, admin, process, folder)
        wait_until(lambda: listens(admin), "the admin's pages are there")
        assert made.get("/healthz")[0] == 200  # answered once everything is ready, signals included
        return made

    return start


class Client:
    """Connections from here: each is through both legs, and echoes."""

    def __init__(self, background):
        self._background = background

    def connect(self, port, **options):
        return self._background.run(self._connect(port, options))

    async def _connect(self, port, options):
        config = acredssp.ClientConfig(
            authenticate=ALICE,
            policy=acredssp.Policy(dangerous_accept_any_certificate=True),
            delegation=acredssp.delegation.DelegationPolicy(),
        )
        carriage = acredssp.RDP(hybrid_ex=True, **options)
        streams = await acredssp.open_connection(
            "127.0.0.1", port, config=config, carriage=carriage, server_hostname="localhost"
        )
        await talk(streams)
        return streams

    def echo(self, streams):
        async def once():
            streams[1].write(b"again")
            return await streams[0].readexactly(5)

        assert self._background.run(once()) == b"again"

    def leave(self, streams):
        self._background.run(leave(streams))

    def until_cut(self, streams):
        async def read():
            with contextlib.suppress(OSError, acredssp.CredSSPError):
                while await streams[0].read(100):
                    pass

        self._background.run(read())


@pytest.fixture
def client(background):
    return Client(background)


# --- one node ---


@pytest.mark.parametrize("options", [(), ("--workers=2",)], ids=["alone", "workers"])
def test_a_node_that_drains_keeps_its_relays_and_tells_how_many(node, client, options):
    gateway = node(*options, run="leave = 0.5")
    assert gateway.get("/readyz")[0] == 200
    streams = client.connect(gateway.port)
    gateway.process._process.send_signal(signal.SIGTERM)
    if not options:  # with workers, each process says how many are its own
        wait_until(lambda: "stopping: 1 connections" in gateway.process.read(), "the gateway says how many")
    wait_until(lambda: not listens(gateway.port), "the gateway accepts no more")
    assert gateway.get("/readyz")[0] == 503
    client.echo(streams)
    client.leave(streams)
    assert gateway.process.wait() == 0
    assert gateway.records()[-1]["ended_by"] == "client"


def test_relays_are_cut_when_the_grace_is_over(node, client):
    gateway = node("--workers=2", run="grace = 0.2")
    streams = client.connect(gateway.port)
    gateway.process._process.send_signal(signal.SIGTERM)
    client.until_cut(streams)
    client.leave(streams)
    assert gateway.process.wait() == 0
    assert gateway.records()[-1]["ended_by"] == "drained"
    assert "1 connections were cut" in gateway.process.read()


def test_a_rolling_restart_loses_no_handshake_and_no_relay(node, client):
    gateway = node("--workers=2")
    before = client.connect(gateway.port)
    gateway.process._process.send_signal(signal.SIGUSR2)
    count = 0
    while gateway.process.read().count("workers are ready") < 2:
        client.leave(client.connect(gateway.port))
        count += 1
    client.echo(before)
    client.leave(client.connect(gateway.port))
    client.leave(before)
    wait_until(lambda: len(gateway.records()) == count + 2, "every connection has its line")
    assert {record["outcome"] for record in gateway.records()} == {"relayed"}
    wait_until(lambda: gateway.figure("acredssp_proxy_connections_total") == count + 2, "all are counted")
    assert gateway.process.stop() == 0


def test_a_program_that_could_not_run_is_not_started_anew(node, client):
    gateway = node("--workers=1")
    settings = gateway.folder / "gateway.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace('desktops" }', 'desk" }'), encoding="utf-8")
    gateway.process._process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "is not started anew: listeners[0].routes[0].target" in gateway.process.read(), "it says why")
    client.leave(client.connect(gateway.port))
    assert gateway.process.stop() == 0


def test_the_figures_of_all_workers_are_one_and_a_dead_one_s_connections_are_gone(node, client):
    gateway = node("--workers=2")
    held = [client.connect(gateway.port) for _ in range(8)]
    assert gateway.figure("acredssp_proxy_open_connections") == 8
    for each in held:
        client.leave(each)
    wait_until(lambda: gateway.figure("acredssp_proxy_connections_total") == 8, "all ends are counted")
    assert gateway.figure("acredssp_proxy_open_connections") == 0
    assert gateway.get("/healthz") == (200, "alive\n")


@pytest.mark.parametrize("options", [(), ("--workers=1",)], ids=["alone", "workers"])
def test_systemd_is_told(node, tmp_path, lab, options):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(DEADLINE)
        lab.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        gateway = node(*options)
        assert notified.recv(100) == b"READY=1"
        gateway.process._process.send_signal(signal.SIGTERM)
        assert notified.recv(100).startswith(b"STOPPING=1")
        assert gateway.process.wait() == 0


# --- the files of the examples ---


def test_the_unit_is_one(tmp_path):
    unit = tmp_path / "acredssp-proxy.service"
    unit.write_bytes((DEPLOY / "acredssp-proxy.service").read_bytes())
    done = subprocess.run([program("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:]


@dataclasses.dataclass
class Balancer:
    port: int
    control: Path

    def say(self, command):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.control))
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
        return answer.decode()

    def state(self, name):
        """Whether a server is `UP` or `DOWN`, and how many connections it has had."""
        for line in self.say("show stat").splitlines():
            fields = line.split(",")
            if fields[:2] == ["gateways", name]:
                return fields[17].split()[0], int(fields[7])
        raise AssertionError(name)


@pytest.fixture
def balanced(lab, node, tmp_path):
    """HAProxy by the example, in front of two nodes: the balancer, and the nodes by their names."""
    nodes = {name: node("--workers=1", run="leave = 0.1", balancers=["127.0.0.1"]) for name in ("one", "two")}
    port, control = free_port(), tmp_path / "control"
    text = (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8")
    for before, after in {
        "global\n": f"global\n    stats socket {control} level admin\n",
        "maxconn 20000": "maxconn 200",
        "bind :3389": f"bind 127.0.0.1:{port}",
        "check port 9389 inter 2s": "check inter 100ms",
        **{
            f"server {name} 10.0.0.{at}:3389": f"server {name} 127.0.0.1:{nodes[name].port} port {nodes[name].admin}"
            for name, at in (("one", 11), ("two", 12))
        },
    }.items():
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "haproxy.cfg").write_text(text, encoding="utf-8")
    lab.start_server([program("haproxy"), "-db", "-f", tmp_path / "haproxy.cfg"], port)
    balancer = Balancer(port, control)
    wait_until(lambda: all(balancer.state(name)[0] == "UP" for name in nodes), "both nodes are up")
    return balancer, nodes


def served_by(nodes, client, streams):
    """The name of the node that a connection went through; it is left."""
    before = {name: len(each.records()) for name, each in nodes.items()}
    client.leave(streams)
    wait_until(lambda: any(len(each.records()) > before[name] for name, each in nodes.items()), "a node tells of it")
    (found,) = [name for name, each in nodes.items() if len(each.records()) > before[name]]
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"cookie": "alice"},
        {"routing_token": "tsv://MS Terminal Services Plugin.1.Desktops"},
        {},
        {"preconnection": PreconnectionPDU(id=7, blob="vm-1")},
    ],
    ids=["cookie", "tsv", "nothing", "blob"],
)
def test_every_kind_of_client_comes_through_haproxy_by_the_example(balanced, client, options):
    balancer, nodes = balanced
    streams = client.connect(balancer.port, **options)
    own = streams[1].get_extra_info("sockname")
    name = served_by(nodes, client, streams)
    assert nodes[name].records()[-1]["peer"] == [*own[:2]]


def test_a_user_comes_back_to_the_same_node_until_it_drains(balanced, client):
    balancer, nodes = balanced
    first = served_by(nodes, client, client.connect(balancer.port, cookie="alice"))
    held = client.connect(balancer.port, cookie="ALICE")
    for _ in range(3):
        assert served_by(nodes, client, client.connect(balancer.port, cookie="alice")) == first
    nodes[first].process._process.send_signal(signal.SIGTERM)
    wait_until(lambda: balancer.state(first)[0] == "DOWN", "HAProxy sees that the node drains")
    (other,) = {*nodes} - {first}
    for _ in range(3):
        assert served_by({other: nodes[other]}, client, client.connect(balancer.port, cookie="alice")) == other
    client.echo(held)
    client.leave(held)
    assert nodes[first].process.wait() == 0


def test_haproxy_s_own_drain_would_keep_sending_stuck_users(balanced, client):
    balancer, nodes = balanced
    first = served_by(nodes, client, client.connect(balancer.port, cookie="alice"))
    balancer.say(f"set server gateways/{first} state drain")
    wait_until(lambda: balancer.state(first)[0] == "DRAIN", "the server drains")
    assert served_by(nodes, client, client.connect(balancer.port, cookie="alice")) == first


# --- seen together ---


@pytest.mark.parametrize("store", SERVERS)
def test_top_shows_the_connections_and_figures_of_all_nodes(lab, background, client, node, store, tmp_path):
    with running(tmp_path, store) as server:
        (tmp_path / "keys").write_text(new_keys(), encoding="ascii")
        (tmp_path / "password").write_text(PASSWORD, encoding="ascii")
        stored = (
            f'\n[store]\nurl = "{server.url}"\nkeys = "file:{tmp_path}/keys"\nusername = "gateway"\n'
            f'password = "file:{tmp_path}/password"\nprefix = "{PREFIX}"\n'
        )
        one, two = (
            node("--workers=2", run='node = "gw1"' + stored),
            node(run='node = "gw2"' + stored),
        )
        opened = [client.connect(each.port) for each in (one, one, two)]

        def shown():
            argv = [COMMAND, "proxy", "top", one.folder / "gateway.toml", "--once", "--json", "--interval", "0.1"]
            done = lab.run(argv, split=True)
            assert done.status == 0, done.errors
            return json.loads(done.output)

        def relays():
            return {row["node"]: row["relays"] for row in shown()["nodes"]}

        wait_until(lambda: relays() == {"gw1": 2, "gw2": 1}, "both nodes have told of their relays")
        view = shown()
        connections = [(entry["user"], entry["target"], entry["node"]) for entry in view["connections"]]
        assert sorted(connections) == [("CONTOSO\\alice", "desktops", name) for name in ("gw1", "gw1", "gw2")]
        (row,) = view["targets"]
        assert (row["target"], row["connections"]) == ("desktops", 3)
        alone = lab.run(
            [COMMAND, "top", two.folder / "gateway.toml", "--node", "--once", "--json", "--interval", "0.1"], split=True
        )
        assert [row["relays"] for row in json.loads(alone.output)["nodes"]] == [1]
        for streams in opened:
            client.leave(streams)

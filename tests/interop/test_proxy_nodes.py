"""`acredssp proxy` as a service: workers, drain, rolling restart, systemd, and HAProxy in front of two nodes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.command import COMMAND
from support.endpoints import PIN
from support.gateway import Target
from support.nodes import DEPLOY, Background, Client, served_by, start_balancer, start_node
from support.peers import DEADLINE, listens, program, wait_until
from support.stores import PASSWORD, PREFIX, SERVERS, running

import acredssp
from acredssp.rdp import PreconnectionPDU
from acredssp.stores import new_keys

pytestmark = pytest.mark.interop

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


@pytest.fixture
def background():
    with Background() as loop:
        yield loop


@pytest.fixture
def target(background):
    made = background.run(Target().start())
    yield made
    background.run(made.stop())


@pytest.fixture
def node(lab, target, tmp_path):
    """Starts a gateway: `node("--workers=2", run="grace = 1")`."""
    count = 0

    def start(*options, run="", balancers=(), **popen):
        nonlocal count
        count += 1
        values = {"target": target.address, "pin": PIN, "run": run, "balancers": json.dumps([*balancers])}
        return start_node(lab, tmp_path / f"node{count}", SETTINGS, values, *options, **popen)

    return start


@pytest.fixture
def client(background):
    made = Client(background)
    yield made
    made.leave_all()


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
    wait_until(lambda: gateway.figure("acredssp_proxy_open_connections") == 8, "all are counted")
    for each in held:
        client.leave(each)
    wait_until(lambda: gateway.figure("acredssp_proxy_connections_total") == 8, "all ends are counted")
    wait_until(lambda: gateway.figure("acredssp_proxy_open_connections") == 0, "none is counted")
    assert gateway.get("/healthz") == (200, "alive\n")


def test_a_worker_that_is_killed_is_replaced_and_takes_its_own_connections_alone(node, client):
    gateway = node("--workers=2")
    held = [client.connect(gateway.port) for _ in range(8)]
    parent = gateway.process._process.pid
    os.kill(int(Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()[0]), signal.SIGKILL)
    wait_until(lambda: "worker 1 was ended by signal 9" in gateway.process.read(), "the operator is told")
    client.leave(client.connect(gateway.port))
    left = 0
    for streams in held:
        with contextlib.suppress(OSError, EOFError, acredssp.CredSSPError):
            client.echo(streams)
            left += 1
    wait_until(lambda: gateway.figure("acredssp_proxy_open_connections") == left, "the others are counted no more")
    gateway.process._process.send_signal(signal.SIGUSR2)  # and it can still be replaced as a whole
    while gateway.process.read().count("workers are ready") < 2:
        client.leave(client.connect(gateway.port))


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


@pytest.fixture
def balanced(lab, node):
    """HAProxy by the example, in front of two nodes: the balancer, and the nodes by their names."""
    nodes = {name: node("--workers=1", run="leave = 0.1", balancers=["127.0.0.1"]) for name in ("one", "two")}
    return start_balancer(lab, nodes), nodes


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

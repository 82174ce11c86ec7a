"""Two gateways behind HAProxy that share a Redis or a Valkey, and what becomes of users when one of these goes."""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
from http.client import HTTPConnection

import pytest
import redis
from support import freerdp
from support.command import COMMAND, login
from support.endpoints import PIN
from support.gateway import ALICE, BOB, Target, leave
from support.nodes import Background, Client, start_balancer, start_node
from support.peers import DEADLINE, Lab, free_port, listens, wait_until
from support.stores import PASSWORD, PREFIX, SERVERS, StoreServer

import acredssp
from acredssp import Password
from acredssp.stores import new_keys

pytestmark = pytest.mark.interop

NAMES = ("one", "two")
SECRET = "the broker's own secret"
ELSEWHERE = "127.0.0.9"
"""The address of another client."""

SETTINGS = """
[[listeners]]
address = "127.0.0.1:{port}"
proxy_protocol = ["127.0.0.1"]
certificates = [{{ certificate = "gateway.pem", key = "gateway.key" }}]
logon = {{ users = "users" }}
routes = [{{ token = true }}, {{ target = "desktops" }}]

[targets.desktops]
addresses = {hosts}
pins = ["{pin}"]
credentials = "injected"
account = 'SERVERS\\svc'
password = "file:target.password"

[targets.reports]
addresses = {hosts}
pins = ["{pin}"]

[store]
url = "{url}"
keys = "file:store.keys"
username = "gateway"
password = "file:store.password"
prefix = "{prefix}"
{store}

[admin]
address = "127.0.0.1:{admin}"

[api]
address = "127.0.0.1:{api}"
secret = "file:api.secret"

[run]
log = "json"
leave = 0.1
{more}
"""


@dataclasses.dataclass
class Cluster:
    """The nodes, what is in front of them, and the store behind them."""

    lab: Lab
    store: StoreServer
    nodes: dict
    apis: dict
    balancer: object
    client: Client

    def through(self, name, who=ALICE, **options):
        """Come in through HAProxy and one node."""
        self.balancer.send_to(name)
        return self.client.connect(self.balancer.port, who, **options)

    def visit(self, name, who=ALICE, **options):
        """Come in and leave again; the node's line of it."""
        before = len(self.nodes[name].records())
        self.client.leave(self.through(name, who, **options))
        return self._record(name, before)

    def refused(self, name, who=ALICE, **options):
        """Be refused by one node; its line of it."""
        before = len(self.nodes[name].records())
        self.balancer.send_to(name)
        self.client.refused(self.balancer.port, who, **options)
        return self._record(name, before)

    def _record(self, name, before):
        (record,) = self.nodes[name].records_after(before)
        return record

    def proxy(self, name, command, *words):
        """Run `acredssp proxy COMMAND` with the settings of a node."""
        return self.lab.run([COMMAND, "proxy", command, self.nodes[name].settings, *words], split=True)

    def token(self, name, *, by="command", **options):
        """Issue a token for alice at a node, by the command or the API."""
        words = {"user": "CONTOSO\\alice", "target": "reports", **options}
        if by == "api":
            status, told = self.ask(name, "POST", "/v1/tokens", **words)
            assert status == 201, told
            return told["loadbalanceinfo"]
        done = self.proxy(name, "token", *[f"--{name}={value}" for name, value in words.items()])
        assert (done.status, done.errors) == (0, "")
        return done.output.strip()

    def ask(self, name, method, path, **content):
        """Ask a node's API: the status of its answer, and what it holds."""
        headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
        with contextlib.closing(HTTPConnection("127.0.0.1", self.apis[name], timeout=DEADLINE)) as connection:
            connection.request(method, path, json.dumps(content) if content else None, headers)
            answer = connection.getresponse()
            return answer.status, json.load(answer)

    def connections(self, name):
        """What a node's API tells of all connections: each one's user and target, and its id."""
        status, told = self.ask(name, "GET", "/v1/connections")
        assert status == 200
        return {(entry["user"], entry["target"]): entry["id"] for entry in told["connections"]}

    def wrong_passwords(self):
        """How many the store has counted, of all accounts."""
        with redis.Redis(port=self.store.port, username="gateway", password=PASSWORD) as client:
            keys = client.keys(f"{{{PREFIX}}}:lockout:*")
            return sum(int(client.hget(key, "count") or 0) for key in keys)

    def is_idle(self):
        """Whether no node has a connection."""
        return not any(node.figure("acredssp_proxy_open_connections") for node in self.nodes.values())

    def outages(self, name):
        """What a node has told of its store: in each line, `away` or `back`."""
        told = [line["message"] for line in self.nodes[name].lines() if line["logger"] == "acredssp.stores.store"]
        return ["away" if " is away" in line else "back" if " is back" in line else line for line in told]


@pytest.fixture(scope="module")
def background():
    with Background() as loop:
        yield loop


@pytest.fixture(scope="module")
def hosts(background):
    """The addresses of two desktops."""
    targets = [background.run(Target().start()) for _ in range(2)]
    yield [target.address for target in targets]
    for target in targets:
        background.run(target.stop())


@contextlib.contextmanager
def running(folder, program, hosts, background, *, more="", tls=False, **more_files):
    """A cluster that runs while the block does; `more` is of its settings, and files they name may come by name."""
    lab = Lab(folder)
    store = StoreServer(lab, program, tls=tls)
    files = {"store.keys": new_keys(), "store.password": PASSWORD, "target.password": "server's", "api.secret": SECRET}
    files |= more_files
    with contextlib.ExitStack() as stack:
        stack.callback(lab.show_logs)
        stack.callback(lab.stop)
        store.start()
        values = {
            "hosts": json.dumps(hosts),
            "pin": PIN,
            "url": store.url,
            "prefix": PREFIX,
            "store": f'authorities = "{store.certificate}"' if tls else "",
            "more": more,
            "files": files,
        }
        apis = {name: free_port() for name in NAMES}
        nodes = {name: start_node(lab, folder / name, SETTINGS, {**values, "api": apis[name]}) for name in NAMES}
        client = Client(background)
        stack.callback(client.leave_all)
        yield Cluster(lab, store, nodes, apis, start_balancer(lab, nodes), client)


LOCKOUT = "[limits.lockout]\nfailures = 3\nshortest = 900\n"


@pytest.fixture(scope="module", params=SERVERS)
def started(request, tmp_path_factory, hosts, background):
    """A cluster with a lockout."""
    with running(tmp_path_factory.mktemp("cluster"), request.param, hosts, background, more=LOCKOUT) as cluster:
        yield cluster


@pytest.fixture
def shared(started):
    """A cluster for the tests that leave it as it is."""
    yield started
    started.client.leave_all()
    wait_until(started.is_idle, "the last connections of the test have ended")


@pytest.fixture(params=SERVERS)
def cluster(request, tmp_path, hosts, background):
    """A cluster for one test that ends parts of it."""
    with running(tmp_path, request.param, hosts, background) as cluster:
        yield cluster


# --- tokens ---


@pytest.mark.parametrize(("by", "window"), [("command", "0s"), ("api", 0)])
def test_a_token_of_one_node_is_good_on_all_as_often_as_it_says_and_not_once_more(shared, by, window):
    token = shared.token("one", by=by, uses=3, window=window)
    for name in ("two", "one", "two"):
        record = shared.visit(name, routing_token=token)
        assert (record["outcome"], record["target"], record["user"]) == ("relayed", "reports", "CONTOSO\\alice")
    for name in NAMES:
        record = shared.refused(name, routing_token=token)
        assert (record["outcome"], record["reason"]) == ("denied", "the client's token is unknown, used up or expired")


def test_of_many_clients_at_once_only_as_many_come_in_as_the_token_says(shared):
    token, before = (
        shared.token("one", uses=3, window="0s"),
        {name: len(shared.nodes[name].records()) for name in NAMES},
    )
    shared.balancer.send_to(*NAMES)

    async def come():
        coming = [
            shared.client.connecting(shared.balancer.port, ALICE, f"127.0.0.{last}", routing_token=token)
            for last in range(10, 20)
        ]
        answers = await asyncio.gather(*coming, return_exceptions=True)
        came = [answer for answer in answers if not isinstance(answer, acredssp.CredSSPError)]
        for streams in came:
            await leave(streams)
        return len(came)

    assert shared.client.run(come()) == 3
    wait_until(lambda: sum(len(shared.nodes[name].records()) - before[name] for name in NAMES) == 10, "all lines")
    assert all(len(shared.nodes[name].records()) > before[name] for name in NAMES)


def test_within_the_window_the_same_client_alone_comes_again_on_any_node(shared):
    token = shared.token("two", uses=1, window="1h")
    for name in ("one", "two", "two", "one"):
        assert shared.visit(name, routing_token=token)["outcome"] == "relayed"
    for name in NAMES:
        record = shared.refused(name, routing_token=token, source=ELSEWHERE)
        assert record["reason"] == "the client's token is used up or expired, or its user was kicked"
    assert shared.visit("one", routing_token=token)["outcome"] == "relayed"


def test_when_the_window_is_over_the_client_is_refused(shared):
    token = shared.token("one", uses=1, window="1s", ttl="24h")
    assert shared.visit("one", routing_token=token)["outcome"] == "relayed"

    def over():
        with contextlib.suppress(acredssp.CredSSPError):
            shared.client.leave(shared.through("two", routing_token=token))
            return False
        return True

    wait_until(over, "the window ends")
    assert shared.refused("one", routing_token=token)["outcome"] == "denied"


def test_a_token_is_of_no_use_to_another_user(shared):
    token = shared.token("one", window="1h")
    record = shared.refused("two", BOB, routing_token=token)
    assert (record["status"], record["reason"]) == (
        "STATUS_LOGON_NOT_GRANTED",
        "the client's token is for another user",
    )
    assert shared.visit("two", routing_token=token)["outcome"] == "relayed"


# --- lockout ---


def user(name, password="wonderland"):
    return Password(password, name, "CONTOSO")


def test_wrong_passwords_at_any_node_lock_an_account_out_of_all(shared):
    for name in ("one", "two", "one"):
        record = shared.refused(name, user("ada", "wrong"))
        assert (record["status"], record.get("limit")) == ("STATUS_LOGON_FAILURE", None)
    locked = "'account ADA' is locked out for 900 seconds after too many wrong passwords"
    told = lambda: [line["message"] for name in NAMES for line in shared.nodes[name].lines()]  # noqa: E731
    wait_until(lambda: locked in told(), "a node tells of the lock")
    for name in NAMES:
        record = shared.refused(name, user("ada"))
        assert (record["status"], record["limit"]) == ("STATUS_LOGON_FAILURE", "lockout")
    assert shared.visit("two", user("ann"))["outcome"] == "relayed"


def test_a_right_password_at_one_node_clears_the_wrong_ones_of_the_other(shared):
    before = shared.wrong_passwords()
    for _ in range(2):
        for name in NAMES:
            shared.refused(name, user("abe", "wrong"))
        wait_until(lambda: shared.wrong_passwords() == before + 2, "both are counted")
        assert shared.visit("two", user("abe"))["outcome"] == "relayed"
        wait_until(lambda: shared.wrong_passwords() == before, "both are forgotten")


# --- the directory ---


def test_a_user_who_comes_back_by_another_node_finds_the_same_host(shared):
    """By chance, all of them would once in 64 times."""
    for name in ("alice", "ann", "art", "amy", "abe", "ava"):
        first = shared.visit("one", user(name), cookie=f"{name}1")["host"]
        assert shared.visit("two", user(name), cookie=f"{name}2")["host"] == first


def test_a_kick_ends_the_users_connections_on_every_node_and_makes_the_tokens_void(shared):
    token = shared.token("one", uses=9, window="1h")
    others = {name: shared.through(name, BOB) for name in NAMES}
    before = {name: len(shared.nodes[name].records()) for name in NAMES}
    kicked = [shared.through("one"), shared.through("two", routing_token=token), shared.through("two")]
    assert shared.proxy("two", "kick", "alice").status == 0
    for streams in kicked:
        shared.client.until_cut(streams)
    for name, count in (("one", 1), ("two", 2)):
        for record in shared.nodes[name].records_after(before[name], count):
            assert (record["user"], record["outcome"], record["ended_by"]) == ("CONTOSO\\alice", "relayed", "kicked")
        shared.client.echo(others[name])
        assert shared.refused(name, routing_token=token)["status"] == "STATUS_LOGON_NOT_GRANTED"
        assert shared.visit(name)["outcome"] == "relayed"


def test_every_nodes_api_tells_of_all_connections_and_ends_any(shared):
    held = {name: shared.through(name, who) for name, who in (("one", ALICE), ("two", BOB))}
    both = {("CONTOSO\\alice", "desktops"), ("bob", "desktops")}
    for name in NAMES:
        wait_until(lambda name=name: {*shared.connections(name)} == both, "the API tells of both")
    identity = shared.connections("one")["bob", "desktops"]
    assert shared.ask("one", "DELETE", f"/v1/connections/{identity}")[0] == 202
    shared.client.until_cut(held["two"])
    shared.client.echo(held["one"])
    wait_until(lambda: {*shared.connections("two")} == both - {("bob", "desktops")}, "the API tells of the one")


# --- when something goes ---


def test_without_the_store_what_needs_it_is_refused_and_the_rest_goes_on(cluster):
    token = cluster.token("one", uses=1, window="1h")
    held = {name: cluster.through(name, routing_token=token) for name in NAMES}
    cluster.store.kill()
    for name in NAMES:
        record = cluster.refused(name, routing_token=token)
        assert record["outcome"] == "denied"
        assert record["reason"].startswith("the client's token cannot be checked: the store at 127.0.0.1:")
        assert cluster.visit(name)["outcome"] == "relayed"
        cluster.client.echo(held[name])
    assert cluster.proxy("one", "token", "--user=alice", "--target=reports").status == 4
    assert cluster.ask("two", "POST", "/v1/tokens", user="alice", target="reports")[0] == 503
    cluster.store.start()
    wait_until(lambda: all(cluster.outages(name)[-1] == "back" for name in NAMES), "both nodes find the store again")
    for name in NAMES:
        record = cluster.refused(name, routing_token=token)  # the store came back empty
        assert record["reason"] == "the client's token is unknown, used up or expired"
    token = cluster.token("two", uses=1, window="1h")
    for name in NAMES:
        assert cluster.visit(name, routing_token=token)["outcome"] == "relayed"
        cluster.client.echo(held[name])
        cluster.client.leave(held[name])
        assert cluster.outages(name) == ["away", "back"]


@pytest.mark.parametrize("program", SERVERS)
def test_with_a_lockout_nobody_comes_in_while_nobody_can_tell_who_is_locked_out(tmp_path, hosts, background, program):
    with running(tmp_path, program, hosts, background, more=LOCKOUT) as cluster:
        held = {name: cluster.through(name) for name in NAMES}
        cluster.store.kill()
        states = lambda: {cluster.balancer.state(name)[0] for name in NAMES}  # noqa: E731
        wait_until(lambda: states() == {"DOWN"}, "HAProxy sees that no node lets anybody in")
        with pytest.raises((OSError, acredssp.CredSSPError)):
            cluster.client.connect(cluster.balancer.port)
        cluster.store.start()
        wait_until(lambda: states() == {"UP"}, "HAProxy sees that they do again")
        for name in NAMES:
            cluster.client.echo(held[name])
            assert cluster.visit(name)["outcome"] == "relayed"
            assert cluster.outages(name) == ["away", "back"]


def test_a_node_that_is_killed_takes_its_own_connections_alone(cluster):
    held = {name: cluster.through(name) for name in NAMES}
    os.kill(cluster.nodes["one"].process.pid, signal.SIGKILL)
    cluster.client.until_cut(held["one"])
    wait_until(lambda: cluster.balancer.state("one")[0] == "DOWN", "HAProxy sees that the node is gone")
    cluster.balancer.send_to(*NAMES)
    for _ in range(3):
        cluster.client.leave(cluster.client.connect(cluster.balancer.port))
    cluster.client.echo(held["two"])
    cluster.client.leave(held["two"])
    assert [record["ended_by"] for record in cluster.nodes["two"].records_after(0, 4)] == ["client"] * 4


def test_a_node_that_drains_ends_no_connection(cluster):
    held = {name: cluster.through(name) for name in NAMES}
    os.kill(cluster.nodes["one"].process.pid, signal.SIGTERM)
    wait_until(lambda: cluster.balancer.state("one")[0] == "DOWN", "HAProxy sees that the node drains")
    wait_until(lambda: not listens(cluster.nodes["one"].port), "the node accepts no more")
    cluster.balancer.send_to(*NAMES)
    for _ in range(3):
        cluster.client.leave(cluster.client.connect(cluster.balancer.port))
    for streams in held.values():
        cluster.client.echo(streams)
        cluster.client.leave(streams)
    assert cluster.nodes["one"].process.wait() == 0
    assert "stopped: 0 connections were cut" in cluster.nodes["one"].process.read()
    assert [record["ended_by"] for record in cluster.nodes["one"].records()] == ["client"]
    assert [record["ended_by"] for record in cluster.nodes["two"].records_after(0, 4)] == ["client"] * 4


# --- other ways to the store, and other clients ---


@pytest.mark.parametrize("program", SERVERS)
def test_the_store_is_asked_over_tls_by_an_acl_user(tmp_path, hosts, background, program):
    with running(tmp_path, program, hosts, background, tls=True) as cluster:
        token = cluster.token("one", uses=2, window="0s")
        for name in NAMES:
            assert cluster.visit(name, routing_token=token)["outcome"] == "relayed"
        assert cluster.outages("one") == []


def test_freerdp_comes_back_by_its_token_on_the_other_node(tmp_path, graphical_lab, shadow_servers, background, hosts):
    shadow = shadow_servers(3).address
    pin = login(graphical_lab, shadow, "--mechanism", "ntlm").record["peer_key_sha256"]
    desk = f'[targets.desk]\naddresses = ["{shadow}"]\npins = ["{pin}"]\ncredentials = "injected"\n'
    desk += 'account = "bob"\npassword = "file:bob"\n'
    folder = tmp_path / "cluster"
    folder.mkdir()
    with running(folder, "redis-server", hosts, background, more=desk, bob="bobpw") as cluster:
        token = cluster.token("one", target="desk", uses=1, window="1h")
        once = cluster.token("one", target="desk", uses=1, window="0s")

        def come(name, token):
            cluster.balancer.send_to(name)
            words = [f"/load-balance-info:{token}"]
            address = f"127.0.0.1:{cluster.balancer.port}"
            return freerdp.log_on(graphical_lab, 3, address, *words, password="wonderland").status

        connected = 131  # FreeRDP 3's status where it has come through and was to log on only
        assert [come(name, token) for name in ("one", "two", "one")] == [connected] * 3
        assert [come(name, once) for name in NAMES] == [connected, freerdp.NEGOTIATION_FAILED]
        assert cluster.nodes["two"].records()[0]["target"] == "desk"

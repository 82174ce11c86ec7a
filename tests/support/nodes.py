"""Gateways as processes, HAProxy in front of them by the example, and clients of our own that go through."""

import asyncio
import contextlib
import dataclasses
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

from support.command import COMMAND
from support.gateway import ALICE, leave, talk
from support.peers import DEADLINE, free_port, listens, program, wait_until

import acredssp

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
USERS = (
    "".join(f"CONTOSO:{user}:wonderland\n" for user in ("alice", "ann", "art", "amy", "abe", "ava", "ada"))
    + ":bob:b0bs\n"
)


class Background:
    """An event loop in a thread, while a block runs: coroutines run there, and the test waits for them."""

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()


# --- gateways ---


@dataclasses.dataclass
class Node:
    """A gateway that runs."""

    port: int
    admin: int
    process: object
    folder: Path

    @property
    def settings(self):
        return self.folder / "gateway.toml"

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

    def lines(self):
        """What it has logged, as objects."""
        return [json.loads(line) for line in self.process.read_errors().split("\n")[:-1]]

    def records(self):
        """Its lines of connections that ended."""
        return [line for line in self.lines() if line["message"] == "connection"]

    def records_after(self, count, more=1):
        """The records behind the first `count`, once there are `more` of them."""
        wait_until(lambda: len(self.records()) >= count + more, "the gateway tells of a connection")
        return self.records()[count:]


def start_node(lab, folder, settings, values, *options, **popen):
    """Start a gateway.

    Args:
        lab: A `Lab`.
        folder: A folder of its own, which is made; `values["files"]`, {name: text}, are put into it.
        settings: Its settings, with places for `port`, `admin` and for `values`.
        values: What else is put into the settings.
        options: Options of `acredssp proxy run`.
        popen: More for `subprocess.Popen`.
    """
    folder.mkdir()
    for name, data in zip(("gateway.pem", "gateway.key"), acredssp.self_signed(["localhost"], "ec"), strict=True):
        (folder / name).write_bytes(data)
    for name, text in {"users": USERS, **values.get("files", {})}.items():
        (folder / name).write_text(text, encoding="utf-8")
    port, admin = free_port(), free_port()
    text = settings.format(port=port, admin=admin, **values)
    (folder / "gateway.toml").write_text(text, encoding="utf-8")
    argv = [COMMAND, "proxy", "run", folder / "gateway.toml", *options]
    made = Node(port, admin, lab.start_server(argv, port, split=True, **popen), folder)
    wait_until(lambda: listens(admin), "the admin's pages are there")
    assert made.get("/healthz")[0] == 200  # answered once everything is ready, signals included
    return made


# --- clients ---


class Client:
    """Connections from here: each is through both legs, and echoes.

    Args:
        background: Where they run.
    """

    def __init__(self, background):
        self.run = background.run
        self._open = []

    def connect(self, port, who=ALICE, *, source="127.0.0.1", **options):
        """Connect.

        Args:
            port: Of the gateway or the balancer.
            who: The user's credentials.
            source: The address that the client comes from.
            options: More for `RDP`.
        """
        return self.run(self.connecting(port, who, source, **options))

    def refused(self, port, who=ALICE, **options):
        """Connect, and return the error that ends this."""
        try:
            streams = self.connect(port, who, **options)
        except acredssp.CredSSPError as error:
            return error
        self.leave(streams)
        raise AssertionError("the client came in")

    async def connecting(self, port, who, source, **options):
        """Connect, where they run."""
        config = acredssp.ClientConfig(
            authenticate=who,
            policy=acredssp.Policy(dangerous_accept_any_certificate=True),
            delegation=acredssp.delegation.DelegationPolicy(),
        )
        carriage = acredssp.RDP(hybrid_ex=True, **options)
        streams = await acredssp.open_connection(
            "127.0.0.1",
            port,
            config=config,
            carriage=carriage,
            server_hostname="localhost",
            local_addr=(source, 0),
        )
        self._open.append(streams)
        await talk(streams)
        return streams

    def echo(self, streams):
        async def once():
            streams[1].write(b"again")
            return await streams[0].readexactly(5)

        assert self.run(once()) == b"again"

    def leave(self, streams):
        self.run(leave(streams))

    def leave_all(self):
        """Leave whatever is still open."""
        while self._open:
            self.leave(self._open.pop())

    def until_cut(self, streams):
        """Wait until the connection is ended by the other end."""

        async def read():
            with contextlib.suppress(OSError, acredssp.CredSSPError):
                while await streams[0].read(100):
                    pass

        self.run(read())
        self.leave(streams)


# --- HAProxy ---


@dataclasses.dataclass
class Balancer:
    """HAProxy that runs."""

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

    def send_to(self, *names):
        """Send connections to these nodes alone from now on, but for users of the stick table."""
        for name in ("one", "two"):
            assert not self.say(f"set weight gateways/{name} {100 if name in names else 0}%").strip()


def start_balancer(lab, nodes):
    """Start HAProxy by the example, in front of the nodes `one` and `two`."""
    port, control = free_port(), lab.folder / "control"
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
    (lab.folder / "haproxy.cfg").write_text(text, encoding="utf-8")
    lab.start_server([program("haproxy"), "-db", "-f", lab.folder / "haproxy.cfg"], port)
    balancer = Balancer(port, control)
    wait_until(lambda: all(balancer.state(name)[0] == "UP" for name in nodes), "both nodes are up")
    return balancer


def served_by(nodes, client, streams):
    """The name of the node that a connection went through; it is left."""
    before = {name: len(each.records()) for name, each in nodes.items()}
    client.leave(streams)
    wait_until(lambda: any(len(each.records()) > before[name] for name, each in nodes.items()), "a node tells of it")
    (found,) = [name for name, each in nodes.items() if len(each.records()) > before[name]]
    return found

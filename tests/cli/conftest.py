"""What the tests of the command line share: a users file, and servers that run as a program of their own."""

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest
from support.warm import Warm
from typer.main import get_command

from acredssp.cli.app import run

PASSWORD = "c4nary:S3cret\u00e9"
USERS = f"""\
# who may log on
CONTOSO=contoso.com
CONTOSO:alice:{PASSWORD}

:bob:b0bs
CONTOSO:carol:$NT$8846f7eaee8fb117ad06bdd830b7586c
"""
PATIENCE = 120
"""Seconds until a program that says nothing is taken for dead: only a hanging test ever waits so long."""


class Served:
    """`acredssp serve` as a process."""

    def __init__(self, *words):
        argv = [sys.executable, "-m", "acredssp", "serve", "--listen", "127.0.0.1:0", "--json", *words]
        self.process = Warm(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._rest = b""
        self.output = ""
        """All that it wrote, to both streams."""
        self.unread = ""
        """What nobody had read of its standard output when it ended."""
        self.ready = self.line()
        self.address = self.ready["listening"]
        self.port = int(self.address.rpartition(":")[2])

    def line(self):
        """The next object that it prints."""
        while b"\n" not in self._rest:
            readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            chunk = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            assert chunk, f"no more lines: {self._rest!r}"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        self.output += line.decode() + "\n"
        return json.loads(line)

    def stop(self, number=signal.SIGTERM):
        """Tell it to stop; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self):
        out, err = self.process.communicate(timeout=PATIENCE)
        self.unread = (self._rest + out).decode()
        self.output += self.unread + err.decode()
        self._rest = b""
        return self.process.returncode


@pytest.fixture
def served_nowhere():
    """An address that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def users_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "users"
    path.write_text(USERS, encoding="utf-8")
    path.chmod(0o600)  # else the server warns of it
    return path


@pytest.fixture(scope="module")
def served(users_file):
    """Starts servers, each kind once for a file of tests: `served("--hybrid-ex")`.

    Their lines are read in turn, so no other file may leave lines behind that nobody read.
    """
    servers = {}

    def get(*words):
        if words not in servers:
            servers[words] = Served("--users", str(users_file), "--key-type", "ec", *words)
        return servers[words]

    yield get
    for server in servers.values():
        with contextlib.suppress(ProcessLookupError):
            server.stop()


@pytest.fixture
def serve_by():
    """Starts servers of this test's own, by these words alone."""
    servers = []

    def start(*words):
        servers.append(Served("--key-type", "ec", *map(str, words)))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.wait()


@pytest.fixture
def serve_once(serve_by, users_file):
    """Starts servers of this test's own."""
    return lambda *words: serve_by("--users", users_file, *words)


@functools.cache
def tree_of(commands):
    """What typer makes of the app in each call, which takes longer than most commands."""
    return get_command(commands)


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a command line in this process: its exit status, what it printed, and what it said of errors."""
    monkeypatch.setattr("typer.main.get_command", tree_of)
    # Wide, so that no sentence is broken: how long the paths in them are is pytest's choice.
    monkeypatch.setenv("COLUMNS", "400")

    def call(*words):
        status = run([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def password():
    return PASSWORD

"""`serve --workers`: who serves, what a death costs and what it does not, and how all of it ends."""

import collections
import concurrent.futures
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest
from support.by_hand import PATIENCE, connect, log_on, once, read_to_the_end, wait_until_refused
from support.peers import wait_until
from support.warm import Warm

from acredssp.carriage.rdp import RDP
from acredssp.errors import CredSSPError
from acredssp.workers import supervisor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need linux")

MOST_CONNECTIONS = 200
"""Until the kernel's hash has given something to each of a few workers: without that many, it is no matter of luck."""
LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def pids(server):
    """The processes of the workers that run, youngest last."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in children.read_text(encoding="ascii").split()]


def state(pid):
    """The letter of a process's state, as in ps; empty when there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    return ""


def halt(pid):
    """Stop a worker where it stands: from now on the kernel alone takes its connections, and queues them."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) == "T", f"{pid} stands still")


def queued(pid):
    """How many connections stand in the queue of the socket that a worker listens on."""
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    rows = [row.split() for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    (queue,) = [row[4] for row in rows if row[3] == LISTENS and f"socket:[{row[9]}]" in links]
    return int(queue.partition(":")[2], 16)


def worker_of(server, connection):
    """The number of the worker that logged on this connection, from the next line."""
    line = server.line()
    assert line["result"] == "success"
    assert line["peer"].endswith(f":{connection.getsockname()[1]}")
    return line["worker"]


def echo(connection, tls):
    """Send a word and get it back."""
    tls.write(b"word")
    connection.sendall(tls.output())
    received = b""
    while received != b"word":
        ciphertext = connection.recv(65536)
        assert ciphertext, "the connection ended"
        received += tls.read(ciphertext)


def ended(connection):
    """Whether the server's end of the connection is gone."""
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


class Crowd:
    """Connections to a server, with the worker of each; closed with the block."""

    def __init__(self, server, password):
        self._stack = contextlib.ExitStack()
        self._server = server
        self._password = password

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def connect(self):
        return self._stack.enter_context(connect(self._server.port))

    def one_with_each_of(self, count):
        """{worker: (connection, TLS)}, each logged on."""
        found = {}
        for _ in range(MOST_CONNECTIONS):
            connection = self.connect()
            tls = log_on(connection, self._password)
            found[worker_of(self._server, connection)] = connection, tls
            if len(found) == count:
                return found
        pytest.fail(f"only {sorted(found)} of {count} workers ever served")


@pytest.fixture
def crowd(password):
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(Crowd(server, password))


def test_every_worker_serves_and_says_which_it_is(served, crowd):
    server = served("--workers", "3", "--carriage", "tls")
    assert sorted(crowd(server).one_with_each_of(3)) == [1, 2, 3]


def test_a_killed_worker_resets_what_it_had_accepted_and_nothing_else(serve_once, crowd, password):
    server = serve_once("--workers", "2", "--carriage", "tls")
    everybody = crowd(server)
    victim, survivor = pids(server)
    established = everybody.one_with_each_of(2)
    halt(victim)
    waiting = []
    while queued(victim) < 4:
        assert len(waiting) < MOST_CONNECTIONS
        waiting.append(everybody.connect())
    os.kill(victim, signal.SIGKILL)
    for connection in waiting:
        log_on(connection, password)
    numbers = [server.line()["worker"] for _ in waiting]
    assert numbers.count(1) >= 4
    assert ended(established[1][0])
    echo(*established[2])
    assert survivor in pids(server)
    assert server.stop() == 0
    assert server.output.count("listening") == 1
    assert "worker 1 was ended by signal 9, Killed: starting it again" in server.output


def test_a_single_worker_may_be_told_to_go_and_its_queue_stays(serve_once, crowd, password):
    server = serve_once("--workers", "1", "--carriage", "tls")
    everybody = crowd(server)
    (first,) = pids(server)
    halt(first)
    waiting = [everybody.connect() for _ in range(8)]
    assert queued(first) == 8
    os.kill(first, signal.SIGTERM)
    os.kill(first, signal.SIGCONT)
    for connection in waiting:
        log_on(connection, password)
    wait_until(lambda: (now := pids(server)) and first not in now, "a successor takes over")
    log_on(everybody.connect(), password)
    assert [server.line()["result"] for _ in range(9)] == ["success"] * 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_handshakes_of_all_workers_end(serve_once, crowd, password, number):
    server = serve_once("--workers", "2")

    def stop():
        for pid in (server.process.pid, *pids(server)):  # to all, as terminals and service managers do
            with contextlib.suppress(ProcessLookupError):  # a worker with nothing to do is faster
                os.kill(pid, number)
        wait_until_refused(server.port)

    log_on(crowd(server).connect(), password, carriage=RDP(), between=once(stop))
    assert server.wait() == 0
    results = [json.loads(line) for line in server.unread.splitlines()]
    assert [line["principal"] for line in results if line["result"] == "success"] == ["CONTOSO\\alice"]


def test_what_is_established_is_closed_at_the_end(serve_once, crowd):
    server = serve_once("--workers", "2", "--carriage", "tls")
    established = crowd(server).one_with_each_of(2)
    server.process.send_signal(signal.SIGTERM)
    for connection, tls in established.values():
        read_to_the_end(connection, tls)
    assert server.wait() == 0


def test_a_second_signal_ends_all_at_once(serve_once, crowd, password):
    server = serve_once("--workers", "2")
    processes = pids(server)

    def stop_twice():
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server.port)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        assert not any(map(state, processes))

    with pytest.raises((ConnectionError, CredSSPError)):
        log_on(crowd(server).connect(), password, carriage=RDP(), between=once(stop_twice))


def test_workers_end_with_a_supervisor_that_is_killed(serve_once):
    server = serve_once("--workers", "2")
    orphans = pids(server)
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: all(state(pid) in {"", "Z"} for pid in orphans), "the workers end")
    wait_until_refused(server.port)


def test_workers_whose_reader_went_away_go_on_and_say_so(serve_once, crowd, password):
    server = serve_once("--workers", "2", "--carriage", "tls")
    server.process.stdout.close()
    for _ in range(3):  # the second of some worker, which has said so before
        log_on(crowd(server).connect(), password)
    server.process.send_signal(signal.SIGTERM)
    said = server.process.stderr.read().decode().splitlines()
    assert server.process.wait(timeout=PATIENCE) == 0
    server.process.stderr.close()
    text = "cannot write the output: broken pipe: the server goes on without a line for each handshake"
    assert 1 <= len(said) <= 2
    assert set(said) <= {f"warning: worker {number}: {text}" for number in (1, 2)}


def test_lines_of_any_length_stay_whole(serve_once):
    server = serve_once("--workers", "4", "--carriage", "tls")
    fcntl.fcntl(server.process.stdout, fcntl.F_SETPIPE_SZ, 4096)  # so that a line goes through in two pieces
    count, user = 30, "\u00fc" * 1000  # six bytes each in JSON: more than what a pipe keeps together

    def fail(_):
        with connect(server.port) as connection, contextlib.suppress(ConnectionError, CredSSPError):
            log_on(connection, "wrong", user=user)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        attempts = [pool.submit(fail, number) for number in range(count)]
        lines = [server.line() for _ in range(count)]
        for attempt in attempts:
            attempt.result(PATIENCE)
    assert {line["principal"] for line in lines} == {f"CONTOSO\\{user}"}
    assert len({line["worker"] for line in lines}) > 1


def test_people_are_told_which_worker_it_was(users_file, password):
    argv = [sys.executable, "-m", "acredssp", "serve", "--listen", "127.0.0.1:0", "--key-type", "ec"]
    argv += ["--users", str(users_file), "--workers", "1"]
    with Warm(argv, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[2].rstrip(",")
        with connect(int(address.rpartition(":")[2])) as connection:
            log_on(connection, password, carriage=RDP())
        line = process.stdout.readline()
        process.terminate()
    assert line.startswith("success CONTOSO\\alice from 127.0.0.1:")
    assert line.endswith(", worker 1\n")
    assert process.returncode == 0


# --- the supervisor, with workers that do as a test says ---

SCRIPT = """
import os, signal, sys, time
from acredssp import workers

places = workers.bind("127.0.0.1", 0, int(sys.argv[1]))
started = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)

def work(worker):
    os.write(started, b"%d\\n" % worker.number)
{}

supervisor = workers.Supervisor(
    places,
    work,
    on_ready=lambda: print("ready", flush=True),
    warn=lambda text: print(text, file=sys.stderr),
    patience=float(sys.argv[3]),
)
sys.exit(supervisor.run())
"""

WAIT_FOR_THE_END = "worker.lifeline.recv(1)"


@pytest.fixture
def supervised(tmp_path):
    """Runs a supervisor whose workers run the lines given: exit status, outputs, and how often each was started."""

    def run(count, *lines, meanwhile=lambda process: None, patience=PATIENCE):
        log = tmp_path / "started"
        log.touch()
        script = SCRIPT.format("\n".join(f"    {line}" for line in lines))
        argv = [sys.executable, "-c", script, str(count), str(log), str(patience)]
        with Warm(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            meanwhile(process)
            out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err, collections.Counter(map(int, log.read_text(encoding="ascii").split()))

    return run


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("return 3", "ended with status 3"),
        ("raise RuntimeError('at the start')", "ended with status 70"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal 9, Killed"),
    ],
)
def test_a_worker_that_never_comes_up_is_given_up(supervised, death, how):
    status, out, err, starts = supervised(
        2, f"if worker.number == 2: {death}", "worker.ready()", WAIT_FOR_THE_END, "return 0"
    )
    assert status == supervisor.EXIT_FAILED
    assert out == ""  # it never was ready
    assert starts == {1: 1, 2: 5}
    assert f"worker 2 {how}; it was not ready after any of 5 starts: giving up" in err
    assert [line.rpartition(" in ")[2] for line in err.splitlines() if "starting it again in" in line] == [
        "0.1 s",
        "0.2 s",
        "0.4 s",
    ]


def test_ready_is_said_once_and_workers_begin_together(supervised):
    def kill_one(process):
        assert process.stdout.readline() == "ready\n"
        process.stderr.readline()  # a worker ended after it had been ready, and has a successor
        process.terminate()

    status, out, err, starts = supervised(
        2,
        "worker.ready()",
        "if worker.number == 1 and not os.path.exists(sys.argv[2] + '.once'):",
        "    open(sys.argv[2] + '.once', 'x').close()",
        "    return 1",
        WAIT_FOR_THE_END,
        "return 0",
        meanwhile=kill_one,
    )
    assert (status, out, err) == (0, "", "")
    assert starts[2] == 1
    assert starts[1] in {1, 2}  # the signal may be faster than the successor


def test_a_worker_that_does_not_stop_is_killed(supervised):
    status, _, err, _ = supervised(
        1,
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "worker.ready()",
        "while True: signal.pause()",
        meanwhile=lambda process: (process.stdout.readline(), process.terminate()),
        patience=0.1,
    )
    assert status == supervisor.EXIT_FAILED
    assert "worker 1 does not stop: killing it" in err


REPLACED = """
import os, select, signal, socket, sys
from acredssp import workers

def work(worker):
    worker.ready()
    connections = []
    while worker.lifeline not in (ready := select.select([worker.lifeline, *worker.sockets], [], [])[0]):
        try:
            connections.append(ready[0].accept()[0])
        except BlockingIOError:  # the other one was faster
            continue
        connections[-1].sendall(f"{os.getpid()} {sys.argv[1]}\\n".encode())
    for connection in connections:
        connection.settimeout(20)
        connection.recv(1)  # until the client has ended
    return 0

left = workers.inherited()
port = left[0].getsockname()[1] if left else 0
places = workers.bind("127.0.0.1", port, int(sys.argv[2]), left)
supervisor = workers.Supervisor(
    places, work, warn=lambda text: print(text, flush=True), on_ended=lambda pid: print("ended", pid, flush=True),
    on_ready=lambda: print("ready", sys.argv[1], places[0][0].getsockname()[1], flush=True),
    on_signals={signal.SIGUSR2: lambda: supervisor.replace([sys.executable, __file__, "new", sys.argv[3], "0"])},
)
sys.exit(supervisor.run())
"""


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 1), (2, 2)])
def test_a_newer_program_takes_over_and_no_connection_is_lost(tmp_path, before, after):
    script = tmp_path / "server.py"
    script.write_text(REPLACED, encoding="utf-8")
    argv = [sys.executable, script, "old", str(before), str(after)]
    with Warm(argv, stdout=subprocess.PIPE, text=True) as process, contextlib.ExitStack() as stack:
        word, which, port = process.stdout.readline().split()
        assert (word, which) == ("ready", "old")

        def served_by():
            connection = stack.enter_context(connect(int(port)))
            return connection, connection.recv(100).split()

        old, (_, program) = served_by()
        assert program == b"old"
        process.send_signal(signal.SIGUSR2)
        replies = []
        while b"new" not in replies:
            replies.append(served_by()[1][1])  # neither refused nor reset, at any moment
        assert process.stdout.readline() == f"ready new {port}\n"
        assert len(pids(process_of(process))) >= after + 1  # the old connection keeps its worker
        old.sendall(b"x")
        stack.close()
        ended = {process.stdout.readline().split()[0] for _ in range(before)}
        assert ended == {"ended"}
        assert len(pids(process_of(process))) == after
        process.terminate()
        assert process.wait(PATIENCE) == 0


def process_of(process):
    return types.SimpleNamespace(process=process)


@pytest.mark.parametrize("missing", ["platform", "fork", "SO_REUSEPORT"])
def test_a_platform_without_what_it_takes_is_a_usage_error(command, users_file, monkeypatch, missing):
    match missing:
        case "platform":
            monkeypatch.setattr(sys, "platform", "darwin")
        case "fork":
            monkeypatch.delattr(os, "fork")
        case "SO_REUSEPORT":
            monkeypatch.delattr(socket, "SO_REUSEPORT")
    status, out, err = command("serve", "--users", users_file, "--listen", "127.0.0.1:0", "--workers", "2")
    assert (status, out) == (2, "")
    assert "--workers needs linux" in err

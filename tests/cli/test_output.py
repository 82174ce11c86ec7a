"""Output that cannot be written: an exit status of its own and one line, whatever the command found."""

import io
import json
import os
import socket
import subprocess
import sys

import pytest

from acredssp.cli import output
from acredssp.cli.app import run
from acredssp.cli.output import CANNOT_WRITE, OutputError

PATIENCE = 120

NOWHERE = ["login", "127.0.0.1:{port}", "-u", "u", "-p", "c4nary"]
"""A logon that fails, since nobody listens there."""
PROBE = ["probe", "127.0.0.1:{port}"]
SERVE = ["serve", "--users", "{users}", "--listen", "127.0.0.1:0", "--key-type", "ec"]
COMMANDS = [
    ["--version"],
    ["login", "--help"],
    [*NOWHERE, "--json"],
    ["login", "--json"],
    ["demo", "--count", "1", "--json"],
    ["demo", "--count", "1"],
    SERVE,
    [*SERVE, "--json"],
    [*SERVE, "--workers", "2"],
]


@pytest.fixture
def words(users_file):
    """Fills in a command line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    def fill(command):
        return [word.replace("{port}", str(port)).replace("{users}", str(users_file)) for word in command]

    return fill


def start(words, **streams):
    return subprocess.run(
        [sys.executable, "-m", "acredssp", *words], check=False, timeout=PATIENCE, text=True, **streams
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux's full device")  # noqa: PTH110 - no file
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_has_an_exit_status_of_its_own_and_one_line(words, command):
    with open("/dev/full", "w", encoding="ascii") as full:  # noqa: PTH123 - a device
        done = start(words(command), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == CANNOT_WRITE == 74
    assert done.stderr.splitlines()[-1] == "cannot write the output: no space left on device"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", [["--version"], [*NOWHERE, "--json"], SERVE, PROBE], ids=" ".join)
def test_a_pipe_that_nobody_reads_has_the_same(words, command):
    reader, writer = os.pipe()
    os.close(reader)
    done = start(words(command), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == CANNOT_WRITE
    assert done.stderr.splitlines()[-1] == "cannot write the output: broken pipe"


def test_what_cannot_be_said_to_people_changes_no_status(words):
    reader, writer = os.pipe()
    os.close(reader)
    done = start(words(NOWHERE), stdout=subprocess.PIPE, stderr=writer)
    assert (done.returncode, done.stdout) == (4, "")
    os.close(writer)


@pytest.mark.parametrize(
    ("closed", "status"), [("1", CANNOT_WRITE), ("2", 4), ("1 2", CANNOT_WRITE), ("0 1 2", CANNOT_WRITE)]
)
def test_a_program_without_standard_streams_has_the_status_of_what_it_did(words, closed, status):
    closing = " ".join(f"{number}>&-" for number in closed.split())
    command = [sys.executable, "-m", "acredssp", *words(NOWHERE), "--json"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", *command], check=False, timeout=PATIENCE, capture_output=True
    )
    assert done.returncode == status


def test_the_result_of_a_logon_is_kept_where_it_can_be_written(words):
    done = start([*words(NOWHERE), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 4
    assert '"network_error"' in done.stdout


def test_the_streams_are_put_back():
    before = sys.stdout, sys.stderr
    with pytest.raises(OutputError), output.guarded():
        raise OutputError
    assert (sys.stdout, sys.stderr) == before


def test_a_stream_that_was_closed_cannot_be_written(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with output.guarded(), pytest.raises(OutputError, match="it is closed"):
        sys.stdout.write("text")


def test_a_fault_of_ours_is_no_result(monkeypatch, capsys):
    def fault(_words, **_options):
        raise ZeroDivisionError

    monkeypatch.setattr("acredssp.cli.app.command_line", fault)
    assert run(["demo"]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--password-stdin"]], ids=["prompt", "stdin"])
def test_a_logon_without_a_standard_input_for_its_password_is_a_usage_error(options):
    command = [sys.executable, "-m", "acredssp", "login", "127.0.0.1:1", "-u", "u", "--json", *options]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command], check=False, timeout=PATIENCE, text=True, capture_output=True
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["result"] == "usage"
    assert "Traceback" not in done.stderr

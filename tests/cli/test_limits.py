"""The limits of `serve`, and the page about them: its numbers and its fail2ban filters are what is so."""

import io
import json
import logging
import re
import socket
from pathlib import Path

import pytest
from rich.console import Console
from support.by_hand import PATIENCE, connect, log_on

from acredssp.aio.failures import FailureLimit
from acredssp.aio.report import HandshakeOutcome, HandshakeReport, log_report
from acredssp.cli import arguments
from acredssp.cli.lines import Lines
from acredssp.cli.outcome import UsageError
from acredssp.errors import AuthenticationError, LimitExceeded, PeerClosed
from acredssp.mechanisms.base import Principal
from acredssp.status import NTSTATUS, Stage

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
# What fail2ban puts in place of its tag, as far as it matters here.
ADDRESS = r"(?P<address>[0-9a-fA-F:.]+)"
OF_JSON, OF_THE_LOG = (
    re.compile(text.replace("<ADDR>", ADDRESS)) for text in re.findall(r"^failregex = (.*)$", PAGE, re.MULTILINE)
)


# --- words ---


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10/10", FailureLimit(10, 600.0)),
        ("3/0.5", FailureLimit(3, 30.0)),
        ("0", None),
        ("1/1440", FailureLimit(1, 86400.0)),
    ],
)
def test_a_limit_of_failures(text, limit):
    assert arguments.failure_limit(text) == limit


@pytest.mark.parametrize("text", ["", "10", "0/10", "10/0", "-1/10", "10/1441", "10/nan", "a/b", "10/10/10"])
def test_what_is_no_limit_of_failures_is_a_usage_error(text):
    with pytest.raises(UsageError, match="--max-failures: expected N/MINUTES"):
        arguments.failure_limit(text)


def test_the_page_has_the_defaults_of_the_command(command):
    status, out, _ = command("serve", "--help")
    assert status == 0
    said = dict(re.findall(r"^\| .*`(--[a-z-]+) [A-Z/]+`.* \| ([0-9/]+) \|$", PAGE, re.MULTILINE))
    assert set(said) == {
        "--max-handshakes",
        "--max-per-source",
        "--max-failures",
        "--max-failed",
        "--handshake-timeout",
    }
    for option, default in said.items():
        of_option = out.partition(f"{option} ")[2]
        assert re.search(rf"default:\s+{default}(?:\.0)?[;\]]", of_option[:1200]), option


# --- a server ---


def refused(server, user, secret="wrong", **options):
    """Try to log on; the line of the server."""
    with connect(server.port) as connection, pytest.raises((AuthenticationError, ConnectionError)):
        log_on(connection, secret, user=user, **options)
    return server.line()


def test_a_guesser_has_to_wait_and_one_line_says_so(serve_once, password):
    server = serve_once("--carriage", "tls", "--max-failures", "2/10")
    tries = [("alice", "wrong"), ("ALICE", "guess"), ("alice", password), ("alice", password)]
    lines = [refused(server, *attempt) for attempt in tries]
    assert [line["outcome"] for line in lines] == ["denied", "denied", "limited", "limited"]
    assert {(line["result"], line["nt_status"]) for line in lines} == {("denied", "STATUS_LOGON_FAILURE")}
    assert server.stop() == 0
    said = [line for line in server.output.splitlines() if "wrong passwords" in line]
    assert said == [
        "WARNING acredssp: too many wrong passwords from 127.0.0.1 for ALICE: no more tries for 600 seconds"
    ]


def test_a_source_at_its_limit_is_turned_away(serve_once, password):
    server = serve_once("--carriage", "tls", "--max-per-source", "1")
    with connect(server.port) as silent:
        silent.sendall(b"\x16")
        with connect(server.port) as another:
            assert another.recv(1) == b""
        line = server.line()
        assert (line["outcome"], line["stage"], line["principal"]) == ("limited", "connect", None)
        assert "--max-per-source" in line["hint"]
    assert server.line()["outcome"] == "left"


def test_the_handshakes_of_all_together_are_limited(serve_once):
    server = serve_once("--carriage", "tls", "--max-handshakes", "1")
    with connect(server.port) as silent:
        silent.sendall(b"\x16")
        with connect(server.port) as another:
            assert another.recv(1) == b""
        assert server.line()["outcome"] == "limited"


def test_of_those_that_a_limit_turns_away_one_line_a_second_is_printed(monkeypatch):
    now, told = [0.0], io.StringIO()
    monkeypatch.setattr("acredssp.cli.lines.monotonic", lambda: now[0])
    lines = Lines(Console(file=told), print, as_json=True)
    report = HandshakeReport(None, LimitExceeded("no"), None, None, outcome=HandshakeOutcome.LIMITED)
    for now[0] in (0.0, 0.5, 0.99, 1.0, 1.5):
        lines.handshake(report)
    lines.end()
    assert len(told.getvalue().splitlines()) == 2


def test_a_handshake_has_so_much_time(serve_once):
    server = serve_once("--carriage", "tls", "--handshake-timeout", "0.2")
    with connect(server.port) as silent:
        assert silent.recv(100) == b""
    line = server.line()
    assert line["outcome"] == "timeout"
    assert line["elapsed_ms"] < 30_000, "as long as without the option"


def test_nothing_is_said_of_a_connection_without_a_byte(serve_once):
    server = serve_once("--carriage", "tls")
    for _ in range(3):
        connect(server.port).close()
    assert refused(server, "alice")["outcome"] == "denied"
    assert server.stop() == 0
    assert server.unread == ""


def test_which_decision_refused_is_told(serve_once, password):
    server = serve_once("--carriage", "tls", "--refuse", "alice")
    assert refused(server, "nobody")["hook"] == "lookup"
    assert refused(server, "alice")["hook"] is None
    with connect(server.port) as connection:
        log_on(connection, password)
        line = server.line()
    assert (line["outcome"], line["hook"]) == ("denied", "admit")


# --- fail2ban ---


FORGED = '"x", "nt_status": "STATUS_LOGON_FAILURE", "peer": "203.0.113.9:1", '


@pytest.mark.parametrize("user", ["alice", "nobody", FORGED, "203.0.113.9", 'x\\", "peer": "203.0.113.9:1"'])
def test_the_filter_finds_the_address_of_a_guesser_and_no_other(serve_once, user):
    server = serve_once("--carriage", "tls")
    refused(server, user, domain="" if "\\" in user else "CONTOSO")
    line = server.output.splitlines()[-1]
    found = OF_JSON.search(line)
    assert found["address"] == "127.0.0.1"
    assert len([*OF_JSON.finditer(line)]) == 1


def test_the_filter_finds_no_success_and_nobody_who_is_not_allowed(serve_once, password):
    server = serve_once("--carriage", "tls", "--refuse", "alice")
    with connect(server.port) as connection:
        log_on(connection, password)
        server.line()
    with connect(server.port) as connection:
        log_on(connection, "b0bs", user="bob", domain="")
        server.line()
    assert [json.loads(line).get("result") for line in server.output.splitlines()] == [None, "denied", "success"]
    assert not any(OF_JSON.search(line) for line in server.output.splitlines())


def test_the_filter_knows_ipv6(users_file, serve_by):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    server = serve_by("--users", users_file, "--carriage", "tls", "--listen", "[::1]:0")
    with (
        socket.create_connection(("::1", server.port), timeout=PATIENCE) as connection,
        pytest.raises(AuthenticationError),
    ):
        log_on(connection, "wrong")
    server.line()
    assert OF_JSON.search(server.output.splitlines()[-1])["address"] == "::1"


def logged(caplog, error, outcome, principal, peer=("192.0.2.7", 50123)):
    """A line of the logger, in the page's format and without the time, which fail2ban cuts out."""
    with caplog.at_level(logging.INFO, "acredssp"):
        log_report(HandshakeReport(peer, error, None, principal, outcome=outcome))
    return logging.Formatter(" %(levelname)s %(name)s %(message)s").format(caplog.records[-1])


def denied():
    return AuthenticationError("refused", stage=Stage.NEGO_TOKEN, nt_status=NTSTATUS.STATUS_LOGON_FAILURE)


@pytest.mark.parametrize(
    ("peer", "address"), [(("192.0.2.7", 50123), "192.0.2.7"), (("2001:db8::1", 50123, 0, 0), "2001:db8::1")]
)
@pytest.mark.parametrize("outcome", [HandshakeOutcome.DENIED, HandshakeOutcome.LIMITED])
def test_the_filter_of_the_log_finds_a_guesser(caplog, peer, address, outcome):
    line = logged(caplog, denied(), outcome, Principal("bob", "CONTOSO"), peer)
    assert OF_THE_LOG.search(line)["address"] == address


def test_the_filter_of_the_log_cannot_be_led_astray(caplog):
    forged = "\n INFO acredssp handshake with 203.0.113.9:1 failed: denied, nt status STATUS_LOGON_FAILURE, "
    line = logged(caplog, PeerClosed("left"), HandshakeOutcome.LEFT, Principal(forged, forged))
    assert OF_THE_LOG.search(line) is None

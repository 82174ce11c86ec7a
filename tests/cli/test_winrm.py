"""`acredssp winrm` against the toy service behind HTTP and CredSSP."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.canaries import Canaries, given_to, taps
from support.engine import pem
from support.peers import free_port
from support.turns import VERSIONS
from support.warm import Warm
from support.wsman_http import serving
from support.wsman_toy import Fault, Toy, greet, upper

from acredssp.cli.outcome import in_options
from acredssp.credentials import Password
from acredssp.md4 import md4
from acredssp.policy import Policy

PATIENCE = 60


async def large(process):
    return 0xC0000005


async def nasty(process):
    process.write("stdout", b"a\x1b[2J\x9b\tb\n")
    return 0


async def forging(process):
    """Writes over its own line, and cuts a line break of Windows in two."""
    for piece in (b"one\r", b"\n", b"bad\rgood", b"\b\b\r", b"\r", b"\ntwo\n", b"three\r"):
        process.write("stdout", piece)
        process.write("stderr", b"x\n")
    return 0


async def until_interrupted(process):
    process.write("stdout", b"begun\n")
    await process.interrupted.wait()
    process.write("stdout", b"^C\n")
    return 1


async def stubborn(process):
    process.write("stdout", b"begun\n")
    await process.interrupted.wait()
    process.write("stdout", b"no\n")
    await process.stdin.get()


PROGRAMS = {
    "greet": greet,
    "upper": upper,
    "cmd": upper,
    "large": large,
    "nasty": nasty,
    "forging": forging,
    "wait": until_interrupted,
    "stubborn": stubborn,
}


@pytest.fixture(autouse=True)
def no_realm(monkeypatch):
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")


@pytest.fixture
def service():
    toy = Toy(PROGRAMS)
    with serving(toy) as server:
        server.toy = toy
        server.url = f"http://localhost:{server.server_port}/wsman"
        yield server


@pytest.fixture
def authority(tmp_path):
    path = tmp_path / "authority.pem"
    path.write_bytes(pem()[0])
    return path


@pytest.fixture
def winrm(service, authority, command):
    """Runs the command as alice."""

    def call(*words, user="CONTOSO\\alice", password="Passw0rd!"):
        return command("winrm", service.url, "-u", user, "-p", password, "--ca", authority, *words)

    return call


def test_a_command_runs_and_its_exit_status_is_this_one_s(winrm, service):
    assert winrm("greet", "you") == (3, "hello\r\n", "oh\r\n")
    assert service.toy.started == ["greet you"]
    assert service.toy.shells == {}
    (exchange,) = service.exchanges
    assert exchange.context.info.delegated == "password"


def test_a_hash_runs_a_command_and_delegates_nothing(service, authority, command):
    digest = md4("Passw0rd!".encode("utf-16-le")).hex()
    words = ["-u", "CONTOSO\\alice", "--nt-hash", digest, "--ca", authority, "greet", "you"]
    assert command("winrm", service.url, *words) == (3, "hello\r\n", "oh\r\n")
    (exchange,) = service.exchanges
    assert exchange.context.info.delegated == "nothing"


def test_one_secret_is_enough(service, authority, command):
    words = ["-u", "u", "-p", "c4nary", "--ccache", "default", "--ca", authority, "greet"]
    status, _, err = command("winrm", service.url, *words)
    assert status == 2
    assert "expected one of -p, --password-stdin, --nt-hash, --ccache and --keytab, got several" in " ".join(
        err.split()
    )
    assert "c4nary" not in err


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_tls(version, authority, command):
    toy = Toy(PROGRAMS)
    with serving(toy, Policy(min_tls=VERSIONS[version], max_tls=VERSIONS[version])) as server:
        words = ["-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", authority, "greet"]
        assert command("winrm", f"localhost:{server.server_port}", *words)[0] == 3


def test_an_exit_status_that_does_not_fit_is_254(winrm):
    assert winrm("large")[0] == 254


def test_without_a_command_the_logon_is_tried(winrm, service):
    status, out, err = winrm()
    assert (status, err) == (0, "")
    assert f"you are logged on to {service.url}" in out
    assert "Microsoft Corporation OS: 10.0.20348 SP: 0.0 Stack: 3.0" in out
    assert service.toy.requests == []


def test_json_has_the_output_and_the_exit_status(winrm):
    status, out, err = winrm("--json", "greet")
    report = json.loads(out)
    assert (status, err) == (3, "")
    assert (report["result"], report["exit_code"], report["message"], report["fault"]) == ("success", 3, None, None)
    assert (report["stdout"], report["stderr"], report["may_lack_output"]) == ("hello\r\n", "oh\r\n", False)
    assert report["server"] == "Microsoft Corporation OS: 10.0.20348 SP: 0.0 Stack: 3.0"
    assert json.loads(winrm("--json", "large")[1])["exit_code"] == 0xC0000005


def test_output_that_is_no_text_is_passed_on_as_it_is(service, authority):
    async def binary(process):
        process.write("stdout", bytes(range(256)))
        return 0

    service.toy.programs["binary"] = binary
    with Started(service.url, authority, "binary") as started:
        assert started.end() == (0, bytes(range(256)), b"")


def test_output_that_cannot_be_written_is_told_and_ends_the_command(service, authority):
    with open("/dev/full", "wb") as full, Started(service.url, authority, "wait", stdout=full) as started:  # noqa: PTH123
        status, _, err = started.end()
    assert status == 74
    assert b"cannot write the output: no space left on device" in err
    assert service.toy.shells == {}


def test_no_output_moves_the_cursor_of_a_terminal(winrm, monkeypatch):
    monkeypatch.setattr("acredssp.cli.output._Guarded.isatty", lambda self: True)
    assert winrm("nasty")[1] == "a\\x1b[2J\N{REPLACEMENT CHARACTER}\tb\n"


def test_no_output_writes_over_a_line_of_a_terminal(winrm, monkeypatch):
    monkeypatch.setattr("acredssp.cli.output._Guarded.isatty", lambda self: True)
    assert winrm("forging")[1:] == ("one\nbad\\rgood\\x08\\x08\ntwo\nthree", "x\n" * 7)


# --- the command line ---


@pytest.mark.parametrize(
    ("words", "ran"),
    [
        (["greet", "-v"], "greet -v"),
        (["--no-profile", "greet", "--json", "-u", "--help"], "greet --json -u --help"),
        (["--", "greet", "-v"], "greet -v"),
        (["greet", "--", "-v"], "greet -- -v"),
        (["--json", "--", "greet", "--", "-v"], "greet -- -v"),
    ],
)
def test_options_behind_the_command_are_the_command_s_own(winrm, service, words, ran):
    assert winrm(*words)[0] == 3
    assert service.toy.started == [ran]


def test_options_behind_a_url_behind_two_dashes_are_the_command_s_own(service, authority, command):
    words = ["-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", authority]
    assert command("winrm", *words, "--", service.url, "greet", "-v")[0] == 3
    assert service.toy.started == ["greet -v"]


def test_a_command_that_begins_with_an_option_needs_two_dashes(command):
    status, out, err = command("winrm", "host", "-u", "u", "-p", "c4nary", "-c", "true")
    assert (status, out) == (2, "")
    assert "No such option: -c" in err


def test_a_shell_that_is_none(command):
    status, _, err = command("winrm", "host", "-u", "u", "-p", "c4nary", "--shell", "bash", "x")
    assert status == 2
    assert "usage: Invalid value for '--shell': 'bash' is not one of 'cmd', 'powershell'." in " ".join(err.split())


# --- input ---


class Input:
    """A standard input."""

    def __init__(self, data):
        self.buffer = io.BufferedReader(io.BytesIO(data))

    def isatty(self):
        return False


@pytest.fixture
def given(monkeypatch):
    return lambda data: monkeypatch.setattr(sys, "stdin", Input(data))


@pytest.mark.parametrize("words", [["--stdin", "upper"], ["-i", "upper"], ["-"]])
def test_the_standard_input_reaches_the_command(winrm, service, given, words):
    given(b"abc\n")
    assert winrm(*words) == (0, "ABC\n", "")
    assert service.toy.started == (["cmd /q"] if words == ["-"] else ["upper"])


def test_the_password_and_the_input_share_the_standard_input(service, authority, command, given):
    given(b"Passw0rd!\nabc\n")
    words = ["-u", "CONTOSO\\alice", "--password-stdin", "--ca", authority, "--stdin", "upper"]
    assert command("winrm", service.url, *words) == (0, "ABC\n", "")


def test_no_input_is_sent_unless_it_is_asked_for(winrm, service, given):
    given(b"abc\n")
    assert winrm("greet")[0] == 3
    assert "Send" not in service.toy.requests


def test_a_command_that_ends_before_its_input_is_no_failure(winrm, service, given):
    given(b"x" * 300_000)
    assert winrm("--stdin", "greet")[0] == 3


# --- Ctrl-C ---


class Started:
    """The command in a process of its own, whose output can be waited for."""

    def __init__(self, url, authority, *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE):
        options = ["-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", str(authority)]
        self.process = Warm(
            [sys.executable, "-m", "acredssp", "winrm", url, *options, *words],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def until(self, line):
        assert self.process.stdout.readline() == line

    def end(self):
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


def test_ctrl_c_interrupts_the_command(service, authority):
    with Started(service.url, authority, "wait") as started:
        started.until(b"begun\n")
        started.process.send_signal(signal.SIGINT)
        assert started.end() == (130, b"^C\n", b"")
    assert service.toy.requests.count("Signal") == 2  # ctrl_c, and terminate to let go of it
    assert service.toy.shells == {}


def test_a_command_ends_while_its_input_stays_open(service, authority):
    with Started(service.url, authority, "--stdin", "greet", stdin=subprocess.PIPE) as started:
        assert started.process.wait(PATIENCE) == 3
        assert (started.process.stdout.read(), started.process.stderr.read()) == (b"hello\r\n", b"oh\r\n")


def pressing(service, *receives):
    """Press Ctrl-C each time when so many requests for output have come; the first one has then been answered."""

    def press():
        for count in receives:
            asyncio.run_coroutine_threadsafe(service.toy.until("Receive", count), service.loop).result(PATIENCE)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_a_second_ctrl_c_ends_a_stubborn_command_at_once(winrm, service, monkeypatch):
    monkeypatch.setattr("acredssp.cli.winrm._GRACE", 10_000.0)
    thread = pressing(service, 2, 3)
    assert winrm("stubborn") == (130, "begun\nno\n", "")
    thread.join()
    assert service.toy.shells == {}


def test_a_stubborn_command_is_ended_after_a_while(winrm, service, monkeypatch):
    monkeypatch.setattr("acredssp.cli.winrm._GRACE", 0.2)
    thread = pressing(service, 2)
    status, out, _ = winrm("stubborn")
    thread.join()
    assert (status, out[:6]) == (130, "begun\n")
    assert service.toy.requests.count("Signal") == 2
    assert service.toy.shells == {}


# --- secrets ---

SECRET = "Passw0rd!"


@pytest.mark.requirement("defect.secrets-in-logs")
@pytest.mark.parametrize(
    ("password", "more", "found"),
    [
        (SECRET, {}, set()),
        (SECRET, {"LEAK": SECRET}, {"environ"}),
        ("Wr0ng-C4n4ry", {}, set()),
    ],
    ids=["right", "leaked", "wrong"],
)
def test_no_canary_is_in_what_the_command_writes_and_is_given(service, authority, tmp_path, password, more, found):
    """Logs are at DEBUG with asyncio's debug; the keys and tokens are those that the service sees."""
    hashes = {name: Password(secret).nt_hash for name, secret in {"hash": SECRET, "wrong hash": password}.items()}
    words = ["-u", "CONTOSO\\alice", "--password-stdin", "--ca", str(authority), "--log-level", "debug", "wait"]
    given = []
    with taps(Canaries(password=SECRET, wrong=password, **hashes)) as canaries, contextlib.ExitStack() as stack:
        process = stack.enter_context(
            Warm(
                [sys.executable, "-m", "acredssp", "winrm", service.url, *words],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
                env=os.environ | {"PYTHONASYNCIODEBUG": "1"} | more,
            )
        )  # fmt: skip
        stack.callback(process.kill)
        process.stdin.write(f"{password}\n".encode())
        process.stdin.close()
        if process.stdout.readline() == b"begun\n":
            given = [*given_to(process.pid)]
            process.send_signal(signal.SIGINT)
        told = [("output", process.stdout.read().decode()), ("log", process.stderr.read().decode())]
        assert process.wait(PATIENCE) == (130 if password == SECRET else 255)
        assert ("DEBUG" if password == SECRET else "STATUS_LOGON_FAILURE") in told[1][1]
        told += [("file", path.read_bytes().decode("latin-1")) for path in tmp_path.iterdir() if path != authority]
        leaks = {where.partition(" ")[0]: names for where, text in [*given, *told] if (names := canaries.leaks(text))}
    assert leaks.keys() == found, leaks
    assert [kind for kind in ("session key", "HTTP token") if any(name.startswith(kind) for name in canaries.secrets)]


# --- lost connections ---


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_lost_during_receive_runs_no_command_twice(winrm, service, when):
    service.lose_connection("Receive", when)
    assert winrm("greet") == (3, "hello\r\n", "oh\r\n")
    assert service.toy.started == ["greet"]
    assert len(service.exchanges) == 2, "the second connection logs on anew"


def test_output_that_an_old_service_lost_is_told_of(command, authority):
    toy = Toy(PROGRAMS, stack=2)
    with serving(toy) as server:
        server.lose_connection("Receive", "before")
        words = ["-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", authority]
        url = f"http://localhost:{server.server_port}/wsman"
        status, out, err = command("winrm", url, *words, "greet")
        assert (status, out) == (3, "hello\r\n")
        assert "this old service does not repeat" in err


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_old_service_is_not_asked_twice_for_a_command(command, authority, when):
    toy = Toy(PROGRAMS, stack=2)
    with serving(toy) as server:
        server.lose_connection("Command", when)
        words = ["-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", authority]
        url = f"http://localhost:{server.server_port}/wsman"
        status, _, err = command("winrm", url, *words, "greet")
    assert status == 255
    assert "network error" in err
    assert "look on the server whether it was done" in err
    assert toy.requests.count("Command") <= 1
    assert len(toy.started) == (1 if when == "after" else 0)


# --- what goes wrong ---


def test_a_wrong_password_is_told(winrm, service):
    status, out, err = winrm("--json", "greet", password="wrong")
    report = json.loads(out)
    assert (status, report["result"], report["exit_code"]) == (255, "denied", None)
    assert report["nt_status"] == "STATUS_LOGON_FAILURE"
    assert "check the user, the domain and the password" in err
    assert service.toy.started == []


def test_a_refused_request_is_told_with_its_number(winrm, service):
    service.toy.fault_next["Create"] = Fault(5, "w:AccessDenied", "Access is denied. ")
    status, out, err = winrm("--json", "greet")
    report = json.loads(out)
    assert (status, report["result"], report["fault"]) == (255, "denied", 5)
    assert "Remote Management Users" in err


def test_a_server_that_nobody_runs(command):
    words = ["-u", "alice", "-p", "x", "--insecure", "greet"]
    status, out, err = command("winrm", f"localhost:{free_port()}", *words)
    assert (status, out) == (255, "")
    assert "network error: cannot connect to http://localhost:" in err
    assert "check the host and the port of the url, and that the service runs" in err


def test_an_unknown_certificate_is_refused(service, command):
    status, _, err = command("winrm", service.url, "-u", "alice", "-p", "x", "greet")
    assert status == 255
    assert "certificate" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ftp://host/"], "expected a URL of http or https"),
        (["http://alice@host/"], "give the user with -u"),
        (["http://host:0x1/"], "expected a port"),
        (["http:///wsman"], "expected a URL such as"),
        (["http://host/wsman?x=1"], "expected a URL such as"),
        (["host", "--insecure", "--pin", "0" * 64], "expected one of --insecure, --ca and --pin"),
        (["host", "--timeout", "0"], "--timeout"),
        (["host", "--spn", "no spn"], "--spn"),
        (["host", "--shell", "bash"], "bash"),
    ],
)
def test_a_wrong_command_line_is_told(command, words, said):
    status, out, err = command("winrm", *words, "-u", "alice", "-p", "x")
    assert (status, out) == (2, "")
    assert said in err


def test_a_missing_package_is_one_line(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "acredssp.winrm.httpx", None)
    status, _, err = command("winrm", "host", "-u", "alice", "-p", "x", "greet")
    assert status == 2
    assert "pip install 'acredssp[winrm]'" in err


# --- PowerShell ---


@pytest.fixture
def powershell(authority, command):
    """Runs a script as alice; the scripts are functions by their text."""
    toys = pytest.importorskip("support.wsman_powershell")

    def call(scripts, *words, last_exit_code=None):
        toy = toys.PowerShellToy(scripts)
        toy.last_exit_code = last_exit_code
        with serving(toy) as server:
            options = ["-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", authority, "--shell", "powershell"]
            result = command("winrm", f"http://localhost:{server.server_port}/wsman", *options, *words)
        assert toy.shells == {}
        return result

    return call


async def write_all(script):
    script.write_output("hello")
    script.write_progress("Copying", 1, "5 of 10")
    script.write_warning("careful")


def test_a_script_runs_in_powershell(powershell):
    assert powershell({"Get-All -x": write_all}, "--", "Get-All", "-x") == (0, "hello\n", "WARNING: careful\n")


def test_the_exit_status_of_a_script_is_this_one_s(powershell):
    assert powershell({"x": write_all}, "x", last_exit_code=7)[0] == 7


async def upper_lines(script):
    for line in await script.input():
        script.write_output(line.upper())


def test_the_standard_input_is_the_script_s_input(powershell, given):
    given(b"a\nb\n")
    assert powershell({"x": upper_lines}, "--stdin", "x") == (0, "A\nB\n", "")


def test_the_script_may_come_by_the_standard_input(powershell, given):
    given(b"Get-Date\n")
    assert powershell({"Get-Date\n": write_all}, "-")[:2] == (0, "hello\n")


# --- why a logon fails ---


class Raw(BaseHTTPRequestHandler):
    """Answers every request in the same way."""

    protocol_version, timeout = "HTTP/1.1", 60

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.wfile.write(self.server.answer)


@contextlib.contextmanager
def answering(status_line, *headers):
    """A server that says this and no more."""
    with ThreadingHTTPServer(("127.0.0.1", free_port()), Raw) as server:
        lines = [f"HTTP/1.1 {status_line}", *headers, "Content-Length: 0", "", ""]
        server.answer = "\r\n".join(lines).encode()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/wsman"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status_line", "headers", "said"),
    [
        ("401 Unauthorized", ["WWW-Authenticate: Negotiate", "WWW-Authenticate: Kerberos"], "got Negotiate, Kerberos"),
        ("401 Unauthorized", ["WWW-Authenticate: Basic realm=x"], "Enable-WSManCredSSP -Role Server"),
        ("401 Unauthorized", [], "got none"),
        ("404 Not Found", [], "WinRM's is /wsman"),
        ("407 Proxy Authentication Required", [], "a proxy in between"),
        ("413 Too Large", [], "in leg 1 of the logon, the tls handshake inside credssp, got status 413"),
        ("503 Service Unavailable", [], "got status 503"),
    ],
)
def test_a_server_without_credssp_is_told_by_what_it_said(command, status_line, headers, said):
    with answering(status_line, *headers) as url:
        status, out, err = command("winrm", url, "-u", "alice", "-p", "x", "--insecure", "greet")
    assert (status, out) == (255, "")
    assert said in err


def test_a_server_that_is_open_to_the_encryption_oracle_is_told_with_the_way_around(authority, command):
    policy = Policy(max_version=4, min_version=2, dangerous_allow_legacy_versions=True)
    with serving(Toy(PROGRAMS), policy) as server:
        url = f"http://localhost:{server.server_port}/wsman"
        words = ["winrm", url, "-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", authority]
        status, _, err = command(*words, "greet")
        assert status == 255
        assert "the peer speaks credssp version 4, at least 5 is required" in err
        assert "update the server (CVE-2018-0886)" in err
        assert "AllowEncryptionOracle" in err
        status, out, _ = command(*words, "--min-version", "2", "greet")
        assert (status, out) == (3, "hello\r\n")


def test_a_policy_that_does_not_name_the_service_keeps_the_password(winrm, service, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('AllowFreshCredentials = ["WSMAN/other"]\n', encoding="utf-8")
    status, _, err = winrm("--policy", policy, "greet")
    assert status == 255
    assert "HTTP/localhost" in err
    assert "AllowFreshCredentials" in err
    assert service.toy.started == []


def test_the_service_may_have_another_principal(winrm, service):
    assert winrm("--spn", "WSMAN/localhost", "greet")[0] == 3


# --- what it says when it fails ---


@contextlib.contextmanager
def plain_service(status, body=b""):
    """A server of HTTP that answers everything alike."""

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_status_that_is_none_of_a_logon_is_no_matter_of_tls(command):
    with plain_service(501) as url:
        status, _, err = command("winrm", url, "-u", "u", "-p", "c4nary")
    assert status == 255
    assert err.startswith(f"protocol error at negotiation: {url}: expected status 401 with a credssp token in leg 1")
    assert "WinRM's takes POST alone" in err


def test_a_connection_that_cannot_be_made_is_told_once_and_what_to_do_too(command):
    url = f"http://localhost:{free_port()}"
    status, _, err = command("winrm", url, "-u", "u", "-p", "c4nary")
    assert status == 255
    assert err == (
        f"network error: cannot connect to {url}: expected a service at this port, and nothing listens there\n"
        "  check the host and the port of the url, and that the service runs: WinRM has http at port 5985, https at "
        "5986\n"
    )


def test_a_service_that_is_not_winrm_is_told_so(service, authority, command):
    service.post = lambda _body: (200, b"hello")
    words = ["-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--ca", authority]
    status, _, err = command("winrm", service.url, *words)
    assert status == 255
    assert "expected a soap envelope, got 5 bytes that are no xml" in err
    assert "what answers there is not WinRM: check the host, the port and the path of the url" in err


@pytest.mark.parametrize("url", ["http:///wsman", "://host", "htp://host/wsman"])
@pytest.mark.parametrize("name", ["winrm", "doctor"])
def test_a_text_that_is_no_url_is_answered_by_one(command, name, url):
    status, _, err = command(name, url, "-u", "u", "-p", "c4nary")
    assert status == 2
    assert "URL" in err
    assert "such as http://HOST:5985/wsman" in " ".join(err.split())


@pytest.mark.parametrize("url", ["http:///wsman", "://host", "host/wsman"])
def test_a_probe_of_a_text_that_is_no_url_is_answered_by_one(command, url):
    status, _, err = command("probe", url)
    assert status == 2
    assert "such as http://HOST:5985/wsman" in " ".join(err.split())


def test_hints_name_options_and_no_argument(service, command, authority, tmp_path):
    words = ["-u", "CONTOSO\\alice", "-p", "Passw0rd!"]
    untrusted = command("winrm", service.url, *words)[2]
    assert "trust its authority (--ca) or pin its key (--pin): " in untrusted
    policy = tmp_path / "policy.toml"
    policy.write_text('AllowFreshCredentials = ["HTTP/other"]', encoding="utf-8")
    refused = command("winrm", service.url, *words, "--ca", authority, "--policy", policy)[2]
    assert "list it in AllowFreshCredentials of the file of --policy" in refused
    for name in "Trust", "DelegationPolicy", "ssl_context", "windows":
        assert name not in untrusted + refused


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("trust its authority (ssl_context); Trust.pinned is", "trust its authority (--ca); --pin is"),
        ("another name (spn), for", "another name (--spn), for"),
        ("Policy(min_version=2, dangerous_allow_legacy_versions=True) takes it", "--min-version 2 takes it"),
        ("more time (Policy.handshake_timeout, and the library's own limits)", "more time (--timeout)"),
        ("by a name that it has (server_hostname)", "by a name that it has (--server-name)"),
        ("Trust.from_file, Trust(dangerous_allow_weak_certificates=True)", "--ca, --dangerous-allow-weak-certificates"),
    ],
)
def test_what_the_library_calls_by_arguments_the_command_calls_by_options(hint, told):
    assert in_options(hint) == told

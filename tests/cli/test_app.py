"""The command line itself: what is understood, what is refused, and the keys that scripts depend on."""

import datetime as dt
import importlib.metadata
import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from support.peers import DEADLINE

import acredssp
from acredssp.cli import app as app_module
from acredssp.cli.report import DemoReport, LoginReport, ServeReport, WinRMReport, to_json

LOGIN_KEYS = [
    "result", "stage", "security_status", "nt_status", "credssp_version", "mechanism", "tls_version", "cipher",
    "peer_key_sha256", "elapsed_ms", "fallback", "time", "message", "hint", "anchor",
]  # fmt: skip
SERVE_KEYS = [
    "result", "stage", "principal", "mechanism", "credssp_version", "delegated", "nt_status", "peer", "elapsed_ms",
    "worker", "time", "message", "hint", "security_status", "server_name", "cookie", "routing_token", "workstation",
    "account", "outcome", "hook", "anchor",
]  # fmt: skip
DEMO_KEYS = [
    "result", "handshakes", "failures", "concurrency", "seconds", "handshakes_per_second", "latency_p50_ms",
    "latency_p99_ms", "wrong_password", "credssp_version", "mechanism", "tls_version", "cipher", "event_loop",
    "timeline", "time", "message", "hint",
]  # fmt: skip
WINRM_KEYS = [
    "result", "exit_code", "interrupted", "stdout", "stderr", "may_lack_output", "server", "stage", "security_status",
    "nt_status", "fault", "time", "message", "hint", "anchor",
]  # fmt: skip


REPORTS = [(LoginReport, LOGIN_KEYS), (ServeReport, SERVE_KEYS), (DemoReport, DEMO_KEYS), (WinRMReport, WINRM_KEYS)]
PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("report", "keys"), REPORTS)
def test_the_keys_of_a_report_are_frozen(report, keys):
    assert list(json.loads(to_json(report(result="usage")))) == keys


@pytest.mark.parametrize(("report", "keys"), REPORTS)
def test_the_page_about_json_has_every_key_in_the_order_of_the_object(report, keys):
    section = PAGE.split(f"\n## {report.__name__.removesuffix('Report').lower()}\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == keys


def test_the_time_is_utc_in_iso_8601():
    moment = json.loads(to_json(ServeReport(result="success")))["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    assert abs(dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(moment)) < dt.timedelta(days=1)


def about_usage(out, keys, command):
    """The object that a command line that makes no sense is answered with; its message."""
    found = json.loads(out)
    assert list(found) == keys
    assert found.pop("result") == "usage"
    assert found.pop("hint") == f"see acredssp {command} --help for the options"
    assert found.pop("time")
    message = found.pop("message")
    assert set(found.values()) == {None}
    return message


def test_a_name_that_a_peer_made_up_is_ascii_in_json():
    assert "\\u001b" in to_json(ServeReport(result="denied", principal="\x1b[2J\u202e"))
    assert to_json(ServeReport(result="denied", principal="\x1b\u202e")).isascii()


def test_the_version_is_printed(command):
    assert command("--version") == (0, f"acredssp {acredssp.__version__}\n", "")
    assert acredssp.__version__ == importlib.metadata.version("acredssp")


def test_without_a_command_the_commands_are_listed(command):
    status, out, err = command()
    assert status == 2
    assert all(name in out + err for name in ("demo", "login", "serve"))


@pytest.mark.parametrize("name", ["demo", "login", "serve"])
def test_each_command_explains_itself(command, name):
    status, out, err = command(name, "--help")
    assert (status, err) == (0, "")
    assert "--json" in out


BAD_LOGINS = [
    ["-u", "u", "-p", "c4nary"],
    ["h"],
    ["h:0", "-u", "u", "-p", "c4nary"],
    ["h", "-u", "", "-p", "c4nary"],
    ["h", "-u", "u"],
    ["h", "-u", "D\\u", "-d", "D", "-p", "c4nary"],
    ["h", "-u", "u", "-p", "c4nary", "--password-stdin"],
    ["h", "-u", "u", "-p", "c4nary", "--nt-hash", "00" * 16],
    ["h", "-u", "u", "--nt-hash", "c4nary"],
    ["h", "-u", "u", "-p", "c4nary", "--min-version", "6", "--max-version", "5"],
    ["h", "-u", "u", "-p", "c4nary", "--min-version", "1"],
    ["h", "-u", "u", "-p", "c4nary", "--max-version", "7"],
    ["h", "-u", "u", "-p", "c4nary", "--insecure", "--pin", "00" * 32],
    ["h", "-u", "u", "-p", "c4nary", "--insecure", "--ca", "/dev/null"],
    ["h", "-u", "u", "-p", "c4nary", "--ca", "/dev/null"],
    ["h", "-u", "u", "-p", "c4nary", "--ca", "/absent"],
    ["h", "-u", "u", "-p", "c4nary", "--pin", "c4"],
    ["h", "-u", "u", "-p", "c4nary", "--pin", "x" * 64],
    ["bad..name", "-u", "u", "-p", "c4nary", "--insecure"],
    ["h", "-u", "u", "-p", "c4nary", "--server-name", ".", "--insecure"],
    ["h", "-u", "u", "-p", "c4nary", "--server-name", "", "--insecure"],
    ["h", "-u", "u", "-p", "c4nary", "--spn", "TERMSRV/" + "a" * 40000],
    ["h", "-u", "u", "-p", "c4nary", "--spn", ""],
    ["h", "-u", "u", "-p", "c4nary", "--spn", "TERMSRV"],
    ["h", "-u", "u", "-p", "c4nary", "--spn", "TERMSRV/"],
    ["h", "-u", "u", "-p", "c4nary", "--spn", "bad spn"],
    ["a/b", "-u", "u", "-p", "c4nary"],
    ["h", "-u", "u", "-p", "c4nary", "--mechanism", "digest"],
    ["h", "-p", "c4nary"],
    ["h", "--ccache", "default", "-p", "c4nary"],
    ["h", "--ccache", "default", "--keytab", "c4nary"],
    ["h", "--ccache", "default", "--mechanism", "ntlm"],
    ["h", "-u", "u", "--nt-hash", "0123456789abcdef0123456789abcdef", "--mechanism", "kerberos"],
    ["h", "-u", "u", "--nt-hash", "0123456789abcdef0123456789abcdef", "--remote-guard"],
    ["h", "-u", "u", "-p", "c4nary", "--remote-guard", "--restricted-admin"],
    ["h", "-u", "u", "-p", "c4nary", "--carriage", "smoke"],
    ["h", "-u", "u", "-p", "c4nary", "--load-balance-info", "two\r\nlines"],
    ["h", "-u", "u", "-p", "c4nary", "--load-balance-info", "x" * 300],
    ["h", "-u", "u", "-p", "c4nary", "--load-balance-info", "x", "--carriage", "tls"],
    ["h", "-u", "u", "-p", "c4nary", "--pcb", "x", "--carriage", "tls"],
    ["h", "-u", "u", "-p", "c4nary", "--pcid", "0", "--carriage", "tls"],
    ["h", "-u", "u", "-p", "c4nary", "--pcid", "-1"],
    ["h", "-u", "u", "-p", "c4nary", "--pcid", "4294967296"],
    ["h", "-u", "u", "-p", "c4nary", "--pcb", "x" * 9000],
    ["h", "-u", "u", "-p", "c4nary", "--timeout", "0"],
    ["h", "-u", "u", "-p", "c4nary", "--timeout", "soon"],
    ["h", "-u", "u", "-p", "c4nary", "--timeout", "nan"],
    ["h", "-u", "u", "-p", "c4nary", "--timeout", "inf"],
    ["h", "-u", "u", "-p", "c4nary", "--no-such-option"],
]


@pytest.mark.parametrize("words", BAD_LOGINS)
def test_a_login_that_makes_no_sense_is_a_usage_error(command, words):
    status, out, err = command("login", *words)
    assert (status, out) == (2, "")
    assert "c4nary" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("words", BAD_LOGINS[::6])
def test_a_usage_error_prints_the_object_too(command, words):
    status, out, err = command("login", *words, "--json")
    assert status == 2
    assert about_usage(out, LOGIN_KEYS, "login") in err


@pytest.fixture
def users(tmp_path):
    path = tmp_path / "users"
    path.write_text("D:u:pw\n", encoding="ascii")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["--listen", "h:65536"],
        ["--listen", ":0"],
        ["--min-version", "4", "--max-version", "3"],
        ["--cert", "/dev/null"],
        ["--key", "/dev/null"],
        ["--cert", "/dev/null", "--key", "/dev/null"],
        ["--cert", "/absent", "--key", "/absent"],
        ["--key-type", "dsa"],
        ["--listen", "b\u00fccher..:0"],
        ["--carriage", "smoke"],
        ["--carriage", "tls", "--hybrid-ex"],
        ["--log-level", "chatty"],
        ["--proxy-protocol", "balancer"],
        ["--proxy-protocol", "10.0.0.1/8"],
        ["--proxy-protocol", "10.0.0.0/8", "--proxy-protocol", ""],
    ],
)
def test_a_serve_that_makes_no_sense_is_a_usage_error(command, users, words):
    status, out, err = command("serve", "--users", users, "--json", *words)
    assert status == 2
    assert about_usage(out, SERVE_KEYS, "serve") in err
    assert "Traceback" not in err


def test_hybrid_ex_is_refused_with_the_carriage_tls(command, users, served_nowhere):
    status, out, err = command(
        "serve", "--users", users, "--listen", served_nowhere, "--hybrid-ex", "--carriage", "tls"
    )
    assert (status, out) == (2, "")
    assert "expected --carriage rdp with --hybrid-ex, got tls" in err


def test_a_number_alone_is_no_place_to_listen_at(command, users):
    status, _, err = command("serve", "--users", users, "--listen", "21341")
    assert status == 2
    assert "write HOST:21341 for port 21341" in err


@pytest.mark.parametrize(
    "words",
    [
        ["login", "h", "-u", "u", "-p", "pw", "--ca"],
        ["login", "h", "-u", "u", "-p", "pw", "--policy"],
        ["serve", "--users", "USERS", "--key", "PEM", "--cert"],
        ["serve", "--users", "USERS", "--cert", "PEM", "--key"],
        ["serve", "--users", "USERS", "--policy"],
        ["serve", "--users"],
    ],
)
@pytest.mark.parametrize(
    ("name", "said"), [("absent", "no such file"), ("", "is a directory"), ("nonsense", ("xpected", "Invalid"))]
)
def test_an_error_of_a_file_names_the_file_and_its_option(command, users, words, name, said):
    pem, nonsense = users.parent / "pem", users.parent / "nonsense"
    pem.write_text("-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n", encoding="ascii")
    nonsense.write_text("?\n", encoding="ascii")
    path = users.parent / name
    files = {"USERS": users, "PEM": pem}
    status, _, err = command(*[files.get(word, word) for word in words], path)
    assert status == 2
    assert f"{words[-1]} {path}" in err or f"{words[-1]}: {path}" in err
    assert any(text in err for text in ([said] if isinstance(said, str) else said))


def test_a_key_with_a_password_is_refused_before_anybody_is_asked_for_it(command, users, tmp_path):
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", encoding="ascii")
    certificate = tmp_path / "cert.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\n", encoding="ascii")
    status, _, err = command("serve", "--users", users, "--cert", certificate, "--key", key)
    assert status == 2
    assert "without a password" in err


@pytest.fixture
def noticed(command, served_nowhere):
    """What `serve` warns of when it starts; it ends at once, since it cannot listen."""

    def call(*words):
        status, _, err = command("serve", "--listen", served_nowhere, "--key-type", "ec", *words)
        assert status == 4
        return [line.removeprefix("warning: ") for line in err.splitlines() if line.startswith("warning: ")]

    return call


def test_a_server_warns_of_secrets_that_everybody_can_read(noticed, users, tmp_path):
    users.chmod(0o644)
    assert noticed("--users", users) == [f"everybody on this machine can read --users {users}: run chmod o-r {users}"]
    users.chmod(0o640)
    assert noticed("--users", users) == []
    chain, key = acredssp.self_signed(["localhost"], "ec")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file, content in zip(files, (chain, key), strict=True):
        file.write_bytes(content)
        file.chmod(0o644)
    assert noticed("--users", users, "--cert", files[0], "--key", files[1]) == [
        f"everybody on this machine can read --key {files[1]}: run chmod o-r {files[1]}"
    ]


@pytest.mark.parametrize("content", ["", "# nobody\n\n", "D=example\n"])
def test_a_server_warns_of_a_users_file_without_users(noticed, users, content):
    users.chmod(0o600)
    users.write_text(content, encoding="ascii")
    assert noticed("--users", users) == [f"--users {users} has no entry, so nobody can log on"]


def test_a_server_warns_of_a_refused_user_whom_it_does_not_know(noticed, users):
    users.chmod(0o600)
    known = ["u", "U", "D\\u", "u@D"]
    unknown = ["v", "E\\u", "u@E"]
    words = [word for name in known + unknown for word in ("--refuse", name)]
    assert noticed("--users", users, *words) == [
        f"--refuse {name}: --users {users} has no such account" for name in unknown
    ]


def test_who_is_interrupted_at_the_prompt_gets_a_line_of_their_own(command, monkeypatch):
    def interrupted(_prompt):
        raise KeyboardInterrupt

    monkeypatch.setattr("acredssp.cli.arguments.getpass", interrupted)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert command("login", "h", "-u", "u") == (130, "", "\n")


def test_the_end_of_the_input_at_the_prompt_is_no_password(command, monkeypatch):
    def ended(_prompt):
        raise EOFError

    monkeypatch.setattr("acredssp.cli.arguments.getpass", ended)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    status, out, err = command("login", "h", "-u", "u")
    assert (status, out) == (2, "")
    assert "expected a password, got the end of the input" in err


NOWHERE = ["login", "127.0.0.1:1", "-u", "u", "-p", "c4nary", "--insecure"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], False),
        (["-v"], True),
        (["--verbose"], True),
        (["--log-level", "debug"], True),
        (["--log-level", "info"], False),
    ],
)
def test_log_lines_are_printed_to_the_standard_error_from_a_level_on(command, words, said):
    status, out, err = command(*NOWHERE, *words)
    assert (status, out) == (4, "")
    assert ("DEBUG acredssp.login: connecting to 127.0.0.1:1\n" in err) is said
    assert "c4nary" not in err
    assert logging.getLogger("acredssp").handlers == []
    assert logging.getLogger("acredssp").level == logging.NOTSET


def test_a_bad_users_file_is_a_usage_error_with_its_line_and_without_its_secret(command, users):
    users.write_text("D:u:pw\nD:c4nary\n", encoding="ascii")
    status, _, err = command("serve", "--users", users)
    assert status == 2
    assert "line 2" in err
    assert "c4nary" not in err


def test_a_demo_that_makes_no_sense_is_a_usage_error(command):
    status, out, err = command("demo", "--count", "0", "--json")
    assert status == 2
    assert about_usage(out, DEMO_KEYS, "demo") in err


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["login", "h", "-u", "u", "-p", "p"], "--timeout"),
        (["serve", "--users", "USERS"], "--handshake-timeout"),
    ],
)
def test_a_time_that_never_ends_is_a_usage_error_that_says_what_came(command, users_file, words, option, value):
    words = [users_file if word == "USERS" else word for word in words]
    status, out, err = command(*words, option, value)
    assert (status, out) == (2, "")
    assert f"{option}: expected seconds above 0 and at most 1,000,000,000, got {value}" in err


def test_a_users_file_for_tickets_without_a_keytab_names_its_line_after_all_other_faults(command, tmp_path):
    users = tmp_path / "users"
    users.write_text("C:alice:pw\nC:dave:\n")
    users.chmod(0o600)
    status, _, err = command("serve", "--users", users)
    assert status == 2
    assert (
        f"--users {users}: line 2: an empty SECRET means a logon by Kerberos ticket, which needs --keytab FILE" in err
    )
    status, _, err = command("serve", "--users", users, "--cert", tmp_path / "absent", "--key", tmp_path / "absent")
    assert status == 2
    assert "absent: no such file" in err


@pytest.mark.parametrize("words", [(), ("proxy",)])
def test_the_list_of_commands_has_whole_sentences_on_a_terminal_of_80_columns(words, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command(*words, "--help")
    listed = out.partition("Commands:\n")[2].splitlines()
    assert len(listed) >= 7
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def commands(command, *words):
    """The words of each command that does something."""
    below = getattr(command, "commands", {})
    return [each for name in below for each in commands(below[name], *words, name)] if below else [words]


@pytest.mark.parametrize("words", commands(typer.main.get_command(app_module.command_line())), ids=" ".join)
def test_help_calls_values_by_what_they_are_and_not_by_types_of_python(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert app_module.run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert not re.findall(r"<(?:list\b|str\b|path\b|int\b|float\b|[^>]* range)[^>]*>", text)


@pytest.mark.parametrize("name", ["demo", "login", "serve"])
def test_help_has_every_option_whole_on_a_terminal_of_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert app_module.run([name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)
    words = {word.strip(",") for line in lines for word in line.split()}
    command = typer.main.get_command(app_module.command_line()).commands[name]
    assert {option for parameter in command.params for option in parameter.opts if option.startswith("--")} <= words


COMMANDS = ("decode", "demo", "doctor", "login", "probe", "proxy", "replay", "serve", "winrm")


@pytest.mark.parametrize(
    ("words", "imported"),
    [(["serve"], {"serve"}), (["proxy", "check"], {"proxy"}), (["decode"], {"decode"}), (["--help"], {*COMMANDS})],
    ids=lambda words: " ".join(sorted(words)),
)
def test_a_process_imports_the_command_that_it_runs(words, imported):
    script = "import sys; from acredssp.cli.app import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--help"], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert {name for name in COMMANDS if f"acredssp.cli.{name}" in done.stderr.split()} == imported

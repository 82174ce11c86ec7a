"""The command line itself: what is understood, what is refused, and the keys that scripts depend on."""

import datetime as dt
import importlib.metadata
import json
import re
from pathlib import Path

import pytest

from acredssp.cli.report import DemoReport, LoginReport, ServeReport, to_json

LOGIN_KEYS = [
    "result", "stage", "security_status", "nt_status", "credssp_version", "mechanism", "tls_version", "cipher",
    "peer_key_sha256", "elapsed_ms", "fallback", "time", "message", "hint",
]  # fmt: skip
SERVE_KEYS = [
    "result", "stage", "principal", "mechanism", "credssp_version", "delegated", "nt_status", "peer", "elapsed_ms",
    "worker", "time", "message", "hint", "security_status", "server_name", "cookie", "routing_token", "workstation",
    "account", "outcome", "hook",
]  # fmt: skip
DEMO_KEYS = [
    "result", "handshakes", "failures", "concurrency", "seconds", "handshakes_per_second", "latency_p50_ms",
    "latency_p99_ms", "wrong_password", "credssp_version", "mechanism", "tls_version", "cipher", "event_loop",
    "timeline", "time", "message", "hint",
]  # fmt: skip


REPORTS = [(LoginReport, LOGIN_KEYS), (ServeReport, SERVE_KEYS), (DemoReport, DEMO_KEYS)]
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
    assert found.pop("hint") == f"acredssp {command} --help says what it takes"
    assert found.pop("time")
    message = found.pop("message")
    assert set(found.values()) == {None}
    return message


def test_a_name_that_a_peer_made_up_is_ascii_in_json():
    assert "\\u001b" in to_json(ServeReport(result="denied", principal="\x1b[2J\u202e"))
    assert to_json(ServeReport(result="denied", principal="\x1b\u202e")).isascii()


def test_the_version_is_printed(command):
    assert command("--version") == (0, f"acredssp {importlib.metadata.version('acredssp')}\n", "")


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
    ["h", "-u", "u", "-p", "c4nary", "--timeout", "0"],
    ["h", "-u", "u", "-p", "c4nary", "--timeout", "soon"],
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
    ],
)
def test_a_serve_that_makes_no_sense_is_a_usage_error(command, users, words):
    status, out, err = command("serve", "--users", users, "--json", *words)
    assert status == 2
    assert about_usage(out, SERVE_KEYS, "serve") in err
    assert "Traceback" not in err


def test_a_number_alone_is_no_place_to_listen_at(command, users):
    status, _, err = command("serve", "--users", users, "--listen", "21341")
    assert status == 2
    assert "for the port 21341 write HOST:21341" in err


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

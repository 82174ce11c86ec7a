"""--min-tls with the switches for old peers, and --keylog, on both sides of real logons."""

import json
import ssl
import stat

import pytest

needs_old_tls = pytest.mark.skipif(not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1), reason="openssl was built without it")

OLD = ("--min-tls", "1.0", "--dangerous-allow-legacy-tls")


@pytest.fixture
def log_on(command, password):
    """Runs `login --json` as alice: its exit status, its object, its text for people."""

    def call(address, *words):
        who = ("-u", "CONTOSO\\alice", "-p", password, "--insecure")
        status, out, err = command("login", address, *who, *words, "--json")
        return status, json.loads(out), err

    return call


@needs_old_tls
def test_old_versions_are_let_in_with_a_warning_on_either_side(log_on, serve_once):
    server = serve_once(*OLD, "--dangerous-allow-legacy-ciphers")
    status, report, err = log_on(server.address, *OLD)
    assert (status, report["tls_version"]) == (0, "TLSv1.3"), "the newest that both have"
    warning = "tls 1.0 and 1.1 are broken (RFC 8996), and short keys are accepted with them: use tls 1.2"
    assert err == f"warning: {warning}\n"
    assert server.stop() == 0
    assert "tls 1.0 and 1.1 are broken" in server.output
    assert "lack forward secrecy" in server.output


def test_the_floor_may_be_raised(log_on, served):
    server = served("--min-tls", "1.3")
    status, report, err = log_on(server.address, "--min-tls", "1.3")
    assert (status, report["tls_version"], err) == (0, "TLSv1.3", "")


@pytest.mark.parametrize("words", [["login", "host", "-u", "a", "-p", "b"], ["serve", "--users"]])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_old_version_without_its_switch_is_a_usage_error(command, words, version, users_file):
    if words[0] == "serve":
        words = [*words, users_file]
    status, _, err = command(*words, "--min-tls", version)
    assert status == 2
    assert f"--min-tls {version} needs --dangerous-allow-legacy-tls too" in err


def test_both_sides_keep_a_key_log_for_their_user_alone(log_on, serve_once, tmp_path):
    ours, theirs = tmp_path / "client.keys", tmp_path / "server.keys"
    server = serve_once("--keylog", theirs)
    status, _, err = log_on(server.address, "--keylog", ours)
    assert status == 0
    assert err.startswith("warning: --keylog writes down the keys of every connection")
    server.line()
    assert server.stop() == 0
    assert "warning: --keylog" in server.output
    client_lines, server_lines = (
        {line for line in file.read_text().splitlines() if not line.startswith("#")} for file in (ours, theirs)
    )
    assert client_lines == server_lines
    assert "CLIENT_TRAFFIC_SECRET_0" in {line.split()[0] for line in client_lines}
    assert {stat.S_IMODE(file.stat().st_mode) for file in (ours, theirs)} == {0o600}


def test_no_key_log_is_kept_unless_asked_for(log_on, served, tmp_path, monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    status, _, err = log_on(served().address)
    assert (status, err) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_key_log_that_cannot_be_written_is_named(command, tmp_path):
    status, _, err = command("login", "host", "-u", "a", "-p", "b", "--keylog", tmp_path / "none" / "keys")
    assert status == 2
    assert f"--keylog {tmp_path / 'none' / 'keys'}: cannot be written: no such file or directory" in err

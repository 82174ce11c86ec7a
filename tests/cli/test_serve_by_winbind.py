"""`serve --winbind`, with a program that stands in for Samba's ntlm_auth."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from support import ntlm_auth
from support.peers import wait_until

PASSWORD = "Passw0rd!"


@pytest.fixture
def program(tmp_path):
    """A program that stands in for ntlm_auth."""
    path = tmp_path / "ntlm_auth"
    path.write_text(
        f'#!/bin/sh\nexec {shlex.join([sys.executable, "-S", "-E", ntlm_auth.__file__, str(tmp_path / "log")])} "$@"\n',
        encoding="utf-8",
    )
    path.chmod(0o700)
    return path


@pytest.fixture
def started(tmp_path):
    """The processes that were started for the server, in their order."""
    return lambda: [
        int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines() if line.endswith(" started")
    ]


@pytest.fixture
def log_on(command):
    def call(server, user, password=PASSWORD):
        user = user if "@" in user or "\\" in user else f"CONTOSO\\{user}"
        status, out, _ = command("login", server.address, "-u", user, "-p", password, "--insecure", "--json")
        return status, json.loads(out)["nt_status"]

    return call


@pytest.mark.parametrize("words", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_users_of_the_domain_log_on(serve_by, program, log_on, started, words):
    server = serve_by("--winbind", "--ntlm-auth", program, *words)
    assert log_on(server, "alice") == (0, None)
    line = server.line()
    assert (line["result"], line["principal"], line["mechanism"]) == ("success", "CONTOSO\\alice", "ntlm")
    assert server.stop() == 0
    for pid in started():
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"process {pid} ends")


@pytest.mark.parametrize("user", ["alice", "alice@contoso.test", "contoso.test\\Alice", "alice@CONTOSO"])
@pytest.mark.parametrize("name", ["alice", "CONTOSO\\alice", "alice@contoso.test"])
def test_a_refused_account_stays_out_however_it_is_written(serve_by, program, log_on, user, name):
    server = serve_by("--winbind", "--ntlm-auth", program, "--refuse", name, "--hybrid-ex")
    assert log_on(server, user) == (1, "STATUS_ACCESS_DENIED")
    line = server.line()
    assert (line["stage"], line["account"].casefold()) == ("early_user_auth", "contoso\\alice")
    assert log_on(server, "bob") == (0, None)
    assert server.line()["account"] == "CONTOSO\\bob"


def test_the_client_is_told_what_its_password_proves_and_the_operator_all(serve_by, program, log_on):
    server = serve_by("--winbind", "--ntlm-auth", program)
    seen = {}
    for user in ("disabled", "locked", "nobody", "dies"):
        for password in (PASSWORD, "wrong"):
            seen[user, password] = log_on(server, user, password)[1]
            server.line()
    assert seen == {
        ("disabled", PASSWORD): "STATUS_ACCOUNT_DISABLED",
        ("disabled", "wrong"): "STATUS_LOGON_FAILURE",
        ("locked", PASSWORD): "STATUS_LOGON_FAILURE",
        ("locked", "wrong"): "STATUS_LOGON_FAILURE",
        ("nobody", PASSWORD): "STATUS_LOGON_FAILURE",
        ("nobody", "wrong"): "STATUS_LOGON_FAILURE",
        ("dies", PASSWORD): "STATUS_NO_LOGON_SERVERS",
        ("dies", "wrong"): "STATUS_NO_LOGON_SERVERS",
    }
    assert server.stop() == 0
    said = [line for line in server.output.splitlines() if not line.startswith("{")]  # a line each, and no other
    assert [line.rpartition(": ")[2] for line in said] == [
        "STATUS_ACCOUNT_DISABLED", "STATUS_WRONG_PASSWORD", "STATUS_ACCOUNT_LOCKED_OUT", "STATUS_ACCOUNT_LOCKED_OUT",
        "STATUS_NO_SUCH_USER", "STATUS_NO_SUCH_USER", "it ended", "it ended",
    ]  # fmt: skip
    assert PASSWORD not in server.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected --users FILE, --winbind or --keytab FILE, got none"),
        (["--users", "x", "--winbind"], "expected one of --users FILE and --winbind, got both"),
        (["--users", "x", "--ntlm-auth", "x"], "--ntlm-auth needs --winbind"),
        (["--winbind", "--ntlm-auth", "/no/ntlm_auth"], "cannot ask winbind: /no/ntlm_auth: no such file or directory"),
        (["--winbind", "--ntlm-auth", "true"], "cannot ask winbind: true does not tell the names of this machine"),
    ],
)
def test_what_cannot_be_asked_is_said_at_the_start(command, words, said):
    status, out, err = command("serve", *words, "--listen", "127.0.0.1:0")
    assert (status, out) == (2, "")
    assert said in err


def test_without_winbindd_it_does_not_start(command, program, served_nowhere):
    """As Samba's program behaves: it makes a challenge of itself, and only then cannot ask anybody."""
    orphan = program.with_name("orphan")
    no = "Authenticated: No\\nAuthentication-Error: Reading winbind reply failed!\\n.\\n.\\n"
    orphan.write_text(
        f'#!/bin/sh\ncase "$*" in *ntlm-server-1*) printf "{no}";; *) exec {program} "$@";; esac\n', encoding="ascii"
    )
    orphan.chmod(0o700)
    status, out, err = command("serve", "--winbind", "--ntlm-auth", orphan, "--listen", served_nowhere)
    assert (status, out) == (2, "")
    assert "cannot ask winbind: winbindd does not answer" in err

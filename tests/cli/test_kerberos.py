"""`serve --keytab` as a process and `login` against it, with a real KDC."""

import json

import pytest


@pytest.fixture
def log_on(command):
    """Runs `login --json`: its exit status, its object, its text for people."""

    def call(server, *words, host="localhost"):
        words = ("--insecure", *words, "--json")
        status, out, err = command("login", f"{host}:{server.port}", *words)
        assert "Passw0rd!" not in out + err
        return status, json.loads(out), err

    return call


@pytest.fixture
def server(kerberos, serve_by):
    """A server that takes Kerberos, and has no users file."""
    return serve_by("--keytab", kerberos.keytab)


ALICE = ("-u", "ACREDSSP.TEST\\alice", "-p", "Passw0rd!")


@pytest.mark.parametrize("mechanism", ["auto", "negotiate", "kerberos", "raw-kerberos"])
def test_a_password_logs_on(mechanism, server, log_on):
    status, report, err = log_on(server, *ALICE, "--mechanism", mechanism)
    assert (status, err) == (0, "")
    assert (report["mechanism"], report["fallback"]) == ("kerberos", None)
    line = server.line()
    assert (line["principal"], line["mechanism"], line["delegated"]) == ("ACREDSSP.TEST\\alice", "kerberos", "password")


@pytest.mark.parametrize("user", [(), ("-u", "alice@acredssp.test"), ("-u", "alice", "-d", "acredssp.test")], ids=str)
def test_tickets_log_on(user, kerberos, server, log_on, monkeypatch):
    named = kerberos.log_on("alice")
    for words in ("--ccache", named), ("--ccache", "default"):
        monkeypatch.setenv("KRB5CCNAME", named)
        status, report, _ = log_on(server, *user, *words)
        assert (status, report["mechanism"]) == (0, "kerberos")
        line = server.line()
        assert (line["principal"], line["delegated"]) == ("ACREDSSP.TEST\\alice", "nothing")


def test_a_keytab_logs_on(kerberos, server, log_on):
    status, _, _ = log_on(server, "--keytab", str(kerberos.keytab), "-u", "HTTP/localhost@ACREDSSP.TEST")
    assert status == 0
    assert server.line()["principal"] == "ACREDSSP.TEST\\HTTP/localhost"


@pytest.mark.parametrize(("option", "kind"), [("--remote-guard", "remote_guard"), ("--restricted-admin", "nothing")])
def test_what_is_delegated_is_an_option(option, kind, server, log_on):
    status, _, _ = log_on(server, *ALICE, option)
    assert status == 0
    assert server.line()["delegated"] == kind


def test_an_address_takes_the_spn(server, log_on):
    status, report, _ = log_on(server, *ALICE, "--mechanism", "kerberos", host="127.0.0.1")
    assert (status, report["security_status"]) == (3, "SEC_E_TARGET_UNKNOWN")
    assert log_on(server, *ALICE, "--mechanism", "kerberos", "--spn", "TERMSRV/localhost", host="127.0.0.1")[0] == 0


def test_ntlm_is_the_second_choice_and_the_report_says_why(kerberos, serve_by, users_file, log_on):
    server = serve_by("--keytab", kerberos.keytab, "--users", users_file)
    words = ("-u", "bob@elsewhere.test", "-p", "b0bs")
    status, report, _ = log_on(server, *words)
    assert (status, report["mechanism"]) == (0, "ntlm")
    assert report["fallback"] == "kerberos: no kdc answers for the realm"


@pytest.mark.parametrize(
    ("words", "status", "security_status", "text"),
    [
        (("-u", "alice@acredssp.test", "-p", "wrong"), 1, "SEC_E_LOGON_DENIED", "the password is wrong"),
        ((*ALICE, "--spn", "TERMSRV/nowhere"), 3, "SEC_E_TARGET_UNKNOWN", "the kdc does not know the service"),
        (("--ccache", "MEMORY:nowhere"), 1, "SEC_E_NO_CREDENTIALS", "there is no ticket"),
    ],
)
def test_a_failure_is_told_by_its_cause(words, status, security_status, text, server, log_on):
    got, report, err = log_on(server, *words, "--mechanism", "kerberos")
    assert (got, report["security_status"], report["stage"]) == (status, security_status, "nego_token")
    assert text in err


@pytest.mark.parametrize("option", ["--keytab", "--ccache"])
@pytest.mark.parametrize("prefix", ["", "FILE:"])
def test_a_file_of_tickets_or_keys_that_cannot_be_read_is_a_usage_error(option, prefix, command, tmp_path):
    missing = tmp_path / "missing"
    status, out, err = command("login", "localhost:1", option, f"{prefix}{missing}")
    assert (status, out) == (2, "")
    assert f"cannot read {option} {missing}: no such file or directory" in " ".join(err.split())
    assert "kinit" not in err


def test_people_are_told_too(command, server):
    status, out, _ = command("login", f"localhost:{server.port}", *ALICE, "--insecure", "--remote-guard")
    assert status == 0
    assert "kerberos" in out
    assert "a ticket (remote credential guard)" in out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--spn", "TERMSRV/localhost"],
        ["--keytab", "/etc/krb5.keytab", "--mechanism", "ntlm"],
        ["--keytab", "/etc/krb5.keytab", "--ntlm-auth", "ntlm_auth"],
    ],
)
def test_a_server_nobody_can_log_on_to_is_a_usage_error(words, command):
    status, _, err = command("serve", "--listen", "127.0.0.1:0", *words)
    assert status == 2
    assert "Traceback" not in err


def test_a_service_of_the_keytab_may_be_named(kerberos, serve_by, log_on):
    server = serve_by("--keytab", kerberos.keytab, "--spn", "HTTP/localhost@ACREDSSP.TEST")
    words = ("--mechanism", "kerberos", "--restricted-admin")  # the delegation policy is for TERMSRV
    assert log_on(server, *ALICE, *words, "--spn", "HTTP/localhost")[0] == 0
    status, report, _ = log_on(server, *ALICE, "--mechanism", "kerberos")
    assert (status, report["security_status"]) == (1, "SEC_E_WRONG_PRINCIPAL")


# --- who comes in ---


@pytest.fixture
def ticket(kerberos):
    """Logs on with a ticket: `ticket(server, "bob")`."""

    def words(user="alice"):
        return ("--ccache", kerberos.log_on(user, name=user), "--mechanism", "kerberos")

    return words


@pytest.mark.requirement("accounts.once")
@pytest.mark.parametrize("name", ["alice", "ACREDSSP.TEST\\alice", "alice@acredssp.test"])
def test_a_refused_account_does_not_come_in_by_a_ticket(name, kerberos, serve_by, log_on, ticket):
    server = serve_by("--keytab", kerberos.keytab, "--refuse", name, "--hybrid-ex")
    status, report, _ = log_on(server, *ticket())
    assert (status, report["nt_status"]) == (1, "STATUS_ACCESS_DENIED")
    assert server.line()["account"] == "ACREDSSP.TEST\\alice"
    assert log_on(server, *ticket("bob"))[0] == 0


@pytest.mark.parametrize("name", ["alice", "CONTOSO\\alice", "alice@ACREDSSP.TEST"])
def test_a_ticket_is_for_the_account_that_the_users_file_makes_of_its_principal(
    name, kerberos, serve_by, log_on, ticket, tmp_path
):
    users = tmp_path / "users"
    users.write_text("CONTOSO=acredssp.test\nCONTOSO:alice:Passw0rd!\n")
    options = "--keytab", kerberos.keytab, "--users", users, "--hybrid-ex"
    server = serve_by(*options)
    assert log_on(server, *ticket())[0] == 0
    line = server.line()
    assert (line["principal"], line["account"]) == ("ACREDSSP.TEST\\alice", "CONTOSO\\alice")
    server = serve_by(*options, "--refuse", name)
    assert log_on(server, *ticket())[0] == 1
    assert log_on(server, "-u", "CONTOSO\\alice", "-p", "Passw0rd!", "--mechanism", "ntlm")[0] == 1


def test_a_users_file_says_who_logs_on_by_ticket_too(kerberos, serve_by, log_on, ticket, tmp_path):
    users = tmp_path / "users"
    users.write_text("CONTOSO=acredssp.test\nCONTOSO:alice:\n")
    server = serve_by("--keytab", kerberos.keytab, "--users", users)
    assert log_on(server, *ticket())[0] == 0
    assert server.line()["account"] == "CONTOSO\\alice"
    status, report, _ = log_on(server, *ticket("bob"))
    assert (status, report["nt_status"]) == (1, "STATUS_LOGON_FAILURE")
    line = server.line()
    assert (line["result"], line["principal"]) == ("denied", "ACREDSSP.TEST\\bob")
    assert line["account"] == "CONTOSO\\bob"
    # An empty secret is no password.
    for password in ("", "Passw0rd!"):
        assert log_on(server, "-u", "ACREDSSP.TEST\\alice", "-p", password, "--mechanism", "ntlm")[0] == 1


def test_everybody_of_a_domain_may_log_on_by_ticket(kerberos, serve_by, log_on, ticket, tmp_path):
    users = tmp_path / "users"
    users.write_text("ACREDSSP.TEST:*:\n")
    server = serve_by("--keytab", kerberos.keytab, "--users", users)
    assert log_on(server, *ticket("bob"))[0] == 0
    assert server.line()["account"] == "ACREDSSP.TEST\\bob"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ((), 0),
        (("--allow-realm", "acredssp.test"), 0),
        (("--allow-realm", "OTHER.TEST", "--allow-realm", "ACREDSSP.TEST"), 0),
        (("--allow-realm", "OTHER.TEST"), 1),
    ],
)
def test_tickets_of_other_realms_are_not_taken(words, status, kerberos, serve_by, log_on, ticket):
    server = serve_by("--keytab", kerberos.keytab, *words)
    assert log_on(server, *ticket())[0] == status
    assert server.line()["principal"] == "ACREDSSP.TEST\\alice"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--allow-realm", "R", "--users", "USERS"], "--allow-realm needs --keytab"),
        (["--keytab", "/nowhere/keytab"], "cannot read --keytab /nowhere/keytab: "),
        (["--users", "TICKETS"], "which needs --keytab"),
    ],
)
def test_realms_and_entries_for_tickets_take_a_keytab(words, said, command, users_file, tmp_path, kerberos_modules):
    tickets = tmp_path / "tickets"
    tickets.write_text("D:u:\n")
    words = [{"USERS": users_file, "TICKETS": tickets}.get(word, word) for word in words]
    status, _, err = command("serve", "--listen", "127.0.0.1:0", *words)
    assert (status, said in err) == (2, True)

"""`acredssp serve` as real clients meet it: FreeRDP 2 and 3, nmap, openssl."""

import pytest
from support import freerdp
from support.command import serve
from support.hosted import NT_HASH
from support.kdc import REALM
from support.observers import nmap

pytestmark = pytest.mark.interop

CLIENTS = pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])

SUCCESS = {
    "result": "success",
    "stage": "established",
    "principal": "CONTOSO\\alice",
    "mechanism": "ntlm",
    "credssp_version": 6,
    "delegated": "password",
    "nt_status": None,
}


def facts(record, expected):
    """The facts of a record that are expected to be something."""
    return {name: record[name] for name in expected}


@CLIENTS
@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="default"),
        pytest.param(["--key-type", "ec"], id="ec-key"),
        pytest.param(["--hybrid-ex"], id="hybrid-ex-that-nobody-asks-for"),
    ],
)
def test_freerdp_logs_on(graphical_lab, client, options):
    server = serve(graphical_lab, *options)
    assert freerdp.log_on(graphical_lab, client, server.address).status == freerdp.LOGGED_ON
    assert facts(server.record(), SUCCESS) == SUCCESS


@CLIENTS
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_older_versions(graphical_lab, client, version):
    server = serve(graphical_lab, "--min-version", version, "--max-version", version)
    assert freerdp.log_on(graphical_lab, client, server.address).status == freerdp.LOGGED_ON
    expected = SUCCESS | {"credssp_version": version}
    assert facts(server.record(), expected) == expected
    assert ("CVE-2018-0886" in server.process.read_errors()) == (version < 5)


@CLIENTS
@pytest.mark.parametrize(
    ("user", "domain", "password", "principal"),
    [
        pytest.param("ALICE", "contoso", "Passw0rd!", "contoso\\ALICE", id="case"),
        pytest.param("bob", None, "bobpw", "bob", id="no-domain"),
        pytest.param("bob", "ANY", "bobpw", "ANY\\bob", id="any-domain"),
        pytest.param("bob@contoso.com", None, "bobpw", "bob@contoso.com", id="upn"),
        pytest.param("alice@contoso.com", None, "Passw0rd!", "alice@contoso.com", id="upn-of-a-domain"),
        pytest.param("carol", "CONTOSO", "Passw0rd!", "CONTOSO\\carol", id="nt-hash-in-the-file"),
    ],
)
def test_accounts(graphical_lab, client, user, domain, password, principal):
    server = serve(graphical_lab)
    run = freerdp.log_on(graphical_lab, client, server.address, user=user, domain=domain, password=password)
    assert run.status == freerdp.LOGGED_ON
    expected = {"result": "success", "principal": principal}
    assert facts(server.record(), expected) == expected


@CLIENTS
@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("nobody", "Passw0rd!"), ("bob", "")])
def test_a_wrong_logon_is_denied_in_the_clients_own_words(graphical_lab, client, user, password):
    server = serve(graphical_lab)
    run = freerdp.log_on(graphical_lab, client, server.address, user=user, password=password)
    assert run.status == freerdp.LOGON_FAILED
    expected = {"result": "denied", "principal": f"CONTOSO\\{user}", "nt_status": "STATUS_LOGON_FAILURE"}
    assert facts(server.record(), expected) == expected


def test_pass_the_hash_and_restricted_admin_delegate_nothing(graphical_lab):
    server = serve(graphical_lab)
    options = [f"/pth:{NT_HASH.hex()}"], ["+restricted-admin"]
    for option, password in zip(options, ["", "Passw0rd!"], strict=True):
        run = freerdp.log_on(graphical_lab, 2, server.address, *option, password=password)
        assert run.status == freerdp.LOGGED_ON
    expected = SUCCESS | {"delegated": "nothing"}
    assert [facts(record, expected) for record in server.records(2)] == [expected, expected]


def test_hybrid_ex_granted(graphical_lab):
    server = serve(graphical_lab, "--hybrid-ex")
    assert freerdp.log_on(graphical_lab, 3, server.address, "/sec:ext").status == freerdp.LOGGED_ON
    assert facts(server.record(), SUCCESS) == SUCCESS


def test_freerdp3_speaks_spnego_where_it_knows_a_realm(graphical_lab, kerberos_realm):
    server = serve(graphical_lab)
    graphical_lab.environment |= kerberos_realm.environment | {"WLOG_LEVEL": "DEBUG"}
    run = freerdp.log_on(graphical_lab, 3, f"localhost:{server.port}", domain=REALM)
    assert run.status == freerdp.LOGGED_ON
    assert "Writing negTokenInit" in run.output
    expected = SUCCESS | {"principal": f"{REALM}\\alice"}
    assert facts(server.record(), expected) == expected


@pytest.mark.parametrize("offer", [(), ("/auth-pkg-list:kerberos,!ntlm",)], ids=["ntlm-too", "kerberos-alone"])
def test_freerdp3_logs_on_by_kerberos(kerberos_modules, graphical_lab, kerberos_realm, offer):
    graphical_lab.environment |= kerberos_realm.environment
    server = serve(graphical_lab, "--keytab", kerberos_realm.keytab)
    run = freerdp.log_on(graphical_lab, 3, f"localhost:{server.port}", *offer, domain=REALM)
    assert run.status == freerdp.LOGGED_ON
    expected = SUCCESS | {"principal": f"{REALM}\\alice", "mechanism": "kerberos"}
    assert facts(server.record(), expected) == expected


def test_freerdp3_is_refused_by_kerberos_with_other_keys(kerberos_modules, graphical_lab, kerberos_realm):
    graphical_lab.environment |= kerberos_realm.environment
    server = serve(graphical_lab, "--keytab", kerberos_realm.wrong_keytab)
    run = freerdp.log_on(graphical_lab, 3, f"localhost:{server.port}", "/auth-pkg-list:kerberos,!ntlm", domain=REALM)
    assert run.status == freerdp.DENIED
    expected = {"result": "denied", "nt_status": "STATUS_MUTUAL_AUTHENTICATION_FAILED"}
    assert facts(server.record(), expected) == expected


def test_nmap_reads_our_challenge(lab):
    server = serve(lab)
    lines = [line.strip("|_ ") for line in nmap(lab, server.port, "rdp-ntlm-info").splitlines()]
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert told["Target_Name"] == told["NetBIOS_Computer_Name"] == told["NetBIOS_Domain_Name"] == "ACREDSSP"
    assert told["Product_Version"].startswith("10.0.")
    assert "System_Time" in told
    expected = {"result": "network_error", "principal": None, "nt_status": None}
    assert facts(server.record(), expected) == expected


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        pytest.param([], {"CredSSP (NLA)"}, id="hybrid"),
        pytest.param(["--hybrid-ex"], {"CredSSP (NLA)", "CredSSP with Early User Auth"}, id="hybrid-ex"),
    ],
)
def test_nmap_finds_credssp_and_nothing_weaker(lab, options, layers):
    server = serve(lab, *options)
    found = nmap(lab, server.port, "rdp-enum-encryption")
    assert {line.strip("|_ ").removesuffix(": SUCCESS") for line in found.splitlines() if "SUCCESS" in line} == layers


def test_openssl_reads_our_tls(lab):
    server = serve(lab, "--carriage", "tls", "--key-type", "ec")
    run = lab.run(["openssl", "s_client", "-connect", server.address, "-brief"])
    assert "Protocol version: TLSv1.3" in run.output
    assert "Peer certificate: CN = 127.0.0.1" in run.output


@CLIENTS
def test_it_serves_on_after_a_refusal_and_ends_at_sigterm(graphical_lab, client):
    server = serve(graphical_lab)
    for password in ("wrong", "Passw0rd!"):
        freerdp.log_on(graphical_lab, client, server.address, password=password)
    assert [record["result"] for record in server.records(2)] == ["denied", "success"]
    assert server.process.stop() == 0
    assert server.process.read_errors() == ""

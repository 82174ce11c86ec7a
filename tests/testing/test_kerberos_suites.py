"""The attacks by Kerberos, raw and in SPNEGO: against acredssp itself, against pyspnego, and against broken peers."""

import re
from pathlib import Path

import pytest
import spnego
from support.defects import check_findings, defects_of

from acredssp.credentials import Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.kerberos.context import KerberosAcceptor
from acredssp.policy import MechanismChoice, Policy
from acredssp.testing import (
    CLIENT_DEFECTS,
    NTLM_ONLY_CLIENT_DEFECTS,
    NTLM_ONLY_SERVER_DEFECTS,
    SERVER_DEFECTS,
    ClientDefects,
    ClientEndpoint,
    Crashed,
    FakeServer,
    HostileClient,
    HostileServer,
    ServerDefects,
    ServerEndpoint,
    attack_client,
    attack_server,
    client_defects,
    log_on,
    server_defects,
)
from acredssp.testing.server_attacks import negotiated_logon
from acredssp.wire.spnego import KERBEROS as MECHANISM
from acredssp.wire.spnego import encode_mech_list

pytest.importorskip("gssapi", reason="gssapi is missing: apt-get install libkrb5-dev, then make test")

pytest_plugins = ["acredssp.testing.plugin"]

SPN = "TERMSRV/localhost"
NTLM, KERBEROS, RAW = MechanismChoice.NTLM, MechanismChoice.KERBEROS, MechanismChoice.RAW_KERBEROS
both_forms = pytest.mark.parametrize("form", [KERBEROS, RAW], ids=str)


@pytest.fixture
def endpoint_of_ours(credssp_realm):
    with FakeServer(credssp_realm.account, keytab=credssp_realm.keys) as server:
        yield ServerEndpoint.tcp("127.0.0.1", server.port, account=credssp_realm.account, spn=SPN)


def client_of_ours(realm, form, **policy):
    options = Policy(mechanism=form, **policy)

    def run(host, port):
        try:
            log_on(host, port, realm.account, policy=options, spn=SPN)
        except CredSSPError:
            return False
        return True

    return ClientEndpoint.tcp(run, account=realm.account, keytab=realm.keys)


class TestOurServerByKerberos(ServerDefects):
    mechanism = KERBEROS

    @pytest.fixture
    def endpoint(self, endpoint_of_ours):
        return endpoint_of_ours


class TestOurServerByRawKerberos(TestOurServerByKerberos):
    mechanism = RAW


class TestOurClientByKerberos(ClientDefects):
    mechanism = KERBEROS

    @pytest.fixture
    def endpoint(self, credssp_realm):
        return client_of_ours(credssp_realm, self.mechanism)


class TestOurClientByRawKerberos(TestOurClientByKerberos):
    mechanism = RAW


# --- what the tests see ---


@both_forms
def test_an_endpoint_with_a_wrong_account_is_seen(credssp_realm, endpoint_of_ours, form):
    account = Password("not the password", credssp_realm.user, credssp_realm.name)
    endpoint = ServerEndpoint(connect=endpoint_of_ours.connect, account=account, spn=SPN)
    suite = ServerDefects()
    suite.mechanism = form
    with pytest.raises(CredSSPError, match="password"):
        suite.test_an_honest_client_is_let_in(endpoint)


def test_a_right_list_mic_lets_a_client_in(endpoint_of_ours):
    with HostileClient(endpoint_of_ours, KERBEROS) as client:
        negotiated_logon(client)


def test_a_server_that_looks_at_no_list_mic_is_seen(endpoint_of_ours, monkeypatch):
    monkeypatch.setattr("acredssp.mechanisms.kerberos.context.KerberosAcceptor.verify_mic", lambda *_: None)
    seen = defects_of(attack_server, endpoint_of_ours, ["wrong-list-mic", "absent-list-mic"], KERBEROS)
    assert list(seen) == ["wrong-list-mic"]


def test_a_server_that_takes_the_list_mic_of_its_own_list_is_seen(endpoint_of_ours, monkeypatch):
    own, verify = encode_mech_list((MECHANISM,)), KerberosAcceptor.verify_mic
    monkeypatch.setattr(KerberosAcceptor, "verify_mic", lambda self, _, mic: verify(self, own, mic))
    assert list(defects_of(attack_server, endpoint_of_ours, ["list-mic-of-another-list"], KERBEROS))


@both_forms
def test_a_server_that_compares_no_key_is_seen(endpoint_of_ours, monkeypatch, form):
    monkeypatch.setattr("hmac.compare_digest", lambda *_: True)
    assert list(defects_of(attack_server, endpoint_of_ours, ["relayed", "garbage"], form)) == ["relayed"]


@both_forms
def test_a_client_that_takes_old_versions_is_seen(credssp_realm, form):
    endpoint = client_of_ours(credssp_realm, form, min_version=2, dangerous_allow_legacy_versions=True)
    assert list(defects_of(attack_client, endpoint, ["old-version", "unproven-key"], form)) == ["old-version"]


def test_a_client_that_looks_at_no_list_mic_is_seen(credssp_realm, monkeypatch):
    monkeypatch.setattr("acredssp.mechanisms.kerberos.context.KerberosInitiator.verify_mic", lambda *_: None)
    endpoint = client_of_ours(credssp_realm, KERBEROS)
    assert list(defects_of(attack_client, endpoint, ["wrong-list-mic", "absent-list-mic"], KERBEROS)) == [
        "wrong-list-mic"
    ]


def test_every_attack_is_for_a_mechanism_or_has_the_reason_why_not():
    for every, of, reasons in [
        (SERVER_DEFECTS, server_defects, NTLM_ONLY_SERVER_DEFECTS),
        (CLIENT_DEFECTS, client_defects, NTLM_ONLY_CLIENT_DEFECTS),
    ]:
        assert set(of(NTLM)) | set(of(KERBEROS)) == set(every)
        assert set(of(RAW)) < set(of(KERBEROS))
        assert set(of(NTLM)) - set(of(KERBEROS)) == set(reasons)
        for reason in reasons.values():
            assert set(reason.rpartition(": ")[2].split(", ")) <= set(of(RAW))


@pytest.mark.parametrize(
    ("attack", "defect", "mechanism", "said"),
    [
        (attack_server, "wrong-password", KERBEROS, "wrong-password cannot be made by kerberos: a client proves its"),
        (attack_server, "forged-ticket", NTLM, "forged-ticket cannot be made by ntlm: it is one of kerberos"),
        (attack_client, "no-reply", RAW, "cannot be made by raw-kerberos: it is one of kerberos, and in spnego"),
        (attack_client, "nothing", NTLM, "expected one of garbage, "),
        (attack_client, "garbage", MechanismChoice.AUTO, "expected ntlm, kerberos or raw-kerberos, got auto"),
    ],
)  # fmt: skip
def test_an_attack_that_a_mechanism_does_not_have_is_an_error(attack, defect, mechanism, said):
    with pytest.raises(ValueError, match=said):
        attack(None, defect, mechanism)


def test_a_hostile_server_needs_a_keytab():
    endpoint = ClientEndpoint.tcp(print, account=Password("x", "alice", "REALM"))
    with pytest.raises(ValueError, match="keytab: expected the service's key"):
        HostileServer(None, endpoint, mechanism=KERBEROS)


@pytest.mark.parametrize(
    ("client", "server", "said"),
    [
        (RAW, KERBEROS, "does not begin with spnego, but with kerberos"),
        (KERBEROS, RAW, "begins with spnego_init, not with kerberos"),
        (NTLM, RAW, "begins with ntlm, not with kerberos"),
        (RAW, NTLM, "begins with kerberos, not with ntlm"),
    ],
    ids=str,
)
def test_a_client_of_another_mechanism_is_named(credssp_realm, client, server, said):
    with pytest.raises(Crashed, match=said):
        attack_client(client_of_ours(credssp_realm, client), "garbage", server)


# --- pyspnego ---

FORMS = {KERBEROS: "negotiate", RAW: "kerberos"}
"""By pyspnego's word for the same."""
SERVER_BY_KERBEROS = {
    "garbage": "ValueError", "indefinite-length": "TypeError", "version-change": "lets in",
    "forged-ticket": "AttributeError", "changed-authenticator": "AttributeError",
}  # fmt: skip
SERVER_BY_SPNEGO = {
    "key-before-logon": "RuntimeError", "no-mechanism": "RuntimeError", "endless-rounds": "goes on after 200",
}  # fmt: skip
CLIENT_BY_KERBEROS = {
    "garbage": "ValueError", "indefinite-length": "TypeError", "no-token": "TypeError", "key-before-logon": "TypeError",
    "version-change": "sends its password", "old-version": "CVE-2018-0886",
}  # fmt: skip
CLIENT_BY_SPNEGO = {"rejected": "sends its password", "mechanism-not-offered": "ValueError"}
"""What pyspnego 0.12 has by Kerberos; docs/testing.md has the same findings."""


def their_server(form):
    def new():
        inner = spnego.server(protocol=FORMS[form])
        return spnego.server(protocol="credssp", credssp_negotiate_context=inner).step

    return new


def their_client(realm, form):
    def new():
        name = f"{realm.user}@{realm.name}"
        inner = spnego.client(name, realm.password, protocol=FORMS[form], hostname="localhost", service="TERMSRV")
        context = spnego.client(name, realm.password, protocol="credssp", credssp_negotiate_context=inner)
        began = []

        def step(data):
            if not data and began:
                return b""
            began.append(True)
            return context.step(data or None)

        return step

    return new


@both_forms
def test_the_server_of_pyspnego(credssp_realm, form):
    refusals = (spnego.exceptions.SpnegoError,)
    endpoint = ServerEndpoint.steps(their_server(form), account=credssp_realm.account, spn=SPN, refusals=refusals)
    seen = defects_of(attack_server, endpoint, server_defects(form), form)
    check_findings(seen, SERVER_BY_KERBEROS | (SERVER_BY_SPNEGO if form is KERBEROS else {}))


@both_forms
def test_the_client_of_pyspnego(credssp_realm, form):
    endpoint = ClientEndpoint.steps(
        their_client(credssp_realm, form),
        account=credssp_realm.account,
        keytab=credssp_realm.keys,
        refusals=(spnego.exceptions.SpnegoError,),
    )
    seen = defects_of(attack_client, endpoint, client_defects(form), form)
    check_findings(seen, CLIENT_BY_KERBEROS | (CLIENT_BY_SPNEGO if form is KERBEROS else {}))


# --- the documentation ---

PAGE = (Path(__file__).parent.parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")


def named(row):
    """The attacks that a row of a table names."""
    return set(re.findall(r"`([a-z0-9-]+)`", row))


def test_the_documentation_has_every_finding_by_kerberos():
    for beginning, findings in {
        "server by Kerberos": SERVER_BY_KERBEROS,
        "server by Kerberos in SPNEGO": SERVER_BY_SPNEGO,
        "client by Kerberos": CLIENT_BY_KERBEROS,
        "client by Kerberos in SPNEGO": CLIENT_BY_SPNEGO,
    }.items():
        rows = [row for row in PAGE.splitlines() if row.startswith(f"| pyspnego 0.12, {beginning} |")]
        assert named("".join(rows)) == set(findings)


def test_the_documentation_has_every_reason():
    reasons = {**NTLM_ONLY_SERVER_DEFECTS, **NTLM_ONLY_CLIENT_DEFECTS}
    rows = [row.split(" | ") for row in PAGE.splitlines() if " | " in row and named(row) & set(reasons)]
    told = {name: named(cells[2]) for cells in rows if len(cells) == 3 for name in named(cells[0])}
    assert {name: told.get(name) for name in reasons} == {
        name: set(reason.rpartition(": ")[2].split(", ")) for name, reason in reasons.items()
    }


def test_the_documentation_counts_the_attacks():
    for of, column in ((server_defects, 1), (client_defects, 2)):
        shared = set(of(NTLM)) & set(of(RAW))
        counts = [
            len(shared),
            len(of(NTLM)) - len(shared),
            len(of(RAW)) - len(shared),
            len(of(KERBEROS)) - len(of(RAW)),
        ]
        table = PAGE.partition("| attacks | on a server |")[2].splitlines()[2:6]
        assert [int(row.split("|")[1 + column]) for row in table] == counts
    kinds = [
        server_defects(NTLM),
        server_defects(KERBEROS),
        server_defects(RAW),
        client_defects(),
        client_defects(KERBEROS),
    ]
    told = re.search(
        r"(\d+) on each server, (\d+) and (\d+) more .*?, (\d+) on each client, and (\d+) more", PAGE, re.DOTALL
    )
    assert [int(each) for each in told.groups()] == [len(each) for each in kinds]

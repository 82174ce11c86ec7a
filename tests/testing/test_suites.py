"""The test classes for others, run against acredssp itself, against pyspnego, and against peers with known defects."""

import contextlib
import dataclasses
import re
import socket
import struct
from pathlib import Path

import pytest
import spnego
from support.defects import check_findings, defects_of

from acredssp.credentials import Password
from acredssp.errors import CredSSPError
from acredssp.policy import MechanismChoice, Policy
from acredssp.rdp import ConnectionConfirm, Protocols
from acredssp.testing import (
    ClientDefects,
    ClientEndpoint,
    Crashed,
    FakeServer,
    HostileClient,
    ServerDefects,
    ServerEndpoint,
    attack_client,
    attack_server,
    client_defects,
    log_on,
    server_defects,
)
from acredssp.wire import SecretBytes, TSPasswordCreds

pytest_plugins = ["acredssp.testing.plugin"]

ACCOUNT = Password("Passw0rd!", "alice", "CONTOSO")


@pytest.fixture(scope="module")
def server():
    with FakeServer(ACCOUNT) as server:
        yield server


def client_of_ours(account=ACCOUNT, **policy):
    options = Policy(mechanism=MechanismChoice.NTLM, **policy)

    def run(host, port):
        try:
            log_on(host, port, account, policy=options)
        except CredSSPError:
            return False
        return True

    return ClientEndpoint.tcp(run, account=ACCOUNT)


class TestOurServer(ServerDefects):
    @pytest.fixture
    def endpoint(self, server):
        return ServerEndpoint.tcp("127.0.0.1", server.port, account=ACCOUNT)


class TestOurClient(ClientDefects):
    @pytest.fixture
    def endpoint(self):
        return client_of_ours()


# --- what the tests see ---


def test_an_endpoint_with_a_wrong_account_is_seen(server):
    endpoint = ServerEndpoint.tcp("127.0.0.1", server.port, account=dataclasses.replace(ACCOUNT, password="wrong"))
    with pytest.raises(AssertionError, match="check the endpoint"):
        ServerDefects().test_an_honest_client_is_let_in(endpoint)


def test_a_client_that_takes_old_versions_is_seen():
    endpoint = client_of_ours(min_version=2, dangerous_allow_legacy_versions=True)
    assert list(defects_of(attack_client, endpoint, ["old-version", "unproven-key"])) == ["old-version"]


def test_a_client_that_connects_again_is_refused_and_ends():
    """FreeRDP does so after some attacks; nobody would answer it."""
    again = []

    def run(host, port):
        with socket.create_connection((host, port)) as sock:
            sock.recv(1)
        with contextlib.suppress(ConnectionRefusedError):
            again.append(socket.create_connection((host, port)))

    endpoint = ClientEndpoint.tcp(run, account=ACCOUNT, rdp=False)
    with endpoint.meet() as link:
        link.close()
        assert endpoint.succeeded() is None
    assert not again


def test_a_server_that_compares_nothing_is_seen(server, monkeypatch):
    monkeypatch.setattr("hmac.compare_digest", lambda *_: True)
    endpoint = ServerEndpoint.tcp("127.0.0.1", server.port, account=ACCOUNT)
    seen = defects_of(attack_server, endpoint, ["relayed", "wrong-mic", "absent-mic", "garbage"])
    assert list(seen) == ["relayed", "wrong-mic", "absent-mic"]


# --- pyspnego ---


@pytest.fixture
def pyspnego_users(tmp_path, monkeypatch):
    path = tmp_path / "users"
    path.write_text(f"{ACCOUNT.domain}:{ACCOUNT.user}:{ACCOUNT.password}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(path))


def their_server():
    inner = spnego.server(protocol="ntlm")
    return spnego.server(protocol="credssp", credssp_negotiate_context=inner).step


def their_client(**options):
    inner = spnego.client("CONTOSO\\alice", "Passw0rd!", protocol="ntlm")
    context = spnego.client(
        "CONTOSO\\alice", "Passw0rd!", protocol="credssp", credssp_negotiate_context=inner, **options
    )
    began = []

    def step(data):
        if not data and began:
            return b""
        began.append(True)
        return context.step(data or None)

    return step


PYSPNEGO_SERVER = {
    "garbage": "ValueError", "indefinite-length": "TypeError", "ntlm-of-another-type": "KeyError",
    "name-of-odd-length": "UnicodeDecodeError", "version-change": "lets in", "endless-rounds": "ValueError",
}  # fmt: skip
PYSPNEGO_CLIENT = {
    "garbage": "ValueError", "indefinite-length": "TypeError", "no-token": "TypeError", "version-zero": "struct.error",
    "key-before-logon": "TypeError", "challenge-cut": "ValueError", "version-change": "sends its password",
    "old-version": "CVE-2018-0886",
}  # fmt: skip
"""What pyspnego 0.12 has: an exception that is none of its own, or more. docs/testing.md has the same findings."""


@pytest.mark.thorough
def test_the_server_of_pyspnego(pyspnego_users):
    endpoint = ServerEndpoint.steps(their_server, account=ACCOUNT, refusals=(spnego.exceptions.SpnegoError,))
    seen = defects_of(attack_server, endpoint, server_defects())
    check_findings(seen, PYSPNEGO_SERVER)


@pytest.mark.thorough
def test_the_client_of_pyspnego():
    endpoint = ClientEndpoint.steps(their_client, account=ACCOUNT, refusals=(spnego.exceptions.SpnegoError,))
    seen = defects_of(attack_client, endpoint, client_defects())
    check_findings(seen, PYSPNEGO_CLIENT)


def test_a_failure_names_the_attack_and_the_library_s_exception():
    def step(data):
        raise struct.error("unpack requires a buffer")

    endpoint = ServerEndpoint.steps(lambda: step, account=ACCOUNT, refusals=())
    with pytest.raises(Crashed, match=r"the library ends with struct\.error: unpack") as caught:
        attack_server(endpoint, "garbage")
    assert caught.value.__notes__[0].startswith("the attack is 'garbage'") or "garbage" in str(caught.value.__notes__)


def test_the_client_of_pyspnego_can_be_told_to_refuse_old_versions():
    endpoint = ClientEndpoint.steps(lambda: their_client(credssp_min_protocol=5), account=ACCOUNT)
    assert defects_of(attack_client, endpoint, ["old-version"]) == {}


# --- the documentation ---

PAGE = Path(__file__).parent.parent.parent / "docs" / "testing.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_classes_of_the_documentation_are_tests():
    found = {}
    for block in BLOCKS[:3]:
        exec(compile(block, PAGE.name, "exec"), found)  # noqa: S102 - our own page
    assert issubclass(found["TestMyServer"], ServerDefects)
    assert issubclass(found["TestMyClient"], ClientDefects)
    assert issubclass(found["TestByKerberos"], ServerDefects)
    assert hasattr(found["TestMyServer"], "endpoint")


def test_the_attack_of_the_documentation_runs(pyspnego_users):
    found = {}
    for block in BLOCKS[3:]:
        exec(compile(block, PAGE.name, "exec"), found)  # noqa: S102 - our own page
    assert len(BLOCKS) == 6


def test_the_documentation_has_every_finding_and_every_count():
    text = PAGE.read_text(encoding="utf-8")
    for side, findings in (("server", PYSPNEGO_SERVER), ("client", PYSPNEGO_CLIENT)):
        told = "".join(row for row in text.splitlines() if row.startswith(f"| pyspnego 0.12, {side} |"))
        assert set(re.findall(r"`([a-z0-9-]+)`", told)) == set(findings)
    assert f"the {len(server_defects())} attacks that NTLM has" in text
    assert f"{len(client_defects())} attacks passes" in text


# --- the fixtures ---


def test_the_fixtures_meet_each_other(credssp_server, credssp_client, credssp_account):
    assert credssp_client("127.0.0.1", credssp_server.port)
    assert credssp_server.reports.get(timeout=60).error is None
    delegated = credssp_server.credentials.get(timeout=60)
    assert delegated == TSPasswordCreds.of(credssp_account.domain, credssp_account.user, credssp_account.password)
    assert isinstance(delegated.password, SecretBytes)


def test_the_realm_gives_tickets(credssp_kdc, tmp_path):
    import subprocess  # noqa: PLC0415 - for this test alone

    run = subprocess.run(
        ["kinit", "-c", tmp_path / "cache", f"{credssp_kdc.user}@{credssp_kdc.name}"],
        env=credssp_kdc.environment,
        input=f"{credssp_kdc.password}\n".encode(),
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert credssp_kdc.keytab.exists()


class DeafSocket:
    """A connection to a server that says one thing, and then nothing."""

    def __init__(self, answer):
        self._answers = [answer]
        self.closed = False

    def settimeout(self, seconds):
        """Never wait."""

    def sendall(self, data):
        """Take it."""

    def recv(self, size):
        return self._answers.pop() if self._answers else b""

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    "answer",
    [b"", ConnectionConfirm(selected_protocol=Protocols.SSL).encode(), b"SSH-2.0-OpenSSH\r\n",
     ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()],
    ids=["nothing", "tls alone", "ssh", "no tls"],
)  # fmt: skip
def test_a_connection_to_a_server_that_is_none_is_closed(monkeypatch, answer):
    sock = DeafSocket(answer)
    monkeypatch.setattr(socket, "create_connection", lambda *_: sock)
    endpoint = ServerEndpoint.tcp("127.0.0.1", 3389, account=ACCOUNT)
    with pytest.raises((Crashed, CredSSPError)), HostileClient(endpoint):
        pass
    assert sock.closed

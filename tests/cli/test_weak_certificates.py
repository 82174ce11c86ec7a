"""`login --dangerous-allow-weak-certificates`: a server below an authority whose key is short."""

import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.certificates import Made

SWITCH = "--dangerous-allow-weak-certificates"
WARNING = "certificates with weak keys or sha-1 signatures are accepted"


@pytest.fixture(scope="module")
def weak_authority(served, tmp_path_factory):
    """A server, and the file of its authority."""
    folder = tmp_path_factory.mktemp("weak")
    years = {"start": -3650, "days": 36500}  # the command looks at the clock
    root = Made("small root", ca=True, key="rsa1024", **years)
    server = Made("server", by=root, names=["rdp.example"], **years)
    (folder / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    (folder / "server.pem").write_bytes(server.certificate.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return served("--cert", str(folder / "server.pem"), "--key", str(folder / "server.key")), folder / "root.pem"


@pytest.fixture
def log_on(command, password, weak_authority):
    """Runs `login --json` as alice: its exit status, its object, its text for people."""

    def call(*words):
        server, authority = weak_authority
        trust = ("--ca", authority, "--server-name", "rdp.example")
        who = ("-u", "CONTOSO\\alice", "-p", password)
        status, out, err = command("login", server.address, *who, *trust, *words, "--json")
        return status, json.loads(out), err

    return call


def test_a_weak_authority_is_refused_with_the_option_in_the_hint(log_on):
    status, report, err = log_on()
    assert (status, report["security_status"]) == (3, "SEC_E_ALGORITHM_MISMATCH")
    assert "a weak key: rsa of 1024 bits" in report["message"]
    assert SWITCH in report["hint"]
    assert SWITCH in err
    assert WARNING not in err


def test_the_option_lets_it_in_with_a_warning(log_on):
    status, report, err = log_on(SWITCH)
    assert (status, report["result"]) == (0, "success")
    assert WARNING in err


def test_the_option_keeps_the_name_and_the_authority(log_on, command, password, weak_authority):
    status, report, _ = log_on(SWITCH, "--server-name", "other.example")
    assert (status, report["security_status"]) == (3, "SEC_E_WRONG_PRINCIPAL")
    server, _ = weak_authority
    words = ("-u", "CONTOSO\\alice", "-p", password, "--server-name", "rdp.example", SWITCH, "--json")
    status, out, err = command("login", server.address, *words)
    assert (status, json.loads(out)["security_status"]) == (3, "SEC_E_UNTRUSTED_ROOT"), "nobody named the authority"
    assert WARNING in err

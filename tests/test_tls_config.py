"""TLS contexts, and keys that touch no disk."""

import os
import pathlib
import ssl
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support.engine import certificate_for, pem

from acredssp import tls_config
from acredssp.core.own_certificate import own_public_key
from acredssp.core.tls import TLSSession
from acredssp.errors import PolicyError, TLSError
from acredssp.policy import Policy


@pytest.mark.requirement("tls.no-tickets")
def test_server_contexts_make_no_tickets_and_do_not_renegotiate():
    context = tls_config.server_context_from_pem(Policy(), *pem())
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_of_ours_are_given_nothing_to_resume_by_a_server_of_ours(version):
    policy = Policy(min_tls=version, max_tls=version)
    client = TLSSession(tls_config.client_context(policy), server_side=False)
    server = TLSSession(tls_config.server_context_from_pem(policy, *pem()), server_side=True)
    flight = b""
    for _ in range(3):
        client.handshake(flight)
        server.handshake(client.output())
        flight = server.output()
    server.write(b"word")
    assert client.read(server.output()) == b"word"
    assert not client.session.has_ticket


def test_the_policy_sets_the_tls_versions():
    policy = Policy(min_tls=ssl.TLSVersion.TLSv1_3)
    assert tls_config.client_context(policy).minimum_version is ssl.TLSVersion.TLSv1_3
    old = tls_config.client_context(Policy(max_tls=ssl.TLSVersion.TLSv1_2))
    client, server = (
        TLSSession(old, server_side=False),
        TLSSession(tls_config.server_context_from_pem(policy, *pem()), server_side=True),
    )
    client.handshake()
    with pytest.raises(TLSError):
        server.handshake(client.output())


@pytest.mark.parametrize(("key_type", "kind"), [("rsa", rsa.RSAPublicKey), ("ec", ec.EllipticCurvePublicKey)])
def test_a_self_made_certificate_has_its_names_and_its_use(key_type, kind):
    certificate = x509.load_pem_x509_certificate(tls_config.self_signed(["host.example", "127.0.0.1"], key_type)[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["host.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use.dotted_string for use in usage] == ["1.3.6.1.5.5.7.3.1"]
    assert isinstance(certificate.public_key(), kind)


def test_files_of_the_user(tmp_path):
    chain, key = pem()
    (tmp_path / "cert.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(key)
    context = tls_config.server_context(Policy(), str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    assert context.num_tickets == 0
    with pytest.raises(ssl.SSLError):
        tls_config.server_context(Policy(), str(tmp_path / "cert.pem"))
    for files in (["none.pem"], ["cert.pem", "none.pem"]):
        with pytest.raises(OSError, match=r"No such file.*none\.pem"):
            tls_config.server_context(Policy(), *[str(tmp_path / name) for name in files])


class Audit:
    """Paths opened while it is on: an audit hook cannot be taken away, so there is one for the run."""

    def __init__(self) -> None:
        self.on = False
        self.paths: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple) -> None:
        if self.on and event == "open":
            self.paths.append(str(args[0]))


@pytest.fixture(scope="module")
def audit():
    return Audit()


@pytest.mark.requirement("defect.key-on-disk")
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memfd is Linux's")
def test_a_key_in_memory_is_written_to_no_file(audit, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    audit.on = True
    tls_config.server_context_from_pem(Policy(), *pem())
    audit.on = False
    assert [path for path in audit.paths if not path.isdigit()] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("defect.key-on-disk")
def test_without_memfd_the_file_is_encrypted_and_gone_afterwards(audit, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tls_config.tempfile, "tempdir", str(tmp_path))
    with tls_config._file_of_key(*pem()) as (path, password):
        content = pathlib.Path(path).read_bytes()
        assert b"ENCRYPTED PRIVATE KEY" in content
        assert b"BEGIN PRIVATE KEY" not in content
        assert len(password) == 64
    assert list(tmp_path.iterdir()) == []
    context = tls_config.server_context_from_pem(Policy(), *pem("ec"))
    assert own_public_key(context)


def test_a_clients_certificate_is_shown_to_a_server_that_asks():
    certificate, key = certificate_for(ec.generate_private_key(ec.SECP256R1()))
    asking = tls_config.server_context_from_pem(Policy(), *pem())
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(cadata=certificate.decode("ascii"))
    client = TLSSession(tls_config.client_context_from_pem(Policy(), certificate, key), server_side=False)
    server = TLSSession(asking, server_side=True)
    flight = b""
    for _ in range(3):
        client.handshake(flight)
        server.handshake(client.output())
        flight = server.output()
    assert server.peer_certificate == ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))


# --- old peers ---

V = ssl.TLSVersion
needs_old_tls = pytest.mark.skipif(not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1), reason="openssl was built without it")


def legacy(version, **changes):
    return Policy(min_tls=version, dangerous_allow_legacy_tls=True, **changes)


def meet(client_policy, server_policy, key_type="rsa"):
    """The version and suite that a client and a server of these policies come to."""
    client = TLSSession(tls_config.client_context(client_policy), server_side=False)
    server = TLSSession(tls_config.server_context_from_pem(server_policy, *pem(key_type)), server_side=True)
    flight = b""
    for _ in range(4):
        client.handshake(flight)
        server.handshake(client.output())
        flight = server.output()
    server.write(b"word")
    assert client.read(server.output()) == b"word"
    return client.version, client.cipher


@needs_old_tls
@pytest.mark.parametrize("key_type", ["rsa", "ec"])
@pytest.mark.parametrize(("version", "name"), [(V.TLSv1, "TLSv1"), (V.TLSv1_1, "TLSv1.1")])
def test_old_versions_meet_under_their_switch(version, name, key_type):
    old = legacy(version, max_tls=version)
    for client, server in ((old, legacy(V.TLSv1)), (legacy(V.TLSv1), old)):
        met, cipher = meet(client, server, key_type)
        assert met == name
        assert (cipher[:6], cipher[-4:]) == ("ECDHE-", "-SHA")


@needs_old_tls
def test_the_newest_version_is_taken_where_both_have_it():
    assert meet(legacy(V.TLSv1), legacy(V.TLSv1))[0] == "TLSv1.3"
    assert meet(legacy(V.TLSv1), Policy())[0] == "TLSv1.3"


@needs_old_tls
@pytest.mark.parametrize("old_side", ["client", "server"])
def test_the_floor_of_every_other_context_stays(old_side):
    old = legacy(V.TLSv1, max_tls=V.TLSv1_1)
    with pytest.raises(TLSError):
        meet(*((old, Policy()) if old_side == "client" else (Policy(), old)))
    assert tls_config.client_context(Policy()).minimum_version is V.TLSv1_2


def suites(context):
    return {cipher["name"] for cipher in context.get_ciphers()}


def contexts(policy):
    return tls_config.client_context(policy), tls_config.server_context_from_pem(policy, *pem())


@needs_old_tls
@pytest.mark.parametrize("policy", [legacy(V.TLSv1), legacy(V.TLSv1, dangerous_allow_legacy_ciphers=True)])
def test_nothing_anonymous_unencrypted_or_broken_is_let_in(policy):
    for context in contexts(policy):
        for cipher in context.get_ciphers():
            assert cipher["auth"] in {"auth-rsa", "auth-ecdsa", "auth-any"}, cipher
            assert cipher["strength_bits"] >= 128, cipher
            assert not {"RC4", "DES", "NULL", "MD5"} & set(cipher["name"].split("-")), cipher


@pytest.mark.parametrize("policy", [Policy(), Policy(dangerous_allow_legacy_tls=True)])
def test_without_old_versions_the_suites_are_pythons_own(policy):
    for context, role in zip(contexts(policy), (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER), strict=True):
        assert suites(context) == suites(ssl.SSLContext(role))


@pytest.mark.parametrize("suite", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA"])
def test_old_suites_have_a_switch_of_their_own(suite):
    allowed = Policy(max_tls=V.TLSv1_2, dangerous_allow_legacy_ciphers=True)
    for context, careful in zip(contexts(allowed), contexts(Policy()), strict=True):
        assert suite in suites(context)
        assert suite not in suites(careful)
        assert context.minimum_version is V.TLSv1_2
    server_context = tls_config.server_context_from_pem(allowed, *pem())
    server_context.set_ciphers(suite)
    client, server = (
        TLSSession(tls_config.client_context(allowed), server_side=False),
        TLSSession(server_context, server_side=True),
    )
    client.handshake()
    server.handshake(client.output())
    client.handshake(server.output())
    server.handshake(client.output())
    assert server.cipher == suite


def test_an_openssl_without_the_version_is_named(monkeypatch):
    monkeypatch.setattr(ssl, "HAS_TLSv1", False)
    with pytest.raises(PolicyError, match=r"OpenSSL .* has no TLSv1 .*a higher min_tls"):
        tls_config.client_context(legacy(V.TLSv1))
    tls_config.client_context(Policy())


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_environment_does_not_make_a_key_log(role, tmp_path, monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    client, server = contexts(Policy())
    assert (client if role == "client" else server).keylog_filename is None
    assert meet(Policy(), Policy())[0] == "TLSv1.3"
    assert list(tmp_path.iterdir()) == []

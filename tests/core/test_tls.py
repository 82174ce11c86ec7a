"""TLSSession: two memory BIOs, facts, alerts, and the rules of close_notify."""

import ssl

import pytest
from asn1crypto import pem as asn1_pem
from asn1crypto import x509 as asn1_x509
from support.engine import pem

from acredssp import tls_config
from acredssp.core import tls as tls_module
from acredssp.core.tls import TLSSession, own_chain, own_public_key
from acredssp.errors import LocalProtocolError, PolicyError, TLSError
from acredssp.policy import Policy
from acredssp.status import SecurityStatus

TLS12 = Policy(max_tls=ssl.TLSVersion.TLSv1_2)
TLS13 = Policy(min_tls=ssl.TLSVersion.TLSv1_3)
VERSIONS = pytest.mark.parametrize("policy", [TLS12, TLS13], ids=["tls12", "tls13"])


def subject_public_key(certificate_pem: bytes) -> bytes:
    """By asn1crypto, which shares no code with ours."""
    _, _, der = asn1_pem.unarmor(certificate_pem)
    info = asn1_x509.Certificate.load(der)["tbs_certificate"]["subject_public_key_info"]
    return info["public_key"].contents[1:]


def pair(policy: Policy, server_context: ssl.SSLContext) -> tuple[TLSSession, TLSSession]:
    client = TLSSession(tls_config.client_context(policy), server_side=False, server_hostname="localhost")
    server = TLSSession(server_context, server_side=True)
    shake_hands(client, server)
    return client, server


def shake_hands(client: TLSSession, server: TLSSession) -> None:
    done = False
    for _ in range(5):
        done = client.handshake()
        server.feed(client.output())
        done = server.handshake() and done
        client.feed(server.output())
        if done:
            return
    raise AssertionError("the tls handshake does not end")


@pytest.fixture
def server_context():
    return tls_config.server_context_from_pem(Policy(), *pem("rsa"))


@pytest.mark.requirement("binding.key")
@VERSIONS
@pytest.mark.parametrize("key_type", ["rsa", "ec", "p384", "rsa3072", "ed25519"])
def test_both_sides_see_the_same_subject_public_key(policy, key_type):
    chain, key = pem(key_type)
    client, server = pair(policy, tls_config.server_context_from_pem(policy, chain, key))
    assert client.peer_public_key() == server.own_public_key() == subject_public_key(chain)


@VERSIONS
def test_data_arrives_both_ways(policy, server_context):
    client, server = pair(policy, server_context)
    client.write(b"ping")
    server.feed(client.output())
    assert server.read() == b"ping"
    server.write(b"pong")
    client.feed(server.output())
    assert client.read() == b"pong"
    assert client.read() == b""
    assert not client.peer_closed


def test_facts(server_context):
    client, server = pair(TLS13, server_context)
    assert (client.version, server.version) == ("TLSv1.3", "TLSv1.3")
    assert client.cipher.startswith("TLS_")
    assert server.server_name == "localhost"
    assert len(client.peer_chain()) == 1
    assert server.peer_chain() == ()


def test_before_the_handshake_there_are_no_facts(server_context):
    session = TLSSession(server_context, server_side=True)
    assert (session.cipher, session.server_name) == ("", "")
    with pytest.raises(TLSError, match="no certificate"):
        session.peer_public_key()


def test_the_whole_chain_is_seen():
    (root, _), (leaf, key) = pem("ed25519"), pem("ec")
    context = tls_config.server_context_from_pem(Policy(), leaf + root, key)
    client, _ = pair(TLS13, context)
    assert [ssl.DER_cert_to_PEM_cert(link).encode() for link in client.peer_chain()] == [leaf, root]


def test_a_name_for_the_chain_still_exists():
    """Before 3.13 the chain is read from the inner object; should a CPython drop that, this says so."""
    client, _ = pair(TLS13, tls_config.server_context_from_pem(Policy(), *pem("rsa")))
    places = (client.ssl_object, client.ssl_object._sslobj)
    assert any(hasattr(place, "get_unverified_chain") for place in places)


# --- close_notify ---


@pytest.mark.requirement("tls.close-notify")
@VERSIONS
def test_close_notify_is_seen_once_data_before_it_is_read(policy, server_context):
    client, server = pair(policy, server_context)
    client.write(b"last words")
    client.close()
    server.feed(client.output())
    assert server.read() == b"last words"
    assert server.peer_closed


@pytest.mark.requirement("tls.close-notify")
@VERSIONS
def test_closing_our_direction_leaves_the_peers_open(policy, server_context):
    client, server = pair(policy, server_context)
    client.close()
    server.feed(client.output())
    server.read()
    server.write(b"still here")
    server.close()
    client.feed(server.output())
    assert client.read() == b"still here"
    assert client.peer_closed


def test_write_after_close_is_refused(server_context):
    client, _ = pair(TLS13, server_context)
    client.close()
    with pytest.raises(LocalProtocolError):
        client.write(b"too late")


def test_close_says_good_bye_only_once(server_context):
    client, _ = pair(TLS13, server_context)
    client.close()
    assert client.output()
    client.close()
    assert not client.output()


def test_close_before_the_handshake_is_harmless(server_context):
    session = TLSSession(server_context, server_side=True)
    session.close()
    assert session.output() == b""


# --- failure ---


@pytest.mark.requirement("tls.alerts")
@VERSIONS
def test_an_altered_record_is_refused_and_answered_by_an_alert(policy, server_context):
    client, server = pair(policy, server_context)
    client.write(b"something")
    record = bytearray(client.output())
    record[-1] ^= 1
    server.feed(record)
    with pytest.raises(TLSError):
        server.read()
    client.feed(server.output())
    with pytest.raises(TLSError, match="alert bad_record_mac") as caught:
        client.read()
    assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED


@pytest.mark.requirement("tls.alerts")
def test_no_version_in_common_ends_with_an_alert():
    old = tls_config.server_context_from_pem(TLS12, *pem("rsa"))
    client = TLSSession(tls_config.client_context(TLS13), server_side=False)
    server = TLSSession(old, server_side=True)
    client.handshake()
    server.feed(client.output())
    with pytest.raises(TLSError):
        server.handshake()
    client.feed(server.output())
    with pytest.raises(TLSError, match="protocol_version") as caught:
        client.handshake()
    assert caught.value.security_status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


@pytest.mark.requirement("tls.alerts")
@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("TLSV1_ALERT_ACCESS_DENIED", SecurityStatus.SEC_E_LOGON_DENIED),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", SecurityStatus.SEC_E_CERT_EXPIRED),
        ("TLSV1_ALERT_UNKNOWN_CA", SecurityStatus.SEC_E_UNTRUSTED_ROOT),
        ("TLSV1_ALERT_INTERNAL_ERROR", SecurityStatus.SEC_E_INTERNAL_ERROR),
        ("TLSV1_ALERT_DECRYPT_ERROR", SecurityStatus.SEC_E_DECRYPT_FAILURE),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", SecurityStatus.SEC_E_ILLEGAL_MESSAGE),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", SecurityStatus.SEC_E_ILLEGAL_MESSAGE),
    ],
)
def test_an_alert_becomes_schannels_status(reason, status):
    error = ssl.SSLError(1, reason)
    error.reason = reason
    assert tls_module._tls_error(error).security_status is status


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_asking_for_answers_makes_no_record_where_none_is_due(version, server_context):
    maximum = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[version]
    client, server = pair(Policy(max_tls=maximum), server_context)
    for end in (client, server):
        assert end.version == version
        end.answer()
        assert (end.has_output, end.output_size) == (False, 0)
    client.write(b"hello")
    assert client.output_size == len(client.output()) > 5
    assert not client.closed
    client.close()
    client.output()
    client.answer()
    assert (client.closed, client.output_size) == (True, 0)


# --- whose key is it ---


def test_a_context_of_the_caller_is_asked_for_its_certificate_once(tmp_path, monkeypatch):
    chain, key = pem("ec")
    file = tmp_path / "both.pem"
    file.write_bytes(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    assert own_public_key(context) == subject_public_key(chain)
    assert own_chain(context) == (ssl.PEM_cert_to_DER_cert(chain.decode()),)
    monkeypatch.setattr(tls_module, "_ask_chain", None)
    assert own_public_key(context) == subject_public_key(chain)
    assert own_chain(context) == (ssl.PEM_cert_to_DER_cert(chain.decode()),)


def test_a_context_without_a_certificate_is_refused():
    with pytest.raises(PolicyError, match="no certificate"):
        own_public_key(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def test_a_context_with_two_key_types_is_refused(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for kind in ("rsa", "ec"):
        file = tmp_path / f"{kind}.pem"
        file.write_bytes(b"".join(pem(kind)))
        context.load_cert_chain(file)
    with pytest.raises(PolicyError, match="two key types"):
        own_public_key(context)


def test_a_context_of_tls_13_alone_is_asked_too(tmp_path):
    file = tmp_path / "both.pem"
    file.write_bytes(b"".join(pem("ec")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(file)
    assert own_public_key(context) == subject_public_key(pem("ec")[0])


def test_the_key_is_that_of_the_context_an_sni_callback_chose():
    front = tls_config.server_context_from_pem(Policy(), *pem("rsa"))
    behind = tls_config.server_context_from_pem(Policy(), *pem("ec"))
    front.sni_callback = lambda ssl_object, _name, _context: setattr(ssl_object, "context", behind)
    client, server = pair(TLS13, front)
    assert server.own_public_key() == client.peer_public_key() == subject_public_key(pem("ec")[0])

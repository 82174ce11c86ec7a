"""Our contexts against pyspnego's: an independent implementation on the other end, raw NTLM and SPNEGO."""

import pytest
import spnego
from spnego.channel_bindings import GssChannelBindings
from support.ntlm import ALICE, IDENTITY, converse, initiator

from acredssp.credentials import NTHash, Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import LookupCredential
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateInitiator
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor
from acredssp.policy import Policy

PROTOCOLS = ["ntlm", "negotiate"]
ACCOUNTS = [
    ("CONTOSO", "alice", "Passw0rd!"),
    ("", "bob", "bobpw"),
    ("", "carol@contoso.test", "pässwörd"),
    ("Domäne", "dörte", "用户"),
    ("CONTOSO", "empty", ""),
]
NAMES = ["alice", "bob", "carol", "no ASCII", "no password"]
MESSAGES = (b"pubKeyAuth", b"", b"x" * 20_000, b"authInfo")


@pytest.fixture(autouse=True)
def no_realm(tmp_path, monkeypatch):
    """Pyspnego's client tries Kerberos for a name with a realm in it: no name server is to be asked for its KDC."""
    configuration = tmp_path / "krb5.conf"
    configuration.write_text("[libdefaults]\n dns_lookup_kdc = false\n dns_lookup_realm = false\n", encoding="ascii")
    monkeypatch.setenv("KRB5_CONFIG", str(configuration))


@pytest.fixture(autouse=True)
def accounts(tmp_path, monkeypatch):
    """The store of pyspnego's acceptor."""
    store = tmp_path / "users"
    store.write_text("".join(f"{domain}:{user}:{secret}\n" for domain, user, secret in ACCOUNTS), encoding="utf-8")
    monkeypatch.setenv("NTLM_USER_FILE", str(store))


def own_client(protocol, credential=ALICE, **options):
    inner = initiator(credential, **options)
    return inner if protocol == "ntlm" else NegotiateInitiator([inner])


def own_server(**options):
    return DetectingAcceptor([NTLMAcceptor(Policy(require_ntlm_mic=True), IDENTITY, **options)])


def their_client(protocol, user, secret, **options):
    return spnego.client(
        user, secret, hostname="srv.contoso.test", service="TERMSRV", protocol=protocol,
        options=spnego.NegotiateOptions.use_negotiate, **options,
    )  # fmt: skip


def their_server(protocol, **options):
    return spnego.server(
        hostname="srv.contoso.test", service="TERMSRV", protocol=protocol,
        options=spnego.NegotiateOptions.use_negotiate, **options,
    )  # fmt: skip


def exchange_messages(client, server):
    for plaintext in MESSAGES:
        assert _opened(server, _sealed(client, plaintext)) == plaintext
        assert _opened(client, _sealed(server, plaintext)) == plaintext


def _sealed(side, plaintext):
    sealed = side.wrap(plaintext)
    return sealed if isinstance(sealed, bytes) else sealed.data


def _opened(side, sealed):
    opened = side.unwrap(sealed)
    return opened if isinstance(opened, bytes) else opened.data


def log_on_to_theirs(client, server):
    token = client.step(b"")
    while not (client.complete and server.complete):
        token = client.step(server.step(token) or b"") if not client.complete else server.step(token)


def log_on_to_ours(client, server, answer):
    token = client.step()
    while token:
        progress = server.step(token)
        while isinstance(progress, LookupCredential):
            progress = server.resume(answer)
        token = client.step(progress) if progress else None
    assert client.complete
    assert server.complete


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("domain", "user", "secret"), ACCOUNTS, ids=NAMES)
def test_our_initiator_logs_on_to_pyspnego(protocol, domain, user, secret):
    client, server = own_client(protocol, Password(secret, user, domain)), their_server(protocol)
    log_on_to_theirs(client, server)
    exchange_messages(client, server)
    assert server.client_principal == (f"{domain}\\{user}" if domain else user)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nt_hash_logs_on_to_pyspnego(protocol):
    client, server = own_client(protocol, NTHash(ALICE.nt_hash, "alice", "CONTOSO")), their_server(protocol)
    log_on_to_theirs(client, server)
    exchange_messages(client, server)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_our_wrong_password_is_refused_by_pyspnego(protocol):
    client, server = own_client(protocol, Password("wrong", "alice", "CONTOSO")), their_server(protocol)
    with pytest.raises(spnego.exceptions.SpnegoError):
        log_on_to_theirs(client, server)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("domain", "user", "secret"), ACCOUNTS, ids=NAMES)
def test_pyspnego_logs_on_to_our_acceptor(protocol, domain, user, secret):
    client = their_client(protocol, f"{domain}\\{user}" if domain else user, secret)
    server = own_server()
    log_on_to_ours(client, server, Password(secret))
    exchange_messages(client, server)
    assert (server.principal.domain, server.principal.user) == (domain, user)
    assert server.principal.target_name == "TERMSRV/srv.contoso.test"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("answer", [Password("wrong"), None], ids=repr)
def test_pyspnegos_wrong_password_is_refused(protocol, answer):
    with pytest.raises(CredSSPError):
        log_on_to_ours(their_client(protocol, "CONTOSO\\alice", "Passw0rd!"), own_server(), answer)


BINDINGS = b"tls-server-end-point:" + bytes(range(32))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_channel_bindings_agree_with_pyspnegos(protocol):
    theirs = GssChannelBindings(application_data=BINDINGS)
    client, server = own_client(protocol, channel_bindings=BINDINGS), their_server(protocol, channel_bindings=theirs)
    log_on_to_theirs(client, server)
    exchange_messages(client, server)
    client = their_client(protocol, "CONTOSO\\alice", "Passw0rd!", channel_bindings=theirs)
    log_on_to_ours(client, own_server(channel_bindings=BINDINGS), ALICE)
    with pytest.raises(CredSSPError, match="bindings"):
        log_on_to_ours(
            their_client(protocol, "CONTOSO\\alice", "Passw0rd!", channel_bindings=theirs),
            own_server(channel_bindings=b"tls-server-end-point:other"),
            ALICE,
        )
    with pytest.raises(spnego.exceptions.SpnegoError):
        log_on_to_theirs(
            own_client(protocol, channel_bindings=b"tls-server-end-point:other"),
            their_server(protocol, channel_bindings=theirs),
        )


def test_own_pair_is_what_the_others_were_compared_with():
    client, server = own_client("negotiate"), own_server()
    converse(client, server)
    exchange_messages(client, server)

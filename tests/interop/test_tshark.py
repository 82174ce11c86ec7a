"""tshark decrypts and dissects our traffic, as server and as client: every field is in place, none is malformed."""

import asyncio
import contextlib
import dataclasses
import ssl

import pytest
from support import freerdp
from support.hosted import HostedServer, look_up
from support.kdc import REALM
from support.observers import Capture

import acredssp
from acredssp.policy import MechanismChoice

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

pytestmark = [
    pytest.mark.interop,
    pytest.mark.parametrize("tls_version", [TLS12, TLS13], ids=["TLSv1.2", "TLSv1.3"]),
]

FIELDS = ("credssp.version", "ntlmssp.messagetype", "ntlmssp.auth.username", "credssp.pubKeyAuth", "credssp.authInfo")
SPNEGO_FIELDS = ("spnego.MechType", "spnego.negResult", "spnego.supportedMech", "spnego.mechListMIC")
SERVER_HELLO = "tls.handshake.extensions.supported_version"
KERBEROS_FIELDS = ("kerberos.msg_type", "kerberos.CNameString", "kerberos.authenticator_vno", "kerberos.keyvalue")
NTLM, KERBEROS = "1.3.6.1.4.1.311.2.2.10", "1.2.840.113554.1.2.2"
TGT_REQ, AP_REQ, AP_REP = "16", "14", "15"
NEGOTIATE, CHALLENGE, AUTHENTICATE = "0x00000001", "0x00000002", "0x00000003"


@pytest.fixture(scope="module")
def certificate():
    return acredssp.self_signed(["localhost", "127.0.0.1"])


class Watched:
    """A server of ours whose conversations are captured."""

    def __init__(self, lab, certificate, tls_version, keytab=None):
        self.keys = lab.folder / "keys"
        self.policy = acredssp.Policy(min_tls=tls_version, max_tls=tls_version)
        context = acredssp.server_context_from_pem(self.policy, *certificate)
        context.keylog_filename = str(self.keys)
        keys = acredssp.Keytab(str(keytab)) if keytab else None
        config = acredssp.ServerConfig(ssl_context=context, lookup=look_up, keytab=keys, policy=self.policy)
        self.server = HostedServer(config, acredssp.RDP())
        self._capture = Capture(lab, self.server.port, keytab)

    @contextlib.contextmanager
    def running(self):
        with self.server, self._capture.running():
            yield self.server

    def decode(self, display_filter, *fields):
        return self._capture.decode(self.keys, display_filter, *fields)


@pytest.fixture
def watched(lab, certificate, tls_version):
    return Watched(lab, certificate, tls_version)


def check(watched, tls_version, *, user="alice"):
    """The first conversation is whole, and nothing in any is malformed; tshark knows the password and proves it."""
    messages = watched.decode("credssp && tcp.stream == 0", *FIELDS)
    assert {version for message in messages for version in message["credssp.version"]} == {"6"}
    assert values(messages, "ntlmssp.messagetype") == [NEGOTIATE, CHALLENGE, AUTHENTICATE]
    assert values(messages, "ntlmssp.auth.username") == [user]
    assert len(values(messages, "credssp.pubKeyAuth")) == 2
    assert len(values(messages, "credssp.authInfo")) == 1
    assert watched.decode("ntlmssp.authenticated", "frame.number")
    check_nothing_is_wrong(watched)
    check_tls(watched, tls_version)


def check_kerberos(watched, tls_version, kinds):
    """The same for Kerberos: tshark has the service's keytab, and opens ticket, authenticator and AP-REP with it."""
    messages = watched.decode("credssp && tcp.stream == 0", *FIELDS, *KERBEROS_FIELDS)
    assert {version for message in messages for version in message["credssp.version"]} == {"6"}
    assert values(messages, "kerberos.msg_type") == kinds
    assert set(values(messages, "kerberos.CNameString")) == {"alice"}
    assert len(values(messages, "kerberos.authenticator_vno")) == 1, "the authenticator is open"
    assert len(values(messages, "kerberos.keyvalue")) == 3, "and so are the keys of ticket, initiator and acceptor"
    assert len(values(messages, "credssp.pubKeyAuth")) == 2
    assert len(values(messages, "credssp.authInfo")) == 1
    check_nothing_is_wrong(watched)
    check_tls(watched, tls_version)


def check_nothing_is_wrong(watched):
    # Over TCP alone: the marks around a capture are datagrams from any port, which tshark may take for a protocol's.
    wrong = "tcp && (_ws.malformed || _ws.expert.severity == error)"
    assert watched.decode(wrong, "_ws.expert.message") == []


def check_tls(watched, tls_version):
    chosen = values(watched.decode("tls.handshake.type == 2", SERVER_HELLO), SERVER_HELLO)
    assert set(chosen) == ({"0x0304"} if tls_version is TLS13 else set())


def values(packets, field):
    """All values of a field, over all packets."""
    return [value for packet in packets for value in packet.get(field, [])]


@pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
def test_freerdp_and_our_server(graphical_lab, watched, tls_version, client):
    with watched.running() as server:
        assert freerdp.log_on(graphical_lab, client, server.address).status == freerdp.LOGGED_ON
        assert server.report().error is None
    check(watched, tls_version)


def test_spnego_of_freerdp3_and_our_server(graphical_lab, kerberos_realm, watched, tls_version):
    graphical_lab.environment |= kerberos_realm.environment
    with watched.running() as server:
        run = freerdp.log_on(graphical_lab, 3, f"localhost:{server.port}", domain=REALM)
        assert run.status == freerdp.LOGGED_ON
        assert server.report().error is None
    check(watched, tls_version)
    tokens = watched.decode("spnego && tcp.stream == 0", *SPNEGO_FIELDS)
    assert values(tokens, "spnego.negResult") == ["3", "1", "0"]
    assert values(tokens, "spnego.supportedMech") == [NTLM]
    assert len(values(tokens, "spnego.mechListMIC")) == 2


def log_on(watched, port, account, mechanism, **options):
    """Log on with our client."""
    policy = dataclasses.replace(watched.policy, mechanism=mechanism, dangerous_accept_any_certificate=True)
    config = acredssp.ClientConfig(authenticate=account, policy=policy)

    async def main():
        _, writer = await acredssp.open_connection("127.0.0.1", port, config=config, carriage=acredssp.RDP(), **options)
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize("mechanism", [choice for choice in MechanismChoice if choice.ntlm])
def test_our_client_and_our_server(watched, tls_version, mechanism):
    account = acredssp.Password("Passw0rd!", "alice", "CONTOSO")
    with watched.running() as server:
        log_on(watched, server.port, account, mechanism)
        assert server.report().error is None
    check(watched, tls_version)
    tokens = watched.decode("spnego", *SPNEGO_FIELDS)
    assert bool(tokens) == (mechanism is MechanismChoice.NEGOTIATE)
    if tokens:
        assert values(tokens, "spnego.MechType") == [NTLM]
        assert len(values(tokens, "spnego.mechListMIC")) == 2


def test_a_refusal(graphical_lab, watched, tls_version):
    with watched.running() as server:
        run = freerdp.log_on(graphical_lab, 2, server.address, password="wrong")
        assert run.status == freerdp.LOGON_FAILED
    (refusal,) = watched.decode("credssp.errorCode", "credssp.errorCode", "credssp.version")
    assert refusal == {"credssp.errorCode": [str(0xC000006D - (1 << 32))], "credssp.version": ["6"]}
    check_nothing_is_wrong(watched)


@pytest.fixture
def watched_service(lab, certificate, tls_version, kerberos):
    return Watched(lab, certificate, tls_version, kerberos.keytab)


@pytest.mark.parametrize("offer", [(), ("/auth-pkg-list:kerberos,!ntlm",)], ids=["ntlm-too", "kerberos-alone"])
def test_kerberos_of_freerdp3_and_our_server(graphical_lab, kerberos, watched_service, tls_version, offer):
    graphical_lab.environment |= kerberos.realm.environment
    with watched_service.running() as server:
        run = freerdp.log_on(graphical_lab, 3, f"localhost:{server.port}", *offer, domain=REALM)
        assert run.status == freerdp.LOGGED_ON
        assert server.report().error is None
    check_kerberos(watched_service, tls_version, [TGT_REQ, AP_REQ, AP_REP])
    tokens = watched_service.decode("spnego && tcp.stream == 0", *SPNEGO_FIELDS)
    assert values(tokens, "spnego.negResult") == ["3", "1", "0"]
    assert values(tokens, "spnego.supportedMech") == [KERBEROS]
    assert len(values(tokens, "spnego.mechListMIC")) == 2


@pytest.mark.parametrize("mechanism", [MechanismChoice.KERBEROS, MechanismChoice.RAW_KERBEROS])
def test_kerberos_of_our_client_and_our_server(watched_service, tls_version, mechanism):
    account = acredssp.Password("Passw0rd!", "alice", REALM)
    with watched_service.running() as server:
        log_on(watched_service, server.port, account, mechanism, spn="TERMSRV/localhost")
        assert server.report().error is None
    check_kerberos(watched_service, tls_version, [AP_REQ, AP_REP])
    tokens = watched_service.decode("spnego.negResult", *SPNEGO_FIELDS)
    if mechanism is MechanismChoice.KERBEROS:
        assert values(tokens, "spnego.negResult") == ["0"]
        assert values(tokens, "spnego.supportedMech") == [KERBEROS]
    else:
        assert tokens == []

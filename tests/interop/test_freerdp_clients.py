"""Real FreeRDP clients, 2.11 and 3.10, log on to our server."""

import ssl

import pytest
from support import freerdp
from support.hosted import NT_HASH, SCRIPTS, HostedServer, look_up
from support.kdc import REALM

import acredssp

pytestmark = pytest.mark.interop

RDP = acredssp.RDP()
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
DENIED = acredssp.NTSTATUS.STATUS_LOGON_FAILURE

CLIENTS = pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])


@pytest.fixture(scope="module")
def certificates():
    names = ["localhost", "127.0.0.1"]
    return {key_type: acredssp.self_signed(names, key_type) for key_type in ("rsa", "ec")}


@pytest.fixture
def hosted(certificates):
    """Starts our server: `hosted(policy, carriage, key_type, **hooks)`."""
    servers = []

    def start(policy=None, carriage=RDP, key_type="rsa", **hooks):
        policy = policy or acredssp.Policy()
        context = acredssp.server_context_from_pem(policy, *certificates[key_type])
        config = acredssp.ServerConfig(ssl_context=context, lookup=look_up, policy=policy, **hooks)
        servers.append(HostedServer(config, carriage).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


def only(version):
    return acredssp.Policy(min_version=version, max_version=version, dangerous_allow_legacy_versions=version < 5)


@CLIENTS
@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_versions(graphical_lab, hosted, client, version):
    server = hosted(only(version))
    assert freerdp.log_on(graphical_lab, client, server.address).status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert (report.info.version, report.info.mechanism, report.info.delegated) == (version, "ntlm", "password")
    assert str(report.principal) == "CONTOSO\\alice"
    assert report.principal.target_name == "TERMSRV/127.0.0.1"


@CLIENTS
@pytest.mark.parametrize("key_type", ["rsa", "ec"])
@pytest.mark.parametrize("tls_version", [TLS12, TLS13], ids=["TLSv1.2", "TLSv1.3"])
def test_tls_versions_and_keys(graphical_lab, hosted, client, key_type, tls_version):
    policy = acredssp.Policy(min_tls=tls_version, max_tls=tls_version)
    server = hosted(policy, key_type=key_type)
    assert freerdp.log_on(graphical_lab, client, server.address).status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert report.info.tls_version == tls_version.name.replace("_", ".")


@pytest.mark.requirement("ntlm.upper-case")
@CLIENTS
@pytest.mark.parametrize("user", SCRIPTS)
def test_names_in_every_script(graphical_lab, hosted, client, user):
    server = hosted()
    assert freerdp.log_on(graphical_lab, client, server.address, user=user).status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert report.account == acredssp.Account(user, "CONTOSO")


@CLIENTS
@pytest.mark.parametrize(
    ("user", "domain", "password", "principal"),
    [
        pytest.param("alice", "CONTOSO", "Passw0rd!", "CONTOSO\\alice", id="domain"),
        pytest.param("bob", None, "bobpw", "bob", id="no-domain"),
        pytest.param("bob@contoso.com", None, "bobpw", "bob@contoso.com", id="upn"),
        pytest.param("carol", "CONTOSO", "Passw0rd!", "CONTOSO\\carol", id="we-have-the-nt-hash"),
    ],
)
def test_accounts(graphical_lab, hosted, client, user, domain, password, principal):
    server = hosted()
    run = freerdp.log_on(graphical_lab, client, server.address, user=user, domain=domain, password=password)
    assert run.status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert str(report.principal) == principal


def test_freerdp2_with_the_nt_hash_alone_delegates_nothing(graphical_lab, hosted):
    server = hosted()
    run = freerdp.log_on(graphical_lab, 2, server.address, f"/pth:{NT_HASH.hex()}", password="")
    assert run.status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert report.info.delegated == "nothing"


def test_freerdp3_with_the_nt_hash_delegates_garbage_that_harms_nobody(graphical_lab, hosted):
    server = hosted()
    run = freerdp.log_on(graphical_lab, 3, server.address, f"/pth:{NT_HASH.hex()}", password="x")
    report = server.report()
    assert report.error is None  # 3.10 then aborts on what it read past the hash, or does not, as memory has it
    assert report.info.delegated == "password"
    assert run.status in {freerdp.LOGGED_ON, freerdp.ABORTED}


@pytest.mark.parametrize(
    ("client", "option", "delegated"),
    [
        pytest.param(2, "+restricted-admin", "nothing", id="freerdp2"),
        pytest.param(3, "/restricted-admin", "password", id="freerdp3"),  # 3.10 delegates all the same
    ],
)
def test_restricted_admin(graphical_lab, hosted, client, option, delegated):
    server = hosted()
    assert freerdp.log_on(graphical_lab, client, server.address, option).status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert report.info.delegated == delegated


def test_hybrid_ex_granted(graphical_lab, hosted):
    server = hosted(carriage=acredssp.RDP(hybrid_ex=True), admit=lambda _info: True)
    assert freerdp.log_on(graphical_lab, 3, server.address, "/sec:ext").status == freerdp.LOGGED_ON
    assert server.report().error is None


def test_hybrid_ex_refused(graphical_lab, hosted):
    server = hosted(carriage=acredssp.RDP(hybrid_ex=True), admit=lambda _info: False)
    assert freerdp.log_on(graphical_lab, 3, server.address, "/sec:ext").status == freerdp.DENIED
    assert isinstance(server.report().error, acredssp.AccessDenied)


def test_freerdp2_offers_hybrid_ex_and_gives_up_when_it_is_chosen(graphical_lab, hosted):
    server = hosted(carriage=acredssp.RDP(hybrid_ex=True))
    assert freerdp.log_on(graphical_lab, 2, server.address, "/sec:ext").status == freerdp.NEGOTIATION_FAILED
    assert isinstance(server.report().error, acredssp.PeerClosed)


@CLIENTS
@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("nobody", "Passw0rd!")])
def test_a_wrong_password_and_an_unknown_user_look_alike(graphical_lab, hosted, client, version, user, password):
    server = hosted(only(version))
    run = freerdp.log_on(graphical_lab, client, server.address, user=user, password=password)
    # Versions 2 and 5 have no errorCode: the connection just ends.
    assert run.status == (freerdp.CONNECTION_ENDED if version in {2, 5} else freerdp.LOGON_FAILED)
    report = server.report()
    assert isinstance(report.error, acredssp.AuthenticationError)
    assert report.error.nt_status == acredssp.NTSTATUS.STATUS_LOGON_FAILURE
    assert report.principal.user == user


@pytest.mark.parametrize(
    ("nt_status", "status"),
    [
        ("STATUS_LOGON_FAILURE", 134),
        ("STATUS_WRONG_PASSWORD", 154),
        ("STATUS_PASSWORD_EXPIRED", 148),
        ("STATUS_PASSWORD_MUST_CHANGE", 149),
        ("STATUS_ACCOUNT_LOCKED_OUT", 135),
        ("STATUS_ACCOUNT_DISABLED", 151),
        ("STATUS_ACCOUNT_EXPIRED", 157),
        ("STATUS_ACCOUNT_RESTRICTION", 156),
        ("STATUS_ACCESS_DENIED", 155),
        ("STATUS_LOGON_TYPE_NOT_GRANTED", 158),
        ("STATUS_INVALID_LOGON_HOURS", 132),
        ("STATUS_TRUSTED_RELATIONSHIP_FAILURE", 132),
    ],
)
def test_freerdp3_tells_its_user_why(graphical_lab, hosted, nt_status, status):
    server = hosted(authorize=lambda _identity: acredssp.Deny(acredssp.NTSTATUS[nt_status]))
    assert freerdp.log_on(graphical_lab, 3, server.address).status == status
    assert server.report().error.nt_status == acredssp.NTSTATUS[nt_status]


@pytest.mark.parametrize("version", [2, 5, 6])
def test_freerdp3_speaks_spnego_where_it_knows_a_realm(graphical_lab, hosted, kerberos_realm, version):
    server = hosted(only(version))
    graphical_lab.environment |= kerberos_realm.environment | {"WLOG_LEVEL": "DEBUG"}
    run = freerdp.log_on(graphical_lab, 3, f"localhost:{server.port}", domain=REALM)
    assert run.status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert str(report.principal) == f"{REALM}\\alice"
    assert "Writing negTokenInit" in run.output
    assert "Negotiated mechanism: NTLM" in run.output


@CLIENTS
def test_a_routing_token_is_seen(graphical_lab, hosted, client):
    server = hosted()
    token = "tsv://MS Terminal Services Plugin.1.Desktops"
    run = freerdp.log_on(graphical_lab, client, server.address, f"/load-balance-info:{token}")
    assert run.status == freerdp.LOGGED_ON
    report = server.report()
    assert (report.request.routing_token, report.request.cookie) == (token, None)

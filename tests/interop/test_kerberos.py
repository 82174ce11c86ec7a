"""Kerberos from a real KDC: our client logs on to FreeRDP 3, FreeRDP 3 to our server, with tickets delegated too."""

import asyncio

import pytest
from support import freerdp, rfc4120
from support.hosted import HostedServer, look_up
from support.kdc import PASSWORD, REALM

import acredssp
from acredssp.policy import MechanismChoice
from acredssp.wire.ts_credentials import TSPasswordCreds

pytestmark = pytest.mark.interop

ALICE = acredssp.Password(PASSWORD, "alice", REALM)
KERBEROS_ALONE = "/auth-pkg-list:kerberos,!ntlm"
"""To FreeRDP 3. It has no word for user-to-user: it offers that too, and first."""


def policy(version=None, **fields):
    versions = {} if version is None else {"min_version": version, "max_version": version}
    return acredssp.Policy(**versions, dangerous_allow_legacy_versions=(version or 6) < 5, **fields)


# --- our client and FreeRDP's server ---


def log_on(server, authenticate, mechanism, version=None, *, spn="TERMSRV/localhost", **fields):
    """Log on with our client; gives what `get_extra_info("credssp")` has."""
    rules = policy(version, mechanism=mechanism, dangerous_accept_any_certificate=True)
    config = acredssp.ClientConfig(authenticate=authenticate, policy=rules, **fields)

    async def main():
        _, writer = await acredssp.open_connection(
            "127.0.0.1", server.port, config=config, carriage=acredssp.RDP(), spn=spn
        )
        writer.close()
        await writer.wait_closed()
        return writer.get_extra_info("credssp")

    return asyncio.run(main())


@pytest.fixture
def credentials(kerberos):
    """What alice can log on with, by name."""
    return {
        "password": ALICE,
        "upn": acredssp.Password(PASSWORD, f"alice@{REALM}"),
        "ticket": acredssp.TicketCache(kerberos.log_on()),
        "keytab": acredssp.Keytab(str(kerberos.keytab), f"HOST/localhost@{REALM}"),
    }


@pytest.mark.requirement("kerberos.raw-and-spnego")
@pytest.mark.parametrize("version", [5, 6])
@pytest.mark.parametrize("mechanism", [MechanismChoice.KERBEROS, MechanismChoice.RAW_KERBEROS, MechanismChoice.AUTO])
@pytest.mark.parametrize("kind", ["password", "upn", "ticket", "keytab"])
def test_our_client_logs_on_to_freerdp(kerberos_shadow_server, credentials, mechanism, version, kind):
    info = log_on(kerberos_shadow_server, credentials[kind], mechanism, version)
    assert (info.version, info.mechanism) == (version, "kerberos")
    assert info.delegated == ("password" if kind in {"password", "upn"} else "nothing")


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("mechanism", [MechanismChoice.KERBEROS, MechanismChoice.RAW_KERBEROS])
def test_our_client_refuses_freerdp_3_below_version_5(kerberos, kerberos_shadow_server, mechanism, version):
    """Servers of FreeRDP 3 seal a buffer of zeros there, in place of their key: a fault of theirs."""
    with pytest.raises(acredssp.PublicKeyMismatch):
        log_on(kerberos_shadow_server, ALICE, mechanism, version)


# --- FreeRDP's client and our server ---


@pytest.fixture(scope="module")
def certificate():
    return acredssp.self_signed(["localhost", "127.0.0.1"])


@pytest.fixture
def hosted(certificate, kerberos):
    """Starts our server, which has the realm's keytab: `hosted(policy, carriage)`."""
    servers = []

    def start(rules=None, carriage=None):
        rules = rules or policy()
        context = acredssp.server_context_from_pem(rules, *certificate)
        keytab = acredssp.Keytab(str(kerberos.keytab))
        config = acredssp.ServerConfig(ssl_context=context, lookup=look_up, keytab=keytab, policy=rules)
        servers.append(HostedServer(config, carriage or acredssp.RDP()).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def realm_lab(graphical_lab, kerberos):
    """A lab whose programs know the realm."""
    graphical_lab.environment |= kerberos.realm.environment | {"WLOG_LEVEL": "DEBUG"}
    return graphical_lab


@pytest.mark.requirement("kerberos.raw-and-spnego")
@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("offer", [(KERBEROS_ALONE,), ()], ids=["kerberos-alone", "ntlm-too"])
def test_freerdp_logs_on(realm_lab, hosted, version, offer):
    server = hosted(policy(version))
    run = freerdp.log_on(realm_lab, 3, f"localhost:{server.port}", *offer, domain=REALM)
    assert run.status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert (report.info.version, report.info.mechanism, report.info.delegated) == (version, "kerberos", "password")
    assert (report.principal.user, report.principal.domain) == ("alice", REALM)
    assert server.delegated() == TSPasswordCreds.of(REALM, "alice", PASSWORD)


@pytest.mark.requirement("kerberos.raw-and-spnego")
def test_rdesktop_logs_on(realm_lab, hosted, kerberos, tmp_path):
    """By version 2 and Kerberos without SPNEGO, with lengths that are not minimal and strings that end with NUL."""
    realm_lab.environment |= kerberos.environment | {"KRB5CCNAME": kerberos.log_on("alice", "-f")}
    server = hosted(policy(2))
    trust = tmp_path / "trust"
    trust.write_text("yes\n", encoding="ascii")  # to its question about the certificate
    with trust.open("rb") as words:
        argv = ["rdesktop", "-u", "alice", "-d", REALM, "-p", PASSWORD, f"localhost:{server.port}"]
        realm_lab.start(argv, stdin=words)  # it goes on trying when the connection ends
    report = server.report()
    assert report.error is None
    assert (report.info.version, report.info.mechanism, report.info.delegated) == (2, "kerberos", "password")
    assert (report.principal.user, report.principal.domain) == ("alice", REALM)
    delegated = server.delegated()
    assert (str(delegated.domain_name), str(delegated.user_name)) == (REALM, "alice")
    assert delegated.password.reveal() == PASSWORD


@pytest.mark.requirement("kerberos.remote-guard")
def test_freerdp_delegates_a_ticket(realm_lab, hosted, kerberos):
    cache = kerberos.log_on("alice", "-f")
    server = hosted(carriage=acredssp.RDP(hybrid_ex=True))
    options = ["/remoteGuard", f"/kerberos:cache:{cache}", KERBEROS_ALONE]
    # A password is asked for, and not used.
    run = freerdp.log_on(realm_lab, 3, f"localhost:{server.port}", *options, domain=REALM, password="none")
    assert run.status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert (report.info.mechanism, report.info.delegated) == ("kerberos", "remote_guard")
    logon = server.delegated().logon_cred
    assert str(logon.package_name) == "Kerberos"
    keytab = rfc4120.read_keytab(kerberos.keytab.read_bytes())
    ticket, forwarded = rfc4120.open_ticket_logon(keytab, logon.cred_buffer)
    assert rfc4120.name(ticket["cname"]) == "alice"
    (info,) = forwarded["ticket-info"]
    assert rfc4120.name(info["sname"]) == f"krbtgt/{REALM}"


# --- encryption types ---


@pytest.fixture(params=["aes128", "sha256", "sha384"])
def typed_service(request, kerberos):
    """The host whose tickets, and messages, have another encryption type: checksums of 12, 16 and 24 bytes."""
    return kerberos.prefer(request.param)


@pytest.mark.requirement("kerberos.encryption-types")
def test_our_client_logs_on_to_freerdp_by_any_encryption_type(typed_service, kerberos_shadow_server):
    spn = f"TERMSRV/{typed_service}"
    info = log_on(kerberos_shadow_server, ALICE, MechanismChoice.KERBEROS, spn=spn)
    assert info.mechanism == "kerberos"


@pytest.mark.requirement("kerberos.encryption-types")
def test_freerdp_logs_on_by_any_encryption_type(typed_service, realm_lab, hosted, kerberos):
    realm_lab.environment |= kerberos.environment
    server = hosted()
    options = [KERBEROS_ALONE, f"/server-name:{typed_service}"]
    run = freerdp.log_on(realm_lab, 3, f"localhost:{server.port}", *options, domain=REALM)
    assert run.status == freerdp.LOGGED_ON
    report = server.report()
    assert report.error is None
    assert report.info.mechanism == "kerberos"

"""Kerberos gone wrong between us and FreeRDP 3, by real clocks and real keys: each cause its own error, on both sides.

What can be wrong between two ends of ours is in `tests/aio/test_kerberos.py`.
"""

import asyncio
import importlib
import struct
from pathlib import Path

import pytest
from support import freerdp
from support.endpoints import Recorder, client_config, server_config
from support.hosted import HostedServer
from support.kdc import PASSWORD, REALM, UNKNOWN_KEY
from support.peers import Lab

import acredssp
from acredssp.policy import MechanismChoice
from acredssp.status import SecurityStatus

pytestmark = pytest.mark.interop

SPN = "TERMSRV/localhost"
ALICE = acredssp.Password(PASSWORD, "alice", REALM)


# --- tickets that are past or before their time ---


@pytest.fixture
def late_ticket(kerberos):
    """A ticket of a KDC whose clock is ten minutes slow: whoever believes that KDC is late, too."""
    with kerberos.realm.at_another_time("-10m") as port:
        kerberos.configure(port)
        yield kerberos.log_on()


@pytest.fixture
def expired_ticket(kerberos):
    """A ticket that expired an hour ago."""
    with kerberos.realm.at_another_time("-2h") as port:
        kerberos.configure(port)
        cache = kerberos.log_on("alice", "-l", "1h", clock="-2h")
    kerberos.configure(kerberos.realm.port)
    return cache


@pytest.fixture
def stretched_ticket(kerberos):
    """A service ticket that expired an hour ago, in a cache that says it has an hour to go.

    What is inside the ticket only the service can read, so only there it turns out.
    """
    with kerberos.realm.at_another_time("-2h") as port:
        kerberos.configure(port)
        cache = kerberos.log_on("alice", "-l", "1h", clock="-2h")
        assert kerberos.run(["kvno", "-c", cache, SPN], clock="-2h").status == 0
    kerberos.configure(kerberos.realm.port)
    path = Path(cache.removeprefix("FILE:"))
    krb5 = importlib.import_module("krb5")
    context = krb5.init_context()
    ends = {ticket.times.endtime for ticket in krb5.cc_resolve(context, cache.encode())} - {0}  # the cache's own notes
    content = path.read_bytes()
    for end in ends:
        content = content.replace(struct.pack(">I", end), struct.pack(">I", end + 7200))
    path.write_bytes(content)
    return cache


@pytest.fixture
def postdated_ticket(kerberos):
    """A ticket that is good from an hour ahead on."""
    return kerberos.log_on("alice", "-s", "1h")


# --- our client and FreeRDP's server ---


@pytest.fixture(scope="module")
def shadow_without_the_keys(tmp_path_factory, display, sam_file, kerberos_realm):
    """FreeRDP's server 3 whose keytab does not fit the realm."""
    environment = kerberos_realm.service_environment | {"KRB5_KTNAME": f"FILE:{kerberos_realm.wrong_keytab}"}
    lab = Lab(tmp_path_factory.mktemp("shadow-without-keys"), DISPLAY=display, **environment)
    yield freerdp.start_shadow_server(lab, 3, sam_file)
    lab.stop()


def log_on(server, authenticate, *, spn=SPN):
    """Log on with our client, which fails; gives why."""
    rules = acredssp.Policy(mechanism=MechanismChoice.KERBEROS, dangerous_accept_any_certificate=True)
    config = acredssp.ClientConfig(authenticate=authenticate, policy=rules)
    with pytest.raises(acredssp.CredSSPError) as caught:
        asyncio.run(acredssp.open_connection("127.0.0.1", server.port, config=config, carriage=acredssp.RDP(), spn=spn))
    return caught.value


def refused_by_zeros(error):
    """FreeRDP 3's server does not say why: it answers with zeros, and has the reason in its log."""
    return isinstance(error, acredssp.AuthenticationError) and "zeros" in str(error)


def test_freerdp_has_other_keys(kerberos, shadow_without_the_keys):
    assert refused_by_zeros(log_on(shadow_without_the_keys, ALICE))


def test_freerdp_has_no_key_for_the_ticket(kerberos, kerberos_shadow_server):
    assert refused_by_zeros(log_on(kerberos_shadow_server, ALICE, spn=UNKNOWN_KEY))


def test_our_clock_is_behind_freerdps(late_ticket, kerberos_shadow_server):
    assert refused_by_zeros(log_on(kerberos_shadow_server, acredssp.TicketCache(late_ticket)))


def test_freerdp_finds_that_our_ticket_has_expired(stretched_ticket, kerberos_shadow_server):
    assert refused_by_zeros(log_on(kerberos_shadow_server, acredssp.TicketCache(stretched_ticket)))


@pytest.mark.requirement("kerberos.failures")
def test_our_ticket_has_expired(expired_ticket, kerberos_shadow_server):
    error = log_on(kerberos_shadow_server, acredssp.TicketCache(expired_ticket))
    assert error.security_status is SecurityStatus.SEC_E_CONTEXT_EXPIRED


def test_our_ticket_is_not_valid_yet(postdated_ticket, kerberos_shadow_server):
    error = log_on(kerberos_shadow_server, acredssp.TicketCache(postdated_ticket))
    assert error.security_status is SecurityStatus.SEC_E_TIME_SKEW


@pytest.mark.requirement("kerberos.failures")
def test_the_kdc_does_not_know_freerdp(kerberos, kerberos_shadow_server):
    error = log_on(kerberos_shadow_server, ALICE, spn="TERMSRV/nowhere.acredssp.test")
    assert error.security_status is SecurityStatus.SEC_E_TARGET_UNKNOWN


# --- FreeRDP's client and our server ---


@pytest.fixture(scope="module")
def certificate():
    return acredssp.self_signed(["localhost"])


@pytest.fixture
def refuse(certificate, graphical_lab, kerberos):
    """Lets FreeRDP fail to log on to us, by Kerberos alone; gives our report's error and what FreeRDP logged."""

    def run(*options, keytab=None, **account):
        rules, keys = acredssp.Policy(), acredssp.Keytab(str(keytab or kerberos.realm.keytab))
        context = acredssp.server_context_from_pem(rules, *certificate)
        config = acredssp.ServerConfig(ssl_context=context, keytab=keys, policy=rules)
        graphical_lab.environment |= kerberos.environment
        with HostedServer(config, acredssp.RDP()) as server:
            arguments = ["/auth-pkg-list:kerberos,!ntlm", *options]
            ran = freerdp.log_on(graphical_lab, 3, f"localhost:{server.port}", *arguments, domain=REALM, **account)
            assert ran.status == freerdp.DENIED
            return server.report().error, ran.errors

    return run


@pytest.mark.requirement("kerberos.failures")
def test_we_have_other_keys(kerberos, refuse):
    error, log = refuse(keytab=kerberos.realm.wrong_keytab)
    assert error.security_status is SecurityStatus.SEC_E_WRONG_PRINCIPAL
    assert "STATUS_MUTUAL_AUTHENTICATION_FAILED" in log


def test_we_have_no_keys(kerberos, refuse):
    error, log = refuse(keytab=kerberos.folder / "none")
    assert error.security_status is SecurityStatus.SEC_E_NO_CREDENTIALS
    assert "STATUS_NO_LOGON_SERVERS" in log


@pytest.mark.requirement("kerberos.failures")
def test_freerdps_clock_is_behind_ours(late_ticket, refuse):
    error, log = refuse(f"/kerberos:cache:{late_ticket}")
    assert error.security_status is SecurityStatus.SEC_E_TIME_SKEW
    assert "STATUS_TIME_DIFFERENCE_AT_DC" in log


@pytest.mark.requirement("kerberos.failures")
def test_we_find_that_freerdps_ticket_has_expired(stretched_ticket, refuse):
    error, log = refuse(f"/kerberos:cache:{stretched_ticket}", password="none")
    assert error.security_status is SecurityStatus.SEC_E_CONTEXT_EXPIRED
    assert "STATUS_TIME_DIFFERENCE_AT_DC" in log


@pytest.mark.parametrize(
    ("user", "password", "reason"),
    [
        pytest.param("alice", "wrong", "Preauthentication failed", id="wrong-password"),
        pytest.param("dave", PASSWORD, "credentials have been revoked", id="locked-out"),
        pytest.param("nobody", PASSWORD, "not found in Kerberos database", id="unknown-user"),
    ],
)
def test_the_kdc_refuses_freerdp_before_we_hear_of_it(refuse, user, password, reason):
    error, log = refuse(user=user, password=password)
    assert isinstance(error, acredssp.PeerClosed)
    assert reason in log


# --- tickets of nobody ---


@pytest.fixture
def anonymous_ticket(kerberos, tmp_path):
    """A ticket for nobody, from a KDC that proves by a certificate who it is (RFC 8062)."""
    if not any(Path("/usr/lib").glob("*/krb5/plugins/preauth/pkinit.so")):
        pytest.skip("krb5's pkinit is missing: apt-get install krb5-pkinit")
    certificate = tmp_path / "kdc.pem"
    certificate.write_bytes(b"".join(acredssp.self_signed(["localhost"], "rsa")))
    certificate.chmod(0o644)
    shown = kerberos.realm.folder / "pkinit.pem"
    shown.write_bytes(certificate.read_bytes())
    with kerberos.realm.configured(pkinit_identity=f"FILE:{shown}", pkinit_anchors=f"FILE:{shown}") as port:
        kerberos.configure(
            port,
            pkinit_anchors=f"FILE:{certificate}",
            pkinit_kdc_hostname="localhost",
            pkinit_eku_checking="none",
        )
        run = kerberos.run(["kinit", "-n", "-c", kerberos.cache("anonymous"), f"@{REALM}"])
        assert run.status == 0, run.output
        yield kerberos.cache("anonymous")


@pytest.mark.requirement("kerberos.anonymous")
@pytest.mark.parametrize("choice", [MechanismChoice.KERBEROS, MechanismChoice.RAW_KERBEROS])
async def test_an_anonymous_ticket_logs_nobody_on(anonymous_ticket, kerberos, choice):
    reports = []
    config = server_config(lookup=None, keytab=acredssp.Keytab(str(kerberos.keytab)))
    async with await acredssp.create_server(
        Recorder, "127.0.0.1", 0, config=config, on_handshake=reports.append
    ) as ours:
        port = ours.sockets[0].getsockname()[1]
        nobody = client_config(
            authenticate=acredssp.TicketCache(anonymous_ticket), policy=acredssp.Policy(mechanism=choice)
        )
        with pytest.raises(acredssp.AuthenticationError) as caught:
            await acredssp.open_connection("127.0.0.1", port, config=nobody, spn=SPN)
        assert caught.value.nt_status is acredssp.NTSTATUS.STATUS_LOGON_FAILURE
    (report,) = reports
    assert report.error.security_status is SecurityStatus.SEC_E_LOGON_DENIED
    assert (report.account, report.info.principal) == (None, None)

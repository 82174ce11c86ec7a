"""What can be wrong with Kerberos, from a real KDC: each cause its own error, at our client and at our server."""

import dataclasses
import importlib
import struct
from pathlib import Path

import pytest
from support.kdc import PASSWORD, REALM, UNKNOWN_KEY
from support.peers import free_port

import acredssp
from acredssp import NTSTATUS, MechanismChoice, SecurityStatus

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
SPN = "TERMSRV/localhost"


@dataclasses.dataclass(frozen=True)
class Ends:
    """How both sides ended: what was raised, and nothing where nothing was."""

    client: acredssp.CredSSPError | None
    server: acredssp.CredSSPError | None
    info: acredssp.HandshakeInfo | None

    @property
    def statuses(self):
        return tuple(error and error.security_status for error in (self.client, self.server))


@pytest.fixture(scope="module")
def tls():
    return acredssp.server_context_from_pem(acredssp.Policy(), *acredssp.self_signed(["localhost"], "ec"))


@pytest.fixture
async def attempt(kerberos, tls):
    """Lets a client of ours log on to a server of ours: `await attempt(credential)`."""
    reports, servers = [], []

    async def hang_up(_reader, writer):
        writer.close()
        await writer.wait_closed()

    async def make(credential, *, spn=SPN, keytab=None, mechanism=MechanismChoice.KERBEROS, **fields):
        rules = acredssp.Policy(mechanism=mechanism, dangerous_accept_any_certificate=True, **fields)
        keys = acredssp.Keytab(str(keytab or kerberos.realm.keytab))
        config = acredssp.ServerConfig(ssl_context=tls, keytab=keys, lookup=lambda _: acredssp.Password(PASSWORD))
        server = await acredssp.start_server(hang_up, HOST, 0, config=config, on_handshake=reports.append)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        client = acredssp.ClientConfig(authenticate=credential, policy=rules)
        failure, info = None, None
        try:
            _, writer = await acredssp.open_connection(HOST, port, config=client, spn=spn)
        except acredssp.CredSSPError as error:
            failure = error
        else:
            info = writer.get_extra_info("credssp")
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return Ends(failure, reports.pop().error, info)

    yield make
    for server in servers:
        server.close()
        server.abort_clients()
        await server.wait_closed()


def password(user="alice", secret=PASSWORD):
    return acredssp.Password(secret, user, REALM)


async def test_nothing_is_wrong(attempt):
    ends = await attempt(password())
    assert ends.info.mechanism == "kerberos"
    assert ends.statuses == (None, None)


# --- the service ---


async def test_an_spn_that_the_kdc_does_not_know(attempt):
    ends = await attempt(password(), spn="TERMSRV/nowhere.acredssp.test")
    assert ends.statuses[0] is SecurityStatus.SEC_E_TARGET_UNKNOWN
    assert isinstance(ends.server, acredssp.PeerClosed)


async def test_the_spn_of_another_machine(attempt):
    ends = await attempt(password(), spn=UNKNOWN_KEY)
    assert ends.statuses == (SecurityStatus.SEC_E_WRONG_PRINCIPAL, SecurityStatus.SEC_E_WRONG_PRINCIPAL)


async def test_a_keytab_with_other_keys(kerberos, attempt):
    ends = await attempt(password(), keytab=kerberos.realm.wrong_keytab)
    assert ends.statuses == (SecurityStatus.SEC_E_WRONG_PRINCIPAL, SecurityStatus.SEC_E_WRONG_PRINCIPAL)


async def test_a_keytab_that_is_not_there(kerberos, attempt):
    ends = await attempt(password(), keytab=kerberos.folder / "none")
    assert ends.statuses == (
        SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
        SecurityStatus.SEC_E_NO_CREDENTIALS,
    )


# --- the clock ---


@pytest.fixture
def late_ticket(kerberos):
    """A ticket of a KDC whose clock is ten minutes slow: whoever believes that KDC is late, too."""
    with kerberos.realm.at_another_time("-10m") as port:
        kerberos.configure(port)
        yield acredssp.TicketCache(kerberos.log_on())


async def test_a_client_whose_clock_is_off(late_ticket, attempt):
    ends = await attempt(late_ticket)
    assert ends.statuses == (SecurityStatus.SEC_E_TIME_SKEW, SecurityStatus.SEC_E_TIME_SKEW)


@pytest.fixture
def expired_ticket(kerberos):
    """A ticket that expired an hour ago."""
    with kerberos.realm.at_another_time("-2h") as port:
        kerberos.configure(port)
        cache = kerberos.log_on("alice", "-l", "1h", clock="-2h")
    kerberos.configure(kerberos.realm.port)
    return acredssp.TicketCache(cache)


async def test_a_ticket_that_has_expired(expired_ticket, attempt):
    ends = await attempt(expired_ticket)
    assert ends.statuses[0] is SecurityStatus.SEC_E_CONTEXT_EXPIRED
    assert isinstance(ends.server, acredssp.PeerClosed)


@pytest.fixture
def stretched_ticket(kerberos):
    """A service ticket that has expired an hour ago, in a cache that says it has an hour to go.

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
    return acredssp.TicketCache(cache)


async def test_a_ticket_that_only_the_server_knows_has_expired(stretched_ticket, attempt):
    ends = await attempt(stretched_ticket)
    assert ends.statuses == (SecurityStatus.SEC_E_TIME_SKEW, SecurityStatus.SEC_E_CONTEXT_EXPIRED)
    assert ends.client.nt_status is NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC


@pytest.fixture
def postdated_ticket(kerberos):
    return acredssp.TicketCache(kerberos.log_on("alice", "-s", "1h"))


async def test_a_ticket_that_is_not_valid_yet(postdated_ticket, attempt):
    ends = await attempt(postdated_ticket)
    assert ends.statuses[0] is SecurityStatus.SEC_E_TIME_SKEW
    assert isinstance(ends.server, acredssp.PeerClosed)


# --- the account ---


@pytest.mark.parametrize(
    ("credential", "nt_status"),
    [
        pytest.param(password(secret="wrong"), NTSTATUS.STATUS_LOGON_FAILURE, id="wrong-password"),
        pytest.param(password("nobody"), NTSTATUS.STATUS_LOGON_FAILURE, id="unknown-user"),
        pytest.param(password("carol"), NTSTATUS.STATUS_PASSWORD_EXPIRED, id="must-change"),
        pytest.param(password("dave"), NTSTATUS.STATUS_ACCOUNT_DISABLED, id="locked-out"),
        pytest.param(password("erin"), NTSTATUS.STATUS_ACCOUNT_EXPIRED, id="account-expired"),
        pytest.param(password("frank"), NTSTATUS.STATUS_PASSWORD_EXPIRED, id="password-expired"),
    ],
)
async def test_an_account_that_the_kdc_refuses(attempt, credential, nt_status):
    ends = await attempt(credential)
    assert ends.statuses[0] is SecurityStatus.SEC_E_LOGON_DENIED
    assert ends.client.nt_status is nt_status
    assert isinstance(ends.server, acredssp.PeerClosed)


async def test_no_ticket(kerberos, attempt):
    ends = await attempt(acredssp.TicketCache(kerberos.cache("none")))
    assert ends.statuses[0] is SecurityStatus.SEC_E_NO_CREDENTIALS
    assert isinstance(ends.server, acredssp.PeerClosed)


# --- the KDC ---


@pytest.fixture
def no_kdc(kerberos):
    kerberos.configure(free_port())


async def test_nobody_listens_where_the_kdc_should_be(no_kdc, attempt):
    ends = await attempt(password())
    assert ends.statuses[0] is SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY
    assert isinstance(ends.server, acredssp.PeerClosed)


@pytest.mark.parametrize("spn", [SPN, "TERMSRV/nowhere.acredssp.test"])
async def test_ntlm_goes_on_where_the_policy_lets_it(no_kdc, attempt, spn):
    ends = await attempt(password(), spn=spn, mechanism=MechanismChoice.AUTO)
    assert ends.info.mechanism == "ntlm"
    assert "kdc" in ends.info.fallback


async def test_ntlm_does_not_go_on_after_a_wrong_password(attempt):
    ends = await attempt(password(secret="wrong"), mechanism=MechanismChoice.AUTO)
    assert ends.statuses[0] is SecurityStatus.SEC_E_LOGON_DENIED

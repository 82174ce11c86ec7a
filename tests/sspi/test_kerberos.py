"""The SSPI functions over Kerberos, with a real KDC."""

import asyncio
import calendar
import datetime as dt
import re
import time

import pytest
from support.endpoints import BOB, client_config, server_config, until
from support.kerberos import ALICE
from support.peers import free_port
from support.records import query
from support.sspi import CLIENT_FLAGS, OK, Client, pair, talk

from acredssp import Keytab, Password, Policy, TicketCache, Trust
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.mechanisms.kerberos.by_hand import clock_skew
from acredssp.policy import MechanismChoice
from acredssp.sspi import (
    ASC_RET,
    CREDSSP_SERVER_AUTH,
    ISC_REQ,
    ISC_RET,
    SECPKG_ATTR,
    SECPKG_CRED,
    SECPKG_NEGOTIATION,
    AcquireCredentialsHandle,
    CredHandle,
    SecPkgContext_Flags,
    SecPkgContext_Lifespan,
    SecPkgContext_NegotiationInfo,
    SecPkgContext_PackageInfo,
    SecurityStatus,
    SSPIContext,
    TimeStamp,
)

KERBEROS = Policy(mechanism=MechanismChoice.KERBEROS)


@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_a_password_logs_on_by_kerberos(package, kerberos):
    configs = client_config(authenticate=ALICE), server_config(keytab=Keytab(str(kerberos.keytab)))
    client, server = await pair(*configs, package=package)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert server.handle.state.principal == "ACREDSSP.TEST\\alice"
    assert client.attributes.flags & ISC_RET.MUTUAL_AUTH


async def test_tickets_log_on_and_delegate_nothing(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "bob")
    configs = client_config(authenticate=TicketCache(cache)), server_config(keytab=Keytab(str(kerberos.keytab)))
    client, server = await pair(*configs)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert server.handle.state.principal == "ACREDSSP.TEST\\bob"
    assert not client.attributes.flags & ISC_RET.DELEGATE


@pytest.mark.requirement("Q12")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_the_package_that_negotiate_chose_is_kerberos(package, kerberos):
    configs = client_config(authenticate=ALICE), server_config(keytab=Keytab(str(kerberos.keytab)))
    ends = await pair(*configs, package=package)
    await talk(*ends)
    for end in ends:
        assert end.status is OK, end.error
        chosen = await query(end, SECPKG_ATTR.NEGOTIATION_PACKAGE, SecPkgContext_PackageInfo())
        assert (chosen.PackageInfo.Name, chosen.PackageInfo.wRPCID) == ("Kerberos", 16)
        chosen = await query(end, SECPKG_ATTR.NEGOTIATION_INFO, SecPkgContext_NegotiationInfo())
        assert (chosen.PackageInfo.Name, chosen.NegotiationState) == ("Kerberos", SECPKG_NEGOTIATION.COMPLETE)


UNTRUSTED = Trust()
"""Of nobody's certificate: what authenticates the server is then Kerberos alone."""
ONLY_PROVEN = DelegationPolicy(allow_fresh_credentials_when_ntlm_only=SPNList())
"""Passwords go to servers that are authenticated, and to no others."""


@pytest.mark.requirement("Q13")
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_server_is_authenticated_by_kerberos_and_by_a_trusted_certificate(trusted, kerberos):
    client, server = await pair(
        client_config(authenticate=ALICE, **({} if trusted else {"trust": UNTRUSTED})),
        server_config(keytab=Keytab(str(kerberos.keytab))),
    )
    await talk(client, server)
    assert client.status is OK, client.error
    found = await query(client, SECPKG_ATTR.SERVER_AUTH_FLAGS, SecPkgContext_Flags())
    certificate = CREDSSP_SERVER_AUTH.CERTIFICATE if trusted else CREDSSP_SERVER_AUTH(0)
    assert found.Flags == CREDSSP_SERVER_AUTH.NEGOTIATE | certificate


@pytest.mark.requirement("R31", "R69", "R70")
@pytest.mark.parametrize(
    ("flags", "delegation", "refusal"),
    [
        (ISC_REQ.MUTUAL_AUTH, DelegationPolicy(), SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED),
        (0, ONLY_PROVEN, SecurityStatus.SEC_E_POLICY_NLTM_ONLY),
    ],
)
@pytest.mark.parametrize("mechanism", [MechanismChoice.KERBEROS, MechanismChoice.NTLM])
async def test_what_ntlm_is_refused_kerberos_is_given(mechanism, flags, delegation, refusal, kerberos):
    """The server's certificate is nobody's: only a ticket says who it is, and only then the password goes over."""
    policy = Policy(mechanism=mechanism)
    given = []
    config = server_config(
        keytab=Keytab(str(kerberos.keytab)),
        lookup=lambda _: ALICE,
        admit=lambda admission: given.append(admission.info.delegated) or True,
    )
    client, server = await pair(
        client_config(policy, authenticate=ALICE, delegation=delegation, trust=UNTRUSTED), config
    )
    client.flags = CLIENT_FLAGS | flags
    await talk(client, server)
    if mechanism is MechanismChoice.KERBEROS:
        assert (client.status, given) == (OK, ["password"]), client.error
        assert ISC_RET.MUTUAL_AUTH in client.attributes
    else:
        assert (client.status, given) == (refusal, [])
        assert server.handle.state.context.take_credentials() is None


@pytest.mark.requirement("R67")
async def test_another_principal_than_the_one_named_is_wrong_principal(kerberos):
    """The service that answers has not the key of the one that was asked for: on both sides."""
    configs = (
        client_config(KERBEROS, authenticate=ALICE),
        server_config(KERBEROS, lookup=None, keytab=Keytab(str(kerberos.realm.wrong_keytab))),
    )
    client, server = await pair(*configs)
    await talk(client, server)
    assert client.status is SecurityStatus.SEC_E_WRONG_PRINCIPAL
    assert server.status is SecurityStatus.SEC_E_WRONG_PRINCIPAL


@pytest.mark.parametrize(
    ("authenticate", "target", "status"),
    [
        (Password("wrong", "alice", "acredssp.test"), "TERMSRV/localhost", SecurityStatus.SEC_E_LOGON_DENIED),
        (ALICE, "TERMSRV/nowhere", SecurityStatus.SEC_E_TARGET_UNKNOWN),
        (ALICE, "localhost", SecurityStatus.SEC_E_TARGET_UNKNOWN),
        (
            Password("p", "alice", "elsewhere.test"),
            "TERMSRV/localhost",
            SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
        ),
        (TicketCache("FILE:/nowhere"), "TERMSRV/localhost", SecurityStatus.SEC_E_NO_CREDENTIALS),
    ],
)
async def test_why_there_is_no_ticket_is_the_status(authenticate, target, status, kerberos):
    client, server = await pair(
        client_config(KERBEROS, authenticate=authenticate), server_config(keytab=Keytab(str(kerberos.keytab)))
    )
    client.target = target
    await talk(client, server)
    assert client.status is status


@pytest.mark.requirement("R65f")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_a_kdc_that_cannot_be_reached_is_no_authenticating_authority(package, kerberos):
    """The realm is right, the password too, and nobody listens where its KDC should: no credentials are sent."""
    await asyncio.to_thread(kerberos.configure, free_port())
    came = []
    client, server = await pair(
        client_config(KERBEROS, authenticate=ALICE),
        server_config(keytab=Keytab(str(kerberos.keytab)), admit=lambda admission: came.append(admission) or True),
        package=package,
    )
    await talk(client, server)
    assert client.status is SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY
    assert client.error.hint
    assert came == []


@pytest.mark.requirement("R11a", "R65c")
async def test_a_second_call_while_the_first_waits_for_the_kdc_is_refused(silent_kdc, kerberos):
    """The first call is really in flight: the KDC has heard its request, and does not answer."""
    policy = Policy(mechanism=MechanismChoice.KERBEROS, kerberos_timeout=600, handshake_timeout=600)
    client, server = await pair(
        client_config(policy, authenticate=ALICE), server_config(keytab=Keytab(str(kerberos.keytab)))
    )
    tls_of_server = await server.call(await client.call())
    other = Client(client.credential)
    other.handle, other.calls = client.handle, client.calls
    first = asyncio.ensure_future(client.call(tls_of_server))
    await until(lambda: silent_kdc.heard._value > 0)
    assert not first.done()
    await other.call(tls_of_server)
    assert other.status is SecurityStatus.SEC_E_INVALID_HANDLE
    assert "in flight" in str(other.error)
    assert not first.done(), "the second call has changed nothing"
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


# --- what ends with a ticket ---

UNIX_EPOCH = 116_444_736_000_000_000
"""1970-01-01 as a FILETIME."""


@pytest.fixture(params=["UTC0", "IST-5:30"])
def zone(request, monkeypatch):
    """A zone for the process: time stamps are local time."""
    if not hasattr(time, "tzset"):
        pytest.skip("the zone of the process cannot be set")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def on_the_wall(moment):
    """Seconds since 1970 as a time stamp: what a clock on the wall shows then."""
    return UNIX_EPOCH + calendar.timegm(time.localtime(moment)) * 10_000_000


def assert_ends(stamp, moment):
    """The library counts what is left in whole seconds."""
    assert abs(stamp.QuadPart - on_the_wall(moment)) <= 10_000_000, (stamp.to_datetime(), moment)


def end_by_klist(kerberos, cache):
    """When the ticket-granting ticket of a cache ends, in seconds since 1970, as klist prints it."""
    listed = kerberos.run(["env", "LC_ALL=C", "TZ=UTC0", "klist", "-c", cache]).output
    found = re.search(r"^\S+ \S+ +(\S+ \S+) +krbtgt/", listed, re.MULTILINE)
    year = "%Y" if len(found[1].split()[0]) == len("12/31/2026") else "%y"
    return int(dt.datetime.strptime(found[1], f"%m/%d/{year} %H:%M:%S").replace(tzinfo=dt.UTC).timestamp())


async def lifespan(end):
    return await query(end, SECPKG_ATTR.LIFESPAN, SecPkgContext_Lifespan())


@pytest.mark.requirement("R57", "A21")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_a_context_ends_with_the_ticket_on_both_sides(package, kerberos, zone):
    cache = await asyncio.to_thread(kerberos.log_on, "bob", "-l", "3h")
    ends = await asyncio.to_thread(end_by_klist, kerberos, cache)
    configs = client_config(authenticate=TicketCache(cache)), server_config(keytab=Keytab(str(kerberos.keytab)))
    client, server = await pair(*configs, package=package)
    await client.call()
    assert client.expiry.QuadPart == TimeStamp.NEVER, "not known yet"
    client, server = await pair(*configs, package=package)
    await talk(client, server)
    for end in (client, server):
        assert end.status is OK, end.error
        assert_ends(end.expiry, ends)
        span = await lifespan(end)
        assert_ends(span.tsExpiry, ends)
        assert abs(span.tsExpiry.to_datetime().timestamp() - ends) <= 1


async def test_a_context_as_one_object_tells_when_its_ticket_ends(kerberos):
    cache = await asyncio.to_thread(kerberos.log_on, "bob", "-l", "3h")
    ends = await asyncio.to_thread(end_by_klist, kerberos, cache)
    client = SSPIContext(client_config(authenticate=TicketCache(cache)), "TERMSRV/localhost")
    server = SSPIContext(server_config(keytab=Keytab(str(kerberos.keytab))))
    token = await client.step()
    assert client.expiry is None  # not known yet
    while not server.complete:
        token = await client.step(await server.step(token))
        if client.complete:
            await server.step(token)
    for end in client, server:
        assert abs(end.expiry.timestamp() - ends) <= 1
        await end.close()


@pytest.mark.requirement("R57", "A21")
async def test_the_clocks_difference_that_is_allowed_for_is_no_part_of_a_ticket(kerberos):
    """MIT's library has an acceptor's context live on for as long as clocks may differ."""
    await asyncio.to_thread(kerberos.configure, kerberos.realm.port, clockskew="120")
    clock_skew.cache_clear()
    try:
        configs = client_config(authenticate=ALICE), server_config(keytab=Keytab(str(kerberos.keytab)))
        client, server = await pair(*configs)
        await talk(client, server)
    finally:
        clock_skew.cache_clear()
    assert (client.status, server.status) == (OK, OK)
    assert client.expiry.QuadPart != TimeStamp.NEVER
    assert abs(client.expiry.QuadPart - server.expiry.QuadPart) <= 10_000_000


@pytest.mark.requirement("C12")
async def test_credentials_end_with_the_ticket_of_their_cache(kerberos, zone):
    cache = await asyncio.to_thread(kerberos.log_on, "bob", "-l", "3h")
    ends = await asyncio.to_thread(end_by_klist, kerberos, cache)
    assert (await expiry(TicketCache(cache))).QuadPart == on_the_wall(ends)


@pytest.mark.requirement("C12")
@pytest.mark.parametrize(
    "authenticate", [ALICE, Password("pw", "bob", "CONTOSO"), TicketCache("FILE:/nowhere"), Keytab("FILE:/nowhere")]
)
async def test_credentials_without_a_ticket_do_not_end(authenticate, kerberos):
    assert (await expiry(authenticate)).QuadPart == TimeStamp.NEVER


async def expiry(authenticate):
    """What AcquireCredentialsHandle says of a client's credentials."""
    stamp, config = TimeStamp(7), client_config(authenticate=authenticate)
    status = await AcquireCredentialsHandle(
        pszPackage="CREDSSP", fCredentialUse=SECPKG_CRED.OUTBOUND, pAuthData=config, phCredential=CredHandle(),
        ptsExpiry=stamp,
    )  # fmt: skip
    assert status is OK
    return stamp


@pytest.mark.requirement("A20")
@pytest.mark.parametrize("mechanism", [MechanismChoice.KERBEROS, MechanismChoice.NTLM])
async def test_a_server_is_told_of_mutual_authentication_where_kerberos_has_proven_both(mechanism, kerberos):
    client, server = await pair(
        client_config(Policy(mechanism=mechanism), authenticate=ALICE if mechanism.kerberos else BOB),
        server_config(keytab=Keytab(str(kerberos.keytab))),
    )
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert (ASC_RET.MUTUAL_AUTH in server.attributes) is mechanism.kerberos

"""The SSPI functions over Kerberos, with a real KDC."""

import asyncio

import pytest
from support.endpoints import client_config, server_config
from support.kerberos import ALICE
from support.records import query
from support.sspi import CLIENT_FLAGS, OK, pair, talk

from acredssp import DelegationPolicy, Keytab, MechanismChoice, Password, Policy, SPNList, TicketCache, Trust
from acredssp.sspi import (
    CREDSSP_SERVER_AUTH,
    ISC_REQ,
    ISC_RET,
    SECPKG_ATTR,
    SECPKG_NEGOTIATION,
    SecPkgContext_Flags,
    SecPkgContext_NegotiationInfo,
    SecPkgContext_PackageInfo,
    SecurityStatus,
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
        admit=lambda info: given.append(info.delegated) or True,
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

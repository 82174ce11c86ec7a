"""The SSPI functions over Kerberos, with a real KDC."""

import asyncio

import pytest
from support.endpoints import client_config, server_config
from support.kerberos import ALICE
from support.sspi import OK, pair, talk

from acredssp import Keytab, MechanismChoice, Password, Policy, TicketCache
from acredssp.sspi import ISC_RET, SecurityStatus

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

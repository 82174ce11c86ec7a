"""A trust that the caller named ends a logon that would delegate, by the verdict's own status."""

import asyncio
import dataclasses

import pytest
from cryptography import x509
from support.endpoints import BOB, client_config, server_config, tls_policy
from support.sspi import CERTIFICATE_DER, CLIENT_FLAGS, OK, Client, Server, inbound, outbound, talk

from acredssp.credentials import Nothing
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.policy import Policy
from acredssp.sspi import (
    CREDSPP_SUBMIT_TYPE,
    CREDSSP_CRED,
    ISC_REQ,
    ISC_RET,
    SCHANNEL_CRED,
    SECPKG_CRED_OUTBOUND,
    AcquireCredentialsHandle,
    CredHandle,
    SecurityStatus,
)
from acredssp.tls_config import self_signed
from acredssp.trust import Trust
from acredssp.wire.ts_credentials import TSPasswordCreds
from acredssp.wire.x509 import pin_of

AUTHORITY = Trust(authorities=(x509.load_der_x509_certificate(CERTIFICATE_DER),))
"""Of the servers' own certificate, which is for localhost."""
STRANGER = Trust(authorities=(x509.load_pem_x509_certificate(self_signed(["stranger.example"], "ec")[0]),))
OTHER_KEY = Trust.pinned("00" * 32)

DENIED = {"delegation": DelegationPolicy(deny_fresh_credentials=SPNList.of("TERMSRV/*"))}
MUTUAL = CLIENT_FLAGS | ISC_REQ.MUTUAL_AUTH
NO_DELEGATE = CLIENT_FLAGS & ~ISC_REQ.DELEGATE
EMPTY = TSPasswordCreds.of("", "", "")

DISTRUSTED = {
    "pin": (OTHER_KEY, "localhost", SecurityStatus.SEC_E_CERT_UNKNOWN),
    "authority": (STRANGER, "localhost", SecurityStatus.SEC_E_UNTRUSTED_ROOT),
    "name": (AUTHORITY, "another.example", SecurityStatus.SEC_E_WRONG_PRINCIPAL),
}


async def log_on(config, host="localhost", flags=CLIENT_FLAGS, package="CREDSSP", policy=None):
    """A client, its server, and what the server's application was asked to admit."""
    admitted = []
    certificate = CERTIFICATE_DER if package == "TSSSP" else None
    client = Client(await outbound(config, package), flags, target=f"TERMSRV/{host}", certificate=certificate)
    config = server_config(policy, admit=lambda admission: admitted.append(admission.info.delegated) or True)
    server = Server(await inbound(config, package))
    await talk(client, server)
    return client, server, admitted


@pytest.fixture(params=["CREDSSP", "TSSSP"])
def package(request):
    return request.param


@pytest.mark.requirement("R13", "R67")
@pytest.mark.parametrize("kind", DISTRUSTED)
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
async def test_a_trust_that_was_named_ends_a_logon_before_anything_is_delegated(kind, tls, package):
    trust, host, status = DISTRUSTED[kind]
    policy = tls_policy(tls)
    client, server, admitted = await log_on(client_config(policy, trust=trust), host, package=package, policy=policy)
    assert client.status is status, client.error
    assert client.error.hint
    assert admitted == []
    assert server.handle.state.context.take_credentials() is None
    await client.call(b"")
    assert client.status is status, "a failure is for good"


@pytest.mark.requirement("R13")
@pytest.mark.parametrize("kind", DISTRUSTED)
async def test_the_root_store_of_a_credential_is_such_a_trust(kind):
    trust, host, status = DISTRUSTED[kind]
    cred = CREDSSP_CRED(CREDSPP_SUBMIT_TYPE.CredsspPasswordCreds, SCHANNEL_CRED(hRootStore=trust), BOB)
    client, _, admitted = await log_on(cred, host)
    assert (client.status, admitted) == (status, [])


@pytest.mark.requirement("R23", "R24")
@pytest.mark.parametrize("trust", [None, Trust()])
async def test_without_a_trust_that_was_named_no_certificate_ends_a_logon(trust, package):
    config = await asyncio.to_thread(client_config, trust=trust)  # which may read the system's store
    client, _, admitted = await log_on(config, package=package)
    assert (client.status, admitted) == (OK, ["password"]), client.error
    assert ISC_RET.MUTUAL_AUTH not in client.attributes


async def test_a_configuration_that_is_derived_from_one_without_a_trust_names_none():
    config = await asyncio.to_thread(lambda: dataclasses.replace(client_config(trust=None), workstation="PC"))
    client, _, admitted = await log_on(config)
    assert (client.status, admitted) == (OK, ["password"]), client.error


@pytest.mark.parametrize("trust", [OTHER_KEY, STRANGER])
@pytest.mark.parametrize(
    ("changes", "flags"), [({}, NO_DELEGATE), ({"delegate": Nothing()}, CLIENT_FLAGS)], ids=["not_asked", "nothing"]
)
async def test_a_logon_that_delegates_nothing_goes_on(trust, changes, flags, package):
    client, server, admitted = await log_on(client_config(trust=trust, **changes), flags=flags, package=package)
    assert (client.status, admitted) == (OK, ["nothing"]), client.error
    assert server.handle.state.context.take_credentials() == EMPTY


async def test_what_is_trusted_is_delegated_to(package):
    client, server, _ = await log_on(client_config(trust=AUTHORITY), package=package)
    assert client.status is OK, client.error
    expected = TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password)
    assert server.handle.state.context.take_credentials() == expected


@pytest.mark.requirement("R67", "R70")
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("pin", SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED),
        ("authority", SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED),
        ("name", SecurityStatus.SEC_E_WRONG_PRINCIPAL),
    ],
)
@pytest.mark.parametrize("flags", [MUTUAL, MUTUAL & ~ISC_REQ.DELEGATE])
async def test_mutual_authentication_fails_by_its_own_status_but_for_a_wrong_name(kind, status, flags, package):
    trust, host, _ = DISTRUSTED[kind]
    client, _, admitted = await log_on(client_config(trust=trust), host, flags, package)
    assert (client.status, admitted) == (status, [])


NTLM_ONLY = {"delegation": DelegationPolicy(allow_fresh_credentials_when_ntlm_only=SPNList())}
REASONS = {
    "pin": f"the server's key is not the pinned one: expected {'00' * 32}, got {pin_of(CERTIFICATE_DER)}",
    "authority": "the server's certificate is signed by itself, and is not among the trusted authorities",
    "name": "not for another.example: it is for localhost",
}


@pytest.mark.requirement("R67", "R70")
@pytest.mark.parametrize("case", ["mutual", "ntlm_only"])
@pytest.mark.parametrize("kind", DISTRUSTED)
async def test_a_refusal_for_want_of_proof_says_what_is_wrong_with_the_certificate(kind, case, package):
    trust, host, _ = DISTRUSTED[kind]
    changes, flags = ({}, MUTUAL) if case == "mutual" else (NTLM_ONLY, CLIENT_FLAGS)
    client, _, _ = await log_on(client_config(trust=trust, **changes), host, flags, package)
    error = client.error
    assert REASONS[kind] in error.message
    for foreign in ("--", "server_hostname", kind == "pin" and "pin its key", "pin_differs", "is untrusted"):
        assert not foreign or foreign not in str(error)
    if kind == "pin":
        assert error.hint.startswith("an attacker may be in between")
    elif kind == "name":
        assert "(pszTargetName)" in error.hint
    else:
        assert "hRootStore=Trust.from_file(...)" in error.hint


@pytest.mark.parametrize("kind", DISTRUSTED)
async def test_the_delegation_policys_refusal_comes_first(kind, package):
    trust, host, _ = DISTRUSTED[kind]
    client, _, admitted = await log_on(client_config(trust=trust, **DENIED), host, package=package)
    assert (client.status, admitted) == (SecurityStatus.SEC_E_DELEGATION_POLICY, [])


@pytest.mark.parametrize("kind", DISTRUSTED)
async def test_the_audit_line_says_that_nothing_was_sent_and_why(kind, caplog):
    trust, host, status = DISTRUSTED[kind]
    with caplog.at_level("INFO", "acredssp.audit"):
        await log_on(client_config(trust=trust), host)
    [record] = [record for record in caplog.records if record.name == "acredssp.audit"]
    assert (record.delegation.status, record.delegation.sends) == (status, "nothing")


async def test_a_policy_that_takes_any_certificate_takes_it_here_too():
    config = client_config(Policy(dangerous_accept_any_certificate=True))
    client, _, admitted = await log_on(config)
    assert (client.status, admitted) == (OK, ["password"]), client.error


@pytest.mark.parametrize("trust", [OTHER_KEY, STRANGER], ids=["pin", "authority"])
async def test_a_root_store_is_not_overruled_by_a_policy_that_takes_any_certificate(trust):
    anybody = client_config(Policy(dangerous_accept_any_certificate=True))
    cred = CREDSSP_CRED(CREDSPP_SUBMIT_TYPE.CredsspPasswordCreds, SCHANNEL_CRED(hRootStore=trust), anybody)
    handle = CredHandle()
    status = await AcquireCredentialsHandle(None, "CREDSSP", SECPKG_CRED_OUTBOUND, None, cred, None, None, handle)
    assert status is SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS
    assert "Policy.dangerous_accept_any_certificate" in str(handle.error)
    cred.pSchannelCred.hRootStore = Trust()  # which names nobody
    client, _, admitted = await log_on(cred)
    assert (client.status, admitted) == (OK, ["password"]), client.error

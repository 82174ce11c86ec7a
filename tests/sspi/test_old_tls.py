"""TLS 1.0 and 1.1: named in grbitEnabledProtocols they work under Policy's switch, and are refused without it."""

import ssl

import pytest
from support.endpoints import CERTIFICATE, KEY, PASSWORD, client_config, server_config
from support.records import decrypt, encrypt, joined, plain, query, split, stream_sizes
from support.sspi import OK, pair, talk

from acredssp import Password, Policy, ServerConfig
from acredssp.sspi import (
    CREDSSP_CRED,
    SCH_CREDENTIALS,
    SCHANNEL_CRED,
    SECBUFFER_DATA,
    SECPKG_ATTR,
    SECPKG_CRED_INBOUND,
    SECPKG_CRED_OUTBOUND,
    SECQOP_WRAP_OOB_DATA,
    SP_PROT,
    TLS_PARAMETERS,
    AcquireCredentialsHandle,
    CertContext,
    CredHandle,
    CredsspSubmitBufferBoth,
    EncryptMessage,
    SecPkgContext_Bindings,
    SecPkgContext_ConnectionInfo,
    SecurityStatus,
)
from acredssp.tls_config import server_context_from_pem

V = ssl.TLSVersion
needs_old_tls = pytest.mark.skipif(not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1), reason="openssl was built without it")
MISMATCH = SecurityStatus.SEC_E_ALGORITHM_MISMATCH
OLD = Policy(min_tls=V.TLSv1, dangerous_allow_legacy_tls=True)
SWITCH_ALONE = Policy(dangerous_allow_legacy_tls=True)
VERSIONS = {
    "TLSv1": SP_PROT.TLS1_0_CLIENT | SP_PROT.TLS1_0_SERVER,
    "TLSv1.1": SP_PROT.TLS1_1_CLIENT | SP_PROT.TLS1_1_SERVER,
}
EVERY_OLD = VERSIONS["TLSv1"] | VERSIONS["TLSv1.1"]
NEW = SP_PROT.TLS1_2_CLIENT | SP_PROT.TLS1_2_SERVER | SP_PROT.TLS1_3_CLIENT | SP_PROT.TLS1_3_SERVER


@pytest.fixture(scope="module")
def old_server():
    context = server_context_from_pem(OLD, CERTIFICATE, KEY)
    return ServerConfig(ssl_context=context, policy=OLD, lookup=lambda _request: Password(PASSWORD))


def named(spnego, bits):
    schannel = SCHANNEL_CRED(paCred=[CertContext(CERTIFICATE, KEY)], grbitEnabledProtocols=bits)
    return CREDSSP_CRED(CredsspSubmitBufferBoth, schannel, spnego)


async def contexts(server, version, bits=None):
    """A client that names one old version, and a server that names old ones, established."""
    ends = await pair(named(client_config(OLD), VERSIONS[version]), named(server, bits or EVERY_OLD))
    await talk(*ends)
    assert [end.status for end in ends] == [OK, OK], [end.error for end in ends]
    return ends


@needs_old_tls
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_logon_over_an_old_version_that_both_sides_name(old_server, version):
    bindings = []
    for end, side in zip(await contexts(old_server, version), ("CLIENT", "SERVER"), strict=True):
        info = await query(end, SECPKG_ATTR.CONNECTION_INFO, SecPkgContext_ConnectionInfo())
        assert info.dwProtocol is SP_PROT[f"TLS1_{'1' if version == 'TLSv1.1' else '0'}_{side}"]
        bindings.append(await query(end, SECPKG_ATTR.UNIQUE_BINDINGS, SecPkgContext_Bindings()))
    assert bindings[0] == bindings[1]


@needs_old_tls
@pytest.mark.parametrize("length", [1, 11, 12, 16, 1000, 16_384])
@pytest.mark.parametrize("version", VERSIONS)
async def test_messages_over_an_old_version(old_server, version, length):
    ends = await contexts(old_server, version)
    data = bytes(range(256)) * 64
    for sender, receiver in (ends, ends[::-1]):
        records = split(await encrypt(sender, data[:length]))
        assert len(records) == (2 if version == "TLSv1" else 1), "openssl puts an empty record in front in TLS 1.0"
        received = b""
        for record in records:
            status, message = await decrypt(receiver, record)
            assert status is OK
            received += bytes(message.find(SECBUFFER_DATA))
        assert received == data[:length]


@needs_old_tls
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_close_over_an_old_version(old_server, version):
    client, server = await contexts(old_server, version)
    sizes = await stream_sizes(client)
    message = plain(b"\x01\x00", sizes.cbHeader, sizes.cbTrailer)
    assert await EncryptMessage(client.handle, SECQOP_WRAP_OOB_DATA, message, 0) is OK
    assert (await decrypt(server, joined(message)))[0] is SecurityStatus.SEC_I_CONTEXT_EXPIRED


@needs_old_tls
async def test_versions_that_are_not_named_are_left_out(old_server):
    client, server = await pair(named(client_config(OLD), VERSIONS["TLSv1"]), named(old_server, VERSIONS["TLSv1.1"]))
    await talk(client, server)
    assert server.status.failed
    policy = (await acquire(named(client_config(OLD), EVERY_OLD))).state.client.policy
    assert (policy.min_tls, policy.max_tls) == (V.TLSv1, V.TLSv1_1)


async def acquire(auth_data, use=SECPKG_CRED_OUTBOUND, status=OK):
    handle = CredHandle()
    assert await AcquireCredentialsHandle(None, "CREDSSP", use, None, auth_data, None, None, handle, None) is status
    return handle


@pytest.mark.parametrize("policy", [Policy(), SWITCH_ALONE], ids=["usual", "the switch alone"])
@pytest.mark.parametrize("use", [SECPKG_CRED_OUTBOUND, SECPKG_CRED_INBOUND], ids=["client", "server"])
async def test_old_versions_alone_are_refused_unless_the_policy_lets_them_in(policy, use):
    spnego = server_config(policy=policy) if use == SECPKG_CRED_INBOUND else client_config(policy)
    error = (await acquire(named(spnego, EVERY_OLD), use, MISMATCH)).error
    assert "TLSv1, TLSv1.1 alone cannot be used, since they are broken (RFC 8996)" in error.message
    assert "Policy(min_tls=ssl.TLSVersion.TLSv1, dangerous_allow_legacy_tls=True)" in error.hint


@pytest.mark.parametrize("policy", [Policy(), SWITCH_ALONE], ids=["usual", "the switch alone"])
async def test_naming_old_versions_beside_new_ones_lets_none_in(policy):
    """As C programs do that name all that there are, and leave the rest to the system."""
    kept = (await acquire(named(client_config(policy), EVERY_OLD | NEW))).state.client.policy
    assert kept == policy
    assert kept.min_tls is V.TLSv1_2


@needs_old_tls
async def test_without_names_the_policys_old_versions_stay():
    for bits in (0, EVERY_OLD | NEW):
        assert (await acquire(named(client_config(OLD), bits))).state.client.policy == OLD


@needs_old_tls
@pytest.mark.parametrize(
    "schannel",
    [
        SCHANNEL_CRED(grbitEnabledProtocols=VERSIONS["TLSv1"] | NEW),
        SCH_CREDENTIALS(pTlsParameters=[TLS_PARAMETERS(SP_PROT.TLS1_2_CLIENT)]),
    ],
)
async def test_a_gap_between_versions_is_refused_and_not_filled(schannel):
    auth_data = CREDSSP_CRED(CredsspSubmitBufferBoth, schannel, client_config(OLD))
    error = (await acquire(auth_data, status=MISMATCH)).error
    assert "switched off in between" in error.message


async def test_a_version_that_the_policy_leaves_out_is_told():
    error = (
        await acquire(named(client_config(Policy(min_tls=V.TLSv1_3)), SP_PROT.TLS1_2_CLIENT), status=MISMATCH)
    ).error
    assert "the policy allows TLSv1_3 to MAXIMUM_SUPPORTED, and pSchannelCred allows TLSv1.2" in error.message

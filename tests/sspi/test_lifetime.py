"""ApplyControlToken and DeleteSecurityContext."""

import asyncio
import gc

import pytest
from support.alive import Watch
from support.endpoints import PASSWORD, client_config, server_config, tls_policy
from support.records import decrypt, encrypt, plain, query
from support.sspi import CONTINUE, OK, pair, talk

from acredssp.config import ClientConfig, ServerConfig
from acredssp.credentials import Password
from acredssp.sspi import (
    ASC_REQ,
    ISC_REQ,
    SCHANNEL_ALERT,
    SCHANNEL_RENEGOTIATE,
    SCHANNEL_SESSION,
    SCHANNEL_SHUTDOWN,
    SECBUFFER_DATA,
    SECBUFFER_TOKEN,
    SECPKG_ATTR_CREDS_2,
    SECPKG_ATTR_NAMES,
    ApplyControlToken,
    CtxtHandle,
    DeleteSecurityContext,
    EncryptMessage,
    FreeCredentialsHandle,
    QueryContextAttributes,
    SecBuffer,
    SecBufferDesc,
    SecPkgContext_ClientCreds,
    SecPkgContext_Names,
    SecurityStatus,
    TimeStamp,
)

TLS = ["TLSv1.2", "TLSv1.3"]
EXPIRED = SecurityStatus.SEC_I_CONTEXT_EXPIRED
INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE
INVALID_TOKEN = SecurityStatus.SEC_E_INVALID_TOKEN


OF_TLS = ("CONFIDENTIALITY", "INTEGRITY", "SEQUENCE_DETECT", "REPLAY_DETECT")
"""The flags of what TLS gives to a context."""


def ask_for_everything(end, family):
    for name in OF_TLS:
        end.flags |= family[name]


def security_of(end):
    """What the last call told of security."""
    return {flag.name for flag in end.attributes.flags} & {*OF_TLS, "DELEGATE", "MUTUAL_AUTH"}


async def contexts(tls="TLSv1.3", package="CREDSSP"):
    policy = tls_policy(tls)
    client, server = await pair(client_config(policy), server_config(policy), package)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    return client, server


def control(value, size=4, kind=SECBUFFER_TOKEN):
    return SecBufferDesc([SecBuffer(kind, value.to_bytes(size, "little"))])


# --- ApplyControlToken ---


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("side", ["client", "server"])
async def test_shutdown_is_announced_sent_and_answered(tls, side):
    client, server = await contexts(tls)
    end, peer = (client, server) if side == "client" else (server, client)
    assert await ApplyControlToken(end.handle, control(SCHANNEL_SHUTDOWN)) is OK
    token = await end.call()
    assert (end.status, bool(token)) == (OK, True)
    assert (await decrypt(peer, token))[0] is EXPIRED
    assert await ApplyControlToken(peer.handle, control(SCHANNEL_SHUTDOWN)) is OK
    answer = await peer.call()
    assert (peer.status, (await decrypt(end, answer))[0]) == (OK, EXPIRED)
    assert await DeleteSecurityContext(end.handle) is OK


async def test_shutdown_sends_close_notify_once():
    client, _ = await contexts()
    assert await ApplyControlToken(client.handle, control(SCHANNEL_SHUTDOWN)) is OK
    assert await client.call()
    assert await ApplyControlToken(client.handle, control(SCHANNEL_SHUTDOWN)) is OK
    assert await client.call() == b""
    assert client.status is OK


@pytest.mark.parametrize("value", [SCHANNEL_RENEGOTIATE, SCHANNEL_ALERT, SCHANNEL_SESSION, 4, 0xFFFFFFFF])
async def test_every_other_control_token_is_refused_and_changes_nothing(value):
    client, server = await contexts()
    assert await ApplyControlToken(client.handle, control(value)) is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
    assert client.error.security_status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
    assert (await decrypt(server, await encrypt(client, b"goes on")))[0] is OK


@pytest.mark.parametrize(
    "buffers",
    [
        SecBufferDesc(),
        control(SCHANNEL_SHUTDOWN, kind=SECBUFFER_DATA),
        control(SCHANNEL_SHUTDOWN, size=3),
        control(SCHANNEL_SHUTDOWN, size=8),
        SecBufferDesc(control(SCHANNEL_SHUTDOWN).pBuffers, 1),
    ],
)
async def test_a_control_token_is_a_dword_in_a_token_buffer(buffers):
    client, _ = await contexts()
    assert await ApplyControlToken(client.handle, buffers) is INVALID_TOKEN


async def test_a_handle_that_stands_for_nothing_takes_no_control_token():
    assert await ApplyControlToken(CtxtHandle(), control(SCHANNEL_SHUTDOWN)) is INVALID_HANDLE
    with pytest.raises(TypeError):
        await ApplyControlToken(None, control(SCHANNEL_SHUTDOWN))
    with pytest.raises(TypeError):
        await ApplyControlToken(CtxtHandle(), None)


async def test_shutdown_in_the_middle_of_the_handshake_has_nothing_to_send():
    client, _ = await pair()
    await client.call()
    assert await ApplyControlToken(client.handle, control(SCHANNEL_SHUTDOWN)) is OK
    assert await client.call() == b""
    assert client.status is OK


async def failed():
    """A client who asks for everything and whose password is wrong, and its server."""
    wrong = client_config(authenticate=Password("wrong", "bob", "CONTOSO"))
    client, server = await pair(wrong, server_config())
    ask_for_everything(client, ISC_REQ)
    ask_for_everything(server, ASC_REQ)
    await talk(client, server)
    assert client.status.failed
    assert server.status.failed
    return client, server


async def unfinished():
    """The same with the right password, before the client's credentials leave."""
    client, server = await pair()
    ask_for_everything(client, ISC_REQ)
    ask_for_everything(server, ASC_REQ)
    flight = await client.call()
    for _ in range(2):
        flight = b"".join(await client.feed(b"".join(await server.feed(flight))))
    assert (client.status, server.status) == (CONTINUE, CONTINUE)
    return client, server


@pytest.mark.requirement("R54", "R83")
@pytest.mark.parametrize("how", [failed, unfinished])
async def test_shutdown_tells_no_security_of_a_context_that_was_never_established(how):
    for end in await how():
        assert await ApplyControlToken(end.handle, control(SCHANNEL_SHUTDOWN)) is OK
        end.attributes.flags = end.expiry.QuadPart = None
        await end.call()
        assert end.status is OK
        assert security_of(end) == set()
        assert end.expiry.QuadPart == TimeStamp.NEVER


async def test_shutdown_of_an_established_context_tells_what_it_had():
    client, server = await contexts()
    for end in client, server:
        before = end.attributes.flags
        assert "DELEGATE" in security_of(end)
        assert await ApplyControlToken(end.handle, control(SCHANNEL_SHUTDOWN)) is OK
        await end.call()
        assert end.attributes.flags == before


# --- DeleteSecurityContext ---


@pytest.mark.requirement("R92")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_a_deleted_context_is_invalid_for_every_function_and_handle(package):
    client, server = await contexts(package=package)
    for end in (client, server):
        other = CtxtHandle()
        other.assign(end.handle.state)
        assert await DeleteSecurityContext(end.handle) is OK
        for handle in (end.handle, other):
            assert not handle.valid
            assert await EncryptMessage(handle, 0, plain(b"x"), 0) is INVALID_HANDLE
            assert await QueryContextAttributes(handle, SECPKG_ATTR_NAMES, SecPkgContext_Names()) is INVALID_HANDLE
            assert await ApplyControlToken(handle, control(SCHANNEL_SHUTDOWN)) is INVALID_HANDLE
            assert await DeleteSecurityContext(handle) is OK
            assert handle.error is None


async def test_a_handle_that_was_never_filled_cannot_be_deleted():
    handle = CtxtHandle()
    assert await DeleteSecurityContext(handle) is INVALID_HANDLE
    assert handle.error.security_status is INVALID_HANDLE
    with pytest.raises(TypeError):
        await DeleteSecurityContext(None)


@pytest.mark.requirement("R72", "A34")
async def test_a_partial_context_can_be_deleted():
    client, server = await pair()
    await server.feed(await client.call())
    for end in (client, server):
        assert await DeleteSecurityContext(end.handle) is OK


@pytest.mark.requirement("R92", "A34")
async def test_a_failed_context_can_be_deleted():
    client, server = await pair(client_config(authenticate=Password("wrong", "bob", "CONTOSO")))
    await talk(client, server)
    for end in (client, server):
        assert end.status.failed
        assert await DeleteSecurityContext(end.handle) is OK


async def test_engine_and_credentials_are_gone_with_the_context():
    client, server = await contexts()
    await query(server, SECPKG_ATTR_CREDS_2, SecPkgContext_ClientCreds())
    states = [end.handle.state for end in (client, server)]
    watch = Watch(*(state.context for state in states), states[1]._answers)
    assert len(watch.alive()) == 3
    for end in (client, server):
        assert await DeleteSecurityContext(end.handle) is OK
    gc.collect()
    assert watch.alive() == []
    assert all(not isinstance(value, ClientConfig | ServerConfig) for state in states for value in vars(state).values())
    assert all(PASSWORD not in repr(vars(state)) for state in states)


async def test_credentials_may_be_freed_before_the_context_and_it_goes_on():
    client, server = await contexts()
    for end in (client, server):
        assert await FreeCredentialsHandle(end.credential) is OK
    assert (await decrypt(server, await encrypt(client, b"goes on")))[0] is OK
    assert (await query(server, SECPKG_ATTR_NAMES, SecPkgContext_Names())).sUserName == "CONTOSO\\bob"


async def test_a_context_is_not_deleted_under_a_call_in_flight():
    asked, answer = asyncio.Event(), asyncio.Event()

    async def lookup(_request):
        asked.set()
        await answer.wait()
        return Password(PASSWORD)

    client, server = await pair(server=server_config(lookup=lookup))
    conversation = asyncio.create_task(talk(client, server))
    await asked.wait()
    assert await DeleteSecurityContext(server.handle) is INVALID_HANDLE
    answer.set()
    await conversation
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)

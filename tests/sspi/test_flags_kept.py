"""What the flags of a context promise is kept on its messages: order, no replay, no formatting, a stream of bytes.

TLS gives all of it, so that a caller has it whether or not a flag asks for it: each test runs both ways.
"""

import asyncio

import pytest
from support.endpoints import client_config, server_config, tls_policy
from support.engine import random_cuts
from support.records import CIPHERS, directions, encrypt, sealed
from support.sspi import (
    CERTIFICATE_DER,
    CLIENT_FLAGS,
    CONTINUE,
    OK,
    SERVER_FLAGS,
    TARGET,
    Client,
    Server,
    inbound,
    outbound,
    talk,
)

from acredssp.credentials import Nothing
from acredssp.sspi import (
    ASC_REQ,
    ASC_RET,
    ISC_REQ,
    ISC_RET,
    SECBUFFER_DATA,
    SECBUFFER_EXTRA,
    SECBUFFER_MISSING,
    SECBUFFER_TOKEN,
    CtxtHandle,
    DecryptMessage,
    DeleteSecurityContext,
    InitializeSecurityContext,
    SecBuffer,
    SecBufferDesc,
    SecurityStatus,
)
from acredssp.tls_config import client_context

ALTERED = SecurityStatus.SEC_E_MESSAGE_ALTERED
INCOMPLETE = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE

TLS = ["TLSv1.2", "TLSv1.3"]
MESSAGES = [b"first", b"second", b"third"]


@pytest.fixture(params=TLS)
def tls(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["asked", "not_asked"])
def asked(request):
    return request.param


@pytest.fixture(params=["to_server", "to_client"])
def direction(request):
    return request.param


async def contexts(tls, flag, asked, **client):
    """Both ends, established, with the flag asked for by both or by neither."""
    policy = tls_policy(tls)
    ends = (
        Client(await outbound(client_config(policy, **client)), CLIENT_FLAGS | (ISC_REQ[flag] if asked else 0)),
        Server(await inbound(server_config(policy)), SERVER_FLAGS | (ASC_REQ[flag] if asked else 0)),
    )
    await talk(*ends)
    assert [end.status for end in ends] == [OK, OK], [end.error for end in ends]
    assert (ISC_RET[flag] in ends[0].attributes, ASC_RET[flag] in ends[1].attributes) == (asked, asked)
    return ends


async def pair(tls, flag, asked, direction):
    """The end that sends and the end that receives."""
    client, server = await contexts(tls, flag, asked)
    return (client, server) if direction == "to_server" else (server, client)


async def decrypt(end, data):
    """The status, the plaintext, and what was reported: MISSING or EXTRA, by type."""
    message = sealed(data)
    status = await DecryptMessage(end.handle, message, 0)
    plaintext = message.find(SECBUFFER_DATA)
    reports = {buffer.BufferType: buffer.cbBuffer for buffer in message.pBuffers}
    return status, bytes(plaintext) if status is OK and plaintext is not None else b"", reports


async def refused_for_good(receiver, record, next_record):
    """The record is altered, the context has ended, and the right record is too late."""
    status, plaintext, _ = await decrypt(receiver, record)
    assert (status, plaintext) == (ALTERED, b"")
    assert (await decrypt(receiver, next_record))[0] is INVALID_HANDLE


# --- SEQUENCE_DETECT and REPLAY_DETECT ---


@pytest.mark.requirement("R25", "A13")
async def test_a_message_out_of_sequence_is_noticed(tls, asked, direction):
    sender, receiver = await pair(tls, "SEQUENCE_DETECT", asked, direction)
    first, second, third = [await encrypt(sender, message) for message in MESSAGES]
    assert (await decrypt(receiver, first))[:2] == (OK, b"first")
    await refused_for_good(receiver, third, second)


@pytest.mark.requirement("R25", "A13")
async def test_a_message_that_was_dropped_is_noticed_with_the_next_one(tls, asked, direction):
    sender, receiver = await pair(tls, "SEQUENCE_DETECT", asked, direction)
    _, second, third = [await encrypt(sender, message) for message in MESSAGES]
    await refused_for_good(receiver, second, third)


@pytest.mark.requirement("A12")
async def test_a_replayed_message_is_noticed(tls, asked, direction):
    sender, receiver = await pair(tls, "REPLAY_DETECT", asked, direction)
    first, second, _ = [await encrypt(sender, message) for message in MESSAGES]
    assert (await decrypt(receiver, first))[:2] == (OK, b"first")
    await refused_for_good(receiver, first, second)


# --- CONNECTION ---


@pytest.mark.requirement("R21", "A9")
async def test_a_connection_adds_no_format_of_its_own_to_messages(tls, asked, direction, tmp_path):
    """An independent reader of the records, with the keys of the key log, finds the callers' bytes and no others."""
    context = client_context(tls_policy(tls))
    context.keylog_filename = str(tmp_path / "keys")
    policy = tls_policy(tls)
    client = Client(
        await outbound(client_config(policy, ssl_context=context)), CLIENT_FLAGS | (ISC_REQ.CONNECTION if asked else 0)
    )
    server = Server(await inbound(server_config(policy)), SERVER_FLAGS | (ASC_REQ.CONNECTION if asked else 0))
    flights = await talk(client, server)
    assert client.handle.state.context.tls.cipher == CIPHERS[tls]
    key_log = await asyncio.to_thread((tmp_path / "keys").read_text)
    readers = dict(zip(("to_server", "to_client"), directions(key_log, flights), strict=True))
    sender = client if direction == "to_server" else server
    for message in MESSAGES:
        _, content = readers[direction].open(await encrypt(sender, message))
        assert content == message


# --- STREAM ---


@pytest.mark.requirement("R26", "A14")
@pytest.mark.parametrize("seed", range(5))
async def test_a_stream_may_be_cut_anywhere_and_comes_out_in_order(tls, asked, direction, seed):
    sender, receiver = await pair(tls, "STREAM", asked, direction)
    messages = [bytes([number]) * (1 + 700 * number) for number in range(8)]
    wire = b"".join([await encrypt(sender, message) for message in messages])
    cut, received, stream, wanted = random_cuts(seed), b"", b"", 0
    while wire or received:
        if wanted or not received:
            piece = cut(wire, wanted)
            wire, received = wire[len(piece) :], received + piece
        status, plaintext, reports = await decrypt(receiver, received)
        wanted = reports.get(SECBUFFER_MISSING, 0)
        assert status is (INCOMPLETE if wanted else OK)
        if not wanted:
            stream += plaintext
            extra = reports.get(SECBUFFER_EXTRA, 0)
            received = received[len(received) - extra :]
    assert stream == b"".join(messages)


# --- what was asked for and not had ---


async def log_on(flags, server_flags, package="CREDSSP", **client):
    """Both ends, with these flags, when they have talked to the end."""
    certificate = CERTIFICATE_DER if package == "TSSSP" else None
    credential = await outbound(client_config(**client), package)
    ends = Client(credential, flags, certificate=certificate), Server(await inbound(package=package), server_flags)
    await talk(*ends)
    return ends


@pytest.mark.requirement("R17", "R34", "A15")
@pytest.mark.parametrize("name", ["CONFIDENTIALITY", "INTEGRITY", "REPLAY_DETECT", "SEQUENCE_DETECT"])
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_a_request_that_cannot_be_met_is_not_told_as_met(name, package):
    """In the bare shape TLS is the caller's: the context neither seals nor orders messages."""
    ends = await log_on(CLIENT_FLAGS | ISC_REQ[name], SERVER_FLAGS | ASC_REQ[name], package)
    assert [end.status for end in ends] == [OK, OK]
    had = package == "CREDSSP"
    assert (ISC_RET[name] in ends[0].attributes, ASC_RET[name] in ends[1].attributes) == (had, had)


@pytest.mark.requirement("R17", "A15")
@pytest.mark.parametrize("something", [True, False])
async def test_delegation_that_was_asked_for_is_told_where_something_was_delegated(something):
    what = {} if something else {"delegate": Nothing()}
    client, server = await log_on(CLIENT_FLAGS | ISC_REQ.DELEGATE, SERVER_FLAGS | ASC_REQ.DELEGATE, **what)
    assert (client.status, server.status) == (OK, OK)
    assert (ISC_RET.DELEGATE in client.attributes, ASC_RET.DELEGATE in server.attributes) == (something, something)


@pytest.mark.requirement("R71")
async def test_missing_attributes_end_no_logon_and_the_caller_decides():
    """The caller looks at the attributes, finds one missing, and deletes the context; the peer's stands."""
    client, server = await log_on(CLIENT_FLAGS | ISC_REQ.CONFIDENTIALITY, SERVER_FLAGS, "TSSSP")
    assert (client.status, server.status) == (OK, OK)
    assert ISC_RET.CONFIDENTIALITY not in client.attributes
    assert client.handle.valid
    assert await DeleteSecurityContext(client.handle) is OK
    assert not client.handle.valid
    assert server.handle.valid


# --- the handle ---


@pytest.mark.requirement("R45")
async def test_the_first_call_fills_the_handle_that_goes_on():
    """The handle of the first call, and no other, is the context of the calls that follow."""
    credential, server = await outbound(), Server(await inbound())
    received, token = CtxtHandle(), SecBuffer(SECBUFFER_TOKEN)
    assert not received.valid
    status = await InitializeSecurityContext(
        phCredential=credential, pszTargetName=TARGET, fContextReq=CLIENT_FLAGS, phNewContext=received,
        pOutput=SecBufferDesc([token]),
    )  # fmt: skip
    assert (status, received.valid) == (CONTINUE, True)
    client = Client(credential)
    client.handle, client.calls = received, 1
    answer = await server.call(bytes(token))
    assert await client.call(answer)
    assert client.status is CONTINUE, client.error
    other = CtxtHandle()
    client.handle = other
    await client.call(answer)
    assert other != received, "a first call with a token makes no context"
    assert client.status is SecurityStatus.SEC_E_INVALID_TOKEN

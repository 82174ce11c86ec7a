"""The calling loop over asyncio's streams: both sides, any cut, real peers, and every way it can end."""

import asyncio
import contextlib
import random
import socket
import ssl
import struct

import pytest
from support.endpoints import (
    _CONTEXTS,
    BOB,
    CERTIFICATE,
    Deadlines,
    client_config,
    server_config,
    tls_policy,
    turns,
    until,
)
from support.sspi import TARGET, inbound, outbound
from support.streams import memory_streams

from acredssp.aio.streams import open_connection, start_server, take_credentials
from acredssp.errors import AuthenticationError, CertificateError, CredSSPError, HandshakeTimeout, PeerClosed
from acredssp.policy import Policy
from acredssp.sspi import (
    ISC_REQ,
    ISC_RET,
    SECBUFFER,
    SECPKG_ATTR,
    DecryptMessage,
    DeleteSecurityContext,
    EncryptMessage,
    QueryContextAttributes,
    SecBuffer,
    SecBufferDesc,
    SecPkgContext_ClientCreds,
    SecPkgContext_Flags,
    SecPkgContext_Names,
    SecPkgContext_StreamSizes,
    SecurityStatus,
    establish,
    unpack_credentials,
)
from acredssp.sspi import streams as sspi_streams
from acredssp.status import NTSTATUS
from acredssp.trust import Trust
from acredssp.wire.ts_credentials import TSPasswordCreds

HOST = "127.0.0.1"
OK = SecurityStatus.SEC_E_OK
TLS = ["TLSv1.2", "TLSv1.3"]
SOURCE = random.Random(3)
CUTS = {
    "whole": None,
    "byte_by_byte": [1],
    "random": [SOURCE.randint(1, SOURCE.choice((3, 40, 700))) for _ in range(99)],
}


async def query(handle, attribute, structure):
    assert await QueryContextAttributes(handle, attribute, structure) is OK, handle.error
    return structure


async def encrypt(handle, data):
    """One record."""
    sizes = await query(handle, SECPKG_ATTR.STREAM_SIZES, SecPkgContext_StreamSizes())
    kinds = (
        (SECBUFFER.STREAM_HEADER, sizes.cbHeader),
        (SECBUFFER.DATA, data),
        (SECBUFFER.STREAM_TRAILER, sizes.cbTrailer),
    )
    buffers = [SecBuffer(kind, bytearray(content)) for kind, content in kinds]
    assert await EncryptMessage(handle, 0, SecBufferDesc([*buffers, SecBuffer()])) is OK
    return b"".join(map(bytes, buffers))


async def decrypt(handle, reader):
    """The data of the next record, read as MISSING says."""
    received = b""
    while True:
        buffers = [SecBuffer(SECBUFFER.DATA, bytearray(received)), *map(SecBuffer, [0] * 3)]
        status = await DecryptMessage(handle, SecBufferDesc(buffers))
        kinds = {buffer.type: buffer for buffer in buffers}
        if status is not SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            assert status is OK
            if data := bytes(kinds[SECBUFFER.DATA]):
                return data
            received = b""  # a ticket
        else:
            received += await reader.readexactly(kinds[SECBUFFER.MISSING].cbBuffer)


async def both(client, server, ours=None, theirs=None, **options):
    """What `establish` gave, or raised, on both sides."""
    return await asyncio.gather(
        establish(*client, ours or await outbound(), TARGET, **options),
        establish(*server, theirs or await inbound()),
        return_exceptions=True,
    )


def close(*ends):
    for _, writer in ends:
        writer.close()


@pytest.mark.requirement("loop.missing")
@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("cut", CUTS)
async def test_both_sides_have_a_context_however_the_bytes_come(tls, cut):
    client, server = memory_streams(CUTS[cut], CUTS[cut])
    policy = tls_policy(tls)
    ours, theirs = await both(client, server, client_config(policy), server_config(policy))
    names = await query(theirs, SECPKG_ATTR.NAMES, SecPkgContext_Names())
    assert names.sUserName == f"{BOB.domain}\\{BOB.user}"
    flags = await query(ours, SECPKG_ATTR.FLAGS, SecPkgContext_Flags())
    assert flags.Flags & ISC_RET.MUTUAL_AUTH
    assert flags.Flags & ISC_RET.DELEGATE
    creds = await query(theirs, SECPKG_ATTR.CREDS_2, SecPkgContext_ClientCreds())
    assert unpack_credentials(creds.AuthBuffer).Password == BOB.password
    client[1].write(await encrypt(ours, b"hello"))
    assert await decrypt(theirs, server[0]) == b"hello"
    server[1].write(await encrypt(theirs, b"welcome"))
    assert await decrypt(ours, client[0]) == b"welcome"
    assert await DeleteSecurityContext(ours) is OK
    close(client, server)


@pytest.mark.requirement("loop.missing")
async def test_the_loop_reads_what_missing_asks_for_and_not_one_byte_behind_the_handshake():
    client, server = memory_streams()

    async def log_on_and_write():
        handle = await establish(*client, await outbound(), TARGET)
        record = await encrypt(handle, b"early")
        client[1].write(record)
        return record

    record, theirs = await asyncio.gather(log_on_and_write(), establish(*server, await inbound()))
    assert server[0].asked
    assert len(server[0].asked) % 2 == 0
    assert server[0].asked[::2] == [5] * (len(server[0].asked) // 2)  # each record's header, and then its rest
    server[0].feed_data(b"behind")
    assert await server[0].readexactly(len(record)) == record
    assert await server[0].readexactly(6) == b"behind"
    assert theirs.valid
    close(client, server)


@pytest.mark.requirement("loop.missing")
async def test_what_the_reader_has_read_ahead_is_taken_over():
    client, server = memory_streams()
    connecting = asyncio.ensure_future(establish(*client, client_config(), TARGET))
    await until(lambda: server[0]._buffer)
    await establish(*server, server_config())
    assert (await connecting).valid
    close(client, server)


@pytest.mark.requirement("loop.peers")
async def test_a_client_logs_on_to_an_asyncio_server():
    came = asyncio.Queue()

    async def connected(reader, writer):
        came.put_nowait(take_credentials(writer))
        writer.write(await reader.readexactly(5))
        with contextlib.suppress(PeerClosed):  # the client sends no close_notify
            await reader.read()
        writer.close()

    async with await start_server(connected, HOST, 0, config=server_config()) as server:
        reader, writer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])
        handle = await establish(reader, writer, await outbound(), TARGET)
        writer.write(await encrypt(handle, b"hello"))
        assert await decrypt(handle, reader) == b"hello"
        assert await came.get() == TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password)
        writer.close()
        await writer.wait_closed()


@pytest.mark.requirement("loop.peers")
async def test_a_server_takes_an_asyncio_client():
    ended = asyncio.Queue()

    async def connected(reader, writer):
        handle = await establish(reader, writer, server_config())
        writer.write(await encrypt(handle, await decrypt(handle, reader)))
        writer.close()
        ended.put_nowait(handle)

    async with await asyncio.start_server(connected, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await open_connection(HOST, port, config=client_config())
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert (await ended.get()).valid
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.requirement("loop.bare")
async def test_the_bare_shape_runs_inside_the_callers_tls():
    ended = asyncio.Queue()

    async def connected(reader, writer):
        ended.put_nowait(await establish(reader, writer, server_config(), package="TSSSP"))
        writer.write(b"hello")
        writer.close()

    tls = _CONTEXTS[Policy().min_tls, Policy().max_tls]
    async with await asyncio.start_server(connected, HOST, 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        trusted = ssl.create_default_context(cadata=CERTIFICATE.decode())
        reader, writer = await asyncio.open_connection(HOST, port, ssl=trusted, server_hostname="localhost")
        handle = await establish(reader, writer, client_config(), TARGET, package="TSSSP")
        assert handle.valid
        assert await reader.read() == b"hello"
        assert (await ended.get()).valid
        writer.close()
        await writer.wait_closed()


@pytest.mark.requirement("loop.refusal")
async def test_a_refusal_is_sent_and_raised_with_its_status_on_both_sides():
    client, server = memory_streams()
    ours, theirs = await both(client, server, theirs=await inbound(server_config(lookup=lambda _: None)))
    for error in ours, theirs:
        assert isinstance(error, AuthenticationError)
        assert error.security_status is SecurityStatus.SEC_E_LOGON_DENIED
    assert ours.nt_status == theirs.nt_status == NTSTATUS.STATUS_LOGON_FAILURE  # only the token can have told
    assert client[1].is_closing()
    assert server[1].is_closing()


@pytest.mark.requirement("loop.mutual-auth")
@pytest.mark.parametrize("flags", [None, ISC_REQ.DELEGATE], ids=["default", "without_mutual_auth"])
async def test_a_server_that_nothing_proves_gets_no_credentials_unless_the_flags_say_so(flags):
    client, server = memory_streams()
    ours, theirs = await both(client, server, client_config(trust=Trust()), fContextReq=flags)
    if flags is None:
        assert ours.security_status is SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED
        assert isinstance(theirs, CredSSPError)
    else:
        assert ours.valid
        assert theirs.valid
    close(client, server)


@pytest.mark.requirement("loop.refusal")
async def test_a_certificate_that_a_named_trust_refuses_ends_it_with_its_own_status():
    client, server = memory_streams()
    ours, _ = await both(client, server, client_config(trust=Trust.pinned("00" * 32)))
    assert isinstance(ours, CertificateError)
    assert client[1].is_closing()


@pytest.mark.requirement("loop.deadline")
async def test_after_the_deadline_the_connection_is_closed(monkeypatch):
    client, server = memory_streams()
    deadlines = Deadlines(monkeypatch)
    waiting = asyncio.ensure_future(establish(*client, await outbound(), TARGET, handshake_timeout=Deadlines.FAR))
    await until(lambda: deadlines.limits)
    deadlines.come()
    with pytest.raises(HandshakeTimeout):
        await waiting
    assert client[1].is_closing()
    close(server)


@pytest.mark.parametrize(
    ("config", "target"), [(client_config, TARGET), (server_config, None)], ids=["client", "server"]
)
@pytest.mark.requirement("loop.deadline")
async def test_the_time_limit_is_the_policys_unless_given(monkeypatch, config, target):
    ours, theirs = memory_streams()
    deadlines = Deadlines(monkeypatch)
    waiting = asyncio.ensure_future(establish(*ours, config(Policy(handshake_timeout=Deadlines.FAR)), target))
    await until(lambda: deadlines.limits)
    deadlines.come()
    with pytest.raises(HandshakeTimeout):
        await waiting
    close(theirs)


@pytest.mark.requirement("loop.deadline")
async def test_a_hook_that_swallows_the_deadline_establishes_nothing(monkeypatch):
    client, server = memory_streams()
    deadlines = Deadlines(monkeypatch)
    asked = asyncio.Event()

    async def lookup(_request):
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return BOB

    theirs = asyncio.ensure_future(establish(*server, server_config(lookup=lookup), handshake_timeout=Deadlines.FAR))
    ours = asyncio.ensure_future(establish(*client, client_config(), TARGET))
    await asked.wait()
    deadlines.come()
    with pytest.raises(HandshakeTimeout):
        await theirs
    with pytest.raises(CredSSPError):
        await ours


@pytest.mark.requirement("loop.cancelled")
async def test_a_cancelled_logon_closes_the_connection_at_once():
    client, server = memory_streams()
    handle = await outbound()
    waiting = asyncio.ensure_future(establish(*client, handle, TARGET))
    await turns(5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert client[1].is_closing()
    assert handle.valid
    close(server)


@pytest.mark.requirement("loop.cancelled")
async def test_a_logon_cancelled_while_a_hook_is_asked_closes_the_connection_too():
    client, server = memory_streams()
    asked = asyncio.Event()

    async def lookup(_request):
        asked.set()
        await asyncio.Event().wait()

    theirs = asyncio.ensure_future(establish(*server, server_config(lookup=lookup)))
    ours = asyncio.ensure_future(establish(*client, client_config(), TARGET))
    await asked.wait()
    theirs.cancel()
    with pytest.raises(asyncio.CancelledError):
        await theirs
    with pytest.raises(AuthenticationError):  # how a server that closes after the logon is understood
        await ours
    assert server[1].is_closing()


@pytest.mark.requirement("loop.left")
async def test_a_peer_that_leaves_is_told_as_that():
    client, server = memory_streams()
    waiting = asyncio.ensure_future(establish(*server, await inbound()))
    client[1].write(b"\x16\x03\x01")
    await turns(5)
    client[1].close()
    with pytest.raises(PeerClosed) as raised:
        await waiting
    assert raised.value.__cause__ is None
    assert server[1].is_closing()


@pytest.mark.requirement("loop.left")
async def test_a_network_that_breaks_is_the_cause():
    client, server = memory_streams()
    waiting = asyncio.ensure_future(establish(*client, await outbound(), TARGET))
    await turns(5)
    client[1].transport.reset()
    with pytest.raises(PeerClosed) as raised:
        await waiting
    assert isinstance(raised.value.__cause__, ConnectionResetError)
    close(server)


async def test_a_peer_that_resets_the_connection_while_a_hook_is_asked_is_told_as_that():
    asked, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Queue()

    async def lookup(_request):
        asked.set()
        await go.wait()
        return BOB

    async def serve(reader, writer):
        try:
            await establish(reader, writer, server_config(lookup=lookup))
        except (CredSSPError, RuntimeError) as error:
            ended.put_nowait(error)

    server = await asyncio.start_server(serve, HOST, 0)
    peer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])
    logon = asyncio.ensure_future(establish(*peer, client_config(), TARGET))
    await asked.wait()
    peer[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer[1].transport.abort()
    with pytest.raises(CredSSPError):
        await logon
    await turns(20)
    go.set()
    assert type(await ended.get()) is PeerClosed
    server.close()
    await server.wait_closed()


@pytest.mark.requirement("loop.credentials")
async def test_credentials_of_one_handshake_are_freed_and_a_handle_stays_its_callers(monkeypatch):
    freed, free = [], sspi_streams.FreeCredentialsHandle

    async def note(handle):
        freed.append(handle)
        return await free(handle)

    monkeypatch.setattr(sspi_streams, "FreeCredentialsHandle", note)
    client, server = memory_streams()
    lasting = await outbound()
    ours, theirs = await both(client, server, lasting, server_config())
    assert ours.valid
    assert theirs.valid
    assert lasting.valid
    (own,) = freed
    assert not own.valid
    close(client, server)


@pytest.mark.requirement("loop.credentials")
async def test_credentials_that_cannot_be_had_close_the_connection():
    client, server = memory_streams()
    with pytest.raises(CredSSPError) as raised:
        await establish(*client, client_config(), TARGET, package="NTLM")
    assert raised.value.security_status is SecurityStatus.SEC_E_SECPKG_NOT_FOUND
    assert client[1].is_closing()
    close(server)


async def test_wrong_types_are_refused_by_name():
    client, server = memory_streams()
    with pytest.raises(TypeError, match="reader"):
        await establish(*reversed(client), client_config(), TARGET)
    with pytest.raises(TypeError, match="target"):
        await establish(*client, client_config(), b"host")
    assert client[1].is_closing()
    close(server)

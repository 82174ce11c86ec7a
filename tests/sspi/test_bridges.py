"""From a context's handle to streams and transports that encrypt by themselves."""

import asyncio
import random

import pytest
from support.endpoints import BOB, Recorder, client_config, server_config, tls_policy, turns, until
from support.sspi import TARGET
from support.streams import memory_streams

from acredssp.aio.streams import open_connection, take_credentials
from acredssp.errors import LocalProtocolError, PeerClosed
from acredssp.sspi import (
    SECPKG_ATTR,
    DeleteSecurityContext,
    QueryContextAttributes,
    SecPkgContext_ClientCreds,
    SecPkgContext_Names,
    SecurityStatus,
    SSPIContext,
    establish,
    secure_streams,
    secure_transport,
    unpack_credentials,
)

HOST = "127.0.0.1"
OK = SecurityStatus.SEC_E_OK
LONG = bytes(range(256)) * 1000


async def established(tls="TLSv1.3", sizes=None):
    """Two pairs of streams, and a context over them: (handle, reader, writer) of the client, and of the server."""
    policy = tls_policy(tls)
    client, server = memory_streams(sizes, sizes)
    ours, theirs = await asyncio.gather(
        establish(*client, client_config(policy), TARGET), establish(*server, server_config(policy))
    )
    return (ours, *client), (theirs, *server)


@pytest.mark.requirement("bridge.data")
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("cut", ["whole", "small", "random"])
async def test_data_goes_both_ways_and_each_direction_ends_with_its_close_notify(tls, cut):
    source = random.Random(1)
    sizes = {"whole": None, "small": [7], "random": [source.randint(1, 3000) for _ in range(50)]}[cut]
    client, server = await established(tls, sizes)
    ours, theirs = await secure_streams(*client), await secure_streams(*server)
    ours[1].write(LONG)
    ours[1].write_eof()
    assert await theirs[0].read() == LONG
    theirs[1].write(LONG[:5000])
    theirs[1].close()
    assert await ours[0].read() == LONG[:5000]
    ours[1].close()
    await ours[1].wait_closed()
    await theirs[1].wait_closed()
    assert await DeleteSecurityContext(client[0]) is OK
    assert await DeleteSecurityContext(server[0]) is OK


@pytest.mark.requirement("bridge.held", "bridge.credentials")
async def test_the_handle_answers_questions_while_the_streams_are_open_and_cannot_be_used_or_deleted():
    client, server = await established()
    (_, ours), (_, theirs) = await secure_streams(*client), await secure_streams(*server)
    names, creds = SecPkgContext_Names(), SecPkgContext_ClientCreds()
    assert await QueryContextAttributes(server[0], SECPKG_ATTR.NAMES, names) is OK
    assert names.sUserName == f"{BOB.domain}\\{BOB.user}"
    assert await QueryContextAttributes(server[0], SECPKG_ATTR.CREDS_2, creds) is OK
    assert unpack_credentials(creds.AuthBuffer).Password == BOB.password
    assert take_credentials(theirs) is None  # they stay with the handle
    assert theirs.get_extra_info("credssp").version == 6
    assert await DeleteSecurityContext(server[0]) is SecurityStatus.SEC_E_INVALID_HANDLE
    with pytest.raises(LocalProtocolError):
        await secure_streams(*server)
    ours.close()
    theirs.close()
    await theirs.wait_closed()
    assert await DeleteSecurityContext(server[0]) is OK


@pytest.mark.requirement("bridge.first-data")
async def test_what_was_read_ahead_is_the_first_data():
    client, server = await established()
    _, ours = await secure_streams(*client)
    ours.write(b"early")
    await until(lambda: server[1]._buffer)
    reader, theirs = await secure_streams(*server)
    assert await reader.readexactly(5) == b"early"
    ours.close()
    theirs.close()


@pytest.mark.requirement("bridge.end")
async def test_an_end_that_was_read_ahead_is_noticed():
    client, server = await established()
    _, ours = await secure_streams(*client)
    ours.write(b"early")
    ours.transport._raw.close()  # no close_notify
    await until(lambda: server[1]._eof)
    reader, theirs = await secure_streams(*server)
    assert await reader.readexactly(5) == b"early"
    await turns(10)
    assert isinstance(reader.exception(), PeerClosed)
    theirs.close()


@pytest.mark.requirement("bridge.first-data")
async def test_bytes_of_a_loop_of_the_callers_own_come_first():
    client, server = SSPIContext(client_config(), TARGET), SSPIContext(server_config())
    token = await client.step()
    while not server.complete:
        token = await client.step(await server.step(token))
        if client.complete:
            assert await server.step(token + await client.wrap(b"within ")) == b""
    (_, far), near = memory_streams()
    reader, writer = await secure_streams(
        server.handle, *near, initial_data=bytes(server._received) + await client.wrap(b"behind")
    )
    assert await reader.readexactly(13) == b"within behind"
    far.close()
    writer.close()


@pytest.mark.requirement("bridge.data")
async def test_a_transport_serves_a_protocol():
    client, server = await established()
    app = Recorder()
    transport = secure_transport(server[0], server[2].transport, app)
    reader, writer = await secure_streams(*client)
    transport.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.write(b"welcome")
    assert await app.got(7) == b"welcome"
    writer.close()
    assert await app.lost is None
    assert app.story == ["data", "eof", "lost"]


@pytest.mark.requirement("bridge.data")
async def test_an_asyncio_client_talks_to_streams_of_a_handle():
    async def connected(reader, writer):
        handle = await establish(reader, writer, server_config())
        reader, writer = await secure_streams(handle, reader, writer)
        writer.write(await reader.read())
        writer.close()

    async with await asyncio.start_server(connected, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await open_connection(HOST, port, config=client_config())
        writer.write(LONG)
        writer.write_eof()
        assert await reader.read() == LONG
        writer.close()
        await writer.wait_closed()


@pytest.mark.requirement("bridge.refused")
async def test_a_context_that_is_not_established_or_has_ended_is_refused_and_left_alone():
    (_, reader, writer), (_, _, far) = await established()
    client, server = SSPIContext(client_config(), TARGET), SSPIContext(server_config())
    token = await client.step()
    with pytest.raises(LocalProtocolError) as raised:
        await secure_streams(client.handle, reader, writer)
    assert raised.value.security_status is SecurityStatus.SEC_E_INVALID_HANDLE
    while not server.complete:
        token = await client.step(await server.step(token))
        if client.complete:
            await server.step(token)
    await client.shutdown()
    with pytest.raises(LocalProtocolError) as raised:
        await secure_streams(client.handle, reader, writer)
    assert raised.value.security_status is SecurityStatus.SEC_E_CONTEXT_EXPIRED
    writer.close()
    with pytest.raises(PeerClosed):
        await secure_streams(server.handle, reader, writer)
    assert await server.unwrap() == b""
    await client.close()
    await server.close()
    far.close()

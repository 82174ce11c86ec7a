"""The ALERT buffer: what a failing call says of the alert in its token.

The descriptions are those of RFC 8446 6: close_notify 0, unexpected_message 10, bad_record_mac 20, protocol_version 70.
"""

import pytest
from support.endpoints import BOB, client_config, server_config, tls_policy
from support.records import decrypt, encrypt
from support.sspi import CLIENT_FLAGS, CONTINUE, OK, SERVER_FLAGS, Client, Server, inbound, outbound, pair, talk

from acredssp.core.states import State
from acredssp.credentials import Password
from acredssp.errors import AuthenticationError
from acredssp.sspi import (
    ASC_REQ,
    ISC_REQ,
    SECBUFFER_ALERT,
    SECBUFFER_TOKEN,
    ApplyControlToken,
    FreeContextBuffer,
    SecBuffer,
    SecBufferDesc,
    SecurityStatus,
)
from acredssp.status import NTSTATUS
from acredssp.wire.tls_record import record_end

CLOSE_NOTIFY = b"\x01\x00"
BAD_RECORD_MAC = b"\x02\x14"
PROTOCOL_VERSION = b"\x02\x46"


def outputs(memory=None, room=None):
    """[TOKEN, ALERT], of the package's memory or of the caller's."""
    return SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, memory), SecBuffer(SECBUFFER_ALERT, room)])


async def hello_of_another_version():
    """A client that knows TLS 1.3 alone, and a server's answer in TLS 1.2, which it refuses in clear."""
    old = client_config(tls_policy("TLSv1.2"))
    server = Server(await inbound(server_config(tls_policy("TLSv1.2"))))
    answer = await server.call(await Client(await outbound(old)).call())
    client = Client(await outbound(client_config(tls_policy("TLSv1.3"))))
    await client.call()
    return client, answer


async def call(end, data, output):
    """Call with input and these outputs; the status, the token and the alert."""
    end.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, data), SecBuffer()])
    status = await end.invoke(output)
    return status, *(bytes(buffer) for buffer in output.pBuffers)


@pytest.mark.requirement("R22")
async def test_an_alert_in_clear_is_described():
    client, answer = await hello_of_another_version()
    output = outputs()
    status, token, alert = await call(client, answer, output)
    assert status.failed
    assert token[:1] == b"\x15"
    assert token[-2:] == alert == PROTOCOL_VERSION
    assert await FreeContextBuffer(output) is OK


@pytest.mark.requirement("R22")
async def test_the_alert_goes_into_the_callers_memory():
    client, answer = await hello_of_another_version()
    client.flags &= ~ISC_REQ.ALLOCATE_MEMORY
    room = bytearray(8)
    _, _, alert = await call(client, answer, outputs(bytearray(100), room))
    assert alert == room[:2] == PROTOCOL_VERSION


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("room", [(6, 2), (7, 1), (0, 0)])
async def test_a_farewell_that_does_not_fit_is_had_from_the_next_call_with_the_status_of_the_failure(room):
    """Beside the failure's status a count larger than the memory would be sent, with whatever the memory holds."""
    client, answer = await hello_of_another_version()
    client.flags &= ~ISC_REQ.ALLOCATE_MEMORY
    output = outputs(*map(bytearray, room))
    assert (await call(client, answer, output))[0] is SecurityStatus.SEC_E_BUFFER_TOO_SMALL
    assert [buffer.cbBuffer for buffer in output.pBuffers] == [7, 2]
    why = client.error
    status, token, alert = await call(client, answer, outputs(bytearray(7), bytearray(2)))
    assert status is why.security_status
    assert client.error is why
    assert token[-2:] == alert == PROTOCOL_VERSION


@pytest.mark.requirement("R22")
async def test_without_extended_error_there_is_neither_alert_nor_description():
    client, answer = await hello_of_another_version()
    client.flags = CLIENT_FLAGS & ~ISC_REQ.EXTENDED_ERROR
    client.handle = type(client.handle)()
    await client.call()
    status, token, alert = await call(client, answer, outputs())
    assert status.failed
    assert (token, alert) == (b"", b"")


async def refused_logon(tls):
    """A client with a wrong password and its server, and what its server says to the proof."""
    wrong = client_config(tls_policy(tls), authenticate=Password("wrong", BOB.user, BOB.domain))
    client, server = await pair(wrong)
    token = await client.call()
    for _ in range(4):
        status, answer, alert = await call(server, token, outputs())
        if status is not CONTINUE:
            break
        assert not alert
        token = await client.call(answer)
    return client, server, (status, answer, alert)


@pytest.mark.requirement("R22", "A37")
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
async def test_a_refused_logon_leaves_the_error_code_alone_in_its_token(tls):
    client, _, (status, answer, alert) = await refused_logon(tls)
    assert status is SecurityStatus.SEC_E_LOGON_DENIED
    assert record_end(answer) == len(answer)
    assert not alert
    await client.call(answer)
    assert client.error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
async def test_the_close_notify_behind_a_refusal_is_had_by_a_shutdown_once(tls):
    client, server, (_, answer, _) = await refused_logon(tls)
    shutdown = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, (1).to_bytes(4, "little"))])
    assert await ApplyControlToken(server.handle, shutdown) is OK
    status, closing, _ = await call(server, b"", outputs())
    assert status is OK
    engine = client.handle.referent.context
    with pytest.raises(AuthenticationError):
        engine.step(answer)
    engine.tls.read(closing)
    assert engine.tls.peer_closed
    assert (await call(server, b"", outputs()))[1] == b""


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
async def test_where_there_is_no_error_code_the_token_is_a_close_notify(tls):
    client, server = await pair(client_config(tls_policy(tls)))
    token = await client.call()
    engine = client.handle.referent.context
    while engine.state is State.TLS:
        answer = await server.call(token)
        token = await client.call(answer)
    engine.tls.read(await server.call(token))
    engine.tls.write(b"no TSRequest")
    status, answer, alert = await call(server, engine.tls.output(), outputs())
    assert status is SecurityStatus.SEC_E_INVALID_TOKEN
    assert alert == CLOSE_NOTIFY
    engine.tls.read(answer)
    assert engine.tls.peer_closed


@pytest.mark.requirement("R22", "D13")
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
async def test_an_altered_record_is_answered_with_bad_record_mac(tls):
    client, server = await pair(client_config(tls_policy(tls)))
    await talk(client, server)
    record = bytearray(await encrypt(client, b"attack at dawn"))
    record[20] ^= 1
    assert (await decrypt(server, record))[0] is SecurityStatus.SEC_E_MESSAGE_ALTERED
    status, token, alert = await call(server, b"", outputs())
    assert status is SecurityStatus.SEC_E_MESSAGE_ALTERED
    assert alert == BAD_RECORD_MAC
    assert (await decrypt(client, token))[0] is SecurityStatus.SEC_E_MESSAGE_ALTERED


async def test_the_bare_shape_has_no_alerts():
    server = Server(await inbound(package="TSSSP"), SERVER_FLAGS | ASC_REQ.EXTENDED_ERROR)
    status, _, alert = await call(server, b"\x30\x03\x02\x01\x00", outputs())
    assert status.failed
    assert not alert

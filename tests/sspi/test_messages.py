"""EncryptMessage and DecryptMessage: requirement by requirement, over contexts that the functions made."""

import asyncio

import pytest
from support.endpoints import client_config, server_config, tls_policy
from support.engine import random_cuts
from support.records import (
    ALERT,
    APPLICATION_DATA,
    CIPHERS,
    HANDSHAKE,
    decrypt,
    directions,
    encrypt,
    joined,
    plain,
    sealed,
    split,
    stream_sizes,
)
from support.sspi import OK, pair, talk

from acredssp.core import tls as core_tls
from acredssp.sspi import (
    SCHANNEL_SHUTDOWN,
    SECBUFFER_DATA,
    SECBUFFER_EMPTY,
    SECBUFFER_EXTRA,
    SECBUFFER_MISSING,
    SECBUFFER_READONLY,
    SECBUFFER_STREAM_HEADER,
    SECBUFFER_STREAM_TRAILER,
    SECBUFFER_TOKEN,
    SECQOP_WRAP_OOB_DATA,
    ULONG,
    ApplyControlToken,
    CtxtHandle,
    DecryptMessage,
    EncryptMessage,
    SecBuffer,
    SecBufferDesc,
    SecurityStatus,
)
from acredssp.tls_config import client_context

TLS = ["TLSv1.2", "TLSv1.3"]
INCOMPLETE = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
EXPIRED = SecurityStatus.SEC_I_CONTEXT_EXPIRED
INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE
INVALID_TOKEN = SecurityStatus.SEC_E_INVALID_TOKEN
TOO_SMALL = SecurityStatus.SEC_E_BUFFER_TOO_SMALL

KEY_UPDATE_AND_ANSWER = b"\x18\x00\x00\x01\x01"
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
"""RFC 8446 4.6.3: update_requested, and update_not_requested."""
TICKET = b"\x04\x00\x00\x17" + bytes(4) + b"abcd" + b"\x08" + bytes(8) + b"\x00\x02ok" + b"\x00\x00"
"""NewSessionTicket (RFC 8446 4.6.1): lifetime, age_add, nonce, ticket, extensions."""
HELLO_REQUEST = b"\x00\x00\x00\x00"
NO_RENEGOTIATION = b"\x01\x64"
"""A warning (RFC 5246 7.2.2)."""


async def contexts(tls="TLSv1.3", package="CREDSSP", **server):
    """A client and a server, established."""
    policy = tls_policy(tls)
    client, server = await pair(client_config(policy), server_config(policy, **server), package)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    return client, server


@pytest.fixture(params=TLS)
def tls(request):
    return request.param


@pytest.fixture
def forged(tmp_path):
    """A function that connects two, and gives client, server, and both directions' records in our own hands."""

    async def connect(tls):
        policy = tls_policy(tls)
        context = client_context(policy)
        context.keylog_filename = str(tmp_path / "keys")
        client, server = await pair(client_config(policy, ssl_context=context), server_config(policy))
        flights = await talk(client, server)
        assert (client.status, server.status) == (OK, OK), (client.error, server.error)
        assert client.handle.state.context.tls.cipher == CIPHERS[tls]
        key_log = await asyncio.to_thread((tmp_path / "keys").read_text, "ascii")
        return client, server, *directions(key_log, flights)

    return connect


def data_of(message):
    """The plaintext that DecryptMessage left."""
    return bytes(message.find(SECBUFFER_DATA))


def kinds(message):
    return [buffer.BufferType for buffer in message.pBuffers]


# --- EncryptMessage ---


@pytest.mark.requirement("D1", "D2", "D3", "D14")
@pytest.mark.parametrize("length", [1, 15, 16, 1000, 16_384])
async def test_the_first_three_buffers_are_one_record(tls, length):
    client, server = await contexts(tls)
    for sender, receiver in ((client, server), (server, client)):
        plaintext = bytes(range(256)) * 64
        record = await encrypt(sender, plaintext[:length])
        assert split(record) == [record]
        status, message = await decrypt(receiver, record)
        assert (status, data_of(message)) == (OK, plaintext[:length])


@pytest.mark.requirement("D3", "D4")
async def test_a_message_is_encrypted_in_place_in_buffers_of_just_the_sizes(tls):
    client, server = await contexts(tls)
    sizes = await stream_sizes(client)
    assert (sizes.cBuffers, sizes.cbMaximumMessage) == (4, 16_384)
    assert (sizes.cbHeader, sizes.cbTrailer) == {"TLSv1.2": (13, 16), "TLSv1.3": (5, 17)}[tls]
    memory = bytearray(sizes.cbHeader) + b"attack at dawn" + bytearray(sizes.cbTrailer)
    end = len(memory) - sizes.cbTrailer
    parts = memoryview(memory)
    message = SecBufferDesc(
        [
            SecBuffer(SECBUFFER_STREAM_HEADER, parts[: sizes.cbHeader]),
            SecBuffer(SECBUFFER_DATA, parts[sizes.cbHeader : end]),
            SecBuffer(SECBUFFER_STREAM_TRAILER, parts[end:]),
            SecBuffer(),
        ]
    )
    assert await EncryptMessage(client.handle, 0, message, 0) is OK
    assert b"dawn" not in memory
    assert bytes(memory) == joined(message)
    assert [buffer.cbBuffer for buffer in message.pBuffers] == [sizes.cbHeader, 14, sizes.cbTrailer, 0]
    assert kinds(message) == [SECBUFFER_STREAM_HEADER, SECBUFFER_DATA, SECBUFFER_STREAM_TRAILER, SECBUFFER_EMPTY]
    _, message = await decrypt(server, memory)
    assert data_of(message) == b"attack at dawn"


async def test_what_comes_out_is_what_plain_openssl_reads_and_what_it_writes_goes_in(tls):
    client, server = await contexts(tls)
    openssl = server.handle.state.context.tls
    assert openssl.read(await encrypt(client, b"from sspi")) == b"from sspi"
    openssl.write(b"from openssl")
    status, message = await decrypt(client, openssl.output())
    assert (status, data_of(message)) == (OK, b"from openssl")


@pytest.mark.requirement("D3")
async def test_only_the_bytes_that_count_are_encrypted_and_buffers_can_be_used_again(tls):
    client, server = await contexts(tls)
    message = plain(bytes(100))
    for text in (b"a longer one", b"short"):
        message.pBuffers[1].pvBuffer[: len(text)] = text
        message.pBuffers[1].cbBuffer = len(text)
        assert await EncryptMessage(client.handle, 0, message, 0) is OK
        _, received = await decrypt(server, joined(message))
        assert data_of(received) == text


@pytest.mark.requirement("D9")
async def test_empty_data_makes_no_record(tls):
    client, server = await contexts(tls)
    message = plain(b"")
    assert await EncryptMessage(client.handle, 0, message, 0) is OK
    assert joined(message) == b""
    assert data_of((await decrypt(server, await encrypt(client, b"next")))[1]) == b"next"


async def refused(client, message, status, *, qop=0, sequence=0):
    """Encrypting fails, and changes nothing: the next message is the peer's first."""
    before = [(bytes(buffer.pvBuffer or b""), buffer.BufferType) for buffer in message.pBuffers]
    assert await EncryptMessage(client.handle, qop, message, sequence) is status
    assert client.error.security_status is status
    assert [(bytes(buffer.pvBuffer or b""), buffer.BufferType) for buffer in message.pBuffers] == before


@pytest.mark.requirement("D5")
@pytest.mark.parametrize(("index", "room", "needed"), [(0, 4, 5), (2, 16, 17), (0, 0, 5), (2, 0, 17)])
async def test_a_buffer_that_is_too_small_says_how_large_it_must_be(index, room, needed):
    client, server = await contexts()
    message = plain(b"hello")
    message.pBuffers[index].pvBuffer = bytearray(room)
    await refused(client, message, TOO_SMALL)
    assert message.pBuffers[index].cbBuffer == needed
    message.pBuffers[index].pvBuffer = bytearray(needed)
    assert await EncryptMessage(client.handle, 0, message, 0) is OK
    assert client.error is None
    assert data_of((await decrypt(server, joined(message)))[1]) == b"hello"


@pytest.mark.requirement("D5")
@pytest.mark.parametrize(("index", "needed"), [(0, 5), (2, 17)])
async def test_the_count_of_header_and_trailer_is_their_room(index, needed):
    client, server = await contexts()
    message = plain(b"hello")
    message.pBuffers[index].cbBuffer = needed - 1
    await refused(client, message, TOO_SMALL)
    assert message.pBuffers[index].cbBuffer == needed
    assert await EncryptMessage(client.handle, 0, message, 0) is OK
    assert data_of((await decrypt(server, joined(message)))[1]) == b"hello"


@pytest.mark.parametrize("index", range(4))
async def test_a_negative_count_is_refused_and_nothing_is_lost(index):
    client, server = await contexts()
    message = plain(b"hello")
    message.pBuffers[index].cbBuffer = -1
    await refused(client, message, SecurityStatus.SEC_E_INVALID_PARAMETER)
    record = await encrypt(client, b"hello")
    received = SecBufferDesc([SecBuffer(SECBUFFER_DATA, bytearray(record)), SecBuffer(), SecBuffer(), SecBuffer()])
    received.pBuffers[index].cbBuffer = -1
    assert await DecryptMessage(server.handle, received, 0) is SecurityStatus.SEC_E_INVALID_PARAMETER
    assert data_of((await decrypt(server, record))[1]) == b"hello"


@pytest.mark.parametrize("index", range(3))
async def test_memory_that_was_released_is_a_type_error_and_nothing_is_lost(index):
    client, server = await contexts()
    message, memory = plain(b"hello"), memoryview(bytearray(99))
    message.pBuffers[index].pvBuffer = memory
    memory.release()
    with pytest.raises(TypeError, match="released"):
        await EncryptMessage(client.handle, 0, message, 0)
    received = SecBufferDesc([SecBuffer(SECBUFFER_DATA), SecBuffer(), SecBuffer(), SecBuffer()])
    received.pBuffers[0].pvBuffer = memory
    with pytest.raises(TypeError, match="released"):
        await DecryptMessage(server.handle, received, 0)
    assert data_of((await decrypt(server, await encrypt(client, b"hello")))[1]) == b"hello"


@pytest.mark.parametrize("index", range(4))
async def test_what_is_no_buffer_is_a_type_error_and_nothing_is_lost(index):
    client, server = await contexts()
    message = plain(b"hello")
    message.pBuffers[index] = b"hello"
    with pytest.raises(TypeError, match="expected SecBuffer, got bytes"):
        await EncryptMessage(client.handle, 0, message, 0)
    with pytest.raises(TypeError, match="expected SecBuffer, got bytes"):
        await DecryptMessage(server.handle, message, 0)
    assert data_of((await decrypt(server, await encrypt(client, b"hello")))[1]) == b"hello"


def without(message, index):
    del message.pBuffers[index]
    return message


def typed(message, index, buffer_type):
    message.pBuffers[index].BufferType = buffer_type
    return message


def swapped(message, *order):
    message.pBuffers[:] = [message.pBuffers[index] for index in order]
    return message


WRONG_BUFFERS = {
    "no data": (lambda: typed(plain(b"hello"), 1, SECBUFFER_TOKEN), INVALID_TOKEN),
    "no header": (lambda: typed(plain(b"hello"), 0, SECBUFFER_EMPTY), INVALID_TOKEN),
    "no trailer": (lambda: typed(plain(b"hello"), 2, SECBUFFER_EMPTY), INVALID_TOKEN),
    "no empty": (lambda: typed(plain(b"hello"), 3, SECBUFFER_DATA), INVALID_TOKEN),
    "order": (lambda: swapped(plain(b"hello"), 1, 0, 2, 3), INVALID_TOKEN),
    "read-only data": (lambda: typed(plain(b"hello"), 1, SECBUFFER_DATA | SECBUFFER_READONLY), INVALID_TOKEN),
    "three": (lambda: without(plain(b"hello"), 3), SecurityStatus.SEC_E_INVALID_PARAMETER),
    "none": (SecBufferDesc, SecurityStatus.SEC_E_INVALID_PARAMETER),
    "version": (lambda: SecBufferDesc(plain(b"hello").pBuffers, 1), INVALID_TOKEN),
    "too long": (lambda: plain(bytes(16_385)), SecurityStatus.SEC_E_INVALID_PARAMETER),
}


@pytest.mark.requirement("D3", "D4", "D5")
@pytest.mark.parametrize("case", WRONG_BUFFERS)
async def test_wrong_buffers_are_refused_and_left_alone(case):
    client, server = await contexts()
    make, status = WRONG_BUFFERS[case]
    await refused(client, make(), status)
    assert data_of((await decrypt(server, await encrypt(client, b"next")))[1]) == b"next"


@pytest.mark.requirement("D4")
@pytest.mark.parametrize("index", [0, 1, 2])
async def test_memory_that_cannot_be_written_is_a_type_error_before_anything_is_sent(index):
    client, server = await contexts()
    message = plain(b"hello")
    message.pBuffers[index].pvBuffer = bytes(64)
    with pytest.raises(TypeError):
        await EncryptMessage(client.handle, 0, message, 0)
    assert data_of((await decrypt(server, await encrypt(client, b"next")))[1]) == b"next"


@pytest.mark.requirement("D1", "D5")
@pytest.mark.parametrize("qop", [1, 0x80000000, SECQOP_WRAP_OOB_DATA | 1])
async def test_another_quality_of_protection_is_refused(qop):
    client, _ = await contexts()
    await refused(client, plain(b"hello"), SecurityStatus.SEC_E_QOP_NOT_SUPPORTED, qop=qop)


@pytest.mark.requirement("D1")
async def test_of_alerts_close_notify_can_be_sent(tls):
    client, server = await contexts(tls)
    message = plain(b"\x01\x00")
    assert await EncryptMessage(client.handle, SECQOP_WRAP_OOB_DATA, message, 0) is OK
    assert (await decrypt(server, joined(message)))[0] is EXPIRED
    assert await EncryptMessage(client.handle, 0, plain(b"hello"), 0) is SecurityStatus.SEC_E_CONTEXT_EXPIRED


@pytest.mark.requirement("D1", "D5")
@pytest.mark.parametrize("alert", [b"\x02\x28", b"\x01", b"\x01\x00\x00"])
async def test_any_other_alert_is_refused(alert):
    client, _ = await contexts()
    await refused(client, plain(alert), SecurityStatus.SEC_E_QOP_NOT_SUPPORTED, qop=SECQOP_WRAP_OOB_DATA)


@pytest.mark.requirement("D2")
async def test_messages_have_no_number():
    client, server = await contexts()
    await refused(client, plain(b"hello"), SecurityStatus.SEC_E_OUT_OF_SEQUENCE, sequence=1)
    record = await encrypt(client, b"hello")
    assert await DecryptMessage(server.handle, sealed(record), 1) is SecurityStatus.SEC_E_OUT_OF_SEQUENCE
    assert data_of((await decrypt(server, record))[1]) == b"hello"


@pytest.mark.requirement("D5")
async def test_after_shutdown_nothing_is_encrypted_and_everything_decrypted(tls):
    client, server = await contexts(tls)
    control = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, SCHANNEL_SHUTDOWN.to_bytes(4, "little"))])
    assert await ApplyControlToken(client.handle, control) is OK
    await refused(client, plain(b"hello"), SecurityStatus.SEC_E_CONTEXT_EXPIRED)
    assert (await decrypt(server, await client.call()))[0] is EXPIRED
    await refused(client, plain(b"hello"), SecurityStatus.SEC_E_CONTEXT_EXPIRED)
    assert data_of((await decrypt(client, await encrypt(server, b"goes on")))[1]) == b"goes on"


@pytest.mark.requirement("D5")
async def test_a_cipher_suite_that_does_not_encrypt_is_refused(monkeypatch):
    client, server = await contexts()
    record = await encrypt(server, b"hello")
    with monkeypatch.context() as patch:
        patch.setattr(core_tls.TLSSession, "cipher", "NULL-SHA256")
        await refused(client, plain(b"hello"), SecurityStatus.SEC_E_CRYPTO_SYSTEM_INVALID)
        assert (await decrypt(client, record))[0] is SecurityStatus.SEC_E_CRYPTO_SYSTEM_INVALID
    assert data_of((await decrypt(client, record))[1]) == b"hello"


@pytest.mark.requirement("D5", "D13")
@pytest.mark.parametrize("function", ["write", "read"])
async def test_memory_that_runs_out_ends_the_context(function, monkeypatch):
    client, server = await contexts()
    record = await encrypt(server, b"hello")

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(core_tls.TLSSession, function, fail)
        if function == "write":
            status = await EncryptMessage(client.handle, 0, plain(b"hello"), 0)
        else:
            status, _ = await decrypt(client, record)
    assert status is client.error.security_status is SecurityStatus.SEC_E_INSUFFICIENT_MEMORY
    assert await EncryptMessage(client.handle, 0, plain(b"hello"), 0) is INVALID_HANDLE


@pytest.mark.requirement("D5")
async def test_a_message_that_becomes_two_records_ends_the_context(monkeypatch):
    """As where the client negotiated shorter records (RFC 6066 4), which CPython does not tell."""
    client, _ = await contexts()
    write = core_tls.TLSSession.write

    def write_in_halves(session, plaintext):
        write(session, plaintext[:500])
        write(session, plaintext[500:])

    monkeypatch.setattr(core_tls.TLSSession, "write", write_in_halves)
    assert await EncryptMessage(client.handle, 0, plain(bytes(1000)), 0) is SecurityStatus.SEC_E_ENCRYPT_FAILURE
    assert await EncryptMessage(client.handle, 0, plain(bytes(1000)), 0) is INVALID_HANDLE


# --- both ---


async def test_tasks_of_one_loop_encrypt_and_decrypt_beside_each_other(tls):
    client, server = await contexts(tls)
    wires = {"to server": asyncio.Queue(), "to client": asyncio.Queue()}

    async def send(end, wire):
        for number in range(20):
            wire.put_nowait(await encrypt(end, b"message %d" % number))
            await asyncio.sleep(0)

    async def receive(end, wire):
        return [data_of((await decrypt(end, await wire.get()))[1]) for _ in range(20)]

    *_, at_client, at_server = await asyncio.gather(
        send(client, wires["to server"]),
        send(server, wires["to client"]),
        receive(client, wires["to client"]),
        receive(server, wires["to server"]),
    )
    assert at_client == at_server == [b"message %d" % number for number in range(20)]


@pytest.mark.requirement("D15")
async def test_a_context_that_is_not_complete_protects_no_messages():
    client, server = await pair()
    await client.call()
    for handle in (client.handle, server.handle, CtxtHandle()):
        assert await EncryptMessage(handle, 0, plain(b"hello"), 0) is INVALID_HANDLE
        assert await DecryptMessage(handle, sealed(b"\x17\x03\x03\x00\x01x"), 0) is INVALID_HANDLE


async def test_the_bare_shape_protects_no_messages():
    client, server = await contexts(package="TSSSP")
    for end in (client, server):
        unsupported = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
        assert await EncryptMessage(end.handle, 0, plain(b"hello"), 0) is unsupported
        assert (await decrypt(end, b"hello"))[0] is unsupported


async def test_wrong_python_types_are_type_errors():
    client, _ = await contexts()
    for call in (
        lambda: EncryptMessage(None, 0, plain(b"x"), 0),
        lambda: EncryptMessage(client.handle, "0", plain(b"x"), 0),
        lambda: EncryptMessage(client.handle, 0, [plain(b"x")], 0),
        lambda: DecryptMessage(client.handle, None),
        lambda: DecryptMessage(client.handle, sealed(b""), 0, 0),
        lambda: DecryptMessage(client.handle, SecBufferDesc([SecBuffer(SECBUFFER_DATA, b"x"), *[SecBuffer()] * 3])),
    ):
        with pytest.raises(TypeError):
            await call()


# --- DecryptMessage ---


@pytest.mark.requirement("D7", "D8")
async def test_the_buffers_become_the_parts_of_the_record_inside_the_input(tls):
    client, server = await contexts(tls)
    sizes = await stream_sizes(client)
    memory = bytearray(await encrypt(client, b"attack at dawn"))
    message = SecBufferDesc([SecBuffer(SECBUFFER_DATA, memory), SecBuffer(), SecBuffer(), SecBuffer()])
    quality = ULONG(7)
    assert await DecryptMessage(server.handle, message, 0, quality) is OK
    assert kinds(message) == [SECBUFFER_STREAM_HEADER, SECBUFFER_DATA, SECBUFFER_STREAM_TRAILER, SECBUFFER_EMPTY]
    assert [buffer.cbBuffer for buffer in message.pBuffers] == [sizes.cbHeader, 14, sizes.cbTrailer, 0]
    assert quality.value == 0
    data = message.pBuffers[1].pvBuffer
    assert bytes(data) == b"attack at dawn"
    memory[sizes.cbHeader : sizes.cbHeader + 6] = b"ATTACK"
    assert bytes(data) == b"ATTACK at dawn"


@pytest.mark.requirement("D8")
async def test_the_data_buffer_may_stand_anywhere_among_the_four():
    client, server = await contexts()
    record = bytearray(await encrypt(client, b"hello"))
    message = SecBufferDesc([SecBuffer(), SecBuffer(), SecBuffer(SECBUFFER_DATA, record), SecBuffer()])
    assert await DecryptMessage(server.handle, message, 0) is OK
    assert bytes(message.pBuffers[1]) == b"hello"


@pytest.mark.requirement("D8", "D14")
async def test_one_call_takes_one_record_and_the_rest_is_extra(tls):
    client, server = await contexts(tls)
    texts = [b"one", b"two", b"three"]
    received = b"".join([await encrypt(client, text) for text in texts])
    for text in texts:
        status, message = await decrypt(server, received)
        assert (status, data_of(message)) == (OK, text)
        rest = message.pBuffers[3]
        assert rest.BufferType == (SECBUFFER_EMPTY if text == b"three" else SECBUFFER_EXTRA)
        assert rest.pvBuffer is None
        received = received[len(received) - rest.cbBuffer :]
    assert rest.cbBuffer == 0


@pytest.mark.requirement("D10")
async def test_every_partial_record_says_what_is_missing_and_changes_nothing(tls):
    client, server = await contexts(tls)
    record = await encrypt(client, b"attack at dawn")
    message = sealed(b"")
    for size in range(len(record)):
        message.pBuffers[0].pvBuffer, message.pBuffers[0].cbBuffer = bytearray(record[:size]), size
        assert await DecryptMessage(server.handle, message, 0) is INCOMPLETE
        assert server.error is None
        missing = message.find(SECBUFFER_MISSING)
        assert missing.cbBuffer == (5 if size < 5 else len(record)) - size
        assert bytes(message.find(SECBUFFER_DATA)) == record[:size]
    message.pBuffers[0].pvBuffer, message.pBuffers[0].cbBuffer = bytearray(record), len(record)
    assert await DecryptMessage(server.handle, message, 0) is OK
    assert data_of(message) == b"attack at dawn"


@pytest.mark.requirement("D8", "D10", "D14")
@pytest.mark.parametrize("seed", range(3))
async def test_a_stream_in_any_cut_is_read_by_missing_and_extra_alone(tls, seed):
    client, server = await contexts(tls)
    texts = [bytes([number]) * number * 7 for number in range(1, 40)]
    stream = b"".join([await encrypt(client, text) for text in texts])
    cut, held, missing, got = random_cuts(seed), b"", 0, []
    while stream or not missing:
        if missing:
            piece = cut(stream, missing)
            held, stream, missing = held + piece, stream[len(piece) :], max(0, missing - len(piece))
            continue
        status, message = await decrypt(server, held)
        if status is INCOMPLETE:
            missing = message.find(SECBUFFER_MISSING).cbBuffer
        else:
            got.append(data_of(message))
            extra = message.find(SECBUFFER_EXTRA)
            held = held[len(held) - (extra.cbBuffer if extra else 0) :]
    assert got == texts


@pytest.mark.requirement("D7", "D13")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda record: without(sealed(record), 3),
        lambda record: typed(sealed(record), 0, SECBUFFER_TOKEN),
        lambda record: typed(sealed(record), 0, SECBUFFER_DATA | SECBUFFER_READONLY),
        lambda record: typed(sealed(record), 2, SECBUFFER_DATA),
        lambda record: typed(sealed(record), 2, SECBUFFER_STREAM_HEADER),
        lambda record: SecBufferDesc([*sealed(record).pBuffers, SecBuffer()]),
        lambda record: SecBufferDesc(sealed(record).pBuffers, 1),
        lambda record: sealed(b"GET / HTTP/1.1\r\n"),
        lambda record: sealed(b"\x17\x03\x03\xff\xff"),
    ],
)
async def test_wrong_buffers_and_what_is_no_record_change_nothing(wrong):
    client, server = await contexts()
    record = await encrypt(client, b"hello")
    assert await DecryptMessage(server.handle, wrong(record), 0) is INVALID_TOKEN
    assert data_of((await decrypt(server, record))[1]) == b"hello"


@pytest.mark.requirement("D13")
async def test_a_record_is_as_long_as_its_version_allows(tls):
    client, server = await contexts(tls)
    longest = {"TLSv1.2": 16_384 + 2_048, "TLSv1.3": 16_384 + 256}[tls]
    assert (await decrypt(server, b"\x17\x03\x03" + longest.to_bytes(2, "big")))[0] is INCOMPLETE
    assert (await decrypt(server, b"\x17\x03\x03" + (longest + 1).to_bytes(2, "big")))[0] is INVALID_TOKEN
    assert data_of((await decrypt(server, await encrypt(client, b"hello")))[1]) == b"hello"


@pytest.mark.requirement("D13")
async def test_an_altered_record_ends_the_context_and_leaves_the_alert_to_the_next_call(tls):
    client, server = await contexts(tls)
    record = bytearray(await encrypt(client, b"attack at dawn"))
    record[20] ^= 1
    message = sealed(record)
    memory = message.pBuffers[0].pvBuffer
    assert await DecryptMessage(server.handle, message, 0) is SecurityStatus.SEC_E_MESSAGE_ALTERED
    memory += b"can be resized: no view is left behind"
    assert (await decrypt(server, record))[0] is INVALID_HANDLE
    assert await EncryptMessage(server.handle, 0, plain(b"hello"), 0) is INVALID_HANDLE
    alert = await server.call()
    assert server.status is SecurityStatus.SEC_E_MESSAGE_ALTERED
    status, _ = await decrypt(client, alert)
    assert status is SecurityStatus.SEC_E_MESSAGE_ALTERED


@pytest.mark.requirement("D13")
async def test_a_record_that_comes_twice_is_an_altered_one(tls):
    client, server = await contexts(tls)
    record = await encrypt(client, b"hello")
    assert (await decrypt(server, record))[0] is OK
    assert (await decrypt(server, record))[0] is SecurityStatus.SEC_E_MESSAGE_ALTERED


ALERTS = {
    20: SecurityStatus.SEC_E_MESSAGE_ALTERED,
    40: SecurityStatus.SEC_E_ILLEGAL_MESSAGE,
    49: SecurityStatus.SEC_E_LOGON_DENIED,
    51: SecurityStatus.SEC_E_DECRYPT_FAILURE,
    80: SecurityStatus.SEC_E_INTERNAL_ERROR,
}


@pytest.mark.requirement("D13")
@pytest.mark.parametrize("alert", ALERTS)
async def test_an_alert_of_the_peers_has_its_status(tls, alert, forged):
    _, server, from_client, _ = await forged(tls)
    assert (await decrypt(server, from_client.seal(ALERT, bytes((2, alert)))))[0] is ALERTS[alert]


@pytest.mark.requirement("D11")
async def test_close_notify_of_the_peer_is_said_again_and_again(tls):
    client, server = await contexts(tls)
    peer = client.handle.state.context.tls
    peer.close()
    received = peer.output() + b"in clear"
    status, message = await decrypt(server, received)
    assert (status, data_of(message)) == (EXPIRED, b"")
    assert (message.pBuffers[3].BufferType, message.pBuffers[3].cbBuffer) == (SECBUFFER_EXTRA, 8)
    assert server.error is None
    status, message = await decrypt(server, b"in clear")
    assert (status, message.pBuffers[3].cbBuffer) == (EXPIRED, 8)
    assert peer.read(await encrypt(server, b"our direction is open")) == b"our direction is open"


# --- what is not application data ---


@pytest.mark.requirement("D9", "D12")
async def test_a_ticket_is_taken_in_silently(forged):
    client, _, _, from_server = await forged("TLSv1.3")
    status, message = await decrypt(client, from_server.seal(HANDSHAKE, TICKET) + from_server.seal(23, b"data"))
    assert (status, data_of(message)) == (OK, b"")
    assert message.pBuffers[3].BufferType == SECBUFFER_EXTRA


@pytest.mark.requirement("D9")
async def test_an_empty_record_is_an_empty_message(tls, forged):
    _, server, from_client, _ = await forged(tls)
    before = await stream_sizes(server)
    assert (await decrypt(server, from_client.seal(APPLICATION_DATA, b"")))[0] is OK
    assert await stream_sizes(server) == before
    status, message = await decrypt(server, from_client.seal(APPLICATION_DATA, b"then"))
    assert (status, data_of(message)) == (OK, b"then")


@pytest.mark.requirement("D12")
async def test_a_key_update_without_a_request_is_taken_in_silently(forged):
    _, server, from_client, from_server = await forged("TLSv1.3")
    assert (await decrypt(server, from_client.seal(HANDSHAKE, KEY_UPDATE)))[0] is OK
    from_client.update()
    assert data_of((await decrypt(server, from_client.seal(APPLICATION_DATA, b"new key")))[1]) == b"new key"
    assert from_server.open(await encrypt(server, b"old key")) == (APPLICATION_DATA, b"old key")


@pytest.mark.requirement("D12")
async def test_the_answer_to_a_key_update_goes_in_front_of_the_next_message(forged):
    _, server, from_client, from_server = await forged("TLSv1.3")
    before = await stream_sizes(server)
    status, message = await decrypt(server, from_client.seal(HANDSHAKE, KEY_UPDATE_AND_ANSWER))
    assert (status, data_of(message)) == (OK, b"")
    sizes = await stream_sizes(server)
    assert sizes.cbHeader > before.cbHeader
    short = plain(b"hello", before.cbHeader, before.cbTrailer)
    await refused(server, short, TOO_SMALL)
    assert short.pBuffers[0].cbBuffer == sizes.cbHeader
    answer, record = split(await encrypt(server, b"hello"))
    assert from_server.open(answer) == (HANDSHAKE, KEY_UPDATE)
    from_server.update()
    assert from_server.open(record) == (APPLICATION_DATA, b"hello")
    assert await stream_sizes(server) == before


@pytest.mark.requirement("D12")
@pytest.mark.parametrize("side", ["client", "server"])
async def test_the_answer_to_a_key_update_can_be_had_from_isc_and_asc(forged, side):
    client, server, from_client, from_server = await forged("TLSv1.3")
    end, theirs, ours = (client, from_server, from_client) if side == "client" else (server, from_client, from_server)
    before = await stream_sizes(end)
    assert (await decrypt(end, theirs.seal(HANDSHAKE, KEY_UPDATE_AND_ANSWER)))[0] is OK
    answer = await end.call()
    assert end.status is OK
    assert ours.open(answer) == (HANDSHAKE, KEY_UPDATE)
    ours.update()
    assert await stream_sizes(end) == before
    message = plain(b"hello", before.cbHeader, before.cbTrailer)
    assert await EncryptMessage(end.handle, 0, message, 0) is OK
    assert ours.open(joined(message)) == (APPLICATION_DATA, b"hello")


@pytest.mark.requirement("D12")
async def test_many_key_updates_are_answered_in_order(forged):
    _, server, from_client, from_server = await forged("TLSv1.3")
    for _ in range(30):
        assert (await decrypt(server, from_client.seal(HANDSHAKE, KEY_UPDATE_AND_ANSWER)))[0] is OK
        from_client.update()
    *answers, record = split(await encrypt(server, b"hello"))
    assert answers
    for answer in answers:
        assert from_server.open(answer) == (HANDSHAKE, KEY_UPDATE)
        from_server.update()
    assert from_server.open(record) == (APPLICATION_DATA, b"hello")


async def test_a_peer_that_keeps_asking_for_renegotiation_ends_the_context(forged):
    client, _, _, from_server = await forged("TLSv1.2")
    statuses = [(await decrypt(client, from_server.seal(HANDSHAKE, HELLO_REQUEST)))[0] for _ in range(600)]
    assert statuses[:500] == [OK] * 500
    assert statuses.count(SecurityStatus.SEC_E_ILLEGAL_MESSAGE) == 1
    assert statuses[-1] is INVALID_HANDLE


@pytest.mark.requirement("D12")
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_renegotiation_is_refused_and_the_context_goes_on(forged, side):
    client, server, from_client, from_server = await forged("TLSv1.2")
    if side == "client":
        end, theirs, ours, request = client, from_server, from_client, HELLO_REQUEST
    else:
        end, theirs, ours, request = server, from_client, from_server, client_hello()
    status, message = await decrypt(end, theirs.seal(HANDSHAKE, request))
    assert (status, data_of(message)) == (OK, b"")
    refusal, record = split(await encrypt(end, b"hello"))
    assert ours.open(refusal) == (ALERT, NO_RENEGOTIATION)
    assert ours.open(record) == (APPLICATION_DATA, b"hello")
    assert data_of((await decrypt(end, theirs.seal(APPLICATION_DATA, b"goes on")))[1]) == b"goes on"


def client_hello():
    """The handshake message of a real one."""
    session = core_tls.TLSSession(client_context(tls_policy("TLSv1.2")), server_side=False)
    session.handshake()
    return session.output()[5:]


# --- what came with the handshake ---


async def half_way(client, server):
    """Everything but the client's last token, which is returned, behind the flights."""
    server_feed, last = server.feed, []

    async def feed(piece):
        if not client.done:
            return await server_feed(piece)
        last.append(piece)
        return []

    server.feed = feed
    flights = await talk(client, server)
    server.feed = server_feed
    assert (client.status, server.status) == (OK, SecurityStatus.SEC_I_CONTINUE_NEEDED)
    return flights, b"".join(last)


@pytest.mark.requirement("D8")
async def test_plaintext_behind_the_credentials_in_their_record_is_what_comes_first(tls, tmp_path):
    policy = tls_policy(tls)
    context = client_context(policy)
    context.keylog_filename = str(tmp_path / "keys")
    client, server = await pair(client_config(policy, ssl_context=context), server_config(policy))
    flights, last = await half_way(client, server)
    from_client, _ = directions(await asyncio.to_thread((tmp_path / "keys").read_text, "ascii"), flights)
    from_client.sequence -= 1
    _, credentials = from_client.open(last)
    from_client.sequence -= 1
    await server.feed(from_client.seal(APPLICATION_DATA, credentials + b"first bytes"))
    assert server.status is OK, server.error
    record = from_client.seal(APPLICATION_DATA, b"next")
    status, message = await decrypt(server, record)
    assert (status, data_of(message)) == (OK, b"first bytes")
    assert kinds(message) == [SECBUFFER_STREAM_HEADER, SECBUFFER_DATA, SECBUFFER_STREAM_TRAILER, SECBUFFER_EXTRA]
    assert message.pBuffers[3].cbBuffer == len(record)
    assert data_of((await decrypt(server, record))[1]) == b"next"


@pytest.mark.requirement("D8", "D10")
async def test_a_call_with_empty_input_asks_whether_something_came_first():
    client, server = await contexts()
    status, message = await decrypt(server)
    assert (status, message.find(SECBUFFER_MISSING).cbBuffer) == (INCOMPLETE, 5)
    assert data_of((await decrypt(server, await encrypt(client, b"then")))[1]) == b"then"


@pytest.mark.requirement("D8", "D10", "D14")
@pytest.mark.parametrize("kept", [0, 1, 4, 5, 20, 30, 45, 50, 60, 70])
async def test_input_that_asc_could_not_report_comes_before_what_is_given(tls, kept):
    policy = tls_policy(tls)
    client, server = await pair(client_config(policy), server_config(policy), spare=False)
    _, last = await half_way(client, server)
    texts = [b"one", b"two", b"three"]
    stream = b"".join([await encrypt(client, text) for text in texts])
    await server.feed(last + stream[:kept])
    assert server.status is OK, server.error
    got, given = [], stream[kept:]
    while len(got) < len(texts):
        status, message = await decrypt(server, given)
        assert status is OK
        got.append(data_of(message))
        given = given[len(given) - message.pBuffers[3].cbBuffer :]
    assert got == texts
    assert (await decrypt(server, given))[0] is INCOMPLETE


@pytest.mark.requirement("D10")
async def test_a_partial_record_over_kept_and_given_input_is_counted_whole(tls):
    policy = tls_policy(tls)
    client, server = await pair(client_config(policy), server_config(policy), spare=False)
    _, last = await half_way(client, server)
    record = await encrypt(client, b"attack at dawn")
    await server.feed(last + record[:7])
    for given in (b"", record[7:8], record[7:-1]):
        status, message = await decrypt(server, given)
        assert status is INCOMPLETE
        assert message.find(SECBUFFER_MISSING).cbBuffer == len(record) - 7 - len(given)
    assert data_of((await decrypt(server, record[7:]))[1]) == b"attack at dawn"


def test_nothing_of_a_message_is_in_a_repr():
    assert "attack" not in repr(plain(b"attack at dawn")) + repr(plain(b"attack at dawn").pBuffers)

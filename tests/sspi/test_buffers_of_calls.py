"""The buffers of InitializeSecurityContext and AcceptSecurityContext: MISSING, EXTRA, memory, and nothing lost."""

import pytest
from support.endpoints import client_config, server_config, tls_policy
from support.engine import CUTS
from support.logon import records
from support.sspi import (
    CERTIFICATE_DER,
    CLIENT_FLAGS,
    CONTINUE,
    INCOMPLETE,
    OK,
    SERVER_FLAGS,
    TOO_SMALL,
    Client,
    Server,
    inbound,
    outbound,
    pair,
    talk,
)

from acredssp.core.tls import TLSSession
from acredssp.sspi import (
    ASC_REQ_ALLOCATE_MEMORY,
    ISC_REQ_ALLOCATE_MEMORY,
    SECBUFFER_EMPTY,
    SECBUFFER_EXTRA,
    SECBUFFER_MISSING,
    SECBUFFER_READONLY,
    SECBUFFER_TOKEN,
    FreeContextBuffer,
    InitializeSecurityContext,
    SecBuffer,
    SecBufferDesc,
    SecurityStatus,
)

PACKAGES = ["CREDSSP", "TSSSP"]
TLS = ["TLSv1.2", "TLSv1.3"]


async def hello():
    """A client that has said its first word, and a server that has not heard it."""
    client, server = await pair()
    return client, server, await client.call()


def spare_of(caller):
    """The second buffer of the last call: its type and its count."""
    spare = caller.input.pBuffers[1]
    return spare.BufferType, spare.cbBuffer, spare.pvBuffer


# --- MISSING, EXTRA, EMPTY ---


@pytest.mark.requirement("R39", "R41", "R42", "R43", "R44", "R59", "A7", "A22")
@pytest.mark.parametrize("package", PACKAGES)
async def test_missing_is_exact_and_nothing_is_taken(package):
    """One byte less than asked for is asked for again; with exactly that many the call goes on."""
    client, server = await pair(package=package)
    arrived, token = b"", await client.call()
    counts = []
    while server.status is not CONTINUE:
        assert not await server.call(arrived)
        assert server.received == arrived
        if server.status is INCOMPLETE:
            assert spare_of(server) == (SECBUFFER_MISSING, server.missing, None)
            counts.append(server.missing)
            short = token[: len(arrived) + server.missing - 1]
            wanted = len(arrived) + server.missing
            if short != arrived:
                await server.call(short)
                assert (server.status, server.missing) == (INCOMPLETE, 1)
            arrived = token[:wanted]
            if wanted == len(token):
                break
    assert counts[0] == (5 if package == "CREDSSP" else 2)
    answer = await server.call(token)
    assert (server.status, spare_of(server)) == (CONTINUE, (SECBUFFER_EMPTY, 0, None))
    await client.feed(answer)
    assert client.status is CONTINUE


@pytest.mark.requirement("A19", "R59")
@pytest.mark.parametrize("package", PACKAGES)
async def test_what_is_behind_is_extra_and_is_given_again(package):
    """In the bare shape a second message is not the peer's to send yet; the count is there all the same."""
    client, server = await pair(package=package)
    token = await client.call()
    answer = await server.call(token + b"\x17\x03\x03")
    assert (server.status, spare_of(server)) == (CONTINUE, (SECBUFFER_EXTRA, 3, None))
    assert answer


async def test_whole_records_in_front_are_taken_and_the_partial_one_is_extra():
    client, server, token = await hello()
    flight = await server.call(token)
    first = len(records(flight)[0])
    assert not await client.call(flight[: first + 3])
    assert (client.status, spare_of(client)) == (CONTINUE, (SECBUFFER_EXTRA, 3, None))
    assert not await client.call(flight[first : first + 3])
    assert (client.status, client.missing) == (INCOMPLETE, 2)
    assert not await client.call(flight[first : first + 5])
    assert (client.status, client.missing) == (INCOMPLETE, len(records(flight)[1]) - 5)
    assert await client.call(flight[first:])
    assert client.status is CONTINUE


@pytest.mark.requirement("R59", "R63")
@pytest.mark.interpreted_only("replaces methods of a class")
@pytest.mark.parametrize("tls", TLS)
async def test_a_message_over_several_records_is_taken_record_by_record(monkeypatch, tls):
    """Each whole record is taken and never asked for again; the answer comes with the last."""
    client, server = await pair(client_config(tls_policy(tls)), server_config(tls_policy(tls)))
    encrypt = TLSSession.encrypt

    def encrypt_in_three(session, plaintext):
        return b"".join([encrypt(session, piece) for piece in (plaintext[:1], plaintext[1:9], plaintext[9:])])

    monkeypatch.setattr(TLSSession, "encrypt", encrypt_in_three)
    token, flights = await client.call(), []
    while token:
        flights.append([])
        for record in records(token):
            answer = await server.call(record)
            assert spare_of(server) == (SECBUFFER_EMPTY, 0, None)
            flights[-1].append((server.status, bool(answer)))
        token = b"".join(await client.feed(answer)) if answer else b""
    taken, answered = (CONTINUE, False), (CONTINUE, True)
    negotiate, authenticate, credentials = flights[-3:]
    assert negotiate[-3:] == authenticate == [taken, taken, answered]
    assert credentials == [taken, taken, (OK, False)]
    assert client.status is OK


@pytest.mark.requirement("R44")
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("tls", TLS)
async def test_without_a_second_buffer_the_surplus_is_kept(tls, cut):
    policy = tls_policy(tls)
    client, server = await pair(client_config(policy), server_config(policy), spare=False)
    await talk(client, server, CUTS[cut])
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)


@pytest.mark.requirement("R44")
async def test_a_kept_surplus_goes_in_front_of_what_comes_next_and_only_its_own_input_is_reported():
    """The surplus of a call without a second buffer, then calls with one: what is reported is the caller's own."""
    client, server, token = await hello()
    flight = await server.call(token)
    first = len(records(flight)[0])
    client.spare = False
    await client.call(flight[: first + 3])
    assert client.status is CONTINUE
    await client.call(flight[first + 3 : first + 4])  # four bytes of a header: nothing can be done
    assert client.status is INCOMPLETE
    client.spare = True
    await client.call(flight[first + 3 : first + 4])
    assert (client.status, client.missing) == (INCOMPLETE, 1)
    await client.call(flight[first + 3 : first + 5])
    assert (client.status, client.missing) == (INCOMPLETE, len(records(flight)[1]) - 5)
    assert await client.call(flight[first + 3 :])
    assert spare_of(client) == (SECBUFFER_EMPTY, 0, None)


@pytest.mark.requirement("R44")
async def test_no_more_is_extra_than_the_call_was_given():
    """What is left of a kept surplus stays kept: a caller can only give again what is in its own input."""
    policy = tls_policy("TLSv1.2")
    client = Client(await outbound(client_config(policy)))
    server = TLSSession(server_config(policy).ssl_context, server_side=True)
    server.handshake(await client.call())
    server.handshake(await client.call(server.output()))
    server.write(b"\x30\x20")
    client.spare = False
    flight = server.output()
    server.write(b"\xa0")
    record = server.output()
    assert await client.call(flight + record[:2])  # ends with the handshake; a whole record and two bytes are kept
    client.spare = True
    assert await client.call(record[2:3]) == b""
    assert (client.status, spare_of(client)) == (CONTINUE, (SECBUFFER_EXTRA, 1, None))
    assert await client.call(record[2:]) == b""
    assert client.status is CONTINUE
    assert client.received == b""


# --- memory ---


@pytest.mark.requirement("R20", "R50", "R51", "R75", "R87", "A8")
@pytest.mark.parametrize("package", PACKAGES)
async def test_memory_is_allocated_and_freed(package):
    client, server = await pair(package=package)
    token = b""
    for caller, data in ((client, b""), (server, b""), (server, None)):
        output = SecBuffer(SECBUFFER_TOKEN)
        caller.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token if data is None else data), SecBuffer()])
        status = await caller.invoke(SecBufferDesc([output]))
        token = bytes(output) or token
        assert output.allocated
        assert len(output.pvBuffer or b"") == output.cbBuffer
        assert (output.cbBuffer == 0) is (status is INCOMPLETE)
        assert await FreeContextBuffer(output) is OK
        assert (output.pvBuffer, output.cbBuffer) == (None, 0)


@pytest.mark.requirement("R48", "R51", "A8", "A18")
@pytest.mark.parametrize("cut", ["whole", "random_1"])
@pytest.mark.parametrize("package", PACKAGES)
async def test_a_callers_own_memory_that_is_too_small_loses_nothing(package, cut):
    """Every token, the last one too, is asked for twice in vain and then had: the memory begins at nothing."""
    client, server = await pair(package=package)
    client.flags = CLIENT_FLAGS & ~ISC_REQ_ALLOCATE_MEMORY
    server.flags = SERVER_FLAGS & ~ASC_REQ_ALLOCATE_MEMORY
    refusals = [await shy(client), await shy(server)]
    await talk(client, server, CUTS[cut])
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert all(len(sizes) >= 2 for sizes in refusals)


async def shy(caller):
    """Have a caller give too little memory for each token, twice; the sizes that it was told."""
    sizes, invoke = [], caller.invoke

    async def twice(output):
        buffer = output.pBuffers[0]
        buffer.pvBuffer = None
        status = await invoke(output)
        if status is not TOO_SMALL:
            return status
        sizes.append(buffer.cbBuffer)
        buffer.pvBuffer = bytearray(buffer.cbBuffer - 1)
        assert await invoke(output) is TOO_SMALL
        assert buffer.cbBuffer == sizes[-1]
        assert not any(buffer.pvBuffer)
        buffer.pvBuffer = bytearray(buffer.cbBuffer + 3)
        return await invoke(output)

    caller.invoke = twice
    return sizes


@pytest.mark.requirement("R51")
async def test_more_may_arrive_before_memory_is_large_enough():
    _client, server, token = await hello()
    server.flags = SERVER_FLAGS & ~ASC_REQ_ALLOCATE_MEMORY
    output = SecBuffer(SECBUFFER_TOKEN)
    server.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token + b"\x16"), SecBuffer()])
    assert await server.invoke(SecBufferDesc([output])) is TOO_SMALL
    output.pvBuffer = bytearray(output.cbBuffer)
    server.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token + b"\x16\x03\x03"), SecBuffer()])
    assert await server.invoke(SecBufferDesc([output])) is CONTINUE
    assert spare_of(server) == (SECBUFFER_EXTRA, 3, None)


@pytest.mark.requirement("R51")
async def test_memory_that_is_too_small_has_its_error_on_the_handle():
    _client, server, token = await hello()
    server.flags = SERVER_FLAGS & ~ASC_REQ_ALLOCATE_MEMORY
    memory = bytearray(20_000)
    output = SecBuffer(SECBUFFER_TOKEN, memory, 9)  # the count is the room, whatever is behind it
    server.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token), SecBuffer()])
    assert await server.invoke(SecBufferDesc([output])) is TOO_SMALL
    assert memory == bytes(20_000)
    assert server.handle.error.security_status is TOO_SMALL
    assert f"{output.cbBuffer} bytes" in str(server.handle.error)
    assert await server.invoke(SecBufferDesc([output])) is CONTINUE
    assert server.handle.error is None


async def too_small():
    """A client whose second token waits for memory, with three bytes of its input not taken; and its server."""
    client, server, token = await hello()
    client.flags = CLIENT_FLAGS & ~ISC_REQ_ALLOCATE_MEMORY
    flight = await server.call(token)
    given, behind = flight + b"\x17\x03\x03", b"\x00\x21\x55"
    client.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, given), SecBuffer()])
    assert await client.invoke(SecBufferDesc([SecBuffer(SECBUFFER_TOKEN)])) is TOO_SMALL
    return client, given, behind


@pytest.mark.requirement("R44", "R51")
@pytest.mark.parametrize("spare", [True, False], ids=["spare", "no_spare"])
@pytest.mark.parametrize(
    ("repeated", "extra", "kept"),
    [
        pytest.param(lambda given, _: given, 3, b"", id="the_same"),
        pytest.param(lambda given, behind: given + behind, 6, b"", id="more_of_it"),
        pytest.param(lambda given, _: given[:-1], 2, b"", id="less_of_it"),
        pytest.param(lambda given, _: given[:-3], 0, b"", id="what_was_taken"),
        pytest.param(lambda _, behind: behind, 3, b"\x17\x03\x03", id="other_input"),
        pytest.param(lambda given, behind: behind * len(given), None, b"\x17\x03\x03", id="much_other_input"),
        pytest.param(lambda *_: b"", 0, b"\x17\x03\x03", id="none"),
    ],
)
async def test_a_repeated_call_loses_nothing_of_its_input(repeated, extra, kept, spare):
    """The input of the first call and what follows it, or only what comes after the first call's."""
    client, given, behind = await too_small()
    data = repeated(given, behind)
    extra = len(data) if extra is None else extra
    for room, due in ((0, TOO_SMALL), (20_000, CONTINUE)):  # too small once more, which changes nothing
        client.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, data), SecBuffer()][: 1 + spare])
        output = SecBuffer(SECBUFFER_TOKEN, bytearray(20_000), room)
        assert await client.invoke(SecBufferDesc([output])) is due
    assert output.cbBuffer
    if spare:
        assert spare_of(client) == (SECBUFFER_EXTRA if extra else SECBUFFER_EMPTY, extra, None)
        assert client.handle.state.unfinished.surplus == kept
    else:
        assert client.handle.state.unfinished.surplus == kept + data[len(data) - extra :]


@pytest.mark.requirement("R44", "R51")
@pytest.mark.parametrize("left_out", [1, 100, "all but one"])
@pytest.mark.parametrize("spare", [True, False], ids=["spare", "no_spare"])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_repeated_call_with_less_than_was_taken_is_refused_and_changes_nothing(side, spare, left_out):
    """It would be told that what it left out is still to come, and give that twice."""
    client, server, token = await hello()
    caller, taken = (server, token) if side == "server" else (client, await server.call(token))
    caller.flags &= ~ISC_REQ_ALLOCATE_MEMORY
    less = taken[:1] if left_out == "all but one" else taken[:-left_out]
    statuses = []
    for data, room in ((taken, 10), (less, 20_000), (taken + b"\x17", 20_000)):
        caller.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, data), SecBuffer()][: 1 + spare])
        output = SecBuffer(SECBUFFER_TOKEN, bytearray(20_000), room)
        statuses.append(await caller.invoke(SecBufferDesc([output])))
        if data is less:
            assert f"got only the first {len(less)}" in str(caller.handle.error)
            assert output.cbBuffer == 0
    assert statuses == [TOO_SMALL, SecurityStatus.SEC_E_INVALID_PARAMETER, CONTINUE]
    assert output.cbBuffer
    if spare:
        assert spare_of(caller) == (SECBUFFER_EXTRA, 1, None)


async def exchange_with(server, token, pInput=None, output=None):
    """One call of a server's with a hello, in the usual buffers but for those that are given."""
    usual = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token), SecBuffer()])
    server.input = usual if pInput is None else SecBufferDesc(pInput)
    return await server.invoke(SecBufferDesc([SecBuffer(SECBUFFER_TOKEN)] if output is None else output))


def released(buffer_type=SECBUFFER_TOKEN):
    """A buffer whose memory is gone."""
    memory = memoryview(bytearray(20_000))
    buffer = SecBuffer(buffer_type, memory)
    memory.release()
    return buffer


WRONG_INPUTS = {
    "released": lambda _: [released(), SecBuffer()],
    "released, alone": lambda _: [released()],
    "released, beside the token": lambda token: [SecBuffer(SECBUFFER_TOKEN, token), SecBuffer(), released(99)],
    "released certificate": lambda token: [
        SecBuffer(SECBUFFER_TOKEN, token), released(SECBUFFER_TOKEN | SECBUFFER_READONLY),
    ],
    "no buffer in front": lambda token: [token, SecBuffer()],
    "no buffer behind": lambda token: [SecBuffer(SECBUFFER_TOKEN, token), None],
    "no buffer at the end": lambda token: [SecBuffer(SECBUFFER_TOKEN, token), SecBuffer(), b""],
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_INPUTS)
@pytest.mark.parametrize("package", PACKAGES)
async def test_an_input_that_is_none_is_a_type_error_and_breaks_nothing(kind, package):
    client, server = await pair(package=package)
    token = await client.call()
    await exchange_with(server, token[:1])
    with pytest.raises(TypeError, match="expected"):
        await exchange_with(server, token, pInput=WRONG_INPUTS[kind](token))
    await client.feed(await server.call(token))
    assert (client.status, server.status) == (CONTINUE, CONTINUE)


@pytest.mark.parametrize(
    "output", [[released()], [None], [SecBuffer(SECBUFFER_TOKEN, bytearray(20_000)), b""], [SecBuffer(), released()]]
)
async def test_an_output_that_is_none_is_a_type_error_and_the_token_waits(output):
    client, server, token = await hello()
    server.flags = SERVER_FLAGS & ~ASC_REQ_ALLOCATE_MEMORY
    with pytest.raises(TypeError, match="expected"):
        await exchange_with(server, token, output=output)
    await client.feed(await server.call(token))
    assert (client.status, server.status) == (CONTINUE, CONTINUE)


@pytest.mark.parametrize("where", ["token", "spare", "other", "output"])
async def test_a_negative_count_is_refused_and_changes_nothing(where):
    client, server, token = await hello()
    buffers = {
        "token": SecBuffer(SECBUFFER_TOKEN, token), "spare": SecBuffer(), "other": SecBuffer(99),
        "output": SecBuffer(SECBUFFER_TOKEN, bytearray(20_000)),
    }  # fmt: skip
    *inputs, output = buffers.values()
    for given in (inputs, inputs[:2]) if where != "other" else (inputs,):
        buffers[where].cbBuffer = -1
        status = await exchange_with(server, token, pInput=given, output=[output])
        assert status is SecurityStatus.SEC_E_INVALID_PARAMETER
        assert "cbBuffer: expected 0 or more, got -1" in str(server.handle.error)
    await client.feed(await server.call(token))
    assert (client.status, server.status) == (CONTINUE, CONTINUE)


@pytest.mark.requirement("R48")
@pytest.mark.parametrize("descriptor", [None, SecBufferDesc([])])
async def test_without_an_output_buffer_the_token_waits(descriptor):
    client, server, token = await hello()
    server.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token), SecBuffer()])
    assert await server.invoke(descriptor) is TOO_SMALL
    output = SecBuffer(SECBUFFER_TOKEN)
    assert await server.invoke(SecBufferDesc([output])) is CONTINUE
    await client.feed(bytes(output))
    assert client.status is CONTINUE


async def test_where_nothing_is_to_be_said_no_output_buffer_is_needed():
    _client, server, token = await hello()
    server.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token[:9]), SecBuffer()])
    assert await server.invoke(None) is INCOMPLETE


@pytest.mark.parametrize("memory", [None, bytearray(b"garbage of the caller's")])
async def test_an_old_token_is_not_taken_for_a_new_one(memory):
    """Where nothing is to be sent the count is 0, also beside a failure."""
    client, _server, _token = await hello()
    client.flags = CLIENT_FLAGS & ~ISC_REQ_ALLOCATE_MEMORY
    for data, status in ((b"", INCOMPLETE), (b"\xff" * 9, SecurityStatus.SEC_E_INVALID_TOKEN)):
        output = SecBuffer(SECBUFFER_TOKEN, memory)
        client.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, data), SecBuffer()])
        got = await client.invoke(SecBufferDesc([output]))
        assert got is status
        assert output.cbBuffer == 0
    wrong = SecBuffer(SECBUFFER_TOKEN, bytearray(99))
    got = await InitializeSecurityContext(client.credential, client.handle, Reserved1=1, pOutput=SecBufferDesc([wrong]))
    assert got is SecurityStatus.SEC_E_INVALID_PARAMETER
    assert wrong.cbBuffer == 0


async def test_memory_that_cannot_be_written_is_a_type_error_and_the_token_waits():
    _client, server, token = await hello()
    server.flags = SERVER_FLAGS & ~ASC_REQ_ALLOCATE_MEMORY
    server.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token), SecBuffer()])
    with pytest.raises(TypeError, match="cannot be written"):
        await server.invoke(SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, bytes(20_000))]))
    output = SecBuffer(SECBUFFER_TOKEN, bytearray(20_000))
    assert await server.invoke(SecBufferDesc([output])) is CONTINUE
    assert output.cbBuffer > 0


@pytest.mark.requirement("R43", "A7")
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("attributes", [0, SECBUFFER_READONLY])
async def test_input_is_any_memory_and_only_read(kind, attributes):
    _client, server, token = await hello()
    memory = kind(bytes(token) + b"behind")
    buffer = SecBuffer(SECBUFFER_TOKEN | attributes, memory, len(token))
    server.input = SecBufferDesc([buffer, SecBuffer()])
    assert await server.invoke(SecBufferDesc([SecBuffer(SECBUFFER_TOKEN)])) is CONTINUE
    assert (buffer.pvBuffer, buffer.cbBuffer) == (memory, len(token))
    assert bytes(memory) == token + b"behind"


@pytest.mark.requirement("R49")
async def test_a_buffer_for_reading_and_writing_comes_back_in_the_input():
    """What the page calls SEC_READWRITE is the spare buffer: the only one that the functions write."""
    _client, server, token = await hello()
    buffers = [SecBuffer(SECBUFFER_TOKEN, token[:9]), SecBuffer(SECBUFFER_EMPTY), SecBuffer(SECBUFFER_EMPTY)]
    server.input = SecBufferDesc(buffers)
    await server.invoke(SecBufferDesc([SecBuffer(SECBUFFER_TOKEN)]))
    assert server.input.pBuffers == buffers
    assert [buffer.BufferType for buffer in buffers] == [SECBUFFER_TOKEN, SECBUFFER_MISSING, SECBUFFER_EMPTY]
    readonly = SecBuffer(SECBUFFER_EMPTY | SECBUFFER_READONLY)
    server.input = SecBufferDesc([buffers[0], readonly])
    assert await server.invoke(SecBufferDesc([SecBuffer(SECBUFFER_TOKEN)])) is INCOMPLETE
    assert readonly.type == SECBUFFER_EMPTY


async def test_a_descriptor_of_another_version_is_refused_and_changes_nothing():
    _client, server, token = await hello()
    server.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token), SecBuffer()], ulVersion=1)
    assert await server.invoke(SecBufferDesc([SecBuffer(SECBUFFER_TOKEN)])) is SecurityStatus.SEC_E_INVALID_TOKEN
    assert await server.call(token)
    assert server.status is CONTINUE


# --- the bare shape's certificate ---


async def bare_second_call(*buffers):
    client, server = Client(await outbound(package="TSSSP")), Server(await inbound(package="TSSSP"))
    challenge = await server.call(await client.call())
    wrapped = len(CERTIFICATE_DER).to_bytes(4, "little") + CERTIFICATE_DER
    named = {
        "token": SecBuffer(SECBUFFER_TOKEN, challenge),
        "readonly token": SecBuffer(SECBUFFER_TOKEN | SECBUFFER_READONLY, challenge),
        "certificate": SecBuffer(SECBUFFER_TOKEN | SECBUFFER_READONLY, wrapped),
        "cut": SecBuffer(SECBUFFER_TOKEN | SECBUFFER_READONLY, wrapped[:-1]),
        "writable": SecBuffer(SECBUFFER_TOKEN, wrapped),
        "garbage": SecBuffer(SECBUFFER_TOKEN | SECBUFFER_READONLY, b"\x03\0\0\0abc"),
        "spare": SecBuffer(),
    }
    client.input = SecBufferDesc([named[name] for name in buffers])
    output = SecBuffer(SECBUFFER_TOKEN)
    status = await client.invoke(SecBufferDesc([output]))
    return client, server, status, bytes(output)


@pytest.mark.parametrize(
    "order",
    [
        ("token", "certificate", "spare"),
        ("token", "spare", "certificate"),
        ("certificate", "token", "spare"),
        ("readonly token", "certificate"),
    ],
)
async def test_the_certificate_of_the_bare_shape_stands_anywhere(order):
    client, server, status, token = await bare_second_call(*order)
    assert status is CONTINUE, client.error
    await client.feed(await server.call(token))
    assert client.status is OK


@pytest.mark.parametrize("others", [(), ("cut",), ("writable",)])
async def test_the_bare_shape_without_a_certificate_waits_for_one(others):
    client, _server, status, _ = await bare_second_call("token", "spare", *others)
    assert status is SecurityStatus.SEC_E_INVALID_TOKEN
    assert "certificate" in str(client.error)
    client.certificate = CERTIFICATE_DER
    assert await client.call(bytes(client.input.pBuffers[0]))
    assert client.status is CONTINUE


async def test_a_certificate_that_is_none_ends_the_bare_shape():
    client, _, status, _ = await bare_second_call("token", "spare", "garbage")
    assert status.failed
    first = client.error
    client.certificate = CERTIFICATE_DER
    await client.call(bytes(client.input.pBuffers[0]))
    assert client.error is first

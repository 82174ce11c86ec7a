"""AcceptSecurityContext (CredSSP): what its page says beyond that of InitializeSecurityContext."""

import asyncio
import inspect
import ssl

import pytest
from support.endpoints import BOB, CERTIFICATE, KEY, client_config, server_config
from support.records import query
from support.sspi import CONTINUE, INCOMPLETE, OK, SERVER_FLAGS, Client, Server, inbound, outbound, pair, talk

from acredssp.policy import Policy
from acredssp.sspi import (
    SECBUFFER_EMPTY,
    SECBUFFER_MISSING,
    SECBUFFER_TOKEN,
    SECPKG_ATTR,
    SECURITY_NATIVE_DREP,
    SECURITY_NETWORK_DREP,
    AcceptSecurityContext,
    ContextAttributes,
    CredHandle,
    CtxtHandle,
    SecBuffer,
    SecBufferDesc,
    SecPkgContext_RemoteCertContext,
    SecurityStatus,
    TimeStamp,
)
from acredssp.tls_config import self_signed, server_context_from_pem
from acredssp.wire.ts_credentials import TSPasswordCreds

INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE
PARAMETERS = [
    "phCredential", "phContext", "pInput", "fContextReq", "TargetDataRep", "phNewContext", "pOutput", "pfContextAttr",
    "ptsExpiry",
]  # fmt: skip


def out():
    return SecBufferDesc([SecBuffer(SECBUFFER_TOKEN)])


def token_of(data):
    return SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, data), SecBuffer()])


async def first_call(**parameters):
    """One first call with good parameters but for those given: its status, and the handle."""
    handle = CtxtHandle()
    good = {"fContextReq": SERVER_FLAGS, "pInput": token_of(b"\x16\x03"), "phNewContext": handle, "pOutput": out()}
    if "phCredential" not in parameters:
        good["phCredential"] = await inbound()
    return await AcceptSecurityContext(**good | parameters), handle


@pytest.mark.requirement("A3")
def test_the_parameters_are_the_pages_in_its_order():
    signature = inspect.signature(AcceptSecurityContext)
    assert list(signature.parameters) == PARAMETERS
    assert inspect.iscoroutinefunction(AcceptSecurityContext)


@pytest.mark.requirement("A3", "A5", "A17", "A18")
async def test_all_nine_may_be_given_by_position():
    client, _ = await pair()
    attributes, expiry, handle, output = ContextAttributes(), TimeStamp(), CtxtHandle(), out()
    status = await AcceptSecurityContext(
        await inbound(), None, token_of(await client.call()), SERVER_FLAGS, SECURITY_NATIVE_DREP, handle, output,
        attributes, expiry,
    )  # fmt: skip
    assert type(status) is SecurityStatus
    assert status is CONTINUE
    assert handle.valid
    assert bytes(output.pBuffers[0])[:2] == b"\x16\x03"
    assert attributes.flags
    assert expiry.QuadPart == TimeStamp.NEVER


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("phCredential", CtxtHandle()),
        ("phContext", CredHandle()),
        ("pInput", b"token"),
        ("fContextReq", None),
        ("TargetDataRep", None),
        ("phNewContext", CredHandle()),
        ("pOutput", SecBuffer()),
        ("pfContextAttr", TimeStamp()),
        ("ptsExpiry", 0),
    ],
)
async def test_wrong_python_types_are_type_errors(parameter, value):
    with pytest.raises(TypeError, match=f"{parameter}: expected"):
        await first_call(**{parameter: value})


@pytest.mark.requirement("A4", "A29")
async def test_outbound_credentials_alone_do_not_serve():
    status, handle = await first_call(phCredential=await outbound())
    assert status is SecurityStatus.SEC_E_NO_CREDENTIALS
    assert "INBOUND" in str(handle.error)


@pytest.mark.requirement("A25", "A29")
@pytest.mark.parametrize("kind", ["none", "empty", "freed"])
async def test_a_credentials_handle_that_is_none_is_invalid(kind):
    credential = None if kind == "none" else CredHandle()
    if kind == "freed":
        credential = await inbound()
        credential.state.alive = False
    status, handle = await first_call(phCredential=credential)
    assert status is INVALID_HANDLE == 0x80090301
    assert not handle.valid


@pytest.mark.requirement("A4")
async def test_later_calls_take_the_contexts_credentials_or_none():
    client, server = await pair()
    token = await client.call(await server.call(await client.call()))
    for other, status in (
        (await inbound(), SecurityStatus.SEC_E_WRONG_CREDENTIAL_HANDLE),
        (CredHandle(), INVALID_HANDLE),
    ):
        server.credential = other
        await server.call(token)
        assert server.status is status
    server.credential = None
    await client.feed(await server.call(token))
    assert client.status is CONTINUE


@pytest.mark.requirement("A25")
@pytest.mark.parametrize("kind", ["empty", "freed", "client's"])
async def test_a_context_handle_that_is_none_is_invalid(kind):
    client, server = await pair()
    await server.call(await client.call())
    handle = {"empty": CtxtHandle(), "freed": server.handle, "client's": client.handle}[kind]
    if kind == "freed":
        server.handle.state.alive = False
    status = await AcceptSecurityContext(server.credential, handle, token_of(b""), pOutput=out())
    assert status is INVALID_HANDLE
    assert handle.error.security_status is INVALID_HANDLE


@pytest.mark.requirement("A5", "A17")
async def test_the_first_call_needs_a_handle_to_fill():
    status, _ = await first_call(phNewContext=None)
    assert status is SecurityStatus.SEC_E_INVALID_PARAMETER


@pytest.mark.requirement("A5", "A17")
@pytest.mark.parametrize("kind", ["none", "same", "empty"])
async def test_later_calls_take_any_receiver(kind):
    client, server = await pair()
    token = await client.call(await server.call(await client.call()))
    receiver = {"none": None, "same": server.handle, "empty": CtxtHandle()}[kind]
    status = await AcceptSecurityContext(
        phContext=server.handle, pInput=token_of(token), fContextReq=SERVER_FLAGS, phNewContext=receiver, pOutput=out()
    )
    assert status is CONTINUE
    assert receiver is None or receiver == server.handle


@pytest.mark.requirement("A16")
@pytest.mark.parametrize(
    ("value", "status"),
    [
        (SECURITY_NATIVE_DREP, INCOMPLETE),
        (SECURITY_NETWORK_DREP, INCOMPLETE),
        (0x11, SecurityStatus.SEC_E_INVALID_PARAMETER),
    ],
)
async def test_either_data_representation_will_do_and_no_other(value, status):
    assert (await first_call(TargetDataRep=value))[0] is status


@pytest.mark.requirement("A7", "A22")
@pytest.mark.parametrize("again", ["the same context", "no context"])
async def test_a_first_call_that_came_too_soon_may_be_repeated_either_way(again):
    """A first call that lacks bytes has made a context; who does not look at it makes another."""
    client, server = await pair()
    token = await client.call()
    assert await server.call(token[:7]) == b""
    assert server.status is INCOMPLETE
    assert server.input.pBuffers[1].BufferType == SECBUFFER_MISSING
    if again == "no context":
        server.handle = CtxtHandle()
    await client.feed(await server.call(token))
    assert (client.status, server.status) == (CONTINUE, CONTINUE)


@pytest.mark.requirement("A7")
@pytest.mark.parametrize("no_input", [None, SecBufferDesc(), SecBufferDesc([SecBuffer()])])
async def test_without_input_a_server_asks_for_some(no_input):
    status, handle = await first_call(pInput=no_input)
    assert status is INCOMPLETE
    assert handle.valid


@pytest.mark.requirement("A1", "A2", "A10", "A18", "A30", "A36")
async def test_the_call_that_takes_the_credentials_is_the_last_and_has_no_token():
    client, server = await pair()
    *_, (direction, token) = await talk(client, server)
    assert direction == "c2s"
    assert token
    assert server.status is OK
    assert server.input.pBuffers[1].BufferType == SECBUFFER_EMPTY
    assert server.handle.state.context.take_credentials() == TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password)


@pytest.mark.requirement("A19", "A30")
async def test_application_data_behind_the_last_token_is_extra():
    client, server = await pair()
    token = await client.call()
    while client.status is not OK:
        token = await client.call(await server.call(token))
    tls = client.handle.state.context.tls
    tls.write(b"GET / HTTP/1.1")
    behind = tls.output()
    assert await server.call(token + behind) == b""
    assert server.status is OK
    assert server.received == behind


@pytest.mark.requirement("A34")
async def test_a_context_whose_attributes_do_not_suffice_is_the_callers_to_delete():
    """Nobody but the caller judges: a server that got no credentials has a context all the same."""
    client, server = await pair()
    client.flags = 0x100
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert not server.attributes & 1
    assert server.handle.valid


def finish(coroutine):
    """What a coroutine returns that waits for nothing, without any event loop."""
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return caught.value.value


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
def test_neither_function_needs_a_running_loop_where_it_waits_for_nothing(package):
    """A whole logon by NTLM, whose lookup answers at once; acquiring credentials works in a thread and needs one."""
    client, server = asyncio.run(pair(package=package))
    token, calls = finish(client.call()), 1
    while not (client.done and server.done):
        token, calls = finish(server.call(token)), calls + 1
        if not client.done:
            token, calls = finish(client.call(token)), calls + 1
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert calls > 4


@pytest.mark.requirement("R72", "A6")
async def test_a_server_has_a_context_for_each_client():
    credential = await inbound()
    clients = [(await pair())[0] for _ in range(3)]
    servers = [Server(credential) for _ in clients]
    for client, server in zip(clients, servers, strict=True):
        await talk(client, server)
    assert [server.status for server in servers] == [OK, OK, OK]
    assert len({server.handle.dwLower for server in servers}) == 3


@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_a_certificate_that_was_renewed_in_its_context_serves_on(package, tmp_path):
    """Also where the caller runs TLS: the credentials' context says which certificate that is."""
    renewed, key = await asyncio.to_thread(self_signed, ["localhost"], "ec")
    context = await asyncio.to_thread(server_context_from_pem, Policy(), CERTIFICATE, KEY)
    credential = await inbound(server_config(ssl_context=context), package)
    file = tmp_path / "renewed.pem"
    await asyncio.to_thread(file.write_bytes, key + renewed)
    await asyncio.to_thread(context.load_cert_chain, file)
    config = client_config(Policy(dangerous_accept_any_certificate=True))
    der = ssl.PEM_cert_to_DER_cert(renewed.decode())
    for _ in range(2):
        client = Client(await outbound(config, package), certificate=der if package == "TSSSP" else None)
        server = Server(credential)
        await talk(client, server)
        assert (client.status, server.status) == (OK, OK), (client.error, server.error)
        own = await query(server, SECPKG_ATTR.LOCAL_CERT_CONTEXT, SecPkgContext_RemoteCertContext())
        assert own.pbCertEncoded == der

"""InitializeSecurityContext (CredSSP): requirement by requirement."""

import inspect
import ssl

import pytest
from support.endpoints import BOB, PASSWORD, client_config, server_config, tls_policy
from support.engine import CUTS
from support.logon import records
from support.sspi import (
    CLIENT_FLAGS,
    CONTINUE,
    INCOMPLETE,
    OK,
    TARGET,
    Client,
    Server,
    acquire,
    inbound,
    outbound,
    pair,
    talk,
)

from acredssp.credentials import Password
from acredssp.errors import LocalProtocolError
from acredssp.sspi import (
    ISC_REQ,
    ISC_REQ_DELEGATE,
    ISC_REQ_USE_SUPPLIED_CREDS,
    ISC_RET_DELEGATE,
    KERB_CERTIFICATE_LOGON,
    KERB_INTERACTIVE_LOGON,
    SEC_CHANNEL_BINDINGS,
    SECBUFFER_CHANNEL_BINDINGS,
    SECBUFFER_PKG_PARAMS,
    SECBUFFER_TARGET_HOST,
    SECBUFFER_TOKEN,
    SECPKG_CRED_BOTH,
    SECURITY_NATIVE_DREP,
    SECURITY_NETWORK_DREP,
    ContextAttributes,
    CredHandle,
    CtxtHandle,
    DeleteSecurityContext,
    FreeCredentialsHandle,
    InitializeSecurityContext,
    SecBuffer,
    SecBufferDesc,
    SecurityStatus,
    TimeStamp,
)
from acredssp.sspi.target import Target
from acredssp.wire.ts_credentials import TSPasswordCreds

INVALID_PARAMETER = SecurityStatus.SEC_E_INVALID_PARAMETER
INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE
NO_CREDENTIALS = SecurityStatus.SEC_E_NO_CREDENTIALS
TARGET_UNKNOWN = SecurityStatus.SEC_E_TARGET_UNKNOWN
PARAMETERS = [
    "phCredential", "phContext", "pszTargetName", "fContextReq", "Reserved1", "TargetDataRep", "pInput", "Reserved2",
    "phNewContext", "pOutput", "pfContextAttr", "ptsExpiry",
]  # fmt: skip


def out():
    return SecBufferDesc([SecBuffer(SECBUFFER_TOKEN)])


async def first_call(credential=None, **parameters):
    """One first call with good parameters but for those given: its status, and the handle."""
    handle = CtxtHandle()
    good = {
        "phCredential": credential or await outbound(), "pszTargetName": TARGET, "fContextReq": CLIENT_FLAGS,
        "phNewContext": handle, "pOutput": out(),
    }  # fmt: skip
    return await InitializeSecurityContext(**good | parameters), handle


async def logged_on(client=None, server=None, **options):
    """A client and a server that have a context."""
    both = await pair(client, server, **options)
    await talk(*both)
    assert [end.status for end in both] == [OK, OK], [end.error for end in both]
    return both


# --- the call ---


@pytest.mark.requirement("R6")
def test_the_parameters_are_the_pages_in_its_order():
    signature = inspect.signature(InitializeSecurityContext)
    assert list(signature.parameters) == PARAMETERS
    assert inspect.iscoroutinefunction(InitializeSecurityContext)
    defaults = [parameter.default for parameter in signature.parameters.values()]
    assert defaults == [None, None, None, 0, 0, SECURITY_NATIVE_DREP, None, 0, None, None, None, None]


@pytest.mark.requirement("R6")
async def test_all_twelve_may_be_given_by_position():
    attributes, expiry, handle, output = ContextAttributes(), TimeStamp(), CtxtHandle(), out()
    status = await InitializeSecurityContext(
        await outbound(),
        None,
        TARGET,
        CLIENT_FLAGS,
        0,
        SECURITY_NATIVE_DREP,
        None,
        0,
        handle,
        output,
        attributes,
        expiry,
    )
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
        ("phCredential", "handle"),
        ("phContext", CredHandle()),
        ("phContext", 7),
        ("pszTargetName", b"TERMSRV/localhost"),
        ("fContextReq", "DELEGATE"),
        ("fContextReq", None),
        ("Reserved1", None),
        ("TargetDataRep", b""),
        ("pInput", b"token"),
        ("pInput", SecBuffer()),
        ("Reserved2", "0"),
        ("phNewContext", CredHandle()),
        ("pOutput", [SecBuffer()]),
        ("pfContextAttr", TimeStamp()),
        ("pfContextAttr", 0),
        ("ptsExpiry", ContextAttributes()),
        ("ptsExpiry", 0),
    ],
)
async def test_wrong_python_types_are_type_errors_and_nothing_happens(parameter, value):
    with pytest.raises(TypeError, match=f"{parameter}: expected"):
        await first_call(**{parameter: value})


@pytest.mark.requirement("R1", "R2", "R3", "R4", "R5", "R8", "R73", "R74", "R75", "R76", "R77", "R78", "A1", "A2")
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_tokens_carried_from_one_to_the_other_make_a_context(package, cut):
    client, server = await pair(package=package)
    flights = await talk(client, server, CUTS[cut])
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert [direction for direction, _ in flights] == ["c2s", "s2c"] * (len(flights) // 2) + ["c2s"]
    assert server.handle.state.context.info.principal.user == BOB.user
    credentials = server.handle.state.context.take_credentials()
    assert credentials == TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password)


@pytest.mark.requirement("R7", "R9")
async def test_credentials_for_both_directions_serve_on_both_sides():
    both = await acquire((client_config(), server_config()), SECPKG_CRED_BOTH)
    client, server = Client(both), Server(both)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)


@pytest.mark.requirement("R9", "R65g")
async def test_inbound_credentials_alone_are_none():
    credential = await inbound()
    status, handle = await first_call(credential)
    assert status is NO_CREDENTIALS
    assert not handle.valid
    assert handle.error is credential.error
    assert "OUTBOUND" in str(handle.error)


@pytest.mark.requirement("R7")
async def test_later_calls_may_leave_the_credentials_out():
    client, server = await pair()
    token = await client.call()
    client.credential = None
    await client.feed(await server.call(token))
    assert client.status is CONTINUE


@pytest.mark.requirement("R11")
async def test_later_calls_with_other_credentials_are_refused_and_change_nothing():
    client, server = await pair()
    answer = await server.call(await client.call())
    own, client.credential = client.credential, await outbound()
    await client.call(answer)
    assert client.status is SecurityStatus.SEC_E_WRONG_CREDENTIAL_HANDLE
    client.credential = own
    assert await client.call(answer)
    assert client.status is CONTINUE


# --- handles ---


@pytest.mark.requirement("R10", "R47")
async def test_the_first_call_needs_a_handle_to_fill():
    status, _ = await first_call(phNewContext=None)
    assert status is INVALID_PARAMETER


@pytest.mark.requirement("R11", "R46", "R47")
@pytest.mark.parametrize("kind", ["none", "same", "empty", "alias"])
async def test_later_calls_take_any_receiver(kind):
    client, server = await pair()
    answer = await server.call(await client.call())
    alias = CtxtHandle()
    alias.assign(client.handle.state)
    receiver = {"none": None, "same": client.handle, "empty": CtxtHandle(), "alias": alias}[kind]
    buffers = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, answer), SecBuffer()])
    status = await InitializeSecurityContext(
        phContext=client.handle, fContextReq=CLIENT_FLAGS, pInput=buffers, phNewContext=receiver, pOutput=out()
    )
    assert status is CONTINUE
    assert receiver is None or receiver == client.handle


@pytest.mark.requirement("R65c")
@pytest.mark.parametrize("kind", ["empty", "freed", "server's"])
async def test_a_context_handle_that_is_none_is_invalid(kind):
    client, server = await pair()
    await server.call(await client.call())
    handle = {"empty": CtxtHandle(), "freed": client.handle, "server's": server.handle}[kind]
    if kind == "freed":
        alias = CtxtHandle()
        alias.assign(client.handle.state)  # a copy of the handle, as C code makes one
        assert await DeleteSecurityContext(alias) is OK
    status = await InitializeSecurityContext(client.credential, handle, pInput=None, pOutput=out())
    assert status is INVALID_HANDLE
    assert type(handle.error) is LocalProtocolError


@pytest.mark.requirement("R65c")
@pytest.mark.parametrize("kind", ["none", "empty", "freed"])
async def test_a_credentials_handle_that_is_none_is_invalid(kind):
    credential = None if kind == "none" else CredHandle()
    if kind == "freed":
        credential = await outbound()
        assert await FreeCredentialsHandle(credential) is OK
    status, handle = await first_call(phCredential=credential)
    assert status is INVALID_HANDLE
    assert not handle.valid


async def test_a_context_outlives_its_credentials_handle():
    client, server = await pair()
    answer = await server.call(await client.call())
    client.credential.state.alive = False
    await client.call(answer)
    assert client.status is INVALID_HANDLE
    client.credential = None
    assert await client.call(answer)
    assert client.status is CONTINUE


@pytest.mark.requirement("R65b")
async def test_tls_that_cannot_begin_is_a_status_and_no_exception():
    config = client_config()
    object.__setattr__(config, "ssl_context", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # past the configuration's check
    status, handle = await first_call(await outbound(config))
    assert status is SecurityStatus.SEC_E_INTERNAL_ERROR
    assert not handle.valid
    assert isinstance(handle.error.__cause__, ssl.SSLError)


# --- reserved values, data representation ---


@pytest.mark.requirement("R36", "R38")
@pytest.mark.parametrize("parameter", ["Reserved1", "Reserved2"])
@pytest.mark.parametrize("value", [1, -1, 1 << 40])
async def test_reserved_parameters_are_0(parameter, value):
    status, handle = await first_call(**{parameter: value})
    assert status is INVALID_PARAMETER
    assert not handle.valid
    assert handle.error.security_status is status


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("value", [SECURITY_NATIVE_DREP, SECURITY_NETWORK_DREP])
async def test_either_data_representation_will_do(value):
    status, _ = await first_call(TargetDataRep=value)
    assert status is CONTINUE


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("value", [1, 0x11, -16])
async def test_any_other_data_representation_is_refused(value):
    status, _ = await first_call(TargetDataRep=value)
    assert status is INVALID_PARAMETER


# --- the first call's input ---


@pytest.mark.requirement("R40", "R74")
@pytest.mark.parametrize(
    "buffers",
    [[], [SecBuffer()], [SecBuffer(SECBUFFER_TOKEN)], [SecBuffer(SECBUFFER_TOKEN, b""), SecBuffer()],
     [SecBuffer(SECBUFFER_TARGET_HOST, b"localhost")]],
)  # fmt: skip
async def test_the_first_call_takes_a_descriptor_without_a_token(buffers):
    status, _ = await first_call(pInput=SecBufferDesc(buffers))
    assert status is CONTINUE


@pytest.mark.requirement("R40")
async def test_the_first_call_takes_no_token():
    """A server does not begin."""
    status, handle = await first_call(pInput=SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, b"\x16"), SecBuffer()]))
    assert status is SecurityStatus.SEC_E_INVALID_TOKEN
    assert not handle.valid


# --- the target ---


@pytest.mark.requirement("R12")
@pytest.mark.parametrize(
    ("name", "host"),
    [
        (None, ""),
        ("", ""),
        ("localhost", "localhost"),
        ("TERMSRV/srv.example", "srv.example"),
        ("HTTP/srv.example:5986", "srv.example"),
        ("WSMAN/10.0.0.1", "10.0.0.1"),
        ("TERMSRV/[fe80::1]:3389", "fe80::1"),
        ("TERMSRV/fe80::1", "fe80::1"),
        ("TERMSRV/srv.example/cluster.example", "srv.example"),
        ("host:3389", "host"),
        ("Microsoft Virtual Console Service/srv.example", "srv.example"),
    ],
)
async def test_a_target_is_a_service_principal_name_or_a_host(name, host):
    assert Target.parse(name) == Target(name or "", host)
    status, handle = await first_call(pszTargetName=name)
    assert status is CONTINUE
    assert handle.state.target.host == host


@pytest.mark.requirement("R12")
async def test_the_target_reaches_the_server():
    client, server = await pair()
    client.target = "HTTP/localhost:5986"
    await talk(client, server)
    assert server.handle.state.context.info.principal.target_name == client.target
    assert server.handle.state.context.tls.server_name in {"", "localhost"}


@pytest.mark.requirement("R65h")
@pytest.mark.parametrize(
    "name",
    [
        "TERMSRV/",
        "/",
        "TERMSRV//x",
        "a b",
        "TERMSRV/ho st",
        "TERMSRV/h\n",
        "TERMSRV/\x00",
        "TERMSRV/:1",
        "x" * 1025,
        "/x",
        "A/b/c/d",
        "-a",
    ],
)
async def test_a_target_without_a_host_is_unknown(name):
    status, handle = await first_call(pszTargetName=name)
    assert status is TARGET_UNKNOWN
    assert not handle.valid


@pytest.mark.requirement("R65h")
@pytest.mark.parametrize(
    "name", ["T/" + "a" * 300, "T/.example", "T/a..b", "T/" + "\u00e4" * 99, "T/*", "T/fe80::1%eth0"]
)
async def test_a_target_that_no_certificate_could_name_does_not_escape_as_another_exception(name):
    status, _ = await first_call(pszTargetName=name)
    assert status in (TARGET_UNKNOWN, CONTINUE)


# --- supplied credentials ---


def supplied(*names):
    return [SecBuffer(SECBUFFER_PKG_PARAMS, KERB_INTERACTIVE_LOGON(*names).pack())]


@pytest.mark.requirement("R27", "R85")
async def test_supplied_credentials_log_on_instead_of_the_handles():
    somebody = await outbound(client_config(authenticate=Password("another", "carol", "OTHER")))
    client = Client(
        somebody, CLIENT_FLAGS | ISC_REQ_USE_SUPPLIED_CREDS, extras=supplied(BOB.domain, BOB.user, BOB.password)
    )
    server = Server(await inbound())
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert str(server.handle.state.context.info.principal) == "CONTOSO\\bob"
    assert server.handle.state.context.take_credentials() == TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password)


@pytest.mark.requirement("R27", "R85")
async def test_credentials_in_a_buffer_are_nothing_without_the_flag():
    client = Client(await outbound(), extras=supplied("OTHER", "carol", "another"))
    server = Server(await inbound())
    await talk(client, server)
    assert str(server.handle.state.context.info.principal) == "CONTOSO\\bob"


@pytest.mark.requirement("R27")
async def test_the_flag_without_a_buffer_has_the_handles_credentials():
    """They were supplied too: there are no others, and none is ever looked for."""
    client, server = Client(await outbound(), CLIENT_FLAGS | ISC_REQ_USE_SUPPLIED_CREDS), Server(await inbound())
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)


@pytest.mark.requirement("R85")
async def test_supplied_credentials_count_in_the_first_call_alone():
    client, server = Client(await outbound(), CLIENT_FLAGS | ISC_REQ_USE_SUPPLIED_CREDS), Server(await inbound())
    answer = await server.call(await client.call())
    client.input = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, answer), SecBuffer(), *supplied("X", "mallory", "x")])
    output = out()
    assert await client.invoke(output) is CONTINUE
    tokens = [bytes(output.pBuffers[0])]
    while not server.done:
        tokens = await client.feed(b"".join(await server.feed(b"".join(tokens))))
    assert (client.status, server.status) == (OK, OK)
    assert str(server.handle.state.context.info.principal) == "CONTOSO\\bob"


@pytest.mark.requirement("R16", "R28")
async def test_the_first_calls_flags_count():
    """A later call can neither ask for what is refused nor take back what was asked for."""
    client, server = await pair()
    token = await client.call()
    client.flags = ISC_REQ.DATAGRAM | ISC_REQ.ALLOCATE_MEMORY
    while not server.done:
        token = b"".join(await client.feed(b"".join(await server.feed(token))))
    assert (client.status, server.status) == (OK, OK)
    assert ISC_RET_DELEGATE in client.attributes
    assert server.handle.state.context.take_credentials() == TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password)


@pytest.mark.requirement("R85")
@pytest.mark.parametrize(
    "params",
    [b"", b"\x02", KERB_INTERACTIVE_LOGON("D", "U", "Passw0rd!").pack()[:-3],
     KERB_CERTIFICATE_LOGON("D", "U", "1").pack(), b"\x30\x00", b"\xff" * 64],
)  # fmt: skip
async def test_supplied_credentials_that_are_none_are_not_recognised(params):
    status, handle = await first_call(
        fContextReq=CLIENT_FLAGS | ISC_REQ_USE_SUPPLIED_CREDS,
        pInput=SecBufferDesc([SecBuffer(SECBUFFER_PKG_PARAMS, params)]),
    )
    assert status is SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS
    assert "Passw0rd!" not in repr(handle.error)


@pytest.mark.requirement("R85")
async def test_supplied_credentials_have_one_domain():
    status, handle = await first_call(
        fContextReq=CLIENT_FLAGS | ISC_REQ_USE_SUPPLIED_CREDS,
        pInput=SecBufferDesc(supplied("CONTOSO", "FABRIKAM\\alice", "Passw0rd!")),
    )
    assert status is SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS
    assert "alice" not in str(handle.error)


@pytest.mark.parametrize("domain", ["", BOB.domain])
async def test_supplied_credentials_without_a_user_are_none(domain):
    """As AcquireCredentialsHandle has it, and before anything is sent."""
    output = out()
    status, handle = await first_call(
        fContextReq=CLIENT_FLAGS | ISC_REQ_USE_SUPPLIED_CREDS,
        pInput=SecBufferDesc(supplied(domain, "", "Passw0rd!")),
        pOutput=output,
    )
    assert status is SecurityStatus.SEC_E_NO_CREDENTIALS
    assert "names no user" in str(handle.error)
    assert bytes(output.pBuffers[0]) == b""
    assert not handle.valid


# --- channel bindings ---


def bindings(data):
    return [SecBuffer(SECBUFFER_CHANNEL_BINDINGS, SEC_CHANNEL_BINDINGS(ApplicationData=data).encode())] if data else []


@pytest.mark.requirement("R39", "A7")
@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [(b"x", b"x", True), (b"x", b"", True), (b"", b"x", True), (b"", b"", True), (b"x", b"y", False)],
)
async def test_channel_bindings_of_both_sides_have_to_agree(ours, theirs, agreed):
    client = Client(await outbound(), extras=bindings(ours))
    server = Server(await inbound(), extras=bindings(theirs))
    await talk(client, server)
    if agreed:
        assert (client.status, server.status) == (OK, OK)
    else:
        assert server.status is SecurityStatus.SEC_E_BAD_BINDINGS
        assert client.status is SecurityStatus.SEC_E_LOGON_DENIED


async def test_channel_bindings_that_are_none_are_refused():
    status, _ = await first_call(pInput=SecBufferDesc([SecBuffer(SECBUFFER_CHANNEL_BINDINGS, bytes(31))]))
    assert status is SecurityStatus.SEC_E_BAD_BINDINGS


# --- expiry ---


async def test_ntlm_does_not_expire():
    client, server = await pair()
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert client.expiry.QuadPart == server.expiry.QuadPart == TimeStamp.NEVER == 0x7FFFFFFFFFFFFFFF
    assert client.expiry.to_datetime() is None


@pytest.mark.requirement("R58")
async def test_a_caller_who_does_not_ask_for_the_expiry_is_served_all_the_same():
    client, server = await pair()
    client.expiry = server.expiry = None
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)


# --- after success ---


@pytest.mark.requirement("R60", "R78", "R89", "R93")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (None, SecurityStatus.SEC_E_OUT_OF_SEQUENCE),
        (b"", SecurityStatus.SEC_E_OUT_OF_SEQUENCE),
        (b"\x17\x03\x03\0\1x", SecurityStatus.SEC_E_OUT_OF_SEQUENCE),
        (b"\x16\x03\x03\0\4\0\0\0\0", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION),
    ],
)
async def test_nobody_logs_on_again_on_the_same_context(package, data, status):
    for end in await logged_on(package=package):
        assert await end.call(data) == b""
        assert end.status is status
        assert end.error.security_status is status
        again = end.error
        await end.call(data)
        assert end.status is status
        assert end.error is not again, "the context stays as it is: nothing sticks"
        assert end.handle.state.established


@pytest.mark.requirement("R61", "R62", "R80", "R81", "R90", "R91", "A32", "A36")
@pytest.mark.parametrize("mechanism", ["ntlm", "negotiate"])
@pytest.mark.parametrize(("tls", "calls"), [("TLSv1.2", 5), ("TLSv1.3", 4)])
async def test_continue_is_all_that_is_said_before_the_end(tls, mechanism, calls):
    """Whole flights: which statuses a side sees, and which call had a token."""
    policy = tls_policy(tls, mechanism=mechanism)
    client, server = await pair(client_config(policy), server_config(policy))
    token = await client.call()
    seen = {client: [(client.status, bool(token))], server: []}
    for end in [server, client] * 10:
        if server.status is OK:
            break
        token = await end.call(end.received + token)
        seen[end].append((end.status, bool(token)))
    legs = calls + (mechanism == "negotiate")  # one more, for the server's mechListMIC
    middle = [(CONTINUE, True)] * (legs - 1)
    assert seen[client] == [*middle, (OK, True)]
    assert seen[server] == [*middle, (OK, False)]


@pytest.mark.requirement("R63", "R90")
async def test_an_output_may_be_empty_and_more_is_to_come():
    """TLS 1.3: a client's Finished alone leaves a server nothing to say."""
    client, server = await pair()
    finished_and_request = await client.call(await server.call(await client.call()))
    *finished, request = records(finished_and_request)
    assert await server.call(b"".join(finished)) == b""
    assert server.status is CONTINUE
    assert server.received == b""
    assert await server.call(request)
    assert server.status is CONTINUE


@pytest.mark.requirement("R10", "R92")
async def test_every_first_call_makes_a_context_of_its_own():
    credential = await outbound()
    _, one = await first_call(credential)
    _, other = await first_call(credential)
    assert one.valid
    assert other.valid
    assert one != other
    assert ISC_REQ.DELEGATE == ISC_REQ_DELEGATE


@pytest.mark.requirement("R92")
async def test_there_is_a_handle_to_delete_after_a_later_leg_fails():
    client = Client(await outbound())
    await client.call()
    await client.call(b"HTTP/1.1 400")
    assert client.status.failed
    assert client.status is not INCOMPLETE
    assert client.handle.valid
    assert PASSWORD not in repr(client.error)

"""How calls of InitializeSecurityContext and AcceptSecurityContext fail: from real causes, for good, and quietly."""

import asyncio
import contextlib
import ssl

import pytest
from support.endpoints import BOB, PASSWORD, client_config, server_config, tls_policy
from support.engine import pem
from support.sspi import (
    CERTIFICATE_DER,
    CONTINUE,
    INCOMPLETE,
    OK,
    Client,
    Server,
    inbound,
    outbound,
    pair,
    talk,
)

from acredssp.core.context import SecurityContext
from acredssp.credentials import Deny, Password
from acredssp.errors import AuthenticationError, CredSSPError, LocalProtocolError, PolicyError, PublicKeyMismatch
from acredssp.policy import Policy
from acredssp.sspi import SecurityStatus, TimeStamp
from acredssp.status import NTSTATUS
from acredssp.wire.ts_request import TSRequest

DENIED = SecurityStatus.SEC_E_LOGON_DENIED
INTERNAL = SecurityStatus.SEC_E_INTERNAL_ERROR
INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE
INVALID_TOKEN = SecurityStatus.SEC_E_INVALID_TOKEN
WRONG_PASSWORD = "Sesame0pen"


async def hold_failure(end, status):
    """A failed end fails in the same way ever after, and shows no secret."""
    assert end.status is status, end.error
    error = end.error
    assert error.security_status is status
    for data in (None, b"", b"\x16\x03\x01\0\0"):
        await end.call(data)
        assert end.status is status
        assert end.error is error
    shown = f"{error!r} {error} {error.hint} {end.handle!r} {end.credential!r} {end.input!r} {end.attributes!r}"
    for secret in (PASSWORD, WRONG_PASSWORD, BOB.nt_hash.hex()):
        assert secret not in shown


# --- refused logons ---


@pytest.mark.requirement("R65e", "R79", "A27")
@pytest.mark.parametrize("mechanism", ["ntlm", "negotiate"])
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
async def test_a_wrong_password_is_a_denied_logon_on_both_sides(mechanism, tls, package):
    policy = tls_policy(tls, mechanism=mechanism)
    config = client_config(policy, authenticate=Password(WRONG_PASSWORD, BOB.user, BOB.domain))
    client, server = await pair(config, server_config(policy), package)
    await talk(client, server)
    await hold_failure(client, DENIED)
    await hold_failure(server, DENIED)
    assert client.error.nt_status is server.error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert type(client.error) is AuthenticationError


@pytest.mark.requirement("A28")
async def test_no_logon_server_is_no_authenticating_authority_on_both_sides():
    status = SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY
    refusing = server_config(lookup=lambda _: Deny(NTSTATUS.STATUS_NO_LOGON_SERVERS))
    client, server = await pair(server=refusing)
    await talk(client, server)
    await hold_failure(client, status)
    await hold_failure(server, status)
    assert client.error.nt_status is NTSTATUS.STATUS_NO_LOGON_SERVERS


@pytest.mark.requirement("R65e", "A27", "A33")
async def test_a_server_may_refuse_who_has_logged_on():
    config = server_config(authorize=lambda _: Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED))
    client, server = await pair(server=config)
    await talk(client, server)
    await hold_failure(client, DENIED)
    await hold_failure(server, DENIED)
    assert client.error.nt_status is NTSTATUS.STATUS_ACCOUNT_DISABLED


@pytest.mark.requirement("R81")
async def test_versions_that_do_not_meet_are_a_matter_of_policy():
    old = client_config(Policy(min_version=2, max_version=4, dangerous_allow_legacy_versions=True))
    client, server = await pair(old)
    await talk(client, server)
    await hold_failure(server, SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)
    await hold_failure(client, SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)
    assert type(server.error) is PolicyError


# --- tokens ---


@pytest.mark.requirement("R65d", "A26")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n", b"\xff" * 40, b"\0" * 40])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_what_is_no_token_is_invalid(package, garbage, side):
    client, server = await pair(package=package)
    await client.call()
    end = client if side == "client" else server
    await end.call(garbage)
    await hold_failure(end, INVALID_TOKEN)


@pytest.mark.requirement("R65d", "A26")
@pytest.mark.parametrize("packages", [("CREDSSP", "TSSSP"), ("TSSSP", "CREDSSP")])
async def test_another_packages_token_is_invalid(packages):
    client, server = Client(await outbound(package=packages[0])), Server(await inbound(package=packages[1]))
    await server.call(await client.call())
    await hold_failure(server, INVALID_TOKEN)


@pytest.mark.requirement("R65d", "A26")
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_token_of_a_wrong_inside_is_invalid(side):
    client, server = await pair(package="TSSSP")
    token = await client.call()
    challenge = await server.call(token)
    good, end = (challenge, client) if side == "client" else (token, Server(await inbound(package="TSSSP")))
    bad = TSRequest(6, nego_token=TSRequest.decode(good).nego_token[:11]).encode()
    await end.call(bad)
    await hold_failure(end, INVALID_TOKEN)


@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
async def test_a_token_corrupted_in_transit_fails_on_both_sides(tls):
    client, server = await pair(client_config(tls_policy(tls)), server_config(tls_policy(tls)))
    first = True

    def flip_the_last_byte(data, _missing):
        nonlocal first
        flip, first = first and data[0] == 0x17, first and data[0] != 0x17
        return data[:-1] + bytes([data[-1] ^ 1]) if flip else data

    await talk(client, server, flip_the_last_byte)
    assert client.status.failed
    assert client.status is not INCOMPLETE
    assert server.status.failed


@pytest.mark.requirement("R2", "R79")
async def test_another_servers_key_in_between_is_an_altered_message():
    client = Client(await outbound(package="TSSSP"))
    client.certificate = ssl.PEM_cert_to_DER_cert(pem("ec")[0].decode())
    server = Server(await inbound(package="TSSSP"))
    await talk(client, server)
    altered = SecurityStatus.SEC_E_MESSAGE_ALTERED
    await hold_failure(server, altered)
    assert type(server.error) is PublicKeyMismatch
    assert client.status is not OK
    assert server.handle.state.context.take_credentials() is None


# --- the machine's and ours ---


@pytest.mark.requirement("R65a", "R65b", "A23", "A24")
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (MemoryError("cannot allocate Passw0rd"), SecurityStatus.SEC_E_INSUFFICIENT_MEMORY),
        (RuntimeError("wrong"), INTERNAL),
        (AssertionError("wrong"), INTERNAL),
    ],
)
async def test_what_has_no_status_of_its_own_ends_the_context(monkeypatch, side, cause, status):
    client, server = await pair()
    token = await client.call()
    end, data = (server, token) if side == "server" else (client, await server.call(token))
    if side == "server":
        await server.call(b"")

    def fail(*_):
        raise cause

    with monkeypatch.context() as patch:
        patch.setattr(SecurityContext, "step", fail)
        await end.call(data)
    assert end.error.__cause__ is cause
    await hold_failure(end, status)


# --- handles in use ---


class Waiting:
    """A lookup that waits until it is let go."""

    def __init__(self):
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, _request):
        self.asked.set()
        await self.go.wait()
        return Password(PASSWORD)


async def until_lookup(lookup):
    """A client, and a server with its call that waits in the lookup."""
    client, server = await pair(server=server_config(lookup=lookup))
    token = await client.call()
    while True:
        call = asyncio.ensure_future(server.call(token))
        asked = asyncio.ensure_future(lookup.asked.wait())
        await asyncio.wait([call, asked], return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            return client, server, call
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
        token = await client.call(await call)


@pytest.mark.requirement("A6")
async def test_a_second_call_in_flight_is_refused_and_the_first_goes_on():
    lookup = Waiting()
    client, server, call = await until_lookup(lookup)
    other = Server(server.credential)
    other.handle = server.handle
    for data in (None, b"anything"):
        assert await other.call(data) == b""
        assert other.status is INVALID_HANDLE
        assert "in flight" in str(other.error)
    lookup.go.set()
    token = await call
    assert server.status is CONTINUE
    assert server.error is None
    await client.feed(token)
    assert client.status is OK


@pytest.mark.requirement("A24")
async def test_a_call_that_is_cancelled_ends_the_context():
    lookup = Waiting()
    client, server, call = await until_lookup(lookup)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    farewell = await server.call(b"")
    await hold_failure(server, INTERNAL)
    assert "cut short" in str(server.error)
    await client.feed(farewell)
    assert client.status.failed


# --- hooks ---


def raises(_request):
    raise ValueError(PASSWORD)


async def waits(_request):
    await asyncio.Event().wait()


@pytest.mark.requirement("A24", "A27")
@pytest.mark.parametrize("hook", [raises, waits, lambda _: None, lambda _: "Pässw0rd"])
@pytest.mark.parametrize("name", ["lookup", "authorize", "admit"])
async def test_a_hook_that_fails_is_a_refusal(hook, name):
    seconds = 0.01 if hook is waits else 10
    config = server_config(Policy(hook_timeout=seconds, handshake_timeout=seconds), **{name: hook})
    client, server = await pair(server=config)
    await talk(client, server)
    await hold_failure(server, DENIED)
    assert client.status is (OK if name == "admit" else DENIED)
    assert server.handle.state.context.take_credentials() is None


async def test_a_hooks_deadline_begins_when_it_is_asked_however_long_the_caller_took():
    asked = []
    config = server_config(Policy(handshake_timeout=1e-9), lookup=asked.append)
    client, server = await pair(server=config)
    now = asyncio.get_running_loop().time()
    await talk(client, server)
    assert asked[0].deadline >= now + config.policy.hook_timeout


@pytest.mark.requirement("A33")
async def test_hooks_say_yes_as_coroutines_too():
    async def yes(_):
        await asyncio.sleep(0)
        return True

    async def lookup(_):
        await asyncio.sleep(0)
        return Password(PASSWORD)

    client, server = await pair(server=server_config(lookup=lookup, authorize=yes, admit=yes))
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)


# --- what an error is ---


async def test_the_exception_is_on_the_handle_until_a_call_succeeds():
    client, server = await pair()
    answer = await server.call(await client.call())
    right, client.credential = client.credential, await inbound()
    await client.call(answer)
    assert type(client.error) is LocalProtocolError
    assert isinstance(client.error, CredSSPError)
    client.credential = right
    await client.call(answer)
    assert client.error is None


@pytest.mark.requirement("R79")
async def test_a_failure_leaves_the_out_parameters_alone():
    client = Client(await outbound(), certificate=CERTIFICATE_DER)
    client.expiry = TimeStamp(7)
    client.target = "TERMSRV/"
    await client.call()
    assert client.status is SecurityStatus.SEC_E_TARGET_UNKNOWN
    assert client.expiry == TimeStamp(7)
    assert int(client.attributes) == 0
    assert not client.handle.valid

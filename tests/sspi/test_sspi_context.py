"""One context as one object: the calling loop without buffers, and messages of any length."""

import random

import pytest
from support.endpoints import BOB, client_config, server_config, tls_policy
from support.engine import CUTS
from support.sspi import CERTIFICATE_DER, TARGET, inbound, outbound

from acredssp.errors import AuthenticationError, CredSSPError, LocalProtocolError, TLSError
from acredssp.sspi import (
    ASC_RET,
    ISC_REQ,
    ISC_RET,
    SECPKG_ATTR,
    QueryContextAttributes,
    SecPkgContext_Names,
    SecurityStatus,
    SSPIContext,
)
from acredssp.trust import Trust

TLS = ["TLSv1.2", "TLSv1.3"]
LONG = bytes(range(256)) * 400
"""More than six records."""


def pair(tls="TLSv1.3", **changes):
    """A client and a server of credentials of their own."""
    policy = tls_policy(tls)
    client = SSPIContext(client_config(policy), TARGET)
    return client, SSPIContext(server_config(policy, **changes))


async def talk(client, server, cut=lambda data, _missing: data):
    """Carry tokens between the two until both are complete, cut by `cut`; return how many steps gave a token."""
    wires = {client: await client.step(), server: b""}
    tokens = 1
    while any(wires.values()):
        for sender, receiver in ((client, server), (server, client)):
            if data := wires[sender]:
                piece = cut(data, receiver.missing)
                wires[sender] = data[len(piece) :]
                token = await (receiver.step(piece) if not receiver.complete else refuse(piece))
                wires[receiver] += token
                tokens += bool(token)
    return tokens


async def refuse(piece):
    pytest.fail(f"{len(piece)} bytes for a context that is complete")


async def established(tls="TLSv1.3"):
    client, server = pair(tls)
    await talk(client, server)
    assert client.complete
    assert server.complete
    return client, server


@pytest.mark.requirement("object.tokens")
@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("cut", CUTS)
async def test_tokens_make_a_context_however_they_are_cut(tls, cut):
    client, server = pair(tls)
    async with client, server:
        await talk(client, server, CUTS[cut])
        assert client.complete
        assert server.complete
        assert client.attributes & ISC_RET.DELEGATE
        assert client.attributes & ISC_RET.MUTUAL_AUTH
        assert isinstance(server.attributes, ASC_RET)
        assert server.attributes & ASC_RET.DELEGATE
        assert client.expiry is None  # NTLM's never ends
        names = SecPkgContext_Names()
        assert await QueryContextAttributes(server.handle, SECPKG_ATTR.NAMES, names) is SecurityStatus.SEC_E_OK
        assert names.sUserName == f"{BOB.domain}\\{BOB.user}"


@pytest.mark.requirement("object.tokens")
async def test_each_step_gives_one_token_at_most_and_says_how_much_the_next_one_needs():
    client, server = pair()
    hello = await client.step()
    assert client.missing == 5  # the header of a record
    assert await server.step(hello[:-1]) == b""
    assert server.missing == 1
    assert await server.step(hello[-1:])
    client, server = pair()
    assert await talk(client, server) == 7


@pytest.mark.requirement("object.messages")
@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("size", [1, 700, len(LONG)])
async def test_data_of_any_length_comes_out_whole(tls, size):
    client, server = await established(tls)
    source = random.Random(size)
    for sender, receiver in ((client, server), (server, client)):
        wire, got = await sender.wrap(LONG[:size]), b""
        while wire:
            piece = wire[: source.randint(1, 5000)]
            got += await receiver.unwrap(piece)
            wire = wire[len(piece) :]
        assert got == LONG[:size]


@pytest.mark.requirement("object.behind")
async def test_what_comes_behind_the_last_token_is_kept_for_unwrap():
    client, server = pair()
    flight = await server.step(await client.step())
    challenge = await server.step(await client.step(flight))
    proof = await server.step(await client.step(challenge))
    last = await client.step(proof)
    assert client.complete
    assert await server.step(last + await client.wrap(b"early")) == b""
    assert server.complete
    assert await server.unwrap() == b"early"


@pytest.mark.requirement("object.messages")
async def test_unwrap_says_what_is_missing():
    client, server = await established()
    record = await client.wrap(b"hello")
    assert await server.unwrap(record[:2]) == b""
    assert server.missing == 3
    assert await server.unwrap(record[2:5]) == b""
    assert server.missing == len(record) - 5
    assert await server.unwrap(record[5:]) == b"hello"
    assert server.missing == 5


@pytest.mark.requirement("object.shutdown")
async def test_each_direction_ends_with_a_close_notify():
    client, server = await established()
    assert await server.unwrap(await client.wrap(b"last") + await client.shutdown()) == b"last"
    assert server.peer_closed
    assert not client.peer_closed
    with pytest.raises(LocalProtocolError) as raised:
        await client.wrap(b"more")
    assert raised.value.security_status is SecurityStatus.SEC_E_CONTEXT_EXPIRED
    assert await client.unwrap(await server.wrap(b"answer") + await server.shutdown()) == b"answer"
    assert client.peer_closed


@pytest.mark.requirement("object.refusal")
async def test_a_refused_logon_is_raised_on_both_sides_and_the_token_says_so():
    client, server = pair(lookup=lambda _request: None)
    token = await client.step()
    with pytest.raises(AuthenticationError) as refused:
        while token:
            token = await server.step(token)
            token = await client.step(token)
    assert refused.value.security_status is SecurityStatus.SEC_E_LOGON_DENIED
    assert not server.complete
    assert server.error_token
    with pytest.raises(AuthenticationError) as told:
        await client.step(server.error_token)
    assert told.value.security_status is SecurityStatus.SEC_E_LOGON_DENIED
    with pytest.raises(AuthenticationError):
        await client.step()  # for good
    with pytest.raises(LocalProtocolError):
        await client.wrap(b"never")


@pytest.mark.requirement("loop.mutual-auth")
@pytest.mark.parametrize("flags", [None, ISC_REQ.DELEGATE], ids=["default", "without_mutual_auth"])
async def test_a_server_that_nothing_proves_gets_no_credentials_unless_the_flags_say_so(flags):
    client = SSPIContext(client_config(trust=Trust()), TARGET, fContextReq=flags)
    server = SSPIContext(server_config())
    if flags is None:
        with pytest.raises(CredSSPError) as raised:
            await talk(client, server)
        assert raised.value.security_status is SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED
        assert not server.complete
    else:
        await talk(client, server)
        assert server.complete


@pytest.mark.requirement("object.altered")
async def test_an_altered_record_ends_the_context():
    client, server = await established()
    record = bytearray(await client.wrap(b"hello"))
    record[-1] ^= 1
    with pytest.raises(TLSError) as raised:
        await server.unwrap(record)
    assert raised.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED
    with pytest.raises(CredSSPError):
        await server.wrap(b"never")


@pytest.mark.requirement("object.handles")
async def test_handles_of_the_callers_stay_and_its_own_are_freed():
    ours, theirs = await outbound(), await inbound()
    async with SSPIContext(ours, TARGET) as client, SSPIContext(theirs) as server:
        await talk(client, server)
    assert client.handle.deleted
    assert server.handle.deleted
    assert ours.valid
    assert theirs.valid
    client, server = await established()
    own = client._credential
    await client.close()
    assert not own.valid
    await client.close()


@pytest.mark.requirement("object.handles")
async def test_a_context_that_was_never_used_may_be_closed():
    client, _ = pair()
    await client.close()
    assert not client.handle.valid


@pytest.mark.requirement("object.bare")
async def test_the_bare_shape_takes_the_certificate_of_the_callers_tls():
    client = SSPIContext(client_config(), TARGET, package="TSSSP", server_certificate=CERTIFICATE_DER)
    server = SSPIContext(server_config(), package="TSSSP")
    await talk(client, server, CUTS["byte_by_byte"])
    assert client.complete
    assert server.complete
    with pytest.raises(LocalProtocolError) as raised:
        await client.wrap(b"hello")
    assert raised.value.security_status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


async def test_credentials_of_the_other_side_are_none():
    with pytest.raises(CredSSPError) as raised:
        await SSPIContext(await inbound(), TARGET).step()
    assert raised.value.security_status is SecurityStatus.SEC_E_NO_CREDENTIALS
    with pytest.raises(CredSSPError):
        await SSPIContext(await outbound()).step()


async def test_messages_before_the_end_of_the_handshake_are_refused_and_change_nothing():
    client, server = pair()
    for call in (client.wrap, client.unwrap):
        with pytest.raises(LocalProtocolError, match="not established") as raised:
            await call(b"early")
        assert raised.value.hint == "call step() until complete is True"
    hello = await client.step()
    assert await server.step(hello[:20]) == b""
    with pytest.raises(LocalProtocolError, match="not established"):
        await server.unwrap(b"")
    server_hello = await server.step(hello[20:])  # the first bytes are still there
    assert server_hello
    await client.step(server_hello)


@pytest.mark.parametrize(
    ("config", "target", "said"),
    [
        (client_config, None, "target: expected a name such as TERMSRV/host, since the credential is a client's"),
        (server_config, TARGET, "target: expected None, since the credential is a server's"),
    ],
)
async def test_a_target_that_does_not_fit_the_side_of_the_configuration_is_refused_at_once(config, target, said):
    with pytest.raises(ValueError, match=said):
        SSPIContext(config(), target)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"credential": "alice"}, "credential: expected CredHandle or CREDSSP_CRED or .* got str"),
        ({"credential": None}, "credential: .* got NoneType"),
        ({"target": b"host"}, "target"),
        ({"fContextReq": "1"}, "fContextReq"),
        ({"server_certificate": "PEM"}, "server_c"),
    ],
)
def test_wrong_types_are_refused_by_name(arguments, name):
    with pytest.raises(TypeError, match=name):
        SSPIContext(**{"credential": client_config(), "target": TARGET} | arguments)


async def test_its_text_says_which_side_it_is():
    client, server = await established()
    assert repr(client) == "<SSPIContext of a client for TERMSRV/localhost, complete>"
    assert repr(server) == "<SSPIContext of a server, complete>"

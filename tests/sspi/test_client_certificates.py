"""SEC_I_INCOMPLETE_CREDENTIALS: a TLS server asks for a certificate, and other credentials bring one."""

import asyncio
import dataclasses
import ssl

import pytest
from support.endpoints import (
    BOB,
    CERTIFICATE,
    KEY,
    PASSWORD,
    PIN,
    TLS_VERSIONS,
    client_config,
    server_config,
    tls_policy,
)
from support.engine import CUTS, pem
from support.sspi import ASKED, CONTINUE, INCOMPLETE, OK, TARGET, Client, Server, inbound, outbound, talk
from support.streams import memory_streams

from acredssp.config import ServerConfig
from acredssp.credentials import Password
from acredssp.sspi import (
    CREDSSP_CRED,
    ISC_REQ_DELEGATE,
    SCHANNEL_CRED,
    SEC_WINNT_AUTH_IDENTITY,
    CertContext,
    CredsspSubmitBufferBoth,
    SecurityStatus,
    establish,
)
from acredssp.tls_config import server_context_from_pem
from acredssp.trust import Trust, Verdict
from acredssp.wire import tls_record


def certificate_of(key_type):
    return ssl.PEM_cert_to_DER_cert(pem(key_type)[0].decode())


def asking(tls):
    """A server that asks for a certificate and takes none too."""
    context = server_context_from_pem(tls_policy(tls), CERTIFICATE, KEY)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=pem("p384")[0].decode())
    return ServerConfig(ssl_context=context, lookup=lambda _: Password(PASSWORD), policy=tls_policy(tls))


SERVERS = {tls: asking(tls) for tls in TLS_VERSIONS}


def bob(key_type=None, trust=Trust()):  # noqa: B008 - frozen
    """Bob's password, with a certificate of that key type or without one, and whom he trusts."""
    certificates = [CertContext(*pem(key_type))] if key_type else []
    schannel = SCHANNEL_CRED(paCred=certificates, hRootStore=trust)
    identity = SEC_WINNT_AUTH_IDENTITY(User=BOB.user, Domain=BOB.domain, Password=BOB.password)
    return CREDSSP_CRED(CredsspSubmitBufferBoth, schannel, identity)


@pytest.fixture(params=TLS_VERSIONS)
async def server(request):
    server = Server(await inbound(SERVERS[request.param]))
    server.tls = request.param
    return server


class Chooser(Client):
    """A client that calls again with another credentials handle when it is asked for a certificate.

    Args:
        credential: The first handle.
        other: The second.
        again: Whether to give the same input again, or what was not taken of it.
    """

    def __init__(self, credential, other, *, again=True, **options):
        super().__init__(credential, **options)
        self.asked = 0
        self._other, self._again = other, again

    async def call(self, data=None):
        token = await super().call(data)
        if self.status is not ASKED:
            return token
        assert token == b""
        assert self.error is None
        self.asked += 1
        self.credential = self._other
        return await super().call(data if self._again else self.received)


def seen_by(server):
    return server.handle.state.context.tls.peer_certificate


@pytest.mark.requirement("R64", "R95", "R96")
@pytest.mark.parametrize("cut", ["whole", "byte_by_byte", "random_1"])
@pytest.mark.parametrize(
    ("again", "spare"),
    [
        pytest.param(True, True, id="same_input"),
        pytest.param(False, True, id="rest_of_it"),
        pytest.param(True, False, id="no_second_buffer"),  # whoever has none cannot know what is left
    ],
)
async def test_a_new_handle_brings_the_certificate(server, cut, again, spare):
    other = await outbound(bob("p384"))
    client = Chooser(await outbound(bob()), other, again=again, spare=spare)
    await talk(client, server, CUTS[cut])
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert client.asked == 1
    assert seen_by(server) == certificate_of("p384")


@pytest.mark.requirement("R96")
@pytest.mark.parametrize("cut", ["whole", "byte_by_byte"])
@pytest.mark.parametrize("other", ["same handle", "no handle", "no certificate"])
async def test_it_goes_on_without_a_certificate(server, cut, other):
    first = await outbound(bob())
    second = {"same handle": first, "no handle": None, "no certificate": await outbound(bob())}[other]
    client = Chooser(first, second)
    await talk(client, server, CUTS[cut])
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert client.asked == 1
    assert seen_by(server) is None


@pytest.mark.requirement("R64")
@pytest.mark.parametrize("cut", ["whole", "random_1"])
async def test_a_certificate_that_is_there_is_used_at_once(server, cut):
    client = Chooser(await outbound(bob("p384")), None)
    await talk(client, server, CUTS[cut])
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert client.asked == 0
    assert seen_by(server) == certificate_of("p384")


@pytest.mark.parametrize("tls", TLS_VERSIONS)
async def test_nobody_is_asked_by_a_server_that_wants_none(tls):
    server = Server(await inbound(server_config(tls_policy(tls))))
    client = Chooser(await outbound(bob("p384")), None)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert client.asked == 0
    assert seen_by(server) is None


WRONG_PIN, RIGHT_PIN = Trust.pinned("00" * 32), Trust.pinned(PIN)


@pytest.mark.requirement("R13", "R96")
@pytest.mark.parametrize("certificate", ["p384", None])
@pytest.mark.parametrize("again", [True, False], ids=["same_input", "rest_of_it"])
@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        pytest.param(Trust(), WRONG_PIN, SecurityStatus.SEC_E_CERT_UNKNOWN, id="nobody, wrong pin"),
        pytest.param(RIGHT_PIN, WRONG_PIN, SecurityStatus.SEC_E_CERT_UNKNOWN, id="right pin, wrong pin"),
        pytest.param(WRONG_PIN, RIGHT_PIN, SecurityStatus.SEC_E_CERT_UNKNOWN, id="wrong pin, right pin"),
        pytest.param(WRONG_PIN, Trust(), SecurityStatus.SEC_E_CERT_UNKNOWN, id="wrong pin, nobody"),
        pytest.param(Trust(), RIGHT_PIN, OK, id="nobody, right pin"),
        pytest.param(RIGHT_PIN, Trust(), OK, id="right pin, nobody"),
        pytest.param(RIGHT_PIN, RIGHT_PIN, OK, id="right pin, right pin"),
    ],
)
async def test_the_trust_of_either_handle_must_say_yes(server, first, second, status, certificate, again):
    client = Chooser(await outbound(bob(trust=first)), await outbound(bob(certificate, second)), again=again)
    await talk(client, server)
    assert client.asked == 1
    assert client.status is status, client.error
    assert (server.handle.state.context.take_credentials() is not None) is (status is OK)
    if status is OK:
        assert client.handle.state.verdict is Verdict.TRUSTED


@pytest.mark.requirement("R70")
async def test_the_second_handle_may_ask_for_an_authenticated_server_too(server):
    strict = client_config(tls_policy(server.tls), trust=Trust(), mutual_auth=True)
    client = Chooser(await outbound(bob()), await outbound(strict))
    await talk(client, server)
    assert client.asked == 1
    assert client.status is SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED
    assert server.handle.state.context.take_credentials() is None


@pytest.mark.requirement("R15")
@pytest.mark.parametrize("certificate", ["p384", None])
async def test_a_session_with_another_handles_certificate_is_not_kept_for_the_first(server, certificate, monkeypatch):
    kept = []
    monkeypatch.setattr("acredssp.sspi.context.sessions.keep", lambda *facts: kept.append(facts))
    first = await outbound(client_config(tls_policy(server.tls, tls_resumption=True)))
    client = Chooser(first, await outbound(bob(certificate)) if certificate else first)
    await talk(client, server)
    assert (client.status, client.asked) == (OK, 1), client.error
    assert len(kept) == (certificate is None)


@pytest.mark.requirement("R9")
async def test_the_second_handle_has_to_be_outbound(server):
    client, flight = await until_asked(server)
    first, client.credential = client.credential, await inbound(SERVERS["TLSv1.3"])
    await client.call(flight)
    assert client.status is SecurityStatus.SEC_E_NO_CREDENTIALS
    client.credential = first
    assert await client.call(flight)
    assert client.status is CONTINUE


async def until_asked(server):
    """A client without a certificate that has just been asked for one, and the input of that call."""
    client = Client(await outbound(bob()))
    flight = await server.call(await client.call())
    assert await client.call(flight) == b""
    assert client.status is ASKED
    return client, flight


@pytest.mark.requirement("R64")
async def test_being_asked_is_no_failure_and_changes_nothing_until_somebody_answers(server):
    client, flight = await until_asked(server)
    assert not client.status.failed
    assert client.error is None
    assert client.handle.state.authorities == ()  # CPython's servers name none
    stranger = await outbound(bob())
    stranger.state.alive = False
    ours, client.credential = client.credential, stranger
    await client.call(flight)
    assert client.status is SecurityStatus.SEC_E_INVALID_HANDLE
    client.credential = ours
    await client.feed(b"")
    assert await client.call(flight)
    assert client.status is CONTINUE


AUTHORITY = b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02CA"


async def until_asked_for(authority, server):
    """The same, by a server that names the authority: CPython's own servers name none."""
    client, flight = await until_asked(server)
    state = client.handle.state
    state.context._event = state.choosing = dataclasses.replace(state.choosing, authorities=(authority,))
    state.authorities = (authority,)
    return client, flight


@pytest.mark.requirement("R95", "R96")
@pytest.mark.parametrize("again", [True, False], ids=["same_input", "rest_of_it"])
@pytest.mark.parametrize("spare", [True, False], ids=["spare", "no_second_buffer"])
async def test_a_certificate_of_another_authority_is_asked_about_again(server, again, spare):
    """As often as it takes: nobody who brings a certificate goes on without one unawares."""
    client, flight = await until_asked_for(AUTHORITY, server)
    rest = client.received
    client.spare = spare
    first, client.credential = client.credential, await outbound(bob("p384"))
    for _ in range(2):
        assert await client.call(flight if again or not spare else rest) == b""
        assert (client.status, client.error) == (ASKED, None)
        assert client.received == (rest if spare else b"")
    client.credential = first  # the same handle as before: without a certificate
    tokens = [await client.call(flight if again or not spare else rest)]
    assert client.status is CONTINUE
    while client.status is CONTINUE:
        tokens = await client.feed(b"".join(await server.feed(b"".join(tokens))))
    await server.feed(b"".join(tokens))
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert seen_by(server) is None


@pytest.mark.requirement("R95", "R96")
async def test_a_certificate_of_the_right_authority_follows_one_of_another(server):
    right = await outbound(bob("p384"))
    [issuer] = right.state._issuers
    client, flight = await until_asked_for(issuer, server)
    client.credential = await outbound(bob("ed25519"))
    client.credential.state._issuers = frozenset({AUTHORITY})  # the test's certificates all have one name
    await client.call(flight)
    assert client.status is ASKED
    client.credential = right
    tokens = [await client.call(flight)]
    while client.status is CONTINUE:
        tokens = await client.feed(b"".join(await server.feed(b"".join(tokens))))
    await server.feed(b"".join(tokens))
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert seen_by(server) == certificate_of("p384")


async def test_both_handles_serve_from_then_on_and_no_third(server):
    client, flight = await until_asked(server)
    first, client.credential = client.credential, await outbound(bob("p384"))
    second = client.credential
    challenge = await server.call(await client.call(flight))
    for credential in (first, second):
        client.credential = credential
        assert await client.call(challenge[:3]) == b""
        assert client.status is INCOMPLETE
    client.credential = await outbound(bob("p384"))
    await client.call(challenge)
    assert client.status is SecurityStatus.SEC_E_WRONG_CREDENTIAL_HANDLE
    client.credential = second
    await client.call(challenge)
    assert client.status is CONTINUE


@pytest.mark.parametrize("size", [20, 200, 16_384])
@pytest.mark.parametrize("again", [True, False], ids=["same_input", "rest_of_it"])
async def test_a_flight_of_tls12_may_be_packed_anyhow(size, again):
    """Where the server's last messages stand in the record of its request, the answer follows at once."""
    server = Server(await inbound(SERVERS["TLSv1.2"]))
    client = Chooser(await outbound(bob()), await outbound(bob("p384")), again=again)
    flight = repacked(await server.call(await client.call()), size)
    tokens = await client.feed(flight)
    assert client.status is CONTINUE
    while client.status is CONTINUE:
        tokens = await client.feed(b"".join(await server.feed(b"".join(tokens))))
    await server.feed(b"".join(tokens))
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert client.asked == 1
    assert seen_by(server) == certificate_of("p384")


def repacked(flight, size):
    messages, offset = b"", 0
    while offset < len(flight):
        end = tls_record.record_end(flight, offset)
        messages += flight[offset + 5 : end]
        offset = end
    pieces = [messages[start : start + size] for start in range(0, len(messages), size)]
    return b"".join(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.requirement("R96")
@pytest.mark.parametrize("rest", [b"", b"\x16"])
async def test_an_answer_to_a_request_at_the_end_of_the_input_takes_all_of_it(rest):
    """Nothing is missing that would have the caller give the same input a third time."""
    server = Server(await inbound(SERVERS["TLSv1.2"]))
    client = Client(await outbound(bob()))
    flight = await server.call(await client.call())
    arrived = b""
    while client.status is not ASKED:
        piece, flight = flight[: max(1, client.missing)], flight[max(1, client.missing) :]
        arrived = client.received + piece
        await client.call(arrived)
    await client.call(arrived + rest)
    assert client.status is CONTINUE
    assert client.received == rest
    while flight and client.status in (CONTINUE, INCOMPLETE):
        piece, flight = flight[: max(1, client.missing)], flight[max(1, client.missing) :]
        tokens = await client.feed(piece[len(rest) :])
        rest = b""
    assert tokens
    assert client.status is CONTINUE


@pytest.mark.parametrize("tls", TLS_VERSIONS)
@pytest.mark.parametrize("sizes", [None, [1]], ids=["whole", "byte_by_byte"])
@pytest.mark.parametrize("key_type", ["p384", None])
async def test_the_loop_over_streams_shows_the_certificate_of_its_credentials_or_goes_on_without(tls, sizes, key_type):
    client, server = memory_streams(sizes, sizes)
    _, handle = await asyncio.gather(
        establish(*client, bob(key_type), TARGET, fContextReq=ISC_REQ_DELEGATE), establish(*server, SERVERS[tls])
    )
    assert bool(handle.state.context.tls.peer_certificate) is bool(key_type)
    for _, writer in client, server:
        writer.close()

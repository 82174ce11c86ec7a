"""The calling loop of the functions' pages, by callers that know nothing but status, MISSING and EXTRA."""

import itertools
import random

import pytest
from support.endpoints import BOB, client_config, server_config, tls_policy
from support.engine import CUTS
from support.logon import records
from support.sspi import CERTIFICATE_DER, OK, Client, Server, inbound, outbound, pair, talk

from acredssp.core.tls import TLSSession
from acredssp.errors import LimitExceeded
from acredssp.status import SecurityStatus
from acredssp.tls_config import client_context
from acredssp.wire import der
from acredssp.wire.ts_credentials import TSPasswordCreds

TLS = ["TLSv1.2", "TLSv1.3"]
MECHANISMS = ["ntlm", "negotiate"]
VERSIONS = (2, 3, 4, 5, 6)
PAIRS = [(ours, theirs) for ours, theirs in itertools.product(VERSIONS, VERSIONS) if 6 in (ours, theirs)]


def configs(tls="TLSv1.3", mechanism="ntlm", client_version=6, server_version=6):
    """Configurations of a client and a server; versions below 5 take the policy that says it is dangerous."""

    def policy(version):
        old = {"min_version": 2, "dangerous_allow_legacy_versions": True}
        return tls_policy(tls, mechanism=mechanism, max_version=version, **old)

    return client_config(policy(client_version)), server_config(policy(server_version))


def hold_success(client, server, version=6):
    """Both have the context that they should have."""
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)
    assert client.received == server.received == b""
    ours, theirs = (end.handle.state.context.info for end in (client, server))
    assert ours.version == theirs.version == version
    assert str(theirs.principal) == f"{BOB.domain}\\{BOB.user}"
    credentials = server.handle.state.context.take_credentials()
    assert credentials == TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password)


@pytest.mark.requirement("R5", "R77", "R80", "R81", "A2", "A32")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
async def test_every_version_meets_every_other(package, mechanism, ours, theirs):
    client, server = await pair(*configs("TLSv1.3", mechanism, ours, theirs), package)
    await talk(client, server)
    hold_success(client, server, min(ours, theirs))


@pytest.mark.requirement("R4", "R5", "R59", "R63", "A22")
@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("version", [2, 6])
@pytest.mark.parametrize("cut", CUTS)
async def test_a_token_may_be_cut_anyhow_and_no_call_is_made_in_vain(tls, mechanism, version, cut):
    """Driven by MISSING alone: at most two calls for each record that came, and one for each cut."""
    client, server = await pair(*configs(tls, mechanism, version))
    flights = await talk(client, server, CUTS[cut])
    hold_success(client, server, version)
    hold_calls(client, records(b"".join(token for direction, token in flights if direction == "s2c")))
    hold_calls(server, records(b"".join(token for direction, token in flights if direction == "c2s")))


@pytest.mark.requirement("R4", "R59")
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("cut", CUTS)
async def test_the_bare_shape_may_be_cut_anyhow_too(mechanism, cut):
    """A message's header may take two calls to be known, so there is one more for each."""
    client, server = await pair(*configs(mechanism=mechanism), "TSSSP")
    flights = await talk(client, server, CUTS[cut])
    hold_success(client, server)
    hold_calls(client, messages(b"".join(token for direction, token in flights if direction == "s2c")), each=3)
    hold_calls(server, messages(b"".join(token for direction, token in flights if direction == "c2s")), each=3)


@pytest.mark.parametrize("seed", range(20))
async def test_random_cuts_join_flights_and_split_them(seed):
    source = random.Random(seed)
    tls, mechanism = source.choice(TLS), source.choice(MECHANISMS)
    spare, memory = source.random() < 0.7, source.choice([0, 100, 20_000])
    client, server = await pair(*configs(tls, mechanism), spare=spare, memory=memory)
    for end in (client, server):
        end.flags &= ~0x100 if source.random() < 0.5 else -1
    await talk(client, server, lambda data, _missing: data[: source.randint(1, source.choice([3, 60, 2000]))])
    hold_success(client, server)


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("spare", [True, False], ids=["spare", "no_spare"])
async def test_more_records_than_the_engine_takes_in_one_go(tls, spare):
    """A message of 40 KiB, as Kerberos has them, from a peer whose records are as small as TLS can agree on."""
    server = Server(await inbound(configs(tls)[1]), spare=spare)
    peer = TLSSession(client_context(tls_policy(tls)), server_side=False)
    reply = b""
    while not peer.handshake(reply) or peer.has_output:
        reply = b"".join(await server.feed(peer.output()))
    message = b"\x30\x82\x9f\xfc" + bytes(40_956)
    for start in range(0, len(message) - 512, 512):
        peer.write(message[start : start + 512])
    stream = peer.output()
    assert len(records(stream)) > 64
    assert not await server.feed(stream)
    assert (server.status, server.error, server.received) == (SecurityStatus.SEC_I_CONTINUE_NEEDED, None, b"")
    peer.write(message[-512:])
    await server.feed(peer.output())
    assert server.status.failed  # of what the message says: there is no TSRequest in it
    assert not isinstance(server.error, LimitExceeded)


def messages(data):
    """Whole TSRequests, one by one."""
    found = []
    while data:
        total = der.frame_size(data, 1 << 20).total
        found.append(data[:total])
        data = data[total:]
    return found


def hold_calls(end, units, *, each=2):
    """An end made `each` calls at most for a unit that came, one for each piece that ended inside one, and its first.

    Args:
        end: The caller.
        units: The records or messages that came, in order.
        each: How many calls a unit may take: for its header, and for its body.
    """
    boundaries = set(itertools.accumulate(map(len, units)))
    cuts = sum(place not in boundaries for place in itertools.accumulate(end.pieces))
    assert end.calls <= each * len(units) + cuts + isinstance(end, Client)


@pytest.mark.requirement("R76", "R77", "R89", "R90")
async def test_a_context_of_two_legs_by_hand():
    """The page's steps, written out: each token goes to the other side's next call, and OK ends it."""
    client, server = Client(await outbound()), Server(await inbound())
    hello = await client.call()
    flight = await server.call(hello)
    negotiate = await client.call(flight)
    challenge = await server.call(negotiate)
    authenticate = await client.call(challenge)
    proof = await server.call(authenticate)
    credentials = await client.call(proof)
    assert client.status is OK
    assert await server.call(credentials) == b""
    hold_success(client, server)
    assert client.calls == server.calls == 4


async def test_a_bare_context_by_hand():
    client = Client(await outbound(package="TSSSP"), certificate=CERTIFICATE_DER)
    server = Server(await inbound(package="TSSSP"))
    token = await client.call()
    for _ in range(2):
        token = await client.call(await server.call(token))
    assert await server.call(token) == b""
    hold_success(client, server)
    assert client.calls == server.calls == 3

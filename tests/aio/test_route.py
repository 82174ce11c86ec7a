"""RDP.route on asyncio: the hook that chooses a configuration for a connection before TLS."""

import asyncio
import dataclasses
import logging

import pytest
from support.endpoints import PASSWORD, client_side, memory_pair, server_config, tls_policy, until

from acredssp.aio.handshake import Handshake
from acredssp.aio.report import HandshakeOutcome
from acredssp.carriage.rdp import RDP
from acredssp.carriage.routes import RDPRoute
from acredssp.credentials import Deny, Password
from acredssp.errors import AccessDenied, CredSSPError, NegotiationFailure, PeerClosed, RemoteProtocolError
from acredssp.policy import Policy
from acredssp.status import Stage
from acredssp.wire.preconnection import PreconnectionPDU
from acredssp.wire.x224 import ConnectionConfirm, FailureCode

TOKEN = "tsv://MS Terminal Services Plugin.1.Desktops"
CLIENT = RDP(routing_token=TOKEN)


def as_coroutine(function):
    async def hook(request):
        await asyncio.sleep(0)
        return function(request)

    return hook


def nobody(_request):
    return Deny()


async def routed(route, policy=None, **options):
    """A handshake that `route` decides about: how the client ended, how the server did, and the report of it."""
    client, server = memory_pair()
    reports = []
    listener = server_config(policy, lookup=nobody)
    handshake = Handshake(server, listener, RDP(route=route), on_handshake=reports.append, **options)
    ours, theirs = await asyncio.gather(
        client_side(client, carriage=CLIENT).establish(), handshake.run(), return_exceptions=True
    )
    [report] = reports
    return ours, theirs, report


@pytest.mark.parametrize("shape", [lambda hook: hook, as_coroutine], ids=["function", "coroutine"])
async def test_the_hook_sees_the_request_and_the_connection_and_its_answer_holds(shape):
    asked, authorized = [], []

    def authorize(identity):
        authorized.append(identity)
        return True

    chosen = server_config(tls_policy("TLSv1.2"), lookup=lambda _: Password(PASSWORD), authorize=authorize)

    def route(request):
        asked.append(request)
        return chosen

    session = object()
    ours, theirs, report = await routed(shape(route), peer_address=("192.0.2.7", 50123), session=session)
    assert (ours.tls_version, report.outcome, report.hook) == ("TLSv1.2", HandshakeOutcome.SUCCESS, "")
    [request] = asked
    assert request.request.routing_token == TOKEN
    assert (request.peer_address, request.session) == (("192.0.2.7", 50123), session)
    [identity] = authorized
    assert (identity.request, identity.session) == (request.request, session)
    assert theirs.take_credentials().as_password().password == PASSWORD


async def test_the_hook_sees_the_preconnection_id_and_blob():
    asked = []

    def route(request):
        asked.append(request.preconnection)
        return server_config()

    pdu = PreconnectionPDU(id=7, blob="token")
    for carriage in (CLIENT, dataclasses.replace(CLIENT, preconnection=pdu)):
        client, server = memory_pair()
        handshake = Handshake(server, server_config(), RDP(route=route, allow_preconnection=True))
        _, transport = await asyncio.gather(client_side(client, carriage=carriage).establish(), handshake.run())
        assert transport.get_extra_info("rdp_preconnection") == carriage.preconnection
    assert asked == [None, pdu]


async def test_the_time_limits_of_the_chosen_policy_hold():
    async def never(_identity):
        await asyncio.Event().wait()

    chosen = server_config(Policy(authorize_timeout=1e-6), authorize=never)
    _, _, report = await routed(lambda _: RDPRoute(chosen))
    assert (report.outcome, report.hook) == (HandshakeOutcome.TIMEOUT, "authorize")


async def never(_request):
    await asyncio.Event().wait()


def raising(_request):
    raise LookupError("canary-9d1f")


REFUSALS = {
    "denies": (nobody, HandshakeOutcome.DENIED, ""),
    "says false": (lambda _: False, HandshakeOutcome.DENIED, ""),
    "says nothing": (lambda _: None, HandshakeOutcome.BAD_ANSWER, "answered None, expected a ServerConfig"),
    "says what is no route": (lambda _: True, HandshakeOutcome.BAD_ANSWER, "expected a ServerConfig, an RDPRoute"),
    "raises": (raising, HandshakeOutcome.FAILED, "raised LookupError"),
    "raises later": (as_coroutine(raising), HandshakeOutcome.FAILED, "raised LookupError"),
    "is late": (never, HandshakeOutcome.TIMEOUT, "gave no answer within 1e-06 seconds"),
}


@pytest.mark.parametrize(("route", "outcome", "said"), REFUSALS.values(), ids=REFUSALS)
async def test_a_hook_without_a_route_closes_the_connection_without_a_confirm(route, outcome, said, caplog):
    with caplog.at_level(logging.WARNING, "acredssp"):
        ours, theirs, report = await routed(route, Policy(hook_timeout=1e-6 if route is never else 10.0))
    assert isinstance(ours, PeerClosed)
    assert ours.stage is Stage.NEGOTIATION
    assert isinstance(theirs, AccessDenied)
    assert (report.outcome, report.hook, report.error) == (outcome, "route", theirs)
    assert report.request.routing_token == TOKEN
    assert len(caplog.records) == bool(said)
    assert said in caplog.text
    assert "canary" not in caplog.text


async def test_a_failure_code_reaches_the_client():
    ours, theirs, report = await routed(lambda _: FailureCode.SSL_CERT_NOT_ON_SERVER)
    assert isinstance(ours, NegotiationFailure)
    assert ours.failure_code is FailureCode.SSL_CERT_NOT_ON_SERVER
    assert isinstance(theirs, NegotiationFailure)
    assert (report.outcome, report.hook) == (HandshakeOutcome.DENIED, "route")


class ByHand:
    """A client of a memory pair that says what the test says, and keeps what it is sent."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.sent = CLIENT.new_request(CLIENT.request_flags).encode()

    def say(self, data):
        self.protocol.write(data)

    @property
    def heard(self):
        return bytes(self.protocol.received)


async def test_what_the_client_sends_while_the_hook_runs_is_refused():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def route(_request):
        begun.set()
        await go_on.wait()
        return server_config()

    client, server = memory_pair()
    peer = ByHand(client)
    running = asyncio.ensure_future(Handshake(server, server_config(), RDP(route=route)).run())
    peer.say(peer.sent)
    await begun.wait()
    peer.say(b"\x16\x03\x01")
    await until(lambda: server.received)
    go_on.set()
    with pytest.raises(RemoteProtocolError, match=r"nothing in clear behind .* got 3 bytes"):
        await running
    assert peer.heard == b""


async def test_a_client_that_waits_gets_the_confirm_once_the_hook_has_answered():
    client, server = memory_pair()
    peer = ByHand(client)
    carriage = RDP(route=as_coroutine(lambda _: server_config()))
    running = asyncio.ensure_future(Handshake(server, server_config(), carriage).run())
    peer.say(peer.sent)
    await until(lambda: peer.heard)
    assert ConnectionConfirm.decode(peer.heard).selected_protocol is not None
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_client_that_leaves_while_the_hook_runs_cancels_it():
    begun, ended = asyncio.Event(), []

    async def route(_request):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            ended.append(type(error))
            raise

    client, server = memory_pair()
    peer, reports = ByHand(client), []
    handshake = Handshake(server, server_config(), RDP(route=route), on_handshake=reports.append)
    running = asyncio.ensure_future(handshake.run())
    peer.say(peer.sent)
    await begun.wait()
    client.transport.close()
    with pytest.raises(CredSSPError) as caught:
        await running
    assert isinstance(caught.value, PeerClosed)
    assert ended == [asyncio.CancelledError]
    assert [report.outcome for report in reports] == [HandshakeOutcome.LEFT]

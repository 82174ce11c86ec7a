"""RDP.route: which configuration a connection gets, by its Connection Request and before TLS."""

import contextlib
import functools

import pytest
from support.engine import CUTS, End, converse
from support.logon import ALICE, server_tls
from support.logon import client as client_end

from acredssp.carriage.base import PassedOn
from acredssp.carriage.rdp import RDP, RDPState
from acredssp.carriage.routes import Passthrough, RDPRoute
from acredssp.config import ServerConfig
from acredssp.core.events import LookupCredential, Route
from acredssp.credentials import Deny, Password
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CredSSPError,
    LocalProtocolError,
    NegotiationFailure,
    PeerClosed,
    RemoteProtocolError,
)
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire.preconnection import PreconnectionPDU
from acredssp.wire.x224 import ConnectionConfirm, ConnectionRequest, FailureCode, Protocols, ResponseFlags

TOKEN = "tsv://MS Terminal Services Plugin.1.Desktops"
CLIENT = RDP(routing_token=TOKEN, hybrid_ex=True)
REQUEST = ConnectionRequest(
    requested_protocols=Protocols.SSL | Protocols.HYBRID | Protocols.HYBRID_EX, routing_token=TOKEN
).encode()


def config(key_type="rsa", **changes):
    policy = changes.pop("policy", Policy())
    return ServerConfig(ssl_context=server_tls(policy, key_type), lookup=lambda _: ALICE, policy=policy, **changes)


LISTENER = config()
CHOSEN = config("ec")


def nobody(_request):
    pytest.fail("a sans-IO user answers events: hooks are for asyncio")


def asked(carriage=RDP(route=nobody), listener=LISTENER, new_context=None):  # noqa: B008
    """An acceptor that has asked where the connection belongs, and its event."""
    more = () if new_context is None else (new_context,)
    acceptor = carriage.acceptor(listener, *more)
    result = acceptor.step(REQUEST)
    assert (result.status, result.output) == (SecurityStatus.SEC_I_CONTINUE_NEEDED, b"")
    return acceptor, result.event


def test_the_acceptor_stops_with_the_whole_request_before_it_confirms():
    acceptor, event = asked()
    assert isinstance(event, Route)
    assert event.request == ConnectionRequest.decode(REQUEST)
    assert event.hook is nobody
    assert (acceptor.state, acceptor.confirm, acceptor.heard_all) == (RDPState.ROUTING, None, False)


def test_without_a_hook_nobody_is_asked():
    result = RDP().acceptor(LISTENER).step(REQUEST)
    assert result.event is None
    assert ConnectionConfirm.decode(result.output).selected_protocol is Protocols.HYBRID


ROUTES = {
    "a configuration": (RDP(route=nobody), CHOSEN, Protocols.HYBRID, RDP().response_flags),
    "a configuration, with hybrid-ex": (
        RDP(route=nobody, hybrid_ex=True), CHOSEN, Protocols.HYBRID_EX, RDP().response_flags,
    ),
    "a route alone": (RDP(route=nobody), RDPRoute(CHOSEN), Protocols.HYBRID, RDP().response_flags),
    "a route with hybrid-ex": (
        RDP(route=nobody), RDPRoute(CHOSEN, hybrid_ex=True), Protocols.HYBRID_EX, RDP().response_flags,
    ),
    "a route without hybrid-ex": (
        RDP(route=nobody, hybrid_ex=True), RDPRoute(CHOSEN, hybrid_ex=False), Protocols.HYBRID, RDP().response_flags,
    ),
    "a route with flags": (
        RDP(route=nobody), RDPRoute(CHOSEN, response_flags=ResponseFlags(0)), Protocols.HYBRID, ResponseFlags(0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("carriage", "answer", "selected", "flags"), ROUTES.values(), ids=ROUTES)
def test_the_answer_makes_the_confirm_and_the_context(carriage, answer, selected, flags):
    acceptor, event = asked(carriage)
    listeners = acceptor.context
    confirm = ConnectionConfirm.decode(acceptor.resume(event, answer).output)
    assert (confirm.selected_protocol, confirm.flags) == (selected, flags)
    assert acceptor.chosen is CHOSEN
    assert acceptor.context is not listeners
    assert acceptor.state is RDPState.CREDSSP


def test_the_listeners_own_configuration_needs_no_second_context():
    made = []

    def new_context(config):
        made.append(config)
        return config.new_context()

    acceptor, event = asked(new_context=new_context)
    acceptor.resume(event, LISTENER)
    assert made == [LISTENER]
    assert acceptor.chosen is None


def test_the_maker_of_contexts_is_given_the_configuration_that_was_chosen():
    made = []

    def new_context(config):
        made.append(config)
        return config.new_context()

    acceptor, event = asked(new_context=new_context)
    acceptor.resume(event, RDPRoute(CHOSEN))
    assert made == [LISTENER, CHOSEN]


@pytest.mark.parametrize("cut", CUTS)
def test_a_whole_logon_at_any_cut_has_the_certificate_and_the_policy_that_were_chosen(cut):
    tls12 = config("ec", policy=Policy(max_tls=Policy().min_tls))

    def answer(event):
        return tls12 if isinstance(event, Route) else ALICE if isinstance(event, LookupCredential) else True

    ends = client_end(key_type="ec", carriage=CLIENT), End(RDP(route=nobody).acceptor(LISTENER), answer)
    list(converse(*ends, CUTS[cut]))
    assert [end.done for end in ends] == [True, True]
    assert ends[1].context.context.info.tls_version == "TLSv1.2"
    assert isinstance(ends[1].context.context.take_credentials().as_password(), Password)


@pytest.mark.parametrize("code", [FailureCode.SSL_NOT_ALLOWED_BY_SERVER, FailureCode.HYBRID_REQUIRED_BY_SERVER])
def test_a_failure_code_is_sent_as_it_is(code):
    acceptor, event = asked()
    with pytest.raises(NegotiationFailure) as caught:
        acceptor.resume(event, code)
    assert caught.value.failure_code is code
    assert caught.value.stage is Stage.NEGOTIATION
    assert caught.value.message == "the connection was turned away by the server's route"
    assert ConnectionConfirm.decode(acceptor.farewell).failure_code is code


@pytest.mark.parametrize("answer", [Deny(), False, None, True, "target", RDP(), Password("x")], ids=repr)
def test_whatever_is_no_route_closes_without_a_word(answer):
    acceptor, event = asked()
    with pytest.raises(AccessDenied) as caught:
        acceptor.resume(event, answer)
    assert caught.value.stage is Stage.NEGOTIATION
    assert caught.value.nt_status is NTSTATUS.STATUS_ACCESS_DENIED
    assert acceptor.farewell == acceptor.last_token == b""
    with pytest.raises(AccessDenied):
        acceptor.step(b"")


PDU = PreconnectionPDU(id=7, blob="desktops")


def receive(_reader, _writer):
    pytest.fail("a sans-IO user looks at passed_on")


@pytest.mark.parametrize(
    ("pdu", "wanted", "front"), [(None, False, b""), (None, True, b""), (PDU, False, b""), (PDU, True, PDU.encode())]
)
def test_a_connection_is_passed_on_with_its_request_and_with_the_preconnection_pdu_where_it_is_wanted(
    pdu, wanted, front
):
    acceptor = RDP(route=nobody, allow_preconnection=True).acceptor(LISTENER)
    assert acceptor.passed_on is None
    event = acceptor.step((pdu.encode() if pdu else b"") + REQUEST).event
    result = acceptor.resume(event, Passthrough(receive, preconnection=wanted), b"early")
    assert acceptor.passed_on == PassedOn(receive, front + REQUEST)
    assert (result.status, result.output, result.extra) == (SecurityStatus.SEC_E_OK, b"", 5)
    assert acceptor.state is RDPState.DONE


@pytest.mark.parametrize("answer", [CHOSEN, FailureCode.SSL_NOT_ALLOWED_BY_SERVER], ids=["config", "code"])
def test_a_client_that_does_not_wait_for_the_confirm_is_refused(answer):
    acceptor, event = asked()
    with pytest.raises(RemoteProtocolError, match=r"nothing in clear behind .* got 1 bytes"):
        acceptor.resume(event, answer, b"\x16")
    assert acceptor.farewell == b""


def test_a_route_cannot_let_in_a_client_that_leaves_credssp_out():
    acceptor = RDP(route=nobody).acceptor(LISTENER)
    event = acceptor.step(ConnectionRequest(requested_protocols=Protocols.SSL).encode()).event
    with pytest.raises(NegotiationFailure):
        acceptor.resume(event, RDPRoute(CHOSEN, hybrid_ex=True))
    assert ConnectionConfirm.decode(acceptor.farewell).failure_code is FailureCode.HYBRID_REQUIRED_BY_SERVER


def test_nothing_else_is_taken_while_the_answer_is_due():
    acceptor, event = asked()
    with pytest.raises(LocalProtocolError, match="resume"):
        acceptor.step(b"")
    acceptor.resume(event, CHOSEN)
    with pytest.raises(LocalProtocolError, match="step"):
        acceptor.resume(event, CHOSEN)


def test_an_answer_to_another_event_changes_nothing():
    acceptor, event = asked()
    with pytest.raises(LocalProtocolError, match="expected the answer to the pending Route, got one to another Route"):
        acceptor.resume(Route(event.request, nobody), FailureCode.SSL_NOT_ALLOWED_BY_SERVER)
    assert (acceptor.state, acceptor.farewell) == (RDPState.ROUTING, b"")
    assert ConnectionConfirm.decode(acceptor.resume(event, CHOSEN).output).selected_protocol is Protocols.HYBRID


@pytest.mark.parametrize(
    "end",
    [lambda acceptor: acceptor.receive_eof(), lambda acceptor: acceptor.fail(CredSSPError("ended"))],
    ids=["eof", "fail"],
)
def test_an_end_while_the_answer_is_due_is_one_of_the_negotiation(end):
    acceptor, event = asked()
    with contextlib.suppress(PeerClosed):
        end(acceptor)
    with pytest.raises(CredSSPError) as caught:
        acceptor.resume(event, CHOSEN)
    assert caught.value.stage is Stage.NEGOTIATION


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: RDP(route="target"), "route"),
        (lambda: RDPRoute("target"), "config"),
        (functools.partial(RDPRoute, CHOSEN, hybrid_ex="yes"), "hybrid_ex"),
        (functools.partial(RDPRoute, CHOSEN, response_flags=1), "response_flags"),
        (lambda: Passthrough("target"), "connected"),
        (lambda: Passthrough(None), "connected"),
        (functools.partial(Passthrough, receive, preconnection=1), "preconnection"),
    ],
)
def test_an_option_of_another_type_is_refused_by_its_name(make, name):
    with pytest.raises(TypeError, match=f"{name}: expected"):
        make()


@pytest.mark.parametrize("flags", [None, ResponseFlags(0)])
def test_a_route_has_flags_of_its_own_or_none(flags):
    assert RDPRoute(CHOSEN, response_flags=flags).response_flags is flags


def test_with_hybrid_ex_a_user_who_is_not_known_is_refused_by_the_logon_and_not_by_the_result():
    client, server = client_end(carriage=CLIENT), End(RDP(hybrid_ex=True).acceptor(LISTENER), lambda _event: None)
    with pytest.raises(AuthenticationError) as caught:
        list(converse(client, server))
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert caught.value.stage is not Stage.EARLY_USER_AUTH

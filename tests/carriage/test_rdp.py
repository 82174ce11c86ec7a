"""RDP around a handshake: X.224 in clear, TLS, CredSSP, early user authorization; scripted mechanisms, real TLS."""

import dataclasses
import pathlib
from types import SimpleNamespace

import pytest
from support.engine import ALICE, CUTS, End, Script, converse, pem, session
from support.records import APPLICATION_DATA, HANDSHAKE, directions
from vectors.load import captures

from acredssp import tls_config
from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP, RDPState
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.results import StepResult
from acredssp.core.server import ServerHandshake
from acredssp.core.tls import TLSSession
from acredssp.credentials import DelegatedKind, Deny
from acredssp.errors import (
    AccessDenied,
    CredSSPError,
    LimitExceeded,
    LocalProtocolError,
    NegotiationFailure,
    PeerClosed,
    RemoteProtocolError,
)
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire import early_auth
from acredssp.wire.early_auth import AuthorizationResult
from acredssp.wire.x224 import (
    ConnectionConfirm,
    ConnectionRequest,
    FailureCode,
    Protocols,
    RequestFlags,
    ResponseFlags,
)

POLICY = Policy()
PLAIN = RDP()
EX = RDP(hybrid_ex=True, cookie="administrator")


def initiator(carriage: RDP = PLAIN):
    handshake = ClientHandshake(Script(b"c1", b"c2"), ALICE, POLICY)
    return carriage.initiator(SecurityContext(handshake, session("rsa", POLICY, server_side=False)))


def acceptor(carriage: RDP = PLAIN, *, admit: bool = False, keys: pathlib.Path | None = None):
    handshake = ServerHandshake(Script(b"s1", b""), POLICY, admit=admit)
    tls = session("rsa", POLICY, server_side=True)
    if keys is not None:
        context = tls_config.server_context_from_pem(POLICY, *pem("rsa"))
        context.keylog_filename = str(keys)
        tls = TLSSession(context, server_side=True)
    return carriage.acceptor(None, lambda _config: SecurityContext(handshake, tls))


def confirm(protocol: int | None = None, failure: int | None = None) -> bytes:
    return ConnectionConfirm(
        selected_protocol=None if protocol is None else Protocols(protocol),
        failure_code=None if failure is None else FailureCode(failure),
    ).encode()


# --- the whole way ---


@pytest.mark.requirement("tls.reassembly")
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("client", "server", "selected"),
    [
        (PLAIN, PLAIN, Protocols.HYBRID),
        (EX, PLAIN, Protocols.HYBRID),
        (PLAIN, EX, Protocols.HYBRID),
        (EX, EX, Protocols.HYBRID_EX),
    ],
)
def test_a_handshake_passes_at_any_cut(client, server, selected, cut):
    ends = End(initiator(client)), End(acceptor(server))
    list(converse(*ends, CUTS[cut]))
    assert [end.done for end in ends] == [True, True]
    assert [end.context.state for end in ends] == [RDPState.DONE, RDPState.DONE]
    assert ends[0].context.confirm.selected_protocol is selected
    assert ends[1].context.context.take_credentials() == ALICE


def test_the_cookie_is_cut_as_mstsc_cuts_it():
    ends = End(initiator(EX)), End(acceptor(PLAIN))
    list(converse(*ends))
    assert ends[1].context.cookie == "administ" + "r"
    assert ends[1].context.request.requested_protocols == Protocols.SSL | Protocols.HYBRID | Protocols.HYBRID_EX


def test_without_a_cookie_it_is_empty():
    ends = End(initiator()), End(acceptor())
    list(converse(*ends))
    assert ends[1].context.cookie == ends[0].context.cookie == ""


TOKEN = "tsv://MS Terminal Services Plugin.1.Desktops"


def test_a_routing_token_is_sent_in_place_of_a_cookie_and_the_server_sees_the_whole_request():
    correlation_id = bytes(range(1, 13)) + b"abcd"
    ends = End(initiator(RDP(routing_token=TOKEN, correlation_id=correlation_id))), End(acceptor())
    list(converse(*ends))
    request = ends[1].context.request
    assert (request.routing_token, request.cookie, request.correlation_id) == (TOKEN, None, correlation_id)
    assert request == ends[0].context.request
    assert ends[1].context.cookie == ""


@pytest.mark.parametrize(
    "client_request",
    [
        ConnectionRequest(),
        ConnectionRequest(cookie="a.name.that.is.long"),
        ConnectionRequest(routing_token=TOKEN, requested_protocols=Protocols.SSL | Protocols.HYBRID | Protocols.RDSTLS),
        ConnectionRequest(
            cookie="\udcff",
            requested_protocols=Protocols.HYBRID,
            flags=RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED | RequestFlags(0x40),
            correlation_id=bytes(range(1, 13)) + b"abcd",
        ),
    ],
)
@pytest.mark.parametrize("hybrid_ex", [False, True])
def test_a_gateway_sends_its_clients_request_on_whole_with_protocols_of_its_own(client_request, hybrid_ex):
    # Twice over the wire, as it comes to a gateway and goes to the target.
    if client_request.requested_protocols is not None:
        client_request = ConnectionRequest.decode(client_request.encode())
    carriage = RDP(request=client_request, hybrid_ex=hybrid_ex)
    sent = ConnectionRequest.decode(initiator(carriage).step().output)
    protocols = Protocols.SSL | Protocols.HYBRID
    protocols = protocols | Protocols.HYBRID_EX if hybrid_ex else protocols
    assert sent == dataclasses.replace(client_request, requested_protocols=protocols)


def test_a_carriage_is_given_a_request_for_one_connection_and_keeps_all_else():
    request, flags = ConnectionRequest(cookie="bob"), ResponseFlags.DYNVC_GFX_PROTOCOL_SUPPORTED
    shared = RDP(hybrid_ex=True, allow_preconnection=True, response_flags=flags, route=print)
    assert shared.with_request(request) == dataclasses.replace(shared, request=request)
    assert shared.request is None
    with pytest.raises(TypeError, match="request: expected ConnectionRequest, got NoneType"):
        shared.with_request(None)


def test_a_carriage_of_a_class_derived_from_rdp_stays_one_with_another_request():
    class Derived(RDP):
        pass

    assert type(Derived().with_request(ConnectionRequest())) is Derived


def test_a_gateway_asks_besides_for_the_mode_that_what_it_delegates_takes():
    request = ConnectionRequest(requested_protocols=Protocols.HYBRID, flags=RequestFlags(0x40))
    sent = RDP(request=request).new_request(RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED)
    assert sent.flags == RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED | RequestFlags(0x40)


@pytest.mark.parametrize(
    "option",
    [
        {"cookie": "bob"},
        {"routing_token": TOKEN},
        {"correlation_id": b"\x01" * 16},
        {"correlation_id": b""},
        {"request_flags": RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED},
    ],
)
def test_a_request_takes_the_place_of_the_options_it_has_itself(option):
    with pytest.raises(ValueError, match=f"request and {next(iter(option))}: expected one of them, got both"):
        RDP(request=ConnectionRequest(), **option)
    if option != {"correlation_id": b""}:  # which no carriage has
        with pytest.raises(ValueError, match=f"request and {next(iter(option))}: expected one of them, got both"):
            RDP(**option).with_request(ConnectionRequest())


@pytest.mark.parametrize(
    "options",
    [
        {"request": ConnectionRequest(cookie="x" * 300)},
        {"request": ConnectionRequest(cookie="bob", routing_token=TOKEN)},
        {"request": ConnectionRequest(requested_protocols=Protocols.HYBRID, correlation_id=bytes(16))},
        {"routing_token": TOKEN, "cookie": "bob"},
        {"routing_token": "two\r\nlines"},
        {"routing_token": "\x1btoken"},
        {"routing_token": "x" * 300},
        {"cookie": "a\rb"},
        {"cookie": "\ud800"},
        {"correlation_id": b"short"},
        {"correlation_id": bytes(16)},
        {"correlation_id": b"\x0d" * 16},
    ],
)
def test_a_request_that_cannot_be_written_is_refused_when_the_carriage_is_made(options):
    with pytest.raises(ValueError, match=r"cookie|routing token|correlation_id"):
        RDP(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"routing_token": b"tsv://x"},
        {"routing_token": None},
        {"correlation_id": "0" * 16},
        {"cookie": None},
        {"hybrid_ex": "yes"},
        {"request_flags": 1},
        {"response_flags": 1},
        {"request": b"0300"},
    ],
)
def test_an_option_of_another_type_is_refused_by_its_name(options):
    with pytest.raises(TypeError, match=f"{next(iter(options))}: expected"):
        RDP(**options)


def test_request_flags_are_sent():
    carriage = RDP(request_flags=RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED)
    assert ConnectionRequest.decode(initiator(carriage).step().output).flags == carriage.request_flags


@pytest.mark.parametrize(
    ("delegated", "mode"),
    [
        (DelegatedKind.NOTHING, RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED),
        (DelegatedKind.REMOTE_GUARD, RequestFlags.REDIRECTED_AUTHENTICATION_MODE_REQUIRED),
        (DelegatedKind.PASSWORD, RequestFlags(0)),
    ],
)
def test_the_mode_is_that_of_what_is_delegated_beside_the_carriages_flags(delegated, mode):
    client = initiator(RDP(request_flags=RequestFlags(0x40)))
    client.context.handshake.delegated = delegated
    assert ConnectionRequest.decode(client.step().output).flags == mode | RequestFlags(0x40)


def test_a_client_begins_and_leaves_what_has_come_already():
    result = initiator().step(b"early")
    assert (result.status, result.extra) == (SecurityStatus.SEC_I_CONTINUE_NEEDED, 5)
    result = initiator().step()
    assert (result.status, result.extra) == (SecurityStatus.SEC_I_CONTINUE_NEEDED, 0)


def test_bare_tls_is_the_context_itself():
    context = initiator().context
    assert TLS().initiator(context) is TLS().acceptor(None, lambda _config: context) is context
    assert context.context is context
    assert context.cookie == ""
    assert context.request is None


# --- NEGOTIATION ---


@pytest.mark.parametrize(
    ("requested", "hybrid_ex", "selected"),
    [(2, False, 2), (3, False, 2), (11, False, 2), (11, True, 8), (8, True, 8), (10, True, 8), (3, True, 2)],
)
def test_the_server_selects_credssp(requested, hybrid_ex, selected):
    server = acceptor(RDP(hybrid_ex=hybrid_ex))
    reply = server.step(ConnectionRequest(requested_protocols=Protocols(requested)).encode())
    assert ConnectionConfirm.decode(reply.output).selected_protocol == selected
    assert reply.status is SecurityStatus.SEC_I_CONTINUE_NEEDED


@pytest.mark.requirement("rdp.failures")
@pytest.mark.parametrize("requested", [None, 0, 1, 4, 5, 16])
@pytest.mark.parametrize("carriage", [PLAIN, EX])
def test_without_credssp_the_client_is_told_that_it_is_required(requested, carriage):
    server = acceptor(carriage)
    protocols = None if requested is None else Protocols(requested)
    with pytest.raises(NegotiationFailure) as caught:
        server.step(ConnectionRequest(requested_protocols=protocols).encode())
    assert caught.value.failure_code is FailureCode.HYBRID_REQUIRED_BY_SERVER
    assert caught.value.stage is Stage.NEGOTIATION
    assert (protocols or Protocols.RDP).names in caught.value.message
    assert caught.value.hint == "enable network level authentication on the client"
    assert server.farewell == confirm(failure=5)


def test_hybrid_ex_alone_needs_a_server_that_has_it():
    server = acceptor(PLAIN)
    with pytest.raises(NegotiationFailure):
        server.step(ConnectionRequest(requested_protocols=Protocols.HYBRID_EX).encode())


@pytest.mark.requirement("rdp.failures")
@pytest.mark.parametrize("failure", [1, 2, 3, 4, 5, 6, 77])
def test_a_failure_code_is_named(failure):
    client = initiator()
    client.step()
    with pytest.raises(NegotiationFailure, match=FailureCode(failure).name) as caught:
        client.step(confirm(failure=failure))
    assert caught.value.failure_code == failure
    assert client.farewell == b""


@pytest.mark.parametrize(
    ("protocol", "said", "hint"),
    [
        (
            None,
            "chose no protocol, and so standard rdp security, in place of credssp",
            "network level authentication on the server",
        ),
        (0, "chose RDP in place of credssp", "network level authentication on the server"),
        (1, "chose SSL in place of credssp", "network level authentication on the server"),
        (4, "chose RDSTLS in place of credssp", "network level authentication on the server"),
        (8, "chose HYBRID_EX, which was not offered", "update the server"),
        (10, "chose HYBRID, HYBRID_EX in place of credssp", "network level authentication on the server"),
        (16, "chose RDSAAD in place of credssp", "network level authentication on the server"),
        (0x80, "chose 0x00000080 in place of credssp", "network level authentication on the server"),
    ],
)
def test_another_protocol_than_asked_for_is_refused_by_its_name(protocol, said, hint):
    client = initiator(PLAIN)
    client.step()
    with pytest.raises(NegotiationFailure, match=said) as caught:
        client.step(confirm(protocol))
    assert hint in caught.value.hint


@pytest.mark.parametrize("failure", [1, 2, 3, 4, 5, 6, 77])
def test_network_level_authentication_is_advised_where_it_is_what_is_missing(failure):
    client = initiator()
    client.step()
    with pytest.raises(NegotiationFailure) as caught:
        client.step(confirm(failure=failure))
    assert ("network level authentication" in caught.value.hint) is (failure not in {2, 3, 4, 6})


def test_a_client_that_no_route_is_for_is_told_what_routes_go_by():
    client = initiator()
    client.step()
    with pytest.raises(NegotiationFailure) as caught:
        client.step(confirm(failure=2))
    assert "check the cookie, the routing token and the preconnection blob" in caught.value.hint


@pytest.mark.parametrize(
    ("client", "server", "on_server", "hint_of_server", "hint_of_client"),
    [
        (TLS(), PLAIN, "got a TLS handshake", "--carriage tls", "--carriage rdp"),
        (PLAIN, TLS(), "got RDP's negotiation in clear", "--carriage rdp", "--carriage tls"),
    ],
)
def test_both_sides_are_asked_whether_their_carriages_are_the_same(
    client, server, on_server, hint_of_server, hint_of_client
):
    initiating, accepting = initiator(client), acceptor(server)
    first = initiating.step().output
    with pytest.raises(RemoteProtocolError, match=on_server) as refused:
        accepting.step(first)
    assert hint_of_server in refused.value.hint
    assert accepting.farewell == b""  # so all that the client sees is the end
    with pytest.raises(PeerClosed) as closed:
        initiating.receive_eof()
    assert hint_of_client in closed.value.hint


@pytest.mark.parametrize("carriage", [TLS(), PLAIN])
def test_a_server_that_has_answered_has_the_right_carriage(carriage):
    client, server = initiator(carriage), acceptor(carriage)
    flight = client.step().output
    while client.context.tls.cipher == "":
        flight = client.step(server.step(flight).output).output
    client.context.tls.output()
    with pytest.raises(PeerClosed) as closed:
        client.receive_eof()
    assert closed.value.hint is None


@pytest.mark.requirement("defect.starttls-injection")
@pytest.mark.parametrize("side", ["client", "server"])
def test_bytes_in_clear_behind_the_pdu_are_refused(side):
    if side == "client":
        carried = initiator()
        carried.step()
        pdu = confirm(2)
    else:
        carried = acceptor()
        pdu = ConnectionRequest(requested_protocols=Protocols.HYBRID).encode()
    with pytest.raises(RemoteProtocolError, match=r"in clear behind the x.224 pdu, got 1"):
        carried.step(pdu + b"\x16")


CLIENTS = [capture for capture in captures() if capture.get("recorder_role") == "server" and capture.get("x224_cr")]


@pytest.mark.parametrize("capture", CLIENTS, ids=lambda capture: capture["label"])
def test_recorded_requests_are_answered(capture):
    server = acceptor(RDP(hybrid_ex=capture.get("selected_protocol") == 8))
    pdu = bytes.fromhex(capture["x224_cr"])
    for size in range(len(pdu)):
        result = server.step(pdu[:size])
        assert result.status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
        assert result.missing == (4 - size if size < 4 else len(pdu) - size)
    if capture.get("selected_protocol") is None:
        with pytest.raises(NegotiationFailure):
            server.step(pdu)
        return
    reply = ConnectionConfirm.decode(server.step(pdu).output)
    assert reply.selected_protocol == capture["selected_protocol"]


@pytest.mark.parametrize("data", [b"\x16\x03\x01", b"GET / HTTP/1.0\r\n\r\n", b"\x03\x00\xff\xff", b"\x03\x00\x00\x05"])
def test_what_is_no_x224_is_refused_at_once(data):
    with pytest.raises((RemoteProtocolError, LimitExceeded)) as caught:
        acceptor().step(data)
    assert caught.value.stage is Stage.NEGOTIATION


# --- EARLY_USER_AUTH ---


@pytest.mark.requirement("rdp.early-result")
@pytest.mark.parametrize("answer", [False, None, Deny(NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED)])
def test_with_hybrid_ex_a_refusal_to_admit_reaches_the_client(answer):
    client, server = End(initiator(EX)), End(acceptor(EX, admit=True), answer=lambda event: answer)
    with pytest.raises(AccessDenied) as refused:
        list(converse(client, server))
    assert refused.value.stage is Stage.EARLY_USER_AUTH
    assert server.context.context.take_credentials() is None
    with pytest.raises(AccessDenied, match="did not authorize") as told:
        client.step(server.context.farewell)
    assert told.value.stage is Stage.EARLY_USER_AUTH
    assert told.value.nt_status is NTSTATUS.STATUS_ACCESS_DENIED


def test_with_hybrid_ex_a_refusal_that_nobody_asked_for_reaches_nobody():
    client, server = End(initiator(EX)), End(acceptor(EX, admit=True))
    client.step(server.step(client.step(b"")))
    with pytest.raises(LocalProtocolError, match="does not wait for an answer"):
        server.context.resume(None, Deny())
    assert server.context.farewell == b""


def test_with_hybrid_ex_a_refusal_that_is_for_another_event_reaches_nobody():
    client, server = End(initiator(EX)), End(acceptor(EX, admit=True))

    def answer(event):
        with pytest.raises(LocalProtocolError, match="expected the answer to the pending Admit, got one to another"):
            server.context.resume(dataclasses.replace(event), Deny())
        return True

    server.answer = answer
    assert list(converse(client, server))
    assert (client.done, server.done) == (True, True)


def test_with_hybrid_alone_a_refusal_to_admit_just_ends_the_connection():
    client, server = End(initiator(PLAIN)), End(acceptor(EX, admit=True), answer=lambda event: Deny())
    with pytest.raises(AccessDenied):
        list(converse(client, server))
    assert client.done
    assert client.context.context.tls.read(server.context.farewell) == b""
    assert client.context.context.tls.peer_closed


@pytest.mark.requirement("tls.surplus", "rdp.early-result")
@pytest.mark.parametrize("cut", CUTS)
def test_what_follows_the_result_is_the_applications(cut):
    client = waiting_for_the_result()
    tls = client.peer
    tls.write(early_auth.encode(AuthorizationResult.SUCCESS) + b"MCS Connect Response")
    tls.write(b"more")
    client.feed(tls.output(), CUTS[cut])
    assert client.end.done
    assert client.end.context.context.trailing_data == b"MCS Connect Response"


def test_records_behind_the_result_are_left_as_they_are():
    client = waiting_for_the_result()
    client.peer.write(early_auth.encode(AuthorizationResult.SUCCESS))
    first = bytes(client.peer.output())
    client.peer.write(b"more")
    more = bytes(client.peer.output())
    result = client.end.context.step(first + more)
    assert (result.status, result.extra) == (SecurityStatus.SEC_E_OK, len(more))


def test_a_client_that_waits_for_the_result_goes_on():
    client = waiting_for_the_result()
    assert client.end.results[-1].status is SecurityStatus.SEC_I_CONTINUE_NEEDED


@pytest.mark.interpreted_only("the handshake is given a context by hand")
def test_the_result_goes_behind_what_tls_has_to_send():
    server = acceptor(EX)
    server.step(ConnectionRequest(requested_protocols=Protocols.HYBRID_EX).encode())
    server.context = SimpleNamespace(
        step=lambda _data: StepResult(SecurityStatus.SEC_E_OK, b"key update"),
        tls=SimpleNamespace(encrypt=lambda data: b"sealed " + data),
    )
    assert server.step(b"").output == b"key updatesealed " + early_auth.encode(AuthorizationResult.SUCCESS)


@pytest.mark.requirement("rdp.early-result")
@pytest.mark.parametrize("piece", [1, 2, 3])
def test_a_result_split_over_records(piece):
    client = waiting_for_the_result()
    result = early_auth.encode(AuthorizationResult.SUCCESS)
    client.peer.write(result[:piece])
    answer = client.end.context.step(client.peer.output())
    assert (answer.status, answer.missing) == (SecurityStatus.SEC_I_CONTINUE_NEEDED, 5)
    client.peer.write(result[piece:])
    assert client.end.context.step(client.peer.output()).status is SecurityStatus.SEC_E_OK


@pytest.mark.parametrize("result", [b"\x01\0\0\0", b"\x30\x05\xa0\x03", b"\xff" * 4])
def test_any_other_result_is_a_protocol_error(result):
    client = waiting_for_the_result()
    client.peer.write(result)
    with pytest.raises(RemoteProtocolError) as caught:
        client.end.context.step(client.peer.output())
    assert caught.value.stage is Stage.EARLY_USER_AUTH


def tickets_by_hand(folder):
    """A client that waits for the result, and a function that makes records with a session ticket of a given size."""
    client = waiting_for_the_result(folder / "keys")
    _, server = directions((folder / "keys").read_text("ascii"), client.flights)

    def ticket(size):
        body = bytes(8) + b"\1\0" + size.to_bytes(2, "big") + bytes(size) + b"\0\0"  # NewSessionTicket, RFC 8446 4.6.1
        return server.seal(HANDSHAKE, b"\4" + len(body).to_bytes(3, "big") + body)

    return client, server, ticket


@pytest.mark.parametrize("at_once", [1, 4])
def test_session_tickets_in_front_of_the_result_are_counted(at_once, tmp_path):
    client, _, ticket = tickets_by_hand(tmp_path)
    with pytest.raises(LimitExceeded, match="too many tls records") as caught:
        for taken in range(0, 100, at_once):  # noqa: B007 - is looked at below
            client.end.step(b"".join(ticket(1) for _ in range(at_once)))
    assert 40 < taken < 64
    assert caught.value.stage is Stage.EARLY_USER_AUTH
    assert client.end.context.state is RDPState.FAILED


def test_a_call_takes_64_records_in_front_of_the_result(tmp_path):
    client, server, ticket = tickets_by_hand(tmp_path)
    stream = [ticket(600) for _ in range(100)]
    result = client.end.context.step(b"".join(stream))
    left = b"".join(stream[64:])
    assert (result.status, result.missing, result.extra) == (SecurityStatus.SEC_I_CONTINUE_NEEDED, 0, len(left))
    final = server.seal(APPLICATION_DATA, early_auth.encode(AuthorizationResult.SUCCESS))
    assert client.end.context.step(left + final).status is SecurityStatus.SEC_E_OK


def test_a_close_instead_of_the_result():
    client = waiting_for_the_result()
    client.peer.close()
    with pytest.raises(PeerClosed):
        client.end.context.step(client.peer.output())


class waiting_for_the_result:  # noqa: N801 - reads as what it gives
    """A client in EARLY_USER_AUTH, and the server's TLS without a CredSSP around it."""

    def __init__(self, keys: pathlib.Path | None = None) -> None:
        self.end = End(initiator(EX))
        server = End(acceptor(EX, admit=True, keys=keys), answer=lambda event: pytest.fail("asked twice"))
        self.peer = server.context.context.tls
        self.flights: list[tuple[str, bytes]] = []
        """Of both sides behind the negotiation, as `support.records.directions` reads them."""
        flight = self.end.step(server.step(self.end.step(b"")))
        while self.end.context.state is not RDPState.EARLY_USER_AUTH:
            reply = server.step(flight)
            self.flights += [("c2s", flight), ("s2c", reply)]
            flight = self.end.step(reply)
        # What the client sent last, its authInfo, is never taken: the peer's TLS goes on without it.

    def feed(self, data: bytes, cut) -> None:
        while data and not self.end.done:
            piece = cut(data, self.end.missing)
            self.end.step(piece)
            data = data[len(piece) :]


# --- the end ---


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_end_of_the_transport_in_the_middle(side):
    carried = initiator() if side == "client" else acceptor()
    if side == "client":
        carried.step()
    with pytest.raises(PeerClosed) as caught:
        carried.receive_eof()
    assert caught.value.stage is Stage.NEGOTIATION


def test_the_end_of_the_transport_inside_credssp():
    client = initiator()
    client.step()
    client.step(confirm(2))
    with pytest.raises(PeerClosed) as caught:
        client.receive_eof()
    assert caught.value.stage is Stage.TLS
    assert caught.value.hint is None, "the server has spoken RDP"
    with pytest.raises(PeerClosed):
        client.step(b"")


def test_an_end_by_the_caller_has_no_words_of_its_own():
    client, server = End(initiator()), End(acceptor())
    list(converse(client, server))
    server.context.fail(CredSSPError("ended"))
    assert client.context.context.tls.read(server.context.farewell) == b""


@pytest.mark.parametrize("stage", [None, Stage.TLS])
def test_an_end_by_the_caller_has_the_stage_in_which_it_came_or_one_of_its_own(stage):
    waits, talks = waiting_for_the_result().end.context, initiator()
    talks.step()
    talks.step(confirm(2))
    for client, usual in (waits, Stage.EARLY_USER_AUTH), (talks, Stage.TLS):
        error = CredSSPError("ended")
        error.stage = stage
        client.fail(error)
        assert error.stage is (stage or usual)


def test_a_first_byte_that_many_protocols_have_asks_for_one_byte_more():
    result = acceptor().step(b"\x12")
    assert (result.status, result.missing, result.extra) == (SecurityStatus.SEC_E_INCOMPLETE_MESSAGE, 1, 1)


def test_the_end_of_the_transport_instead_of_the_result():
    client = waiting_for_the_result()
    with pytest.raises(PeerClosed) as caught:
        client.end.context.receive_eof()
    assert caught.value.stage is Stage.EARLY_USER_AUTH


def test_a_failure_is_sticky():
    client = initiator()
    client.step()
    with pytest.raises(NegotiationFailure) as first:
        client.step(confirm(failure=2))
    for call in (client.step, lambda: client.resume(None, None), client.receive_eof):
        with pytest.raises(CredSSPError) as again:
            call()
        assert again.value is first.value


def test_misuse_leaves_the_handshake_as_it_is():
    client = initiator()
    with pytest.raises(LocalProtocolError):
        client.resume(None, None)
    ends = End(client), End(acceptor())
    list(converse(*ends))
    for end in ends:
        with pytest.raises(LocalProtocolError):
            end.context.step(b"")

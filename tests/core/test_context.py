"""SecurityContext with TLS inside: records, counts, surplus, farewells; scripted mechanisms, real TLS."""

import contextlib
import copy
import random
import ssl

import pytest
from support.engine import ALICE, CUTS, KEY, End, Script, converse, pem, script_client, script_server, session, whole

from acredssp import tls_config
from acredssp.core import context as context_module
from acredssp.core.binding import client_value
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.events import ChooseCertificate, JudgeCertificate, LookupCredential
from acredssp.core.results import HandshakeInfo
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.core.tls import TLSSession
from acredssp.credentials import Deny
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CertificateError,
    CredSSPError,
    LimitExceeded,
    LocalProtocolError,
    PeerClosed,
    PolicyError,
    RemoteProtocolError,
    TLSError,
)
from acredssp.mechanisms.base import Principal
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire import der, early_auth, tls_record, ts_credentials
from acredssp.wire.first_bytes import OTHER_SIDE_RDP
from acredssp.wire.ts_request import TSRequest
from acredssp.wire.x509 import pin_of, subject_public_key

NONCE = bytes(32)
INCOMPLETE = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
CONTINUE = SecurityStatus.SEC_I_CONTINUE_NEEDED

POLICIES = {
    "tls12": Policy(max_tls=ssl.TLSVersion.TLSv1_2),
    "tls13": Policy(min_tls=ssl.TLSVersion.TLSv1_3),
}


@pytest.fixture(params=POLICIES)
def policy(request):
    return POLICIES[request.param]


def client_context(policy: Policy, *tokens, judge: bool = False) -> SecurityContext:
    handshake = ClientHandshake(Script(*(tokens or (b"c1", b"c2"))), ALICE, policy)
    return SecurityContext(handshake, session("rsa", policy, server_side=False), judge=judge)


def server_context(policy: Policy, *tokens, key_type: str = "rsa", **kwargs) -> SecurityContext:
    handshake = ServerHandshake(Script(*(tokens or (b"s1", b""))), policy, **kwargs)
    return SecurityContext(handshake, session(key_type, policy, server_side=True))


def ends(policy: Policy, *, client=None, server=None) -> tuple[End, End]:
    return End(client or client_context(policy)), End(server or server_context(policy))


def over_tls(context: SecurityContext, policy: Policy) -> TLSSession:
    """Bring TLS up between a context and a bare TLS peer that knows nothing of CredSSP; a client has then spoken."""
    is_client = isinstance(context.handshake, ClientHandshake)
    peer = session("rsa", policy, server_side=is_client)
    flight = context.step().output if is_client else b""
    for _ in range(5):
        done = peer.handshake(flight)
        reply = peer.output()
        if done and not reply:
            return peer
        flight = context.step(reply).output
    raise AssertionError("tls does not come up")


def request(**fields: object) -> bytes:
    return TSRequest(6, **fields).encode()


def send(peer: TLSSession, plaintext: bytes) -> bytes:
    peer.write(plaintext)
    return peer.output()


def receive(peer: TLSSession, ciphertext: bytes) -> bytes:
    return peer.read(ciphertext)


def records(data: bytes) -> list[bytes]:
    found, offset = [], 0
    while offset < len(data):
        end = tls_record.record_end(data, offset)
        found.append(data[offset:end])
        offset = end
    return found


# --- the whole way ---


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("key_type", ["rsa", "ec"])
def test_a_handshake_passes_at_any_cut(policy, key_type, cut):
    client, server = ends(policy, server=server_context(policy, key_type=key_type))
    flights = list(converse(client, server, CUTS[cut]))
    assert client.done
    assert server.done
    assert server.context.take_credentials() == ALICE
    if cut == "whole":
        directions = [direction for direction, _ in flights]
        assert directions.count("c2s") + directions.count("s2c") == (7 if policy is POLICIES["tls13"] else 9)


def test_the_bare_shape_has_the_same_exchange():
    for cut in CUTS.values():
        client, server = End(script_client()), End(script_server())
        sizes = [len(flight) for _, flight in converse(client, server, cut)]
        assert (client.done, server.done, len(sizes)) == (True, True, 5)


def test_the_bare_shape_without_a_key_to_bind_to_is_refused():
    with pytest.raises(ValueError, match="public key"):
        SecurityContext(ClientHandshake(Script(b"c1"), ALICE, Policy()), None)


@pytest.mark.requirement("tls.nothing-to-say")
def test_a_bare_client_may_learn_the_servers_key_after_its_first_message():
    client = SecurityContext(ClientHandshake(Script(b"c1", b"c2"), ALICE, Policy()), None, public_key=None)
    server = End(script_server())
    challenge = server.step(client.step().output)
    with pytest.raises(LocalProtocolError, match="bind"):
        client.step(challenge)
    with pytest.raises(LocalProtocolError):
        client.bind(b"")
    client.bind(KEY)
    with pytest.raises(LocalProtocolError):
        client.bind(KEY)
    server.step(client.step(challenge).output)
    assert server.context.state is State.AUTH_INFO


@pytest.mark.parametrize("certified", [None, False, True])
def test_whoever_binds_says_whether_a_certificate_vouches_for_the_key(certified):
    client = SecurityContext(ClientHandshake(Script(b"c1", b"c2"), ALICE, Policy()), None, public_key=None)
    client.bind(KEY, **({} if certified is None else {"certified": certified}))
    assert (client.handshake.public_key, client.handshake.certified) == (KEY, bool(certified))


NOT_BOUND = {
    "a client that has its key": script_client,
    "a server": script_server,
    "a client with tls": lambda: client_context(Policy()),
    "a server with tls": lambda: server_context(Policy()),
}


@pytest.mark.parametrize("kind", NOT_BOUND)
def test_nobody_else_is_bound(kind):
    context = NOT_BOUND[kind]()
    before = context.handshake.public_key
    with pytest.raises(LocalProtocolError, match="on a client's context in the bare shape"):
        context.bind(b"another key")
    assert context.handshake.public_key == before


def test_a_bare_server_knows_its_key():
    with pytest.raises(ValueError, match="public_key: expected the server"):
        SecurityContext(ServerHandshake(Script(b"s1"), Policy()), None, public_key=None)


def test_finished_and_the_first_request_leave_together_under_tls_13():
    policy = POLICIES["tls13"]
    client, server = ends(policy)
    flights = converse(client, server)
    next(flights)
    _, server_flight = next(flights)
    assert len(records(server_flight)) > 1
    _, flight = next(flights)
    # ChangeCipherSpec for middleboxes, Finished, TSRequest
    assert [record[0] for record in records(flight)] == [20, 23, 23]


@pytest.mark.requirement("tls.single-write")
def test_every_request_is_one_record(policy):
    client, server = ends(policy)
    flights = [flight for _, flight in converse(client, server)]
    for flight in flights[-4:]:
        assert [record[0] for record in records(flight)] == [23]


def test_facts_of_an_established_context(policy):
    client, server = ends(policy)
    list(converse(client, server))
    info = client.context.info
    assert (
        info.tls_version == server.context.info.tls_version == ("TLSv1.3" if policy is POLICIES["tls13"] else "TLSv1.2")
    )
    assert (info.version, info.mechanism, info.delegated) == (6, "script", "password")
    assert len(info.peer_key_sha256) == 64
    assert copy.copy(info) == info
    assert server.context.info.peer_key_sha256 is None
    assert "Passw0rd" not in repr(info)
    assert client.context.take_credentials() is None
    assert (client.context.trailing_data, server.context.trailing_data) == (b"", b"")


def test_the_facts_are_those_of_tls_and_of_the_exchange_inside(policy):
    mechanism = Script(b"c1", b"c2")
    mechanism.principal, mechanism.fallback = None, "no kdc answered"
    handshake = ClientHandshake(mechanism, ALICE, policy)
    client, server = ends(policy, client=SecurityContext(handshake, session("rsa", policy, server_side=False)))
    list(converse(client, server))
    tls = client.context.tls
    assert tls.cipher
    assert client.context.info == HandshakeInfo(
        version=6,
        mechanism="script",
        principal=None,
        delegated="password",
        tls_version=tls.version,
        cipher=tls.cipher,
        peer_key_sha256=pin_of(tls.peer_certificate),
        fallback="no kdc answered",
    )
    assert server.context.info == HandshakeInfo(
        version=6,
        mechanism="script",
        principal=Principal("alice", "CONTOSO"),
        delegated="password",
        tls_version=tls.version,
        cipher=tls.cipher,
        peer_key_sha256=None,
    )
    assert server.context.info is server.context.info


def test_the_facts_of_a_bare_context_say_nothing_of_tls():
    client, server = End(script_client()), End(script_server())
    list(converse(client, server))
    for end in (client, server):
        info = end.context.info
        assert (info.tls_version, info.cipher, info.peer_key_sha256) == ("", "", None)
        assert (info.version, info.delegated) == (6, "password")


def test_a_certificate_whose_key_cannot_be_read_has_no_pin():
    """OpenSSL also takes BER."""
    assert context_module._pin(b"no certificate") is None


@pytest.mark.requirement("defect.after-the-end")
def test_an_established_context_takes_no_more_steps(policy):
    client, server = ends(policy)
    list(converse(client, server))
    for end in (client, server):
        with pytest.raises(LocalProtocolError, match="established"):
            end.context.step(b"")
        assert end.context.state is State.ESTABLISHED


# --- exact counts ---


@pytest.mark.requirement("tls.reassembly")
def test_missing_is_exact_for_every_record_and_every_cut(policy):
    """Every prefix of every flight that breaks off inside a record, against a plain reading of its header."""
    client, server = ends(policy)
    flight = client.step(b"")
    for _ in range(20):
        receiver, sender = (server, client)
        for _side in range(2):
            check_counts(receiver.context, flight)
            flight = receiver.step(flight)
            receiver, sender = sender, receiver
            if client.done and server.done:
                return
    raise AssertionError("the conversation does not end")


def check_counts(context: SecurityContext, flight: bytes) -> None:
    first = records(flight)[0] if flight else b""
    for size in [*range(6), *range(6, len(first), 37), len(first) - 1]:
        if not 0 <= size < len(first):
            continue
        result = context.step(first[:size])
        expected = 5 - size if size < 5 else len(first) - size
        assert (result.status, result.missing, result.extra, result.output) == (INCOMPLETE, expected, size, b"")


@pytest.mark.requirement("tls.reassembly")
def test_missing_is_exact_in_the_bare_shape():
    server = script_server()
    message = TSRequest(6, nego_token=b"c" * 300).encode()
    for size in range(len(message)):
        frame = der.frame_size(message[:size], 128 * 1024)
        assert server.step(message[:size]).missing == frame.missing > 0
    assert server.step(message + b"next").extra == 4


@pytest.mark.requirement("tls.nothing-to-say")
def test_whole_records_in_front_are_taken_and_the_rest_is_extra():
    policy = POLICIES["tls13"]
    client, server = ends(policy)
    hello = client.step(b"")
    flight = server.step(hello)
    first, second, *_ = records(flight)
    result = client.context.step(first + second[:3])
    assert (result.status, result.output, result.extra) == (CONTINUE, b"", 3)
    assert result.missing == 2
    result = client.context.step(second)
    assert (result.status, result.missing, result.extra) == (CONTINUE, 5, 0)


@pytest.mark.requirement("tls.reassembly")
def test_a_request_split_over_records_asks_for_the_next_header(policy):
    client = client_context(policy)
    peer = over_tls(client, policy)
    message = request(nego_token=b"s1" * 50)
    for piece in (message[:1], message[1:3], message[3:-1]):
        result = client.step(send(peer, piece))
        assert (result.status, result.missing, result.extra, result.output) == (CONTINUE, 5, 0, b"")
    assert client.step(send(peer, message[-1:])).output
    assert client.handshake.mechanism.got == [b"", b"s1" * 50]


@pytest.mark.requirement("tls.reassembly")
@pytest.mark.parametrize("cuts", [(1,), (1, 3), (1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("tickets", [0, 2])
def test_a_request_of_several_records_in_the_flight_that_ends_the_handshake(cuts, tickets):
    policy = POLICIES["tls13"]
    context = tls_config.server_context_from_pem(policy, *pem("rsa"))
    context.num_tickets = tickets
    context.options &= ~ssl.OP_NO_TICKET
    server = End(SecurityContext(ServerHandshake(Script(b"s1", b""), policy), TLSSession(context, server_side=True)))
    peer = session("rsa", policy, server_side=False)
    peer.handshake()
    assert peer.handshake(server.step(peer.output()))
    flight = peer.output()
    message = request(nego_token=b"c1" * 50)
    for start, stop in zip((0, *cuts), (*cuts, None), strict=True):
        flight += send(peer, message[start:stop])
    assert TSRequest.decode(peer.read(server.step(flight))).nego_token == b"s1"
    assert server.context.handshake.mechanism.got == [b"c1" * 50]


@pytest.mark.requirement("tls.no-tickets")
def test_a_ticket_in_front_of_a_request_is_taken_in_silently():
    policy = POLICIES["tls13"]
    context = tls_config.server_context_from_pem(policy, *pem("rsa"))
    context.num_tickets = 2
    context.options &= ~ssl.OP_NO_TICKET
    client, peer = client_context(policy), TLSSession(context, server_side=True)
    result = client.step()
    for _ in range(2):
        peer.handshake(result.output)
        tickets = peer.output()
        result = client.step(tickets)
    assert (result.status, result.output, result.extra) == (CONTINUE, b"", 0)
    assert len(records(tickets)) == 2
    assert client.step(send(peer, request(nego_token=b"s1"))).output


def test_the_first_call_of_a_client_takes_no_data(policy):
    result = client_context(policy).step(b"early")
    assert result.extra == 5
    assert result.output[0] == tls_record.HANDSHAKE


def test_a_server_waits_for_a_header(policy):
    assert server_context(policy).step(b"") == server_context(policy).step()
    assert server_context(policy).step(b"").missing == 5


# --- what cannot be a record ---


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x03\x00\x00\x13",
        b"\x16\x02",
        b"\x16\x03\x01\xff\xff",
        b"\x19",  # b"\x18" may be the size of a preconnection PDU
        b"\x80\x2e\x01\x03\x01",
    ],
)
def test_what_no_record_begins_with_is_refused_at_once(data):
    server = server_context(Policy())
    with pytest.raises(RemoteProtocolError) as caught:
        server.step(data)
    assert caught.value.security_status is SecurityStatus.SEC_E_INVALID_TOKEN
    assert caught.value.stage is Stage.TLS


def test_under_tls_13_the_longest_record_is_shorter():
    header = b"\x17\x03\x03" + (16_384 + 257).to_bytes(2, "big")
    server = server_context(POLICIES["tls12"])
    over_tls(server, POLICIES["tls12"])
    assert server.step(header).status is INCOMPLETE
    server = server_context(POLICIES["tls13"])
    over_tls(server, POLICIES["tls13"])
    with pytest.raises(RemoteProtocolError):
        server.step(header)


@pytest.mark.requirement("tls.alerts")
def test_garbage_in_a_record_fails_tls_and_leaves_an_alert():
    server = server_context(Policy())
    with pytest.raises(TLSError) as caught:
        server.step(b"\x16\x03\x01\x00\x05hello")
    assert caught.value.stage is Stage.TLS
    assert server.farewell[0] == tls_record.ALERT


# --- first bytes of another protocol ---


@pytest.mark.parametrize(
    ("beginning", "data", "what"),
    [(b"G", b"GET /", "an HTTP request"), (b"GET", b"GET /", "an HTTP request"), (b"SS", b"SSH-2.0", "SSH")],
)
def test_first_bytes_wait_for_more_that_name_their_protocol(beginning, data, what):
    server = server_context(Policy())
    result = server.step(beginning)
    assert (result.status, result.missing, result.extra) == (INCOMPLETE, 1, len(beginning))
    assert (server.state, server.farewell) == (State.TLS, b"")
    with pytest.raises(RemoteProtocolError, match=f"expected a TLS record, got {what}"):
        server.step(data)
    assert server.state is State.FAILED


@pytest.mark.parametrize("side", ["client", "server"])
def test_first_bytes_that_nothing_follows_are_refused_and_not_said_to_be_an_end(side):
    context = client_context(Policy()) if side == "client" else server_context(Policy())
    if side == "client":
        context.step()
    context.step(b"GE")
    with pytest.raises(RemoteProtocolError, match="expected a TLS record of type 20 to 23, got type 71") as caught:
        context.receive_eof()
    assert not isinstance(caught.value, PeerClosed)
    assert caught.value.hint != OTHER_SIDE_RDP


def test_later_bytes_are_never_undecided():
    server = server_context(Policy())
    client = client_context(Policy())
    hello = client.step().output
    server.step(hello)
    with pytest.raises(RemoteProtocolError):
        server.step(b"G")


# --- surplus ---


@pytest.mark.requirement("codec.surplus")
def test_plaintext_behind_a_request_is_refused(policy):
    client = client_context(policy)
    peer = over_tls(client, policy)
    with pytest.raises(RemoteProtocolError, match="nothing behind a TSRequest, got 7 bytes"):
        client.step(send(peer, request(nego_token=b"s1") + b"surplus"))


@pytest.mark.requirement("codec.surplus", "tls.surplus")
def test_plaintext_behind_auth_info_is_the_applications(policy):
    server = server_context(policy)
    peer = over_tls(server, policy)
    server.step(send(peer, request(nego_token=b"c1")))
    key = server.handshake.public_key
    sealed = b"sealed:" + client_value(6, NONCE, key)
    server.step(send(peer, request(nego_token=b"c2", pub_key_auth=sealed, client_nonce=NONCE)))
    first = send(peer, request(auth_info=b"sealed:" + ts_credentials.encode(ALICE)) + b"MCS Connect Initial")
    second = send(peer, b"the next record")
    result = server.step(first + second)
    assert (result.status, result.missing, result.extra) == (SecurityStatus.SEC_E_OK, 0, len(second))
    assert result.output == b""
    assert server.trailing_data == b"MCS Connect Initial"
    assert receive(server.tls, second) == b"the next record"


def test_a_part_of_a_request_that_looks_like_a_request_is_a_part(policy):
    inside = request(nego_token=b"token")
    message = request(nego_token=inside)
    assert message.endswith(inside)
    server = server_context(policy, b"s1", b"s2", b"")
    peer = over_tls(server, policy)
    for piece in message[: -len(inside)], inside, request(nego_token=b"next"):
        server.step(send(peer, piece))
    assert server.handshake.mechanism.got == [inside, b"next"]


def test_a_token_that_needs_no_answer_and_the_request_behind_it_are_taken_by_one_call(policy):
    client, server = ends(policy)
    flight = client.step(b"")
    while client.context.state is not State.PUB_KEY_AUTH:
        flight = client.step(server.step(flight))
    token = server.context.tls.encrypt(request(nego_token=b"one more"))
    result = client.context.step(token + server.step(flight))
    assert (client.context.state, result.extra) == (State.ESTABLISHED, 0)


def test_room_may_be_used_up_and_not_more(policy):
    server = server_context(policy)
    server.count_records(64, 0)
    server.count_records(1, 512)
    with pytest.raises(LimitExceeded):
        server.count_records(1, 511)


def test_a_request_behind_the_end_of_tls_in_one_call_is_answered_by_that_call():
    server, peer = server_context(POLICIES["tls13"]), session("rsa", POLICIES["tls13"], server_side=False)
    peer.handshake(b"")
    assert peer.handshake(server.step(peer.output()).output)
    peer.write(request(nego_token=b"c1"))
    result = server.step(peer.output())
    assert (result.extra, TSRequest.decode(receive(peer, result.output)).nego_token) == (0, b"s1")


@pytest.mark.requirement("codec.size")
def test_a_message_that_announces_too_much_is_refused_before_it_is_there(policy):
    client = client_context(policy)
    peer = over_tls(client, policy)
    with pytest.raises(LimitExceeded):
        client.step(send(peer, b"\x30\x84\x10\x00\x00\x00"))


# --- farewells ---


def test_a_refused_logon_leaves_error_code_then_close_notify(policy):
    refusal = AuthenticationError("no", nt_status=NTSTATUS.STATUS_LOGON_FAILURE)
    server = server_context(policy, LookupCredential(Principal("alice", ""), "ntlm"))
    peer = over_tls(server, policy)
    event = server.step(send(peer, request(nego_token=b"c1"))).event
    with pytest.raises(AuthenticationError):
        server.resume(event, refusal)
    refused, close_notify = records(server.farewell)
    assert server.last_token == refused, "pyspnego's client hangs on a token with both"
    assert TSRequest.decode(receive(peer, refused)) == TSRequest(6, error_code=0xC000006D)
    assert not peer.peer_closed
    assert receive(peer, close_notify) == b""
    assert peer.peer_closed


def test_a_protocol_error_leaves_close_notify_alone(policy):
    server = server_context(policy)
    peer = over_tls(server, policy)
    with pytest.raises(RemoteProtocolError):
        server.step(send(peer, request()))
    assert server.last_token == server.farewell
    assert receive(peer, server.farewell) == b""
    assert peer.peer_closed


def test_where_tls_has_ended_there_are_no_last_words(policy):
    server = server_context(policy)
    over_tls(server, policy)
    server.tls.close()
    server.tls.output()
    server.fail(RemoteProtocolError("for a reason of its own"), b"last words")
    assert server.last_token == server.farewell == b""
    with pytest.raises(RemoteProtocolError, match="for a reason of its own"):
        server.step(b"")


def test_the_key_is_that_of_the_certificate_that_an_sni_callback_has_chosen(policy):
    """Also where the listener's own certificate is known already."""
    listener, chosen = (tls_config.server_context_from_pem(policy, *pem(kind)) for kind in ("rsa", "ec"))
    listener.sni_callback = lambda tls, _name, _context: setattr(tls, "context", chosen)
    server = SecurityContext(ServerHandshake(Script(b"s1", b""), policy), TLSSession(listener, server_side=True))
    listeners = server.own_chain
    over_tls(server, policy)
    assert server.own_chain == tls_config.chain_of(pem("ec")[0]) != listeners
    assert server.handshake.public_key == subject_public_key(server.own_chain[0])


@pytest.mark.requirement("tls.alerts")
def test_a_record_that_does_not_open_leaves_the_alert_that_openssl_sends(policy):
    server = server_context(policy)
    record = bytearray(send(over_tls(server, policy), request(nego_token=b"c1")))
    record[-1] ^= 1
    assert server.alert == b""
    with pytest.raises(TLSError) as caught:
        server.step(record)
    assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED
    assert server.alert == bytes((2, 20)), "bad_record_mac, which is encrypted"
    assert server.last_token == server.farewell != b""


def test_an_answer_takes_no_bytes_and_asks_for_none(policy):
    server = server_context(policy, LookupCredential(Principal("alice", ""), "ntlm"), b"s1")
    peer = over_tls(server, policy)
    result = server.resume(server.step(send(peer, request(nego_token=b"c1"))).event, ALICE)
    assert (result.status, result.missing, result.extra) == (CONTINUE, 0, 0)
    assert TSRequest.decode(receive(peer, result.output)).nego_token == b"s1"


def test_a_bare_context_says_its_error_code_and_nothing_behind_it():
    server = script_server(LookupCredential(Principal("alice", ""), "ntlm"))
    event = server.step(request(nego_token=b"c1")).event
    with pytest.raises(AuthenticationError):
        server.resume(event, AuthenticationError("no", nt_status=NTSTATUS.STATUS_LOGON_FAILURE))
    assert server.farewell == server.last_token
    assert TSRequest.decode(server.farewell) == TSRequest(6, error_code=0xC000006D)


def test_a_carriages_last_words_go_in_front_of_the_close(policy):
    server = server_context(policy)
    peer = over_tls(server, policy)
    server.fail(AccessDenied("no", nt_status=NTSTATUS.STATUS_ACCESS_DENIED), b"last words")
    assert receive(peer, server.last_token) == b"last words"
    assert receive(peer, server.farewell[len(server.last_token) :]) == b""
    assert peer.peer_closed


def test_only_the_first_failure_counts(policy):
    server = server_context(policy)
    first = PeerClosed("first")
    server.fail(first)
    server.fail(PeerClosed("second"))
    with pytest.raises(PeerClosed) as caught:
        server.step(b"")
    assert caught.value is first


def test_failing_before_tls_is_up_leaves_nothing_to_say(policy):
    server = server_context(policy)
    server.fail(AuthenticationError("no", nt_status=NTSTATUS.STATUS_LOGON_FAILURE))
    assert server.farewell == b""


def test_last_words_before_tls_is_up_are_not_said(policy):
    server = server_context(policy)
    server.fail(AccessDenied("no", nt_status=NTSTATUS.STATUS_ACCESS_DENIED), b"last words")
    assert (server.farewell, server.last_token) == (b"", b"")


# --- the peer ends it ---


@pytest.mark.parametrize(("hint", "shown"), [((), OTHER_SIDE_RDP), (("another",), "another"), ((None,), None)])
def test_a_server_that_never_said_hello_may_be_one_of_rdp(policy, hint, shown):
    client = client_context(policy)
    client.step()
    with pytest.raises(PeerClosed) as caught:
        client.receive_eof(*hint)
    assert caught.value.hint == shown
    assert client.state is State.FAILED
    with pytest.raises(PeerClosed) as again:
        client.receive_eof()
    assert again.value is caught.value


def of_a_server(policy):
    return server_context(policy)


def of_a_client_that_has_heard_a_hello(policy):
    client = client_context(policy)
    over_tls(client, policy)
    return client


def of_a_bare_client(_policy):
    return script_client()


@pytest.mark.parametrize("kind", [of_a_server, of_a_client_that_has_heard_a_hello, of_a_bare_client])
def test_an_end_without_that_meaning_has_no_such_hint(policy, kind):
    with pytest.raises(PeerClosed) as caught:
        kind(policy).receive_eof()
    assert caught.value.hint is None


def test_an_end_behind_the_logon_is_the_applications(policy):
    client, server = ends(policy)
    list(converse(client, server))
    for end in (client, server):
        with pytest.raises(LocalProtocolError, match="established"):
            end.context.receive_eof()
        assert end.context.state is State.ESTABLISHED


@pytest.mark.requirement("tls.close-notify")
def test_close_notify_in_the_middle_is_the_end(policy):
    server = server_context(policy)
    peer = over_tls(server, policy)
    peer.close()
    with pytest.raises(PeerClosed):
        server.step(peer.output())


@pytest.mark.requirement("tls.close-notify")
@pytest.mark.parametrize("side", ["client", "server"])
def test_close_notify_in_the_middle_of_the_tls_handshake_is_the_end(policy, side):
    client, server = client_context(policy), server_context(policy)
    server.step(client.step().output)
    with pytest.raises(PeerClosed) as caught:
        (client if side == "client" else server).step(b"\x15\x03\x03\x00\x02\x01\x00")
    assert caught.value.stage is Stage.TLS


def test_close_notify_after_our_logon_is_a_denial(policy):
    client = client_context(policy)
    peer = over_tls(client, policy)
    peer.read(client.step(send(peer, request(nego_token=b"s1"))).output)
    peer.close()
    with pytest.raises(AuthenticationError) as caught:
        client.step(peer.output())
    assert caught.value.nt_status is None


@pytest.mark.requirement("rdp.early-denial")
def test_the_early_result_where_a_request_is_due_is_access_denied(policy):
    """IronRDP's acceptor does so."""
    client = client_context(policy)
    peer = over_tls(client, policy)
    with pytest.raises(AccessDenied) as caught:
        client.step(send(peer, early_auth.encode(early_auth.AuthorizationResult.ACCESS_DENIED)))
    assert caught.value.nt_status == NTSTATUS.STATUS_ACCESS_DENIED


@pytest.mark.parametrize("bare", [False, True])
def test_only_a_server_denies_access_by_the_early_result(policy, bare):
    server = script_server() if bare else server_context(policy)
    denial = early_auth.encode(early_auth.AuthorizationResult.ACCESS_DENIED)
    data = denial if bare else send(over_tls(server, policy), denial)
    with pytest.raises(RemoteProtocolError) as caught:
        server.step(data)
    assert not isinstance(caught.value, AccessDenied)


# --- the certificate ---


@pytest.mark.parametrize("answer", [True, False])
def test_the_certificate_is_judged_before_anything_of_the_logon_leaves(policy, answer):
    client = client_context(policy, judge=True)
    server = End(server_context(policy))
    event, result = judging(client, server)
    assert event.chain == (client.tls.peer_certificate,)
    assert client.handshake.mechanism.got == []
    assert (result.status, result.output, result.missing, result.extra) == (CONTINUE, b"", 0, 0)
    with pytest.raises(LocalProtocolError, match="resume"):
        client.step(b"")
    assert server.context.state is State.TLS
    resumed = client.resume(event, answer)
    assert (resumed.status, resumed.missing, resumed.extra) == (CONTINUE, 0, 0)
    flight = resumed.output
    while not client.handshake.mechanism.got:
        flight = client.step(server.step(flight)).output
    assert client.state is State.NEGO_TOKEN
    assert client.handshake.certified is (answer is True), "only True vouches for the server"


@pytest.mark.parametrize(
    ("of", "named"), [(JudgeCertificate, "another JudgeCertificate"), (ChooseCertificate, "a Choose")]
)
def test_an_answer_to_another_event_is_told_which_event_it_answers(policy, of, named):
    client = client_context(policy, judge=True)
    event, _ = judging(client, End(server_context(policy)))
    with pytest.raises(LocalProtocolError, match=f"the pending JudgeCertificate, got one to {named}"):
        client.resume(of(()), True)
    assert client.resume(event, True).status == CONTINUE, "nothing changed"


@pytest.mark.parametrize("answer", [None, 1, 0, "trusted", Deny()])
def test_an_answer_that_is_no_verdict_refuses_the_server(policy, answer):
    client = client_context(policy, judge=True)
    server = End(server_context(policy))
    event, _ = judging(client, server)
    with pytest.raises(CertificateError, match="True or False") as caught:
        client.resume(event, answer)
    assert caught.value.security_status is SecurityStatus.SEC_E_CERT_UNKNOWN
    assert client.handshake.mechanism.got == []
    assert client.farewell == bytes((21, 3, 3, 0, 2, 2, 46))  # certificate_unknown


def judging(client, server):
    """Shake hands up to the question of the certificate; return it, and the result that has it."""
    result = client.step()
    while result.event is None:
        result = client.step(server.step(result.output))
    assert isinstance(result.event, JudgeCertificate)
    return result.event, result


ALERTS = {
    "untrusted": (CertificateError("x"), 48, SecurityStatus.SEC_E_UNTRUSTED_ROOT),
    "expired": (CertificateError("x", security_status=SecurityStatus.SEC_E_CERT_EXPIRED), 45, None),
    "not for servers": (CertificateError("x", security_status=SecurityStatus.SEC_E_CERT_WRONG_USAGE), 43, None),
    "another name": (CertificateError("x", security_status=SecurityStatus.SEC_E_WRONG_PRINCIPAL), 42, None),
    "weak": (CertificateError("x", security_status=SecurityStatus.SEC_E_ALGORITHM_MISMATCH), 42, None),
    "another key": (CertificateError("x", security_status=SecurityStatus.SEC_E_CERT_UNKNOWN), 46, None),
    "another reason": (PolicyError("x"), 40, None),
}


@pytest.mark.parametrize(("error", "alert", "status"), ALERTS.values(), ids=ALERTS)
def test_the_server_is_told_why_its_certificate_was_refused(policy, error, alert, status):
    """By an alert in clear, in place of the flight that has not left: the server is not told that TLS is up."""
    client = client_context(policy, judge=True)
    server = End(server_context(policy))
    event, _ = judging(client, server)
    client.fail(error)
    assert client.farewell == client.last_token == bytes((21, 3, 3, 0, 2, 2, alert))
    assert client.alert == bytes((2, alert))
    with pytest.raises(type(error)):
        client.resume(event, None)
    with pytest.raises(TLSError, match="the peer sent tls alert") as caught:
        server.step(client.farewell)
    assert server.context.state is State.FAILED
    if status is not None:
        assert caught.value.security_status is status
    assert client.handshake.mechanism.got == []


def test_who_has_been_sent_our_flight_is_sent_a_plain_close(policy):
    client = client_context(policy, judge=True)
    server = End(server_context(policy))
    event, _ = judging(client, server)
    server.step(client.resume(event, True).output)
    client.fail(CertificateError("too late"))
    assert tls_record.alert_in_clear(client.farewell) != bytes((2, 48))


def test_the_servers_key_is_known_while_its_certificate_is_judged(policy):
    client = client_context(policy, judge=True)
    event, _ = judging(client, End(server_context(policy)))
    assert client.info.peer_key_sha256 == pin_of(event.chain[0])


def test_a_certificate_is_judged_once(policy):
    client = client_context(policy, judge=True)
    server = End(server_context(policy))
    event, _ = judging(client, server)
    result = client.resume(event, True)
    while not client.handshake.mechanism.got:
        result = client.step(server.step(result.output))
        assert result.event is None


# --- anything at all ---


@pytest.mark.parametrize("seed", range(20))
def test_altered_bytes_raise_nothing_but_our_errors(policy, seed):
    source = random.Random(seed)
    client, server = ends(policy)

    def alter(data: bytes, missing: int) -> bytes:
        piece = bytearray(whole(data, missing))
        if source.random() < 0.4:
            piece[source.randrange(len(piece))] ^= 1 << source.randrange(8)
        return bytes(piece)

    with contextlib.suppress(CredSSPError):
        list(converse(client, server, alter))

"""A context that takes turns, with our own at the other end and with TLS alone: whole tokens, one each way."""

import contextlib
import gc
import itertools
import ssl

import pytest
from support.engine import ALICE as ALICES
from support.engine import Script, pem, session
from support.records import split
from support.turns import VERSIONS, Side, answer_of_server, client_side, server_config, server_side, shape, take_turns

from acredssp import tls_config
from acredssp.core import tls as core_tls
from acredssp.core.client import ClientHandshake
from acredssp.core.client_certificate import WatchingTLSSession, watch_certificate_requests
from acredssp.core.events import (
    Admit,
    Authorize,
    ChooseCertificate,
    Delegate,
    JudgeCertificate,
    LookupCredential,
    StepMechanism,
)
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.core.tls import TLSSession, session_with_ticket
from acredssp.core.turns import TurnTakingContext
from acredssp.credentials import Password
from acredssp.errors import (
    AuthenticationError,
    CertificateError,
    CredSSPError,
    LimitExceeded,
    PeerClosed,
    RemoteProtocolError,
    TLSError,
)
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.wire.ts_credentials import TSPasswordCreds
from acredssp.wire.ts_request import TSRequest

CHANGE_CIPHER_SPEC, HANDSHAKE, DATA = 20, 22, 23


@pytest.fixture(params=VERSIONS)
def tls(request):
    return request.param


@pytest.fixture(params=["ntlm", "negotiate"])
def mechanism(request):
    return MechanismChoice(request.param)


def policy_of(tls: str, **kwargs) -> Policy:
    return Policy(min_tls=VERSIONS[tls], max_tls=VERSIONS[tls], **kwargs)


@pytest.fixture
def policy(tls):
    return policy_of(tls)


# --- the whole way ---


HANDSHAKES = {
    "tls12": [
        [HANDSHAKE],
        [HANDSHAKE] * 4,
        [HANDSHAKE, CHANGE_CIPHER_SPEC, HANDSHAKE],
        [CHANGE_CIPHER_SPEC, HANDSHAKE],
    ],
    # The last two are the client's Finished alone, and one ticket.
    "tls13": [[HANDSHAKE], [HANDSHAKE, CHANGE_CIPHER_SPEC, *[DATA] * 4], [CHANGE_CIPHER_SPEC, DATA], [DATA]],
}
"""The types of the records in the tokens of a handshake of TLS."""
REQUESTS = {MechanismChoice.NTLM: 5, MechanismChoice.NEGOTIATE: 7}
"""The TSRequests of both sides that follow."""


@pytest.mark.requirement("tls.turns")
def test_a_logon_takes_one_flight_a_turn(tls, mechanism):
    policy = policy_of(tls, mechanism=mechanism)
    client, server = client_side(policy), server_side(policy)
    tokens = list(take_turns(client, server))
    assert [shape(token) for _, token in tokens] == HANDSHAKES[tls] + [[DATA]] * REQUESTS[mechanism]
    info = server.context.info
    assert (str(info.principal), info.delegated) == ("CONTOSO\\alice", "password")
    assert server.context.take_credentials() == TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!")
    client.context.tls.write(b"sealed")
    assert server.context.tls.read(client.context.tls.output()) == b"sealed"


@pytest.mark.parametrize("version", [2, 3, 5, 6])
def test_every_version_takes_turns(tls, version):
    old = policy_of(tls, min_version=2, max_version=version, dangerous_allow_legacy_versions=True)
    client, server = client_side(old), server_side(old)
    assert len(list(take_turns(client, server))) == 9
    assert client.context.info.version == server.context.info.version == version


def test_events_are_answered_within_a_turn(policy):
    client = client_side(policy)
    server = server_side(policy, authorize=lambda _: True, admit=lambda _: True)
    assert len(list(take_turns(client, server))) == 9
    assert client.asked == [JudgeCertificate, Delegate]
    assert server.asked == [LookupCredential, Authorize, Admit]


def test_a_mechanism_that_waits_before_the_first_request_waits_within_a_turn(policy, tls):
    """As Kerberos does, which may have to ask a KDC for a ticket first."""
    mechanism = Script(StepMechanism(lambda: None), b"c1", b"c2")
    tls_session = session("rsa", policy, server_side=False)
    context = TurnTakingContext(ClientHandshake(mechanism, ALICES, policy), tls_session)
    client, server = Side(context, lambda _: None), server_side(policy)
    tokens = [client.turn(server.turn(client.turn(b"")))]
    assert client.asked == []
    tokens.append(client.turn(server.turn(tokens[0])))
    assert client.asked == [StepMechanism]
    assert [shape(token) for token in tokens] == [HANDSHAKES[tls][2], [DATA]]


def test_a_certificate_that_nobody_judges_makes_no_difference(tls):
    policy = policy_of(tls, dangerous_accept_any_certificate=True)
    tokens = [shape(token) for _, token in take_turns(client_side(policy), server_side(policy))]
    assert tokens == HANDSHAKES[tls] + [[DATA]] * 5


def test_a_retry_of_tls_1_3_takes_turns(policy_tls13):
    server = tls_config.server_context_from_pem(policy_tls13, *pem())
    server.set_ecdh_curve("secp521r1")  # the client guesses another group
    tokens = [
        shape(token)
        for _, token in take_turns(client_side(policy_tls13), server_side(policy_tls13, ssl_context=server))
    ]
    assert len(tokens) == 11


@pytest.fixture
def policy_tls13():
    return policy_of("tls13")


# --- the turn that the server gives back ---


def at_finished(policy, **kwargs) -> tuple[Side, Side, bytes]:
    """A client of TLS 1.3 that has sent its Finished, a server that has taken it, and the server's token."""
    client, server = client_side(policy), server_side(policy, **kwargs)
    token = server.turn(client.turn(server.turn(client.turn(b""))))
    return client, server, token


@pytest.mark.requirement("tls.turns")
def test_a_client_takes_an_empty_token_for_its_turn(policy_tls13):
    client = client_side(policy_tls13)
    server = server_config(policy_tls13).new_context()  # sends no ticket
    flight = server.step(client.turn(b"")).output
    result = server.step(client.turn(flight))
    assert (result.output, result.status) == (b"", SecurityStatus.SEC_I_CONTINUE_NEEDED)
    token = client.turn(b"")
    assert shape(token) == [DATA]
    assert TSRequest.decode(server.tls.read(token)).nego_token.startswith(b"NTLMSSP\0\1")


def test_a_client_takes_several_tickets_for_its_turn(policy_tls13):
    ssl_context = tls_config.server_context_from_pem(policy_tls13, *pem())
    ssl_context.num_tickets = 3
    client, server = client_side(policy_tls13), server_config(policy_tls13, ssl_context=ssl_context).new_context()
    tickets = server.step(client.turn(server.step(client.turn(b"")).output)).output
    assert shape(tickets) == [DATA] * 3
    assert shape(client.turn(tickets)) == [DATA]


def test_an_empty_token_is_taken_once(policy_tls13):
    client, _, _ = at_finished(policy_tls13)
    client.turn(b"")
    with pytest.raises(PeerClosed):
        client.turn(b"")


def test_a_server_that_speaks_before_the_first_request_is_refused(policy_tls13):
    client, server, ticket = at_finished(policy_tls13)
    early = ticket + server.context.tls.encrypt(TSRequest(6, b"too early").encode())
    with pytest.raises(RemoteProtocolError, match="before the client's first TSRequest"):
        client.turn(early)


def test_a_server_takes_finished_and_a_request_in_one_token(policy_tls13):
    client, server = client_side(policy_tls13, turns=False), server_side(policy_tls13)
    tokens = list(take_turns(client, server))
    shapes = [shape(token) for _, token in tokens]
    assert shapes[2:4] == [[CHANGE_CIPHER_SPEC, DATA, DATA], [DATA, DATA]]  # the ticket and the challenge
    assert len(tokens) == 7


def test_a_refusal_takes_the_ticket_along(policy_tls13):
    """What a client that sent two flights in one token is answered can be read, though it is a refusal."""
    old = policy_of("tls13", min_version=2, max_version=4, dangerous_allow_legacy_versions=True)
    client, server = client_side(old, turns=False), server_side(policy_tls13)
    token = client.turn(server.turn(client.turn(b"")))
    with pytest.raises(CredSSPError, match="version"):
        server.turn(token)
    with pytest.raises(AuthenticationError, match="STATUS_NOT_SUPPORTED"):
        client.turn(server.context.last_token)


# --- tickets ---


@pytest.mark.requirement("tls.turns")
@pytest.mark.parametrize("usual", [0, 2])
def test_the_number_of_tickets_holds_for_that_connection_alone(policy_tls13, usual):
    ssl_context = tls_config.server_context_from_pem(policy_tls13, *pem())
    ssl_context.num_tickets = usual
    _, _, ticket = at_finished(policy_tls13, ssl_context=ssl_context)
    assert shape(ticket) == [DATA]
    assert ssl_context.num_tickets == usual
    client, server = client_side(policy_tls13), server_config(policy_tls13, ssl_context=ssl_context).new_context()
    tickets = server.step(client.turn(server.step(client.turn(b"")).output)).output
    assert shape(tickets) == [DATA] * usual


def test_two_threads_do_not_change_the_number_at_once(policy_tls13):
    seen = []

    class Watched(ssl.SSLContext):
        def wrap_bio(self, *args):
            seen.append((self.num_tickets, core_tls._num_tickets_lock.locked()))
            return super().wrap_bio(*args)

    ssl_context = Watched(ssl.PROTOCOL_TLS_SERVER)
    ssl_context.num_tickets = 2
    session_with_ticket(ssl_context)
    assert seen == [(1, True)]
    assert (ssl_context.num_tickets, core_tls._num_tickets_lock.locked()) == (2, False)


def test_the_number_is_put_back_where_a_session_cannot_be_made():
    class Broken(ssl.SSLContext):
        def wrap_bio(self, *_):
            raise MemoryError

    ssl_context = Broken(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(MemoryError):
        session_with_ticket(ssl_context)
    assert (ssl_context.num_tickets, core_tls._num_tickets_lock.locked()) == (2, False)


@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS is deprecated:DeprecationWarning")
def test_a_context_of_either_side_sends_the_tickets_that_it_always_sends(policy_tls13, tmp_path):
    path = tmp_path / "server.pem"
    path.write_bytes(b"".join(pem()))
    ssl_context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    ssl_context.load_cert_chain(path)
    _, _, tickets = at_finished(policy_tls13, ssl_context=ssl_context)
    assert shape(tickets) == [DATA] * 2


def test_a_client_that_resumes_by_the_ticket_logs_on_as_a_whole(policy_tls13):
    config = server_config(policy_tls13)
    first, first_server = client_side(policy_tls13), Side(config.new_context(turns=True), answer_of_server)
    assert len(list(take_turns(first, first_server))) == 9
    again = client_side(policy_tls13)
    context = first.context.tls.context
    again.context.tls = TLSSession(
        context, server_side=False, server_hostname="localhost", session=first.context.tls.session
    )
    server = Side(config.new_context(turns=True), answer_of_server)
    assert len(list(take_turns(again, server))) == 9
    assert again.context.tls.session_reused
    assert str(server.context.info.principal) == "CONTOSO\\alice"


# --- tokens that are not whole ---


def replayed(policy: Policy, count: int) -> tuple[Side, Side, list[bytes]]:
    """Both sides after `count` tokens that both have seen, and those with the next one, which nobody has taken."""
    client, server = client_side(policy), server_side(policy)
    return client, server, [token for _, token in itertools.islice(take_turns(client, server), count + 1)]


@pytest.mark.requirement("tls.whole-tokens")
@pytest.mark.parametrize("place", range(9))
@pytest.mark.parametrize("left", [1, 4, 5, -1])
def test_a_token_that_ends_in_the_middle_of_a_record_is_refused(policy, place, left):
    client, server, tokens = replayed(policy, place)
    taker = client if place % 2 else server
    with pytest.raises(RemoteProtocolError, match=r"in the middle of a tls record: at least \d+ bytes are missing"):
        taker.turn(tokens[-1][:left])
    assert taker.context.state is State.FAILED
    with pytest.raises(RemoteProtocolError, match="in the middle of a tls record"):
        taker.turn(tokens[-1])


@pytest.mark.parametrize(("place", "records"), [(1, 1), (1, 3), (2, 1)])
def test_a_token_with_a_part_of_a_flight_is_refused(policy, place, records):
    client, server, tokens = replayed(policy, place)
    with pytest.raises(RemoteProtocolError, match="expected a token with a whole flight of tls or a TSRequest"):
        (client if place % 2 else server).turn(b"".join(split(tokens[-1])[:records]))


@pytest.mark.parametrize("place", range(9))
def test_an_empty_token_is_the_peers_end(policy, tls, place):
    client, server, _ = replayed(policy, place)
    taker, error = (client, PeerClosed) if place % 2 else (server, PeerClosed)
    if (tls, place) == ("tls13", 3):
        assert shape(taker.turn(b"")) == [DATA]  # the one that gives the turn back
        return
    if place == 7:
        error = AuthenticationError  # many servers refuse a logon so
    with pytest.raises(error):
        taker.turn(b"")
    assert taker.context.state is State.FAILED


class Target:
    """A side that takes turns, and TLS alone at the other end."""

    def __init__(self, side: str, policy: Policy) -> None:
        if side == "client":
            tls = session("rsa", policy, server_side=False)
            self.context = TurnTakingContext(ClientHandshake(Script(b"c1", b"c2"), ALICES, policy), tls)
        else:
            tls = session_with_ticket(tls_config.server_context_from_pem(policy, *pem()))
            self.context = TurnTakingContext(ServerHandshake(Script(b"s1", b""), policy), tls)
        self.peer = session("rsa", policy, server_side=side == "client")
        token = self.context.step().output if side == "client" else b""
        while not self.peer.handshake(token) or self.peer.has_output:
            token = self.context.step(self.peer.output()).output
        if side == "client" and self.peer.version == "TLSv1.3":
            self.context.step()  # gives the turn back

    def seal(self, plaintext: bytes) -> bytes:
        return self.peer.encrypt(plaintext)


@pytest.fixture(params=["client", "server"])
def target(request, policy):
    return Target(request.param, policy)


MESSAGE = TSRequest(6, b"a token of the mechanism").encode()


def test_a_message_over_several_records_is_taken_from_one_token(target):
    result = target.context.step(target.seal(MESSAGE[:1]) + target.seal(MESSAGE[1:7]) + target.seal(MESSAGE[7:]))
    assert result.output
    assert not result.extra


@pytest.mark.requirement("tls.whole-tokens")
def test_a_message_over_several_tokens_is_refused(target):
    with pytest.raises(RemoteProtocolError, match="in the middle of a TSRequest"):
        target.context.step(target.seal(MESSAGE[:7]))


@pytest.mark.requirement("tls.whole-tokens")
def test_two_messages_in_one_token_are_refused(target):
    with pytest.raises(RemoteProtocolError, match="bytes behind a TSRequest in one token"):
        target.context.step(target.seal(MESSAGE) + target.seal(MESSAGE))


def test_a_token_without_a_message_is_refused(policy_tls13):
    ssl_context = tls_config.server_context_from_pem(policy_tls13, *pem())
    ssl_context.num_tickets = 2
    client, server = client_side(policy_tls13), server_config(policy_tls13, ssl_context=ssl_context).new_context()
    first, second = split(server.step(client.turn(server.step(client.turn(b"")).output)).output)
    client.turn(first)
    with pytest.raises(RemoteProtocolError, match="expected a token with a whole flight of tls or a TSRequest"):
        client.turn(second)


def test_what_is_behind_the_credentials_is_the_applications(policy):
    client, server, tokens = replayed(policy, 8)
    surplus = client.context.tls.encrypt(b"application data")
    result = server.context.step(tokens[-1] + surplus)
    assert (result.status, result.extra) == (SecurityStatus.SEC_E_OK, len(surplus))
    assert server.context.tls.read(surplus) == b"application data"


# --- refusals are tokens ---


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_a_wrong_password_is_refused_by_a_token(tls, mechanism, version):
    policy = policy_of(tls, mechanism=mechanism, min_version=2, max_version=version,
                       dangerous_allow_legacy_versions=True)  # fmt: skip
    client, server = client_side(policy, Password("wrong", "alice", "CONTOSO")), server_side(policy)
    with pytest.raises(AuthenticationError):
        list(take_turns(client, server))
    assert server.context.state is State.FAILED
    refusal = server.context.last_token
    assert len(split(refusal)) == 1
    with pytest.raises(AuthenticationError) as refused:
        client.turn(refusal)
    assert refused.value.nt_status == (NTSTATUS.STATUS_LOGON_FAILURE if version in {3, 4, 6} else None)


def test_openssl_keeps_no_session_of_a_logon_that_was_refused(policy):
    """If the server had closed TLS, OpenSSL would keep the session for two hours."""
    ssl_context = tls_config.server_context_from_pem(policy, *pem())
    client = client_side(policy, Password("wrong", "alice", "CONTOSO"))
    with pytest.raises(AuthenticationError):
        list(take_turns(client, server_side(policy, ssl_context=ssl_context)))
    gc.collect()
    assert ssl_context.session_stats()["number"] == 0


def test_a_certificate_that_is_not_trusted_is_refused_by_an_alert(policy):
    client, server = client_side(policy), server_side(policy)
    result = client.context.step(server.turn(client.turn(b"")))
    assert isinstance(result.event, JudgeCertificate)
    client.context.fail(CertificateError("not trusted"))
    with pytest.raises(TLSError, match="unknown_ca"):
        server.turn(client.context.last_token)


def test_versions_of_tls_that_do_not_meet_are_told_by_an_alert():
    client, server = client_side(policy_of("tls12")), server_side(policy_of("tls13"))
    with pytest.raises(TLSError):
        server.turn(client.turn(b""))
    with pytest.raises(TLSError, match="protocol_version"):
        client.turn(server.context.last_token)


def test_an_end_by_the_client_is_told_by_a_token(policy):
    client, server, _ = replayed(policy, 5)
    client.context.fail(RemoteProtocolError("for a reason of its own"))
    with pytest.raises(PeerClosed):
        server.turn(client.context.last_token)


# --- limits ---


def test_records_of_next_to_nothing_are_counted_within_a_token(target):
    crumbs = [target.seal(b"\x30"), *[target.seal(piece) for piece in [b"\x82", b"\x01", b"\x00", *[b"\0"] * 100]]]
    with pytest.raises(LimitExceeded, match="at most 64 may come"):
        target.context.step(b"".join(crumbs))


def test_more_records_than_one_call_takes_are_one_token(policy):
    target = Target("server", policy)
    message = TSRequest(6, bytes(100_000 - 64)).encode()
    step = 1000
    records = [target.seal(message[start : start + step]) for start in range(0, len(message), step)]
    assert len(records) > 64
    result = target.context.step(b"".join(records))
    assert result.output
    assert not result.extra


def test_a_message_that_announces_too_much_is_refused(target):
    with pytest.raises(LimitExceeded):
        target.context.step(target.seal(b"\x30\x84\x7f\xff\xff\xff"))


# --- a server that asks for a client certificate ---


@pytest.mark.parametrize("links", [1, 40])
def test_the_rest_of_a_token_follows_the_choice_of_a_certificate(policy, tls, links, tmp_path):
    """TLS takes what is behind the request in the token too, unless the token is longer than one record may be."""
    path = tmp_path / "alice.pem"
    path.write_bytes(b"".join(pem("p384")))
    asking = tls_config.server_context_from_pem(policy, pem()[0] * links, pem()[1])
    asking.verify_mode = ssl.CERT_OPTIONAL
    asking.load_verify_locations(path)
    chosen = tls_config.client_context(policy)
    chosen.load_cert_chain(path)
    watching = tls_config.client_context(policy)
    watch_certificate_requests(watching, contextlib.nullcontext())
    context = TurnTakingContext(ClientHandshake(Script(b"c1", b"c2"), ALICES, policy), WatchingTLSSession(watching))
    server = Side(
        TurnTakingContext(ServerHandshake(Script(b"s1", b""), policy), session_with_ticket(asking)), answer_of_server
    )
    flight = server.turn(context.step().output)
    result = context.step(flight)
    assert isinstance(result.event, ChooseCertificate)
    assert bool(result.extra) == (tls == "tls13" and links > 1)
    finished = context.resume(result.event, chosen)
    if result.extra:
        assert not finished.output
        finished = context.step(flight[len(flight) - result.extra :])
    assert (finished.extra, finished.missing) == (0, 0)
    request = context.step(server.turn(finished.output))
    assert shape(request.output) == [DATA]
    assert shape(server.turn(request.output)) == [DATA]
    assert server.context.tls.peer_certificate == ssl.PEM_cert_to_DER_cert(pem("p384")[0].decode())

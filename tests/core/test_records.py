"""How many records a peer may send before a handshake ends, and how many of them one call takes.

The rule is written down a second time here, as an administrator would read it: of the records that have come the last
one is refused when they are more than 64, and one for each 512 bytes of them all.
"""

import ssl

import pytest
from support.engine import ALICE, CUTS, End, Script, byte_by_byte, feed, pem, session, whole
from support.records import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, directions, split

from acredssp import tls_config
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.core.tls import TLSSession
from acredssp.errors import LimitExceeded
from acredssp.policy import Policy
from acredssp.status import SecurityStatus, Stage
from acredssp.wire.ts_request import TSRequest

POLICIES = {
    "tls12": Policy(max_tls=ssl.TLSVersion.TLSv1_2),
    "tls13": Policy(min_tls=ssl.TLSVersion.TLSv1_3),
}
MOST = 64
SMALLEST = 512
CONTINUE = SecurityStatus.SEC_I_CONTINUE_NEEDED

HUGE = b"\x30\x83\x01\xff\xf0" + bytes(0x1FFF0 - 1)
"""All but the last byte of a TSRequest of nearly the greatest size there may be."""


@pytest.fixture(params=POLICIES)
def policy(request):
    return POLICIES[request.param]


@pytest.fixture(params=["client", "server"])
def side(request):
    return request.param


def context_of(side: str, policy: Policy) -> SecurityContext:
    if side == "client":
        handshake = ClientHandshake(Script(b"c1", b"c2"), ALICE, policy)
    else:
        handshake = ServerHandshake(Script(b"s1", b""), policy)
    return SecurityContext(handshake, session("rsa", policy, server_side=side == "server"))


def first_refused(stream: list[bytes]) -> int:
    """The place in `stream` of the record that is one too many; its length where there is none."""
    size = 0
    for place, record in enumerate(stream):
        size += len(record)
        if place + 1 > MOST + size // SMALLEST:
            return place
    return len(stream)


def check(end: End, heard: list[bytes], stream: list[bytes], cut=whole) -> None:
    """Hold that of `stream`, behind what was heard before, all is taken up to the record that is one too many."""
    place = first_refused(heard + stream) - len(heard)
    assert 0 <= place < len(stream)
    feed(end, b"".join(stream[:place]), cut)
    assert not end.held
    with pytest.raises(LimitExceeded, match="at most 64 may come, and one more for every 512 bytes") as caught:
        feed(end, stream[place], cut)
    assert end.context.state is State.FAILED
    assert caught.value.stage in (Stage.TLS, Stage.NEGO_TOKEN)


def pieces(message: bytes, size: int) -> list[bytes]:
    return [message[start : start + size] for start in range(0, len(message), size)]


class Target:
    """An end whose TLS is up, and a bare TLS peer of it.

    Args:
        side: The end's.
        policy: With one version of TLS.
        peer: A fresh TLS session.
        between: Records that the peer sends in front of its last flight.
        finish: Whether the end gets the last flight; if not, it is kept.
    """

    def __init__(
        self, side: str, policy: Policy, peer: TLSSession | None = None, *, between: bytes = b"", finish: bool = True
    ) -> None:
        self.context = context_of(side, policy)
        self.end = End(self.context)
        self.peer = peer or session("rsa", policy, server_side=side == "client")
        self.heard: list[bytes] = []
        """The records that the peer has sent."""
        self.flights: list[tuple[str, bytes]] = []
        """Of both sides, as `support.records.directions` reads them."""
        self.last_flight: list[bytes] = []
        ours, theirs = ("c2s", "s2c") if side == "client" else ("s2c", "c2s")
        flight = self.end.step(b"") if side == "client" else b""
        while not (up := self.peer.handshake(flight)) or self.peer.has_output:
            reply = self.peer.output()
            self.flights += [(ours, flight), (theirs, reply)]
            if up and not finish:
                self.last_flight = split(reply)
                return
            reply = between + reply if up else reply
            self.heard += split(reply)
            flight = self.end.step(reply)
        self.flights.append((ours, flight))

    def send(self, plaintext: bytes) -> bytes:
        self.peer.write(plaintext)
        return self.peer.output()

    def crumbs(self) -> list[bytes]:
        """More records of one byte than may come."""
        return [self.send(piece) for piece in pieces(HUGE[:200], 1)]

    def check(self, stream: list[bytes], cut=whole) -> None:
        check(self.end, self.heard, stream, cut)


# --- after TLS ---


@pytest.mark.parametrize("size", [1, *(pytest.param(size, marks=pytest.mark.thorough) for size in (2, 100, 200))])
@pytest.mark.parametrize("cut", CUTS)
def test_a_request_in_crumbs_is_refused_at_the_record_that_is_too_many(side, policy, size, cut):
    target = Target(side, policy)
    target.check([target.send(piece) for piece in pieces(HUGE[: 200 * size], size)], CUTS[cut])


def test_a_request_in_crumbs_is_refused_in_one_go_too(side, policy):
    target = Target(side, policy)
    with pytest.raises(LimitExceeded):
        target.end.step(b"".join(target.crumbs()))


@pytest.mark.parametrize("cut", CUTS)
def test_crumbs_in_the_flight_that_ends_tls_are_counted_once(cut):
    """What is behind the handshake's end goes into OpenSSL with it, and comes back."""
    target = Target("server", POLICIES["tls13"], finish=False)
    assert target.last_flight
    target.check(target.last_flight + target.crumbs(), CUTS[cut])


def test_fragments_of_512_bytes_may_be_as_many_as_the_longest_request_has(side, policy):
    """What `SSL_CTX_set_max_send_fragment(512)` makes of it: 256 records, none of which uses anything up."""
    target = Target(side, policy)
    stream = [target.send(piece) for piece in pieces(HUGE, SMALLEST)]
    assert len(stream) == 256
    feed(target.end, b"".join(stream), whole)
    assert target.end.missing == 5  # of the next record
    assert not target.end.held


def test_records_of_512_bytes_earn_just_what_they_cost(side, policy):
    """Header and seal included; behind them there is as much room for crumbs as there was in front."""
    other, target = Target(side, policy), Target(side, policy)
    crumbs = other.crumbs()
    overhead = len(crumbs[0]) - 1
    stream = [target.send(piece) for piece in pieces(HUGE[: 200 * (SMALLEST - overhead)], SMALLEST - overhead)]
    assert {len(record) for record in stream} == {SMALLEST}
    feed(target.end, b"".join(stream), whole)
    assert first_refused(target.heard + stream + crumbs) == first_refused(target.heard + crumbs) + len(stream)
    target.heard += stream
    target.check([target.send(b"\0") for _ in crumbs])


def test_the_record_that_uses_up_the_last_of_the_room_is_taken_and_no_record_behind_it(side, policy):
    target, sent = Target(side, policy), 0
    room = MOST * SMALLEST + sum(len(record) - SMALLEST for record in target.heard)
    overhead = len(Target(side, policy).crumbs()[0]) - 1
    while room > SMALLEST - overhead - 1:
        record = target.send(HUGE[sent : sent + 1])
        feed(target.end, record, whole)
        sent, room = sent + 1, room + len(record) - SMALLEST
    last = target.send(HUGE[sent : sent + SMALLEST - room - overhead])
    assert room + len(last) == SMALLEST
    feed(target.end, last, whole)
    with pytest.raises(LimitExceeded):
        feed(target.end, target.send(b"\0"), whole)


def test_a_request_that_fits_into_64_records_is_a_message_like_any_other(policy):
    target = Target("server", policy)
    message = TSRequest(6, nego_token=b"c1" * 10).encode()
    assert len(message) < 50
    answer = feed(target.end, b"".join(target.send(piece) for piece in pieces(message, 1)), byte_by_byte)
    assert TSRequest.decode(target.peer.read(answer)).nego_token == b"s1"


# --- records of no use ---


@pytest.mark.parametrize(
    ("content_type", "content", "in_a_row"),
    [(APPLICATION_DATA, b"", 20), (ALERT, b"\x01\x5a", 3)],
    ids=["empty", "warnings"],
)
def test_records_of_no_use_count_like_others(side, policy, tmp_path, content_type, content, in_a_row):
    """No more of them in a row than OpenSSL itself bears. By hand: `ssl` sends none."""
    server_side = side == "client"
    if server_side:
        context = tls_config.server_context_from_pem(policy, *pem("rsa"))
    else:
        context = tls_config.client_context(policy)
    context.keylog_filename = str(tmp_path / "keys")
    target = Target(side, policy, TLSSession(context, server_side=server_side))
    client, server = directions((tmp_path / "keys").read_text("ascii"), target.flights)
    sealer = server if server_side else client
    useless, crumb = [(content_type, content)] * in_a_row, [(APPLICATION_DATA, b"\0")]
    target.check([sealer.seal(*each) for each in [(APPLICATION_DATA, HUGE[:5])] + (useless + crumb) * 40])


def test_change_cipher_specs_count_like_others():
    specs = bytes((CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1)) * 20
    target = Target("server", POLICIES["tls13"], between=specs)
    assert len(target.heard) > 20
    target.check(target.crumbs())


def generous_server(tickets: int) -> TLSSession:
    context = tls_config.server_context_from_pem(POLICIES["tls13"], *pem("rsa"))
    context.options &= ~ssl.OP_NO_TICKET
    context.num_tickets = tickets
    return TLSSession(context, server_side=True)


def test_session_tickets_count_like_others():
    target = Target("client", POLICIES["tls13"], generous_server(60))
    assert len(target.heard) > 60
    target.check(target.crumbs())


def test_session_tickets_without_an_end_are_refused():
    with pytest.raises(LimitExceeded):
        Target("client", POLICIES["tls13"], generous_server(200))


# --- before TLS is up ---


def repacked(flight: bytes, size: int) -> list[bytes]:
    """A flight with the handshake messages in clear that it begins with in records of another size."""
    records = split(flight)
    clear = next((place for place, record in enumerate(records) if record[0] != HANDSHAKE), len(records))
    messages = b"".join(record[5:] for record in records[:clear])
    again = [bytes((HANDSHAKE, 3, 3)) + len(piece).to_bytes(2, "big") + piece for piece in pieces(messages, size)]
    return again + records[clear:]


def first_flight(side: str, policy: Policy) -> tuple[End, TLSSession, bytes]:
    """An end, its TLS peer, and what that says first."""
    end, peer = End(context_of(side, policy)), session("rsa", policy, server_side=side == "client")
    peer.handshake(end.step(b"") if side == "client" else b"")
    return end, peer, peer.output()


@pytest.mark.parametrize("cut", CUTS)
def test_a_flight_in_clear_in_crumbs_is_refused_at_the_record_that_is_too_many(side, policy, cut):
    end, _, flight = first_flight(side, policy)
    check(end, [], repacked(flight, 1), CUTS[cut])


def test_a_flight_in_clear_in_crumbs_is_refused_in_one_go_too(side, policy):
    """The crumbs of the first call leave room for few records, so the second call counts records in several rounds."""
    end, _, flight = first_flight(side, policy)
    crumbs = repacked(flight, 1)
    place = first_refused(crumbs)
    end.step(b"".join(crumbs[:40]))
    with pytest.raises(LimitExceeded):
        end.step(b"".join(crumbs[40 : place + 1]))


def test_a_long_record_behind_the_one_that_is_too_many_does_not_earn_what_that_lacks():
    end, _, flight = first_flight("client", POLICIES["tls12"])
    crumbs = repacked(flight, 1)
    place = first_refused(crumbs)
    end.step(b"".join(crumbs[:place]))
    message = b"".join(crumb[5:] for crumb in crumbs[place + 1 :])
    assert len(message) > 2 * SMALLEST
    with pytest.raises(LimitExceeded):
        end.step(crumbs[place] + bytes((HANDSHAKE, 3, 3)) + len(message).to_bytes(2, "big") + message)


@pytest.mark.parametrize("cut", CUTS)
def test_a_flight_in_clear_may_be_cut_into_few_pieces(side, policy, cut):
    end, peer, flight = first_flight(side, policy)
    stream = repacked(flight, 40)
    assert len(stream) > len(split(flight))
    reply = feed(end, b"".join(stream), CUTS[cut])
    assert peer.handshake(reply) or peer.handshake(end.step(peer.output()))


# --- one call ---


def test_a_call_takes_64_records_and_leaves_the_rest(side, policy):
    target = Target(side, policy)
    stream = [target.send(piece) for piece in pieces(HUGE[: 150 * SMALLEST], SMALLEST)]
    data = b"".join(stream)
    for rest in (86, 22):
        result = target.context.step(data)
        left = b"".join(stream[len(stream) - rest :])
        assert (result.status, result.output, result.missing, result.extra) == (CONTINUE, b"", 0, len(left))
        data = data[len(data) - result.extra :]
        assert data == left
    result = target.context.step(data)
    assert (result.status, result.missing, result.extra) == (CONTINUE, 5, 0)


@pytest.mark.parametrize("behind", [0, 1, 4, 5, 100])
def test_what_is_missing_behind_64_records_is_exact(side, policy, behind):
    target = Target(side, policy)
    stream = [target.send(piece) for piece in pieces(HUGE[: (MOST + 1) * SMALLEST], SMALLEST)]
    result = target.context.step(b"".join(stream[:MOST]) + stream[MOST][:behind])
    missing = 5 - behind if behind < 5 else len(stream[MOST]) - behind
    assert (result.status, result.missing, result.extra) == (CONTINUE, missing, behind)


def test_a_call_that_ends_with_the_message_answers(policy):
    target = Target("server", policy)
    message = TSRequest(6, nego_token=bytes(100 * SMALLEST)).encode()
    stream = b"".join(target.send(piece) for piece in pieces(message, SMALLEST))
    result = target.context.step(stream)
    assert not result.output
    result = target.context.step(stream[len(stream) - result.extra :])
    assert (result.extra, TSRequest.decode(target.peer.read(result.output)).nego_token) == (0, b"s1")


def test_a_call_takes_64_records_in_clear(side, policy):
    end, _, flight = first_flight(side, policy)
    crumbs = repacked(flight, 1)[: MOST + 1]
    result = end.context.step(b"".join(crumbs))
    assert (result.status, result.output, result.missing, result.extra) == (CONTINUE, b"", 0, 6)
    with pytest.raises(LimitExceeded):
        end.context.step(crumbs[MOST])

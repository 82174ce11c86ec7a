"""TLSSession: two memory BIOs, facts, alerts, and the rules of close_notify."""

import itertools
import random
import ssl

import pytest
from support.engine import pem, server_tls
from support.tls import TLS12, TLS13, pair, shake_hands, subject_public_key

from acredssp import tls_config
from acredssp.core import tls as tls_module
from acredssp.core.own_certificate import own_public_key
from acredssp.core.tls import BIOPair, TLSSession, peer_public_key, session_with_ticket
from acredssp.errors import LocalProtocolError, TLSError
from acredssp.policy import Policy
from acredssp.status import SecurityStatus, Stage

VERSIONS = pytest.mark.parametrize("policy", [TLS12, TLS13], ids=["tls12", "tls13"])


@pytest.fixture
def server_context():
    return server_tls(Policy())


@pytest.fixture
def calling_context():
    """For a callback of the test."""
    return tls_config.server_context_from_pem(Policy(), *pem("rsa"))


@pytest.mark.requirement("binding.key")
@VERSIONS
@pytest.mark.parametrize("key_type", ["rsa", "ec", "p384", "rsa3072", "ed25519"])
def test_both_sides_see_the_same_subject_public_key(policy, key_type):
    chain, _ = pem(key_type)
    client, server = pair(policy, server_tls(policy, key_type))
    assert peer_public_key(client.peer_chain()) == own_public_key(server.context) == subject_public_key(chain)


@VERSIONS
def test_data_arrives_both_ways(policy, server_context):
    client, server = pair(policy, server_context)
    client.write(b"ping")
    assert server.read(client.output()) == b"ping"
    server.write(b"pong")
    assert client.read(server.output()) == b"pong"
    assert client.read() == b""
    assert not client.peer_closed


@VERSIONS
def test_what_is_behind_the_handshakes_last_message_waits_to_be_read(policy, server_context):
    client, server = pair(policy, server_context)
    client.write(b"ping")
    flight = client.output()
    assert server.handshake(flight[:10])
    assert server.read() == b""
    assert server.handshake(flight[10:])
    assert server.read() == b"ping"


def test_facts(server_context):
    client, server = pair(TLS13, server_context)
    assert (client.version, server.version) == ("TLSv1.3", "TLSv1.3")
    assert client.cipher.startswith("TLS_")
    assert server.server_name == "localhost"
    assert len(client.peer_chain()) == 1
    assert server.peer_chain() == ()


def test_before_the_handshake_there_are_no_facts(server_context):
    session = TLSSession(server_context, server_side=True)
    assert (session.cipher, session.server_name) == ("", "")
    assert (session.peer_closed, session.closed) == (False, False)
    assert (session.alert, session.fault, session.certificate_request) == (b"", None, None)
    assert (session.output(), session.give_back()) == (b"", 0)
    with pytest.raises(TLSError, match="no certificate") as caught:
        peer_public_key(session.peer_chain())
    assert (caught.value.security_status, caught.value.stage) == (SecurityStatus.SEC_E_CERT_UNKNOWN, Stage.TLS)


def test_the_whole_chain_is_seen():
    (root, _), (leaf, key) = pem("ed25519"), pem("ec")
    context = tls_config.server_context_from_pem(Policy(), leaf + root, key)
    client, _ = pair(TLS13, context)
    assert [ssl.DER_cert_to_PEM_cert(link).encode() for link in client.peer_chain()] == [leaf, root]


def test_a_name_for_the_chain_still_exists():
    """Before 3.13 the chain is read from the inner object; should a CPython drop that, this says so."""
    client, _ = pair(TLS13, tls_config.server_context_from_pem(Policy(), *pem("rsa")))
    places = (client.ssl_object, client.ssl_object._sslobj)
    assert any(hasattr(place, "get_unverified_chain") for place in places)


# --- close_notify ---


@pytest.mark.requirement("tls.close-notify")
@VERSIONS
def test_close_notify_is_seen_once_data_before_it_is_read(policy, server_context):
    client, server = pair(policy, server_context)
    client.write(b"last words")
    client.close()
    assert server.read(client.output()) == b"last words"
    assert server.peer_closed


@pytest.mark.requirement("tls.close-notify")
@VERSIONS
def test_closing_our_direction_leaves_the_peers_open(policy, server_context):
    client, server = pair(policy, server_context)
    client.close()
    server.read(client.output())
    server.write(b"still here")
    server.close()
    assert client.read(server.output()) == b"still here"
    assert client.peer_closed


def test_write_after_close_is_refused(server_context):
    client, _ = pair(TLS13, server_context)
    client.close()
    with pytest.raises(LocalProtocolError) as caught:
        client.write(b"too late")
    assert caught.value.security_status is SecurityStatus.SEC_E_CONTEXT_EXPIRED


def test_close_says_good_bye_only_once(server_context):
    client, _ = pair(TLS13, server_context)
    client.close()
    assert client.output()
    client.close()
    assert not client.output()


@VERSIONS
def test_closing_again_leaves_what_has_not_been_read(policy, server_context):
    client, server = pair(policy, server_context)
    client.close()
    flight = server.encrypt(b"one") + server.encrypt(b"two")
    assert client.decrypt(flight, most=1) == (b"one", True)
    client.close()
    assert client.decrypt(b"") == (b"two", False)


def test_close_before_the_handshake_is_harmless(server_context):
    session = TLSSession(server_context, server_side=True)
    session.close()
    assert (session.output(), session.alert) == (b"", b"")


@VERSIONS
def test_close_notify_is_the_alert_of_who_closed(policy, server_context):
    client, server = pair(policy, server_context)
    client.close()
    server.read(client.output())
    assert (client.alert, server.alert) == (bytes((1, 0)), b"")


@VERSIONS
def test_an_alert_takes_the_place_of_a_flight_that_was_not_sent(policy, server_context):
    client = TLSSession(tls_config.client_context(policy), server_side=False)
    server = TLSSession(server_context, server_side=True)
    client.handshake()
    server.handshake(client.output())
    client.handshake(server.output())
    client.refuse(46)
    assert client.closed is True
    with pytest.raises(LocalProtocolError):
        client.write(b"too late")
    assert client.output() == bytes((21, 3, 3, 0, 2, 2, 46))  # of TLS 1.2 in name, as records of TLS 1.3 are too


# --- much data, and BIOs that sessions share ---


class NotingBIO:
    """Remembers the most that a BIO ever held, as OpenSSL keeps that much memory for good."""

    def __init__(self, bio: ssl.MemoryBIO) -> None:
        self.bio = bio
        self.most = 0

    @property
    def pending(self) -> int:
        return self.bio.pending

    def read(self) -> bytes:
        self.most = max(self.most, self.bio.pending)
        return self.bio.read()


def empty(bios: BIOPair) -> bool:
    return not bios.incoming.pending and not bios.outgoing.pending and not bios.users


def sharing_pair(policy: Policy, server_context: ssl.SSLContext, bios: BIOPair) -> tuple[TLSSession, TLSSession]:
    client = TLSSession(tls_config.client_context(policy), server_side=False, server_hostname="localhost", bios=bios)
    return client, TLSSession(server_context, server_side=True, bios=bios)


@VERSIONS
def test_a_write_that_fails_leaves_the_bios_to_others_as_it_found_them(policy, server_context):
    bios = BIOPair()
    for session in sharing_pair(policy, server_context, bios):
        with pytest.raises(TLSError, match="tls failed: unknown reason"):
            session.encrypt(b"x")  # there was no handshake
        assert empty(bios)
        bios.users = 2
        with pytest.raises(TLSError):
            session.encrypt(b"x")
        assert bios.users == 2
        bios.users = 0


@VERSIONS
def test_sessions_that_share_their_bios_never_meet(policy, server_context):
    bios = BIOPair()
    pairs = [sharing_pair(policy, server_context, bios) for _ in range(3)]
    done, waiting = set(), {end: b"" for pair in pairs for end in pair}
    for _ in range(6):  # handshakes in step: each is in the middle when another one goes on
        for client, server in pairs:
            for end, other in ((client, server), (server, client)):
                if end.handshake(waiting[end]):
                    done.add(end)
                assert empty(bios)
                waiting[other] = end.output()
    assert len(done) == 6
    for number, (client, server) in enumerate(pairs):
        client.write(b"%d" % number * 20_000)
        server.write(b"hello %d" % number)
        assert empty(bios)
    flights = [(client.output(), server.output()) for client, server in pairs]
    received = [bytearray() for _ in pairs]
    for start in range(0, 21_000, 700):  # records that are cut, in turns
        for number, (_, server) in enumerate(pairs):
            received[number] += server.read(flights[number][0][start : start + 700])
            assert empty(bios)
    assert received == [b"%d" % number * 20_000 for number in range(3)]
    for number, ((client, _), (_, flight)) in enumerate(zip(pairs, flights, strict=True)):
        assert client.read(flight) == b"hello %d" % number


@VERSIONS
@pytest.mark.parametrize("fault", ["altered", "no record", "early close", "behind close_notify"])
def test_what_a_session_leaves_unread_is_met_by_no_other(policy, server_context, fault):
    bios = BIOPair()
    (client, server), (other_client, other_server) = [sharing_pair(policy, server_context, bios) for _ in range(2)]
    shake_hands(client, server)
    shake_hands(other_client, other_server)
    client.write(b"good")
    good = client.output()
    rest = bytes(1000)
    client.write(b"bad")
    bad = bytearray(client.output())
    if fault == "altered":
        bad[-1] ^= 1
    elif fault == "no record":
        bad = bytearray(b"GET / HTTP/1.1")
    elif fault == "behind close_notify":
        client.close()
        bad += client.output()
    if fault == "early close":
        assert server.handshake(good + bad)
        server.close()  # OpenSSL throws away what it finds unread
    else:
        data, _ = server.decrypt(memoryview(good + bad + rest))
        assert bytes(data[:4]) == b"good"  # what came before the fault is had
    assert empty(bios)
    other_client.write(b"not concerned")
    assert other_server.read(other_client.output()) == b"not concerned"


@pytest.mark.parametrize(
    ("size", "places"), [(16_383, 0), (16_384, 1), (32_766, 1), (32_767, 1), (32_768, 2), (32_769, 2), (49_151, 2)]
)
def test_a_buffer_has_as_many_places_as_it_has_room_for_whole_records(size, places):
    buffer = memoryview(bytearray(size))
    found = BIOPair().places_in(buffer)
    assert [len(place) for place in found] == [16_384] * places
    for number, place in enumerate(found):
        place[:1] = bytes((number + 1,))
        assert buffer[number * 16_384] == number + 1


def test_the_places_of_the_last_buffer_are_kept():
    bios, first, second = BIOPair(), memoryview(bytearray(16_384)), memoryview(bytearray(32_768))
    kept = bios.places_in(first)
    assert bios.places_in(first) is kept
    assert len(bios.places_in(second)) == 2
    assert len(bios.places_in(first)) == 1


@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS is deprecated:DeprecationWarning")
@pytest.mark.parametrize("protocol", [ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS])
def test_a_session_with_a_ticket_shares_the_bios_that_it_is_given(protocol):
    bios = BIOPair()
    session = session_with_ticket(ssl.SSLContext(protocol), bios)
    with pytest.raises(TLSError):
        session.handshake(b"no tls at all")
    assert session._bios is bios
    assert empty(bios)


class FullBIO:
    """A BIO for one of whose calls there is no memory once the bytes are in it."""

    def __init__(self, bio: ssl.MemoryBIO, call: str) -> None:
        self.bio = bio
        self.call = call

    @property
    def pending(self) -> int:
        return self.bio.pending

    def write(self, data: bytes) -> int:
        size = self.bio.write(data)
        if self.call == "write":
            raise MemoryError
        return size

    def read(self) -> bytes:
        if self.call == "read":
            raise MemoryError
        return self.bio.read()


WITHOUT_MEMORY = {
    "handshake, its input": ("_incoming", "write", lambda client, server: server.handshake(client.encrypt(b"x"))),
    "handshake, its rest": ("_incoming", "read", lambda client, server: server.handshake(client.encrypt(b"x"))),
    "handshake, its output": ("_outgoing", "read", lambda _client, server: server.handshake()),
    "decrypt": ("_incoming", "write", lambda client, server: server.decrypt(client.encrypt(b"x"))),
    "encrypt": ("_outgoing", "read", lambda _client, server: server.encrypt(b"x" * 1000)),
}


@pytest.mark.parametrize("inside", [0, 1], ids=["alone", "inside another call"])
@pytest.mark.parametrize("case", WITHOUT_MEMORY)
def test_a_call_without_memory_leaves_nothing_that_another_session_could_find(server_context, case, inside):
    place, call, use = WITHOUT_MEMORY[case]
    bios = BIOPair()
    server = TLSSession(server_context, server_side=True, bios=bios)
    client = TLSSession(tls_config.client_context(TLS12), server_side=False, server_hostname="localhost")
    shake_hands(client, server)
    setattr(server, place, FullBIO(getattr(server, place), call))
    bios.users = inside
    with pytest.raises(MemoryError):
        use(client, server)
    assert (bios.incoming.pending, bios.outgoing.pending, bios.users) == (0, 0, inside)


def test_a_callback_of_tls_that_uses_another_session_is_refused(calling_context):
    bios = BIOPair()
    other_client, other_server = sharing_pair(TLS13, calling_context, bios)
    shake_hands(other_client, other_server)
    client, server = sharing_pair(TLS13, calling_context, bios)
    told = []

    def use_another(_ssl_object, _name, _context):
        for use in (other_server.read, other_server.close, lambda: other_server.write(b"x")):
            try:
                use()
            except LocalProtocolError as error:
                told.append(error)

    calling_context.sni_callback = use_another
    client.handshake()
    server.handshake(client.output() + b"\x14\x03\x03\x00\x01\x01")
    assert len(told) == 2  # writing needs only the other BIO, which is empty here
    assert other_server.has_output
    assert other_client.read(other_server.output()) == b"x"
    assert empty(bios)


def test_a_callback_may_use_other_sessions_while_the_bios_are_empty_and_no_longer(calling_context):
    """Each leaves them as it found them: in the middle of the handshake that called back."""
    bios = BIOPair()
    (other_client, other_server), (client, server) = [sharing_pair(TLS13, calling_context, bios) for _ in range(2)]
    shake_hands(other_client, other_server)
    other_client.write(b"for the callback")
    data, told = other_client.output(), []

    def use_another(_ssl_object, _name, _context):
        assert other_server.read(data) == b"for the callback"
        other_server.close()
        bios.outgoing.write(b"what the handshake has made since")
        with pytest.raises(LocalProtocolError):
            other_client.write(b"x")
        told.append(bios.outgoing.read())

    calling_context.sni_callback = use_another
    client.handshake()
    server.handshake(client.output())
    assert told == [b"what the handshake has made since"]
    assert empty(bios)


def decrypted_one_by_one(session, ciphertext):
    """The plaintext of each record, of which every call of `decrypt` takes one."""
    records, more = [], True
    while more:
        data, more = session.decrypt(ciphertext, memoryview(bytearray(2 * 16_384)), most=1)
        records.append(bytes(data))
        ciphertext = b""
    return records


@VERSIONS
@pytest.mark.parametrize("size", [1, 16_384, 16_385, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("held", [1, 4, 17])
def test_encrypt_fills_its_records_and_holds_as_many_as_its_bios_are_made_for(policy, server_context, held, size):
    client, server = pair(policy, server_context)
    assert client._bios.most_encrypted == 4 * 16_384  # a pair of its own is an idle connection's memory
    client._bios.most_encrypted = held * 16_384
    client._outgoing = noting = NotingBIO(client._outgoing)
    data = bytes(range(256)) * (size // 256 + 1)
    client.write(b"first")
    records = decrypted_one_by_one(server, client.encrypt(data[:size]))
    assert records[0] == b"first"
    assert [len(record) for record in records[1:-1]] == [16_384] * ((size - 1) // 16_384)
    assert b"".join(records[1:]) == data[:size]
    assert not client.has_output
    assert noting.most <= held * (16_384 + 64)
    assert held == 1 or noting.most > min(size, held * 16_384)


def into(server, ciphertext, size=2**16, most=2**20):
    """What `decrypt` finds, and whether there is more to look at."""
    untouched = b"!" * size
    written = bytearray(untouched)
    buffer = memoryview(written)
    data, more = server.decrypt(ciphertext, buffer, most)
    if type(data) is bytes:
        assert written == untouched  # one record needs no buffer
    else:
        assert data.obj is buffer.obj
        assert buffer[: len(data)] == data
        assert written.endswith(untouched[len(data) :])  # nothing is written behind the plaintext
    return bytes(data), more


def random_cuts(seed, size):
    """The places where a flight of `size` bytes is cut."""
    random_ = random.Random(seed)
    return [0, *sorted(random_.sample(range(1, size), random_.randrange(1, 200))), size]


THOROUGH_CUTS = [pytest.param(size, marks=pytest.mark.thorough) for size in (1, 4, 5)]
"""They take tens of thousands of calls."""


@VERSIONS
@pytest.mark.parametrize("cut", [*THOROUGH_CUTS, 6, 1000, 16_400, 50_000, *(f"random {seed}" for seed in range(5))])
def test_decrypt_takes_any_cut(policy, server_context, cut):
    client, server = pair(policy, server_context)
    data = random.Random(1).randbytes(40_000)
    flight = client.encrypt(b"x") + client.encrypt(data)
    cuts = [*range(0, len(flight), cut), len(flight)] if isinstance(cut, int) else random_cuts(cut, len(flight))
    found = [into(server, memoryview(flight)[start:end]) for start, end in itertools.pairwise(cuts)]
    assert b"".join(plaintext for plaintext, _ in found) == b"x" + data
    assert not any(more for _, more in found)


@VERSIONS
@pytest.mark.parametrize("again", [True, False], ids=["next_call", "given_back"])
@pytest.mark.parametrize(
    ("length", "most", "a_call"),
    [
        (1, 3, 3),
        (1, 7, 7),
        (1, 6, 6),
        (5_000, 3, 3),
        (16_384, 2**20, 2),
        (10_000, 2**20, 2),
        (8_192, 2**20, 3),  # two of them leave just the room of the longest
        (5_000, 2**20, 4),
    ],
)
def test_decrypt_leaves_what_is_behind_the_most_records_and_what_has_no_room(
    policy, server_context, again, length, most, a_call
):
    client, server = pair(policy, server_context)
    records = [bytes((number,)) * length for number in range(7)]
    flight = b"".join(map(client.encrypt, records))
    while records:
        found, more = into(server, flight, 2 * 16_384, most)
        assert found == b"".join(records[:a_call])
        del records[:a_call]
        assert more is bool(records)
        flight = b"" if again else flight[len(flight) - server.give_back() :] if more else b""
    assert server.give_back() == 0


@VERSIONS
def test_decrypt_takes_no_more_of_the_longest_records_than_it_is_asked_for(policy, server_context):
    client, server = pair(policy, server_context)
    assert into(server, client.encrypt(bytes(5 * 16_384)), 18 * 16_384, most=3) == (bytes(3 * 16_384), True)
    assert into(server, b"", 18 * 16_384) == (bytes(2 * 16_384), False)


@VERSIONS
@pytest.mark.parametrize("missing", [0, 1])
def test_decrypt_begins_a_portion_of_small_records_where_there_is_room_for_the_longest(policy, server_context, missing):
    client, server = pair(policy, server_context)
    record = client.encrypt(bytes(100))
    portions = 2 * (2**16 // len(record)) + 1
    buffer = memoryview(bytearray(portions * 100 + 16_384 - missing))
    records = [record, *(client.encrypt(bytes(100)) for _ in range(1, portions))]
    data, more = server.decrypt(b"".join(records) + client.encrypt(bytes(16_384)), buffer)
    assert data.obj is buffer.obj
    assert (len(data), more) == ((portions * 100, True) if missing else (len(buffer), False))


@VERSIONS
def test_decrypt_needs_no_buffer_for_a_few_small_records(policy, server_context):
    client, server = pair(policy, server_context)
    buffer = memoryview(bytearray(2**16))
    assert server.decrypt(client.encrypt(b"a") + client.encrypt(b"b"), buffer) == (b"ab", False)
    assert not any(buffer)


ALL_SIZES = [
    (1,) * 3000,
    (100,) * 900,
    (511, *(16_384,) * 9),
    (1, *(1_000,) * 99),
    (3_000, 1, 9),
    (16_384, 16_384, 5, 16_384, 1, 16_384, 16_384),
    (16_384, 16_384, 16_383, 16_384),
    (*(16_384,) * 9, 700),
    (16_384, *(300,) * 200),
    (*(400,) * 156, *(16_384,) * 3),
]


@VERSIONS
@pytest.mark.parametrize("room", [2, 6, 18])
@pytest.mark.parametrize("sizes", ALL_SIZES, ids=lambda sizes: f"{len(sizes)}_records_{sizes[0]}")
def test_decrypt_finds_all_records_whatever_their_sizes_and_the_room(policy, server_context, sizes, room):
    client, server = pair(policy, server_context)
    records = [random.Random(size).randbytes(size) for size in sizes]
    flight, found, more = b"".join(map(client.encrypt, records)), b"", True
    buffer = memoryview(bytearray(room * 16_384))
    while more:
        data, more = server.decrypt(flight, buffer)
        found += bytes(data)
        flight = b""
    assert found == b"".join(records)
    client.close()
    assert server.decrypt(client.output(), buffer) == (b"", True)
    assert server.peer_closed


@VERSIONS
@pytest.mark.parametrize("length", [0, 1, 700, 16_384])
@pytest.mark.parametrize("sizes", [(100,) * 50, (1, 16_384, 5), (16_384, 1, 1), (3, 2, 1), (16_384,) * 20])
def test_read_takes_as_many_records_as_there_are(policy, server_context, sizes, length):
    client, server = pair(policy, server_context)
    records = [random.Random(size).randbytes(size) for size in sizes]
    flight = b"".join(map(client.encrypt, records))
    behind = client.encrypt(bytes(16_384))
    assert server.read(flight + behind[:length]) == b"".join(records)
    assert server.read(behind[length:]) == bytes(16_384)


@VERSIONS
@pytest.mark.parametrize("missing", [1, 20, 8_000])
def test_read_takes_all_that_is_behind_the_end_of_a_record_that_began_earlier(policy, server_context, missing):
    client, server = pair(policy, server_context)
    record = client.encrypt(bytes(16_384))
    cut = len(record) - missing
    assert server.read(record[:cut]) == b""
    client.write(b"last words")
    client.close()
    assert server.read(record[cut:] + client.output()) == bytes(16_384) + b"last words"
    assert server.peer_closed


def pair_with_a_ticket(server_context):
    """A client and a server after the handshake, and the server's ticket for the client."""
    client = TLSSession(tls_config.client_context(TLS13), server_side=False, server_hostname="localhost")
    server = session_with_ticket(server_context)
    client.handshake()
    server.handshake(client.output())
    assert client.handshake(server.output())
    assert server.handshake(client.output())
    ticket = server.output()
    assert ticket
    return client, server, ticket


@pytest.mark.parametrize("count", [1, 2, 20])
def test_read_takes_all_records_behind_a_ticket(server_context, count):
    client, server, ticket = pair_with_a_ticket(server_context)
    records = [random.Random(number).randbytes(100) for number in range(count)]
    assert client.read(ticket + b"".join(map(server.encrypt, records))) == b"".join(records)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_decrypt_takes_a_record_that_is_as_long_as_the_ticket_before_the_others(server_context, more):
    """The records of the call seem to be over then, by what the first of them took."""
    client, server, ticket = pair_with_a_ticket(server_context)
    overhead = 22  # header, content type and tag (RFC 8446 5.2)
    records = [bytes(5_000), bytes(6_000), bytes(len(ticket) - overhead + more)]
    assert into(client, ticket + b"".join(map(server.encrypt, records))) == (b"".join(records), False)


BEHIND = [(10,), (100,) * 900, (5_000, 4_000, 3_000), (16_384,) * 5]
"""Sizes of the records behind which something else comes: one, many small, some large, some of the largest size."""


@VERSIONS
@pytest.mark.parametrize("sizes", BEHIND, ids=lambda sizes: f"{len(sizes)}_records_{sizes[0]}")
def test_decrypt_says_when_there_is_more_to_look_at_than_plaintext(policy, server_context, sizes):
    client, server = pair(policy, server_context)
    records = [random.Random(size).randbytes(size) for size in sizes]
    flight = b"".join(map(client.encrypt, records))
    client.close()
    assert into(server, flight + client.output() + b"behind", 18 * 16_384) == (b"".join(records), True)
    assert server.peer_closed
    assert server.give_back() == 0


@VERSIONS
@pytest.mark.parametrize("sizes", BEHIND, ids=lambda sizes: f"{len(sizes)}_records_{sizes[0]}")
def test_a_close_notify_at_the_end_of_a_call_is_more_to_look_at(policy, server_context, sizes):
    client, server = pair(policy, server_context)
    flight = b"".join(client.encrypt(bytes(size)) for size in sizes)
    client.close()
    assert into(server, flight + client.output(), 18 * 16_384) == (bytes(sum(sizes)), True)
    assert server.peer_closed


@VERSIONS
@pytest.mark.parametrize("sizes", BEHIND, ids=lambda sizes: f"{len(sizes)}_records_{sizes[0]}")
def test_half_a_record_at_the_end_of_a_call_is_nothing_to_look_at(policy, server_context, sizes):
    client, server = pair(policy, server_context)
    flight = b"".join(client.encrypt(bytes(size)) for size in sizes)
    last = client.encrypt(bytes(5_000))
    assert into(server, flight + last[:2_000], 18 * 16_384) == (bytes(sum(sizes)), False)
    assert into(server, last[2_000:]) == (bytes(5_000), False)


@VERSIONS
@pytest.mark.parametrize("sizes", BEHIND, ids=lambda sizes: f"{len(sizes)}_records_{sizes[0]}")
def test_decrypt_keeps_what_came_before_a_fault(policy, server_context, sizes):
    client, server = pair(policy, server_context)
    records = [random.Random(size).randbytes(size) for size in sizes]
    good, bad = b"".join(map(client.encrypt, records)), bytearray(client.encrypt(b"bad"))
    bad[-1] ^= 1
    assert server.fault is None
    assert into(server, good + bad, 18 * 16_384) == (b"".join(records), True)
    assert server.fault.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED
    assert server.has_output  # the alert
    assert server.alert == bytes((2, 20))  # bad_record_mac
    with pytest.raises(TLSError):
        server.raise_fault()
    assert server.fault is None
    server.raise_fault()


@VERSIONS
def test_an_alert_that_openssl_does_not_tell_is_not_told(policy, server_context):
    _, server = pair(policy, server_context)
    assert server.decrypt(b"\x17\x02\x02\x00\x01x") == (b"", True)
    assert server.fault is not None
    assert server.alert == b""


# --- failure ---


@pytest.mark.requirement("tls.alerts")
@VERSIONS
def test_an_altered_record_is_refused_and_answered_by_an_alert(policy, server_context):
    client, server = pair(policy, server_context)
    client.write(b"something")
    record = bytearray(client.output())
    record[-1] ^= 1
    with pytest.raises(TLSError):
        server.read(record)
    with pytest.raises(TLSError, match="alert bad_record_mac") as caught:
        client.read(server.output())
    assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED


@pytest.mark.requirement("tls.alerts")
def test_no_version_in_common_ends_with_an_alert():
    old = tls_config.server_context_from_pem(TLS12, *pem("rsa"))
    client = TLSSession(tls_config.client_context(TLS13), server_side=False)
    server = TLSSession(old, server_side=True)
    client.handshake()
    with pytest.raises(TLSError):
        server.handshake(client.output())
    with pytest.raises(TLSError, match="protocol_version") as caught:
        client.handshake(server.output())
    assert caught.value.security_status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


@pytest.mark.requirement("tls.alerts")
@pytest.mark.parametrize(
    ("reason", "status", "of_certificate"),
    [
        ("TLSV1_ALERT_ACCESS_DENIED", SecurityStatus.SEC_E_LOGON_DENIED, False),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", SecurityStatus.SEC_E_CERT_EXPIRED, True),
        ("SSLV3_ALERT_BAD_CERTIFICATE", SecurityStatus.SEC_E_CERT_UNKNOWN, True),
        ("TLSV1_ALERT_UNKNOWN_CA", SecurityStatus.SEC_E_UNTRUSTED_ROOT, True),
        ("TLSV1_ALERT_INTERNAL_ERROR", SecurityStatus.SEC_E_INTERNAL_ERROR, False),
        ("TLSV1_ALERT_DECRYPT_ERROR", SecurityStatus.SEC_E_DECRYPT_FAILURE, False),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", SecurityStatus.SEC_E_ILLEGAL_MESSAGE, False),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", SecurityStatus.SEC_E_ILLEGAL_MESSAGE, False),
    ],
)
def test_an_alert_becomes_schannels_status(reason, status, of_certificate):
    error = ssl.SSLError(1, reason)
    error.reason = reason
    ours = tls_module._tls_error(error)
    assert ours.security_status is status
    assert ("our certificate" in str(ours)) is of_certificate


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_asking_for_answers_makes_no_record_where_none_is_due(version, server_context):
    maximum = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[version]
    client, server = pair(Policy(max_tls=maximum), server_context)
    for end in (client, server):
        assert end.version == version
        end.answer()
        assert (end.has_output, end.output_size) == (False, 0)
    client.write(b"hello")
    assert client.output_size == len(client.output()) > 5
    assert client.closed is False
    client.close()
    client.output()
    client.answer()
    assert (client.closed, client.output_size) == (True, 0)


@pytest.mark.parametrize("attributes", [{"reason": None}, {}], ids=["none", "no attribute"])
def test_a_failure_that_openssl_has_no_name_for_is_a_failure_of_tls(attributes):
    """An internal error of OpenSSL's comes with None for its reason."""
    error = ssl.SSLError()
    vars(error).update(attributes)
    ours = tls_module._tls_error(error)
    assert str(ours) == "tls failed: unknown reason"
    assert ours.security_status is SecurityStatus.SEC_E_ILLEGAL_MESSAGE


def test_asking_a_broken_connection_for_answers_makes_nothing(server_context):
    session = TLSSession(server_context, server_side=True)
    session.answer()  # there was no handshake
    assert not session.has_output

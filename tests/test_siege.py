"""The attackers of `benchmarks.siege` send what they say, and its bounds can be crossed. `make siege` is the siege."""

import contextlib
import ssl

import pytest

import acredssp
from acredssp.rdp import ConnectionConfirm, Protocols
from benchmarks.harness import Figure, Results, Row, environment
from benchmarks.peers import NAME
from benchmarks.siege import docs, leaks
from benchmarks.siege.__main__ import broken
from benchmarks.siege.attackers import ATTACKS, is_possible
from benchmarks.siege.crowds import CROWDS, Making, sources
from benchmarks.siege.floods import FLOODS, Flood
from benchmarks.siege.fronts import CONNECTION_REQUEST, FRONTS
from benchmarks.siege.holding import CEILINGS
from benchmarks.siege.raw_tls import ALERT, APPLICATION_DATA, HANDSHAKE, RawTLS
from benchmarks.siege.servers import KINDS, OURS

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class Server:
    """OpenSSL's side, by `ssl`."""

    def __init__(self):
        context = acredssp.server_context_from_pem(acredssp.Policy(), *acredssp.self_signed([NAME], "rsa"))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def answer(self, data):
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def read(self, data):
        """What comes out as application data; what goes out stays in `outgoing`."""
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            return self.tls.read()
        return b""


@pytest.fixture
def key_log(tmp_path):
    path = tmp_path / "keys"
    path.touch()
    return path


def connected(key_log, version=V13):
    server, peer = Server(), RawTLS(key_log, version)
    flight = peer.hello
    while not peer.done:
        flight = peer.step(server.answer(flight))
    server.answer(flight)
    server.outgoing.read()
    return server, peer


# --- records of our own ---


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_records_of_our_own_are_read_as_those_of_the_session(key_log, version):
    server, peer = connected(key_log, version)
    assert server.read(peer.record(APPLICATION_DATA, b"one")) == b"one"
    assert server.read(peer.record(APPLICATION_DATA, b"two")) == b"two"


def test_key_updates_are_taken_and_those_that_ask_are_answered_one_by_one(key_log):
    server, peer = connected(key_log)
    assert server.read(b"".join(peer.key_update(asked=False) for _ in range(20))) == b""
    assert not server.outgoing.pending
    server.read(b"".join(peer.key_update(asked=True) for _ in range(4)))
    few = server.outgoing.pending
    server.read(b"".join(peer.key_update(asked=True) for _ in range(36)))
    assert few > 0
    assert server.outgoing.pending >= 8 * few
    assert server.read(peer.record(APPLICATION_DATA, b"still there")) == b"still there"


def test_a_renegotiation_is_answered_by_a_warning_each_time(key_log):
    server, peer = connected(key_log, V12)
    server.read(peer.record(HANDSHAKE, peer.hello[5:]))
    one = server.outgoing.pending
    server.read(peer.record(HANDSHAKE, peer.hello[5:]))
    assert one > 0
    assert server.outgoing.pending == 2 * one


@pytest.mark.parametrize(("kind", "content"), [(ALERT, b"\x01\x5a"), (APPLICATION_DATA, b"")], ids=["alerts", "empty"])
def test_openssl_takes_few_records_that_say_nothing(key_log, kind, content):
    server, peer = connected(key_log)
    server.read(peer.record(kind, content))
    with pytest.raises(ssl.SSLError):
        for _ in range(100):
            server.read(peer.record(kind, content))


def test_a_message_within_the_handshake_is_sealed_by_its_keys(key_log):
    server, peer = Server(), RawTLS(key_log)
    peer.step(server.answer(peer.hello))
    with pytest.raises(ssl.SSLError, match=r"(?i)unexpected message"):
        server.answer(peer.within_handshake(b"\x0b\0\0\4\0\0\0\0"))


# --- crowds ---


def said_by(script, *answers):
    """What a script says, answered by what is given."""
    said, answers = [], iter(answers)
    try:
        said.append(next(script))
        while True:
            said.append(script.send(next(answers)))
    except StopIteration as last:
        return [*said, last.value]


def test_a_crowd_at_the_gateway_negotiates_first(key_log):
    confirm = ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()
    request, half = said_by(Making("rdp", key_log).half_record(), confirm)
    assert request == CONNECTION_REQUEST
    size = int.from_bytes(half[3:5], "big")
    assert len(half) < 5 + size


def test_a_crowd_at_http_puts_tls_into_requests(key_log):
    [request] = said_by(Making("http", key_log).hello_silence())
    assert request.startswith(b"POST ")
    assert b"\r\nAuthorization: CredSSP Fg" in request


def test_the_silent_say_nothing(key_log):
    for front in set(FRONTS.values()):
        assert said_by(Making(front, key_log).silent()) == [b""]


def test_a_length_that_lies_comes_through_tls(key_log):
    server, script = Server(), Making("tls", key_log).lies_request()
    flight = next(script)
    with pytest.raises(StopIteration) as last:
        flight = script.send(server.answer(flight))
    last = last.value.value
    server.answer(last)
    header = server.read(b"")
    assert header.startswith(b"\x30\x83\x01\xff\xf0")


# --- what there is ---


def test_every_attack_is_there_and_is_about_a_server():
    assert len(set(ATTACKS)) == len(ATTACKS)
    assert all(hasattr(Flood, name) for name in FLOODS)
    assert all(any(is_possible(attack, kind) for kind in OURS) for attack in ATTACKS)
    assert set(CEILINGS) == set(CROWDS)
    assert not any(is_possible("tiny", kind) for kind in KINDS if kind == "tls")


def test_attackers_have_as_many_addresses_as_they_want():
    addresses = [sources(number) for number in range(100_000)]
    assert len(set(addresses)) == len(addresses)
    assert all(0 <= int(part) < 256 for part in addresses[-1].split("."))


# --- bounds ---


def row(key, value, goal=None):
    return Row(key=key, what=key, figure=Figure.of([value]), goal=goal)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (row("siege.hellos.serve.beside", 0.1), row("siege.hellos.serve.beside", 0.0)),
        (row("siege.silent.serve.memory", 9.0, 16.0), row("siege.silent.serve.memory", 65.0, 16.0)),
        (row("siege.silent.serve.left", 0.0, 0.0), row("siege.silent.serve.left", 1.0, 0.0)),
        (row("siege.serve.descriptors", 0.0, 0.0), row("siege.serve.descriptors", 1.0, 0.0)),
        (row("siege.leak.serve", 5000.0), row("siege.leak.serve", 20_000.0)),
    ],
    ids=["beside", "memory", "left", "descriptors", "leak"],
)
def test_a_check_fails_for_a_bound_that_is_crossed(good, bad):
    assert list(broken([good])) == []
    assert len(list(broken([bad]))) == 1


def test_a_slope_is_found_with_its_interval():
    flat = [(number, 50_000_000 + number % 7 * 4096) for number in range(0, 10_000, 100)]
    steep = [(number, size + 10 * number) for number, size in flat]
    found = leaks.slope_of(flat)
    assert found.low < 0 < found.high
    found = leaks.slope_of(steep)
    assert 9 < found.low < 10 < found.high < 11


def test_the_figures_of_a_run_become_tables():
    keys = {"siege.silent.serve.asyncio.interpreted": 0.97, "siege.silent.tls.asyncio.interpreted": 0.5}
    keys |= {"siege.silent.serve.asyncio.interpreted.memory": 12.34}
    results = Results("siege", environment() | {"slice": "one"}, [row(key, value) for key, value in keys.items()])
    found = docs.tables(results)
    shares = ["97% (97% to 97%)", "-", "-", "50% (50% to 50%)"]
    assert found["siege"]["rows"] == [["`silent`", "asyncio, interpreted", *shares]]
    assert found["siege-memory"]["rows"] == [["`silent`", "asyncio, interpreted", "12.3", "-", "-", "-"]]
    assert "siege-leaks" not in found

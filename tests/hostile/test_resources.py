"""What a peer can make us spend: memory, rounds, calls. Nothing grows with what it announces or repeats.

CVE-2018-8793 (a length believed), CVE-2023-25566 (a leak per logon), FreeRDP 7249 (a negotiation that never ended),
CVE-2020-35875 (bytes kept for a peer that never reads), CVE-2020-9497 (sizes of a server believed).
"""

import contextlib
import gc
import tracemalloc

import pytest
from support.logon import MECHANISMS, attack, bare_pair, client, come_up, established, server, tls_peer

from acredssp.carriage.rdp import RDP
from acredssp.errors import CredSSPError, LimitExceeded
from acredssp.mechanisms.ntlm.messages import ChallengeMessage
from acredssp.policy import Policy
from acredssp.status import NTSTATUS
from acredssp.wire import der, spnego, x224
from acredssp.wire.ts_request import TSRequest

KIB = 1024


@contextlib.contextmanager
def ceiling(size):
    """The block allocates no more than `size` bytes at any moment, beyond what was there.

    The garbage of other tests is collected before the block: its collection, and the warnings about it, would otherwise
    allocate memory within the block.
    """
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert peak <= size, f"{peak} bytes at the peak"


def spoken_to(side):
    """A bare end that is due to hear a message."""
    if side == "server":
        return server(bare=True)
    end = client(bare=True)
    end.step(b"")
    return end


both_sides = pytest.mark.parametrize("side", ["client", "server"])


# --- lengths that lie ---


@pytest.mark.requirement("defect.lying-length")
@both_sides
@pytest.mark.parametrize("length", [1 << 17, 1 << 24, 1 << 31, (1 << 32) - 1])
def test_a_length_is_refused_before_anything_is_kept_for_it(side, length):
    end = spoken_to(side)
    with ceiling(16 * KIB), pytest.raises(LimitExceeded):
        end.context.step(b"\x30\x84" + length.to_bytes(4, "big") + bytes(100))


@pytest.mark.requirement("defect.server-sizes")
@both_sides
def test_a_message_that_stays_below_the_limit_costs_its_size_and_not_more(side):
    """Presented again with every byte more, as a careless driver may."""
    end, size = spoken_to(side), Policy().max_message - 100
    data = b"\x30\x83" + size.to_bytes(3, "big") + bytes(size - 1)
    with ceiling(16 * KIB):
        for held in range(0, len(data), 997):
            assert end.context.step(memoryview(data)[:held]).missing
    with ceiling(3 * len(data)), pytest.raises(CredSSPError):
        end.context.step(data + b"\0")


@pytest.mark.requirement("defect.lying-length")
def test_an_announced_message_is_kept_no_further_than_its_records_came():
    """Inside TLS the engine keeps the plaintext itself: 16 KiB a record, never what the header said."""
    target, attacker = server(), tls_peer(server_side=False)
    come_up(target, attacker)
    attacker.write(b"\x30\x83\x01\xff\xf0")
    first = attacker.output()
    with ceiling(64 * KIB):
        assert target.step(first) == b""
    attacker.write(bytes(16_000))
    second = attacker.output()
    with ceiling(128 * KIB):
        assert target.step(second) == b""


@pytest.mark.requirement("defect.lying-length")
@pytest.mark.parametrize("inner", ["negoTokens", "token", "spnego"])
def test_lengths_inside_cost_nothing(inner):
    giant = b"\x84\xff\xff\xff\xff"
    content = {
        "negoTokens": der.encode_integer(0, 6) + b"\xa1" + giant + bytes(50),
        "token": der.encode_integer(0, 6) + b"\xa1\x0c\x30\x0a\x30\x08\xa0" + giant + bytes(2),
        "spnego": TSRequest(6, b"\x60" + giant + spnego.SPNEGO + bytes(50)).encode()[2:],
    }[inner]
    target = server(bare=True)
    with ceiling(32 * KIB), pytest.raises(CredSSPError):
        target.step(der.encode(der.SEQUENCE, content))


@pytest.mark.requirement("defect.lying-length")
def test_a_message_of_empty_elements_costs_no_objects():
    """120 KiB of the smallest elements there are: refused at the ninth, not listed."""
    elements = b"\x30\x04\xa0\x02\x04\x00" * 20_000
    content = der.encode_integer(0, 6) + der.encode(der.CONTEXT + 1, der.encode(der.SEQUENCE, elements))
    message = der.encode(der.SEQUENCE, content)
    target = server(bare=True)
    with ceiling(len(message) + 64 * KIB), pytest.raises(CredSSPError):
        target.context.step(message)


# --- rounds ---


@pytest.mark.requirement("defect.endless-rounds")
@both_sides
@pytest.mark.parametrize("token", [b"x", b"", b"NTLMSSP\0\1\0\0\0", b"\xa1\x07\x30\x05\xa0\x03\x0a\x01\x01"], ids=len)
def test_a_token_again_and_again_comes_to_an_end(side, token):
    end = spoken_to(side)
    with pytest.raises(CredSSPError):
        for _ in range(Policy().max_rounds + 2):
            end.step(TSRequest(6, nego_token=token).encode())


@pytest.mark.requirement("defect.endless-rounds")
def test_an_offer_that_is_asked_for_more_again_and_again_comes_to_an_end():
    """accept-incomplete without anything: FreeRDP's client went round for ever."""
    victim = client(Policy(mechanism="negotiate"), bare=True)
    victim.step(b"")
    asking = spnego.NegTokenResp(spnego.NegState.ACCEPT_INCOMPLETE, spnego.NTLM).encode()
    with pytest.raises(CredSSPError):
        for _ in range(Policy().max_rounds + 2):
            victim.step(TSRequest(6, nego_token=asking).encode())


@pytest.mark.requirement("defect.endless-rounds")
def test_calls_without_new_bytes_do_nothing_for_ever():
    """A driver that calls again without data hears the same answer; nothing is kept, nothing is sent."""
    for end in (server(), server(bare=True), spoken_to("client")):
        answers = [end.context.step(b"") for _ in range(50)]
        assert answers == answers[:1] * 50
        assert answers[0].missing > 0


# --- one handshake after the other ---


def refused_logon(mechanism):
    ends = client(Policy(mechanism=mechanism), bare=True), server(bare=True, lookup=None)
    attack(*ends)
    assert not established(ends[1])


def good_logon(mechanism):
    ends = bare_pair(mechanism)
    attack(*ends)
    assert established(ends[1])


def strange_status(number):
    victim = spoken_to("client")
    with pytest.raises(CredSSPError) as caught:
        victim.step(TSRequest(6, error_code=0xC7000000 + number).encode())
    assert caught.value.nt_status == 0xC7000000 + number
    assert not NTSTATUS(0xC7000000 + number).known


@pytest.mark.thorough
@pytest.mark.requirement("defect.text-and-leaks")
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("logon", [good_logon, refused_logon])
def test_memory_is_on_a_plateau_over_many_handshakes(logon, mechanism):
    assert_plateau(lambda number: logon(mechanism))


@pytest.mark.requirement("defect.text-and-leaks")
def test_memory_is_on_a_plateau_over_statuses_never_seen_before():
    assert_plateau(strange_status)


def strange_protocols(number):
    value = x224.Protocols(0xC700_0000 + number)
    target = server(carriage=RDP())
    with contextlib.suppress(CredSSPError):  # some of the numbers offer CredSSP, too
        target.step(x224.ConnectionRequest(requested_protocols=value).encode())
    confirm = x224.ConnectionConfirm(selected_protocol=value).encode()
    assert x224.ConnectionConfirm.decode(confirm).selected_protocol == value


@pytest.mark.requirement("defect.text-and-leaks")
def test_memory_is_on_a_plateau_over_protocols_never_seen_before():
    assert_plateau(strange_protocols)


def strange_av_flags(number):
    pair = b"\6\0\4\0" + (0xC700_0000 + number).to_bytes(4, "little")
    pairs = b"\1\0\4\0S\0V\0" + b"\2\0\4\0D\0M\0" + b"\7\0\x08\0" + bytes(8) + pair + bytes(4)
    victim = spoken_to("client")
    assert victim.step(TSRequest(6, ChallengeMessage.encode(0xE28A8235, bytes(8), b"D\0M\0", pairs)).encode())


@pytest.mark.requirement("defect.text-and-leaks")
def test_memory_is_on_a_plateau_over_av_flags_never_seen_before():
    assert_plateau(strange_av_flags)


def assert_plateau(handshake):
    """A hundred handshakes leave less behind than one of them needs."""
    for number in range(20):
        handshake(number)
    gc.freeze()  # a collection need not look at what was there before: it is not counted
    tracemalloc.start()
    try:
        for number in range(20, 40):
            handshake(number)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(40, 140):
            handshake(number)
        gc.collect()
        growth = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert growth < 4 * KIB, f"{growth} bytes in 100 handshakes"


# --- sizes that a server chooses ---


@pytest.mark.requirement("defect.server-sizes")
def test_a_challenge_as_large_as_it_can_be_is_answered_or_refused_within_bounds():
    """The client copies the server's AV pairs into its answer: 64 KiB in, no more than a few times that at work."""
    for size, fine in ((30_000, True), (0xFFE0, False)):
        victim = spoken_to("client")
        pairs = b"\1\0\4\0S\0V\0" + b"\2\0\4\0D\0M\0" + b"\x63\0" + size.to_bytes(2, "little") + bytes(size) + bytes(4)
        challenge = ChallengeMessage.encode(0xE28A8235, bytes(8), "DM".encode("utf-16-le"), pairs[:0xFFFF])
        message = TSRequest(6, challenge).encode()
        with ceiling(12 * len(message)):
            try:
                assert victim.step(message)
                assert fine
            except CredSSPError:
                assert not fine

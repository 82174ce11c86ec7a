"""Another protocol is named by both sides of each carriage, however its first bytes are cut."""

import random

import pytest
from support.endpoints import client_config, server_config
from support.protocols import EVERYWHERE

from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.errors import PeerClosed, RemoteProtocolError
from acredssp.status import SecurityStatus


def random_cuts(seed):
    rng = random.Random(seed)
    return lambda data: _cut(data, lambda: rng.randint(1, 4))


def _cut(data, size):
    crumbs = []
    while data:
        length = size()
        crumbs.append(data[:length])
        data = data[length:]
    return crumbs


CUTS = {
    "whole": lambda data: [data],
    "byte by byte": lambda data: _cut(data, lambda: 1),
    "by two": lambda data: _cut(data, lambda: 2),
    "by four": lambda data: _cut(data, lambda: 4),
    "random 1": random_cuts(1),
    "random 2": random_cuts(2),
}


def sequence(carriage, side):
    """A handshake whose turn it is to hear its peer's first bytes."""
    if side == "server":
        return carriage.acceptor(server_config())
    context = client_config().new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    client = carriage.initiator(context)
    assert client.step().output
    return client


def give(sequence, crumbs):
    """Give a handshake what comes, together with what it has not taken yet; the last result."""
    data = b""
    for crumb in crumbs:
        data += crumb
        result = sequence.step(data)
        assert (result.status, result.missing > 0) == (SecurityStatus.SEC_E_INCOMPLETE_MESSAGE, True)
        assert result.extra == len(data), "nothing is taken of what is not named yet"
    return result


ENDS = [(carriage, side) for carriage in (TLS(), RDP()) for side in ("server", "client")]
WITH_PRECONNECTION = RDP(allow_preconnection=True), "server"
CASES = [(*end, *row) for end in (*ENDS, WITH_PRECONNECTION) for row in EVERYWHERE]


@pytest.mark.parametrize(
    "cut", [pytest.param(cut, marks=[] if cut in {"whole", "by two"} else pytest.mark.thorough) for cut in CUTS]
)
@pytest.mark.parametrize(
    ("carriage", "side", "data", "what", "hint"),
    [case for case in CASES if not (case[:2] == WITH_PRECONNECTION and "preconnection" in case[3])],
    ids=str,
)
def test_another_protocol_is_named_however_it_is_cut(data, what, hint, carriage, side, cut):
    handshake = sequence(carriage, side)
    with pytest.raises(RemoteProtocolError) as raised:
        give(handshake, CUTS[cut](data))
    assert what in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize(("carriage", "side"), ENDS, ids=str)
@pytest.mark.parametrize("data", [b"GETTING", b"PROXYX", bytes(8), b"\0\0\0\0SMB!", b"\xff\xfe"])
def test_what_nobody_knows_is_refused_at_the_byte_that_shows_it(data, carriage, side):
    handshake = sequence(carriage, side)
    give(handshake, [data[:1]])
    with pytest.raises(RemoteProtocolError, match=f"got .*{data[0]}"):
        give(handshake, CUTS["byte by byte"](data))
    with pytest.raises(RemoteProtocolError):
        give(sequence(carriage, side), [b"\x81"])


@pytest.mark.parametrize(("carriage", "side"), ENDS, ids=str)
def test_a_peer_that_leaves_before_its_protocol_can_be_named_is_told_by_its_first_byte(carriage, side):
    handshake = sequence(carriage, side)
    give(handshake, [b"GE"])
    with pytest.raises(RemoteProtocolError, match=r"got .*71"):
        handshake.receive_eof()
    with pytest.raises(PeerClosed):
        sequence(carriage, side).receive_eof()

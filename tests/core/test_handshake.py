"""The exchange without a context around it: what only a wrong caller can do."""

import pytest
from support.engine import ALICE, KEY, Script

from acredssp.core.client import ClientHandshake
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.errors import CredSSPError, LimitExceeded, LocalProtocolError, RemoteProtocolError
from acredssp.policy import Policy
from acredssp.status import Stage
from acredssp.wire.ts_request import TSRequest

TOKEN = TSRequest(6, nego_token=b"token").encode()


def sides(*tokens):
    yield ClientHandshake(Script(*tokens), ALICE, Policy())
    yield ServerHandshake(Script(*tokens), Policy())


@pytest.mark.parametrize("side", [0, 1], ids=["client", "server"])
@pytest.mark.parametrize("state", [State.TLS, State.ESTABLISHED, State.FAILED])
def test_no_message_is_due_outside_of_the_exchange(side, state):
    handshake = [*sides(b"1", b"2")][side]
    handshake.state = state
    with pytest.raises(RemoteProtocolError, match=state.name):
        handshake.receive(TOKEN)


def test_no_answer_is_taken_that_nobody_asked_for():
    for handshake in sides(b"1", b"2"):
        with pytest.raises(LocalProtocolError, match="does not wait"):
            handshake.resume(True)


def test_a_move_that_is_in_no_table_is_a_bug_of_ours():
    for handshake in sides(b"1"):
        handshake.fail(CredSSPError("over"))
        with pytest.raises(AssertionError, match="no move from FAILED to NEGO_TOKEN"):
            handshake.tls_established(KEY)


def test_nothing_is_known_before_the_first_message():
    for handshake in sides(b"1"):
        assert (handshake.public_key, handshake.version, handshake.peer_version) == (b"", 0, -1)


def test_an_error_keeps_the_stage_that_it_came_with():
    """The carriage may have said more exactly where it was; and what ended before anything began has a stage, too."""
    for handshake in sides(b"1"):
        error = CredSSPError("over", stage=Stage.AUTH_INFO)
        handshake.fail(error)
        assert error.stage is Stage.AUTH_INFO
    for handshake in sides(b"1"):
        error = CredSSPError("over")
        handshake.fail(error)
        assert error.stage is State.TLS.value


def test_a_failed_exchange_waits_for_no_answer():
    for handshake in sides(b"1"):
        handshake.fail(CredSSPError("over"))
        with pytest.raises(LocalProtocolError, match="does not wait"):
            handshake.resume(True)


@pytest.mark.parametrize("side", [0, 1], ids=["client", "server"])
def test_the_last_round_that_the_policy_allows_is_taken(side):
    most = 3
    tokens = [b"token"] * 9
    handshake = [
        ClientHandshake(Script(*tokens), ALICE, Policy(max_rounds=most)),
        ServerHandshake(Script(*tokens), Policy(max_rounds=most)),
    ][side]
    handshake.tls_established(KEY)
    for _ in range(most):
        handshake._step_mechanism(b"token")
    with pytest.raises(LimitExceeded):
        handshake._step_mechanism(b"token")

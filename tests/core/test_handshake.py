"""The exchange without a context around it: what only a wrong caller can do."""

import pytest
from support.engine import ALICE, KEY, Script

from acredssp.core.client import ClientHandshake
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.errors import CredSSPError, LocalProtocolError, RemoteProtocolError
from acredssp.policy import Policy
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

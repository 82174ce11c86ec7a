"""Every state times every message, and every move of the tables.

A message has each field absent, right, or wrong in each of some ways: all combinations, 1,008 of them. What must become
of each is said here a second time, in one expression for each state.
"""

import functools
import itertools
from typing import NamedTuple

import pytest
from support.engine import ALICE, KEY, Script

from acredssp.core.binding import client_value, server_value
from acredssp.core.client import ClientHandshake
from acredssp.core.server import ServerHandshake
from acredssp.core.states import CLIENT_MOVES, SERVER_MOVES, State
from acredssp.errors import CredSSPError
from acredssp.policy import Policy
from acredssp.wire import ts_credentials, ts_request

NONCE = b"n" * 32
OTHER_KEY = b"\x30\x82 another SubjectPublicKey"
SEALED = b"sealed:"
LAST = "NEGO_TOKEN, one token before the end"
"""A server's state NEGO_TOKEN again, where the next token is the mechanism's last."""


class Message(NamedTuple):
    """Of each field, what is in it; empty for an absent field."""

    version: str
    token: str
    key: str
    nonce: str
    credentials: str
    error: str


MESSAGES = [
    Message(*fields)
    for fields in itertools.product(
        ("6", "4"),
        ("", "empty", "token"),
        ("", "right", "wrong", "unsealed", "own"),
        ("", "right", "other"),
        ("", "right", "wrong", "unsealed"),
        ("", "zero", "refused"),
    )
    if fields[2] != "own" or fields[3] != "other"
]


def encoded(message, value):
    """The bytes of a message. `value` makes what the other side seals of a key."""
    wrong = SEALED + value(6, NONCE, OTHER_KEY)
    own = SEALED + (client_value if value is server_value else server_value)(6, NONCE, KEY)
    keys = {"right": SEALED + value(6, NONCE, KEY), "wrong": wrong, "unsealed": b"no seal", "own": own}
    right = SEALED + ts_credentials.encode(ALICE)
    return ts_request.encode(
        int(message.version),
        {"empty": b"", "token": b"a token"}.get(message.token),
        {"right": right, "wrong": SEALED + b"no credentials", "unsealed": b"no seal"}.get(message.credentials),
        keys.get(message.key),
        {"zero": 0, "refused": 0xC000006D}.get(message.error),
        {"right": NONCE, "other": b"o" * 32}.get(message.nonce),
    )


# --- the client ---


def client_in(situation):
    client = ClientHandshake(Script(b"c1", b"c2"), ALICE, Policy(), random=lambda _: NONCE)
    if situation == State.TLS:
        return client
    client.tls_established(KEY)
    client.start()
    if situation in {State.PUB_KEY_AUTH, State.ESTABLISHED}:
        client.receive(ts_request.encode(6, b"s1"))
    if situation == State.ESTABLISHED:
        client.receive(ts_request.encode(6, pub_key_auth=SEALED + server_value(6, NONCE, KEY)))
    return failed(client) if situation == State.FAILED else client


def client_goes_to(situation, message):
    version, token, key, _, credentials, error = message
    if version == "4" or error == "refused" or credentials:
        return State.FAILED
    if situation == State.NEGO_TOKEN and token == "token":
        return State.PUB_KEY_AUTH
    if situation == State.PUB_KEY_AUTH and key == "right":
        return State.ESTABLISHED
    if situation == State.PUB_KEY_AUTH and not key and token:
        return State.PUB_KEY_AUTH
    return State.FAILED


# --- the server ---


def server_in(situation):
    server = ServerHandshake(Script(b"s1", b""), Policy())
    if situation == State.TLS:
        return server
    server.tls_established(KEY)
    if situation in {LAST, State.PUB_KEY_AUTH, State.AUTH_INFO, State.ESTABLISHED}:
        server.receive(ts_request.encode(6, b"c1"))
    if situation in {State.PUB_KEY_AUTH, State.AUTH_INFO, State.ESTABLISHED}:
        server.receive(ts_request.encode(6, b"c2"))
    if situation in {State.AUTH_INFO, State.ESTABLISHED}:
        key = SEALED + client_value(6, NONCE, KEY)
        server.receive(ts_request.encode(6, pub_key_auth=key, client_nonce=NONCE))
    if situation == State.ESTABLISHED:
        server.receive(ts_request.encode(6, auth_info=SEALED + ts_credentials.encode(ALICE)))
    return failed(server) if situation == State.FAILED else server


def server_goes_to(situation, message):
    version, token, key, nonce, credentials, error = message
    if version == "4" or error or (credentials and situation != State.AUTH_INFO):
        return State.FAILED
    bound = key == "right" and nonce == "right"
    if situation == State.NEGO_TOKEN and token == "token" and not key:
        return State.NEGO_TOKEN
    if situation == LAST and token == "token" and (bound or not key):
        return State.AUTH_INFO if key else State.PUB_KEY_AUTH
    if situation == State.PUB_KEY_AUTH and bound:
        return State.AUTH_INFO
    if situation == State.AUTH_INFO and credentials == "right" and not key and nonce != "other":
        return State.ESTABLISHED
    return State.FAILED


# --- both ---

SIDES = {
    "client": (client_in, client_goes_to, server_value, CLIENT_MOVES),
    "server": (server_in, server_goes_to, client_value, SERVER_MOVES),
}
SITUATIONS = {"client": list(CLIENT_MOVES), "server": [*SERVER_MOVES, LAST]}


def failed(handshake):
    handshake.fail(CredSSPError("over"))
    return handshake


def given(handshake, message):
    """The state after a message, which fails the handshake if it refuses."""
    try:
        handshake.receive(message)
    except CredSSPError as error:
        if handshake.state is not State.FAILED:
            handshake.fail(error)
        return State.FAILED
    return handshake.state


@functools.cache
def led_to(side, situation):
    """Where each of MESSAGES leads, by a handshake of its own."""
    make, _, value, _ = SIDES[side]
    return [given(make(situation), encoded(message, value)) for message in MESSAGES]


@pytest.mark.parametrize(("side", "situation"), [(side, each) for side, of in SITUATIONS.items() for each in of])
def test_each_message_leads_where_it_should(side, situation):
    _, goes_to, _, _ = SIDES[side]
    assert len(MESSAGES) == 2 * 3 * 14 * 4 * 3
    wrong = [
        (message, where)
        for message, where in zip(MESSAGES, led_to(side, situation), strict=True)
        if where is not goes_to(situation, message)
    ]
    assert wrong == []


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.thorough
def test_each_move_of_the_table_is_taken_by_a_message_or_by_a_failure(side):
    make, _, _, moves = SIDES[side]
    taken = {(State.TLS, State.NEGO_TOKEN)}
    untouched = make(State.TLS)
    untouched.tls_established(KEY)
    assert untouched.state is State.NEGO_TOKEN
    for situation in SITUATIONS[side]:
        before = make(situation).state
        taken |= {(before, where) for where in led_to(side, situation)}
        if before is not State.FAILED:
            taken.add((before, failed(make(situation)).state))
    stays = {(state, state) for state in moves}
    # A server passes through PUB_KEY_AUTH where pubKeyAuth comes beside the last token.
    through = {(State.NEGO_TOKEN, State.AUTH_INFO)} if side == "server" else set()
    table = {(state, target) for state, targets in moves.items() for target in targets}
    assert taken - stays - through == table


def test_no_state_is_left_out():
    reached = {make(each).state for side, (make, *_) in SIDES.items() for each in SITUATIONS[side]}
    assert reached == set(State)

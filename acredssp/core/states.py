"""The states of a CredSSP handshake and the moves between them, one table a side.

Theory of operation
===================

A state is named after what this side waits for next ([MS-CSSP] 3.1.5; FreeRDP and sspi-rs use the same names):

    TLS            the rest of the TLS handshake; left out in the bare shape
    NEGO_TOKEN     a TSRequest with the next mechanism token
    PUB_KEY_AUTH   a TSRequest with the peer's pubKeyAuth; the mechanism is complete
    AUTH_INFO      server only: a TSRequest with the delegated credentials
    ESTABLISHED    nothing: application data follows
    FAILED         nothing, for good: the same error is raised on every later call

A client sends its credentials together with leaving PUB_KEY_AUTH, so it has no AUTH_INFO. A server passes through
PUB_KEY_AUTH without stopping when pubKeyAuth comes beside the last token (patterns A and C), and waits there when
the client sends it alone (pattern B, Kerberos).

An engine may also be waiting for somebody other than the peer (`StepResult.event`). That is no state of its own:
the handshake stays where it is until `resume()`.

Every move goes through `Handshake._advance()`, which looks here. What is not in the table is refused; a missing
row is a bug of ours, never of the peer, whose messages are judged by the state's own method.
"""

import enum
from collections.abc import Mapping
from typing import Final

from acredssp.status import Stage

__all__ = ["CLIENT_MOVES", "SERVER_MOVES", "Moves", "State"]


class State(enum.Enum):
    """What the engine waits for next; see the module's text."""

    TLS = Stage.TLS
    NEGO_TOKEN = Stage.NEGO_TOKEN
    PUB_KEY_AUTH = Stage.PUB_KEY_AUTH
    AUTH_INFO = Stage.AUTH_INFO
    ESTABLISHED = Stage.ESTABLISHED
    FAILED = "failed"

    __hash__ = object.__hash__  # Enum's own is written in Python, and every move looks two states up


Moves = Mapping[State, frozenset[State]]

CLIENT_MOVES: Final[Moves] = {
    State.TLS: frozenset({State.NEGO_TOKEN, State.FAILED}),
    State.NEGO_TOKEN: frozenset({State.PUB_KEY_AUTH, State.FAILED}),
    State.PUB_KEY_AUTH: frozenset({State.ESTABLISHED, State.FAILED}),
    State.ESTABLISHED: frozenset({State.FAILED}),
    State.FAILED: frozenset(),
}

SERVER_MOVES: Final[Moves] = {
    State.TLS: frozenset({State.NEGO_TOKEN, State.FAILED}),
    State.NEGO_TOKEN: frozenset({State.PUB_KEY_AUTH, State.FAILED}),
    State.PUB_KEY_AUTH: frozenset({State.AUTH_INFO, State.FAILED}),
    State.AUTH_INFO: frozenset({State.ESTABLISHED, State.FAILED}),
    State.ESTABLISHED: frozenset({State.FAILED}),
    State.FAILED: frozenset(),
}

"""The states of a CredSSP handshake and the moves between them, in one table for each side.

Theory of operation
===================

A state is named after what this side waits for next ([MS-CSSP] 3.1.5; FreeRDP and sspi-rs use the same names):

    TLS            the rest of the TLS handshake; left out in the bare shape
    NEGO_TOKEN     a TSRequest with the next mechanism token
    PUB_KEY_AUTH   a TSRequest with the peer's pubKeyAuth; the mechanism is complete
    AUTH_INFO      server only: a TSRequest with the delegated credentials
    ESTABLISHED    nothing: application data follows
    FAILED         nothing, for good: the same error is raised on every later call

A client sends its credentials when it leaves PUB_KEY_AUTH, so it has no AUTH_INFO. A server passes through
PUB_KEY_AUTH without stopping where pubKeyAuth comes beside the last token (patterns A and C), and waits there where
the client sends it alone (pattern B, Kerberos).

An engine may also wait for the application instead of the peer (`StepResult.event`). That is not a state of its own:
the handshake stays in its state until `resume()`.

Every move goes through `Handshake._advance()`, which consults the table and refuses any other move. A missing row is a
bug of this engine, never the peer's fault, since the state's own method judges the peer's messages.
"""

import enum
from collections.abc import Mapping
from typing import Final

from acredssp.status import Stage

__all__ = ["CLIENT_MOVES", "SERVER_MOVES", "Moves", "State"]


class State(enum.Enum):
    """What the engine waits for next.

    Attributes:
        TLS: The rest of the TLS handshake.
        NEGO_TOKEN: A TSRequest with the next token of the mechanism.
        PUB_KEY_AUTH: A TSRequest with the peer's pubKeyAuth; the mechanism is complete.
        AUTH_INFO: Server: a TSRequest with the delegated credentials.
        ESTABLISHED: Nothing: the application's data follows.
        FAILED: Nothing, for good: every later call raises the same error.
    """

    TLS = Stage.TLS
    NEGO_TOKEN = Stage.NEGO_TOKEN
    PUB_KEY_AUTH = Stage.PUB_KEY_AUTH
    AUTH_INFO = Stage.AUTH_INFO
    ESTABLISHED = Stage.ESTABLISHED
    FAILED = "failed"

    __hash__ = object.__hash__  # Enum's own is slow, being written in Python, and every move looks two states up


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

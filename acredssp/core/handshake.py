"""What both sides of the CredSSP exchange share: dispatch by state, versions, rounds, waiting and failure.

A `Handshake` is the exchange without TLS: it takes whole TSRequests and gives TSRequests. `SecurityContext` puts it
inside TLS or, in the bare shape, straight onto the caller's bytes. Each side has one method per state.

Every reply is built new from the state, field by field; no part of a request is ever sent back. Every reply carries our
own version, never the negotiated one.
"""

from collections.abc import Callable
from typing import ClassVar, Final, TypeAlias

from acredssp.core.events import Event
from acredssp.core.states import Moves, State
from acredssp.credentials import DelegatedKind
from acredssp.errors import (
    CredSSPError,
    LimitExceeded,
    LocalProtocolError,
    PolicyError,
    RemoteProtocolError,
)
from acredssp.mechanisms.base import Mechanism, Principal
from acredssp.policy import OLDEST_VERSION, Policy
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.wire import ts_request
from acredssp.wire.ts_request import TSRequest

__all__ = ["ERROR_CODE_VERSIONS", "Answer", "Handshake"]

ERROR_CODE_VERSIONS: Final = frozenset({3, 4, 6})
"""Versions in which a server may send errorCode ([MS-CSSP] 2.2.1; not in 5, although the note in 3.1.5 suggests it)."""

Answer: TypeAlias = bytes | Event
"""The result of a message: a TSRequest for the peer (empty for none), or the event to wait for."""

# Every message needs these members, and `State.X` would look them up in the class each time.
_NEGO_TOKEN: Final = State.NEGO_TOKEN
_PUB_KEY_AUTH: Final = State.PUB_KEY_AUTH
_AUTH_INFO: Final = State.AUTH_INFO


class Handshake:
    """One side of one exchange, without TLS. It is no ABC, whose isinstance() takes three times the instructions.

    Args:
        mechanism: A fresh security context of the inner mechanism.
        policy: Versions and limits.
    """

    __slots__ = (
        "_rounds",
        "_unwrap",
        "_waiting",
        "_wrap",
        "delegated",
        "error",
        "mechanism",
        "peer_version",
        "policy",
        "public_key",
        "state",
        "version",
    )

    moves: ClassVar[Moves]

    def __init__(self, mechanism: Mechanism, policy: Policy) -> None:
        self.mechanism = mechanism
        self.policy = policy
        self.state = State.TLS
        self.public_key = b""
        """The server's SubjectPublicKey; set once TLS is up, before the first message."""
        self.version = 0
        """The effective version: the lower of both sides' own ([MS-CSSP] 2.2.1); 0 before it is known."""
        self.peer_version = -1
        """The version in the peer's first message; -1, which no message can hold, before that arrives."""
        self.error: CredSSPError | None = None
        """The error of a failed handshake, which every later call raises again; None before a failure."""
        self.delegated: DelegatedKind | None
        self._wrap: Callable[[bytes], bytes]
        """Seals a message. This and `_unwrap` are there once the mechanism is complete, in state PUB_KEY_AUTH."""
        self._unwrap: Callable[[bytes], bytes]
        self._rounds = 0
        self._waiting: Callable[[object], Answer] | None = None

    # --- for the security context ---

    def tls_established(self, public_key: bytes) -> None:
        """Note that TLS is up and which key the server presented."""
        self.public_key = public_key
        self._advance(State.NEGO_TOKEN)

    def receive(self, message: bytes) -> Answer:
        """Take one TSRequest, whole as `der.frame_size` measures it. No event may wait for its answer.

        Raises:
            CredSSPError: The handshake failed; `fail()` must be called with it.
        """
        request = ts_request.decode(message)
        if request.version != self.peer_version:
            self._check_version(request.version)
        state = self.state
        # errorCode comes first: FreeRDP 3 sends 12 KiB of zeros or a stale field beside it.
        if request.error_code is not None:
            self._on_error_code(request.error_code)
        if request.auth_info is not None and state is not _AUTH_INFO:
            raise RemoteProtocolError(f"expected no authInfo in state {state.name}, got one")
        if state is _NEGO_TOKEN:
            return self._on_nego_token(request)
        if state is _PUB_KEY_AUTH:
            return self._on_pub_key_auth(request)
        if state is _AUTH_INFO:
            return self._on_auth_info(request)
        raise RemoteProtocolError(f"expected no TSRequest in state {state.name}, got one")

    def resume(self, answer: object) -> Answer:
        """Take the answer to the event that `receive` or `resume` returned."""
        if self._waiting is None:
            raise LocalProtocolError("the handshake does not wait for an answer")
        go_on, self._waiting = self._waiting, None
        return go_on(answer)

    def fail(self, error: CredSSPError) -> None:
        """End the handshake for good; every later call raises `error`."""
        if error.stage is None and self.state is not State.FAILED:
            error.stage = self.state.value
        self.error = error
        self._advance(State.FAILED)
        self._waiting = None

    def farewell(self) -> bytes:
        """Return the last TSRequest for the peer after a failure; empty where none is sent."""
        raise NotImplementedError

    def closed_by_peer(self) -> CredSSPError:
        """Return the error to raise if the peer ends the connection now."""
        raise NotImplementedError

    # --- what each side defines ---

    @property
    def logged_on(self) -> Principal | None:
        """Server: who logged on; None before the mechanism is complete. Client: always None."""
        return self.mechanism.principal

    def _on_error_code(self, error_code: int) -> None:
        """Take an errorCode, which may come in any state."""
        raise NotImplementedError

    def _on_nego_token(self, request: TSRequest) -> Answer:
        """Take a TSRequest in state NEGO_TOKEN."""
        raise NotImplementedError

    def _took_token(self, token: bytes) -> Answer:
        """Send the token that the mechanism gave in state NEGO_TOKEN."""
        raise NotImplementedError

    def _on_pub_key_auth(self, request: TSRequest) -> Answer:
        """Take a TSRequest in state PUB_KEY_AUTH."""
        raise NotImplementedError

    def _on_auth_info(self, request: TSRequest) -> Answer:
        """Take a TSRequest in state AUTH_INFO."""
        raise NotImplementedError

    # --- what each side uses ---

    def _advance(self, state: State) -> None:
        if state not in self.moves[self.state]:
            raise AssertionError(f"no move from {self.state.name} to {state.name}")
        self.state = state

    def _wait(self, event: Event, go_on: Callable[[object], Answer]) -> Event:
        """Stop for `event`; `go_on` gets the answer."""
        self._waiting = go_on
        return event

    def _step_mechanism(self, token: bytes) -> Answer:
        """Give the mechanism the peer's token. The mechanism's own is sent now, or once its event has been answered."""
        self._rounds += 1
        if self._rounds > self.policy.max_rounds:
            raise LimitExceeded(f"expected at most {self.policy.max_rounds} rounds of mechanism tokens, got more")
        progress = self.mechanism.step(token)
        return self._took_token(progress) if isinstance(progress, bytes) else self._wait(progress, self._resume)

    def _resume(self, answer: object) -> Answer:
        progress = self.mechanism.resume(answer)
        return self._took_token(progress) if isinstance(progress, bytes) else self._wait(progress, self._resume)

    def _check_version(self, version: int) -> None:
        """Adopt the version of the peer's first message; refuse a later message with a different one."""
        if self.version:
            if version == self.version:
                return  # asyauth's client sends the effective version after the first reply; no other is taken
            raise RemoteProtocolError(
                f"version changed from {self.peer_version} to {version}",
                security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED,
            )
        if version < OLDEST_VERSION:
            raise RemoteProtocolError(f"expected credssp version {OLDEST_VERSION} or later, got version {version}")
        self.peer_version = version
        self.version = min(self.policy.max_version, version)
        if self.version < self.policy.min_version:
            raise PolicyError(
                f"the peer speaks credssp version {version}, at least {self.policy.min_version} is required",
                nt_status=NTSTATUS.STATUS_NOT_SUPPORTED,
                hint="update the peer: versions below 5 are open to CVE-2018-0886",
            )

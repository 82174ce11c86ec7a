"""What both sides of the CredSSP exchange share: framing of fields, versions, rounds, waiting, failure.

A `Handshake` is the exchange without TLS: whole TSRequests in, TSRequests out. `SecurityContext` puts it inside TLS
or, in the bare shape, straight onto the caller's bytes. Each side has one method per state.

Replies are built new, field by field, from the state; nothing of a request is ever sent back. Every one carries our own
version, never the negotiated one.
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
from acredssp.wire.ts_request import TSRequest

__all__ = ["ERROR_CODE_VERSIONS", "Answer", "Handshake"]

ERROR_CODE_VERSIONS: Final = frozenset({3, 4, 6})
"""Versions in which a server may send errorCode ([MS-CSSP] 2.2.1; not 5, whatever the note in 3.1.5 suggests)."""

Answer: TypeAlias = bytes | Event
"""What a message leads to: a TSRequest for the peer (empty for none), or whom to wait for."""

# Globals, since every message needs them, and a member of an enum is looked up in its class each time.
_NEGO_TOKEN: Final = State.NEGO_TOKEN
_PUB_KEY_AUTH: Final = State.PUB_KEY_AUTH
_AUTH_INFO: Final = State.AUTH_INFO


class Handshake:
    """One side of one exchange, without TLS. Not an ABC, whose isinstance() takes three times the instructions.

    Args:
        mechanism: A fresh security context of the inner mechanism.
        policy: Versions and limits.
    """

    moves: ClassVar[Moves]

    def __init__(self, mechanism: Mechanism, policy: Policy) -> None:
        self.mechanism = mechanism
        self.policy = policy
        self.state = State.TLS
        self.public_key = b""
        """The server's SubjectPublicKey; set once TLS is up, before the first message."""
        self.version = 0
        """The effective version: the lower of both sides' own ([MS-CSSP] 2.2.1); 0 before it is known."""
        self.peer_version = 0
        """What the peer's first message said; 0 before it came."""
        self.error: CredSSPError | None = None
        """Why the handshake failed; raised again by every later call."""
        self.delegated: DelegatedKind | None
        self._rounds = 0
        self._waiting: Callable[[object], Answer] | None = None

    # --- for the security context ---

    def tls_established(self, public_key: bytes) -> None:
        """Note that TLS is up and which key the server presented."""
        self.public_key = public_key
        self._advance(State.NEGO_TOKEN)

    def receive(self, message: bytes) -> Answer:
        """Take one whole TSRequest.

        Raises:
            CredSSPError: The handshake failed; `fail()` must be called with it.
        """
        if self._waiting is not None:
            raise LocalProtocolError("the handshake waits for an answer: call resume()")
        request = TSRequest.decode(message)
        if request.version != self.peer_version or not self.version:
            self._check_version(request.version)
        state = self.state
        # Before anything else: an error reply may carry 12 KiB of zeros or a stale field beside it (FreeRDP 3).
        if request.error_code is not None:
            self._on_error_code(request.error_code)
        if request.auth_info is not None and state is not _AUTH_INFO:
            raise RemoteProtocolError("authInfo where none is due")
        if state is _NEGO_TOKEN:
            return self._on_nego_token(request)
        if state is _PUB_KEY_AUTH:
            return self._on_pub_key_auth(request)
        if state is _AUTH_INFO:
            return self._on_auth_info(request)
        raise RemoteProtocolError(f"a TSRequest in state {state.name}")

    def resume(self, answer: object) -> Answer:
        """Give the answer to the event that `receive` or `resume` returned."""
        if self._waiting is None:
            raise LocalProtocolError("the handshake does not wait for an answer")
        go_on, self._waiting = self._waiting, None
        return go_on(answer)

    def fail(self, error: CredSSPError) -> None:
        """End the handshake for good; `error` is what every later call raises."""
        if error.stage is None and self.state is not State.FAILED:
            error.stage = self.state.value
        self.error = error
        self._advance(State.FAILED)
        self._waiting = None

    def farewell(self) -> bytes:
        """Return the last TSRequest for the peer after a failure; empty for none."""
        raise NotImplementedError

    def closed_by_peer(self) -> CredSSPError:
        """Say what it means that the peer ends the connection now."""
        raise NotImplementedError

    # --- of the two sides ---

    @property
    def logged_on(self) -> Principal | None:
        """Server: who logged on, once the mechanism is complete. Client: None."""
        return self.mechanism.principal

    def _on_error_code(self, error_code: int) -> None:
        """Take an errorCode, in whatever state."""
        raise NotImplementedError

    def _on_nego_token(self, request: TSRequest) -> Answer:
        """NEGO_TOKEN."""
        raise NotImplementedError

    def _took_token(self, token: bytes) -> Answer:
        """Go on in NEGO_TOKEN with the mechanism's own token."""
        raise NotImplementedError

    def _on_pub_key_auth(self, request: TSRequest) -> Answer:
        """PUB_KEY_AUTH."""
        raise NotImplementedError

    def _on_auth_info(self, request: TSRequest) -> Answer:
        """AUTH_INFO."""
        raise NotImplementedError

    # --- for the two sides ---

    def _advance(self, state: State) -> None:
        if state not in self.moves[self.state]:
            raise AssertionError(f"no move from {self.state.name} to {state.name}")
        self.state = state

    def _wait(self, event: Event, go_on: Callable[[object], Answer]) -> Event:
        """Stop for `event`; `go_on` gets the answer."""
        self._waiting = go_on
        return event

    def _step_mechanism(self, token: bytes) -> Answer:
        """Give the mechanism the peer's token, and go on with its own: now, or when its event has been answered."""
        self._rounds += 1
        if self._rounds > self.policy.max_rounds:
            raise LimitExceeded(f"more than {self.policy.max_rounds} rounds of mechanism tokens")
        progress = self.mechanism.step(token)
        return self._took_token(progress) if isinstance(progress, bytes) else self._wait(progress, self._resume)

    def _resume(self, answer: object) -> Answer:
        progress = self.mechanism.resume(answer)
        return self._took_token(progress) if isinstance(progress, bytes) else self._wait(progress, self._resume)

    def _check_version(self, version: int) -> None:
        """Take the version of the peer's first message, and see what it means that another one has another."""
        if self.version:
            if version == self.version:
                return  # asyauth's client falls back to it after the first reply; nobody may do more
            raise RemoteProtocolError(
                f"version changed from {self.peer_version} to {version}",
                security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED,
            )
        if version < OLDEST_VERSION:
            raise RemoteProtocolError(f"version {version} does not exist")
        self.peer_version = version
        self.version = min(self.policy.max_version, version)
        if self.version < self.policy.min_version:
            raise PolicyError(
                f"the peer speaks credssp version {version}, at least {self.policy.min_version} is required",
                nt_status=NTSTATUS.STATUS_NOT_SUPPORTED,
                hint="update the peer; versions below 5 are open to CVE-2018-0886",
            )

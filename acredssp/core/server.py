"""The server's side of the exchange: one method per state ([MS-CSSP] 3.1.5, the server's steps)."""

import dataclasses
import hmac
from collections.abc import Callable
from typing import Final

from acredssp.core.binding import client_value, server_value
from acredssp.core.events import Admit, Authorize
from acredssp.core.handshake import ERROR_CODE_VERSIONS, Answer, Handshake
from acredssp.core.states import SERVER_MOVES, State
from acredssp.credentials import Account, Deny
from acredssp.errors import (
    AccessDenied,
    CredSSPError,
    PeerClosed,
    PublicKeyMismatch,
    RemoteProtocolError,
)
from acredssp.mechanisms.base import Mechanism, Principal
from acredssp.policy import FIRST_SAFE_VERSION, Policy
from acredssp.status import NTSTATUS, SecurityStatus, failure_status
from acredssp.wire import ts_credentials
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.ts_request import TSRequest

__all__ = ["ServerHandshake"]

_TOO_EARLY: Final = "pubKeyAuth before the mechanism is complete"


class ServerHandshake(Handshake):
    """The acceptor's exchange.

    Args:
        mechanism: A fresh acceptor.
        policy: Versions and limits.
        authorize: Whether to stop with `Authorize` once the logon is proven, before our key is.
        admit: Whether to stop with `Admit` once the delegated credentials came.
    """

    moves = SERVER_MOVES

    def __init__(
        self,
        mechanism: Mechanism,
        policy: Policy,
        *,
        authorize: bool = False,
        admit: bool = False,
    ) -> None:
        super().__init__(mechanism, policy)
        self._authorize = authorize
        self._admit = admit
        self.ask_key: Callable[[], bytes] | None = None
        """Tells which key the server presents by now, which may take some milliseconds; None where nobody knows."""
        self._nonce: bytes | None = None
        self._pub_key_auth: bytes | None = None
        """Beside the token that the mechanism was given last; None for none."""
        self._proven = False
        self._known_as: Account | None = None
        """The account that the application says this is."""
        self.credentials: TSCredentials | None = None
        """The credentials that the client delegated. None before they arrive and after the application took them."""
        self.delegated = None
        """The kind of what the client delegated; None before it came."""

    @property
    def principal(self) -> Principal:
        """Who logged on; only to be asked once the mechanism is complete."""
        principal = self.logged_on
        assert principal is not None
        return principal

    @property
    def logged_on(self) -> Principal | None:
        """Who logged on, as the account that the application says this is; None before the mechanism is complete."""
        principal = self.mechanism.principal
        if principal is None or self._known_as is None:
            return principal
        return dataclasses.replace(principal, known_as=self._known_as)

    def farewell(self) -> bytes:
        """Return the error message that the negotiated version has, for a failure that has an NTSTATUS."""
        assert self.error is not None
        status = self.error.nt_status
        if not status or self.version not in ERROR_CODE_VERSIONS:
            return b""
        if self._proven:
            return b""  # nothing of CredSSP follows authInfo: a client that has sent it no longer reads TSRequests
        return TSRequest(version=self.policy.max_version, error_code=int(status)).encode()

    def fail(self, error: CredSSPError) -> None:
        """End the handshake for good, and forget what was delegated."""
        super().fail(error)
        if self.credentials is not None:
            self.credentials.zero()
            self.credentials = None

    def closed_by_peer(self) -> CredSSPError:
        """A client that leaves before the end has nothing to say."""
        return PeerClosed("the client ended the connection in the middle of the handshake")

    def _on_error_code(self, error_code: int) -> None:
        raise RemoteProtocolError(f"errorCode from a client: {error_code:#010x}")

    # --- NEGO_TOKEN ---

    def _on_nego_token(self, request: TSRequest) -> Answer:
        if request.client_nonce is not None:
            self._latch_nonce(request.client_nonce)
        if not request.nego_token:
            raise RemoteProtocolError(
                _TOO_EARLY if request.pub_key_auth else "no negoToken",
                security_status=SecurityStatus.SEC_E_OUT_OF_SEQUENCE,
            )
        self._pub_key_auth = request.pub_key_auth
        return self._step_mechanism(request.nego_token)

    def _took_token(self, token: bytes) -> Answer:
        if not self.mechanism.complete:
            if self._pub_key_auth is not None:
                raise RemoteProtocolError(_TOO_EARLY, security_status=SecurityStatus.SEC_E_OUT_OF_SEQUENCE)
            return TSRequest(self.policy.max_version, token).encode()
        self._advance(State.PUB_KEY_AUTH)
        if not self._authorize:
            return self._send_last_token(token)
        return self._ask_to_authorize(token)

    def _ask_to_authorize(self, token: bytes) -> Answer:
        # No partial, whose repr would show the token.
        event = Authorize(self.principal, self.mechanism.name)
        return self._wait(event, lambda answer: self._authorized(token, answer))

    def _authorized(self, token: bytes, answer: object) -> Answer:
        if isinstance(answer, Account):
            self._known_as = answer
        else:
            self.refuse_unless_allowed(answer, "the user is not authorized")
        return self._send_last_token(token)

    def _send_last_token(self, token: bytes) -> Answer:
        if self._pub_key_auth is None:
            return TSRequest(self.policy.max_version, token).encode()
        return self._prove_key(self._pub_key_auth, token or None)

    # --- PUB_KEY_AUTH ---

    def _on_pub_key_auth(self, request: TSRequest) -> Answer:
        if request.client_nonce is not None:
            self._latch_nonce(request.client_nonce)
        if request.pub_key_auth is None:
            raise RemoteProtocolError("no pubKeyAuth, while nothing else can come")
        return self._prove_key(request.pub_key_auth, None)

    def _prove_key(self, pub_key_auth: bytes, token: bytes | None) -> bytes:
        """Compare the client's value, and only then answer with ours."""
        if self._nonce is None and self.version >= FIRST_SAFE_VERSION:
            raise RemoteProtocolError("no clientNonce, which version 5 and later demand")
        value = self._unseal_key(pub_key_auth)
        if not self._is_bound(value) and not self._is_bound_to_renewed_key(value):
            raise PublicKeyMismatch(
                "the client is bound to another tls channel",
                nt_status=NTSTATUS.STATUS_LOGON_FAILURE,
                hint="somebody may be in between",
            )
        sealed = self.mechanism.wrap(server_value(self.version, self._nonce, self.public_key))
        self._advance(State.AUTH_INFO)
        self._proven = True
        return TSRequest(self.policy.max_version, token, pub_key_auth=sealed).encode()

    def _is_bound(self, value: bytes) -> bool:
        return hmac.compare_digest(value, client_value(self.version, self._nonce, self.public_key))

    def _is_bound_to_renewed_key(self, value: bytes) -> bool:
        """Whether the client is bound to a key that has taken the place of the one that the server knew of.

        Only a logon that is proven comes here, so no stranger has the server ask.
        """
        if self.ask_key is None:
            return False
        try:
            key = self.ask_key()
        except CredSSPError as error:
            error.nt_status = NTSTATUS.STATUS_LOGON_FAILURE  # to the peer it is another key, like any
            raise
        if key == self.public_key:
            return False
        self.public_key = key
        return self._is_bound(value)

    def _unseal_key(self, pub_key_auth: bytes) -> bytes:
        try:
            return self.mechanism.unwrap(pub_key_auth)
        except CredSSPError as error:
            # To the peer a seal that does not open is a failed logon like any other.
            error.nt_status = NTSTATUS.STATUS_LOGON_FAILURE
            raise

    def _latch_nonce(self, nonce: bytes) -> None:
        if self.version < FIRST_SAFE_VERSION:
            return  # FreeRDP sends one to servers of every version
        if self._nonce is not None and self._nonce != nonce:
            raise RemoteProtocolError("the client nonce changed")
        self._nonce = nonce

    # --- AUTH_INFO ---

    def _on_auth_info(self, request: TSRequest) -> Answer:
        if request.auth_info is None:
            raise RemoteProtocolError("no authInfo, while nothing else can come")
        if request.pub_key_auth is not None:
            raise RemoteProtocolError("a second pubKeyAuth")
        if request.client_nonce is not None:
            self._latch_nonce(request.client_nonce)
        credentials = ts_credentials.decode(self.mechanism.unwrap(request.auth_info))
        self.credentials = credentials
        if not self._admit:
            return self._take()
        return self._wait(Admit(self.principal, self.mechanism.name, credentials), self._admitted)

    def _admitted(self, answer: object) -> Answer:
        self.refuse_unless_allowed(answer, "the user is not admitted")
        return self._take()

    def refuse_unless_allowed(self, answer: object, message: str) -> None:
        """Let only True pass; a `Deny` gives the status and may name the account, anything else is an access denied.

        Raises:
            AccessDenied: The answer is not True.
        """
        if answer is True:
            return
        status = NTSTATUS.STATUS_ACCESS_DENIED
        if isinstance(answer, Deny):
            status = failure_status(answer.nt_status)
            self._known_as = answer.account or self._known_as
        raise AccessDenied(message, nt_status=status)

    def _take(self) -> Answer:
        assert self.credentials is not None
        self.delegated = self.credentials.kind
        self._advance(State.ESTABLISHED)
        return b""

"""The server's side of the exchange: one method per state ([MS-CSSP] 3.1.5, the server's steps)."""

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
from acredssp.wire import ts_credentials, ts_request
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.ts_request import TSRequest

__all__ = ["ServerHandshake"]

_TOO_EARLY: Final = "expected pubKeyAuth after the mechanism is complete, got it before"


class ServerHandshake(Handshake):
    """The acceptor's exchange.

    Args:
        mechanism: A fresh acceptor.
        policy: Versions and limits.
        authorize: Whether to stop with `Authorize` once the client has proven itself and our key, before we prove it.
        admit: Whether to stop with `Admit` once the delegated credentials have arrived.
    """

    __slots__ = (
        "_admit",
        "_authorize",
        "_known_as",
        "_named",
        "_nonce",
        "_proven",
        "_pub_key_auth",
        "ask_key",
        "credentials",
    )

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
        """Returns the key that the server presents now, which may take some milliseconds; None in the bare shape."""
        self._nonce: bytes | None = None
        self._pub_key_auth: bytes | None = None
        """The pubKeyAuth that came beside the last token for the mechanism; None where there was none."""
        self._proven = False
        self._known_as: Account | None = None
        """The account that the application gave for the user, as the answer to `Authorize`."""
        self._named: Principal | None = None
        """The mechanism's principal with that account."""
        self.credentials: TSCredentials | None = None
        """The credentials that the client delegated. None before they arrive and after the application took them."""
        self.delegated = None
        """The kind of the delegated credentials; None before they arrive."""

    @property
    def principal(self) -> Principal:
        """Who logged on. The mechanism must be complete."""
        principal = self.logged_on
        assert principal is not None
        return principal

    @property
    def logged_on(self) -> Principal | None:
        """Who logged on, with the account that the application gave; None before the mechanism is complete."""
        if self._named is not None and self._named.known_as is self._known_as:
            return self._named
        principal = self.mechanism.principal
        if principal is None or self._known_as is None:
            return principal
        names = principal.user, principal.domain, principal.workstation, principal.target_name
        self._named = Principal(*names, self._known_as, principal.tickets)
        return self._named

    def farewell(self) -> bytes:
        """Return the TSRequest with errorCode; empty where the version has none, or the failure has no NTSTATUS."""
        assert self.error is not None
        status = self.error.nt_status
        if not status or self.version not in ERROR_CODE_VERSIONS:
            return b""
        if self._proven:
            return b""  # a client that has sent authInfo no longer reads TSRequests
        return ts_request.encode(self.policy.max_version, error_code=int(status))

    def fail(self, error: CredSSPError) -> None:
        """End the handshake for good, and overwrite the delegated credentials with zeros."""
        super().fail(error)
        if self.credentials is not None:
            self.credentials.zero()
            self.credentials = None

    def closed_by_peer(self) -> CredSSPError:
        """Return the error for a client that ends the connection now."""
        return PeerClosed("the client ended the connection in the middle of the handshake")

    def _on_error_code(self, error_code: int) -> None:
        raise RemoteProtocolError(f"expected no errorCode from a client, got {error_code:#010x}")

    # --- NEGO_TOKEN ---

    def _on_nego_token(self, request: TSRequest) -> Answer:
        if request.client_nonce is not None:
            self._latch_nonce(request.client_nonce)
        if not request.nego_token:
            raise RemoteProtocolError(
                _TOO_EARLY if request.pub_key_auth else "expected a TSRequest with a negoToken, got one without",
                security_status=SecurityStatus.SEC_E_OUT_OF_SEQUENCE,
            )
        self._pub_key_auth = request.pub_key_auth
        return self._step_mechanism(request.nego_token)

    def _took_token(self, token: bytes) -> Answer:
        if not self.mechanism.complete:
            if self._pub_key_auth is not None:
                raise RemoteProtocolError(_TOO_EARLY, security_status=SecurityStatus.SEC_E_OUT_OF_SEQUENCE)
            return ts_request.encode_token(self.policy.max_version, token)
        self._advance(State.PUB_KEY_AUTH)
        self._wrap, self._unwrap = self.mechanism.sealing
        if self._pub_key_auth is None:
            return ts_request.encode_token(self.policy.max_version, token)
        return self._on_key(self._pub_key_auth, token or None)

    # --- PUB_KEY_AUTH ---

    def _on_pub_key_auth(self, request: TSRequest) -> Answer:
        if request.client_nonce is not None:
            self._latch_nonce(request.client_nonce)
        if request.pub_key_auth is None:
            raise RemoteProtocolError("expected a TSRequest with pubKeyAuth, got one without")
        return self._on_key(request.pub_key_auth, None)

    def _on_key(self, pub_key_auth: bytes, token: bytes | None) -> Answer:
        """Check the client's value. Only then ask about the user, whom somebody in between may have brought here."""
        if self._nonce is None and self.version >= FIRST_SAFE_VERSION:
            raise RemoteProtocolError("expected a clientNonce, as from version 5 on, got none")
        value = self._unseal_key(pub_key_auth)
        if not self._is_bound(value) and not self._is_bound_to_renewed_key(value):
            raise PublicKeyMismatch(
                "the client's pubKeyAuth is bound to another public key than this server's",
                nt_status=NTSTATUS.STATUS_LOGON_FAILURE,
                hint="an attacker may be in between client and server",
            )
        if not self._authorize:
            return self._prove_key(token)
        # This is a lambda because the repr of a functools.partial would show the token.
        event = Authorize(self.principal, self.mechanism.name)
        return self._wait(event, lambda answer: self._authorized(token, answer))

    def _authorized(self, token: bytes | None, answer: object) -> Answer:
        if isinstance(answer, Account):
            self._known_as = answer
        else:
            self.refuse_unless_allowed(answer, "the user is not authorized")
        return self._prove_key(token)

    def _prove_key(self, token: bytes | None) -> bytes:
        """Answer with our value."""
        sealed = self._wrap(server_value(self.version, self._nonce, self.public_key))
        self._advance(State.AUTH_INFO)
        self._proven = True
        return ts_request.encode(self.policy.max_version, token, pub_key_auth=sealed)

    def _is_bound(self, value: bytes) -> bool:
        return hmac.compare_digest(value, client_value(self.version, self._nonce, self.public_key))

    def _is_bound_to_renewed_key(self, value: bytes) -> bool:
        """Whether the client is bound to the key of a renewed certificate that the server has not noticed yet.

        The question is asked for proven logons only, so a stranger cannot cause its cost.
        """
        if self.ask_key is None:
            return False
        try:
            key = self.ask_key()
        except CredSSPError as error:
            error.nt_status = NTSTATUS.STATUS_LOGON_FAILURE  # the peer is told what it is told for any other key
            raise
        if key == self.public_key:
            return False
        self.public_key = key
        return self._is_bound(value)

    def _unseal_key(self, pub_key_auth: bytes) -> bytes:
        try:
            return self._unwrap(pub_key_auth)
        except CredSSPError as error:
            # The peer is told of a failed logon, as for a wrong password.
            error.nt_status = NTSTATUS.STATUS_LOGON_FAILURE
            raise

    def _latch_nonce(self, nonce: bytes) -> None:
        if self.version < FIRST_SAFE_VERSION:
            return  # FreeRDP sends one to servers of every version
        if self._nonce is not None and self._nonce != nonce:
            raise RemoteProtocolError("expected the same clientNonce as before, got another")
        self._nonce = nonce

    # --- AUTH_INFO ---

    def _on_auth_info(self, request: TSRequest) -> Answer:
        if request.auth_info is None:
            raise RemoteProtocolError("expected a TSRequest with authInfo, got one without")
        if request.pub_key_auth is not None:
            raise RemoteProtocolError("expected one pubKeyAuth, got a second one")
        if request.client_nonce is not None:
            self._latch_nonce(request.client_nonce)
        credentials = ts_credentials.decode(self._unwrap(request.auth_info))
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

"""The client's side of the exchange: one method per state ([MS-CSSP] 3.1.5, the client's steps)."""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from acredssp.core.binding import client_value, server_value
from acredssp.core.delegated import TS_CREDENTIALS, FetchedCredentials
from acredssp.core.events import Delegate
from acredssp.core.handshake import Answer, Handshake
from acredssp.core.states import CLIENT_MOVES, State
from acredssp.delegation import ServerAuth
from acredssp.errors import (
    AuthenticationError,
    CredSSPError,
    PeerClosed,
    PolicyError,
    PublicKeyMismatch,
    RemoteProtocolError,
)
from acredssp.hints import hint_on
from acredssp.mechanisms.base import Mechanism, StepMechanism
from acredssp.policy import FIRST_SAFE_VERSION, Policy
from acredssp.status import LOGON_STATUS, NTSTATUS, SecurityStatus
from acredssp.wire import ts_credentials, ts_request
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.ts_request import NONCE_SIZE, TSRequest

__all__ = ["ClientHandshake", "logon_refused"]

# A server also sends errorCode where the versions have no common range, which is not a refused logon.
_STATUS_OF_ERROR_CODE = LOGON_STATUS | {NTSTATUS.STATUS_NOT_SUPPORTED: SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION}

_SERVER_AUTH: Final = (
    (ServerAuth(0), ServerAuth.CERTIFICATE),
    (ServerAuth.KERBEROS, ServerAuth.KERBEROS | ServerAuth.CERTIFICATE),
)
"""Indexed by whether the mechanism authenticates the server, which Kerberos alone does, and by whether a certificate
does. The values are made once, since an enum.Flag is slow to combine."""

_SILENT_DENIAL = (
    "servers of version 2 and 5 and FreeRDP refuse a logon without a reason: check user and password, "
    "and with Kerberos the server's keytab and clock"
)


class ClientHandshake(Handshake):
    """The initiator's exchange.

    Args:
        mechanism: A fresh initiator.
        credentials: The credentials to delegate once the server has proven its key.
        policy: Versions and limits.
        target: The server's service principal name. The exchange stops with `Delegate` before it sends the credentials;
            with None it sends them without asking.
        random: The source of the nonce.
    """

    __slots__ = ("_credentials", "_nonce", "_random", "_sealed_key", "_target", "certified")

    moves = CLIENT_MOVES

    def __init__(
        self,
        mechanism: Mechanism,
        credentials: TSCredentials | FetchedCredentials,
        policy: Policy,
        *,
        target: str | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        super().__init__(mechanism, policy)
        self._credentials: TSCredentials | FetchedCredentials | None = credentials
        self.delegated = credentials.kind
        """The kind of the delegated credentials."""
        self.certified = False
        """Whether a certificate authenticates the server, as the answer to `JudgeCertificate` said."""
        self._target = target
        self._random = random
        self._nonce: bytes | None = None
        self._sealed_key = b""

    @property
    def server_auth(self) -> ServerAuth:
        """What authenticates the server once it has proven its key. NTLM does not, so a certificate has to."""
        return _SERVER_AUTH[self.mechanism.authenticates_server][self.certified]

    def start(self) -> Answer:
        """Return the first TSRequest, or the event that the mechanism waits for."""
        return self._step_mechanism(b"")

    def fail(self, error: CredSSPError) -> None:
        """End the handshake for good, and say in a refusal what the user can do about it."""
        if error.hint is None and isinstance(error, AuthenticationError):
            error.hint = hint_on(error.nt_status)
        super().fail(error)

    def farewell(self) -> bytes:
        """Return nothing, since only a server may send errorCode."""
        return b""

    def closed_by_peer(self) -> CredSSPError:
        """Return the error for a close now: between our AUTHENTICATE and pubKeyAuth many servers refuse by closing."""
        if self._rounds > 1 and self.state in (State.NEGO_TOKEN, State.PUB_KEY_AUTH):
            return AuthenticationError("the server ended the connection after our logon", hint=_SILENT_DENIAL)
        return PeerClosed("the server ended the connection in the middle of the handshake")

    def _on_error_code(self, error_code: int) -> None:
        if error_code:
            raise logon_refused(NTSTATUS(error_code))

    # --- NEGO_TOKEN ---

    def _on_nego_token(self, request: TSRequest) -> Answer:
        if not request.nego_token:
            raise RemoteProtocolError("expected a TSRequest with a negoToken, got one without")
        if not any(request.nego_token):
            # FreeRDP 3 servers refuse a logon with 12,256 zero bytes, and then close. They do so for NTLM under SPNEGO
            # at version 5, and at any version for a Kerberos ticket, which our first token holds.
            raise AuthenticationError(
                "the server refused the logon: it answered with a token of zeros", hint=_SILENT_DENIAL
            )
        return self._step_mechanism(request.nego_token)

    def _took_token(self, token: bytes) -> Answer:
        # pubKeyAuth goes beside the last token only if that token completes the mechanism, as with raw NTLM. While
        # SPNEGO still owes a mechListMIC, pubKeyAuth waits a round trip: FreeRDP 3 servers fail on both together. It
        # never goes beside the first token, which leaves before the server's version is known.
        if not self.version or not self.mechanism.complete:
            return ts_request.encode_token(self.policy.max_version, token)
        self._advance(State.PUB_KEY_AUTH)
        self._wrap, self._unwrap = self.mechanism.sealing
        if self.version >= FIRST_SAFE_VERSION:
            self._nonce = self._random(NONCE_SIZE)
        self._sealed_key = self._wrap(client_value(self.version, self._nonce, self.public_key))
        return ts_request.encode(
            self.policy.max_version, token or None, pub_key_auth=self._sealed_key, client_nonce=self._nonce
        )

    # --- PUB_KEY_AUTH ---

    def _on_pub_key_auth(self, request: TSRequest) -> Answer:
        # A negoToken here repeats the server's last one (FreeRDP), or is a last token that is no longer needed. The
        # mechanism is complete, so it does not get the token.
        if request.pub_key_auth is None:
            return self._await_key(request)
        if hmac.compare_digest(request.pub_key_auth, self._sealed_key):
            # FreeRDP 3 servers of version 5, which has no errorCode, refuse a logon by sending our own value back.
            raise AuthenticationError(
                "the server refused the logon: it sent our own pubKeyAuth back", hint=_SILENT_DENIAL
            )
        proof = self._unwrap(request.pub_key_auth)
        if not hmac.compare_digest(proof, server_value(self.version, self._nonce, self.public_key)):
            raise PublicKeyMismatch(
                "the server has not proven that it holds the key of its tls certificate",
                hint="an attacker may be in between client and server; no credentials were delegated",
            )
        if self._target is None:
            return self._send_credentials(True)
        assert self.delegated is not None
        event = Delegate(self.mechanism.name, self.version, self._target, self.delegated, self.server_auth)
        return self._wait(event, self._send_credentials)

    def _await_key(self, request: TSRequest) -> Answer:
        if request.nego_token is None:
            raise RemoteProtocolError("expected a TSRequest with pubKeyAuth or negoToken, got one with neither")
        self._rounds += 1
        if self._rounds > self.policy.max_rounds:
            raise RemoteProtocolError(
                f"expected pubKeyAuth within {self.policy.max_rounds} rounds, but the server keeps sending tokens"
            )
        return b""

    def _send_credentials(self, answer: object) -> Answer:
        credentials, self._credentials = self._credentials, None
        assert credentials is not None
        if isinstance(answer, TS_CREDENTIALS):
            credentials = answer
            self.delegated = answer.kind
        elif answer is not True:
            raise PolicyError(
                "expected True or credentials as the answer to Delegate, got something else: nothing was delegated",
                security_status=SecurityStatus.SEC_E_DELEGATION_POLICY,
            )
        if isinstance(credentials, TS_CREDENTIALS):
            return self._seal_credentials(ts_credentials.encode(credentials))
        return self._wait(StepMechanism(credentials.fetch), self._send_fetched)

    def _send_fetched(self, answer: object) -> bytes:
        if isinstance(answer, CredSSPError):
            raise answer
        if not isinstance(answer, bytes):
            error = CredSSPError("the credentials to delegate could not be fetched")
            error.__cause__ = answer if isinstance(answer, BaseException) else None  # mypyc leaves out `from`
            raise error
        return self._seal_credentials(answer)

    def _seal_credentials(self, encoded: bytes) -> bytes:
        sealed = self._wrap(encoded)
        self._advance(State.ESTABLISHED)
        return ts_request.encode(self.policy.max_version, auth_info=sealed)


def logon_refused(nt_status: NTSTATUS) -> AuthenticationError:
    """Make the error for an errorCode. `nt_status` keeps the raw number, whatever the peer sent ([MS-CSSP] 2.2.1)."""
    return AuthenticationError(
        f"the server refused the logon: {nt_status}",
        nt_status=nt_status,
        security_status=_security_status(nt_status),
    )


def _security_status(code: NTSTATUS) -> SecurityStatus:
    status = SecurityStatus(0x80090000 | (code & 0xFFFF))
    # pyspnego's acceptor sends a SECURITY_STATUS in errorCode, and sspi-rs folds one into an NTSTATUS. A server must
    # not choose SEC_E_INCOMPLETE_MESSAGE as our result: our caller would wait for more bytes.
    if status is not SecurityStatus.SEC_E_INCOMPLETE_MESSAGE and (
        code >> 16 == 0x8009 or (code >> 16 == 0xC007 and status.known)
    ):
        return status
    return _STATUS_OF_ERROR_CODE.get(code.stands_for, SecurityStatus.SEC_E_LOGON_DENIED)

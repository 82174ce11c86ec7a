"""A security context for a carriage that takes turns, as HTTP does: one token each way in every turn.

Over a stream, a side may send a token at any time. Over HTTP, the client sends one token in a request and the server
sends one token in the response. A side that sends no token in its turn leaves the other side waiting for ever. A
context that takes turns differs from `SecurityContext` in three points:

* A client of TLS 1.3 owes the server its Finished and its first TSRequest at the same moment. pyspnego's acceptor
  expects two tokens, so Finished leaves alone. The first TSRequest follows in the next turn, whatever token the server
  gives the turn back with: an empty one or session tickets.
* A server of TLS 1.3 owes no answer to a Finished that comes alone, and requests-credssp, pypsrp and pywinrm refuse a
  response without a token. So a server's TLS session comes from `acredssp.core.tls.session_with_ticket`, and its answer
  is one session ticket.
* Nobody sends the rest of a token later. A token that ends in the middle of a record, of a flight or of a message fails
  the handshake, as does a token that asks for no answer.

How to drive it
===============

`step(token)` takes the token of one turn and gives the token for the next one. `missing` is always 0. `extra` is 0
except in the two cases below.

    result                          what to do
    SEC_I_CONTINUE_NEEDED, output   send `output`, and give the peer's next token to `step()`
    SEC_I_CONTINUE_NEEDED, event    give the answer to `resume()`, whose result is read as this one
    SEC_I_INCOMPLETE_CREDENTIALS    give the answer to `event` to `resume()`, then the `extra` bytes at the end of the
                                    token to `step()`
    SEC_E_OK                        client: send `output`, the last token; server: let the client in, no token is due;
                                    `extra` bytes at the end of the token are application ciphertext
    CredSSPError                    server: send `last_token`, if there is one, and refuse; client: give up

An empty token stands for a peer that gave no token. Except where a server gives the turn back, it means that the peer
has ended the exchange: many servers refuse a logon in this way.
"""

from typing import ClassVar

from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.events import ChooseCertificate
from acredssp.core.handshake import Answer
from acredssp.core.results import Buffer, StepResult
from acredssp.core.server import ServerHandshake
from acredssp.core.tls import TLSSession
from acredssp.errors import RemoteProtocolError
from acredssp.status import SecurityStatus

__all__ = ["TurnTakingContext"]


class TurnTakingContext(SecurityContext):
    """One CredSSP handshake, client or server, over a carriage that takes turns.

    Args:
        handshake: The exchange inside, fresh.
        tls: A fresh TLS connection; a server's sends one session ticket.
        judge: Client: whether to stop with `JudgeCertificate` once the server has shown its certificate.
    """

    __slots__ = ("_begins",)

    _closes_behind_message: ClassVar[bool] = False
    """The peer would not get the close_notify, since `last_token` ends with the errorCode. To close TLS has a cost: the
    client has a session ticket, and OpenSSL keeps the session of a closed connection with a ticket. These are up to
    20,480 sessions of more than 1 KiB each."""

    def __init__(self, handshake: ClientHandshake | ServerHandshake, tls: TLSSession, *, judge: bool = False) -> None:
        super().__init__(handshake, tls, judge=judge)
        self._begins = False
        """Client: whether the first TSRequest is due as soon as the server gives the turn back."""

    def _begin(self) -> Answer | None:
        assert self.tls is not None
        self._begins = self.tls.has_output  # Finished of TLS 1.3, which leaves alone
        return None if self._begins else super()._begin()

    def _tls_established(self, tls: TLSSession) -> Answer | None:
        # TLS output leaves at the end of the token, in front of the answer to a TSRequest in the same token.
        return super()._tls_established(tls) or None

    def _is_undecided(self, data: Buffer) -> bool:  # noqa: ARG002 - a token is whole
        return False

    def _take_plaintext(self, data: bytes) -> Answer | None:
        if self._begins:
            raise RemoteProtocolError(f"the server sent {len(data)} bytes before the client's first TSRequest")
        return super()._take_plaintext(data)

    def _step_records(self, tls: TLSSession, data: Buffer) -> StepResult:
        given_back = self._begins
        if not data and not given_back:
            raise self.handshake.closed_by_peer()
        result = self._take_token(tls, data)
        if result is not None:
            return result
        if given_back:
            self._begins = False
            return self._result(super()._begin() or b"", 0)
        if self._plaintext:
            raise RemoteProtocolError("the token ends in the middle of a TSRequest")
        if not tls.has_output:
            raise RemoteProtocolError("expected a token with a whole flight of tls or a TSRequest, got one without")
        return self._result(b"", 0)

    def _take_token(self, tls: TLSSession, token: Buffer) -> StepResult | None:
        """Take the whole token; return None where none of its records asked for an answer."""
        start, size = 0, len(token)
        while start < size:
            result = super()._step_records(tls, token[start:])
            if result.output or result.event is not None or result.status is SecurityStatus.SEC_E_OK:
                return _checked(result)
            if result.missing and result.extra:
                raise RemoteProtocolError(
                    f"the token ends in the middle of a tls record: at least {result.missing} bytes are missing"
                )
            start = size - result.extra
        return None


def _checked(result: StepResult) -> StepResult:
    """Refuse a token that holds more bytes than the ones answered now."""
    due = result.status is SecurityStatus.SEC_E_OK or isinstance(result.event, ChooseCertificate)
    if result.extra and not due:
        raise RemoteProtocolError(f"{result.extra} bytes behind a TSRequest in one token")
    return result

"""The server's side of CredSSP over HTTP, without I/O: one object for each TCP connection.

How to drive it
===============

Give the headers of every request to `receive()`, and read the result:

    event                 answer it: give `event` and its answer to `resume()`, whose result is read as this one
    reply                 send it, and do nothing else for the request; close the connection if `reply.close`
    neither               the request is the logged-on user's: serve it

A request that is served has a sealed body: `opener()` opens it, and the answer is sealed too. Do nothing for a request
before its body is open. The headers alone do not show whose request it is, since a proxy may send the requests of
several clients over one connection; the first bytes that open do. For whatever cannot be opened, send `refused()`.

The bodies of requests that get a `reply` are skipped, up to the server's own bound.
"""

import dataclasses
from typing import Final

from acredssp.config import ServerConfig
from acredssp.errors import CredSSPError, LocalProtocolError, RemoteProtocolError, TLSError
from acredssp.events import Answered, Event, Question, SecurityContext, StepResult
from acredssp.http import replies
from acredssp.http.envelope import is_sealed
from acredssp.http.errors import HTTPProtocolError
from acredssp.http.headers import Headers, authorization_token, has_body, one_value, values_of
from acredssp.http.opening import DEFAULT_LIMIT, Opener
from acredssp.http.replies import Reply
from acredssp.status import SecurityStatus

__all__ = ["ServerExchange", "ServerTurn"]

_SHARED_HINT: Final = (
    "let no proxy share connections among clients: credssp logs on one connection, and nothing tells the clients apart"
)
_UNSEALED_HINT: Final = (
    "use a client that seals its bodies, as pypsrp, pywinrm, awinrm and the clients of acredssp do, and as requests "
    "with requests-credssp does not; dangerous_allow_unsealed of the server serves plain bodies"
)


@dataclasses.dataclass(frozen=True, slots=True)
class ServerTurn:
    """What the caller does for a request. The text at the top of the module explains each case.

    Attributes:
        reply: The response to send; None where there is none yet, or where the request is to be served.
        event: The engine's question; None where it asks nothing.
    """

    reply: Reply | None = None
    event: Event | None = None


class ServerExchange:
    """The logon of one TCP connection, and what may be asked over it afterwards.

    Args:
        config: The server's configuration.
        channel_bindings: The application data of the inner mechanism's bindings (RFC 5929); None for none.
        dangerous_allow_unsealed: Whether requests without a sealed body are served too. Whoever can write into the
            connection, such as a proxy that shares it among clients, then acts as the user who logged on.

    Attributes:
        context: The engine. After the logon, `context.info.principal` says who it is, and `context.take_credentials()`
            returns what the client delegated, once.
        begun: Whether a token has come.
        logged_on: Whether the logon is complete.
        error: Why the connection is refused; None while it is not.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        channel_bindings: bytes | None = None,
        dangerous_allow_unsealed: bool = False,
    ) -> None:
        self.context: SecurityContext = config.new_context(channel_bindings=channel_bindings, turns=True)
        self.logged_on = False
        self.error: CredSSPError | None = None
        self._allow_unsealed = dangerous_allow_unsealed
        self.begun = False
        self._has_body = False

    def __repr__(self) -> str:
        how = "refused" if self.error is not None else "begun" if self.begun else "new"
        return f"<ServerExchange {f'logged on: {self.context.info.principal}' if self.logged_on else how}>"

    def receive(self, headers: Headers) -> ServerTurn:
        """Take the headers of a request. Nothing that a client sends makes this raise: see `error`.

        Raises:
            LocalProtocolError: The event of an earlier request is not answered yet; nothing changed.
        """
        fields = tuple(headers)
        if self.error is not None:
            return ServerTurn(self.refused(self.error))
        try:
            return self._admit(fields) if self.logged_on else self._leg(fields)
        except LocalProtocolError:
            raise
        except CredSSPError as error:
            return self.fail(error)

    def resume(self, event: Question[Answered], answer: Answered) -> ServerTurn:
        """Give the answer to `ServerTurn.event`. Go on as after `receive()`.

        Raises:
            LocalProtocolError: The engine does not wait for this answer; nothing changed.
        """
        try:
            return self._turn(self.context.resume(event, answer))
        except LocalProtocolError:
            raise
        except CredSSPError as error:
            return self.fail(error)

    def fail(self, error: CredSSPError) -> ServerTurn:
        """End the logon, or refuse what came after it; the result has the reply for the client."""
        if self.logged_on and isinstance(error, TLSError) and error.hint is None:
            error.hint = _SHARED_HINT  # the usual cause: a body that another connection's logon has sealed
        self.context.fail(error)
        self.error = error
        return ServerTurn(self.refused(error))

    def opener(self, headers: Headers, *, limit: int = DEFAULT_LIMIT) -> Opener:
        """Return the opener for the body of a request that is to be served.

        Args:
            headers: The headers of the request.
            limit: Bytes of plaintext that the body may have.

        Raises:
            HTTPProtocolError: The body is not sealed.
        """
        return Opener(self.context, one_value(headers, "Content-Type"), limit=limit, prove=not self._allow_unsealed)

    def refused(self, error: CredSSPError) -> Reply:
        """Return the reply to a request that is refused because of `error`; it ends the connection."""
        return replies.refusal(error, None if self.logged_on else self.context.last_token)

    # --- the logon ---

    def _leg(self, headers: Headers) -> ServerTurn:
        token = authorization_token(headers)
        if not token and not self.begun:
            return ServerTurn(replies.challenge(text="log on by credssp"))
        if token is None:
            raise RemoteProtocolError(
                "expected the next token of the logon, got a request without one", hint=_SHARED_HINT
            )
        self.begun = True
        self._has_body = has_body(headers)
        return self._turn(self.context.step(token))

    def _turn(self, result: StepResult) -> ServerTurn:
        if result.event is not None:
            return ServerTurn(event=result.event)
        if result.status is not SecurityStatus.SEC_E_OK:
            return ServerTurn(replies.challenge(result.output))
        if result.extra or self.context.trailing_data:
            raise RemoteProtocolError("expected nothing behind the credentials, got more bytes in the same token")
        self.logged_on = True
        if not self._has_body:
            return ServerTurn(replies.logged_on())
        if self._allow_unsealed:
            return ServerTurn()
        reply = self.fail(_unsealed("a plain body beside the last token", 415)).reply
        assert reply is not None
        return ServerTurn(replies.with_last_token(reply, self.context.last_token))

    # --- afterwards ---

    def _admit(self, headers: Headers) -> ServerTurn:
        if values_of(headers, "Authorization"):
            raise HTTPProtocolError(
                "expected no authorization on a connection that is logged on, got one", hint=_SHARED_HINT
            )
        sealed, body = is_sealed(one_value(headers, "Content-Type")), has_body(headers)
        if self._allow_unsealed or (sealed and body):  # anybody can write the type alone
            return ServerTurn()
        raise _unsealed("a request with a plain body" if body else "a request without a body", 401)


def _unsealed(came: str, http_status: int) -> HTTPProtocolError:
    return HTTPProtocolError(
        f"expected a sealed body, which shows whose request it is, got {came}", http_status, hint=_UNSEALED_HINT
    )

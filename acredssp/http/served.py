"""One TCP connection of a server: whose it is. All servers of HTTP share this module, and nothing else decides it.

A server makes one `ServedConnection` for each TCP connection, and puts it into `scope["state"]` of each request that
comes over this connection. No other fact of a request tells its connection: the address of the client is the same for
the next connection from a reused port, and proxies write what they like into headers.

Who calls: `server` and `uvicorn` make connections, and `asgi` logs on over them.
"""

import asyncio
import contextlib
import dataclasses
import logging
from typing import Final

from acredssp.aio import ServerLogon, ServerLogons, answer_events, source_of
from acredssp.config import ServerConfig
from acredssp.errors import CredSSPError, HandshakeAborted, HandshakeTimeout, LimitExceeded, PeerClosed
from acredssp.events import HandshakeInfo, SecurityContext
from acredssp.hooks import Principal
from acredssp.http.acceptor import ServerExchange
from acredssp.http.headers import Headers
from acredssp.http.limits import HTTPLimits
from acredssp.http.opening import Opener
from acredssp.http.replies import Reply
from acredssp.tls import end_point_binding, own_chain
from acredssp.wire import TSCredentials

__all__ = ["STATE", "Acceptor", "ClientLeft", "LoggedOn", "ServedConnection"]

STATE: Final = "acredssp.http.connection"
"""The name in `scope["state"]`."""

_logger = logging.getLogger("acredssp")


class ClientLeft(Exception):
    """The client has closed the connection."""


class LoggedOn:
    """Who logged on over the connection of a request, as `scope["credssp"]`: the same object for all of its requests.

    Attributes:
        principal: The user.
        mechanism: `"kerberos"` or `"ntlm"`.
        info: All facts of the logon.
        peer_address: The address at the other end of the TCP connection: a proxy's, where one stands in between.
        connection_id: The id of the connection in the log and in `HandshakeReport`.
    """

    __slots__ = ("_context", "connection_id", "info", "mechanism", "peer_address", "principal")

    def __init__(self, context: SecurityContext, peer_address: object, connection_id: str) -> None:
        info = context.info
        assert info.principal is not None
        self._context = context
        self.principal: Principal = info.principal
        self.mechanism: str = info.mechanism
        self.info: HandshakeInfo = info
        self.peer_address = peer_address
        self.connection_id = connection_id

    def __repr__(self) -> str:
        return f"<LoggedOn {self.principal} by {self.mechanism}>"

    def take_credentials(self) -> TSCredentials | None:
        """Return the credentials that the client delegated, once; None for each later call on this connection."""
        return self._context.take_credentials()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Acceptor:
    """How the connections of one server log on.

    Attributes:
        config: The server's configuration.
        logons: The server's logons.
        allow_unsealed: Whether requests without a sealed body are served too.
    """

    config: ServerConfig
    logons: ServerLogons
    allow_unsealed: bool = False

    def exchange(self, channel_bindings: bytes | None) -> ServerExchange:
        """Return the exchange of one connection."""
        return ServerExchange(
            self.config, channel_bindings=channel_bindings, dangerous_allow_unsealed=self.allow_unsealed
        )


class ServedConnection:
    """One TCP connection of a server; a `Place` among those of its server.

    Args:
        transport: The connection; with TLS outside, the transport of TLS.
        limits: The server's limits.
        accepted: The moment of the accept, in the loop's time; None for now. TLS outside begins after it.
    """

    def __init__(self, transport: asyncio.WriteTransport, limits: HTTPLimits, accepted: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._transport = transport
        self._exchange: ServerExchange | None = None
        self._logon: ServerLogon | None = None
        self._acceptor: Acceptor | None = None
        self._busy = False
        self._told = False
        self._started = loop.time() if accepted is None else accepted
        self._deadline = self._started + limits.logon_timeout
        self._timer: asyncio.TimerHandle | None = loop.call_at(self._deadline, self._late)
        self._end_timer: asyncio.TimerHandle | None = None
        self._left = asyncio.Event()
        """Set once the client has closed the connection."""
        self.limits = limits
        self.peer_address: object = transport.get_extra_info("peername")
        self.source = source_of(self.peer_address)
        self.logged_on: LoggedOn | None = None
        """Who logged on; None while nobody has."""

    # --- a place among the connections ---

    @property
    def proven(self) -> bool:
        """Whether the logon is complete."""
        return self.logged_on is not None

    def give_way(self, error: LimitExceeded) -> None:
        """End the connection, so that another source gets its place."""
        self._conclude(error)
        self.abort()

    # --- its end ---

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def close(self) -> None:
        """End the connection once what was written has been sent, but wait for the client no longer than in a body."""
        self._transport.close()
        if self._end_timer is None:
            loop = asyncio.get_running_loop()
            self._end_timer = loop.call_later(self.limits.body_timeout, self._transport.abort)

    def note_left(self) -> None:
        """Note that the client sends nothing more. A logon that waits for its turn then waits no longer."""
        self._left.set()

    def lost(self) -> None:
        """Note that the connection has ended: credentials that nobody has taken are overwritten."""
        self.note_left()
        self._stop_timer()
        if self._end_timer is not None:
            self._end_timer.cancel()
        self._conclude(PeerClosed("the client left before the logon was complete"))
        if self._exchange is not None and (credentials := self._exchange.context.take_credentials()) is not None:
            credentials.zero()

    def _late(self) -> None:
        """End a connection whose client has not logged on in time. A request in progress gets an answer first."""
        self._timer = None
        if not self._busy:
            self._conclude(HandshakeTimeout("the logon did not end before its deadline"))
            self.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- requests ---

    def begin(self, acceptor: Acceptor) -> None:
        """Make the exchange at the first request. All requests of a connection belong to one acceptor.

        Raises:
            RuntimeError: The connection belongs to another acceptor.
            PolicyError: TLS outside has certificates of several kinds, so the channel bindings are unknown.
        """
        if self._acceptor is None:
            self._exchange = acceptor.exchange(self._channel_bindings())
            self._logon = acceptor.logons.begin(
                self._exchange.context, self.peer_address, self._deadline, started=self._started
            )
            self._acceptor = acceptor
        if self._acceptor is not acceptor:
            raise RuntimeError("expected one CredSSPMiddleware for all requests of a connection, got two")

    async def receive(self, headers: Headers) -> Reply | None:
        """Take the headers of a request; return the reply to send, or None for a request to serve.

        Raises:
            ClientLeft: The client left while its logon had to wait for its turn.
        """
        exchange, logon = self._begun
        logon.name_records()
        self._busy = True
        try:
            if not exchange.begun:
                await self._wait_for_its_turn()
            reply = await self._receive(exchange, logon, headers)
        finally:
            self._busy = False
        if self._timer is None and not exchange.logged_on:
            self._conclude(HandshakeTimeout("the logon did not end before its deadline"))
        if exchange.error is not None:
            self._refused(exchange.error)
        elif exchange.logged_on and self.logged_on is None:
            self._stop_timer()
            self.logged_on = LoggedOn(exchange.context, self.peer_address, logon.connection_id)
            logon.conclude(None)
        return reply

    async def _wait_for_its_turn(self) -> None:
        """Wait if too many logons of this source have failed.

        Raises:
            ClientLeft: The client left meanwhile; the connection has ended.
        """
        assert self._acceptor is not None
        wait = self._acceptor.logons.wait(self.peer_address)
        if not wait:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(wait, self.limits.logon_timeout)):
                await self._left.wait()
        if self._left.is_set():
            self.abort()
            raise ClientLeft

    async def _receive(self, exchange: ServerExchange, logon: ServerLogon, headers: Headers) -> Reply | None:
        error: CredSSPError = HandshakeAborted("the request was cancelled")
        try:
            turn = exchange.receive(headers)
            if turn.event is not None:
                async with asyncio.timeout_at(self._deadline):
                    turn = await answer_events(exchange, turn, logon.answers)
        except CredSSPError as failure:
            return exchange.refused(failure)
        except TimeoutError:
            error = HandshakeTimeout("the logon did not end before its deadline")
        except asyncio.CancelledError:
            exchange.fail(error)
            raise
        else:
            return turn.reply
        return exchange.fail(error).reply

    def fail(self, error: CredSSPError) -> Reply:
        """Refuse a request, and every later one; return the reply, which ends the connection."""
        exchange, _ = self._begun
        reply = exchange.fail(error).reply
        assert reply is not None
        self._refused(error)
        return reply

    def opener(self, headers: Headers) -> Opener:
        """Return the opener for the body of a request to serve."""
        exchange, _ = self._begun
        return exchange.opener(headers, limit=self.limits.body_size)

    @property
    def context(self) -> SecurityContext:
        """The engine."""
        exchange, _ = self._begun
        return exchange.context

    @property
    def _begun(self) -> tuple[ServerExchange, ServerLogon]:
        assert self._exchange is not None
        assert self._logon is not None
        return self._exchange, self._logon

    def _refused(self, error: CredSSPError) -> None:
        if self.logged_on is None:
            self._conclude(error)
        elif not self._told:
            self._told = True
            who = ascii(str(self.logged_on.principal))
            _logger.warning("a request over the connection of %s is refused: %s", who, error)

    def _conclude(self, error: CredSSPError) -> None:
        """Report the logon as failed. A client that only asked which schemes there are has not begun one."""
        if self._logon is not None and self._exchange is not None and self._exchange.begun:
            if not self._logon.concluded:
                self._exchange.context.fail(error)
            self._logon.conclude(error)

    def _channel_bindings(self) -> bytes | None:
        tls = self._transport.get_extra_info("ssl_object")
        return None if tls is None else end_point_binding(own_chain(tls.context)[0])

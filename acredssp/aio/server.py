"""The server that `create_server` returns: asyncio's own, with a handshake before each application protocol.

Each accepted connection runs its handshake in a task of its own, under its own deadline. What one peer does is told
to `on_handshake` and to the log, and touches nobody else.
"""

import asyncio
import dataclasses
import logging
import socket
from collections.abc import Callable
from typing import Final, TypeAlias

from acredssp.aio.answers import ServerAnswers
from acredssp.aio.driver import establish
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.transport import SecureTransport, start_application
from acredssp.carriage.base import Carriage
from acredssp.config import ServerConfig
from acredssp.core.context import HandshakeInfo
from acredssp.credentials import Account
from acredssp.errors import CredSSPError, LimitExceeded
from acredssp.mechanisms.base import Principal
from acredssp.status import Stage
from acredssp.wire.x224 import ConnectionRequest

__all__ = ["ACCEPTS_A_TURN", "CredSSPServer", "HandshakeHook", "HandshakeReport", "ProtocolFactory"]

_logger = logging.getLogger("acredssp")

ACCEPTS_A_TURN: Final = 32
"""The backlog that the loop is told: asyncio accepts as many connections in one callback, and a thousand would hold up
everybody else for 5 to 10 ms. The kernel is told the true one."""

ProtocolFactory: TypeAlias = Callable[[], asyncio.BaseProtocol]


@dataclasses.dataclass(frozen=True, slots=True)
class HandshakeReport:
    """How one handshake of a server ended; holds no secret."""

    peer_address: object
    """As `get_extra_info("peername")` gives it."""
    error: CredSSPError | None
    """Why it failed, with `stage`, `security_status` and `nt_status`; None for a success."""
    info: HandshakeInfo | None
    """The facts, as far as they were known at the end; None when the connection was turned away at once."""
    principal: Principal | None
    """Who claimed to log on, proven only by a success; None when nobody came so far."""
    server_name: str = ""
    """What the client asked for by SNI; empty for none."""
    cookie: str = ""
    """RDP: the `mstshash` cookie; empty for none."""
    elapsed: float = 0.0
    """Seconds since the connection was accepted."""
    request: ConnectionRequest | None = None
    """RDP: the client's whole Connection Request, with routing token and correlation id; None when none came."""

    @property
    def account(self) -> Account | None:
        """Who it is, however `principal` is written; None until the logon is proven."""
        principal = self.info.principal if self.info is not None else None
        return principal.account if principal is not None else None


HandshakeHook: TypeAlias = Callable[[HandshakeReport], object]
"""Called once for each handshake, before the application gets the connection. A plain function; its result is
ignored."""


class CredSSPServer(asyncio.AbstractServer):
    """Accepts connections, runs their handshakes, and hands them to application protocols.

    The methods are those of `asyncio.Server` and mean what they mean there since Python 3.12 and 3.13, on every
    version and loop: `close()` stops listening and leaves connections alone, handshakes in progress included;
    `wait_closed()` waits for them to end; `abort_clients()` ends them.

    Args:
        protocol_factory: Makes the application's protocol, once a handshake is established.
        config: How clients are let in.
        carriage: What is around CredSSP.
        handshake_timeout: Seconds from the accept to the end of the handshake.
        max_handshakes: Handshakes at a time; a connection above that is closed at once. None for no limit.
        on_handshake: Told how each handshake ended.
    """

    def __init__(  # noqa: PLR0913 - what `create_server` takes
        self,
        protocol_factory: ProtocolFactory,
        *,
        config: ServerConfig,
        carriage: Carriage,
        handshake_timeout: float,
        max_handshakes: int | None = None,
        on_handshake: HandshakeHook | None = None,
    ) -> None:
        self._protocol_factory = protocol_factory
        self._config = config
        self._carriage = carriage
        self._timeout = handshake_timeout
        self._max_handshakes = max_handshakes
        self._on_handshake = on_handshake
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.AbstractServer
        self._backlog = 0
        self._connections: dict[CredSSPProtocol, SecureTransport | None] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<CredSSPServer sockets={self.sockets!r} connections={len(self._connections)}>"

    # --- asyncio.Server ---

    def listen(self, listener: asyncio.AbstractServer, backlog: int) -> None:
        """Take the loop's own server, which makes its protocols with `new_connection`.

        Args:
            listener: Made with a backlog of at most `ACCEPTS_A_TURN`.
            backlog: Connections that the kernel keeps while the loop is busy.
        """
        self._listener = listener
        self._backlog = backlog
        if listener.is_serving():
            self._lengthen_queues()

    def _lengthen_queues(self) -> None:
        """Have the kernel keep as many connections as it was asked to; the loop only asked for those of a turn."""
        for listening in self.sockets:
            with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
                same.listen(self._backlog)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty once closed."""
        return tuple(getattr(self._listener, "sockets", None) or ())

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._listener.is_serving()

    async def start_serving(self) -> None:
        """Begin to accept connections; harmless when that has begun."""
        await self._listener.start_serving()
        self._lengthen_queues()

    async def serve_forever(self) -> None:
        """Accept connections until cancelled; then close, and wait until all connections have ended."""
        try:
            await self.start_serving()
            await self._listener.serve_forever()
        finally:
            self.close()
            await self.wait_closed()

    def close(self) -> None:
        """Stop accepting. Connections stay open, and handshakes go on."""
        self._listener.close()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and every connection has ended."""
        await self._listener.wait_closed()
        while self._connections or self._handshakes:
            self._idle.clear()
            await self._idle.wait()

    def close_clients(self) -> None:
        """Close every connection once what was written to it has been sent; end the handshakes in progress."""
        self._cancel_handshakes()
        for protocol, transport in [*self._connections.items()]:
            if transport is not None:
                transport.close()
            else:
                protocol.abort()  # by hand: a task that is cancelled before it began never runs

    def abort_clients(self) -> None:
        """End every connection and every handshake at once."""
        self._cancel_handshakes()
        for protocol in [*self._connections]:
            protocol.abort()

    def _cancel_handshakes(self) -> None:
        for task in self._handshakes:
            task.cancel()

    # --- connections ---

    def new_connection(self) -> CredSSPProtocol:
        """Make the protocol of an accepted connection."""
        return CredSSPProtocol(self._accepted, self._lost)

    def _accepted(self, protocol: CredSSPProtocol) -> None:
        self._connections[protocol] = None
        if self._max_handshakes is not None and len(self._handshakes) >= self._max_handshakes:
            error = LimitExceeded(f"more than {self._max_handshakes} handshakes at a time", stage=Stage.CONNECT)
            protocol.abort()
            address = protocol.transport.get_extra_info("peername")
            _log(address, error)
            if self._on_handshake is not None:
                self._on_handshake(HandshakeReport(address, error, None, None))
            return
        task = self._loop.create_task(self._handshake(protocol))
        self._handshakes.add(task)
        task.add_done_callback(self._ended)

    def _lost(self, protocol: CredSSPProtocol) -> None:
        del self._connections[protocol]
        self._wake_if_idle()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._handshakes.discard(task)
        self._wake_if_idle()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "an accepted connection failed", "exception": error})

    def _wake_if_idle(self) -> None:
        if not self._connections and not self._handshakes:
            self._idle.set()

    async def _handshake(self, protocol: CredSSPProtocol) -> None:
        started = self._loop.time()
        address = protocol.transport.get_extra_info("peername")
        error: CredSSPError | None = None
        try:
            sequence = self._carriage.acceptor(self._config.new_context(bios=protocol.buffers.bios))
            answers = ServerAnswers(self._config, sequence, address, started + self._timeout)
            try:
                info = await establish(protocol, sequence, answers, started + self._timeout)
            except CredSSPError as failure:
                error, info = failure, sequence.context.info
            _log(address, error)
            if self._on_handshake is not None:
                self._on_handshake(
                    HandshakeReport(
                        peer_address=address,
                        error=error,
                        info=info,
                        principal=info.principal or answers.principal,
                        server_name=answers.server_name,
                        cookie=sequence.cookie,
                        elapsed=self._loop.time() - started,
                        request=sequence.request,
                    )
                )
            if error is None:
                transport = self._connections[protocol] = SecureTransport(protocol, sequence, info)
                start_application(transport, self._protocol_factory)
        except BaseException:
            protocol.abort()
            raise


def _log(address: object, error: CredSSPError | None) -> None:
    if error is None:
        _logger.debug("handshake with %s established", address)
    else:
        _logger.info(
            "handshake with %s failed: %s, stage %s, status %s, nt status %s",
            address,
            type(error).__name__,
            error.stage,
            error.security_status,
            error.nt_status,
        )

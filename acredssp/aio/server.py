"""The server that `create_server` returns: asyncio's own, with a handshake before each application protocol.

Each accepted connection runs its handshake in a task of its own, under its own deadline. `on_handshake` and the log
tell how the handshake ended, and no other connection notices. A connection goes through these steps:

1. The server accepts the connection (`listening`). The peer address tells its source (`sources`). If the peer is a load
   balancer, the PROXY header that comes first tells the source (`proxied`). Such a connection gets its transport in
   this step. Until its header is whole, it counts for a separate limit of such connections.
2. The server checks the limits (`failures`, `limits`), which costs next to nothing. A source whose handshakes fail
   quickly waits here (`pacing`).
3. The server calls `accept`, which returns the session object of the connection.
4. The connection gets a transport, and only now the server reads from it. The handshake runs (`handshake`).
5. The application gets the connection.

Whichever step ends a connection, the server calls `on_handshake` exactly once for it.
"""

import asyncio
import contextlib
import functools
import socket
import traceback
from collections.abc import Callable, Iterable
from typing import TypeAlias

from acredssp.aio.asking import Asking
from acredssp.aio.departures import Departures, has_left
from acredssp.aio.driver import Pending, check_in_time
from acredssp.aio.failures import FailureLimit, Failures
from acredssp.aio.handshake import Handshake, aborted, new_connection_id
from acredssp.aio.limits import Places
from acredssp.aio.listening import Listening
from acredssp.aio.pacing import Pacing
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.proxied import LoadBalancers, address_of_client, read_header, watching
from acredssp.aio.report import HandshakeHook, HandshakeOutcome, HandshakeReport, Sparingly, log_report, outcome_of
from acredssp.aio.sources import source_of
from acredssp.aio.transport import start_application
from acredssp.carriage.base import Carriage
from acredssp.config import ServerConfig
from acredssp.errors import AccessDenied, CredSSPError, HandshakeTimeout, LimitExceeded, PeerClosed
from acredssp.hooks import AcceptHook
from acredssp.logs import CONNECTION_ID
from acredssp.status import NTSTATUS, Stage
from acredssp.wire.proxy_header import ProxyHeader

__all__ = ["CredSSPServer", "ProtocolFactory"]

ProtocolFactory: TypeAlias = Callable[[], asyncio.BaseProtocol]


class CredSSPServer(asyncio.AbstractServer):
    """Accepts connections, runs their handshakes, and hands them to application protocols.

    The methods are those of `asyncio.Server`. On every version of Python and on every loop, they do what they do in
    `asyncio.Server` since Python 3.12 and 3.13: `close()` stops listening and leaves connections alone, handshakes in
    progress included; `wait_closed()` waits for the connections to end; `abort_clients()` ends them.

    Args:
        protocol_factory: Makes the application's protocol, once a handshake is established.
        config: The server's certificate, hooks and policy.
        carriage: The protocol around CredSSP.
        handshake_timeout: Seconds from the accept to the end of the handshake.
        accept: Called for each connection before anything is read from it.
        max_handshakes: The most handshakes at a time; None for no limit.
        max_handshakes_per_source: The most handshakes at a time from one source; None for no limit.
        max_failures: How many wrong passwords a source may send for an account; None for no limit.
        max_failed_per_second: How many handshakes of a source may fail in a second before its connections wait; None
            for no limit.
        proxy_protocol: The networks of the load balancers whose connections begin with a PROXY header.
        on_handshake: Called with a report once each handshake has ended.
    """

    def __init__(  # noqa: PLR0913 - what `create_server` takes
        self,
        protocol_factory: ProtocolFactory,
        *,
        config: ServerConfig,
        carriage: Carriage,
        handshake_timeout: float,
        accept: AcceptHook | None = None,
        max_handshakes: int | None = None,
        max_handshakes_per_source: int | None = None,
        max_failures: FailureLimit | None = None,
        max_failed_per_second: int | None = None,
        proxy_protocol: Iterable[str] = (),
        on_handshake: HandshakeHook | None = None,
    ) -> None:
        self._protocol_factory = protocol_factory
        self._config = config
        self._carriage = carriage
        self._timeout = handshake_timeout
        self._accept = accept
        self._on_handshake = on_handshake
        self._loop = loop = asyncio.get_running_loop()
        self._listener: asyncio.AbstractServer
        self._listening: Listening
        self._backlog = 0
        self._forever: asyncio.Future[None] | None = None
        self._connections: dict[CredSSPProtocol, asyncio.Transport | None] = {}
        self._handshakes: dict[_Accepted, asyncio.Task[None]] = {}
        self._places = Places(max_handshakes, max_handshakes_per_source)
        self._failures = Failures(max_failures, loop.time, loop.call_at) if max_failures is not None else None
        self._pacing = Pacing(max_failed_per_second) if max_failed_per_second is not None else None
        self._load_balancers = LoadBalancers(proxy_protocol)
        self._without_header = Places(max_handshakes)
        """The places of load balancers' connections without a whole header. Their source is unknown, so no limit of a
        source holds for them yet."""
        self._limited_lines = Sparingly()
        self._departures = Departures(loop)
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<CredSSPServer sockets={self.sockets!r} connections={len(self._connections)}>"

    # --- asyncio.Server ---

    def listen(self, listener: asyncio.AbstractServer, backlog: int) -> None:
        """Take the loop's own server, which has bound the sockets but does not listen.

        Args:
            listener: The loop's server. If it has to accept connections itself, it makes their protocols by
                `new_connection`.
            backlog: Connections that the kernel keeps while the loop is busy.
        """
        self._listener = listener
        self._backlog = backlog
        self._listening = Listening(map(_same_socket, self.sockets), self._accepted)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty after the server is closed."""
        listener = getattr(self, "_listener", None)  # none before `listen`, when logs may show this object
        return tuple(getattr(listener, "sockets", None) or ())

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._listening.active or self._listener.is_serving()

    async def start_serving(self) -> None:
        """Begin to accept connections. A second call changes nothing."""
        try:
            self._listening.start(self._backlog)
        except NotImplementedError:  # Windows' proactor watches no sockets, so the loop's own server accepts
            await self._listener.start_serving()

    async def serve_forever(self) -> None:
        """Accept connections until cancelled; then close, and wait until all connections have ended."""
        self._forever = self._loop.create_future()
        try:
            await self.start_serving()
            await self._forever
        finally:
            self.close()
            await self.wait_closed()

    def close(self) -> None:
        """Stop accepting. Connections stay open, and handshakes go on."""
        self._listening.close()
        self._listener.close()
        if self._forever is not None:
            self._forever.cancel()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and every connection has ended."""
        await self._listener.wait_closed()
        while self._connections or self._handshakes:
            self._idle.clear()
            await self._idle.wait()

    def close_clients(self) -> None:
        """Close every connection once what was written to it has been sent; end the handshakes in progress."""
        self._cancel_handshakes()
        for transport in [*self._connections.values()]:
            if transport is not None:
                transport.close()

    def abort_clients(self) -> None:
        """End every connection and every handshake at once."""
        self._cancel_handshakes()
        for protocol in [*self._connections]:
            protocol.abort()

    def _cancel_handshakes(self) -> None:
        for task in self._handshakes.values():
            task.cancel()

    # --- connections ---

    def new_connection(self) -> asyncio.BaseProtocol:
        """Make the protocol of a connection that the loop accepts by itself."""
        return CredSSPProtocol(self._accepted_by_the_loop, self._lost)

    def _accepted_by_the_loop(self, protocol: CredSSPProtocol) -> None:
        accepted = _Accepted(protocol, protocol.transport.get_extra_info("peername"), self._loop.time())
        self._made(accepted, protocol)
        self._begin(accepted)

    def _accepted(self, connection: socket.socket, address: object) -> None:
        self._begin(_Accepted(connection, address, self._loop.time()))

    def _made(self, accepted: "_Accepted", protocol: CredSSPProtocol) -> None:
        """Note that a connection has its transport, and abort the connection if it was dropped meanwhile."""
        self._connections[protocol] = None
        if accepted.dropped:
            protocol.abort()

    def _lost(self, protocol: CredSSPProtocol) -> None:
        self._connections.pop(protocol, None)
        self._listening.resume()
        self._wake_if_idle()

    def _begin(self, accepted: "_Accepted") -> None:
        """Start the task that serves an accepted connection, unless a limit turns the connection away."""
        try:
            if accepted.address in self._load_balancers:
                accepted.proxied = True
                self._without_header.enter(accepted)
            else:
                self._check_limits(accepted)
        except LimitExceeded as error:
            accepted.drop()
            self._turned_away(accepted, error, HandshakeOutcome.LIMITED)
            return
        accepted.task = task = self._loop.create_task(self._serve(accepted))
        self._handshakes[accepted] = task
        task.add_done_callback(lambda task: self._ended(accepted, task))

    def _check_limits(self, accepted: "_Accepted") -> None:
        if self._failures is not None and self._failures.refuses(accepted.source):
            raise LimitExceeded(f"too many wrong passwords from {accepted.source}", stage=Stage.CONNECT)
        self._places.enter(accepted)

    async def _serve(self, accepted: "_Accepted") -> None:
        """Serve a connection from the accept to the application."""
        CONNECTION_ID.set(accepted.connection_id)
        try:
            if accepted.proxied:
                await self._find_client(accepted)
            await self._wait_for_its_turn(accepted)
            accepted.session = await self._session(accepted)
            protocol = await self._connected(accepted)
        except CredSSPError as error:
            self._turned_away(accepted, error, *accepted.refusal)
            return
        accepted.handshake = handshake = Handshake(
            protocol,
            self._config,
            self._carriage,
            timeout=self._timeout,
            on_handshake=lambda report: self._concluded(accepted, report),
            peer_address=accepted.address,
            session=accepted.session,
            proxy_header=accepted.proxy_header,
            started=accepted.started,
            connection_id=accepted.connection_id,
            refuses=functools.partial(failures.refuses, accepted.source)
            if (failures := self._failures) is not None
            else None,
        )
        try:
            transport = await handshake.run_or_pass_on()
            self._connections[protocol] = open_transport = transport or protocol.transport
            if accepted.task.cancelling():  # `on_handshake` called `close_clients` before this transport was there
                open_transport.close()
            if transport is not None:
                start_application(transport, self._protocol_factory)
            accepted.established = True
        except CredSSPError as error:
            # It was reported. The handshake keeps it, and its traceback the coroutines that have ended: a circle of
            # references, with the TLS session in it, which only the garbage collector would find.
            traceback.clear_frames(error.__traceback__)
            del accepted, protocol, handshake

    async def _find_client(self, accepted: "_Accepted") -> None:
        """Learn from a load balancer's header whose connection this is, and check the limits for that source.

        Raises:
            LimitExceeded: The client's source has too many connections.
            RemoteProtocolError: No header comes.
            PeerClosed: The load balancer left before its header was whole.
            HandshakeTimeout: The handshake's deadline passed meanwhile.
        """
        protocol = await self._connected(accepted)
        try:
            async with asyncio.timeout_at(accepted.started + self._timeout):
                header = await read_header(protocol)
        except TimeoutError:
            raise HandshakeTimeout(
                "no whole PROXY header came before the handshake's deadline", stage=Stage.CONNECT
            ) from None
        except PeerClosed:
            accepted.refusal = (HandshakeOutcome.LEFT if protocol.heard else HandshakeOutcome.NO_DATA, "")
            raise
        self._without_header.leave(accepted)
        accepted.belongs_to(header)
        try:
            self._check_limits(accepted)
        except LimitExceeded:
            accepted.refusal = (HandshakeOutcome.LIMITED, "")
            raise

    async def _wait_for_its_turn(self, accepted: "_Accepted") -> None:
        """Make a connection wait if its source had too many failed handshakes.

        Raises:
            PeerClosed: The client left meanwhile.
        """
        if self._pacing is None or not (wait := self._pacing.wait(accepted.source, self._loop.time())):
            return
        await asyncio.sleep(min(wait, self._timeout))
        if accepted.has_left:
            raise PeerClosed("the client left while it had to wait", stage=Stage.CONNECT)

    async def _session(self, accepted: "_Accepted") -> object:
        """Ask `accept` for the connection's session object.

        Raises:
            AccessDenied: `accept` turned the connection away, or failed.
            HandshakeTimeout: The handshake's deadline passed meanwhile.
            PeerClosed: The client left meanwhile.
        """
        if self._accept is None:
            return None
        asking = Asking(accepted.address)
        answer = asking.ask("accept", self._accept, accepted.address, self._config.policy.hook_timeout)
        if isinstance(answer, Pending):
            answer = await self._answer_of_accept(accepted, answer)
        if asking.refusal is not None:
            hook, outcome = asking.refusal
            accepted.refusal = (outcome, hook)
            raise AccessDenied(
                "the connection was turned away", nt_status=NTSTATUS.STATUS_ACCESS_DENIED, stage=Stage.CONNECT
            )
        return answer

    async def _answer_of_accept(self, accepted: "_Accepted", pending: Pending) -> object:
        """Wait for the answer of `accept`, and cancel the hook if nobody needs its answer any more.

        Raises:
            HandshakeTimeout: The handshake's deadline passed meanwhile.
            PeerClosed: The client left meanwhile.
        """
        connection = accepted.connection
        accepted.refusal = (None, "accept")
        try:
            async with asyncio.timeout_at(accepted.started + self._timeout) as limit:
                with self._watching(connection, lambda: limit.reschedule(self._loop.time())):
                    answer = await pending
            check_in_time(limit)
        except TimeoutError:
            if accepted.has_left:
                accepted.refusal = (None, "")
                raise PeerClosed("the client left before accept had answered", stage=Stage.CONNECT) from None
            raise HandshakeTimeout("the handshake did not begin before its deadline", stage=Stage.CONNECT) from None
        accepted.refusal = (None, "")
        return answer

    def _watching(
        self, connection: socket.socket | CredSSPProtocol, left: Callable[[], object]
    ) -> contextlib.AbstractContextManager[None]:
        if isinstance(connection, socket.socket):
            return self._departures.watching(connection, left)
        return watching(connection, left)

    async def _connected(self, accepted: "_Accepted") -> CredSSPProtocol:
        """Give a connection its transport, which begins to read."""
        if isinstance(accepted.connection, CredSSPProtocol):
            return accepted.connection
        connection, protocol = accepted.connection, CredSSPProtocol(functools.partial(self._made, accepted), self._lost)
        accepted.connection = protocol
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError as error:
            connection.close()
            raise PeerClosed("the client left at once", stage=Stage.CONNECT) from error
        except BaseException:
            self._connections.pop(protocol, None)  # a transport of uvloop ends here without `connection_lost`
            raise
        return protocol

    def _turned_away(
        self,
        accepted: "_Accepted",
        error: CredSSPError,
        outcome: HandshakeOutcome | None = None,
        hook: str = "",
    ) -> None:
        """Report a connection whose handshake never began."""
        report = HandshakeReport(
            accepted.address,
            error,
            None,
            None,
            elapsed=self._loop.time() - accepted.started,
            outcome=outcome or outcome_of(error, heard=False),
            hook=hook,
            session=accepted.session,
            connection_id=accepted.connection_id,
            proxy_header=accepted.proxy_header,
        )
        limited = report.outcome is HandshakeOutcome.LIMITED
        log_report(report, quiet=limited and not self._limited_lines.lets(self._loop.time()))
        self._concluded(accepted, report)

    def _concluded(self, accepted: "_Accepted", report: HandshakeReport) -> None:
        accepted.told = True
        if self._failures is not None:
            self._failures.note(accepted.source, report)
        if self._pacing is not None:
            self._pacing.note(accepted.source, report, self._loop.time())
        if self._on_handshake is not None:
            self._on_handshake(report)

    def _ended(self, accepted: "_Accepted", task: asyncio.Task[None]) -> None:
        del self._handshakes[accepted], accepted.task
        self._places.leave(accepted)
        self._without_header.leave(accepted)
        accepted.handshake = None  # breaks the circle of references between the two
        if not accepted.established:
            accepted.drop()
        self._listening.resume()
        self._wake_if_idle()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._loop.call_exception_handler({"message": "an accepted connection failed", "exception": error})
        if not accepted.told:
            reason = accepted.reason
            self._turned_away(accepted, reason or aborted(error), HandshakeOutcome.LIMITED if reason else None)
        accepted.session = None  # the transport has it from here on; the protocol keeps `accepted`

    def _wake_if_idle(self) -> None:
        if not self._connections and not self._handshakes:
            self._idle.set()


class _Accepted:
    """An accepted connection until its handshake has ended; a `Place`."""

    __slots__ = (
        "address",
        "connection",
        "connection_id",
        "dropped",
        "established",
        "handshake",
        "proxied",
        "proxy_header",
        "reason",
        "refusal",
        "session",
        "source",
        "started",
        "task",
        "told",
    )

    def __init__(self, connection: socket.socket | CredSSPProtocol, address: object, started: float) -> None:
        self.connection = connection
        """A protocol as soon as the connection gets its transport; a socket before."""
        self.connection_id = new_connection_id()
        self.address = address
        self.source = source_of(address)
        self.started = started
        self.task: asyncio.Task[None]
        self.handshake: Handshake | None = None
        self.refusal: tuple[HandshakeOutcome | None, str] = (None, "")
        """The outcome and the hook to report if the connection is turned away."""
        self.reason: LimitExceeded | None = None
        """Why the connection had to make room for another; None if it did not."""
        self.session: object = None
        """What `accept` returned."""
        self.proxied = False
        """Whether the connection comes from a load balancer, and so begins with a header."""
        self.proxy_header: ProxyHeader | None = None
        self.established = self.dropped = False
        self.told = False
        """Whether the end of the handshake was reported."""

    @property
    def proven(self) -> bool:
        """Whether the client has proven its logon."""
        return self.handshake is not None and self.handshake.proven

    @property
    def has_left(self) -> bool:
        """Whether the client has closed the connection already."""
        if isinstance(self.connection, CredSSPProtocol):
            return self.connection.ended
        return has_left(self.connection)

    def belongs_to(self, header: ProxyHeader) -> None:
        """Note the client's address and source, as the load balancer's header tells them."""
        self.proxy_header = header
        self.address = address_of_client(header, self.address)
        self.source = source_of(self.address)

    def give_way(self, error: LimitExceeded) -> None:
        """End this handshake with `error`, so that another source gets its place."""
        self.reason = error
        if self.handshake is not None:
            self.handshake.reason = error
        self.task.cancel()

    def drop(self) -> None:
        """Close the connection at once."""
        self.dropped = True
        if not isinstance(self.connection, CredSSPProtocol):
            self.connection.close()
        elif hasattr(self.connection, "transport"):
            self.connection.abort()


def _same_socket(listening: socket.socket) -> socket.socket:
    """Return a socket of our own for one that the loop has bound, since uvloop gives no real sockets.

    The kernel's `TCP_NODELAY` is set, which accepted connections inherit. asyncio sets it only where a socket's `proto`
    says TCP, and a copy, or a socket of `socket.create_server`, says 0. Without it, a small message that follows
    another one waits for the peer's acknowledgement, for 40 ms if the peer has nothing to send.
    """
    same = socket.fromfd(listening.fileno(), listening.family, listening.type)
    same.setblocking(False)
    if listening.family in {socket.AF_INET, socket.AF_INET6}:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return same

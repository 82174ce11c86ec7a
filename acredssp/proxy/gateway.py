"""The listeners of the gateway: their plan, reload and drain. Each connection is a `Connection`."""

import asyncio
import contextlib
import functools
import pathlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from acredssp import RDP, FailureLimit, HandshakeReport, create_server
from acredssp.aio import CredSSPServer, HandshakeOutcome, Sparingly, WinbindOracle
from acredssp.credentials import Deny
from acredssp.proxy.connection import Connection
from acredssp.proxy.leg import Around, as_it_is
from acredssp.proxy.limits import Counts, Limited, Slot
from acredssp.proxy.plan import Plan, make_plan
from acredssp.proxy.records import ConnectionRecord, Observer, limit_of, log_record
from acredssp.proxy.settings import Problems, SettingsError
from acredssp.rdp import RouteAnswer, RouteRequest
from acredssp.stores import Kick, Node, Store

__all__ = ["Gateway"]

_BOUND: Final = ("handshake_timeout", "preconnection", "proxy_protocol")
"""Settings of a listener that hold from when it begins to listen."""

_QUIET: Final = frozenset({HandshakeOutcome.NO_DATA, HandshakeOutcome.LEFT})
"""Clients that are gone by themselves before they were anybody."""


class Gateway:
    """The listeners of a settings file, and the connections that came by them.

    `async with` ends it at once if the block fails or is cancelled.

    Args:
        path: The settings file.
        observer: Told of what happens.
        sockets: The sockets that listen on each address, where somebody else has bound them; None to bind here.
        store: The store where the settings name none; None for a new one in this process.
        processes: How many processes serve by these settings on this machine.
        around: Returns what carries the handshakes with clients, and those with targets.
    """

    def __init__(  # noqa: PLR0913
        self,
        path: pathlib.Path,
        observer: Observer | None = None,
        sockets: Mapping[str, Sequence[socket.socket]] | None = None,
        store: Store | None = None,
        *,
        processes: int = 1,
        around: Around = as_it_is,
    ) -> None:
        self.draining = False
        """Whether the gateway ends, and new users should go elsewhere."""
        self.node = Node(self._kicked, store)
        """What this process shares with others."""
        self._path = path
        self._observer = observer or Observer()
        self._processes = processes
        self._around = around
        self._sockets = None if sockets is None else dict(sockets)
        self._counts: Counts = {}
        self._lines = Sparingly()
        self._unsaid = 0
        """Connections that were turned away since the last line about one."""
        self._relaying: set[Connection] = set()
        self._plan: Plan | None = None
        self._servers: dict[str, list[CredSSPServer]] = {}
        self._oracles: dict[str, WinbindOracle] = {}
        self._retired: list[CredSSPServer] = []
        """Servers of addresses that the settings have no more. Their connections go on."""
        self._connections: set[Connection] = set()
        self._one_ended = asyncio.Event()
        self._changing = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        """The checks of the targets' hosts."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            await self.abort()

    @property
    def plan(self) -> Plan:
        """The plan that new connections go by."""
        assert self._plan is not None
        return self._plan

    @property
    def connections(self) -> frozenset[Connection]:
        """The connections that have not ended, handshakes included."""
        return frozenset(self._connections)

    @property
    def addresses(self) -> list[str]:
        """The addresses that are listened on."""
        sockets = [each.getsockname()[:2] for server in self._all_servers() for each in server.sockets]
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in sockets]

    async def start(self, before: Callable[[], None] = lambda: None) -> None:
        """Read the settings and listen.

        Args:
            before: Called when everything is ready, before the first connection is accepted.

        Raises:
            SettingsError: The settings cannot be used, or an address cannot be listened on. Nothing listens.
        """
        self.draining = False
        await self.reload(before)

    async def reload(self, before: Callable[[], None] = lambda: None) -> None:
        """Read the settings again, for the connections to come. Those that are there go on by what they began with.

        Args:
            before: Called before connections are accepted on new addresses.

        Raises:
            SettingsError: The settings cannot be used, or an address cannot be listened on. Nothing has changed.
        """
        async with self._changing:
            plan = await make_plan(self._path, self._oracles, self._around)
            if self.draining:
                raise SettingsError(["the gateway ends, and takes no other settings"])
            self._check_bound(plan)
            added = await self._listen(plan, [address for address in plan.listeners if address not in self._servers])
            self.node.use(plan.store, plan.settings.run.node)
            self._watch(plan, before=self._plan)
            self._plan = plan
            gone = [address for address in self._servers if address not in plan.listeners]
            for address in gone:
                for server in self._servers.pop(address):
                    self._retired.append(server)
                    server.close()
            self._servers |= added
            before()
            problems = Problems()
            for address, servers in added.items():
                with problems.at(f"listener {address}"):  # another one may have all addresses of its port
                    for server in servers:
                        await server.start_serving()
            problems.check()

    async def stop(self) -> int:
        """Drain: stop listening once `run.leave` is over, and wait for the connections to end for `run.grace` seconds.

        Returns:
            How many connections were cut.
        """
        self.draining = True
        run = self.plan.settings.run
        await asyncio.sleep(run.leave)
        await self._stop_listening()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(run.grace):
                await self._wait_closed()
        return await self.abort()

    async def abort(self) -> int:
        """End at once, also where `start` has failed or `stop` was cancelled.

        Returns:
            How many connections were cut.
        """
        self.draining = True
        await self._stop_listening()
        cut = self.connections
        for connection in cut:
            connection.cut("drained")
        for server in self._all_servers():
            server.abort_clients()
        await self._wait_closed()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        for oracle in self._oracles.values():
            await oracle.aclose()
        await self.node.close()
        return len(cut)

    async def _stop_listening(self) -> None:
        async with self._changing:  # a reload that has begun may still add a server
            for server in self._all_servers():
                server.close()

    def _watch(self, plan: Plan, before: Plan | None) -> None:
        """Check the hosts of the plan's targets from now on, and go on with what is known of them."""
        for name, target in plan.targets.items():
            if before is not None and name in before.targets:
                target.pool.take_over(before.targets[name].pool)
                before.targets[name].pool.directory = plan.store
            target.pool.directory = plan.store
        if self._watching is not None:
            self._watching.cancel()
        self._watching = asyncio.get_running_loop().create_task(_watch(plan))

    async def _wait_closed(self) -> None:
        for server in self._all_servers():
            await server.wait_closed()
        while self._connections:  # the last lines of those whose bytes have ended
            self._one_ended.clear()
            await self._one_ended.wait()

    def _all_servers(self) -> Iterable[CredSSPServer]:
        return [*(server for servers in self._servers.values() for server in servers), *self._retired]

    # --- listeners ---

    def _check_bound(self, plan: Plan) -> None:
        """See that no setting has changed that a listener takes as it begins to listen.

        Raises:
            SettingsError: One has.
        """
        problems = Problems()
        plan.settings.check_shared(problems, self._processes)
        for name in ("admin", "api"):
            if self._plan and getattr(self._plan.settings, name) != getattr(plan.settings, name):
                problems.add(name, "expected no change without a restart")
        for number, (address, listener) in enumerate(plan.listeners.items()):
            before = self._plan.listeners.get(address) if self._plan else None
            for name in _BOUND:
                if before is not None and getattr(before.settings, name) != getattr(listener.settings, name):
                    problems.add(f"listeners[{number}].{name}", "expected no change without a restart")
        problems.check()

    async def _listen(self, plan: Plan, addresses: list[str]) -> Mapping[str, list[CredSSPServer]]:
        """Bind addresses that nobody is served on yet: all of them, or none."""
        servers: dict[str, list[CredSSPServer]] = {}
        problems = Problems()
        try:
            for number, address in enumerate(plan.listeners):
                if address in addresses:
                    with problems.at(f"listeners[{number}].address"):
                        servers[address] = await self._listen_on(plan, address)
            problems.check()
        except BaseException:  # cancelled, too: an address may be bound already
            for server in [server for listening in servers.values() for server in listening]:
                server.close()
            raise
        return servers

    async def _listen_on(self, plan: Plan, address: str) -> list[CredSSPServer]:
        listen = plan.listeners[address].settings.address
        if self._sockets is None:
            return [await self._server(plan, address, host=listen.host, port=listen.port)]
        if address not in self._sockets:
            raise ValueError("expected no new address without a restart of the workers: send SIGUSR2")
        return [await self._server(plan, address, sock=each) for each in self._sockets.pop(address)]

    async def _server(self, plan: Plan, address: str, **where: Any) -> CredSSPServer:
        listener, limits = plan.listeners[address], plan.settings.limits
        carriage = RDP(route=_route, allow_preconnection=listener.settings.preconnection)
        return await create_server(
            self._protocol,
            config=listener.answer.config,
            carriage=self._around(carriage, f"listener {address}"),
            proxy_protocol=listener.settings.proxy_protocol,
            accept=functools.partial(self._accept, address),
            on_handshake=functools.partial(self._handshake_ended, address),
            start_serving=False,
            max_handshakes=limits.handshakes,
            max_handshakes_per_source=limits.handshakes_per_source,
            max_failures=FailureLimit(limits.failures, limits.failures_window),
            max_failed_per_second=limits.failed_per_second,
            **where,
        )

    def _accept(self, address: str, peer: object) -> Connection | Deny:
        listener = self.plan.listeners.get(address)
        if listener is None:  # taken out of the settings while the connection waited for its turn
            return Deny()
        slot = Slot(self._counts, self.plan.settings.limits)
        connection = Connection(listener, peer, slot, self.node, self._ended)
        self._connections.add(connection)
        try:
            connection.begin()
        except Limited:
            return Deny()
        self._observer.now_open(self._count)
        return connection

    def _handshake_ended(self, address: str, report: HandshakeReport) -> None:
        self._observer.handshake(report)
        connection: Connection | None = report.session
        if connection is None:
            self._turned_away(address, report)
        else:
            if report.error is None:
                self._relaying.add(connection)
            connection.handshake_ended(report)
            self._observer.now_open(self._count)

    def _turned_away(self, address: str, report: HandshakeReport) -> None:
        """Tell of a connection that the library ended before there was a `Connection`; one line a second at most."""
        if report.hook or report.outcome in _QUIET:  # `_accept` has told why it refused
            return
        self._unsaid += 1
        if not self._lines.lets(asyncio.get_running_loop().time()):
            return
        more = f" (one of {self._unsaid} such connections)" if self._unsaid > 1 else ""
        self._unsaid = 0
        log_record(
            ConnectionRecord(
                connection_id=report.connection_id,
                listener=address,
                peer=report.peer_address,
                outcome=str(report.outcome),
                reason=f"{report.error}{more}",
                limit=limit_of(report),
            )
        )

    def _kicked(self, kick: Kick) -> None:
        for connection in self.connections:
            if connection.is_meant(kick):
                connection.cut("kicked")

    def _ended(self, connection: Connection, record: ConnectionRecord) -> None:
        self._connections.discard(connection)
        self._one_ended.set()
        self._relaying.discard(connection)
        self._observer.ended(record)
        self._observer.now_open(self._count)

    def _count(self) -> tuple[int, int]:
        relays = len(self._relaying)
        return len(self._connections) - relays, relays

    def _protocol(self) -> asyncio.BaseProtocol:
        loop = asyncio.get_running_loop()
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), _serve, loop=loop)


async def _watch(plan: Plan) -> None:
    await asyncio.gather(*(target.pool.watch() for target in plan.targets.values()))


def _route(asked: RouteRequest) -> RouteAnswer | Awaitable[RouteAnswer]:
    connection: Connection = asked.session
    return connection.route(asked)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection: Connection = writer.get_extra_info("session")
    await connection.serve(reader, writer)

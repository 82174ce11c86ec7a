"""The gateway as one process: its listeners, their plan, reload and drain. Each connection is a `Connection`."""

import asyncio
import functools
import pathlib
import signal
from collections.abc import Callable, Mapping
from typing import Final

from acredssp import RDP, HandshakeReport, create_server
from acredssp.aio import CredSSPServer, WinbindOracle
from acredssp.credentials import Deny
from acredssp.proxy.connection import Connection, ConnectionRecord, log_record
from acredssp.proxy.plan import Plan, make_plan
from acredssp.proxy.settings import Problems, SettingsError
from acredssp.rdp import FailureCode, RDPRoute, RouteRequest

__all__ = ["Gateway", "run"]

_BOUND: Final = ("handshake_timeout", "preconnection", "proxy_protocol")
"""Settings of a listener that hold from when it begins to listen."""


class Gateway:
    """The listeners of a settings file, and the connections that came by them.

    Args:
        path: The settings file.
        on_end: Called with the record of each connection that has ended.
    """

    def __init__(self, path: pathlib.Path, on_end: Callable[[ConnectionRecord], object] = log_record) -> None:
        self._path = path
        self._on_end = on_end
        self._plan: Plan | None = None
        self._servers: dict[str, CredSSPServer] = {}
        self._oracles: dict[str, WinbindOracle] = {}
        self._retired: list[CredSSPServer] = []
        """Servers of addresses that the settings have no more. Their connections go on."""
        self._connections: set[Connection] = set()
        self._one_ended = asyncio.Event()
        self._changing = asyncio.Lock()

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
        sockets = [each.getsockname()[:2] for server in self._servers.values() for each in server.sockets]
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in sockets]

    async def start(self) -> None:
        """Read the settings and listen.

        Raises:
            SettingsError: The settings cannot be used, or an address cannot be listened on. Nothing listens.
        """
        await self.reload()

    async def reload(self) -> None:
        """Read the settings again, for the connections to come. Those that are there go on by what they began with.

        Raises:
            SettingsError: The settings cannot be used, or an address cannot be listened on. Nothing has changed.
        """
        async with self._changing:
            plan = await make_plan(self._path, self._oracles)
            self._check_bound(plan)
            added = await self._listen(plan, [address for address in plan.listeners if address not in self._servers])
            self._plan = plan
            gone = [address for address in self._servers if address not in plan.listeners]
            for address in gone:
                self._retired.append(self._servers.pop(address))
                self._retired[-1].close()
            self._servers |= added
            for server in added.values():
                await server.start_serving()

    async def stop(self) -> int:
        """Stop listening, and wait for the connections to end, for as long as the settings' `grace` says.

        Returns:
            How many connections were cut.
        """
        for server in self._servers.values():
            server.close()
        try:
            async with asyncio.timeout(self.plan.settings.run.grace):
                await self._wait_closed()
        except TimeoutError:
            cut = len(self._connections)
            for server in (*self._servers.values(), *self._retired):
                server.abort_clients()
            await self._wait_closed()
        else:
            cut = 0
        for oracle in self._oracles.values():
            await oracle.aclose()
        return cut

    async def _wait_closed(self) -> None:
        for server in (*self._servers.values(), *self._retired):
            await server.wait_closed()
        while self._connections:  # the last lines of those whose bytes have ended
            self._one_ended.clear()
            await self._one_ended.wait()

    # --- listeners ---

    def _check_bound(self, plan: Plan) -> None:
        """See that no setting has changed that a listener takes as it begins to listen.

        Raises:
            SettingsError: One has.
        """
        problems = Problems()
        for number, (address, listener) in enumerate(plan.listeners.items()):
            before = self._plan.listeners.get(address) if self._plan else None
            for name in _BOUND:
                if before is not None and getattr(before.settings, name) != getattr(listener.settings, name):
                    problems.add(f"listeners[{number}].{name}", "expected no change without a restart")
        problems.check()

    async def _listen(self, plan: Plan, addresses: list[str]) -> Mapping[str, CredSSPServer]:
        """Bind addresses that nobody is served on yet: all of them, or none."""
        servers: dict[str, CredSSPServer] = {}
        problems = Problems()
        for number, address in enumerate(plan.listeners):
            if address in addresses:
                with problems.at(f"listeners[{number}].address"):
                    servers[address] = await self._server(plan, address)
        try:
            problems.check()
        except SettingsError:
            for server in servers.values():
                server.close()
            raise
        return servers

    async def _server(self, plan: Plan, address: str) -> CredSSPServer:
        listener = plan.listeners[address]
        return await create_server(
            self._protocol,
            listener.settings.address.host,
            listener.settings.address.port,
            config=listener.config,
            carriage=RDP(route=_route, allow_preconnection=listener.settings.preconnection),
            proxy_protocol=listener.settings.proxy_protocol,
            accept=functools.partial(self._accept, address),
            on_handshake=_handshake_ended,
            start_serving=False,
        )

    def _accept(self, address: str, peer: object) -> Connection | Deny:
        listener = self.plan.listeners.get(address)
        if listener is None:  # taken out of the settings while the connection waited for its turn
            return Deny()
        connection = Connection(listener, peer, self._ended)
        self._connections.add(connection)
        return connection

    def _ended(self, connection: Connection, record: ConnectionRecord) -> None:
        self._connections.discard(connection)
        self._one_ended.set()
        self._on_end(record)

    def _protocol(self) -> asyncio.BaseProtocol:
        loop = asyncio.get_running_loop()
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), _serve, loop=loop)


def _route(asked: RouteRequest) -> RDPRoute | FailureCode:
    connection: Connection = asked.session
    return connection.route(asked)


def _handshake_ended(report: HandshakeReport) -> None:
    connection: Connection | None = report.session
    if connection is not None:
        connection.handshake_ended(report)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection: Connection = writer.get_extra_info("session")
    await connection.serve(reader, writer)


# --- the process ---


async def run(path: pathlib.Path, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, and read the settings again at SIGHUP.

    Args:
        path: The settings file.
        tell: Told what an operator should know, a line each.

    Raises:
        SettingsError: The settings cannot be used at the start.
    """
    gateway, loop, stop = Gateway(path), asyncio.get_running_loop(), asyncio.Event()
    await gateway.start()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(gateway, tell))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    tell(f"listening on {', '.join(gateway.addresses)}")
    await stop.wait()
    tell(f"stopping: {len(gateway.connections)} connections get {gateway.plan.settings.run.grace:g} seconds to end")
    cut = await gateway.stop()
    tell(f"stopped: {cut} connections were cut")


async def _reload(gateway: Gateway, tell: Callable[[str], None]) -> None:
    try:
        await gateway.reload()
    except SettingsError as error:
        for problem in error.problems:
            tell(f"the settings are not taken: {problem}")
        tell("nothing has changed")
    else:
        tell(f"the settings are taken: listening on {', '.join(gateway.addresses)}")

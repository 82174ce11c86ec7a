"""`acredssp serve`: a server that lets users of a file or of winbind log on, and reports how each handshake went.

There is no desktop behind it: with the carriage TLS it echoes what it receives, with RDP it closes the connection.
"""

import asyncio
import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, Unpack

from rich.console import Console
from rich.markup import escape

from acredssp.aio.failures import FailureLimit
from acredssp.aio.report import HandshakeOutcome, HandshakeReport, Sparingly
from acredssp.aio.server import CredSSPServer
from acredssp.aio.streams import ListenOptions, create_server
from acredssp.aio.winbind import WinbindOracle, check_winbindd, machine_identity
from acredssp.carriage.base import TLS, Carriage
from acredssp.cli import loops
from acredssp.cli.arguments import Address
from acredssp.cli.certificate import Certificate
from acredssp.cli.domains import Domains
from acredssp.cli.door import Accounts, Anybody, Refused, TicketHolders, WinbindUsers
from acredssp.cli.outcome import ConnectError, UsageError, reason_of
from acredssp.cli.output import OutputError, abandon
from acredssp.cli.render import label, printable
from acredssp.cli.report import ServeReport, now, to_json
from acredssp.cli.users import Users
from acredssp.cli.workers import Sockets, Supervisor, Worker, bind
from acredssp.config import ServerConfig
from acredssp.credentials import Keytab
from acredssp.errors import CredSSPError, PolicyError
from acredssp.hooks import LookupHook
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.policy import Policy
from acredssp.status import Stage

__all__ = ["Limits", "Serve", "serve", "serve_by_workers"]

_DRAIN: Final = 10.0
"""Seconds that handshakes in flight get once we are told to stop."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one process on what its clients may take."""

    handshakes: int | None
    """The most handshakes at a time; None for no limit."""
    per_source: int | None
    """The most handshakes at a time from one source; None for no limit."""
    failures: FailureLimit | None
    """How many wrong passwords a source may send for an account; None for no limit."""
    handshake_timeout: float
    """Seconds for one handshake."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """What a server does."""

    address: Address
    """The address to listen on; port 0 for any free port."""
    accounts: Users | WinbindOracle | None
    """None where nobody logs on by NTLM."""
    keytab: Keytab | None
    """None where nobody logs on by Kerberos."""
    realms: Sequence[str]
    """The realms whose tickets are taken."""
    refuse: Sequence[str]
    """The accounts that are turned away after their logon, as `Refused` reads them."""
    certificate: Certificate
    carriage: Carriage
    policy: Policy
    limits: Limits
    as_json: bool

    def config(self) -> ServerConfig:
        """Make the server's configuration; raises `UsageError` if the certificate or winbind cannot be used."""
        accounts = self.accounts
        if isinstance(accounts, WinbindOracle):
            identity = self._machine(accounts)
            netbios, dns = identity.netbios_domain, identity.dns_domain
            known = WinbindUsers(accounts, Domains({dns: netbios} if netbios and dns else {}))
            return dataclasses.replace(self._server_config(known, known.lookup), identity=identity)
        if accounts is None:
            return self._server_config(Anybody(), None)
        return self._server_config(accounts, accounts.lookup)

    def _machine(self, winbind: WinbindOracle) -> NTLMIdentity:
        try:
            identity = machine_identity(winbind.command, winbind.timeout)
            check_winbindd(winbind.command, identity, winbind.timeout)
        except OSError as error:
            reason = f"{winbind.command[0]}: {reason_of(error)}" if error.errno else str(error)
            raise UsageError(f"cannot ask winbind: {reason}") from None
        return identity

    def _server_config(self, accounts: Accounts, lookup: LookupHook | None) -> ServerConfig:
        by_ticket = TicketHolders(accounts, self.realms).authorize if self.keytab is not None else None
        try:
            return self.certificate.server_config(
                self.policy,
                lookup=lookup,
                keytab=self.keytab,
                authorize=by_ticket,
                admit=Refused(self.refuse, accounts).admit,
            )
        except PolicyError as error:
            raise UsageError(str(error)) from None
        except ValueError:
            raise UsageError(f"nobody can log on by {self.policy.mechanism.value} with what is given") from None


async def serve(task: Serve, config: ServerConfig, console: Console, warn: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        ConnectError: The address cannot be listened on.
        OutputError: Nobody can be told that the server listens.
    """
    stop = asyncio.Event()
    lines = _Lines(console, warn, as_json=task.as_json)
    service = _Service(task, config, lines)
    address = task.address
    try:
        server = await service.listen(host=address.host, port=address.port)
    except OSError as error:
        raise _cannot_listen(address, error) from None
    _on_signals(stop.set, signal.SIGTERM, signal.SIGINT)
    try:
        lines.listening(_bound(server.sockets, address), task.certificate.pin)
        await stop.wait()
    finally:
        await service.drain()
    lines.end()


def serve_by_workers(
    task: Serve, config: ServerConfig, console: Console, *, count: int, warn: Callable[[str], None]
) -> int:
    """Serve by so many processes until SIGTERM or SIGINT, then drain; return the exit status, see `Supervisor.run`.

    Raises:
        ConnectError: The address cannot be listened on.
        OutputError: Nobody can be told that the server listens.
    """
    try:
        places = bind(task.address, count)
    except OSError as error:
        raise _cannot_listen(task.address, error) from None

    def work(worker: Worker) -> int:
        loops.run(_serve_as(worker, task, config, console, warn))
        return 0

    def ready() -> None:
        lines = _Lines(console, warn, as_json=task.as_json)
        lines.listening(_bound(places[0], task.address), task.certificate.pin)

    supervisor = Supervisor(places, work, on_ready=ready, warn=warn)
    return supervisor.run()


async def _serve_as(
    worker: Worker, task: Serve, config: ServerConfig, console: Console, warn: Callable[[str], None]
) -> None:
    """Serve in a worker's process until the supervisor or SIGTERM says stop, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        loop.remove_reader(worker.lifeline)
        stop.set()

    service = _Service(task, config, _Lines(console, warn, as_json=task.as_json, worker=worker))
    servers = [await service.listen(sock=listener, start_serving=False) for listener in worker.sockets]
    _on_signals(stop.set, signal.SIGTERM)
    worker.ready()
    loop.add_reader(worker.lifeline, told)
    for server in servers:
        await server.start_serving()
    await stop.wait()
    await service.drain()


def _cannot_listen(address: Address, error: OSError) -> ConnectError:
    return ConnectError(
        f"cannot listen on {address}: {reason_of(error)}",
        stage=Stage.CONNECT,
        hint="choose another --listen HOST:PORT",
    )


def _bound(listeners: Sockets, address: Address) -> Address:
    """The address with the port that it came to."""
    assert hasattr(listeners[0], "getsockname")  # uvloop's are no sockets
    return Address(address.host, listeners[0].getsockname()[1])


def _on_signals(stop: Callable[[], None], *numbers: signal.Signals) -> None:
    """Call `stop` on the first signal; a second one has its usual effect."""
    loop = asyncio.get_running_loop()

    def caught() -> None:
        stop()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C interrupts the loop instead
            loop.add_signal_handler(number, caught)


class _Service:
    """The servers of one process, and what is behind them."""

    def __init__(self, task: Serve, config: ServerConfig, lines: "_Lines") -> None:
        self._task = task
        self._config = config
        self._lines = lines
        self._applications = _Applications(echo=isinstance(task.carriage, TLS))
        self._servers: list[CredSSPServer] = []

    async def listen(
        self, host: str | None = None, port: int | None = None, **options: Unpack[ListenOptions]
    ) -> CredSSPServer:
        """Accept connections, from an address or a socket; raises OSError."""
        limits = self._task.limits
        server = await create_server(
            self._applications.new,
            host,
            port,
            config=self._config,
            carriage=self._task.carriage,
            handshake_timeout=limits.handshake_timeout,
            max_handshakes=limits.handshakes,
            max_handshakes_per_source=limits.per_source,
            max_failures=limits.failures,
            on_handshake=self._lines.handshake,
            **options,
        )
        self._servers.append(server)
        return server

    async def drain(self) -> None:
        """Accept no more, let the handshakes in flight end, and close what is established."""
        for server in self._servers:
            server.close()
        self._applications.close()
        try:
            async with asyncio.timeout(_DRAIN):
                await self._ended()
        except TimeoutError:
            for server in self._servers:
                server.abort_clients()
            await self._ended()
        if isinstance(self._task.accounts, WinbindOracle):
            await self._task.accounts.aclose()

    async def _ended(self) -> None:
        for server in self._servers:
            await server.wait_closed()


class _Lines:
    """Prints a line a handshake, for people or for scripts."""

    def __init__(
        self, console: Console, warn: Callable[[str], None], *, as_json: bool, worker: Worker | None = None
    ) -> None:
        self._console = console
        self._warn = warn
        self._as_json = as_json
        self._worker = worker
        self._limited = Sparingly()
        self._lost = 0
        """Lines that could not be written since the last one that could."""

    def listening(self, address: Address, pin: str) -> None:
        """Say that we are ready; raises `OutputError` where nobody can be told."""
        if self._as_json:
            self._write(json.dumps({"listening": str(address), "peer_key_sha256": pin, "time": now()}))
        else:
            self._write(f"listening on [bold]{escape(str(address))}[/], key pin {pin}")

    def handshake(self, report: HandshakeReport) -> None:
        """Say how one handshake went: the server's `on_handshake`.

        A load balancer's probe is none, and of the connections that a limit turns away one a second will do.
        """
        if report.outcome is HandshakeOutcome.NO_DATA:
            return
        if report.outcome is HandshakeOutcome.LIMITED and report.info is None and not self._limited.lets(monotonic()):
            return
        line = ServeReport.of(report, worker=self._worker.number if self._worker else None)
        try:
            self._write(to_json(line) if self._as_json else _sentence(line, report.error))
        except OutputError as error:  # the reader has gone, or the disk is full: that is no reason to serve nobody
            if not self._lost:
                self._warn(f"{self._who()}{error}: serving goes on without a line for each handshake")
            self._lost += 1
        else:
            if self._lost:
                self._warn(f"{self._who()}the output can be written again: {self._lost} lines are lost")
            self._lost = 0

    def end(self) -> None:
        """Drop what could not be written: that has been said already."""
        if self._lost:
            abandon()

    def _who(self) -> str:
        return f"worker {self._worker.number}: " if self._worker else ""

    def _write(self, line: str) -> None:
        with self._worker.turn() if self._worker else contextlib.nullcontext():
            if self._as_json:
                self._console.file.write(line + "\n")
            else:
                self._console.print(line, soft_wrap=True)
            self._console.file.flush()


def _sentence(line: ServeReport, error: CredSSPError | None) -> str:
    name = line.principal or "nobody"
    if line.account not in {None, name}:
        name += f" ({line.account})"
    who = f"{escape(printable(name))} from {escape(line.peer or 'somewhere')}"
    if error is None:
        what = f"{line.mechanism}, version {line.credssp_version}, delegated {line.delegated}"
    else:
        status = f", {line.nt_status}" if line.nt_status else ""
        hint = f" ({printable(error.hint)})" if error.hint else ""
        what = f"{printable(error.message)} at {line.stage}{status}{hint}"
    where = f", worker {line.worker}" if line.worker else ""
    return f"{label(line.result)} {who}: {escape(what)}, {line.elapsed_ms:.1f} ms{where}"


class _Applications:
    """What is behind the logons: makes the protocols, and closes their connections when the server stops."""

    def __init__(self, *, echo: bool) -> None:
        self._echo = echo
        self._open: set[asyncio.Transport] = set()
        self._closing = False

    def new(self) -> asyncio.Protocol:
        """Make the protocol of one connection."""
        return _Application(self)

    def made(self, transport: asyncio.Transport) -> None:
        """Take a connection in, or close it if there is nothing more to do with it."""
        if self._closing or not self._echo:
            transport.close()
        else:
            self._open.add(transport)

    def lost(self, transport: asyncio.Transport) -> None:
        """Forget a connection."""
        self._open.discard(transport)

    def close(self) -> None:
        """Close every connection, and those to come."""
        self._closing = True
        for transport in [*self._open]:
            transport.close()


class _Application(asyncio.Protocol):
    """Sends back what comes; reads no faster than the peer does."""

    _transport: asyncio.Transport

    def __init__(self, applications: _Applications) -> None:
        self._applications = applications

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._applications.made(transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        self._applications.lost(self._transport)

"""`acredssp serve`: an acceptor that logs on whom a file allows, and says how each handshake went.

No desktop is behind it: with the bare TLS carriage it echoes, with RDP it closes cleanly.
"""

import asyncio
import contextlib
import dataclasses
import json
import signal
from typing import Final

from rich.console import Console
from rich.markup import escape

from acredssp.aio.server import CredSSPServer, HandshakeReport
from acredssp.aio.streams import create_server
from acredssp.carriage.base import TLS, Carriage
from acredssp.cli.arguments import Address
from acredssp.cli.certificate import Certificate
from acredssp.cli.outcome import ConnectError, reason_of
from acredssp.cli.render import label, printable
from acredssp.cli.report import ServeReport, to_json
from acredssp.cli.users import Users
from acredssp.config import ServerConfig
from acredssp.core.context import HandshakeInfo
from acredssp.errors import CredSSPError
from acredssp.policy import Policy
from acredssp.status import Stage

__all__ = ["Refused", "Serve", "serve"]

_DRAIN: Final = 10.0
"""Seconds that handshakes in flight get once we are told to stop."""


class Refused:
    r"""Users who log on with the right password and are turned away all the same.

    Args:
        names: `USER` for one of any domain, or `DOMAIN\USER`.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = {name.casefold() for name in names}

    def admit(self, info: HandshakeInfo) -> bool:
        """Whether who logged on may come in."""
        principal = info.principal
        return principal is not None and self._names.isdisjoint({str(principal).casefold(), principal.user.casefold()})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """What to do."""

    address: Address
    """Where to listen; port 0 for any free one."""
    users: Users
    refused: Refused
    certificate: Certificate
    carriage: Carriage
    policy: Policy
    as_json: bool

    def config(self) -> ServerConfig:
        """Make the server's configuration; raises `UsageError` if the certificate does not do."""
        return self.certificate.server_config(self.policy, lookup=self.users.lookup, admit=self.refused.admit)


async def serve(task: Serve, config: ServerConfig, console: Console) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        ConnectError: The address cannot be listened on.
    """
    stop = asyncio.Event()
    lines = _Lines(console, stop, as_json=task.as_json)
    applications = _Applications(echo=isinstance(task.carriage, TLS))
    address = task.address
    try:
        server = await create_server(
            applications.new,
            address.host,
            address.port,
            config=config,
            carriage=task.carriage,
            on_handshake=lines.handshake,
        )
    except OSError as error:
        raise ConnectError(
            f"cannot listen on {address}: {reason_of(error)}",
            stage=Stage.CONNECT,
            hint="choose another --listen HOST:PORT",
        ) from None
    _stop_on_signals(stop)
    lines.listening(_bound(server, address), task.certificate.pin)
    await stop.wait()
    await _drain(server, applications)


def _bound(server: CredSSPServer, address: Address) -> Address:
    """The address with the port that it came to."""
    listener = server.sockets[0]
    assert hasattr(listener, "getsockname")
    return Address(address.host, listener.getsockname()[1])


def _stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on the first signal; a second one has its usual effect."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def caught() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C interrupts the loop instead
            loop.add_signal_handler(number, caught)


async def _drain(server: CredSSPServer, applications: "_Applications") -> None:
    """Accept no more, let the handshakes in flight end, and close what is established."""
    server.close()
    applications.close()
    try:
        async with asyncio.timeout(_DRAIN):
            await server.wait_closed()
    except TimeoutError:
        server.abort_clients()
        await server.wait_closed()


class _Lines:
    """Prints a line a handshake, for people or for scripts."""

    def __init__(self, console: Console, stop: asyncio.Event, *, as_json: bool) -> None:
        self._console = console
        self._stop = stop
        self._as_json = as_json

    def listening(self, address: Address, pin: str) -> None:
        """Say that we are ready."""
        if self._as_json:
            self._print(json.dumps({"listening": str(address), "peer_key_sha256": pin}))
        else:
            self._print(f"listening on [bold]{escape(str(address))}[/], key pin {pin}")

    def handshake(self, report: HandshakeReport) -> None:
        """Say how one handshake went: the server's `on_handshake`."""
        line = ServeReport.of(report)
        self._print(to_json(line) if self._as_json else _sentence(line, report.error))

    def _print(self, line: str) -> None:
        try:
            if self._as_json:
                self._console.file.write(line + "\n")
            else:
                self._console.print(line, soft_wrap=True)
            self._console.file.flush()
        except OSError:  # nobody reads any longer
            self._stop.set()


def _sentence(line: ServeReport, error: CredSSPError | None) -> str:
    who = f"{escape(printable(line.principal or 'nobody'))} from {escape(line.peer or 'somewhere')}"
    if error is None:
        what = f"{line.mechanism}, version {line.credssp_version}, delegated {line.delegated}"
    else:
        status = f", {line.nt_status}" if line.nt_status else ""
        what = f"{printable(error.message)} at {line.stage}{status}"
    return f"{label(line.result)} {who}: {escape(what)}, {line.elapsed_ms:.1f} ms"


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

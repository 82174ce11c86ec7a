"""The servers of one process of `acredssp serve`, and the protocols behind the logons that they let in.

No desktop is behind a logon. With the carriage TLS, a connection's protocol echoes what it receives. With RDP, it
closes the connection.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import Final, Unpack

from acredssp.accounts import Accounts, Anybody, Domains, TicketHolders, Users, WinbindUsers
from acredssp.aio import (
    CredSSPServer,
    FailureLimit,
    HandshakeReport,
    ListenOptions,
    WinbindOracle,
    create_server,
    reason_of,
)
from acredssp.aio.winbind import machine_identity
from acredssp.carriage import TLS, Carriage
from acredssp.cli.certificate import Certificate
from acredssp.cli.door import Refused
from acredssp.cli.outcome import UsageError
from acredssp.config import NTLMIdentity, ServerConfig
from acredssp.credentials import Keytab
from acredssp.errors import PolicyError
from acredssp.hooks import LookupHook
from acredssp.policy import Policy
from acredssp.recording import Recording, RecordingCarriage
from acredssp.workers import Address

__all__ = ["Limits", "Serve", "Service"]

_DRAIN: Final = 10.0
"""Seconds that handshakes in flight get to end once the server is told to stop."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits that one process sets on its clients."""

    handshakes: int | None
    """The most handshakes at a time; None for no limit."""
    per_source: int | None
    """The most handshakes at a time from one source; None for no limit."""
    failures: FailureLimit | None
    """How many wrong passwords a source may send for an account; None for no limit."""
    failed_per_second: int | None
    """How many handshakes of a source may fail in a second before its connections wait; None for no limit."""
    handshake_timeout: float
    """Seconds for one handshake."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """The task of a server: where it listens, who may log on, and how."""

    address: Address
    """The address to listen on; port 0 takes any free port."""
    accounts: Users | WinbindOracle | None
    """The accounts for logons by NTLM; None if nobody may log on by NTLM."""
    keytab: Keytab | None
    """The service's keys for logons by Kerberos; None if nobody may log on by Kerberos."""
    realms: Sequence[str]
    """The realms whose tickets are accepted."""
    refuse: Sequence[str]
    """The names of the accounts that are turned away after their logon, as `Refused` reads them."""
    certificate: Certificate
    carriage: Carriage
    policy: Policy
    limits: Limits
    as_json: bool
    load_balancers: Sequence[str] = ()
    """The networks whose connections begin with a PROXY header."""
    record: Callable[[Recording], None] | None = None
    """Called with the record of each handshake; None records nothing."""

    def config(self) -> ServerConfig:
        """Make the server's configuration.

        Raises:
            UsageError: The certificate or winbind cannot be used, or nobody could log on.
        """
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
        except OSError as error:
            reason = f"{winbind.command[0]}: {reason_of(error)}" if error.errno else str(error)
            raise UsageError(f"cannot ask winbind: {reason}") from None
        return identity

    def _server_config(self, accounts: Accounts, lookup: LookupHook | None) -> ServerConfig:
        by_ticket = (
            TicketHolders(accounts, self.realms, "--allow-realm", "--users").authorize
            if self.keytab is not None
            else None
        )
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
            raise UsageError(
                f"nobody can log on with --mechanism {self.policy.mechanism.value} and the accounts of these options: "
                "NTLM needs --users FILE or --winbind, Kerberos needs --keytab FILE"
            ) from None


class Service:
    """The servers of one process, and the applications behind them.

    Args:
        task: The server's task.
        config: The configuration that `task` made.
        on_handshake: Called with the report of each handshake.
    """

    def __init__(self, task: Serve, config: ServerConfig, on_handshake: Callable[[HandshakeReport], None]) -> None:
        self._task = task
        self._config = config
        self._on_handshake = on_handshake
        self._applications = _Applications(echo=isinstance(task.carriage, TLS))
        self._servers: list[CredSSPServer] = []

    async def listen(
        self, host: str | None = None, port: int | None = None, **options: Unpack[ListenOptions]
    ) -> CredSSPServer:
        """Accept connections on an address, or on a listening socket given as `sock=`.

        Raises:
            OSError: The address cannot be listened on.
        """
        limits, carriage = self._task.limits, self._task.carriage
        if self._task.record is not None:
            carriage = RecordingCarriage(carriage, self._task.record)
        server = await create_server(
            self._applications.new,
            host,
            port,
            config=self._config,
            carriage=carriage,
            handshake_timeout=limits.handshake_timeout,
            max_handshakes=limits.handshakes,
            max_handshakes_per_source=limits.per_source,
            max_failures=limits.failures,
            max_failed_per_second=limits.failed_per_second,
            proxy_protocol=self._task.load_balancers,
            on_handshake=self._on_handshake,
            **options,
        )
        self._servers.append(server)
        return server

    async def drain(self) -> None:
        """Stop accepting, let the handshakes in flight end, and close the established connections."""
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


class _Applications:
    """The applications behind the logons: makes their protocols, and closes their connections when the server stops."""

    def __init__(self, *, echo: bool) -> None:
        self._echo = echo
        self._open: set[asyncio.Transport] = set()
        self._closing = False

    def new(self) -> asyncio.Protocol:
        """Make the protocol for one connection."""
        return _Application(self)

    def made(self, transport: asyncio.Transport) -> None:
        """Keep a connection open for its echo, or close it if there is no echo or the server is stopping."""
        if self._closing or not self._echo:
            transport.close()
        else:
            self._open.add(transport)

    def lost(self, transport: asyncio.Transport) -> None:
        """Forget a connection."""
        self._open.discard(transport)

    def close(self) -> None:
        """Close every open connection, and every later one as soon as it is made."""
        self._closing = True
        for transport in [*self._open]:
            transport.close()


class _Application(asyncio.Protocol):
    """A protocol that sends back what it receives; it stops reading while the peer does not read."""

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

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the connection is over, whatever ended it
        self._applications.lost(self._transport)

"""One handshake on asyncio, of a client or a server, from a connection to the application's transport.

acredssp has just accepted or made the connection, or the application gave it. However the `Handshake` ends, one report
says how.

`streams` and `server` call this module.
"""

import asyncio
import dataclasses
import functools
import secrets
from collections.abc import Callable

from acredssp.aio.answers import ClientAnswers, ServerAnswers
from acredssp.aio.driver import establish
from acredssp.aio.passing import pass_on
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.report import HandshakeHook, HandshakeOutcome, HandshakeReport, log_report, outcome_of
from acredssp.aio.transport import SecureTransport
from acredssp.arguments import expect_host_name, expect_service_name, is_ip_address
from acredssp.carriage.base import Carriage, CarriedHandshake
from acredssp.carriage.checked import checked
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.states import State
from acredssp.core.tls import BIOPair
from acredssp.errors import CredSSPError, HandshakeAborted
from acredssp.logs import CONNECTION_ID
from acredssp.mechanisms.base import Principal
from acredssp.wire.proxy_header import ProxyHeader

__all__ = ["Handshake", "Names", "aborted", "new_connection_id", "report_of"]

_REFUSED = frozenset({HandshakeOutcome.DENIED, HandshakeOutcome.FAILED})
"""The outcomes that a hook's refusal may have for the engine: a denied logon, or a connection that is turned away."""
_UNPROVEN = frozenset({State.TLS, State.NEGO_TOKEN})


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """The three names of a server."""

    host: str | None = None
    """The host to connect to; None for a connection that is already there."""
    tls: str | None = None
    spn: str | None = None

    def check(self) -> None:
        """Check the names.

        Raises:
            TypeError, ValueError: A name is impossible. The text begins with the argument's name.
        """
        if self.host:
            expect_host_name("host", self.host)
        if self.tls is not None:
            expect_host_name("server_hostname", self.tls)
        if self.spn is not None:
            expect_service_name("spn", self.spn)

    @property
    def for_tls(self) -> str:
        """The name for SNI, which the certificate must have; empty if there is none."""
        return self.tls or self.host or ""

    @property
    def for_logon(self) -> str:
        """The service principal name: unless it is given, that of the name which the certificate must have."""
        return f"TERMSRV/{self.for_tls}" if self.spn is None else self.spn

    @property
    def known_to_kdc(self) -> bool:
        """Whether a KDC is asked for the service: not for the `TERMSRV/` of an IP address, which no KDC knows."""
        return self.spn is not None or not is_ip_address(self.for_tls)

    def carried(self, config: ClientConfig, carriage: Carriage, bios: BIOPair | None = None) -> CarriedHandshake:
        """Make a client's handshake with the server of these names.

        Raises:
            TypeError, ValueError: There is no name for TLS, or a name is impossible.
        """
        self.check()
        if not self.for_tls:
            raise ValueError("server_hostname: expected a name, since there is no host, got none")
        context = config.new_context(
            server_hostname=self.for_tls, spn=self.for_logon, ask_kdc=self.known_to_kdc, bios=bios
        )
        return checked(carriage, carriage.initiator(context))


class Handshake:
    """One handshake, ready to run. Its arguments are checked before there is a connection.

    Args:
        connection: The connection, which need not be made yet.
        config: The configuration of a client or of a server.
        carriage: The protocol around CredSSP.
        names: Client: the names of the server.
        timeout: The time limit in seconds; None for the policy's.
        on_handshake: Called with a report once the handshake has ended. A server's handshake is logged, too.
        peer_address: The peer's address for the hooks and the report; None for the transport's own.
        session: Server: an object of the application for the hooks, the report and the transport.
        proxy_header: Server: what a load balancer has sent in front; None for nothing. `peer_address` is the client's.
        started: The moment from which `timeout` counts, in the loop's time; None for the call of `run`.
        connection_id: Server: the connection's id in the log; empty for a new id.
        refuses: Server: says whether a logon is refused without asking the hooks, after too many wrong passwords.

    Raises:
        TypeError, ValueError: A client has no name for TLS, or an impossible name.
    """

    __slots__ = (
        "_answers",
        "_concluded",
        "_config",
        "_connection_id",
        "_on_handshake",
        "_peer_address",
        "_proxy_header",
        "_refuses",
        "_session",
        "_started",
        "_timeout",
        "carried",
        "connection",
        "reason",
    )

    def __init__(  # noqa: PLR0913 - the arguments of the public functions
        self,
        connection: CredSSPProtocol,
        config: ClientConfig | ServerConfig,
        carriage: Carriage,
        *,
        names: Names | None = None,
        timeout: float | None = None,
        on_handshake: HandshakeHook | None = None,
        peer_address: object = None,
        session: object = None,
        proxy_header: ProxyHeader | None = None,
        started: float | None = None,
        connection_id: str = "",
        refuses: Callable[[Principal], bool] | None = None,
    ) -> None:
        self.connection = connection
        self.reason: CredSSPError | None = None
        """The error of the limit that ends this handshake. Set it before you cancel the task."""
        self._config = config
        self._timeout = config.policy.handshake_timeout if timeout is None else timeout
        self._on_handshake = on_handshake
        self._peer_address = peer_address
        self._session = session
        self._proxy_header = proxy_header
        self._started = started
        self._concluded = False
        self._connection_id = connection_id
        self._refuses = refuses
        self._answers: ClientAnswers | ServerAnswers | None = None
        """The answers to the events; a server's are made when the handshake is run."""
        bios = connection.buffers.bios
        names = names or Names()
        if isinstance(config, ServerConfig):
            new_context = functools.partial(ServerConfig.new_context, bios=bios)
            self.carried = checked(carriage, carriage.acceptor(config, new_context))
            return
        self.carried = names.carried(config, carriage, bios)
        self._answers = ClientAnswers(config, names.for_tls)

    @property
    def proven(self) -> bool:
        """Whether the logon is proven."""
        return self.carried.context.state not in _UNPROVEN

    async def run(self) -> SecureTransport:
        """Run the handshake over its connection, and return the transport for the application.

        Raises:
            CredSSPError: The handshake failed; the connection is closed.
            asyncio.CancelledError: The task was cancelled; the connection is closed.
        """
        await self._run_with_id()
        if self.carried.passed_on is not None:
            error = HandshakeAborted("the route hook answered Passthrough, which create_server alone can do")
            self.connection.abort()
            self._conclude(error)
            raise error
        return self._established()

    async def run_or_pass_on(self) -> SecureTransport | None:
        """Do the same; None where a server's `route` hook passes the connection on, whose receiver has it then."""
        await self._run_with_id()
        if self.carried.passed_on is None:
            return self._established()
        self._conclude_well()
        pass_on(self.connection, self.carried.passed_on)
        return None

    def _established(self) -> SecureTransport:
        self._conclude_well()
        info, proxied = self.carried.context.info, None
        if self._proxy_header is not None:
            proxied = self._proxy_header, self._peer_address
        assert self._started is not None
        return SecureTransport(
            self.connection,
            self.carried,
            info,
            self._session,
            self._connection_id,
            proxied=proxied,
            seconds=self.connection.loop.time() - self._started,
        )

    def _conclude_well(self) -> None:
        try:
            self._conclude(None)
        except BaseException:
            self.connection.abort()
            if (credentials := self.carried.context.take_credentials()) is not None:
                credentials.zero()  # the application does not get them
            raise

    async def _run_with_id(self) -> None:
        if isinstance(self._config, ServerConfig):
            self._connection_id = self._connection_id or new_connection_id()
            CONNECTION_ID.set(self._connection_id)  # the id also holds for the caller's later work on the connection
            await self._run()
            return
        self._connection_id = CONNECTION_ID.get() or new_connection_id()
        before = CONNECTION_ID.set(self._connection_id)
        try:
            await self._run()
        finally:
            CONNECTION_ID.reset(before)

    async def _run(self) -> None:
        connection = self.connection
        self._started = connection.loop.time() if self._started is None else self._started
        if self._peer_address is None:
            self._peer_address = connection.transport.get_extra_info("peername")
        deadline = self._started + self._timeout
        answers = self._answers
        if isinstance(self._config, ServerConfig):
            answers = self._answers = ServerAnswers(
                self._config, self.carried, self._peer_address, deadline, session=self._session, refuses=self._refuses
            )
        assert answers is not None
        try:
            await establish(connection, self.carried, answers, deadline, self._conclude)
        except BaseException as error:
            if not self._concluded:
                self.carried.fail(failure := self.reason or aborted(error))
                self._conclude(failure)
            raise

    def _conclude(self, error: CredSSPError | None) -> None:
        self._concluded = True
        server = isinstance(self._config, ServerConfig)
        if not server and self._on_handshake is None:
            return
        report = self._report(error)
        if server:
            log_report(report)
        if self._on_handshake is not None:
            self._on_handshake(report)

    def _report(self, error: CredSSPError | None) -> HandshakeReport:
        assert self._started is not None
        report = report_of(
            self.carried,
            self._answers,
            error,
            self._peer_address,
            self.connection.loop.time() - self._started,
            heard=self.connection.heard,
            connection_id=self._connection_id,
        )
        outcome = HandshakeOutcome.LIMITED if error is not None and error is self.reason else report.outcome
        hook = report.hook if outcome is report.outcome else ""
        session, header = self._session, self._proxy_header
        return dataclasses.replace(report, outcome=outcome, hook=hook, session=session, proxy_header=header)


def report_of(  # noqa: PLR0913 - the facts of one connection
    carried: CarriedHandshake,
    answers: ClientAnswers | ServerAnswers | None,
    error: CredSSPError | None,
    peer_address: object,
    elapsed: float,
    *,
    heard: bool = True,
    connection_id: str = "",
) -> HandshakeReport:
    """Return the report of a handshake that has ended.

    Args:
        carried: The handshake.
        answers: What has answered its events.
        error: Why it failed; None for a success.
        peer_address: The peer's address.
        elapsed: Seconds since the connection was accepted.
        heard: Whether the peer sent anything.
        connection_id: The connection's id in the log.
    """
    info = carried.context.info
    outcome, hook, server_name, claimed = outcome_of(error, heard=heard), "", "", None
    if error is None and carried.passed_on is not None:
        outcome = HandshakeOutcome.PASSED_ON
    if isinstance(answers, ServerAnswers):
        server_name, claimed = answers.server_name, answers.principal
        if outcome in _REFUSED and answers.refusal is not None:
            hook, outcome = answers.refusal
        elif outcome is HandshakeOutcome.TIMEOUT:
            hook = answers.running
    return HandshakeReport(
        peer_address=peer_address,
        error=error,
        info=info,
        principal=info.principal or claimed,
        server_name=server_name,
        cookie=carried.cookie,
        elapsed=elapsed,
        request=carried.request,
        outcome=outcome,
        hook=hook,
        connection_id=connection_id,
    )


def new_connection_id() -> str:
    """Return an id that no other connection has."""
    return secrets.token_hex(8)


def aborted(error: BaseException | None = None) -> CredSSPError:
    """Return the error to report for a handshake that was ended from outside.

    Args:
        error: The exception that ended the handshake; None for a cancellation.
    """
    if error is None or isinstance(error, asyncio.CancelledError):
        return HandshakeAborted("this program ended the connection: the server closes, or the task was cancelled")
    return CredSSPError(f"the handshake ended with {type(error).__name__}, a fault in this program")

"""`acredssp login`: its options, one logon on a server, and how it went."""

import asyncio
import contextlib
import dataclasses
import logging
import pathlib
import socket
import time
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from acredssp.aio import SecureTransport, create_connection
from acredssp.arguments import expect_host_name, expect_service_name
from acredssp.carriage import TLS, Carriage, CarriedHandshake, NewContext
from acredssp.cli import arguments, render
from acredssp.cli.arguments import Address, Secret
from acredssp.cli.keylog import log_keys
from acredssp.cli.nobody import Nobody
from acredssp.cli.options import (
    RDP_PORT,
    AsJSON,
    CarriageChoice,
    KeyLog,
    LegacyCiphers,
    LegacyTLS,
    LogLevel,
    MaxVersion,
    MinTLS,
    MinVersion,
    PolicyFile,
    Verbose,
    WithCarriage,
    WithLogLevel,
    WithMechanism,
    allowed,
    log_from,
    read_policy,
    until_done,
    usage_errors,
    warn_of,
)
from acredssp.cli.outcome import EXIT_STATUS, ConnectError, UsageError, reason_of, unreadable
from acredssp.cli.report import LoginReport, to_json
from acredssp.config import ClientConfig, ServerConfig
from acredssp.credentials import Credential, Keytab, Nothing, NTHash, Password, RemoteGuard, TicketCache
from acredssp.delegation import DelegatedKind
from acredssp.errors import CredSSPError, HandshakeTimeout, PolicyError
from acredssp.events import Buffer, HandshakeInfo, SecurityContext, StepResult
from acredssp.names import logon_name
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, MechanismChoice, Policy
from acredssp.rdp import RDP
from acredssp.status import Stage
from acredssp.trust import Trust

__all__ = ["Login", "log_on", "login_command"]

_WITHOUT_PASSWORD = {NTHash: "hash", TicketCache: "ticket", Keytab: "key"}

_logger = logging.getLogger("acredssp.login")

_CLOSE_GRACE = 1.0
"""Seconds that a server gets to take our close_notify; nothing depends on it."""
_LEAST_TIME = 0.001
"""Seconds for a handshake whose time ended just as the connection was made: it must be above 0."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What to do."""

    address: Address
    config: ClientConfig
    carriage: Carriage
    server_hostname: str
    """The name for SNI, and the one that the certificate must have."""
    spn: str | None
    """None for `TERMSRV/` and `server_hostname`; no KDC is asked for an IP address then."""
    timeout: float
    """Seconds for connecting and the handshake together."""


class _Watched:
    """A carriage that remembers the context it was given: the facts of a handshake that failed are in there."""

    def __init__(self, carriage: Carriage) -> None:
        self._carriage = carriage
        self._context: SecurityContext | None = None

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        sequence = self._carriage.initiator(context)
        self._context = context
        return cast("CarriedHandshake", _Told(sequence)) if _logger.isEnabledFor(logging.DEBUG) else sequence

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:  # noqa: ARG002
        raise AssertionError("login is a client")

    @property
    def begun(self) -> bool:
        """Whether a handshake has begun."""
        return self._context is not None

    @property
    def info(self) -> HandshakeInfo | None:
        """The facts as far as they came."""
        with contextlib.suppress(CredSSPError):  # a certificate whose key cannot be read has no fingerprint either
            return self._context.info if self._context else None
        return None


class _Told:
    """A sequence whose steps are logged: how many bytes came and went, and where the handshake stands then."""

    def __init__(self, sequence: CarriedHandshake) -> None:
        self._sequence = sequence

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sequence, name)

    def step(self, data: Buffer = b"") -> StepResult:
        result = self._sequence.step(data)
        self._tell(f"took {len(data) - result.extra} bytes", result)
        return result

    def resume(self, answer: object, early: Buffer = b"") -> StepResult:
        result = self._sequence.resume(answer, early)
        self._tell("got an answer", result)
        return result

    def _tell(self, what: str, result: StepResult) -> None:
        asked = f", asks {type(result.event).__name__}" if result.event else ""
        _logger.debug(
            "%s, sends %d bytes%s: tls %s, credssp %s",
            what,
            len(result.output),
            asked,
            self._sequence.context.info.tls_version or "not up",
            self._sequence.context.state.name,
        )


async def log_on(login: Login) -> tuple[LoginReport, CredSSPError | None]:
    """Log on and close again; return the report, and why it failed (None: it did not)."""
    started = time.perf_counter()
    carriage = _Watched(login.carriage)
    error: CredSSPError | None = None
    connection: tuple[SecureTransport, Nobody] | None = None
    try:
        sock = await _connect(login)
        left = login.timeout - (time.perf_counter() - started)
        connection = await _handshake(sock, login, carriage, max(left, _LEAST_TIME))
    except CredSSPError as failure:
        error = failure
    elapsed = time.perf_counter() - started
    if connection is not None:
        await _close(*connection)
    _logger.debug("%s after %.1f ms", "failed" if error else "logged on", elapsed * 1000)
    return LoginReport.of(error, carriage.info, elapsed), error


async def _handshake(
    sock: socket.socket, login: Login, carriage: _Watched, left: float
) -> tuple[SecureTransport, Nobody]:
    try:
        return await create_connection(
            Nobody,
            sock=sock,
            config=login.config,
            carriage=carriage,
            server_hostname=login.server_hostname,
            spn=login.spn,
            handshake_timeout=left,
        )
    except BaseException:
        if not carriage.begun:  # nobody has taken the socket over
            sock.close()
        raise


async def _connect(login: Login) -> socket.socket:
    """Make the TCP connection; whatever is wrong with it is a `CredSSPError` of stage CONNECT.

    The socket is not read before the handshake begins, so it keeps what a server says at once: an SSH server greets.
    """
    address = login.address
    _logger.debug("connecting to %s", address)
    try:
        async with asyncio.timeout(login.timeout):
            sock = await _connect_to_any(address)
    except TimeoutError:
        raise HandshakeTimeout(f"no connection to {address}", stage=Stage.CONNECT) from None
    except socket.gaierror as error:
        raise ConnectError(
            f"cannot find {address.host}: {reason_of(error)}", stage=Stage.CONNECT, hint="check the name of the host"
        ) from None
    except (OSError, UnicodeError) as error:
        raise ConnectError(
            f"cannot connect to {address}: {reason_of(error)}",
            stage=Stage.CONNECT,
            hint="check that a server listens at this address",
        ) from None
    _logger.debug("connected to %s", sock.getpeername())
    return sock


async def _connect_to_any(address: Address) -> socket.socket:
    """Try the addresses of a name in turn, as asyncio's functions do; raise the first one's error if all fail."""
    loop, errors = asyncio.get_running_loop(), []
    for family, kind, protocol, _, numeric in await loop.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    ):
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            await loop.sock_connect(sock, numeric)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            errors.append(error)
        else:
            return sock
    raise errors[0]


async def _close(transport: SecureTransport, protocol: Nobody) -> None:
    transport.close()
    try:
        async with asyncio.timeout(_CLOSE_GRACE):
            await protocol.ended
    except TimeoutError:
        transport.abort()


# --- the command ---


def login_command(  # noqa: PLR0913, PLR0917 - the options of a command line
    host: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="The server; port 3389 unless given.")],
    user: Annotated[
        str | None,
        typer.Option("--user", "-u", help=r"USER, USER@SUFFIX or DOMAIN\USER; not needed with --ccache and --keytab."),
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", "-d", help="The user's domain; '' sends USER as it stands.")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option("--password", "-p", help="The password; others on this machine can see it in the process list."),
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of the standard input.")
    ] = False,
    nt_hash: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Log on with an NT hash; nothing is delegated then (restricted admin)."),
    ] = None,
    ccache: Annotated[
        str | None,
        typer.Option(metavar="CACHE", help="Log on with Kerberos tickets: FILE:/path, or default for your own cache."),
    ] = None,
    keytab: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Log on with a Kerberos key: that of -u, or the first one of the file."),
    ] = None,
    remote_guard: Annotated[
        bool, typer.Option("--remote-guard", help="Delegate a Kerberos ticket in place of the password.")
    ] = False,
    restricted_admin: Annotated[
        bool, typer.Option("--restricted-admin", help="Delegate nothing: the server logs on as itself.")
    ] = False,
    mechanism: WithMechanism = MechanismChoice.AUTO,
    min_version: MinVersion = FIRST_SAFE_VERSION,
    max_version: MaxVersion = NEWEST_VERSION,
    min_tls: MinTLS = arguments.TLSVersion.TLS_1_2,
    dangerous_allow_legacy_tls: LegacyTLS = False,
    dangerous_allow_legacy_ciphers: LegacyCiphers = False,
    keylog: KeyLog = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Accept any certificate, unchecked.")] = False,
    ca: Annotated[
        pathlib.Path | None, typer.Option(metavar="FILE", help="Trust the certificates in this PEM file.")
    ] = None,
    pin: Annotated[
        str | None, typer.Option(metavar="SHA256", help="Trust this key: the SHA-256 of its SubjectPublicKeyInfo.")
    ] = None,
    dangerous_allow_weak_certificates: Annotated[
        bool,
        typer.Option(
            "--dangerous-allow-weak-certificates",
            help="Also take certificates with RSA keys of 1024 to 2047 bits or small curves, or signed by SHA-1.",
        ),
    ] = False,
    server_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name in the server's certificate; HOST unless given.")
    ] = None,
    spn: Annotated[
        str | None,
        typer.Option(metavar="SPN", help="The server's principal; TERMSRV/ and --server-name, or HOST, unless given."),
    ] = None,
    load_balance_info: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Text for a connection broker: loadbalanceinfo of an .rdp file."),
    ] = None,
    policy_file: PolicyFile = None,
    carriage: WithCarriage = CarriageChoice.RDP,
    timeout: Annotated[float, typer.Option(help="Seconds for connecting and the handshake.")] = 30.0,
    log_level: WithLogLevel = LogLevel.WARNING,
    verbose: Verbose = False,
    as_json: AsJSON = False,
) -> None:
    """Log on to a server, close the connection, and print how it went.

    Exit status: 0 logged on; 1 denied; 2 usage; 3 protocol, TLS, certificate, policy or version; 4 network or time-out;
    74 the output could not be written.
    """
    out, err = render.consoles()
    log_from(LogLevel.DEBUG if verbose else log_level)
    with usage_errors():
        address = arguments.address(host, default_port=RDP_PORT)
        arguments.check_versions(min_version, max_version)
        trust = _trust(insecure, ca, pin, allow_weak=dangerous_allow_weak_certificates)
        delegation = read_policy(policy_file)
        credential = Secret(password, password_stdin, nt_hash, ccache, keytab).credential(user, domain)
        tls = arguments.tls_settings(
            min_tls, legacy=dangerous_allow_legacy_tls, legacy_ciphers=dangerous_allow_legacy_ciphers
        )
        policy = Policy(
            min_version=min_version,
            max_version=max_version,
            dangerous_allow_legacy_versions=min_version < FIRST_SAFE_VERSION,
            **tls,
            dangerous_accept_any_certificate=insecure,
            mechanism=mechanism,
        )
        policy = allowed(delegation.for_client, policy)
        config = _client_config(
            authenticate=credential,
            delegate=_delegate(remote_guard, restricted_admin),
            delegation=delegation,
            policy=policy,
            trust=trust,
        )
        task = Login(
            address=address,
            config=config,
            carriage=_client_carriage(carriage, credential, load_balance_info),
            server_hostname=_server_hostname(server_name, address.host),
            spn=_spn(spn),
            timeout=arguments.seconds("--timeout", timeout),
        )
        if keylog is not None:
            log_keys(config.ssl_context, keylog)
    warn_of(err, policy, keylog, trust)
    report, error = until_done(log_on(task))
    if as_json:
        print(to_json(report))  # noqa: T201
    if error is not None:
        render.failure(err, error)
    elif not as_json:
        _show_logon(out, task, report)
    raise typer.Exit(EXIT_STATUS[report.result])


def _trust(insecure: bool, ca: pathlib.Path | None, pin: str | None, *, allow_weak: bool) -> Trust | None:
    """Return whom the options trust; None for what the configuration trusts of itself."""
    trust = _named_trust(insecure, ca, pin)
    if not allow_weak or insecure:
        return trust
    return dataclasses.replace(trust or Trust.system(), dangerous_allow_weak_certificates=True)


def _named_trust(insecure: bool, ca: pathlib.Path | None, pin: str | None) -> Trust | None:
    if insecure + (ca is not None) + (pin is not None) > 1:
        raise UsageError("expected one of --insecure, --ca and --pin, got more")
    try:
        if ca is not None:
            return Trust.from_file(str(ca))
        return Trust.pinned(pin) if pin is not None else None
    except OSError as error:
        assert ca is not None
        raise unreadable("--ca", ca, error) from None
    except ValueError as error:
        raise UsageError(f"--ca: {error}" if ca is not None else "--pin: expected a SHA-256, 64 hex digits") from None


def _delegate(remote_guard: bool, restricted_admin: bool) -> RemoteGuard | Nothing | None:
    if remote_guard and restricted_admin:
        raise UsageError("expected one of --remote-guard and --restricted-admin, got both")
    if remote_guard:
        return RemoteGuard()
    return Nothing() if restricted_admin else None


def _client_config(**settings: Any) -> ClientConfig:
    """Make the configuration; what does not go together is a matter of the command line."""
    try:
        return ClientConfig(**settings)
    except PolicyError as error:
        raise UsageError(str(error)) from None


def _client_carriage(choice: CarriageChoice, credential: Credential, load_balance_info: str | None) -> Carriage:
    if choice is CarriageChoice.TLS:
        if load_balance_info is not None:
            raise UsageError("expected --carriage rdp with --load-balance-info, got tls")
        return TLS()
    # As mstsc: HYBRID_EX is offered, so a server that refuses the user can say so; a routing token replaces the cookie.
    if load_balance_info is None:
        return RDP(hybrid_ex=True, cookie=credential.user if credential.user.isprintable() else "")
    try:
        return RDP(hybrid_ex=True, routing_token=load_balance_info)
    except ValueError as error:
        raise UsageError(f"--load-balance-info: {error}") from None


def _server_hostname(name: str | None, host: str) -> str:
    """Return the name if TLS can ask for it."""
    with arguments.values():
        expect_host_name("HOST", host)
        if name is not None:
            expect_host_name("--server-name", name)
    return name or host


def _spn(name: str | None) -> str | None:
    """Return the name if a service can have it."""
    if name is not None:
        with arguments.values():
            expect_service_name("--spn", name)
    return name


def _show_logon(out: Console, task: Login, report: LoginReport) -> None:
    credential = task.config.authenticate
    render.card(
        out,
        f"{logon_name(credential.domain, credential.user) or 'you are'} logged on to {task.address}",
        {
            "credssp": f"version {report.credssp_version}, {report.mechanism}",
            **({"no kerberos": report.fallback} if report.fallback else {}),
            "delegated": _delegated(task.config),
            "tls": f"{report.tls_version}, {report.cipher}",
            "key pin": f"{report.peer_key_sha256}",
            "took": f"{report.elapsed_ms:.1f} ms",
        },
    )


def _delegated(config: ClientConfig) -> str:
    if isinstance(config.delegate, RemoteGuard):
        return "a ticket (remote credential guard)"
    if isinstance(config.delegate, Nothing):
        return "nothing (restricted admin)"
    if not isinstance(config.authenticate, Password):
        return f"nothing, since there is only a {_WITHOUT_PASSWORD[type(config.authenticate)]} (restricted admin)"
    if config.delegation.restrict(DelegatedKind.PASSWORD) is DelegatedKind.NOTHING:
        return "nothing, by the policy (restricted admin)"
    return "the password"

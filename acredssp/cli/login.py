"""`acredssp login`: its options, one logon to a server, and the report about it."""

import asyncio
import contextlib
import dataclasses
import logging
import socket
import sys
import time
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from acredssp.aio import SecureTransport, create_connection, reason_of
from acredssp.arguments import expect_host_name, expect_service_name
from acredssp.carriage import TLS, Carriage, CarriedHandshake, NewContext
from acredssp.cli import arguments, render
from acredssp.cli.arguments import Secret
from acredssp.cli.keylog import log_keys
from acredssp.cli.nobody import Nobody
from acredssp.cli.options import (
    RDP_PORT,
    AsJSON,
    Authorities,
    CarriageChoice,
    Domain,
    GeneratedAccount,
    Insecure,
    KeyLog,
    KeytabFile,
    LegacyCiphers,
    LegacyTLS,
    LoadBalanceInfo,
    LogLevel,
    MaxVersion,
    MinTLS,
    MinVersion,
    NTHashWord,
    PasswordStdin,
    PasswordWord,
    Pin,
    PolicyFile,
    PreconnectionBlob,
    PreconnectionId,
    PrincipalName,
    RecordFiles,
    ServerName,
    Tickets,
    User,
    Verbose,
    WeakCertificates,
    WithCarriage,
    WithLogLevel,
    WithMechanism,
    WithSecrets,
    allowed,
    client_config,
    log_from,
    read_policy,
    read_trust,
    until_done,
    usage_errors,
    warn_of,
)
from acredssp.cli.outcome import EXIT_STATUS, OWN_LIMIT, ConnectError, UsageError, is_own_limit
from acredssp.cli.record import Records
from acredssp.cli.report import LoginReport, to_json
from acredssp.config import ClientConfig, ServerConfig
from acredssp.credentials import Credential, Keytab, Nothing, NTHash, Password, RemoteGuard, TicketCache
from acredssp.delegation import DelegatedKind
from acredssp.errors import CredSSPError, HandshakeTimeout, LocalProtocolError
from acredssp.events import Answered, Buffer, HandshakeInfo, Question, SecurityContext, StepResult
from acredssp.names import logon_name
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, MechanismChoice
from acredssp.rdp import RDP, PreconnectionPDU
from acredssp.status import Stage
from acredssp.workers import Address

__all__ = ["Login", "client_carriage", "log_on", "login_command"]

_WITHOUT_PASSWORD = {NTHash: "hash", TicketCache: "ticket", Keytab: "key"}

_logger = logging.getLogger("acredssp.login")

_CLOSE_GRACE = 1.0
"""Seconds that a server gets to answer close_notify; the result does not depend on the answer."""
_LEAST_TIME = 0.001
"""Seconds for a handshake whose time ran out just as the connection was made: a time limit must be above 0."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The logon to make."""

    address: Address
    config: ClientConfig
    carriage: Carriage
    server_hostname: str
    """The name for SNI, which is also the name that the certificate must have."""
    spn: str | None
    """The server's principal; None stands for `TERMSRV/` and `server_hostname`, and asks no KDC about an IP address."""
    timeout: float
    """The seconds that connecting and the handshake may take together."""


class _Watched:
    """A carriage that remembers its context, so that the facts of a failed handshake can be reported."""

    def __init__(self, carriage: Carriage) -> None:
        self._carriage = carriage
        self._context: SecurityContext | None = None

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        carried = self._carriage.initiator(context)
        self._context = context
        return cast("CarriedHandshake", _Told(carried)) if _logger.isEnabledFor(logging.DEBUG) else carried

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:  # noqa: ARG002
        raise AssertionError("login is a client")

    @property
    def begun(self) -> bool:
        """Whether the handshake has begun, so that the socket has an owner."""
        return self._context is not None

    @property
    def info(self) -> HandshakeInfo | None:
        """The facts of the handshake that are known so far."""
        with contextlib.suppress(CredSSPError):  # a certificate whose key cannot be read has no fingerprint
            return self._context.info if self._context else None
        return None


class _Told:
    """A handshake that logs each step: how many bytes came and went, and the state of the handshake afterwards."""

    def __init__(self, carried: CarriedHandshake) -> None:
        self._carried = carried

    def __getattr__(self, name: str) -> Any:
        return getattr(self._carried, name)

    def step(self, data: Buffer = b"") -> StepResult:
        result = self._carried.step(data)
        self._tell(f"took {len(data) - result.extra} bytes", result)
        return result

    def resume(self, event: Question[Answered], answer: Answered, early: Buffer = b"") -> StepResult:
        result = self._carried.resume(event, answer, early)
        self._tell("got an answer", result)
        return result

    def _tell(self, what: str, result: StepResult) -> None:
        asked = f", asks {type(result.event).__name__}" if result.event else ""
        _logger.debug(
            "%s, sends %d bytes%s: tls %s, credssp %s",
            what,
            len(result.output),
            asked,
            self._carried.context.info.tls_version or "not up",
            self._carried.context.state.name,
        )


async def log_on(login: Login) -> tuple[LoginReport, CredSSPError | None]:
    """Log on and close the connection; return the report, and the error that ended the logon (None for a success)."""
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
        if not carriage.begun:  # nothing has taken over the socket
            sock.close()
        raise


async def _connect(login: Login) -> socket.socket:
    """Make the TCP connection.

    Nothing is read from the socket before the handshake begins, so it keeps bytes that a server sends at once, such as
    the greeting of an SSH server.

    Raises:
        CredSSPError: The connection could not be made; the stage is CONNECT.
    """
    address = login.address
    _logger.debug("connecting to %s", address)
    try:
        async with asyncio.timeout(login.timeout):
            sock = await _connect_to_any(address)
    except TimeoutError:
        raise HandshakeTimeout(f"no connection to {address}", stage=Stage.CONNECT) from None
    except (socket.gaierror, UnicodeError) as error:
        raise ConnectError(
            f"cannot find {address.host}: {reason_of(error)}",
            stage=Stage.CONNECT,
            hint=OWN_LIMIT if is_own_limit(error) else "check the name of the host",
        ) from None
    except OSError as error:
        raise ConnectError(
            f"cannot connect to {address}: {reason_of(error)}",
            stage=Stage.CONNECT,
            hint=OWN_LIMIT if is_own_limit(error) else "check that a server listens on this address and port",
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
    host: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="The server; the port is 3389 unless given.")],
    user: User = None,
    domain: Domain = None,
    password: PasswordWord = None,
    password_stdin: PasswordStdin = False,
    nt_hash: NTHashWord = None,
    ccache: Tickets = None,
    keytab: KeytabFile = None,
    remote_guard: Annotated[
        bool, typer.Option("--remote-guard", help="Delegate a Kerberos ticket in place of the password.")
    ] = False,
    restricted_admin: Annotated[
        bool,
        typer.Option(
            "--restricted-admin",
            help="Delegate no credentials: from the server, the user reaches other machines as the server itself.",
        ),
    ] = False,
    mechanism: WithMechanism = MechanismChoice.AUTO,
    min_version: MinVersion = FIRST_SAFE_VERSION,
    max_version: MaxVersion = NEWEST_VERSION,
    min_tls: MinTLS = arguments.TLSVersion.TLS_1_2,
    dangerous_allow_legacy_tls: LegacyTLS = False,
    dangerous_allow_legacy_ciphers: LegacyCiphers = False,
    keylog: KeyLog = None,
    insecure: Insecure = False,
    ca: Authorities = None,
    pin: Pin = None,
    dangerous_allow_weak_certificates: WeakCertificates = False,
    server_name: ServerName = None,
    spn: PrincipalName = None,
    load_balance_info: LoadBalanceInfo = None,
    pcb: PreconnectionBlob = None,
    pcid: PreconnectionId = None,
    policy_file: PolicyFile = None,
    carriage: WithCarriage = CarriageChoice.RDP,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Give up after this many seconds of connecting and handshake together."),
    ] = 30.0,
    record: RecordFiles = None,
    with_secrets: WithSecrets = False,
    generated_account: GeneratedAccount = False,
    log_level: WithLogLevel = LogLevel.WARNING,
    verbose: Verbose = False,
    as_json: AsJSON = False,
) -> None:
    """Log on to a server, close the connection, and print the result.

    The exit status is 0 if the logon succeeded, 1 if it was denied, 2 if the command line is wrong, 3 if the protocol,
    TLS, the certificate, the policy or the version ended it, 4 if the network failed or the peer stopped answering,
    and 74 if the output cannot be written.
    """
    out, err = render.consoles()
    log_from(LogLevel.DEBUG if verbose else log_level)
    with usage_errors():
        address = arguments.address(host, default_port=RDP_PORT)
        trust = read_trust(insecure, ca, pin, allow_weak=dangerous_allow_weak_certificates)
        delegation = read_policy(policy_file)
        records = Records(record or [], with_secrets=with_secrets, generated=generated_account)
        secret = Secret(password, password_stdin, nt_hash, ccache, keytab)
        credential = _generated(records, secret, user, domain) or secret.credential(user, domain)
        policy = arguments.policy_of(
            min_version,
            max_version,
            min_tls,
            legacy_tls=dangerous_allow_legacy_tls,
            legacy_ciphers=dangerous_allow_legacy_ciphers,
            dangerous_accept_any_certificate=insecure,
            mechanism=mechanism,
        )
        policy = allowed(delegation.for_client, policy)
        config = client_config(
            authenticate=credential,
            delegate=_delegate(remote_guard, restricted_admin),
            delegation=delegation,
            policy=policy,
            trust=trust,
        )
        task = Login(
            address=address,
            config=config,
            carriage=records.around(client_carriage(carriage, credential, load_balance_info, pcb, pcid)),
            server_hostname=_server_hostname(server_name, address.host),
            spn=_spn(spn),
            timeout=arguments.seconds("--timeout", timeout),
        )
        records.begin()
        if (keys := keylog or records.keylog) is not None:
            log_keys(config.ssl_context, keys)
    warn_of(err, policy, keylog, trust)
    records.warn(err)
    report, error = until_done(log_on(task))
    if as_json:
        print(to_json(report))  # noqa: T201
    if error is not None:
        render.failure(err, error)
    elif not as_json:
        _show_logon(out, task, report)
    sys.stdout.flush()
    records.write(credential)  # behind the result, which a full disk must not take along
    if not as_json:
        records.tell(err)
    raise typer.Exit(EXIT_STATUS[report.result])


def _generated(records: Records, secret: Secret, user: str | None, domain: str | None) -> Password | None:
    """Return the account of --generated-account; None where the option was not given."""
    if records.generated is None:
        return None
    if secret != Secret() or user is not None:
        raise UsageError("--generated-account makes the user and the password: give neither -u nor a secret")
    return dataclasses.replace(records.generated, domain=domain or "")


def _delegate(remote_guard: bool, restricted_admin: bool) -> RemoteGuard | Nothing | None:
    if remote_guard and restricted_admin:
        raise UsageError("expected one of --remote-guard and --restricted-admin, got both")
    if remote_guard:
        return RemoteGuard()
    return Nothing() if restricted_admin else None


def client_carriage(
    choice: CarriageChoice,
    credential: Credential,
    load_balance_info: str | None,
    pcb: str | None,
    pcid: int | None,
) -> RDP | TLS:
    """Return the carriage that the options --carriage, --load-balance-info, --pcb and --pcid name.

    Raises:
        UsageError: They contradict each other, or cannot be sent.
    """
    preconnection = _preconnection(pcb, pcid)
    if choice is CarriageChoice.TLS:
        if load_balance_info is not None:
            raise UsageError("expected --carriage rdp with --load-balance-info, got tls")
        if preconnection is not None:
            raise UsageError("expected --carriage rdp with --pcb and --pcid, got tls")
        return TLS()
    # As mstsc does, offer HYBRID_EX, so that a server that refuses the user can say so. A routing token replaces the
    # cookie.
    if load_balance_info is None:
        cookie = credential.user if credential.user.isprintable() else ""
        return RDP(hybrid_ex=True, cookie=cookie, preconnection=preconnection)
    try:
        return RDP(hybrid_ex=True, routing_token=load_balance_info, preconnection=preconnection)
    except ValueError as error:
        raise UsageError(f"--load-balance-info: {error}") from None


def _preconnection(blob: str | None, number: int | None) -> PreconnectionPDU | None:
    if blob is None and number is None:
        return None
    pdu = PreconnectionPDU(id=number or 0, blob=blob or "")
    try:
        pdu.encode()
    except LocalProtocolError as error:
        raise UsageError(f"--pcb, --pcid: {error}") from None
    return pdu


def _server_hostname(name: str | None, host: str) -> str:
    """Return the name to ask for in TLS; raise `UsageError` if it cannot be a host's name."""
    with arguments.values():
        expect_host_name("HOST", host)
        if name is not None:
            expect_host_name("--server-name", name)
    return name or host


def _spn(name: str | None) -> str | None:
    """Return `name`; raise `UsageError` if it cannot be a service's name."""
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

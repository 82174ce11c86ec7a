"""`acredssp serve`: its options, and a server that runs until SIGTERM, in one process or in several.

The module `service` has the applications behind a logon, `lines` has what is printed, `workers` has the processes.
"""

import asyncio
import contextlib
import enum
import functools
import logging
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer
from rich.console import Console

from acredssp.accounts import Users
from acredssp.aio import WinbindOracle, reason_of
from acredssp.carriage import TLS, Carriage
from acredssp.cli import arguments, loops, render
from acredssp.cli.certificate import Certificate
from acredssp.cli.keylog import log_keys
from acredssp.cli.lines import Lines
from acredssp.cli.options import (
    RDP_PORT,
    AsJSON,
    CarriageChoice,
    GeneratedAccount,
    KeyLog,
    LegacyCiphers,
    LegacyTLS,
    LogLevel,
    MaxVersion,
    MinTLS,
    MinVersion,
    MostRecords,
    PolicyFile,
    RecordFiles,
    Verbose,
    WithCarriage,
    WithLogLevel,
    WithMechanism,
    WithSecrets,
    allowed,
    log_from,
    read_policy,
    until_done,
    usage_errors,
    warn_of,
)
from acredssp.cli.outcome import EXIT_STATUS, ConnectError, UsageError, result_of, unreadable
from acredssp.cli.output import never_wait_for_stderr
from acredssp.cli.record import ServerRecords, account_line
from acredssp.cli.service import Limits, Serve, Service
from acredssp.config import ServerConfig
from acredssp.credentials import Keytab, NTHash, Password
from acredssp.errors import CredSSPError, PolicyError
from acredssp.hooks import CredentialRequest, Principal
from acredssp.mechanisms.kerberos.tickets import keytab_realms
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, MechanismChoice
from acredssp.rdp import RDP
from acredssp.status import Stage
from acredssp.workers import Address, Sockets, Supervisor, Worker, bind, is_supported

__all__ = ["serve_command"]


class KeyType(enum.StrEnum):
    """The kind of key of a self-made certificate."""

    RSA = "rsa"
    EC = "ec"


# --- the command ---


def serve_command(  # noqa: PLR0913, PLR0917 - the options of a command line
    users: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE",
            help="The file of users who may log on, with a line DOMAIN:USER:SECRET for each (see above).",
        ),
    ] = None,
    winbind: Annotated[
        bool,
        typer.Option("--winbind", help="Let every user of this machine's domain log on; Samba's winbind checks them."),
    ] = False,
    ntlm_auth: Annotated[
        str | None,
        typer.Option(metavar="PROGRAM", help="The helper program of Samba that --winbind runs, by default ntlm_auth."),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The address to listen on; port 0 takes a free port.")
    ] = "127.0.0.1:3389",
    cert: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE", help="The certificate chain in PEM; without it, the server makes its own certificate."
        ),
    ] = None,
    key: Annotated[pathlib.Path | None, typer.Option(metavar="FILE", help="The private key of --cert, in PEM.")] = None,
    key_type: Annotated[
        KeyType, typer.Option(help="The kind of key for the certificate that the server makes.")
    ] = KeyType.RSA,
    hybrid_ex: Annotated[
        bool,
        typer.Option(
            "--hybrid-ex", help="Tell a client that asks for it, at the end of the logon, whether the user may come in."
        ),
    ] = False,
    refuse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER",
            help=r"Refuse this account even with the right password: USER of any domain, DOMAIN\USER or USER@SUFFIX. "
            "May be given several times.",
        ),
    ] = None,
    keytab: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Let users log on by Kerberos, with the service's keys in FILE; the word default stands for the "
            "system's keytab.",
        ),
    ] = None,
    spn: Annotated[
        str | None,
        typer.Option(
            metavar="SPN", help="Accept only tickets for this service, by default for any service of the keytab."
        ),
    ] = None,
    allow_realm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REALM",
            help="Accept tickets of this realm, in place of those of the keytab's realms. May be given several times.",
        ),
    ] = None,
    mechanism: WithMechanism = MechanismChoice.AUTO,
    require_mic: Annotated[
        bool, typer.Option("--require-mic", help="Refuse NTLM without a message integrity code.")
    ] = False,
    min_version: MinVersion = FIRST_SAFE_VERSION,
    max_version: MaxVersion = NEWEST_VERSION,
    min_tls: MinTLS = arguments.TLSVersion.TLS_1_2,
    dangerous_allow_legacy_tls: LegacyTLS = False,
    dangerous_allow_legacy_ciphers: LegacyCiphers = False,
    keylog: KeyLog = None,
    policy_file: PolicyFile = None,
    carriage: WithCarriage = CarriageChoice.RDP,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, metavar="N", help="Serve with N processes; one for each core is best (Linux only)."
        ),
    ] = None,
    max_handshakes: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Allow at most N handshakes at a time in each process; 0 means no limit."
        ),
    ] = 500,
    max_per_source: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Allow at most N handshakes at a time from one source, which is an IPv4 address or an IPv6 /64 "
            "network, in each process; 0 means no limit.",
        ),
    ] = 100,
    max_failures: Annotated[
        str,
        typer.Option(
            metavar="N/MINUTES",
            help="After N wrong passwords for an account within MINUTES, make the source wait MINUTES before it may "
            "try that account again, and longer each time. After 10 times N wrong passwords for all accounts together, "
            "close the source's connections for as long. 0 means no limit.",
        ),
    ] = "10/10",
    max_failed: Annotated[
        int,
        typer.Option(
            "--max-failed",
            min=0,
            metavar="N",
            help="When more than N handshakes of a source fail in a second, make its next connections wait up to half "
            "a second; 0 means no limit.",
        ),
    ] = 20,
    proxy_protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NET",
            help="The address or network of a load balancer. Each connection from there must begin with a PROXY header "
            "(send-proxy, send-proxy-v2), and the address in it counts as the client's. May be given several times.",
        ),
    ] = None,
    handshake_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="End a handshake after this many seconds.")
    ] = 30.0,
    record: RecordFiles = None,
    record_most: MostRecords = None,
    with_secrets: WithSecrets = False,
    generated_account: GeneratedAccount = False,
    log_level: WithLogLevel = LogLevel.WARNING,
    verbose: Verbose = False,
    as_json: AsJSON = False,
) -> None:
    """Let users log on, and print a line for each handshake, until SIGTERM.

    The users come from a file (--users), from this machine's domain (--winbind) or from a Kerberos realm (--keytab).

    The exit status is 0 after SIGTERM or SIGINT, 2 if the command line is wrong, 4 if the server cannot listen on the
    address, 70 if a worker fails again and again, and 74 if the output cannot be written at the start.

    There is no desktop behind a logon: the server then echoes what it receives (--carriage tls), or closes the
    connection (--carriage rdp).

    The users file is in UTF-8 and has a line DOMAIN:USER:SECRET for each user. The first two colons separate the
    fields, and SECRET may contain more of them. SECRET is a password, or $NT$ followed by the 32 hex digits of an NT
    hash. A user with an empty SECRET can log on with a Kerberos ticket only. The USER * stands for every user of the
    domain who has a ticket. An empty DOMAIN stands for any domain, and for none. The case of user and domain does not
    matter. A line DOMAIN=SUFFIX says that USER@SUFFIX and the realm SUFFIX belong to DOMAIN. Lines that begin with #
    are skipped.
    """
    never_wait_for_stderr()
    out, err = render.consoles()
    log_from(LogLevel.DEBUG if verbose else log_level)
    with usage_errors():
        if workers is not None and not is_supported():
            raise UsageError("--workers needs linux, with fork and SO_REUSEPORT: run serve without it on this system")
        address = arguments.address(listen, default_port=RDP_PORT, lowest_port=0)
        policy = arguments.policy_of(
            min_version,
            max_version,
            min_tls,
            legacy_tls=dangerous_allow_legacy_tls,
            legacy_ciphers=dangerous_allow_legacy_ciphers,
            require_ntlm_mic=require_mic,
            mechanism=mechanism,
        )
        service_keys = _service_keys(keytab, spn)
        accounts: list[Users | WinbindOracle | None] = [None]
        warn = functools.partial(render.warning, err)
        records = ServerRecords(
            record or [],
            with_secrets=with_secrets,
            generated=generated_account,
            most=record_most,
            account_of=lambda domain, user: _line_of(accounts[0], domain, user),
            warn=warn,
        )
        if workers is not None:
            records.check_shared()
        accounts[0] = _accounts(users, winbind, ntlm_auth, tickets=service_keys is not None, more=records.generated)
        task = Serve(
            address=address,
            accounts=accounts[0],
            keytab=service_keys,
            realms=_realms(allow_realm, service_keys),
            refuse=refuse or [],
            certificate=_certificate(cert, key, address.host, key_type),
            carriage=_server_carriage(carriage, hybrid_ex=hybrid_ex),
            policy=allowed(read_policy(policy_file).for_server, policy),
            limits=Limits(
                handshakes=max_handshakes or None,
                per_source=max_per_source or None,
                failures=arguments.failure_limit(max_failures),
                failed_per_second=max_failed or None,
                handshake_timeout=arguments.seconds("--handshake-timeout", handshake_timeout),
            ),
            as_json=as_json,
            load_balancers=arguments.networks("--proxy-protocol", proxy_protocol or []),
            record=records.take if record else None,
        )
        config = task.config()
        _check_tickets(task, users)
        records.begin()
        if (keys := keylog or records.keylog) is not None:
            log_keys(config.ssl_context, keys)
    warn_of(err, task.policy, keylog)
    records.warn(err)
    if (made := records.generated) is not None:
        warn(f"log on as {made.user} with the password {made.password}: this account is recorded as a whole")
    for text in _notices(task, users, key):
        warn(text)
    try:
        if workers is None:
            try:
                until_done(serve(task, config, out, warn))
            finally:
                records.end()
        else:
            raise typer.Exit(serve_by_workers(task, config, out, count=workers, warn=warn, at_end=records.end))
    except CredSSPError as error:
        render.failure(err, error)
        raise typer.Exit(EXIT_STATUS[result_of(error)]) from None


def _server_carriage(choice: CarriageChoice, *, hybrid_ex: bool) -> Carriage:
    if choice is CarriageChoice.RDP:
        return RDP(hybrid_ex=hybrid_ex)
    if hybrid_ex:
        raise UsageError("expected --carriage rdp with --hybrid-ex, got tls: HYBRID_EX is a part of RDP's negotiation")
    return TLS()


def _notices(task: Serve, users: pathlib.Path | None, key: pathlib.Path | None) -> Iterator[str]:
    """Yield a warning for each option that is allowed but probably a mistake."""
    for option, path in (("--users", users), ("--key", key)):
        if path is not None and (text := arguments.exposed(option, path)):
            yield text
    if text := task.certificate.invalid:
        yield text
    if not isinstance(task.accounts, Users):
        return
    if not task.accounts and not task.accounts.by_ticket_alone:
        yield f"--users {users} has no entry, so nobody can log on"
    for name in task.refuse:
        if not task.accounts.knows(name):
            yield f"--refuse {name}: --users {users} has no such account"


def _service_keys(keytab: str | None, spn: str | None) -> Keytab | None:
    if keytab is None:
        if spn is not None:
            raise UsageError("--spn needs --keytab FILE")
        return None
    return Keytab("" if keytab == "default" else keytab, spn or "")


def _realms(allowed: list[str] | None, keytab: Keytab | None) -> Sequence[str]:
    """Return the realms whose tickets are accepted: those that the command line names, or else the keytab's own."""
    if keytab is None:
        if allowed:
            raise UsageError("--allow-realm needs --keytab FILE")
        return ()
    if allowed:
        return allowed
    try:
        realms = keytab_realms(keytab)
    except PolicyError as error:
        raise UsageError(str(error)) from None
    except CredSSPError as error:
        raise UsageError(f"cannot read --keytab {keytab.name or 'default'}: {error.message}") from None
    if not realms:
        raise UsageError(f"--keytab {keytab.name or 'default'}: expected keys, got none")
    return sorted(realms)


def _line_of(accounts: Users | WinbindOracle | None, domain: str, user: str) -> str | None:
    """Return the line of the users file by which a client logs on; None where there is none."""
    if not isinstance(accounts, Users):
        return None
    found = accounts.lookup(CredentialRequest(Principal(user, domain), "ntlm"))
    return account_line(found) if isinstance(found, Password | NTHash) else None


def _accounts(
    users: pathlib.Path | None,
    winbind: bool,
    ntlm_auth: str | None,
    *,
    tickets: bool,
    more: Password | None = None,
) -> Users | WinbindOracle | None:
    if more is not None:
        if winbind or users is not None:
            raise UsageError("--generated-account is the server's only account: give neither --users nor --winbind")
        return Users.parse((account_line(more) or "").encode())
    if winbind and users is not None:
        raise UsageError("expected one of --users FILE and --winbind, got both")
    if not winbind and users is None:
        if not tickets or ntlm_auth is not None:
            raise UsageError("expected --users FILE, --winbind or --keytab FILE, got none")
        return None
    if users is not None:
        if ntlm_auth is not None:
            raise UsageError("--ntlm-auth needs --winbind")
        return _users(users)
    # This logs the domain's own reason for refusing a logon, which no client is told.
    logger = logging.getLogger("acredssp.winbind")
    logger.setLevel(min(logging.INFO, logging.getLogger("acredssp").level))
    return WinbindOracle(command=(ntlm_auth or "ntlm_auth",))


def _users(path: pathlib.Path) -> Users:
    try:
        return Users.from_file(path)
    except OSError as error:
        raise unreadable("--users", path, error) from None
    except ValueError as error:
        raise UsageError(f"--users {error}") from None


def _check_tickets(task: Serve, users: pathlib.Path | None) -> None:
    """Refuse a users file with lines for logons by ticket if there is no keytab. Called after all other checks."""
    if isinstance(task.accounts, Users) and task.accounts.by_ticket_alone is not None and task.keytab is None:
        raise UsageError(
            f"--users {users}: line {task.accounts.by_ticket_alone}: an empty SECRET means a logon by Kerberos "
            "ticket, which needs --keytab FILE"
        )


def _certificate(cert: pathlib.Path | None, key: pathlib.Path | None, host: str, key_type: KeyType) -> Certificate:
    if cert is not None and key is not None:
        return Certificate.from_files(cert, key)
    if cert is not None or key is not None:
        raise UsageError("expected --cert FILE and --key FILE together, got one of them")
    return Certificate.self_made(host, key_type.value)


# --- serving ---


async def serve(task: Serve, config: ServerConfig, console: Console, warn: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        ConnectError: The server cannot listen on the address.
        OutputError: The line that says where the server listens cannot be written.
    """
    stop = asyncio.Event()
    lines = Lines(console, warn, as_json=task.as_json)
    service = Service(task, config, lines.handshake)
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
        try:
            await service.drain()
        finally:
            lines.end()


def serve_by_workers(  # noqa: PLR0913 - each is a fact of its own
    task: Serve,
    config: ServerConfig,
    console: Console,
    *,
    count: int,
    warn: Callable[[str], None],
    at_end: Callable[[], None] = lambda: None,
) -> int:
    """Serve with `count` processes until SIGTERM or SIGINT, then drain. Each of them calls `at_end` in the end.

    Returns:
        The exit status, as `Supervisor.run` gives it.

    Raises:
        ConnectError: The server cannot listen on the address.
        OutputError: The line that says where the server listens cannot be written.
    """
    try:
        places = bind(task.address.host, task.address.port, count)
    except OSError as error:
        raise _cannot_listen(task.address, error) from None

    def work(worker: Worker) -> int:
        try:
            loops.run(_serve_as(worker, task, config, console, warn))
        finally:
            at_end()
        return 0

    def ready() -> None:
        lines = Lines(console, warn, as_json=task.as_json)
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

    lines = Lines(console, warn, as_json=task.as_json, worker=worker)
    service = Service(task, config, lines.handshake)
    servers = [await service.listen(sock=listener, start_serving=False) for listener in worker.sockets]
    _on_signals(stop.set, signal.SIGTERM)
    worker.ready()
    loop.add_reader(worker.lifeline, told)
    for server in servers:
        await server.start_serving()
    await stop.wait()
    await service.drain()
    lines.end()


def _cannot_listen(address: Address, error: OSError) -> ConnectError:
    return ConnectError(
        f"cannot listen on {address}: {reason_of(error)}",
        stage=Stage.CONNECT,
        hint="choose another address with --listen HOST:PORT",
    )


def _bound(listeners: Sockets, address: Address) -> Address:
    """Return `address` with the port that the listener got."""
    assert hasattr(listeners[0], "getsockname")  # a listener of uvloop is no socket, but has the method
    return Address(address.host, listeners[0].getsockname()[1])


def _on_signals(stop: Callable[[], None], *numbers: signal.Signals) -> None:
    """Call `stop` on the first of these signals; a second signal has its usual effect."""
    loop = asyncio.get_running_loop()

    def caught() -> None:
        stop()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        with contextlib.suppress(NotImplementedError):  # on Windows, Ctrl-C interrupts the loop instead
            loop.add_signal_handler(number, caught)

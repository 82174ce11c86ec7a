"""The commands and their options: words in, exit status out. What they do is in `login`, `serve` and `demo`.

Exit statuses: 0 success, 1 denied, 2 usage, 3 protocol, 4 network or time-out, 70 a fault of ours, 74 output that
cannot be written, 130 Ctrl-C. Nothing that a user or a peer can do ends in a traceback.
"""

import contextlib
import dataclasses
import enum
import functools
import logging
import pathlib
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Annotated, Any, Final, TypeVar, cast

import typer
from rich.console import Console

import acredssp
from acredssp.aio.winbind import WinbindOracle
from acredssp.arguments import expect_host_name, expect_service_name
from acredssp.carriage.base import TLS, Carriage
from acredssp.carriage.rdp import RDP
from acredssp.cli import arguments, loops, output, render
from acredssp.cli.arguments import Secret
from acredssp.cli.certificate import Certificate
from acredssp.cli.demo import demo
from acredssp.cli.keylog import KEYLOG_WARNING, log_keys
from acredssp.cli.login import Login, log_on
from acredssp.cli.outcome import EXIT_STATUS, Result, UsageError, result_of, unreadable
from acredssp.cli.output import CANNOT_WRITE, OutputError
from acredssp.cli.report import DemoReport, LoginReport, ServeReport, to_json
from acredssp.cli.serve import Limits, Serve, serve, serve_by_workers
from acredssp.cli.users import Users
from acredssp.cli.workers import EXIT_FAILED, check_platform
from acredssp.config import ClientConfig
from acredssp.credentials import (
    Credential,
    Keytab,
    Nothing,
    NTHash,
    Password,
    RemoteGuard,
    TicketCache,
    logon_name,
)
from acredssp.delegation import DelegatedKind, DelegationPolicy
from acredssp.errors import CredSSPError, PolicyError
from acredssp.mechanisms.kerberos.tickets import keytab_realms
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, MechanismChoice, Policy
from acredssp.trust import Trust

__all__ = ["run"]

_T = TypeVar("_T")

_RDP_PORT = 3389
_WITHOUT_PASSWORD = {NTHash: "hash", TicketCache: "ticket", Keytab: "key"}
_INTERRUPTED = 130
"""What shells give for a program that SIGINT ended."""
_REPORTS: Final[dict[str, type[LoginReport | ServeReport | DemoReport]]] = {
    "demo": DemoReport,
    "login": LoginReport,
    "serve": ServeReport,
}
_CommandLineError: Final = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
"""What typer raises for a command line that it does not understand: click's ClickException, or its own copy of it."""

app = typer.Typer(
    name="acredssp",
    help="CredSSP logons, the handshake of Remote Desktop: as a client, as a server, and both as a demonstration.",
    add_completion=False,
    pretty_exceptions_enable=False,  # it would print local variables, and so passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)


class CarriageChoice(enum.StrEnum):
    """The protocol around CredSSP."""

    RDP = "rdp"
    TLS = "tls"


class LogLevel(enum.StrEnum):
    """The lowest level of log lines that are printed."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class KeyType(enum.StrEnum):
    """The key of a self-made certificate."""

    RSA = "rsa"
    EC = "ec"


MinVersion = Annotated[int, typer.Option(help="Lowest CredSSP version, 2 to 6; below 5 is open to CVE-2018-0886.")]
MaxVersion = Annotated[int, typer.Option(help="Highest CredSSP version, 2 to 6.")]
MinTLS = Annotated[
    arguments.TLSVersion, typer.Option(help="Lowest TLS version; below 1.2 it needs --dangerous-allow-legacy-tls.")
]
LegacyTLS = Annotated[
    bool,
    typer.Option(
        "--dangerous-allow-legacy-tls", help="Let --min-tls be 1.0 or 1.1, at OpenSSL's lowest security level."
    ),
]
LegacyCiphers = Annotated[
    bool,
    typer.Option("--dangerous-allow-legacy-ciphers", help="Also take RSA key exchange and CBC with SHA-1 (TLS 1.2)."),
]
KeyLog = Annotated[
    pathlib.Path | None,
    typer.Option(metavar="FILE", help="Append the keys of TLS to FILE, for Wireshark; they decrypt everything."),
]
WithCarriage = Annotated[CarriageChoice, typer.Option(help="rdp: RDP's negotiation, then TLS. tls: TLS at once.")]
PolicyFile = Annotated[
    pathlib.Path | None,
    typer.Option("--policy", metavar="FILE", help="Delegation policy in TOML, by the names of Windows' settings."),
]
WithMechanism = Annotated[
    MechanismChoice,
    typer.Option(
        help="auto: Kerberos in SPNEGO if a realm is named, else NTLM without SPNEGO. negotiate: always in SPNEGO. "
        "kerberos: only Kerberos, in SPNEGO. raw-kerberos and ntlm: only that one, without SPNEGO."
    ),
]
WithLogLevel = Annotated[
    LogLevel,
    typer.Option("--log-level", help="Print log lines from this level on to the standard error; no secret is logged."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="The same as --log-level debug.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def run(words: list[str]) -> int:
    """Run the command line `words` and return the exit status."""
    with output.guarded():
        try:
            status = _run(words)
            sys.stdout.flush()
        except OutputError as error:
            output.abandon()
            print(error, file=sys.stderr)  # noqa: T201
            status = CANNOT_WRITE
        except Exception:  # noqa: BLE001 - a fault of ours is no logon's result, as Python's own status 1 would say
            traceback.print_exc()
            status = EXIT_FAILED
        finally:
            _log(None)
        sys.stderr.flush()
    return status


def _run(words: list[str]) -> int:
    try:
        status = app(words, prog_name="acredssp", standalone_mode=False)
    except _CommandLineError as error:
        _, err = render.consoles()
        report = _usage_report(words, error.format_message().removeprefix("Invalid value: "))
        render.usage(err, report)
        if "--json" in words:
            print(to_json(report))  # noqa: T201
        return EXIT_STATUS[Result.USAGE]
    except typer.Abort:
        return _INTERRUPTED
    return status if isinstance(status, int) else 0


def _usage_report(words: list[str], message: str) -> LoginReport | ServeReport | DemoReport:
    """What to say, and what --json prints, where the command was not understood: the same keys as ever."""
    command = next((word for word in words if not word.startswith("-")), "")
    kind = _REPORTS.get(command)
    help_of = f"acredssp {command} --help" if kind else "acredssp --help"
    return (kind or LoginReport)(result=Result.USAGE, message=message, hint=f"{help_of} says what it takes")


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """Let typer show a `UsageError`, with the usage line and status 2."""
    try:
        yield
    except UsageError as error:
        raise typer.BadParameter(render.printable(str(error))) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"acredssp {acredssp.__version__}")  # noqa: T201
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _acredssp(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback sees to it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)  # noqa: T201
        raise typer.Exit(EXIT_STATUS[Result.USAGE])


# --- demo ---


@app.command("demo")
def _demo(
    count: Annotated[int, typer.Option(min=1, help="Handshakes.")] = 400,
    concurrency: Annotated[int, typer.Option(min=1, max=400, help="Handshakes at a time.")] = 100,
    as_json: AsJSON = False,
) -> None:
    """Show real handshakes, server and clients in this process: one step by step, then some hundreds at once."""
    out, _ = render.consoles()
    report = demo(out, count=count, concurrency=concurrency, quiet=as_json)
    if as_json:
        print(to_json(report))  # noqa: T201
    raise typer.Exit(EXIT_STATUS[report.result])


# --- login ---


@app.command("login")
def _login(  # noqa: PLR0913, PLR0917 - the options of a command line
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
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for connecting and the handshake.")] = 30.0,
    log_level: WithLogLevel = LogLevel.WARNING,
    verbose: Verbose = False,
    as_json: AsJSON = False,
) -> None:
    """Log on to a server, close the connection, and print how it went.

    Exit status: 0 logged on; 1 denied; 2 usage; 3 protocol, TLS, certificate, policy or version; 4 network or time-out;
    74 the output could not be written.
    """
    out, err = render.consoles()
    _log(LogLevel.DEBUG if verbose else log_level)
    with _usage_errors():
        address = arguments.address(host, default_port=_RDP_PORT)
        arguments.check_versions(min_version, max_version)
        trust = _trust(insecure, ca, pin, allow_weak=dangerous_allow_weak_certificates)
        delegation = _delegation(policy_file)
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
        policy = _allowed(delegation.for_client, policy)
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
            timeout=timeout,
        )
        if keylog is not None:
            log_keys(config.ssl_context, keylog)
    _warn(err, policy, keylog, trust)
    report, error = _until_done(log_on(task))
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
    with _values():
        expect_host_name("HOST", host)
        if name is not None:
            expect_host_name("--server-name", name)
    return name or host


def _spn(name: str | None) -> str | None:
    """Return the name if a service can have it."""
    if name is not None:
        with _values():
            expect_service_name("--spn", name)
    return name


@contextlib.contextmanager
def _values() -> Iterator[None]:
    """Make a value that cannot be a matter of the command line."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


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


# --- serve ---


@app.command("serve")
def _serve(  # noqa: PLR0913, PLR0917 - the options of a command line
    users: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="The users who may log on: one line DOMAIN:USER:SECRET for each, see above."),
    ] = None,
    winbind: Annotated[
        bool, typer.Option("--winbind", help="Let every user of this machine's domain log on, by Samba's winbind.")
    ] = False,
    ntlm_auth: Annotated[
        str | None, typer.Option(metavar="PROGRAM", help="For --winbind: Samba's helper; ntlm_auth unless given.")
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The address to listen on; port 0 takes a free port.")
    ] = "127.0.0.1:3389",
    cert: Annotated[
        pathlib.Path | None, typer.Option(metavar="FILE", help="The certificate chain in PEM; self-made unless given.")
    ] = None,
    key: Annotated[pathlib.Path | None, typer.Option(metavar="FILE", help="The private key of --cert in PEM.")] = None,
    key_type: Annotated[KeyType, typer.Option(help="The key of the self-made certificate.")] = KeyType.RSA,
    hybrid_ex: Annotated[
        bool, typer.Option("--hybrid-ex", help="Tell clients that ask for it whether the user may come in.")
    ] = False,
    refuse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER",
            help=r"Turn this account away once it has logged on: USER of any domain, DOMAIN\USER or USER@SUFFIX.",
        ),
    ] = None,
    keytab: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Let users log on by Kerberos, with the service's keys in FILE, or in /etc's for the word default.",
        ),
    ] = None,
    spn: Annotated[
        str | None, typer.Option(metavar="SPN", help="Take tickets for this service only, of those in the keytab.")
    ] = None,
    allow_realm: Annotated[
        list[str] | None,
        typer.Option(metavar="REALM", help="Take tickets of this realm; the keytab's own realms unless given."),
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
        typer.Option(min=1, max=1024, metavar="N", help="Serve with N processes, one for each core (Linux)."),
    ] = None,
    max_handshakes: Annotated[
        int, typer.Option(min=0, metavar="N", help="At most N handshakes at a time in each process; 0 for no limit.")
    ] = 500,
    max_per_source: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="At most N of these from one IPv4 address or IPv6 /64 network; 0 for no limit."
        ),
    ] = 100,
    max_failures: Annotated[
        str,
        typer.Option(
            metavar="N/MINUTES",
            help="After N wrong passwords for an account within MINUTES, a source has to wait MINUTES before it may "
            "try that account again, and longer each time. After 10 times N for all accounts, its connections are "
            "closed for as long. 0 for no limit.",
        ),
    ] = "10/10",
    handshake_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for one handshake.")] = 30.0,
    log_level: WithLogLevel = LogLevel.WARNING,
    verbose: Verbose = False,
    as_json: AsJSON = False,
) -> None:
    """Let users of a file, of the domain or of a KDC log on, and print a line for each handshake, until SIGTERM.

    Exit status: 0 after SIGTERM or SIGINT; 2 usage; 4 the address cannot be listened on; 70 a worker fails again and
    again; 74 the output cannot be written at the start.

    After the logon, the server echoes what it receives (--carriage tls) or closes the connection (--carriage rdp),
    since there is no desktop behind it.

    The users file is UTF-8, split at the first two colons of a line. SECRET is a password, or $NT$ and the 32 hex
    digits of an NT hash. An empty SECRET lets the user log on by Kerberos ticket alone, and the USER * stands for every
    user of the domain with a ticket. Lines that begin with # are skipped. The case of user and domain does not matter.
    An empty DOMAIN stands for any domain and for none. A line DOMAIN=SUFFIX says that USER@SUFFIX and the realm SUFFIX
    belong to DOMAIN.
    """
    out, err = render.consoles()
    _log(LogLevel.DEBUG if verbose else log_level)
    with _usage_errors():
        if workers is not None:
            check_platform()
        arguments.check_versions(min_version, max_version)
        address = arguments.address(listen, default_port=_RDP_PORT, lowest_port=0)
        tls = arguments.tls_settings(
            min_tls, legacy=dangerous_allow_legacy_tls, legacy_ciphers=dangerous_allow_legacy_ciphers
        )
        policy = Policy(
            min_version=min_version,
            max_version=max_version,
            dangerous_allow_legacy_versions=min_version < FIRST_SAFE_VERSION,
            **tls,
            require_ntlm_mic=require_mic,
            mechanism=mechanism,
        )
        service_keys = _service_keys(keytab, spn)
        task = Serve(
            address=address,
            accounts=_accounts(users, winbind, ntlm_auth, tickets=service_keys is not None),
            keytab=service_keys,
            realms=_realms(allow_realm, service_keys),
            refuse=refuse or [],
            certificate=_certificate(cert, key, address.host, key_type),
            carriage=_server_carriage(carriage, hybrid_ex=hybrid_ex),
            policy=_allowed(_delegation(policy_file).for_server, policy),
            limits=Limits(
                handshakes=max_handshakes or None,
                per_source=max_per_source or None,
                failures=arguments.failure_limit(max_failures),
                handshake_timeout=handshake_timeout,
            ),
            as_json=as_json,
        )
        config = task.config()
        if keylog is not None:
            log_keys(config.ssl_context, keylog)
    _warn(err, task.policy, keylog)
    warn = functools.partial(render.warning, err)
    for text in _notices(task, users, key):
        warn(text)
    try:
        if workers is None:
            _until_done(serve(task, config, out, warn))
        else:
            raise typer.Exit(serve_by_workers(task, config, out, count=workers, warn=warn))
    except CredSSPError as error:
        render.failure(err, error)
        raise typer.Exit(EXIT_STATUS[result_of(error)]) from None


def _server_carriage(choice: CarriageChoice, *, hybrid_ex: bool) -> Carriage:
    if choice is CarriageChoice.RDP:
        return RDP(hybrid_ex=hybrid_ex)
    if hybrid_ex:
        raise UsageError("expected --carriage rdp with --hybrid-ex, got tls: only RDP tells clients who may come in")
    return TLS()


def _notices(task: Serve, users: pathlib.Path | None, key: pathlib.Path | None) -> Iterator[str]:
    """What is no mistake for certain, and mostly is one."""
    for option, path in (("--users", users), ("--key", key)):
        if path is not None and (text := arguments.exposed(option, path)):
            yield text
    if not isinstance(task.accounts, Users):
        return
    if not task.accounts and not task.accounts.by_ticket_alone:
        yield f"--users {users} has no entry: nobody can log on"
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
    """Return the realms whose tickets are taken: those that the command line names, or the keytab's own."""
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


def _accounts(
    users: pathlib.Path | None, winbind: bool, ntlm_auth: str | None, *, tickets: bool
) -> Users | WinbindOracle | None:
    if winbind and users is not None:
        raise UsageError("expected one of --users FILE and --winbind, got both")
    if not winbind and users is None:
        if not tickets or ntlm_auth is not None:
            raise UsageError("expected --users FILE, --winbind or --keytab FILE, got none")
        return None
    if users is not None:
        if ntlm_auth is not None:
            raise UsageError("--ntlm-auth needs --winbind")
        known = Users.from_file(users)
        if known.by_ticket_alone and not tickets:
            raise UsageError("the users file has an empty SECRET, for a logon by ticket, which needs --keytab FILE")
        return known
    # Why a logon was refused, in the domain's own words: no client is told so much.
    logger = logging.getLogger("acredssp.winbind")
    logger.setLevel(min(logging.INFO, logging.getLogger("acredssp").level))
    return WinbindOracle(command=(ntlm_auth or "ntlm_auth",))


def _certificate(cert: pathlib.Path | None, key: pathlib.Path | None, host: str, key_type: KeyType) -> Certificate:
    if cert is not None and key is not None:
        return Certificate.from_files(cert, key)
    if cert is not None or key is not None:
        raise UsageError("expected --cert and --key together")
    return Certificate.self_made(host, key_type.value)


# --- both ---


def _delegation(path: pathlib.Path | None) -> DelegationPolicy:
    """Read the --policy file; Windows' defaults without one."""
    if path is None:
        return DelegationPolicy()
    try:
        return DelegationPolicy.from_file(str(path))
    except OSError as error:
        raise unreadable("--policy", path, error) from None
    except ValueError as error:
        raise UsageError(f"--policy: {error}") from None


def _allowed(floor: Callable[[Policy], Policy], policy: Policy) -> Policy:
    """Take away the versions that the --policy file forbids."""
    try:
        return floor(policy)
    except ValueError as error:
        raise UsageError(f"the --policy file forbids every version that the options allow: {error}") from None


def _log(level: LogLevel | None) -> None:
    """Have the library's log lines printed to the standard error from a level on; None for no longer."""
    logger = logging.getLogger("acredssp")
    logger.handlers = []
    logger.setLevel(level.upper() if level else logging.NOTSET)
    logging.getLogger("acredssp.winbind").setLevel(logging.NOTSET)
    if level is not None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.handlers = [handler]


def _warn(err: Console, policy: Policy, keylog: pathlib.Path | None, trust: Trust | None = None) -> None:
    """Say what the options have made weaker."""
    warnings = [arguments.legacy_warning(policy.min_version), *arguments.tls_warnings(policy)]
    warnings.append(arguments.weak_certificates_warning(trust))
    for warning in [*warnings, KEYLOG_WARNING if keylog is not None else None]:
        if warning is not None:
            render.warning(err, warning)


def _until_done(main: Coroutine[Any, Any, _T]) -> _T:
    try:
        return loops.run(main)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None

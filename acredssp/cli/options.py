"""The options that commands share, and the functions that act on them.

`login`, `winrm`, `serve` and `demo` call this module; `app` takes from it what every command does at its end.
"""

import contextlib
import dataclasses
import enum
import logging
import pathlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console

from acredssp.cli import arguments, loops, render
from acredssp.cli.keylog import KEYLOG_WARNING
from acredssp.cli.outcome import UsageError, unreadable
from acredssp.config import ClientConfig
from acredssp.ctrl_c import INTERRUPTED
from acredssp.delegation import DelegationPolicy
from acredssp.errors import PolicyError
from acredssp.policy import MechanismChoice, Policy
from acredssp.trust import Trust

__all__ = [
    "RDP_PORT",
    "AsJSON",
    "Authorities",
    "CarriageChoice",
    "Domain",
    "GeneratedAccount",
    "Insecure",
    "KeyLog",
    "KeytabFile",
    "LegacyCiphers",
    "LegacyTLS",
    "LoadBalanceInfo",
    "LogLevel",
    "MaxVersion",
    "MinTLS",
    "MinVersion",
    "MostRecords",
    "NTHashWord",
    "PasswordStdin",
    "PasswordWord",
    "Pin",
    "PolicyFile",
    "PreconnectionBlob",
    "PreconnectionId",
    "PrincipalName",
    "RecordFiles",
    "ServerName",
    "Tickets",
    "User",
    "Verbose",
    "WeakCertificates",
    "WithCarriage",
    "WithLogLevel",
    "WithMechanism",
    "WithSecrets",
    "allowed",
    "client_config",
    "log_from",
    "read_policy",
    "read_trust",
    "until_done",
    "usage_errors",
    "warn_of",
]

_T = TypeVar("_T")

RDP_PORT: Final = 3389


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


MinVersion = Annotated[
    int,
    typer.Option(
        metavar="N", help="The lowest CredSSP version to accept, 2 to 6; versions below 5 are open to CVE-2018-0886."
    ),
]
MaxVersion = Annotated[int, typer.Option(metavar="N", help="The highest CredSSP version to speak, 2 to 6.")]
MinTLS = Annotated[
    arguments.TLSVersion,
    typer.Option(help="The lowest TLS version to accept; 1.0 and 1.1 need --dangerous-allow-legacy-tls too."),
]
LegacyTLS = Annotated[
    bool,
    typer.Option(
        "--dangerous-allow-legacy-tls", help="Allow --min-tls 1.0 and 1.1, with OpenSSL's lowest security level."
    ),
]
LegacyCiphers = Annotated[
    bool,
    typer.Option(
        "--dangerous-allow-legacy-ciphers", help="Also accept RSA key exchange and CBC with SHA-1 in TLS 1.2."
    ),
]
KeyLog = Annotated[
    pathlib.Path | None,
    typer.Option(
        metavar="FILE",
        help="Append TLS's keys to FILE, for Wireshark. Whoever has them can decrypt a recording of the connection.",
    ),
]
WithCarriage = Annotated[
    CarriageChoice, typer.Option(help="rdp: negotiate as RDP does, then start TLS. tls: start TLS at once.")
]
LoadBalanceInfo = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The text by which a connection broker routes: loadbalanceinfo of an .rdp file."),
]
PreconnectionBlob = Annotated[
    str | None,
    typer.Option(
        "--pcb",
        metavar="TEXT",
        help="The preconnection blob: a text that tells Hyper-V or a gateway which machine the connection is for.",
    ),
]
PreconnectionId = Annotated[
    int | None,
    typer.Option(
        "--pcid",
        metavar="N",
        help="The preconnection id: a number that tells a gateway which machine the connection is for.",
    ),
]
PolicyFile = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="Read the delegation policy from this TOML file; see docs/policy.md."
    ),
]
ServerName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The name that the server's certificate must have, by default HOST."),
]
PrincipalName = Annotated[
    str | None,
    typer.Option(
        metavar="SPN", help="The server's principal name, by default TERMSRV/NAME with the NAME of --server-name."
    ),
]
WithMechanism = Annotated[
    MechanismChoice,
    typer.Option(
        help="auto: Kerberos in SPNEGO if a realm is named, otherwise NTLM without SPNEGO. negotiate: Kerberos or "
        "NTLM, always in SPNEGO. kerberos: only Kerberos, in SPNEGO. raw-kerberos: only Kerberos, without SPNEGO. "
        "ntlm: only NTLM, without SPNEGO. A server accepts each allowed mechanism with and without SPNEGO."
    ),
]
WithLogLevel = Annotated[
    LogLevel,
    typer.Option(
        "--log-level",
        help="Print log lines of this level and above to the standard error. Secrets are never logged.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Short for --log-level debug.")]
User = Annotated[
    str | None,
    typer.Option(
        "--user",
        "-u",
        metavar="USER",
        help=r"The user: USER, USER@SUFFIX or DOMAIN\USER; --ccache and --keytab work without it.",
    ),
]
Domain = Annotated[
    str | None,
    typer.Option(
        "--domain", "-d", metavar="DOMAIN", help="The user's domain; with '', the user is sent exactly as -u gives it."
    ),
]
PasswordWord = Annotated[
    str | None,
    typer.Option(
        "--password",
        "-p",
        metavar="PASSWORD",
        help="The password. Others on this machine can see it in the process list.",
    ),
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of the standard input.")
]
NTHashWord = Annotated[
    str | None,
    typer.Option(
        "--nt-hash",
        metavar="HEX",
        help="Log on with an NT hash; the server then gets no credentials (restricted admin).",
    ),
]
Tickets = Annotated[
    str | None,
    typer.Option(
        "--ccache",
        metavar="CACHE",
        help="Log on with the Kerberos tickets in FILE:/path; default stands for your own cache.",
    ),
]
KeytabFile = Annotated[
    str | None,
    typer.Option(
        "--keytab",
        metavar="FILE",
        help="Log on with the Kerberos key of the user in -u, or with the first key of the file.",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Accept any certificate without checking it, even an attacker's.")
]
Authorities = Annotated[
    pathlib.Path | None,
    typer.Option(metavar="FILE", help="Trust the authorities in this PEM file, in place of the system's."),
]
Pin = Annotated[
    str | None,
    typer.Option(
        metavar="SHA256",
        help="Trust only this server key, given by the SHA-256 of its SubjectPublicKeyInfo in hex.",
    ),
]
WeakCertificates = Annotated[
    bool,
    typer.Option(
        "--dangerous-allow-weak-certificates",
        help="Also accept certificates with RSA keys of 1024 to 2047 bits, with small curves or signed with SHA-1.",
    ),
]
RecordFiles = Annotated[
    list[pathlib.Path] | None,
    typer.Option(
        "--record",
        metavar="FILE",
        help="Write the handshake to FILE, for acredssp decode and replay; as a capture for Wireshark if the name ends "
        "in .pcapng; to a file of its own if FILE is a folder that is there. No file is written over. The record has "
        "no secret. May be given several times.",
    ),
]
MostRecords = Annotated[
    int | None,
    typer.Option(
        "--record-most",
        min=1,
        max=100_000,
        metavar="N",
        help="Record the first N handshakes, and no more: 100 unless given, and 1,000 in a folder.",
    ),
]
WithSecrets = Annotated[
    bool,
    typer.Option(
        "--with-secrets",
        help="Keep the password and the proofs in the record, and write TLS's keys to FILE.keylog. Whoever has these "
        "files can log on.",
    ),
]
GeneratedAccount = Annotated[
    bool,
    typer.Option(
        "--generated-account",
        help="Use an account that is made for this record, so that the record is whole and holds no one's secret.",
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON in place of text, for scripts.")]


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a `UsageError` into typer's own error, so that the command ends with exit status 2."""
    try:
        yield
    except UsageError as error:
        raise typer.BadParameter(render.printable(str(error))) from None


def read_policy(path: pathlib.Path | None) -> DelegationPolicy:
    """Return the policy of the --policy file, or Windows' defaults without such a file."""
    if path is None:
        return DelegationPolicy()
    try:
        return DelegationPolicy.from_file(str(path))
    except OSError as error:
        raise unreadable("--policy", path, error) from None
    except ValueError as error:
        raise UsageError(f"--policy: {error}{_requirement_in(str(error))}") from None


def _requirement_in(error: str) -> str:
    """Return the hint for who gives the requirements of a probe as a policy of delegation; empty for others."""
    name = next((each for each in ("fail_at", "forbid", "accept") if f"{each}: no such setting" in error), None)
    if name is None:
        return ""
    return f" ({name} is a requirement of acredssp probe; here --policy names the rules of delegation)"


def read_trust(insecure: bool, ca: pathlib.Path | None, pin: str | None, *, allow_weak: bool) -> Trust | None:
    """Return the authorities or the key that the options trust; None for the configuration's default."""
    trust = _named_trust(insecure, ca, pin)
    if not allow_weak or insecure:
        return trust
    return dataclasses.replace(trust or Trust.system(), dangerous_allow_weak_certificates=True)


def _named_trust(insecure: bool, ca: pathlib.Path | None, pin: str | None) -> Trust | None:
    if insecure + (ca is not None) + (pin is not None) > 1:
        raise UsageError("expected one of --insecure, --ca and --pin, got several")
    try:
        if ca is not None:
            return Trust.from_file(str(ca))
        return Trust.pinned(pin) if pin is not None else None
    except OSError as error:
        assert ca is not None
        raise unreadable("--ca", ca, error) from None
    except ValueError as error:
        raise UsageError(f"--ca: {error}" if ca is not None else "--pin: expected a SHA-256 of 64 hex digits") from None


def allowed(floor: Callable[[Policy], Policy], policy: Policy) -> Policy:
    """Return `policy` without the CredSSP versions that the --policy file forbids.

    Args:
        floor: `DelegationPolicy.for_client` or `for_server`.
        policy: The policy of the other options.

    Raises:
        UsageError: No version is left.
    """
    try:
        return floor(policy)
    except ValueError as error:
        raise UsageError(f"the --policy file forbids every version that the options allow: {error}") from None


def client_config(**settings: Any) -> ClientConfig:
    """Return a client's configuration.

    Raises:
        UsageError: The settings contradict each other.
    """
    try:
        return ClientConfig(**settings)
    except PolicyError as error:
        raise UsageError(str(error)) from None


def log_from(level: LogLevel | None) -> None:
    """Print the library's log lines of a level and above to the standard error; None stops that."""
    logger = logging.getLogger("acredssp")
    logger.handlers = []
    logger.setLevel(level.upper() if level else logging.NOTSET)
    logging.getLogger("acredssp.winbind").setLevel(logging.NOTSET)
    if level is not None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.handlers = [handler]


def warn_of(err: Console, policy: Policy, keylog: pathlib.Path | None, trust: Trust | None = None) -> None:
    """Print a warning for each option that makes the handshake weaker."""
    warnings = [arguments.legacy_warning(policy.min_version), *arguments.tls_warnings(policy)]
    warnings.append(arguments.weak_certificates_warning(trust))
    for warning in [*warnings, KEYLOG_WARNING if keylog is not None else None]:
        if warning is not None:
            render.warning(err, warning)


def until_done(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on a fresh event loop; Ctrl-C ends the command with exit status 130."""
    try:
        return loops.run(main)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None

"""The options that `login` and `serve` share, and what both commands make of them.

Who calls: `login`, `serve`, `demo`; `app` for what every command ends with.
"""

import contextlib
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
from acredssp.delegation import DelegationPolicy
from acredssp.policy import MechanismChoice, Policy
from acredssp.trust import Trust

__all__ = [
    "INTERRUPTED",
    "RDP_PORT",
    "AsJSON",
    "CarriageChoice",
    "KeyLog",
    "LegacyCiphers",
    "LegacyTLS",
    "LogLevel",
    "MaxVersion",
    "MinTLS",
    "MinVersion",
    "PolicyFile",
    "Verbose",
    "WithCarriage",
    "WithLogLevel",
    "WithMechanism",
    "allowed",
    "log_from",
    "read_policy",
    "until_done",
    "usage_errors",
    "warn_of",
]

_T = TypeVar("_T")

RDP_PORT: Final = 3389
INTERRUPTED: Final = 130
"""What shells give for a program that SIGINT ended."""


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


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Let typer show a `UsageError`, with the usage line and status 2."""
    try:
        yield
    except UsageError as error:
        raise typer.BadParameter(render.printable(str(error))) from None


def read_policy(path: pathlib.Path | None) -> DelegationPolicy:
    """Read the --policy file; Windows' defaults without one."""
    if path is None:
        return DelegationPolicy()
    try:
        return DelegationPolicy.from_file(str(path))
    except OSError as error:
        raise unreadable("--policy", path, error) from None
    except ValueError as error:
        raise UsageError(f"--policy: {error}") from None


def allowed(floor: Callable[[Policy], Policy], policy: Policy) -> Policy:
    """Take away the versions that the --policy file forbids."""
    try:
        return floor(policy)
    except ValueError as error:
        raise UsageError(f"the --policy file forbids every version that the options allow: {error}") from None


def log_from(level: LogLevel | None) -> None:
    """Have the library's log lines printed to the standard error from a level on; None for no longer."""
    logger = logging.getLogger("acredssp")
    logger.handlers = []
    logger.setLevel(level.upper() if level else logging.NOTSET)
    logging.getLogger("acredssp.winbind").setLevel(logging.NOTSET)
    if level is not None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.handlers = [handler]


def warn_of(err: Console, policy: Policy, keylog: pathlib.Path | None, trust: Trust | None = None) -> None:
    """Say what the options have made weaker."""
    warnings = [arguments.legacy_warning(policy.min_version), *arguments.tls_warnings(policy)]
    warnings.append(arguments.weak_certificates_warning(trust))
    for warning in [*warnings, KEYLOG_WARNING if keylog is not None else None]:
        if warning is not None:
            render.warning(err, warning)


def until_done(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in a loop of its own; Ctrl-C ends the command with its exit status."""
    try:
        return loops.run(main)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None

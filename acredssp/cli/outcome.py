"""How a handshake ended, for people and for scripts: results, exit statuses, advice about a failure.

`login` and `serve` share these results. The words and the numbers never change: scripts depend on them.
"""

import contextlib
import enum
import errno
import os
import pathlib
import re
import socket
import stat
from typing import BinaryIO, Final

from acredssp.aio import reason_of
from acredssp.errors import (
    AuthenticationError,
    CredSSPError,
    HandshakeTimeout,
    LimitExceeded,
    PeerClosed,
    TLSError,
)
from acredssp.status import SecurityStatus, Stage
from acredssp.trust import OptionNames

__all__ = [
    "EXIT_STATUS",
    "OWN_LIMIT",
    "ConnectError",
    "Interrupted",
    "Result",
    "UsageError",
    "advice",
    "expect_new",
    "expect_readable",
    "in_options",
    "is_own_limit",
    "read_bounded",
    "result_of",
    "unreadable",
]


class Result(enum.StrEnum):
    """How a command ended: the value of `result` in `--json`."""

    SUCCESS = "success"
    DENIED = "denied"
    PROTOCOL_ERROR = "protocol_error"
    """The failure concerns the protocol, TLS, the certificate, the policy or the version."""
    NETWORK_ERROR = "network_error"
    TIMEOUT = "timeout"
    USAGE = "usage"
    INTERRUPTED = "interrupted"
    """Ctrl-C ended a doctor, which tells what it knows by then."""


EXIT_STATUS: Final = {
    Result.SUCCESS: 0,
    Result.DENIED: 1,
    Result.USAGE: 2,
    Result.PROTOCOL_ERROR: 3,
    Result.NETWORK_ERROR: 4,
    Result.TIMEOUT: 4,
    Result.INTERRUPTED: 130,
}


class UsageError(Exception):
    """The command line was not understood, or names something that cannot be used. The text quotes no secret."""


def unreadable(option: str, path: pathlib.Path, error: OSError) -> UsageError:
    """Return the error for a file that an option names and that cannot be read."""
    return UsageError(f"cannot read {option} {path}: {reason_of(error)}")


def expect_readable(option: str, path: pathlib.Path) -> None:
    """Check that a file that an option names can be read.

    Raises:
        UsageError: It cannot.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise unreadable(option, path, error) from None


def expect_new(option: str, path: pathlib.Path) -> None:
    """Make a file that an option names and that its owner alone can read, and check that it is empty.

    A pipe or a device may be there already.

    Raises:
        UsageError: It cannot be written, or the file is there and has something in it.
    """
    try:
        at_once = getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody reads is an error, and nothing to wait for
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | at_once, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {option} {path}: {reason_of(error)}") from None
    with os.fdopen(descriptor, "wb") as file:
        facts = os.fstat(file.fileno())
    if stat.S_ISREG(facts.st_mode) and facts.st_size:
        raise UsageError(f"{option} {path}: expected a new file, got one that is there: move it or give another name")


def read_bounded(option: str, path: pathlib.Path, most: int, file: BinaryIO | None = None) -> bytes:
    """Read a file that an option names.

    Args:
        option: The option, for an error.
        path: The file's name.
        most: The most bytes that the file may have.
        file: What is read in place of the file, such as the standard input; None for the file.

    Raises:
        UsageError: The file cannot be read, or has more than `most` bytes.
    """
    data = bytearray()
    try:
        with path.open("rb") if file is None else contextlib.nullcontext(file) as source:
            while len(data) <= most and (piece := source.read(most + 1 - len(data))):
                data += piece
    except OSError as error:
        raise unreadable(option, path, error) from None
    if len(data) > most:
        raise UsageError(f"{option} {path}: expected at most {most} bytes, got more")
    return bytes(data)


OWN_LIMIT: Final = "this machine has refused it, and not the server: allow this process more open files (ulimit -n)"
"""The advice where `is_own_limit` is true."""
_OWN_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def is_own_limit(error: Exception) -> bool:
    """Return whether this machine has refused a connection, for which it had no descriptor or no memory.

    The resolver says only that it cannot find the name where it could open no file: then a file is opened here.
    """
    if not isinstance(error, socket.gaierror):
        return isinstance(error, OSError) and error.errno in _OWN_LIMITS
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as own:
        return own.errno in _OWN_LIMITS
    return False


class ConnectError(CredSSPError, ConnectionError):
    """The connection for a handshake could not be made."""


class Interrupted(CredSSPError):
    """Ctrl-C ended the command before the logon was over."""


def result_of(error: CredSSPError | None) -> Result:  # noqa: PLR0911 - one for each result
    """Return the result of a handshake that ended with `error`; None stands for a success."""
    match error:
        case None:
            return Result.SUCCESS
        case Interrupted():
            return Result.INTERRUPTED
        case AuthenticationError():
            # Where the KDC does not know the service, the server was never asked.
            unknown = error.security_status is SecurityStatus.SEC_E_TARGET_UNKNOWN
            return Result.PROTOCOL_ERROR if unknown else Result.DENIED
        case TLSError(security_status=SecurityStatus.SEC_E_LOGON_DENIED):  # the alert access_denied
            return Result.DENIED
        case HandshakeTimeout():
            return Result.TIMEOUT
        case ConnectionError():
            return Result.NETWORK_ERROR
        case _:
            return Result.PROTOCOL_ERROR


def advice(error: CredSSPError) -> str:
    """Return what a user or administrator can do about a failure, in the words of the command line."""
    if error.hint:
        return in_options(error.hint)
    if isinstance(error, HandshakeTimeout) and error.stage is Stage.CONNECT:
        return "no program answers at this address: check the host, the port and the firewall"
    if isinstance(error, HandshakeTimeout) and error.stage in (Stage.NEGOTIATION, Stage.TLS):
        return "the peer stopped answering: check the port and --carriage, or allow more time with --timeout"
    return next((text for kind, text in _ADVICE_ON_KIND.items() if isinstance(error, kind)), _ADVICE)


def in_options(text: str) -> str:
    """Return a text of the library with the names of options in place of those of arguments."""
    text = _NAMES.put_into(text)
    for pattern, option in _OPTIONS:
        text = pattern.sub(option, text)
    return text


_NAMES: Final = OptionNames(
    name="--server-name", authority="--ca", pin="--pin", weak="--dangerous-allow-weak-certificates"
)
_OPTIONS: Final = tuple(
    (re.compile(pattern), option)
    for pattern, option in (
        (r"\b[a-z_]+ of the DelegationPolicy \((\w+) on windows\)", r"\1 of the file of --policy"),
        (r"\bPolicy\(min_version=2, dangerous_allow_legacy_versions=True\)", "--min-version 2"),
        (r"\bPolicy\.handshake_timeout, and the library's own limits", "--timeout"),
        (r"\bssl_context\b", "--ca"),
        (r"\(spn\)", "(--spn)"),
    )
)
"""Pairs of a pattern and an option. The pattern finds a name of the library in a hint; the option takes its place."""

_ADVICE: Final = (
    "the peer broke the protocol: check which program answers at this port, and that no attacker or proxy is in between"
)
_ADVICE_ON_KIND: Final[dict[type[CredSSPError], str]] = {
    AuthenticationError: "the server gave no reason: ask its administrator for the reason in the server's log",
    HandshakeTimeout: "the peer stopped answering: check the peer's log, or allow more time with --timeout",
    TLSError: "check that the peer speaks tls 1.2 or 1.3, and that --carriage is right",
    PeerClosed: "check the port and --carriage, and read the server's log",
    LimitExceeded: "the peer exceeded a protocol limit: check which program answers at this port",
}

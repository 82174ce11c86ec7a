"""How a handshake ended, for people and for scripts: results, exit statuses, what to do about a failure.

`login` and `serve` speak of the same results. The words and the numbers are a promise: scripts depend on them.
"""

import enum
import os
import socket
from typing import Final

from acredssp.errors import (
    AuthenticationError,
    CredSSPError,
    HandshakeTimeout,
    LimitExceeded,
    PeerClosed,
    TLSError,
)
from acredssp.status import NTSTATUS, SecurityStatus, Stage

__all__ = ["EXIT_STATUS", "ConnectError", "Result", "UsageError", "advice", "reason_of", "result_of"]


class Result(enum.StrEnum):
    """The word in `--json`."""

    SUCCESS = "success"
    DENIED = "denied"
    PROTOCOL_ERROR = "protocol_error"
    """The protocol, TLS, the certificate, our policy, the version."""
    NETWORK_ERROR = "network_error"
    TIMEOUT = "timeout"
    USAGE = "usage"


EXIT_STATUS: Final = {
    Result.SUCCESS: 0,
    Result.DENIED: 1,
    Result.USAGE: 2,
    Result.PROTOCOL_ERROR: 3,
    Result.NETWORK_ERROR: 4,
    Result.TIMEOUT: 4,
}


class UsageError(Exception):
    """The command was called in a way that makes no sense; the text says which, and never quotes a secret."""


class ConnectError(CredSSPError, ConnectionError):
    """There is no connection to do a handshake on."""


def result_of(error: CredSSPError | None) -> Result:
    """Say what a handshake that ended with `error` came to; None is a success."""
    match error:
        case None:
            return Result.SUCCESS
        case AuthenticationError():
            return Result.DENIED
        case TLSError(security_status=SecurityStatus.SEC_E_LOGON_DENIED):  # the alert access_denied
            return Result.DENIED
        case HandshakeTimeout():
            return Result.TIMEOUT
        case PeerClosed() | ConnectError():
            return Result.NETWORK_ERROR
        case _:
            return Result.PROTOCOL_ERROR


def reason_of(error: OSError | UnicodeError) -> str:
    """Say what the operating system, or the name of a host, has against a connection."""
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror):
        return str(error.strerror or error)  # its numbers are its own
    return os.strerror(number).lower() if number else str(error)


def advice(error: CredSSPError) -> str:
    """Say what a person can do about it."""
    if error.hint:
        return error.hint
    if error.nt_status in _ADVICE_ON_STATUS:
        return _ADVICE_ON_STATUS[error.nt_status]
    if isinstance(error, HandshakeTimeout) and error.stage is Stage.CONNECT:
        return "nobody answers there: see host, port and firewall"
    return next((text for kind, text in _ADVICE_ON_KIND.items() if isinstance(error, kind)), _ADVICE)


_ADVICE: Final = "the peer breaks the protocol: see what runs there, and that nobody is in between"
_ADVICE_ON_KIND: Final[dict[type[CredSSPError], str]] = {
    AuthenticationError: "check user, domain and password, then ask who runs the server",
    HandshakeTimeout: "the peer stopped talking: see its log, or allow more with --timeout",
    TLSError: "see that the peer speaks tls 1.2 or 1.3, and that --carriage is the right one",
    PeerClosed: "see that port and --carriage are the right ones, and what the server's log says",
    LimitExceeded: "the peer sends more than any known one: see what it is",
}
_ADVICE_ON_STATUS: Final = {
    NTSTATUS.STATUS_LOGON_FAILURE: "check user, domain and password",
    NTSTATUS.STATUS_WRONG_PASSWORD: "check the password",
    NTSTATUS.STATUS_NO_SUCH_USER: "check user and domain",
    NTSTATUS.STATUS_ACCESS_DENIED: "the logon was right, but the user may not log on here: ask for that right",
    NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED: "the user may not log on remotely: ask for that right",
    NTSTATUS.STATUS_ACCOUNT_RESTRICTION: "the account is restricted: an empty password, or logons of this kind",
    NTSTATUS.STATUS_INVALID_LOGON_HOURS: "the account may not log on at this time",
    NTSTATUS.STATUS_INVALID_WORKSTATION: "the account may not log on from here",
    NTSTATUS.STATUS_PASSWORD_EXPIRED: "set a new password first",
    NTSTATUS.STATUS_PASSWORD_MUST_CHANGE: "set a new password first",
    NTSTATUS.STATUS_ACCOUNT_DISABLED: "have the account enabled",
    NTSTATUS.STATUS_ACCOUNT_EXPIRED: "have the account extended",
    NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT: "have the account unlocked, or wait",
    NTSTATUS.STATUS_NO_LOGON_SERVERS: "the server reaches no domain controller: try later",
    NTSTATUS.STATUS_TRUSTED_RELATIONSHIP_FAILURE: "the server has fallen out of its domain: tell who runs it",
    NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC: "set the clocks",
    NTSTATUS.STATUS_NOT_SUPPORTED: "the versions of both sides do not meet: see --min-version and --max-version",
    NTSTATUS.STATUS_SMARTCARD_LOGON_REQUIRED: "the account needs a smart card",
    NTSTATUS.STATUS_CTX_LOGON_DISABLED: "logons are switched off on the server",
}

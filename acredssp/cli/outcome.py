"""How a handshake ended, for people and for scripts: results, exit statuses, advice about a failure.

`login` and `serve` share these results. The words and the numbers never change: scripts depend on them.
"""

import enum
import os
import pathlib
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

__all__ = ["EXIT_STATUS", "ConnectError", "Result", "UsageError", "advice", "reason_of", "result_of", "unreadable"]


class Result(enum.StrEnum):
    """How a command ended: the value of `result` in `--json`."""

    SUCCESS = "success"
    DENIED = "denied"
    PROTOCOL_ERROR = "protocol_error"
    """The failure concerns the protocol, TLS, the certificate, the policy or the version."""
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
    """The command line was not understood, or names something that cannot be used. The text quotes no secret."""


def unreadable(option: str, path: pathlib.Path, error: OSError) -> UsageError:
    """Return the error for a file that an option names and that cannot be read."""
    return UsageError(f"cannot read {option} {path}: {reason_of(error)}")


class ConnectError(CredSSPError, ConnectionError):
    """The connection for a handshake could not be made."""


def result_of(error: CredSSPError | None) -> Result:
    """Return the result of a handshake that ended with `error`; None stands for a success."""
    match error:
        case None:
            return Result.SUCCESS
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


def reason_of(error: OSError | UnicodeError) -> str:
    """Return in words why the operating system refused a call, or why a host name cannot be resolved."""
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror):
        return str(error.strerror or error)  # the numbers of the resolver are none of errno's
    return os.strerror(number).lower() if number else str(error)


def advice(error: CredSSPError) -> str:
    """Return what a user or administrator can do about a failure."""
    if error.hint:
        return error.hint
    if error.nt_status is not None and error.nt_status.stands_for in _ADVICE_ON_STATUS:
        return _ADVICE_ON_STATUS[error.nt_status.stands_for]
    if isinstance(error, HandshakeTimeout) and error.stage is Stage.CONNECT:
        return "no program answers at this address: check the host, the port and the firewall"
    if isinstance(error, HandshakeTimeout) and error.stage in (Stage.NEGOTIATION, Stage.TLS):
        return "the peer stopped answering: check the port and --carriage, or allow more time with --timeout"
    return next((text for kind, text in _ADVICE_ON_KIND.items() if isinstance(error, kind)), _ADVICE)


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
_CHECK_ACCOUNT: Final = "check the user, the domain and the password"
_ADVICE_ON_STATUS: Final = {
    NTSTATUS.STATUS_LOGON_FAILURE: _CHECK_ACCOUNT,
    NTSTATUS.STATUS_WRONG_PASSWORD: "check the password",
    NTSTATUS.STATUS_NO_SUCH_USER: "check the user and the domain",
    NTSTATUS.STATUS_NO_SUCH_DOMAIN: "check the domain: the server does not know it",
    NTSTATUS.STATUS_ACCESS_DENIED: "the password is right, but the user may not log on to this server: "
    "ask its administrator for the right to log on",
    NTSTATUS.STATUS_PRIVILEGE_NOT_HELD: "the user lacks a right on the server: ask its administrator",
    NTSTATUS.STATUS_LOGON_NOT_GRANTED: "the user may not log on to this server: "
    "ask its administrator for the right to log on",
    NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED: "the user may not log on remotely: "
    "ask the server's administrator for the right to log on by Remote Desktop",
    NTSTATUS.STATUS_AUTHENTICATION_FIREWALL_FAILED: "the server's domain accepts only named users of the other domain "
    '(selective authentication): ask for the right "allowed to authenticate" on this server',
    NTSTATUS.STATUS_ACCOUNT_RESTRICTION: "a rule for the account forbids this logon: the password may be empty, the "
    "account may be barred from this kind of logon, or a protected user needs --mechanism kerberos",
    NTSTATUS.STATUS_NTLM_BLOCKED: "the server or its domain refuses NTLM: log on with Kerberos, by --mechanism "
    "kerberos, -u USER@REALM and the server's name in place of its address",
    NTSTATUS.STATUS_INVALID_LOGON_HOURS: "the account may not log on at this time: try in its logon hours",
    NTSTATUS.STATUS_INVALID_WORKSTATION: "the account may not log on from this computer: use another computer, or ask "
    "the account's administrator",
    NTSTATUS.STATUS_PASSWORD_EXPIRED: "the password has expired: set a new one first",
    NTSTATUS.STATUS_PASSWORD_MUST_CHANGE: "the password must be changed before the user logs on: set a new one first",
    NTSTATUS.STATUS_PASSWORD_RESTRICTION: "the password does not meet the domain's rules: set a new one first",
    NTSTATUS.STATUS_ACCOUNT_DISABLED: "ask an administrator to enable the account",
    NTSTATUS.STATUS_ACCOUNT_EXPIRED: "ask an administrator to extend the account",
    NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT: "ask an administrator to unlock the account, or wait",
    NTSTATUS.STATUS_NOLOGON_INTERDOMAIN_TRUST_ACCOUNT: "this account belongs to a domain: use a user's account",
    NTSTATUS.STATUS_NOLOGON_WORKSTATION_TRUST_ACCOUNT: "this account belongs to a computer: use a user's account",
    NTSTATUS.STATUS_NOLOGON_SERVER_TRUST_ACCOUNT: "this account belongs to a domain controller: use a user's account",
    NTSTATUS.STATUS_NO_LOGON_SERVERS: "the server cannot reach a domain controller: try again later",
    NTSTATUS.STATUS_DOMAIN_CONTROLLER_NOT_FOUND: "the server cannot find a domain controller: try again later",
    NTSTATUS.STATUS_NETLOGON_NOT_STARTED: "the service Netlogon does not run on the server: tell its administrator",
    NTSTATUS.STATUS_INVALID_SERVER_STATE: "the server's account database is not ready: try again later, or tell "
    "the server's administrator",
    NTSTATUS.STATUS_NO_TRUST_LSA_SECRET: "the server has lost its membership of the domain: tell its administrator",
    NTSTATUS.STATUS_NO_TRUST_SAM_ACCOUNT: "the domain has no account for the server's computer: tell an administrator",
    NTSTATUS.STATUS_TRUSTED_DOMAIN_FAILURE: "the server's domain and the account's domain do not trust each other: "
    "tell the administrators of both domains",
    NTSTATUS.STATUS_TRUSTED_RELATIONSHIP_FAILURE: "the server has lost its membership of the domain: "
    "tell its administrator",
    NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC: "set the clocks of the server and of its domain controller",
    NTSTATUS.STATUS_DOWNGRADE_DETECTED: "the server sees a weaker logon than it expects: an attacker may be in "
    "between, or the server cannot reach the account's domain controller",
    NTSTATUS.STATUS_BAD_BINDINGS: "the logon belongs to another tls connection: an attacker may be in between, or a "
    "proxy ends tls in front of the server",
    NTSTATUS.STATUS_NOT_SUPPORTED: "both sides have no CredSSP version in common: see --min-version and --max-version",
    NTSTATUS.STATUS_SMARTCARD_LOGON_REQUIRED: "the account can log on with a smart card only",
    NTSTATUS.STATUS_SMARTCARD_WRONG_PIN: "check the smart card's pin",
    NTSTATUS.STATUS_PKINIT_FAILURE: "the domain controller refuses the certificate: tell its administrator",
    NTSTATUS.STATUS_NO_KERB_KEY: "the account has no Kerberos key: set its password again",
    NTSTATUS.STATUS_CTX_LOGON_DISABLED: "logons are switched off on the server",
    NTSTATUS.STATUS_INSUFFICIENT_RESOURCES: "the server is out of resources: try again later, or tell its "
    "administrator",
    # The servers of pyspnego and sspi-rs send the first two; FreeRDP 3's and gnome-remote-desktop's send the third
    # whatever is wrong.
    NTSTATUS(0x8009030C): _CHECK_ACCOUNT,
    NTSTATUS(0xC007030C): _CHECK_ACCOUNT,
    NTSTATUS(0xC00700EA): "FreeRDP's servers refuse every logon with this number: " + _CHECK_ACCOUNT,
}

"""How a handshake ended, for people and for scripts: results, exit statuses, what to do about a failure.

`login` and `serve` speak of the same results. The words and the numbers are a promise: scripts depend on them.
"""

import enum
import os
import pathlib
import socket
from typing import Final

from acredssp.errors import (
    AuthenticationError,
    CredSSPError,
    HandshakeAborted,
    HandshakeTimeout,
    LimitExceeded,
    PeerClosed,
    TLSError,
)
from acredssp.status import NTSTATUS, SecurityStatus, Stage

__all__ = ["EXIT_STATUS", "ConnectError", "Result", "UsageError", "advice", "reason_of", "result_of", "unreadable"]


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
    """The command line makes no sense; the text says why, and never quotes a secret."""


def unreadable(option: str, path: pathlib.Path, error: OSError) -> UsageError:
    """Make the error for a file of the command line that cannot be read."""
    return UsageError(f"cannot read {option} {path}: {reason_of(error)}")


class ConnectError(CredSSPError, ConnectionError):
    """The connection for a handshake could not be made."""


def result_of(error: CredSSPError | None) -> Result:
    """Return the result of a handshake that ended with `error`; None stands for a success."""
    match error:
        case None:
            return Result.SUCCESS
        case AuthenticationError():
            # Where the kdc does not know the service, the server was never asked.
            unknown = error.security_status is SecurityStatus.SEC_E_TARGET_UNKNOWN
            return Result.PROTOCOL_ERROR if unknown else Result.DENIED
        case TLSError(security_status=SecurityStatus.SEC_E_LOGON_DENIED):  # the alert access_denied
            return Result.DENIED
        case HandshakeTimeout():
            return Result.TIMEOUT
        case PeerClosed() | ConnectError() | HandshakeAborted():
            return Result.NETWORK_ERROR
        case _:
            return Result.PROTOCOL_ERROR


def reason_of(error: OSError | UnicodeError) -> str:
    """Return in words why the operating system could not do it, or why a host name cannot be resolved."""
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror):
        return str(error.strerror or error)  # its numbers are its own
    return os.strerror(number).lower() if number else str(error)


def advice(error: CredSSPError) -> str:
    """Return what a person can do about a failure."""
    if error.hint:
        return error.hint
    if error.nt_status is not None and error.nt_status.stands_for in _ADVICE_ON_STATUS:
        return _ADVICE_ON_STATUS[error.nt_status.stands_for]
    if isinstance(error, HandshakeTimeout) and error.stage is Stage.CONNECT:
        return "nobody answers at this address: check the host, the port and the firewall"
    if isinstance(error, HandshakeTimeout) and error.stage in (Stage.NEGOTIATION, Stage.TLS):
        return "the peer stopped answering: check the port and --carriage, or allow more time with --timeout"
    return next((text for kind, text in _ADVICE_ON_KIND.items() if isinstance(error, kind)), _ADVICE)


_ADVICE: Final = "the peer breaks the protocol: check which program answers at this port, and that nobody is in between"
_ADVICE_ON_KIND: Final[dict[type[CredSSPError], str]] = {
    AuthenticationError: "the server does not say why: its log may, so ask its administrator",
    HandshakeTimeout: "the peer stopped answering: check its log, or allow more time with --timeout",
    TLSError: "check that the peer speaks tls 1.2 or 1.3, and that --carriage is right",
    PeerClosed: "check that the port and --carriage are right, and what the server's log says",
    LimitExceeded: "the peer sends more than any known program does: check which program it is",
}
_CHECK_ACCOUNT: Final = "check user, domain and password"
_ADVICE_ON_STATUS: Final = {
    NTSTATUS.STATUS_LOGON_FAILURE: _CHECK_ACCOUNT,
    NTSTATUS.STATUS_WRONG_PASSWORD: "check the password",
    NTSTATUS.STATUS_NO_SUCH_USER: "check user and domain",
    NTSTATUS.STATUS_NO_SUCH_DOMAIN: "check the domain: the server does not know it",
    NTSTATUS.STATUS_ACCESS_DENIED: "the logon was right, but the user may not log on here: ask for that right",
    NTSTATUS.STATUS_PRIVILEGE_NOT_HELD: "the user lacks a right on the server: ask its administrator",
    NTSTATUS.STATUS_LOGON_NOT_GRANTED: "the user may not log on at this server: ask for that right",
    NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED: "the user may not log on remotely: ask for that right",
    NTSTATUS.STATUS_AUTHENTICATION_FIREWALL_FAILED: "the server's domain takes users of the other domain only by name "
    '(selective authentication): ask for the right "allowed to authenticate" on this server',
    NTSTATUS.STATUS_ACCOUNT_RESTRICTION: "the account is restricted: an empty password, logons of this kind, or a "
    "protected user who needs --mechanism kerberos",
    NTSTATUS.STATUS_NTLM_BLOCKED: "the server or its domain takes no NTLM: log on by Kerberos, with --mechanism "
    "kerberos, -u USER@REALM and the server's name in place of its address",
    NTSTATUS.STATUS_INVALID_LOGON_HOURS: "the account may not log on at this time",
    NTSTATUS.STATUS_INVALID_WORKSTATION: "the account may not log on from here",
    NTSTATUS.STATUS_PASSWORD_EXPIRED: "set a new password first",
    NTSTATUS.STATUS_PASSWORD_MUST_CHANGE: "set a new password first",
    NTSTATUS.STATUS_PASSWORD_RESTRICTION: "the password does not meet the domain's rules: set a new one first",
    NTSTATUS.STATUS_ACCOUNT_DISABLED: "have the account enabled",
    NTSTATUS.STATUS_ACCOUNT_EXPIRED: "have the account extended",
    NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT: "have the account unlocked, or wait",
    NTSTATUS.STATUS_NOLOGON_INTERDOMAIN_TRUST_ACCOUNT: "this is a domain's account: use a user's",
    NTSTATUS.STATUS_NOLOGON_WORKSTATION_TRUST_ACCOUNT: "this is a computer's account: use a user's",
    NTSTATUS.STATUS_NOLOGON_SERVER_TRUST_ACCOUNT: "this is a domain controller's account: use a user's",
    NTSTATUS.STATUS_NO_LOGON_SERVERS: "the server reaches no domain controller: try later",
    NTSTATUS.STATUS_DOMAIN_CONTROLLER_NOT_FOUND: "the server finds no domain controller: try later",
    NTSTATUS.STATUS_NETLOGON_NOT_STARTED: "the service Netlogon does not run on the server: tell its administrator",
    NTSTATUS.STATUS_INVALID_SERVER_STATE: "the server's account database is not ready: try later, or tell "
    "its administrator",
    NTSTATUS.STATUS_NO_TRUST_LSA_SECRET: "the server has fallen out of its domain: tell its administrator",
    NTSTATUS.STATUS_NO_TRUST_SAM_ACCOUNT: "the domain has no account for the server's computer: tell an administrator",
    NTSTATUS.STATUS_TRUSTED_DOMAIN_FAILURE: "the server's domain and the account's do not trust each other: tell "
    "their administrators",
    NTSTATUS.STATUS_TRUSTED_RELATIONSHIP_FAILURE: "the server has fallen out of its domain: tell its administrator",
    NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC: "set the clocks of the server and of its domain controller",
    NTSTATUS.STATUS_DOWNGRADE_DETECTED: "the server sees a weaker logon than it expects: somebody may be in between, "
    "or it does not reach the account's domain controller",
    NTSTATUS.STATUS_BAD_BINDINGS: "the logon belongs to another tls connection: somebody may be in between, or a proxy "
    "ends tls in front of the server",
    NTSTATUS.STATUS_NOT_SUPPORTED: "the versions of both sides do not meet: see --min-version and --max-version",
    NTSTATUS.STATUS_SMARTCARD_LOGON_REQUIRED: "the account needs a smart card",
    NTSTATUS.STATUS_SMARTCARD_WRONG_PIN: "check the smart card's pin",
    NTSTATUS.STATUS_PKINIT_FAILURE: "the domain controller does not take the certificate: tell its administrator",
    NTSTATUS.STATUS_NO_KERB_KEY: "the account has no Kerberos key: set its password anew",
    NTSTATUS.STATUS_CTX_LOGON_DISABLED: "logons are switched off on the server",
    NTSTATUS.STATUS_INSUFFICIENT_RESOURCES: "the server is out of resources: try later, then tell its administrator",
    # pyspnego's and sspi-rs's servers, and what FreeRDP 3 and gnome-remote-desktop say whatever is wrong.
    NTSTATUS(0x8009030C): _CHECK_ACCOUNT,
    NTSTATUS(0xC007030C): _CHECK_ACCOUNT,
    NTSTATUS(0xC00700EA): "FreeRDP's servers refuse every logon with this number: " + _CHECK_ACCOUNT,
}

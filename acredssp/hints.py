"""What a person can do about a logon that a server has refused, by the status that the server gave.

docs/statuses.md shows these texts, beside what each status means.
"""

from typing import Final

from acredssp.status import NTSTATUS

__all__ = ["hint_on"]

_NO_REASON: Final = "the server gave no reason: ask its administrator for the reason in the server's log"
_CHECK_ACCOUNT: Final = "check the user, the domain and the password"
_HINTS: Final = {
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
    "account may be barred from this kind of logon, or a protected user needs Kerberos (--mechanism kerberos)",
    NTSTATUS.STATUS_NTLM_BLOCKED: "the server or its domain refuses NTLM: log on with Kerberos "
    "(--mechanism kerberos), as USER@REALM, and to the server's name in place of its address",
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
    NTSTATUS.STATUS_NOT_SUPPORTED: "both sides have no CredSSP version in common (--min-version, --max-version), or "
    "the server refuses NTLM (--mechanism kerberos)",
    NTSTATUS.STATUS_SMARTCARD_LOGON_REQUIRED: "the account can log on with a smart card only",
    NTSTATUS.STATUS_SMARTCARD_WRONG_PIN: "check the smart card's pin",
    NTSTATUS.STATUS_PKINIT_FAILURE: "the domain controller refuses the certificate: tell its administrator",
    NTSTATUS.STATUS_NO_KERB_KEY: "the account has no Kerberos key: set its password again",
    NTSTATUS.STATUS_CTX_LOGON_DISABLED: "logons are switched off on the server: ask its administrator",
    NTSTATUS.STATUS_INSUFFICIENT_RESOURCES: "the server is out of resources: try again later, or tell its "
    "administrator",
    # The servers of pyspnego and sspi-rs send the first two; FreeRDP 3's and gnome-remote-desktop's send the third
    # whatever is wrong.
    NTSTATUS(0x8009030C): _CHECK_ACCOUNT,
    NTSTATUS(0xC007030C): _CHECK_ACCOUNT,
    NTSTATUS(0xC00700EA): "FreeRDP's servers refuse every logon with this number: " + _CHECK_ACCOUNT,
}


def hint_on(status: NTSTATUS | None) -> str:
    """Return what a user can do about a refusal with this status; None stands for a refusal without any."""
    return _NO_REASON if status is None else _HINTS.get(status.stands_for, _NO_REASON)

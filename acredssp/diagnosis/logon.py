"""What a logon that failed has shown, and its causes: `acredssp doctor` asks here.

Where two causes fit, both are named. Where none fits, the finding is `unknown`, with all facts.
"""

import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import Final

from acredssp.arguments import is_ip_address
from acredssp.diagnosis.catalogue import Finding, Severity, found
from acredssp.diagnosis.questions import ChallengeFacts
from acredssp.diagnosis.server import ServerFacts, judge_server, of_failure
from acredssp.diagnosis.web import WebFacts, judge_web
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CertificateError,
    CredSSPError,
    HandshakeTimeout,
    NegotiationFailure,
    PeerClosed,
    PolicyError,
    PublicKeyMismatch,
    RemoteProtocolError,
    TLSError,
)
from acredssp.policy import FIRST_SAFE_VERSION
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire.x224 import FailureCode, ResponseFlags

__all__ = ["LogonFacts", "explain"]

_SLOW: Final = 5.0
"""Seconds for which the KDC keeps a user waiting before that is a finding."""
_SILENT_VERSIONS: Final = (2, 5)
"""The versions of CredSSP whose servers have no errorCode ([MS-CSSP] 3.1.5)."""

_ON_STATUS: Final = {
    NTSTATUS.STATUS_ACCOUNT_RESTRICTION: "account-restriction",
    NTSTATUS.STATUS_INVALID_LOGON_HOURS: "account-restriction",
    NTSTATUS.STATUS_INVALID_WORKSTATION: "account-restriction",
    NTSTATUS.STATUS_PASSWORD_EXPIRED: "password-expired",
    NTSTATUS.STATUS_PASSWORD_MUST_CHANGE: "password-must-change",
    NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT: "account-locked",
    NTSTATUS.STATUS_ACCOUNT_DISABLED: "account-disabled",
    NTSTATUS.STATUS_ACCOUNT_EXPIRED: "account-expired",
    NTSTATUS.STATUS_NTLM_BLOCKED: "ntlm-disabled",
    NTSTATUS.STATUS_NO_LOGON_SERVERS: "no-domain-controller",
    NTSTATUS.STATUS_DOMAIN_CONTROLLER_NOT_FOUND: "no-domain-controller",
    NTSTATUS.STATUS_NETLOGON_NOT_STARTED: "no-domain-controller",
    NTSTATUS.STATUS_TRUSTED_RELATIONSHIP_FAILURE: "trust-broken",
    NTSTATUS.STATUS_TRUSTED_DOMAIN_FAILURE: "trust-broken",
    NTSTATUS.STATUS_NO_TRUST_LSA_SECRET: "trust-broken",
    NTSTATUS.STATUS_NO_TRUST_SAM_ACCOUNT: "trust-broken",
}
"""The findings whose one fact is the status that the server gave."""
_WRONG: Final = (
    NTSTATUS.STATUS_LOGON_FAILURE,
    NTSTATUS.STATUS_WRONG_PASSWORD,
    NTSTATUS.STATUS_NO_SUCH_USER,
    NTSTATUS.STATUS_NO_SUCH_DOMAIN,
)
_NOT_GRANTED: Final = (
    NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED,
    NTSTATUS.STATUS_LOGON_NOT_GRANTED,
    NTSTATUS.STATUS_AUTHENTICATION_FIREWALL_FAILED,
)
_NTLM_UNSUPPORTED: Final = 0x80090302
"""SEC_E_UNSUPPORTED_FUNCTION in errorCode: what Windows sends where its policy forbids NTLM."""
_ALTERED: Final = 0x8009030F
"""SEC_E_MESSAGE_ALTERED in errorCode: the server's check of pubKeyAuth or of the MIC failed."""
_NAMELESS: Final = (0x8009030C, 0xC007030C, 0xC00700EA)
"""What pyspnego's, sspi-rs' and FreeRDP's servers send for every refused logon."""
_ZEROS: Final = "FreeRDP 3 refuses some logons with zeros, or sends our own pubKeyAuth back"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogonFacts:
    r"""What one logon has shown.

    Attributes:
        host: The server's name or address, as it was asked for.
        account: The account as it was sent, `DOMAIN\user` or `user`.
        spn: The server's principal.
        realm: The realm of the account; empty for none.
        error: Why the logon failed; None for a success.
        server: What the quiet questions before it have shown, of a server of RDP or of a service over HTTP.
        version: The version of CredSSP of both; 0 where it was not agreed on.
        mechanism: The mechanism that logged on; empty where it did not come to one.
        fallback: Why Kerberos was not used; empty where it was, or was not wanted.
        nothing_delegated: Whether no credentials were to be delegated (Restricted Admin).
        kdc_seconds: How long Kerberos took before it gave its tokens.
        flags: The flags of the server's Connection Confirm; None where there was none.
        pin: The key that the server showed in TLS.
        key_checked: Whether a certificate that is not trusted would have ended the logon.
    """

    host: str
    account: str
    spn: str
    realm: str
    error: CredSSPError | None
    server: ServerFacts | WebFacts
    version: int = 0
    mechanism: str = ""
    fallback: str = ""
    nothing_delegated: bool = False
    kdc_seconds: float = 0.0
    flags: ResponseFlags | None = None
    pin: str = ""
    key_checked: bool = True


def explain(facts: LogonFacts, now: dt.datetime) -> list[Finding]:
    """Return the causes of a failed logon, the likeliest first; for a success, that it succeeded.

    Args:
        facts: What the logon has shown.
        now: The time, with a time zone.
    """
    seen = _seen(facts, now)
    if facts.error is None:
        return [found("logon-succeeded", mechanism=facts.mechanism, version=facts.version), *_of_kerberos(facts)]
    causes = [*_over_http(facts, facts.error, seen)] or [*_causes(facts, facts.error, seen)]
    causes += [each for each in _of_kerberos(facts) if each.id not in {cause.id for cause in causes}]
    causes += [each for each in seen if each.id == "clock-off"]
    wrong = any(each.id.endswith("wrong-credentials") for each in causes)
    if wrong and "/" in facts.account:
        causes.append(found("slash-in-account", account=facts.account))
    if wrong and not facts.key_checked:
        causes.append(found("key-unchecked", pin=facts.pin))
    if not causes:
        causes.append(_unknown(facts.error))
    return causes


def _seen(facts: LogonFacts, now: dt.datetime) -> list[Finding]:
    server = facts.server
    return judge_web(server, facts.host, now) if isinstance(server, WebFacts) else judge_server(server, facts.host, now)


def _unknown(error: CredSSPError) -> Finding:
    return found(
        "unknown",
        stage=str(error.stage or "an unknown stage"),
        message=error.message,
        status=str(error.security_status),
        nt_status="none" if error.nt_status is None else str(error.nt_status),
    )


def _causes(facts: LogonFacts, error: CredSSPError, seen: list[Finding]) -> Iterator[Finding]:
    if error.stage is Stage.CONNECT or (error.stage is Stage.NEGOTIATION and not isinstance(error, NegotiationFailure)):
        yield from (each for each in seen if each.severity is Severity.HIGH)
        return
    match error:
        case NegotiationFailure():
            yield from _of_negotiation(facts, error, seen)
        case CertificateError():
            names = [
                each for each in seen if each.id.startswith("certificate") and each.id != "certificate-expires-soon"
            ]
            yield from names or [found("certificate-untrusted", reason=error.message, pin=facts.pin)]
        case PublicKeyMismatch():
            yield from _altered(facts, "its proof does not fit the key of this connection")
        case AccessDenied():
            yield found("not-authorized", how="the server said so after the logon (early user authorization)")
            yield from _of_restricted_admin(facts)
        case PolicyError() if not error.message.startswith("kerberos:") or _lacks_kerberos(error):
            yield from _of_policy(facts, error)
        case _ if error.message.startswith("kerberos:"):
            yield from _of_local_kerberos(facts, error)
        case AuthenticationError():
            yield from _of_refusal(facts, error)
        case _:
            yield from _of_end(facts, error, seen)


_OF_THE_FIRST_ANSWER: Final = {"credssp-no-answer", "credssp-malformed", "not-rdp", "ntlm-refused"}
"""The findings of a server with which no logon by NTLM goes on."""


_NO_CREDSSP: Final = {
    "winrm-no-credssp",
    "http-no-authentication",
    "http-no-answer",
    "http-unavailable",
    "not-winrm",
    "not-http",
}
"""The findings of a service that asks for no logon by CredSSP."""


def _over_http(facts: LogonFacts, error: CredSSPError, seen: list[Finding]) -> Iterator[Finding]:
    """Name the causes that a logon over HTTP alone has; none of one by RDP."""
    server = facts.server
    if not isinstance(server, WebFacts) or error.stage is Stage.CONNECT:
        return
    match error:
        case AccessDenied():
            yield found("winrm-not-authorized", url=server.target, how=error.message)
            yield found("http-connection-shared", url=server.target, what=error.message)
        case RemoteProtocolError() | NegotiationFailure():
            yield from (each for each in seen if each.id in _NO_CREDSSP)
        case CertificateError() if not facts.pin:  # the handshake inside has not begun
            yield found("https-untrusted", url=server.target, reason=error.message)
        case PeerClosed() | TLSError() if isinstance(error, PeerClosed) or error.stage is not Stage.TLS:
            foreign = [each for each in seen if each.id in _NO_CREDSSP]
            yield from foreign or [found("http-connection-shared", url=server.target, what=error.message)]


def _of_negotiation(facts: LogonFacts, error: NegotiationFailure, seen: list[Finding]) -> Iterator[Finding]:
    if error.failure_code is not None:
        yield of_failure(FailureCode(error.failure_code))
    else:
        yield from (each for each in seen if each.id in {"nla-not-offered", "rdp-security-accepted"})
    if any(each.id == "nla-not-offered" for each in seen):
        yield from (each for each in seen if each.id in _OTHER_LOGONS)
    if error.failure_code == FailureCode.INCONSISTENT_FLAGS:
        yield from _of_restricted_admin(facts)


_OTHER_LOGONS: Final = ("rdstls-offered", "entra-offered")
"""What a server may take in the place of CredSSP."""


def _altered(facts: LogonFacts, what: str) -> Iterator[Finding]:
    yield found("tls-intercepted", what=what, pin=facts.pin)
    yield found("peer-defect", defect=_ZEROS)


def _of_restricted_admin(facts: LogonFacts) -> Iterator[Finding]:
    announced = ResponseFlags.RESTRICTED_ADMIN_MODE_SUPPORTED
    if facts.nothing_delegated and facts.flags is not None and announced not in facts.flags:
        yield found("restricted-admin-off")


def _lacks_kerberos(error: CredSSPError) -> bool:
    return error.security_status is SecurityStatus.SEC_E_SECPKG_NOT_FOUND


def _of_policy(facts: LogonFacts, error: PolicyError) -> Iterator[Finding]:
    if _lacks_kerberos(error):
        yield found("kerberos-not-installed", reason=error.message.removeprefix("kerberos: "))
    elif error.security_status is SecurityStatus.SEC_E_DELEGATION_POLICY:
        yield found("policy-forbids", rule=error.message)
    elif "version" in error.message:
        yield from _of_version(facts)


def _of_version(facts: LogonFacts) -> Iterator[Finding]:
    answer = None if isinstance(facts.server, WebFacts) else facts.server.answer
    version = answer.version if answer is not None else facts.version
    if 0 < version < FIRST_SAFE_VERSION:
        yield found("credssp-old", version=version)


def _of_local_kerberos(facts: LogonFacts, error: CredSSPError) -> Iterator[Finding]:
    """Name the cause of a failure of Kerberos on this side, which has asked the KDC, or of the server's AP-REP."""
    status, nt_status = error.security_status, error.nt_status
    if nt_status in _ON_STATUS and nt_status is not NTSTATUS.STATUS_NO_LOGON_SERVERS:
        yield found(_ON_STATUS[nt_status], status=f"the kdc: {nt_status}")
        return
    match status:
        case SecurityStatus.SEC_E_TARGET_UNKNOWN if "by an ip address" in error.message:
            yield found("ntlm-by-address", host=facts.host)
        case SecurityStatus.SEC_E_TARGET_UNKNOWN:
            yield found("spn-unknown", spn=facts.spn, realm=facts.realm)
        case SecurityStatus.SEC_E_WRONG_PRINCIPAL:
            yield found("spn-wrong-key", spn=facts.spn)
        case SecurityStatus.SEC_E_TIME_SKEW:
            yield _skew(facts)
        case SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY:
            yield found("kdc-not-reached", realm=facts.realm)
        case SecurityStatus.SEC_E_NO_CREDENTIALS | SecurityStatus.SEC_E_KDC_UNKNOWN_ETYPE:
            yield found("no-ticket" if status is SecurityStatus.SEC_E_NO_CREDENTIALS else "no-common-enctype")
        case SecurityStatus.SEC_E_LOGON_DENIED if error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE:
            yield _wrong_credentials(facts, "the kdc")


def _skew(facts: LogonFacts) -> Finding:
    seconds = None if isinstance(facts.server, WebFacts) else facts.server.clock_difference
    measured = "" if seconds is None else f" The server's differs from this machine's by {seconds} s."
    return found("clock-skew", measured=measured or " The server did not tell its clock.")


def _challenge(facts: LogonFacts) -> ChallengeFacts | None:
    return None if isinstance(facts.server, WebFacts) else facts.server.challenge


def _wrong_credentials(facts: LogonFacts, status: str) -> Finding:
    if isinstance(facts.server, WebFacts):
        return found("winrm-wrong-credentials", url=facts.server.target, account=facts.account or None, status=status)
    challenge = _challenge(facts)
    computer = challenge.netbios_computer if challenge else None
    domain = challenge.netbios_domain if challenge else None
    return found(
        "wrong-credentials",
        computer=computer,
        domain="no domain" if domain is not None and domain == computer else domain,  # as a workgroup's server tells
        account=facts.account or None,
        status=status,
    )


def _of_refusal(facts: LogonFacts, error: AuthenticationError) -> Iterator[Finding]:
    """Name the cause of a server's refusal."""
    status = error.nt_status
    if status is None:
        yield found("silent-refusal", what=error.message)
        yield _wrong_credentials(facts, "no status")
        if isinstance(facts.server, WebFacts):
            yield found("http-connection-shared", url=facts.server.target, what=error.message)
        elif facts.version not in _SILENT_VERSIONS:
            yield found("tls-intercepted", what=error.message, pin=facts.pin)
    elif status in _NAMELESS:
        yield found("silent-refusal", what=f"{status}, which its program sends for every refusal")
        yield _wrong_credentials(facts, str(status))
    elif status == _NTLM_UNSUPPORTED or status.stands_for in _ON_STATUS:
        name = _ON_STATUS.get(status.stands_for, "ntlm-disabled")
        yield found(name, status=str(status))
        if name in {"account-restriction", "ntlm-disabled"} and facts.mechanism == "ntlm" and is_ip_address(facts.host):
            yield found("ntlm-by-address", host=facts.host)
    else:
        yield from _of_other_status(facts, status)


def _of_other_status(facts: LogonFacts, status: NTSTATUS) -> Iterator[Finding]:
    known = status.stands_for
    if known in _WRONG:
        yield _wrong_credentials(facts, str(status))
    elif known in _NOT_GRANTED and isinstance(facts.server, WebFacts):
        yield found("winrm-not-authorized", url=facts.server.target, how=str(status))
    elif known in _NOT_GRANTED:
        yield found("not-authorized", how=str(status))
    elif status == _ALTERED or known is NTSTATUS.STATUS_BAD_BINDINGS:
        yield from _altered(facts, f"the server said {status}")
    elif known is NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC:
        yield found("clock-skew", measured=" The server said so of its domain controller.")
    elif known is NTSTATUS.STATUS_MUTUAL_AUTHENTICATION_FAILED:
        yield found("spn-wrong-key", spn=facts.spn)
    elif known is NTSTATUS.STATUS_NOT_SUPPORTED:
        yield from _of_version(facts)


def _of_end(facts: LogonFacts, error: CredSSPError, seen: list[Finding]) -> Iterator[Finding]:
    """Name the cause where TLS failed, or the connection ended or fell silent, or the server broke the protocol."""
    if not isinstance(error, TLSError | PeerClosed | HandshakeTimeout):
        first = _OF_THE_FIRST_ANSWER if isinstance(error, RemoteProtocolError) else ()
        yield from (each for each in seen if each.id in first)
    elif error.stage is Stage.TLS:
        failed = [each for each in seen if each.id in {"tls-failed", "tls-too-old"}] or [*_of_suites(facts)]
        yield from failed or [found("tls-failed", offered="TLS 1.2 and newer", answer=error.message)]
    elif error.stage in {Stage.EARLY_USER_AUTH, Stage.AUTH_INFO, Stage.ESTABLISHED}:
        yield found("not-authorized", how="it ended the connection once the logon had succeeded")
        yield from _of_restricted_admin(facts)
    elif error.stage is Stage.NEGO_TOKEN and isinstance(error, HandshakeTimeout) and facts.kdc_seconds > _SLOW:
        yield found("kdc-not-reached", realm=facts.realm)
    elif error.stage is Stage.PUB_KEY_AUTH:
        yield from _altered(facts, error.message)
    else:
        yield from (each for each in seen if each.id in _OF_THE_FIRST_ANSWER)


def _of_suites(facts: LogonFacts) -> Iterator[Finding]:
    """Name suites that the server took when it was asked quietly, if the logon offers none of them."""
    if isinstance(facts.server, WebFacts):
        return
    taken = {name: facts.server.tls[name].cipher for name in ("TLSv1.3", "TLSv1.2") if name in facts.server.tls}
    named = [f"{cipher} ({name})" for name, cipher in taken.items() if cipher]
    if named and not any(cipher.startswith(_WITH_FORWARD_SECRECY) for cipher in taken.values()):
        yield found("tls-legacy-ciphers", suites=", ".join(named))


_WITH_FORWARD_SECRECY: Final = ("ECDHE", "DHE", "TLS_")
"""OpenSSL's name of each suite with forward secrecy begins with one of these."""
_FALLBACKS: Final = {
    "does not know the service": "spn",
    "no kdc answers": "kdc",
    "by an ip address": "address",
    "no ticket or no key": "ticket",
}
"""Parts of the reasons for which Kerberos was not used."""


def _of_kerberos(facts: LogonFacts) -> Iterator[Finding]:
    """Name what kept Kerberos from being used, and what made it slow."""
    why = next((name for part, name in _FALLBACKS.items() if part in facts.fallback), "")
    match why:
        case "spn":
            yield found("spn-unknown", spn=facts.spn, realm=facts.realm)
        case "kdc":
            yield found("kdc-not-reached", realm=facts.realm)
        case "address":
            yield found("ntlm-by-address", host=facts.host)
        case "ticket":
            yield found("no-ticket")
    if facts.kdc_seconds > _SLOW:
        yield found("kdc-slow", seconds=round(facts.kdc_seconds))

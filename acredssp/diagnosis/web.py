"""What a probe has learned of a service over HTTP, and the findings that follow from it."""

import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import Final

from acredssp.diagnosis.catalogue import Finding, found
from acredssp.diagnosis.certificate import CertificateFacts
from acredssp.diagnosis.reach import Reach, of_reach
from acredssp.diagnosis.server import judge_certificate
from acredssp.trust import Judgement, Verdict

__all__ = ["WebFacts", "judge_web"]

_UNAUTHORIZED: Final = 401
_SUCCESS: Final = 200
_UNAVAILABLE: Final = frozenset({500, 502, 503, 504})
"""What a server, or a gateway in front of it, answers while it is stopped, overloaded or at fault (RFC 9110 15.6)."""


@dataclasses.dataclass(slots=True)
class WebFacts:
    """What a probe has learned of one service of WinRM. Whatever it has not come to is empty.

    Attributes:
        target: Its URL.
        host: Its name or address.
        address: The address that was connected to.
        secure: Whether it is reached by HTTPS.
        reach: Whether the host was reached.
        problem: Why it was not, or why there is no answer.
        unanswered: Whether no whole answer was seen, so that nothing is known of the protocol that is spoken there.
        status: The status of its answer to a request without a logon.
        schemes: The schemes that it offers, in its spelling.
        server: The program, in its own words.
        tls_version: The version of TLS.
        cipher: OpenSSL's name of the suite.
        certificate: Its certificate of HTTPS.
        chain: The certificates of HTTPS as it sent them, in DER.
        judgement: What a logon would say of the certificate of HTTPS.
        judgement_in_time: What a logon would have said of it while it was valid; None where it is not expired.
        inside: Its certificate inside CredSSP.
        inside_chain: The certificates inside CredSSP as it sent them, in DER.
        inside_judgement: What a logon would say of the certificate inside.
        inside_problem: Why there is none; empty where nobody asked for it.
        unasked: Why nobody waited for its answer; empty where somebody did.
        connections: How many connections were made.
        seconds: How long it took.
    """

    target: str
    host: str
    address: str
    secure: bool
    reach: Reach = Reach.REACHED
    problem: str = ""
    unanswered: bool = False
    status: int = 0
    schemes: tuple[str, ...] = ()
    server: str = ""
    tls_version: str = ""
    cipher: str = ""
    certificate: CertificateFacts | None = None
    chain: tuple[bytes, ...] = ()
    judgement: Judgement | None = None
    judgement_in_time: Judgement | None = None
    inside: CertificateFacts | None = None
    inside_chain: tuple[bytes, ...] = ()
    inside_judgement: Judgement | None = None
    inside_problem: str = ""
    unasked: str = ""
    connections: int = 0
    seconds: float = 0.0


def judge_web(facts: WebFacts, name: str, now: dt.datetime) -> list[Finding]:
    """Return the findings of a service over HTTP, the worst first.

    Args:
        facts: What the probe has learned.
        name: The name that its certificate must have.
        now: The time, with a time zone.
    """
    answered = facts.reach is Reach.REACHED or bool(facts.unasked)
    findings = [*(_of_answer(facts) if answered else of_reach(facts))]
    if facts.chain:
        findings += judge_certificate(
            facts.certificate, facts.chain, facts.judgement, name, now, in_time=facts.judgement_in_time
        )
    findings += _of_inside(facts)
    return sorted(findings, key=lambda each: -each.severity.rank)


def _of_inside(facts: WebFacts) -> Iterator[Finding]:
    judgement = facts.inside_judgement
    if judgement is None or judgement.trusted:
        return
    pin = facts.inside.pin if facts.inside is not None else "a key that cannot be read"
    if judgement.verdict is Verdict.PIN_DIFFERS:
        yield found("certificate-other-key", pin=pin)
    else:
        yield found("winrm-certificate-untrusted", url=facts.target, reason=judgement.reason, pin=pin)


def _of_answer(facts: WebFacts) -> Iterator[Finding]:
    if facts.unasked:
        yield found("probe-incomplete", missing=f"the answer of {facts.target} ({facts.unasked})")
        return
    if not facts.status:
        if facts.secure and not facts.tls_version:
            yield found("tls-failed", offered="every version of TLS", answer=facts.problem)
        else:
            yield found("http-no-answer" if facts.unanswered else "not-http", url=facts.target, what=facts.problem)
        return
    if facts.status != _UNAUTHORIZED:
        kind = "http-no-authentication" if facts.status == _SUCCESS else "not-winrm"
        kind = "http-unavailable" if facts.status in _UNAVAILABLE else kind
        yield found(kind, url=facts.target, status=facts.status)
        return
    schemes = {each.lower() for each in facts.schemes}
    if "basic" in schemes:
        yield found("winrm-basic" if facts.secure else "winrm-basic-in-clear", url=facts.target)
    if "credssp" not in schemes:
        yield found("winrm-no-credssp", url=facts.target, schemes=", ".join(facts.schemes) or "no scheme")

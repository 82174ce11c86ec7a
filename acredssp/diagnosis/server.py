"""What a probe has learned of a server, and the findings that follow from it. The probe itself, above, does the I/O."""

import contextlib
import dataclasses
import datetime as dt
import enum
import warnings
from collections.abc import Iterator, Sequence
from typing import Final

from cryptography import x509

from acredssp.diagnosis.catalogue import Finding, found
from acredssp.diagnosis.certificate import CertificateFacts
from acredssp.diagnosis.questions import Answer, ChallengeFacts, Question
from acredssp.diagnosis.reach import Reach, of_reach
from acredssp.errors import CredSSPError
from acredssp.policy import FIRST_SAFE_VERSION
from acredssp.status import NTSTATUS
from acredssp.trust import Judgement, Trust, Verdict, pin_of
from acredssp.wire.x224 import FailureCode, Protocols, ResponseFlags

__all__ = [
    "MOST_CLOCK_DIFFERENCE",
    "NegotiationAnswer",
    "NoAnswer",
    "ServerFacts",
    "ShownCertificate",
    "TLSAnswer",
    "TLSOutcome",
    "Unanswered",
    "clock_difference",
    "judge_certificate",
    "judge_server",
    "of_failure",
]

MOST_CLOCK_DIFFERENCE: Final = 300
"""Seconds by which Kerberos allows two clocks to differ ([MS-KILE] 3.3.2)."""
_SOON: Final = dt.timedelta(days=30)
_STRONG_RSA: Final = 2048
_STRONG_CURVE: Final = 224
_WEAK_DIGESTS: Final = ("md5", "sha1")
_OLD: Final = ("TLSv1", "TLSv1.1")
_NEW: Final = ("TLSv1.2", "TLSv1.3")
_WEAK_CIPHERS: Final = ("RC4", "DES", "NULL", "EXP", "MD5", "SEED", "IDEA")
"""The name of each broken cipher suite contains one of these."""
_WITH_FORWARD_SECRECY: Final = ("ECDHE", "DHE", "TLS_")
"""OpenSSL's name of each suite with forward secrecy begins with one of these; TLS 1.3's begin with the last."""


@dataclasses.dataclass(frozen=True, slots=True)
class NegotiationAnswer:
    """A server's answer to one Connection Request.

    Attributes:
        selected: The protocol that it selects; None where it selects none.
        flags: Its flags.
        failure: The code of its refusal; None where it refuses nothing.
        problem: Why there is no answer that can be read; empty where there is one.
        foreign: Whether another protocol has answered.
        silent: Whether nothing has come before the time limit.
        reset: Whether the connection was reset.
        unasked: Whether the server was not asked, which `problem` gives the reason for.
    """

    selected: Protocols | None = None
    flags: ResponseFlags = ResponseFlags(0)  # noqa: RUF009 - a value
    failure: FailureCode | None = None
    problem: str = ""
    foreign: bool = False
    silent: bool = False
    reset: bool = False
    unasked: bool = False

    @property
    def is_unknown(self) -> bool:
        """Whether it says nothing of the server: no answer was seen, or that of another program."""
        return self.silent or self.reset or self.foreign or self.unasked

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        if self.failure is not None:
            return f"refused: {self.failure.name}"
        return self.selected.names if self.selected is not None else "RDP"


class TLSOutcome(enum.Enum):
    """What became of a TLS handshake.

    Attributes:
        ACCEPTED: TLS was up.
        REFUSED: The server, or something in between, ended it.
        NO_ANSWER: The client's first message was sent, and no whole answer came in time.
        UNKNOWN: The connection was lost before TLS began, or was not made.
        NOT_TESTED: The local OpenSSL does not offer it, or not with a suite, curve or signature that the server takes.
    """

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NO_ANSWER = "no_answer"
    UNKNOWN = "unknown"
    NOT_TESTED = "not_tested"


@dataclasses.dataclass(frozen=True, slots=True)
class TLSAnswer:
    """What became of a TLS handshake of one version.

    Attributes:
        outcome: Whether it succeeded.
        cipher: OpenSSL's name of the suite that the server chose.
        problem: Why it failed; for one that succeeded, why the server was not asked for the rest of its suites.
        suites: OpenSSL's names of all suites that the server takes, in its order of preference; empty where it was not
            asked for them.
    """

    outcome: TLSOutcome
    cipher: str = ""
    problem: str = ""
    suites: tuple[str, ...] = ()

    @property
    def was_offered(self) -> bool:
        """Whether the client's first message was sent, or would have been: the local OpenSSL makes one."""
        return self.outcome is not TLSOutcome.NOT_TESTED or bool(self.problem)


class NoAnswer(enum.Enum):
    """Why there is no answer to a question.

    Attributes:
        NOT_ASKED: The connection was lost before TLS was up, or was not made.
        SILENT: TLS was up, and no whole answer came in time.
        ENDED: TLS was up, and the server ended the connection.
        MALFORMED: What came cannot be read.
    """

    NOT_ASKED = "not_asked"
    SILENT = "silent"
    ENDED = "ended"
    MALFORMED = "malformed"


@dataclasses.dataclass(frozen=True, slots=True)
class Unanswered:
    """A question without an answer.

    Attributes:
        how: What became of it.
        problem: The same in words.
    """

    how: NoAnswer
    problem: str


@dataclasses.dataclass(frozen=True, slots=True)
class ShownCertificate:
    """A certificate that a server has shown.

    Attributes:
        certificate: Its facts; None where it cannot be read.
        chain: The certificates as the server sent them, in DER.
        judgement: What `login` would say of it.
        judgement_in_time: What `login` would have said while it was valid; None where nobody asked.
    """

    certificate: CertificateFacts | None
    chain: tuple[bytes, ...]
    judgement: Judgement | None
    judgement_in_time: Judgement | None = None


@dataclasses.dataclass(slots=True)
class ServerFacts:
    """What a probe has learned of one server. Whatever it has not come to is empty.

    Attributes:
        target: The server as it was named.
        host: Its name or address, without the port.
        address: The address that was connected to.
        reach: Whether the host was reached.
        problem: Why it was not, or why the connection ended.
        negotiation: The answers to Connection Requests, by the protocols that these asked for.
        tls: What became of each version of TLS, by its name.
        certificate: The certificate that it showed first.
        chain: The certificates as it sent them, in DER.
        judgement: What `login` would say of it.
        other_certificates: What else it showed in later connections, each once.
        judgement_in_time: What `login` would have said while it was valid; None where it is not expired.
        answers: The answers to the questions.
        unanswered: The questions without an answer.
        clock_difference: The seconds by which its clock was ahead when its CHALLENGE came; None where it told none.
        tls_at_once: Whether it was asked by TLS at once, without a Connection Request.
        connections: How many connections were made.
        seconds: How long it took.
    """

    target: str
    host: str
    address: str
    reach: Reach = Reach.REACHED
    problem: str = ""
    negotiation: dict[Protocols, NegotiationAnswer] = dataclasses.field(default_factory=dict)
    tls: dict[str, TLSAnswer] = dataclasses.field(default_factory=dict)
    certificate: CertificateFacts | None = None
    chain: tuple[bytes, ...] = ()
    judgement: Judgement | None = None
    other_certificates: list[ShownCertificate] = dataclasses.field(default_factory=list)
    judgement_in_time: Judgement | None = None
    answers: dict[Question, Answer] = dataclasses.field(default_factory=dict)
    unanswered: dict[Question, Unanswered] = dataclasses.field(default_factory=dict)
    clock_difference: int | None = None
    tls_at_once: bool = False
    connections: int = 0
    seconds: float = 0.0

    @property
    def answer(self) -> Answer | None:
        """The first answer of CredSSP; None where there is none."""
        return next(iter(self.answers.values()), None)

    @property
    def challenge(self) -> ChallengeFacts | None:
        """What the server tells of itself in NTLM; None where it has told nothing."""
        return next((each.challenge for each in self.answers.values() if each.challenge), None)

    @property
    def flags(self) -> ResponseFlags:
        """The flags of all its answers."""
        flags = ResponseFlags(0)
        for each in self.negotiation.values():
            flags |= each.flags
        return flags

    @property
    def credssp_offered(self) -> bool:
        """Whether it selects CredSSP, or speaks it without a negotiation."""
        selected = {each.selected for each in self.negotiation.values()}
        return self.tls_at_once or not selected.isdisjoint({Protocols.HYBRID, Protocols.HYBRID_EX})

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The mechanisms that it goes on with."""
        return tuple(sorted({each.mechanism for each in self.answers.values() if each.mechanism}))


def judge_server(facts: ServerFacts, name: str, now: dt.datetime) -> list[Finding]:
    """Return the findings of a server of RDP, the worst first.

    Args:
        facts: What the probe has learned.
        name: The name that its certificate must have.
        now: The time, with a time zone.
    """
    findings = [*of_reach(facts)] or [*_of_another_service(facts)]
    if not findings:
        findings = [*_of_gaps(facts), *_of_negotiation(facts), *_of_tls(facts), *_of_credssp(facts)]
        findings += _of_certificates(facts, name, now)
    return sorted(findings, key=lambda each: -each.severity.rank)


def _of_another_service(facts: ServerFacts) -> Iterator[Finding]:
    answers = [*facts.negotiation.values()]
    if not answers or not all(each.problem for each in answers) or all(each.unasked for each in answers):
        return
    foreign = next((each for each in answers if each.foreign), None)
    if foreign is not None:
        yield found("not-rdp", address=facts.address, what=foreign.problem)
    else:
        yield found("connection-lost", address=facts.address, what=answers[0].problem)


def _of_gaps(facts: ServerFacts) -> Iterator[Finding]:
    """Tell what was asked and not answered, so that nobody takes it for an answer."""
    gaps: dict[str, list[str]] = {}
    for what, problem in _gaps(facts):
        gaps.setdefault(problem, []).append(what)
    if gaps:
        missing = "; ".join(f"{', '.join(whats)} ({problem})" for problem, whats in gaps.items())
        yield found("probe-incomplete", missing=missing)


def _gaps(facts: ServerFacts) -> Iterator[tuple[str, str]]:
    for asked, each in facts.negotiation.items():
        if each.is_unknown:
            yield asked.names, each.problem if each.unasked else f"the server {each.problem}"
    for name, tls in facts.tls.items():
        if tls.outcome is TLSOutcome.UNKNOWN or (tls.outcome is TLSOutcome.NO_ANSWER and _accepted(facts)):
            yield name, tls.problem
        elif tls.outcome is TLSOutcome.ACCEPTED and tls.problem:
            yield f"more suites of {name}", tls.problem
    for question, unanswered in facts.unanswered.items():
        not_asked = unanswered.how is NoAnswer.NOT_ASKED and not _has_no_tls(facts)
        if not_asked or (unanswered.how is NoAnswer.SILENT and facts.answers):
            yield f"CredSSP's {question.name.lower()}", unanswered.problem


_FAILURES: Final = {
    FailureCode.SSL_REQUIRED_BY_SERVER: "tls-required",
    FailureCode.SSL_NOT_ALLOWED_BY_SERVER: "tls-not-allowed",
    FailureCode.SSL_CERT_NOT_ON_SERVER: "no-server-certificate",
    FailureCode.INCONSISTENT_FLAGS: "inconsistent-flags",
    FailureCode.HYBRID_REQUIRED_BY_SERVER: "nla-required",
    FailureCode.SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER: "client-certificate-required",
}


def of_failure(code: FailureCode) -> Finding:
    """Return the finding for a code of RDP_NEG_FAILURE."""
    name = _FAILURES.get(code)
    return found(name) if name else found("negotiation-refused", code=code.name)


_ASKED_PLAINLY: Final = (Protocols.RDP, Protocols.SSL, Protocols.HYBRID, Protocols.HYBRID | Protocols.HYBRID_EX)
"""The questions whose refusals say something of the server. That a server lacks RDSTLS or RDSAAD is no finding."""


_ASKED_FOR_NLA: Final = (Protocols.HYBRID, Protocols.HYBRID | Protocols.HYBRID_EX)


def _of_negotiation(facts: ServerFacts) -> Iterator[Finding]:
    answers = facts.negotiation
    plain, tls = answers.get(Protocols.RDP), answers.get(Protocols.SSL)
    if plain is not None and not plain.problem and plain.failure is None and plain.selected in (None, Protocols.RDP):
        yield found("rdp-security-accepted")
    if tls is not None and tls.selected is Protocols.SSL:
        yield found("nla-not-required")
    asked = [answers[each] for each in _ASKED_FOR_NLA if each in answers]
    refused = [each for each in asked if not each.is_unknown]
    if refused and not facts.credssp_offered and not any(each.unasked for each in asked):
        yield found("nla-not-offered", answer=str(refused[0]))
    codes = {answers[each].failure for each in _ASKED_PLAINLY if each in answers}
    for code in sorted(each for each in codes if each is not None):
        yield of_failure(code)
    if _selects(answers, Protocols.RDSTLS):
        yield found("rdstls-offered")
    if _selects(answers, Protocols.RDSAAD):
        yield found("entra-offered")
    if ResponseFlags.RESTRICTED_ADMIN_MODE_SUPPORTED in facts.flags:
        yield found("restricted-admin-offered")
    if ResponseFlags.REDIRECTED_AUTHENTICATION_MODE_SUPPORTED in facts.flags:
        yield found("remote-guard-offered")


def _selects(answers: dict[Protocols, NegotiationAnswer], protocol: Protocols) -> bool:
    return any(each.selected is not None and each.selected == protocol for each in answers.values())


def _accepted(facts: ServerFacts) -> list[str]:
    """Return the versions of TLS that the server takes, the oldest first."""
    return sorted(name for name, each in facts.tls.items() if each.outcome is TLSOutcome.ACCEPTED)


def _has_no_tls(facts: ServerFacts) -> bool:
    """Return whether every handshake of TLS began and failed."""
    outcomes = {each.outcome for each in facts.tls.values() if each.was_offered}
    return bool(outcomes) and outcomes <= {TLSOutcome.REFUSED, TLSOutcome.NO_ANSWER, TLSOutcome.NOT_TESTED}


def _of_tls(facts: ServerFacts) -> Iterator[Finding]:
    accepted, outcomes = _accepted(facts), {name: each.outcome for name, each in facts.tls.items()}
    tried = {name: each for name, each in facts.tls.items() if each.was_offered}
    untested = [name for name, outcome in outcomes.items() if outcome is TLSOutcome.NOT_TESTED]
    if _has_no_tls(facts):
        told = {each.problem: None for each in tried.values() if each.problem}
        yield found("tls-failed", offered=", ".join(tried), answer="; ".join(told) or "nothing")
    old = [each for each in accepted if each in _OLD]
    if old and old == accepted and all(outcomes.get(each, TLSOutcome.REFUSED) is TLSOutcome.REFUSED for each in _NEW):
        yield found("tls-too-old", version=old[-1])
    elif old:
        yield found("tls-old", versions=", ".join(old))
    if "TLSv1.2" in accepted and outcomes.get("TLSv1.3") is TLSOutcome.REFUSED:
        yield found("tls-no-1-3")
    if untested:
        yield found("tls-not-tested", versions=", ".join(untested))
    for name in accepted:
        cipher = facts.tls[name].cipher
        if _is_weak(cipher):
            yield found("cipher-weak", version=name, cipher=cipher)
        elif cipher and not cipher.startswith(_WITH_FORWARD_SECRECY):
            yield found("no-forward-secrecy", version=name, cipher=cipher)
        weak = [each for each in facts.tls[name].suites if _is_weak(each) and each != cipher]
        if weak:
            yield found("suites-weak", version=name, suites=", ".join(weak))


def _is_weak(cipher: str) -> bool:
    return any(part in cipher for part in _WEAK_CIPHERS)


def judge_certificate(  # noqa: PLR0913 - the sixth is named
    certificate: CertificateFacts | None,
    chain: Sequence[bytes],
    judgement: Judgement | None,
    name: str,
    now: dt.datetime,
    *,
    in_time: Judgement | None = None,
) -> list[Finding]:
    """Return the findings of a server's certificate.

    Args:
        certificate: Its facts; None for one that cannot be read, which a logon refuses.
        chain: The certificates as the server sent them, in DER.
        judgement: What a logon would say of it; None where nobody asked.
        name: The name that it must have.
        now: The time, with a time zone.
        in_time: What a logon would have said of an expired one while it was valid; None where nobody asked.
    """
    pin = certificate.pin if certificate is not None else _pin_of(chain)
    if judgement is not None and judgement.verdict is Verdict.PIN_DIFFERS:
        return [found("certificate-other-key", pin=pin)]
    if certificate is None:
        if judgement is None or judgement.trusted:
            return []
        return [found("certificate-untrusted", reason=judgement.reason, pin=pin)]
    findings = [*_of_dates(certificate, now), *_of_form(certificate)]
    if chain and (wrong := _of_name(certificate, chain[0], name)) is not None:
        findings.append(wrong)
    if judgement is None or judgement.trusted:
        return findings
    untrusted = next((each for each in (judgement, in_time) if each and each.verdict is Verdict.UNTRUSTED), None)
    if untrusted is not None and certificate.self_signed:
        findings.append(found("certificate-self-signed", pin=pin))
    elif untrusted is not None:
        findings.append(found("certificate-untrusted", reason=untrusted.reason, pin=pin))
    elif not any(each.id in _TOLD_BY.get(judgement.verdict, ()) for each in findings):
        findings.append(found("certificate-untrusted", reason=judgement.reason, pin=pin))
    return findings


_TOLD_BY: Final = {
    Verdict.EXPIRED: ("certificate-expired", "certificate-not-yet-valid"),
    Verdict.WRONG_NAME: ("certificate-wrong-name", "certificate-no-names"),
    Verdict.WRONG_USAGE: ("certificate-wrong-usage",),
    Verdict.WEAK: ("certificate-sha1", "certificate-weak-key"),
}
"""The findings that say the same as a verdict."""


def _of_certificates(facts: ServerFacts, name: str, now: dt.datetime) -> Iterator[Finding]:
    """Judge every certificate that the server has shown. What is said of several is said once."""
    first = ShownCertificate(facts.certificate, facts.chain, facts.judgement, facts.judgement_in_time)
    every = [first, *facts.other_certificates] if facts.chain else []
    said = []
    for each in every:
        for finding in judge_certificate(
            each.certificate, each.chain, each.judgement, name, now, in_time=each.judgement_in_time
        ):
            if finding not in said:
                said.append(finding)
                yield finding
    pins = dict.fromkeys(each.certificate.pin if each.certificate else _pin_of(each.chain) for each in every)
    if len(pins) > 1:
        yield found("certificate-several", count=len(pins), pins=", ".join(pins))


def _pin_of(chain: Sequence[bytes]) -> str:
    with contextlib.suppress(CredSSPError, IndexError):
        return pin_of(chain[0])
    return "a key that cannot be read"


def _of_dates(certificate: CertificateFacts, now: dt.datetime) -> Iterator[Finding]:
    after = certificate.not_after
    if after < now:
        yield found("certificate-expired", not_after=f"{after:%Y-%m-%d}")
    elif certificate.not_before > now:
        yield found("certificate-not-yet-valid", not_before=f"{certificate.not_before:%Y-%m-%d}")
    elif after - now < _SOON:
        yield found("certificate-expires-soon", not_after=f"{after:%Y-%m-%d}", days=(after - now).days)


def _of_form(certificate: CertificateFacts) -> Iterator[Finding]:
    if certificate.digest in _WEAK_DIGESTS:
        yield found("certificate-sha1", digest=certificate.digest)
    least = _STRONG_RSA if certificate.key.startswith(("RSA", "DSA")) else _STRONG_CURVE
    if 0 < certificate.key_bits < least:
        yield found("certificate-weak-key", key=certificate.key)
    if not certificate.for_servers:
        yield found("certificate-wrong-usage", usages=", ".join(certificate.usages))


def _of_name(certificate: CertificateFacts, leaf: bytes, name: str) -> Finding | None:
    """Judge the name alone, as `login` does: as if the certificate were trusted, and valid."""
    if not certificate.names:
        return found("certificate-no-names", subject=certificate.subject)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trust = Trust((x509.load_der_x509_certificate(leaf),), dangerous_allow_weak_certificates=True)
    judgement = trust.judge([leaf], name, certificate.not_before)
    if judgement.verdict is not Verdict.WRONG_NAME:
        return None
    return found("certificate-wrong-name", names=", ".join(certificate.names[:8]), asked=name)


def _of_credssp(facts: ServerFacts) -> Iterator[Finding]:
    answers, unanswered = facts.answers.values(), facts.unanswered.values()
    unreadable = [each.problem for each in answers if each.problem]
    unreadable += [each.problem for each in unanswered if each.how is NoAnswer.MALFORMED]
    silent = [each.problem for each in unanswered if each.how in (NoAnswer.SILENT, NoAnswer.ENDED)]
    if unreadable:
        yield found("credssp-malformed", what=unreadable[0])
    elif answers and not any(each.says_something for each in answers):
        yield found("credssp-no-answer", what="its answer has neither a token nor an error code")
    elif silent and not answers:
        yield found("credssp-no-answer", what=silent[0])
    if facts.answer is None:
        return
    if facts.answer.version < FIRST_SAFE_VERSION:
        yield found("credssp-old", version=facts.answer.version)
    yield from _of_mechanisms(facts)
    if facts.clock_difference is not None and abs(facts.clock_difference) > MOST_CLOCK_DIFFERENCE:
        yield found("clock-off", seconds=facts.clock_difference)
    yield found("enforcement-unknown")


_FOR_NTLM: Final = (Question.NTLM, Question.NEGOTIATE)
"""The questions that offer NTLM alone."""


def _of_mechanisms(facts: ServerFacts) -> Iterator[Finding]:
    """Tell which mechanisms the server does without, where it has said so."""
    preferred = facts.answers.get(Question.PREFERENCE, Answer(0))
    if "ntlm" in facts.mechanisms:
        if preferred.mechanism == "ntlm":
            yield found("ntlm-only")
        return
    refusals = [facts.answers[each] for each in _FOR_NTLM if each in facts.answers]
    refusals = [each for each in refusals if each.says_something]
    ended = [each for each in _FOR_NTLM if each in facts.unanswered and facts.unanswered[each].how is NoAnswer.ENDED]
    if refusals or (ended and preferred.mechanism):
        code = next((each.error_code for each in refusals if each.error_code is not None), None)
        yield found("ntlm-refused", reason="no reason given" if code is None else str(NTSTATUS(code)))


def clock_difference(challenge: ChallengeFacts | None, now: dt.datetime) -> int | None:
    """Return the seconds by which the server's clock is ahead; None where it has told none."""
    if challenge is None or challenge.timestamp is None:
        return None
    return round((challenge.timestamp - now).total_seconds())

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
    "ServerFacts",
    "TLSAnswer",
    "TLSOutcome",
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
    """

    selected: Protocols | None = None
    flags: ResponseFlags = ResponseFlags(0)  # noqa: RUF009 - a value
    failure: FailureCode | None = None
    problem: str = ""
    foreign: bool = False
    silent: bool = False

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
        NOT_TESTED: The local OpenSSL does not offer it, so nothing was sent.
    """

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_TESTED = "not_tested"


@dataclasses.dataclass(frozen=True, slots=True)
class TLSAnswer:
    """What became of a TLS handshake of one version.

    Attributes:
        outcome: Whether it succeeded.
        cipher: OpenSSL's name of the suite that the server chose.
        problem: Why it failed.
        suites: OpenSSL's names of all suites that the server takes, in its order of preference; empty where it was not
            asked for them.
    """

    outcome: TLSOutcome
    cipher: str = ""
    problem: str = ""
    suites: tuple[str, ...] = ()


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
        certificate: The server's certificate.
        chain: The certificates as it sent them, in DER.
        judgement: What `login` would say of it.
        answers: The answers to the questions.
        credssp_problem: Why there is no answer to the first question.
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
    answers: dict[Question, Answer] = dataclasses.field(default_factory=dict)
    credssp_problem: str = ""
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
        """Whether it selects CredSSP."""
        return any(each.selected in (Protocols.HYBRID, Protocols.HYBRID_EX) for each in self.negotiation.values())

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
        findings = [*_of_negotiation(facts), *_of_tls(facts), *_of_credssp(facts, now)]
        if facts.chain:
            findings += judge_certificate(facts.certificate, facts.chain, facts.judgement, name, now)
    return sorted(findings, key=lambda each: -each.severity.rank)


def _of_another_service(facts: ServerFacts) -> Iterator[Finding]:
    answers = [*facts.negotiation.values()]
    foreign = next((each for each in answers if each.foreign), None)
    if foreign is not None:
        yield found("not-rdp", address=facts.address, what=foreign.problem)
    elif answers and all(each.problem for each in answers):
        yield found("connection-lost", address=facts.address, what=answers[0].problem)


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


def _of_negotiation(facts: ServerFacts) -> Iterator[Finding]:
    answers = facts.negotiation
    plain, tls = answers.get(Protocols.RDP), answers.get(Protocols.SSL)
    if plain is not None and not plain.problem and plain.failure is None and plain.selected in (None, Protocols.RDP):
        yield found("rdp-security-accepted")
    if tls is not None and tls.selected is Protocols.SSL:
        yield found("nla-not-required")
    if answers and not facts.credssp_offered:
        asked = answers.get(Protocols.HYBRID) or next(iter(answers.values()))
        yield found("nla-not-offered", answer=str(asked))
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


def _of_tls(facts: ServerFacts) -> Iterator[Finding]:
    accepted = [name for name, each in facts.tls.items() if each.outcome is TLSOutcome.ACCEPTED]
    untested = [name for name, each in facts.tls.items() if each.outcome is TLSOutcome.NOT_TESTED]
    refused = {name: each for name, each in facts.tls.items() if each.outcome is TLSOutcome.REFUSED}
    if refused and not accepted:
        told = next((each.problem for each in refused.values() if each.problem), "nothing")
        yield found("tls-failed", offered=", ".join(refused), answer=told)
    elif accepted and all(each in _OLD for each in accepted):
        yield found("tls-too-old", version=accepted[-1])
    elif old := [each for each in accepted if each in _OLD]:
        yield found("tls-old", versions=", ".join(old))
    if "TLSv1.2" in accepted and "TLSv1.3" in refused:
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


def judge_certificate(
    certificate: CertificateFacts | None,
    chain: Sequence[bytes],
    judgement: Judgement | None,
    name: str,
    now: dt.datetime,
) -> list[Finding]:
    """Return the findings of a server's certificate.

    Args:
        certificate: Its facts; None for one that cannot be read, which a logon refuses.
        chain: The certificates as the server sent them, in DER.
        judgement: What a logon would say of it; None where nobody asked.
        name: The name that it must have.
        now: The time, with a time zone.
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
    if judgement is not None and judgement.verdict is Verdict.UNTRUSTED:
        if certificate.self_signed:
            findings.append(found("certificate-self-signed", pin=pin))
        else:
            findings.append(found("certificate-untrusted", reason=judgement.reason, pin=pin))
    elif judgement is not None and not judgement.trusted and not findings:
        findings.append(found("certificate-untrusted", reason=judgement.reason, pin=pin))
    return findings


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


def _of_credssp(facts: ServerFacts, now: dt.datetime) -> Iterator[Finding]:
    answer = facts.answer
    if answer is None:
        if facts.credssp_problem:
            yield found("credssp-no-answer", what=facts.credssp_problem)
        return
    if answer.version < FIRST_SAFE_VERSION:
        yield found("credssp-old", version=answer.version)
    mechanisms = facts.mechanisms
    if "ntlm" not in mechanisms:
        code = next((each.error_code for each in facts.answers.values() if each.error_code is not None), None)
        yield found("ntlm-refused", reason="no reason given" if code is None else str(NTSTATUS(code)))
    elif "kerberos" not in mechanisms and Question.PREFERENCE in facts.answers:
        yield found("ntlm-only")
    challenge = facts.challenge
    if challenge is not None and challenge.timestamp is not None:
        seconds = clock_difference(challenge, now)
        if seconds is not None and abs(seconds) > MOST_CLOCK_DIFFERENCE:
            yield found("clock-off", seconds=seconds)
    yield found("enforcement-unknown")


def clock_difference(challenge: ChallengeFacts | None, now: dt.datetime) -> int | None:
    """Return the seconds by which the server's clock is ahead; None where it has told none."""
    if challenge is None or challenge.timestamp is None:
        return None
    return round((challenge.timestamp - now).total_seconds())

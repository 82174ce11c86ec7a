"""Which findings follow from what a probe has seen of a server, and that nothing follows from what it has not seen."""

import datetime as dt

import pytest
from support.certificates import NOW, Made, Spoilt, key_usage

from acredssp.diagnosis import (
    Answer,
    CertificateFacts,
    ChallengeFacts,
    NegotiationAnswer,
    NoAnswer,
    Question,
    ServerFacts,
    ShownCertificate,
    TLSAnswer,
    TLSOutcome,
    Unanswered,
    judge_certificate,
    judge_server,
)
from acredssp.rdp import FailureCode, Protocols
from acredssp.trust import Trust

BOTH, HYBRID, SSL, RDP = Protocols.HYBRID | Protocols.HYBRID_EX, Protocols.HYBRID, Protocols.SSL, Protocols.RDP
NLA = NegotiationAnswer(HYBRID)
SILENT = NegotiationAnswer(problem="says nothing for 5 s", silent=True)
RESET = NegotiationAnswer(problem="resets it", reset=True)
UNASKED = NegotiationAnswer(problem="ctrl-c came before", unasked=True)
REFUSED = NegotiationAnswer(failure=FailureCode.HYBRID_REQUIRED_BY_SERVER)
ACCEPTS = TLSAnswer(TLSOutcome.ACCEPTED, "ECDHE-RSA-AES128-GCM-SHA256")
REFUSES = TLSAnswer(TLSOutcome.REFUSED, problem="the peer sent tls alert protocol_version")
NO_ANSWER = TLSAnswer(TLSOutcome.NO_ANSWER, problem="no whole answer came within 5 s")
LOST = TLSAnswer(TLSOutcome.UNKNOWN, problem="before TLS, the server resets it")
NOT_OFFERED = TLSAnswer(TLSOutcome.NOT_TESTED)
NO_CURVE = TLSAnswer(TLSOutcome.NOT_TESTED, problem="the peer sent tls alert handshake_failure: it takes none")
NTLM = Answer(6, None, "ntlm", ChallengeFacts("SERVER", "CONTOSO"))
KERBEROS = Answer(6, None, "kerberos")
NEGOTIATE, PREFERENCE = Question.NEGOTIATE, Question.PREFERENCE
IN_TLS = Unanswered(NoAnswer.ENDED, "the connection was ended")
BEFORE_TLS = Unanswered(NoAnswer.NOT_ASKED, "connection 12 was refused")
IN_SILENCE = Unanswered(NoAnswer.SILENT, "no whole answer came within 5 s")
RUBBISH = Unanswered(NoAnswer.MALFORMED, "expected tag 0x30, got 0x48")


def server(**seen):
    return ServerFacts("host:3389", "host", "host:3389", **{"negotiation": {HYBRID: NLA}} | seen)


def findings(facts):
    return {each.id: each for each in judge_server(facts, "host", NOW)}


def tls(*outcomes):
    return dict(zip(("TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1"), outcomes, strict=True))


TLS_CASES = {
    "all": (tls(ACCEPTS, ACCEPTS, REFUSES, REFUSES), set()),
    "1.2 alone": (tls(REFUSES, ACCEPTS, REFUSES, REFUSES), {"tls-no-1-3"}),
    "1.3 was lost": (tls(LOST, ACCEPTS, REFUSES, REFUSES), {"probe-incomplete"}),
    "1.3 did not answer": (tls(NO_ANSWER, ACCEPTS, REFUSES, REFUSES), {"probe-incomplete"}),
    "old ones alone": (tls(REFUSES, REFUSES, ACCEPTS, ACCEPTS), {"tls-too-old"}),
    "old ones, and the others were lost": (tls(LOST, LOST, ACCEPTS, ACCEPTS), {"tls-old", "probe-incomplete"}),
    "old ones, and the others did not answer": (
        tls(NO_ANSWER, NO_ANSWER, ACCEPTS, REFUSES), {"tls-old", "probe-incomplete"},
    ),
    "old ones, and the others were not offered": (
        tls(NOT_OFFERED, REFUSES, ACCEPTS, REFUSES), {"tls-old", "tls-not-tested"},
    ),
    "none": (tls(REFUSES, REFUSES, REFUSES, NOT_OFFERED), {"tls-failed", "tls-not-tested"}),
    "1.3 with a curve that is not offered": (tls(NO_CURVE, ACCEPTS, REFUSES, REFUSES), {"tls-not-tested"}),
    "old ones, and the others with curves that are not offered": (
        tls(NO_CURVE, NO_CURVE, ACCEPTS, REFUSES), {"tls-old", "tls-not-tested"},
    ),
    "no curve in common": (tls(NO_CURVE, NO_CURVE, NOT_OFFERED, NOT_OFFERED), {"tls-failed", "tls-not-tested"}),
    "silence": (tls(NO_ANSWER, NO_ANSWER, NO_ANSWER, NO_ANSWER), {"tls-failed"}),
    "none was seen": (tls(LOST, LOST, LOST, LOST), {"probe-incomplete"}),
    "one was refused, and the rest was lost": (tls(REFUSES, LOST, LOST, LOST), {"probe-incomplete"}),
}  # fmt: skip


@pytest.mark.parametrize("case", TLS_CASES)
def test_what_became_of_tls_is_told_and_no_more(case):
    seen, expected = TLS_CASES[case]
    assert set(findings(server(tls=seen))) == expected


def test_the_newest_of_the_old_versions_is_named():
    told = findings(server(tls=tls(REFUSES, REFUSES, ACCEPTS, ACCEPTS)))["tls-too-old"]
    assert told.facts == {"version": "TLSv1.1"}


def test_what_was_not_seen_is_named_with_its_reason():
    told = findings(server(tls=tls(LOST, LOST, ACCEPTS, REFUSES)))["probe-incomplete"]
    assert told.facts == {"missing": "TLSv1.3, TLSv1.2 (before TLS, the server resets it)"}


def test_suites_that_were_not_asked_for_are_not_known():
    some = TLSAnswer(TLSOutcome.ACCEPTED, "ECDHE-A", "connection 9 was refused", ("ECDHE-A",))
    told = findings(server(tls={"TLSv1.2": some}))["probe-incomplete"]
    assert told.facts == {"missing": "more suites of TLSv1.2 (connection 9 was refused)"}


NEGOTIATION_CASES = {
    "nla alone": ({BOTH: NLA, HYBRID: NLA, SSL: REFUSED}, {"nla-required"}),
    "the rest was silent": ({BOTH: NLA, HYBRID: NLA, SSL: SILENT, RDP: SILENT}, {"probe-incomplete"}),
    "the rest was reset": ({BOTH: NLA, SSL: RESET}, {"probe-incomplete"}),
    "nla was lost, and plain rdp is taken": (
        {BOTH: RESET, HYBRID: SILENT, RDP: NegotiationAnswer()}, {"probe-incomplete", "rdp-security-accepted"},
    ),
    "another program answered later": (
        {BOTH: NLA, SSL: NegotiationAnswer(problem="expected version 3, got 72", foreign=True)}, {"probe-incomplete"},
    ),
    "another program": ({BOTH: NegotiationAnswer(problem="ssh", foreign=True)}, {"not-rdp"}),
    "nothing was asked": ({BOTH: UNASKED, HYBRID: UNASKED}, {"probe-incomplete"}),
    "one was refused, and the other was not asked": (
        {BOTH: NegotiationAnswer(failure=FailureCode.SSL_NOT_ALLOWED_BY_SERVER), HYBRID: UNASKED, SSL: UNASKED},
        {"probe-incomplete", "tls-not-allowed"},
    ),
    "nothing at all": ({BOTH: SILENT, HYBRID: SILENT}, {"connection-lost"}),
}  # fmt: skip


@pytest.mark.parametrize("case", NEGOTIATION_CASES)
def test_what_became_of_the_negotiation_is_told_and_no_more(case):
    seen, expected = NEGOTIATION_CASES[case]
    assert set(findings(server(negotiation=seen))) == expected


KNOWN = {"enforcement-unknown"}
CREDSSP_CASES = {
    "ntlm alone": ({Question.NTLM: NTLM, PREFERENCE: NTLM}, {}, KNOWN | {"ntlm-only"}),
    "an offer of both is rejected": ({Question.NTLM: NTLM, PREFERENCE: Answer(6, rejected=True)}, {}, KNOWN),
    "kerberos alone": ({NEGOTIATE: KERBEROS, PREFERENCE: KERBEROS}, {Question.NTLM: IN_TLS}, KNOWN | {"ntlm-refused"}),
    "kerberos, and the end at ntlm": (
        {PREFERENCE: KERBEROS}, {Question.NTLM: IN_TLS, NEGOTIATE: IN_TLS}, KNOWN | {"ntlm-refused"},
    ),
    "kerberos, and ntlm was not asked for": (
        {PREFERENCE: KERBEROS}, {Question.NTLM: BEFORE_TLS, NEGOTIATE: BEFORE_TLS}, KNOWN | {"probe-incomplete"},
    ),
    "kerberos, and silence at ntlm": (
        {PREFERENCE: KERBEROS}, {Question.NTLM: IN_SILENCE, NEGOTIATE: IN_SILENCE}, KNOWN | {"probe-incomplete"},
    ),
    "ntlm is rejected": ({NEGOTIATE: Answer(6, rejected=True)}, {}, KNOWN | {"ntlm-refused"}),
    "an error": ({Question.NTLM: Answer(6, 0xC0000418)}, {}, KNOWN | {"ntlm-refused"}),
    "empty answers": (dict.fromkeys(Question, Answer(6)), {}, KNOWN | {"credssp-no-answer"}),
    "a challenge that cannot be read": (
        {Question.NTLM: Answer(6, None, "ntlm", problem="x"), PREFERENCE: NTLM},
        {},
        KNOWN | {"credssp-malformed", "ntlm-only"},
    ),
    "rubbish": ({}, dict.fromkeys(Question, RUBBISH), {"credssp-malformed"}),
    "the end": ({}, dict.fromkeys(Question, IN_TLS), {"credssp-no-answer"}),
    "silence": ({}, dict.fromkeys(Question, IN_SILENCE), {"credssp-no-answer"}),
    "not asked": ({}, dict.fromkeys(Question, BEFORE_TLS), {"probe-incomplete"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CREDSSP_CASES)
def test_what_became_of_credssp_is_told_and_no_more(case):
    answers, unanswered, expected = CREDSSP_CASES[case]
    assert set(findings(server(answers=answers, unanswered=unanswered))) == expected


def test_credssp_that_tls_kept_from_being_asked_is_no_gap_of_its_own():
    facts = server(tls=tls(REFUSES, REFUSES, REFUSES, REFUSES), unanswered=dict.fromkeys(Question, BEFORE_TLS))
    assert set(findings(facts)) == {"tls-failed"}


@pytest.mark.parametrize(("seconds", "is_off"), [(None, False), (0, False), (-300, False), (301, True), (-301, True)])
def test_the_clock_is_judged_as_it_was_when_the_challenge_came(seconds, is_off):
    assert ("clock-off" in findings(server(answers={Question.NTLM: NTLM}, clock_difference=seconds))) == is_off


# --- certificates ---


def of_certificate(made, trust=None, chain=()):
    whole = (made.der, *chain)
    judgement = (trust or Trust()).judge(whole, "host.example", NOW)
    told = judge_certificate(CertificateFacts.of(made.der), whole, judgement, "host.example", NOW)
    return [each.id for each in told]


def test_a_certificate_that_is_signed_by_itself_is_told_from_one_that_says_so():
    acme = Made("Acme")
    assert of_certificate(acme) == ["certificate-self-signed"]
    assert of_certificate(Made("Acme", by=Made("Acme", key="p384"))) == ["certificate-untrusted"]
    assert of_certificate(Spoilt(acme)) == ["certificate-untrusted"]


@pytest.mark.parametrize("key", ["rsa", "p384", "ed25519"])
def test_every_usual_key_signs_its_own_certificate(key):
    assert CertificateFacts.of(Made("Acme", key=key).der).self_signed


ROOT = Made("root", ca=True)
TRUSTED = Trust((ROOT.certificate,))


def test_a_harmless_finding_hides_no_refusal():
    assert of_certificate(Made("x", by=ROOT, days=5), TRUSTED) == ["certificate-expires-soon"]
    forbidden = Made("x", by=ROOT, days=5, usage=key_usage("crl_sign"))
    assert not TRUSTED.judge([forbidden.der], "host.example", NOW).trusted
    assert of_certificate(forbidden, TRUSTED) == ["certificate-expires-soon", "certificate-untrusted"]


def test_a_refusal_that_a_finding_tells_is_told_once():
    assert of_certificate(Made("x", by=ROOT, start=-9, days=-2), TRUSTED) == ["certificate-expired"]
    assert of_certificate(Made("x", by=ROOT, names=("other.example",)), TRUSTED) == ["certificate-wrong-name"]


def shown(made):
    return ShownCertificate(CertificateFacts.of(made.der), (made.der,), Trust().judge([made.der], "host.example", NOW))


def test_every_certificate_that_was_shown_is_judged():
    good, old = Made("x", key="ec"), Made("x", key="p384", start=-9, days=-2)
    first = shown(good)
    seen = server(certificate=first.certificate, chain=first.chain, judgement=first.judgement)
    assert not {"certificate-expired", "certificate-several"} & set(told_of(seen))
    seen.other_certificates.append(shown(old))
    told = told_of(seen)
    assert {"certificate-expired", "certificate-several"} <= set(told)
    assert told["certificate-several"].facts["count"] == 2
    assert first.certificate.pin in told["certificate-several"].text


def told_of(seen):
    return {each.id: each for each in judge_server(seen, "host.example", NOW)}


def test_a_renewed_certificate_of_the_same_key_is_no_second_key():
    first, renewed = shown(Made("x")), shown(Made("x", days=300))
    seen = server(certificate=first.certificate, chain=first.chain, judgement=first.judgement)
    seen.other_certificates.append(renewed)
    told = judge_server(seen, "host.example", NOW - dt.timedelta(hours=1))
    assert "certificate-several" not in {each.id for each in told}
    assert [each.id for each in told].count("certificate-self-signed") == 1

"""Which causes follow from the facts of a logon, where no peer is needed to tell."""

import datetime as dt

import pytest

from acredssp.diagnosis import (
    ChallengeFacts,
    LogonFacts,
    NegotiationAnswer,
    Question,
    ServerFacts,
    TLSAnswer,
    TLSOutcome,
    explain,
)
from acredssp.diagnosis.questions import Answer
from acredssp.errors import (
    AuthenticationError,
    CredSSPError,
    HandshakeTimeout,
    PeerClosed,
    PolicyError,
    PublicKeyMismatch,
    TLSError,
)
from acredssp.rdp import Protocols, ResponseFlags
from acredssp.status import NTSTATUS, SecurityStatus, Stage

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
HYBRID = Protocols.HYBRID


def server(version=6, clock=NOW, **changes):
    answer = Answer(version, None, "ntlm", ChallengeFacts("SERVER", "CONTOSO", timestamp=clock))
    answers = dict.fromkeys(Question, answer)
    return ServerFacts(
        "host:3389",
        "host",
        "host:3389",
        negotiation={HYBRID: NegotiationAnswer(HYBRID)},
        answers=answers,
        clock_difference=round((clock - NOW).total_seconds()),
    )


def with_suites(cipher):
    told = server()
    told.tls = {
        "TLSv1.3": TLSAnswer(TLSOutcome.REFUSED, problem="alert"),
        "TLSv1.2": TLSAnswer(TLSOutcome.ACCEPTED, cipher),
    }
    return told


def facts(error, **changes):
    known = {
        "host": "host", "account": "CONTOSO\\alice", "spn": "TERMSRV/host", "realm": "", "error": error,
        "server": server(), "version": 6, "mechanism": "ntlm", "pin": "00" * 32,
    }  # fmt: skip
    return LogonFacts(**known | changes)


def refused(status, **more):
    return AuthenticationError("the server refused the logon", nt_status=status, stage=Stage.PUB_KEY_AUTH, **more)


def at(error, stage):
    error.stage = stage
    return error


CASES = {
    "the key differs": (facts(at(PublicKeyMismatch("x"), Stage.PUB_KEY_AUTH)), {"tls-intercepted", "peer-defect"}),
    "bad bindings": (facts(refused(NTSTATUS.STATUS_BAD_BINDINGS)), {"tls-intercepted", "peer-defect"}),
    "a silent kdc": (
        facts(HandshakeTimeout("x", stage=Stage.NEGO_TOKEN), kdc_seconds=29.0, realm="R", mechanism=""),
        {"kdc-not-reached", "kdc-slow"},
    ),
    "a slow kdc": (facts(None, kdc_seconds=12.0), {"logon-succeeded", "kdc-slow"}),
    "closed after success": (facts(PeerClosed("x", stage=Stage.EARLY_USER_AUTH)), {"not-authorized"}),
    "restricted admin, closed": (
        facts(PeerClosed("x", stage=Stage.EARLY_USER_AUTH), nothing_delegated=True, flags=ResponseFlags(0)),
        {"not-authorized", "restricted-admin-off"},
    ),
    "restricted admin, announced": (
        facts(
            PeerClosed("x", stage=Stage.EARLY_USER_AUTH),
            nothing_delegated=True,
            flags=ResponseFlags.RESTRICTED_ADMIN_MODE_SUPPORTED,
        ),
        {"not-authorized"},
    ),
    "the domain's clock": (facts(refused(NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC)), {"clock-skew"}),
    "another key": (facts(refused(NTSTATUS.STATUS_MUTUAL_AUTHENTICATION_FAILED)), {"spn-wrong-key"}),
    "win32 for a locked account": (facts(refused(NTSTATUS(0xC0070000 | 1909))), {"account-locked"}),
    "no domain trust": (facts(refused(NTSTATUS.STATUS_NO_TRUST_SAM_ACCOUNT)), {"trust-broken"}),
    "versions": (facts(refused(NTSTATUS.STATUS_NOT_SUPPORTED), server=server(2)), {"credssp-old"}),
    "versions, by our policy": (
        facts(PolicyError("the peer speaks credssp version 4"), server=server(4)),
        {"credssp-old"},
    ),
    "no enctype": (
        facts(AuthenticationError("kerberos: x", security_status=SecurityStatus.SEC_E_KDC_UNKNOWN_ETYPE)),
        {"no-common-enctype"},
    ),
    "a tls alert": (facts(TLSError("the peer sent tls alert handshake_failure", stage=Stage.TLS)), {"tls-failed"}),
    "an unheard error": (facts(CredSSPError("x")), {"unknown"}),
    "no library for kerberos": (
        facts(
            PolicyError(
                "kerberos: the kerberos library cannot be loaded", security_status=SecurityStatus.SEC_E_SECPKG_NOT_FOUND
            )
        ),
        {"kerberos-not-installed"},
    ),
    "no kerberos at all": (
        facts(PolicyError("kerberos is not installed", security_status=SecurityStatus.SEC_E_SECPKG_NOT_FOUND)),
        {"kerberos-not-installed"},
    ),
    "suites without forward secrecy": (
        facts(at(TLSError("alert handshake_failure"), Stage.TLS), server=with_suites("AES128-SHA")),
        {"tls-legacy-ciphers"},
    ),
    "a suite that a logon offers": (
        facts(at(TLSError("alert handshake_failure"), Stage.TLS), server=with_suites("ECDHE-RSA-AES128-GCM-SHA256")),
        {"tls-failed"},
    ),
    "both clocks": (
        facts(refused(NTSTATUS.STATUS_LOGON_FAILURE), server=server(clock=NOW + dt.timedelta(seconds=301))),
        {"wrong-credentials", "clock-off"},
    ),
    "a clock within the limit": (
        facts(refused(NTSTATUS.STATUS_LOGON_FAILURE), server=server(clock=NOW - dt.timedelta(seconds=299))),
        {"wrong-credentials"},
    ),
    "unchecked": (
        facts(refused(NTSTATUS.STATUS_LOGON_FAILURE), key_checked=False),
        {"wrong-credentials", "key-unchecked"},
    ),
    "by name": (facts(refused(NTSTATUS.STATUS_ACCOUNT_RESTRICTION)), {"account-restriction"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_causes_follow_from_the_facts(case):
    known, expected = CASES[case]
    causes = explain(known, NOW)
    assert {each.id for each in causes} == expected
    assert all(each.text and each.next_step for each in causes)


def test_wrong_credentials_name_the_server_and_what_was_sent():
    (cause,) = explain(facts(refused(NTSTATUS.STATUS_LOGON_FAILURE)), NOW)
    assert "The server is SERVER in CONTOSO; you sent CONTOSO\\alice." in cause.text
    assert "SERVER\\USER" in cause.next_step


@pytest.mark.parametrize(("domain", "said"), [("SERVER", "SERVER in no domain;"), ("CONTOSO", "SERVER in CONTOSO;")])
def test_a_server_of_a_workgroup_is_in_no_domain(domain, said):
    told = server()
    challenge = ChallengeFacts("SERVER", domain)
    told.answers = dict.fromkeys(Question, Answer(6, None, "ntlm", challenge))
    (cause,) = explain(facts(refused(NTSTATUS.STATUS_LOGON_FAILURE), server=told), NOW)
    assert said in cause.text
    assert "locked" in cause.next_step


def test_a_silent_server_may_hide_a_locked_account():
    causes = explain(facts(AuthenticationError("the server refused the logon", stage=Stage.PUB_KEY_AUTH)), NOW)
    assert "a locked account from a wrong password" in causes[0].next_step

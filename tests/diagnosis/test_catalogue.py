"""The catalogue of findings: ids that never change, texts that use the facts, and the page that shows them."""

import re
import string

import pytest
from support import findings_page

from acredssp.diagnosis import CATALOGUE, Severity, found

IDS = """
    account-disabled account-expired account-locked account-restriction certificate-expired
    certificate-expires-soon certificate-no-names certificate-not-yet-valid certificate-other-key
    certificate-self-signed certificate-several certificate-sha1 certificate-untrusted certificate-weak-key
    certificate-wrong-name
    certificate-wrong-usage cipher-weak client-certificate-required client-credssp-old client-no-nla
    client-malformed client-not-rdp client-silent http-no-answer http-unavailable
    client-ntlm-only client-sent-nothing client-tls-failed client-tls-old client-user-in-clear clock-off
    clock-skew connection-failed connection-lost connection-refused credssp-malformed credssp-no-answer
    credssp-old probe-incomplete
    enforcement-unknown entra-offered host-not-found http-connection-shared http-no-authentication https-untrusted
    inconsistent-flags kdc-not-reached
    kerberos-not-installed
    key-unchecked kdc-slow logon-succeeded negotiation-refused nla-not-offered nla-not-required nla-required
    no-answer no-common-enctype no-domain-controller no-forward-secrecy no-server-certificate no-ticket
    not-authorized not-http not-rdp not-winrm ntlm-by-address ntlm-disabled ntlm-only ntlm-refused own-limit
    password-expired password-must-change peer-defect policy-forbids rdp-security-accepted rdstls-offered
    remote-guard-offered restricted-admin-off restricted-admin-offered silent-refusal spn-unknown spn-wrong-key
    slash-in-account
    suites-weak tls-failed tls-intercepted
    tls-legacy-ciphers tls-no-1-3 tls-not-allowed tls-not-tested tls-old tls-required tls-too-old
    trust-broken unknown winrm-basic winrm-basic-in-clear winrm-certificate-untrusted winrm-no-credssp
    winrm-not-authorized winrm-wrong-credentials wrong-credentials
"""
"""All ids that there ever were. An id is never taken away from this list, and never used for anything else."""


def test_no_id_changes_or_disappears():
    assert sorted(CATALOGUE) == sorted(IDS.split())
    assert all(kind.id == name for name, kind in CATALOGUE.items())


def fields(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_the_texts_of_a_finding_use_its_facts_and_no_others(name):
    kind = CATALOGUE[name]
    assert fields(kind.sentence) | fields(kind.next_step) == set(kind.facts)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    finding = found(name, **dict.fromkeys(kind.facts, "X"))
    for text in (finding.text, finding.next_step):
        assert text.endswith(".") or name == "clock-skew"
        assert "{" not in text.replace("@{Basic", "")


def test_a_finding_with_a_missing_fact_is_a_fault_of_ours():
    with pytest.raises(AssertionError):
        found("credssp-old")


def test_a_fact_of_a_peer_cannot_name_another_one():
    assert "{version}" in found("credssp-old", version="{version}").text


def test_an_unknown_fact_is_called_unknown():
    assert "CredSSP unknown." in found("credssp-old", version=None).text


def test_severities_have_an_order():
    assert [each.rank for each in (Severity.INFO, Severity.LOW, Severity.MEDIUM, Severity.HIGH)] == [0, 1, 2, 3]


def test_the_page_is_made_of_the_catalogue_as_it_is_now():
    assert findings_page.PAGE.read_text("utf-8") == findings_page.page(), "docs/findings.md is stale: make conformance"


def test_each_anchor_is_a_heading_of_the_page():
    page = findings_page.PAGE.read_text("utf-8")
    for kind in CATALOGUE.values():
        document, _, anchor = kind.anchor.partition("#")
        assert document == "docs/findings.md"
        assert f"\n## {anchor}\n" in page

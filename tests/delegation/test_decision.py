"""Decisions as records of an audit log."""

import json

import pytest
from support.delegation import HOST, NOBODY, decide, settings

from acredssp.delegation import (
    DelegatedKind,
    DelegationPolicy,
    DelegationRequest,
    ServerAuth,
)
from acredssp.sspi.flags import CREDSSP_SERVER_AUTH


@pytest.mark.requirement("delegation.audit")
def test_a_decision_is_one_line_of_json_that_no_name_can_break():
    decision = decide(
        DelegationPolicy(),
        'TERMSRV/"\n{evil}\u2028',
        ServerAuth.KERBEROS | ServerAuth.CERTIFICATE,
        mechanism="kerberos",
        version=6,
        certificate="trusted",
    )
    line = str(decision)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {
        "event": "delegation",
        "outcome": "allowed",
        "status": "SEC_E_OK",
        "sends": "password",
        "target": 'TERMSRV/"\n{evil}\u2028',
        "class": "fresh",
        "kind": "password",
        "server_auth": ["kerberos", "certificate"],
        "certificate": "trusted",
        "mechanism": "kerberos",
        "version": 6,
        "delegate": True,
        "mutual_auth": False,
        "setting": "AllowFreshCredentials",
        "pattern": "TERMSRV/*",
    }


@pytest.mark.requirement("delegation.audit")
def test_a_refusal_says_what_decided():
    record = json.loads(str(decide(settings(DenyFreshCredentials=["TERMSRV/*"]), auth=NOBODY)))
    assert (record["outcome"], record["status"]) == ("refused", "SEC_E_DELEGATION_POLICY")
    assert (record["setting"], record["pattern"], record["server_auth"]) == ("DenyFreshCredentials", "TERMSRV/*", [])


def test_numbers_of_server_auth_are_the_headers():
    assert {flag.name: flag.value for flag in ServerAuth} == {
        "KERBEROS": CREDSSP_SERVER_AUTH.NEGOTIATE,
        "CERTIFICATE": CREDSSP_SERVER_AUTH.CERTIFICATE,
        "LOOPBACK": CREDSSP_SERVER_AUTH.LOOPBACK,
    }


@pytest.mark.parametrize("kind", DelegatedKind)
def test_a_kind_may_be_given_by_its_value(kind):
    request = DelegationRequest(target=HOST, server_auth=NOBODY, kind=kind.value)
    assert request.kind is kind


def test_a_kind_that_is_none_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="smart card"):
        DelegationRequest(target=HOST, server_auth=NOBODY, kind="smart card")

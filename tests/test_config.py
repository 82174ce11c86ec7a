"""Configurations: frozen, shared, and whole before the first connection."""

import contextlib
import copy
import dataclasses
import datetime as dt
import logging
import ssl

import pytest
from cryptography import x509
from support.engine import pem

from acredssp import tls_config
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import ChooseCertificate, Delegate, JudgeCertificate, LookupCredential, StepMechanism
from acredssp.credentials import Nothing, NTHash, Password, TicketCache
from acredssp.delegation import (
    CredentialClass,
    DelegationPolicy,
    DelegationRequest,
    EncryptionOracle,
    ServerAuth,
    SPNList,
)
from acredssp.errors import CertificateError, PolicyError
from acredssp.mechanisms.base import Principal
from acredssp.policy import MechanismChoice, Policy
from acredssp.trust import Trust, Verdict, pin_of

ALICE = Password("secret", "alice")
ANY = Policy(dangerous_accept_any_certificate=True)


def test_costly_things_are_made_once_and_shared():
    config = ClientConfig(authenticate=ALICE)
    assert config.ssl_context is not None
    contexts = [config.new_context(server_hostname="host", spn="TERMSRV/host") for _ in range(2)]
    assert {id(context.tls.ssl_object.context) for context in contexts} == {id(config.ssl_context)}


def test_a_changed_copy_keeps_the_rest():
    config = ClientConfig(authenticate=ALICE, policy=ANY)
    other = dataclasses.replace(config, workstation="WS")
    assert other.ssl_context is config.ssl_context
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.workstation = "WS"


@pytest.mark.parametrize("credential", [Password("other", "bob", "CONTOSO"), NTHash(bytes(16), "bob"), TicketCache()])
@pytest.mark.parametrize("delegate", [None, Nothing()])
def test_a_configuration_for_another_credential_keeps_all_else(credential, delegate):
    policy = DelegationPolicy(deny_fresh_credentials=SPNList.of("*"))
    choice = Policy(mechanism=MechanismChoice.AUTO)
    config = ClientConfig(
        authenticate=ALICE, delegate=delegate, delegation=policy, mutual_auth=True, policy=choice, trust=NAMED,
        workstation="WS",
    )  # fmt: skip
    other, made_anew = config.with_credential(credential), dataclasses.replace(config, authenticate=credential)
    assert other == made_anew
    assert other._delegated == made_anew._delegated
    assert other._trust is NAMED
    assert other.ssl_context is config.ssl_context
    contexts = [each.new_context(server_hostname="host", spn="TERMSRV/host") for each in (other, made_anew)]
    assert len({type(context.handshake.mechanism) for context in contexts}) == 1
    assert config.authenticate is ALICE


@pytest.mark.parametrize("credential", [None, "secret", Password("without a user"), NTHash(bytes(16))])
def test_another_credential_is_checked(credential):
    with pytest.raises((TypeError, ValueError), match="authenticate: expected") as raised:
        ClientConfig(authenticate=credential)
    with pytest.raises(raised.type) as again:
        ClientConfig(authenticate=ALICE).with_credential(credential)
    assert str(again.value) == str(raised.value)


NAMED = Trust.pinned("00" * 32)


@pytest.mark.parametrize(
    ("trust", "named"),
    [(None, False), (Trust(), False), (NAMED, True), (Trust.system(), bool(Trust.system().authorities))],
    ids=["none", "empty", "a pin", "the system's by name"],
)
def test_a_configuration_knows_whether_its_caller_named_whom_to_trust(trust, named):
    config = ClientConfig(authenticate=ALICE, trust=trust)
    copies = {
        "itself": config,
        "a copy": copy.copy(config),
        "a changed copy": dataclasses.replace(config, workstation="WS"),
        "a copy with another policy": dataclasses.replace(config, policy=Policy(max_version=5), ssl_context=None),
        "another one with a copy of its trust": dataclasses.replace(config, trust=copy.copy(config.trust)),
    }
    assert {what: (other.trusts_by_name, other.trust) for what, other in copies.items()} == dict.fromkeys(
        copies, (named, trust)
    )


def test_certificates_are_judged_by_the_system_where_nobody_was_named():
    leaf = tls_config.chain_of(tls_config.self_signed(["localhost"], "ec")[0])
    assert ClientConfig(authenticate=ALICE).judgement_of(leaf, "localhost") == Trust.system().judge(
        leaf, "localhost", dt.datetime.now(dt.UTC)
    )
    with pytest.raises(CertificateError, match="signed by itself"):
        ClientConfig(authenticate=ALICE).judge(leaf, "localhost")
    assert ClientConfig(authenticate=ALICE, policy=ANY).judgement_of(leaf, "localhost") is None
    assert ClientConfig(authenticate=ALICE, trust=NAMED).judgement_of(leaf, "localhost").verdict is Verdict.PIN_DIFFERS


@pytest.mark.parametrize("trust", [NAMED, Trust(authorities=tuple(x509.load_pem_x509_certificates(pem()[0])))])
def test_whoever_names_whom_to_trust_cannot_accept_any_certificate(trust):
    """The policy would overrule the trust without a word."""
    with pytest.raises(ValueError, match="trust: expected None together with Policy"):
        ClientConfig(authenticate=ALICE, trust=trust, policy=ANY)
    config = ClientConfig(authenticate=ALICE, trust=trust)
    with pytest.raises(ValueError, match="trust: expected None"):
        dataclasses.replace(config, policy=ANY)
    with pytest.raises(ValueError, match="trust: expected None"):
        dataclasses.replace(ClientConfig(authenticate=ALICE, policy=ANY), trust=trust)
    assert not ClientConfig(authenticate=ALICE, trust=Trust(), policy=ANY).trusts_by_name


def test_accepting_any_certificate_reads_no_authorities():
    config = ClientConfig(authenticate=ALICE, policy=ANY)
    assert config.judgement_of((b"no certificate at all",), "host") is None
    assert config.judge((b"no certificate at all",), "host") is False


def test_a_certificate_is_judged_now():
    der = ssl.PEM_cert_to_DER_cert(pem()[0].decode())
    with pytest.raises(CertificateError):
        ClientConfig(authenticate=ALICE, trust=Trust()).judge((der,), "localhost")
    ClientConfig(authenticate=ALICE, trust=Trust.pinned(pin_of(der))).judge((der,), "localhost")


def test_a_configuration_answers_every_event_of_a_client():
    der = ssl.PEM_cert_to_DER_cert(pem()[0].decode())
    config = ClientConfig(authenticate=ALICE, trust=Trust.pinned(pin_of(der)))
    fault = OSError("no kdc")

    def fail():
        raise fault

    assert config.answer(JudgeCertificate((der,)), "localhost") is True
    assert config.answer(Delegate("ntlm", 6, "TERMSRV/host", "password", ServerAuth.CERTIFICATE), "host") is True
    assert config.answer(ChooseCertificate(()), "host") is None
    assert config.answer(StepMechanism(lambda: b"token"), "host") == b"token"
    assert config.answer(StepMechanism(fail), "host") is fault
    with pytest.raises(CertificateError):
        ClientConfig(authenticate=ALICE, trust=Trust()).answer(JudgeCertificate((der,)), "localhost")
    with pytest.raises(PolicyError):
        config.answer(Delegate("ntlm", 6, "HTTP/host", "password", ServerAuth.CERTIFICATE), "host")
    with pytest.raises(TypeError, match="LookupCredential"):
        config.answer(LookupCredential(Principal("bob", ""), "ntlm"), "host")


@pytest.mark.requirement("delegation.encryption-oracle")
def test_a_clients_policy_is_what_its_delegation_policy_leaves_of_it():
    legacy = Policy(min_version=2, dangerous_allow_legacy_versions=True)
    config = ClientConfig(authenticate=ALICE, policy=legacy, trust=Trust())
    assert config.policy is legacy
    mitigated = DelegationPolicy(allow_encryption_oracle=EncryptionOracle.MITIGATED)
    assert dataclasses.replace(config, delegation=mitigated).policy.min_version == 5
    old = dataclasses.replace(legacy, max_version=4)
    with pytest.raises(ValueError, match="AllowEncryptionOracle: Mitigated requires version 5"):
        ClientConfig(authenticate=ALICE, policy=old, trust=Trust(), delegation=mitigated)


EVENT = {
    "mechanism": "ntlm",
    "version": 6,
    "target": "TERMSRV/host",
    "kind": "password",
    "server_auth": ServerAuth.CERTIFICATE,
}
QUESTIONS = [
    ({}, {}),
    ({"target": "HTTP/host"}, {}),
    ({"server_auth": ServerAuth(0)}, {}),
    ({"server_auth": ServerAuth(0)}, {"mutual_auth": True}),
    ({"server_auth": ServerAuth.KERBEROS, "mechanism": "kerberos"}, {}),
    ({"kind": "smartcard"}, {}),
    ({"version": 5}, {}),
    ({}, {"delegate": False}),
    ({}, {"certificate": "expired"}),
]
"""Each differs from the first in what a decision, or its record, depends on."""


@pytest.mark.requirement("delegation.procedure", "delegation.audit")
def test_a_remembered_decision_is_that_of_the_same_question_and_audited_every_time(caplog):
    policy = DelegationPolicy(allow_fresh_credentials_when_ntlm_only=SPNList())
    config = ClientConfig(authenticate=ALICE, trust=Trust(), delegation=policy)
    expected = []
    with caplog.at_level(logging.INFO, "acredssp.audit"):
        for event, asked in [*QUESTIONS, *reversed(QUESTIONS)]:
            facts = {"certificate": "", "delegate": True, "mutual_auth": False} | EVENT | event | asked
            expected.append(policy.decide(DelegationRequest(**facts)))
            with contextlib.nullcontext() if expected[-1].allowed else pytest.raises(PolicyError):
                config.decide(Delegate(**EVENT | event), **asked)
    assert [record.delegation for record in caplog.records] == expected
    assert len({str(decision) for decision in expected}) == len(QUESTIONS)


def test_configurations_share_no_decisions():
    config = ClientConfig(authenticate=ALICE, trust=Trust())
    assert config.decide(Delegate(**EVENT)) is True
    with pytest.raises(PolicyError):
        dataclasses.replace(config, delegation=DelegationPolicy(deny_fresh_credentials=SPNList.of("*"))).decide(
            Delegate(**EVENT)
        )
    with pytest.raises(PolicyError):
        dataclasses.replace(config, credential_class=CredentialClass.DEFAULT).decide(Delegate(**EVENT))


def test_a_server_without_a_certificate_is_refused_before_a_client_comes():
    with pytest.raises(PolicyError, match="no certificate"):
        ServerConfig(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), lookup=lambda request: None)


def test_a_challenge_tells_nothing_of_the_machine():
    context = tls_config.server_context_from_pem(Policy(), *pem())
    config = ServerConfig(ssl_context=context, lookup=lambda request: None)
    assert config.identity.netbios_computer == "ACREDSSP"


def test_no_secret_is_in_a_repr():
    assert "secret" not in repr(ClientConfig(authenticate=ALICE, delegate=Password("secret too"), policy=ANY))

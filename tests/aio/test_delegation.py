"""The delegation policy on asyncio: each refusal from its real cause, and nothing of the credentials with it."""

import dataclasses
import json
import logging

import pytest
from support.endpoints import (
    PASSWORD,
    both,
    client_config,
    client_side,
    memory_pair,
    server_config,
    server_side,
    tls_policy,
)

from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.credentials import Keytab, Nothing, NTHash, Password
from acredssp.delegation import (
    CredentialClass,
    DelegationDecision,
    DelegationPolicy,
    RestrictedAdministration,
    SPNList,
)
from acredssp.errors import PeerClosed, PolicyError
from acredssp.mechanisms.ntlm.initiator import NTLMInitiator
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import SecurityStatus, Stage
from acredssp.wire.ts_credentials import TSRemoteGuardCreds, TSRemoteGuardPackageCred, UnicodeString
from acredssp.wire.x224 import RequestFlags

DELEGATION_POLICY = SecurityStatus.SEC_E_DELEGATION_POLICY
NTLM_ONLY = SecurityStatus.SEC_E_POLICY_NLTM_ONLY
MUTUAL_AUTH_FAILED = SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED

REMOTE_GUARD = TSRemoteGuardCreds(TSRemoteGuardPackageCred(UnicodeString("Kerberos"), b"ticket"), ())
NOBODY = SPNList()
ONLY_PROVEN = DelegationPolicy(allow_fresh_credentials_when_ntlm_only=NOBODY)


def restricted(number):
    return DelegationPolicy(restricted_administration=RestrictedAdministration(number))


REFUSALS = {
    "denied": ({"delegation": DelegationPolicy(deny_fresh_credentials=SPNList.of("termsrv/*"))}, False),
    "not listed": ({"delegation": DelegationPolicy(allow_fresh_credentials=SPNList.of("TERMSRV/other"))}, False),
    "disabled": ({"delegation": DelegationPolicy(allow_fresh_credentials=NOBODY)}, False),
    "default credentials": ({"credential_class": CredentialClass.DEFAULT}, False),
    "remote guard required": ({"delegation": restricted(2)}, False),
    "not listed, and nobody proven": (
        {"delegation": dataclasses.replace(ONLY_PROVEN, allow_fresh_credentials=NOBODY)},
        True,
    ),
    "only ntlm": ({"delegation": ONLY_PROVEN}, True),
    "only ntlm, saved": ({"credential_class": CredentialClass.SAVED}, True),
    "mutual authentication": ({"mutual_auth": True}, True),
    "mutual authentication of nothing": ({"mutual_auth": True, "delegate": Nothing()}, True),
}
"""Changes to the client's configuration, and whether it takes any certificate."""
STATUS = {"only ntlm": NTLM_ONLY, "only ntlm, saved": NTLM_ONLY}


def status_of(cause):
    return MUTUAL_AUTH_FAILED if cause.startswith("mutual") else STATUS.get(cause, DELEGATION_POLICY)


class CountingServer:
    """A server's configuration that counts the credentials that it was sent."""

    def __init__(self, policy=None, **changes):
        self.delegated = []
        self.config = server_config(policy, admit=self._admit, **changes)

    def _admit(self, admission):
        self.delegated.append(admission.info.delegated)
        return True


def any_certificate(policy):
    return dataclasses.replace(policy, dangerous_accept_any_certificate=True)


async def log_on(client, server, carriage=TLS()):  # noqa: B008
    ours, theirs = memory_pair()
    return await both(client_side(ours, client, carriage), server_side(theirs, server.config, carriage))


def audited(caplog):
    return [record for record in caplog.records if record.name == "acredssp.audit"]


@pytest.mark.requirement("delegation.order", "delegation.procedure", "R68", "R69", "R70")
@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("mechanism", [MechanismChoice.NTLM, MechanismChoice.NEGOTIATE])
@pytest.mark.parametrize("cause", REFUSALS)
async def test_a_refusal_has_its_cause_and_comes_before_any_credentials(cause, mechanism, version):
    changes, any_ = REFUSALS[cause]
    policy = Policy(
        min_version=2, max_version=version, dangerous_allow_legacy_versions=True, mechanism=mechanism,
        dangerous_accept_any_certificate=any_,
    )  # fmt: skip
    server = CountingServer(dataclasses.replace(policy, mechanism=MechanismChoice.AUTO))
    ours, theirs = await log_on(client_config(policy, **changes), server)
    assert type(ours) is PolicyError
    assert ours.security_status is status_of(cause)
    assert ours.stage is Stage.PUB_KEY_AUTH
    assert ours.hint
    assert type(theirs) is PeerClosed
    assert theirs.stage is Stage.AUTH_INFO, "the server had proven its key, and waited for credentials"
    assert server.delegated == []


@pytest.mark.requirement("delegation.procedure")
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(
    ("changes", "delegated"),
    [
        ({}, "password"),
        ({"credential_class": CredentialClass.SAVED}, "password"),
        ({"delegation": ONLY_PROVEN}, "password"),
        ({"mutual_auth": True}, "password"),
        (
            {
                "credential_class": CredentialClass.DEFAULT,
                "delegation": DelegationPolicy(allow_default_credentials=SPNList.of("TERMSRV/localhost")),
            },
            "password",
        ),
        ({"delegate": REMOTE_GUARD}, "remote_guard"),
        ({"delegate": Nothing(), "delegation": DelegationPolicy(deny_fresh_credentials=SPNList.of("*"))}, "nothing"),
    ],
)
async def test_what_the_policy_allows_goes_to_a_server_with_a_trusted_certificate(changes, delegated, tls):
    server = CountingServer(tls_policy(tls))
    ours, theirs = await log_on(client_config(tls_policy(tls), **changes), server)
    assert ours.delegated == theirs.delegated == delegated
    assert server.delegated == [delegated]


@pytest.mark.requirement("delegation.defaults")
async def test_by_default_ntlm_alone_is_enough_for_fresh_credentials_where_any_certificate_is_taken():
    server = CountingServer()
    ours, _ = await log_on(client_config(any_certificate(Policy())), server)
    assert (ours.delegated, server.delegated) == ("password", ["password"])


@pytest.mark.requirement("delegation.procedure")
@pytest.mark.parametrize("cause", [cause for cause in REFUSALS if "ntlm" in cause or cause.startswith("mutual")])
async def test_kerberos_authenticates_a_server_that_no_certificate_does(cause, monkeypatch):
    monkeypatch.setattr(NTLMInitiator, "authenticates_server", True)
    server = CountingServer()
    changes, _ = REFUSALS[cause]
    ours, _ = await log_on(client_config(any_certificate(Policy()), **changes), server)
    assert server.delegated == [ours.delegated]


@pytest.mark.requirement("delegation.procedure", "delegation.audit")
@pytest.mark.parametrize("changes", [{"delegation": ONLY_PROVEN}, {"mutual_auth": True}])
@pytest.mark.parametrize("choice", [MechanismChoice.KERBEROS, MechanismChoice.NTLM])
async def test_a_real_ticket_is_a_proof_and_ntlm_is_none(choice, changes, kerberos, caplog):
    alice = Password("Passw0rd!", "alice", "acredssp.test")
    policy = any_certificate(Policy(mechanism=choice))
    server = CountingServer(lookup=lambda _request: alice, keytab=Keytab(str(kerberos.keytab)))
    with caplog.at_level(logging.INFO, "acredssp.audit"):
        ours, _ = await log_on(client_config(policy, authenticate=alice, **changes), server)
    (line,) = [json.loads(record.getMessage()) for record in audited(caplog)]
    if choice is MechanismChoice.KERBEROS:
        assert (ours.mechanism, ours.delegated, server.delegated) == ("kerberos", "password", ["password"])
        assert (line["mechanism"], line["server_auth"]) == ("kerberos", ["kerberos"])
    else:
        assert ours.security_status in {NTLM_ONLY, MUTUAL_AUTH_FAILED}
        assert server.delegated == []
        assert (line["mechanism"], line["server_auth"]) == ("ntlm", [])


@pytest.mark.requirement("delegation.restricted")
@pytest.mark.parametrize(
    ("number", "delegate", "sent"),
    [
        (1, None, "nothing"),
        (1, Password("other", "carol"), "nothing"),
        (1, REMOTE_GUARD, "nothing"),
        (2, REMOTE_GUARD, "remote_guard"),
        (2, Nothing(), "nothing"),
        (3, None, "nothing"),
        (3, REMOTE_GUARD, "remote_guard"),
    ],
)
async def test_a_restriction_leaves_what_it_says(number, delegate, sent):
    server = CountingServer()
    ours, _ = await log_on(client_config(delegate=delegate, delegation=restricted(number)), server)
    assert (ours.delegated, server.delegated) == (sent, [sent])


ADMIN, GUARD = RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED, RequestFlags.REDIRECTED_AUTHENTICATION_MODE_REQUIRED


@pytest.mark.requirement("delegation.restricted")
@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, RequestFlags(0)),
        ({"delegation": restricted(1)}, ADMIN),
        ({"delegation": restricted(3)}, ADMIN),
        ({"delegate": Nothing()}, ADMIN),
        ({"authenticate": NTHash(Password(PASSWORD).nt_hash, "bob", "CONTOSO")}, ADMIN),
        ({"delegate": REMOTE_GUARD}, GUARD),
        ({"delegate": REMOTE_GUARD, "delegation": restricted(2)}, GUARD),
    ],
)
async def test_an_rdp_server_is_asked_for_the_mode_that_does_without_a_password(changes, flags):
    server, carriage = CountingServer(), RDP()
    ours, theirs = memory_pair()
    side = client_side(ours, client_config(**changes), carriage)
    await both(side, server_side(theirs, server.config, carriage))
    assert len(server.delegated) == 1
    assert side.carried.request.flags == flags


# --- the audit log ---


@pytest.mark.requirement("delegation.audit", "defect.secrets-in-logs")
@pytest.mark.parametrize("cause", [None, *REFUSALS])
async def test_each_decision_is_one_line_without_a_secret(cause, caplog):
    changes, any_ = REFUSALS[cause] if cause else ({}, False)
    server = CountingServer()
    with caplog.at_level(logging.INFO, "acredssp.audit"):
        await log_on(client_config(Policy(dangerous_accept_any_certificate=any_), **changes), server)
    (record,) = audited(caplog)
    line = json.loads(record.getMessage())
    assert isinstance(record.delegation, DelegationDecision)
    assert record.delegation.record == line
    assert (line["target"], line["mechanism"], line["version"]) == ("TERMSRV/localhost", "ntlm", 6)
    assert line["server_auth"] == ([] if any_ else ["certificate"])
    assert line["class"] == client_config(**changes).credential_class
    assert (line["outcome"], line["status"]) == (
        ("refused", status_of(cause).name) if cause else ("allowed", "SEC_E_OK")
    )
    for text in (caplog.text, repr(record.delegation)):
        assert PASSWORD not in text
        assert "bob" not in text


@pytest.mark.requirement("delegation.audit")
async def test_no_decision_is_no_line(caplog):
    """The certificate ended it before there was anything to decide."""
    with caplog.at_level(logging.DEBUG):
        config = client_config(trust=dataclasses.replace(client_config().trust, pins=frozenset()))
        ours, _ = await log_on(config, CountingServer())
    assert ours.security_status is SecurityStatus.SEC_E_UNTRUSTED_ROOT
    assert audited(caplog) == []

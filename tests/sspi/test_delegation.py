"""The delegation policy through InitializeSecurityContext: each status from its real cause, and no authInfo with it."""

import dataclasses
import json
import logging

import pytest
from support.endpoints import BOB, client_config, server_config, tls_policy
from support.sspi import CERTIFICATE_DER, CLIENT_FLAGS, CONTINUE, OK, Client, Server, inbound, outbound, talk

from acredssp.credentials import Nothing
from acredssp.delegation import CredentialClass, DelegationPolicy, RestrictedAdministration, SPNList
from acredssp.policy import MechanismChoice, Policy
from acredssp.sspi import (
    CREDSPP_SUBMIT_TYPE,
    CREDSSP_CRED,
    ISC_REQ,
    ISC_RET,
    KERB_INTERACTIVE_LOGON,
    SECBUFFER_PKG_PARAMS,
    SecBuffer,
    SecurityStatus,
)
from acredssp.trust import Trust
from acredssp.wire.ts_credentials import TSPasswordCreds

DELEGATION_POLICY = SecurityStatus.SEC_E_DELEGATION_POLICY
NTLM_ONLY = SecurityStatus.SEC_E_POLICY_NLTM_ONLY
MUTUAL_AUTH_FAILED = SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED

TRUSTED = client_config().trust
UNTRUSTED = Trust()
NOBODY = SPNList()
EMPTY = TSPasswordCreds.of()
ONLY_PROVEN = {"delegation": DelegationPolicy(allow_fresh_credentials_when_ntlm_only=NOBODY)}
DENIED = {"delegation": DelegationPolicy(deny_fresh_credentials=SPNList.of("TERMSRV/localhost"))}
MUTUAL = CLIENT_FLAGS | ISC_REQ.MUTUAL_AUTH
NO_DELEGATE = CLIENT_FLAGS & ~ISC_REQ.DELEGATE


class Logon:
    """A client's and a server's calls to the end, and the credentials that the server was sent."""

    def __init__(self, changes, flags=CLIENT_FLAGS, *, trust=TRUSTED, policy=None, package="CREDSSP", **options):
        self.config = client_config(policy, trust=trust, **changes)
        self.flags, self.package, self.options = flags, package, options
        self.delegated = []

    async def run(self):
        bare = {"certificate": CERTIFICATE_DER} if self.package == "TSSSP" else {}
        client = Client(await outbound(self.config, self.package), self.flags, **bare, **self.options)
        policy = dataclasses.replace(self.config.policy, mechanism=MechanismChoice.AUTO)
        self.server = Server(await inbound(server_config(policy, admit=self._admit), self.package))
        await talk(client, self.server)
        return client

    def _admit(self, admission):
        self.delegated.append(admission.info.delegated)
        return True

    def assert_nothing_came(self):
        """The server proved its key, waited for authInfo, and never got one."""
        assert self.delegated == []
        assert self.server.handle.state.context.take_credentials() is None
        assert self.server.status is CONTINUE or self.server.error.stage == "auth_info"


REFUSALS = {
    "denied": (DENIED, CLIENT_FLAGS, TRUSTED, DELEGATION_POLICY),
    "denied, and nobody proven": (DENIED, CLIENT_FLAGS, UNTRUSTED, DELEGATION_POLICY),
    "disabled": ({"delegation": DelegationPolicy(allow_fresh_credentials=NOBODY)}, MUTUAL, TRUSTED, DELEGATION_POLICY),
    "default credentials": ({"credential_class": CredentialClass.DEFAULT}, CLIENT_FLAGS, TRUSTED, DELEGATION_POLICY),
    "remote guard required": (
        {"delegation": DelegationPolicy(restricted_administration=RestrictedAdministration.REMOTE_GUARD)},
        CLIENT_FLAGS,
        TRUSTED,
        DELEGATION_POLICY,
    ),
    "only ntlm": (ONLY_PROVEN, CLIENT_FLAGS, UNTRUSTED, NTLM_ONLY),
    "only ntlm, saved": ({"credential_class": CredentialClass.SAVED}, CLIENT_FLAGS, UNTRUSTED, NTLM_ONLY),
    "mutual authentication": ({}, MUTUAL, UNTRUSTED, MUTUAL_AUTH_FAILED),
    "mutual authentication before lists": (ONLY_PROVEN, MUTUAL, UNTRUSTED, MUTUAL_AUTH_FAILED),
    "mutual authentication of nothing": ({}, MUTUAL & ~ISC_REQ.DELEGATE, UNTRUSTED, MUTUAL_AUTH_FAILED),
    "mutual authentication by configuration": ({"mutual_auth": True}, CLIENT_FLAGS, UNTRUSTED, MUTUAL_AUTH_FAILED),
}


@pytest.mark.requirement("R31", "R32", "R68", "R69", "R70", "R79", "delegation.order", "delegation.procedure")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
@pytest.mark.parametrize("version", [2, 4, 5, 6])
@pytest.mark.parametrize("cause", REFUSALS)
async def test_a_status_has_its_cause_and_no_credentials_go(cause, version, package):
    changes, flags, trust, status = REFUSALS[cause]
    policy = Policy(min_version=2, max_version=version, dangerous_allow_legacy_versions=True)
    logon = Logon(changes, flags, trust=trust, policy=policy, package=package)
    client = await logon.run()
    assert client.status is status, client.error
    assert client.error.hint
    logon.assert_nothing_came()
    await client.call(b"")
    assert client.status is status, "a failure is for good"
    logon.assert_nothing_came()


@pytest.mark.requirement("R13", "R23", "R28", "R32")
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(
    ("changes", "flags", "trust", "sent"),
    [
        ({}, MUTUAL, TRUSTED, True),
        ({}, CLIENT_FLAGS, UNTRUSTED, True),
        (ONLY_PROVEN, CLIENT_FLAGS, TRUSTED, True),
        ({"credential_class": CredentialClass.SAVED}, CLIENT_FLAGS, TRUSTED, True),
        (DENIED, NO_DELEGATE, TRUSTED, False),
        (ONLY_PROVEN, NO_DELEGATE, UNTRUSTED, False),
        (DENIED | {"delegate": Nothing()}, CLIENT_FLAGS, UNTRUSTED, False),
        (
            {"delegation": DelegationPolicy(restricted_administration=RestrictedAdministration.RESTRICTED_ADMIN)},
            CLIENT_FLAGS,
            UNTRUSTED,
            False,
        ),
    ],
)
async def test_what_is_allowed_goes_over_and_is_told(changes, flags, trust, sent, tls):
    logon = Logon(changes, flags, trust=trust, policy=tls_policy(tls))
    client = await logon.run()
    assert client.status is OK, client.error
    expected = TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password) if sent else EMPTY
    assert logon.server.handle.state.context.take_credentials() == expected
    assert (ISC_RET.DELEGATE in client.attributes) is sent
    assert (ISC_RET.MUTUAL_AUTH in client.attributes) is (trust is TRUSTED)


@pytest.mark.requirement("R12", "R68")
@pytest.mark.parametrize("target", [None, "localhost", "HTTP/localhost", "WSMAN/localhost"])
async def test_the_target_is_what_the_lists_are_about(target):
    logon = Logon({}, target=target)
    client = await logon.run()
    assert client.status is DELEGATION_POLICY
    assert "list it in allow_fresh_credentials of the DelegationPolicy" in client.error.hint
    logon.assert_nothing_came()
    everybody = {"delegation": DelegationPolicy(allow_fresh_credentials=SPNList.of("*"))}
    assert (await Logon(everybody, target=target).run()).status is OK
    assert (await Logon({}, NO_DELEGATE, target=target).run()).status is OK


@pytest.mark.requirement("R27", "R85")
async def test_supplied_credentials_are_fresh_whatever_the_handles_are():
    carol = KERB_INTERACTIVE_LOGON(LogonDomainName="CONTOSO", UserName="bob", Password=BOB.password).pack()
    changes = {"credential_class": CredentialClass.DEFAULT}
    flags = CLIENT_FLAGS | ISC_REQ.USE_SUPPLIED_CREDS
    assert (await Logon(changes, flags).run()).status is DELEGATION_POLICY
    supplied = Logon(changes, flags, extras=[SecBuffer(SECBUFFER_PKG_PARAMS, carol)])
    assert (await supplied.run()).status is OK
    assert supplied.delegated == ["password"]


@pytest.mark.requirement("R68")
async def test_the_policy_comes_with_the_identity_in_a_credential_too():
    cred = CREDSSP_CRED(CREDSPP_SUBMIT_TYPE.CredsspPasswordCreds, None, client_config(**DENIED))
    client = Client(await outbound(cred))
    await talk(client, Server(await inbound()))
    assert client.status is DELEGATION_POLICY


@pytest.mark.requirement("delegation.audit")
@pytest.mark.parametrize("cause", REFUSALS)
async def test_each_decision_is_one_line_with_the_flags_and_the_verdict(cause, caplog):
    changes, flags, trust, status = REFUSALS[cause]
    with caplog.at_level(logging.INFO, "acredssp.audit"):
        client = await Logon(changes, flags, trust=trust).run()
        await client.call(b"")
    (record,) = [record for record in caplog.records if record.name == "acredssp.audit"]
    line = json.loads(record.getMessage())
    assert (line["status"], line["outcome"]) == (status.name, "refused")
    assert line["certificate"] == ("trusted" if trust is TRUSTED else "untrusted")
    assert line["delegate"] is bool(flags & ISC_REQ.DELEGATE)
    assert line["mutual_auth"] is (cause.startswith("mutual") or bool(flags & ISC_REQ.MUTUAL_AUTH))
    assert BOB.password not in caplog.text

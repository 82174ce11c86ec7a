"""The delegation policy as a value: every list and restriction, and what they come to."""

import dataclasses
import itertools

import pytest
from support.delegation import (
    ALLOW,
    ALLOW_NTLM_ONLY,
    DEFAULT,
    DENY,
    FRESH,
    HOST,
    NOBODY,
    PROVEN,
    SAVED,
    SHORT,
    decide,
    settings,
)

from acredssp.delegation import (
    CredentialClass,
    DelegationPolicy,
    EncryptionOracle,
    RestrictedAdministration,
    ServerAuth,
    SPNList,
)
from acredssp.errors import PolicyError
from acredssp.policy import Policy
from acredssp.status import SecurityStatus

OK = SecurityStatus.SEC_E_OK
DELEGATION_POLICY = SecurityStatus.SEC_E_DELEGATION_POLICY
NTLM_ONLY = SecurityStatus.SEC_E_POLICY_NLTM_ONLY
MUTUAL_AUTH_FAILED = SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED


# --- what is not configured ---


@pytest.mark.requirement("delegation.defaults")
@pytest.mark.parametrize(
    ("source", "joined", "by_proof", "by_ntlm"),
    [
        (FRESH, True, OK, OK),
        (FRESH, False, OK, OK),
        (SAVED, True, OK, NTLM_ONLY),
        (SAVED, False, OK, OK),
        (DEFAULT, True, DELEGATION_POLICY, DELEGATION_POLICY),
        (DEFAULT, False, DELEGATION_POLICY, DELEGATION_POLICY),
    ],
)
def test_the_defaults_are_windows_own(source, joined, by_proof, by_ntlm):
    policy = DelegationPolicy(domain_joined=joined)
    for auth in PROVEN:
        assert decide(policy, auth=auth, credential_class=source).status is by_proof
    assert decide(policy, auth=NOBODY, credential_class=source).status is by_ntlm


@pytest.mark.requirement("delegation.defaults")
@pytest.mark.parametrize("target", ["HTTP/host", "WSMAN/host", "TERMSRV", "host", "TERMSRV2/host", "", "*"])
@pytest.mark.parametrize("source", CredentialClass)
@pytest.mark.parametrize("auth", [NOBODY, ServerAuth.KERBEROS])
def test_by_default_nothing_goes_to_anything_but_a_terminal_server(target, source, auth):
    decision = decide(DelegationPolicy(domain_joined=False), target, auth, credential_class=source)
    assert (decision.status, decision.sends, decision.pattern) == (DELEGATION_POLICY, "nothing", None)


# --- every list ---


@pytest.mark.requirement("delegation.lists")
@pytest.mark.parametrize("source", CredentialClass)
@pytest.mark.parametrize("by_ntlm", [False, True])
@pytest.mark.parametrize("kind", ["password", "smartcard", "remote_guard"])
def test_an_allow_list_is_for_its_class_and_its_proof_and_for_no_other(source, by_ntlm, kind):
    name = (ALLOW_NTLM_ONLY if by_ntlm else ALLOW)[source]
    nobody = dict.fromkeys([*ALLOW.values(), *ALLOW_NTLM_ONLY.values()], False)
    policy = settings(**nobody | {name: ["WSMAN/other", "TERMSRV/*.example.com"]})
    for asked, auth in itertools.product(CredentialClass, [NOBODY, *PROVEN]):
        decision = decide(policy, auth=auth, credential_class=asked, kind=kind)
        if asked is source and bool(auth) is not by_ntlm:
            assert (decision.status, decision.sends) == (OK, kind)
            assert (decision.setting, decision.pattern) == (name, "TERMSRV/*.example.com")
            decision.check()
        else:
            only_proof_is_missing = asked is source and not by_ntlm
            assert decision.status is (NTLM_ONLY if only_proof_is_missing else DELEGATION_POLICY)
            assert decision.sends == "nothing"


@pytest.mark.requirement("delegation.lists")
@pytest.mark.parametrize("source", CredentialClass)
@pytest.mark.parametrize("auth", [NOBODY, *PROVEN])
def test_a_denial_counts_before_every_allow_of_its_class(source, auth):
    everybody = {name: ["*", HOST] for name in [*ALLOW.values(), *ALLOW_NTLM_ONLY.values()]}
    policy = settings(**everybody, **{DENY[source]: ["TERMSRV/*.other.com", "termsrv/HOST.example.com"]})
    decision = decide(policy, auth=auth, credential_class=source)
    assert (decision.status, decision.sends) == (DELEGATION_POLICY, "nothing")
    assert (decision.setting, decision.pattern) == (DENY[source], "termsrv/HOST.example.com")
    with pytest.raises(
        PolicyError, match=rf"remove termsrv/HOST.example.com from \w+ of the DelegationPolicy \({DENY[source]} on"
    ):
        decision.check()
    for other in set(CredentialClass) - {source}:
        assert decide(policy, auth=auth, credential_class=other).allowed
    assert decide(policy, "TERMSRV/host2.example.com", auth, credential_class=source).allowed


@pytest.mark.requirement("delegation.lists")
@pytest.mark.parametrize(
    ("value", "concatenate", "own", "defaults"),
    [
        (None, None, False, True),
        (False, None, False, False),
        ([], None, False, False),
        (["WSMAN/*"], None, True, False),
        (["WSMAN/*"], False, True, False),
        (["WSMAN/*"], True, True, True),
        ([], True, False, True),
    ],
)
@pytest.mark.parametrize("source", CredentialClass)
@pytest.mark.parametrize("by_ntlm", [False, True])
def test_a_list_takes_the_defaults_place_or_has_them_too(value, concatenate, own, defaults, source, by_ntlm):
    name = (ALLOW_NTLM_ONLY if by_ntlm else ALLOW)[source]
    values = {name: value, f"ConcatenateDefaults_{SHORT[name]}": concatenate, "DomainJoined": False}
    policy = settings(**{key: given for key, given in values.items() if given is not None})
    auth = NOBODY if by_ntlm else ServerAuth.CERTIFICATE
    assert decide(policy, "WSMAN/host", auth, credential_class=source).allowed is own
    has_defaults = defaults and source is not DEFAULT
    assert decide(policy, "TERMSRV/host", auth, credential_class=source).allowed is has_defaults


@pytest.mark.requirement("delegation.lists")
@pytest.mark.parametrize("source", CredentialClass)
def test_defaults_added_to_a_denial_are_nobody(source):
    policy = settings(**{DENY[source]: ["WSMAN/*"], f"ConcatenateDefaults_{SHORT[DENY[source]]}": True})
    assert decide(policy, credential_class=source).status is decide(DelegationPolicy(), credential_class=source).status


def test_a_list_that_is_none_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="allow_fresh_credentials: expected an SPNList or None, got tuple"):
        DelegationPolicy(allow_fresh_credentials=("TERMSRV/*",))


# --- the procedure ---


@pytest.mark.requirement("delegation.procedure")
@pytest.mark.parametrize("delegate", [True, False])
@pytest.mark.parametrize("kind", ["password", "nothing"])
@pytest.mark.parametrize("restricted", [None, *RestrictedAdministration])
def test_mutual_authentication_comes_first(delegate, kind, restricted):
    everybody = SPNList.of("*")
    policy = DelegationPolicy(
        allow_fresh_credentials_when_ntlm_only=everybody,
        deny_fresh_credentials=everybody,
        restricted_administration=restricted,
    )
    decision = decide(policy, auth=NOBODY, mutual_auth=True, delegate=delegate, kind=kind, certificate="expired")
    assert (decision.status, decision.sends, decision.setting) == (MUTUAL_AUTH_FAILED, "nothing", "")
    with pytest.raises(PolicyError, match="by a trusted certificate or by kerberos") as caught:
        decision.check()
    assert caught.value.security_status is MUTUAL_AUTH_FAILED
    assert "certificate that the client trusts" in caught.value.hint
    assert "pin" not in str(caught.value), "nobody may pin a key that has not been judged"


@pytest.mark.requirement("delegation.procedure")
@pytest.mark.parametrize("auth", PROVEN)
def test_any_proof_of_the_server_is_mutual_authentication(auth):
    assert decide(DelegationPolicy(), auth=auth, mutual_auth=True).allowed


@pytest.mark.requirement("delegation.procedure", "R29")
@pytest.mark.parametrize("fields", [{"delegate": False}, {"kind": "nothing"}])
@pytest.mark.parametrize("auth", [NOBODY, ServerAuth.KERBEROS])
def test_no_list_is_asked_where_nothing_is_to_go(fields, auth):
    policy = DelegationPolicy(allow_fresh_credentials=SPNList(), deny_fresh_credentials=SPNList.of("*"))
    decision = decide(policy, auth=auth, **fields)
    assert (decision.status, decision.sends, decision.setting) == (OK, "nothing", "")


@pytest.mark.requirement("delegation.procedure", "R68", "R69")
@pytest.mark.parametrize(
    ("values", "auth", "status", "said"),
    [
        ({}, NOBODY, OK, None),
        (
            {"AllowFreshCredentials": False},
            ServerAuth.KERBEROS,
            DELEGATION_POLICY,
            "list it in allow_fresh_credentials of",
        ),
        ({"AllowFreshCredentials": False}, NOBODY, OK, None),
        (
            {"AllowFreshCredentialsWhenNTLMOnly": False},
            NOBODY,
            NTLM_ONLY,
            "trusts, use kerberos, or list it in allow_fresh_credentials_when_ntlm_only of the DelegationPolicy (Allow",
        ),
        ({"AllowFreshCredentialsWhenNTLMOnly": False}, ServerAuth.CERTIFICATE, OK, None),
        (
            {"AllowFreshCredentialsWhenNTLMOnly": False, "AllowFreshCredentials": ["TERMSRV/other"]},
            NOBODY,
            DELEGATION_POLICY,
            "WhenNTLMOnly on windows), or authenticate it by kerberos or certificate and list it in allow_fresh_cred",
        ),
        (
            {"DenyFreshCredentials": ["TERMSRV/*.com"]},
            NOBODY,
            DELEGATION_POLICY,
            "remove TERMSRV/*.com from deny_fresh_credentials of the DelegationPolicy (DenyFreshCredentials on",
        ),
    ],
)
def test_each_status_has_its_cause_and_says_what_to_change(values, auth, status, said):
    decision = decide(settings(**values), auth=auth)
    assert decision.status is status
    if said is None:
        decision.check()
        return
    with pytest.raises(PolicyError) as caught:
        decision.check()
    assert caught.value.security_status is status
    assert said in caught.value.hint
    assert HOST in str(caught.value)


def test_a_target_without_a_name_is_told_so():
    with pytest.raises(PolicyError, match="a server without a name"):
        decide(DelegationPolicy(), "").check()


LISTS = {"unset": None, "disabled": [], "has it": ["TERMSRV/*.example.com"], "has another": ["TERMSRV/*.other.com"]}


def by_the_book(source, proven, mutual, delegate, kind, allow, ntlm_only, deny):
    """The procedure once more, as plainly as it can be put: the status, and whether anything goes."""
    default = {FRESH: (True, True), SAVED: (True, False), DEFAULT: (False, False)}[source]
    allowed = default[0] if allow == "unset" else allow == "has it"
    allowed_by_ntlm = default[1] if ntlm_only == "unset" else ntlm_only == "has it"
    if mutual and not proven:
        return MUTUAL_AUTH_FAILED, False
    if not delegate or kind == "nothing":
        return OK, False
    if deny == "has it":
        return DELEGATION_POLICY, False
    if proven:
        return (OK, True) if allowed else (DELEGATION_POLICY, False)
    if allowed_by_ntlm:
        return OK, True
    return (NTLM_ONLY if allowed else DELEGATION_POLICY), False


@pytest.mark.requirement("delegation.procedure")
@pytest.mark.parametrize("source", CredentialClass)
@pytest.mark.parametrize("deny", LISTS)
def test_every_combination_of_settings_and_flags_is_decided_by_the_book(source, deny):
    names = ALLOW[source], ALLOW_NTLM_ONLY[source], DENY[source]
    for allow, ntlm_only in itertools.product(LISTS, LISTS):
        chosen = zip(names, (LISTS[allow], LISTS[ntlm_only], LISTS[deny]), strict=True)
        policy = settings(**{name: value for name, value in chosen if value is not None})
        flags = itertools.product(
            [NOBODY, ServerAuth.CERTIFICATE], [True, False], [True, False], ["password", "nothing"]
        )
        for auth, mutual, delegate, kind in flags:
            decision = decide(
                policy, auth=auth, credential_class=source, mutual_auth=mutual, delegate=delegate, kind=kind
            )
            expected = by_the_book(source, bool(auth), mutual, delegate, kind, allow, ntlm_only, deny)
            assert (decision.status, decision.sends != "nothing") == expected


@pytest.mark.requirement("delegation.restricted")
@pytest.mark.parametrize(
    ("restricted", "kind", "status", "sends"),
    [
        (None, "password", OK, "password"),
        (None, "smartcard", OK, "smartcard"),
        (None, "remote_guard", OK, "remote_guard"),
        (1, "password", OK, "nothing"),
        (1, "smartcard", OK, "nothing"),
        (1, "remote_guard", OK, "nothing"),
        (1, "nothing", OK, "nothing"),
        (2, "password", DELEGATION_POLICY, "nothing"),
        (2, "smartcard", DELEGATION_POLICY, "nothing"),
        (2, "remote_guard", OK, "remote_guard"),
        (2, "nothing", OK, "nothing"),
        (3, "password", OK, "nothing"),
        (3, "smartcard", OK, "nothing"),
        (3, "remote_guard", OK, "remote_guard"),
        (3, "nothing", OK, "nothing"),
    ],
)
def test_a_restriction_turns_credentials_into_none_or_lets_remote_guard_through(restricted, kind, status, sends):
    policy = DelegationPolicy(restricted_administration=restricted and RestrictedAdministration(restricted))
    decision = decide(policy, kind=kind)
    assert (decision.status, decision.sends) == (status, sends)
    if restricted and sends != "remote_guard":
        assert decision.setting == "RestrictedRemoteAdministration"
    if not decision.allowed:
        with pytest.raises(
            PolicyError, match="remote guard credentials, or change restricted_administration of the Del"
        ):
            decision.check()


@pytest.mark.requirement("delegation.restricted")
def test_a_restriction_may_be_asked_by_the_value_of_a_kind():
    policy = DelegationPolicy(restricted_administration=RestrictedAdministration.EITHER)
    assert policy.restrict("remote_guard") == "remote_guard"
    assert policy.restrict("password") == "nothing"


@pytest.mark.requirement("delegation.restricted")
@pytest.mark.parametrize("restricted", [RestrictedAdministration.REMOTE_GUARD, RestrictedAdministration.EITHER])
def test_remote_guard_goes_where_the_lists_allow_it(restricted):
    policy = DelegationPolicy(restricted_administration=restricted)
    assert decide(policy, "HTTP/host", kind="remote_guard").status is DELEGATION_POLICY


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DelegationPolicy().domain_joined = False


LEGACY = Policy(min_version=2, dangerous_allow_legacy_versions=True)


def test_a_policy_without_the_setting_leaves_the_versions_alone():
    assert DelegationPolicy().for_client(LEGACY) is LEGACY
    assert DelegationPolicy().for_server(LEGACY) is LEGACY


def test_the_setting_of_the_encryption_oracle_takes_versions_out():
    forced = DelegationPolicy(allow_encryption_oracle=EncryptionOracle.FORCE_UPDATED_CLIENTS)
    assert forced.for_client(LEGACY).min_version == forced.for_server(LEGACY).min_version == 5
    mitigated = DelegationPolicy(allow_encryption_oracle=EncryptionOracle.MITIGATED)
    assert mitigated.for_client(LEGACY).min_version == 5
    assert mitigated.for_server(LEGACY) is LEGACY


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (DelegationPolicy(), {}),
        (DelegationPolicy(), {"delegate": False}),
        (DelegationPolicy(restricted_administration=RestrictedAdministration.RESTRICTED_ADMIN), {}),
        (DelegationPolicy(deny_default_credentials=SPNList.of("*")), {"credential_class": DEFAULT}),
    ],
    ids=["goes", "nothing asked for", "nothing left", "denied"],
)
def test_a_decision_has_what_it_was_made_of(policy, fields):
    decision = decide(policy, **fields)
    assert decision.request.target == HOST
    assert decision.record["target"] == HOST

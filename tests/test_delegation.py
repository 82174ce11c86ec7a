"""The delegation policy as a value: every list, level and pattern, and what is said of a file that is wrong."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acredssp.delegation import (
    CredentialClass,
    DelegationPolicy,
    DelegationRequest,
    EncryptionOracle,
    RestrictedAdministration,
    ServerAuth,
    SPNList,
)
from acredssp.errors import PolicyError
from acredssp.policy import Policy
from acredssp.sspi.flags import CREDSSP_SERVER_AUTH
from acredssp.status import SecurityStatus

OK = SecurityStatus.SEC_E_OK
DELEGATION_POLICY = SecurityStatus.SEC_E_DELEGATION_POLICY
NTLM_ONLY = SecurityStatus.SEC_E_POLICY_NLTM_ONLY
MUTUAL_AUTH_FAILED = SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED

HOST = "TERMSRV/host.example.com"
NOBODY = ServerAuth(0)
PROVEN = [ServerAuth.KERBEROS, ServerAuth.CERTIFICATE, ServerAuth.LOOPBACK, ~ServerAuth(0)]
FRESH, SAVED, DEFAULT = CredentialClass.FRESH, CredentialClass.SAVED, CredentialClass.DEFAULT

ALLOW = {DEFAULT: "AllowDefaultCredentials", FRESH: "AllowFreshCredentials", SAVED: "AllowSavedCredentials"}
ALLOW_NTLM_ONLY = {
    DEFAULT: "AllowDefCredentialsWhenNTLMOnly",
    FRESH: "AllowFreshCredentialsWhenNTLMOnly",
    SAVED: "AllowSavedCredentialsWhenNTLMOnly",
}
DENY = {DEFAULT: "DenyDefaultCredentials", FRESH: "DenyFreshCredentials", SAVED: "DenySavedCredentials"}
SHORT = {
    "AllowDefaultCredentials": "AllowDefault",
    "AllowDefCredentialsWhenNTLMOnly": "AllowDefNTLMOnly",
    "AllowFreshCredentials": "AllowFresh",
    "AllowFreshCredentialsWhenNTLMOnly": "AllowFreshNTLMOnly",
    "AllowSavedCredentials": "AllowSaved",
    "AllowSavedCredentialsWhenNTLMOnly": "AllowSavedNTLMOnly",
    "DenyDefaultCredentials": "DenyDefault",
    "DenyFreshCredentials": "DenyFresh",
    "DenySavedCredentials": "DenySaved",
}
"""Windows' names, written down once more: the module's own table is what they test."""
SETTINGS = [*SHORT]


def settings(**values):
    """A policy by Windows' names, through TOML."""
    return DelegationPolicy.from_toml("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))


def decide(policy, target=HOST, auth=ServerAuth.KERBEROS, **fields):
    return policy.decide(DelegationRequest(target=target, server_auth=auth, **fields))


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
    with pytest.raises(PolicyError, match=f"take termsrv/HOST.example.com out of {DENY[source]}"):
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
        ({"AllowFreshCredentials": False}, ServerAuth.KERBEROS, DELEGATION_POLICY, "list it in AllowFreshCredentials"),
        ({"AllowFreshCredentials": False}, NOBODY, OK, None),
        (
            {"AllowFreshCredentialsWhenNTLMOnly": False},
            NOBODY,
            NTLM_ONLY,
            "trusts, use kerberos, or list it in AllowFreshCredentialsWhenNTLMOnly",
        ),
        ({"AllowFreshCredentialsWhenNTLMOnly": False}, ServerAuth.CERTIFICATE, OK, None),
        (
            {"AllowFreshCredentialsWhenNTLMOnly": False, "AllowFreshCredentials": ["TERMSRV/other"]},
            NOBODY,
            DELEGATION_POLICY,
            "WhenNTLMOnly, or authenticate it by kerberos or certificate and list it in AllowFreshCredentials",
        ),
        (
            {"DenyFreshCredentials": ["TERMSRV/*.com"]},
            NOBODY,
            DELEGATION_POLICY,
            "take TERMSRV/*.com out of DenyFreshCredentials",
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
        with pytest.raises(PolicyError, match="remote guard credentials, or change RestrictedRemoteAdministration"):
            decision.check()


@pytest.mark.requirement("delegation.restricted")
@pytest.mark.parametrize("restricted", [RestrictedAdministration.REMOTE_GUARD, RestrictedAdministration.EITHER])
def test_remote_guard_goes_where_the_lists_allow_it(restricted):
    policy = DelegationPolicy(restricted_administration=restricted)
    assert decide(policy, "HTTP/host", kind="remote_guard").status is DELEGATION_POLICY


# --- patterns ---


@pytest.mark.requirement("delegation.patterns")
@pytest.mark.parametrize(
    ("pattern", "target", "fits"),
    [
        ("TERMSRV/host", "TERMSRV/host", True),
        ("TERMSRV/host", "termsrv/HOST", True),
        ("termsrv/HOST", "TERMSRV/host", True),
        ("TERMSRV/host", "TERMSRV/host2", False),
        ("TERMSRV/host", "TERMSRV/hos", False),
        ("TERMSRV/host", "XTERMSRV/host", False),
        ("TERMSRV/host", "TERMSRV/host.", True),
        ("TERMSRV/host.", "TERMSRV/host", True),
        ("TERMSRV/*.example.com", "TERMSRV/a.example.com.", True),
        ("TERMSRV/*", "TERMSRV/host", True),
        ("TERMSRV/*", "TERMSRV/a.b.c:3389", True),
        ("TERMSRV/*", "TERMSRV", False),
        ("TERMSRV/*", "TERMSRVX/host", False),
        ("TERMSRV/*.example.com", "TERMSRV/a.b.example.com", True),
        ("TERMSRV/*.example.com", "TERMSRV/example.com", False),
        ("TERMSRV/*.example.com", "TERMSRV/badexample.com", False),
        ("TERMSRV/*.example.com", "TERMSRV/a.example.com.evil.net", False),
        ("TERMSRV/*.example.com", "TERMSRV/A.EXAMPLE.COM", True),
        ("TERMSRV/web*", "TERMSRV/web1.example.com", True),
        ("TERMSRV/ab*ba", "TERMSRV/aba", False),
        ("TERMSRV/ab*ba", "TERMSRV/abba", True),
        ("*/host", "HTTP/host", True),
        ("*/host", "/host", True),
        ("*", "anything at all", True),
        ("*", "", True),
        ("TERMSRV/h?st", "TERMSRV/host", False),
        ("TERMSRV/h.st", "TERMSRV/host", False),
        ("TERMSRV/[a-z]*", "TERMSRV/host", False),
        ("TERMSRV/bücher.example", "TERMSRV/BÜCHER.example", True),
        ("TERMSRV/straße", "TERMSRV/STRASSE", True),
    ],
)
def test_a_pattern_fits(pattern, target, fits):
    policy = DelegationPolicy(allow_fresh_credentials=SPNList.of("WSMAN/nobody", pattern))
    decision = decide(policy, target)
    assert decision.allowed is fits
    assert decision.pattern == (pattern if fits else None)


spn_text = st.text("abAB./*", max_size=6)


@pytest.mark.requirement("delegation.patterns")
@given(before=spn_text, after=spn_text, target=st.text("abAB./", max_size=12))
def test_patterns_mean_what_regular_expressions_mean(before, after, target):
    """An independent oracle: `*` is `.*`, everything else is itself in any case, and the last dot is not there."""
    pattern = before.replace("*", "") + "*" + after.replace("*", "")
    parts = [re.escape(part) for part in pattern.removesuffix(".").split("*")]
    expected = re.fullmatch(".*".join(parts), target.removesuffix("."), re.IGNORECASE)
    policy = DelegationPolicy(allow_fresh_credentials=SPNList.of(pattern))
    assert decide(policy, target).allowed is bool(expected)


@pytest.mark.requirement("delegation.patterns")
@given(st.text(min_size=1))
def test_a_pattern_is_refused_or_fits_itself(pattern):
    try:
        servers = SPNList.of(pattern)
    except ValueError:
        assert pattern.count("*") > 1 or " " in pattern or not pattern.isprintable() or pattern == "."
    else:
        assert decide(DelegationPolicy(allow_fresh_credentials=servers), pattern).allowed


@pytest.mark.requirement("delegation.patterns")
@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "like TERMSRV/"),
        (".", "like TERMSRV/"),
        (" TERMSRV/host", "like TERMSRV/"),
        ("TERMSRV/host ", "like TERMSRV/"),
        ("TERMSRV/ho st", "like TERMSRV/"),
        ("TERMSRV/host\n", "like TERMSRV/"),
        ("TERMSRV/\0", "like TERMSRV/"),
        ("TERMSRV/**", "at most one"),
        ("*/*", "at most one"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern, said):
    with pytest.raises(ValueError, match=said):
        SPNList.of("TERMSRV/fine", pattern)


# --- AllowEncryptionOracle ---


@pytest.mark.requirement("delegation.encryption-oracle", "defect.relay")
@pytest.mark.parametrize(
    ("level", "as_client", "as_server"),
    [
        (None, 2, 2),
        (EncryptionOracle.FORCE_UPDATED_CLIENTS, 5, 5),
        (EncryptionOracle.MITIGATED, 5, 2),
        (EncryptionOracle.VULNERABLE, 2, 2),
    ],
)
def test_a_level_is_a_floor_for_the_versions(level, as_client, as_server):
    policy = DelegationPolicy(allow_encryption_oracle=level)
    legacy = Policy(min_version=2, dangerous_allow_legacy_versions=True)
    assert policy.for_client(legacy).min_version == as_client
    assert policy.for_server(legacy).min_version == as_server


@pytest.mark.requirement("delegation.encryption-oracle")
@pytest.mark.parametrize("level", [None, *EncryptionOracle])
@pytest.mark.parametrize("lowest", [5, 6])
def test_no_level_allows_what_the_switch_does_not(level, lowest):
    policy = DelegationPolicy(allow_encryption_oracle=level)
    assert policy.for_client(Policy(min_version=lowest)).min_version == lowest
    assert policy.for_server(Policy(min_version=lowest)).min_version == lowest


@pytest.mark.requirement("delegation.encryption-oracle")
def test_a_level_that_leaves_no_version_is_refused():
    old = Policy(min_version=2, max_version=4, dangerous_allow_legacy_versions=True)
    with pytest.raises(ValueError, match="AllowEncryptionOracle: ForceUpdatedClients requires version 5"):
        EncryptionOracle.FORCE_UPDATED_CLIENTS.for_server(old)
    with pytest.raises(ValueError, match="AllowEncryptionOracle: Mitigated requires version 5, max_version is 4"):
        EncryptionOracle.MITIGATED.for_client(old)
    assert EncryptionOracle.MITIGATED.for_server(old) is old


# --- TOML ---


@pytest.mark.requirement("delegation.toml")
def test_a_file_says_what_the_fields_say(tmp_path):
    lists = {name: [f"TERMSRV/{number}"] for number, name in enumerate(SETTINGS)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in lists.items()]
    lines += [f"ConcatenateDefaults_{SHORT[name]} = true" for name in SETTINGS]
    lines += ['AllowEncryptionOracle = "Mitigated"', "RestrictedRemoteAdministration = true"]
    lines += ["RestrictedRemoteAdministrationType = 3", "DomainJoined = false"]
    (tmp_path / "policy.toml").write_text("\n".join(lines))
    fields = [
        "allow_default_credentials",
        "allow_default_credentials_when_ntlm_only",
        "allow_fresh_credentials",
        "allow_fresh_credentials_when_ntlm_only",
        "allow_saved_credentials",
        "allow_saved_credentials_when_ntlm_only",
        "deny_default_credentials",
        "deny_fresh_credentials",
        "deny_saved_credentials",
    ]
    expected = {
        field: SPNList.of(f"TERMSRV/{number}", concatenate_defaults=True) for number, field in enumerate(fields)
    }
    assert DelegationPolicy.from_file(str(tmp_path / "policy.toml")) == DelegationPolicy(
        **expected,
        restricted_administration=RestrictedAdministration.EITHER,
        allow_encryption_oracle=EncryptionOracle.MITIGATED,
        domain_joined=False,
    )


@pytest.mark.requirement("delegation.toml")
def test_a_file_that_says_nothing_configures_nothing():
    assert DelegationPolicy.from_toml("# all as in Windows") == DelegationPolicy()
    assert settings(RestrictedRemoteAdministration=False) == DelegationPolicy()


@pytest.mark.requirement("delegation.toml")
@pytest.mark.parametrize("level", EncryptionOracle)
def test_levels_are_named(level):
    name = level.name.title().replace("_", "")
    assert settings(AllowEncryptionOracle=name).allow_encryption_oracle is level


@pytest.mark.requirement("delegation.toml")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("AllowFreshCredential = []", "AllowFreshCredential: no such setting; AllowFreshCredentials is one"),
        ("AllowDefaultCredentialsWhenNTLMOnly = []", "AllowDefCredentialsWhenNTLMOnly is one"),
        ("allowfreshcredentials = []", "allowfreshcredentials: no such setting"),
        ("[CredentialsDelegation]", "CredentialsDelegation: no such setting"),
        (
            'AllowFreshCredentials = "TERMSRV/*"',
            "AllowFreshCredentials: expected a list of service principal names, or",
        ),
        ("AllowFreshCredentials = true", "AllowFreshCredentials: expected a list of service principal names, or false"),
        ("AllowFreshCredentials = 0", "AllowFreshCredentials: expected a list"),
        ("AllowFreshCredentials = [1]", "AllowFreshCredentials: expected texts in the list, got 1"),
        ('AllowFreshCredentials = ["TERMSRV/**"]', "AllowFreshCredentials: expected at most one"),
        ('DenySavedCredentials = [""]', "DenySavedCredentials: expected a service principal name"),
        ("ConcatenateDefaults_AllowFresh = true", "ConcatenateDefaults_AllowFresh: expected beside a list in"),
        (
            "AllowFreshCredentials = false\nConcatenateDefaults_AllowFresh = true",
            "ConcatenateDefaults_AllowFresh: expected beside a list in AllowFreshCredentials only",
        ),
        (
            "AllowFreshCredentials = []\nConcatenateDefaults_AllowFresh = 1",
            "ConcatenateDefaults_AllowFresh: expected true or false, got 1",
        ),
        ("ConcatenateDefaults_AllowFreshCredentials = true", "no such setting; ConcatenateDefaults_AllowFresh"),
        ("AllowEncryptionOracle = 0", "AllowEncryptionOracle: expected one of ForceUpdatedClients, Mitigated, Vuln"),
        ('AllowEncryptionOracle = "mitigated"', "AllowEncryptionOracle: expected one of"),
        ("RestrictedRemoteAdministration = 1", "RestrictedRemoteAdministration: expected true or false, got 1"),
        ("RestrictedRemoteAdministration = true", "RestrictedRemoteAdministrationType: expected 1 .*, got None"),
        (
            "RestrictedRemoteAdministration = true\nRestrictedRemoteAdministrationType = 4",
            "RestrictedRemoteAdministrationType: expected 1 .*, got 4",
        ),
        (
            "RestrictedRemoteAdministration = true\nRestrictedRemoteAdministrationType = true",
            "RestrictedRemoteAdministrationType: expected 1 .*, got True",
        ),
        ("RestrictedRemoteAdministrationType = 1", "RestrictedRemoteAdministrationType: expected beside"),
        ('DomainJoined = "no"', "DomainJoined: expected true or false"),
        ("AllowFreshCredentials = [", "document"),
        ("AllowFreshCredentials = []\nAllowFreshCredentials = []", "overwrite"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        DelegationPolicy.from_toml(text)


@pytest.mark.requirement("delegation.toml")
def test_a_file_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / "policy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"policy\.toml.*utf-8"):
        DelegationPolicy.from_file(str(tmp_path / "policy.toml"))
    with pytest.raises(OSError, match="missing"):
        DelegationPolicy.from_file(str(tmp_path / "missing"))


@pytest.mark.requirement("delegation.toml")
def test_the_example_of_the_documentation_is_a_policy_and_names_every_setting():
    page = (Path(__file__).parent.parent / "docs" / "policy.md").read_text(encoding="utf-8")
    (example,) = re.findall("```toml\n(.*?)```", page, re.DOTALL)
    policy = DelegationPolicy.from_toml(example)
    assert decide(policy, "TERMSRV/host.example.com").allowed
    assert decide(policy, "TERMSRV/kiosk.example.com").setting == "DenyFreshCredentials"
    for name in [*SETTINGS, "RestrictedRemoteAdministration", "AllowEncryptionOracle", "DomainJoined"]:
        assert f"`{name}`" in page
    for name in SETTINGS:
        assert f"`{SHORT[name]}`" in page


# --- the record ---


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


def test_numbers_are_the_headers():
    assert {flag.name: flag.value for flag in ServerAuth} == {
        "KERBEROS": CREDSSP_SERVER_AUTH.NEGOTIATE,
        "CERTIFICATE": CREDSSP_SERVER_AUTH.CERTIFICATE,
        "LOOPBACK": CREDSSP_SERVER_AUTH.LOOPBACK,
    }
    assert [level.value for level in EncryptionOracle] == [0, 1, 2]
    assert [kind.value for kind in RestrictedAdministration] == [1, 2, 3]


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DelegationPolicy().domain_joined = False

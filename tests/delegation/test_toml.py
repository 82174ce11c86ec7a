"""A delegation policy in TOML: Windows' names, and what is said of a file that is wrong."""

import json
import re
from pathlib import Path

import pytest
from support.delegation import SETTINGS, SHORT, decide, settings

from acredssp.delegation import (
    DelegationPolicy,
    EncryptionOracle,
    RestrictedAdministration,
    SPNList,
)


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
        (
            "ConcatenateDefaults_AllowFresh = true",
            "ConcatenateDefaults_AllowFresh: expected only together with a list in",
        ),
        (
            "AllowFreshCredentials = false\nConcatenateDefaults_AllowFresh = true",
            "ConcatenateDefaults_AllowFresh: expected only together with a list in AllowFreshCredentials",
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
        ("RestrictedRemoteAdministrationType = 1", "RestrictedRemoteAdministrationType: expected only together with"),
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
    page = (Path(__file__).parent.parent.parent / "docs" / "policy.md").read_text(encoding="utf-8")
    (example,) = re.findall("```toml\n(.*?)```", page, re.DOTALL)
    policy = DelegationPolicy.from_toml(example)
    assert decide(policy, "TERMSRV/host.example.com").allowed
    assert decide(policy, "TERMSRV/kiosk.example.com").setting == "DenyFreshCredentials"
    for name in [*SETTINGS, "RestrictedRemoteAdministration", "AllowEncryptionOracle", "DomainJoined"]:
        assert f"`{name}`" in page
    for name in SETTINGS:
        assert f"`{SHORT[name]}`" in page

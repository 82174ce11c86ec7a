"""Secure by default, weak by name."""

import dataclasses
import ssl

import pytest

from acredssp.delegation import DelegationPolicy
from acredssp.policy import EncryptionOracle, Policy


def test_the_defaults_are_the_safe_ones():
    policy = Policy()
    assert (policy.min_version, policy.max_version) == (5, 6)
    assert policy.min_tls.name == "TLSv1_2"


def test_whatever_is_dangerous_is_off():
    dangerous = [field for field in dataclasses.fields(Policy) if field.name.startswith("dangerous_")]
    assert {field.name for field in dangerous} == {
        "dangerous_allow_legacy_versions",
        "dangerous_accept_any_certificate",
        "dangerous_allow_kerberos_rc4",
        "dangerous_allow_legacy_tls",
        "dangerous_allow_legacy_ciphers",
    }
    assert all(field.default is False for field in dangerous)


@pytest.mark.requirement("version.floor")
@pytest.mark.parametrize("version", [2, 3, 4])
def test_versions_below_5_need_the_switch(version):
    with pytest.raises(ValueError, match="CVE-2018-0886"):
        Policy(min_version=version)
    assert Policy(min_version=version, dangerous_allow_legacy_versions=True).min_version == version


@pytest.mark.parametrize(("low", "high"), [(6, 5), (1, 6), (5, 7), (0, 0)])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(ValueError, match="expected a range"):
        Policy(min_version=low, max_version=high, dangerous_allow_legacy_versions=True)


V = ssl.TLSVersion


@pytest.mark.parametrize("version", [V.TLSv1, V.TLSv1_1])
def test_tls_below_12_needs_the_switch(version):
    with pytest.raises(ValueError, match=rf"min_tls: {version.name} .* dangerous_allow_legacy_tls=True"):
        Policy(min_tls=version)
    assert Policy(min_tls=version, dangerous_allow_legacy_tls=True).legacy_tls
    assert not Policy(dangerous_allow_legacy_tls=True).legacy_tls, "the switch alone lowers nothing"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (V.SSLv3, V.TLSv1_3, "expected TLSv1 to TLSv1_3"),
        (V.MINIMUM_SUPPORTED, V.TLSv1_3, "expected TLSv1 to TLSv1_3"),
        (V.MAXIMUM_SUPPORTED, V.TLSv1_3, "expected TLSv1 to TLSv1_3"),
        (V.TLSv1_2, V.SSLv3, "expected TLSv1 to TLSv1_3"),
        (V.TLSv1_2, V.MINIMUM_SUPPORTED, "expected TLSv1 to TLSv1_3"),
        (V.TLSv1_3, V.TLSv1_2, "expected a range, got TLSv1_3 to TLSv1_2"),
        (V.TLSv1_2, V.TLSv1_1, "expected a range, got TLSv1_2 to TLSv1_1"),
    ],
)
def test_versions_of_tls_that_are_no_range_are_refused(low, high, said):
    with pytest.raises(ValueError, match=said):
        Policy(min_tls=low, max_tls=high, dangerous_allow_legacy_tls=True)


@pytest.mark.parametrize("field", ["min_tls", "max_tls"])
@pytest.mark.parametrize("value", ["1.2", 771, None])
def test_a_version_of_tls_of_another_type_is_refused_by_its_name(field, value):
    with pytest.raises(TypeError, match=f"{field}: expected TLSVersion"):
        Policy(**{field: value})


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


def test_numbers_of_the_levels_are_the_registrys():
    assert [level.value for level in EncryptionOracle] == [0, 1, 2]

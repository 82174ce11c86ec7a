"""Secure by default, weak by name."""

import dataclasses

import pytest

from acredssp.policy import Policy


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
    with pytest.raises(ValueError, match="no range"):
        Policy(min_version=low, max_version=high, dangerous_allow_legacy_versions=True)

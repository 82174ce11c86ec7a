"""The settings by Windows' names and numbers."""

from support.delegation import ALLOW, ALLOW_NTLM_ONLY, DENY, SETTINGS

from acredssp.delegation import DelegationPolicy, RestrictedAdministration
from acredssp.delegation import settings as ours


def test_each_class_has_three_lists_by_windows_names():
    for expected, table in ((ALLOW, ours.ALLOW), (ALLOW_NTLM_ONLY, ours.ALLOW_NTLM_ONLY), (DENY, ours.DENY)):
        assert {source: setting.name for source, setting in table.items()} == expected
    assert sorted(setting.name for setting in ours.SETTINGS) == sorted(SETTINGS)


def test_each_list_is_a_field_of_the_policy():
    assert all(hasattr(DelegationPolicy(), setting.field) for setting in ours.SETTINGS)


def test_numbers_of_the_restrictions_are_the_registrys():
    assert [kind.value for kind in RestrictedAdministration] == [1, 2, 3]

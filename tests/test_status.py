"""The open enums."""

import pickle

import pytest

from acredssp.status import NTSTATUS, SecurityStatus


@pytest.mark.parametrize("enum", [NTSTATUS, SecurityStatus])
def test_an_unknown_value_keeps_its_number_and_is_named_by_it(enum):
    value = enum(0xC00700EA)
    assert value == 0xC00700EA
    assert value.name == str(value) == "0xC00700EA"
    assert not value.known
    assert value == enum(0xC00700EA)
    assert hash(value) == hash(enum(0xC00700EA))
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes


def test_unknown_values_are_kept_nowhere():
    before = len(NTSTATUS._value2member_map_)
    for code in range(0xD0000000, 0xD0000100):
        NTSTATUS(code)
    assert len(NTSTATUS._value2member_map_) == before


@pytest.mark.parametrize("value", [-1, 1 << 32, "0xC000006D", None])
def test_what_has_not_32_bits_is_none(value):
    with pytest.raises(ValueError, match="not a valid"):
        NTSTATUS(value)


def test_known_values_have_their_names():
    assert NTSTATUS(0xC000006D) is NTSTATUS.STATUS_LOGON_FAILURE
    assert str(SecurityStatus(0x80090318)) == "SEC_E_INCOMPLETE_MESSAGE"
    assert NTSTATUS.STATUS_LOGON_FAILURE.known


def test_bit_31_is_failure():
    assert SecurityStatus.SEC_E_INCOMPLETE_MESSAGE.failed
    assert not SecurityStatus.SEC_I_CONTINUE_NEEDED.failed
    assert not SecurityStatus.SEC_E_OK.failed

"""The open enums."""

import ctypes
import itertools
import operator
import pickle

import pytest

from acredssp.status import NTSTATUS, SecurityStatus


@pytest.mark.parametrize("enum", [NTSTATUS, SecurityStatus])
def test_an_unknown_value_keeps_its_number_and_is_named_by_it(enum):
    value = enum(0xC0DE00EA)
    assert value == 0xC0DE00EA
    assert value.name == str(value) == "0xC0DE00EA"
    assert not value.known
    assert value == enum(0xC0DE00EA)
    assert hash(value) == hash(enum(0xC0DE00EA))
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes


def test_unknown_values_are_kept_nowhere():
    before = len(NTSTATUS._value2member_map_)
    for code in range(0xD0000000, 0xD0000100):
        NTSTATUS(code)
    assert len(NTSTATUS._value2member_map_) == before


@pytest.mark.parametrize("value", [-0x80000001, 1 << 32, "0xC000006D", None])
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


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0xC0000418, "STATUS_NTLM_BLOCKED"),
        (0xC0000413, "STATUS_AUTHENTICATION_FIREWALL_FAILED"),
        (0xC000018B, "STATUS_NO_TRUST_SAM_ACCOUNT"),
        (0xC0000192, "STATUS_NETLOGON_NOT_STARTED"),
        (0xC00000DC, "STATUS_INVALID_SERVER_STATE"),
        (0xC0000388, "STATUS_DOWNGRADE_DETECTED"),
        (0xC000035B, "STATUS_BAD_BINDINGS"),
    ],
)
def test_refusals_that_windows_sends_have_their_names(code, name):
    assert (str(NTSTATUS(code)), NTSTATUS(code).known) == (name, True)


@pytest.mark.parametrize(
    ("code", "name", "stands_for"),
    [
        (0x8009030C, "SEC_E_LOGON_DENIED", 0x8009030C),  # pyspnego
        (0xC007030C, "SEC_E_LOGON_DENIED", 0xC007030C),  # sspi-rs
        (0xC00700EA, "ERROR_MORE_DATA", 0xC00700EA),  # FreeRDP 3
        (0xC007052E, "ERROR_LOGON_FAILURE", NTSTATUS.STATUS_LOGON_FAILURE),
        (0x8007052E, "ERROR_LOGON_FAILURE", NTSTATUS.STATUS_LOGON_FAILURE),
        (0xC0070791, "ERROR_NTLM_BLOCKED", NTSTATUS.STATUS_NTLM_BLOCKED),
        (0xC00799AA, "0xC00799AA", 0xC00799AA),
        (0x800903FF, "0x800903FF", 0x800903FF),
        (NTSTATUS.STATUS_LOGON_FAILURE, "STATUS_LOGON_FAILURE", NTSTATUS.STATUS_LOGON_FAILURE),
        (13, "0x0000000D", 13),
    ],
)
def test_what_peers_send_in_place_of_an_ntstatus_keeps_its_number_and_is_named_as_what_it_is(code, name, stands_for):
    status = NTSTATUS(code)
    assert (int(status), str(status), status.stands_for) == (code, name, stands_for)
    assert pickle.loads(pickle.dumps(status)) == status  # noqa: S301 - our own bytes


# --- signed, as in C ---

ENUMS = pytest.mark.parametrize("enum", [NTSTATUS, SecurityStatus])
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge]
NUMBERS = [0, 1, 0x00090312, 0x7FFFFFFF, 0x80000000, 0x80090300, 0x8009030C, 0xC000006D, 0xFFFFFFFF]
"""Statuses on both sides of every border."""


def signed(number):
    return ctypes.c_int32(number).value


@ENUMS
@pytest.mark.parametrize("number", NUMBERS)
def test_a_signed_number_makes_the_same_member(enum, number):
    member = enum(signed(number))
    assert member == enum(number) == number
    assert member.signed == signed(number)
    assert (member.value, hash(member), hex(member)) == (number, hash(number), hex(number))
    assert member.name == enum(number).name


def test_a_named_member_is_found_by_either_number():
    assert SecurityStatus(-2146893044) is SecurityStatus.SEC_E_LOGON_DENIED
    assert SecurityStatus.SEC_E_LOGON_DENIED.signed == -2146893044
    assert NTSTATUS(-1073741715) is NTSTATUS.STATUS_LOGON_FAILURE
    assert SecurityStatus.SEC_E_OK.signed == 0


@ENUMS
@pytest.mark.parametrize("compare", COMPARISONS)
def test_two_statuses_compare_as_signed_numbers(enum, compare):
    for one, other in itertools.product(NUMBERS, repeat=2):
        assert compare(enum(one), enum(other)) is compare(signed(one), signed(other)), (hex(one), hex(other))


@ENUMS
@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_status_and_a_signed_number_compare_as_signed_numbers(enum, compare):
    bounds = [-(1 << 40), -0x80000000, -0x80000000 + 1, signed(0x8009030C), -1, 0, 1, 0x00090312, 0x7FFFFFFF]
    for number, bound in itertools.product(NUMBERS, bounds):
        assert compare(enum(number), bound) is compare(signed(number), bound), (hex(number), bound)
        assert compare(bound, enum(number)) is compare(bound, signed(number)), (bound, hex(number))


@ENUMS
@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_status_compares_with_a_float_as_with_a_whole_number(enum, compare):
    for number, bound in itertools.product(NUMBERS, (-0.5, 0.0, 0.5, float(0x80000000), float("inf"), float("-inf"))):
        expected = compare(signed(number) if bound < 0x80000000 else number, bound)
        assert compare(enum(number), bound) is expected, (hex(number), bound)
    assert not compare(enum(0x8009030C), float("nan"))
    assert enum(0x8009030C) < 0.0


@ENUMS
@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_status_and_an_unsigned_number_compare_as_unsigned_numbers(enum, compare):
    for number, bound in itertools.product(NUMBERS, [0x80000000, 0x80090300, 0x8009030C, 0xFFFFFFFF, 1 << 32]):
        assert compare(enum(number), bound) is compare(number, bound), (hex(number), hex(bound))
        assert compare(bound, enum(number)) is compare(bound, number), (hex(bound), hex(number))


def test_each_usual_test_for_success_and_failure_tells_them_apart():
    for status in SecurityStatus:
        assert (status >= 0) is not status.failed
        assert (status < 0) is status.failed
        assert (status >= 0x80000000) is (status & 0x80000000 != 0) is status.failed
        assert (status == 0) is (status is SecurityStatus.SEC_E_OK)


def test_statuses_sort_with_failures_in_front():
    statuses = [SecurityStatus.SEC_I_CONTINUE_NEEDED, SecurityStatus.SEC_E_OK, SecurityStatus.SEC_E_LOGON_DENIED]
    assert sorted(statuses) == statuses[::-1]
    assert min(statuses) is SecurityStatus.SEC_E_LOGON_DENIED


@pytest.mark.parametrize("other", ["0", None])
def test_what_is_no_number_has_no_order_with_a_status(other):
    for compare in COMPARISONS:
        with pytest.raises(TypeError, match="not supported between"):
            compare(SecurityStatus.SEC_E_OK, other)

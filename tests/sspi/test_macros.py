"""Macros of the headers."""

import pytest

from acredssp.sspi import (
    FAILED,
    SEC_SUCCESS,
    SUCCEEDED,
    CredHandle,
    CtxtHandle,
    SecInvalidateHandle,
    SecIsValidHandle,
    SecurityStatus,
)
from acredssp.sspi.handles import ContextState


@pytest.mark.parametrize("status", SecurityStatus)
def test_a_status_is_success_or_failure_in_each_of_its_spellings(status):
    for spelling in (status, status.value, status.signed):
        assert SEC_SUCCESS(spelling) is SUCCEEDED(spelling) is not status.failed
        assert FAILED(spelling) is status.failed


@pytest.mark.parametrize("number", [0xFFFFFFFF, -1, 0x80000000, -0x80000000, 0xC0000022])
def test_a_number_without_a_name_fails_by_its_bit_31(number):
    assert FAILED(number)
    assert not SEC_SUCCESS(number)


@pytest.mark.parametrize("macro", [SEC_SUCCESS, FAILED])
def test_what_is_no_status_is_refused(macro):
    with pytest.raises(TypeError):
        macro(None)
    with pytest.raises(ValueError, match="not a valid"):
        macro(1 << 32)


@pytest.mark.parametrize("kind", [CredHandle, CtxtHandle])
def test_a_handle_is_valid_from_when_it_is_filled_until_it_is_invalidated(kind):
    handle = kind()
    assert not SecIsValidHandle(handle)
    state = ContextState()
    handle.assign(state)
    assert SecIsValidHandle(handle)
    state.dispose()
    assert SecIsValidHandle(handle), "C has two words to look at, which deleting does not change"
    assert not handle.valid
    SecInvalidateHandle(handle)
    assert not SecIsValidHandle(handle)
    assert handle == kind()


@pytest.mark.parametrize("macro", [SecIsValidHandle, SecInvalidateHandle])
def test_what_is_no_handle_is_refused(macro):
    with pytest.raises(TypeError):
        macro(None)

"""What a call leaves to the next one: every split of the input, by the bytes themselves."""

import itertools

import pytest

from acredssp.core.results import StepResult
from acredssp.errors import LocalProtocolError
from acredssp.sspi.unfinished import Unfinished
from acredssp.status import SecurityStatus

DATA = b"0123456789"
RESULT = StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED, b"token")


@pytest.mark.parametrize("reported", [True, False])
@pytest.mark.parametrize("extra", range(len(DATA) + 1))
def test_no_byte_is_lost_between_the_report_and_the_next_call(extra, reported):
    unfinished = Unfinished()
    unfinished.leave(unfinished.begin(DATA), extra)
    told = unfinished.give_back(DATA, reported=reported)
    assert told == (extra if reported else 0)
    given_again = DATA[len(DATA) - told :] + b"more"
    assert unfinished.begin(given_again) == DATA[len(DATA) - extra :] + b"more"


@pytest.mark.parametrize(("kept", "given", "extra"), [*itertools.product([0, 4], [0, 3], [0, 2, 5, 7])])
def test_a_surplus_goes_in_front_and_only_what_the_caller_gave_is_reported(kept, given, extra):
    unfinished = Unfinished()
    unfinished.surplus = DATA[:kept]
    data = DATA[kept : kept + given]
    received = unfinished.begin(data)
    assert received == DATA[: kept + given]
    extra = min(extra, len(received))
    unfinished.leave(received, extra)
    told = unfinished.give_back(data, reported=True)
    assert told == min(extra, given)
    assert unfinished.surplus + data[len(data) - told :] == received[len(received) - extra :]


@pytest.mark.parametrize("second", [DATA, DATA + b"behind it"])
def test_a_repeated_call_gives_the_same_result_and_what_came_meanwhile_is_kept(second):
    unfinished = Unfinished()
    unfinished.leave(unfinished.begin(DATA), 2)
    unfinished.keep(RESULT, DATA)
    unfinished.keep(StepResult(SecurityStatus.SEC_E_OK), b"a later one")
    assert unfinished.repeat(second) is RESULT
    told = unfinished.give_back(second, reported=True)
    assert second[len(second) - told :] == second[8:]
    assert unfinished.surplus == b""


@pytest.mark.parametrize("size", range(1, len(DATA)))
def test_a_repeated_call_with_less_than_was_taken_is_refused_and_changes_nothing(size):
    unfinished = Unfinished()
    unfinished.leave(unfinished.begin(DATA), 2)
    unfinished.keep(RESULT, DATA)
    if size >= 8:
        assert unfinished.repeat(DATA[:size]) is RESULT
        assert unfinished.give_back(DATA[:size], reported=True) == size - 8
        return
    with pytest.raises(LocalProtocolError) as caught:
        unfinished.repeat(DATA[:size])
    assert caught.value.security_status is SecurityStatus.SEC_E_INVALID_PARAMETER
    assert unfinished.repeat(DATA) is RESULT


@pytest.mark.parametrize("again", [True, False])
def test_behind_a_certificate_request_the_input_may_come_whole_or_as_what_is_left(again):
    unfinished = Unfinished()
    unfinished.leave(unfinished.begin(DATA), 4)
    unfinished.stop(DATA)
    unfinished.give_back(DATA, reported=True)
    unfinished.go_on(DATA if again else DATA[6:])
    assert unfinished.rest == DATA[6:]


def test_a_call_that_takes_nothing_gives_everything_back():
    unfinished = Unfinished()
    unfinished.leave(unfinished.begin(DATA), 3)
    unfinished.take_nothing()
    assert unfinished.give_back(DATA, reported=True) == len(DATA)


def test_nothing_is_kept_of_a_context_that_is_gone():
    unfinished = Unfinished()
    unfinished.leave(unfinished.begin(DATA), 3)
    unfinished.stop(DATA)
    unfinished.give_back(DATA, reported=False)
    unfinished.keep(RESULT, DATA)
    unfinished.forget()
    assert (unfinished.unsent, unfinished.rest, unfinished.surplus, unfinished.taken) == (None, b"", b"", b"")

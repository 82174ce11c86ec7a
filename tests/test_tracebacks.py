"""What an error forgets, and what it must leave alone."""

import asyncio
import traceback
import types

import pytest

from acredssp.tracebacks import forget_locals


def as_ours(function, **names):
    """The function as if a module of the library had it."""
    return types.FunctionType(
        function.__code__, {"__name__": "acredssp.example", "__builtins__": __builtins__} | names, function.__name__
    )


def caught(function, *arguments):
    with pytest.raises(Exception, match="no") as info:
        function(*arguments)
    return info.value


def locals_in(error):
    return {
        frame.name: frame.locals or {}
        for frame in traceback.TracebackException.from_exception(error, capture_locals=True).stack
    }


def fail():
    secret = "below"  # noqa: F841
    raise ValueError("no")


def work(below):
    secret = "ours"  # noqa: F841
    below()


def test_our_functions_forget_and_so_do_those_below_them():
    error = caught(as_ours(work), fail)
    assert {"secret": "'ours'", "below": repr(fail)} == locals_in(error)["work"]
    forget_locals(error)
    assert locals_in(error)["work"] == locals_in(error)["fail"] == {}


def test_files_lines_and_names_stay():
    error = caught(as_ours(work), fail)
    before = traceback.format_exception(error)
    forget_locals(error)
    assert traceback.format_exception(error) == before


def test_the_callers_functions_above_ours_are_left_alone():
    error = caught(work, as_ours(fail))
    forget_locals(error)
    assert locals_in(error)["work"]["secret"] == "'ours'"
    assert locals_in(error)["fail"] == {}


def test_an_error_in_which_we_had_no_part_is_left_alone():
    error = caught(work, fail)
    forget_locals(error)
    assert locals_in(error)["fail"]["secret"] == "'below'"


def of_a_cause():
    try:
        fail()
    except ValueError as error:
        raise LookupError("no") from error


def hidden_from_the_traceback():
    try:
        fail()
    except ValueError:
        raise LookupError("no") from None


def in_a_group():
    try:
        fail()
    except ValueError as error:
        raise ExceptionGroup("no", [error]) from None


@pytest.mark.parametrize("wrap", [of_a_cause, hidden_from_the_traceback, in_a_group])
def test_whatever_led_to_the_error_forgets_too(wrap):
    error = caught(as_ours(wrap, fail=as_ours(fail)))
    first = error.__context__
    assert locals_in(first)["fail"] == {"secret": "'below'"}
    forget_locals(error)
    assert locals_in(first)["fail"] == {}


def test_errors_that_led_to_each_other_come_to_an_end():
    first, second = caught(as_ours(fail)), caught(as_ours(fail))
    first.__context__, second.__context__ = second, first
    forget_locals(first)
    assert locals_in(first)["fail"] == locals_in(second)["fail"] == {}


def forgets_itself():
    kept = "kept"
    try:
        fail()
    except ValueError as error:
        forget_locals(error)
    return kept


def test_a_function_that_still_runs_keeps_what_it_has():
    assert as_ours(forgets_itself, fail=fail, forget_locals=forget_locals)() == "kept"


async def waits(errors):
    try:
        fail()
    except ValueError as error:
        errors.append(error)
        await asyncio.sleep(0)
    return "went on"


def test_a_coroutine_that_is_only_suspended_goes_on():
    """Its frame is in the traceback of an error that it has caught; to clear it would close it, on 3.12 and before."""

    async def main():
        errors = []
        task = asyncio.create_task(as_ours(waits, fail=fail, asyncio=asyncio)(errors))
        await asyncio.sleep(0)
        forget_locals(errors[0])
        return await task

    assert asyncio.run(main()) == "went on"

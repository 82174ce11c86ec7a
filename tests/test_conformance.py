"""Every requirement has a test or a reason, and the table of them is the one in docs."""

import dataclasses
import subprocess
import sys

import pytest
from support import requirements
from support.requirements import List, problems, render

LIST = List.load("""
title = "Things"
[[group]]
title = "Some"
[[group.requirement]]
id = "thing.one"
text = "One is one."
source = "Euclid"
[[group.requirement]]
id = "thing.two"
text = "Two is even."
source = "Euclid"
later = "after one"
[[group.requirement]]
id = "thing.three"
text = "Three is red."
source = "nobody"
not_applicable = "numbers have no colour"
""")

SSPI = List.load("""
title = "A function"
page = "sspi"
source = "its page"
complete = true
[[group]]
title = "Call"
[[group.requirement]]
id = "R1"
text = "It is called."
here = "Awaited."
windows = "Waited for."
[[group.requirement]]
id = "R2"
text = "It returns."
""")

TEST = {("tests/test_things.py", "test_one_is_one")}


def test_every_requirement_is_shown_or_excused_and_the_table_says_so(kerberos_modules, shown_by_all_tests):
    """Without Kerberos some tests are not even collected."""
    if shown_by_all_tests is not None:
        assert requirements.faults(shown_by_all_tests) == []
        return
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--conformance=check"]
    run = subprocess.run(command, cwd=requirements.ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:] or run.stdout[-3000:]


def test_all_is_well():
    assert list(problems([LIST], {"thing.one": TEST})) == []


@pytest.mark.parametrize(
    ("lists", "shown", "said"),
    [
        ([LIST], {}, "thing.one: no test shows it"),
        ([LIST], {"thing.one": TEST, "thing.four": TEST}, "thing.four: named by test_one_is_one, listed nowhere"),
        ([LIST], {"thing.one": TEST, "thing.two": TEST}, "thing.two: has a test and yet says later: after one"),
        ([LIST, LIST], {"thing.one": TEST}, "thing.one: listed 2 times"),
    ],
)
def test_what_does_not_fit_is_said(lists, shown, said):
    assert said in list(problems(lists, shown))


def test_nothing_is_later_in_a_list_that_is_complete():
    complete = dataclasses.replace(LIST, complete=True)
    assert list(problems([complete], {"thing.one": TEST})) == ["thing.two: later, in a list that is complete"]


def test_a_list_is_on_its_own_page_alone():
    both = [LIST, SSPI]
    page = render(both, {"R1": TEST}, "sspi")
    assert "Of 2 requirements 1 are met." in page
    assert (
        "| R1 | It is called. | Awaited. | Waited for. | [tests/test_things.py](../tests/test_things.py): "
        "`test_one_is_one` |\n| R2 | It returns. |  |  |  |" in page
    )
    assert "thing.one" not in page
    assert render(both, {}) == render([LIST], {})


def test_what_is_done_otherwise_on_purpose_does_not_count_as_met():
    page = render([_otherwise(SSPI)], {"R1": TEST, "R2": TEST}, "sspi")
    assert "Of 2 requirements 1 are met, 1 are done otherwise on purpose." in page
    assert "| R1 | It is called. | otherwise: Awaited. | Waited for. |" in page


def test_what_is_done_otherwise_has_to_say_what_is_done_instead():
    silent = _otherwise(SSPI, here="")
    assert list(problems([silent], {"R1": TEST, "R2": TEST})) == [
        "R1: otherwise, and `here` does not say what is done instead"
    ]
    assert "R1: no test shows it" in list(problems([_otherwise(SSPI)], {"R2": TEST}))


def _otherwise(listed, **fields):
    """The list with its first requirement marked as done otherwise."""
    [group] = listed.groups
    first, *rest = group.requirements
    changed = dataclasses.replace(first, otherwise=True, **fields)
    return dataclasses.replace(listed, groups=(dataclasses.replace(group, requirements=(changed, *rest)),))


def test_a_list_with_an_unknown_or_missing_key_is_refused():
    for fields in ('id = "a"\ntext = "b"', 'id = "a"\ntext = "b"\nsource = "c"\nlatre = "d"'):
        with pytest.raises(TypeError):
            List.load(f'title = "t"\n[[group]]\ntitle = "g"\n[[group.requirement]]\n{fields}\n')


def test_the_table_names_tests_and_excuses():
    table = render([LIST], {"thing.one": TEST | {("tests/test_things.py", "test_again")}})
    assert "Of 3 requirements 1 are met, 1 are not shown yet, 1 are not applicable." in table
    assert (
        "| thing.one | One is one. | Euclid | [tests/test_things.py](../tests/test_things.py): "
        "`test_again`, `test_one_is_one` |" in table
    )
    assert "| thing.two | Two is even. | Euclid | later: after one |" in table
    assert "| thing.three | Three is red. | nobody | not applicable: numbers have no colour |" in table

"""Every mutant of mutants.toml fits the package as it is, and there are tests that show what it breaks.

Whether the tests notice the mutants is what `make mutants` finds out.
"""

import ast
import functools

import mutants
import pytest
from support import requirements

MUTANTS = mutants.load((requirements.ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))


def markers(test):
    """The requirements that a test function shows, by its decorators; ValueError where there is no such function."""
    path, _, name = test.partition("::")
    [function] = named(path).get(name, [])
    calls = [node for node in function.decorator_list if isinstance(node, ast.Call)]
    marked = [call for call in calls if ast.unparse(call.func) == "pytest.mark.requirement"]
    return {argument.value for call in marked for argument in call.args}


@functools.cache
def named(path):
    """The functions of a file by name: many mutants have tests in the same file."""
    found = {}
    for node in ast.parse((requirements.ROOT / path).read_text(encoding="utf-8")).body:
        found.setdefault(getattr(node, "name", ""), []).append(node)
    return found


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_file_that_it_changes(mutant):
    source = (requirements.ROOT / mutants.PACKAGE / mutant.file).read_text(encoding="utf-8")
    assert mutants.mutated(mutant, source) != source


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_of_a_mutant_show_what_it_breaks(mutant):
    assert mutant.tests
    assert bool(mutant.requirements) is not bool(mutant.behaviour), "one of them says what is broken"
    shown = [markers(test) for test in mutant.tests]
    assert mutant.behaviour or all(marked & set(mutant.requirements) for marked in shown)
    assert set(mutant.requirements) <= set().union(*shown)


def test_a_mutant_that_fits_nowhere_or_twice_is_refused():
    mutant = mutants.Mutant(("R1",), "here.py", "a", "b", ("tests/test_here.py::test_it",))
    for source in ("", "aa"):
        with pytest.raises(ValueError, match="expected once"):
            mutants.mutated(mutant, source)
    assert mutants.mutated(mutant, "xax") == "xbx"

"""What machine_mutants.py leaves out, how it names what survived, and that every reason is of code that there is."""

import ast
import json
import tomllib
import types

import machine_mutants as mutants
import pytest
from support.pages import ROOT

REASONS = tomllib.loads(mutants.REASONS.read_text("utf-8")).get("survivor", [])


def function(line):
    return f"    def x_one__mutmut_1(self, size):\n        {line}\n        return size\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("raise PolicyError('too old', hint='update')", "raise PolicyError('XXtoo oldXX', hint='update')"),
        ("raise PolicyError('too old', hint='update')", "raise PolicyError(None, hint='update')"),
        ("raise PolicyError('too old', hint='update')", "raise PolicyError('too old', )"),
        ("raise PolicyError(f'{size} is too old')", "raise PolicyError()"),
        ("raise LimitExceeded('many')", "raise LimitExceeded('MANY')"),
        ("raise ValueError('many')", "raise ValueError(None)"),
        ("log.warning('%d', size)", "log.warning(None, size)"),
        ("reason = f'{size} is too much'", "reason = None"),
        ("raise Refusal(Verdict.WEAK, 'weak', 0)", "raise Refusal(Verdict.WEAK, None, 0)"),
        ("name.encode('idna')", "name.encode('IDNA')"),
        ("decode_text(name, 'user name')", "decode_text(name, None)"),
    ],
)
def test_a_change_of_texts_for_people_is_left_out(before, after):
    assert mutants.without_texts(function(before)) == mutants.without_texts(function(after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("raise PolicyError('old', nt_status=1)", "raise PolicyError('old', nt_status=None)"),
        ("raise PolicyError('old', nt_status=1)", "raise PolicyError('old', )"),
        ("raise Refusal(Verdict.WEAK, 'weak', 0)", "raise Refusal(Verdict.WEAK, 'weak', 1)"),
        ("raise Refusal(Verdict.WEAK, 'weak', 0)", "raise Refusal(None, 'weak', 0)"),
        ("size = 'text'", "size = 'XXtextXX'"),
        ("if size < 1: raise ValueError('small')", "if size <= 1: raise ValueError('small')"),
        ("name.encode('idna')", "name.encode('ascii')"),
        ("decode_text(name, 'user name')", "decode_text(None, 'user name')"),
    ],
)
def test_a_change_of_what_is_done_is_not(before, after):
    assert mutants.without_texts(function(before)) != mutants.without_texts(function(after))


def test_a_survivor_is_told_by_the_lines_that_differ():
    before = "def f(a):\n    if a < 1:\n        return 1\n    return 2\n"
    assert mutants.difference(before, before.replace("<", "<=")) == "if a < 1: -> if a <= 1:"
    decorated = before.replace("def f", "@classmethod\ndef g").replace("<", "<=")
    assert mutants.difference(before, decorated) == "if a < 1: -> if a <= 1:"
    assert mutants.difference("def f(a=1):\n    pass\n", "def f(a=2):\n    pass\n") == "a=1 -> a=2"


def test_the_tests_that_are_likely_to_notice_are_asked_first():
    trials = mutants.Trials({}, mutants.Inside([], None, again=False, children=1, most=None, end=None, quick=True))
    trials._mutants["f__mutmut_1"] = types.SimpleNamespace(path="acredssp/wire/der.py")
    trials._calls = {0: {"f", "g", "h"}, 1: {"f"}, 2: {"g"}, 3: {"f", "g"}, 4: {"f"}, 5: {"f", "g"}}
    names = ["tests/test_x.py::a[1]", "tests/test_x.py::b", "tests/test_x.py::c", "tests/wire/test_der.py::d[1]"]
    trials._places = mutants.places_of([*names, "tests/wire/test_der.py::d[2]", "tests/test_x.py::a[2]"])
    assert trials._tests_of("f__mutmut_1") == [3, 4, 1, 0, 5], "first the file that mirrors, and first cases"
    trials._noticed["f"] += [5, 0]
    assert trials._tests_of("f__mutmut_1") == [0, 5, 3, 4, 1]


SOURCE = """\
def first():
    return 1


class Thing:
    size = 1

    @property
    def decorated(self):
        return 1

    async def method(self):
        return 2
"""


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ({1}, ["x_first"]),
        ({2, 12}, ["x_first", "xǁThingǁmethod"]),
        ({6}, []),
        ({8}, ["xǁThingǁdecorated"]),
        ({3, 4, 5}, []),
    ],
)
def test_lines_are_those_of_functions(lines, names):
    assert list(mutants.functions_at(SOURCE, lines)) == names


def test_every_pattern_has_files_and_tests_that_there_are():
    files = mutants.mutable_files()
    assert {mutants.pattern_of(file) for file in files} == set(mutants.TESTS)
    assert [test for tests in mutants.TESTS.values() for test in tests if not (ROOT / test).exists()] == []
    assert mutants.pattern_of("proxy/leg.py") is None


def test_new_figures_take_the_place_of_the_old_ones_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "FIGURES", tmp_path / "mutants.json")
    mutants.write([["`b.py`", *[4] * 6, 0], ["`a.py`", *[1] * 6, 0]])
    mutants.write([["`b.py`", *[2] * 6, 0]])
    mutants.write([["`a.py`", *[3] * 6, 1]])  # one mutant has not been tried
    assert json.loads(mutants.FIGURES.read_text("utf-8"))["rows"] == [
        ["`a.py`", *[1] * 6, 0],
        ["`b.py`", *[2] * 6, 0],
        ["all", *[3] * 6, 0],
    ]


def code_of(row):
    """The function that a reason is about, in one line."""
    tree = ast.parse((ROOT / "acredssp" / row["file"]).read_text("utf-8"))
    owner, _, name = row["function"].rpartition(".")
    if owner:
        tree = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner)
    code = next(node for node in tree.body if getattr(node, "name", "") == name)
    return " ".join(line.strip() for line in ast.unparse(code).splitlines())


def test_every_reason_is_of_code_that_there_is():
    assert [row for row in REASONS if row["change"].partition(" -> ")[0] not in code_of(row)] == []
    assert [row for row in REASONS if not row["reason"]] == []

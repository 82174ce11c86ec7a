"""docs/security.md has the figures that were measured, and its promises name tests that there are."""

import ast
import json
import re

import pytest
from support import uncovered
from support.pages import ROOT
from support.security_page import FIGURES, PAGE, filled, names, read_figures, table

TEXT = PAGE.read_text("utf-8")
MARKED = "before\n<!-- figures: speed: begin -->\nold\n<!-- figures: speed: end -->\nbehind\n"


def test_the_page_has_the_figures_of_the_files():
    assert filled(TEXT, read_figures) == TEXT, "make security-report"


def test_every_file_of_figures_is_on_the_page():
    assert {path.stem for path in FIGURES.glob("*.json")} <= set(names(TEXT))


def test_figures_become_a_table_between_their_marks():
    figures = {"measured": "on a Monday", "columns": ["what", "much"], "rows": [["a|b", 1234], ["c", 0.5]]}
    page = filled(MARKED, {"speed": json.dumps(figures)}.get)
    rows = "on a Monday:\n\n| what | much |\n| --- | ---: |\n| a\\|b | 1,234 |\n| c | 0.5 |\n"
    assert page == MARKED.replace("\nold\n", f"\n\n{rows}\n")
    assert filled(page, {"speed": json.dumps(figures)}.get) == page


def test_the_example_of_the_page_is_figures():
    assert "| silent | 97 % |" in table(re.search(r'^ {4}(\{"measured".*)$', TEXT, re.MULTILINE)[1])


def test_what_is_not_measured_is_said():
    assert "Not measured." in filled(MARKED, {}.get)


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(ValueError, match="expected 2 cells"):
        table(json.dumps({"measured": "now", "columns": ["what", "much"], "rows": [["a"]]}))


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", TEXT))))
def test_a_promise_is_shown_by_a_test_that_there_is(named):
    file, _, name = named.partition("::")
    assert name in {getattr(node, "name", "") for node in ast.parse((ROOT / file).read_text("utf-8")).body}


def test_every_promise_names_a_test_or_a_section_with_figures():
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", TEXT.partition("| promise |")[2].partition("\n## ")[0], re.MULTILINE)
    assert len(rows) > 5
    assert [row for row, shown in rows[1:] if "tests/" not in shown and "](#" not in shown] == []


def test_lines_that_no_test_ran_are_told_for_the_engine_alone():
    files = {
        "acredssp/core/client.py": {"summary": {"num_statements": 9}, "missing_lines": [9, 3, 4, 5]},
        "acredssp/core/binding.py": {"summary": {"num_statements": 5}, "missing_lines": []},
        "acredssp/cli/app.py": {"summary": {"num_statements": 7}, "missing_lines": [1]},
    }
    assert uncovered.rows({"files": files}) == [["`core/client.py`", 9, 4, "3-5, 9"], ["all", 14, 4, ""]]

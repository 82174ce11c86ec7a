"""Puts the figures of docs/figures into docs/security.md: `make security-report`; a test fails where a table is stale.

A file NAME.json has `measured`, `columns` and `rows`; the page has two marks for it, and between them the table.
"""

import json
import re
import sys

from support.pages import ROOT

PAGE = ROOT / "docs" / "security.md"
FIGURES = ROOT / "docs" / "figures"
_MARKS = re.compile(r"(<!-- figures: (?P<name>[\w-]+): begin -->\n).*?(<!-- figures: (?P=name): end -->\n)", re.DOTALL)


def table(text):
    """The table of a file's text, or that nothing is measured where there is no file."""
    if text is None:
        return "Not measured."
    figures = json.loads(text)
    rows, columns = figures["rows"], figures["columns"]
    if wrong := [row for row in rows if len(row) != len(columns)]:
        raise ValueError(f"expected {len(columns)} cells in each row, got {wrong[0]}")
    numeric = [bool(rows) and all(isinstance(row[n], int | float) for row in rows) for n in range(len(columns))]
    lines = [
        columns,
        ["---:" if each else "---" for each in numeric],
        *([_cell(value) for value in row] for row in rows),
    ]
    return "\n".join([f"{figures['measured']}:", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _cell(value):
    return f"{value:,}" if isinstance(value, int | float) else value.replace("|", "\\|")


def filled(page, read):
    """A page with its tables made anew; `read` gives the text of a name's figures, or None."""
    return _MARKS.sub(lambda found: f"{found[1]}\n{table(read(found['name']))}\n\n{found[3]}", page)


def names(page):
    """The names that the page has marks for."""
    return [found["name"] for found in _MARKS.finditer(page)]


def read_figures(name):
    """The text of a file of figures; None where there is none."""
    path = FIGURES / f"{name}.json"
    return path.read_text("utf-8") if path.exists() else None


if __name__ == "__main__":
    before = PAGE.read_text("utf-8")
    PAGE.write_text(after := filled(before, read_figures), "utf-8")
    how = "as they were" if after == before else "made anew"
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {len(names(after))} tables, {how}\n")

"""The figures of docs/security.md that tests make, collected from these tests.

    PYTHONPATH=tests .venv/bin/python -m support.security_figures

runs the tests of `TESTS`, or those files that are named, prints their figures as JSON, {name: {row: {column:
number}}}, and puts each name into docs/figures, where `make security-report` finds it. As a pytest plugin, this module
gives tests the fixture `figure`, and writes what they noted into the file that `--figures` names.
"""

import argparse
import collections
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.pages import ROOT
from support.security_page import FIGURES, read_figures

TESTS = (
    "tests/hostile/test_cancellation.py",
    "tests/hostile/test_faults.py",
    "tests/hostile/test_breaking.py",
    "tests/hostile/test_canaries.py",
    "tests/hostile/test_remembered.py",
)
"""The tests that make figures."""
FIRST = {
    "cancellation": "what is cancelled",
    "memory": "what runs out of memory",
    "faults": "what fails",
    "breaking": "whose connection breaks",
    "secrets": "what is run",
    "remembered": "whose secret",
}
"""The head of the column of a table's rows."""

# --- the plugin ---


def pytest_addoption(parser):
    parser.addoption("--figures", metavar="FILE", help="write the figures that the tests make into a file, as JSON")


def pytest_configure(config):
    if path := config.getoption("figures"):
        config.pluginmanager.register(_Collector(Path(path)))


class _Collector:
    def __init__(self, path):
        self._path, self._figures = path, collections.defaultdict(dict)

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            for name, value in report.user_properties:
                if name == "figure":
                    table, row, columns = value
                    self._figures[table][row] = columns

    def pytest_sessionfinish(self):
        self._path.write_text(json.dumps(self._figures, indent=2) + "\n", "utf-8")


@pytest.fixture
def figure(record_property):
    """Notes figures of a test: `figure(table, row, column=number)`; `_` in a column's name is a space."""

    def note(table, row, **columns):
        record_property("figure", [table, row, {name.replace("_", " "): value for name, value in columns.items()}])

    return note


# --- the files ---


def rows_of(name):
    """The names of the rows of a file of figures."""
    return [row[0] for row in json.loads(read_figures(name))["rows"]]


def collect(tests=TESTS):
    """Run the tests, and return their figures: {table: {row: {column: number}}}.

    Raises:
        subprocess.CalledProcessError: A test failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        options = ["-q", "-p", "no:cacheprovider", "-k", "not the_page_has", "--figures", str(path)]
        subprocess.run([sys.executable, "-m", "pytest", *options, *tests], cwd=ROOT, check=True, stdout=sys.stderr)
        return summed(json.loads(path.read_text("utf-8")))


def summed(figures):
    """The figures, with a row for all cancellations together in place of the places at which they were made."""
    places = figures.pop("places", {})
    if rows := figures.get("cancellation"):
        every = {column: sum(row[column] for row in rows.values()) for column in next(iter(rows.values()))}
        every["places"] = len({tuple(place) for row in places.values() for place in row["places"]})
        rows["all"] = every
    return figures


def filed(name, rows, measured):
    """A table as a file of figures has it, its columns in the order of the first row."""
    columns = list(next(iter(rows.values())))
    cells = [[row, *(figures[column] for column in columns)] for row, figures in rows.items()]
    return {"measured": measured, "columns": [FIRST.get(name, "what"), *columns], "rows": cells}


def main():
    parser = argparse.ArgumentParser(
        prog="python -m support.security_figures", description="Make the figures of docs/security.md that tests make."
    )
    parser.add_argument("tests", nargs="*", default=TESTS, help=f"files of tests; {', '.join(TESTS)} if none is named")
    options = parser.parse_args()
    if absent := [name for name in options.tests if not (ROOT / name.partition("::")[0]).is_file()]:
        parser.error(f"there is no file {', '.join(absent)}")
    figures = collect(options.tests)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    day = dt.datetime.now(dt.UTC).date()
    measured = f"{day}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors"
    FIGURES.mkdir(exist_ok=True)
    for name, rows in figures.items():
        text = json.dumps(filed(name, rows, measured), indent=2, ensure_ascii=False)
        (FIGURES / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()

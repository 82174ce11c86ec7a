"""Writes docs/figures/uncovered.json: the lines of the engine that a run of tests under coverage did not run.

`python -m support.uncovered REPORT` takes a report that `coverage json` or pytest's `--cov-report=json:REPORT` wrote.
"""

import datetime as dt
import json
import pathlib
import platform
import sys

from machine_mutants import pattern_of
from support.security_page import FIGURES

COLUMNS = ["file", "statements", "not run", "lines"]


def ranges(lines):
    """Lines as people write them: `3, 7-9`."""
    parts = []
    for line in sorted(lines):
        if parts and parts[-1][1] == line - 1:
            parts[-1][1] = line
        else:
            parts.append([line, line])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def rows(report):
    """A row for each file of the engine that has such lines, and one for all of its files."""
    found, total = [], [0, 0]
    for path, said in sorted(report["files"].items()):
        file = path.replace("\\", "/").partition("acredssp/")[2]
        if pattern_of(file) or file.startswith("wire/"):
            statements, missing = said["summary"]["num_statements"], said["missing_lines"]
            total = [total[0] + statements, total[1] + len(missing)]
            if missing:
                found.append([f"`{file}`", statements, len(missing), ranges(missing)])
    return [*found, ["all", *total, ""]]


def main(path):
    """Write the figures of a report."""
    report = json.loads(pathlib.Path(path).read_text("utf-8"))
    table = {
        "measured": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, Python {platform.python_version()}, by the quick tests; "
        "tests with an event loop, a process or a peer run more",
        "columns": COLUMNS,
        "rows": rows(report),
    }
    (FIGURES / "uncovered.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])

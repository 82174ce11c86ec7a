"""The rows of CPU again, on the engine that `make compiled` compiled: each group runs in a process of its own.

`python -m benchmarks.compiled GROUP MODE` is such a process; it prints its results as JSON.
"""

import json
import os
import subprocess
import sys

from rich.console import Console

from benchmarks import bulk, crowd, inmemory, instructions, loopback
from benchmarks.compiled_build import FOLDER, ROOT, missing
from benchmarks.harness import LOOPS, SIZES, Results, Row, Size, Watch, environment

GROUPS = {
    "inmemory": (inmemory.measure, len(inmemory.SETTINGS)),
    "crowd": (crowd.measure, crowd.STEPS),
    "facade": (inmemory.measure_facade, 2),
    "loopback": (loopback.measure, 2),
    "bulk": (bulk.measure, len(LOOPS)),
    "instructions": (instructions.measure, 1),
}
MODES = {"bench": "beside"}
"""A mode in which the compiled engine gets less time; in every other both get the same."""


def measure(_size: Size, results: Results, watch: Watch) -> None:
    """Measure every group."""
    why = missing()
    if why:
        results.leave_out("the compiled engine", why)
    for group in GROUPS:
        watch.step(f"compiled engine: {group}")
        if not why:
            rows, left_out = found(group, MODES.get(results.mode, results.mode))
            results.compiled += rows
            results.left_out += [each for each in left_out if each not in results.left_out]
        watch.done()


def found(group: str, mode: str) -> tuple[list[Row], list[dict[str, str]]]:
    """Return a group's rows and what was left out of it."""
    run = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "benchmarks.compiled", group, mode],
        env=os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(map(str, (FOLDER, ROOT)))},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode:
        raise RuntimeError(f"the compiled engine could not be measured: {run.stderr[-2000:]}")
    said = json.loads(run.stdout)
    if said["environment"]["build"] != "compiled":
        raise RuntimeError(f"{FOLDER} has no compiled engine")
    return [Row.from_json(row) for row in said["rows"]], said["left_out"]


def _print(group: str, mode: str) -> None:
    results = Results(mode, environment())
    measure_group, steps = GROUPS[group]
    with Watch(Console(quiet=True), steps) as watch:
        measure_group(SIZES[mode], results, watch)
    json.dump(results.as_json(), sys.stdout)


if __name__ == "__main__":
    _print(sys.argv[1], sys.argv[2])

"""Measure everything, show the figures, and write them to `benchmarks/report`.

    python -m benchmarks                    takes under five minutes
    python -m benchmarks --mode full        makes more rounds and more rows
    python -m benchmarks --only memory      measures one group of rows

The exit status is 0 if everything was measured, whatever the verdicts, and 2 if the command line is wrong. To have a
run fail for its figures, use `python -m benchmarks.check`.
"""

import argparse
import pathlib
import sys

from rich.console import Console

from benchmarks import (
    attackers,
    bulk,
    compiled,
    crowd,
    inmemory,
    instructions,
    lags,
    loopback,
    memory,
    misses,
    relay,
    report,
    resumption,
    stages,
    storm,
    workers,
)
from benchmarks.harness import LOOPS, SIZES, Results, Watch, environment, raise_file_limit

GROUPS = {
    "inmemory": (inmemory.measure, len(inmemory.SETTINGS)),
    "crowd": (crowd.measure, crowd.STEPS),
    "facade": (inmemory.measure_facade, 2),
    "loopback": (loopback.measure, len(LOOPS)),
    "lags": (lags.measure, 1 + len(LOOPS)),
    "memory": (memory.measure, len(memory.CASES)),
    "bulk": (bulk.measure, len(LOOPS)),
    "relay": (relay.measure, len(LOOPS)),
    "attackers": (attackers.measure, len(attackers.KINDS)),
    "instructions": (instructions.measure, 1),
    "misses": (misses.measure, 1),
    "compiled": (compiled.measure, len(compiled.GROUPS)),
    "stages": (stages.measure, 2),
    "workers": (workers.measure, 1),
    "storm": (storm.measure, 1),
    "resumption": (resumption.measure, len(resumption.SETTINGS)),
}
"""Each group of rows, and the steps that its progress has."""

WIDTH = 200
"""Of a table that goes into a file."""


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mode", choices=SIZES, default="bench", help="how much to measure; quick only shows that the harness works"
    )
    parser.add_argument(
        "--only", action="append", choices=GROUPS, help="measure only this group of rows; may be given several times"
    )
    parser.add_argument("--output", type=pathlib.Path, default=report.FOLDER)
    options = parser.parse_args()
    raise_file_limit()
    console, results = Console(width=None if sys.stdout.isatty() else WIDTH), Results(options.mode, environment())
    chosen = {name: group for name, group in GROUPS.items() if not options.only or name in options.only}
    for name in GROUPS.keys() - chosen.keys():
        results.leave_out(name, "not asked for")
    with Watch(console, sum(steps for _, steps in chosen.values())) as watch:
        for measure, _ in chosen.values():
            measure(SIZES[options.mode], results, watch)
    plots = _draw(results, options.output)
    report.write(results, options.output)
    report.show(results, console)
    console.print(f"{options.output}: results.json, table.md", *[f"{name}.svg and .png" for name in plots], sep=", ")
    return 0


def _draw(results: Results, folder: pathlib.Path) -> list[str]:
    try:
        from benchmarks import plots  # noqa: PLC0415 - matplotlib takes a second, and may be missing
    except ImportError as error:
        results.leave_out("plots", f"{error.name} is missing: pip install 'acredssp[bench]'")
        return []
    folder.mkdir(parents=True, exist_ok=True)
    return plots.draw(results, folder)


if __name__ == "__main__":
    sys.exit(main())

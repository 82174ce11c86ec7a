"""Check that nothing got more expensive: `make bench-check`.

The instructions and the simulated cache misses above TLS, interpreted and compiled, must stay within a margin of
`baseline.json`. The instructions of the SSPI functions must stay within a tenth of the engine's. The counts are the
same on every run, but only for the versions of Python, OpenSSL and cryptography that the baseline names: with other
versions they are shown, and fail nothing. The parts of them that are outside of OpenSSL and the C library are the same
beside every release of these, and fail the check wherever the bytecode is that of the baseline: with any Python of the
same minor version. This also checks a few ratios of CPU, and the logons that a server keeps beside an attacker
(`attackers`), against bounds so wide that no busy machine reaches them.

    python -m benchmarks.check                  exits with 0 if every gate holds, and with 1 if one does not
    python -m benchmarks.check --part counts    checks what no other program on the machine changes
    python -m benchmarks.check --part times     checks the rest
    python -m benchmarks.check --record         counts, and writes the baseline

Without valgrind, or without `make compiled`, gates on counts are skipped by name. In continuous integration (CI=true,
or ACREDSSP_NO_SKIPS=1), a skip is a failure.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable

from rich.console import Console

from benchmarks import attackers, compiled, compiled_build, facade, inmemory, instructions, misses
from benchmarks.harness import SIZES, TRIPLE, Results, Row, Size, Watch, environment, skips_are_failures
from benchmarks.peers import KeyType

_QUIET = Console(quiet=True)
BASELINE = pathlib.Path(__file__).parent / "baseline.json"
MARGINS = {"million": 0.05, "thousand": 0.1}
"""The margins of instructions and of cache misses, by the rows' unit. Each is more than the few per mille by which the
garbage collector and TLS's random numbers move a count, and less than any regression that matters."""

BOUNDS = {
    "cpu.rsa.1.3.ntlm.both": 2.2,
    "cpu.rsa.1.3.spnego.both": 2.4,
    "pyspnego.tuned": 1.4,
    "pyspnego.shared": 2.2,
    "pyspnego.default": 3.0,
    "attackers.tiny": 0.25,
    "attackers.tiny12": 0.25,
    "attackers.fragments": 1.0,
    "attackers.hellos": 0.5,
    "attackers.hellos_nowait": 0.25,
    "attackers.garbage": 0.5,
    "attackers.connect": 0.25,
    "messages.ntlm.to_server": 4,
    "messages.ntlm.to_client": 3,
    "messages.spnego.to_server": 5,
    "messages.spnego.to_client": 4,
}
"""The bounds: the most, or the least where more is better. Each is about halfway to a figure that would be a
scandal."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """One condition that must hold."""

    what: str
    figure: float
    bound: float
    at_most: bool = True
    counts: bool = True
    """Whether the gate fails the run if it does not hold."""

    @property
    def holds(self) -> bool:
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FAILS" if self.counts else "would fail on the baseline's versions"
        return (
            f"{self.what}: {self.figure:.3f}, {'at most' if self.at_most else 'at least'} {self.bound:.3f}: {verdict}"
        )


def of_row(row: Row) -> Gate:
    return Gate(row.what, row.figure.median, BOUNDS[row.key], row.at_most)


def of_counts(rows: list[Row], build: str) -> list[Gate]:
    """Compare each count of a build with the baseline, which must hold for its versions (`holds_here`) to fail it."""
    baseline, gates = _baseline(), []
    for row in rows:
        most = baseline[row.unit][build][row.key] * (1 + MARGINS[row.unit])
        gates.append(Gate(f"{row.what}, {build}, {row.unit}", row.figure.median, most, counts=holds_here(row)))
    return gates


def holds_here(row: Row) -> bool:
    """Return whether the baseline's count holds for the versions that are here."""
    return on_baseline() or (row.key.endswith(instructions.OWN) and _same_bytecode())


def _same_bytecode() -> bool:
    """Return whether Python's version is the baseline's up to its last part, in which the bytecode does not change."""
    ours, theirs = (str(versions["python"]).split(".")[:2] for versions in (triple(), _baseline()["environment"]))
    return ours == theirs


def _baseline() -> dict:
    return json.loads(BASELINE.read_text("utf-8"))


def on_baseline() -> bool:
    """Return whether the versions are those for which the baseline's counts hold."""
    return _baseline()["environment"] == triple()


def triple() -> dict[str, str | int]:
    found = environment()
    return {name: found[name] for name in TRIPLE}


def record(rows: dict[str, list[Row]]) -> None:
    """Write the baseline of each build."""
    counts = {
        unit: {
            build: {row.key: round(row.figure.median, 3) for row in found if row.unit == unit}
            for build, found in rows.items()
        }
        for unit in MARGINS
    }
    BASELINE.write_text(json.dumps({"environment": triple()} | counts, indent=1) + "\n", "utf-8")


def of_facade(kind: KeyType) -> Gate:
    """Compare the instructions of the SSPI functions with the engine's; the figures are the same on every run."""
    what = f"instructions of the SSPI functions over the engine, {kind}"
    return Gate(what, facade.counted(kind), facade.GOAL, counts=on_baseline())


PARTS = ("counts", "times")
"""What no load on the machine changes, and what is measured alone."""


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, help="only the counts, or only the rest")
    parser.add_argument(
        "--record", action="store_true", help="count instructions and cache misses, and write the baseline"
    )
    options = parser.parse_args()
    console = Console()
    gates: list[Gate] = []
    skipped: list[str] = []
    if options.part != "times" or options.record:
        counted, gates, skipped = _count(console)
        if options.record:
            record(counted)
            return 0
    if options.part != "counts":
        gates += _measure(console)
    for gate in gates:
        console.print(str(gate), soft_wrap=True)
    for what in skipped:
        console.print(f"skipped: {what}", soft_wrap=True)
    failed = any(gate.counts and not gate.holds for gate in gates) or (skipped and skips_are_failures())
    return 1 if failed else 0


def _count(console: Console) -> tuple[dict[str, list[Row]], list[Gate], list[str]]:
    """Return the counts of each build, the gates on counts, and what was left out. Each core counts something."""
    if not shutil.which("valgrind"):
        return {}, [], [f"instructions and cache misses: {instructions.MISSING}"]
    console.print("instructions and cache misses")
    why = compiled_build.missing()
    cores = len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:  # valgrind's processes do the work
        cold = pool.submit(_results, misses.measure)  # first: it takes longest
        interpreted = pool.submit(_results, instructions.measure)
        compiled_ones = None if why else pool.submit(compiled.found, "instructions", "bench")
        gates = list(pool.map(of_facade, ("rsa", "ec")))
    counted = {"interpreted": interpreted.result().rows + cold.result().rows}
    if compiled_ones:
        counted["compiled"] = compiled_ones.result()[0] + cold.result().compiled
    if not on_baseline():
        console.print(
            f"the baseline holds for {_baseline()['environment']}, and this machine has {triple()}: "
            f"{'only the counts without OpenSSL' if _same_bytecode() else 'no count'} can fail the check"
        )
    gates = [gate for build, rows in counted.items() for gate in of_counts(rows, build)] + gates
    return counted, gates, [f"instructions and cache misses of the compiled engine: {why}"] if why else []


def _measure(console: Console) -> list[Gate]:
    """Return the gates on ratios of time."""
    rows = _results(inmemory.measure, console, len(inmemory.SETTINGS)).rows
    rows += _results(attackers.measure, console, len(attackers.KINDS)).rows
    return [of_row(row) for row in rows if row.key in BOUNDS]


def _results(measure: Callable[[Size, Results, Watch], None], console: Console = _QUIET, steps: int = 1) -> Results:
    results = Results("check", environment())
    with Watch(console, steps) as watch:
        measure(dataclasses.replace(SIZES["bench"], rounds=5), results, watch)
    return results


if __name__ == "__main__":
    sys.exit(main())

"""Check that nothing got more expensive: `make bench-check`.

The instructions and the simulated cache misses above TLS, interpreted and compiled, must stay within a margin of
`baseline.json`. The instructions of the SSPI functions must stay within a tenth of the engine's. The counts are the
same on every run, but only for the versions of Python, OpenSSL and cryptography that the baseline names: with other
versions they are shown, and fail nothing. The parts of them that are outside of OpenSSL and the C library are the same
beside every release of these, and fail the check wherever the bytecode is that of the baseline: with any Python of the
same minor version. This also checks a few ratios of CPU, and the logons that a server keeps beside an attacker
(`attackers`), against bounds so wide that no busy machine reaches them.

    python -m benchmarks.check              exits with 0 if every gate holds, and with 1 if one does not
    python -m benchmarks.check --record     counts, and writes the baseline

Without valgrind, or without `make compiled`, gates on counts are skipped by name. In continuous integration (CI=true,
or ACREDSSP_NO_SKIPS=1), a skip is a failure.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import pathlib
import shutil
import sys
from collections.abc import Callable

from rich.console import Console

import acredssp
from benchmarks import attackers, compiled, compiled_build, facade, inmemory, instructions, misses
from benchmarks.harness import SIZES, TRIPLE, Results, Row, Size, Watch, environment, skips_are_failures
from benchmarks.peers import NAME, KeyType

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


def of_facade() -> list[Gate]:
    """Compare the instructions of the SSPI functions with the engine's; the figures are the same on every run."""

    def gate(kind: KeyType) -> Gate:
        [ratio] = facade.counted(acredssp.self_signed([NAME], kind))
        what = f"instructions of the SSPI functions over the engine, {kind}"
        return Gate(what, ratio, facade.GOAL, counts=on_baseline())

    with concurrent.futures.ThreadPoolExecutor() as pool:  # valgrind's processes do the work
        return list(pool.map(gate, ("rsa", "ec")))


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--record", action="store_true", help="count instructions and cache misses, and write the baseline"
    )
    options = parser.parse_args()
    console, size = Console(), dataclasses.replace(SIZES["bench"], rounds=5)
    gates, skipped, counted = [], [], {}
    if not shutil.which("valgrind"):
        skipped.append(f"instructions and cache misses: {instructions.MISSING}")
    else:
        counted["interpreted"] = _rows(console, instructions.measure, size, 1)
        cold = _results(console, misses.measure, size, 1)
        counted["interpreted"] += cold.rows
        if why := compiled_build.missing():
            skipped.append(f"instructions and cache misses of the compiled engine: {why}")
        else:
            counted["compiled"] = compiled.found("instructions", "bench")[0] + cold.compiled
    if options.record:
        record(counted)
        return 0
    if counted:
        if not on_baseline():
            console.print(
                f"the baseline holds for {_baseline()['environment']}, and this machine has {triple()}: "
                f"{'only the counts without OpenSSL' if _same_bytecode() else 'no count'} can fail the check"
            )
        gates += [gate for build, rows in counted.items() for gate in of_counts(rows, build)]
        gates += of_facade()
    rows = _rows(console, inmemory.measure, size, len(inmemory.SETTINGS))
    rows += _rows(console, attackers.measure, size, len(attackers.KINDS))
    gates += [of_row(row) for row in rows if row.key in BOUNDS]
    for gate in gates:
        console.print(str(gate), soft_wrap=True)
    for what in skipped:
        console.print(f"skipped: {what}", soft_wrap=True)
    failed = any(gate.counts and not gate.holds for gate in gates) or (skipped and skips_are_failures())
    return 1 if failed else 0


def _rows(console: Console, measure: Callable[[Size, Results, Watch], None], size: Size, steps: int) -> list[Row]:
    return _results(console, measure, size, steps).rows


def _results(console: Console, measure: Callable[[Size, Results, Watch], None], size: Size, steps: int) -> Results:
    results = Results("check", environment())
    with Watch(console, steps) as watch:
        measure(size, results, watch)
    return results


if __name__ == "__main__":
    sys.exit(main())

"""What may not get worse: `make bench-check`.

Instructions above TLS must stay within a margin of `baseline.json`. They are the same on every run, but only for the
(Python, OpenSSL, cryptography) that the baseline names: on any other they are shown, and nothing fails. A few ratios
are held, too, against bounds so wide that no busy machine reaches them.

    python -m benchmarks.check              exit status 0: every gate holds; 1: one does not
    python -m benchmarks.check --record     write the baseline

Without valgrind the instruction gates are skipped by name; in continuous integration (CI=true, or ACREDSSP_NO_SKIPS=1)
that is a failure.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import sys

from rich.console import Console

from benchmarks import inmemory, instructions
from benchmarks.harness import SIZES, TRIPLE, Results, Row, Watch, environment

BASELINE = pathlib.Path(__file__).parent / "baseline.json"
MARGIN = 0.05
"""More than the few per mille by which gc and the random numbers of TLS move a count; less than any regression that
matters."""

BOUNDS = {
    "cpu.rsa.1.3.ntlm.both": 2.0,
    "cpu.rsa.1.3.spnego.both": 2.4,
    "pyspnego.tuned": 1.4,
    "pyspnego.shared": 2.2,
    "pyspnego.default": 3.0,
    "facade.rsa": 1.25,
    "facade.ec": 1.25,
    "messages.ntlm.to_server": 4,
    "messages.ntlm.to_client": 3,
    "messages.spnego.to_server": 5,
    "messages.spnego.to_client": 4,
}
"""Most, or least where more is better: halfway back to where a figure would be a scandal."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """One thing that must hold."""

    what: str
    figure: float
    bound: float
    at_most: bool = True
    counts: bool = True
    """Whether it fails the run."""

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


def of_instructions(rows: list[Row], baseline: dict) -> list[Gate]:
    """Hold each count against the baseline; on other versions than its own nothing counts."""
    counts = baseline["environment"] == triple()
    return [
        Gate(f"{row.what}, million", row.figure.median, baseline["million"][row.key] * (1 + MARGIN), counts=counts)
        for row in rows
        if row.key in baseline["million"]
    ]


def triple() -> dict[str, str | int]:
    found = environment()
    return {name: found[name] for name in TRIPLE}


def skips_are_failures() -> bool:
    return os.environ.get("ACREDSSP_NO_SKIPS", "") not in {"", "0"} or os.environ.get("CI", "") in {"1", "true"}


def record(rows: list[Row]) -> None:
    """Write the baseline."""
    million = {row.key: round(row.figure.median, 3) for row in rows}
    BASELINE.write_text(json.dumps({"environment": triple(), "million": million}, indent=1) + "\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="count, and write the baseline")
    options = parser.parse_args()
    console, counted, timed = Console(), Results("check", environment()), Results("check", environment())
    size = dataclasses.replace(SIZES["bench"], rounds=5, handshakes=20)
    with Watch(console, 1) as watch:
        instructions.measure(size, counted, watch)
    if options.record:
        record(counted.rows)
        return 0 if counted.rows else 1
    with Watch(console, len(inmemory.SETTINGS) + 2) as watch:
        inmemory.measure(size, timed, watch)
        inmemory.measure_facade(size, timed, watch)
    baseline = json.loads(BASELINE.read_text("utf-8"))
    if baseline["environment"] != triple():
        console.print(f"the baseline is of {baseline['environment']}, this is {triple()}: instructions fail nothing")
    gates = of_instructions(counted.rows, baseline) + [of_row(row) for row in timed.rows if row.key in BOUNDS]
    for gate in gates:
        console.print(str(gate), soft_wrap=True)
    failed = any(gate.counts and not gate.holds for gate in gates)
    if shutil.which("valgrind") is None:
        console.print(f"skipped: instructions above TLS: {instructions.MISSING}")
        failed = failed or skips_are_failures()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

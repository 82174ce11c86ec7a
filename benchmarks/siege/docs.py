"""The figures of a run for docs/security.md: `make security-report` makes its tables of them."""

import json
import pathlib
import time
from collections.abc import Iterator

from benchmarks import report
from benchmarks.harness import Figure, Results
from benchmarks.siege.attackers import ATTACKS
from benchmarks.siege.crowds import CROWDS
from benchmarks.siege.servers import OURS

__all__ = ["into_docs", "tables"]

FOLDER = report.DOCS / "figures"
SAID = ("python", "openssl", "uvloop", "cpu", "cores", "slice", "load")
"""What is said of the environment; the load is that of the minute before the run, by other programs."""
_NONE = "-"

Table = dict[str, str | list[str] | list[list[str]]]


def tables(results: Results) -> dict[str, Table]:
    """Return the tables by their names on the page; those without a row are left out."""
    figures = {row.key: row.figure for row in results.rows}
    measured = f"{time.strftime('%Y-%m-%d')}, " + ", ".join(f"{name} {results.environment[name]}" for name in SAID)
    made = {
        "siege": (["attack", "loop, build", *OURS, "bare TLS"], [*_rows(ATTACKS, "", figures, _share)]),
        "siege-memory": (
            ["attack", "loop, build", *OURS, "bare TLS"],
            [*_rows(CROWDS, ".memory", figures, _kibibytes)],
        ),
        "siege-leaks": (["server", "handshakes", "bytes", "95 %"], [*_leaks(results)]),
    }
    return {
        name: {"measured": measured, "columns": columns, "rows": rows} for name, (columns, rows) in made.items() if rows
    }


def _rows(attacks, suffix, figures, said) -> Iterator[list[str]]:
    for attack in attacks:
        for build in ("interpreted", "compiled"):
            for loop in ("asyncio", "uvloop"):
                ours = [figures.get(f"siege.{attack}.{kind}.{loop}.{build}{suffix}") for kind in OURS]
                bare = figures.get(f"siege.{attack}.tls.{loop}.interpreted{suffix}")
                if any(ours):
                    yield [f"`{attack}`", f"{loop}, {build}", *map(said, ours), said(bare)]


def _share(figure: Figure | None) -> str:
    return f"{figure.median:.0%} ({figure.low:.0%} to {figure.high:.0%})" if figure else _NONE


def _kibibytes(figure: Figure | None) -> str:
    return f"{figure.median:.1f}" if figure else _NONE


def _leaks(results: Results) -> Iterator[list[str]]:
    for row in results.rows:
        if row.key.startswith("siege.leak."):
            between = f"{row.figure.low:.1f} to {row.figure.high:.1f}"
            yield [row.what.rpartition(": ")[2], row.note, f"{row.figure.median:.1f}", between]


def into_docs(*folders: pathlib.Path) -> None:
    """Write the tables of a run to docs/figures, or those of several, which have each measured a part."""
    results, *others = map(report.read, folders)
    for other in others:
        results.rows += other.rows
    for name, table in tables(results).items():
        (FOLDER / f"{name}.json").write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", "utf-8")

"""What a run leaves behind: `results.json`, and `table.md` with goal, figure, spread and verdict of every row."""

import json
import pathlib

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Results, Row

HEAD = ("what", "goal", "figure", "spread", "verdict")


def write(results: Results, folder: pathlib.Path) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results.as_json(), indent=1) + "\n", "utf-8")
    (folder / "table.md").write_text(markdown(results), "utf-8")


def markdown(results: Results) -> str:
    """Return environment, table, and what was left out."""
    lines = [", ".join(f"{name} {value}" for name, value in results.environment.items()), ""]
    lines += [_line(HEAD), _line(["---"] * len(HEAD)), *(_line(cells(row)) for row in results.rows)]
    lines += ["", *(f"Left out: {each['what']}: {each['why']}." for each in results.left_out)]
    return "\n".join(lines).rstrip() + "\n"


def _line(row: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(row)} |"


def cells(row: Row) -> tuple[str, str, str, str, str]:
    figure = row.figure
    spread = f"{_number(figure.low)} to {_number(figure.high)}" if figure.rounds > 1 else ""
    note = f" ({row.note})" if row.note else ""
    return row.what, _goal(row), _number(figure.median) + _unit(row) + note, spread, row.verdict


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    reach = f" (reach {row.reach:g})" if row.reach is not None else ""
    return f"{'at most' if row.at_most else 'at least'} {row.goal:g}{_unit(row)}{reach}"


def _unit(row: Row) -> str:
    return "x" if row.unit == "x" else f" {row.unit}" if row.unit else ""


def _number(value: float) -> str:
    """Three digits that count; a whole number as it is."""
    return str(int(value)) if value == int(value) else f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


_COLOURS = {"reached": "bold green", "met": "green", "reported": "dim"}


def show(results: Results, console: Console) -> None:
    """Print the table."""
    table = Table(box=None, padding=(0, 1))
    for name in HEAD:
        table.add_column(name, overflow="fold")
    for row in results.rows:
        *rest, verdict = cells(row)
        table.add_row(*rest, f"[{_COLOURS.get(verdict, 'red')}]{verdict}[/]")
    console.print(table)
    for each in results.left_out:
        console.print(f"left out: {each['what']}: {each['why']}")

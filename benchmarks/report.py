"""What a run leaves behind: `results.json`, and `table.md` with goal, figure, spread and verdict of every row.

python -m benchmarks.report [FOLDER]     put the figures of a run into docs/performance.md, its plots beside it
"""

import json
import pathlib
import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Figure, Results, Row

FOLDER = pathlib.Path(__file__).parent / "report"
DOCS = pathlib.Path(__file__).parent.parent / "docs"
HEAD = ("what", "goal", "figure", "spread", "verdict")


def write(results: Results, folder: pathlib.Path) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results.as_json(), indent=1) + "\n", "utf-8")
    (folder / "table.md").write_text(markdown(results), "utf-8")


def markdown(results: Results) -> str:
    """Return environment, table, and what was left out."""
    lines = [", ".join(f"{name} {value}" for name, value in results.environment.items()), ""]
    lines += _table(HEAD, [cells(row) for row in results.rows])
    if "stages" in results.details:
        lines += ["", *_stages(results.details["stages"])]
    lines += ["", *(f"Left out: {each['what']}: {each['why']}." for each in results.left_out)]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _stages(stages: dict[str, dict]) -> list[str]:
    """Where the time of a handshake goes: microseconds and shares."""
    names = dict.fromkeys(name for found in stages.values() for name in found["stages_us"])
    rows = [
        [name, *(_share(found["stages_us"].get(name, 0.0), found["us"]) for found in stages.values())] for name in names
    ]
    rows.append(["all", *(f"{found['us']:.0f} ({found['samples']} samples)" for found in stages.values())])
    rows.append(
        ["bare TLS", *(f"{found['bare_tls_us']:.0f}" if found["bare_tls_us"] else "" for found in stages.values())]
    )
    return [*_table(["µs of CPU a handshake", *stages], rows), "", *(_above(*each) for each in stages.items())]


def _above(name: str, found: dict) -> str:
    """Say where the rows of CPU that miss their goal miss it: what is above bare TLS, by size."""
    floor = found["bare_tls_us"]
    if not floor:
        return ""
    above = found["stages_us"] | {"TLS besides the handshake": found["stages_us"].get("TLS", 0.0) - floor, "TLS": 0.0}
    largest = sorted(above.items(), key=lambda each: -each[1])
    said = ", ".join(f"{stage} {us:.0f}" for stage, us in largest if us > 0)
    return f"Above bare TLS, {name}, in µs: {said}. What a row of CPU misses is there, the largest first."


def _share(part: float, whole: float) -> str:
    return f"{part:.0f} ({part / whole:.0%})" if part else ""


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


# --- docs/performance.md ---


def read(folder: pathlib.Path) -> Results:
    """Read what `write` wrote."""
    found = json.loads((folder / "results.json").read_text("utf-8"))
    for row in found["rows"]:
        row["figure"] = Figure(**row["figure"])
        del row["verdict"]
    return Results(**found | {"rows": [Row(**row) for row in found["rows"]]})


def into_docs(folder: pathlib.Path) -> None:
    """Put table and plots of a run into the documentation."""
    from benchmarks import plots  # noqa: PLC0415 - only this needs matplotlib

    results, page = read(folder), DOCS / "performance.md"
    pictures = DOCS / "performance"
    pictures.mkdir(exist_ok=True)
    drawn = [f"![{name}](performance/{name}.svg)" for name in plots.draw(results, pictures, ["svg"])]
    text = "\n".join([markdown(results), *drawn])
    marked = re.compile(r"(<!-- figures: .*? -->\n).*(<!-- end of figures -->)", re.DOTALL)
    page.write_text(marked.sub(lambda marks: f"{marks[1]}\n{text}\n\n{marks[2]}", page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    into_docs(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

"""The files of a run: `results.json`, and `table.md` with the goal, figure, spread and verdict of every row.

If the compiled engine was measured too, its figures stand beside the others, with verdicts of their own.

`python -m benchmarks.report [FOLDER]` puts the figures of a run into docs/performance.md, and its plots beside it.
"""

import json
import pathlib
import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Results, Row

FOLDER = pathlib.Path(__file__).parent / "report"
DOCS = pathlib.Path(__file__).parent.parent / "docs"
HEAD = ("what", "goal", "figure", "spread", "verdict")
COMPILED_HEAD = ("compiled", "spread", "verdict")


def write(results: Results, folder: pathlib.Path) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results.as_json(), indent=1) + "\n", "utf-8")
    (folder / "table.md").write_text(markdown(results), "utf-8")


def markdown(results: Results) -> str:
    """Return environment, table, and what was left out."""
    lines = [", ".join(f"{name} {value}" for name, value in results.environment.items()), ""]
    lines += _table(*head_and_rows(results))
    if "stages" in results.details:
        lines += ["", *_stages(results.details["stages"])]
    lines += ["", *(f"Left out: {each['what']}: {each['why']}." for each in results.left_out)]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _stages(stages: dict[str, dict]) -> list[str]:
    """Return where the time of a handshake goes, in microseconds and shares."""
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
    """For rows of CPU that miss their goal, list the costs above bare TLS, the largest first."""
    floor = found["bare_tls_us"]
    if not floor:
        return ""
    above = found["stages_us"] | {"TLS besides the handshake": found["stages_us"].get("TLS", 0.0) - floor, "TLS": 0.0}
    largest = sorted(above.items(), key=lambda each: -each[1])
    said = ", ".join(f"{stage} {us:.0f}" for stage, us in largest if us > 0)
    return f"Above bare TLS, {name}, in µs: {said}. What a row of CPU misses is there, the largest first."


def _share(part: float, whole: float) -> str:
    return f"{part:.0f} ({part / whole:.0%})" if part else ""


def head_and_rows(results: Results) -> tuple[Sequence[str], list[list[str]]]:
    """Return the cells of every row; with the compiled engine's, where it was measured."""
    if not results.compiled:
        return HEAD, [[row.what, _goal(row), *found(row)] for row in results.rows]
    interpreted, compiled = ({row.what: row for row in rows} for rows in (results.rows, results.compiled))
    rows = [
        [
            what,
            _goals(interpreted.get(what), compiled.get(what)),
            *found(interpreted.get(what)),
            *found(compiled.get(what)),
        ]
        for what in interpreted | compiled
    ]
    return (*HEAD, *COMPILED_HEAD), rows


def found(row: Row | None) -> tuple[str, str, str]:
    """Return figure, spread and verdict; empty for a row that was not measured."""
    if row is None:
        return "", "", ""
    figure = row.figure
    spread = f"{_number(figure.low)} to {_number(figure.high)}" if figure.rounds > 1 else ""
    note = f" ({row.note})" if row.note else ""
    return _number(figure.median) + _unit(row) + note, spread, row.verdict


def _goals(interpreted: Row | None, compiled: Row | None) -> str:
    goals = [_goal(row) for row in (interpreted, compiled) if row is not None]
    return "; compiled ".join(dict.fromkeys(goals))


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    reach = f" (reach {row.reach:g})" if row.reach is not None else ""
    return f"{'at most' if row.at_most else 'at least'} {row.goal:g}{_unit(row)}{reach}"


def _unit(row: Row) -> str:
    return "x" if row.unit == "x" else f" {row.unit}" if row.unit else ""


def _number(value: float) -> str:
    """Return a number with three significant digits; a whole number unchanged."""
    return str(int(value)) if value == int(value) else f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


_COLOURS = {"reached": "bold green", "met": "green", "reported": "dim"}


def show(results: Results, console: Console) -> None:
    """Print the table."""
    table = Table(box=None, padding=(0, 1))
    head, rows = head_and_rows(results)
    for name in head:
        table.add_column(name, overflow="fold")
    verdicts = [number for number, name in enumerate(head) if name == "verdict"]
    for row in rows:
        for number in verdicts:
            row[number] = f"[{_COLOURS.get(row[number], 'red')}]{row[number]}[/]"
        table.add_row(*row)
    console.print(table)
    for each in results.left_out:
        console.print(f"left out: {each['what']}: {each['why']}")


# --- docs/performance.md ---


def read(folder: pathlib.Path) -> Results:
    """Read what `write` wrote."""
    found = json.loads((folder / "results.json").read_text("utf-8"))
    rows = {build: [Row.from_json(row) for row in found[build]] for build in ("rows", "compiled")}
    return Results(**found | rows)


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

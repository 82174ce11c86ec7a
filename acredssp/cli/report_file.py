"""A report of `acredssp doctor` as text again, for whoever got it as a file.

The file may be a stranger's: what is not of the report's form is left out, and what is printed has no control
character.
"""

import contextlib
import json
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from acredssp.cli.render import printable

__all__ = ["report_of", "show"]

_MOST: Final = 200
"""Rows of a table, and findings of a list."""
_MOST_TEXT: Final = 2_000


def report_of(text: str | bytes) -> dict[str, Any] | None:
    """Return the object of a report's file; None for any other file."""
    with contextlib.suppress(ValueError, RecursionError):
        facts = json.loads(text)
        if isinstance(facts, dict) and {"stages", "timeline", "causes"} <= facts.keys():
            return facts
    return None


def show(out: Console, report: dict[str, Any], *, as_json: bool = False) -> None:
    """Print a report.

    Args:
        out: Where to.
        report: The object of the file.
        as_json: Whether to print the object itself.
    """
    if as_json:
        print(json.dumps(report))  # noqa: T201
        return
    line = (
        f"a report of acredssp doctor: {_text(report, 'account')} at {_text(report, 'target')}, {_text(report, 'time')}"
    )
    out.print(Text(line), soft_wrap=True)
    login = report.get("login")
    facts = login if isinstance(login, dict) else {}
    message = f": {_text(facts, 'message')}" if facts.get("message") else ""
    out.print(Text.assemble("the logon ended with ", (_text(report, "result"), "bold"), message), soft_wrap=True)
    _table(out, _rows(report, "stages"), ("stage", "expected", "came"))
    _table(out, _rows(report, "timeline"), ("ms", "received", "sent", "waits_for", "asks"))
    _table(out, _rows(report, "tickets"), ("server", "ticket_enctype", "session_enctype", "ends"))
    _findings(out, "Causes of the failure:", _rows(report, "causes"))
    _findings(out, "Also found:", _rows(report, "also"))


def _rows(report: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = report.get(key)
    return [each for each in value if isinstance(each, dict)][:_MOST] if isinstance(value, list) else []


def _text(facts: dict[str, Any], key: str) -> str:
    value = facts.get(key)
    return "-" if value is None or value == "" else printable(str(value)[:_MOST_TEXT])


def _table(out: Console, rows: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    if not rows:
        return
    table = Table(box=None, padding=(0, 1))
    for key in keys:
        table.add_column(key.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(row, key)) for key in keys))
    out.print()
    out.print(table)


def _findings(out: Console, heading: str, findings: list[dict[str, Any]]) -> None:
    if not findings:
        return
    out.print(f"\n{heading}")
    for each in findings:
        out.print(Text(f"  {_text(each, 'severity')} {_text(each, 'id')}: {_text(each, 'text')}"), soft_wrap=True)
        out.print(Text(f"    {_text(each, 'next_step')}"), soft_wrap=True)

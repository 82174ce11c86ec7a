"""The texts for people: consoles, the card of a logon, the sentence about a failure.

Text from a peer is made printable before it reaches a terminal, and no line is broken inside a pin. Styles are passed
apart from the text: rich's markup would find styles, emoji and escape sequences in a peer's names.
"""

import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from acredssp.cli.outcome import Result, advice, result_of
from acredssp.cli.report import Report
from acredssp.errors import CredSSPError

__all__ = ["card", "consoles", "failure", "label", "note", "printable", "usage", "warning"]

_STYLE_OF = {
    Result.SUCCESS: "bold green",
    Result.DENIED: "bold red",
    Result.PROTOCOL_ERROR: "bold magenta",
    Result.NETWORK_ERROR: "bold yellow",
    Result.TIMEOUT: "bold yellow",
    Result.USAGE: "bold red",
    Result.INTERRUPTED: "bold yellow",
}


def consoles() -> tuple[Console, Console]:
    """Make the consoles for the current standard output and standard error."""
    return _console(sys.stdout), _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, emoji=False)


def printable(text: str) -> str:
    """Return `text` with every control character escaped, so that a peer's name cannot move the cursor."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def label(result: Result, behind: str = "") -> tuple[str, str]:
    """Return a result's word and its style, as `Text.assemble` takes them.

    Args:
        result: The result.
        behind: Text that follows the word in the same style.
    """
    return result.value.replace("_", " ") + behind, _STYLE_OF[result]


def warning(console: Console, text: str) -> None:
    """Print one line of warning."""
    console.print(Text.assemble(("warning:", "yellow"), f" {text}"), soft_wrap=True)


def note(console: Console, text: str) -> None:
    """Print one line that is no warning."""
    console.print(Text(printable(text), "dim"), soft_wrap=True)


def usage(console: Console, report: Report) -> None:
    """Print what is wrong with the command line, and how to correct it."""
    what = f" {printable(report.message or '')}\n  {report.hint or ''}"
    console.print(Text.assemble(label(Result.USAGE, ":"), what), soft_wrap=True)


def failure(console: Console, error: CredSSPError) -> None:
    """Print what failed, and what to do about it."""
    where = f" at {error.stage}:" if error.stage else ":"
    what = f" {printable(error.message)}\n  {printable(advice(error))}"
    console.print(Text.assemble(label(result_of(error), where), what), soft_wrap=True)


def card(console: Console, title: str, facts: dict[str, str]) -> None:
    """Print a headline and, below it, named facts; a SHA-256 fits into 80 columns."""
    console.print(Text.assemble(("✔", _STYLE_OF[Result.SUCCESS]), f" {printable(title)}"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=9)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(f"  {name}", Text(printable(value)))
    console.print(table)

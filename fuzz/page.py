"""Writes the figures of a run into docs/security.md, between the two marks that stand there."""

import dataclasses
import pathlib
import platform
from collections.abc import Sequence
from typing import Final

__all__ = ["Result", "table", "write"]

_BEGIN: Final = "<!-- the figures of make fuzz: begin -->\n"
_END: Final = "<!-- the figures of make fuzz: end -->\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What one run of one target did."""

    target: str
    seconds: float
    runs: int
    """How many inputs were asked for; -1 for as many as the seconds gave."""
    ran: int
    accepted: int
    deep: int
    """Inputs that got past the first checks, the accepted ones among them."""
    edges: int
    found: str
    """The finding's last line; empty for none."""


def table(results: Sequence[Result]) -> str:
    """Return the table of a run's results, as the page has it."""
    lines = [
        "| target | inputs | accepted | past the first checks | edges | found |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for each in results:
        shares = (f"{100 * count / (each.ran or 1):.1f} %" for count in (each.accepted, each.deep))
        lines.append(
            f"| `{each.target}` | {each.ran:,} | {' | '.join(shares)} | {each.edges:,} | {each.found or 'nothing'} |"
        )
    return "\n".join(lines) + "\n"


def write(path: pathlib.Path, results: Sequence[Result]) -> None:
    """Put the results of a run into a page.

    Raises:
        ValueError: The page does not have both marks.
    """
    text = path.read_text("utf-8")
    start, end = text.find(_BEGIN), text.find(_END)
    if not 0 <= start < end:
        raise ValueError(f"{path}: expected the marks {_BEGIN.strip()} and {_END.strip()}")
    first = results[0]
    much = f"{first.seconds:g} seconds" if first.runs < 0 else f"{first.runs:,} inputs, those of the corpus among them,"
    said = f"{much} for each target, Python {platform.python_version()}, {platform.machine()}:\n\n"
    path.write_text(f"{text[:start]}{_BEGIN}\n{said}{table(results)}\n{text[end:]}", "utf-8")

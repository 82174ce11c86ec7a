"""The last column of the page of statuses: what to do about an NTSTATUS, from the hints of `acredssp.hints`.

`make conformance` writes it; tests/test_hints.py fails where it is stale. The other columns are written by hand, and so
are the last ones of statuses that have no hint of their own.
"""

import re

from support.pages import ROOT

from acredssp.hints import hint_on
from acredssp.status import NTSTATUS

PAGE = ROOT / "docs" / "statuses.md"
_ROW = re.compile(r"^(\| <a id=\"(?P<name>STATUS_\w+)\"></a>.* \| )(?P<told>[^|]*)( \|)$", re.MULTILINE)


def page():
    """The page as it ought to be."""
    return _ROW.sub(_row, PAGE.read_text(encoding="utf-8"))


def rows():
    """What to do about each NTSTATUS of the page, by its name."""
    return {row["name"]: row["told"] for row in _ROW.finditer(PAGE.read_text(encoding="utf-8"))}


def _row(row):
    hint = hint_on(NTSTATUS[row["name"]])
    told = row["told"] if hint == hint_on(None) else sentence(hint)
    return f"{row[1]}{told} |"


def sentence(hint):
    """A hint as a sentence of the page, with its options as code."""
    return re.sub(r"(--[a-z-]+(?: kerberos)?)", r"`\1`", f"{hint[0].upper()}{hint[1:]}.")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""The code on the pages of the documentation: fenced blocks, and the indented ones that Markdown takes for code too."""

import dataclasses
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    "README.md",
    "SECURITY.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "index.md"),
]
"""All but the site's first page, whose blocks are lists of pages."""

_FENCE = re.compile(r" *```(\w*)")


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of code."""

    page: str
    line: int
    """The line of the page at which the text begins, from 1."""
    language: str
    """Empty for an indented block."""
    code: str

    @property
    def first(self):
        return self.code.partition("\n")[0].strip()

    def __str__(self):
        return f"{self.page}: {self.first}"

    def compiled(self, flags=0):
        """The code of Python, with the lines of the page in its tracebacks."""
        return compile("\n" * (self.line - 1) + self.code, self.page, "exec", flags)


def blocks_of(page, text):
    """The blocks of a page in their order."""
    lines = text.splitlines()
    at, blank = 0, True
    while at < len(lines):
        start, language = at, ""
        if fence := _FENCE.fullmatch(lines[at]):
            start, language = at + 1, fence[1] or "text"
            at = next(number for number in range(start, len(lines)) if _FENCE.fullmatch(lines[number]))
        elif blank and lines[at].startswith("    ") and lines[at].strip():
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
        if at > start or language:
            yield Block(page, start + 1, language, textwrap.dedent("\n".join(lines[start:at])).rstrip() + "\n")
        at += 1 if language or at == start else 0
        blank = not lines[at - 1].strip()


def blocks():
    """The blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(page, (ROOT / page).read_text(encoding="utf-8"))]

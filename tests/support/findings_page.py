"""The page of all findings, made of the catalogue in `acredssp.diagnosis`.

`make conformance` writes the page; tests/diagnosis/test_catalogue.py fails where it is stale.
"""

import pathlib
import string

from acredssp.diagnosis import CATALOGUE

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "findings.md"

HEAD = """\
# Findings

`acredssp probe` and `acredssp doctor` ([tools.md](tools.md)) tell what is wrong by findings. Each has an id that never
changes, a severity, its facts, a sentence and the next step. A word in italics stands for a fact.
`make conformance` makes this page of the catalogue in `acredssp/diagnosis/catalogue.py`: do not edit it.

| severity | what it means |
| --- | --- |
| high | a known attack works, or no client gets in |
| medium | a weakness, or a fault that stops some clients |
| low | something to know, and no danger in the usual network |
| info | a fact that helps to understand the others |
"""


class _Names(string.Formatter):
    """Shows each fact by its name."""

    def get_value(self, key, _args, _kwargs):
        return f"*{key}*"


def section(kind):
    """The section of one finding; its heading makes the anchor."""
    shown = _Names()
    facts = ", ".join(f"`{name}`" for name in kind.facts) or "none"
    text, step = (shown.format(each) for each in (kind.sentence, kind.next_step))
    return f"## {kind.id}\n\n**{kind.severity}**: {kind.title}. Facts: {facts}.\n\n{text}\n\nNext step: {step}\n"


def page():
    """The page as it ought to be."""
    return HEAD + "".join(f"\n{section(kind)}" for kind in CATALOGUE.values())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

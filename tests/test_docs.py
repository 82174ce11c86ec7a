"""The programs in docs/ run as they stand."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def program(page):
    """The Python blocks of a page, one behind the other, at the lines where they stand."""
    lines, inside = [], False
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        fence = re.fullmatch(r"```(\w*)", line)
        lines.append(line if inside and not fence else "")
        if fence:
            inside = not inside and fence[1] == "python"
    return "\n".join(lines)


@pytest.mark.parametrize("page", ["sansio.md", "turns.md"])
def test_the_blocks_of_a_page_are_one_program(page):
    code = program(page)
    assert code.count("assert ") >= 3
    exec(compile(code, page, "exec"), {"__name__": page})  # noqa: S102 - our own page

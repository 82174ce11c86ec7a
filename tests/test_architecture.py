"""The pictures of the states in docs/architecture.md are the tables of core/states.py."""

import re
from pathlib import Path

import pytest

from acredssp.core.states import CLIENT_MOVES, SERVER_MOVES

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"


@pytest.mark.parametrize(("heading", "moves"), [("Client:", CLIENT_MOVES), ("Server:", SERVER_MOVES)])
def test_the_picture_is_the_table(heading, moves):
    picture = PAGE.read_text(encoding="utf-8").split(f"\n{heading}\n")[1].split("```")[1]
    drawn = set(re.findall(r"(\w+) --> (\w+)", picture))
    assert drawn == {(state.name, target.name) for state, targets in moves.items() for target in targets}


def test_every_module_it_names_exists():
    package = PAGE.parent.parent
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE.read_text(encoding="utf-8")):
        assert (package / name).exists() or (package / "acredssp" / name).exists(), name

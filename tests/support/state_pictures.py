"""Draws the states in docs/architecture.md from the tables of core/states.py: `make conformance`."""

import re

from support.pages import ROOT

from acredssp.core.states import CLIENT_MOVES, SERVER_MOVES, State

PAGE = ROOT / "docs" / "architecture.md"
SIDES = {"Client": CLIENT_MOVES, "Server": SERVER_MOVES}


def picture(moves):
    """The moves of a table in Mermaid's language, with the failures behind the rest."""
    pairs = [(state.name, target.name) for state, targets in moves.items() for target in targets]
    order = [state.name for state in State]
    pairs.sort(key=lambda pair: (pair[1] == State.FAILED.name, order.index(pair[0]), order.index(pair[1])))
    return "".join(f"    {before} --> {after}\n" for before, after in pairs)


def drawn(page):
    """A page with its pictures drawn anew."""
    for side, moves in SIDES.items():
        mark = rf"(\n{side}:\n\n```mermaid\nstateDiagram-v2\n).*?```"
        page = re.sub(mark, lambda found, moves=moves: f"{found[1]}{picture(moves)}```", page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text("utf-8")), "utf-8")

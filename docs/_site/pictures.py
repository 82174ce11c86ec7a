"""The pictures of states and boundaries: the pages have them in Mermaid's language, and graphviz draws them."""

import re
import shutil

_STATES = re.compile(r"```mermaid\nstateDiagram-v2\n(?P<moves>.*?)```", re.DOTALL)
_MOVE = re.compile(r"(\w+) --> (\w+)")
_FLOW = re.compile(r"```mermaid\nflowchart LR\n(?P<lines>.*?)```", re.DOTALL)
_BOX = re.compile(r'(?<!subgraph )\b(\w+)\["([^"]*)"\]')
_GROUP = re.compile(r'subgraph (\w+)\["([^"]*)"\]')


def drawn(text: str) -> str:
    """Return a page with its pictures as graphviz draws them, or as text where there is no graphviz."""
    if shutil.which("dot") is None:
        return text.replace("```mermaid\n", "```text\n")
    text = _FLOW.sub(lambda picture: flow(picture["lines"].splitlines()), text)
    return _STATES.sub(lambda picture: _graph(_MOVE.findall(picture["moves"])), text)


_STYLE = """\
   rankdir=LR; bgcolor="transparent";
   node [shape=box, style="rounded,filled", fillcolor="#f4f4f8", fontname="sans-serif", fontsize=11];"""


def _graph(moves: list[tuple[str, str]]) -> str:
    edges = [f"   {before} -> {after}{' [color=gray]' if after == 'FAILED' else ''};" for before, after in moves]
    return _picture("the moves between the states", edges)


def flow(lines: list[str]) -> str:
    """Return a picture of boxes, groups of them and arrows, with one arrow or group on each line."""
    drawn: list[str] = []
    for line in lines:
        if group := _GROUP.search(line):
            drawn.append(f'   subgraph cluster_{group[1]} {{ label="{group[2]}"; fontname="sans-serif"; style=dashed;')
        elif line.strip() == "end":
            drawn.append("   }")
        else:
            drawn += [f'   {name} [label="{label}"];' for name, label in _BOX.findall(line)]
            drawn += [f"   {before} -> {after};" for before, after in _MOVE.findall(_BOX.sub(r"\1", line))]
    return _picture("the boundaries that bytes cross", drawn)


def _picture(alternative: str, statements: list[str]) -> str:
    lines = ["```{graphviz}", f":alt: {alternative}", "", "digraph {", _STYLE, *statements, "}", "```"]
    return "\n".join(lines)

"""The pictures of the state machines: the pages have them in Mermaid's language, and graphviz draws them."""

import re
import shutil

_STATES = re.compile(r"```mermaid\nstateDiagram-v2\n(?P<moves>.*?)```", re.DOTALL)
_MOVE = re.compile(r"(\w+) --> (\w+)")


def drawn(text: str) -> str:
    """Return a page with its pictures as graphviz draws them, or as text where there is no graphviz."""
    if shutil.which("dot") is None:
        return text.replace("```mermaid\n", "```text\n")
    return _STATES.sub(lambda picture: _graph(_MOVE.findall(picture["moves"])), text)


_STYLE = """\
   rankdir=LR; bgcolor="transparent";
   node [shape=box, style="rounded,filled", fillcolor="#f4f4f8", fontname="sans-serif", fontsize=11];"""


def _graph(moves: list[tuple[str, str]]) -> str:
    edges = [f"   {before} -> {after}{' [color=gray]' if after == 'FAILED' else ''};" for before, after in moves]
    lines = ["```{graphviz}", ":alt: the moves between the states", "", "digraph {", _STYLE, *edges, "}", "```"]
    return "\n".join(lines)

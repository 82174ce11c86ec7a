"""The page with the programs in examples/."""

import ast
from pathlib import Path


def page(folder: Path) -> str:
    """Return the page: each program behind the first sentence of its docstring."""
    parts = ["# Examples\n\nThese programs are in the repository's folder `examples`, and the tests run each of them."]
    for file in sorted(folder.glob("*.py")):
        said = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
        parts.append(
            f"({file.stem.replace('_', '-')})=\n## {file.name}\n\n{said}\n\n"
            f"```{{literalinclude}} ../../examples/{file.name}\n:language: python\n```"
        )
    return "\n\n".join(parts) + "\n"


def anchor(path: str) -> str:
    """Return the anchor of a link's path into examples/; empty for what is no program."""
    file = Path(path)
    return f"#{file.stem.replace('_', '-')}" if file.suffix == ".py" else ""

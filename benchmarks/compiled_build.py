"""Where `make compiled` builds the engine, and whether it is of these sources."""

import filecmp
import pathlib

__all__ = ["FOLDER", "ROOT", "missing"]

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "build" / "compiled"


def missing() -> str:
    """Say why nothing can be measured; empty if it can."""
    sources = [path.relative_to(ROOT) for path in (ROOT / "acredssp").rglob("*.py")]
    if not FOLDER.exists():
        return "make compiled has not built it"
    if any(not (FOLDER / path).exists() or not filecmp.cmp(ROOT / path, FOLDER / path) for path in sources):
        return "build/compiled is of other sources: make compiled"
    return ""

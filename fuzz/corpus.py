"""The corpus: for each target one text file with a line for each input, its bytes in base64 and its verdict."""

import base64
import pathlib
from collections.abc import Iterable
from typing import Final

from fuzz.target import Target

__all__ = ["read", "write"]

_FOLDER: Final = pathlib.Path(__file__).parent / "corpus"


def read(name: str) -> list[tuple[bytes, str]]:
    """Return the inputs of a target with their verdicts; an empty list for a target that has no file yet."""
    path = _FOLDER / f"{name}.txt"
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    split = [line.partition(" ") for line in lines]
    return [(base64.b64decode(data), verdict) for data, _, verdict in split]


def write(target: Target, inputs: Iterable[bytes]) -> int:
    """Write the file of a target, with the verdicts of today; return how many inputs it has."""
    ordered = sorted(set(inputs), key=lambda data: (len(data), data))
    lines = [f"{base64.b64encode(data).decode()} {target.verdict(data)}\n" for data in ordered]
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / f"{target.name}.txt").write_text("".join(lines), "ascii")
    return len(ordered)

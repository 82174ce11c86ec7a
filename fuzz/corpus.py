"""The corpus: for each target one text file with a line for each input, its bytes in base64 and its verdict.

Beside them `faults.txt` has for each target an input by which the target notices its fault.
"""

import base64
import pathlib
from collections.abc import Iterable
from typing import Final

from fuzz.target import Target

__all__ = ["note_fault", "read", "read_faults", "write"]

_FOLDER: Final = pathlib.Path(__file__).parent / "corpus"


_FAULTS: Final = _FOLDER / "faults.txt"
"""For each target an input by which it notices its fault."""


def read_faults() -> dict[str, bytes]:
    """Return for each target, by its name, an input by which it notices its fault."""
    lines = _FAULTS.read_text("ascii").splitlines() if _FAULTS.exists() else []
    return {name: base64.b64decode(data) for name, _, data in (line.partition(" ") for line in lines)}


def note_fault(name: str, data: bytes) -> None:
    """Write down an input by which a target notices its fault, unless a shorter one is there."""
    faults = read_faults()
    if name not in faults or len(data) < len(faults[name]):
        faults[name] = data
    lines = [f"{each} {base64.b64encode(found).decode()}\n" for each, found in sorted(faults.items())]
    _FAULTS.write_text("".join(lines), "ascii")


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

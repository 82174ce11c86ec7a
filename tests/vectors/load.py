"""The recorded conversations of `captures/`, read once a run.

from vectors.load import captures

@pytest.mark.parametrize("capture", captures("freerdp*-v6"), ids=str)
def test_...(capture): ...
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

CAPTURES = Path(__file__).parent / "captures"


@dataclasses.dataclass(frozen=True)
class Message:
    """One TSRequest as it crossed the wire, and what pyspnego made of it."""

    direction: str
    """`c2s` or `s2c`."""
    data: bytes
    decoded: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Capture:
    """One recorded conversation; `facts` is the file as it stands (keys in README.md)."""

    name: str
    facts: dict[str, Any]
    messages: tuple[Message, ...]

    def __str__(self) -> str:
        return self.name

    def __getitem__(self, key: str) -> Any:
        """A fact by name; KeyError where the recorder did not learn it."""
        return self.facts[key]

    def get(self, key: str) -> Any:
        """A fact by name, None where the recorder did not learn it."""
        return self.facts.get(key)

    def hex(self, key: str) -> bytes | None:
        """A fact that is written in hex, as bytes; None where the recorder did not learn it."""
        text = self.facts.get(key)
        return None if text is None else bytes.fromhex(text)


@functools.cache
def _load(path: Path) -> Capture:
    facts = json.loads(path.read_text(encoding="utf-8"))
    messages = tuple(
        Message(entry["dir"], bytes.fromhex(entry["hex"]), entry["decoded"]) for entry in facts["messages"]
    )
    return Capture(path.stem, facts, messages)


def captures(pattern: str = "*") -> list[Capture]:
    """The captures whose file name, without `.json`, matches the glob; never an empty list."""
    found = [_load(path) for path in sorted(CAPTURES.glob(f"{pattern}.json"))]
    if not found:
        raise LookupError(f"no capture is named like {pattern}")
    return found


def capture(name: str) -> Capture:
    """The one capture of this name."""
    (found,) = captures(name)
    return found

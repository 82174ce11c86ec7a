"""All targets, by name."""

from typing import Final

from fuzz import conversations, decoders, judges
from fuzz.target import Target

__all__ = ["TARGETS", "target_of"]

TARGETS: Final[dict[str, Target]] = {
    target.name: target for target in (*decoders.TARGETS, *conversations.TARGETS, *judges.TARGETS)
}


def target_of(name: str) -> Target:
    """Return the target of that name.

    Raises:
        LookupError: There is none; the text names those that there are.
    """
    if name not in TARGETS:
        raise LookupError(f"expected a target out of {', '.join(TARGETS)}, got {name}")
    return TARGETS[name]

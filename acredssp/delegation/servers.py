"""The list of servers in one setting: service principal names, with a `*` for any text."""

import dataclasses
from typing import Self

__all__ = ["SPNList"]


@dataclasses.dataclass(frozen=True, slots=True)
class SPNList:
    """The list of servers in one setting.

    A pattern is a service principal name with at most one `*`, which stands for any text: `TERMSRV/host.example.com`,
    `TERMSRV/*.example.com`, `TERMSRV/*`. Case does not matter, nor does a dot at the end of a host's name.

    Attributes:
        patterns: The patterns. An empty list names no server, as a disabled setting does.
        concatenate_defaults: Whether to add the servers that the setting has where it is not configured.

    Raises:
        ValueError: A pattern is empty, has two `*`, or has spaces or control characters.
    """

    patterns: tuple[str, ...] = ()
    concatenate_defaults: bool = False
    _folded: tuple[tuple[str, str, str, str], ...] = dataclasses.field(init=False, repr=False, compare=False)
    """Each pattern, with the text before its `*`, the `*`, and the text behind, folded once for all logons."""

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            _check_pattern(pattern)
        parts = tuple((pattern, *_fold(pattern).partition("*")) for pattern in self.patterns)
        object.__setattr__(self, "_folded", parts)

    @classmethod
    def of(cls, *patterns: str, concatenate_defaults: bool = False) -> Self:
        """Make a list from patterns."""
        return cls(patterns, concatenate_defaults)

    def find(self, target: str) -> str | None:
        """Return the first pattern that a service principal name fits; None where it fits none."""
        name = _fold(target)
        for pattern, before, star, after in self._folded:
            if not star:
                if name == before:
                    return pattern
            elif len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after):
                return pattern
        return None


def _fold(name: str) -> str:
    """Return a name in the form that is compared."""
    # Python's resolver folds host names in the same way (RFC 3491), so another spelling cannot get around a Deny.
    return name.casefold().removesuffix(".")


def _check_pattern(pattern: str) -> None:
    if not pattern.removesuffix(".") or not pattern.isprintable() or " " in pattern:
        raise ValueError(f"expected a service principal name like TERMSRV/*.example.com, got {pattern!r}")
    if pattern.count("*") > 1:
        raise ValueError(f"expected at most one * in a pattern, got {pattern!r}")

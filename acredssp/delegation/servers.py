"""The servers of one setting: service principal names, with a `*` for any text."""

import dataclasses
from typing import Self

__all__ = ["SPNList"]


@dataclasses.dataclass(frozen=True, slots=True)
class SPNList:
    """The servers of one setting.

    A pattern is a service principal name with at most one `*`, which stands for any text: `TERMSRV/host.example.com`,
    `TERMSRV/*.example.com`, `TERMSRV/*`. Case does not count, nor does the dot that may end a host's name.

    Attributes:
        patterns: No pattern: nobody, as a disabled setting.
        concatenate_defaults: Whether the servers that the setting has when it is not configured are meant too.

    Raises:
        ValueError: A pattern is empty, has two `*`, or has spaces or control characters.
    """

    patterns: tuple[str, ...] = ()
    concatenate_defaults: bool = False
    _folded: tuple[tuple[str, str, str, str], ...] = dataclasses.field(init=False, repr=False, compare=False)
    """Each pattern, and what is before its `*`, that, and what is behind: folded once, looked at in every logon."""

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            _check_pattern(pattern)
        parts = tuple((pattern, *_fold(pattern).partition("*")) for pattern in self.patterns)
        object.__setattr__(self, "_folded", parts)

    @classmethod
    def of(cls, *patterns: str, concatenate_defaults: bool = False) -> Self:
        """From patterns."""
        return cls(patterns, concatenate_defaults)

    def find(self, target: str) -> str | None:
        """Return the first pattern that a service principal name fits; None for none."""
        name = _fold(target)
        for pattern, before, star, after in self._folded:
            if not star:
                if name == before:
                    return pattern
            elif len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after):
                return pattern
        return None


def _fold(name: str) -> str:
    """Return a name as it is compared."""
    # As Python's resolver folds host names (RFC 3491), so that no Deny is got around by another spelling.
    return name.casefold().removesuffix(".")


def _check_pattern(pattern: str) -> None:
    if not pattern.removesuffix(".") or not pattern.isprintable() or " " in pattern:
        raise ValueError(f"expected a service principal name like TERMSRV/*.example.com, got {pattern!r}")
    if pattern.count("*") > 1:
        raise ValueError(f"expected at most one * in a pattern, got {pattern!r}")

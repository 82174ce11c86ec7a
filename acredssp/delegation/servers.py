"""The list of servers in one setting: service principal names, with a `*` for any text."""

import dataclasses
from typing import Self

__all__ = ["SPNList"]


@dataclasses.dataclass(frozen=True, slots=True)
class SPNList:
    """The list of servers in one setting.

    A pattern is a service principal name with at most one `*`, which stands for any text: `TERMSRV/host.example.com`,
    `TERMSRV/*.example.com`, `TERMSRV/*`. Case does not matter, nor does a dot at the end of a host's name.

    The name is the one that the logon is for: `HTTP/host` over HTTP, without the port of the URL, and `TERMSRV/host`
    elsewhere, unless the client's `spn` is another one. A pattern with a port fits only an `spn` with this port. SSPI's
    callers may name a target by its host alone, which a pattern fits only by its `*`.

    Attributes:
        patterns: The patterns. An empty list names no server, as a disabled setting does.
        concatenate_defaults: Whether to add the servers that the setting has where it is not configured.

    Raises:
        ValueError: A pattern is empty, has two `*`, has spaces or control characters, is a URL, or has neither a
            service class nor a `*`, so that it would fit no service.
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

    def similar(self, target: str) -> str | None:
        """Return the first pattern that fits no target, but has its host, beside another service class or a port."""
        host = _host_of(target)
        same = (pattern for pattern in self.patterns if "*" not in pattern and _host_of(pattern) == host)
        return next(same, None) if host and self.find(target) is None else None

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


def _host_of(name: str) -> str:
    """Return the host of a service principal name without its port, in the form that is compared."""
    host = name.partition("/")[2].partition("/")[0]
    before, colon, port = host.rpartition(":")
    return _fold(before if colon and port.isdecimal() else host)


def _fold(name: str) -> str:
    """Return a name in the form that is compared."""
    # Python's resolver folds host names in the same way (RFC 3491), so another spelling cannot get around a Deny.
    return name.casefold().removesuffix(".")


def _check_pattern(pattern: str) -> None:
    if not pattern.removesuffix(".") or not pattern.isprintable() or " " in pattern:
        raise ValueError(f"expected a service principal name like TERMSRV/*.example.com, got {pattern!r}")
    if pattern.count("*") > 1:
        raise ValueError(f"expected at most one * in a pattern, got {pattern!r}")
    if "://" in pattern:
        host = pattern.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0] or "host"
        raise ValueError(f"expected a service principal name, got a url, which fits no service: write HTTP/{host}")
    if "/" not in pattern and "*" not in pattern:
        raise ValueError(
            f"expected a service principal name, got {pattern!r}, which fits no service: write TERMSRV/{pattern} for "
            f"remote desktop, HTTP/{pattern} or WSMAN/{pattern} for winrm"
        )

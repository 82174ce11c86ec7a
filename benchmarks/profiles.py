"""What valgrind's callgrind has counted in one process, by the files whose code ran.

A count above TLS depends on the release of OpenSSL: each takes other instructions for the same handshake, and displaces
other lines of the caches. What runs in Python and in the engine is the same beside every release. So a count is kept
twice: the whole, and the part outside of OpenSSL and the C library, which OpenSSL calls, too.
"""

import dataclasses
import pathlib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Self

OPENSSL = ("libssl", "libcrypto")
OTHERS = (*OPENSSL, "_rust.", "libc.", "libc-", "ld-")
"""How the names of files begin that are not ours: OpenSSL, cryptography with an OpenSSL of its own, the C library."""


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """The counts of some events, in the order in which they were asked for."""

    whole: tuple[float, ...]
    own: tuple[float, ...] | None
    """Outside of OpenSSL and the C library; None where OpenSSL is no file of its own, but linked into Python's."""

    @classmethod
    def of(cls, profile: str, events: Sequence[str], handshakes: int = 1) -> Self:
        """Read a file of callgrind's.

        Args:
            profile: The file's text.
            events: Names such as `Ir`, `ILmr`, `DLmr` and `DLmw`, as callgrind spells them.
            handshakes: How many handshakes were counted; the counts are those of one.

        Raises:
            ValueError: The file does not count one of the events.
        """
        files = by_file(profile)
        missing = [event for event in events if any(event not in counts for counts in files.values())]
        if missing or not files:
            raise ValueError(f"expected callgrind to have counted {', '.join(events)}, it counted no {missing}")
        ours = [counts for name, counts in files.items() if not name.startswith(OTHERS)]
        shared = any(name.startswith(OPENSSL) for name in files)
        whole = _mean(list(files.values()), events, handshakes)
        return cls(whole, _mean(ours, events, handshakes) if shared else None)

    def less(self, other: "Counts", unit: float = 1) -> "Counts":
        """Return the difference to other counts, in a unit."""

        def difference(mine: tuple[float, ...], theirs: tuple[float, ...]) -> tuple[float, ...]:
            return tuple((more - fewer) / unit for more, fewer in zip(mine, theirs, strict=True))

        known = self.own is not None and other.own is not None
        own = difference(self.own, other.own) if known else None
        return Counts(difference(self.whole, other.whole), own)


def _mean(files: list[dict[str, int]], events: Sequence[str], handshakes: int) -> tuple[float, ...]:
    return tuple(sum(counts[event] for counts in files) / handshakes for event in events)


def by_file(profile: str) -> dict[str, dict[str, int]]:
    """Return the counts of each event by the name of the file whose code ran, without its folder.

    The format is that of valgrind's manual, "Callgrind Format Specification": a name has a number when it comes first,
    and is that number alone afterwards. The line behind `calls=` is the cost of the function that was called, which is
    counted where that function is.
    """
    names: dict[str, str] = {}
    found: dict[str, list[int]] = defaultdict(list)
    events: list[str] = []
    current, called = "", False
    for line in profile.splitlines():
        if line[:1] in "+-*0123456789" and line:
            if not called:
                _add(found[current], line.split()[1:])
            called = False
        elif line.startswith("calls="):
            called = True
        elif line.startswith("events:"):
            events = line.split()[1:]
        elif name := re.match(r"c?ob=\((\d+)\)(?: (.*))?", line):
            if name[2]:
                names[name[1]] = pathlib.PurePath(name[2]).name
            if line.startswith("ob="):
                current = names[name[1]]
    return {
        name: dict(zip(events, [*counts, *[0] * (len(events) - len(counts))], strict=True))
        for name, counts in found.items()
    }


def _add(counts: list[int], more: list[str]) -> None:
    """Add the numbers of a line, which ends with the last one that is not 0."""
    counts += [0] * (len(more) - len(counts))
    for place, number in enumerate(more):
        counts[place] += int(number)

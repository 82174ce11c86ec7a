"""What a target is: a function of bytes that either returns a value or refuses them by an error of its contract.

A target checks by itself what must hold for whatever it accepts, and raises AssertionError where that does not hold.
Any other exception is a finding, too.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from acredssp.errors import CredSSPError
from acredssp.wire.framing import FrameSize

__all__ = ["Target", "framed", "round_trip"]

_Value = TypeVar("_Value")

_MOST_CUTS = 40


@dataclasses.dataclass(frozen=True)
class Target:
    """One entrance of the package.

    Attributes:
        name: Its name on the command line, and the name of its file in `corpus/`.
        run: Takes the bytes. Returns what the package made of them, in bytes that are the same in every run.
        seeds: Makes good inputs, from which mutations begin.
        fault: Takes one check out of the package for as long as the context lasts. The fuzzer must notice.
        words: Texts that inputs are likely to have, for the fuzzer's dictionary.
        refuses: The exceptions by which the entrance refuses bytes.
        size: The longest input that is tried, in bytes.
        late: The stages of a handshake that only a peer with the right keys gets to.
        kept: How many inputs the corpus keeps, at most.
    """

    name: str
    run: Callable[[bytes], bytes]
    seeds: Callable[[], Iterable[bytes]]
    fault: Callable[[], AbstractContextManager[object]]
    words: Sequence[bytes] = ()
    refuses: tuple[type[Exception], ...] = (CredSSPError,)
    size: int = 4096
    late: frozenset[str] = frozenset()
    kept: int = 150

    def verdict(self, data: bytes) -> str:
        """Return one word and one value that tell what the package makes of `data`; raise on a finding.

        `accepted` comes with a hash of what was made, `refused` with the error's class and statuses.
        """
        try:
            made = self.run(data)
        except self.refuses as error:
            return f"refused {type(error).__name__}{_statuses(error)}"
        return f"accepted {hashlib.sha256(made).hexdigest()[:16]}"

    def is_deep(self, verdict: str) -> bool:
        """Whether an input got past the first checks: it was accepted, or refused at one of the later stages."""
        return verdict.startswith("accepted") or verdict.rpartition(" at ")[2] in self.late


def _statuses(error: Exception) -> str:
    if not isinstance(error, CredSSPError):
        return ""
    statuses = (error.security_status, error.nt_status)
    stage = "" if error.stage is None else f" at {error.stage.value}"
    return "".join(f" {status.name}" for status in statuses if status is not None) + stage


def round_trip(decode: Callable[[bytes], _Value], encode: Callable[[_Value], bytes], data: bytes) -> bytes:
    """Decode, encode what came out, and check that this decodes to the same; return the encoded bytes."""
    value = decode(data)
    encoded = bytes(encode(value))
    assert decode(encoded) == value, "the value changes when it is written and read again"
    return encoded


def framed(size_of: Callable[[bytes], FrameSize], data: bytes) -> int:
    """Check that a framing function says the same of a frame whole and cut anywhere; return the frame's size.

    It follows `missing` from nothing, as a reader of a stream does, and asks at cuts in between. The result is 0 where
    `data` ends before the frame does.

    Raises:
        CredSSPError: The bytes begin no frame.
    """
    have = 0
    while True:
        total, missing = size_of(data[:have])
        assert missing >= 0
        assert total == 0 or have + missing == total or (missing == 0 and have >= total), "missing is not exact"
        if not missing:
            break
        if have + missing > len(data):
            _hold_cuts(size_of, data, have, 0)
            return 0
        have += missing
    assert have == total, "missing reaches past the frame"
    assert size_of(data) == (total, 0), "bytes behind a frame change its size"
    _hold_cuts(size_of, data, have, total)
    return total


def _hold_cuts(size_of: Callable[[bytes], FrameSize], data: bytes, end: int, total: int) -> None:
    for cut in range(0, end, 1 + end // _MOST_CUTS):
        announced, missing = size_of(data[:cut])
        assert missing > 0, "a cut frame is taken for a whole one"
        assert announced in {0, total} or not total, "the size of a frame depends on where it is cut"
        assert not total or cut + missing <= total, "missing reaches past the frame"

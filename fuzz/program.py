"""An input as a program: each byte is a decision. Behind the last byte every decision is the first, honest choice.

So a short input is a conversation with few changes, which gets far, and a fuzzer needs no luck to keep the rest whole.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["Program", "random_of"]

_Choice = TypeVar("_Choice")


class Program:
    """Reads an input as decisions."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        """Whether every further decision is the first choice."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """Return the next byte; 0 behind the end."""
        taken = self.take(1)
        return taken[0] if taken else 0

    def number(self, below: int) -> int:
        """Return a number from 0 to `below`, which is not among them. `below` may be up to 65,536."""
        wide = self.byte() if below <= 256 else self.byte() << 8 | self.byte()
        return wide % below if below else 0

    def choose(self, choices: Sequence[_Choice]) -> _Choice:
        """Return one of the choices."""
        return choices[self.number(len(choices))]

    def take(self, most: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + most]
        self._at += most
        return taken


def random_of(seed: bytes) -> Callable[[int], bytes]:
    """Return a source of random bytes that gives the same ones in every run."""
    count = 0

    def random(size: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_128(seed + count.to_bytes(4, "big")).digest(size)

    return random

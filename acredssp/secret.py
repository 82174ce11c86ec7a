"""Bytes that are a secret: a password, a PIN, a ticket.

Python cannot promise to forget. What it can do is done: the bytes lie in memory of their own and are overwritten with
zeros when nobody holds them any longer, or when `zero()` is called; they are in no repr, no text and no pickle, and
`copy` does not multiply them. What is made of them by whoever reads them (a `str`, a slice, a message) is out of reach.
"""

from hmac import compare_digest
from typing import NoReturn, SupportsIndex

__all__ = ["SecretBytes"]


class SecretBytes(bytearray):
    """A secret. It may be read as any `bytearray`, and compares in constant time."""

    __slots__ = ()
    __hash__ = None  # as bytearray has it

    def zero(self) -> None:
        """Overwrite the secret; the length stays."""
        self[:] = bytes(len(self))

    def __del__(self) -> None:
        self.zero()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bytes | bytearray):
            return compare_digest(self, other)
        return NotImplemented

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret is not pickled, nor copied")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret is not copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a secret is not copied")

    def copy(self) -> NoReturn:
        """Refuse: `bytes(secret)` says that it is meant.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a secret is not copied")

"""Bytes that are a secret: a password, a PIN, a ticket.

Python cannot guarantee that memory is erased. This class does what it can: the bytes lie in memory of their own, and
are overwritten with zeros when the object is freed or `zero()` is called. They are in no repr, text or pickle, and
cannot be copied by `copy`. Values that a reader makes of the bytes (a `str`, a slice, a message) are not erased.
"""

from hmac import compare_digest
from typing import NoReturn, SupportsIndex

__all__ = ["SecretBytes"]


class SecretBytes(bytearray):
    """A secret. It can be read like any `bytearray`, and compares in constant time."""

    __slots__ = ()
    __hash__ = None  # a bytearray has no hash either

    def zero(self) -> None:
        """Overwrite the secret with zeros. Its length stays."""
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
        raise TypeError("a secret cannot be pickled or copied; bytes(secret) makes a copy on purpose")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret cannot be copied; bytes(secret) makes a copy on purpose")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a secret cannot be copied; bytes(secret) makes a copy on purpose")

    def copy(self) -> NoReturn:
        """Refuse to copy. `bytes(secret)` makes a copy on purpose.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a secret cannot be copied; bytes(secret) makes a copy on purpose")

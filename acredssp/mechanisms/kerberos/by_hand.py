"""Calls, by `ctypes`, the functions of libkrb5 that python-krb5 does not offer.

The library is the same one that python-krb5 has loaded.

Everything here may block, so it is called in a thread.
"""

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from typing import Final

import krb5

__all__ = ["Library", "LibraryError", "Pointer", "clock_skew"]

Pointer = ctypes.c_void_p

_DEFAULT_CLOCK_SKEW: Final = 300


class LibraryError(Exception):
    """The error code that a function of libkrb5 returned."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: {code}")
        self.err_code = code


class Library:
    """libkrb5 with one context of its own. Call `close()` in the end."""

    def __init__(self) -> None:
        self._functions = ctypes.CDLL(krb5._ccache.__file__)  # noqa: SLF001 - finds the library it is linked with
        self.context = Pointer()
        self.call("krb5_init_context", ctypes.byref(self.context))

    def close(self) -> None:
        """Free the context."""
        self.free("krb5_free_context", self.context)

    def has(self, function: str) -> bool:
        """Whether the library has a function: MIT's has some that Heimdal's lacks."""
        return hasattr(self._functions, function)

    def call(self, function: str, *arguments: object) -> None:
        """Call a function that returns an error code."""
        code = self._functions[function](*arguments)
        if code:
            raise LibraryError(function, code)

    def free(self, function: str, *arguments: object) -> None:
        """Call a function that frees something."""
        self._functions[function](*arguments)

    @contextlib.contextmanager
    def made(self, make: str, free: str, *arguments: object) -> Iterator[Pointer]:
        """Make a structure by the function `make`; free it by the function `free` at the end of the block."""
        thing = Pointer()
        self.call(make, self.context, *arguments, ctypes.byref(thing))
        try:
            yield thing
        finally:
            self.free(free, self.context, thing)


@functools.cache
def clock_skew() -> int:
    """Return the seconds that an acceptor's context outlives its ticket: `clockskew` of krb5.conf.

    MIT's library adds them to the lifetime that gss_inquire_context returns. Heimdal's library does not add them, and
    lacks `profile_get_integer`. The value is read once in a process.
    """
    library = Library()
    try:
        if not library.has("profile_get_integer"):
            return 0
        profile, seconds = Pointer(), ctypes.c_int()
        library.call("krb5_get_profile", library.context, ctypes.byref(profile))
        try:
            library.call(
                "profile_get_integer", profile, b"libdefaults", b"clockskew", None, _DEFAULT_CLOCK_SKEW,
                ctypes.byref(seconds),
            )  # fmt: skip
        finally:
            library.free("profile_release", profile)
        return seconds.value
    finally:
        library.close()

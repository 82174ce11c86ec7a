"""A context manager for `async with` alone, which says so where a program uses it in another way.

Who calls: `aiohttp`, and the connections of WinRM.
"""

import contextlib
import warnings
from collections.abc import Generator
from types import TracebackType
from typing import Generic, NoReturn, TypeVar

__all__ = ["Block"]

_Made = TypeVar("_Made")


class Block(Generic[_Made]):
    """Does what another context manager does. One that nobody enters warns at its end, since it has done nothing.

    Args:
        inner: The other context manager.
        example: How a program uses it, such as `async with connect(...) as wsman:`.
        does: What it would have done, for the warning: `nothing was sent`.
    """

    def __init__(self, inner: contextlib.AbstractAsyncContextManager[_Made], example: str, does: str) -> None:
        self._inner, self._example, self._does = inner, example, does
        self._entered = False

    async def __aenter__(self) -> _Made:
        self._entered = True
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)

    def __await__(self) -> Generator[None, None, NoReturn]:
        self._refuse("await")

    def __enter__(self) -> NoReturn:
        self._refuse("with")

    def __exit__(self, *_: object) -> None:
        """Beside `__enter__`, without which Python would not call that."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        self._entered = True  # it is told here, and not again at its end
        raise AttributeError(f"{self._expected}, got `.{name}` of what it returns, without `async with`")

    def __del__(self) -> None:
        if not self._entered:
            warnings.warn(f"{self._expected}, got none: {self._does}", RuntimeWarning, stacklevel=2, source=self)

    @property
    def _expected(self) -> str:
        return f"expected `{self._example}`"

    def _refuse(self, came: str) -> NoReturn:
        self._entered = True
        raise TypeError(f"{self._expected}, which ends with its block, got `{came}`")

"""The event loop of the commands: uvloop if it is installed, asyncio's own otherwise."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:
    NAME = "asyncio"
    _factory = None
else:
    NAME = "uvloop"
    _factory = uvloop.new_event_loop

__all__ = ["NAME", "run"]

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end on a fresh loop."""
    with asyncio.Runner(loop_factory=_factory) as runner:
        return runner.run(main)

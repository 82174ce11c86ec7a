"""Functions of somebody else's that the settings name: each is asked here, plain or async.

One that fails refuses the user. One that gives no answer until the handshake's time is over is named in the
connection's record, and so is, in the log, one that keeps the whole process waiting.
"""

import asyncio
import inspect
import logging
import traceback
from importlib.metadata import EntryPoint
from typing import Any, Final

from acredssp import NTSTATUS
from acredssp.proxy.refused import Refused

__all__ = ["PlugIn"]

_logger = logging.getLogger("acredssp.proxy")

_LONG: Final = 0.5
"""Seconds in which a function that blocks is noticed. No other connection moves meanwhile."""


class PlugIn:
    """A function, imported.

    Args:
        entry: Where it is.
        what: What it is for, in the words of the log: `the route's entry`.

    Raises:
        ValueError: There is no such module or function, or importing it fails.
        TypeError: It is no function.
    """

    def __init__(self, entry: EntryPoint, what: str) -> None:
        try:
            self._function = entry.load()
        except ModuleNotFoundError as error:
            raise ValueError(f"{entry.value} cannot be imported: no module {error.name}, see PYTHONPATH") from error
        except Exception as error:
            # The module is not ours, so importing it may raise any exception.
            raise ValueError(f"{entry.value} cannot be imported: {type(error).__name__}") from error
        if not callable(self._function):
            raise TypeError(f"{entry.value}: expected a function, got {type(self._function).__name__}")
        self.name = f"{what} {entry.value}"

    async def ask(self, who: Any, *more: object) -> Any:
        """Call the function and return its answer. The session of `who` is the connection.

        Raises:
            Refused: The function has failed.
        """
        who.session.front.waits_for, loop = self.name, asyncio.get_running_loop()
        loop.call_soon(self._see_whether_it_blocked, loop.time())  # called once the function waits for something
        try:
            answer = self._function(who, *more)
            answer = await answer if inspect.isawaitable(answer) else answer
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            *_, (frame, line) = traceback.walk_tb(error.__traceback__)  # the error's text may hold a secret
            reason = f"{self.name} failed with {type(error).__name__} ({frame.f_code.co_filename}, line {line})"
            raise Refused(reason, NTSTATUS.STATUS_NO_LOGON_SERVERS, error) from error
        who.session.front.waits_for = ""
        return answer

    def _see_whether_it_blocked(self, asked: float) -> None:
        if (seconds := asyncio.get_running_loop().time() - asked) > _LONG:
            _logger.warning("all connections waited %.1f seconds for %s: it should be async", seconds, self.name)

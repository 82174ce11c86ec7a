"""What an exception keeps alive: the frames it passed through, and with them every local variable.

Collectors of errors write those down, and applications keep exceptions (`HandshakeReport.error`, `CtxtHandle.error`).
Where a logon fails the frames below us hold the account's hash, session keys, tokens and the delegated password. So
whoever lets an error leave the library has it forget them first. Files, lines and names of functions stay.

Frames of coroutines and generators are left alone: one of them may only be suspended, and clearing it would end it. So
a coroutine of ours keeps no secret in a local variable while something below it may fail.

Who calls: `core.context`, `aio.driver` and `sspi.handles`, the three ways out.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Final

__all__ = ["forget_locals"]

_PACKAGE: Final = __name__.partition(".")[0]
_MAY_BE_SUSPENDED: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def forget_locals(error: BaseException) -> None:
    """Have an error, its causes and its contexts forget the local variables of our functions and of those they called.

    What the caller's own functions hold above ours is left alone, and so is every function that has not returned yet.
    """
    for link in _chain(error):
        traceback, ours = link.__traceback__, False
        while traceback is not None:
            frame = traceback.tb_frame
            ours = ours or str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE
            if ours and not frame.f_code.co_flags & _MAY_BE_SUSPENDED:
                with contextlib.suppress(RuntimeError):  # it still runs
                    frame.clear()
            traceback = traceback.tb_next


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and whatever led to it, each once; `raise ... from None` hides a context and keeps it."""
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        links += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            links += link.exceptions

"""Removes secrets from exceptions: an exception keeps the frames that it passed through, with all local variables.

Error collectors record those variables, and applications keep exceptions (`HandshakeReport.error`, `CtxtHandle.error`).
Where a logon fails, the frames hold the account's hash, session keys, tokens and the delegated password. So the local
variables are cleared before an error leaves the library. Files, lines and names of functions stay.

Frames of coroutines and generators are not cleared, since a frame may only be suspended, and clearing would end it. So
a coroutine of this package keeps no secret in a local variable while a call below it may fail.

Who calls: `core.context`, `aio.driver` and `sspi.handles`, the three places where errors leave the library.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Final

__all__ = ["forget_locals"]

_PACKAGE: Final = __name__.partition(".")[0]
_MAY_BE_SUSPENDED: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def forget_locals(error: BaseException) -> None:
    """Clear the local variables of our functions, and of the functions they called, in an error's tracebacks.

    The tracebacks of the error's causes and contexts are cleared too. The variables of the caller's own functions above
    ours stay, and so do those of every function that has not returned yet.
    """
    for link in _chain(error):
        traceback, ours = link.__traceback__, False
        while traceback is not None:
            frame = traceback.tb_frame
            ours = ours or str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE
            if ours and not frame.f_code.co_flags & _MAY_BE_SUSPENDED:
                with contextlib.suppress(RuntimeError):  # raised for a function that still runs
                    frame.clear()
            traceback = traceback.tb_next


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and its contexts, each once. A context that `raise ... from None` hides is among them."""
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

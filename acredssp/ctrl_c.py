"""Ends the command `acredssp` quietly where Ctrl-C comes before the command can answer it.

Before a command begins, Python imports the package, which takes most of the time. The package imports this module
first, so that Ctrl-C ends the command quietly during the other imports, too. In any other program this module changes
nothing: the program decides what an interrupt does.
"""

import sys
from types import TracebackType
from typing import Final

__all__ = ["INTERRUPTED", "end_quietly", "is_the_command"]

INTERRUPTED: Final = 130
"""The exit status of a command that Ctrl-C has ended: 128 and the number of SIGINT, as shells report it."""
_COMMANDS: Final = ("acredssp", "acredssp.exe", "acredssp-script.py")
"""The names of the command's program file. Without its folders, `sys.argv[0]` is one of them."""
_MODULE: Final = ("acredssp", "-macredssp")
"""The user has typed one of these words to run the command by `python -m acredssp`."""


def is_the_command() -> bool:
    """Whether this process runs the command `acredssp`."""
    if sys.argv[:1] == ["-m"]:  # Python is importing the package of the module, and puts the module's name here later
        return any(word in _MODULE for word in sys.orig_argv)
    return bool(sys.argv) and sys.argv[0].replace("\\", "/").rpartition("/")[2] in _COMMANDS


def end_quietly() -> None:
    """Have a KeyboardInterrupt that nobody catches end this process with status 130, and without a traceback."""
    sys.excepthook = _hook


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    sys.__excepthook__(kind, error, trace)


if is_the_command():
    end_quietly()

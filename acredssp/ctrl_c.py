"""Ends the command `acredssp` quietly where Ctrl-C comes before the command can answer it.

The package is imported before the command can do anything, which takes most of the time until it begins. So the package
imports this module first. It changes nothing in a program that is not the command: there, an interrupt is the
program's own matter.
"""

import sys
from types import TracebackType
from typing import Final

__all__ = ["INTERRUPTED", "end_quietly", "is_the_command"]

INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, which shells report for a program that SIGINT ended."""
_COMMANDS: Final = ("acredssp", "acredssp.exe", "acredssp-script.py")
"""What `sys.argv` begins with, without folders."""
_MODULE: Final = ("acredssp", "-macredssp")
"""One of these was typed for `python -m acredssp`."""


def is_the_command() -> bool:
    """Whether this process runs the command `acredssp`."""
    if sys.argv[:1] == ["-m"]:  # Python looks for a module that is to be run: `sys.argv` does not have its name yet
        return any(word in _MODULE for word in sys.orig_argv)
    return bool(sys.argv) and sys.argv[0].replace("\\", "/").rpartition("/")[2] in _COMMANDS


def end_quietly() -> None:
    """From now on, end this process with status 130, and no traceback, by a KeyboardInterrupt that nobody catches."""
    sys.excepthook = _hook


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    sys.__excepthook__(kind, error, trace)


if is_the_command():
    end_quietly()

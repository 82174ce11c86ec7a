"""The command `acredssp`: demo, login, serve.

This module holds only `main`. It imports nothing of the extra `cli` before `main` is called, so that `main` can say how
to install the extra if it is missing.
"""

import gc
import sys
from typing import NoReturn

from acredssp.ctrl_c import end_quietly

__all__ = ["main"]

_OF_THE_EXTRA = {"typer", "rich"}


def main() -> NoReturn:
    """Run the command that `sys.argv` names, and exit with its status."""
    end_quietly()
    gc.disable()  # what is imported is no garbage: to look for some takes a tenth of the time
    try:
        from acredssp.cli.app import command_line, run  # noqa: PLC0415 - the extra may be absent

        command_line(sys.argv[1:])  # imports the command
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_THE_EXTRA:
            raise
        print("the command line needs the extra `cli`: pip install 'acredssp[cli]'", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    gc.freeze()
    gc.enable()
    sys.exit(run(sys.argv[1:]))

"""Starts a benchmark's own modules as processes that take orders on their standard input."""

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping

__all__ = ["PATIENCE", "ROOT", "child"]

PATIENCE = 60.0
"""Seconds after which a process that does not end, or does not answer, counts as dead."""
ROOT = pathlib.Path(__file__).parent.parent


@contextlib.contextmanager
def child(
    module: str, *arguments: str, stderr: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a module as a process, with pipes for its standard input and output.

    The end of the standard input tells the process to end. A process that goes on is killed.

    Args:
        module: A module of this package, such as `benchmarks.relay`.
        arguments: Its command line.
        stderr: As for `subprocess.Popen`; None for our own standard error.
        environment: Variables beside our own.
    """
    argv = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(  # noqa: S603 - ourselves
        argv,
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()

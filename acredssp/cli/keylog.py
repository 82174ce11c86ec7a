"""`--keylog FILE`: write TLS's secrets down, so that Wireshark can decrypt a recording. It is off unless asked for."""

import os
import pathlib
import ssl
from typing import Final

from acredssp.aio import reason_of
from acredssp.cli.outcome import UsageError

__all__ = ["KEYLOG_WARNING", "log_keys"]

KEYLOG_WARNING: Final = (
    "--keylog writes down the keys of every connection: whoever has that file and a recording of the network can read "
    "everything, passwords included"
)


def log_keys(context: ssl.SSLContext | None, path: pathlib.Path) -> None:
    """Have a context append the secrets of its connections to a file. A new file can be read by the user alone.

    Raises:
        UsageError: The file cannot be written.
    """
    assert context is not None
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        context.keylog_filename = str(path)
    except OSError as error:
        raise UsageError(f"--keylog {path}: cannot be written: {reason_of(error)}") from None

"""Why something failed, in the words that people read in a log or at a prompt."""

import os
import socket
from typing import Final

__all__ = ["reason_of"]

_NO_HOST: Final = "the name of no host can have such a part between its dots, expected 1 to 63 characters"
"""The reason for a name that Python's codec `idna` refuses. The codec's own error names the codec, and not the host."""


def reason_of(error: Exception | None) -> str:
    """Say why something failed: what the operating system has refused in its words, in lower case; empty for None.

    asyncio's own texts of such an error name addresses in Python's way, and no reason.
    """
    if isinstance(error, UnicodeError):
        return _NO_HOST
    if not isinstance(error, OSError) or not error.errno:
        return str(error or "")
    if isinstance(reason := getattr(error, "verify_message", None) or getattr(error, "reason", None), str):
        return reason.lower().replace("_", " ")  # OpenSSL's, whose numbers are none of errno's
    if isinstance(error, socket.gaierror) or error.errno < 0:
        return str(error.strerror or error)  # the numbers of the resolver are none of errno's
    return os.strerror(error.errno).lower()

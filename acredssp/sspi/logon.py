"""Which logon session the calling process is in, as far as an operating system other than Windows can tell."""

import functools
import os
import pathlib

__all__ = ["logon_session"]

_NO_SESSION = -1
"""No Linux, or a kernel without audit."""


def logon_session(logon_id: int | None) -> tuple[int, ...]:
    """Return what tells one logon session from another.

    Args:
        logon_id: The LUID of the caller's choice (`pvLogonID`); None for the user and the kernel's audit session.
    """
    if logon_id is not None:
        return (logon_id,)
    return (os.getuid() if hasattr(os, "getuid") else 0, _audit_session(os.getpid()))


@functools.lru_cache(maxsize=1)
def _audit_session(_process: int) -> int:
    """Read once a process, whose session does not change: AcquireCredentialsHandle does so in the thread pool."""
    try:
        return int(pathlib.Path("/proc/self/sessionid").read_text("ascii"))
    except (OSError, ValueError):
        return _NO_SESSION

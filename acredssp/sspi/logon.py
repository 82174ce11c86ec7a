"""The logon session of the calling process, as far as operating systems other than Windows know one."""

import functools
import os
import pathlib

__all__ = ["logon_session"]

_NO_SESSION = -1
"""The session on systems other than Linux, and on kernels without audit."""


def logon_session(logon_id: int | None) -> tuple[int, ...]:
    """Return numbers that identify a logon session.

    Args:
        logon_id: The LUID of the caller's choice (`pvLogonID`); None for the user and the kernel's audit session.
    """
    if logon_id is not None:
        return (logon_id,)
    return (os.getuid() if hasattr(os, "getuid") else 0, _audit_session(os.getpid()))


@functools.lru_cache(maxsize=1)
def _audit_session(_process: int) -> int:
    """Return the process's audit session.

    It never changes, and is read once, by AcquireCredentialsHandle in a thread.
    """
    try:
        return int(pathlib.Path("/proc/self/sessionid").read_text("ascii"))
    except (OSError, ValueError):
        return _NO_SESSION

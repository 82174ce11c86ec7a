"""What systemd is told by a service of Type=notify (sd_notify(3))."""

import contextlib
import os
import socket

__all__ = ["notify_systemd"]


def notify_systemd(state: str) -> None:
    """Tell systemd of this service's state. This does nothing where systemd has not started the service so.

    Args:
        state: Lines such as `READY=1`, `STOPPING=1` and `STATUS=...`.
    """
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect("\0" + where[1:] if where.startswith("@") else where)
            sender.send(state.encode())

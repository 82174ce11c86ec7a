"""The application behind a logon whose connection is closed at once: it does nothing."""

import asyncio

__all__ = ["Nobody"]


class Nobody(asyncio.Protocol):
    """A protocol that ignores all data, and has a future `ended` that is done when the connection has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the logon is over, whatever ended the connection
        """Set the result of `ended`."""
        if not self.ended.done():
            self.ended.set_result(None)

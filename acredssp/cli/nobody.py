"""The application behind a logon that is closed again at once: there is none."""

import asyncio

__all__ = ["Nobody"]


class Nobody(asyncio.Protocol):
    """Knows when its connection has ended, and nothing else."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the logon is over, however this ends
        """Note the end."""
        if not self.ended.done():
            self.ended.set_result(None)

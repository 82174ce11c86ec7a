"""The places of a server's connections, and what the client and the log are told where the places run out.

The log gets one line for the first connection without a place, and then at most one a minute, so that nobody who
connects again and again fills the log.

Who calls: `server` and `uvicorn`.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from acredssp.aio import Places
from acredssp.errors import LimitExceeded
from acredssp.http.limits import HTTPLimits
from acredssp.http.replies import encoded, plain

__all__ = ["NO_PLACE", "places_of"]

_logger = logging.getLogger("acredssp")

_RAISE_IT: Final = "where many clients come from one address, raise connections_per_source of HTTPLimits"
_RAISE_ALL: Final = "where so many clients come together, raise connections of HTTPLimits"
_SECONDS: Final = 60.0
"""The log gets at most one line in this many seconds."""
NO_PLACE: Final = encoded(plain(503, "too many connections"))
"""The whole answer to a connection without a place."""


def places_of(limits: HTTPLimits, clock: Callable[[], float] = time.monotonic) -> Places:
    """Return the places of one server, which log where a connection gets none or has to make room.

    Args:
        limits: The server's limits.
        clock: Returns the seconds.
    """
    return Places(
        limits.connections,
        limits.connections_per_source,
        counted="connections",
        hint=_RAISE_IT,
        hint_for_all=_RAISE_ALL,
        keep_proven=True,
        tell=_Notices(clock).note,
    )


class _Notices:
    """The lines of the log about connections without a place."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = float("-inf")
        """The time by the clock at which the log may get its next line."""
        self._count = 0
        """The number of connections without a place since the last line of the log."""

    def note(self, error: LimitExceeded) -> None:
        self._count += 1
        if (now := self._clock()) < self._next:
            return
        _logger.info("connections without a place since the last such line: %d; the newest: %s", self._count, error)
        self._next, self._count = now + _SECONDS, 0

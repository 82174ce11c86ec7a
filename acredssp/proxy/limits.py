"""How many connections there may be at once, of everybody, from a source, of a user and to a target.

The library limits handshakes and wrong passwords itself (`create_server`), and ends a handshake that takes too long.
Here are the limits on connections, which go on behind the handshake. Each connection has a `Slot`, which counts it
until it ends. A connection that is refused is told of by its record, like every other.
"""

from typing import TypeAlias

from acredssp import NTSTATUS
from acredssp.proxy.refused import Refused
from acredssp.proxy.settings import LimitSettings

__all__ = ["Counts", "Limited", "Slot"]


class Limited(Refused):
    """A limit refuses a connection.

    Args:
        limit: Its name in `[limits]`.
        reason: For the operator.
        status: For the user.
    """

    def __init__(self, limit: str, reason: str, status: NTSTATUS = NTSTATUS.STATUS_LOGON_NOT_GRANTED) -> None:
        super().__init__(f"{reason}: raise limits.{limit} if these are honest", status)
        self.limit = limit


Counts: TypeAlias = dict[tuple[str, object], int]
"""The connections that there are, by limit and by what they are counted for."""


class Slot:
    """What one connection counts for; nothing yet when it is new.

    Args:
        counts: The connections that are counted.
        settings: How many there may be.
    """

    def __init__(self, counts: Counts, settings: LimitSettings) -> None:
        self.settings = settings
        self._counts = counts
        self._taken: list[tuple[str, object]] = []

    def take(self, limit: str, key: object = "") -> None:
        """Count the connection for a limit.

        Args:
            limit: The limit's name in `[limits]`.
            key: Which source, user or target it is; nothing where the limit is for everybody together.

        Raises:
            Limited: There are too many.
        """
        counted = limit, key
        most, held = getattr(self.settings, limit), self._counts.get(counted, 0)
        if most is not None and held >= most:
            raise Limited(limit, f"{key or 'the gateway'} has {held} connections at once")
        self._counts[counted] = held + 1
        self._taken.append(counted)

    def close(self) -> None:
        """Count the connection for nothing any more; harmless when that is done."""
        while self._taken:
            counted = self._taken.pop()
            if left := self._counts.pop(counted) - 1:
                self._counts[counted] = left

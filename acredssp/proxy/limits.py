"""How many connections there may be at once, of everybody, from a source, of a user and to a target.

The library limits handshakes and wrong passwords itself (`create_server`), and ends a handshake that takes too long.
Here are the limits on connections, which go on behind the handshake. Each connection has a `Slot`, which counts it
until it ends. A connection that is refused is told of by its record, like every other.
"""

import collections

from acredssp import NTSTATUS
from acredssp.credentials import Account
from acredssp.proxy.leg import Refused
from acredssp.proxy.settings import LimitSettings

__all__ = ["Limited", "Limits", "Slot"]


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


class Limits:
    """The connections that are counted, by what they are counted for."""

    def __init__(self) -> None:
        self._counts: collections.Counter[tuple[str, object]] = collections.Counter()

    def slot(self, settings: LimitSettings) -> "Slot":
        """Return a slot for a new connection, which counts for nothing yet."""
        return Slot(self, settings)

    def take(self, limit: str, key: object, most: int | None) -> None:
        """Count a connection; raise `Limited` where there are `most` already."""
        held = self._counts[limit, key]
        if most is not None and held >= most:
            raise Limited(limit, f"{key or 'the gateway'} has {held} connections at once")
        self._counts[limit, key] = held + 1

    def give_back(self, limit: str, key: object) -> None:
        """Count a connection no more."""
        self._counts[limit, key] -= 1
        if not self._counts[limit, key]:
            del self._counts[limit, key]


class Slot:
    """What one connection counts for."""

    def __init__(self, limits: Limits, settings: LimitSettings) -> None:
        self.settings = settings
        self._limits = limits
        self._taken: dict[str, object] = {}

    def take_source(self, source: str) -> None:
        """Count the connection for everybody and for its source.

        Raises:
            Limited: There are too many.
        """
        self._take("connections", "")
        self._take("connections_per_source", source)

    def take_user(self, account: Account) -> None:
        """Count the connection for the user who has logged on; raises as `take_source`."""
        self._take("connections_per_user", account)

    def take_target(self, target: str) -> None:
        """Count the connection for its target; raises as `take_source`."""
        self._take("connections_per_target", target)

    def close(self) -> None:
        """Count the connection for nothing any more; harmless when that is done."""
        while self._taken:
            self._limits.give_back(*self._taken.popitem())

    def _take(self, limit: str, key: object) -> None:
        if limit not in self._taken:
            self._limits.take(limit, key, getattr(self.settings, limit))
            self._taken[limit] = key

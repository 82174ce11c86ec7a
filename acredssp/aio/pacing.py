"""Failed handshakes: a source whose handshakes fail quickly waits before its next one begins.

A failed handshake has cost the server at least a signature, while a client that then leaves has paid next to nothing.
So failed handshakes are counted for each source. When more than a set number fail in a second, each further connection
of that source waits before the server reads from it. A client that begins one handshake after the other is thereby held
to that number in a second. A client that opens many connections at once waits the longest time with each of them;
`max_handshakes_per_source` limits how many these are.

The wait is short and refuses nobody, since many honest clients may share one address. For the same reason, a successful
logon cancels out one that failed. Faults of the server, such as a hook that raises, are not counted.

The number of sources that are counted is bounded. The source that has been quiet for the longest time makes room.

Who calls: `server`, before a connection is read and after its handshake.
"""

import collections
from typing import Final

from acredssp.aio.report import HandshakeOutcome, HandshakeReport

__all__ = ["Pacing"]

_LONGEST_WAIT: Final = 0.5
"""The longest wait, in seconds. An honest client that shares its address with an attacker should hardly notice it."""

_MOST_SOURCES: Final = 10_000

_FAULTS_OF_THE_PEER: Final = frozenset({HandshakeOutcome.LEFT, HandshakeOutcome.LIMITED, HandshakeOutcome.DENIED})
_FAULTS_WITHOUT_A_HOOK: Final = frozenset({HandshakeOutcome.FAILED, HandshakeOutcome.TIMEOUT})
"""Faults of the peer, unless a hook of the server raised or was late."""


class Pacing:
    """The failed handshakes of each source. The count falls by `rate` in each second.

    Args:
        rate: How many failed handshakes in a second cause no wait. So many may also fail at once.
    """

    __slots__ = ("_levels", "_rate")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._levels: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()
        """The count of each source, with the moment of that count. The longest quiet source comes first."""

    def wait(self, source: str, now: float) -> float:
        """Return the seconds that a new connection of a source waits."""
        return min(max(0.0, self._level(source, now) - self._rate) / self._rate, _LONGEST_WAIT)

    def note(self, source: str, report: HandshakeReport, now: float) -> None:
        """Count a handshake that has ended."""
        if report.outcome is HandshakeOutcome.SUCCESS:
            if source in self._levels:
                self._keep(source, self._level(source, now) - 1.0, now)
        elif _cost_us_work(report):
            most = self._rate * (1.0 + _LONGEST_WAIT)
            self._keep(source, min(self._level(source, now), most) + 1.0, now)

    def _level(self, source: str, now: float) -> float:
        level, then = self._levels.get(source, (0.0, now))
        return max(0.0, level - (now - then) * self._rate)

    def _keep(self, source: str, level: float, now: float) -> None:
        if level <= 0.0:
            del self._levels[source]
            return
        self._levels[source] = (level, now)
        self._levels.move_to_end(source)
        if len(self._levels) > _MOST_SOURCES:
            self._levels.popitem(last=False)


def _cost_us_work(report: HandshakeReport) -> bool:
    """Whether a failed handshake had begun, and its peer made it fail."""
    if report.info is None:
        return False
    return report.outcome in _FAULTS_OF_THE_PEER or (report.outcome in _FAULTS_WITHOUT_A_HOOK and not report.hook)

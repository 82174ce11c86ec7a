"""How many handshakes may be in progress, or connections be open, and from which sources.

There are two limits: one for each source, and one for all sources together. A source at its limit gets no more places.
When all places are taken, they are shared fairly: a newcomer gets a place of the source that holds the most, if that
source then still holds no fewer than the newcomer's source. So a stranger who takes every place from one address loses
one to each newcomer from elsewhere. Where each source holds one place, the newcomer is turned away and the handshakes
that have begun go on: if newcomers displaced handshakes that are nearly done, all would begin again.

The source that holds the most gives up the oldest handshake without a proven logon. An honest handshake takes
milliseconds; one that only occupies a place does not end by itself.

A place is contested while a newcomer may get it. The source that holds the most is the one with the most contested
places. A server whose connections stay in their places after the logon keeps the places of proven logons: these places
are not contested any more.

Every operation takes constant time, except for the search for that handshake among those of one source.

Who calls: `server`, and the servers of HTTP, with each accepted connection.
"""

import collections
from collections.abc import Callable
from typing import Final, Protocol

from acredssp.errors import LimitExceeded
from acredssp.status import Stage

__all__ = ["Place", "Places"]

_RAISE_IT: Final = "where many clients come from one address, raise max_handshakes_per_source (--max-per-source)"
_RAISE_ALL: Final = "where so many clients come together, raise max_handshakes (--max-handshakes)"


class Place(Protocol):
    """A handshake, or a connection, that holds a place.

    Attributes:
        source: The source that it belongs to, as `source_of()` names it.
    """

    source: str

    @property
    def proven(self) -> bool:
        """Whether the client has proven its logon."""

    def give_way(self, error: LimitExceeded) -> None:
        """End the handshake with `error`."""


class Places:
    """The handshakes in progress, by source.

    Args:
        most: The most handshakes of all sources together; None for no limit.
        most_per_source: The most handshakes of one source; None for no limit.
        counted: What the places are for, in the plural.
        hint: What to do where one source needs more places.
        hint_for_all: What to do where all sources together need more places.
        keep_proven: Whether a place with a proven logon never makes room.
        tell: Called with the error of each place that was refused, or had to make room; it must not block.
    """

    def __init__(  # noqa: PLR0913 - what is limited, and what is told of it
        self,
        most: int | None = None,
        most_per_source: int | None = None,
        *,
        counted: str = "handshakes",
        hint: str = _RAISE_IT,
        hint_for_all: str = _RAISE_ALL,
        keep_proven: bool = False,
        tell: Callable[[LimitExceeded], object] | None = None,
    ) -> None:
        self._counted = counted
        self._hint, self._hint_for_all = hint, hint_for_all
        self._keep_proven = keep_proven
        self._tell = tell
        self._most = most
        self._most_per_source = most_per_source
        self._count = 0
        self._of_source: dict[str, dict[Place, None]] = {}
        """The contested places of each source, the oldest first."""
        self._kept: collections.defaultdict[str, dict[Place, None]] = collections.defaultdict(dict)
        """The kept places of each source. A place whose logon is proven moves here when room is needed."""
        self._sources: collections.defaultdict[int, dict[str, None]] = collections.defaultdict(dict)
        """By number: the sources that have this number of contested places."""
        self._largest = 0
        """The largest number of contested places that a source has."""

    def __len__(self) -> int:
        return self._count

    def enter(self, place: Place) -> None:
        """Give a handshake a place. If all places are taken, this may tell another handshake to give way.

        Raises:
            LimitExceeded: There is no place for the handshake.
        """
        held = len(self._of_source.get(place.source, ())) + len(self._kept.get(place.source, ()))
        if self._most_per_source is not None and held >= self._most_per_source:
            what = f"more than {self._most_per_source} {self._counted} at a time from {place.source}"
            raise self._told(LimitExceeded(what, stage=Stage.CONNECT, hint=self._hint))
        if self._most is not None and self._count >= self._most and not self._makes_room(place.source):
            what = f"more than {self._most} {self._counted} at a time"
            raise self._told(LimitExceeded(what, stage=Stage.CONNECT, hint=self._hint_for_all))
        self._count += 1
        places = self._of_source.setdefault(place.source, {})
        places[place] = None
        self._move(place.source, len(places) - 1, len(places))

    def leave(self, place: Place) -> None:
        """Take a place back. For a handshake that has given way, this does nothing."""
        if place in self._kept.get(place.source, ()):
            self._count -= 1
            self._remove(self._kept, place)
        elif place in self._of_source.get(place.source, ()):
            self._count -= 1
            self._withdraw(place)

    def _makes_room(self, newcomer: str) -> bool:
        """Tell one handshake of the source with the most contested places to give way; return whether there is one."""
        self._keep_proven_of(newcomer)
        while self._largest > len(self._of_source.get(newcomer, ())) + 1:
            source = next(iter(self._sources[self._largest]))
            if self._keep_proven_of(source):
                continue  # now another source may hold more
            places = self._of_source[source]
            what = f"more than {self._most} {self._counted} at a time, {len(places)} of them from {source}"
            oldest = next((place for place in places if not place.proven), next(iter(places)))
            self.leave(oldest)
            oldest.give_way(self._told(LimitExceeded(f"{what}: one made room for {newcomer}", hint=self._hint_for_all)))
            return True
        return False

    def _keep_proven_of(self, source: str) -> bool:
        """Move the places of a source's proven logons to the kept places; return whether any place was moved.

        A proven logon stays proven, so each place is moved once. Where proven places are not kept, nothing is moved.
        """
        if not self._keep_proven:
            return False
        proven = [place for place in self._of_source.get(source, ()) if place.proven]
        for place in proven:
            self._withdraw(place)
            self._kept[source][place] = None
        return bool(proven)

    def _withdraw(self, place: Place) -> None:
        """Take a place out of the contested places."""
        held = len(self._of_source[place.source])
        self._remove(self._of_source, place)
        self._move(place.source, held, held - 1)

    @staticmethod
    def _remove(of_source: dict[str, dict[Place, None]], place: Place) -> None:
        del of_source[place.source][place]
        if not of_source[place.source]:
            del of_source[place.source]

    def _told(self, error: LimitExceeded) -> LimitExceeded:
        if self._tell is not None:
            self._tell(error)
        return error

    def _move(self, source: str, held: int, holds: int) -> None:
        """Note that the number of a source's contested places goes from `held` to `holds`."""
        self._sources[held].pop(source, None)
        if not self._sources[held]:
            del self._sources[held]
        if holds:
            self._sources[holds][source] = None
        if holds > self._largest or self._largest not in self._sources:
            self._largest = holds

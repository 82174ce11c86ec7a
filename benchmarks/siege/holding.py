"""What connections without a logon hold: memory while they are there, and nothing once the deadline is over.

Each crowd comes to a server without limits on their number, so that only the deadline ends them. The server's resident
memory is read while they are there, and its descriptors at the end. These figures do not depend on how fast the machine
is, as long as a crowd comes within the deadline.
"""

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence

from benchmarks.harness import Figure, Row
from benchmarks.siege.attackers import Attacker, attacking, is_possible
from benchmarks.siege.crowds import CROWDS
from benchmarks.siege.logons import ERRORS, Logons
from benchmarks.siege.rates import count_of
from benchmarks.siege.servers import Server, Variant, World, unlimited

__all__ = ["CEILINGS", "Held", "attacks_on", "ceiling_of", "hold", "rows_of"]

KIB = 1024
PATIENCE = 60.0
"""Seconds after the deadline in which all connections must be gone, on a machine that does other work, too."""

CEILINGS: dict[str, int] = {
    "silent": 32,
    "drip": 96,
    "half_record": 96,
    "hello_silence": 96,
    "lies_tls": 96,
    "lies_request": 160,
    "lies_tpkt": 32,
    "lies_http": 96,
    "unread": 512,
}
"""The most KiB of a server's memory for a connection without a logon, by what the peer does: docs/limits.md says so."""


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """What the connections of a crowd held."""

    connections: int
    """The most that the server had at a time."""
    memory: int
    """Bytes by which the server grew, at most."""
    left: int
    """Descriptors that the server still had when its deadline was long over."""
    heard: int
    """Connections that the crowd still had then."""

    @property
    def each(self) -> float:
        """KiB for a connection."""
        return self.memory / KIB / max(1, self.connections)


class _Watch(threading.Thread):
    """Notes the most connections and the most memory that a server has."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server, self._over = server, threading.Event()
        self.descriptors, self.memory = server.descriptors, server.memory
        self.most_descriptors, self.most_memory = self.descriptors, self.memory

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.note()

    def note(self) -> None:
        self.most_descriptors = max(self.most_descriptors, self._server.descriptors)
        self.most_memory = max(self.most_memory, self._server.memory)

    def stop(self) -> None:
        self._over.set()
        self.join()


def held_by(attacks: Sequence[str], server: Server, attacker: Attacker, count: int) -> Held:
    """Let crowds come to a fresh server, and wait until it has got rid of them."""
    watch = _Watch(server)
    watch.start()
    for attack in attacks:
        attacker.begin(attack, server.port, count_of(attack, count))
    watch.note()
    left = server.left_above(watch.descriptors, PATIENCE)
    watch.stop()
    heard = _still_held(attacker)
    attacker.end()
    return Held(watch.most_descriptors - watch.descriptors, watch.most_memory - watch.memory, left, heard)


def _still_held(attacker: Attacker) -> int:
    """Return how many connections the crowds have, as soon as it is none, or in the end."""
    deadline = time.monotonic() + PATIENCE
    while (held := attacker.held()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def attacks_on(kind: str) -> list[str]:
    return [attack for attack in CROWDS if is_possible(attack, kind)]


WARMING = 20
"""Logons before memory is read the first time: imports, caches and free lists are no connection's."""


def hold(world: World, variant: Variant, attacks: Sequence[str], count: int, deadline: float) -> Held:
    """Start a server, and let crowds come to it."""
    with (
        world.running([variant], unlimited(deadline)) as [server],
        attacking(variant.kind, world.folder) as attacker,
    ):
        logons = Logons.of(world.certificate)

        async def warm_up() -> None:
            for _ in range(WARMING):
                with contextlib.suppress(*ERRORS):
                    await logons.log_on(variant.kind, server.port)

        asyncio.run(warm_up())
        server.rest()
        return held_by(attacks, server, attacker, count)


def ceiling_of(attacks: Sequence[str], count: int) -> float:
    """Return the KiB that a connection may have on average, where crowds came together."""
    counts = {attack: count_of(attack, count) for attack in attacks}
    return sum(CEILINGS[attack] * each for attack, each in counts.items()) / sum(counts.values())


def rows_of(attacks: Sequence[str], variant: Variant, held: Held, count: int) -> Iterator[Row]:
    """Return the rows of crowds that came together; `count` is that of the silent."""
    name = attacks[0] if len(attacks) == 1 else "all at once"
    key = f"siege.{name.replace(' ', '_')}.{variant.kind}.{variant.loop}.{variant.build}"
    bare = variant.kind == "tls"
    yield Row(
        key=f"{key}.memory",
        what=f"memory of a connection, {name}: {variant}",
        figure=Figure.of([held.each]),
        unit="KiB",
        goal=None if bare else ceiling_of(attacks, count),
        note=f"{held.connections} connections",
    )
    yield Row(
        key=f"{key}.left",
        what=f"connections left after the deadline, {name}: {variant}",
        figure=Figure.of([held.left + held.heard]),
        unit="",
        goal=None if bare else 0.0,
    )

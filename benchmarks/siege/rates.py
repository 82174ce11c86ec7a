"""The share of its logons that a server keeps up beside an attack.

A round has two slices of time for each server: the good clients alone, and beside the attack. Their order alternates
with the rounds, and so does the order of the servers. The share is the rate of logons beside the attack, divided by the
rate of the neighbouring slice without it. Between slices everybody waits until the server has nothing to do. A crowd
has come before its slice begins: what it costs by coming is no part of it, since it comes once and stays.
"""

import asyncio
import dataclasses
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness import LOOPS, Figure, Row
from benchmarks.siege.attackers import Attacker, is_possible
from benchmarks.siege.crowds import CROWDS, UNREADING
from benchmarks.siege.logons import Logons, rate
from benchmarks.siege.servers import Server, Variant, World

__all__ = [
    "QUIET",
    "Besieged",
    "Kept",
    "Rounds",
    "Slices",
    "besieged",
    "count_of",
    "kept_beside",
    "row_of_descriptors",
    "rows_of",
]

QUIET = frozenset(CROWDS) - UNREADING
"""The attacks that cost the server next to nothing once they have begun."""
QUIET_GOAL, BUSY_GOAL = 0.9, 0.5
"""The shares of logons that must be kept beside the quiet attacks, and beside all others."""
REST = 5.0
"""Seconds that a server gets to come to rest after a slice."""
BEGINNING = 0.1
"""Seconds that an attack gets to begin before its slice."""


@dataclasses.dataclass(frozen=True, slots=True)
class Slices:
    """How often, and how long, is measured."""

    rounds: int
    seconds: float
    crowd: int
    """The connections of the silent ones; other crowds are a tenth of it."""
    least: int = 0
    """Logons that a slice waits for, however long that takes."""


def count_of(attack: str, crowd: int) -> int:
    """Return how many connections an attack has, where so many are silent."""
    if attack in UNREADING:
        return max(10, crowd // 500)
    return crowd if attack == "silent" else max(10, crowd // 10)


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """What a server kept beside an attack, in one round."""

    alone: float
    """Logons a second without the attack."""
    beside: float
    """Logons a second beside it."""
    busy: float
    """The share of its core that the server had beside the attack."""
    work: float
    """The share of the server's CPU beside the attack that went into the logons, by what a logon costs it alone."""

    @property
    def share(self) -> float:
        return self.beside / self.alone if self.alone else 0.0


Rounds = list[dict[Variant, Kept]]


@dataclasses.dataclass(frozen=True, slots=True)
class Besieged:
    """A server, with those who log on there and those who attack it."""

    server: Server
    logons: Logons
    attacker: Attacker

    def kept(self, attack: str, slices: Slices, *, attack_first: bool) -> Kept:
        """Measure a slice beside the attack, and one without it."""
        rates, busy, each, server = {}, {}, {}, self.server
        with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:
            for attacked in (True,) if slices.least else (attack_first, not attack_first):
                if attacked:
                    self.attacker.begin(attack, server.port, count_of(attack, slices.crowd))
                    time.sleep(BEGINNING)
                    if attack in QUIET:  # the server may still answer those who have come
                        server.rest(patience=REST)
                started, cpu = time.perf_counter(), server.cpu
                slice_of_time = rate(
                    lambda: self.logons.log_on(server.variant.kind, server.port), slices.seconds, slices.least
                )
                rates[attacked] = runner.run(slice_of_time)
                busy[attacked] = (server.cpu - cpu) / (time.perf_counter() - started)
                each[attacked] = busy[attacked] / rates[attacked] if rates[attacked] else math.inf
                if attacked:
                    self.attacker.end()
                server.rest(patience=REST)
        return Kept(rates.get(False, 0.0), rates[True], busy[True], each.get(False, 0.0) / each[True])


def besieged(world: World, servers: Sequence[Server], attackers: Mapping[str, Attacker]) -> list[Besieged]:
    logons = Logons.of(world.certificate)
    return [Besieged(server, logons, attackers[server.variant.kind]) for server in servers]


def kept_beside(attack: str, everybody: Sequence[Besieged], slices: Slices) -> Rounds:
    """Return what each server keeps beside an attack, round by round; nothing for servers that it is not about."""
    attacked, found = [each for each in everybody if is_possible(attack, each.server.variant.kind)], []
    for number in range(slices.rounds):
        turn = attacked[:: 1 if number % 2 else -1]
        found.append({each.server.variant: each.kept(attack, slices, attack_first=number % 2 == 1) for each in turn})
    return found


def rows_of(attack: str, rounds: Rounds, slices: Slices) -> Iterator[Row]:
    """Return the rows of an attack: the share of each server, and that share over bare TLS's on the same loop.

    Where a slice is a few logons, shares mean nothing: the row says only how many logons a second there were.
    """
    for variant in sorted(rounds[0]):
        figure = Figure.of(each[variant].share for each in rounds)
        alone, busy, work = (
            statistics.median(getattr(each[variant], name) for each in rounds) for name in ("alone", "busy", "work")
        )
        note = f"{alone:.0f} a second alone; beside it {busy:.0%} of a core, {work:.0%} of that for logons"
        bare = Variant("tls", variant.loop)
        key = f"siege.{attack}.{variant.kind}.{variant.loop}.{variant.build}"
        if slices.least:
            beside = Figure.of(each[variant].beside for each in rounds)
            yield Row(key=f"{key}.beside", what=f"logons a second, {attack}: {variant}", figure=beside, unit="")
            continue
        if variant.kind == "tls":
            yield Row(key=key, what=f"logons kept, {attack}: bare TLS, {variant.loop}", figure=figure, note=note)
            continue
        goal = QUIET_GOAL if attack in QUIET else BUSY_GOAL
        yield Row(key=key, what=f"logons kept, {attack}: {variant}", figure=figure, goal=goal, at_most=False, note=note)
        if bare in rounds[0]:
            yield Row(
                key=f"{key}.over_tls",
                what=f"logons kept over what bare TLS keeps, {attack}: {variant}",
                figure=Figure.of(each[variant].share / max(each[bare].share, 0.01) for each in rounds),
                goal=1.0,
                at_most=False,
            )


def row_of_descriptors(server: Server, before: int) -> Row:
    """Return the row of the descriptors that a server has after all attacks, above those before them."""
    return Row(
        key=f"siege.{server.variant.kind}.{server.variant.loop}.{server.variant.build}.descriptors",
        what=f"descriptors left after all attacks: {server.variant}",
        figure=Figure.of([server.left_above(before)]),
        unit="",
        goal=0.0,
    )

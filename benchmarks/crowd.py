"""The engine's CPU with many handshakes in flight, of which a random one takes the next step, as in a broker.

With handshakes one after the other (`inmemory`), the code and data of the last one are still in the processor's caches.
Here they are not: between two steps of a handshake, the others take dozens or hundreds. Bare TLS steps in the same
random order. Figures are means, so the garbage collector is included.

The engine looks for the package `arc4` when it is imported. So the rows without it are measured in a
process of their own: `python -m benchmarks.crowd MODE` prints its rows as JSON.
"""

import dataclasses
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

if __name__ == "__main__":
    sys.modules["arc4"] = None  # type: ignore[assignment] # the engine must not find it

import acredssp
from acredssp.policy import MechanismChoice
from benchmarks.children import ROOT
from benchmarks.harness import SIZES, Figure, Results, Row, Size, Watch, environment, settle
from benchmarks.peers import NAME, Cost, Peer, Rounds, Setting, Side, row_over_tls

MECHANISMS = {"NTLM": MechanismChoice.NTLM, "SPNEGO": MechanismChoice.NEGOTIATE}
SIDES = {"both": "both sides", "server": "server alone"}

GOALS = {
    "interpreted": {
        ("NTLM", "both"): (1.38, 1.35),
        ("SPNEGO", "both"): (1.47, 1.44),
        ("NTLM", "server"): (1.35, 1.32),
        ("SPNEGO", "server"): (1.43, 1.40),
    },
    "compiled": {
        ("NTLM", "both"): (1.28, 1.25),
        ("SPNEGO", "both"): (1.35, 1.32),
        ("NTLM", "server"): (1.25, 1.22),
        ("SPNEGO", "server"): (1.31, 1.28),
    },
}
"""For each build, the goal and the figure to reach one day, with the smaller crowd."""

WITHOUT_ARC4 = 0.05
"""The most that a handshake may take more without arc4, as a share of bare TLS."""

STEPS = 3
"""The steps that a watch sees."""

TURN = 25
"""As many steps as this number of handshakes has are one peer's turn."""


class Crowd:
    """Handshakes of one peer, at all stages. A finished one makes room for a new one.

    Args:
        peer: The peer.
        count: How many handshakes are in flight.
        clock: Returns seconds.
    """

    def __init__(self, peer: Peer, count: int, clock: Callable[[], float] = time.thread_time) -> None:
        self.steps = _InFlight(peer, clock).finish()
        """The steps of a handshake, both sides together."""
        self._peer = peer
        self._clock = clock
        self._choose = random.Random(0)  # noqa: S311 - the same order in every run
        self._handshakes = [_InFlight(peer, clock) for _ in range(count)]
        for number, handshake in enumerate(self._handshakes):
            for _ in range(number % self.steps):
                handshake.step()
        self._spent: dict[tuple[str, int], list[float]] = {}

    def run(self, handshakes: int) -> None:
        """Take as many steps as a number of handshakes has, each of a random handshake."""
        choose, crowd, spent = self._choose, self._handshakes, self._spent
        for _ in range(handshakes * self.steps):
            which = choose.randrange(len(crowd))
            chosen = crowd[which]
            for name, seconds in chosen.step().items():
                spent.setdefault((name, chosen.taken), []).append(seconds)
            if chosen.done:
                crowd[which] = _InFlight(self._peer, self._clock)

    def cost(self) -> Cost:
        """Return what a handshake has cost since the last call: the sum of each step's mean."""
        sums = {"client": 0.0, "server": 0.0}
        for (name, _), seconds in self._spent.items():
            sums[name] += statistics.fmean(seconds)
        self._spent.clear()
        return Cost(sums["client"], sums["server"], 0, 0)


class _InFlight:
    """One handshake, whose sides step in turn. Making and deleting the objects belongs to the step."""

    __slots__ = ("_clock", "_data", "_make", "_sides", "done", "taken")

    def __init__(self, peer: Peer, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._make = {"client": peer.client, "server": peer.server}
        self._sides: dict[str, Side] = {}
        self._data = b""
        self.taken = 0
        """The steps that were taken."""
        self.done = False

    def step(self) -> dict[str, float]:
        """Let the side step whose turn it is; return the seconds of each side that did something."""
        clock, sides = self._clock, self._sides
        name = "server" if self.taken % 2 else "client"
        started = clock()
        side = sides.get(name)
        if side is None:
            side = sides[name] = self._make[name]()
        self._data = side.step(self._data)
        spent = {name: clock() - started}
        del side
        self.taken += 1
        if self.taken > 1 and all(each.done for each in sides.values()):
            self.done = True
            for deleted in ("client", "server"):
                spent[deleted] = spent.get(deleted, 0.0) + self._delete(deleted)
        return spent

    def _delete(self, name: str) -> float:
        started = self._clock()
        del self._sides[name]
        return self._clock() - started

    def finish(self) -> int:
        """Take all steps, and return their number."""
        while not self.done:
            self.step()
        return self.taken


def measure(size: Size, results: Results, watch: Watch) -> None:
    for count in size.crowds:
        watch.step(f"{count:,} in flight")
        results.rows += over_tls(take_turns(count, size), count, size)
        watch.done()
    watch.step("in flight without arc4")
    results.rows += without_arc4(results, results.mode, size.crowds)
    watch.done()


def take_turns(count: int, size: Size) -> Rounds:
    """Run the rounds; the first is dropped. Turns come in a new order each time, the same in every run."""
    setting = Setting.of(acredssp.self_signed([NAME]), "1.3")
    peers = {"TLS": setting.bare_tls()} | {name: setting.acredssp(choice) for name, choice in MECHANISMS.items()}
    crowds = {name: Crowd(peer, count) for name, peer in peers.items()}
    order, shuffle = list(crowds), random.Random(0).shuffle  # noqa: S311 - no secret
    rounds: Rounds = []
    for _ in range(size.rounds + 1):
        settle()
        for _ in range(max(1, size.crowd_handshakes // TURN)):
            shuffle(order)
            for name in order:
                crowds[name].run(min(TURN, size.crowd_handshakes))
        rounds.append({name: crowd.cost() for name, crowd in crowds.items()})
    return rounds[1:]


def over_tls(rounds: Rounds, count: int, size: Size) -> list[Row]:
    goals = GOALS[str(environment()["build"])] if count == size.crowds[0] else {}
    rows = []
    for mechanism in MECHANISMS:
        for side, what in SIDES.items():
            goal, reach = goals.get((mechanism, side), (None, None))
            rows.append(
                row_over_tls(
                    rounds,
                    mechanism,
                    side,
                    key=f"in_flight.{count}.{mechanism.lower()}.{side}",
                    what=f"CPU over bare TLS, {count:,} in flight, random order, {mechanism}, {what}",
                    goal=goal,
                    reach=reach,
                )
            )
    return rows


def without_arc4(results: Results, mode: str, crowds: tuple[int, ...]) -> list[Row]:
    """Measure the same in a process that finds no arc4, with nothing else changed."""
    run = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "benchmarks.crowd", mode], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"the engine without arc4 could not be measured: {run.stderr[-2000:]}")
    theirs = {row.key: row for row in map(Row.from_json, json.loads(run.stdout))}
    ours = {row.key: row for row in results.rows if row.key in theirs}
    alone = [
        dataclasses.replace(row, key=f"{key}.no_arc4", what=f"{row.what}, without arc4", goal=None, reach=None)
        for key, row in theirs.items()
    ]
    return [*alone, *(_added(key, theirs[key], ours[key]) for key in _both_sides(crowds[0]))]


def _both_sides(count: int) -> list[str]:
    return [f"in_flight.{count}.{mechanism.lower()}.both" for mechanism in MECHANISMS]


def _added(key: str, without: Row, beside: Row) -> Row:
    """Return what a handshake takes more where arc4 is missing, as a share of bare TLS."""
    added = without.figure.median - beside.figure.median
    what = f"the share of bare TLS that is added without arc4: {beside.what.removeprefix('CPU over bare TLS, ')}"
    return Row(key=f"{key}.arc4", what=what, figure=Figure(added, added, added, 1), goal=WITHOUT_ARC4)


def _print(mode: str) -> None:
    size = SIZES[mode]
    rows = [row for count in size.crowds for row in over_tls(take_turns(count, size), count, size)]
    json.dump([row.as_json() for row in rows], sys.stdout)


if __name__ == "__main__":
    _print(sys.argv[1])

"""The parts that all benchmarks share: sizes of a run, figures with their spread, rows with their verdict, environment.

The figures hold even on a machine that does other work: the things that are compared run in turns within one process, a
round's figure is a ratio within that round, and a row is the median of its rounds. Absolute times are reported, but
never compared across runs.
"""

import asyncio
import dataclasses
import gc
import importlib.machinery
import os
import pathlib
import platform
import resource
import ssl
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Self

import cryptography
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import acredssp.core.context

SUFFIXES = tuple(importlib.machinery.EXTENSION_SUFFIXES)

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
"""The functions that make the event loops."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The size of a run."""

    rounds: int
    """Counted rounds in memory; another one before them warms everything up."""
    handshakes: int
    """Handshakes of each kind in a round in memory."""
    crowds: tuple[int, ...]
    """The numbers of handshakes in flight in memory. The goals are about the first one."""
    crowd_handshakes: int
    """Handshakes of each kind in a round with others in flight."""
    loopback_rounds: dict[int, int]
    """Rounds over loopback, by the number of handshakes at once."""
    loopback_handshakes: int
    """The least number of handshakes of a round over loopback."""
    connections: int
    """Connections of a memory row."""
    bulk: int
    """Bytes of a bulk transfer."""
    bulk_rounds: int
    pings: int
    samples: int
    """Handshakes of a stage profile."""
    attacked_rounds: int
    """Rounds beside each attacker; after one short round the harness has shown that it works."""
    messages_at: int = 0
    """The number of handshakes at once for which a logon's messages are measured without the logon; 0 for none."""
    every_instruction: bool = False
    """Whether instructions are counted for more than the rows with a goal."""
    every_pyspnego: bool = False
    """Whether pyspnego also runs over loopback: it takes four times as long as the others."""


SIZES = {
    "quick": Size(
        rounds=1, handshakes=2, crowds=(5, 10), crowd_handshakes=2,
        loopback_rounds={1: 1, 10: 1}, loopback_handshakes=4, connections=4, bulk=1 << 18,
        bulk_rounds=1, pings=20, samples=20, attacked_rounds=1, messages_at=10,
    ),
    "bench": Size(
        rounds=11, handshakes=20, crowds=(50, 1000), crowd_handshakes=100,
        loopback_rounds={1: 4, 100: 5, 1000: 3, 5000: 1}, loopback_handshakes=200,
        connections=250, bulk=1 << 25, bulk_rounds=5, pings=2000, samples=2000, attacked_rounds=5, messages_at=100,
    ),
    "beside": Size(
        rounds=9, handshakes=20, crowds=(50, 1000), crowd_handshakes=100,
        loopback_rounds={1: 2, 100: 2, 1000: 1}, loopback_handshakes=200,
        connections=250, bulk=1 << 25, bulk_rounds=5, pings=2000, samples=2000, attacked_rounds=3,
    ),
    "full": Size(
        rounds=31, handshakes=40, crowds=(50, 1000), crowd_handshakes=200,
        loopback_rounds={1: 9, 100: 9, 1000: 9, 5000: 3}, loopback_handshakes=400,
        connections=1000, bulk=1 << 26, bulk_rounds=11, pings=5000, samples=10000, attacked_rounds=11,
        messages_at=100, every_instruction=True, every_pyspnego=True,
    ),
}  # fmt: skip
"""The sizes by mode. `quick` only shows that the harness works; its figures mean nothing. `beside` is `bench` for a
second build of the engine: loopback, which takes longest, is cut short, and bare TLS's messages are left out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """A median with its spread."""

    median: float
    low: float
    """The least of all rounds."""
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Figure":
        values = sorted(values)
        return cls(statistics.median(values), values[0], values[-1], len(values))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    key: str
    """The row's name in the JSON, for programs; it never changes."""
    what: str
    figure: Figure
    unit: str = "x"
    """The unit; `x` stands for a ratio."""
    goal: float | None = None
    """The bound for the verdict; None for a figure that is only reported."""
    reach: float | None = None
    """The value that the figure should reach one day; missing it fails nothing."""
    at_most: bool = True
    """Whether less is better."""
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "reported"
        if self._holds(self.goal):
            return "reached" if self.reach is not None and self._holds(self.reach) else "met"
        return f"missed by {abs(self.figure.median / self.goal - 1):.0%}"

    def _holds(self, bound: float) -> bool:
        return self.figure.median <= bound if self.at_most else self.figure.median >= bound

    def as_json(self) -> dict[str, object]:
        return dataclasses.asdict(self) | {"verdict": self.verdict}

    @classmethod
    def from_json(cls, found: dict) -> Self:
        fields = {name: value for name, value in found.items() if name != "verdict"}
        return cls(**fields | {"figure": Figure(**found["figure"])})


@dataclasses.dataclass(slots=True)
class Results:
    """The results of a run."""

    mode: str
    environment: dict[str, str | float]
    rows: list[Row] = dataclasses.field(default_factory=list)
    compiled: list[Row] = dataclasses.field(default_factory=list)
    """The rows that were measured on the compiled engine."""
    left_out: list[dict[str, str]] = dataclasses.field(default_factory=list)
    """Objects that say `what` was not measured and `why`."""
    details: dict[str, object] = dataclasses.field(default_factory=dict)
    """The figures from which the plots are drawn, by group of rows."""

    def leave_out(self, what: str, why: str) -> None:
        self.left_out.append({"what": what, "why": why})

    def as_json(self) -> dict[str, object]:
        return {
            "mode": self.mode,
            "environment": self.environment,
            "rows": [row.as_json() for row in self.rows],
            "compiled": [row.as_json() for row in self.compiled],
            "left_out": self.left_out,
            "details": self.details,
        }


def ratios(rounds: Sequence[dict[str, float]], over: str, under: str) -> Figure:
    """Divide the figures of `over` by those of `under`, round by round."""
    return Figure.of(each[over] / each[under] for each in rounds)


def environment() -> dict[str, str | float]:
    """Return the environment of the figures; `load` is the load average of the minute before, from other programs."""
    return {
        "build": "compiled" if acredssp.core.context.__file__.endswith(SUFFIXES) else "interpreted",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "cryptography": cryptography.__version__,
        "uvloop": uvloop.__version__,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 1),
    }


TRIPLE = ("python", "openssl", "cryptography")
"""The versions for which instruction counts hold."""


def _cpu() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def skips_are_failures() -> bool:
    """Return whether nothing may be skipped, as in continuous integration, where everything is installed."""
    return os.environ.get("ACREDSSP_NO_SKIPS", "") not in {"", "0"} or os.environ.get("CI", "") in {"1", "true"}


def raise_file_limit() -> int:
    """Raise RLIMIT_NOFILE to its hard limit, and return it: a connection within one process takes two files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def settle() -> None:
    """Collect garbage, and have the collector ignore all objects that exist. This is done before each turn, for all."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class Watch:
    """Shows how far a run is. The thread that measures draws it, only between measurements."""

    def __init__(self, console: Console, steps: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=steps)
        self._console = console

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, what: str) -> None:
        """Begin another step."""
        if not self._console.is_terminal:
            self._console.print(what)
        self._progress.update(self._bar, description=what)
        self._progress.refresh()

    def done(self) -> None:
        """End a step."""
        self._progress.advance(self._bar)
        self._progress.refresh()

"""Cache misses of a handshake above those of its TLS, simulated by valgrind's callgrind: no load changes them.

The simulated processor has caches of 32 KiB for code and 32 KiB for data, and one of 1 MiB behind both, whose misses
count. A random one of 50 handshakes in flight takes each step (`crowd`), so that a handshake finds little of what its
last step has used. As with the instructions, the figure is the difference to bare TLS, and the part outside of
OpenSSL and the C library has a figure of its own.

The caches are those of a core of a server. A simulated processor neither prefetches nor predicts, so the misses say
where a build stands beside another one, and not how many nanoseconds it takes.
"""

import shutil
import sys

from benchmarks import instructions
from benchmarks.children import ROOT
from benchmarks.crowd import Crowd
from benchmarks.harness import Figure, Results, Row, Size, Watch
from benchmarks.profiles import Counts

CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64")
"""Bytes, ways and bytes of a line."""
EVENTS = ("ILmr", "DLmr", "DLmw")
"""Misses in the last cache: of code, and of data that is read and written."""

CROWD = 50
COUNTED = 80
"""The handshakes that count. Misses depend on where objects happen to lie, and so differ more from one handshake to the
next than instructions do."""
THOUSAND = 1e3
GOALS = {"ntlm": (6.0, 4.0)}
"""The goal, and the figure to reach one day, in thousands of misses above TLS, code and data together."""


def measure(_size: Size, results: Results, watch: Watch) -> None:
    """Measure both builds. Bare TLS has no part of the engine, so it is counted once."""
    from benchmarks import compiled_build  # noqa: PLC0415 - the processes under valgrind need none of its imports

    watch.step("cache misses")
    if shutil.which("valgrind") is None:
        results.leave_out("cache misses above TLS", instructions.MISSING)
    else:
        found = count(["tls", "ntlm"], [str(ROOT)])
        results.rows += rows(found, "ntlm")
        if not compiled_build.missing():
            found |= count(["ntlm"], [str(compiled_build.FOLDER), str(ROOT)])
            results.compiled += rows(found, "ntlm")
    watch.done()


def rows(found: dict[str, Counts], name: str) -> list[Row]:
    """Return a peer's rows, above `tls`: of code and data together, of each, and of both outside of OpenSSL."""
    above = found[name].less(found["tls"], THOUSAND)
    goal, reach = GOALS[name]
    code, *data = above.whole
    figures = [("", "", code + sum(data)), (" of code", ".code", code), (" of data", ".data", sum(data))]
    if above.own is not None:
        figures.append((" without OpenSSL and libc", instructions.OWN, sum(above.own)))
    return [
        Row(
            key=f"misses.{name}{key}",
            what=f"cache misses{what} above TLS, simulated, {instructions.NAMES[name]}, RSA-2048",
            figure=Figure(figure, figure, figure, 1),
            unit="thousand",
            goal=None if key else goal,
            reach=None if key else reach,
        )
        for what, key, figure in figures
    ]


def count(names: list[str], paths: list[str]) -> dict[str, Counts]:
    """Count with the engine that is found first in some folders."""
    script = f"import sys; sys.path[:0] = {paths}; from benchmarks import misses; misses.perform(*sys.argv[1:])"
    command = [sys.executable, "-P", "-c", script]
    return instructions.count(names, options=CACHES, events=EVENTS, handshakes=COUNTED, command=command)


def perform(folder: str, handshakes: str, *names: str) -> None:
    """Do what valgrind watches, in a process of its own."""
    instructions.perform(folder, handshakes, names, lambda peer: Crowd(peer, CROWD, clock=float).run)

"""Cache misses of a handshake above those of its TLS, simulated by valgrind's cachegrind: no load changes them.

The simulated processor has caches of 32 KiB for code and 32 KiB for data, and one of 1 MiB behind both, whose misses
count. A random one of 50 handshakes in flight takes each step (`crowd`), so that a handshake finds little of what its
last step has used. As with the instructions, the figure is the difference of two processes, less that of bare TLS: here
of 90 handshakes and of 10.

The caches are those of a core of a server. A simulated processor neither prefetches nor predicts, so the misses say
where a build stands beside another one, and not how many nanoseconds it takes.
"""

import re
import shutil
import sys

from benchmarks import instructions
from benchmarks.children import ROOT
from benchmarks.crowd import Crowd
from benchmarks.harness import Figure, Results, Row, Size, Watch

CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64")
"""Bytes, ways and bytes of a line."""

CROWD = 50
SIZES = (10, 90)
"""The handshakes of the two processes. Misses depend on where objects happen to lie, and so differ more from one
handshake to the next than instructions do."""
COMPILED = " compiled"
"""Behind the name of a peer whose engine is the compiled one."""
THOUSAND = 1e3
GOALS = {"ntlm": (6.0, 4.0)}
"""The goal, and the figure to reach one day, in thousands of misses above TLS, code and data together."""


def measure(_size: Size, results: Results, watch: Watch) -> None:
    """Measure both builds: bare TLS, which takes half of the time, is the same in both."""
    from benchmarks import compiled_build  # noqa: PLC0415 - the processes under valgrind need none of its imports

    watch.step("cache misses")
    if shutil.which("valgrind") is None:
        results.leave_out("cache misses above TLS", instructions.MISSING)
    else:
        beside = [] if compiled_build.missing() else [f"ntlm{COMPILED}"]
        found = instructions.count(["tls", "ntlm", *beside], options=CACHES, sizes=SIZES, command=command, read=read)
        results.rows += rows(found, "ntlm")
        results.compiled += [row for name in beside for row in rows(found, name)]
    watch.done()


def rows(found: dict[str, tuple[float, ...]], name: str) -> list[Row]:
    """Return a peer's rows, above `tls`: of code and data together, of code, and of data."""
    code, data = ((ours - floor) / THOUSAND for ours, floor in zip(found[name], found["tls"], strict=True))
    name = name.removesuffix(COMPILED)
    return [
        Row(
            key=f"misses.{name}{key}",
            what=f"cache misses{what} above TLS, simulated, {instructions.NAMES[name]}, RSA-2048",
            figure=Figure(figure, figure, figure, 1),
            unit="thousand",
            goal=goal,
            reach=reach,
        )
        for what, key, figure, (goal, reach) in (
            ("", "", code + data, GOALS[name]),
            (" of code", ".code", code, (None, None)),
            (" of data", ".data", data, (None, None)),
        )
    ]


def command(folder: str, name: str, handshakes: int) -> list[str]:
    """Return the command of a process. Bare TLS has no part of the engine, so that the build does not matter."""
    paths = [str(ROOT / "build" / "compiled"), str(ROOT)] if name.endswith(COMPILED) else [str(ROOT)]
    script = f"import sys; sys.path[:0] = {paths}; from benchmarks import misses; misses.perform(*sys.argv[1:])"
    return [sys.executable, "-P", "-c", script, folder, name.removesuffix(COMPILED), str(handshakes)]


def read(said: str) -> tuple[float, ...]:
    """Return the misses of code and of data in the last cache."""
    found = [re.search(rf"{cache}\s+misses:\s+([\d,]+)", said) for cache in ("LLi", "LLd")]
    return tuple(float(each[1].replace(",", "")) for each in found if each is not None)


def perform(folder: str, name: str, handshakes: str) -> None:
    """Do what valgrind watches, in a process of its own."""
    Crowd(instructions.peer(folder, name), CROWD, clock=float).run(int(handshakes))

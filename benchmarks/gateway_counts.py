"""What a logon through the gateway executes above what both its legs execute, in instructions of Python's bytecode.

    python -m benchmarks.gateway --count

The gateway, the target and the users are the processes of `benchmarks.gateway`, but each counts, function by function,
what its main thread executes. 100 users log on through the gateway, 20 at a time, and then 100 at the target itself.
From what the gateway executes for a logon, what the target and a client execute for one is taken off: the rest is the
gateway's own work, and the table says in which modules it is. A busy machine changes these counts by some 3 %, since a
logon that takes longer meets more of what a process does again and again. What C code does, OpenSSL's and uvloop's
included, is not counted.
"""

import collections
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final

import acredssp

__all__ = ["LOGONS", "Counts", "begin", "counting", "table"]

LOGONS: Final = 100
"""The logons that are counted, and those before them: caches are filled, and modules are imported by then."""
_PACKAGE: Final = str(pathlib.Path(acredssp.__file__).parent) + os.sep

Counts = collections.Counter[str]
"""Instructions by function, as `proxy/front.py:Front.route`, and calls of it by `()` behind its name."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "the two PDUs of MCS, and early data": ("rdp.py", "wire/mcs.py", "wire/der.py", "aio/first_pdus.py"),
    "the relay, and the watch for a redirection": ("aio/relaying.py", "wire/redirection.py"),
    "the figures for Prometheus": ("proxy/metrics.py", "prometheus_client/"),
    "the line of the log": ("proxy/records.py", "logging/", "json/"),
    "names of accounts, and the count of wrong passwords": ("accounts/", "names.py", "aio/failures.py"),
    "the connection: front, routes, limits, target, host, directory": ("proxy/", "hosts/", "stores/", "workers/"),
    "hooks, their requests, reports and limits of the server": (
        "hooks.py", "aio/answers.py", "aio/asking.py", "aio/report.py", "aio/server.py", "aio/limits.py",
        "aio/pacing.py", "aio/sources.py", "aio/handshake.py", "aio/driver.py",
    ),
    "configuration, credentials and connection of the target's leg": (
        "config.py", "credentials.py", "carriage/", "core/", "mechanisms/", "wire/", "arguments.py", "aio/",
    ),
    "objects that dataclasses make": ("<string>",),
    "asyncio: streams, tasks, time limits": ("asyncio/",),
}  # fmt: skip
"""What the modules are for. The first group that has the beginning of a module's path counts it."""
_REST: Final = "the rest"


# --- in a process that counts ---


class _Counting:
    """Counts what the main thread executes from the first SIGUSR1 on, and tells its standard output on each one."""

    def __init__(self) -> None:
        self._codes: collections.Counter[types.CodeType] = collections.Counter()
        self._calls: collections.Counter[types.CodeType] = collections.Counter()

    def _called(self, frame: types.FrameType, _event: str, _arg: object) -> Any:
        code = frame.f_code
        self._calls[code] += 1
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        codes = self._codes

        def executed(_frame: types.FrameType, event: str, _arg: object) -> Any:
            if event == "opcode":
                codes[code] += 1
            return executed

        return executed

    def tell(self, _signal: int, _frame: object) -> None:
        sys.settrace(self._called)
        found = Counts()
        for code, count in [*self._codes.items()]:
            found[_name(code)] += count
        for code, count in [*self._calls.items()]:
            found[f"{_name(code)}()"] += count
        os.write(1, json.dumps(found).encode() + b"\n")


def _name(code: types.CodeType) -> str:
    path = code.co_filename
    for folder in (_PACKAGE, "site-packages/", f"python{sys.version_info[0]}.{sys.version_info[1]}/"):
        if folder in path:
            path = path.partition(folder)[2]
            break
    return f"{path}:{code.co_qualname}"


def begin() -> None:
    """Have this process count when it is asked."""
    signal.signal(signal.SIGUSR1, _Counting().tell)


# --- in the process that asks ---


def counts_of(process: subprocess.Popen[Any]) -> Counts:
    """Return what a process has executed until now."""
    process.send_signal(signal.SIGUSR1)
    while not (line := process.stdout.readline()).startswith("{"):  # what a command says of itself
        assert line, f"{process.args} has ended"
    return Counts(json.loads(line))


@contextlib.contextmanager
def counting(*processes: subprocess.Popen[Any]) -> Iterator[list[Counts]]:
    """Count what processes execute for each of `LOGONS` logons within the block; the list is filled at its end."""
    before, found = [counts_of(each) for each in processes], list[Counts]()
    yield found
    for process, earlier in zip(processes, before, strict=True):
        now = counts_of(process)
        now.subtract(earlier)
        found.append(Counts({name: count / LOGONS for name, count in now.items()}))


# --- the table ---


def table(gateway: Counts, target: Counts, client: Counts) -> Iterator[tuple[str, float, float]]:
    """Yield the rows of the table: what it is, instructions, and calls of functions."""
    for what, counts in (("a server's leg", target), ("a client's leg", client), ("the gateway", gateway)):
        yield what, *_total(counts)
    own = Counts(gateway)
    own.subtract(target)
    own.subtract(client)
    groups: dict[str, Counts] = {name: Counts() for name in [*GROUPS, _REST]}
    for name, count in own.items():
        groups[_group(name)][name] = count
    for what, counts in groups.items():
        yield what, *_total(counts)
    yield "the gateway's own", *_total(own)


def _total(counts: Counts) -> tuple[float, float]:
    calls = sum(count for name, count in counts.items() if name.endswith("()"))
    return sum(counts.values()) - calls, calls


def _group(name: str) -> str:
    return next((group for group, begun in GROUPS.items() if name.startswith(begun)), _REST)

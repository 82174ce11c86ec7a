"""Where the time of a handshake goes: samples of the CPU time, by the module of acredssp that runs.

The kernel's profiling timer (ITIMER_PROF) interrupts the process after some milliseconds of its CPU. Each sample
belongs to the innermost function of acredssp or of the event loop, so the work of `ssl`, `hmac` or cryptography counts
for the module that calls them. The timer slows nothing down. With some 700 samples, a share's standard error is below 2
per cent of the whole. TLS is split: bare TLS is measured in turns with it, and the rest is what acredssp asks of the
session besides the handshake.
"""

import asyncio
import contextlib
import math
import pathlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType

import acredssp
from acredssp.policy import MechanismChoice
from benchmarks.harness import Results, Size, Watch, settle
from benchmarks.loopback import contenders, storm
from benchmarks.peers import NAME, Setting, handshake

INTERVAL = 0.001
"""Seconds of CPU between two samples; most kernels round the time up to their tick."""
AT_ONCE = 100
TURN = 50
"""The handshakes of each kind in a turn."""

ACREDSSP = str(pathlib.Path(acredssp.__file__).parent) + "/"
HARNESS = str(pathlib.Path(__file__).parent) + "/"

TLS, LOOP, OTHER = "TLS", "event loop and sockets", "calling loop, freeing"
STAGES = (
    ("core/tls.py", TLS),
    ("core/server_name.py", TLS),
    ("wire/spnego.py", "SPNEGO"),
    ("mechanisms/negotiate.py", "SPNEGO"),
    ("mechanisms/ntlm/", "NTLM"),
    ("md4.py", "NTLM"),
    ("wire/", "DER and framing"),
    ("core/", "states"),
    ("mechanisms/", "states"),
    ("carriage/", "driver"),
    ("aio/", "driver"),
    ("", "configuration and trust"),
)
"""The stage of a module is that of the first entry with which its path within acredssp begins."""


def stage_of(frame: FrameType | None) -> str:
    """Return the stage that a stack is in."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(ACREDSSP):
            path = file.removeprefix(ACREDSSP)
            return next(stage for prefix, stage in STAGES if path.startswith(prefix))
        if file.startswith(HARNESS):
            return OTHER
        if "/asyncio/" in file or file.endswith("selectors.py"):
            return LOOP
        frame = frame.f_back
    return OTHER


@contextlib.contextmanager
def sampled(samples: Counter[str]) -> Iterator[None]:
    """Count the stages for as long as the block runs."""

    def sample(_signal: int, frame: FrameType | None) -> None:
        samples[stage_of(frame)] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # a signal may still be on its way, and would end the process


def measure(size: Size, results: Results, watch: Watch) -> None:
    setting = Setting.of(acredssp.self_signed([NAME], "rsa"), "1.3")
    watch.step("stages: in memory")
    ours, bare = setting.acredssp(MechanismChoice.NEGOTIATE), setting.bare_tls()
    found = {"in memory": _profile(lambda: handshake(ours), lambda: handshake(bare), size.samples)}
    watch.done()
    watch.step("stages: loopback")
    crowd = min(AT_ONCE, size.samples)
    ours = contenders(setting, with_pyspnego=False)["acredssp"]
    with asyncio.Runner() as runner:
        found["loopback, asyncio"] = _profile(
            lambda: runner.run(storm(ours, crowd, crowd)), lambda: None, size.samples // crowd, each=crowd
        )
    watch.done()
    results.details["stages"] = found


def _profile(ours: Callable[[], object], bare: Callable[[], object], count: int, each: int = 1) -> dict[str, object]:
    """Run `ours` `count` times, `each` handshakes a call, and `bare` between; return µs a handshake by stage."""
    samples: Counter[str] = Counter()
    ours_time = bare_time = 0.0
    turn = min(TURN, count)
    for _ in range(math.ceil(count / turn)):
        settle()
        started = time.process_time()
        with sampled(samples):
            for _ in range(turn):
                ours()
        between = time.process_time()
        for _ in range(turn):
            bare()
        ours_time += between - started
        bare_time += time.process_time() - between
    handshakes = math.ceil(count / turn) * turn * each
    total, floor = ours_time / handshakes * 1e6, bare_time / handshakes * 1e6
    taken = samples.total() or 1
    stages = {stage: round(number / taken * total, 1) for stage, number in samples.most_common()}
    return {"samples": samples.total(), "us": round(total, 1), "bare_tls_us": round(floor, 1), "stages_us": stages}

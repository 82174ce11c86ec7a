"""The gain of a second core: `acredssp serve --workers` with one worker on one core, against two workers on two cores.

    python -m benchmarks.workers [--rounds N] [--seconds S] [--concurrency C] [--realtime] [--json]
    python -m benchmarks.workers --generate PORT PIN CONCURRENCY     is a load generator, which the first form starts

A pair is a worker and its load generator, pinned to the same core. Two servers run all the time. A round loads the
one-worker server from its core, and then the two-worker server from both cores, for the same time. Each generator makes
enough logons at a time to keep its worker busy. The figure of a round is the ratio of logons a second. The core of the
single pair changes with every round: two cores are seldom equal, above all if other programs use them.

By the clock, this figure is right only while no other program uses the cores of the pairs. So a second figure counts
logons for each second of CPU that the pairs had, times the number of pairs. If the pairs had less than nine tenths of
their cores, the verdict is about the second figure. `--realtime` (root only) gives the pairs precedence over all other
programs (SCHED_RR) for the seconds that they run.

Two cores may be two threads of one core, or share a machine with a neighbour. So in the same rounds, each core also
hashes alone, and then both hash together.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Self

import acredssp
from acredssp.cli import loops, storm
from benchmarks.harness import Figure, Results, Row, Size, Watch, environment
from benchmarks.peers import ALICE, DOMAIN, PASSWORD

GOAL = 1.8
ALONE = 0.9
"""The least share of the cores that the pairs must have to count as undisturbed."""
CONCURRENCY = 32
"""Logons at a time from each generator."""
WARM_UP = 0.3
"""Seconds of load before the first round."""
HASHING = 0.2
"""Seconds of hashing, on one core and on both, beside each round."""
PATIENCE = 60.0
"""Seconds after which a server that does not start, or a generator that does not end, counts as dead."""
MOST_FAILURES = 1000
"""The logons that may fail before any succeeds. On a busy machine a logon is late, but succeeds in the end."""

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """The result of one run of load."""

    pairs: int
    logons: int
    failures: int
    seconds: float
    cpu: float
    """The CPU of the pairs, workers and generators together, in seconds."""

    @property
    def rate(self) -> float:
        return self.logons / self.seconds

    @property
    def per_cpu(self) -> float:
        return self.logons / self.cpu

    @property
    def share(self) -> float:
        """The share of their cores that the pairs had."""
        return self.cpu / self.seconds / self.pairs


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has had, all its threads together.

    By the clock of that process, whose number Linux makes of the pid (clock_getcpuclockid): /proc/PID/stat counts in
    ticks of 10 ms, and a short run may take none.
    """
    return time.clock_gettime(~pid << 3 | 2)


# --- the server ---


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """`acredssp serve --workers`, with one worker on each core."""

    port: int
    pin: str
    workers: Sequence[int]
    """The workers' processes."""


@contextlib.contextmanager
def serving(folder: pathlib.Path, count: int) -> Iterator[Server]:
    users, output = folder / "users", folder / f"{count}.out"
    users.write_text(f"{DOMAIN}:{ALICE.user}:{PASSWORD}\n", "utf-8")
    argv = [sys.executable, "-m", "acredssp", "serve", "--users", str(users), "--listen", "127.0.0.1:0", "--json"]
    argv += ["--max-per-source", "0"]  # all the load comes from one address
    with (
        output.open("wb") as stdout,
        subprocess.Popen([*argv, "--workers", str(count)], stdout=stdout) as process,  # noqa: S603 - ourselves
    ):
        try:
            ready = json.loads(_first_line(output, process))
            children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
            port = int(ready["listening"].rpartition(":")[2])
            yield Server(port, ready["peer_key_sha256"], [int(pid) for pid in children.split()])
        finally:
            process.terminate()


def _first_line(output: pathlib.Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + PATIENCE
    while "\n" not in (text := output.read_text("utf-8")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("acredssp serve did not come up")
        time.sleep(0.02)
    return text.partition("\n")[0]


# --- the load ---


class Generator:
    """A process that logs on as often as it can, for as long as it is told to."""

    def __init__(self, server: Server, concurrency: int) -> None:
        argv = [sys.executable, "-m", "benchmarks.workers", "--generate", str(server.port), server.pin]
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            [*argv, str(concurrency)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def go(self, seconds: float, *, hashing: bool = False) -> None:
        self._process.stdin.write(f"{'hash' if hashing else 'log on'} {seconds}\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, float]:
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)


def generate(port: int, pin: str, concurrency: int) -> None:
    """Log on, or hash, for as many seconds as each line of the standard input says; answer with a JSON line."""
    client = acredssp.ClientConfig(authenticate=ALICE, trust=acredssp.Trust.pinned(pin))
    for line in sys.stdin:
        what, _, seconds = line.rpartition(" ")
        hashing = what == "hash"
        done = (
            _hash_for(float(seconds)) if hashing else loops.run(_log_on_for(float(seconds), client, port, concurrency))
        )
        print(json.dumps(done), flush=True)


def _hash_for(seconds: float) -> dict[str, float]:
    data, done = bytes(1024), 0
    started = time.perf_counter()
    while not done or time.perf_counter() < started + seconds:
        hashlib.sha256(data).digest()
        done += 1
    return {"hashes": done, "seconds": time.perf_counter() - started}


async def _log_on_for(seconds: float, client: acredssp.ClientConfig, port: int, concurrency: int) -> dict[str, float]:
    done = failures = 0
    started = time.perf_counter()

    async def work() -> None:
        nonlocal done, failures
        while not done or time.perf_counter() < started + seconds:
            if failures > MOST_FAILURES and not done:
                raise RuntimeError(f"none of {failures} logons succeeded")
            try:
                await storm.log_on(client, port)
            except (acredssp.CredSSPError, OSError):
                failures += 1
            else:
                done += 1

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return {"logons": done, "failures": failures, "seconds": time.perf_counter() - started}


def load(server: Server, generators: Sequence[Generator], cores: Sequence[int], seconds: float) -> Load:
    """Run pairs of worker and generator on the given cores, one pair on each."""
    processes = [*server.workers, *(generator.pid for generator in generators)]
    for pid, core in zip(processes, [*cores, *cores], strict=True):
        os.sched_setaffinity(pid, {core})
    before = sum(map(cpu_of, processes))
    for generator in generators:
        generator.go(seconds)
    results = [generator.result() for generator in generators]
    return Load(
        len(generators),
        int(sum(result["logons"] for result in results)),
        int(sum(result["failures"] for result in results)),
        max(result["seconds"] for result in results),
        sum(map(cpu_of, processes)) - before,
    )


def hashing_rate(generators: Sequence[Generator], cores: Sequence[int]) -> float:
    """Hashes a second of so many idle generators, one on each core."""
    for generator, core in zip(generators, cores, strict=True):
        os.sched_setaffinity(generator.pid, {core})
        generator.go(HASHING, hashing=True)
    return sum(result["hashes"] / result["seconds"] for result in [generator.result() for generator in generators])


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    one: Load
    two: Load
    hashing: float
    """Return what two cores hash, divided by what one core hashes."""

    @property
    def speedup(self) -> float:
        return self.two.rate / self.one.rate

    @property
    def per_cpu(self) -> float:
        return 2 * self.two.per_cpu / self.one.per_cpu


def run(cores: Sequence[int], rounds: int, seconds: float, concurrency: int, *, realtime: bool = False) -> list[Round]:
    """Run the rounds on two cores.

    Raises:
        PermissionError: This process may not use `realtime`.
    """
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        one, two = (stack.enter_context(serving(folder, count)) for count in (1, 2))
        single = [stack.enter_context(Generator(one, concurrency))]
        double = [stack.enter_context(Generator(two, concurrency)) for _ in cores]
        if realtime:
            for pid in (*one.workers, *two.workers, *(generator.pid for generator in [*single, *double])):
                os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
        load(one, single, cores[:1], WARM_UP)
        load(two, double, cores, WARM_UP)
        found = []
        for number in range(rounds):
            core = [cores[number % 2]]
            hashing = hashing_rate(double, cores) / hashing_rate(double[:1], core)
            found.append(Round(load(one, single, core, seconds), load(two, double, cores, seconds), hashing))
        return found


def measure(size: Size, results: Results, watch: Watch) -> None:
    watch.step("workers: one pair and two")
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2 or sys.platform != "linux":
        results.leave_out("two workers over one", "it takes linux and two cores")
    else:
        seconds = 1.0 if size.bulk_rounds > 1 else 0.1
        found = run(cores, size.bulk_rounds, seconds, CONCURRENCY)
        results.rows += rows(found)
        results.details["workers"] = details(found)
    watch.done()


def rows(rounds: list[Round]) -> list[Row]:
    rate = statistics.median(each.one.rate for each in rounds)
    share = min(
        statistics.median(each.one.share for each in rounds), statistics.median(each.two.share for each in rounds)
    )
    alone = share >= ALONE
    return [
        Row(
            key="workers.two",
            what="two workers on two cores over one on one, logons a second",
            figure=Figure.of(each.speedup for each in rounds),
            goal=GOAL if alone else None,
            at_most=False,
            note=f"one pair: {rate:.0f}/s" + ("" if alone else f"; others had {1 - share:.0%} of the cores"),
        ),
        Row(
            key="workers.two.cpu",
            what="the same by the CPU that they had",
            figure=Figure.of(each.per_cpu for each in rounds),
            goal=None if alone else GOAL,
            at_most=False,
        ),
        Row(
            key="workers.hashing",
            what="hashing on two cores over one, in the same rounds: what the machine gives to mere computing",
            figure=Figure.of(each.hashing for each in rounds),
            at_most=False,
        ),
    ]


def details(rounds: list[Round]) -> list[dict[str, object]]:
    return [dataclasses.asdict(each) | {"speedup": each.speedup, "per_cpu": each.per_cpu} for each in rounds]


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.workers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY)
    parser.add_argument(
        "--realtime", action="store_true", help="give the pairs precedence over all other programs (root only)"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--generate", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        port, pin, concurrency = options.generate
        generate(int(port), pin, int(concurrency))
        return 0
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        parser.error("it takes two cores")
    rounds = run(cores, options.rounds, options.seconds, options.concurrency, realtime=options.realtime)
    found = rows(rounds)
    if options.json:
        document = {"environment": environment(), "rows": [row.as_json() for row in found], "rounds": details(rounds)}
        print(json.dumps(document, indent=1))
    else:
        for row in found:
            figure = row.figure
            goal = f", goal at least {row.goal}: {row.verdict}" if row.goal else ""
            spread = f"{figure.low:.2f} to {figure.high:.2f}"
            note = f"; {row.note}" if row.note else ""
            print(f"{row.what}: median {figure.median:.2f} ({spread}, {figure.rounds} rounds){goal}{note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

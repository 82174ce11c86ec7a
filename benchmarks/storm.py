"""How long a logon takes while very many users log on: a formula beside a simulation, for 1, 2, 4 and 8 cores.

    python -m benchmarks.storm [--users N] [--seconds T] [--rtt MS] [--from FILE] [--json]

The measurement has two parts: the CPU of each step of the server's side, over some thousand logons in memory, and the
CPU for each logon at a whole `acredssp serve --workers 1` over loopback. The difference (sockets, loop, log) is spread
evenly over the steps. `--from` takes the measurement from an earlier run's JSON, of this program or of `make bench`.

The model is this. Users come as a Poisson stream, independently of each other. The kernel's hash gives each user to one
of c workers, each with a core and a queue of its own. A logon is n steps of the server with a round trip in between,
and each step waits behind the steps that came to its worker before it. Let k be the logons a second for each worker,
and let m and q be the mean and the mean square of a step's CPU, over all steps of all measured logons. A worker's load
is then r = k n m. For r < 1, by Pollaczek and Khinchine (M/G/1, c times), a logon waits

    n * k n q / (2 (1 - r))

This takes each step for an independent arrival, as in an open network of queues, which is right while waits are short
beside round trips. If waits are long, the steps of all logons take turns and share the core: a logon then waits
n m r / (1 - r), whatever the distribution (M/G/1 with processor sharing). Plan with the larger of the two. The M/G/c of
textbooks has one queue for all workers and gives shorter waits; with the kernel's hash, a logon may wait for a busy
worker while another is idle. If r >= 1, the queue grows while users come, and the last one is served after r T seconds
in place of T.

The simulation uses no formula: it draws arrivals, workers and measured logons, and goes from event to event.
"""

import argparse
import dataclasses
import heapq
import itertools
import json
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence

import acredssp
from acredssp.policy import MechanismChoice
from benchmarks import workers
from benchmarks.harness import Figure, Results, Row, Size, Watch, environment, settle
from benchmarks.peers import NAME, Engine, KeyType, Setting, answerer

USERS, SECONDS, RTT = 50_000, 300.0, 0.001
CORES = (1, 2, 4, 8)
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9)
"""The loads of each core that the plot shows."""
LOGONS = 3000
"""Measured, and simulated for each point of the plot and core."""
SEED = 20_000
CARRIAGE = acredssp.RDP(hybrid_ex=True)

Steps = Sequence[float]
"""The seconds of CPU of each step of one logon."""


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """The cost of logons for the server."""

    logons: list[Steps]
    serve: float
    """The mean CPU of a logon at `acredssp serve`, in seconds."""

    def steps(self) -> list[Steps]:
        """The logons with the cost that they have in `acredssp serve`."""
        count = statistics.fmean(map(len, self.logons))
        extra = max(0.0, self.serve - statistics.fmean(map(sum, self.logons))) / count
        return [[step + extra for step in logon] for logon in self.logons]

    def as_json(self) -> dict[str, object]:
        return {
            "steps_us": [[round(step * 1e6, 1) for step in logon] for logon in self.logons],
            "serve_us": round(self.serve * 1e6, 1),
        }

    @classmethod
    def from_json(cls, document: dict[str, dict]) -> "Service":
        """Read what `as_json` gave, in our own output or in that of `make bench`."""
        found = document["details"]["storm"]["service"] if "details" in document else document["service"]
        logons = [[step / 1e6 for step in logon] for logon in found["steps_us"]]
        return cls(logons, found["serve_us"] / 1e6)


# --- the measurement ---


def measure_service(count: int, seconds: float, kind: KeyType = "rsa") -> Service:
    """Measure `count` logons in memory, and `acredssp serve` for so many seconds."""
    setting = Setting.of(acredssp.self_signed([NAME], kind), "1.3")
    client, server = setting.client_config(MechanismChoice.AUTO), setting.server_config()
    settle()
    one_logon(client, server)
    logons = [one_logon(client, server) for _ in range(count)]
    return Service(logons, serve_cpu(seconds))


def one_logon(client_config: acredssp.ClientConfig, server_config: acredssp.ServerConfig) -> Steps:
    """Log on in memory; return what each step took the server."""
    answer = answerer(client_config)
    context = client_config.new_context(server_hostname=NAME, spn=f"TERMSRV/{NAME}")
    client = Engine(CARRIAGE.initiator(context), answer)
    flight = client.step(b"")
    started = time.thread_time()
    server = Engine(CARRIAGE.acceptor(server_config), answer)
    steps = []
    while True:
        reply = server.step(flight)
        steps.append(time.thread_time() - started)
        if server.done:
            return steps
        flight = client.step(reply)
        started = time.thread_time()


def serve_cpu(seconds: float) -> float:
    """Return the seconds of CPU that a worker takes for a logon over loopback."""
    with tempfile.TemporaryDirectory() as folder, workers.serving(pathlib.Path(folder), 1) as server:
        (pid,) = server.workers
        with workers.Generator(server, workers.CONCURRENCY) as generator:
            generator.go(workers.WARM_UP)
            generator.result()
            before = workers.cpu_of(pid)
            generator.go(seconds)
            logons = generator.result()["logons"]
            return (workers.cpu_of(pid) - before) / logons


# --- the formula ---


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """The results of the formula."""

    load: float
    """The load of each core. From 1 on, the queue grows for as long as users come."""
    wait: float | None
    """Seconds that a logon spends in queues, on average, by Pollaczek and Khinchine; None for a load of 1 or more."""
    shared: float | None
    """The seconds in queues by processor sharing."""
    served_after: float
    """Seconds until all users are logged on."""


def estimate(logons: Sequence[Steps], users: int, seconds: float, cores: int) -> Estimate:
    steps = list(itertools.chain.from_iterable(logons))
    count = len(steps) / len(logons)
    mean, square = statistics.fmean(steps), statistics.fmean(step * step for step in steps)
    arrivals = users / seconds / cores * count
    load = arrivals * mean
    if load >= 1:
        return Estimate(load, None, None, seconds * load)
    wait = count * arrivals * square / (2 * (1 - load))
    return Estimate(load, wait, count * mean * load / (1 - load), seconds)


# --- the simulation ---


@dataclasses.dataclass(frozen=True, slots=True)
class Simulation:
    """The results of the simulation."""

    wait: float
    """Seconds in queues, on average."""
    median: float
    """Seconds from the first byte to the last, round trips included."""
    p99: float
    longest: float
    served_after: float


def simulate(  # noqa: PLR0913 - all named, and most callers leave two
    logons: Sequence[Steps], users: int, seconds: float, cores: int, *, rtt: float = RTT, seed: int = SEED
) -> Simulation:
    """Let so many users come within so many seconds."""
    rng = random.Random(seed)  # noqa: S311 - to be drawn again the same
    came = sorted(rng.uniform(0, seconds) for _ in range(users))  # a Poisson stream, given its number
    worker = [rng.randrange(cores) for _ in range(users)]
    logon = rng.choices(logons, k=users)
    free, waited, ended = [0.0] * cores, [0.0] * users, [0.0] * users
    arrivals = [(moment, user, 0) for user, moment in enumerate(came)]  # sorted, and so a heap
    while arrivals:
        moment, user, step = heapq.heappop(arrivals)
        begun = max(moment, free[worker[user]])
        waited[user] += begun - moment
        ended[user] = free[worker[user]] = begun + logon[user][step]
        if step + 1 < len(logon[user]):
            heapq.heappush(arrivals, (ended[user] + rtt, user, step + 1))
    took = sorted(end - start for end, start in zip(ended, came, strict=True))
    return Simulation(statistics.fmean(waited), took[users // 2], took[users * 99 // 100], took[-1], max(ended))


# --- what is shown ---


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """The results of formula and simulation for one number of cores."""

    cores: int
    estimate: Estimate
    simulation: Simulation


def storm(logons: Sequence[Steps], users: int, seconds: float, rtt: float) -> list[Line]:
    return [
        Line(cores, estimate(logons, users, seconds, cores), simulate(logons, users, seconds, cores, rtt=rtt))
        for cores in CORES
    ]


def by_load(logons: Sequence[Steps], cores: int, per_core: int) -> list[dict[str, float]]:
    """Return formula and simulation at each load: the points of the plot."""
    each = statistics.fmean(map(sum, logons))
    found = []
    for load in LOADS:
        users = per_core * cores
        seconds = users * each / cores / load
        said = estimate(logons, users, seconds, cores)
        found.append(
            {"load": load, "estimate": said.wait, "shared": said.shared}
            | dataclasses.asdict(simulate(logons, users, seconds, cores))
        )
    return found


def measure(size: Size, results: Results, watch: Watch) -> None:
    watch.step("storm: service times, formula and simulation")
    quick = size.bulk_rounds == 1
    service = measure_service(20 if quick else LOGONS, 0.1 if quick else 2.0)
    logons = service.steps()
    per_core = 100 if quick else 1000 * size.bulk_rounds
    loads = {cores: by_load(logons, cores, per_core) for cores in (1, 8)}
    lines = storm(logons, USERS // 100 if quick else USERS, SECONDS / 100 if quick else SECONDS, RTT)
    each = statistics.fmean(map(sum, logons))
    results.rows += [
        Row(key="storm.rate", what="logons a second a core, `acredssp serve` alone, RSA-2048, TLS 1.3, NTLM",
            figure=_once(1 / each), unit="/s", at_most=False),
        Row(key="storm.load", what="load of one core by 50,000 logons in five minutes",
            figure=_once(lines[0].estimate.load * 100), unit="%"),
        Row(key="storm.estimate", what="time in queues, formula over simulation, loads from 10 to 90 % of 8 cores",
            figure=Figure.of(point["estimate"] / point["wait"] for point in loads[8])),
        Row(key="storm.shared", what="the same, processor sharing over simulation",
            figure=Figure.of(point["shared"] / point["wait"] for point in loads[8])),
    ]  # fmt: skip
    results.details["storm"] = {
        "service": service.as_json(),
        "lines": [dataclasses.asdict(line) for line in lines],
        "by_load": loads,
    }
    watch.done()


def _once(value: float) -> Figure:
    return Figure(value, value, value, 1)


HEAD = (
    "cores", "load", "in queues, formula", "shared", "simulated", "a logon: median", "p99", "longest",
    "all done, formula", "simulated",
)  # fmt: skip


def table(lines: Iterable[Line]) -> str:
    """Return Markdown; times in milliseconds, the end of the storm in seconds."""
    rows = [HEAD, ["---:"] * len(HEAD)]
    for line in lines:
        said, found = line.estimate, line.simulation
        rows.append(
            (
                str(line.cores),
                f"{said.load:.1%}",
                *("grows" if value is None else f"{value * 1e3:.2f} ms" for value in (said.wait, said.shared)),
                *(f"{value * 1e3:.2f} ms" for value in (found.wait, found.median, found.p99, found.longest)),
                f"{said.served_after:.1f} s",
                f"{found.served_after:.1f} s",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.storm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the seconds within which the users come")
    parser.add_argument(
        "--rtt", type=float, default=RTT * 1e3, help="the round trip between server and client in milliseconds"
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=pathlib.Path,
        metavar="FILE",
        help="take the measurement from an earlier run's JSON",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.source:
        service = Service.from_json(json.loads(options.source.read_text("utf-8")))
    else:
        service = measure_service(LOGONS, 2.0)
    logons = service.steps()
    lines = storm(logons, options.users, options.seconds, options.rtt / 1e3)
    each = statistics.fmean(map(sum, logons))
    if options.json:
        document = {"environment": environment(), "service": service.as_json()}
        print(json.dumps(document | {"lines": [dataclasses.asdict(line) for line in lines]}))
    else:
        spread = statistics.pstdev(map(sum, logons)) / each
        print(f"a logon: {each * 1e6:.0f} us of the server's CPU in {statistics.fmean(map(len, logons)):.1f} steps")
        print(f"  coefficient of variation {spread:.2f}; so {1 / each:.0f} logons a second a core at most")
        print(f"{options.users} users in {options.seconds:g} s, a round trip of {options.rtt:g} ms:\n")
        print(table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())

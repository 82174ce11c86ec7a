"""Besiege the servers: what they keep up beside attacks, what strangers hold of them, and what stays behind.

    python -m benchmarks.siege                         everything, in full sizes: about an hour
    python -m benchmarks.siege --minutes 8             everything, with fewer servers and shorter slices
    python -m benchmarks.siege --attack hellos         one attack; may be given several times
    python -m benchmarks.siege --part rates            one part of it: rates, holding or leaks
    python -m benchmarks.siege --check                 a tenth of the sizes; fails if a bound is crossed that no
                                                       busy machine crosses
    python -m benchmarks.siege --into-docs             puts the figures of the last run into docs/figures

Servers are `acredssp.start_server`, the gateway and the server of HTTP, on asyncio and uvloop, interpreted and
compiled (`make compiled`), with the limits that `acredssp serve` and the others have by themselves. Beside them stands
`asyncio.start_server(ssl=...)` with nothing of ours: the same attack, and clients that only do the TLS handshake. It
has no logons, so the attacks by messages of CredSSP have no comparison.

Two cores hold everybody. The server has one for itself; clients, attackers and the gateway's target share the other,
where attackers are nice. `benchmarks.siege.servers.pinned` says why. What a server keeps is a ratio of neighbouring
slices of time, so other programs on the machine touch both sides of it. An interval is the least and the most of the
rounds: of five rounds or more, it holds the true median in 94 of 100 cases.

The figures go to `benchmarks/report/siege`: results.json, table.md, and plots.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console

from benchmarks import compiled_build, report
from benchmarks.harness import LOOPS, Results, Row, Watch, environment, raise_file_limit
from benchmarks.siege import docs, holding, leaks, rates
from benchmarks.siege.attackers import ATTACKS, attacking, is_possible
from benchmarks.siege.servers import CORES, KINDS, OURS, Variant, World, pinned, unlimited

FOLDER = report.FOLDER / "siege"
PARTS = ("rates", "holding", "leaks")
SLACK = 4
"""Times the ceiling of memory that a check allows: on a busy machine few connections are there at a time, and each of
them counts for more of what the server needs by itself."""
HOLDING = 6
"""How many servers hold connections at a time: they mostly wait for their deadline."""
SLICE = 0.3
"""Seconds that a slice takes beside its own length."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much is done."""

    slices: rates.Slices
    variants: Sequence[Variant]
    few: Sequence[str]
    """The attacks that all variants stand; the others are for those on asyncio, interpreted. Empty: all of them."""
    deadline: float
    """Seconds for a handshake where it is the deadline that ends connections."""
    together: bool
    """Whether all crowds come to one server at once."""
    handshakes: dict[Variant, int]
    """How many the memory of a server is watched for."""


def variants_of(loops: Sequence[str], builds: Sequence[str]) -> list[Variant]:
    ours = [Variant(kind, loop, build) for build in builds for loop in loops for kind in OURS]
    return ours + [Variant("tls", loop) for loop in loops]


def full(builds: Sequence[str]) -> Plan:
    variants = variants_of(("asyncio", "uvloop"), builds)
    handshakes = {each: 200_000 if each.kind == "serve" else 20_000 for each in variants if each.kind != "tls"}
    return Plan(rates.Slices(5, 0.4, 10_000), variants, (), 20.0, together=False, handshakes=handshakes)


FEW = ("hello_silence", "hellos", "key_updates")
COMING = 2.0
"""Seconds that it takes a crowd of silent ones to come."""


def within(minutes: float, builds: Sequence[str]) -> Plan:
    """Return the plan that takes so long: two thirds for rates, and the rest for memory."""
    plan = full(builds)
    runs = sum(
        is_possible(attack, each.kind)
        for attack in ATTACKS
        for each in plan.variants
        if attack in FEW or _is_plain(each)
    )
    coming = plan.slices.rounds * len(KINDS) * COMING
    seconds = max(0.1, (minutes * 60 * 0.6 - coming) / (runs * plan.slices.rounds * 2) - SLICE)
    slices = dataclasses.replace(plan.slices, seconds=min(seconds, plan.slices.seconds))
    handshakes = {
        each: int(minutes * (1000 if each.kind == "serve" else 300)) for each in plan.variants if _is_plain(each)
    }
    del handshakes[Variant("tls")]
    return dataclasses.replace(plan, slices=slices, few=FEW, deadline=8.0, handshakes=handshakes)


def _is_plain(variant: Variant) -> bool:
    return (variant.loop, variant.build) == ("asyncio", "interpreted")


def quick() -> Plan:
    variants = [Variant(kind) for kind in OURS]
    slices = rates.Slices(1, 0.0, 1000, least=1)
    return Plan(slices, variants, (), 6.0, together=True, handshakes=dict.fromkeys(variants, 500))


def only(plan: Plan, options: argparse.Namespace) -> Plan:
    """Leave out the servers that are not asked for."""
    asked = [*options.server, "tls"] if options.server else KINDS
    chosen = [
        each
        for each in plan.variants
        if each.kind in asked
        and each.loop in (options.loop or LOOPS)
        and (each.kind == "tls" or each.build in (options.build or builds_of(plan)))
    ]
    handshakes = {each: options.handshakes or count for each, count in plan.handshakes.items() if each in chosen}
    return dataclasses.replace(plan, variants=chosen, handshakes=handshakes)


def builds_of(plan: Plan) -> set[str]:
    return {each.build for each in plan.variants}


# --- the parts ---


def besiege(plan: Plan, attacks: Sequence[str], world: World, results: Results, watch: Watch) -> Iterator[None]:
    """Measure what is kept beside each attack, and yield after each."""
    details: dict[str, dict[str, tuple[float, float, float]]] = {}
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(world.running(plan.variants))
        kinds = dict.fromkeys(server.variant.kind for server in servers)
        attackers = {kind: stack.enter_context(attacking(kind, world.folder)) for kind in kinds}
        everybody = rates.besieged(world, servers, attackers)
        rates.kept_beside("connect", everybody, plan.slices)  # warms up
        before = {server: server.descriptors for server in servers}
        for attack in attacks:
            watch.step(f"logons kept: {attack}")
            plain = not plan.few or attack in plan.few
            chosen = [each for each in everybody if plain or _is_plain(each.server.variant)]
            rows = list(rates.rows_of(attack, rates.kept_beside(attack, chosen, plan.slices), plan.slices))
            results.rows += rows
            details[attack] = _shares(attack, rows)
            results.details["siege"] = details
            watch.done()
            yield
        for server in servers:
            results.rows.append(rates.row_of_descriptors(server, before[server]))


def _shares(attack: str, rows: Sequence[Row]) -> dict[str, tuple[float, float, float]]:
    """Return the figures of the plot, by variant."""
    return {
        row.key.removeprefix(f"siege.{attack}."): (row.figure.low, row.figure.median, row.figure.high)
        for row in rows
        if not row.key.endswith(".over_tls")
    }


def hold(plan: Plan, attacks: Sequence[str], world: World, results: Results, watch: Watch) -> Iterator[None]:
    """Measure what connections hold, and whether the deadline ends them. Several servers are at it at a time."""
    watch.step("memory of connections")
    crowds: list[tuple[Variant, list[str]]] = []
    for variant in plan.variants:
        if not plan.few or _is_plain(variant):
            possible = [attack for attack in holding.attacks_on(variant.kind) if attack in attacks]
            crowds += [(variant, group) for group in ([possible] if plan.together else [[each] for each in possible])]
    with concurrent.futures.ThreadPoolExecutor(HOLDING) as pool:
        held = pool.map(lambda each: holding.hold(world, *each, plan.slices.crowd, plan.deadline), crowds)
        for (variant, group), found in zip(crowds, held, strict=True):
            results.rows += holding.rows_of(group, variant, found, plan.slices.crowd)
            yield
    watch.done()


def leak(plan: Plan, _attacks: Sequence[str], world: World, results: Results, watch: Watch) -> Iterator[None]:
    """Watch a server's memory over many handshakes, and yield after each server."""
    details = results.details["siege_leaks"] = dict[str, object]()
    for variant, handshakes in plan.handshakes.items():
        watch.step(f"memory over {handshakes} handshakes: {variant}")
        with world.running([variant], unlimited(30.0)) as [server]:
            samples = leaks.watched(world, server, handshakes)
        results.rows += leaks.rows_of(variant, samples)
        details[str(variant)] = samples
        watch.done()
        yield


_PARTS: dict[str, Callable[[Plan, Sequence[str], World, Results, Watch], Iterator[None]]] = {
    "rates": besiege,
    "holding": hold,
    "leaks": leak,
}


def measure(  # noqa: PLR0913, PLR0917
    plan: Plan, attacks: Sequence[str], parts: Sequence[str], results: Results, console: Console, folder: pathlib.Path
) -> None:
    """Measure, and write what there is after each attack: a run that is ended has not been for nothing."""
    results.environment["pinned"] = "server, others" if pinned(os.getpid(), "clients") else "no"
    results.environment["slice"] = f"{plan.slices.rounds} x {plan.slices.seconds:.2f} s"
    steps = len(attacks) + 1 + len(plan.handshakes)
    with tempfile.TemporaryDirectory() as place, Watch(console, steps) as watch:
        world = World.of(pathlib.Path(place))
        for part in parts:
            started = time.perf_counter()
            for _ in _PARTS[part](plan, attacks, world, results, watch):
                results.environment[f"{part} took"] = f"{time.perf_counter() - started:.0f} s"
                report.write(results, folder)
    report.write(results, folder)


# --- the check ---


def broken(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what is wrong in rows of a check: bounds that only a break crosses, however busy the machine is."""
    for row in rows:
        if row.key.endswith(".beside") and row.figure.low <= 0.0:
            yield f"{row.what}: nobody could log on"
        most = (row.goal or 0.0) * (SLACK if row.key.endswith(".memory") else 1)
        if row.key.endswith((".memory", ".left", ".descriptors")) and row.figure.high > most:
            yield f"{row.what}: {row.figure.high:g} {row.unit}, at most {most:g}"
        if row.key.startswith("siege.leak.") and row.figure.low > leaks.LEAK:
            yield f"{row.what}: at least {row.figure.low:.0f} bytes, at most {leaks.LEAK:g}"


def _count(text: str) -> int:
    """A number of at least one hundred, for argparse: memory is noted at a hundred steps."""
    if not text.isdecimal() or int(text) < leaks.STEPS:
        raise argparse.ArgumentTypeError(f"expected {leaks.STEPS} or more, got {text}")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.siege", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--attack", action="append", choices=ATTACKS, help="only this attack; may be given several times"
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be given several times")
    parser.add_argument("--server", action="append", choices=OURS, help="only this one, beside bare TLS")
    parser.add_argument("--loop", action="append", choices=tuple(LOOPS), help="only this event loop")
    parser.add_argument("--build", action="append", choices=("interpreted", "compiled"), help="only this engine")
    parser.add_argument("--handshakes", type=_count, help="how many the memory of each server is watched for")
    parser.add_argument("--minutes", type=float, help="how long it may take")
    parser.add_argument("--check", action="store_true", help="a tenth, with bounds that no busy machine crosses")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--output",
        action="append",
        type=pathlib.Path,
        help="the folder of the figures; several with --into-docs, for runs that have each measured a part",
    )
    parser.add_argument(
        "--into-docs", action="store_true", help="only put the figures of the last run into docs/figures"
    )
    options = parser.parse_args()
    options.output = options.output or [FOLDER]
    if options.into_docs:
        if absent := [str(folder) for folder in options.output if not (folder / "results.json").is_file()]:
            parser.error(f"--output: expected folders of runs, which have a results.json, got {', '.join(absent)}")
        docs.into_docs(*options.output)
        return 0
    raise_file_limit()
    console, results = _console(quiet=options.json), Results("check" if options.check else "siege", environment())
    results.environment["cores"] = len(CORES)
    why = compiled_build.missing()
    builds = ("interpreted",) if why else ("interpreted", "compiled")
    plan = quick() if options.check else within(options.minutes, builds) if options.minutes else full(builds)
    plan = only(plan, options)
    if why and not options.check:
        results.leave_out("the compiled engine", why)
    folder = options.output[0]
    measure(plan, options.attack or ATTACKS, options.part or PARTS, results, console, folder)
    if options.json:
        print(json.dumps(results.as_json(), indent=1))
    if not options.check:
        report.show(results, console)
        _draw(results, folder)
        return 0
    faults = list(broken(results.rows))
    console.print(", ".join(f"{name} {value}" for name, value in results.environment.items()), soft_wrap=True)
    for row in results.rows:
        if not row.key.endswith(".beside"):
            console.print(": ".join((row.what, *filter(None, report.found(row)[:2]))), soft_wrap=True)
    for fault in faults:
        console.print(f"FAILS: {fault}", soft_wrap=True)
    return 1 if faults else 0


def _console(*, quiet: bool) -> Console:
    return Console(quiet=quiet, width=None if sys.stdout.isatty() else 200)


def _draw(results: Results, folder: pathlib.Path) -> None:
    from benchmarks import plots  # noqa: PLC0415 - matplotlib takes a second

    plots.draw(results, folder)


if __name__ == "__main__":
    sys.exit(main())

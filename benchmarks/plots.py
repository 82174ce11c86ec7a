"""The plots of a run, as SVG and PNG: latencies, cost against concurrency, memory, where the time goes, and queues."""

import pathlib
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness import Results
from benchmarks.stages import TLS

COLOURS = {
    "acredssp": "#0b6e4f",
    "protocols": "#7fb69f",
    "plumbing": "#8d99ae",
    "streams": "#3a86ff",
    "messages": "#f4a261",
    "pyspnego": "#d1495b",
}
NAMES = {
    "acredssp": "acredssp (SPNEGO), streams",
    "protocols": "acredssp (SPNEGO), protocols",
    "plumbing": "bare TLS, same plumbing",
    "streams": "ssl= streams (TLS only)",
    "messages": "bare TLS and a logon's messages, empty",
    "pyspnego": "pyspnego tuned, in threads",
}

mpl.use("Agg")
mpl.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e5e5e5",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "acredssp",  # the same figures give the same file
    }
)


def draw(results: Results, folder: pathlib.Path, suffixes: Sequence[str] = ("svg", "png")) -> list[str]:
    """Draw each plot for which there are figures; return the names of the files without their suffix."""
    drawn = []
    for name, group, plot in (
        ("latency", "loopback", _latency),
        ("concurrency", "loopback", _concurrency),
        ("memory", "memory", _memory),
        ("stages", "stages", _stages),
        ("storm", "storm", _storm),
        ("gateway", "gateway", _gateway),
        ("siege", "siege", _siege),
        ("siege_leaks", "siege_leaks", _siege_leaks),
    ):
        if group in results.details:
            figure = plot(results.details[group])
            for suffix in suffixes:
                figure.savefig(
                    folder / f"{name}.{suffix}", dpi=150, metadata={"Date": None} if suffix == "svg" else None
                )
            plt.close(figure)
            drawn.append(name)
    return drawn


def _two(loops: list[str], height: float = 3.6) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, len(loops), figsize=(5 * len(loops), height), sharey=True, squeeze=False)
    for axis, loop in zip(axes[0], loops, strict=True):
        axis.set_title(loop)
    return figure, list(axes[0])


def _latency(loopback: dict[str, list[dict]]) -> Figure:
    figure, axes = _two([*loopback])
    for axis, found in zip(axes, loopback.values(), strict=True):
        at_once = max(each["at_once"] for each in found if each["who"] == "streams")
        for each in found:
            if each["at_once"] == at_once:
                latencies = each["latencies_ms"]
                shares = [100 * (number + 1) / (len(latencies) + 1) for number in range(len(latencies))]
                axis.plot(latencies, shares, color=COLOURS[each["who"]], label=NAMES[each["who"]], linewidth=2)
        axis.set_xlabel(f"ms until the handshake is done, {at_once} at once")
        axis.set_xlim(left=0)
    axes[0].set_ylabel("% of the handshakes")
    axes[0].legend(loc="upper left")
    return figure


def _concurrency(loopback: dict[str, list[dict]]) -> Figure:
    figure, axes = _two([*loopback])
    for axis, found in zip(axes, loopback.values(), strict=True):
        for who in dict.fromkeys(each["who"] for each in found):
            points = sorted((each["at_once"], each["cpu_us"]) for each in found if each["who"] == who)
            axis.plot(*zip(*points, strict=True), "o-", color=COLOURS[who], label=NAMES[who], linewidth=2)
        axis.set_xscale("log")
        axis.set_xlabel("handshakes at once")
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("µs of CPU a handshake, both ends")
    axes[0].legend(loc="lower left")
    return figure


def _memory(memory: dict[str, dict[str, float]]) -> Figure:
    figure, axis = plt.subplots(figsize=(8, 3.2))
    for number, (name, kib) in enumerate(reversed(memory.items())):
        colour = COLOURS["acredssp" if name.startswith("acredssp") else "plumbing"]
        bars = axis.barh([number + 0.2, number - 0.2], [kib["established"], kib["used"]], 0.38, color=colour)
        bars[1].set_alpha(0.5)
        axis.bar_label(bars, fmt="%.0f", padding=3)
    axis.set_yticks(range(len(memory)), [*reversed(memory)])
    axis.set_xlabel("KiB of an idle connection, per end: just established (dark), after 64 KiB each way (light)")
    axis.grid(visible=False, axis="y")
    return figure


def _stages(stages: dict[str, dict]) -> Figure:
    names = [*dict.fromkeys(name for found in stages.values() for name in found["stages_us"])]
    names.sort(key=lambda name: name != TLS)
    figure, axis = plt.subplots(figsize=(10, 3))
    colours = plt.get_cmap("tab10").colors
    for row, found in enumerate(reversed(stages.values())):
        left = 0.0
        for number, name in enumerate(names):
            width = found["stages_us"].get(name, 0.0)
            bar = axis.barh(row, width, 0.6, left, color=colours[number % 10], label=name if row == 0 else None)
            if width > 0.04 * found["us"]:
                axis.bar_label(bar, [f"{width:.0f}"], label_type="center", color="white")
            left += width
        if found["bare_tls_us"]:
            axis.plot([found["bare_tls_us"]] * 2, [row - 0.4, row + 0.4], color="black")
            axis.annotate("bare TLS", (found["bare_tls_us"], row + 0.42), ha="center")
    axis.set_yticks(range(len(stages)), [*reversed(stages)])
    axis.set_xlabel("µs of CPU a handshake, both ends")
    axis.grid(visible=False, axis="y")
    figure.legend(loc="outside upper center", ncols=5)
    return figure


POINTS = (("estimate", "-", "queues"), ("shared", ":", "sharing"), ("wait", "o", "simulated"), ("p99", "^", "p99"))
"""What the plot of a storm has for each number of cores."""


def _storm(storm: dict[str, dict]) -> Figure:
    figure, axis = plt.subplots(figsize=(8, 3.6))
    for (cores, points), who in zip(storm["by_load"].items(), ("pyspnego", "acredssp"), strict=True):
        loads = [100 * point["load"] for point in points]
        for key, style, label in POINTS:
            times = [1e3 * point[key] for point in points]
            what = f"{cores} {'core' if cores == 1 else 'cores'}, {label}"
            axis.plot(loads, times, style, color=COLOURS[who], label=what, alpha=0.5 if key == "p99" else 1.0)
    axis.set_yscale("log")
    axis.set_xlabel("% load of each core")
    axis.set_ylabel("ms in queues on average;\np99 of the whole logon")
    axis.legend(loc="upper left", ncols=2)
    return figure


def _gateway(runs: list[dict]) -> Figure:
    figure, (memory, latency) = plt.subplots(1, 2, figsize=(10, 3.6))
    for run, who in zip(runs, ("acredssp", "pyspnego"), strict=True):
        label = f"beside the attacker {run['attacker']}" if run["attacker"] else "quiet"
        memory.plot(*zip(*run["memory"], strict=True), color=COLOURS[who], label=label, linewidth=2)
        times = sorted(1e3 * each for _, each in run["latencies"])
        shares = [100 * (number + 1) / (len(times) + 1) for number in range(len(times))]
        latency.plot(times, shares, color=COLOURS[who], label=label, linewidth=2)
    memory.set_ylim(bottom=0)
    memory.set_xlabel("seconds")
    memory.set_ylabel("MiB of the gateway in memory")
    latency.set_xscale("log")
    latency.set_xlabel("ms of a logon through both legs")
    latency.set_ylabel("% of the logons")
    memory.legend(loc="lower right")
    return figure


def _siege(attacks: dict[str, dict[str, list[float]]]) -> Figure:
    """Draw a panel for each kind of server: the share that it keeps beside each attack, over that of bare TLS."""
    kinds = ("serve", "gateway", "http")
    figure, axes = plt.subplots(1, len(kinds), figsize=(12, 1.5 + 0.28 * len(attacks)), sharey=True)
    names = [*reversed(attacks)]
    for axis, kind in zip(axes, kinds, strict=True):
        for row, name in enumerate(names):
            for variant, (low, median, high) in attacks[name].items():
                if variant.split(".")[0] in {kind, "tls"}:
                    bare = variant.startswith("tls")
                    place = row - 0.2 if bare else row + 0.1 * ("uvloop" in variant) + 0.2 * ("compiled" in variant)
                    colour = COLOURS["plumbing" if bare else "acredssp"]
                    axis.plot([low, high], [place, place], color=colour, linewidth=1)
                    axis.plot([median], [place], "|" if bare else "o", color=colour, markersize=8 if bare else 4)
        axis.set_title(kind)
        axis.set_xlim(0, 1.5)
        axis.set_xlabel("share of the logons kept (grey: bare TLS)")
    axes[0].set_yticks(range(len(names)), names)
    return figure


def _siege_leaks(found: dict[str, list[list[float]]]) -> Figure:
    figure, axis = plt.subplots(figsize=(8, 3.6))
    for variant, samples in found.items():
        axis.plot(*zip(*((number, size / 2**20) for number, size in samples), strict=True), label=variant)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("handshakes")
    axis.set_ylabel("MiB of the server in memory")
    axis.legend(loc="lower right")
    return figure

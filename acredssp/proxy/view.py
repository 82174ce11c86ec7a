"""What `acredssp proxy top` shows: the figures of the nodes, compared with those a while before, and the connections.

A `Look` is what was read at one moment, from /metrics of one node or of all nodes from the store. Two of them make a
view: counts become rates, and the buckets of a histogram become the median and the 99th percentile of that time.
"""

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from acredssp.aio import HandshakeOutcome, reason_of
from acredssp.stores import Entry, Store, StoreError
from acredssp.workers import Address

__all__ = ["Figures", "Look", "LookAt", "LookFailed", "read_figures", "through_http", "through_store", "view_of"]

Figures: TypeAlias = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""The figures of a node or of several, by name without the prefix, and labels."""

_LET_IN: Final = frozenset({HandshakeOutcome.SUCCESS, HandshakeOutcome.PASSED_ON})
_QUIET: Final = frozenset({HandshakeOutcome.NO_DATA, HandshakeOutcome.LEFT, HandshakeOutcome.LIMITED})
"""Clients that nobody has refused, and those that a limit has, which is counted by its name."""


_PATIENCE: Final = 5.0
_STAGES: Final = ("front", "connect", "negotiation", "logon", "mcs")
"""In the order of a connection; `front` lasts until the logon has ended."""


class LookFailed(Exception):
    """The figures cannot be read now; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was read at one moment.

    Attributes:
        at: The moment, in seconds of a clock that only goes on.
        nodes: The figures of each node, by its name.
        connections: The directory; None where there is none to read.
    """

    at: float
    nodes: Mapping[str, Figures]
    connections: Sequence[Entry] | None = None


LookAt: TypeAlias = Callable[[], Awaitable[Look]]
"""Looks once; raises `LookFailed` where it cannot."""


def through_store(store: Store) -> LookAt:
    """Return what looks at all nodes that publish their figures in a store."""

    async def look() -> Look:
        try:
            nodes, connections = await store.figures(), await store.entries()
        except StoreError as error:
            raise LookFailed(str(error)) from None
        figures = {name: read_figures(text) for name, text in nodes.items()}
        return Look(at=asyncio.get_running_loop().time(), nodes=figures, connections=connections)

    return look


@contextlib.asynccontextmanager
async def through_http(admin: Address, api: Address | None = None, secret: str = "") -> AsyncIterator[LookAt]:
    """Give what looks at one node for as long as the block runs.

    Args:
        admin: The address of its `[admin]`, which has the figures.
        api: The address of its `[api]` without TLS, which has the connections; None for no connections.
        secret: The secret of the API.
    """
    authorization = {"Authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_PATIENCE), raise_for_status=True) as session:

        async def look() -> Look:
            asked, entries = admin, None
            try:
                async with session.get(f"http://{admin}/metrics") as response:
                    figures = read_figures(await response.text())
                if (asked := api or admin) is api:
                    async with session.get(f"http://{api}/v1/connections", headers=authorization) as response:
                        entries = [Entry(**each) for each in (await response.json())["connections"]]
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                reason = reason_of(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else str(error)
                raise LookFailed(f"the node at {asked} does not answer: {reason or 'nothing in time'}") from None
            return Look(at=asyncio.get_running_loop().time(), nodes={str(admin): figures}, connections=entries)

        yield look


def read_figures(text: str) -> Figures:
    """Return the figures that /metrics gives."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(each.name.removeprefix("acredssp_proxy_"), frozenset(each.labels.items())): each.value for each in samples}


def view_of(now: Look, before: Look) -> dict[str, Any]:
    """Compare two looks: what there is now, and rates and times of the seconds between.

    Returns:
        `seconds`, and a list of objects for each of `nodes`, `stages`, `refusals`, `targets` and `connections`; None in
        place of `connections` where there is no directory. It can be written as JSON.
    """
    seconds = max(now.at - before.at, 1e-9)
    grown = {name: _grown(figures, before.nodes.get(name, figures)) for name, figures in now.nodes.items()}
    all_now, all_grown = _sum(now.nodes.values()), _sum(grown.values())
    entries = None if now.connections is None else sorted(now.connections, key=lambda entry: entry.since)
    return {
        "seconds": round(seconds, 3),
        "nodes": [_node(name, now.nodes[name], grown[name], seconds) for name in sorted(now.nodes)],
        "stages": _stages(all_grown),
        "refusals": _refusals(all_now, all_grown, seconds),
        "targets": _targets(all_now, entries),
        "connections": None if entries is None else [dataclasses.asdict(entry) for entry in entries],
    }


def _grown(now: Figures, before: Figures) -> Figures:
    """Return how much each has grown; a process that has begun anew counts from zero."""
    return {key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value for key, value in now.items()}


def _sum(all_of_them: Iterable[Figures]) -> Figures:
    total: dict[tuple[str, frozenset[tuple[str, str]]], float] = collections.defaultdict(float)
    for figures in all_of_them:
        for key, value in figures.items():
            total[key] += value
    return total


def _by(figures: Figures, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the sums of a figure by these labels."""
    sums: dict[tuple[str, ...], float] = collections.defaultdict(float)
    for (known, given), value in figures.items():
        if known == name:
            sums[tuple(dict(given).get(label, "") for label in labels)] += value
    return sums


def _node(name: str, now: Figures, grown: Figures, seconds: float) -> dict[str, Any]:
    opened, moved = _by(now, "open_connections", "phase"), _by(grown, "relayed_bytes_total", "direction")
    outcomes = _by(grown, "handshakes_total", "outcome")
    return {
        "node": name,
        "draining": any(_by(now, "draining").values()),
        "relays": int(opened["relay",]),
        "handshakes": int(opened["handshake",]),
        "let_in_per_second": sum(outcomes[outcome,] for outcome in _LET_IN) / seconds,
        "refused_per_second": sum(_refused(grown).values()) / seconds,
        "bytes_up_per_second": moved["up",] / seconds,
        "bytes_down_per_second": moved["down",] / seconds,
    }


def _refused(figures: Figures) -> dict[str, float]:
    """Return how many clients were refused, by the reason."""
    counts = {limit: count for (limit,), count in _by(figures, "limited_total", "limit").items()}
    for (outcome, hook), count in _by(figures, "handshakes_total", "outcome", "hook").items():
        if outcome not in _LET_IN | _QUIET:
            counts[f"{outcome} ({hook})" if hook else outcome] = count
    return counts


def _refusals(now: Figures, grown: Figures, seconds: float) -> list[dict[str, Any]]:
    rates = {reason: count / seconds for reason, count in _refused(grown).items()}
    totals = [(rates[reason], int(count), reason) for reason, count in _refused(now).items() if count]
    return [{"reason": reason, "per_second": rate, "total": count} for rate, count, reason in sorted(totals)[::-1]]


def _targets(now: Figures, entries: Sequence[Entry] | None) -> list[dict[str, Any]]:
    up, redirected = _by(now, "target_up", "target"), _by(now, "redirected_total", "target")
    ended, here = _by(now, "connections_total", "target"), collections.Counter(each.target for each in entries or ())
    return [
        {
            "target": name,
            "up": bool(up[name,]) if (name,) in up else None,
            "connections": None if entries is None else here[name],
            "ended": int(ended[name,]),
            "redirected": int(redirected[name,]),
        }
        for name in sorted({name for (name,) in (*up, *ended) if name} | {*here})
    ]


def _stages(grown: Figures) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], list[tuple[float, float]]] = collections.defaultdict(list)
    for (leg, stage, bound), count in _by(grown, "stage_seconds_bucket", "leg", "stage", "le").items():
        counts[leg, stage].append((float(bound), count))
    return [
        {"leg": leg, "stage": stage, "median": _quantile(sorted(below), 0.5), "p99": _quantile(sorted(below), 0.99)}
        for (leg, stage), below in sorted(counts.items(), key=lambda each: _STAGES.index(each[0][1]))
    ]


def _quantile(counts: list[tuple[float, float]], wanted: float) -> float | None:
    """Return a quantile by the counts up to each bound, taking a bucket for evenly filled, as Prometheus does."""
    rank, low, below = wanted * counts[-1][1], 0.0, 0.0
    if not rank:
        return None
    for bound, count in counts[:-1]:
        if count >= rank:
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low  # beyond the last bound

"""The gateway's figures for Prometheus, of one process or of all workers together.

Names follow Prometheus' conventions: base units, `_total` for what only grows. No label has a user, a client or a
reason in words, since each value of a label is a series that is kept for ever.

`Metrics` collects the connections that end, and passes many of them to prometheus_client at once. prometheus_client
takes a lock for every value that changes, so this is cheaper than to pass each connection by itself.

With workers, prometheus_client keeps the figures in files of the folder that `PROMETHEUS_MULTIPROC_DIR` names. It looks
for that variable as it is imported, so `service` sets it before it imports this module.
"""

import asyncio
import collections
import functools
import os
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from acredssp import HandshakeReport
from acredssp.proxy.records import ConnectionRecord, Observer, limit_of

__all__ = ["Metrics"]

_STAGE: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: a logon without network takes some milliseconds, and the longest is cut at 30 seconds by default."""
_RELAY: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 14_400.0, 43_200.0)
_TOGETHER: Final = 0.25
"""Seconds for which `Metrics` collects connections before it passes them to prometheus_client."""
_LEG: Final = {"front": "front", "connect": "target", "logon": "target", "mcs": "both"}


class Metrics(Observer):
    """The figures of this process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        new: Any = {"namespace": "acredssp_proxy", "registry": self._registry}
        gauge = Gauge("open_connections", "Connections now.", ["phase"], multiprocess_mode="livesum", **new)
        self._open = gauge.labels("handshake"), gauge.labels("relay")
        self._now_open: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._draining = Gauge("draining", "Processes that end.", multiprocess_mode="livesum", **new)
        counter = Counter("connections", "Connections that have ended.", ["outcome", "ended_by", "target"], **new)
        self._ended = functools.cache(counter.labels)
        self._new_records: list[ConnectionRecord] = []
        """The connections that have ended since the last `flush`."""
        self._new_handshakes: list[tuple[str, str]] = []
        """Outcome and hook of the handshakes that have ended since then."""
        self._timer: asyncio.TimerHandle | None = None
        self._limited = Counter("limited", "Connections that a limit has refused or ended.", ["limit"], **new)
        counter = Counter("handshakes", "Handshakes that have ended.", ["outcome", "hook"], **new)
        self._handshakes = functools.cache(counter.labels)
        stage = Histogram("stage_seconds", "Time of a stage.", ["leg", "stage"], buckets=_STAGE, **new).labels
        relay = Histogram("relay_seconds", "Time of a relay.", buckets=_RELAY, **new)
        self._stage = functools.cache(lambda name: relay if name == "relay" else stage(_LEG.get(name, "both"), name))
        counter = Counter("relayed_bytes", "Bytes passed on.", ["direction"], **new)
        self._up_bytes, self._down_bytes = counter.labels("up"), counter.labels("down")
        self._up = Gauge("target_up", "Whether a host answers.", ["target"], multiprocess_mode="livemostrecent", **new)
        self._redirected = Counter("redirected", "Clients that a target sent on to another host.", ["target"], **new)
        self._store = Gauge("store_up", "Whether the store answers.", multiprocess_mode="livemostrecent", **new)
        self._reloads = Counter("reloads", "Times that the settings were read again.", ["result"], **new)

    def now_open(self, count: Callable[[], tuple[int, int]]) -> None:
        """Note that there are other connections than before."""
        self._now_open = count
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TOGETHER, self.flush)

    def flush(self) -> None:
        """Pass all that `Metrics` has collected to prometheus_client. Call this in the thread of the event loop."""
        if self._timer is not None:
            self._timer.cancel()
        for gauge, count in zip(self._open, self._now_open(), strict=True):
            gauge.set(count)
        for (outcome, hook), count in collections.Counter(self._new_handshakes).items():
            self._handshakes(outcome, hook).inc(count)
        ended = collections.Counter((each.outcome, each.ended_by, each.target) for each in self._new_records)
        for (outcome, ended_by, target), count in ended.items():
            self._ended(outcome, ended_by, target).inc(count)
        for record in self._new_records:
            for name, seconds in record.seconds.items():
                self._stage(name).observe(seconds)
        self._up_bytes.inc(sum(record.bytes_up for record in self._new_records))
        self._down_bytes.inc(sum(record.bytes_down for record in self._new_records))
        self._new_records, self._new_handshakes, self._timer = [], [], None

    def set_draining(self) -> None:
        """Note that this process ends."""
        self._draining.set(1)

    def handshake(self, report: HandshakeReport) -> None:
        """Note a handshake that has ended."""
        self._new_handshakes.append((report.outcome, report.hook))
        self._flush_soon()
        if report.session is None and (limit := limit_of(report)):
            self._limited.labels(limit).inc()

    def ended(self, record: ConnectionRecord) -> None:
        """Note a connection that has ended."""
        super().ended(record)
        self._new_records.append(record)
        if record.limit:
            self._limited.labels(record.limit).inc()
        if record.redirected_to:
            self._redirected.labels(record.target).inc()

    def target(self, name: str, *, up: bool) -> None:
        """Note whether a target answers."""
        self._up.labels(name).set(up)

    def store(self, *, up: bool) -> None:
        """Note whether the store answers."""
        self._store.set(up)

    def reloaded(self, *, taken: bool) -> None:
        """Note that the settings were read again."""
        self._reloads.labels("taken" if taken else "refused").inc()

    async def text(self) -> bytes:
        """Return what Prometheus reads: of all workers where there are several."""
        self.flush()
        return await asyncio.to_thread(self._text)  # reads files

    def _text(self) -> bytes:
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

"""The gateway's state over HTTP: /healthz (alive), /readyz (may new users come?), /metrics.

A load balancer asks /readyz. It says 503 while the gateway drains, when no target answers, when a certificate has
ended, and while the store is away if nobody can come in without it; the body names each check. Load balancers take a
node that says 503 out of the sticky set, too. Nobody is asked who they are, and nothing here is secret but which
targets there are: keep it to loopback or to the administrators' net.
"""

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from aiohttp import web

from acredssp.proxy.gateway import Gateway
from acredssp.proxy.metrics import Metrics
from acredssp.stores import StoreError

__all__ = ["Check", "admin_pages", "checks_of", "figures_of"]

Check: TypeAlias = Callable[[], Awaitable[str]]
"""Says why the gateway is not ready; nothing where it is."""


def admin_pages(checks: Mapping[str, Check], metrics: Metrics) -> web.Application:
    """Return the pages."""

    async def ready(_: web.Request) -> web.Response:
        told = {name: await check() for name, check in checks.items()}
        good = not any(told.values())
        body = {"ready": good, "checks": {name: reason or "ready" for name, reason in told.items()}}
        return web.json_response(body, status=200 if good else 503)

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def figures(_: web.Request) -> web.Response:
        text = await figures_of(checks, metrics)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    pages = web.Application(client_max_size=2**10)
    pages.add_routes([web.get("/healthz", alive), web.get("/readyz", ready), web.get("/metrics", figures)])
    return pages


async def figures_of(checks: Mapping[str, Check], metrics: Metrics) -> bytes:
    """Return what Prometheus reads. The checks note first whether the targets and the store answer now."""
    for check in checks.values():
        await check()
    return await metrics.text()


def checks_of(gateway: Gateway, metrics: Metrics) -> Mapping[str, Check]:
    """Return the checks of a gateway."""

    async def draining() -> str:
        return "the gateway drains" if gateway.draining else ""

    async def certificates() -> str:
        now = dt.datetime.now(dt.UTC)
        ended = [name for name, until in gateway.plan.certificates.items() if until < now]
        return f"ended: {', '.join(ended)}" if ended else ""

    async def store() -> str:
        """Say that the store is away, if nobody can come in without it: else the node is as good as any other."""
        away = ""
        try:
            await gateway.node.store.ping()
        except StoreError as error:
            away = str(error)
        metrics.store(up=not away)
        return away if gateway.plan.settings.admits_by_store else ""

    async def targets() -> str:
        """Say that none answers. One that is down alone must not take the whole node away from its users."""
        up = {name: bool(target.pool.up) for name, target in gateway.plan.targets.items()}
        for name, answers in up.items():
            metrics.target(name, up=answers)
        return "" if any(up.values()) else "no target answers"

    return {"gateway": draining, "certificates": certificates, "store": store, "targets": targets}

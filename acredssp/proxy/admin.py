"""The gateway's state over HTTP: /healthz (alive), /readyz (may new users come?), /metrics.

A load balancer asks /readyz. It says 503 while the gateway drains, when no target answers, and when a certificate has
ended; the body names each check. Load balancers take a node that says 503 out of the sticky set, too. Nobody is asked
who they are, and nothing here is secret but which targets there are: keep it to loopback or to the administrators' net.
"""

import asyncio
import contextlib
import datetime as dt
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from aiohttp import web
from cryptography import x509

from acredssp.proxy.gateway import Gateway
from acredssp.proxy.leg import Target
from acredssp.proxy.metrics import Metrics
from acredssp.proxy.plan import Plan

__all__ = ["Check", "checks_of", "serve_admin"]

Check: TypeAlias = Callable[[], Awaitable[str]]
"""Says why the gateway is not ready; nothing where it is."""

_FRESH: Final = 5.0
"""Seconds for which an answer of the targets is taken again: load balancers ask every other second."""
_PATIENCE: Final = 2.0
"""Seconds that a target has to answer."""


@contextlib.asynccontextmanager
async def serve_admin(sock: socket.socket, checks: Mapping[str, Check], metrics: Metrics) -> AsyncIterator[None]:
    """Serve the pages on a listening socket for as long as the block runs."""

    async def ready(_: web.Request) -> web.Response:
        told = {name: await check() for name, check in checks.items()}
        good = not any(told.values())
        body = {"ready": good, "checks": {name: reason or "ready" for name, reason in told.items()}}
        return web.json_response(body, status=200 if good else 503)

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def figures(_: web.Request) -> web.Response:
        text = await asyncio.to_thread(metrics.text)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application(client_max_size=2**10)
    application.add_routes([web.get("/healthz", alive), web.get("/readyz", ready), web.get("/metrics", figures)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()


def checks_of(gateway: Gateway, metrics: Metrics) -> Mapping[str, Check]:
    """Return the checks of a gateway."""
    targets = _Targets(gateway, metrics)
    certificates = _Certificates(gateway)

    async def draining() -> str:
        return "the gateway drains" if gateway.draining else ""

    return {"draining": draining, "certificates": certificates.check, "targets": targets.check}


class _Certificates:
    """Whether each certificate of a listener is still good; files are read once for each plan."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._plan: Plan | None = None
        self._until: dict[str, dt.datetime] = {}

    async def check(self) -> str:
        """Say which have ended."""
        if self._plan is not (plan := self._gateway.plan):
            self._until = await asyncio.to_thread(_ends_of, plan)
            self._plan = plan
        now = dt.datetime.now(dt.UTC)
        ended = [name for name, until in self._until.items() if until < now]
        return f"ended: {', '.join(ended)}" if ended else ""


def _ends_of(plan: Plan) -> dict[str, dt.datetime]:
    paths = [each.certificate for listener in plan.settings.listeners for each in listener.certificates]
    return {path.name: x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc for path in paths}


class _Targets:
    """Whether any target answers. One that is down alone must not take the whole node away from its users."""

    def __init__(self, gateway: Gateway, metrics: Metrics) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self._asking = asyncio.Lock()
        self._until = 0.0
        self._answer = ""

    async def check(self) -> str:
        """Say that none answers."""
        async with self._asking:
            clock = asyncio.get_running_loop().time
            if clock() >= self._until:
                targets = self._gateway.plan.targets
                up = await asyncio.gather(*map(_answers, targets.values()))
                for name, answers in zip(targets, up, strict=True):
                    self._metrics.target(name, up=answers)
                self._answer = "" if any(up) else "no target answers"
                self._until = clock() + _FRESH
            return self._answer


async def _answers(target: Target) -> bool:
    for address in target.settings.addresses:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_PATIENCE):
                _, writer = await asyncio.open_connection(address.host, address.port)
            writer.transport.abort()
            return True
    return False

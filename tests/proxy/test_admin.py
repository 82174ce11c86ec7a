"""The gateway's state over HTTP: alive, ready, and figures that Prometheus can read."""

import asyncio
import contextlib
import datetime as dt
import re
import socket

import aiohttp
import pytest
from prometheus_client import parser
from support.endpoints import until
from support.gateway import BOB, Away, leave, talk
from support.mcs import SHADOW, indication, redirection

import acredssp
from acredssp.proxy import web
from acredssp.proxy.admin import admin_pages, checks_of
from acredssp.proxy.metrics import Metrics


class Pages:
    def __init__(self, session, port):
        self._session = session
        self._base = f"http://127.0.0.1:{port}"

    async def get(self, path):
        async with self._session.get(self._base + path) as response:
            return response.status, await response.text()

    async def ready(self):
        async with self._session.get(self._base + "/readyz") as response:
            return response.status, (await response.json())["checks"]

    async def figures(self):
        """{(name, labels in order of their names): value}."""
        _, text = await self.get("/metrics")
        families = [*parser.text_string_to_metric_families(text)]
        return {(each.name, *sorted(each.labels.values())): each.value for one in families for each in one.samples}


@pytest.fixture
async def pages():
    """The pages of a gateway: `async with pages(world) as pages`; its figures are counted meanwhile."""

    @contextlib.asynccontextmanager
    async def serve(here):
        metrics = Metrics()
        here.gateway._observer = metrics
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            port = listener.getsockname()[1]
            async with (
                web.serve(admin_pages(checks_of(here.gateway, metrics), metrics), listener),
                aiohttp.ClientSession() as session,
            ):
                yield Pages(session, port)

    return serve


async def counted(pages, *key):
    """Wait until a figure is there, since a connection ends a moment after its client."""
    while (figures := await pages.figures()).get(key) is None:
        pass
    return figures


async def test_a_gateway_is_alive_and_ready(world, pages):
    async with world() as (here, _target), pages(here) as shown:
        assert await shown.get("/healthz") == (200, "alive\n")
        assert await shown.ready() == (200, dict.fromkeys(["gateway", "certificates", "store", "targets"], "ready"))
        assert (await shown.get("/"))[0] == 404


async def test_it_is_not_ready_while_it_drains_and_still_alive(world, pages):
    async with world() as (here, _target), pages(here) as shown:
        here.gateway.draining = True
        status, checks = await shown.ready()
        assert (status, checks["gateway"]) == (503, "the gateway drains")
        assert (await shown.get("/healthz"))[0] == 200


async def test_it_is_not_ready_without_any_target(world, pages):
    async with world("check = { interval = 0.01, failures = 1 }\n") as (here, target), pages(here) as shown:
        figures = await shown.figures()
        assert (figures["acredssp_proxy_target_up", "desktops"], figures["acredssp_proxy_store_up",]) == (1, 1)
        await target.stop()
        (host,) = here.gateway.plan.targets["desktops"].pool.hosts
        await until(lambda: host.failures)
        assert (await shown.figures())["acredssp_proxy_target_up", "desktops"] == 0
        status, checks = await shown.ready()
        assert (status, checks["targets"]) == (503, "no target answers")


async def test_it_is_not_ready_with_a_certificate_that_has_ended(world, pages, monkeypatch):
    real = dt.datetime
    async with world() as (here, _target), pages(here) as shown:

        class Later(real):
            @classmethod
            def now(cls, tz=None):
                return real.now(tz) + dt.timedelta(days=36_500)

        monkeypatch.setattr("acredssp.proxy.admin.dt.datetime", Later)
        status, checks = await shown.ready()
        assert (status, checks["certificates"]) == (503, "ended: gateway.pem")


LOCKOUT = "[limits.lockout]\nallow_without_store = {}\n"
BY_TOKEN = "[[listeners.routes]]\ntoken = true\n"
API = "[api]\naddress = '127.0.0.1:0'\nsecret = 'file:secret'\n"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, 200),
        ({"rest": LOCKOUT.format("true")}, 200),
        ({"rest": LOCKOUT.format("false")}, 503),
        ({"rest": API, "routes": BY_TOKEN}, 503),
        ({"rest": API, "routes": BY_TOKEN + '[[listeners.routes]]\ntarget = "desktops"\n'}, 200),
    ],
    ids=["not needed", "lockout that lets in", "lockout", "tokens alone", "tokens and others"],
)
async def test_a_node_is_not_ready_while_nobody_can_come_in_without_the_store(world, pages, folder, more, status):
    await asyncio.to_thread((folder / "secret").write_text, "a long secret of the API")
    async with world(store=Away(), **more) as (here, _target), pages(here) as shown:
        assert (await shown.figures())["acredssp_proxy_store_up",] == 0
        assert (await shown.ready())[0] == status
        assert (await shown.ready())[1]["store"] == ("ready" if status == 200 else "the store is away")


async def test_a_connection_is_counted_with_the_time_of_each_stage(world, pages):
    async with world() as (here, _target), pages(here) as shown:
        streams = await here.connect()
        await talk(streams)
        during = await shown.figures()
        assert during["acredssp_proxy_open_connections", "relay"] == 1
        assert during["acredssp_proxy_open_connections", "handshake"] == 0
        await leave(streams)
        after = await counted(shown, "acredssp_proxy_connections_total", "client", "desktops", "relayed")
        assert after["acredssp_proxy_open_connections", "relay"] == 0
        assert after["acredssp_proxy_handshakes_total", "", "success"] == 1
        assert after["acredssp_proxy_relayed_bytes_total", "up"] > 5
        assert after["acredssp_proxy_relay_seconds_count",] == 1
        stages = {key[1:] for key in after if key[0] == "acredssp_proxy_stage_seconds_count"}
        assert stages == {("front", "front"), ("connect", "target"), ("logon", "target"), ("both", "mcs")}
        assert ("acredssp_proxy_redirected_total", "desktops") not in after


async def test_a_client_that_a_target_sends_on_is_counted(world, pages):
    async with world() as (here, target), pages(here) as shown:
        target.behind = SHADOW + indication(redirection([]))
        streams = await here.connect()
        await talk(streams, behind=len(target.behind) - len(SHADOW))
        await leave(streams)
        await counted(shown, "acredssp_proxy_redirected_total", "desktops")


async def test_every_refusal_of_a_limit_is_counted(world, pages):
    limits = "[limits]\nconnections_per_user = 1\nhandshakes = 1\n"
    async with world(rest=limits) as (here, _target), pages(here) as shown:
        streams = await here.connect()
        with pytest.raises(acredssp.CredSSPError):
            await here.connect()
        await counted(shown, "acredssp_proxy_limited_total", "connections_per_user")
        silent = await asyncio.open_connection(*here.address)
        other = await asyncio.open_connection(*here.address)
        figures = await counted(shown, "acredssp_proxy_limited_total", "handshakes")
        assert figures["acredssp_proxy_limited_total", "handshakes"] == 1
        for each in (streams, silent, other):
            await leave(each)


async def test_names_follow_the_conventions_and_no_label_names_a_user(world, pages):
    async with world() as (here, _target), pages(here) as shown:
        await leave(await here.connect(BOB))
        await counted(shown, "acredssp_proxy_handshakes_total", "", "success")
        _, text = await shown.get("/metrics")
    families = {each.name: each for each in parser.text_string_to_metric_families(text)}
    assert families
    for name, family in families.items():
        assert re.fullmatch(r"acredssp_proxy_[a-z_]+", name)
        assert family.documentation
        assert name.endswith(("_seconds", "_bytes", "_created")) or family.type in {"gauge", "counter"}
    assert "bob" not in text.lower()
    assert "127.0.0.1" not in text


async def test_a_scrape_leaves_nothing_to_be_counted_later(monkeypatch):
    metrics = Metrics()
    loop, began = asyncio.get_running_loop(), []
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda *call: began.append(call_later(*call)) or began[-1])
    metrics.now_open(lambda: (1, 2))
    assert not began[0].cancelled()
    assert 'open_connections{phase="relay"} 2.0' in (await metrics.text()).decode()
    assert began[0].cancelled()

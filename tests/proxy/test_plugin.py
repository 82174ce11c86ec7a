"""Plug-ins that give no answer, fail, or keep the process waiting are named, wherever the settings name them."""

import asyncio
import logging
import sys
import types
from importlib.metadata import EntryPoint

import pytest
from support.endpoints import Deadlines, PanicError
from support.gateway import leave, settings_of, talk

import acredssp
from acredssp import NTSTATUS, Password
from acredssp.proxy import plugin as plugins

NAME = "of_somebody_else:function"
PLACES = {
    "logon": f"the lookup of the logon, {NAME}",
    "route": f"the route's entry {NAME}",
    "target": f"target desktops: the lookup of its credentials, {NAME}",
}
ANSWERS = {
    "logon": Password("wonderland", "alice", "CONTOSO"),
    "route": "desktops",
    "target": Password("server's", "svc", "SERVERS"),
}


@pytest.fixture(params=PLACES)
def place(request):
    return request.param


@pytest.fixture
def function(monkeypatch):
    """Puts a function into the module of somebody else's."""
    module = types.ModuleType("of_somebody_else")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return lambda function: setattr(module, "function", function)


async def begin(here, target, place):
    """Start the gateway of a world with the plug-in at a place of its settings."""
    more = f"credentials = 'injected'\nlookup = '{NAME}'\n" if place == "target" else ""
    where = f"entry = '{NAME}'\n" if place == "route" else 'target = "desktops"\n'
    text = settings_of(
        {"desktops": ([target.address], more)},
        routes=f"[[listeners.routes]]\n{where}",
        listener="handshake_timeout = 3600\n",
    )
    await here.write(text.replace('users = "users"', f"lookup = '{NAME}'") if place == "logon" else text)
    await here.gateway.start()


async def test_one_that_gives_no_answer_is_named_in_the_record(world, function, place, monkeypatch):
    deadlines, asked = Deadlines(monkeypatch), asyncio.Event()

    async def hang(*_):
        asked.set()
        await asyncio.Event().wait()

    function(hang)
    async with world(start=False) as (here, target):
        await begin(here, target, place)
        try:
            connecting = asyncio.ensure_future(here.connect())
            await asked.wait()
            deadlines.come()
            with pytest.raises(acredssp.CredSSPError):
                await connecting
            (record,) = await here.until_ended()
        finally:
            await here.gateway.stop()
    assert record.outcome == "timeout"
    assert record.reason.endswith(f" (no answer came from {PLACES[place]})")


@pytest.mark.parametrize("error", [KeyError, SystemExit, PanicError])
async def test_one_that_fails_refuses_the_user_and_is_named(world, function, place, error):
    def fail(*_):
        raise error("c4nary")

    function(fail)
    async with world(start=False) as (here, target):
        await begin(here, target, place)
        try:
            with pytest.raises(acredssp.AuthenticationError) as raised:
                await here.connect()
            (record,) = await here.until_ended()
        finally:
            await here.gateway.stop()
    assert raised.value.nt_status is NTSTATUS.STATUS_NO_LOGON_SERVERS
    place_of_error = f"({__file__}, line {fail.__code__.co_firstlineno + 1})"
    assert (record.outcome, record.reason) == (
        "denied",
        f"{PLACES[place]} failed with {error.__name__} {place_of_error}",
    )


@pytest.mark.parametrize("shape", ["plain", "coroutine"])
async def test_one_that_keeps_the_process_waiting_is_named_in_the_log(
    world, function, place, shape, monkeypatch, caplog
):
    blocked = [0.0]
    clock = asyncio.get_running_loop().time

    def block(*_):
        blocked[0] += 5.0
        return ANSWERS[place]

    async def block_in_a_coroutine(*_):
        block()
        await asyncio.sleep(0)
        return ANSWERS[place]

    class Later:
        """The loop, whose clock has gone on while the function ran."""

        def __init__(self, loop):
            self.call_soon = loop.call_soon

        def time(self):
            return clock() + blocked[0]

    monkeypatch.setattr(
        plugins, "asyncio", types.SimpleNamespace(get_running_loop=lambda: Later(asyncio.get_running_loop()))
    )
    monkeypatch.setattr(plugins, "_LONG", 4.0)
    caplog.set_level(logging.WARNING, "acredssp.proxy")
    function(block if shape == "plain" else block_in_a_coroutine)
    async with world(start=False) as (here, target):
        await begin(here, target, place)
        try:
            await leave(await here.connect())
            await here.until_ended()
        finally:
            await here.gateway.stop()
    lines = [record.message for record in caplog.records if "all connections waited" in record.message]
    assert len(lines) == 1
    assert lines[0].startswith("all connections waited 5.")
    assert lines[0].endswith(f" seconds for {PLACES[place]}: it should be async")


async def test_one_that_answers_at_once_is_not_named(world, function, place, monkeypatch, caplog):
    monkeypatch.setattr(plugins, "_LONG", 3600.0)
    caplog.set_level(logging.WARNING, "acredssp.proxy")
    function(lambda *_: ANSWERS[place])
    async with world(start=False) as (here, target):
        await begin(here, target, place)
        try:
            streams = await here.connect()
            await talk(streams)
            await leave(streams)
            (record,) = await here.until_ended()
        finally:
            await here.gateway.stop()
    assert (record.outcome, record.reason) == ("relayed", "")
    assert not [each for each in caplog.records if "waited" in each.message]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        (
            "no_such_package:function",
            ValueError,
            "no_such_package:function cannot be imported: no module no_such_package, see PYTHONPATH",
        ),
        ("json:no_such_function", ValueError, "json:no_such_function cannot be imported: AttributeError"),
        ("json:__name__", TypeError, "json:__name__: expected a function, got str"),
    ],
)
def test_one_that_cannot_be_used_says_so(name, error, text):
    with pytest.raises(error) as raised:
        plugins.PlugIn(EntryPoint(name, name, ""), "a plug-in")
    assert str(raised.value) == text

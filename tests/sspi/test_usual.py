"""Usual calls, which are made on a short way: they mean what all other calls mean."""

import pytest
from support.engine import CUTS
from support.sspi import CONTINUE, OK, Client, Server, inbound, outbound, pair, talk

from acredssp.sspi import SecBuffer, SecurityStatus, call, first_call, steps, usual


@pytest.fixture
def calls_made(monkeypatch):
    """The calls that were not made on the short way."""
    made = []

    class Noted(call.Call):
        def __init__(self, *parameters):
            made.append(parameters)
            super().__init__(*parameters)

    for module in (steps, usual):
        monkeypatch.setattr(module, "Call", Noted)
    return made


async def test_every_call_of_microsofts_loop_is_usual(calls_made):
    client, server = await pair()
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert client.calls == server.calls == 4
    assert not calls_made


@pytest.mark.parametrize("options", [{"memory": 4000, "flags": 0}, {"spare": False}, {"extras": [SecBuffer()]}])
async def test_other_buffers_are_not_usual_and_log_on_all_the_same(calls_made, options):
    client, server = await pair(**options)
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    assert calls_made


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("unusual", range(4))
async def test_usual_and_other_calls_may_follow_each_other(unusual, cut):
    client, server = await pair()
    beside = Server.beside

    for side in (client, server):
        side.beside = lambda side=side: [SecBuffer()] if side.calls == unusual else beside(side)
    await talk(client, server, CUTS[cut])
    assert (client.status, server.status) == (OK, OK), (client.error, server.error)


async def test_a_failure_behind_the_step_leaves_no_call_in_flight(monkeypatch):
    client = Client(await outbound())

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(usual, "fill_facts", fail)
        await client.call()
    assert client.status is SecurityStatus.SEC_E_INSUFFICIENT_MEMORY
    server = Server(await inbound())
    await server.call(b"\x16")
    assert client.handle.referent.in_use == server.handle.referent.in_use == 0


async def test_a_context_of_the_bare_shape_is_made_once(monkeypatch):
    made, make = [], first_call.make_context

    def noted(*arguments):
        made.append(arguments)
        return make(*arguments)

    for module in (steps, usual):
        monkeypatch.setattr(module, "make_context", noted)
    client = Client(await outbound(package="TSSSP"))
    assert await client.call()
    assert client.status is CONTINUE
    assert len(made) == 1

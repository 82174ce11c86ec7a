"""Who somebody is, by each way to write an account: for kicks, tokens and routes alike."""

import asyncio
import contextlib

import pytest
from support.gateway import leave, talk

import acredssp
from acredssp.proxy.tokens import TokenOrder
from acredssp.stores import Kick

USERS = "CONTOSO=contoso.example\nCONTOSO:alice:wonderland\n:bob:b0bs\n"
BY_TOKEN = '[[listeners.routes]]\ntoken = true\n[[listeners.routes]]\ntarget = "desktops"\n'
API = '[api]\naddress = "127.0.0.1:0"\nsecret = "env:NOT_NEEDED_HERE"\n'


@pytest.fixture
def mapped(world, folder, monkeypatch):
    """A world whose users file says that the suffix is a name of the domain."""
    monkeypatch.setenv("NOT_NEEDED_HERE", "a secret of the api")
    (folder / "users").write_text(USERS, encoding="utf-8")
    return world


async def until_cut(streams):
    with contextlib.suppress(OSError, acredssp.CredSSPError):
        while await streams[0].read(65536):
            pass


@pytest.mark.parametrize(
    ("name", "ends"),
    [("alice@contoso.example", True), ("ALICE@Contoso.Example", True), ("contoso\\alice", True), ("alice", True),
     ("alice@contoso", True), ("alice@other.example", False), ("bob@contoso.example", False)],
)  # fmt: skip
async def test_a_kick_reaches_a_user_by_every_name(mapped, name, ends):
    async with mapped() as (here, _):
        streams = await here.connect()
        await talk(streams)
        await here.gateway.node.store.kick(Kick(user=name))
        if ends:
            await until_cut(streams)
        else:
            for _ in range(20):
                await asyncio.sleep(0)
        await leave(streams)
        (record,) = await here.until_ended()
    assert record.ended_by == ("kicked" if ends else "client")


async def test_a_token_of_a_suffix_is_for_the_user_of_its_domain(mapped):
    async with mapped(routes=BY_TOKEN, rest=API) as (here, _):
        order = TokenOrder(user="alice@contoso.example", target="desktops")
        streams = await here.connect(routing_token=await order.issue(here.gateway.node.store))
        await talk(streams)
        await leave(streams)


async def test_a_kick_by_suffix_makes_tokens_void(mapped):
    async with mapped(routes=BY_TOKEN, rest=API) as (here, _):
        store = here.gateway.node.store
        token = await TokenOrder(user="CONTOSO\\alice", target="desktops").issue(store)
        await store.kick(Kick(user="alice@contoso.example"))
        with pytest.raises(acredssp.CredSSPError):
            await here.connect(routing_token=token)
        (record,) = await here.until_ended()
    assert record.reason == "the client's token is used up or expired, or its user was kicked"


@pytest.mark.parametrize("users", ["users = ['alice@contoso.example']", "groups = ['people']"])
async def test_a_route_is_for_the_user_of_the_suffix(mapped, users):
    routes = f'[[listeners.routes]]\ntarget = "desktops"\n{users}\n'
    async with mapped(routes=routes, rest="[groups]\npeople = ['alice@contoso.example']\n") as (here, _):
        streams = await here.connect()
        await talk(streams)
        await leave(streams)

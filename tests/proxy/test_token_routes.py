"""Routes for the tokens that the gateway issues: where they lead, how often, and for whom."""

import pytest
from support.gateway import ALICE, BOB, Away, leave, settings_of, talk

import acredssp
from acredssp import NTSTATUS
from acredssp.credentials import DelegatedKind
from acredssp.proxy.tokens import TokenOrder
from acredssp.rdp import FailureCode

BY_TOKEN = "[[listeners.routes]]\ntoken = true\n"
OTHERS = '[[listeners.routes]]\ntarget = "elsewhere"\n'
ELSEWHERE = '\n[targets.elsewhere]\naddresses = ["127.0.0.1:1"]\n'
API = "[api]\naddress = '127.0.0.1:0'\nsecret = 'file:api'\n"
STRANGE = "acredssp=" + "A" * 32


@pytest.fixture
def tokened(world, folder):
    """A world whose only way to its target is a token."""
    (folder / "api").write_text("a long secret of the API")
    return lambda routes=BY_TOKEN + OTHERS, target="", **more: world(
        target, routes=routes, rest=ELSEWHERE + API, **more
    )


async def issue(here, user="CONTOSO\\alice", target="desktops", **more):
    return await TokenOrder(user=user, target=target, **more).issue(here.gateway.node.store)


async def come(here, token, who=ALICE, **more):
    before = len(here.records)
    streams = await here.connect(who, routing_token=token, **more)
    await talk(streams)
    await leave(streams)
    await here.until_ended(before + 1)


async def refused(here, token, who=ALICE):
    """(what the client is told, the record's reason) of a connection that is refused."""
    before = len(here.records)
    with pytest.raises(acredssp.CredSSPError) as raised:
        await here.connect(who, routing_token=token)
    records = await here.until_ended(before + 1)
    told = getattr(raised.value, "nt_status", None) or getattr(raised.value, "failure_code", None)
    return told, records[before].reason


async def test_a_token_leads_its_user_to_its_target_as_often_as_it_says(tokened):
    async with tokened() as (here, target):
        token = await issue(here, uses=2, window=0.0)
        await come(here, token)
        await come(here, token)
        told, reason = await refused(here, token)
        assert target.requests[0].routing_token is None  # it is ours, and no business of the target
    assert (told, reason) == (
        FailureCode.SSL_NOT_ALLOWED_BY_SERVER,
        "the client's token is unknown, used up or expired",
    )
    assert {record.target for record in here.records[:2]} == {"desktops"}


async def test_the_same_client_may_come_again_within_the_window(tokened):
    async with tokened() as (here, target):
        token = await issue(here, window=60.0)
        await come(here, token)
        await come(here, token)
    assert len(target.logons) == 2


async def test_a_token_is_for_its_user_and_is_not_used_by_another_one(tokened):
    async with tokened() as (here, target):
        token = await issue(here, window=0.0)
        told, reason = await refused(here, token, BOB)
        assert (told, reason) == (NTSTATUS.STATUS_LOGON_NOT_GRANTED, "the client's token is for another user")
        await come(here, token)
    assert [user for user, *_ in target.logons] == ["CONTOSO\\alice"]


async def test_a_wrong_password_uses_no_token(tokened):
    async with tokened() as (here, _target):
        token = await issue(here, window=0.0)
        told, _ = await refused(here, token, acredssp.Password("wrong", "alice", "CONTOSO"))
        assert told == NTSTATUS.STATUS_LOGON_FAILURE
        await come(here, token)


async def test_a_token_that_is_used_up_while_its_client_logs_on_is_refused(tokened, monkeypatch):
    async with tokened() as (here, _target):
        token = await issue(here)

        async def use_token(*_):
            return None

        monkeypatch.setattr(here.gateway.node.store, "use_token", use_token)
        told, reason = await refused(here, token)
    assert told == NTSTATUS.STATUS_LOGON_NOT_GRANTED
    assert reason == "the client's token is used up or expired, or its user was kicked"


async def test_a_strange_token_is_turned_away_also_where_another_route_takes_everybody(tokened):
    async with tokened() as (here, _target):
        told, reason = await refused(here, STRANGE)
        assert told == FailureCode.SSL_NOT_ALLOWED_BY_SERVER
        assert reason == "the client's token is unknown, used up or expired"
        _, reason = await refused(here, STRANGE[:-1])
        assert reason == "the client's token is unknown, used up or expired"
        _, reason = await refused(here, "tsv://farm")
        assert reason.startswith("target elsewhere: ")


async def test_a_token_for_a_target_that_is_gone_is_refused(tokened):
    async with tokened() as (here, _target):
        _, reason = await refused(here, await issue(here, target="gone"))
    assert reason == "the client's token is for target gone, which the settings do not have"


async def test_other_conditions_of_the_route_hold_too(tokened):
    async with tokened(BY_TOKEN + 'users = ["bob"]\n') as (here, _target):
        told, reason = await refused(here, await issue(here))
        assert (told, reason) == (NTSTATUS.STATUS_LOGON_NOT_GRANTED, "no route leads this user to a target")
        await come(here, await issue(here, "bob"), BOB)


async def test_without_the_store_tokens_are_refused_and_everybody_else_comes_in(tokened):
    routes = BY_TOKEN + '[[listeners.routes]]\ntarget = "desktops"\n'
    away = Away()
    async with tokened(routes, store=away) as (here, _target):
        told, reason = await refused(here, STRANGE)
        assert told == FailureCode.SSL_NOT_ALLOWED_BY_SERVER
        assert reason == "the client's token cannot be checked: the store is away"
        away.away = ()
        token = await issue(here)
        away.away = ("use_token",)
        told, reason = await refused(here, token)
        assert told == NTSTATUS.STATUS_NO_LOGON_SERVERS
        assert reason == "the client's token cannot be checked: the store is away"
        await come(here, "")


async def test_a_token_may_lead_to_a_target_that_the_user_logs_on_to_undecrypted(tokened):
    async with tokened(BY_TOKEN + 'mode = "passthrough"\n') as (here, target):
        token = await issue(here, window=0.0)
        await come(here, token, BOB)
        told, reason = await refused(here, token)
        (record, _) = here.records
    assert (record.outcome, record.target) == ("passed_on", "desktops")
    assert [request.routing_token for request in target.requests] == [None]  # it still lets in whoever has it
    assert [user for user, *_ in target.logons] == ["bob"]  # whom the target lets in is the target's matter
    assert (told, reason) == (
        FailureCode.SSL_NOT_ALLOWED_BY_SERVER,
        "the client's token is unknown, used up or expired",
    )


async def test_no_target_gets_a_token_that_another_route_is_for(tokened):
    routes = BY_TOKEN + 'users = ["bob"]\n[[listeners.routes]]\ntarget = "desktops"\n'
    async with tokened(routes) as (here, target):
        await come(here, await issue(here))
    assert [request.routing_token for request in target.requests] == [None]


async def test_an_undecrypted_connection_without_the_store_is_refused(tokened):
    async with tokened(BY_TOKEN + 'mode = "passthrough"\n') as (here, target):
        token = await issue(here)
        here.gateway.node.store.use_token = Away().use_token
        told, reason = await refused(here, token)
    assert (told, reason) == (
        FailureCode.SSL_NOT_ALLOWED_BY_SERVER,
        "the client's token cannot be checked: the store is away",
    )
    assert target.requests == []


async def test_a_token_brings_the_credentials_that_its_user_does_not_know(tokened):
    async with tokened(target="credentials = 'token'\n") as (here, target):
        await come(here, await issue(here, account="SERVERS\\svc", password="server's"))
        told, reason = await refused(here, await issue(here))
        assert told == NTSTATUS.STATUS_ACCOUNT_RESTRICTION
        assert reason == "target desktops: expected a token with account and password, got none of them"
        told, _ = await refused(here, await issue(here, account="svc", password="wr0ng"))
        assert told == NTSTATUS.STATUS_LOGON_FAILURE
    assert target.logons == [("SERVERS\\svc", DelegatedKind.PASSWORD, "server's")]
    assert "wr0ng" not in repr(here.records)


async def test_a_token_opens_no_route_that_asks_for_none(world):
    async with world() as (here, _target):
        await here.write(settings_of({"desktops": (["127.0.0.1:1"], "")}))
        await here.gateway.reload()
        _, reason = await refused(here, STRANGE)
    assert reason.startswith("target desktops: ")

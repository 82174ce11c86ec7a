import pydantic
import pytest

from acredssp.credentials import Account
from acredssp.proxy import tokens
from acredssp.proxy.leg import Refused
from acredssp.stores import Grant, MemoryStore

ALICE = Account("alice", "CONTOSO")
ORDER = tokens.TokenOrder(user="alice", target="desktops")


async def test_a_token_leads_its_bearer_to_its_target():
    store = MemoryStore()
    order = tokens.TokenOrder(user="CONTOSO\\alice", target="desktops", ttl=90.0, uses=2, window=0.0)
    token = await tokens.issue(store, order)
    grant = Grant(user="CONTOSO\\alice", target="desktops", uses=2, window=0.0)
    assert await tokens.find(store, token) == grant
    for _ in range(2):
        await tokens.redeem(store, token, grant, "10.0.0.1", ALICE)
    with pytest.raises(Refused, match=r"^the client's token is used up or expired, or its user was kicked$"):
        await tokens.redeem(store, token, grant, "10.0.0.1", ALICE)


async def test_a_token_is_for_its_user_alone():
    store = MemoryStore()
    token = await tokens.issue(store, ORDER)
    grant = await tokens.find(store, token)
    with pytest.raises(Refused, match=r"^the client's token is for another user$"):
        await tokens.redeem(store, token, grant, "10.0.0.1", Account("bob", "CONTOSO"))
    await tokens.redeem(store, token, grant, "10.0.0.1", ALICE)


async def test_a_token_says_nothing_and_fits_a_connection_request():
    issued = {await tokens.issue(MemoryStore(), ORDER) for _ in range(50)}
    assert len(issued) == 50
    for token in issued:
        assert len(token) <= 64
        assert token.isascii()
        assert "alice" not in token


async def test_the_store_has_the_hash_of_a_token_alone():
    store = MemoryStore()
    token = await tokens.issue(store, ORDER)
    (key,) = store._tokens._values
    assert token.removeprefix("acredssp=") not in key
    for wrong in (f"acredssp={key[:32]}", f"acredssp={key}", key):
        with pytest.raises(Refused):
            await tokens.find(store, wrong)


@pytest.mark.parametrize(
    "text",
    ["", "tsv://MS Terminal Services Plugin.1.Farm", "Cookie: msts=1.2.0000", "acredssp=", "acredssp=short"],
)
async def test_what_is_no_token_is_good_for_nothing(text):
    with pytest.raises(Refused, match=r"^the client's token is unknown, used up or expired$"):
        await tokens.find(MemoryStore(), text)
    with pytest.raises(Refused):
        await tokens.redeem(MemoryStore(), text, Grant(user="alice", target="desktops"), "10.0.0.1")


async def test_a_changed_token_is_good_for_nothing():
    store = MemoryStore()
    token = await tokens.issue(store, ORDER)
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in (changed, f"{token}A", token[:-1], token.upper(), f" {token}", f"{token}\n"):
        with pytest.raises(Refused):
            await tokens.find(store, wrong)
    assert await tokens.find(store, token)


@pytest.mark.parametrize(
    "wrong",
    [{"user": ""}, {"user": "a\nb"}, {"user": "a" * 257}, {"target": ""}, {"ttl": 0.0}, {"ttl": 86_401.0},
     {"ttl": float("nan")}, {"uses": 0}, {"uses": True}, {"window": -1.0}, {"window": float("inf")}, {"extra": 1}],
)  # fmt: skip
def test_an_order_is_checked_and_no_value_is_quoted(wrong):
    with pytest.raises(pydantic.ValidationError) as error:
        tokens.TokenOrder(**{"user": "alice", "target": "desktops"} | wrong)
    assert "input_value" not in str(error.value)

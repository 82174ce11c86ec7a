"""Tokens: what they lead to, for whom and how often, and what of them is where."""

import pytest

from acredssp.accounts import Domains
from acredssp.credentials import Account
from acredssp.status import NTSTATUS
from acredssp.stores import Grant, Kick, MemoryStore, TokenRefused, find_token, is_token, issue_token, redeem_token

ALICE = Account("alice", "CONTOSO")
ORDER = Grant(user="alice", target="desktops", window=30.0)


async def test_a_token_leads_its_bearer_to_its_target():
    store = MemoryStore()
    grant = Grant(user="CONTOSO\\alice", target="desktops", uses=2)
    token = await issue_token(store, grant, 90.0)
    assert is_token(token)
    assert await find_token(store, token) == grant
    for _ in range(2):
        await redeem_token(store, token, grant, "10.0.0.1", ALICE)
    with pytest.raises(TokenRefused, match=r"^the client's token is used up or expired, or its user was kicked$"):
        await redeem_token(store, token, grant, "10.0.0.1", ALICE)


async def test_a_token_is_for_its_user_alone():
    store = MemoryStore()
    token = await issue_token(store, ORDER, 60.0)
    grant = await find_token(store, token)
    with pytest.raises(TokenRefused, match=r"^the client's token is for another user$"):
        await redeem_token(store, token, grant, "10.0.0.1", Account("bob", "CONTOSO"))
    await redeem_token(store, token, grant, "10.0.0.1", ALICE)


async def test_a_token_says_nothing_and_fits_a_connection_request():
    issued = {await issue_token(MemoryStore(), ORDER, 60.0) for _ in range(50)}
    assert len(issued) == 50
    for token in issued:
        assert len(token) <= 64
        assert token.isascii()
        assert "alice" not in token


async def test_the_store_has_the_hash_of_a_token_alone():
    store = MemoryStore()
    token = await issue_token(store, ORDER, 60.0)
    (key,) = store._tokens._values
    assert token.removeprefix("acredssp=") not in key
    for wrong in (f"acredssp={key[:32]}", f"acredssp={key}", key):
        with pytest.raises(TokenRefused):
            await find_token(store, wrong)


@pytest.mark.parametrize(
    "text",
    ["", "tsv://MS Terminal Services Plugin.1.Farm", "Cookie: msts=1.2.0000", "acredssp=", "acredssp=short"],
)
async def test_what_is_no_token_is_good_for_nothing(text):
    with pytest.raises(TokenRefused, match=r"^the client's token is unknown, used up or expired$"):
        await find_token(MemoryStore(), text)
    with pytest.raises(TokenRefused):
        await redeem_token(MemoryStore(), text, Grant(user="alice", target="desktops"), "10.0.0.1")


async def test_a_changed_token_is_good_for_nothing():
    store = MemoryStore()
    token = await issue_token(store, ORDER, 60.0)
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in (changed, f"{token}A", token[:-1], token.upper(), f" {token}", f"{token}\n"):
        with pytest.raises(TokenRefused):
            await find_token(store, wrong)
    assert await find_token(store, token)


@pytest.mark.parametrize(
    ("text", "issued_here"),
    [("acredssp=abc", True), ("acredssp=", True), ("Cookie: msts=1.2.0000", False), ("", False), (None, False)],
)
def test_a_token_is_known_by_its_beginning(text, issued_here):
    assert is_token(text) is issued_here


async def test_a_token_of_a_suffix_is_for_the_user_of_its_domain_and_a_kick_by_suffix_makes_it_void():
    store, domains = MemoryStore(), Domains({"contoso.example": "CONTOSO"})
    grant = Grant(user="alice@contoso.example", target="desktops", uses=2)
    token = await issue_token(store, grant, 60.0)
    with pytest.raises(TokenRefused, match="for another user") as error:
        await redeem_token(store, token, grant, "10.0.0.1", ALICE)
    assert error.value.nt_status is NTSTATUS.STATUS_LOGON_NOT_GRANTED
    await redeem_token(store, token, grant, "10.0.0.1", ALICE, domains)
    await store.kick(Kick(user="alice@contoso.example"))
    with pytest.raises(TokenRefused, match="its user was kicked"):
        await redeem_token(store, token, grant, "10.0.0.1", ALICE, domains)

import asyncio
import contextlib
import logging
import socket

import aiohttp
import pytest
from support.gateway import broker_of

from acredssp import self_signed, server_context_from_pem
from acredssp.accounts import Domains
from acredssp.policy import Policy
from acredssp.proxy import web
from acredssp.proxy.plan import Access
from acredssp.rdp_file import FileSigner
from acredssp.stores import Entry, Grant, Kick, MemoryStore, StoreError, find_token

SECRET = "the API's long secret"
ENTRIES = [
    Entry(id=f"id{number}", node="one", user=user, target="desktops", host="h:1", client="c:1", since=1.5)
    for number, user in enumerate(["CONTOSO\\alice", "FABRIKAM\\Alice", "CONTOSO\\bob"])
]
DOMAINS = [Domains({"fabrikam.example": "FABRIKAM"}), Domains({"contoso.example": "CONTOSO"})]
ORDER = {"user": "CONTOSO\\alice", "target": "desktops"}


class API:
    """A client of the API of a store."""

    def __init__(self, store, port, session):
        self.store = store
        self._url = f"http://127.0.0.1:{port}"
        self._session = session

    async def ask(self, method, path, json=None, secret=SECRET, **headers):
        """(status, body) of a request."""
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        async with self._session.request(method, self._url + path, json=json, headers=headers) as response:
            kind = response.content_type
            return response.status, await (response.json() if kind == "application/json" else response.read())


@contextlib.asynccontextmanager
async def served(store, access):
    """Serve the API of a store with the targets `desktops` and `servers`, and give its port."""
    broker = broker_of(store, access, DOMAINS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with web.serve(broker.app(), listener, access.context):
            yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def signer():
    return FileSigner.from_pem(*self_signed(["gateway"], "rsa"))


@pytest.fixture
def context():
    return server_context_from_pem(Policy(), *self_signed(["localhost"], "ec"))


@pytest.fixture
async def api(signer):
    store = MemoryStore()
    access = Access(secret=SECRET, gateway="gw.example.com", signer=signer)
    async with served(store, access) as port, aiohttp.ClientSession() as session:
        yield API(store, port, session)


async def test_a_token_is_issued(api):
    status, body = await api.ask("POST", "/v1/tokens", ORDER | {"ttl": 5, "uses": 2, "window": 0})
    assert (status, body["expires_in"]) == (201, 5.0)
    grant = Grant(**ORDER, uses=2, window=0.0)
    assert await find_token(api.store, body["loadbalanceinfo"]) == grant


async def test_a_token_comes_in_a_signed_file(api):
    status, body = await api.ask("POST", "/v1/tokens", ORDER, Accept="application/x-rdp")
    text = body.decode("utf-16")
    assert status == 201
    assert "full address:s:gw.example.com\r\n" in text
    assert "\r\nsignature:s:" in text
    token = text.split("loadbalanceinfo:s:")[1].split("\r\n")[0]
    assert await find_token(api.store, token) == Grant(**ORDER, window=30.0)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"user": "alice"}, "target: expected a value, got none"),
        ({"user": "alice", "target": "elsewhere"}, "target: expected one of desktops"),
        (ORDER | {"uses": "secret-value"}, "uses: "),
        (ORDER | {"ttl": -1}, "ttl: "),
        (ORDER | {"user": "al\u202eice"}, "user: expected printable characters"),
        (ORDER | {"user": "alice\u0085"}, "user: expected printable characters"),
        (ORDER | {"password": "secret-value"}, "target: one with credentials = 'delegated' expects no account"),
        (ORDER | {"account": "svc", "password": ["secret-value"]}, "password: "),
        (ORDER | {"target": "servers"}, "target: one with credentials = 'token' expects an account with its password"),
        (ORDER | {"target": "servers", "account": "svc"}, "expects an account with its password"),
        (ORDER | {"target": "servers", "account": "SERVERS\\", "password": "x"}, "account: expected DOMAIN\\user"),
        (ORDER | {"target": "servers", "account": "a\\b\\c", "password": "x"}, "account: expected DOMAIN\\user"),
        (ORDER | {"secret-key": 1}, "secret-key: no such setting"),
        ([], "expected a table"),
    ],
)
async def test_a_wrong_order_is_refused_with_its_place_and_without_its_value(api, order, said):
    status, body = await api.ask("POST", "/v1/tokens", order)
    assert status == 400
    assert said in body["error"]
    assert "secret-value" not in body["error"]
    assert not body["error"].startswith(":")


@pytest.mark.parametrize(
    ("method", "path", "secret"),
    [*(("POST", "/v1/tokens", secret) for secret in (None, "", "wrong", SECRET[:-1], f"{SECRET}x", "\u00e9")),
     ("GET", "/v1/connections", "wrong"), ("DELETE", "/v1/connections/1", "wrong"), ("POST", "/v1/kick", "wrong"),
     ("GET", "/nothing", "wrong")],
)  # fmt: skip
async def test_nobody_comes_in_without_the_secret(api, method, path, secret):
    kicks = asyncio.create_task(anext(api.store.kicks()))
    status, body = await api.ask(method, path, ORDER, secret)
    assert (status, body) == (401, {"error": "expected the API's secret"})
    assert not kicks.done()
    kicks.cancel()
    await asyncio.gather(kicks, return_exceptions=True)


async def test_the_scheme_is_bearer(api):
    assert (await api.ask("GET", "/v1/connections", secret=None, Authorization=f"Basic {SECRET}"))[0] == 401
    assert (await api.ask("GET", "/v1/connections", secret=None, Authorization=f"bearer {SECRET}"))[0] == 200


@pytest.mark.parametrize(
    ("query", "found"),
    [("", [0, 1, 2]), ("?user=alice", [0, 1]), ("?user=contoso%5CALICE", [0]), ("?user=bob@contoso", [2]),
     ("?user=carol", []), ("?user=bob@contoso.example", [2]), ("?user=alice@fabrikam.example", [1]),
     ("?user=bob@fabrikam.example", [])],
)  # fmt: skip
async def test_connections_are_listed(api, query, found):
    await api.store.announce(ENTRIES, 60)
    status, body = await api.ask("GET", f"/v1/connections{query}")
    assert status == 200
    assert [entry["id"] for entry in body["connections"]] == [f"id{number}" for number in found]


@pytest.mark.parametrize("query", ["?user=", "?user=%20", "?user"])
async def test_an_empty_name_does_not_stand_for_everybody(api, query):
    await api.store.announce(ENTRIES, 60)
    status, body = await api.ask("GET", f"/v1/connections{query}")
    assert (status, body) == (400, {"error": "user: expected a name, got none"})


async def test_connections_are_ended(api):
    await api.store.announce(ENTRIES, 60)
    async with contextlib.aclosing(api.store.kicks()) as kicks:
        first = asyncio.create_task(anext(kicks))
        while not api.store._watchers:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert await api.ask("DELETE", "/v1/connections/id9") == (404, {"error": "no such connection"})
        assert await api.ask("DELETE", "/v1/connections/id1") == (202, {"ending": "id1"})
        assert await first == Kick(connection="id1")
        assert await api.ask("POST", "/v1/kick", {"user": "alice"}) == (202, {"kicked": "alice"})
        assert await anext(kicks) == Kick(user="alice")


async def test_without_the_store_it_says_so(api, monkeypatch):
    async def away(*_):
        raise StoreError("the store at h:1 is away")

    for name in ("put_token", "entries", "kick"):
        monkeypatch.setattr(api.store, name, away)
    for method, path, body in (
        ("POST", "/v1/tokens", ORDER),
        ("GET", "/v1/connections", None),
        ("DELETE", "/v1/connections/1", None),
        ("POST", "/v1/kick", {"user": "alice"}),
    ):
        assert await api.ask(method, path, body) == (503, {"error": "the store at h:1 is away"})


async def test_a_body_that_is_too_long_is_not_read(api):
    assert (await api.ask("POST", "/v1/tokens", {"user": "a" * 20_000}))[0] == 413


async def test_a_request_that_cannot_be_parsed_is_not_quoted_in_the_log(caplog):
    async with served(MemoryStore(), Access(secret=SECRET)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer c4nary\0\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    assert "a request failed with BadHttpMessage" in caplog.text
    assert "c4nary" not in caplog.text


async def test_neither_secret_nor_token_is_in_a_log_or_repr(api, caplog):
    caplog.set_level(logging.DEBUG)
    order = ORDER | {"target": "servers", "account": "svc", "password": "c4nary"}
    _, body = await api.ask("POST", "/v1/tokens", order)
    await api.ask("POST", "/v1/tokens", ORDER, "wrong-secret")
    grant = await find_token(api.store, body["loadbalanceinfo"])
    assert (grant.account, grant.password) == ("svc", "c4nary")
    seen = f"{caplog.text} {Access(secret=SECRET)!r} {grant!r}"
    assert "issued a token" in seen
    for word in (SECRET, "wrong-secret", "c4nary", body["loadbalanceinfo"]):
        assert word not in seen


async def test_it_takes_tls(context):
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with (
        served(MemoryStore(), Access(secret=SECRET, context=context)) as port,
        aiohttp.ClientSession() as session,
    ):
        url = f"https://127.0.0.1:{port}/v1/connections"
        async with session.get(url, headers=headers, ssl=False) as response:
            assert await response.json() == {"connections": []}

"""The client under load and in trouble: many connections, two identities, cut connections, cancelled requests."""

import asyncio
import contextlib
import random
import subprocess
import sys
import threading

import httpx
import pytest
from support import endpoints
from support.cutting import Cutter, Loser
from support.http_senders import SENDERS
from support.http_toy import CAROL, TRUSTING, Toy, client_config, lookup

from acredssp.errors import CredSSPError, HandshakeTimeout, PeerClosed, RemoteProtocolError
from acredssp.http import HTTPProtocolError
from acredssp.http.httpx import CredSSPTransport
from acredssp.http.wire import Request
from acredssp.policy import Policy

# Made at import, since making a context reads files, which no test may do on its loop.
CONFIG = client_config()
CAROLS = client_config(authenticate=CAROL)
HASTY = client_config(Policy(handshake_timeout=0.05))
USERS = {"bob": CONFIG, "carol": CAROLS}
PATIENT = 60.0
SPARE = 16
"""By so many bytes an exchange may be shorter than another one: signatures have several sizes."""


@contextlib.asynccontextmanager
async def client_of(config=CONFIG, **options):
    transport = CredSSPTransport(config, ssl_context=TRUSTING, server_hostname="localhost", **options)
    async with httpx.AsyncClient(transport=transport, timeout=PATIENT, trust_env=False) as client:
        yield client


def url_of(toy):
    return toy.url.replace("localhost", "127.0.0.1")  # a name is resolved in a thread


async def test_200_connections_at_once_on_one_loop_without_a_thread():
    arrived, everybody = 0, asyncio.Event()

    async def answer(asked):
        nonlocal arrived
        arrived += 1
        if arrived == 200:
            everybody.set()
        await everybody.wait()
        return 200, asked.body.upper(), True

    before = threading.active_count()
    async with Toy(answer=answer) as toy, client_of(max_connections=200) as client:
        bodies = [f"request {number}".encode() for number in range(200)]
        answers = await asyncio.gather(*[client.post(url_of(toy), content=body) for body in bodies])
        assert [each.content for each in answers] == [body.upper() for body in bodies]
        assert threading.active_count() == before
        assert toy.connections == 200


@pytest.mark.parametrize("seed", range(8))
async def test_two_identities_never_mix(seed):
    """Whatever the order: streams that end early, cancelled requests, errors, and a pool that is too small."""
    chance = random.Random(seed)

    async def answer(asked):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        said = f"{asked.user}:{asked.body.decode()}".encode()
        return chance.choice([(200, said, True), (200, said, True), (500, said, True), (500, b"plain", False)])

    async def use(client, number):
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        user = chance.choice([*USERS])
        what = chance.choice(["read", "read", "read", "leave", "cancel"])
        sent = f"{user}-{number}"

        async def ask():
            extensions = {"credssp": USERS[user]}
            async with client.stream("POST", url_of(toy), content=sent.encode(), extensions=extensions) as got:
                if what == "leave":
                    return
                body = await got.aread()
                assert body == b"plain" or body.decode() == f"{user}:{sent}"
                seen.append(number)

        task = asyncio.create_task(ask())
        if what == "cancel":
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    seen = []
    async with Toy(answer=answer) as toy, client_of(max_connections=chance.choice([1, 2, 3, 5])) as client:
        await asyncio.gather(*[use(client, number) for number in range(40)])
        assert len(seen) > 10
        of_connection = {}
        for asked in toy.served:
            assert asked.body.decode().startswith(f"{asked.user}-")
            assert of_connection.setdefault(asked.connection, asked.user) == asked.user
        sent = [asked.body for asked in toy.served]
        assert len(sent) == len(set(sent)), "nothing is sent twice"


@pytest.mark.parametrize("moment", range(0, 90, 3))
async def test_a_request_that_is_cancelled_at_any_moment_leaves_no_trace(moment):
    """Its connection is not used again, and its place in the pool, which has one, is free."""
    async with Toy() as toy, client_of(max_connections=1) as client:
        task = asyncio.create_task(client.post(url_of(toy), content=b"cancelled"))
        for _ in range(moment):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        answer = await client.post(url_of(toy), content=b"next")
        assert answer.content == b"NEXT"
        last = toy.served[-1]
        assert last.body == b"next"
        assert finished or all(asked.connection != last.connection for asked in toy.served[:-1])
        assert [asked.body for asked in toy.served].count(b"cancelled") <= 1


@pytest.mark.parametrize(("direction", "step"), [("down", 29), ("up", 61)])
async def test_a_connection_that_is_cut_in_an_exchange(direction, step):
    """tests/interop/test_http_client.py cuts at every byte."""
    async with Toy() as toy, Cutter(toy.port) as cutter:
        async with client_of() as client:
            assert (await client.post(cutter.url, content=b"whole")).content == b"WHOLE"
        whole, cutter.direction = cutter.passed[direction], direction
        assert 2_000 < whole < 20_000
        for size in range(1, whole - SPARE, step):
            await cut_at(size, toy, cutter)


async def cut_at(size, toy, cutter):
    cutter.size = size
    toy.served.clear()
    async with client_of() as client:
        with pytest.raises((httpx.TransportError, CredSSPError)) as caught:
            await client.post(cutter.url, content=b"cut")
    assert len(toy.served) <= 1, "sent twice"
    assert str(caught.value)


async def test_a_logon_that_is_cut_is_told_with_its_step():
    async with Toy() as toy, Cutter(toy.port) as cutter, client_of() as client:
        cutter.size = 300
        with pytest.raises(PeerClosed, match=r"the connection to http://127.0.0.1:\d+ ended, in leg 1 of the logon"):
            await client.post(cutter.url, content=b"x")


ENDS = {
    "before a byte": 0,
    "in the headers": 30,
    "in the sealed body": 700,
}


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("place", ENDS)
async def test_a_connection_that_is_lost_in_an_answer_is_told_and_nothing_is_sent_again(how, place):
    async with Toy() as toy, Loser(toy.port) as loser, client_of() as client:
        assert (await client.post(loser.url, content=b"first")).content == b"FIRST"
        loser.lose, loser.how = ENDS[place], how
        with pytest.raises(httpx.TransportError):
            await client.post(loser.url, content=b"once" * 200)
        loser.lose = None
        assert (await client.post(loser.url, content=b"again")).content == b"AGAIN"
        assert [asked.body for asked in toy.served] == [b"first", b"once" * 200, b"again"]
        assert toy.connections == 2, "the next request logs on anew"


async def test_a_connection_that_ended_while_it_was_idle_is_noticed_before_anything_is_sent():
    async with Toy() as toy, client_of() as client:
        await client.post(url_of(toy), content=b"one")
        for task in [*toy.tasks]:
            task.cancel()
        await asyncio.gather(*toy.tasks, return_exceptions=True)
        await turns_until(lambda: not client._transport._client._pool._idle_one(None))
        answer = await client.post(url_of(toy), content=b"two")
        assert answer.content == b"TWO"
        assert [asked.body for asked in toy.served] == [b"one", b"two"]
        assert toy.connections == 2


async def turns_until(fact):
    for _ in range(20):
        await asyncio.sleep(0)
    assert fact()


async def test_an_idle_connection_ends_after_its_time():
    async with Toy() as toy, client_of(idle_timeout=0.02) as client:
        await client.post(url_of(toy), content=b"one")
        await asyncio.wait(toy.tasks)  # the server sees the end


async def silent_server():
    async def serve(reader, writer):
        while await reader.read(65_536):
            pass
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_a_logon_has_a_deadline_of_its_own():
    server = await silent_server()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, client_of(HASTY) as client:
        with pytest.raises(HandshakeTimeout, match="gave no answer in time, in leg 1 of the logon"):
            await client.post(url, content=b"x")


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
async def test_header_fields_without_end_are_refused_within_bounds(send):
    written = 0

    async def serve(reader, writer):
        nonlocal written
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 401 Unauthorized\r\n")
            while True:
                writer.write(b"a: b\r\n" * 1_000)
                written += 6_000
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://localhost:{server.sockets[0].getsockname()[1]}/"
    async with server:
        with pytest.raises(RemoteProtocolError, match=r"expected an answer of http .* in leg 1 of the logon") as caught:
            await send(CONFIG, url, [b"x"])
    assert len(str(caught.value)) < 600
    assert written < 32 << 20, "most of it is in the buffers of the sockets"


def test_a_request_shows_neither_its_fields_nor_its_body():
    request = Request("POST", b"/wsman", [(b"Authorization", b"CredSSP hidden")], b"hidden")
    assert "hidden" not in repr(request)
    assert "/wsman" in repr(request)


async def test_a_server_that_forgets_a_connection_that_is_logged_on():
    """As a proxy does that sends the request over another client's connection."""
    async with Toy(answer=lambda asked: (401, b"who?", False)) as toy, client_of() as client:
        with pytest.raises(HTTPProtocolError, match=r"does not know this connection as logged on.*share connections"):
            await client.post(url_of(toy), content=b"x")
        assert len(toy.served) == 1


async def test_a_server_that_wants_sealed_requests_alone_names_both_switches():
    async with Toy() as toy, client_of(dangerous_allow_unsealed=True) as client:
        with pytest.raises(HTTPProtocolError) as caught:
            await client.get(url_of(toy))
    assert caught.value.message.endswith(
        "the server refused a request without a sealed body: dangerous_allow_unsealed of this client lets it be sent, "
        "and the server has a switch of its own"
    )
    for said in "dangerous_allow_unsealed=True", "AllowUnencrypted", "send a body of at least one byte":
        assert said in caught.value.hint


async def test_an_account_that_is_locked_out_is_asked_once():
    asked = []
    config = endpoints.server_config(lookup=lambda request: asked.append(request) or lookup(request))
    async with Toy(config) as toy, client_of(client_config_of("nobody")) as client:
        with pytest.raises(CredSSPError):
            await client.post(url_of(toy), content=b"x")
    assert len(asked) == 1


NOBODY = client_config(authenticate=endpoints.Password("wrong", "nobody", "CONTOSO"))


def client_config_of(user):
    return {"nobody": NOBODY}[user]


@pytest.mark.parametrize(("option", "value"), [("max_connections", 0), ("idle_timeout", 0)])
def test_an_option_that_is_impossible(option, value):
    with pytest.raises(ValueError, match=f"{option}: expected"):
        CredSSPTransport(CONFIG, ssl_context=TRUSTING, **{option: value})


def test_an_option_that_is_unknown():
    with pytest.raises(TypeError, match=r"expected options among .*max_connections.*, got max_conections"):
        CredSSPTransport(CONFIG, max_conections=2)


def test_a_credential_is_no_configuration():
    with pytest.raises(TypeError, match="expected a ClientConfig, which holds the credential, got a Password"):
        CredSSPTransport(endpoints.Password("c4nary", "bob", "CONTOSO"))


async def test_a_request_s_credential_is_no_configuration():
    async with Toy() as toy, client_of() as client:
        with pytest.raises(TypeError, match="expected a ClientConfig"):
            await client.post(url_of(toy), content=b"x", extensions={"credssp": endpoints.BOB})
        assert toy.connections == 0


@pytest.mark.parametrize("missing", ["httpx", "httpx2", "aiohttp"])
def test_a_library_that_is_not_installed_is_told_in_one_line(missing):
    program = f"""
import sys
for name in ("httpx", "httpcore", "httpx2", "httpcore2", "aiohttp", "h11"):
    sys.modules[name] = None
import acredssp.http
try:
    import acredssp.http.{missing}
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    package = {"httpx2": "httpx2"}.get(missing, "'acredssp[http]'")
    assert run.stdout == f"acredssp.http.{missing} needs {missing}: pip install {package}\n"

"""The acceptor over real connections, by each of its servers: one connection, one logon, plain requests."""

import asyncio
import contextlib

import pytest
import uvicorn
from support.endpoints import BOB, PASSWORD, Deadlines, server_config
from support.http_bodies import END, MULTI, TYPE
from support.http_by_hand import NO_CHECK, OUTSIDE, PROTOCOLS, SERVERS, connected, from_port, serving, shorten
from support.peers import free_port

from acredssp.aio import FailureLimit, HandshakeOutcome
from acredssp.credentials import Password
from acredssp.errors import AccessDenied, AuthenticationError
from acredssp.http import Sealer, open_body, seal_body
from acredssp.http.limits import HTTPLimits
from acredssp.http.served import ServedConnection
from acredssp.tls import end_point_binding, own_chain

KIB = 1 << 10
SIZES = [1, 16_383, 16_384, 16_385, 1 << 20]


@pytest.fixture(params=SERVERS)
def server(request):
    return request.param


async def whole(receive):
    body, more = bytearray(), True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    return bytes(body)


async def answer(send, body=b"", status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": body})


class Echo:
    """An application that gives back what it gets."""

    def __init__(self):
        self.scopes, self.bodies = [], []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        body = await whole(receive)
        self.bodies.append(body)
        await answer(send, body, headers=[(b"content-type", b"text/plain")])


@contextlib.asynccontextmanager
async def logged_on(kind, app, *args, client=None, **options):
    """A client that is logged on to a server."""
    async with serving(kind, app, *args, **options) as port, connected(port, **client or {}) as by_hand:
        assert (await by_hand.log_on()).status == 200
        yield by_hand


async def test_a_client_logs_on_and_its_requests_are_plain_for_the_application(server):
    app = Echo()
    async with logged_on(server, app) as client:
        for body in (b"hello", b"again"):
            response = await client.post(body)
            assert (response.status, response.body) == (200, body)
            assert response.headers["content-type"] == "text/plain"
            assert response.headers["sealed"] == "yes"
    first, second = app.scopes
    assert str(first["credssp"].principal) == "CONTOSO\\bob"
    assert first["credssp"] is second["credssp"]
    headers = dict(first["headers"])
    assert headers[b"content-type"] == b"text/plain"
    assert headers[b"content-length"] == b"5"
    assert first["method"] == "POST"
    assert first["path"] == "/wsman"


@pytest.mark.parametrize("secure", [False, True])
async def test_bodies_of_all_sizes_go_both_ways(server, secure):
    tls = OUTSIDE if secure else None
    async with logged_on(server, Echo(), ssl=tls, client={"secure": secure}) as client:
        for size in SIZES:
            body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            assert (await client.post(body)).body == body


async def test_an_answer_without_a_body_is_sealed_too(server):
    async def nothing(scope, receive, send):
        await whole(receive)
        await answer(send)

    async with logged_on(server, nothing) as client:
        response = await client.post(b"x")
        assert (response.body, response.headers["sealed"]) == (b"", "yes")
        assert (await client.post(b"x")).status == 200


@pytest.mark.parametrize(("status", "method"), [(204, "POST"), (304, "POST"), (200, "HEAD")])
async def test_an_answer_that_must_have_no_body_has_none(server, status, method):
    async def app(scope, receive, send):
        await whole(receive)
        await answer(send, b"" if method == "POST" else b"not sent", status)

    async with logged_on(server, app) as client:
        response = await client.post(b"x", method=method)
        assert (response.status, response.body) == (status, b"")
        assert (await client.post(b"x", method=method)).status == status


async def test_streams_are_opened_and_sealed_as_they_come(server):
    """Each piece of the application's answer reaches the client before the next one is made."""
    turns = asyncio.Queue()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
        await turns.get()
        await send({"type": "http.response.body", "body": b"end"})

    async with logged_on(server, app) as client:
        sealer = Sealer(client.context, None, "text/plain")
        await client.send([("Content-Type", sealer.media_type), ("Transfer-Encoding", "chunked")])
        sent = sealer.feed(b"a" * 16_384)
        client.writer.write(b"%x\r\n%b\r\n" % (len(sent), sent))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        size = int(await client.reader.readuntil(b"\r\n"), 16)
        assert size > 16_384
        first = await client.reader.readexactly(size + 2)
        rest = sealer.finish()
        client.writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
        for _ in range(2):
            turns.put_nowait(None)
        body = first[:-2] + await client.chunks()
        kind = 'multipart/x-multi-encrypted;protocol="application/HTTP-CredSSP-session-encrypted";'
        opened = open_body(client.context, kind + 'boundary="Encrypted Boundary"', body)
        assert opened == ("application/octet-stream", b"a" * 16_384 + b"end")
        response = await client.post(b"x")  # the next request finds its place in the records
        assert response.status == 200


@pytest.mark.parametrize("size", [1, 200_000])
async def test_what_the_application_leaves_of_a_body_is_opened_all_the_same(server, size):
    async def deaf(scope, receive, send):
        await answer(send, b"no", 404)

    async with logged_on(server, deaf) as client:
        for _ in range(3):
            response = await client.post(b"x" * size)
            assert (response.status, response.body) == (404, b"no")


@pytest.mark.parametrize("on", [False, True])
async def test_head_of_a_client_that_shows_nothing_is_refused_by_a_header_alone(server, on, caplog):
    """Nobody who has not logged on can fill the log with tracebacks."""
    app = Echo()
    async with serving(server, app) as port, connected(port) as client:
        if on:
            await client.log_on()
        response = await client.ask(method="HEAD")
        assert response.status == 401
        assert int(response.headers["content-length"]) > 0
        if on:
            assert await client.at_end()
        else:
            assert (await client.log_on()).status == 200
    assert app.scopes == []
    assert not [each for each in caplog.records if each.exc_info]


async def test_an_application_that_does_not_answer_head_gets_the_client_a_header(server, caplog):
    async def fails(scope, receive, send):
        raise RuntimeError("ours")

    async with logged_on(server, fails) as client:
        media_type, body = seal_body(client.context, b"x")
        response = await client.ask([("Content-Type", media_type)], body, method="HEAD")
        assert (response.status, response.closes) == (500, True)
        assert await client.at_end()
    caplog.clear()


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(server):
    async with logged_on(server, Echo()) as client:
        media_type, body = seal_body(client.context, b"hello")
        headers = [("Content-Type", media_type), ("Content-Length", str(len(body))), ("Expect", "100-continue")]
        await client.send(headers)
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        client.writer.write(body)
        assert client.opened(await client.response()).body == b"hello"


async def test_pipelined_requests_are_answered_in_their_order(server):
    app = Echo()
    async with logged_on(server, app) as client:
        sent = b""
        for body in (b"first", b"second" * 20_000, b"third"):
            media_type, sealed = seal_body(client.context, body)
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(sealed)}\r\n\r\n"
            sent += head.encode() + sealed
        client.writer.write(sent)
        opened = [client.opened(await client.response()).body for _ in range(3)]
    assert opened == app.bodies == [b"first", b"second" * 20_000, b"third"]


LEFT = [401] * 17 + [429]
"""The most answers that a client gets if it sends more than 17 requests at once. The first of them is not ahead."""


async def statuses_of(server, sent, count):
    """The statuses of the answers to so many requests that are sent at once; the last may be lost by a reset."""
    statuses = []
    async with serving(server, Echo()) as port, connected(port) as client:
        client.writer.write(sent)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while len(statuses) < count:
                statuses.append((await client.response()).status)
    return statuses


@pytest.mark.parametrize("count", [16, 17, 18, 2_600])
async def test_a_client_that_sends_thousands_of_requests_ahead_is_left(server, count):
    statuses = await statuses_of(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * count, count)
    assert statuses == LEFT[: count if count <= 17 else len(statuses)]


@pytest.mark.parametrize("server", ["ours", "uvicorn-h11"])
async def test_requests_of_which_a_part_has_come_are_ahead_too(server):
    request = b"GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n" % (b"a" * 9_000)
    statuses = await statuses_of(server, request * 30, 30)
    assert statuses == LEFT[: len(statuses)]


async def test_requests_that_wait_for_the_answer_are_no_requests_ahead(server):
    async with serving(server, Echo()) as port, connected(port) as client:
        for _ in range(40):
            await client.send([("Content-Length", "0")])
            assert (await client.response()).status == 401


async def test_pipelined_legs_log_on_nobody_else(server):
    """The second of two logons in one write is refused, since both came over one connection."""
    async with serving(server, Echo()) as port, connected(port) as client, connected(port) as other:
        first, second = client.exchange.start().authorization, other.exchange.start().authorization
        for token in (first, second):
            await client.send([("Authorization", token), ("Content-Length", "0")])
        assert (await client.response()).status == 401
        refused = await client.response()
        assert (refused.status, refused.closes) == (401, True)
        assert await client.at_end()


# --- identity ---


async def test_each_connection_has_its_own_user(server):
    accounts = {name: Password(PASSWORD, name, "CONTOSO") for name in ("alice", "bob")}
    config = server_config(lookup=lambda request: accounts[request.principal.user])

    async def who(scope, receive, send):
        await whole(receive)
        await answer(send, str(scope["credssp"].principal).encode())

    async with (
        serving(server, who, config) as port,
        connected(port, authenticate=accounts["alice"]) as alice,
        connected(port, authenticate=accounts["bob"]) as bob,
    ):
        await asyncio.gather(alice.log_on(), bob.log_on())
        for _ in range(3):
            answers = await asyncio.gather(alice.post(b"?"), bob.post(b"?"))
            assert [each.body for each in answers] == [b"CONTOSO\\alice", b"CONTOSO\\bob"]


async def test_the_next_connection_from_the_same_port_is_nobody_s(server):
    """A port that is used again is the same tuple of addresses, which is no identity."""
    own, app = free_port(), Echo()
    async with serving(server, app) as port:
        async with connected(port, sock=await from_port(own, port)) as client:
            await client.log_on()
            assert (await client.post(b"x")).status == 200
            media_type, body = seal_body(client.context, b"x")
        async with connected(port, sock=await from_port(own, port)) as another:
            refused = await another.ask([("Content-Type", media_type)], body)
            assert refused.status == 401
            assert refused.headers["www-authenticate"] == "CredSSP"
            await another.log_on()
            assert (await another.post(b"x")).status == 200
    first, second = app.scopes
    assert first["client"] == second["client"] == ("127.0.0.1", own)
    assert first["credssp"] is not second["credssp"]


async def test_a_proxy_that_sends_another_client_s_logon_over_the_connection_is_refused(server):
    app = Echo()
    async with logged_on(server, app) as client:
        refused = await client.ask([("Authorization", "CredSSP FgMBAAA=")])
        assert (refused.status, refused.closes) == (400, True)
        assert b"let no proxy share connections" in refused.body
        assert await client.at_end()
    assert app.scopes == []


@pytest.mark.parametrize("body", [b"", b"plain"])
async def test_a_proxy_that_sends_another_client_s_plain_request_is_refused(server, body):
    app = Echo()
    async with logged_on(server, app) as client:
        refused = await client.ask([("Content-Type", "text/plain")], body)
        assert (refused.status, refused.closes) == (401, True)
        assert b"expected a sealed body, which shows whose request it is" in refused.body
        assert await client.at_end()
    assert app.scopes == []


async def test_a_body_that_another_client_sealed_is_refused_before_the_application_sees_it(server):
    app = Echo()
    async with serving(server, app) as port, connected(port) as one, connected(port) as other:
        await asyncio.gather(one.log_on(), other.log_on())
        media_type, body = seal_body(other.context, b"x")
        refused = await one.ask([("Content-Type", media_type)], body)
        assert (refused.status, refused.closes) == (400, True)
        assert refused.body.startswith(b"the sealed body cannot be opened (let no proxy share connections among ")
    assert app.scopes == []


async def test_plain_requests_are_served_where_the_program_says_so(server):
    app = Echo()
    async with logged_on(server, app, dangerous_allow_unsealed=True) as client:
        plain = await client.ask([("Content-Type", "text/html")], b"plain")
        assert (plain.status, plain.body, plain.headers["content-type"]) == (200, b"plain", "text/plain")
        assert (await client.post(b"sealed")).body == b"sealed"
        assert (await client.post(b"")).body == b""
        await client.send(method="GET")
        assert (await client.response()).body == b""
    assert [str(scope["credssp"].principal) for scope in app.scopes] == ["CONTOSO\\bob"] * 4
    assert dict(app.scopes[0]["headers"])[b"content-type"] == b"text/html"


# --- the logon ---


async def test_a_wrong_password_gets_its_own_error_and_a_report(server):
    reports = []
    async with serving(server, Echo(), on_handshake=reports.append) as port:
        async with connected(port, authenticate=Password("wrong", "bob", "CONTOSO")) as client:
            with pytest.raises(AuthenticationError):
                await client.log_on()
            assert await client.at_end()
        async with connected(port) as client:
            await client.log_on()
    refused, good = reports
    assert refused.outcome is HandshakeOutcome.DENIED
    assert isinstance(refused.error, AuthenticationError)
    assert str(refused.principal) == "CONTOSO\\bob"
    assert good.outcome is HandshakeOutcome.SUCCESS
    assert good.peer_address[0] == "127.0.0.1"
    assert good.connection_id != refused.connection_id


async def test_too_many_wrong_passwords_make_the_source_wait(server):
    reports = []
    limit = FailureLimit(count=1)
    async with serving(server, Echo(), on_handshake=reports.append, max_failures=limit) as port:
        for password in ("wrong", PASSWORD):
            async with connected(port, authenticate=Password(password, "bob", "CONTOSO")) as client:
                with pytest.raises(AuthenticationError):
                    await client.log_on()
    assert [report.outcome for report in reports] == [HandshakeOutcome.DENIED, HandshakeOutcome.LIMITED]


async def test_hooks_are_asked_and_have_their_time_limits(server):
    asked = []

    async def yes(request):
        await asyncio.sleep(0)
        asked.append(type(request).__name__)
        return True

    async with logged_on(server, Echo(), server_config(authorize=yes, admit=yes)) as client:
        assert (await client.post(b"x")).status == 200
    assert asked == ["Identity", "Admission"]


async def test_a_hook_that_refuses_is_reported_by_name(server):
    reports = []
    config = server_config(admit=lambda admission: False)
    async with serving(server, Echo(), config, on_handshake=reports.append) as port, connected(port) as client:
        with pytest.raises(AccessDenied):
            await client.log_on()
        assert await client.at_end()
    assert [(report.hook, report.outcome) for report in reports] == [("admit", HandshakeOutcome.DENIED)]


async def test_a_logon_that_takes_too_long_is_refused_with_an_answer(server, monkeypatch):
    deadlines = Deadlines(monkeypatch)

    async def never(identity):
        asyncio.get_running_loop().call_soon(deadlines.come)
        await asyncio.Event().wait()

    reports = []
    limits = HTTPLimits(logon_timeout=Deadlines.FAR)
    config = server_config(authorize=never)
    options = {"limits": limits, "on_handshake": reports.append}
    async with serving(server, Echo(), config, **options) as port, connected(port) as client:
        with pytest.raises(AuthenticationError):
            await client.log_on()
        assert await client.at_end()
    assert [(report.hook, report.outcome) for report in reports] == [("authorize", HandshakeOutcome.TIMEOUT)]


async def test_a_client_that_does_not_log_on_in_time_is_let_go(server):
    limits = HTTPLimits(logon_timeout=1.0)
    async with serving(server, Echo(), limits=limits) as port, connected(port) as silent, connected(port) as begun:
        assert (await begun.ask()).status == 401
        assert await silent.at_end()
        assert await begun.at_end()


async def test_the_time_for_the_logon_counts_from_the_accept_with_tls_outside_too(server):
    """The first client is accepted before the second, and begins TLS only when the second has logged on.

    So the first logon has taken longer than the second, which takes as long as several others do.
    """
    reports = []
    options = {"ssl": OUTSIDE, "on_handshake": reports.append}
    async with serving(server, Echo(), **options) as port, connected(port) as first:
        async with connected(port, secure=True) as second:
            for _ in range(5):
                async with connected(port, secure=True) as other:
                    await other.log_on()
            await second.log_on()
        await first.writer.start_tls(NO_CHECK, server_hostname="localhost")
        await first.log_on()
    *_, of_second, of_first = reports
    assert of_first.outcome is HandshakeOutcome.SUCCESS
    assert of_first.elapsed > of_second.elapsed


class Stuck(asyncio.Transport):
    """A connection whose client reads nothing, so that `close()` waits for it."""

    closed = False

    def __init__(self):
        super().__init__()
        self.aborted = asyncio.Event()

    def close(self):
        self.closed = True

    def abort(self):
        self.aborted.set()

    def pause_reading(self):
        pass

    def is_closing(self):
        return self.closed

    def write(self, data):
        self.written = data


async def test_a_logon_that_takes_too_long_waits_for_nobody_to_read():
    transport = Stuck()
    served = ServedConnection(transport, HTTPLimits(logon_timeout=0.001))
    await transport.aborted.wait()
    served.lost()


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
async def test_uvicorn_waits_no_longer_than_the_limit_for_a_client_that_does_not_read(protocol):
    limited = type("Limited", (protocol,), {"limits": HTTPLimits(body_timeout=0.001)})
    settings = uvicorn.Config(Echo(), http=limited, log_config=None, lifespan="off")
    settings.load()
    state, transport = uvicorn.server.ServerState(), Stuck()
    connection = limited(settings, state, {})
    connection.connection_made(transport)
    connection.data_received(b"no http at all\r\n\r\n")
    assert (transport.closed, transport.aborted.is_set()) == (True, False), "uvicorn closes behind its answer 400"
    await transport.aborted.wait()
    connection.connection_lost(None)


@pytest.mark.parametrize(
    ("pieces", "status", "text"),
    [
        ((b"no http\r\n\r\n",), 400, "expected a request of http/1.1, got something else"),
        ((b"POST / HTTP/1.1\r\nX: ", b"x" * 5_000), 431, "expected header fields of at most 1000 bytes, got more"),
    ],
    ids=["no http", "a large field"],
)
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
async def test_uvicorn_refuses_what_is_no_http_in_the_words_of_the_small_server(protocol, pieces, status, text):
    limited = type("Limited", (protocol,), {"limits": HTTPLimits(header_size=1_000)})
    settings = uvicorn.Config(Echo(), http=limited, log_config=None, lifespan="off")
    settings.load()
    transport = Stuck()
    connection = limited(settings, uvicorn.server.ServerState(), {})
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
    assert transport.written.startswith(f"HTTP/1.1 {status} ".encode())
    assert transport.written.endswith(f"\r\n\r\n{text}\n".encode())
    connection.connection_lost(None)


async def test_a_client_that_leaves_in_the_middle_is_reported(server):
    reported, reports = asyncio.Event(), []

    def note(report):
        reports.append(report)
        reported.set()

    async with serving(server, Echo(), on_handshake=note) as port:
        async with connected(port) as client:
            assert (await client.ask([("Authorization", client.exchange.start().authorization)])).status == 401
        await reported.wait()
    assert [report.outcome for report in reports] == [HandshakeOutcome.LEFT]


async def test_the_credentials_are_there_once(server):
    taken = []

    async def app(scope, receive, send):
        await whole(receive)
        taken.append(scope["credssp"].take_credentials())
        await answer(send)

    async with logged_on(server, app) as client:
        await client.post(b"x")
        await client.post(b"x")
    assert taken[0].as_password() == BOB
    assert taken[1] is None


@pytest.mark.parametrize(("certificate", "status"), [("the server's", 200), ("another", None)])
async def test_a_logon_is_bound_to_the_certificate_outside(server, certificate, status):
    bindings = end_point_binding(own_chain(OUTSIDE)[0]) if status else b"tls-server-end-point:" + bytes(32)
    outside = {"secure": True, "bindings": bindings}
    async with serving(server, Echo(), ssl=OUTSIDE) as port, connected(port, **outside) as client:
        if status:
            assert (await client.log_on()).status == status
        else:
            with pytest.raises(AuthenticationError):
                await client.log_on()


# --- hostile clients ---


async def test_http_1_0_is_refused_since_its_connections_end(server):
    async with serving(server, Echo()) as port, connected(port) as client:
        refused = await client.ask(version="1.0")
        assert (refused.status, refused.closes) == (505, True)
        assert b"got http/1.0 (nginx asks so unless it has `proxy_http_version 1.1`)" in refused.body


def sealed(client, plaintext=b"x"):
    return seal_body(client.context, plaintext, "text/plain")


def with_length(length):
    def body(client):
        media_type, data = sealed(client)
        return media_type, data.replace(b"Length=1", b"Length=%d" % length)

    return body


def cut(client):
    media_type, data = sealed(client, b"x" * 20_000)
    return media_type, data[:-1_000]


def flipped(client):
    media_type, data = sealed(client, b"x" * 20_000)
    place = len(data) // 3
    return media_type, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def without_second_part(client):
    media_type, _ = sealed(client)
    kind = "application/HTTP-CredSSP-session-encrypted"
    part = f"--Encrypted Boundary\r\n\tContent-Type: {kind}\r\n\tOriginalContent: type=text/plain;Length=1\r\n"
    return media_type, (part + "--Encrypted Boundary--\r\n").encode()


def more_behind(client):
    media_type, data = sealed(client)
    return media_type, data + b"more"


def empty(client):
    return sealed(client, b"")


HOSTILE = {
    "length-too-large": (with_length(2), 400),
    "length-too-small": (with_length(0), 400),
    "length-of-4-gib": (with_length(4 << 30), 413),
    "cut": (cut, 400),
    "a-bit-flipped": (flipped, 400),
    "no-second-part": (without_second_part, 400),
    "more-behind-the-end": (more_behind, 400),
    "empty": (empty, 403),
    "another-protocol": (lambda client: ('multipart/encrypted;protocol="x/y";boundary="a"', b"x"), 415),
    "no-boundary": (lambda client: (sealed(client)[0].partition(";boundary")[0], b"x"), 400),
    "not-a-body-at-all": (lambda client: (sealed(client)[0], b"\x00" * 70_000), 400),
}


async def test_a_body_of_many_tiny_parts_is_bounded_by_what_comes(server):
    async with logged_on(server, Echo(), limits=HTTPLimits(body_size=1_000)) as client:
        parts = [sealed(client)[1].removesuffix(END) for _ in range(400)]
        body = b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in parts])
        await client.send([("Content-Type", MULTI), ("Transfer-Encoding", "chunked")], body)
        refused = await client.response()
        assert (refused.status, refused.closes) == (413, True)


@pytest.mark.parametrize(
    "begun", [b"\r\n", b"PO", b"POST / HTTP/1.1\r\nA: b\r\n"], ids=["a-line-break", "a-word", "a-head"]
)
async def test_a_client_that_is_logged_on_and_begins_a_request_has_to_go_on(server, begun):
    limits = HTTPLimits()
    async with logged_on(server, Echo(), limits=limits) as client:
        shorten(limits, "idle_timeout")
        assert (await client.post(b"x")).status == 200
        client.writer.write(begun)
        with contextlib.suppress(ConnectionError):
            await client.reader.read()


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "0")]])
@pytest.mark.parametrize("media_type", [TYPE, MULTI])
async def test_the_type_of_a_sealed_body_without_a_body_is_nobody_s_request(server, media_type, headers, allowed):
    """Anybody who can write into the connection can send it."""
    app = Echo()
    async with logged_on(server, app, dangerous_allow_unsealed=allowed) as client:
        await client.send([("Content-Type", media_type), *headers], method="POST" if headers else "GET")
        refused = await client.response()
        assert (refused.status, refused.closes) == (400 if allowed else 401, True)
    assert app.bodies == []


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_body_is_refused_with_an_answer_that_says_so(server, case):
    make, status = HOSTILE[case]
    app = Echo()
    async with logged_on(server, app) as client:
        media_type, body = make(client)
        refused = await client.ask([("Content-Type", media_type)], body)
        assert (refused.status, refused.closes) == (status, True)
        assert refused.body.startswith((b"sealed body: ", b"expected ", b"the sealed body "))
        assert await client.at_end()
    assert app.bodies == []


async def test_a_body_that_announces_4_gib_to_http_is_refused_at_once(server):
    app = Echo()
    async with logged_on(server, app, limits=HTTPLimits(body_timeout=0.3)) as client:
        media_type, body = sealed(client)
        await client.send([("Content-Type", media_type), ("Content-Length", str(4 << 30))], body)
        refused = await client.response()
        assert (refused.status, refused.closes) == (413, True)
    assert app.scopes == []


async def test_a_body_that_is_announced_and_does_not_come_is_refused_in_time(server):
    app = Echo()
    async with logged_on(server, app, limits=HTTPLimits(body_timeout=0.2)) as client:
        media_type, body = sealed(client)
        await client.send([("Content-Type", media_type), ("Content-Length", str(len(body)))], body[:-1])
        refused = await client.response()
        assert (refused.status, refused.closes) == (408, True)
        assert await client.at_end()


async def test_a_body_above_the_limit_is_refused(server):
    app = Echo()
    async with logged_on(server, app, limits=HTTPLimits(body_size=20_000)) as client:
        assert (await client.post(b"x" * 20_000)).status == 200
        media_type, body = sealed(client, b"x" * 20_001)
        assert (await client.ask([("Content-Type", media_type)], body)).status == 413


async def test_a_large_body_of_a_leg_is_skipped_and_a_very_large_one_ends_the_connection(server):
    limits = HTTPLimits()
    async with serving(server, Echo(), limits=limits) as port, connected(port) as client:
        assert (await client.ask(body=b"x" * 500_000)).status == 401
        assert (await client.ask()).status == 401
        shorten(limits, "body_timeout")
        await client.send([("Content-Length", str(4 << 30))], b"x" * (2 << 20))
        assert (await client.response()).status == 401
        assert await client.at_end()


async def test_boundaries_within_the_data_are_data(server):
    body = b"--Encrypted Boundary--\r\n--Encrypted Boundary\r\n" * 2_000
    async with logged_on(server, Echo()) as client:
        assert (await client.post(body)).body == body


async def test_a_body_compressed_outside_is_refused(server):
    async with logged_on(server, Echo()) as client:
        media_type, body = sealed(client)
        refused = await client.ask([("Content-Type", media_type), ("Content-Encoding", "gzip")], body)
        assert (refused.status, refused.closes) == (415, True)


NOT_HTTP = {
    "no-request": (b"what is this\r\n\r\n", {400}),
    "chunks-of-no-size": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {400, 401}),
    "a-field-of-300-kib": (b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 300 * KIB, {400, 431, None}),
}


@pytest.mark.parametrize("case", NOT_HTTP)
async def test_what_is_not_http_is_refused(server, case):
    """uvicorn ends the connection behind its answer at once, which may reset it before the answer has come."""
    raw, statuses = NOT_HTTP[case]
    async with serving(server, Echo()) as port, connected(port) as client:
        client.writer.write(raw)
        status, body = None, b""
        with contextlib.suppress(ConnectionError):
            response = await client.response()
            status, body = response.status, response.body
        assert status in statuses
        assert status != 400 or body == b"expected a request of http/1.1, got something else\n"
        assert await client.at_end()


# --- limits ---


async def test_a_source_has_no_more_connections_than_its_limit(server):
    async with serving(server, Echo(), limits=HTTPLimits(connections_per_source=2)) as port:
        async with connected(port) as one, connected(port) as two, connected(port) as three:
            await one.log_on()
            assert (await two.ask()).status == 401
            with contextlib.suppress(ConnectionError):
                await three.reader.read()
            assert await three.at_end()
            assert (await one.post(b"x")).status == 200
        async with connected(port) as again:
            await again.log_on()


async def test_an_application_that_fails_ends_its_connection(server, caplog):
    async def fails(scope, receive, send):
        raise RuntimeError("ours")

    async with logged_on(server, fails) as client:
        response = await client.post(b"x")
        assert (response.status, response.closes) == (500, True)
        assert await client.at_end()
    assert "ours" in caplog.text
    caplog.clear()


async def test_an_application_cannot_send_what_cannot_be_sealed(server, caplog):
    async def compresses(scope, receive, send):
        assert b"accept-encoding" not in dict(scope["headers"])
        assert scope["extensions"] == {}
        await answer(send, b"x", headers=[(b"content-encoding", b"gzip")])

    async with logged_on(server, compresses) as client:
        media_type, body = sealed(client)
        response = await client.ask([("Content-Type", media_type), ("Accept-Encoding", "gzip")], body)
        assert response.status == 500
    assert "content-encoding" in caplog.text
    caplog.clear()

"""The middleware under servers that do not show the connection: they are refused, by name."""

import asyncio
import contextlib
import functools
import re
import subprocess
import sys

import granian.asgi
import hypercorn.asyncio
import hypercorn.config
import pytest
import uvicorn
from support.endpoints import server_config
from support.http_by_hand import listening

from acredssp.http.asgi import CredSSPMiddleware
from acredssp.http.uvicorn import H11Protocol, HttpToolsProtocol

NOBODY = "credssp logs on one tcp connection, and {} nothing of its connections: run the application by "


async def never(scope, receive, send):
    raise AssertionError("the application is called")


def http_scope(**changes):
    return {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "headers": []} | changes


def of_module(name):
    """A function as a server of that module would give it."""

    async def receive():
        return {"type": "lifespan.startup"}

    receive.__module__ = name
    return receive


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (of_module("hypercorn.protocol.http_stream"), "hypercorn shows"),
        (functools.partial(of_module("hypercorn.asyncio.lifespan")), "hypercorn shows"),
        (of_module("granian.asgi"), "granian shows"),
        (of_module("_granian"), "granian shows"),
        (of_module("daphne.http_protocol"), "daphne shows"),
        (of_module("uvicorn.protocols.http.h11_impl"), "uvicorn without a protocol of acredssp shows"),
        (of_module("elsewhere"), "this server shows"),
    ],
)
@pytest.mark.parametrize("state", [{}, {"state": {}}, {"state": {"acredssp.http.connection": object()}}])
async def test_a_server_that_does_not_show_the_connection_is_refused(function, named, state):
    middleware, sent = CredSSPMiddleware(never, server_config()), []

    async def send(message):
        sent.append(message)

    with pytest.raises(RuntimeError, match=f"^{re.escape(NOBODY.format(named))}") as raised:
        await middleware(http_scope(**state), function, send)
    assert [message.get("status") for message in sent] == [500, None]
    assert sent[1]["body"] == f"{raised.value}\n".encode(), "the client is told, too: most servers show no error"


async def test_what_a_client_says_of_itself_is_no_connection():
    """An address is a tuple that the next connection may have, too."""

    async def send(message):
        pass

    middleware = CredSSPMiddleware(never, server_config())
    with pytest.raises(RuntimeError):
        await middleware(http_scope(client=("127.0.0.1", 1), state={}), of_module("x"), send)


async def test_a_websocket_is_closed():
    sent = []

    async def send(message):
        sent.append(message)

    await CredSSPMiddleware(never, server_config())({"type": "websocket"}, of_module("uvicorn"), send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_the_application_has_its_lifespan():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    await CredSSPMiddleware(app, server_config())({"type": "lifespan"}, of_module("uvicorn.lifespan.on"), None)
    assert seen == ["lifespan"]


async def test_granian_is_known_by_its_lifespan():
    """Its requests are handled by functions of Rust; this is the one part of it that is Python."""
    handler = granian.asgi.LifespanProtocol(CredSSPMiddleware(never, server_config()))
    await handler.startup()
    assert handler.interrupt
    handler.event_shutdown.set()


async def started_answer(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return (await reader.read()).decode()
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_uvicorn_without_our_protocol_answers_500(caplog):
    sock = listening()
    settings = uvicorn.Config(
        CredSSPMiddleware(never, server_config()), http="h11", log_config=None, lifespan="off", access_log=False
    )
    settings.load()
    server = uvicorn.Server(settings)
    task = asyncio.create_task(server._serve([sock]))
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0)
        answer = await started_answer(sock.getsockname()[1])
        assert answer.startswith("HTTP/1.1 500 ")
        assert "uvicorn with http=acredssp.http.uvicorn.H11Protocol or HttpToolsProtocol (--http acredssp." in answer
    finally:
        server.should_exit = server.force_exit = True
        await task
    assert "uvicorn without a protocol of acredssp shows nothing of its connections" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(("protocol", "starts"), [("h11", False), (H11Protocol, True), (HttpToolsProtocol, True)])
async def test_uvicorn_starts_with_our_protocols_alone(protocol, starts, caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    settings = uvicorn.Config(CredSSPMiddleware(app, server_config()), http=protocol, log_config=None)
    settings.load()
    lifespan = settings.lifespan_class(settings)
    await lifespan.startup()
    assert lifespan.should_exit is not starts
    assert ("uvicorn without a protocol of acredssp shows nothing" in caplog.text) is not starts
    if starts:
        await lifespan.shutdown()
    caplog.clear()


async def test_hypercorn_does_not_start():
    settings = hypercorn.config.Config()
    sock = listening()
    settings.bind = [f"fd://{sock.fileno()}"]
    settings.errorlog = None
    with contextlib.closing(sock), pytest.raises(Exception, match="hypercorn shows nothing of its connections"):
        await hypercorn.asyncio.serve(CredSSPMiddleware(never, server_config()), settings)


@pytest.mark.parametrize(
    ("module", "missing", "said"),
    [
        ("server", "h11", "acredssp.http.server needs h11: pip install 'acredssp[http]'"),
        ("uvicorn", "uvicorn", "acredssp.http.uvicorn needs uvicorn and httptools: pip install 'acredssp[asgi]'"),
        ("uvicorn", "httptools", "acredssp.http.uvicorn needs uvicorn and httptools: pip install 'acredssp[asgi]'"),
    ],
)
def test_a_missing_extra_is_named(module, missing, said):
    program = f"import sys; sys.modules[{missing!r}] = None; import acredssp.http.{module}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr.splitlines()[-1] == f"ImportError: {said}"


def test_the_middleware_needs_no_extra():
    program = "import sys; sys.modules['h11'] = sys.modules['uvicorn'] = None; import acredssp.http.asgi"
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)

"""The toy service of tests/support/wsman_toy.py behind HTTP, CredSSP and sealed bodies, in threads of its own.

`serving` can lose connections; `accepting` is the package's own server.
"""

import asyncio
import contextlib
import re
import socket
import sys
import threading
from http.server import ThreadingHTTPServer

from support.http_server import EchoServer
from support.peers import free_port
from support.turns import answer_of_server, server_config

from acredssp.http import Sealer
from acredssp.http.server import start_http_server
from acredssp.policy import Policy


class WSManServer(EchoServer):
    """One connection. Its server has `post` too."""

    def serve(self, headers):
        opener = self.exchange.opener(headers)
        body = b"".join([opener.feed(piece) for piece in self.pieces()])
        opener.finish()
        when = self.server.losses.pop(action_of(body), None)
        if when == "before":
            self.lose()
            return
        status, answer = self.server.post(body)
        if when == "after":
            self.lose()
            return
        sealer = Sealer(self.exchange.context, len(answer))
        sealed = sealer.feed(answer) + sealer.finish()
        self.respond(status, [("Content-Type", sealer.media_type), ("Content-Length", str(len(sealed)))], sealed)

    def lose(self):
        """End the connection without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def action_of(body):
    found = re.search(rb"<a:Action[^>]*>[^<]*/(\w+)<", body)
    return found[1].decode() if found else ""


class Server(ThreadingHTTPServer):
    """A client may leave whenever it wants."""

    daemon_threads = False

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(toy, policy=None):
    """Serve a toy; yield the server. The toy lives on a loop in a thread."""
    with loop_in_a_thread() as loop, Server(("127.0.0.1", free_port()), WSManServer) as server:
        server.config = server_config(policy or Policy())
        server.answer, server.exchanges, server.bodies = answer_of_server, [], []
        server.losses, server.loop = {}, loop
        server.lose_connection = server.losses.__setitem__
        server.post = lambda body: asyncio.run_coroutine_threadsafe(toy.post(body), loop).result()
        acceptor = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        acceptor.start()
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(toy.aclose(), loop).result()
            server.shutdown()
            acceptor.join()


@contextlib.contextmanager
def loop_in_a_thread():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def app_of(toy):
    """The toy as an ASGI application; the toy notes whose requests came."""
    toy.principals = set()

    async def app(scope, receive, send):
        toy.principals.add(str(scope["credssp"].principal))
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        status, answer = await toy.post(body)
        headers = [(b"content-type", b"application/soap+xml;charset=UTF-8"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


@contextlib.contextmanager
def accepting(toy, config=None):
    """Serve a toy by the package's own server; yield the port."""
    port = free_port()
    with loop_in_a_thread() as loop:

        async def start():
            return await start_http_server(app_of(toy), "127.0.0.1", port, config=config or server_config(Policy()))

        async def stop():
            await toy.aclose()
            await server.__aexit__(None, None, None)

        server = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield port
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop).result()

"""The acceptor beside a test, in a thread with an event loop of its own, for clients that are programs."""

import asyncio
import contextlib
import queue
import threading

import uvloop
from support.http_by_hand import serving
from support.peers import DEADLINE

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Echo:
    """Gives back what it gets, and nothing for `nothing`; the type of what is sealed stays as it was."""

    def __init__(self):
        self.users, self.mechanisms, self.sizes = [], [], []

    async def __call__(self, scope, receive, send):
        who = scope["credssp"]
        body, more = bytearray(), True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body += message["body"]
            more = message["more_body"]
        self.users.append(str(who.principal))
        self.mechanisms.append(who.mechanism)
        self.sizes.append(len(body))
        headers = [(b"content-type", dict(scope["headers"]).get(b"content-type", b"text/plain"))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if body == b"nothing" else bytes(body)})


class HostedHTTP:
    """The acceptor, while its block runs.

    Attributes:
        port: Where it listens.
        app: The application.
        reports: The reports of its logons, in order.
    """

    def __init__(self, kind, config, *, loop="asyncio", **options):
        self._kind, self._config, self._loop, self._options = kind, config, loop, options
        self._up = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self.app, self.reports = Echo(), []

    def _run(self):
        with asyncio.Runner(loop_factory=LOOPS[self._loop]) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:  # noqa: BLE001 - the test raises it
                self._up.put(error)

    async def _serve(self):
        self._ends, self._its_loop = asyncio.Event(), asyncio.get_running_loop()
        options = {"on_handshake": self.reports.append, **self._options}
        async with serving(self._kind, self.app, self._config, **options) as port:
            self._up.put(port)
            await self._ends.wait()

    def __enter__(self):
        self._thread.start()
        self.port = self._up.get(timeout=DEADLINE)
        if isinstance(self.port, BaseException):
            self._thread.join()
            raise self.port
        return self

    def __exit__(self, *_):
        with contextlib.suppress(RuntimeError):
            self._its_loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

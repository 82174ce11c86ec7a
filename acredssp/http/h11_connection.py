"""One connection of the small server: requests one after another, by h11, in ASGI's messages.

A request that is not HTTP gets an answer that says so. Pipelined requests wait in h11's buffer for their turn.

Who calls: `server`.
"""

import asyncio
import contextlib
import email.utils
import logging
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from acredssp.aio import source_of, write_if_open
from acredssp.errors import LimitExceeded
from acredssp.http.cycle import ASGIApp, Message, Scope
from acredssp.http.limits import HTTPLimits
from acredssp.http.places import NO_PLACE
from acredssp.http.served import STATE, ServedConnection

try:
    import h11

    from acredssp.http.h11_parser import ServerParser
except ImportError as error:
    raise ImportError("acredssp.http.server needs h11: pip install 'acredssp[http]'") from error

__all__ = ["READ_SIZE", "H11Connection"]

_logger = logging.getLogger("acredssp")

READ_SIZE: Final = 65_536
"""Bytes to read at a time."""

_MOST_UNREAD: Final = 1 << 20
"""Bytes by which a write buffer may grow although nothing was written: what asyncio's TLS answers to key updates and
renegotiations, 40,000 of them."""

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class H11Connection:
    """One connection; a `Place`.

    Args:
        reader: Gives what the client sends.
        writer: Takes what the client is to get.
        app: The application, with `CredSSPMiddleware` around it.
        limits: The server's limits.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        app: ASGIApp,
        limits: HTTPLimits,
        accepted: float | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._app = app
        self._limits = limits
        self._accepted = accepted
        self._served: ServedConnection | None = None
        self._http = ServerParser(limits.header_size)
        self._draining = False
        self._busy = False
        self._unread = 0
        """The size of the write buffer after the last write, or the smallest size that was seen since then."""
        self._left = False
        self.task: asyncio.Task[None] | None = None
        self.source = source_of(writer.get_extra_info("peername"))

    @property
    def proven(self) -> bool:
        """Whether somebody has logged on."""
        return self._served is not None and self._served.proven

    def give_way(self, error: LimitExceeded) -> None:
        """End the connection, so that another source gets its place."""
        if self._served is not None:
            self._served.give_way(error)
        if self.task is not None:
            self.task.cancel()

    def cut_if_flooded(self) -> None:
        """Cut a client that makes the TLS of HTTPS answer without end and reads no answer; the server calls this often.

        asyncio's own TLS does not stop reading from such a client (observed with CPython 3.11), so the answers
        would fill the memory.
        """
        size = self._waiting
        self._unread = min(self._unread, size)
        if size > self._unread + _MOST_UNREAD:
            _logger.warning("a client at %s has made tls answer too often, and read no answer: cut", self.source)
            self._writer.transport.abort()

    @property
    def _waiting(self) -> int:
        """The bytes that wait to be sent; none where the connection is closing: asyncio's TLS cannot say it then."""
        transport = self._writer.transport
        return 0 if transport.is_closing() else transport.get_write_buffer_size()

    def turn_away(self) -> None:
        """Say that there is no place."""
        write_if_open(self._writer, NO_PLACE)
        self._writer.close()

    def note_left(self) -> None:
        """Note that the client sends nothing more."""
        self._left = True
        if self._served is not None:
            self._served.note_left()

    def drain(self) -> None:
        """End the connection once the request that has begun is answered."""
        self._draining = True
        if not self._busy:
            self._writer.close()

    async def run(self) -> None:
        """Serve the connection to its end."""
        served = self._served = ServedConnection(self._writer.transport, self._limits, self._accepted)
        if self._left:
            served.note_left()
        try:
            while await self._serve_one(served):
                pass
            self._writer.close()
            async with asyncio.timeout(self._limits.body_timeout):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):  # the client has left, or does not take its last answer
            pass
        finally:
            served.lost()
            self._writer.transport.abort()

    async def _serve_one(self, served: ServedConnection) -> bool:
        """Serve a request; return whether another one may come."""
        try:
            async with asyncio.timeout(self._limits.idle_timeout):
                request = await self._next_request()
        except TimeoutError:
            return False
        except h11.RemoteProtocolError:
            await self._say(*self.refusal)
            return False
        if not isinstance(request, h11.Request):
            return False
        self._busy = True
        try:
            whole = await self._answer(request, served)
            self._take_end()
        finally:
            self._busy = False
        if not whole or self._draining or {self._http.our_state, self._http.their_state} != {h11.DONE}:
            return False
        self._http.start_next_cycle()
        return True

    async def _next_request(self) -> Any:
        """Return the head of the next request; raises as `next_event`.

        A request that came together with its predecessor waits for its turn in the loop, since nothing else waits while
        both buffers have room.
        """
        event = self.event_at_hand()
        if event is h11.NEED_DATA:
            return await self.next_event()
        await asyncio.sleep(0)
        return event

    async def _answer(self, request: h11.Request, served: ServedConnection) -> bool:
        """Let the application answer; return whether it has done so."""
        exchange = _Exchange(self, head=request.method == b"HEAD")
        try:
            await self._app(self._scope(request, served), exchange.receive, exchange.send)
        except Exception:
            _logger.exception("the application failed")
            exchange.failed = True
        if not exchange.started:
            if exchange.broken is not None:
                await self._say(*exchange.broken, head=exchange.head)
            elif not exchange.left:
                await self._say(500, "the application failed", head=exchange.head)
        return not exchange.failed

    def _take_end(self) -> None:
        """Let h11 see the end of a request whose body nobody asked for, since it has none."""
        if self._http.their_state is h11.SEND_BODY:
            with contextlib.suppress(h11.RemoteProtocolError):
                self.event_at_hand()

    async def _say(self, status: int, text: str, *, head: bool = False) -> None:
        """Answer what is no request, or what the application did not answer; HEAD gets no body."""
        body = f"{text}\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        with contextlib.suppress(h11.LocalProtocolError):
            data = self.encode(_response(status, [*headers, ("Connection", "close")]))
            await self.write(data + self.encode(h11.Data(data=b"" if head else body)) + self.encode(h11.EndOfMessage()))

    def _scope(self, request: h11.Request, served: ServedConnection) -> Scope:
        path, _, query = request.target.partition(b"?")
        here, there = (self._writer.get_extra_info(name) for name in ("sockname", "peername"))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "https" if self._writer.get_extra_info("ssl_object") else "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers],
            "server": here[:2] if isinstance(here, tuple) else None,
            "client": there[:2] if isinstance(there, tuple) else None,
            "state": {STATE: served},
        }

    # --- for the exchange of one request ---

    async def next_event(self) -> Any:
        """Return h11's next event. At the end of the connection it is `h11.ConnectionClosed`, or an error.

        Raises:
            h11.RemoteProtocolError: The client breaks the rules of HTTP.
        """
        while (event := self.event_at_hand()) is h11.NEED_DATA:
            self._http.receive_data(await self._read())
        return event

    @property
    def refusal(self) -> tuple[int, str]:
        """The status and the text of the refusal, after the client has sent bytes that are no HTTP."""
        return self._http.refusal

    def event_at_hand(self) -> Any:
        """Return h11's next event; `h11.NEED_DATA` where more bytes are missing."""
        return self._http.next_event()

    async def wait_for_end(self) -> None:
        """Wait until the client leaves. What it sends meanwhile is kept for the next request, up to a bound."""
        while data := await self._read():
            self._http.receive_data(data)
            if len(self._http.trailing_data[0]) > READ_SIZE:
                await asyncio.get_running_loop().create_future()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(READ_SIZE)
        except OSError:
            return b""

    async def ask_for_body(self) -> None:
        """Tell a client to go on that waits for this before it sends its body."""
        if self._http.they_are_waiting_for_100_continue:
            await self.write(self.encode(h11.InformationalResponse(status_code=100, headers=[])))

    def beginning(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the bytes of the beginning of an answer."""
        fields = [*headers, (b"date", email.utils.formatdate(usegmt=True).encode())]
        if self._draining:
            fields.append((b"connection", b"close"))
        return self.encode(_response(status, fields))

    def encode(self, event: Any) -> bytes:
        """Return the bytes of a part of the answer."""
        return self._http.send(event) or b""

    async def write(self, data: bytes) -> None:
        """Send bytes, and wait while too many are on their way.

        Raises:
            OSError: The client has left.
        """
        if self._writer.is_closing():  # uvloop raises a RuntimeError, where asyncio drops the bytes
            raise ConnectionResetError("the client has left")
        self._writer.write(data)
        self._unread = self._waiting
        await self._writer.drain()


class _Exchange:
    """The messages of one request and its answer.

    Args:
        connection: The connection of the request.
        head: Whether the answer has no body, whatever is sent, since the method is HEAD.
    """

    def __init__(self, connection: H11Connection, *, head: bool) -> None:
        self._connection = connection
        self.head = head
        self._whole = self._ended = False
        self._held = b""
        """The beginning of the answer, which is sent with the first bytes of its body."""
        self.started = False
        self.left = False
        """Whether the client has left."""
        self.broken: tuple[int, str] | None = None
        """If the body breaks the rules of HTTP: the status and the text of the refusal."""
        self.failed = False

    async def receive(self) -> Message:
        if self._ended or self.left or self.broken:
            return {"type": "http.disconnect"}
        if self._whole:
            await self._connection.wait_for_end()
            self.left = True
            return {"type": "http.disconnect"}
        try:
            await self._connection.ask_for_body()
            return await self._body()
        except h11.RemoteProtocolError:
            self.broken = self._connection.refusal
        except OSError:
            self.left = True
        self.failed = True
        return {"type": "http.disconnect"}

    async def _body(self) -> Message:
        event, body = await self._connection.next_event(), bytearray()
        while isinstance(event, h11.Data):
            body += event.data
            event = self._connection.event_at_hand()
        self._whole = isinstance(event, h11.EndOfMessage)
        return {"type": "http.request", "body": bytes(body), "more_body": not self._whole}

    async def send(self, message: Message) -> None:
        if self.left or self.broken:
            return
        connection = self._connection
        if message["type"] == "http.response.start":
            self.started = True
            self._held = connection.beginning(message["status"], [*message.get("headers", ())])
            return
        data = self._held + connection.encode(h11.Data(data=b"" if self.head else message.get("body", b"")))
        self._held = b""
        if not message.get("more_body", False):
            self._ended = True
            data += connection.encode(h11.EndOfMessage())
        try:
            await connection.write(data)
        except OSError:
            self.left = self.failed = True


def _response(status: int, headers: Any) -> h11.Response:
    return h11.Response(status_code=status, headers=headers, reason=_REASONS.get(status, ""))

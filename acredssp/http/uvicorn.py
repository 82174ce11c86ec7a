"""uvicorn's protocols for `CredSSPMiddleware`: they show it over which TCP connection a request came.

    uvicorn.run(CredSSPMiddleware(app, config), http=HttpToolsProtocol, timeout_keep_alive=120)

On uvicorn's command line that is `--http acredssp.http.uvicorn:HttpToolsProtocol`. Other limits need a subclass:

    class Protocol(H11Protocol):
        limits = HTTPLimits(connections=200)
"""

import asyncio
import weakref
from typing import Any, ClassVar, cast

from acredssp.aio import Places, write_if_open
from acredssp.errors import LimitExceeded
from acredssp.http.limits import MOST_AHEAD, HTTPLimits
from acredssp.http.places import NO_PLACE, places_of
from acredssp.http.replies import encoded, plain
from acredssp.http.served import STATE, ServedConnection

try:
    import h11
    from uvicorn.protocols.http import h11_impl, httptools_impl
    from uvicorn.server import ServerState

    from acredssp.http.h11_parser import NO_HTTP, TOO_SMALL, ChunkCount, ServerParser, too_large
except ImportError as error:
    raise ImportError("acredssp.http.uvicorn needs uvicorn and httptools: pip install 'acredssp[asgi]'") from error

__all__ = ["H11Protocol", "HTTPLimits", "HttpToolsProtocol"]

_places: weakref.WeakKeyDictionary[ServerState, Places] = weakref.WeakKeyDictionary()
"""The connections of each server of this process."""


def _places_of(server: ServerState, limits: HTTPLimits) -> Places:
    places = _places.get(server)
    if places is None:
        places = _places[server] = places_of(limits)
    return places


class _Connection:
    """What both protocols do for a connection."""

    def __init__(self, transport: asyncio.Transport, limits: HTTPLimits, server: ServerState, accepted: float) -> None:
        self.served = ServedConnection(transport, limits, accepted)
        self._limits = limits
        self._places = _places_of(server, limits)
        self._head_timer: asyncio.TimerHandle | None = None
        try:
            self._places.enter(self.served)
        except LimitExceeded:
            transport.pause_reading()  # what comes before the close is no request any more
            write_if_open(transport, NO_PLACE)
            self.served.close()

    def in_head(self, waits: bool) -> None:
        """Note whether the connection waits for the rest of a request's head, which has to come in time."""
        if not waits and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        elif waits and self._head_timer is None:
            loop = asyncio.get_running_loop()
            self._head_timer = loop.call_later(self._limits.idle_timeout, self.served.close)

    def lost(self) -> None:
        """Give the place back."""
        self.in_head(False)
        self._places.leave(self.served)
        self.served.lost()


def _leave(cycle: h11_impl.RequestResponseCycle | httptools_impl.RequestResponseCycle | None) -> None:
    """Let nothing more of an application's answer out, since another answer takes its place."""
    if cycle is not None:
        cycle.disconnected = True
        cycle.message_event.set()


def _refuse(transport: asyncio.Transport, status: int, text: str) -> None:
    """Answer what is no HTTP, in the words of the small server, and end the connection."""
    write_if_open(transport, encoded(plain(status, text)))
    transport.close()


class _Transport:
    """The connection as uvicorn sees it: a `close()` of uvicorn waits for a client that does not read, but not forever.

    Args:
        transport: The connection.
        served: The same connection as `CredSSPMiddleware` knows it.
    """

    def __init__(self, transport: asyncio.Transport, served: ServedConnection) -> None:
        self._transport = transport
        self.close, self.write, self.is_closing = served.close, transport.write, transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _NotingTheAccept:
    """Notes the moment of the accept, at which loops make a protocol: the handshake of TLS comes later."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._accepted = asyncio.get_running_loop().time()
        super().__init__(*args, **options)


class H11Protocol(_NotingTheAccept, h11_impl.H11Protocol):
    """uvicorn's protocol on h11.

    Attributes:
        limits: The limits.
    """

    limits: ClassVar[HTTPLimits] = HTTPLimits()
    _credssp: _Connection
    _parser: ServerParser

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin the connection."""
        self._credssp = _Connection(transport, self.limits, self.server_state, self._accepted)
        self.app_state = {**self.app_state, STATE: self._credssp.served}
        self.conn = self._parser = ServerParser(self.config.h11_max_incomplete_event_size or self.limits.header_size)
        super().connection_made(cast("asyncio.Transport", _Transport(transport, self._credssp.served)))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._credssp.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes."""
        super().data_received(data)
        self._credssp.in_head(self.conn.their_state is h11.IDLE)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Refuse bytes that are no HTTP. If an answer has begun already, end the connection instead."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            _leave(self.cycle)
            _refuse(self.transport, *self._parser.refusal)
        else:
            self._credssp.served.abort()

    def _should_upgrade(self) -> bool:
        return False  # a connection of credssp carries nothing but requests


class HttpToolsProtocol(_NotingTheAccept, httptools_impl.HttpToolsProtocol):
    """uvicorn's protocol on httptools.

    Attributes:
        limits: The limits.
    """

    limits: ClassVar[HTTPLimits] = HTTPLimits()
    _credssp: _Connection
    _in_head = False
    """Whether bytes of a head have come, and not its end."""
    _fields_size = 0
    """Bytes of a head or of trailers so far, those of the first piece apart, which may be those of a body."""
    _chunks: ChunkCount
    _refusal = NO_HTTP
    """The status and the text for what is no HTTP."""
    _steps = 0
    """How many heads and messages have begun or ended, and how many pieces of a body have come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin the connection."""
        self._credssp = _Connection(transport, self.limits, self.server_state, self._accepted)
        self.app_state = {**self.app_state, STATE: self._credssp.served}
        super().connection_made(cast("asyncio.Transport", _Transport(transport, self._credssp.served)))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._credssp.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes. httptools bounds neither heads nor trailers, so this does."""
        steps = self._steps
        super().data_received(data)
        self._fields_size = self._fields_size + len(data) if steps == self._steps else 0
        if self.transport.is_closing():
            return
        # Line breaks in front of a head begin no message, but end uvicorn's wait for the next request.
        self._credssp.in_head(self._in_head or self.cycle is None or self.cycle.response_complete)
        if self._fields_size > self.limits.header_size:
            self._refusal = too_large(self.limits.header_size)
            self.send_400_response(self._refusal[1])
        elif len(self.pipeline) > MOST_AHEAD:  # httptools makes a request of every few bytes that a client sends
            self._credssp.served.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Refuse bytes that are no HTTP. If an answer to the request has begun, end the connection instead."""
        cycle = self.cycle
        if cycle is None or not cycle.response_started or (cycle.response_complete and not cycle.more_body):
            _leave(cycle)
            _refuse(self.transport, *self._refusal)
        else:
            self._credssp.served.abort()

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._in_head = True
        self._steps += 1
        self._chunks = ChunkCount()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field. uvicorn would put trailers among them, which a proxy in front may not have looked at."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Note that the head is whole."""
        self._in_head = False
        self._steps += 1
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Take the line in front of a chunk."""
        if self._chunks.note_chunk():
            self._refusal = TOO_SMALL
            raise ValueError(TOO_SMALL[1])  # for httptools, which then raises its own error

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._steps += 1
        self._chunks.note_bytes(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a message ends."""
        self._steps += 1
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return False  # a connection of credssp carries nothing but requests

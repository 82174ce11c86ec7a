"""uvicorn's protocols for `CredSSPMiddleware`: they show it over which TCP connection a request came.

    uvicorn.run(CredSSPMiddleware(app, config), http=HttpToolsProtocol, timeout_keep_alive=120)

On uvicorn's command line that is `--http acredssp.http.uvicorn:HttpToolsProtocol`. Other limits need a subclass:

    class Protocol(H11Protocol):
        limits = HTTPLimits(connections=200)
"""

import asyncio
import weakref
from typing import ClassVar

from acredssp.aio import Places
from acredssp.errors import LimitExceeded
from acredssp.http.limits import RAISE_IT, HTTPLimits
from acredssp.http.served import STATE, ServedConnection

try:
    import h11
    from uvicorn.protocols.http import h11_impl, httptools_impl
    from uvicorn.server import ServerState
except ImportError as error:
    raise ImportError("acredssp.http.uvicorn needs uvicorn and httptools: pip install 'acredssp[asgi]'") from error

__all__ = ["H11Protocol", "HTTPLimits", "HttpToolsProtocol"]

_MOST_WAITING = 16
"""Requests of one connection that wait for their turn. httptools makes one of every few bytes that a client sends."""

_places: weakref.WeakKeyDictionary[ServerState, Places] = weakref.WeakKeyDictionary()
"""The connections of each server of this process."""


class _Connection:
    """What both protocols do at the beginning and at the end of a connection."""

    def __init__(self, transport: asyncio.Transport, limits: HTTPLimits, server: ServerState) -> None:
        places = _places.get(server)
        if places is None:
            places = _places[server] = Places(
                limits.connections,
                limits.connections_per_source,
                counted="connections",
                hint=RAISE_IT,
                keep_proven=True,
            )
        self._places = places
        self.served = ServedConnection(transport, limits)
        try:
            places.enter(self.served)
        except LimitExceeded:
            self.served.abort()

    def lost(self) -> None:
        """Give the place back."""
        self._places.leave(self.served)
        self.served.lost()


class H11Protocol(h11_impl.H11Protocol):
    """uvicorn's protocol on h11.

    Attributes:
        limits: The limits. `idle_timeout` has no effect: uvicorn has `timeout_keep_alive`.
    """

    limits: ClassVar[HTTPLimits] = HTTPLimits()
    _credssp: _Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin the connection."""
        self._credssp = _Connection(transport, self.limits, self.server_state)
        self.app_state = {**self.app_state, STATE: self._credssp.served}
        if self.config.h11_max_incomplete_event_size is None:
            self.conn = h11.Connection(h11.SERVER, self.limits.header_size)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._credssp.lost()
        super().connection_lost(exc)

    def _should_upgrade(self) -> bool:
        return False  # a connection of credssp carries nothing but requests


class HttpToolsProtocol(httptools_impl.HttpToolsProtocol):
    """uvicorn's protocol on httptools.

    Attributes:
        limits: The limits. `idle_timeout` has no effect: uvicorn has `timeout_keep_alive`.
    """

    limits: ClassVar[HTTPLimits] = HTTPLimits()
    _credssp: _Connection
    _in_head = True
    _head_size = 0
    """Bytes of a request's head that have come without its end."""
    _heads = 0
    """How many heads and bodies were whole."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin the connection."""
        self._credssp = _Connection(transport, self.limits, self.server_state)
        self.app_state = {**self.app_state, STATE: self._credssp.served}
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._credssp.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes. httptools bounds no head, so this does."""
        heads = self._heads
        super().data_received(data)
        if self._in_head and heads == self._heads:
            self._head_size += len(data)
            if self._head_size > self.limits.header_size and not self.transport.is_closing():
                self.send_400_response("the header fields are too large")
        if len(self.pipeline) > _MOST_WAITING and not self.transport.is_closing():
            self._credssp.served.abort()

    def on_headers_complete(self) -> None:
        """Note that the head is whole."""
        self._in_head, self._head_size = False, 0
        self._heads += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the next bytes begin a head."""
        self._in_head = True
        self._heads += 1
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return False  # a connection of credssp carries nothing but requests

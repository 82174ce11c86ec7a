"""A connection that is passed on undecrypted: the loop's own transport, as a pair of streams.

Who calls: `handshake`, where a carriage passes a connection on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from acredssp.aio.protocol import CredSSPProtocol
from acredssp.carriage.base import PassedOn

__all__ = ["pass_on"]

_Connected: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


def pass_on(connection: CredSSPProtocol, passed_on: PassedOn) -> None:
    """Give a connection to its receiver, with all data that has come from it so far."""
    reader = asyncio.StreamReader(loop=connection.loop)
    protocol = _Clear(connection, reader, passed_on)
    received, connection.received = connection.received, bytearray()
    connection.give_to(None)
    connection.transport.set_protocol(protocol)
    protocol.connection_made(connection.transport)
    reader.feed_data(passed_on.data + received)
    if connection.ended:
        reader.feed_eof()
    if not connection.lost:
        connection.resume_once()


class _Clear(asyncio.StreamReaderProtocol):
    """asyncio's protocol for streams. It also tells the server's protocol, which counts connections, of the end."""

    def __init__(self, before: CredSSPProtocol, reader: asyncio.StreamReader, passed_on: PassedOn) -> None:
        super().__init__(reader, cast("_Connected", passed_on.connected), loop=before.loop)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)

"""Pairs of asyncio's streams in memory, whose bytes arrive in the pieces that the test says."""

import asyncio

from support.endpoints import MemoryTransport


class Piecewise(asyncio.BufferedProtocol):
    """Gives what a memory transport delivers to asyncio's own protocol of a stream."""

    def __init__(self, inner):
        self._inner = inner
        self._buffer = bytearray(65_536)

    def get_buffer(self, sizehint):
        assert sizehint
        return self._buffer

    def buffer_updated(self, nbytes):
        self._inner.data_received(bytes(self._buffer[:nbytes]))

    def __getattribute__(self, name):
        if name in {"connection_made", "connection_lost", "eof_received", "pause_writing", "resume_writing"}:
            return getattr(self._inner, name)
        return super().__getattribute__(name)


class NotingReader(asyncio.StreamReader):
    """A reader that notes how much was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    async def readexactly(self, n):
        self.asked.append(n)
        return await super().readexactly(n)


def memory_streams(client_sizes=None, server_sizes=None):
    """Two connected pairs of streams: (reader, writer) of the client, and of the server."""
    loop = asyncio.get_running_loop()
    ends = []
    for sizes in (client_sizes, server_sizes):
        reader, transport = NotingReader(), MemoryTransport(sizes)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        ends.append((reader, asyncio.StreamWriter(transport, protocol, reader, loop), protocol, transport))
    (_, _, ours, mine), (_, _, theirs, yours) = ends
    mine.connect(Piecewise(ours), yours)
    yours.connect(Piecewise(theirs), mine)
    return [(reader, writer) for reader, writer, _, _ in ends]

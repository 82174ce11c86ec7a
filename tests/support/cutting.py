"""Relays between a client and a server that end connections at a chosen byte."""

import asyncio
import contextlib

from support.listener import Listener


class Cutter(Listener):
    """A relay that ends a connection after so many bytes in one direction.

    Args:
        port: Where to.
        direction: `up` counts the client's bytes, `down` the server's.
        size: How many bytes pass; None for all.
    """

    def __init__(self, port):
        super().__init__()
        self.port, self.size, self.direction = port, None, "down"
        self.passed = {"up": 0, "down": 0}

    async def __aenter__(self):
        self.url = f"http://127.0.0.1:{await self.listen()}/wsman"
        return self

    async def serve(self, reader, writer):
        theirs = None
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                their_reader, theirs = await asyncio.open_connection("127.0.0.1", self.port)
                both = [self.pump("up", reader, writer, theirs), self.pump("down", their_reader, theirs, writer)]
                await asyncio.gather(*both)
        finally:
            if theirs is not None:
                theirs.transport.abort()

    async def pump(self, direction, reader, back, writer):
        left = self.size if direction == self.direction else None
        while data := await reader.read(65_536):
            self.passed[direction] += len(data)
            if left is not None and len(data) >= left:
                writer.write(data[:left])
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                writer.close()
                back.close()
                return
            left = None if left is None else left - len(data)
            writer.write(data)
            await writer.drain()
        writer.close()
        back.close()


class Loser(Cutter):
    """A relay that loses the answer under way: after `lose` bytes of it, by FIN or by RST."""

    lose, how = None, "fin"

    async def pump(self, direction, reader, back, writer):
        while data := await reader.read(65_536):
            if direction == "down" and self.lose is not None:
                writer.write(data[: self.lose])
                await writer.drain()
                if self.how == "reset":
                    await asyncio.sleep(0)
                    writer.transport.abort()
                else:
                    writer.close()
                back.close()
                return
            writer.write(data)
            await writer.drain()
        writer.close()
        back.close()

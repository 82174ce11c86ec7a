"""A relay that breaks a connection at a chosen moment: when so many pieces have passed, by RST or by FIN, at both ends.

A handshake goes forth and back, so each piece is a message, and each number of pieces a state of both sides.
"""

import asyncio
import contextlib
import socket
import struct

WAYS = ("RST", "FIN")
_PIECE = 1 << 16


class Breaker:
    """The relay. It serves one connection after the other.

    Args:
        target: Host and port to which it leads.

    Attributes:
        at: How many pieces pass before the end; None for no end.
        how: One of `WAYS`.
        broken: Whether the last connection was broken.
        address: Where it listens.
    """

    def __init__(self, target):
        self._target = target
        self.at, self.how, self.broken = None, "RST", False
        self._passed = 0
        self._tasks = set()

    async def __aenter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *_):
        for task in {self._accepting, *self._tasks}:
            task.cancel()
        await asyncio.wait({self._accepting, *self._tasks})
        self._listener.close()

    def next(self, at, how):
        """Break the next connection so."""
        self.at, self.how, self.broken, self._passed = at, how, False, 0

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            task = loop.create_task(self._relay(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, client):
        loop, server = asyncio.get_running_loop(), socket.socket()
        ends = [client, server]
        for end in ends:
            end.setblocking(False)
        pumps = set()
        try:
            await loop.sock_connect(server, self._target)
            if self.at == 0:
                self.broken = True
                return
            pumps = {loop.create_task(self._pump(*pair)) for pair in (ends, ends[::-1])}
            left = pumps
            while left:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                if any(not pump.result() for pump in done):
                    return
        finally:
            for pump in pumps:
                pump.cancel()
            if pumps:
                await asyncio.wait(pumps)
            for end in ends:
                if self.broken and self.how == "RST":
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    async def _pump(self, source, sink):
        """Pass pieces on; return whether the source has ended, and nothing has broken."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(source, _PIECE):
                self._passed += 1
                if self._passed == self.at:
                    self.broken = True
                    return False
                await loop.sock_sendall(sink, data)
            sink.shutdown(socket.SHUT_WR)
            return True
        return False

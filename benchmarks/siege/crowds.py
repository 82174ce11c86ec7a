"""Attackers that take places and do nothing: thousands of connections, held open as long as the server lets them.

What each peer sends is a `Script`; when that is over, the peer is silent.
"""

import asyncio
import contextlib
import itertools
import pathlib
import socket
from typing import cast

from benchmarks.attackers import HOST
from benchmarks.siege.fronts import CONNECTION_REQUEST, Script, request_of, through
from benchmarks.siege.raw_tls import APPLICATION_DATA, HANDSHAKE, RawTLS

__all__ = ["CROWDS", "UNREADING", "Crowd", "sources"]

AT_ONCE = 100
"""How many peers connect, or are in a handshake, at a time."""
PATIENCE = 20.0
"""Seconds that the peers have for connecting and for what they send."""
PER_SOURCE = 100
"""How many peers come from one address."""
BEATS = 20
"""Of a second: in each, as many of the peers send their byte."""
UNREAD = 1 << 18
"""About how many bytes of answers a peer asks for and does not read."""

SMALL = 4096
"""Bytes that the kernel keeps for a peer that does not read, so that the rest is the server's matter."""


def sources(number: int) -> str:
    """Return one of the addresses of attackers, of which loopback has 16 million."""
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


class Making:
    """Makes what peers send.

    Args:
        front: What is around the TLS bytes.
        key_log: A file of our own.
    """

    def __init__(self, front: str, key_log: pathlib.Path) -> None:
        self._front, self._key_log = front, key_log
        self._hello = RawTLS(key_log).hello
        self.first = {"tls": self._hello, "rdp": CONNECTION_REQUEST, "http": request_of(self._hello)}[front]
        """An honest client's first bytes."""

    def silent(self) -> Script:
        return _saying(b"")

    def drip(self) -> Script:
        """One byte a second, of what an honest client sends; the crowd sends them."""
        return _saying(b"")

    def half_record(self) -> Script:
        """Half of an honest client's ClientHello, or of its first request."""
        if self._front == "http":
            return _saying(self.first[: len(self.first) // 2])
        return self._saying(self._hello[: len(self._hello) // 2])

    def hello_silence(self) -> Script:
        return self._saying(self._hello)

    def lies_tls(self) -> Script:
        """A record, and in it a message, that are said to be far longer than what comes."""
        message = b"\x01\x01\xff\xf0" + bytes(100)
        return self._saying(bytes((HANDSHAKE, 3, 1)) + (1 << 14).to_bytes(2, "big") + message)

    def lies_request(self) -> Script:
        """TLS, and in it a TSRequest that is said to have 128 KiB, of which 16 KB come."""
        return through(self._front, lambda: self._with_tls(b"\x30\x83\x01\xff\xf0" + bytes(16_000)))

    def lies_tpkt(self) -> Script:
        return _saying(b"\x03\0\xff\xff\xfa\xe0" + bytes(100))

    def lies_http(self) -> Script:
        return _saying(b"POST /wsman HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1099511627776\r\n\r\n" + bytes(100))

    def unread(self) -> Script:
        """Asks for answers again and again, and reads none."""
        if self._front == "http":
            return _saying(b"GET /wsman HTTP/1.1\r\nHost: localhost\r\n\r\n" * (UNREAD // 100))
        return through(self._front, lambda: self._with_tls(None))

    def _saying(self, data: bytes) -> Script:
        return through(self._front, lambda: _saying(data))

    def _with_tls(self, then: bytes | None) -> Script:
        tls = RawTLS(self._key_log)
        flight = tls.hello
        while not tls.done:
            flight = tls.step((yield flight))
        if then is None:
            return flight + b"".join(tls.key_update(asked=True) for _ in range(UNREAD // 27))
        pieces = (then[start : start + 8000] for start in range(0, len(then), 8000))
        return flight + b"".join(tls.record(APPLICATION_DATA, piece) for piece in pieces)


def _saying(data: bytes) -> Script:
    """Say one thing, whatever comes."""
    return data
    yield b""


CROWDS = tuple(name for name in vars(Making) if not name.startswith("_"))
UNREADING = frozenset({"unread"})


class _Peer(asyncio.Protocol):
    """One connection.

    Args:
        script: What it sends.
        reads: Whether it reads on after it has sent its all.
    """

    def __init__(self, script: Script, *, reads: bool) -> None:
        self._script, self._reads = script, reads
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the peer has given everything to the kernel or to its transport, or is lost."""
        self.lost = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._step(None)

    def data_received(self, data: bytes) -> None:
        if not self.settled.done():
            self._step(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self.lost = True
        self._settle()

    def _step(self, data: bytes | None) -> None:
        try:
            self.transport.write(next(self._script) if data is None else self._script.send(data))
        except StopIteration as last:
            if not self._reads:
                self.transport.pause_reading()
            self.transport.write(last.value)
            self._settle()
        except OSError:
            self.transport.abort()

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)


class Crowd:
    """Many connections to one server.

    Args:
        kind: What each of them does; a name of `CROWDS`.
        front: What is around the TLS bytes.
        port: The server's port.
        count: How many they are.
        key_log: A file of our own.
    """

    def __init__(self, kind: str, front: str, port: int, count: int, key_log: pathlib.Path) -> None:
        key_log.write_bytes(b"")
        self._kind, self._port, self._count = kind, port, count
        self._making = Making(front, key_log)
        self._peers: list[_Peer] = []
        self._dripping: asyncio.Task[None] | None = None

    async def begin(self) -> int:
        """Connect, and send; return how many the server has not ended by then."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with turns:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await self._connect(sources(number // PER_SOURCE))

        await asyncio.gather(*(one(number) for number in range(self._count)))
        if self._kind == "drip":
            self._dripping = asyncio.create_task(self._drip())
        return self.held()

    def held(self) -> int:
        """Return how many connections are open; nothing where nobody reads, and so hears of an end."""
        if self._kind in UNREADING:
            return 0
        return sum(not peer.lost for peer in self._peers)

    async def end(self) -> int:
        """Leave."""
        if self._dripping is not None:
            self._dripping.cancel()
        for peer in self._peers:
            peer.transport.abort()
        return len(self._peers)

    async def _connect(self, source: str) -> None:
        script, reads, loop = (
            getattr(self._making, self._kind)(),
            self._kind not in UNREADING,
            asyncio.get_running_loop(),
        )
        connection = socket.socket()
        connection.setblocking(False)
        if not reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        connection.bind((source, 0))
        await loop.sock_connect(connection, (HOST, self._port))
        _, peer = await loop.create_connection(lambda: _Peer(script, reads=reads), sock=connection)
        self._peers.append(peer)
        await peer.settled

    async def _drip(self) -> None:
        """Have every peer send one byte a second."""
        for turn in itertools.count():
            byte = self._making.first[turn // BEATS : turn // BEATS + 1]
            for peer in self._peers[turn % BEATS :: BEATS]:
                if not peer.lost:
                    peer.transport.write(byte)
            await asyncio.sleep(1 / BEATS)

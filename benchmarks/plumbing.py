"""Bare TLS in plumbing of the same shape as acredssp's, which shows what CredSSP itself adds over loopback.

The plumbing is a buffered protocol that shares one read buffer and calls TLS in the callback in which the loop brings
the bytes. It has two memory BIOs, one write for each flight, a coroutine that waits for the end under a deadline, and a
task for each accepted connection. It is written for this purpose, with nothing of acredssp, and with nothing that a
handshake and a clean close do not need.

`Talker` sends as many messages behind the handshake as a logon has, which shows the cost of messages with no content.
"""

import asyncio
import contextlib
import ssl

from benchmarks.links import BACKLOG, HOST, PATIENCE, keep
from benchmarks.peers import NAME, Setting

LOGON = (91, 222, 432, 46, 95, 59, 94)
"""Bytes of the messages of a logon, NTLM in SPNEGO: the client's and the server's in turns."""

_BUFFER = memoryview(bytearray(64 * 1024))


class Connection(asyncio.BufferedProtocol):
    """One end."""

    __slots__ = ("_incoming", "_lost", "_outgoing", "_tls", "_transport", "_up")

    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=name is None, server_hostname=name)
        loop = asyncio.get_running_loop()
        self._up = loop.create_future()
        self._lost = loop.create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def get_buffer(self, _sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, size: int) -> None:
        self._incoming.write(_BUFFER[:size])
        if self._up.done():
            self._read()
        else:
            self._try_handshake()

    def connection_lost(self, error: Exception | None) -> None:
        self._break(error or ConnectionResetError())
        self._lost.set_result(None)

    async def shake_hands(self) -> None:
        async with asyncio.timeout(PATIENCE):
            self._try_handshake()
            await self._up

    def _try_handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._break(error)
        else:
            self._established()
        self._flush()

    def _established(self) -> None:
        self._up.set_result(None)

    def _read(self) -> None:
        """Go on after the handshake; here this does nothing, since nobody sends data."""

    def _break(self, error: Exception) -> None:
        if not self._up.done():
            self._up.set_exception(error)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # the peer has not answered yet
            self._tls.unwrap()
        self._flush()
        self._transport.close()

    async def close(self) -> None:
        self._say_goodbye()
        await self._lost


class Accepted(Connection):
    """A server's end, which runs its own handshake."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        keep(asyncio.get_running_loop().create_task(self._serve()))

    async def _serve(self) -> None:
        await self.shake_hands()
        self._read()  # what came in the same read as the handshake's end
        await self._lost

    def _read(self) -> None:
        try:
            while self._tls.read(16384):
                pass
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            pass
        if not self._transport.is_closing():
            self._say_goodbye()


class Talker(Connection):
    """One end that counts as established when it and the other one have said `LOGON`."""

    __slots__ = ("_ours", "_turn")

    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        super().__init__(context, name)
        self._turn = 0
        self._ours = 0 if name is not None else 1

    def _established(self) -> None:
        while self._turn < len(LOGON):
            if self._turn % 2 == self._ours:
                self._tls.write(bytes(LOGON[self._turn]))
            elif self._incoming.pending:
                self._tls.read(16384)
            else:
                return
            self._turn += 1
        super()._established()


class AcceptedTalker(Talker, Accepted):
    """The server's end of a `Talker`."""

    __slots__ = ()


async def listen(setting: Setting, accepted: type[Accepted] = Accepted) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: accepted(setting.server_context, None), HOST, 0, backlog=BACKLOG)


async def connect(setting: Setting, port: int, client: type[Connection] = Connection) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: client(setting.client_context, NAME), HOST, port)
    await connection.shake_hands()
    return connection

"""pyspnego over loopback, as a service on asyncio would use it: each step runs in a thread pool, and tokens are framed.

Four bytes before each token have its length, since some tokens are empty.
"""

import asyncio
import concurrent.futures
import contextlib
import ssl
from collections.abc import Awaitable, Callable

from benchmarks import pyspnego
from benchmarks.links import BACKLOG, HOST, keep
from benchmarks.peers import Setting, Side

THREADS = 8
users = pyspnego.users


def functions(setting: Setting) -> tuple[Callable, Callable]:
    """Return a function that listens and one that connects, for the `tuned` pyspnego."""
    peer = pyspnego.peer(setting, "tuned")
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    async def talk(side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bool) -> None:
        loop = asyncio.get_running_loop()
        token = b""
        while not (side.done and not first):
            if not first:
                token = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            first = False
            answer = await loop.run_in_executor(pool, side.step, token)
            if not side.done or answer:
                writer.write(len(answer).to_bytes(4, "big") + answer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep(asyncio.current_task())
        await talk(peer.server(), reader, writer, first=False)
        writer.write(b"\0")
        await close(writer)

    async def close(writer: asyncio.StreamWriter) -> None:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()

    async def listen() -> asyncio.AbstractServer:
        return await asyncio.start_server(serve, HOST, 0, backlog=BACKLOG)

    async def connect(port: int) -> Callable[[], Awaitable[None]]:
        reader, writer = await asyncio.open_connection(HOST, port)
        await talk(peer.client(), reader, writer, first=True)
        await reader.readexactly(1)
        return lambda: close(writer)

    return listen, connect

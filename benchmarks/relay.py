"""A gateway's relay between two secured connections: `acredssp.relay` over acredssp's and over asyncio's own TLS.

    python -m benchmarks --only relay

The relay runs here, and what counts is its CPU: it opens every record of one connection and seals it for the other one.
The source and the sink are processes of their own. They use blocking sockets, and one class for TLS, whatever the link
is. The source has sealed messages of one size, each in a record of its own, before the relay begins, so the relay never
waits for the source. Where each message is answered, one message after the other passes the relay and comes back, as
with a keystroke and its echo. All figures are ratios of neighbouring transfers.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import acredssp
from acredssp.core.tls import MAX_PLAINTEXT, TLSSession
from acredssp.policy import MechanismChoice
from benchmarks.children import PATIENCE, child
from benchmarks.harness import LOOPS, Figure, Results, Row, Size, Watch, settle
from benchmarks.links import HOST, Acredssp, Link, LoopTLS, port_of
from benchmarks.peers import NAME, Engine, Setting, Side, answerer

MESSAGES = {"16 KiB": (16 * 1024, 1), "1 KiB": (1024, 4), "128 B": (128, 16)}
"""The size of a message, and the divisor of a bulk transfer's size: a byte in small messages costs more."""
GOAL = 1.0
LARGE_GOAL = 1.1
"""The goal for messages that fill a record."""
ANSWERED_GOAL = 0.91
"""The goal for messages that are answered one by one, where most of the CPU is the loop's."""
ANSWERED = 128
"""The size of a message that is answered."""


class Load(NamedTuple):
    """What passes a relay: `size` bytes in messages of `message` bytes."""

    message: int
    size: int
    answered: bool = False
    """Whether the sink sends each message back, and the source waits for it before it sends the next one."""

    @property
    def key(self) -> str:
        """The load's part of a row's key."""
        return f"{self.message}.answered" if self.answered else f"{self.message}"


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def links_of(setting: Setting) -> dict[str, Link]:
    """Return the links that the rows compare."""
    return {"acredssp": Acredssp.of(setting), "ssl": LoopTLS(setting)}


# --- the two ends, each in a process of its own ---


class TLSOnly:
    """A handshake without CredSSP, with the engine's class for TLS."""

    def __init__(self, tls: TLSSession) -> None:
        self._tls = tls
        self.done = False

    def step(self, data: bytes) -> bytes:
        self.done = self._tls.handshake(data)
        return self._tls.output()


class End:
    """The source or the sink of a transfer: makes a handshake over a blocking socket."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._client = setting.client_config(MechanismChoice.NEGOTIATE)
        self._server = setting.server_config()

    def as_client(self, link: str, connection: socket.socket) -> TLSSession:
        if link == "ssl":
            tls = TLSSession(self._setting.client_context, server_side=False, server_hostname=NAME)
            return _shaken(connection, TLSOnly(tls), tls, b"")
        context = self._client.new_context(server_hostname=NAME, spn=f"TERMSRV/{NAME}")
        return _shaken(connection, Engine(context, answerer(self._client)), context.tls, b"")

    def as_server(self, link: str, connection: socket.socket) -> TLSSession:
        first = connection.recv(MAX_PLAINTEXT)
        if link == "ssl":
            tls = TLSSession(self._setting.server_context, server_side=True)
            return _shaken(connection, TLSOnly(tls), tls, first)
        context = self._server.new_context()
        return _shaken(connection, Engine(context, answerer(self._client)), context.tls, first)


def _shaken(connection: socket.socket, side: Side, tls: TLSSession, data: bytes) -> TLSSession:
    # As event loops do. Else the kernel keeps close_notify back until what went before is acknowledged, which takes a
    # peer that has nothing to send 40 ms.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        connection.sendall(side.step(data))
        if side.done:
            return tls
        data = connection.recv(MAX_PLAINTEXT)
        if not data:
            raise ConnectionError("the relay left in the middle of the handshake")


def send_all(end: End, link: str, port: int, load: Load) -> None:
    """Be the source of a transfer; say when everything is sealed, and send it when told to."""
    with socket.create_connection((HOST, port), PATIENCE) as connection:
        tls = end.as_client(link, connection)
        sealed = [tls.encrypt(bytes(load.message)) for _ in range(load.size // load.message)]
        sending = sealed if load.answered else [b"".join(sealed)]
        say("sealed")
        sys.stdin.readline()
        for records in sending:
            connection.sendall(records)
            left = load.message if load.answered else 0
            while left and (came := connection.recv(MAX_PLAINTEXT)):
                left -= len(tls.read(came))
        tls.close()
        connection.sendall(tls.output())
        while connection.recv(MAX_PLAINTEXT):
            pass


def take_all(end: End, link: str, listener: socket.socket, *, answered: bool) -> None:
    """Be the sink of a transfer; say how many bytes came."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(PATIENCE)
        tls = end.as_server(link, connection)
        taken, came, buffer = 0, 0, memoryview(bytearray(2**18))
        ended = False
        while not ended:
            data = tls.read(buffer[:came])  # first what came with the end of the handshake: maybe nothing follows it
            taken += len(data)
            if answered and data:
                connection.sendall(tls.encrypt(data))
            ended = tls.peer_closed or not (came := connection.recv_into(buffer))
        tls.close()
        connection.sendall(tls.output())
    say(taken)


def say(word: object) -> None:
    print(json.dumps(word), flush=True)


def main() -> None:
    """Be the source or the sink of one transfer after the other."""
    parser = argparse.ArgumentParser("python -m benchmarks.relay")
    parser.add_argument("end", choices=["source", "sink"])
    name = parser.parse_args().end
    chain, key = json.loads(sys.stdin.readline())
    end = End(Setting.of((chain.encode(), key.encode()), "1.3"))
    with socket.create_server((HOST, 0)) as listener:
        say(listener.getsockname()[1])
        for line in sys.stdin:
            link, *rest = json.loads(line)
            if name == "source":
                port, load = rest
                send_all(end, link, port, Load(*load))
            else:
                take_all(end, link, listener, answered=rest[0])


class Ends:
    """The two processes, as this process sees them."""

    def __init__(self, source: subprocess.Popen[str], sink: subprocess.Popen[str]) -> None:
        self._source, self._sink = source, sink
        _hear(source)
        self.port: int = _hear(sink)
        """The port of the sink."""

    @classmethod
    @contextlib.contextmanager
    def of(cls, certificate: tuple[bytes, bytes]) -> Iterator["Ends"]:
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(child("benchmarks.relay", end)) for end in ("source", "sink")]
            for process in processes:
                _tell(process, [part.decode() for part in certificate])
            yield cls(*processes)

    def expect(self, link: str, load: Load) -> None:
        """Have the sink accept a connection."""
        _tell(self._sink, [link, load.answered])

    async def send(self, link: str, port: int, load: Load) -> None:
        """Have the source connect; return once it has sealed everything."""
        _tell(self._source, [link, port, load])
        await asyncio.to_thread(_hear, self._source)

    def go(self) -> None:
        """Have the source send."""
        _tell(self._source, "go")

    async def taken(self) -> int:
        """Return how many bytes the sink got."""
        return await asyncio.to_thread(_hear, self._sink)


def _tell(process: subprocess.Popen[str], word: object) -> None:
    process.stdin.write(json.dumps(word) + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> object:
    return json.loads(process.stdout.readline())


# --- the relay ---


@contextlib.asynccontextmanager
async def accepting(link: Link) -> AsyncIterator[tuple[int, "asyncio.Future[Streams]"]]:
    """Listen, and yield the port and a future of the connection's streams."""
    accepted = asyncio.get_running_loop().create_future()

    def factory() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), lambda *streams: accepted.set_result(streams))

    server = await link.listen(factory)
    try:
        yield port_of(server), accepted
    finally:
        server.close()
        await server.wait_closed()


async def connect(link: Link, port: int) -> Streams:
    reader = asyncio.StreamReader()
    transport, protocol = await link.connect(lambda: asyncio.StreamReaderProtocol(reader), port)
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


async def transfer(ends: Ends, name: str, link: Link, load: Load) -> tuple[float, float]:
    """Return the CPU and the wall-clock seconds that a relay takes for a load."""
    async with accepting(link) as (port, accepted):
        ends.expect(name, load)
        target = await connect(link, ends.port)
        settle()
        await ends.send(name, port, load)
        client = await accepted
        wall, cpu = time.perf_counter(), time.thread_time()
        ends.go()
        result = await acredssp.relay(client, target)
        spent = time.thread_time() - cpu, time.perf_counter() - wall
    assert result.bytes_up == load.size == await ends.taken()
    return spent


def measure(size: Size, results: Results, watch: Watch) -> None:
    certificate = acredssp.self_signed([NAME], "rsa")
    links = links_of(Setting.of(certificate, "1.3"))
    with Ends.of(certificate) as ends:
        for loop, factory in LOOPS.items():
            watch.step(f"relay: {loop}")
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(_measure(loop, ends, links, size, results))
            watch.done()


async def _measure(loop: str, ends: Ends, links: dict[str, Link], size: Size, results: Results) -> None:
    turns = [[*links], [*reversed(links)]] * (size.bulk_rounds // 2 + 1)
    for what, load, goal in loads(size.bulk, size.pings):
        rounds = [{name: await transfer(ends, name, links[name], load) for name in turn} for turn in turns]
        results.rows += _rows(loop, what, load, goal, rounds[1:])


def loads(bulk: int, answers: int) -> Iterator[tuple[str, Load, float]]:
    """Yield what each load is, the load, and its goal."""
    for what, (message, part) in MESSAGES.items():
        yield f"{what} messages", Load(message, bulk // part), GOAL if message < MAX_PLAINTEXT else LARGE_GOAL
    yield f"{ANSWERED} B messages, each answered", Load(ANSWERED, answers * ANSWERED, answered=True), ANSWERED_GOAL


def _rows(loop: str, what: str, load: Load, goal: float, rounds: list[dict[str, tuple[float, float]]]) -> Iterator[Row]:
    key = f"relay.{loop}.{load.key}"
    wall = statistics.median(each["acredssp"][1] for each in rounds)
    messages, megabytes = load.size // load.message, load.size / 1e6
    yield Row(
        key=key,
        what=f"CPU of a relay over ssl=, {what}, {loop}",
        figure=Figure.of(each["ssl"][0] / each["acredssp"][0] for each in rounds),
        goal=goal,
        at_most=False,
    )
    yield Row(
        key=f"{key}.speed",
        what=f"throughput of a relay over ssl=, {what}, {loop}",
        figure=Figure.of(each["ssl"][1] / each["acredssp"][1] for each in rounds),
        goal=goal,
        at_most=False,
        note=f"{messages / wall:.0f} a second" if load.answered else f"{megabytes / wall:.0f} MB/s",
    )


if __name__ == "__main__":
    main()

"""The share of its logons that a server keeps beside one attacker, compared with bare TLS on asyncio.

    python -m benchmarks --only attackers

Servers and attackers are processes of their own. Two good clients run in this process and log on again and again. A
round has, for each server in turn, a quiet slice of time and a slice with the attacker at work; the order of the two
alternates. The share that a server keeps is the rate of logons in the attacked slice divided by the rate in the quiet
slice. All figures are ratios of neighbouring slices, so a busy machine changes both sides of a ratio.

Both servers have their default options. One of these is the backlog of the listening socket. It matters much, since an
attacker whose connection the kernel drops waits a second before he tries again. Another is acredssp's limit of failed
handshakes from one source, for which the attacker has an address of his own.

The attackers:

- `tiny` sends a long message in records of one byte; `tiny12` does so under TLS 1.2. Bare TLS has no message that these
  records could be a part of, so there is no comparison: the share that acredssp keeps has a goal of its own.
- `fragments` sends a ClientHello in records of one byte.
- `hellos` sends a ClientHello, and leaves when the server has signed; `hellos_nowait` leaves before that.
- `garbage` completes the TLS handshake and sends bytes that are no message.
- `connect` connects and leaves.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import pathlib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator

import acredssp
from benchmarks.children import PATIENCE, child
from benchmarks.harness import Figure, Results, Row, Size, Watch
from benchmarks.peers import ALICE, NAME, PASSWORD

HOST = "127.0.0.1"
ATTACKER = "127.0.0.2"
"""The attacker's own address, since acredssp has limits for each source."""
GOOD = 2
"""The number of good clients, which log on at the same time."""
SECONDS = 0.4
"""The length of a slice of time."""
CRUMBS_GOAL = 0.5
"""The share of logons that acredssp must keep beside an attacker who sends records of one byte."""
GOAL = 1.0
"""The share that acredssp must keep, divided by the share that bare TLS keeps, beside any other attacker."""
SETTLE = 0.1
"""Seconds that an attacker gets to begin, and that a server gets to recover afterwards."""


# --- the servers ---


async def serve_acredssp(context: ssl.SSLContext) -> asyncio.AbstractServer:
    config = acredssp.ServerConfig(ssl_context=context, lookup=lambda _request: acredssp.Password(PASSWORD))
    return await acredssp.start_server(_hang_up, HOST, 0, config=config)


async def serve_tls(context: ssl.SSLContext) -> asyncio.AbstractServer:
    return await asyncio.start_server(_read_and_hang_up, HOST, 0, ssl=context)


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, acredssp.CredSSPError):
        await writer.wait_closed()


async def _read_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read(1)
    await _hang_up(reader, writer)


SERVERS: dict[str, Callable[[ssl.SSLContext], Awaitable[asyncio.AbstractServer]]] = {
    "acredssp": serve_acredssp,
    "tls": serve_tls,
}


async def serve(contender: str, folder: pathlib.Path) -> None:
    """Print the port, and serve until the standard input ends."""
    certificate, key = ((folder / name).read_bytes() for name in ("certificate", "key"))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # asyncio would report each broken TLS handshake
    server = await SERVERS[contender](acredssp.server_context_from_pem(acredssp.Policy(), certificate, key))
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = loop.create_future()
    loop.add_reader(sys.stdin, lambda: ended.done() or ended.set_result(None))
    await ended


@contextlib.contextmanager
def serving(contender: str, folder: pathlib.Path) -> Iterator[int]:
    """Run a server in a process, and yield its port."""
    with child("benchmarks.attackers", "--serve", contender, str(folder), stderr=subprocess.DEVNULL) as process:
        yield int(process.stdout.readline())


# --- the attackers ---


class Attack:
    """Attacks a port until a set time. Each method makes one connection, which the server is expected to cut off.

    Args:
        port: The server's port.
        until: The end of the attack, by `time.perf_counter()`.
    """

    def __init__(self, port: int, until: float) -> None:
        self._address = (HOST, port)
        self._until = until
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    @property
    def over(self) -> bool:
        return time.perf_counter() > self._until

    def connect(self) -> None:
        self._connection().close()

    def hellos(self) -> None:
        with self._connection() as connection:
            connection.sendall(self._hello())
            connection.recv(100)

    def hellos_nowait(self) -> None:
        with self._connection() as connection:
            connection.sendall(self._hello())

    def garbage(self) -> None:
        with self._context.wrap_socket(self._connection()) as connection:
            connection.sendall(b"\x30\x03\xa0\x01\x00")

    def fragments(self) -> None:
        message = b"\x01" + (131_000).to_bytes(3, "big") + bytes(131_000)
        with self._connection() as connection:
            for start in range(0, len(message), 10_000):
                piece = message[start : start + 10_000]
                connection.sendall(b"".join(b"\x16\x03\x01\x00\x01" + bytes((byte,)) for byte in piece))

    def tiny(self) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing)
        with self._connection() as connection:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    break
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65_536))
            tls.write(b"\x30\x83\x01\xff\xf0")
            while not self.over:
                for _ in range(3000):
                    tls.write(b"\0")
                connection.sendall(outgoing.read())

    def tiny12(self) -> None:
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.tiny()

    def _connection(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=PATIENCE, source_address=(ATTACKER, 0))

    def _hello(self) -> bytes:
        outgoing = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            self._context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
        return outgoing.read()


CRUMBS = ("tiny", "tiny12")
OTHERS = ("fragments", "hellos", "hellos_nowait", "garbage", "connect")
KINDS = CRUMBS + OTHERS


def attack_as_told(kind: str) -> None:
    """Read a port and seconds from each line of the standard input, attack the port for so long, and print a line."""
    for line in sys.stdin:
        port, seconds = line.split()
        attack, connections = Attack(int(port), time.perf_counter() + float(seconds)), 0
        while not attack.over:
            with contextlib.suppress(OSError):  # ssl.SSLError is one
                getattr(attack, kind)()
            connections += 1
        print(connections, flush=True)


# --- the good clients ---


@dataclasses.dataclass(frozen=True, slots=True)
class Clients:
    """Logs good clients on to each server."""

    config: acredssp.ClientConfig
    context: ssl.SSLContext

    @classmethod
    def of(cls, certificate: bytes) -> "Clients":
        pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
        context = ssl.create_default_context(cadata=certificate.decode())
        return cls(acredssp.ClientConfig(authenticate=ALICE, trust=acredssp.Trust.pinned(pin)), context)

    async def log_on(self, contender: str, port: int) -> None:
        """Complete a handshake; return when the server has closed the connection."""
        if contender == "acredssp":
            reader, writer = await acredssp.open_connection(HOST, port, config=self.config, server_hostname=NAME)
        else:
            reader, writer = await asyncio.open_connection(HOST, port, ssl=self.context, server_hostname=NAME)
            writer.write(b"x")
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async def rate(self, contender: str, port: int, seconds: float) -> float:
        """Return the logons per second in a slice, which lasts until at least one logon is complete."""
        done, started = 0, time.perf_counter()

        async def work() -> None:
            nonlocal done
            while not done or time.perf_counter() < started + seconds:
                with contextlib.suppress(OSError, acredssp.CredSSPError):
                    await self.log_on(contender, port)
                    done += 1

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(work() for _ in range(GOOD)))
        return done / (time.perf_counter() - started)


async def kept(  # noqa: PLR0913 - all of a round
    clients: Clients, contender: str, port: int, attacker: subprocess.Popen[str], seconds: float, *, attack_first: bool
) -> float:
    """Return the share of its rate of logons that a server keeps beside the attacker."""
    rates = {}
    for attacked in (attack_first, not attack_first):
        if attacked:
            attacker.stdin.write(f"{port} {seconds + SETTLE}\n")
            attacker.stdin.flush()
            await asyncio.sleep(SETTLE)
        rates[attacked] = await clients.rate(contender, port, seconds)
        if attacked:
            await asyncio.to_thread(attacker.stdout.readline)
            await asyncio.sleep(SETTLE)
    return rates[True] / rates[False]


async def rounds_of(
    kind: str, clients: Clients, ports: dict[str, int], count: int, seconds: float
) -> list[dict[str, float]]:
    """Return the share that each server keeps beside an attacker of that kind, in each round."""
    found: list[dict[str, float]] = []
    with child("benchmarks.attackers", "--attack", kind, stderr=subprocess.DEVNULL) as attacker:
        for number in range(count):
            names = list(ports)[:: 1 if number % 2 else -1]
            each = {
                name: await kept(clients, name, ports[name], attacker, seconds, attack_first=number % 2 == 1)
                for name in names
                if name == "acredssp" or kind in OTHERS
            }
            found.append(each)
    return found


async def measured(count: int, seconds: float, watch: Watch) -> dict[str, list[dict[str, float]]]:
    """Return the rounds of each kind of attacker."""
    certificate, key = acredssp.self_signed([NAME], "rsa")
    clients = Clients.of(certificate)
    found = {}
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "certificate").write_bytes(certificate)
        (folder / "key").write_bytes(key)
        ports = {name: stack.enter_context(serving(name, folder)) for name in SERVERS}
        for name, port in ports.items():
            await clients.rate(name, port, seconds)  # warms up
        for kind in KINDS:
            watch.step(f"one attacker: {kind}")
            found[kind] = await rounds_of(kind, clients, ports, count, seconds)
            watch.done()
    return found


def rows_of(found: dict[str, list[dict[str, float]]]) -> list[Row]:
    rows = []
    for kind, rounds in found.items():
        ours = statistics.median(each["acredssp"] for each in rounds)
        if kind in CRUMBS:
            what = f"logons kept beside one attacker: {kind}"
            figure, goal, note = Figure.of(each["acredssp"] for each in rounds), CRUMBS_GOAL, ""
        else:
            theirs = statistics.median(each["tls"] for each in rounds)
            what = f"logons kept beside one attacker, over what bare TLS keeps: {kind}"
            figure, goal = Figure.of(each["acredssp"] / each["tls"] for each in rounds), GOAL
            note = f"{ours:.0%}, bare TLS {theirs:.0%}"
        rows.append(Row(key=f"attackers.{kind}", what=what, figure=figure, goal=goal, at_most=False, note=note))
    return rows


def measure(size: Size, results: Results, watch: Watch) -> None:
    seconds = SECONDS if size.attacked_rounds > 1 else 0.02
    results.rows += rows_of(asyncio.run(measured(size.attacked_rounds, seconds, watch)))


def main() -> None:
    """Be one of the processes."""
    parser = argparse.ArgumentParser("python -m benchmarks.attackers")
    parser.add_argument("--serve", nargs=2, metavar=("CONTENDER", "FOLDER"))
    parser.add_argument("--attack", choices=KINDS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve[0], pathlib.Path(options.serve[1])))
    else:
        attack_as_told(options.attack)


if __name__ == "__main__":
    main()

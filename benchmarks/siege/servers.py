"""The servers under attack, each a process of its own, and what is read of these processes.

    python -m benchmarks.siege.servers KIND LOOP FOLDER LIMITS     is such a process

`serve` is `acredssp.start_server`, `gateway` is `acredssp proxy run` with one target, `http` is
`acredssp.http.start_http_server`, and `tls` is `asyncio.start_server(ssl=...)` with nothing of ours.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import acredssp
from acredssp.aio import FailureLimit
from acredssp.http.server import HTTPLimits, start_http_server
from benchmarks import attackers
from benchmarks.children import PATIENCE, ROOT, child
from benchmarks.compiled_build import FOLDER as COMPILED
from benchmarks.gateway import free_port, resident, until_listening
from benchmarks.harness import LOOPS, raise_file_limit
from benchmarks.http import echo
from benchmarks.peers import ALICE, DOMAIN, NAME, PASSWORD
from benchmarks.workers import cpu_of

__all__ = ["CORES", "KINDS", "OURS", "USUAL", "Limits", "Server", "Variant", "World", "pinned", "unlimited"]

HOST = attackers.HOST
OURS = ("serve", "gateway", "http")
KINDS = (*OURS, "tls")
CORES = sorted(os.sched_getaffinity(0))
"""Those that the run may use; noted before any process is pinned."""
IDLE = 0.1
"""The share of a core at which a server counts as idle."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much of a server a stranger may take.

    Attributes:
        deadline: Seconds for a handshake.
        most: Handshakes at a time; those of one source are as many as `per_source`.
        per_source: Of these, from one source.
        most_connections: The same for the server of HTTP, whose limit is on connections.
    """

    deadline: float = 30.0
    most: int = 500
    per_source: int = 100
    most_connections: int = 1000


USUAL = Limits()
"""The defaults of `acredssp serve`, of the gateway and of `HTTPLimits`."""


def unlimited(deadline: float) -> Limits:
    """Return limits that take every connection, so that nothing but the deadline ends it."""
    return Limits(deadline, most=20_000, per_source=20_000, most_connections=20_000)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Variant:
    """A kind of server, on a loop, with a build of the engine."""

    kind: str
    loop: str = "asyncio"
    build: str = "interpreted"

    def __str__(self) -> str:
        return f"{self.kind}, {self.loop}" + ("" if self.kind == "tls" else f", {self.build}")

    @property
    def environment(self) -> dict[str, str]:
        if self.build == "interpreted":
            return {}
        return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(map(str, (COMPILED, ROOT)))}


# --- being a server ---


async def _serve(context: ssl.SSLContext, limits: Limits) -> asyncio.AbstractServer:
    return await acredssp.start_server(
        attackers._hang_up,  # noqa: SLF001 - the same as there
        HOST,
        0,
        config=acredssp.ServerConfig(ssl_context=context, lookup=lambda _request: acredssp.Password(PASSWORD)),
        handshake_timeout=limits.deadline,
        max_handshakes=limits.most,
        max_handshakes_per_source=limits.per_source,
        max_failures=FailureLimit(10, 600.0),
    )


async def _serve_http(context: ssl.SSLContext, limits: Limits) -> Any:
    config = acredssp.ServerConfig(ssl_context=context, lookup=lambda _request: acredssp.Password(PASSWORD))
    taken = HTTPLimits(limits.most_connections, limits.per_source, logon_timeout=limits.deadline)
    failures = FailureLimit(10, 600.0)
    return await start_http_server(echo, HOST, 0, config=config, limits=taken, max_failures=failures)


async def _serve_tls(context: ssl.SSLContext, limits: Limits) -> asyncio.AbstractServer:
    return await asyncio.start_server(
        attackers._read_and_hang_up,  # noqa: SLF001 - the same as there
        HOST,
        0,
        ssl=context,
        ssl_handshake_timeout=limits.deadline,
    )


_SERVERS: dict[str, Callable[[ssl.SSLContext, Limits], Coroutine[Any, Any, Any]]] = {
    "serve": _serve,
    "http": _serve_http,
    "tls": _serve_tls,
}


async def be_server(kind: str, folder: pathlib.Path, limits: Limits) -> None:
    """Print the port, and serve until the standard input ends."""
    certificate, key = ((folder / name).read_bytes() for name in ("certificate", "key"))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # asyncio would report each broken TLS handshake
    server = await _SERVERS[kind](acredssp.server_context_from_pem(acredssp.Policy(), certificate, key), limits)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = loop.create_future()
    loop.add_reader(sys.stdin, lambda: ended.done() or ended.set_result(None))
    await ended


GATEWAY = """\
[[listeners]]
address = "{address}"
certificates = [{{ certificate = "certificate", key = "key" }}]
logon = {{ users = "users" }}
routes = [{{ target = "desktops" }}]
handshake_timeout = {limits.deadline}

[targets.desktops]
addresses = ["{target}"]
pins = ["{pin}"]

[limits]
handshakes = {limits.most}
handshakes_per_source = {limits.per_source}
first_bytes = {first_bytes}
"""
GATEWAY_MAIN = "import sys; {loop}; from acredssp.cli import main; main()"
"""The gateway takes uvloop if it is there."""


@contextlib.contextmanager
def _gateway(variant: Variant, folder: pathlib.Path, limits: Limits) -> Iterator[tuple[int, int]]:
    """Run the gateway and its target; yield the gateway's process id and its port."""
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(child("benchmarks.gateway", "--be", "target", stderr=subprocess.DEVNULL))
        target_port, pin = json.loads(target.stdout.readline())
        pinned(target.pid, "clients")
        port = free_port()
        text = GATEWAY.format(
            address=f"{HOST}:{port}",
            target=f"{HOST}:{target_port}",
            pin=pin,
            limits=limits,
            first_bytes=min(10.0, limits.deadline),
        )
        (folder / "users").write_text(f"{DOMAIN}:{ALICE.user}:{PASSWORD}\n", "utf-8")
        settings = folder / f"{variant}.{port}.toml"
        settings.write_text(text, "utf-8")
        main = GATEWAY_MAIN.format(loop="sys.modules['uvloop'] = None" if variant.loop == "asyncio" else "pass")
        argv = [sys.executable, "-c", main, "proxy", "run", str(settings), "--log-level", "error"]
        log = stack.enter_context((folder / "log").open("wb"))
        process = stack.enter_context(
            subprocess.Popen(  # noqa: S603 - ourselves
                argv, env=os.environ | variant.environment, stdout=log, stderr=log
            )
        )
        stack.callback(process.send_signal, signal.SIGKILL)
        until_listening(port, process)
        yield process.pid, port


# --- what is read of a server ---


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    variant: Variant
    pid: int
    port: int

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has had."""
        return cpu_of(self.pid)

    @property
    def memory(self) -> int:
        """Bytes that are resident."""
        return int(resident(self.pid) * 2**20)

    @property
    def descriptors(self) -> int:
        return sum(1 for _ in pathlib.Path(f"/proc/{self.pid}/fd").iterdir())

    def rest(self, patience: float = PATIENCE) -> bool:
        """Wait until the server has nothing to do; return whether it came to that."""
        deadline, beat = time.monotonic() + patience, 0.04
        while time.monotonic() < deadline:
            before = self.cpu
            time.sleep(beat)
            if self.cpu - before < IDLE * beat:
                return True
        return False

    def left_above(self, descriptors: int, patience: float = PATIENCE) -> int:
        """Wait until the server holds no more descriptors than this; return how many there are above in the end."""
        deadline = time.monotonic() + patience
        while (left := self.descriptors - descriptors) > 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        return max(0, left)


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """All servers, with the certificate that they share."""

    certificate: bytes
    folder: pathlib.Path

    @classmethod
    def of(cls, folder: pathlib.Path) -> "World":
        certificate, key = acredssp.self_signed([NAME], "rsa")
        (folder / "certificate").write_bytes(certificate)
        (folder / "key").write_bytes(key)
        return cls(certificate, folder)

    @contextlib.contextmanager
    def running(self, variants: Sequence[Variant], limits: Limits = USUAL) -> Iterator[list[Server]]:
        with contextlib.ExitStack() as stack:
            servers = []
            for variant in variants:
                if variant.kind == "gateway":
                    pid, port = stack.enter_context(_gateway(variant, self.folder, limits))
                else:
                    told = json.dumps(dataclasses.asdict(limits))
                    process = stack.enter_context(
                        child(
                            "benchmarks.siege.servers",
                            variant.kind,
                            variant.loop,
                            str(self.folder),
                            told,
                            stderr=subprocess.DEVNULL,
                            environment=variant.environment,
                        )
                    )
                    pid, port = process.pid, int(process.stdout.readline())
                pinned(pid, "server")
                servers.append(Server(variant, pid, port))
            yield servers


# --- cores ---


def pinned(pid: int, role: str) -> bool:
    """Give a process its core: the last one for servers, the first one for everybody else. False with one core only.

    Two cores hold all three. The server has one for itself, since its work is what is measured: what an attack costs
    there is lost to the logons. Clients and attackers share the other, and the attackers are nice (`os.nice`), so that
    they get what the clients leave: a client that waits for the server leaves much. Else an attacker would slow the
    clients down, and no server could be the better or the worse for it.
    """
    if len(CORES) == 1:
        return False
    core = CORES[-1] if role == "server" else CORES[0]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {core})
    return True


def main(kind: str, loop: str, folder: str, limits: str) -> None:
    raise_file_limit()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(be_server(kind, pathlib.Path(folder), Limits(**json.loads(limits))))


if __name__ == "__main__":
    main(*sys.argv[1:])

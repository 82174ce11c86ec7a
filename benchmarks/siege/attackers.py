"""The process of one attacker: `python -m benchmarks.siege.attackers KIND FOLDER` takes orders line by line.

`begin ATTACK PORT COUNT` attacks, and is answered by the connections that a crowd holds then; several attacks may go on
at a time. `held` is answered by how many connections the crowds still hold, but for those who do not read and so do not
hear that they have ended. `end` ends all attacks, and is answered by the connections that floods have made.
"""

import asyncio
import contextlib
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import uvloop

import acredssp
from benchmarks.children import child
from benchmarks.harness import raise_file_limit
from benchmarks.peers import DOMAIN
from benchmarks.siege.crowds import CROWDS, Crowd, sources
from benchmarks.siege.floods import FLOODS, Flood
from benchmarks.siege.fronts import FRONTS
from benchmarks.siege.logons import ERRORS, Logons
from benchmarks.siege.servers import pinned

__all__ = ["ATTACKS", "Attacker", "attacking", "is_possible"]

GUESSES = ("wrong_passwords", "wrong_passwords_of_many")
"""Logons with a wrong password, from one source, or each from another."""
ATTACKS = (*CROWDS, *FLOODS, *GUESSES)
NICE = 10
"""How nice an attacker is to the clients on its core: the kernel gives it a tenth of their weight."""
GUESSERS = 2
"""How many guess at a time: as many as there are good clients."""

_ONLY = {"lies_tpkt": {"gateway"}, "lies_http": {"http"}, "requests_unread": {"http"}}
_NOT_BARE_TLS = {"lies_request", "tiny", "tiny12", *GUESSES}
"""The attacks by messages that bare TLS has not."""


def is_possible(attack: str, kind: str) -> bool:
    """Return whether a kind of server has what the attack is about."""
    if attack in _ONLY:
        return kind in _ONLY[attack]
    return kind != "tls" or attack not in _NOT_BARE_TLS


class Attacker:
    """A process that attacks one kind of server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self, attack: str, port: int, count: int) -> int:
        """Attack; a crowd has so many connections. Return how many of them the server has taken."""
        return self._ask(f"begin {attack} {port} {count}")

    def held(self) -> int:
        """Return how many connections a crowd still has."""
        return self._ask("held")

    def end(self) -> int:
        """End the attack."""
        return self._ask("end")

    def _ask(self, order: str) -> int:
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def attacking(kind: str, folder: pathlib.Path) -> Iterator[Attacker]:
    """Run an attacker of a kind of server."""
    with child("benchmarks.siege.attackers", kind, str(folder), stderr=subprocess.DEVNULL) as process:
        pinned(process.pid, "attackers")
        yield Attacker(process)


# --- being an attacker ---


class _Flooding:
    """A flood, in a thread."""

    def __init__(self, attack: str, kind: str, port: int, key_log: pathlib.Path) -> None:
        self._attack, self._connections = attack, 0
        self._flood = Flood(FRONTS[kind], port, threading.Event(), key_log)
        self._thread = threading.Thread(target=self._run, daemon=True)

    async def begin(self) -> int:
        self._thread.start()
        return 0

    def held(self) -> int:
        return 0

    async def end(self) -> int:
        self._flood.end()
        self._thread.join()
        return self._connections

    def _run(self) -> None:
        while not self._flood.over:
            with contextlib.suppress(OSError):
                getattr(self._flood, self._attack)()
            self._connections += 1


class _Guessing:
    """Logons with a wrong password."""

    def __init__(self, attack: str, kind: str, port: int, certificate: bytes) -> None:
        self._kind, self._port, self._certificate, self._guesses = kind, port, certificate, 0
        self._sources = itertools.repeat(sources(0)) if attack == "wrong_passwords" else map(sources, itertools.count())
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> int:
        self._tasks = [asyncio.create_task(self._guess()) for _ in range(GUESSERS)]
        return 0

    def held(self) -> int:
        return 0

    async def end(self) -> int:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self._guesses

    async def _guess(self) -> None:
        for source in self._sources:
            self._guesses += 1
            wrong = acredssp.Password(f"guess {self._guesses}", "alice", DOMAIN)
            with contextlib.suppress(*ERRORS):
                await Logons.of(self._certificate, wrong, source).log_on(self._kind, self._port)


async def be_attacker(kind: str, folder: pathlib.Path) -> None:
    certificate = (folder / "certificate").read_bytes()
    with tempfile.NamedTemporaryFile() as file:
        key_log = pathlib.Path(file.name)
        at_work: list[_Flooding | _Guessing | Crowd] = []
        while order := await asyncio.to_thread(sys.stdin.readline):
            match order.split():
                case ["begin", attack, port, count]:
                    if attack in FLOODS:
                        at_work.append(_Flooding(attack, kind, int(port), key_log))
                    elif attack in GUESSES:
                        at_work.append(_Guessing(attack, kind, int(port), certificate))
                    else:
                        at_work.append(Crowd(attack, FRONTS[kind], int(port), int(count), key_log))
                    said = await at_work[-1].begin()
                case ["held"]:
                    said = sum(each.held() for each in at_work)
                case ["end"]:
                    said = sum([await each.end() for each in at_work])
                    at_work.clear()
            print(said, flush=True)


def main(kind: str, folder: str) -> None:
    raise_file_limit()
    os.nice(NICE)
    uvloop.run(be_attacker(kind, pathlib.Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The command `acredssp`, run as its users run it."""

import dataclasses
import json

from support.hosted import NT_HASH
from support.peers import Run, free_port, wait_until
from support.warm import COMMAND

USERS = f"""\
# the accounts of the tests
CONTOSO=contoso.com
CONTOSO:alice:Passw0rd!
CONTOSO:carol:$NT${NT_HASH.hex()}
ACREDSSP.TEST:alice:Passw0rd!

:bob:bobpw
"""


def told(stderr):
    """The lines of a program in development mode, without asyncio's of callbacks that a busy machine makes slow."""
    return [line for line in stderr.splitlines() if not line.startswith("Executing <")]


@dataclasses.dataclass(frozen=True)
class Server:
    """`acredssp serve --json`."""

    port: int
    process: object
    host: str = "127.0.0.1"

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def records(self, count):
        """The JSON lines of the first `count` handshakes, waited for."""
        wait_until(lambda: len(self._records()) >= count, f"{self.process.name} reports {count} handshakes")
        return self._records()[:count]

    def record(self):
        """The line of the first handshake; FreeRDP 3 does another when we hang up on it."""
        return self.records(1)[0]

    def _records(self):
        *lines, _unfinished = self.process.read().split("\n")
        return [record for record in map(json.loads, lines) if "result" in record]


def serve(lab, *arguments):
    """Start our server with the accounts of `USERS`."""
    port, users = free_port(), lab.folder / "users"
    users.write_text(USERS, encoding="utf-8")
    users.chmod(0o600)  # else the server warns of it
    argv = [COMMAND, "serve", "--listen", f"127.0.0.1:{port}", "--users", users, "--json", *arguments]
    return Server(port, lab.start_server(argv, port, split=True))


@dataclasses.dataclass(frozen=True)
class Login:
    """How `acredssp login --json` went."""

    run: Run
    record: dict

    @property
    def status(self):
        return self.run.status


def login(lab, address, *arguments, user="alice", domain="CONTOSO", password="Passw0rd!"):
    """Log on; None leaves an argument out."""
    named = {"-u": user, "-d": domain, "-p": password}
    account = [word for name, value in named.items() if value is not None for word in (name, value)]
    run = lab.run([COMMAND, "login", address, *account, "--json", *arguments], split=True)
    return Login(run, json.loads(run.output))

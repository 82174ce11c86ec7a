"""What a core dump has: the copies of each secret in the memory of a process, with its connection and after that.

CPython does not erase what it frees, so some copies stay that nobody can reach. They are counted, and their numbers
have bounds, so that a change which leaves more is noticed.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.canaries import Canaries, taps
from support.endpoints import client_config, server_config
from support.remembering import ALICE, PUBLIC, ROOM, copies_in

import acredssp
from acredssp import Keytab, Password, Policy
from acredssp.delegation import DelegationPolicy

pytestmark = [
    pytest.mark.requirement("defect.secrets-in-logs"),
    pytest.mark.interpreted_only("the compiled engine makes the same objects"),
    pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux shows a process's memory"),
]

SECRET = "C4n4ry-0f-th3-M3m0ry!"
HOST = "127.0.0.1"
MEASURED = sys.version_info[:2] == (3, 11)
"""Other versions of CPython reuse freed memory in another order."""
FREED = {"text, UTF-8": 1, "password, UTF-8": 1, "nt hash": 1, "pin, UTF-8": 1}
"""The most copies that may be left of what a client logs on by, and of a text of nobody's. Python frees them, and
whether something else has taken their place since is chance."""
LEFT = FREED | {"package": 1, "password, UTF-16": 2}
"""The same with pieces of Remote Guard's credentials that were joined, and what MIT's library has copied of a password
that Kerberos seals. Of everything else there must be none."""


class Child:
    """A `support.remembering`."""

    def __init__(self, kind, port, secret):
        command = [sys.executable, "-m", "support.remembering", kind, HOST, str(port)]
        environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"} | kerberos_environment()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.pid = self._process.pid
        self._process.stdin.write(secret.ljust(ROOM, b"\0"))
        self._process.stdin.flush()

    async def line(self):
        return (await asyncio.to_thread(self._process.stdout.readline)).decode().strip()

    def go_on(self):
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def end(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()


def kerberos_environment():
    return {name: value for name, value in os.environ.items() if name.startswith("KRB5")}


@contextlib.contextmanager
def child(*args):
    each = Child(*args)
    try:
        yield each
    finally:
        each.end()


def forms_of(secrets):
    """Bytes by name: texts as UTF-8 and as UTF-16."""
    found = {}
    for name, secret in secrets.items():
        if isinstance(secret, str):
            found[f"{name}, UTF-8"], found[f"{name}, UTF-16"] = secret.encode(), secret.encode("utf-16-le")
        else:
            found[name] = secret
    return found


def named(secrets):
    """The secrets of `Canaries`, those of one kind under one name with a number."""
    return {name: secret for name, secret in secrets.items() if not name.startswith(("nego", "pub_key", "auth_info"))}


async def copies_of_client(kind, secrets, secret, config):
    """What a child that is a client has: (while the connection is there, after its end)."""
    arrived = asyncio.get_running_loop().create_future()

    async def connected(reader, writer):
        arrived.set_result(None)
        await reader.read()
        writer.close()

    with taps(Canaries(**secrets)) as canaries:
        server = await acredssp.start_server(connected, HOST, 0, config=config)
        with child(kind, server.sockets[0].getsockname()[1], secret) as process:
            assert await process.line() == "open"
            await arrived
            every = forms_of(named(canaries.secrets))
            before = copies_in(process.pid, every)
            process.go_on()
            assert await process.line() == "closed"
            after = copies_in(process.pid, every)
        server.close()
        await server.wait_closed()
    return before, after


async def copies_of_server():
    """The same of a child that is a server, to which the password is delegated."""
    password = Password(SECRET, *ALICE)
    secrets = Canaries(password=SECRET, nt_hash=password.nt_hash)
    with taps(secrets) as canaries, child("server", 0, SECRET.encode()) as process:
        port = int(await process.line())
        policy = Policy(dangerous_accept_any_certificate=True)
        config = client_config(policy, authenticate=password, delegation=DelegationPolicy())
        _, writer = await acredssp.open_connection(HOST, port, config=config, server_hostname="localhost")
        assert await process.line() == "open"
        every = forms_of(named(canaries.secrets))
        before = copies_in(process.pid, every)
        process.go_on()
        writer.close()
        assert await process.line() == "closed"
        after = copies_in(process.pid, every)
        await writer.wait_closed()
    return before, after


def summed(copies):
    """The copies by kind of secret."""
    found = {}
    for name, count in copies.items():
        kind = re.sub(r" \d+$", "", name).replace("_", " ")
        found[kind] = found.get(kind, 0) + count
    return found


def check(what, copies, figure, most={}):  # noqa: B006 - not changed
    before, after = map(summed, copies)
    for kind in before:
        assert after[kind] <= (most.get(kind, 0) if MEASURED else 2), (what, kind, copies)
        figure("remembered", f"{what}: {kind}", while_it_is_open=before[kind], after_its_end=after[kind])
    return before, after


async def copies_of_nobody():
    """The same of a child that only makes a text of the secret."""
    with child("nothing", 0, SECRET.encode()) as process:
        assert await process.line() == "open"
        before = copies_in(process.pid, forms_of({"text": SECRET}))
        process.go_on()
        assert await process.line() == "closed"
        return before, copies_in(process.pid, forms_of({"text": SECRET}))


def test_what_a_text_leaves_in_memory(figure):
    check("no logon: a text that is made and dropped", asyncio.run(copies_of_nobody()), figure, FREED)


KINDS = {
    "password": ("client, a password", {"password": SECRET, "nt_hash": Password(SECRET).nt_hash}, SECRET.encode()),
    "hash": ("client, an NT hash", {"nt_hash": Password(SECRET).nt_hash}, Password(SECRET).nt_hash),
    "card": ("client, a smart card's PIN", {"pin": SECRET}, SECRET.encode()),
    "guard": ("client, Remote Guard's credentials", {"package": SECRET.encode()}, SECRET.encode()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_client_leaves_in_memory(kind, figure):
    what, secrets, secret = KINDS[kind]
    password = SECRET if kind in {"password", "hash"} else PUBLIC
    config = server_config(lookup=lambda _: Password(password))
    check(
        what, asyncio.run(copies_of_client(kind, secrets, secret, config)), figure, LEFT if kind == "guard" else FREED
    )


def test_what_a_server_leaves_in_memory(figure):
    check("server, a password looked up and delegated", asyncio.run(copies_of_server()), figure, FREED)


@pytest.mark.parametrize("kind", ["kerberos", "remote-guard"])
def test_what_a_client_of_kerberos_leaves_in_memory(kind, kerberos, figure):
    from support.kerberos import ALICE as KERBEROS_ALICE  # noqa: PLC0415

    policy = Policy(mechanism="kerberos")
    config = server_config(policy, lookup=None, keytab=Keytab(str(kerberos.keytab)))
    secret = KERBEROS_ALICE.password
    copies = asyncio.run(copies_of_client(kind, {"password": secret}, secret.encode(), config))
    check(f"client, Kerberos, {kind}", copies, figure, LEFT)

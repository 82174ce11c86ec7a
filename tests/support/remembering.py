"""A process with one side of a logon, whose memory its parent searches for secrets, as somebody with a core dump would.

    python -m support.remembering KIND HOST PORT

begins what KIND says. The parent writes the secret to the standard input, 64 bytes with zeros behind, so that it is in
no argument. The process writes a line when the connection is there, and one when it is closed, its objects are gone and
the garbage was collected; after each it waits for a byte. The secret's own buffers are written over before the second
line.
"""

import asyncio
import contextlib
import functools
import gc
import os
import re
import sys
from pathlib import Path

from support.endpoints import client_config, server_config

import acredssp
from acredssp import NTHash, Password, Policy
from acredssp.credentials import RemoteGuard, SmartCard
from acredssp.delegation import DelegationPolicy
from acredssp.wire import TSRemoteGuardCreds, TSRemoteGuardPackageCred
from acredssp.wire.ts_credentials import UnicodeString

ROOM = 64
ALICE = "alice", "CONTOSO"
PUBLIC = "known-to-all"
"""The password of a logon whose secret is another one."""


def given():
    """The secret that the parent writes."""
    buffer = bytearray(ROOM)
    assert os.readv(0, [buffer]) == ROOM
    return buffer


def text_of(buffer):
    """The secret as a text, which is the application's."""
    return buffer.rstrip(b"\0").decode()


def tell(word):
    """Say how far it is, and wait for the parent."""
    os.write(1, f"{word}\n".encode())
    os.read(0, 1)


def config_of(kind, secret):
    """A client's configuration with the secret."""
    known = Password(PUBLIC, *ALICE)
    mechanism = "kerberos" if kind in {"kerberos", "remote-guard"} else "ntlm"
    policy = Policy(mechanism=mechanism, dangerous_accept_any_certificate=True)
    make = functools.partial(client_config, policy, delegation=DelegationPolicy())
    match kind:
        case "password":
            return make(authenticate=Password(text_of(secret), *ALICE))
        case "hash":
            return make(authenticate=NTHash(bytes(secret[:16]), *ALICE))
        case "card":
            return make(authenticate=known, delegate=SmartCard(text_of(secret), "alice", card_name="card"))
        case "guard":
            package = TSRemoteGuardPackageCred(UnicodeString("NTLM"), bytes(secret.rstrip(b"\0")))
            return make(authenticate=known, delegate=TSRemoteGuardCreds(package, ()))
        case "kerberos" | "remote-guard":
            more = {"delegate": RemoteGuard()} if kind == "remote-guard" else {}
            return make(authenticate=Password(text_of(secret), "alice", "ACREDSSP.TEST"), **more)
    raise ValueError(kind)


async def be_client(kind, host, port, secret):
    streams = await acredssp.open_connection(
        host, port, config=config_of(kind, secret), server_hostname="localhost", spn="TERMSRV/localhost"
    )
    tell("open")
    streams[1].close()
    with contextlib.suppress(OSError, acredssp.CredSSPError):
        await streams[1].wait_closed()


async def be_server(secret):
    served = asyncio.get_running_loop().create_future()

    async def connected(reader, writer):
        credentials = acredssp.take_credentials(writer)
        os.write(1, b"open\n")
        os.read(0, 1)
        credentials.zero()
        await reader.read()
        writer.close()
        served.set_result(None)

    def lookup(request):
        return Password(text_of(secret)) if request.principal.user == ALICE[0] else acredssp.Deny()

    server = await acredssp.start_server(connected, "127.0.0.1", 0, config=server_config(lookup=lookup))
    os.write(1, f"{server.sockets[0].getsockname()[1]}\n".encode())
    await served
    server.close()
    await server.wait_closed()


def main(kind, host, port):
    secret = given()
    if kind == "server":
        asyncio.run(be_server(secret))
    elif kind == "nothing":  # what a program leaves that only makes a text of it, and drops it
        assert text_of(secret)
        tell("open")
    else:
        asyncio.run(be_client(kind, host, int(port), secret))
    secret[:] = bytes(len(secret))
    for _ in range(3):
        gc.collect()
    tell("closed")


# --- for the parent ---

_MAPPED = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw")


def copies_in(pid, secrets):
    """How often each of the secrets is in the memory of a process that may be written to.

    Args:
        pid: A child of this process.
        secrets: Bytes by name.
    """
    found = dict.fromkeys(secrets, 0)
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        for line in Path(f"/proc/{pid}/maps").read_text("ascii").splitlines():
            if (mapped := _MAPPED.match(line)) is None or "[v" in line:
                continue
            begin, end = (int(number, 16) for number in mapped.groups())
            memory.seek(begin)
            try:
                content = memory.read(end - begin)
            except OSError:
                continue
            for name, secret in secrets.items():
                found[name] += content.count(secret)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])

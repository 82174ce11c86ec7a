"""A server that runs out of descriptors: whoever comes waits, nobody is reset, and the log stays readable."""

import asyncio
import contextlib
import subprocess
import sys

import pytest
from support.endpoints import PASSWORD
from support.peers import DEADLINE

import acredssp

LIMIT = 64

SERVER = """
import asyncio, resource, sys
import acredssp
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]),) * 2)

async def main():
    certificate, key = acredssp.self_signed(["127.0.0.1"], "ec")
    context = acredssp.server_context_from_pem(acredssp.Policy(), certificate, key)
    config = acredssp.ServerConfig(ssl_context=context, lookup=lambda _: acredssp.Password(sys.argv[1]))
    server = await acredssp.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, config=config)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


async def log_on(port):
    policy = acredssp.Policy(dangerous_accept_any_certificate=True)
    config = acredssp.ClientConfig(authenticate=acredssp.Password(PASSWORD, "bob"), policy=policy)
    _, writer = await acredssp.open_connection("127.0.0.1", port, config=config)
    writer.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_who_comes_while_there_are_no_descriptors_waits_and_logs_on(loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    argv = [sys.executable, "-c", SERVER, PASSWORD, loop, str(LIMIT)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            told = asyncio.run(asyncio.wait_for(exhaust(server, int(server.stdout.readline())), DEADLINE))
        finally:
            server.terminate()
            _, rest = server.communicate()
    lines = [told, *rest.splitlines()]
    assert "no connection can be accepted: too many open files" in told
    assert all("no connection can be accepted" in line for line in lines), lines
    assert len(lines) < DEADLINE  # one a second


async def exhaust(server, port):
    """Take every descriptor, let four good clients come, and give the descriptors back; the server's first line."""
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LIMIT)]
    told = await asyncio.to_thread(server.stderr.readline)
    waiting = [asyncio.ensure_future(log_on(port)) for _ in range(4)]
    for _, writer in silent:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    await asyncio.gather(*waiting)
    return told

"""One logon by `acredssp login`, below its command line."""

import asyncio

import pytest
from support.endpoints import client_config, turns

from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.cli import login as login_module
from acredssp.cli.arguments import Address
from acredssp.cli.login import Login, log_on

SSL_NOT_ALLOWED = bytes.fromhex("030000130ed000000000000300080002000000")
AT_ONCE = {
    "negotiation failure": (RDP(), SSL_NOT_ALLOWED, "refused to negotiate: SSL_NOT_ALLOWED_BY_SERVER"),
    "ssh, rdp": (RDP(), b"SSH-2.0-OpenSSH_9.6\r\n", "got SSH"),
    "ssh, tls": (TLS(), b"SSH-2.0-OpenSSH_9.6\r\n", "got SSH"),
    "http": (TLS(), b"HTTP/1.1 400 Bad Request\r\n\r\n", "got an HTTP response"),
}


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("case", AT_ONCE)
async def test_what_a_server_says_at_once_is_judged_before_the_end_of_its_connection(case, ends, monkeypatch):
    """The words come before the handshake begins here, as they do by chance on a busy machine."""
    carriage, words, expected = AT_ONCE[case]
    said = asyncio.Event()
    connect = login_module._connect

    async def speak(reader, writer):
        writer.write(words)
        if ends:
            writer.write_eof()
        said.set()
        await reader.read(1)
        writer.close()

    async def connect_and_hear(*arguments):
        result = await connect(*arguments)
        await said.wait()
        await turns(20)
        return result

    monkeypatch.setattr(login_module, "_connect", connect_and_hear)
    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        login = Login(
            address=Address("127.0.0.1", server.sockets[0].getsockname()[1]),
            config=client_config(),
            carriage=carriage,
            server_hostname="localhost",
            spn=None,
            timeout=30.0,
        )
        _, error = await log_on(login)
    await turns(10)
    assert expected in str(error)

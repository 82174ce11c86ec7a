"""One logon by `acredssp login`, below its command line."""

import asyncio
import socket

import pytest
from support.endpoints import client_config, turns
from support.peers import free_port

from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.cli import login as login_module
from acredssp.cli.login import Login, log_on
from acredssp.cli.outcome import ConnectError
from acredssp.workers import Address

SSL_NOT_ALLOWED = bytes.fromhex("030000130ed000000000000300080002000000")
AT_ONCE = {
    "negotiation failure": (RDP(), SSL_NOT_ALLOWED, "refused to negotiate: SSL_NOT_ALLOWED_BY_SERVER"),
    "ssh, rdp": (RDP(), b"SSH-2.0-OpenSSH_9.6\r\n", "got SSH"),
    "ssh, tls": (TLS(), b"SSH-2.0-OpenSSH_9.6\r\n", "got SSH"),
    "http": (TLS(), b"HTTP/1.1 400 Bad Request\r\n\r\n", "got an HTTP response"),
}


def login_at(port, carriage, **fields):
    login = {
        "address": Address("127.0.0.1", port),
        "config": client_config(),
        "carriage": carriage,
        "server_hostname": "localhost",
        "spn": None,
        "timeout": 30.0,
    }
    return Login(**login | fields)


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
        _, error = await log_on(login_at(server.sockets[0].getsockname()[1], carriage))
    await turns(10)
    assert expected in str(error)


class NoCarriage:
    """A carriage that cannot begin."""

    def initiator(self, _context):
        raise ValueError("no")

    def acceptor(self, *_):
        raise AssertionError("a client")


async def test_the_socket_is_closed_where_the_handshake_cannot_begin():
    ended = asyncio.get_running_loop().create_future()

    async def note_the_end(reader, writer):
        ended.set_result(await reader.read())
        writer.close()

    async with await asyncio.start_server(note_the_end, "127.0.0.1", 0) as server:
        with pytest.raises(ValueError, match="no"):
            await log_on(login_at(server.sockets[0].getsockname()[1], NoCarriage()))
        assert await ended == b""
    await turns(10)


class Resolver:
    """The running loop, where every name stands for the ports of one address."""

    def __init__(self, *ports):
        self._ports, self._loop = ports, asyncio.get_running_loop()

    async def getaddrinfo(self, host, _port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for port in self._ports]

    async def sock_connect(self, sock, address):
        await self._loop.sock_connect(sock, address)


async def test_the_addresses_of_a_name_are_tried_in_turn(monkeypatch):
    async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        login = login_at(port, TLS())
        resolver = Resolver(free_port(), port)
        monkeypatch.setattr(login_module.asyncio, "get_running_loop", lambda: resolver)
        sock = await login_module._connect(login)
        monkeypatch.undo()
        with sock:
            assert sock.getpeername() == ("127.0.0.1", port)
    await turns(10)


async def test_a_name_none_of_whose_addresses_answers_is_told_by_the_first_error(monkeypatch):
    resolver = Resolver(free_port(), free_port())
    login = login_at(1, TLS())
    monkeypatch.setattr(login_module.asyncio, "get_running_loop", lambda: resolver)
    with pytest.raises(ConnectError, match=r"cannot connect to 127\.0\.0\.1:1: connection refused"):
        await login_module._connect(login)
    monkeypatch.undo()

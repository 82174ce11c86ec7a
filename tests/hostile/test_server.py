"""A listening server among bad peers of every kind at once: what one of them does touches nobody else.

CVE-2026-23948: one client's negotiation took a whole proxy down.
"""

import asyncio
import contextlib

import pytest
from support.endpoints import BOB, client_config, server_config
from support.logon import tls_peer

from acredssp import RDP, AuthenticationError, Password, open_connection, start_server
from acredssp.errors import LimitExceeded
from acredssp.wire.ts_request import TSRequest
from acredssp.wire.x224 import ConnectionRequest, Protocols

HOST = "127.0.0.1"
REQUEST = ConnectionRequest(requested_protocols=Protocols.HYBRID).encode()


async def leaves(reader, writer):
    writer.transport.abort()


async def says_nothing(reader, writer):
    await reader.read()


async def speaks_another_protocol(reader, writer):
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.read()


async def injects_behind_its_request(reader, writer):
    writer.write(REQUEST + b"\x16\x03\x01")
    await reader.read()


async def breaks_tls(reader, writer):
    writer.write(REQUEST)
    await reader.readexactly(19)
    writer.write(b"\x16\x03\x01\x00\x05hello")
    await reader.read()


async def shake_hands(reader, writer):
    """Bring TLS up as an honest client does; what TLS has to say last is still in its output."""
    writer.write(REQUEST)
    await reader.readexactly(19)
    tls = tls_peer(server_side=False)
    flight = b""
    while not tls.handshake(flight):
        writer.write(tls.output())
        flight = await reader.read(65_536)
    return tls


async def sends_a_giant(reader, writer):
    tls = await shake_hands(reader, writer)
    writer.write(tls.output())
    tls.write(b"\x30\x84\x7f\xff\xff\xff" + bytes(10_000))
    writer.write(tls.output())
    await reader.read()


async def sends_crumbs(reader, writer):
    """A long TSRequest one byte a record."""
    tls = await shake_hands(reader, writer)
    writer.write(tls.output())
    for byte in b"\x30\x83\x01\xff\xf0" + bytes(2000):
        tls.write(bytes((byte,)))
    writer.write(tls.output())
    await reader.read()


async def dies_in_the_middle(reader, writer):
    tls = await shake_hands(reader, writer)
    tls.write(TSRequest(6, nego_token=b"NTLMSSP\0\1\0\0\0" + bytes.fromhex("b78208e2") + bytes(16)).encode())
    writer.write(tls.output())
    await reader.read(65_536)
    writer.transport.abort()


BAD = [
    leaves,
    speaks_another_protocol,
    injects_behind_its_request,
    breaks_tls,
    sends_a_giant,
    sends_crumbs,
    dies_in_the_middle,
]


async def misbehave(port, how):
    reader, writer = await asyncio.open_connection(HOST, port)
    with contextlib.suppress(ConnectionError):  # a server that closes on unread bytes resets
        await how(reader, writer)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def log_on(port, authenticate):
    config = client_config(authenticate=authenticate)
    reader, writer = await open_connection(HOST, port, config=config, carriage=RDP(), server_hostname="localhost")
    writer.write(b"good")
    writer.write_eof()
    heard = await reader.read()
    writer.close()
    await writer.wait_closed()
    return heard


async def echo(reader, writer):
    writer.write(await reader.read())
    writer.close()


@pytest.mark.requirement("defect.one-for-all")
async def test_good_clients_among_bad_peers_are_served():
    reports = []
    server = await start_server(echo, HOST, 0, config=server_config(), carriage=RDP(), on_handshake=reports.append)
    port = server.sockets[0].getsockname()[1]
    silent = [asyncio.create_task(misbehave(port, says_nothing)) for _ in range(3)]
    bad = [misbehave(port, how) for how in BAD * 3]
    good = [log_on(port, BOB) for _ in range(5)]
    wrong = [log_on(port, Password("wrong", "bob", "CONTOSO")) for _ in range(3)]
    outcomes = await asyncio.gather(*bad, *good, *wrong, return_exceptions=True)
    assert outcomes[: len(bad)] == [None] * len(bad)
    assert outcomes[len(bad) : -len(wrong)] == [b"good"] * len(good)
    assert all(type(outcome) is AuthenticationError for outcome in outcomes[-len(wrong) :])
    server.close()
    server.abort_clients()
    await server.wait_closed()
    await asyncio.gather(*silent)
    assert sum(report.error is None for report in reports) == len(good)
    limits = [report for report in reports if isinstance(report.error, LimitExceeded)]
    assert len(limits) == 3 * (BAD.count(sends_a_giant) + BAD.count(sends_crumbs))
    assert all(report.error.stage is not None for report in reports if report.error)

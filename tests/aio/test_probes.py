"""Looks at a server without a logon: whether it speaks RDP, and whether its certificate is trusted."""

import asyncio
import contextlib

import pytest
from support.endpoints import client_config, server_config

import acredssp
from acredssp.aio import check_rdp, judge_server
from acredssp.errors import CertificateError, NegotiationFailure, PeerClosed, RemoteProtocolError
from acredssp.policy import MechanismChoice
from acredssp.rdp import ConnectionConfirm, ConnectionRequest, FailureCode, Protocols, read_negotiation

CONFIRM = ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode()


@contextlib.asynccontextmanager
async def answering(answer, asked):
    """A host that answers a Connection Request by these bytes and ends the connection; gives a connection to it."""

    async def serve(reader, writer):
        asked.append(await read_negotiation(reader))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield await asyncio.open_connection(*server.sockets[0].getsockname())


@pytest.mark.parametrize("selected", [Protocols.HYBRID, Protocols.SSL, None])
async def test_a_host_that_confirms_speaks_rdp(selected):
    asked = []
    async with answering(ConnectionConfirm(selected_protocol=selected).encode(), asked) as streams:
        assert (await check_rdp(streams)).selected_protocol == selected
        assert streams[1].transport.is_closing()
    (request,) = map(ConnectionRequest.decode, asked)
    assert request.requested_protocols == Protocols.SSL | Protocols.HYBRID | Protocols.HYBRID_EX


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b"", PeerClosed, "it ended the connection in place of a connection confirm"),
        (CONFIRM[:-1], PeerClosed, "it ended the connection in place of a connection confirm"),
        (
            ConnectionConfirm(failure_code=FailureCode.SSL_CERT_NOT_ON_SERVER).encode(),
            NegotiationFailure,
            "it refuses to negotiate: SSL_CERT_NOT_ON_SERVER",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", RemoteProtocolError, ""),
    ],
    ids=["end", "cut", "refusal", "another protocol"],
)
async def test_a_host_that_does_not_confirm_is_told_of(answer, error, text):
    async with answering(answer, []) as streams:
        with pytest.raises(error) as raised:
            await check_rdp(streams)
        assert text in str(raised.value)
        assert streams[1].transport.is_closing()


@pytest.fixture
async def server():
    """Gives a new connection to a server of CredSSP over RDP: `await server()`. Nobody may log on at it."""
    reports = []
    server = await acredssp.start_server(
        lambda *_: None,
        "127.0.0.1",
        0,
        config=server_config(lookup=lambda _request: pytest.fail("somebody logs on")),
        carriage=acredssp.RDP(),
        on_handshake=reports.append,
    )
    async with server:
        yield lambda: asyncio.open_connection(*server.sockets[0].getsockname())
    assert [report.principal for report in reports] == [None] * len(reports)


@pytest.mark.parametrize("mechanism", [MechanismChoice.AUTO, MechanismChoice.NTLM, MechanismChoice.KERBEROS])
async def test_a_certificate_is_judged_and_nobody_logs_on(server, mechanism):
    config = client_config(acredssp.Policy(mechanism=mechanism))
    streams = await server()
    assert await judge_server(streams, config, carriage=acredssp.RDP(), server_hostname="localhost") is True
    assert streams[1].transport.is_closing()


async def test_a_policy_that_accepts_any_certificate_judges_none(server):
    config = client_config(acredssp.Policy(dangerous_accept_any_certificate=True))
    assert await judge_server(await server(), config, carriage=acredssp.RDP(), server_hostname="localhost") is False


async def test_a_certificate_that_is_not_trusted_is_refused(server):
    config = client_config(trust=acredssp.Trust.pinned("00" * 32))
    streams = await server()
    with pytest.raises(CertificateError):
        await judge_server(streams, config, carriage=acredssp.RDP(), server_hostname="localhost")
    assert streams[1].transport.is_closing()


async def test_a_server_that_ends_the_connection_is_told_of():
    async with answering(b"", []) as streams:
        with pytest.raises(PeerClosed):
            await judge_server(streams, client_config(), carriage=acredssp.RDP(), server_hostname="localhost")
        assert streams[1].transport.is_closing()

"""Callers of the SSPI functions with everybody else: our asyncio functions, and pyspnego's CredSSP."""

import asyncio
import contextlib
import random

import pytest
import spnego
from support.endpoints import BOB, client_config, server_config, tls_policy
from support.logon import ALICE, DELEGATED, server_tls
from support.sspi import OK, Client, Server, drive, inbound, outbound

from acredssp.aio.streams import open_connection, start_server
from acredssp.carriage.base import TLS
from acredssp.carriage.rdp import RDP
from acredssp.config import ClientConfig, ServerConfig
from acredssp.errors import AuthenticationError
from acredssp.policy import Policy
from acredssp.sspi import SecurityStatus
from acredssp.trust import Trust
from acredssp.wire.ts_credentials import TSPasswordCreds

HOST = "127.0.0.1"
TLS_VERSIONS = ["TLSv1.2", "TLSv1.3"]
MECHANISMS = ["ntlm", "negotiate"]
REQUEST = bytes.fromhex("03000013 0ee00000000000 01000800 03000000")
"""X.224 Connection Request with RDP_NEG_REQ for TLS and CredSSP ([MS-RDPBCGR] 2.2.1.1)."""
CONFIRM = bytes.fromhex("03000013 0ed00000123400 02000800 02000000")
"""X.224 Connection Confirm with RDP_NEG_RSP: CredSSP."""

EVERY_ROW = [
    *((version, "TLSv1.3", mechanism) for version in (2, 3, 4, 5, 6) for mechanism in MECHANISMS),
    *((6, "TLSv1.2", mechanism) for mechanism in MECHANISMS),
]


def policy(version=6, tls="TLSv1.3", mechanism="ntlm"):
    return tls_policy(
        tls,
        min_version=min(version, 5),
        max_version=version,
        mechanism=mechanism,
        dangerous_allow_legacy_versions=version < 5,
    )


def random_sizes(seed=1):
    source = random.Random(seed)
    return lambda: source.randint(1, source.choice((3, 40, 700)))


@contextlib.asynccontextmanager
async def aio_server(config, carriage):
    """Our server: its port, and a queue of who came."""
    came = asyncio.Queue()

    async def connected(_reader, writer):
        came.put_nowait(writer.get_extra_info("credssp"))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await start_server(connected, HOST, 0, config=config, carriage=carriage)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()
        server.abort_clients()
        await server.wait_closed()


@pytest.mark.parametrize("carriage", [TLS(), RDP()], ids=["tls", "rdp"])
@pytest.mark.parametrize(("version", "tls", "mechanism"), EVERY_ROW)
async def test_an_sspi_client_logs_on_to_an_asyncio_server(carriage, version, tls, mechanism):
    client = Client(await outbound(client_config(policy(version, tls, mechanism))))
    async with aio_server(server_config(policy(version, tls)), carriage) as (port, came):
        reader, writer = await asyncio.open_connection(HOST, port)
        if isinstance(carriage, RDP):
            writer.write(REQUEST)
            confirm = await reader.readexactly(19)
            assert confirm[11::4] == b"\x02\x02"
        await drive(client, reader, writer, random_sizes())
        assert client.status is OK, client.error
        info = await came.get()
        assert (info.version, info.mechanism, info.delegated) == (version, "ntlm", "password")
        assert str(info.principal) == f"{BOB.domain}\\{BOB.user}"
        writer.close()
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def sspi_server(config, *, rdp):
    """A server of the SSPI functions: its port, and a queue of callers that have come to an end."""
    ended, credential = asyncio.Queue(), await inbound(config)

    async def connected(reader, writer):
        if rdp:
            head = await reader.readexactly(4)
            await reader.readexactly(int.from_bytes(head[2:], "big") - 4)
            writer.write(CONFIRM)
        server = Server(credential)
        await drive(server, reader, writer, random_sizes())
        ended.put_nowait(server)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(connected, HOST, 0)
    try:
        yield listening.sockets[0].getsockname()[1], ended
    finally:
        listening.close()
        await listening.wait_closed()


@pytest.mark.parametrize("carriage", [TLS(), RDP()], ids=["tls", "rdp"])
@pytest.mark.parametrize(("version", "tls", "mechanism"), EVERY_ROW)
async def test_an_asyncio_client_logs_on_to_an_sspi_server(carriage, version, tls, mechanism):
    async with sspi_server(server_config(policy(version, tls)), rdp=isinstance(carriage, RDP)) as (port, ended):
        config = client_config(policy(version, tls, mechanism))
        _reader, writer = await open_connection(HOST, port, config=config, carriage=carriage)
        server = await ended.get()
        assert server.status is OK, server.error
        info = server.handle.state.context.info
        assert (info.version, info.mechanism) == (version, "ntlm")
        assert str(info.principal) == f"{BOB.domain}\\{BOB.user}"
        credentials = server.handle.state.context.take_credentials()
        assert credentials == TSPasswordCreds.of(BOB.domain, BOB.user, BOB.password)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_refusal_crosses_over_in_both_directions():
    async with aio_server(server_config(lookup=lambda _: None), TLS()) as (port, _):
        client = Client(await outbound())
        reader, writer = await asyncio.open_connection(HOST, port)
        await drive(client, reader, writer)
        assert client.status is SecurityStatus.SEC_E_LOGON_DENIED
        writer.close()
        await writer.wait_closed()
    async with sspi_server(server_config(lookup=lambda _: None), rdp=False) as (port, ended):
        with pytest.raises(AuthenticationError):
            await open_connection(HOST, port, config=client_config(), carriage=TLS())
        assert (await ended.get()).status is SecurityStatus.SEC_E_LOGON_DENIED


# --- pyspnego: version 6 and RSA keys ---


@pytest.fixture(autouse=True)
def accounts(tmp_path, monkeypatch):
    path = tmp_path / "accounts"
    path.write_text("CONTOSO:alice:Passw0rd!\n", encoding="ascii")
    monkeypatch.setenv("NTLM_USER_FILE", str(path))
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")


SERVERS = {
    tls: ServerConfig(ssl_context=server_tls(tls_policy(tls), "rsa"), lookup=lambda _: ALICE, policy=Policy())
    for tls in TLS_VERSIONS
}


async def converse(caller, peer, token=b""):
    """Pass whole flights between a caller and pyspnego, which reads files and so steps in a thread."""
    for _ in range(10):
        theirs = b"" if peer.complete else await asyncio.to_thread(peer.step, token) or b""
        token = b"" if caller.done else b"".join(await caller.feed(theirs))
        if peer.complete and caller.done:
            return
    pytest.fail(f"no end: {caller.status}, {caller.error}")


@pytest.mark.parametrize("tls", TLS_VERSIONS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_an_sspi_client_logs_on_to_pyspnego(tls, mechanism):
    def make():
        return spnego.server(protocol="credssp", credssp_negotiate_context=spnego.server(protocol=mechanism))

    acceptor = await asyncio.to_thread(make)
    config = ClientConfig(authenticate=ALICE, policy=tls_policy(tls, mechanism=mechanism), trust=Trust())
    client = Client(await outbound(config))
    await converse(client, acceptor, await client.call())
    assert client.status is OK, client.error
    assert acceptor.client_principal == "CONTOSO\\alice"
    delegated = acceptor.get_extra_info("client_credential")
    assert (delegated.domain_name, delegated.username, delegated.password) == ("CONTOSO", "alice", "Passw0rd!")


@pytest.mark.parametrize("tls", TLS_VERSIONS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_pyspnego_logs_on_to_an_sspi_server(tls, mechanism):
    def make():
        inner = spnego.client(
            "CONTOSO\\alice", "Passw0rd!", hostname="localhost", service="TERMSRV", protocol=mechanism
        )
        return spnego.client("CONTOSO\\alice", "Passw0rd!", protocol="credssp", credssp_negotiate_context=inner)

    server = Server(await inbound(SERVERS[tls]))
    await converse(server, await asyncio.to_thread(make))
    assert server.status is OK, server.error
    assert str(server.handle.state.context.info.principal) == "CONTOSO\\alice"
    assert server.handle.state.context.take_credentials() == DELEGATED

"""The SSPI functions and FreeRDP: a client that calls nothing else, and a server, over sockets and in random cuts.

What is read and when the function is called again follows from MISSING and EXTRA alone. The RDP negotiation before it
is written out by hand.
"""

import asyncio
import random

import pytest
from asn1crypto import pem as asn1_pem
from asn1crypto import x509 as asn1_x509
from support import freerdp
from support.endpoints import tls_policy
from support.engine import pem
from support.hosted import look_up
from support.logon import server_tls
from support.peers import free_port
from support.sspi import ASKED, OK, Client, Server, drive, inbound, outbound

from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.states import State
from acredssp.credentials import Password
from acredssp.policy import Policy
from acredssp.sspi import (
    CREDSSP_CRED,
    SCHANNEL_CRED,
    SEC_WINNT_AUTH_IDENTITY,
    SECPKG_ATTR_ISSUER_LIST_EX,
    CertContext,
    CredsspSubmitBufferBoth,
    QueryContextAttributes,
    SecPkgContext_IssuerListInfoEx,
    SecurityStatus,
)
from acredssp.tls_config import self_signed
from acredssp.trust import Trust
from acredssp.wire import tls_record
from acredssp.wire.ts_credentials import TSPasswordCreds

pytestmark = pytest.mark.interop

REQUEST = bytes.fromhex("03000013 0ee00000000000 01000800 03000000")
"""X.224 Connection Request with RDP_NEG_REQ for TLS and CredSSP ([MS-RDPBCGR] 2.2.1.1)."""
CONFIRM = bytes.fromhex("03000013 0ed00000123400 02000800 02000000")
"""X.224 Connection Confirm with RDP_NEG_RSP: CredSSP."""
ALICE = TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!")

# As for `acredssp login`: FreeRDP 2 takes raw NTLM alone, FreeRDP 3 binds versions below 5 to a key of zeros.
SOUND = [
    *((2, "ntlm", version) for version in (2, 5, 6)),
    *((3, mechanism, version) for mechanism in ("ntlm", "negotiate") for version in (5, 6)),
]


def policy(version=6, mechanism="ntlm", tls=None):
    fields = {
        "min_version": version,
        "max_version": version,
        "mechanism": mechanism,
        "dangerous_allow_legacy_versions": version < 5,
    }
    return tls_policy(tls, **fields) if tls else Policy(**fields)


class Counted:
    """A stream of random cuts: what was read, for the number of calls it may take."""

    def __init__(self, reader, seed):
        self._reader, self._source = reader, random.Random(seed)
        self.stream, self.ends = b"", []

    async def read(self, _size):
        piece = await self._reader.read(self._source.randint(1, self._source.choice((3, 40, 700))))
        self.stream += piece
        self.ends.append(len(self.stream))
        return piece

    def hold(self, caller):
        """At most two calls for each record, one for each cut, and a client's first."""
        boundaries, place = set(), 0
        while (end := tls_record.record_end(self.stream, place)) <= len(self.stream):
            place = end
            boundaries.add(place)
        cuts = sum(end not in boundaries for end in self.ends)
        assert caller.calls <= 2 * len(boundaries) + cuts + 1


# --- a client ---


async def log_on(port, client, seed):
    """Log on to an RDP server that demands CredSSP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert (await reader.readexactly(19))[11::4] == b"\x02\x02"
    counted = Counted(reader, seed)
    await drive(client, counted, writer)
    counted.hold(client)
    writer.close()
    await writer.wait_closed()


def alice(version=6, mechanism="ntlm", password="Passw0rd!", tls=None):
    who = Password(password, "alice", "CONTOSO")
    return ClientConfig(authenticate=who, policy=policy(version, mechanism, tls), trust=Trust())


async def client_of(config):
    return Client(await outbound(config), target="TERMSRV/127.0.0.1")


@pytest.mark.parametrize(("server", "mechanism", "version"), SOUND)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_client_logs_on(shadow_server, server, mechanism, version, seed):
    async def run():
        client = await client_of(alice(version, mechanism))
        await log_on(shadow_server(server).port, client, seed)
        assert client.status is OK, client.error
        assert client.handle.state.context.info.version == version

    asyncio.run(run())


@pytest.mark.parametrize("server", [2, 3])
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
def test_a_client_logs_on_in_either_version_of_tls(shadow_server, server, tls):
    async def run():
        client = await client_of(alice(tls=tls))
        await log_on(shadow_server(server).port, client, 3)
        assert client.status is OK, client.error
        assert client.handle.state.context.info.tls_version == tls

    asyncio.run(run())


def test_a_wrong_password_is_denied(shadow_server):
    async def run():
        client = await client_of(alice(password="wrong"))
        await log_on(shadow_server(3).port, client, 4)
        assert client.status is SecurityStatus.SEC_E_LOGON_DENIED
        assert client.error.nt_status == 0xC00700EA

    asyncio.run(run())


# --- a server ---


def lets_in(lab, client, config, seed, *arguments):
    """Run FreeRDP's client against a server of the SSPI functions: the server's caller, and the client's status."""

    async def run():
        ended, credential = asyncio.get_running_loop().create_future(), await inbound(config)

        async def connected(reader, writer):
            head = await reader.readexactly(4)
            await reader.readexactly(int.from_bytes(head[2:], "big") - 4)
            writer.write(CONFIRM)
            server, counted = Server(credential), Counted(reader, seed)
            await drive(server, counted, writer)
            counted.hold(server)
            writer.close()
            ended.set_result(server)

        listening = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        run = await asyncio.to_thread(freerdp.log_on, lab, client, f"127.0.0.1:{port}", *arguments)
        server = await asyncio.wait_for(ended, 120)
        listening.close()
        return server, run.status

    return asyncio.run(run())


def config_of(version=6, tls=None):
    own = policy(version, tls=tls)
    return ServerConfig(ssl_context=server_tls(own), lookup=look_up, policy=own)


@pytest.mark.parametrize("client", [2, 3])
@pytest.mark.parametrize("version", [2, 5, 6])
@pytest.mark.parametrize("tls", ["TLSv1.2", "TLSv1.3"])
def test_a_server_is_logged_on_to(graphical_lab, client, version, tls):
    server, status = lets_in(graphical_lab, client, config_of(version, tls), version)
    assert server.status is OK, server.error
    assert status == freerdp.LOGGED_ON
    info = server.handle.state.context.info
    assert (info.version, info.tls_version) == (version, tls)
    assert str(info.principal) == "CONTOSO\\alice"
    assert server.handle.state.context.take_credentials() == ALICE


@pytest.mark.parametrize("client", [2, 3])
def test_a_server_refuses_a_wrong_password(graphical_lab, client):
    server, status = lets_in(graphical_lab, client, config_of(), 7, "/p:wrong")
    assert server.status is SecurityStatus.SEC_E_LOGON_DENIED
    assert status == freerdp.LOGON_FAILED


# --- OpenSSL's server, which names its authorities ---


def start_s_server(lab, tmp_path, version):
    """OpenSSL's server with a P-256 certificate of its own; it asks for one that our P-384 authority issued."""
    for name in ("ec", "p384"):
        (tmp_path / f"{name}.pem").write_bytes(b"".join(pem(name)))
    port = free_port()
    argv = [
        "openssl", "s_server", "-accept", f"127.0.0.1:{port}", version, "-cert", tmp_path / "ec.pem",
        "-key", tmp_path / "ec.pem", "-CAfile", tmp_path / "p384.pem", "-verify", "1", "-naccept", "1", "-rev",
    ]  # fmt: skip
    return lab.start_server(argv, port), port


STRANGER = self_signed(["client.example"], "ec")


def with_certificate(certificate=None):
    """Alice's password, and a client's certificate."""
    schannel = SCHANNEL_CRED(paCred=[CertContext(*certificate)] if certificate else [], hRootStore=Trust())
    identity = SEC_WINNT_AUTH_IDENTITY(User="alice", Domain="CONTOSO", Password="Passw0rd!")
    return CREDSSP_CRED(CredsspSubmitBufferBoth, schannel, identity)


def subject(certificate):
    return asn1_x509.Certificate.load(asn1_pem.unarmor(certificate)[2]).subject.dump()


async def shake_hands(port, client, seed):
    """Bring TLS up, send the first TSRequest and leave; the authorities if the client was asked for a certificate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    counted, authorities = Counted(reader, seed), None
    tokens = [await client.call()]
    while client.handle.state.context.state is State.TLS:
        writer.write(b"".join(tokens))
        if client.status is ASKED:
            authorities = await query_authorities(client)
            client.credential = await outbound(with_certificate(pem("p384")))
            tokens = [await client.call(client.received)]
        else:
            tokens = await client.feed(await counted.read(None))
    writer.write(b"".join(tokens))
    writer.close()
    await writer.wait_closed()
    return authorities


async def query_authorities(client):
    info = SecPkgContext_IssuerListInfoEx()
    assert await QueryContextAttributes(client.handle, SECPKG_ATTR_ISSUER_LIST_EX, info) is OK
    return info.aIssuers


@pytest.mark.requirement("R64", "R95", "R96")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("first", "asked"),
    [
        pytest.param(None, True, id="no_certificate"),
        pytest.param(STRANGER, True, id="another_authoritys"),
        pytest.param(pem("p384"), False, id="an_acceptable_one"),
    ],
)
def test_a_certificate_of_an_authority_that_the_server_names(lab, tmp_path, version, first, asked):
    server, port = start_s_server(lab, tmp_path, version)

    async def run():
        client = await client_of(with_certificate(first))
        return await shake_hands(port, client, 5)

    assert asyncio.run(run()) == ([subject(pem("p384")[0])] if asked else None)
    server.wait()
    assert "verify return:1" in server.read()

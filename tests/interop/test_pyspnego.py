"""Our engine, TLS inside, against pyspnego's own CredSSP (version 6 only, RSA keys only).

Its client never returns from bytes that hold a close_notify: so nothing that has one is given to it in this process.
"""

import asyncio
import ssl
import subprocess
import sys

import pytest
import spnego
from spnego.exceptions import SpnegoError
from support import warm

from acredssp.aio.streams import start_server
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import Delegate, LookupCredential
from acredssp.core.states import State
from acredssp.credentials import Password
from acredssp.errors import AuthenticationError
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.tls_config import self_signed, server_context_from_pem
from acredssp.wire.tls_record import record_end
from acredssp.wire.ts_credentials import TSPasswordCreds

TLS_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

pytestmark = [
    pytest.mark.parametrize("tls_version", TLS_VERSIONS, ids=["TLSv1.2", "TLSv1.3"]),
    pytest.mark.parametrize("mechanism", ["ntlm", "negotiate"]),
]


@pytest.fixture(autouse=True)
def accounts(tmp_path, monkeypatch):
    path = tmp_path / "accounts"
    path.write_text("CONTOSO:alice:Passw0rd!\n", encoding="ascii")
    monkeypatch.setenv("NTLM_USER_FILE", str(path))
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")


@pytest.fixture(scope="module")
def certificate():
    return self_signed(["localhost"], "rsa")


def policy(tls_version, mechanism="ntlm"):
    return Policy(
        min_tls=tls_version,
        max_tls=tls_version,
        mechanism=MechanismChoice(mechanism),
        dangerous_accept_any_certificate=True,
    )


def feed(context, data):
    """Our answer to some ciphertext, with alice's password for whoever asks and whoever is proven."""
    output = b""
    while True:
        result = context.step(data)
        output += result.output
        if result.event is not None:
            assert isinstance(result.event, LookupCredential | Delegate)
            answer = True if isinstance(result.event, Delegate) else Password("Passw0rd!")
            output += context.resume(result.event, answer).output
        data = data[len(data) - result.extra :]
        if not data or result.status is SecurityStatus.SEC_E_OK:
            assert not data
            return output
        assert result.status is not SecurityStatus.SEC_E_INCOMPLETE_MESSAGE, "pyspnego sends whole records"


def converse(context, peer, ours=b""):
    """Pass ciphertext between our context and pyspnego's until both are done; `ours` is our first.

    An empty step makes pyspnego go on where both are silent: after TLS 1.3's Finished it neither reads what came with
    it nor begins by itself.
    """
    for _ in range(10):
        theirs = b"" if peer.complete else peer.step(ours) or b""
        established = context.state is State.ESTABLISHED
        ours = b"" if established else feed(context, theirs)
        if peer.complete and context.state is State.ESTABLISHED:
            return
    pytest.fail(f"no end: we are in {context.state}, pyspnego in {peer.get_extra_info('auth_stage')}")


def test_our_client_logs_on(tls_version, mechanism):
    acceptor = spnego.server(protocol="credssp", credssp_negotiate_context=spnego.server(protocol=mechanism))
    config = ClientConfig(authenticate=Password("Passw0rd!", "alice", "CONTOSO"), policy=policy(tls_version, mechanism))
    context = config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    converse(context, acceptor, context.step().output)
    assert (context.info.version, context.info.mechanism) == (6, "ntlm")
    assert context.info.tls_version == tls_version.name.replace("v1_", "v1.")
    assert acceptor.client_principal == "CONTOSO\\alice"
    delegated = acceptor.get_extra_info("client_credential")
    assert (delegated.domain_name, delegated.username, delegated.password) == ("CONTOSO", "alice", "Passw0rd!")


@pytest.fixture
def server_config(tls_version, certificate):
    return ServerConfig(
        ssl_context=server_context_from_pem(policy(tls_version), *certificate),
        lookup=lambda _: Password("Passw0rd!"),
        policy=policy(tls_version),
    )


def their_client(mechanism, password="Passw0rd!"):
    inner = spnego.client("CONTOSO\\alice", password, hostname="localhost", service="TERMSRV", protocol=mechanism)
    return spnego.client("CONTOSO\\alice", password, protocol="credssp", credssp_negotiate_context=inner)


def test_our_server_lets_in(mechanism, server_config):
    context = server_config.new_context()
    converse(context, their_client(mechanism))
    assert (context.info.version, context.info.mechanism) == (6, "ntlm")
    assert str(context.info.principal) == "CONTOSO\\alice"
    assert context.take_credentials() == TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!")


def test_our_client_is_refused_by_their_status(tls_version, mechanism):
    acceptor = spnego.server(protocol="credssp", credssp_negotiate_context=spnego.server(protocol=mechanism))
    config = ClientConfig(authenticate=Password("wrong", "alice", "CONTOSO"), policy=policy(tls_version, mechanism))
    context = config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    token = context.step().output
    with pytest.raises(AuthenticationError) as refused:
        for _ in range(10):
            try:
                answer = acceptor.step(token)
            except SpnegoError:
                answer = acceptor._out_buff.read()
            token = feed(context, answer or b"")
    assert refused.value.security_status is SecurityStatus.SEC_E_LOGON_DENIED


def test_their_client_is_refused_in_one_record_that_it_understands(mechanism, server_config):
    context, initiator = server_config.new_context(), their_client(mechanism, "wrong")
    with pytest.raises(AuthenticationError):
        converse(context, initiator)
    assert record_end(context.last_token) == len(context.last_token) < len(context.farewell)
    with pytest.raises(SpnegoError) as refused:
        initiator.step(context.last_token)
    assert refused.value.nt_status & 0xFFFFFFFF == NTSTATUS.STATUS_LOGON_FAILURE


THEIR_CLIENT = """
import socket, sys, spnego
port, protocol, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
inner = spnego.client("CONTOSO\\\\alice", password, hostname="localhost", service="TERMSRV", protocol=protocol)
context = spnego.client("CONTOSO\\\\alice", password, protocol="credssp", credssp_negotiate_context=inner)
with socket.create_connection(("127.0.0.1", port)) as connected:
    received = b""
    while not context.complete:
        connected.sendall(context.step(received) or b"")
        tls = context.get_extra_info("ssl_object")
        silent = context.get_extra_info("auth_stage") == "TLS Handshake" and tls.version() == "TLSv1.3"
        # Behind TLS 1.3's handshake it begins by itself.
        received = b"" if context.complete or silent else connected.recv(65536)
print("logged on")
"""


@pytest.mark.parametrize("password", ["Passw0rd!", "wrong"])
async def test_their_client_over_a_socket_is_told_and_ends(mechanism, server_config, password):
    server = await start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, config=server_config)
    async with server:
        port = server.sockets[0].getsockname()[1]
        command = [sys.executable, "-c", THEIR_CLIENT, str(port), mechanism, password]
        run = await asyncio.to_thread(
            warm.run, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
        )
    output = run.stdout.decode()
    if password == "wrong":
        assert "InvalidCredentialError" in output, output
    else:
        assert output == "logged on\n"

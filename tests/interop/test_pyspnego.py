"""Our engine, TLS inside, against pyspnego's own CredSSP (version 6 only, RSA keys only)."""

import ssl

import pytest
import spnego

from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.events import Delegate, LookupCredential
from acredssp.core.states import State
from acredssp.credentials import Password
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import SecurityStatus
from acredssp.tls_config import self_signed, server_context_from_pem
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
            output += context.resume(answer).output
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


def test_our_server_lets_in(tls_version, mechanism, certificate):
    config = ServerConfig(
        ssl_context=server_context_from_pem(policy(tls_version), *certificate),
        lookup=lambda _: None,
        policy=policy(tls_version),
    )
    context = config.new_context()
    inner = spnego.client("CONTOSO\\alice", "Passw0rd!", hostname="localhost", service="TERMSRV", protocol=mechanism)
    initiator = spnego.client("CONTOSO\\alice", "Passw0rd!", protocol="credssp", credssp_negotiate_context=inner)
    converse(context, initiator)
    assert (context.info.version, context.info.mechanism) == (6, "ntlm")
    assert str(context.info.principal) == "CONTOSO\\alice"
    assert context.take_credentials() == TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!")

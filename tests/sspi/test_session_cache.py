"""TLS sessions are resumed under five conditions, each broken alone, against a TLS server that issues tickets."""

import ssl
import time
import types

import pytest
from support.engine import End, pem

from acredssp import tls_config
from acredssp.config import ClientConfig
from acredssp.core.context import SecurityContext
from acredssp.core.server import ServerHandshake
from acredssp.core.tls import TLSSession
from acredssp.credentials import Password
from acredssp.errors import AuthenticationError, PublicKeyMismatch
from acredssp.mechanisms.negotiate import DetectingAcceptor
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.policy import Policy
from acredssp.sspi import (
    ISC_REQ,
    SECBUFFER,
    SECPKG_CRED,
    AcquireCredentialsHandle,
    CredHandle,
    CtxtHandle,
    FreeCredentialsHandle,
    SecBuffer,
    SecBufferDesc,
    session_cache,
)
from acredssp.sspi.steps import InitializeSecurityContext
from acredssp.status import SecurityStatus
from acredssp.trust import Trust, pin_of

ALICE = Password("Passw0rd!", "alice", "CONTOSO")
TLS = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}
TARGET = "TERMSRV/localhost"


@pytest.fixture(autouse=True)
def cache(monkeypatch):
    cache = session_cache.SessionCache()
    monkeypatch.setattr("acredssp.sspi.first_call.sessions", cache)
    monkeypatch.setattr("acredssp.sspi.context.sessions", cache)
    monkeypatch.setattr("acredssp.sspi.credentials.sessions", cache)
    return cache


@pytest.fixture(params=TLS)
def version(request):
    return TLS[request.param]


@pytest.fixture
def server_tls(version):
    """Not a context of ours: it issues tickets, and resumes."""
    ours = tls_config.server_context_from_pem(Policy(min_tls=version, max_tls=version), *pem("ec"))
    ours.options &= ~ssl.OP_NO_TICKET
    ours.num_tickets = 2
    return ours


async def credentials(*, resumption=True, logon_id=None) -> CredHandle:
    certificate = ssl.PEM_cert_to_DER_cert(pem("ec")[0].decode())
    config = ClientConfig(
        authenticate=ALICE, policy=Policy(tls_resumption=resumption), trust=Trust.pinned(pin_of(certificate))
    )
    handle = CredHandle()
    status = await AcquireCredentialsHandle(
        None, "CREDSSP", SECPKG_CRED.OUTBOUND, logon_id, config, phCredential=handle
    )
    assert status is SecurityStatus.SEC_E_OK
    return handle


def server(context: ssl.SSLContext) -> SecurityContext:
    acceptor = DetectingAcceptor([NTLMAcceptor(Policy(), NTLMIdentity("SERVER"))])
    return SecurityContext(ServerHandshake(acceptor, Policy()), TLSSession(context, server_side=True))


class Client:
    """One context's calling loop, without cuts."""

    def __init__(self, credential: CredHandle, target: str) -> None:
        self.handle = CtxtHandle()
        self.established = False
        self._credential = credential
        self._target = target

    @property
    def tls(self) -> TLSSession:
        return self.handle.state.context.tls

    async def step(self, data: bytes) -> bytes:
        """Give all of `data`; return what it answers."""
        answer = b""
        while True:
            first = not self.handle.valid
            received = None if first else SecBufferDesc([SecBuffer(SECBUFFER.TOKEN, data), SecBuffer()])
            token = SecBufferDesc([SecBuffer(SECBUFFER.TOKEN)])
            status = await InitializeSecurityContext(
                self._credential, None if first else self.handle, self._target, ISC_REQ.ALLOCATE_MEMORY,
                pInput=received, phNewContext=self.handle, pOutput=token,
            )  # fmt: skip
            assert status in (SecurityStatus.SEC_E_OK, SecurityStatus.SEC_I_CONTINUE_NEEDED), self.handle.error
            answer += bytes(token.pBuffers[0])
            self.established = status is SecurityStatus.SEC_E_OK
            spare = received.pBuffers[1] if received else SecBuffer()
            if self.established or spare.type != SECBUFFER.EXTRA:
                return answer
            data = data[len(data) - spare.cbBuffer :]


async def log_on(credential: CredHandle, context: ssl.SSLContext, target: str = TARGET) -> bool:
    """Whether the connection resumed a session, by the word of both ends."""
    client, peer = Client(credential, target), End(server(context), lambda event: ALICE)
    flight = await client.step(b"")
    while not peer.done:
        reply = peer.step(flight)
        flight = await client.step(reply) if reply else b""
    assert client.established
    assert client.tls.session_reused == peer.context.tls.session_reused
    return client.tls.session_reused


@pytest.mark.requirement("R14", "R15")
async def test_a_second_connection_resumes_where_all_conditions_hold(server_tls):
    credential = await credentials()
    assert [await log_on(credential, server_tls) for _ in range(3)] == [False, True, True]


async def test_it_is_off_unless_the_policy_turns_it_on(server_tls, cache):
    credential = await credentials(resumption=False)
    assert [await log_on(credential, server_tls) for _ in range(2)] == [False, False]
    assert len(cache) == 0


@pytest.mark.requirement("R15")
async def test_another_target_does_not_resume(server_tls):
    credential = await credentials()
    assert not await log_on(credential, server_tls)
    assert not await log_on(credential, server_tls, "TERMSRV/127.0.0.1")
    assert await log_on(credential, server_tls, "termsrv/LOCALHOST")


@pytest.mark.requirement("R15")
async def test_an_expired_session_does_not_resume(server_tls, monkeypatch):
    credential = await credentials()
    assert not await log_on(credential, server_tls)
    later = time.time() + 10 * 24 * 3600
    with monkeypatch.context() as patch:
        patch.setattr(session_cache, "time", types.SimpleNamespace(time=lambda: later))
        assert not await log_on(credential, server_tls)


@pytest.mark.requirement("R15")
async def test_another_process_does_not_resume(server_tls, monkeypatch):
    credential = await credentials()
    assert not await log_on(credential, server_tls)
    with monkeypatch.context() as patch:
        patch.setattr(session_cache, "os", types.SimpleNamespace(getpid=lambda: 4711))
        assert not await log_on(credential, server_tls)
    assert await log_on(credential, server_tls)


@pytest.mark.requirement("R15")
async def test_another_logon_session_does_not_resume(server_tls, monkeypatch):
    credential = await credentials()
    assert not await log_on(credential, server_tls)
    with monkeypatch.context() as patch:
        patch.setattr(session_cache, "logon_session", lambda _logon_id: (4711,))
        assert not await log_on(credential, server_tls)
    assert await log_on(credential, server_tls)


@pytest.mark.requirement("R15")
async def test_another_credentials_handle_does_not_resume(server_tls):
    first, second = await credentials(), await credentials()
    assert not await log_on(first, server_tls)
    assert not await log_on(second, server_tls)
    assert await log_on(first, server_tls)


async def test_a_freed_handle_takes_its_sessions_with_it(server_tls, cache):
    credential = await credentials()
    await log_on(credential, server_tls)
    assert len(cache) == 1
    await FreeCredentialsHandle(credential)
    assert len(cache) == 0


async def test_a_ticket_of_tls13_is_used_once(server_tls, version, cache):
    credential = await credentials()
    await log_on(credential, server_tls)
    state = credential.state
    target = session_cache.Target.parse(TARGET)
    assert cache.take(state, target) is not None
    assert (cache.take(state, target) is None) == (version is TLS["tls13"])


@pytest.mark.requirement("R15")
async def test_a_resumed_connection_is_still_bound_to_the_certificate_of_its_session(server_tls):
    """A server that resumes without holding the certificate's key cannot prove it."""
    credential = await credentials()
    assert not await log_on(credential, server_tls)
    client = Client(credential, TARGET)
    peer = End(server(server_tls), lambda event: exchange_key(peer))

    def exchange_key(peer: End) -> Password:
        key = peer.context.handshake.public_key
        peer.context.handshake.public_key = key[:-1] + bytes((key[-1] ^ 1,))
        peer.context.handshake.ask_key = None  # or else it learns its own key anew, as after a renewal
        return ALICE

    with pytest.raises(PublicKeyMismatch):
        flight = await client.step(b"")
        while True:
            flight = await client.step(peer.step(flight))
    assert peer.context.tls.session_reused


@pytest.mark.requirement("tls.resumed-logon")
async def test_a_resumed_connection_takes_the_whole_logon(server_tls):
    credential = await credentials()
    assert not await log_on(credential, server_tls)
    client, peer = Client(credential, TARGET), End(server(server_tls), lambda event: Password("another"))
    with pytest.raises(AuthenticationError):
        flight = await client.step(b"")
        while True:
            flight = await client.step(peer.step(flight))
    assert peer.context.tls.session_reused


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(session_cache, "_MOST_TARGETS", 2)
    cache = session_cache.SessionCache()

    class Session:
        has_ticket, id, timeout, ticket_lifetime_hint, time = True, b"", 300, 0, 0

    class Credential:
        serial, logon_id, alive = 1, 0x3E7, True

    class Connection:
        session, version = Session(), "TLSv1.2"

    for name in ("a", "b", "c"):
        cache.keep(Credential(), session_cache.Target(name, name), Connection())
    assert len(cache) == 2

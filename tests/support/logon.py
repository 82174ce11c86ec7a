"""acredssp's whole client and server, for tests in which one of them, or an attacker in between, misbehaves.

`client()` and `server()` are ends for `support.engine.converse`, with real NTLM and, unless `bare`, real TLS.
`attack()` lets them talk through an attacker who changes anything, and checks what must hold for both in any case.
"""

import dataclasses
import functools
import hmac
import ssl
from collections.abc import Callable

import pytest
from support.engine import End, answers_of, client_tls, pem, server_tls

from acredssp import tls_config
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.client import ClientHandshake
from acredssp.core.events import AskOracle, LookupCredential
from acredssp.core.states import State
from acredssp.core.tls import TLSSession
from acredssp.credentials import Deny, Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import NTLMExchange
from acredssp.policy import MechanismChoice, Policy
from acredssp.trust import Trust, pin_of
from acredssp.wire import tls_record
from acredssp.wire.ts_credentials import TSPasswordCreds
from acredssp.wire.ts_request import TSRequest
from acredssp.wire.x509 import subject_public_key

ALICE = Password("Passw0rd!", "alice", "CONTOSO")
DELEGATED = TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!")
MECHANISMS = (MechanismChoice.NTLM, MechanismChoice.NEGOTIATE)
TLS_POLICIES = {
    "tls12": Policy(max_tls=ssl.TLSVersion.TLSv1_2),
    "tls13": Policy(min_tls=ssl.TLSVersion.TLSv1_3),
}
DEFAULT = Policy()


@functools.cache
def certificate(key_type: str = "rsa") -> bytes:
    """The certificate of that key, in DER."""
    return ssl.PEM_cert_to_DER_cert(pem(key_type)[0].decode())


@functools.cache
def public_key(key_type: str = "rsa") -> bytes:
    """The SubjectPublicKey of that certificate."""
    return subject_public_key(certificate(key_type))


def policy_of(**fields: object) -> Policy:
    """A policy in which every version may be asked for."""
    return Policy(dangerous_allow_legacy_versions=True, **fields)


def client(policy=DEFAULT, *, authenticate=ALICE, key_type="rsa", bare=False, carriage=None, **fields) -> End:
    """Return a client that trusts only the certificate of `key_type`; `carriage` wraps its context."""
    trust = None if policy.dangerous_accept_any_certificate else Trust.pinned(pin_of(certificate(key_type)))
    fields.setdefault("ssl_context", client_tls(policy))
    config = ClientConfig(authenticate=authenticate, policy=policy, trust=trust, **fields)
    if bare:
        return End(
            config.new_bare_context(public_key=public_key(key_type), spn="TERMSRV/localhost"), answers_of(config)
        )
    context = config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
    carried = carriage.initiator(context) if carriage else context

    decide = answers_of(config)

    def answer(event):
        try:
            return decide(event)
        except CredSSPError as error:
            carried.fail(error)
            raise

    return End(carried, answer)


def server(policy=DEFAULT, *, lookup=ALICE, key_type="rsa", bare=False, carriage=None) -> End:
    """A server whose lookup answers with `lookup`, whoever asks."""
    config = ServerConfig(ssl_context=server_tls(policy, key_type), lookup=lambda request: lookup, policy=policy)

    def answer(event):
        match event:
            case LookupCredential():
                return lookup
            case AskOracle(oracle, exchange):
                return oracle.verify(exchange)
        return True

    if bare:
        return End(config.new_bare_context(public_key=public_key(key_type)), answer)
    return End(carriage.acceptor(config) if carriage else config.new_context(), answer)


def session_base_key(exchange: NTLMExchange, password: Password) -> bytes | Deny:
    """What an oracle that knows the password answers, by the standard library alone."""

    def mac(key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, "md5").digest()

    key = mac(password.nt_hash, (exchange.user.upper() + exchange.domain).encode("utf-16-le"))
    proof = mac(key, exchange.server_challenge + exchange.nt_response[16:])
    return mac(key, proof) if proof == exchange.nt_response[:16] else Deny()


def established(end: End) -> bool:
    """Whether the end takes its handshake for a success."""
    return end.context.context.state is State.ESTABLISHED


def attack(client: End, server: End, tamper: Callable[[int, str, bytes], bytes] = lambda n, d, flight: flight) -> None:
    """Let both ends talk through `tamper(number, direction, flight)`, which says what the other end gets.

    An end that fails sends its farewell and gets nothing any more. When neither end has anything to send, the
    connection ends. This function lets no exception but `CredSSPError` pass, and checks afterwards:

    - a server that succeeded has exactly what the client delegated, from the client's user;
    - a client that delegated did so to a server that had proven its key;
    - an error is sticky, and has a stage and a failing status.
    """
    flight, number, sender, receiver, direction = client.step(b""), 0, client, server, "c2s"
    failed: dict[int, CredSSPError] = {}
    while flight and number < 50:
        flight = tamper(number, direction, flight)
        number += 1
        sender, receiver = receiver, sender
        direction = "s2c" if direction == "c2s" else "c2s"
        flight = _hear(sender, flight, failed)
    for end in (client, server):
        if id(end) not in failed and not end.done:
            try:
                end.context.receive_eof()
            except CredSSPError as error:
                failed[id(end)] = error
    hold(client, server)
    for end in (client, server):
        if error := failed.get(id(end)):
            hold_error(end, error)


def _hear(end: End, flight: bytes, failed: dict[int, CredSSPError]) -> bytes:
    if id(end) in failed or end.done or not flight:
        return b""
    try:
        return end.step(flight)
    except CredSSPError as error:
        failed[id(end)] = error
        return end.context.farewell


def hold(client: End, server: End) -> None:
    """Check what must be true of a client and a server of acredssp, whatever happened between them."""
    if established(server):
        assert server.context.context.take_credentials() == DELEGATED
        assert str(server.context.context.info.principal) == "CONTOSO\\alice"
    else:
        assert server.context.context.take_credentials() is None
    if established(client):
        assert server.context.context.handshake._proven


def hold_error(end: End, error: CredSSPError) -> None:
    """Check what must be true of an end that failed."""
    assert error.stage is not None
    assert error.security_status.failed
    for call in (end.context.step, end.context.receive_eof, lambda: end.context.resume(None, True)):
        with pytest.raises(CredSSPError) as again:
            call()
        assert again.value is error, "a failure is not sticky"


def records(data: bytes) -> list[bytes]:
    """Whole TLS records, one by one."""
    found, offset = [], 0
    while offset < len(data):
        end = tls_record.record_end(data, offset)
        found.append(data[offset:end])
        offset = end
    return found


def tls_peer(policy: Policy = DEFAULT, *, server_side: bool, key_type: str = "rsa") -> TLSSession:
    """A TLS end that knows nothing of CredSSP."""
    if server_side:
        return TLSSession(server_tls(policy, key_type), server_side=True)
    return TLSSession(tls_config.client_context(policy), server_side=False)


def come_up(end: End, peer: TLSSession) -> bytes:
    """Complete TLS between an end and a bare TLS peer; return the plaintext that the end has sent by then."""
    flight = b""
    for _ in range(6):
        if isinstance(end.context.context.handshake, ClientHandshake) or flight:
            flight = end.step(flight)
        up = peer.handshake(flight)
        flight = peer.output()
        if up and not flight:
            return peer.read()
    raise AssertionError("tls does not come up")


def say(end: End, peer: TLSSession, plaintext: bytes) -> bytes:
    """Send plaintext through a TLS peer to an end; return the decrypted answer."""
    peer.write(plaintext)
    reply = end.step(peer.output())
    return peer.read(reply)


def flights(mechanism: MechanismChoice = MechanismChoice.NTLM, policy: Policy = DEFAULT) -> list[bytes]:
    """The TSRequests of one good conversation in the bare shape, the client's first."""
    said: list[bytes] = []

    def listen(number, direction, flight):
        said.append(flight)
        return flight

    attack(*bare_pair(mechanism, policy), listen)
    return said


def bare_pair(mechanism: MechanismChoice = MechanismChoice.NTLM, policy: Policy = DEFAULT) -> tuple[End, End]:
    """A client and a server in the bare shape."""
    policy = dataclasses.replace(policy, mechanism=mechanism)
    return client(policy, bare=True), server(policy, bare=True)


def carries(field: str, flight: bytes) -> bool:
    """Whether a TSRequest has the field."""
    return getattr(TSRequest.decode(flight), field) is not None

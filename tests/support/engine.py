"""Helpers for tests of the engine: certificates, a mechanism that plays a script, and a driver for two contexts."""

import datetime as dt
import functools
import random
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from acredssp import tls_config
from acredssp.config import ClientConfig
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.events import Delegate, Event, JudgeCertificate
from acredssp.core.results import StepResult
from acredssp.core.server import ServerHandshake
from acredssp.core.tls import TLSSession
from acredssp.errors import CredSSPError, RemoteProtocolError
from acredssp.mechanisms.base import Principal, Progress, Sealing
from acredssp.policy import Policy
from acredssp.status import SecurityStatus
from acredssp.wire.ts_credentials import TSCredentials, TSPasswordCreds

ALICE = TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!")
KEY = b"\x30\x82 a SubjectPublicKey"


def pem(key_type: str = "rsa") -> tuple[bytes, bytes]:
    """Return a certificate and its key, made once in a run: `rsa` and `ec` by acredssp, others by hand."""
    return _made(key_type)


@functools.cache
def _made(key_type: str) -> tuple[bytes, bytes]:
    if key_type in ("rsa", "ec"):
        return tls_config.self_signed(["localhost", "127.0.0.1"], key_type)
    return certificate_for(OTHER_KEYS[key_type]())


OTHER_KEYS = {
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def certificate_for(key) -> tuple[bytes, bytes]:
    """A certificate as plain as it can be, and its key, in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256())
    )
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(*pkcs8)


class Script:
    """A mechanism that sends the tokens of a script, whatever tokens it receives.

    `step` returns the `tokens` one after the other. If a token is an event, the mechanism asks it, and the answer
    becomes the token. The mechanism is complete at the end of the script.
    """

    def __init__(self, *tokens: Progress, name: str = "script", authenticates_server: bool = False) -> None:
        self._tokens = list(tokens)
        self.name = name
        self.fallback = ""
        self.authenticates_server, self.ends = authenticates_server, None
        self.got: list[bytes] = []
        self.answers: list[object] = []
        self._sealed = 0
        self.principal = Principal("alice", "CONTOSO")

    @property
    def complete(self) -> bool:
        return not self._tokens

    def step(self, token: bytes) -> Progress:
        self.got.append(token)
        return self._tokens.pop(0)

    def resume(self, answer: object) -> Progress:
        self.answers.append(answer)
        if isinstance(answer, CredSSPError):
            raise answer
        return self._tokens.pop(0)

    @property
    def sealing(self) -> Sealing:
        return self.wrap, self.unwrap

    def wrap(self, plaintext: bytes) -> bytes:
        return b"sealed:" + plaintext

    def unwrap(self, sealed: bytes) -> bytes:
        if not sealed.startswith(b"sealed:"):
            raise RemoteProtocolError("the seal does not open", security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED)
        return sealed[7:]


def script_client(
    *tokens: Progress, credentials: TSCredentials = ALICE, policy: Policy | None = None, **kw: object
) -> SecurityContext:
    """Return a bare client. Unless `tokens` are given, it sends two, as raw NTLM does."""
    mechanism = Script(*(tokens or (b"c1", b"c2")))
    handshake = ClientHandshake(mechanism, credentials, policy or Policy(), random=bytes, **kw)
    return SecurityContext(handshake, None, public_key=KEY)


def script_server(*tokens: Progress, policy: Policy | None = None, **kw: object) -> SecurityContext:
    """Return a bare server. Unless `tokens` are given, it sends a challenge and is then complete."""
    mechanism = Script(*(tokens or (b"s1", b"")))
    return SecurityContext(ServerHandshake(mechanism, policy or Policy(), **kw), None, public_key=KEY)


def answers_of(config: ClientConfig, name: str = "localhost") -> Callable[[Event], object]:
    """Return a client's answers by its configuration: whether the certificate is trusted, and what is delegated."""

    def answer(event: Event) -> object:
        if isinstance(event, JudgeCertificate):
            return config.judge(event.chain, name)
        assert isinstance(event, Delegate)
        return config.decide(event)

    return answer


Cut = Callable[[bytes, int], bytes]


def whole(data: bytes, _missing: int) -> bytes:
    """Return all bytes that are there."""
    return data


def byte_by_byte(data: bytes, _missing: int) -> bytes:
    """One byte."""
    return data[:1]


def as_missing(data: bytes, missing: int) -> bytes:
    """Just what the context asked for."""
    return data[: max(missing, 1)]


def random_cuts(seed: int) -> Cut:
    """Between one byte and some hundred."""
    source = random.Random(seed)
    return lambda data, _missing: data[: source.randint(1, source.choice((3, 40, 700)))]


CUTS: dict[str, Cut] = {
    "whole": whole,
    "byte_by_byte": byte_by_byte,
    "as_missing": as_missing,
    "random_1": random_cuts(1),
    "random_2": random_cuts(2),
}


@dataclass
class End:
    """One end of a wire: a context (or a carriage's handshake), and the bytes that it has received but not taken."""

    context: SecurityContext
    answer: Callable[[object], object] = lambda event: True
    wire: bytearray = field(default_factory=bytearray)
    """Bytes on the way to this end."""
    held: bytes = b""
    """Bytes that arrived and that the context did not take."""
    missing: int = 0
    done: bool = False
    calls: int = 0
    results: list[StepResult] = field(default_factory=list)

    def step(self, data: bytes) -> bytes:
        """Give `data` to the context, answer its events, and return what it sends."""
        self.held += data
        output = b""
        while True:
            self.calls += 1
            result = self.context.step(self.held)
            self._check(result)
            output += result.output
            self.held = self.held[len(self.held) - result.extra :] if result.extra else b""
            while result.event is not None:
                result = self.context.resume(result.event, self.answer(result.event))
                self.results.append(result)
                output += result.output
            self.missing = result.missing
            if result.status is SecurityStatus.SEC_E_OK:
                self.done = True
                return output
            if result.missing or not self.held:
                return output

    def _check(self, result: StepResult) -> None:
        """Check what holds for every result: its bounds, and the promise of INCOMPLETE_MESSAGE."""
        self.results.append(result)
        assert 0 <= result.extra <= len(self.held)
        if result.status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            assert result.missing > 0
            assert result.extra == len(self.held)
            assert not result.output
            again = self.context.step(self.held)
            assert again == result, "a repeated call must be harmless"


def feed(end: End, data: bytes, cut: Cut) -> bytes:
    """Give one whole message in pieces, and check that the context asks for exactly the rest of its frame."""
    output = b""
    while data:
        piece = cut(data, end.missing)
        output += end.step(piece)
        data = data[len(piece) :]
    return output


def converse(client: End, server: End, cut: Cut = whole) -> Iterator[tuple[str, bytes]]:
    """Let two ends talk to the end; yield every flight as (direction, bytes)."""
    flight = client.step(b"")
    yield "c2s", flight
    server.wire += flight
    for _ in range(100_000):
        progressed = False
        for end, other, direction in ((server, client, "s2c"), (client, server, "c2s")):
            if end.done or not end.wire:
                continue
            piece = cut(bytes(end.wire), end.missing)
            del end.wire[: len(piece)]
            output = end.step(piece)
            other.wire += output
            progressed = True
            if output:
                yield direction, output
        if not progressed:
            return
    raise AssertionError("the conversation does not end")


def session(key_type: str, policy: Policy, *, server_side: bool) -> TLSSession:
    """A fresh TLS end with shared contexts."""
    context = server_tls(policy, key_type) if server_side else client_tls(policy)
    return TLSSession(context, server_side=server_side)


@functools.cache
def server_tls(policy: Policy, key_type: str = "rsa") -> ssl.SSLContext:
    """Return a server's TLS context, made once in a run, since that takes longer than a handshake. Do not change it."""
    return tls_config.server_context_from_pem(policy, *pem(key_type))


@functools.cache
def client_tls(policy: Policy) -> ssl.SSLContext:
    """Return a client's TLS context, made once in a run. Do not change it."""
    return tls_config.client_context(policy)

"""The peers that the figures in memory compare: each has two sides that take bytes and give bytes.

All peers share one certificate and one client context of `ssl`. Their server contexts have the same settings, and the
same number of tickets, which is none; that of bare TLS has no callback for SNI.
"""

import dataclasses
import ssl
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

import acredssp
from acredssp.events import Delegate, Event, JudgeCertificate, SecurityContext
from acredssp.policy import MechanismChoice
from acredssp.status import SecurityStatus
from acredssp.tls import client_context, subject_public_key
from benchmarks.harness import Figure, Row

NAME = "localhost"
DOMAIN, PASSWORD = "CONTOSO", "Passw0rd!"
ALICE = acredssp.Password(PASSWORD, "alice", DOMAIN)

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

KeyType = Literal["rsa", "ec"]


class Side(Protocol):
    """One side of a handshake in memory."""

    done: bool

    def step(self, data: bytes) -> bytes:
        """Take the other side's message, and return the answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """Makes both sides of one handshake after the other."""

    client: Callable[[], Side]
    server: Callable[[], Side]


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one handshake."""

    client: float
    """Seconds of CPU."""
    server: float
    to_server: int
    """Messages."""
    to_client: int

    @property
    def both(self) -> float:
        return self.client + self.server


Rounds = list[dict[str, Cost]]
"""The usual handshake of each peer in each round."""


def _absolute(rounds: Rounds, name: str, side: str) -> str:
    """Return the microseconds of a peer and of bare TLS, which hold only for this machine and this moment."""
    ours, floor = (statistics.median(getattr(each[which], side) for each in rounds) * 1e6 for which in (name, "TLS"))
    return f"{ours:.0f} over {floor:.0f} us"


def row_over_tls(  # noqa: PLR0913 - what a row says
    rounds: Rounds, mechanism: str, side: str, *, key: str, what: str, goal: float | None, reach: float | None
) -> Row:
    """Return a mechanism's CPU over that of bare TLS, with both in microseconds beside it."""
    return Row(
        key=key,
        what=what,
        figure=Figure.of(getattr(each[mechanism], side) / getattr(each["TLS"], side) for each in rounds),
        goal=goal,
        reach=reach,
        note=_absolute(rounds, mechanism, side),
    )


def handshake(peer: Peer, clock: Callable[[], float] = time.thread_time) -> Cost:
    """Let both sides talk until both are done. Making and deleting the objects counts."""
    started = clock()
    client = peer.client()
    flight = client.step(b"")
    between = clock()
    client_time, to_server, to_client = between - started, 1, 0
    server = peer.server()
    reply = server.step(flight)
    server_time = clock() - between
    while True:
        to_client += bool(reply)
        started = clock()
        flight = client.step(reply)
        between = clock()
        client_time += between - started
        if client.done and server.done:
            break
        to_server += bool(flight)
        reply = server.step(flight)
        server_time += clock() - between
        if client.done and server.done:
            break
    started = clock()
    del client
    between = clock()
    del server
    return Cost(client_time + between - started, server_time + clock() - between, to_server, to_client)


# --- TLS alone ---


class BareTLS:
    """A TLS handshake and nothing else: the floor."""

    __slots__ = ("_incoming", "_object", "_outgoing", "done")

    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=name is None, server_hostname=name)
        self.done = False

    def step(self, data: bytes) -> bytes:
        self._incoming.write(data)
        try:
            self._object.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()


# --- acredssp ---


def answerer(client: acredssp.ClientConfig) -> Callable[[Event], object]:
    """Return a function that answers the events of both sides."""

    def answer(event: Event) -> object:
        if isinstance(event, JudgeCertificate):
            return client.judge(event.chain, NAME)
        if isinstance(event, Delegate):
            return client.decide(event)
        return ALICE

    return answer


class Engine:
    """acredssp's engine, driven by hand."""

    __slots__ = ("_answer", "_context", "_kept", "done")

    def __init__(self, context: SecurityContext, answer: Callable[[Event], Any]) -> None:
        self._context = context
        self._answer = answer
        self._kept = b""
        self.done = False

    def step(self, data: bytes) -> bytes:
        data = self._kept + data if self._kept else data
        result = self._context.step(data)
        output = result.output
        while True:
            if result.event is not None:
                result = self._context.resume(result.event, self._answer(result.event))
            elif result.extra and not result.missing and result.status is not SecurityStatus.SEC_E_OK:
                result = self._context.step(data[-result.extra :])
            else:
                break
            output += result.output
        self._kept = data[len(data) - result.extra :]
        self.done = result.status is SecurityStatus.SEC_E_OK
        return output


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A certificate, a version of TLS, and the contexts that all peers share."""

    certificate: bytes
    key: bytes
    client_context: ssl.SSLContext
    server_context: ssl.SSLContext
    plain_context: ssl.SSLContext
    """As `server_context`, without our callback for SNI: the one of bare TLS's server."""
    policy: acredssp.Policy

    @classmethod
    def of(cls, pem: tuple[bytes, bytes], version: str | None = None) -> "Setting":
        """Make contexts for a certificate and its key in PEM, and for one version of TLS ("1.2", "1.3") or any."""
        policy = acredssp.Policy()
        if version is not None:
            policy = dataclasses.replace(policy, min_tls=VERSIONS[version], max_tls=VERSIONS[version])
        plain = acredssp.server_context_from_pem(policy, *pem)
        plain.sni_callback = None
        return cls(*pem, client_context(policy), acredssp.server_context_from_pem(policy, *pem), plain, policy)

    def client_config(self, mechanism: MechanismChoice) -> acredssp.ClientConfig:
        """A client that pins the server's key."""
        pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(self.certificate.decode()))
        return acredssp.ClientConfig(
            authenticate=ALICE,
            policy=dataclasses.replace(self.policy, mechanism=mechanism),
            trust=acredssp.Trust.pinned(pin),
            ssl_context=self.client_context,
        )

    def server_config(self) -> acredssp.ServerConfig:
        return acredssp.ServerConfig(ssl_context=self.server_context, policy=self.policy, lookup=lambda _request: ALICE)

    def bare_tls(self) -> Peer:
        return Peer(lambda: BareTLS(self.client_context, NAME), lambda: BareTLS(self.plain_context, None))

    def exchange(self, mechanism: MechanismChoice) -> Peer:
        """Run the exchange alone, in the bare shape, as if the caller ran TLS."""
        client, server = self.client_config(mechanism), self.server_config()
        answer = answerer(client)
        key = subject_public_key(ssl.PEM_cert_to_DER_cert(self.certificate.decode()))
        return Peer(
            lambda: Engine(client.new_bare_context(public_key=key, spn=f"TERMSRV/{NAME}", certified=True), answer),
            lambda: Engine(server.new_bare_context(public_key=key), answer),
        )

    def acredssp(self, mechanism: MechanismChoice) -> Peer:
        client, server = self.client_config(mechanism), self.server_config()
        answer = answerer(client)
        return Peer(
            lambda: Engine(client.new_context(server_hostname=NAME, spn=f"TERMSRV/{NAME}"), answer),
            lambda: Engine(server.new_context(), answer),
        )

"""One handshake in slow motion: both sides of the engine are driven by hand, without a socket, and each step is timed.

This is also the shortest complete driver of `SecurityContext`: an event loop has to do no more than `_Side.turn`.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any, Final

from acredssp.config import ClientConfig, ServerConfig
from acredssp.events import Admit, Delegate, Event, HandshakeInfo, JudgeCertificate, LookupCredential, StepResult
from acredssp.hooks import CredentialRequest
from acredssp.rdp import RDP, RDPAcceptor, RDPInitiator, RDPState
from acredssp.status import SecurityStatus

__all__ = ["CLIENT", "SERVER", "Step", "Timeline", "record"]

CLIENT: Final = "client"
SERVER: Final = "server"


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """The work of one side until it sends bytes or asks its application."""

    side: str
    """`"client"` or `"server"`."""
    what: str
    sent: int
    """The number of bytes for the other side; 0 if the step asked the side's own application."""
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Timeline:
    """A handshake from its first byte to its last."""

    steps: tuple[Step, ...]
    info: HandshakeInfo
    """The facts of the handshake, as the server knows them."""


# What a side sends. The key is the side, the state before the step and the state after it.
_SENT: Final = {
    (CLIENT, "NEGOTIATION", "NEGOTIATION"): "X.224 Connection Request",
    (SERVER, "NEGOTIATION", "TLS"): "X.224 Connection Confirm",
    (CLIENT, "NEGOTIATION", "TLS"): "TLS ClientHello",
    (SERVER, "TLS", "TLS"): "TLS ServerHello to Finished",
    (CLIENT, "NEGO_TOKEN", "NEGO_TOKEN"): "TLS Finished + NTLM NEGOTIATE",
    (SERVER, "TLS", "NEGO_TOKEN"): "NTLM CHALLENGE",
    (CLIENT, "NEGO_TOKEN", "PUB_KEY_AUTH"): "NTLM AUTHENTICATE + pubKeyAuth",
    (SERVER, "NEGO_TOKEN", "AUTH_INFO"): "pubKeyAuth: the server's proof",
    (CLIENT, "PUB_KEY_AUTH", "EARLY_USER_AUTH"): "authInfo: sealed credentials",
    (SERVER, "AUTH_INFO", "DONE"): "early user authorization",
    (CLIENT, "EARLY_USER_AUTH", "DONE"): "logged on",
}
_ASKED: Final[dict[type[Event], str]] = {
    JudgeCertificate: "TLS is up: trust the certificate?",
    LookupCredential: "looks the account up",
    Delegate: "proof is right: send the password?",
    Admit: "unseals them: may the user in?",
}


def record(client: ClientConfig, server: ServerConfig, carriage: RDP, host: str) -> Timeline:
    """Run a handshake between a client and a server, and time each step.

    Raises:
        CredSSPError: The handshake failed.
    """
    steps: list[Step] = []
    context = client.new_context(server_hostname=host, spn=f"TERMSRV/{host}")
    initiator = _Side(CLIENT, carriage.initiator(context), _client_answers(client, host), steps)
    acceptor = _Side(SERVER, carriage.acceptor(server), _server_answers(server), steps)
    sides = itertools.cycle((acceptor, initiator))
    flight = initiator.turn(b"")
    while flight:
        flight = next(sides).turn(flight)
    return Timeline(tuple(steps), acceptor.carried.context.info)


class _Side:
    """One side of the handshake.

    Args:
        name: CLIENT or SERVER.
        carried: The engine of this side.
        answer: Answers the engine's events.
        steps: The list to which each step is appended.
    """

    def __init__(
        self,
        name: str,
        carried: RDPInitiator | RDPAcceptor,
        answer: Callable[[Event], object],
        steps: list[Step],
    ) -> None:
        self.carried = carried
        self._name = name
        self._answer = answer
        self._steps = steps
        self._received = b""

    def turn(self, flight: bytes) -> bytes:
        """Take the bytes that the other side sent, and return the bytes to send back."""
        self._received += flight
        output = b""
        while True:
            result = self._timed(lambda: self.carried.step(self._received))
            self._received = self._received[len(self._received) - result.extra :]
            output += result.output
            while result.event is not None:
                resume = functools.partial(self.carried.resume, result.event, self._asked(result.event))
                result = self._timed(resume)
                output += result.output
            if result.missing or result.status is SecurityStatus.SEC_E_OK:
                return output

    def _timed(self, act: Callable[[], StepResult]) -> StepResult:
        before = self._stage
        started = time.perf_counter()
        result = act()
        seconds = time.perf_counter() - started
        established = result.status is SecurityStatus.SEC_E_OK
        if result.event is not None:
            self._write_down(_ASKED.get(type(result.event), type(result.event).__name__), 0, seconds)
        elif result.output or established:
            moved = (self._name, before, self._stage)
            self._write_down(_SENT.get(moved, f"{before} to {self._stage}".lower()), len(result.output), seconds)
        return result

    def _asked(self, event: Event) -> Any:
        """Answer an event; the time that this takes is added to the step that asked."""
        started = time.perf_counter()
        answer = self._answer(event)
        asked = self._steps[-1]
        self._steps[-1] = dataclasses.replace(asked, seconds=asked.seconds + time.perf_counter() - started)
        return answer

    def _write_down(self, what: str, sent: int, seconds: float) -> None:
        self._steps.append(Step(self._name, what, sent, seconds))

    @property
    def _stage(self) -> str:
        state = self.carried.state
        return self.carried.context.state.name if state is RDPState.CREDSSP else state.name


def _client_answers(config: ClientConfig, host: str) -> Callable[[Event], object]:
    def answer(event: Event) -> object:
        if isinstance(event, JudgeCertificate):
            return config.judge(event.chain, host)
        assert isinstance(event, Delegate)
        return config.decide(event)

    return answer


def _server_answers(config: ServerConfig) -> Callable[[Event], object]:
    def answer(event: Event) -> object:
        if isinstance(event, LookupCredential):
            assert config.lookup is not None
            return config.lookup(CredentialRequest(event.principal, event.mechanism))
        return isinstance(event, Admit)

    return answer

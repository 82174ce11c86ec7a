"""Whom the engine waits for: the events in `StepResult.event`.

The engine stops at an event; nothing else happens until `SecurityContext.resume()` is given the event with its answer,
or `SecurityContext.fail()` ends the handshake. The mechanism's own events are passed through as they are.

Each event is a `Question` that names the type of its answer. Where a program knows which event it has, as in a
`match`, a type checker refuses every other answer.

An event is the caller's alone: the engine keeps nothing of it. So the two of every client's handshake are not frozen,
which would treble the price of making one.
"""

import dataclasses
import ssl
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from acredssp.credentials import Account, DelegatedKind, Deny
from acredssp.delegation import ServerAuth
from acredssp.mechanisms.base import Answered, AskOracle, LookupCredential, Principal, Question, StepMechanism
from acredssp.wire.preconnection import PreconnectionPDU
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.x224 import ConnectionRequest, FailureCode

__all__ = [
    "Admit",
    "Answered",
    "AskOracle",
    "Authorize",
    "ChooseCertificate",
    "Delegate",
    "Event",
    "JudgeCertificate",
    "LookupCredential",
    "Question",
    "Route",
    "StepMechanism",
]


class _ServerConfig(Protocol):
    """`acredssp.ServerConfig`, which is above the engine."""

    def new_context(self) -> object: ...


class _RDPRoute(Protocol):
    """`acredssp.RDPRoute`, which is above the engine."""

    @property
    def config(self) -> _ServerConfig: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Route(Question[_ServerConfig | _RDPRoute | FailureCode | Deny]):
    """RDP server: the client's Connection Request came, and nothing was answered. Where does this connection belong?

    Answer with the `ServerConfig` that holds from here on, or with an `RDPRoute`. A `FailureCode` is sent to the
    client. After `Deny()`, and after any other answer, the connection ends without a word. Give `resume()` also what
    has come of the client meanwhile: a client that does not wait for our confirm is refused.

    Attributes:
        request: The Connection Request, and where it came from.
        hook: The one to ask: `RDP.route`.
        preconnection: The id and the blob that came before the request; None for none.
    """

    request: ConnectionRequest
    hook: Callable[[Any], object] = dataclasses.field(repr=False)
    preconnection: PreconnectionPDU | None = None


@dataclasses.dataclass(slots=True)
class JudgeCertificate(Question[bool]):
    """Client: the server has shown its certificate, and nothing of the logon has left yet. Is this the right server?

    Answer with True if the chain proves it, with anything else to go on with a server that no certificate
    authenticates; call `fail()` to refuse. Our second flight of the TLS handshake waits for the answer: after a refusal
    an alert is in its place, and tells the server why. TLS is up in TLS 1.3, and not yet in TLS 1.2.

    Attributes:
        chain: The peer's certificates in DER, its own first. Unverified.
    """

    chain: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ChooseCertificate(Question[ssl.SSLContext | None]):
    """Client: the TLS server asks for a certificate. The status beside this event is SEC_I_INCOMPLETE_CREDENTIALS.

    Answer with an `ssl.SSLContext` that holds one, or with None to go on without.

    Attributes:
        authorities: Whose certificates the server takes: names in DER. Empty for anybody's.
    """

    authorities: tuple[bytes, ...]


@dataclasses.dataclass(slots=True)
class Delegate(Question[TSCredentials | Literal[True]]):
    """Client: the server has proven its key. What may it be given?

    Answer with the `TSCredentials` to send, or with True for those that the context was made with; call `fail()` to
    send none at all. `ClientConfig.decide()` knows the answer.

    Attributes:
        mechanism: What authenticated: `"kerberos"` or `"ntlm"`.
        version: The effective CredSSP version.
        target: The service principal name that the context was made for; empty for none.
        kind: Of the credentials that the context was made with, as `TSCredentials.kind` has it.
        server_auth: What authenticates the server.
    """

    mechanism: str
    version: int
    target: str
    kind: DelegatedKind
    server_auth: ServerAuth


@dataclasses.dataclass(frozen=True, slots=True)
class Authorize(Question[bool | Account | Deny]):
    """Server: the logon is proven, and our key is not. May this user come in?

    Answer with True, with the `Account` that this is (`Principal.account`), or with `Deny(nt_status)`: the peer is told
    that number where its version allows it. Anything else is taken as `Deny(STATUS_ACCESS_DENIED)`. `Deny` may name the
    account, too.

    Attributes:
        principal: Who has logged on.
        mechanism: What authenticated: `"kerberos"` or `"ntlm"`.
    """

    principal: Principal
    mechanism: str


@dataclasses.dataclass(frozen=True, slots=True)
class Admit(Question[bool | Deny]):
    """Server: the delegated credentials came. Does the session start?

    Answer with True or `Deny`, as for `Authorize`. CredSSP has no message left to say no: the early user authorization
    result does (HYBRID_EX), or the connection just ends.

    Attributes:
        principal: Who has logged on.
        mechanism: What authenticated: `"kerberos"` or `"ntlm"`.
        credentials: The engine's: it overwrites them with zeros where the handshake fails from here on.
    """

    principal: Principal
    mechanism: str
    credentials: TSCredentials = dataclasses.field(repr=False)


Event: TypeAlias = (
    Route
    | LookupCredential
    | AskOracle
    | StepMechanism
    | ChooseCertificate
    | JudgeCertificate
    | Delegate
    | Authorize
    | Admit
)

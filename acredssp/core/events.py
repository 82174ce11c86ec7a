"""The events in `StepResult.event`: questions that the engine waits to have answered.

The engine stops at an event. Nothing else happens until `SecurityContext.resume()` gets the event with its answer, or
`SecurityContext.fail()` ends the handshake. The mechanism's own events are passed up unchanged.

Each event is a `Question` that names the type of its answer. Where a program knows which event it has, as in a
`match`, a type checker refuses every other answer.

The engine keeps no event, so each belongs to its caller. The two events of every client's handshake are not frozen,
because freezing would treble the cost of making one.
"""

import dataclasses
import ssl
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeAlias

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
    "outcome_of_step",
]


_MOST_SIZES: Final = 8
"""How many sizes a repr lists."""


class _ServerConfig(Protocol):
    """`acredssp.ServerConfig`, which the engine may not import."""

    def new_context(self) -> object: ...


class _RDPRoute(Protocol):
    """`acredssp.RDPRoute`, which the engine may not import."""

    @property
    def config(self) -> _ServerConfig: ...


class _Passthrough(Protocol):
    """`acredssp.rdp.Passthrough`, which is above the engine."""

    @property
    def connected(self) -> Callable[[Any, Any], object]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Route(Question[_ServerConfig | _RDPRoute | _Passthrough | FailureCode | Deny]):
    """RDP server: which configuration is this connection for? The client's Connection Request is not answered yet.

    Answer with the `ServerConfig` to use from here on, or with an `RDPRoute`. A `Passthrough` ends the
    handshake, and the connection is passed on undecrypted. A `FailureCode` refuses, and is sent to
    the client. After `Deny()`, and after any other answer, the connection ends without an answer. Give `resume()` also
    the bytes that the client has sent meanwhile: a client that does not wait for our confirm is refused.

    Attributes:
        request: The client's Connection Request.
        hook: The hook to ask: `RDP.route`.
        preconnection: The id and the blob that the client sent before the request; None where it sent none.
    """

    request: ConnectionRequest
    hook: Callable[[Any], object] = dataclasses.field(repr=False)
    preconnection: PreconnectionPDU | None = None


@dataclasses.dataclass(slots=True)
class JudgeCertificate(Question[bool]):
    """Client: does the server's certificate prove that this is the right server? No token of the logon has left yet.

    Answer with True if it does, and with False to go on with a server that no certificate authenticates. Call `fail()`
    to refuse the server; any other answer refuses it, too. Our second flight of the TLS handshake waits for the answer:
    after a refusal an alert takes its place, and tells the server why. At this event TLS 1.3 is established, and TLS
    1.2 is not yet.

    Attributes:
        chain: The server's certificates in DER, its own first, not verified.
    """

    chain: tuple[bytes, ...]

    def __repr__(self) -> str:
        """The sizes of the certificates alone: a chain has some thousand bytes."""
        return f"JudgeCertificate(chain={_sizes(self.chain)})"


@dataclasses.dataclass(frozen=True, slots=True)
class ChooseCertificate(Question[ssl.SSLContext | None]):
    """Client: which certificate is shown to the server, which asks for one? The status is SEC_I_INCOMPLETE_CREDENTIALS.

    Answer with an `ssl.SSLContext` that holds a certificate, or with None to go on without one.

    Attributes:
        authorities: The authorities whose certificates the server takes, as names in DER; empty for any authority.
    """

    authorities: tuple[bytes, ...]

    def __repr__(self) -> str:
        """The sizes of the names alone: a server may list hundreds."""
        return f"ChooseCertificate(authorities={_sizes(self.authorities)})"


@dataclasses.dataclass(slots=True)
class Delegate(Question[TSCredentials | Literal[True]]):
    """Client: which credentials may the server be given, now that it has proven its key?

    Answer with the `TSCredentials` to send, or with True for those that the context was made with. Call `fail()` to end
    the logon without sending any. `ClientConfig.decide()` returns the answer.

    Attributes:
        mechanism: The mechanism of the logon: `"kerberos"` or `"ntlm"`.
        version: The effective CredSSP version.
        target: The service principal name that the context was made for; empty for none.
        kind: The kind of the credentials that the context was made with.
        server_auth: What authenticates the server.
    """

    mechanism: str
    version: int
    target: str
    kind: DelegatedKind
    server_auth: ServerAuth


@dataclasses.dataclass(frozen=True, slots=True)
class Authorize(Question[bool | Account | Deny]):
    """Server: may this user come in? The logon is proven, and the server has not proven its own key yet.

    Answer with True, or with the `Account` of the user (`Principal.account`). `Deny(nt_status)` refuses: the peer is
    told that status where its version allows it. Any other answer counts as `Deny(STATUS_ACCESS_DENIED)`. `Deny` may
    name the account, too.

    Attributes:
        principal: Who has logged on.
        mechanism: The mechanism of the logon: `"kerberos"` or `"ntlm"`.
    """

    principal: Principal
    mechanism: str


@dataclasses.dataclass(frozen=True, slots=True)
class Admit(Question[bool | Deny]):
    """Server: does the session start, now that the delegated credentials have arrived?

    Answer with True or `Deny`. CredSSP has no message left for a refusal. With HYBRID_EX the early user authorization
    result tells the client; otherwise the connection just ends.

    Attributes:
        principal: Who has logged on.
        mechanism: The mechanism of the logon: `"kerberos"` or `"ntlm"`.
        credentials: The delegated credentials. They belong to the engine, which overwrites them with zeros if the
            handshake fails after this event.
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


def _sizes(blobs: tuple[bytes, ...]) -> str:
    """Describe DER by its count and sizes, at most eight of them."""
    sizes = [str(len(blob)) for blob in blobs[:_MOST_SIZES]]
    more = ["..."] if len(blobs) > _MOST_SIZES else []
    return f"<{len(blobs)} of {', '.join(sizes + more)} bytes>" if blobs else "<none>"


def outcome_of_step(event: StepMechanism) -> object:
    """Run a mechanism's step. An exception is a result too, which the mechanism judges."""
    try:
        return event.run()
    except Exception as error:  # noqa: BLE001 - the mechanism judges any exception
        return error

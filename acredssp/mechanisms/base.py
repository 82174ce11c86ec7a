"""The contract between the engine and an authentication mechanism, and the events that a mechanism waits for.

A mechanism is a GSS-API security context: it takes and gives tokens until it is `complete`, and then wraps and unwraps
messages. It does no I/O and never blocks. Where it needs something from outside, it returns an event instead of a
token. The engine hands the event up, and the driver of the engine gives the answer to `resume()`.
"""

import dataclasses
from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias, TypeVar

from acredssp.credentials import Account, Deny, LookupAnswer, Oracle, TicketCache
from acredssp.names import logon_name

__all__ = [
    "Answered",
    "AskOracle",
    "LookupCredential",
    "Mechanism",
    "NTLMExchange",
    "Principal",
    "Progress",
    "Question",
    "Sealing",
    "StepMechanism",
]

Answered = TypeVar("Answered")
"""The type of a question's answer. It is invariant, so that a type checker accepts no other type."""


class Question(Generic[Answered]):
    """An event of the engine, with the type of its answer: `resume(event, answer)` takes that type and no other.

    The type is for type checkers. At run time the engine checks each answer itself. An answer of a type that it does
    not expect is a refusal.
    """

    __slots__ = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """Who logs on, as the mechanism names the user. The delegated credentials may be of somebody else.

    Attributes:
        user: NTLM: the name as the client wrote it, which may be a user principal name. Kerberos: the name in the
            ticket, without the realm.
        domain: NTLM: the domain as the client wrote it; empty for none. Kerberos: the ticket's realm.
        workstation: The client's own claim, which nothing proves.
        target_name: The SPN that the client named (MsvAvTargetName); empty for none.
        known_as: The account that the lookup or the authorize hook named for this user; None where neither did.
        tickets: Kerberos: what logs on elsewhere as this user, by constrained delegation; None where the keytab does
            not ask for it, or the user may not be delegated.
    """

    user: str
    domain: str
    workstation: str = ""
    target_name: str = ""
    known_as: Account | None = dataclasses.field(default=None, compare=False)
    tickets: TicketCache | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def account(self) -> Account:
        """The account that the lookup or the authorize hook named, or else the names that the client wrote."""
        return self.known_as or Account(self.user, self.domain)

    def __str__(self) -> str:
        return logon_name(self.domain, self.user)


@dataclasses.dataclass(frozen=True, slots=True)
class NTLMExchange:
    """The challenge and response of an NTLMv2 logon, for an `Oracle` to prove. It holds no secret of this server.

    Attributes:
        user: The user's name, as the client wrote it.
        domain: The domain, as the client wrote it; empty for none.
        workstation: The client's own name as it claims it, which nothing proves.
        server_challenge: The acceptor's challenge, 8 bytes.
        nt_response: The NtChallengeResponse as received: 16 bytes NTProofStr, then the client's challenge structure.
        lm_response: The LmChallengeResponse as received.
    """

    user: str
    domain: str
    workstation: str
    server_challenge: bytes
    nt_response: bytes = dataclasses.field(repr=False)
    lm_response: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class LookupCredential(Question[LookupAnswer]):
    """An acceptor knows who claims to log on, and waits for the secret of that account.

    Answer with `Password`, `NTHash`, `Candidates`, `Oracle` or `Deny`; any other answer counts as `Deny()`.

    Attributes:
        principal: Who claims to log on, not yet proven.
        mechanism: `"ntlm"`.
    """

    principal: Principal
    mechanism: str


@dataclasses.dataclass(frozen=True, slots=True)
class AskOracle(Question[bytes | Deny]):
    """The lookup answered with an `Oracle`, which must be asked to prove the logon.

    Answer with the 16-byte session base key, or `Deny`; any other answer counts as `Deny()`.

    Attributes:
        oracle: The oracle to ask.
        exchange: The logon to prove.
    """

    oracle: Oracle
    exchange: NTLMExchange


@dataclasses.dataclass(frozen=True, slots=True)
class StepMechanism(Question[bytes | BaseException]):
    """The mechanism's next step may block (for a KDC or a library's lock), so it must run where blocking is allowed.

    Answer with what `run()` returned, or with the exception that it raised.

    Attributes:
        run: Makes the step, on a thread of the caller's choice.
    """

    run: Callable[[], bytes] = dataclasses.field(repr=False)


Progress: TypeAlias = bytes | LookupCredential | AskOracle | StepMechanism
"""A token for the peer, or an event to wait for."""

Sealing: TypeAlias = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]
"""What seals a message, and what unseals the peer's next one: `Mechanism.wrap` and `Mechanism.unwrap`."""


class Mechanism(Protocol):
    """One security context of one mechanism, initiator or acceptor.

    Any method may raise a `CredSSPError`, after which the context cannot be used. No method raises any other
    exception, whatever the peer sent.
    """

    @property
    def name(self) -> str:
        """The package that authenticates, `"ntlm"` or `"kerberos"`; `"negotiate"` until SPNEGO has chosen one."""

    @property
    def complete(self) -> bool:
        """Whether this side needs no more tokens from the peer, so that `wrap` and `unwrap` may be used."""

    @property
    def fallback(self) -> str:
        """Initiator: why the first choice of mechanism is not used; empty while it is."""

    @property
    def principal(self) -> Principal | None:
        """Acceptor: who logged on, once known. Initiator: None."""

    @property
    def authenticates_server(self) -> bool:
        """Whether the mechanism has proven the server to the client. Kerberos does when complete, NTLM never does."""

    @property
    def ends(self) -> int | None:
        """When the Kerberos ticket of the logon ends, in seconds since 1970; None without one, or where unknown."""

    def step(self, token: bytes) -> Progress:
        """Take the peer's token (empty for an initiator's first step); return our token, or an event.

        An empty token means that there is nothing to send. After an event call `resume`, never `step`.
        """

    def resume(self, answer: object) -> Progress:
        """Take the answer to the event that `step` or `resume` returned; return what `step` would."""

    @property
    def sealing(self) -> "Sealing":
        """Once complete: `wrap` and `unwrap` as the innermost mechanism has them, for callers that seal often."""

    def wrap(self, plaintext: bytes) -> bytes:
        """Sign and seal a message; the signature comes first ([MS-CSSP] 2.2.1)."""

    def unwrap(self, sealed: bytes) -> bytes:
        """Verify and unseal the peer's next message.

        Raises:
            RemoteProtocolError: SEC_E_MESSAGE_ALTERED or SEC_E_OUT_OF_SEQUENCE.
        """

    def get_mic(self, message: bytes) -> bytes:
        """Sign a mechTypes list for SPNEGO's mechListMIC (RFC 4178 section 5, [MS-SPNG] 3.3.5.1)."""

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """Verify the peer's mechListMIC. Raises what `unwrap` raises."""

"""What the engine asks of an authentication mechanism, and what a mechanism may wait for.

A mechanism is a GSS-API security context: tokens in and out until `complete`, then wrap and unwrap. It does no
I/O and never blocks. Where it needs somebody else it answers with an event instead of a token; the engine hands
the event up, and whoever drives the engine gives the answer to `resume()`.
"""

import dataclasses
from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias, TypeVar

from acredssp.credentials import Account, Deny, LookupAnswer, Oracle
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
    "StepMechanism",
]

Answered = TypeVar("Answered")
"""What a question is answered with. Invariant, so that a type checker takes no other type for the answer."""


class Question(Generic[Answered]):
    """An event of the engine, by the type of its answer: `resume(event, answer)` takes that type and no other.

    The type is for type checkers. At run time the engine checks each answer by itself, and takes one that is of no
    type that it knows for a refusal.
    """

    __slots__ = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """Who logged on, by the mechanism's word (not by the delegated credentials').

    Attributes:
        user: As the initiator wrote it (NTLM; it may be a user principal name), or the ticket has it, without the
            realm.
        domain: As the initiator wrote it, empty for none (NTLM), or the ticket's realm (Kerberos).
        workstation: The initiator's own claim; proves nothing.
        target_name: The SPN the initiator named (MsvAvTargetName); empty for none.
        known_as: The account that the lookup or the authorize hook found this to be; None where neither named one.
    """

    user: str
    domain: str
    workstation: str = ""
    target_name: str = ""
    known_as: Account | None = dataclasses.field(default=None, compare=False)

    @property
    def account(self) -> Account:
        """Who it is: the account that was found, or else the names as they were written."""
        return self.known_as or Account(self.user, self.domain)

    def __str__(self) -> str:
        return logon_name(self.domain, self.user)


@dataclasses.dataclass(frozen=True, slots=True)
class NTLMExchange:
    """What an NTLMv2 logon left to be proven, for an `Oracle`. Holds no secret of ours.

    Attributes:
        user: The user's name, as the client wrote it.
        domain: The domain, as the client wrote it; empty for none.
        workstation: The client's name for itself; proves nothing.
        server_challenge: 8 bytes, the acceptor's.
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
    """An acceptor knows who claims to log on and waits for that account's secret.

    Answer with `Password`, `NTHash`, `Candidates`, `Oracle` or `Deny`; anything else is taken as `Deny()`.

    Attributes:
        principal: Who claims to log on.
        mechanism: `"ntlm"`.
    """

    principal: Principal
    mechanism: str


@dataclasses.dataclass(frozen=True, slots=True)
class AskOracle(Question[bytes | Deny]):
    """The lookup answered with an `Oracle`: ask it.

    Answer with the 16-byte session base key, or `Deny`; anything else is taken as `Deny()`.

    Attributes:
        oracle: What the lookup answered.
        exchange: The logon to prove.
    """

    oracle: Oracle
    exchange: NTLMExchange


@dataclasses.dataclass(frozen=True, slots=True)
class StepMechanism(Question[bytes | BaseException]):
    """The mechanism's next step may block (a KDC, a library lock): run it where that is allowed.

    Answer with what `run()` returned, or with the exception it raised.

    Attributes:
        run: Takes the step, on a thread of the caller's choice.
    """

    run: Callable[[], bytes] = dataclasses.field(repr=False)


Progress: TypeAlias = bytes | LookupCredential | AskOracle | StepMechanism
"""A token for the peer, or whom to wait for."""


class Mechanism(Protocol):
    """One security context of one mechanism, initiator or acceptor.

    Any method may raise a `CredSSPError`, after which the context is dead. No other exception leaves it, whatever
    the peer sent.
    """

    @property
    def name(self) -> str:
        """The package that authenticates: `"ntlm"`, `"kerberos"`; `"negotiate"` until SPNEGO has chosen."""

    @property
    def complete(self) -> bool:
        """Whether this side needs no more tokens from the peer: `wrap` and `unwrap` may be used."""

    @property
    def fallback(self) -> str:
        """Initiator: why it is not the first choice that authenticates; empty while it is."""

    @property
    def principal(self) -> Principal | None:
        """Acceptor: who logged on, once known. Initiator: None."""

    @property
    def authenticates_server(self) -> bool:
        """Whether the mechanism has proven the server to the client: Kerberos has once complete, NTLM never does."""

    @property
    def ends(self) -> int | None:
        """When what was logged on with ends (Kerberos' ticket), in seconds since 1970; None for never, or unknown."""

    def step(self, token: bytes) -> Progress:
        """Take the peer's token (empty for an initiator's first step) and answer with ours, or an event.

        The answer may be empty: nothing to send. After an event call `resume`, never `step`.
        """

    def resume(self, answer: object) -> Progress:
        """Give the answer to the event that `step` or `resume` returned."""

    def wrap(self, plaintext: bytes) -> bytes:
        """Sign and seal; the signature comes first ([MS-CSSP] 2.2.1)."""

    def unwrap(self, sealed: bytes) -> bytes:
        """Verify and unseal the peer's next message.

        Raises:
            RemoteProtocolError: SEC_E_MESSAGE_ALTERED or SEC_E_OUT_OF_SEQUENCE.
        """

    def get_mic(self, message: bytes) -> bytes:
        """Sign a mechTypes list for SPNEGO's mechListMIC (RFC 4178 section 5, [MS-SPNG] 3.3.5.1)."""

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """Verify the peer's mechListMIC; raises as `unwrap` does."""

"""What an application decides during a server's handshake, as types.

Every hook is a plain function or a coroutine function, runs under a deadline, and fails closed: an exception, None, a
value of another type, or a time-out is a no. A plain function is called in the loop's callback that brought the bytes;
what a coroutine function returns is awaited in the handshake's task.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from acredssp.core.context import HandshakeInfo
from acredssp.credentials import Account, Deny, LookupAnswer
from acredssp.mechanisms.base import NTLMExchange, Principal
from acredssp.wire.ts_credentials import TSCredentials
from acredssp.wire.x224 import ConnectionRequest

__all__ = [
    "AcceptHook",
    "Admission",
    "AdmitHook",
    "AuthorizeHook",
    "CredentialRequest",
    "Identity",
    "LookupHook",
    "NTLMExchange",
    "Principal",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who stands at the door: the logon, and the connection it came by.

    Attributes:
        principal: Who logs on, by the mechanism's word.
        mechanism: `"kerberos"` or `"ntlm"`.
        peer_address: As `get_extra_info("peername")` gives it: `(host, port)` for TCP.
        server_name: What the client asked for by SNI; empty for none.
        cookie: RDP: the `mstshash` cookie; empty for none. Unproven.
        request: RDP: the client's whole Connection Request: routing token, correlation id, what it asked for. Unproven.
            None with another carriage.
        session: What the server's `accept` answered for this connection; None without one.
    """

    principal: Principal
    mechanism: str
    peer_address: object = None
    server_name: str = ""
    cookie: str = ""
    request: ConnectionRequest | None = None
    session: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class CredentialRequest(Identity):
    """Somebody claims to be `principal`: what is that account's secret? Nothing is proven yet.

    All attributes of `Identity` are here too.

    Attributes:
        deadline: When the answer comes too late, in the loop's time; in `time.monotonic()`'s where no loop runs.
    """

    deadline: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Admission(Identity):
    """The client has proven who it is and has delegated its credentials: does its session start?

    The credentials are borrowed. Where the hook refuses, or the handshake ends otherwise, they are overwritten with
    zeros. Where it admits, the application gets them by `take_credentials()` as if nobody had seen them.

    All attributes of `Identity` are here too.

    Attributes:
        info: The facts of the handshake; `delegated` says of what kind the credentials are.
        credentials: What the client delegated; `as_password()` makes of it what logs on elsewhere.
    """

    info: HandshakeInfo
    credentials: TSCredentials = dataclasses.field(repr=False)


AcceptHook: TypeAlias = Callable[[object], "object | Deny | Awaitable[object | Deny]"]
"""A connection came from this peer address, and nothing was read from it. Answers with a session object: any value of
the application's own, which the other hooks, the report and `get_extra_info("session")` give back. False or `Deny`
turn the connection away, as does None, which is what a hook without an answer returns."""

LookupHook: TypeAlias = Callable[[CredentialRequest], "LookupAnswer | Awaitable[LookupAnswer]"]
"""Answers with `Password`, `NTHash`, `Candidates`, `Oracle` or `Deny`; anything else is `Deny()`. A user in the answer
says whose logon it is (`Principal.account`). Make the secrets once, not in the hook: only a known user's password would
be hashed there, and the time would tell who is known."""

AuthorizeHook: TypeAlias = Callable[[Identity], "bool | Account | Deny | Awaitable[bool | Account | Deny]"]
"""The logon is proven, our key is not yet: True lets the user in, and so does an `Account`, which is then who it is
(`Principal.account`). Anything else is a refusal that the client sees."""

AdmitHook: TypeAlias = Callable[[Admission], "bool | Deny | Awaitable[bool | Deny]"]
"""The delegated credentials came. True starts the session. A refusal reaches the client as the early user authorization
result (HYBRID_EX); otherwise the connection just ends. The hook may take as long as the handshake has left
(`Policy.admit_timeout`), so a gateway can log on to the target meanwhile. Without HYBRID_EX the client has said all by
then and may end its direction: the hook goes on, and is cancelled only where the connection breaks."""

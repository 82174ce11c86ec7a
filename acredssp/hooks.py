"""The types of a server's hooks: what they are asked during a handshake, and what they answer.

Every hook is a plain function or a coroutine function, and runs under a deadline. It fails closed: an exception, None,
a value of another type, or a time-out refuses. A plain function is called in the event loop's callback that brought the
bytes; a coroutine function's result is awaited in the handshake's task.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from acredssp.core.results import HandshakeInfo
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
    """A logon, and the connection that it came by.

    Attributes:
        principal: Who logs on, as the mechanism names it.
        mechanism: `"kerberos"` or `"ntlm"`.
        peer_address: The address as `get_extra_info("peername")` gives it: `(host, port)` for TCP.
        server_name: The name that the client asked for by SNI; empty for none.
        cookie: RDP: the `mstshash` cookie, which nothing proves; empty for none.
        request: RDP: the client's whole Connection Request, which nothing proves: requested protocols, routing token,
            correlation id. None with another carriage.
        session: The session that the server's `accept` hook returned for this connection; None without that hook.
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
    """The question which secret the account of `principal` has. The client claims the name, and has proven nothing yet.

    All attributes of `Identity` are here too.

    Attributes:
        deadline: The time after which the answer is too late, by the event loop's clock, or by `time.monotonic()` where
            no loop runs.
    """

    deadline: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Admission(Identity):
    """The question whether the session starts. The client has proven who it is, and has delegated its credentials.

    The hook only borrows the credentials. Where it refuses, or the handshake fails, they are overwritten with zeros.
    Where it admits, the application still gets them by `take_credentials()`.

    All attributes of `Identity` are here too.

    Attributes:
        info: The facts of the handshake; `info.delegated` is the kind of the credentials.
        credentials: The delegated credentials. `as_password()` of a `TSPasswordCreds` makes a `Password` of them, to
            log on elsewhere; other kinds have no such method.
    """

    info: HandshakeInfo
    credentials: TSCredentials = dataclasses.field(repr=False)


AcceptHook: TypeAlias = Callable[[object], object | Deny | Awaitable[object | Deny]]
"""Called with the peer's address for a new connection, before anything of the peer's is read from it. Behind a load
balancer that sends a PROXY header, that is the address in the header. The hook returns a session: any value of the
application's own, which the other hooks, the report and `get_extra_info("session")` give back. False, `Deny` and None
refuse the connection. (A function without a return statement returns None.)"""

LookupHook: TypeAlias = Callable[[CredentialRequest], LookupAnswer | Awaitable[LookupAnswer]]
"""Returns `Password`, `NTHash`, `Candidates`, `Oracle` or `Deny`; any other answer counts as `Deny()`. A user in the
answer names the account of the logon (`Principal.account`). Make the secrets once, not in the hook: the hook would hash
passwords of known users only, and its time would show which users are known."""

AuthorizeHook: TypeAlias = Callable[[Identity], bool | Account | Deny | Awaitable[bool | Account | Deny]]
"""Called once the logon is proven, before the server proves its key. True lets the user in. An `Account` does so too,
and names the account of the logon (`Principal.account`). Any other answer is a refusal that the client is told of."""

AdmitHook: TypeAlias = Callable[[Admission], bool | Deny | Awaitable[bool | Deny]]
"""Called once the delegated credentials have arrived. True starts the session. With HYBRID_EX the early user
authorization result tells the client of a refusal; otherwise the connection just ends. The hook may take as long as the
handshake has left (`Policy.admit_timeout`), so a gateway can log on to the target meanwhile. Without HYBRID_EX the
client has sent everything by then, and may end its direction: the hook goes on, and is cancelled only if the connection
breaks."""

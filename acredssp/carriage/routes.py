"""What a route hook of an RDP server is asked, and what it answers: where the connection of a Connection Request goes.

Who calls: `rdp`, which takes the answers, and `aio`, which asks the hook.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from acredssp.arguments import expect, expect_callable
from acredssp.config import ServerConfig
from acredssp.credentials import Deny
from acredssp.wire.preconnection import PreconnectionPDU
from acredssp.wire.x224 import ConnectionRequest, FailureCode, ResponseFlags

__all__ = ["Passthrough", "RDPRoute", "RouteAnswer", "RouteHook", "RouteRequest"]


@dataclasses.dataclass(frozen=True, slots=True)
class RouteRequest:
    """The argument of a `route` hook, which chooses where a connection goes. Nothing in it is proven.

    Attributes:
        request: The client's Connection Request: requested protocols, flags, cookie or routing token, correlation id.
        peer_address: The client's address, as `get_extra_info("peername")` gives it: `(host, port)` for TCP.
        session: The session object that the server's `accept` returned; None without one.
        preconnection: The preconnection PDU's id and blob, which came before the request; None if none came
            (`RDP.allow_preconnection`).
    """

    request: ConnectionRequest
    peer_address: object = None
    session: Any = None
    preconnection: PreconnectionPDU | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RDPRoute:
    """An answer of a `route` hook: how the connection goes on.

    Attributes:
        config: The configuration whose certificate, lookup, authorize, admit and policy hold from here on. The
            listener's `accept` and limits and the handshake's deadline still hold.
        hybrid_ex: The connection's `RDP.hybrid_ex`; None for that of the carriage.
        response_flags: The connection's `RDP.response_flags`; None for those of the carriage.
    """

    config: ServerConfig
    hybrid_ex: bool | None = None
    response_flags: ResponseFlags | None = None

    def __post_init__(self) -> None:
        expect("config", self.config, ServerConfig)
        expect("hybrid_ex", self.hybrid_ex, bool, None)
        expect("response_flags", self.response_flags, ResponseFlags, None)


@dataclasses.dataclass(frozen=True, slots=True)
class Passthrough:
    """The server takes no part in this connection: its bytes are passed on undecrypted, and nobody logs on here.

    A gateway needs it for what it cannot terminate, since the client's proof is for the target alone: Remote Credential
    Guard, smart cards, RDSTLS, Microsoft Entra. The application gets such a connection by `connected` alone, never
    where it expects one whose user has logged on. Only `create_server` and `start_server` pass connections on.

    Behind a load balancer (`proxy_protocol`), the writer's `peername` is the balancer's address. `RouteRequest` has the
    client's.

    Attributes:
        connected: Called with an `asyncio.StreamReader` and `asyncio.StreamWriter` of the connection in clear. The
            first bytes that the reader gives are the Connection Request. A coroutine runs in a task of its own.
        preconnection: Whether the preconnection PDU stands in front of it, where one came.
    """

    connected: Callable[[Any, Any], object]
    preconnection: bool = False

    def __post_init__(self) -> None:
        expect_callable("connected", self.connected)
        if self.connected is None:
            raise TypeError("connected: expected a callable, got None")
        expect("preconnection", self.preconnection, bool)


RouteAnswer: TypeAlias = ServerConfig | RDPRoute | Passthrough | FailureCode | Deny

RouteHook: TypeAlias = Callable[[RouteRequest], RouteAnswer | Awaitable[RouteAnswer]]
"""A hook that chooses the configuration by the Connection Request, before TLS begins. If it answers with a
`FailureCode`, the client is sent that code. `Deny()`, and every value that is no answer, closes the connection without
a message."""

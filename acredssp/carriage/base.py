"""The contract of carriages: a carriage makes a handshake with its own protocol around CredSSP.

A carriage is a value that the application chooses (`TLS()`, `RDP(...)`). For each connection, it puts a fresh
`SecurityContext` into a `CarriedHandshake`, which has the context's methods `step`, `resume`, `fail` and `receive_eof`.
`TLS` puts nothing around the context, so the context itself is the carried handshake. A carriage does no I/O.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, TypeAlias

from acredssp.config import ServerConfig
from acredssp.core.context import SecurityContext
from acredssp.core.results import Buffer, StepResult
from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import Answered, Question
from acredssp.wire.x224 import ConnectionRequest

__all__ = ["TLS", "Carriage", "CarriedHandshake", "NewContext", "PassedOn"]

NewContext: TypeAlias = Callable[[ServerConfig], SecurityContext]
"""Makes a fresh context of a configuration."""


@dataclasses.dataclass(frozen=True, slots=True)
class PassedOn:
    """A connection that is passed on as it is: nothing is decrypted, and nobody has logged on.

    Attributes:
        connected: Called with the reader and the writer of the connection.
        data: What has been read already, which the reader gives first.
    """

    connected: Callable[[Any, Any], object]
    data: bytes = dataclasses.field(repr=False)


class CarriedHandshake(Protocol):
    """One handshake on one connection, with the carriage's protocol around it.

    The methods are those of `SecurityContext`, and have the same meaning as there.
    """

    @property
    def context(self) -> SecurityContext:
        """The CredSSP context inside."""

    @property
    def cookie(self) -> str:
        """The name that the client sent before TLS (RDP: the `mstshash` cookie); empty for none. It is not proven."""

    @property
    def request(self) -> ConnectionRequest | None:
        """RDP: the client's Connection Request, with cookie or routing token; None for none. It is not proven."""

    @property
    def chosen(self) -> ServerConfig | None:
        """Server: the configuration that was chosen for this connection in place of the listener's; None for none."""

    @property
    def passed_on(self) -> "PassedOn | None":
        """Server: who gets this connection as it is, without TLS and without a logon; None for nobody."""

    @property
    def extra_info(self) -> Mapping[str, object]:
        """The carriage's own facts, by the names under which `get_extra_info` gives them."""

    @property
    def heard_all(self) -> bool:
        """Whether the peer has sent everything that the handshake needs of it: the peer may then leave."""

    @property
    def farewell(self) -> bytes:
        """The bytes that should still be sent to the peer after a failure."""

    @property
    def last_token(self) -> bytes:
        """The part of the farewell that the peer should read before the rest arrives; usually all of the farewell."""

    def step(self, data: Buffer = b"") -> StepResult:
        """Take whole units from the front of `data`.

        Where the peer's next unit may be shorter than the header of a TLS record (5 bytes), the result has the size of
        that unit in `missing`. Otherwise the driver may wait for a whole header.
        """

    def resume(self, event: Question[Answered], answer: Answered, early: Buffer = b"") -> StepResult:
        """Give the answer to `StepResult.event`.

        Args:
            event: The event.
            answer: The answer to it.
            early: The bytes that the peer has sent since the event.
        """

    def receive_eof(self) -> NoReturn:
        """Note that the transport has ended; raises the error that this means."""

    def fail(self, error: CredSSPError) -> None:
        """End the handshake with `error`."""


class Carriage(Protocol):
    """The protocol around CredSSP; all connections of a configuration share one carriage."""

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        """Make a client's handshake, which uses `context`; the context is new."""

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:
        """Make a server's handshake.

        Args:
            config: The listener's configuration.
            new_context: Makes a context of this configuration, or of another one that the carriage chooses for the
                connection.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class TLS:
    """CredSSP directly on the connection: TLS comes first, with nothing around it (the package "CREDSSP" of SSPI)."""

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        """Return the context, which is its own carried handshake."""
        return context

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:
        """Return a fresh context, which is its own carried handshake."""
        return new_context(config)

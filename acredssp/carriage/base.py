"""What the asyncio driver drives: a handshake with whatever a carriage puts around it.

A carriage is a value that the application chooses (`TLS()`, `RDP(...)`). For each connection it puts a fresh
`SecurityContext` into a `CarriedHandshake`, which answers `step`, `resume`, `fail` and `receive_eof` as the context
does. `TLS` puts nothing around the context, so there the context itself is the carried handshake.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol, TypeAlias

from acredssp.config import ServerConfig
from acredssp.core.context import Buffer, SecurityContext, StepResult
from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import Answered, Question
from acredssp.wire.x224 import ConnectionRequest

__all__ = ["TLS", "Carriage", "CarriedHandshake", "NewContext"]

NewContext: TypeAlias = Callable[[ServerConfig], SecurityContext]
"""Makes a fresh context of a configuration."""


class CarriedHandshake(Protocol):
    """One handshake on one connection, with what the carriage puts around it.

    The methods are those of `SecurityContext`, and each means what it means there.
    """

    @property
    def context(self) -> SecurityContext:
        """The CredSSP context inside."""

    @property
    def cookie(self) -> str:
        """What the client said before TLS (RDP: the `mstshash` cookie); empty for nothing. Unproven."""

    @property
    def request(self) -> ConnectionRequest | None:
        """RDP: the client's Connection Request, with cookie or routing token; None for none. Unproven."""

    @property
    def chosen(self) -> ServerConfig | None:
        """Server: the configuration that was chosen for this connection in place of the listener's; None for none."""

    @property
    def extra_info(self) -> Mapping[str, object]:
        """The carriage's own facts, by the names that `get_extra_info` knows them by."""

    @property
    def heard_all(self) -> bool:
        """Whether the peer has sent all that it has to: if it leaves now, the handshake may still be established."""

    @property
    def farewell(self) -> bytes:
        """What the peer should still be sent after a failure."""

    @property
    def last_token(self) -> bytes:
        """What of the farewell the peer should take in before the rest comes; all of it where that is no matter."""

    def step(self, data: Buffer = b"") -> StepResult:
        """Take whole units from the front of `data`.

        Where the peer's next unit may be shorter than the header of a TLS record (5 bytes), the result has the size of
        that unit in `missing`. Otherwise the driver may wait for a whole header.
        """

    def resume(self, event: Question[Answered], answer: Answered, early: Buffer = b"") -> StepResult:
        """Give the answer to `StepResult.event`, with what has come of the peer since."""

    def receive_eof(self) -> NoReturn:
        """Note that the transport ended; raises what that means."""

    def fail(self, error: CredSSPError) -> None:
        """End the handshake with `error`."""


class Carriage(Protocol):
    """How CredSSP is carried; shared by all connections of a configuration."""

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        """Make a client's handshake around a fresh context."""

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:
        """Make a server's handshake.

        Args:
            config: The listener's.
            new_context: Makes the context of this configuration, or of another one that the carriage chooses for the
                connection.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class TLS:
    """CredSSP straight on the connection: TLS first, nothing around it (the package "CREDSSP" of SSPI)."""

    def initiator(self, context: SecurityContext) -> CarriedHandshake:
        """Return the context, which is its own carried handshake."""
        return context

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> CarriedHandshake:
        """Return a fresh context, which is its own carried handshake."""
        return new_context(config)

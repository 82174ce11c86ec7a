"""The engine without I/O, for a loop of your own: contexts, their results, and the events that they stop at.

`ClientConfig.new_context()` and `ServerConfig.new_context()` make a `SecurityContext`. Each call of its `step()` or
`resume()` returns a `StepResult`, whose `event` is a question that the program answers. docs/sansio.md goes through it
in steps. Programs on asyncio need nothing of this module: the functions of `acredssp` answer the events.
"""

from acredssp.core.context import SecurityContext
from acredssp.core.events import (
    Admit,
    Answered,
    AskOracle,
    Authorize,
    ChooseCertificate,
    Delegate,
    Event,
    JudgeCertificate,
    LookupCredential,
    Question,
    Route,
    StepMechanism,
)
from acredssp.core.results import Buffer, HandshakeInfo, StepResult
from acredssp.core.states import State

__all__ = [
    "Admit",
    "Answered",
    "AskOracle",
    "Authorize",
    "Buffer",
    "ChooseCertificate",
    "Delegate",
    "Event",
    "HandshakeInfo",
    "JudgeCertificate",
    "LookupCredential",
    "Question",
    "Route",
    "SecurityContext",
    "State",
    "StepMechanism",
    "StepResult",
]

"""How far a probe came with a host itself, whatever listens there."""

import enum
from collections.abc import Iterator
from typing import Protocol

from acredssp.diagnosis.catalogue import Finding, found

__all__ = ["Reach", "of_reach"]


class Reach(enum.Enum):
    """How far a probe came with the host itself.

    Attributes:
        REACHED: A connection was made.
        NOT_FOUND: The name has no address.
        REFUSED: Nothing listens at the port.
        NO_ANSWER: Nothing came back in time.
        FAILED: The system refused the connection for another reason.
        OWN_LIMIT: This machine had no descriptor or no memory for the connection: the host was not asked.
        UNKNOWN: The probe was interrupted before it was known.
    """

    REACHED = "reached"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    NO_ANSWER = "no_answer"
    FAILED = "failed"
    OWN_LIMIT = "own_limit"
    UNKNOWN = "unknown"


class _Facts(Protocol):
    """What every kind of probe knows of its host."""

    @property
    def host(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def reach(self) -> Reach: ...
    @property
    def problem(self) -> str: ...


def of_reach(facts: _Facts) -> Iterator[Finding]:
    """Give the finding of a host that was not reached; none of one that was."""
    match facts.reach:
        case Reach.NOT_FOUND:
            yield found("host-not-found", host=facts.host, reason=facts.problem)
        case Reach.REFUSED:
            yield found("connection-refused", address=facts.address)
        case Reach.NO_ANSWER:
            yield found("no-answer", address=facts.address, seconds=facts.problem)
        case Reach.FAILED:
            yield found("connection-failed", address=facts.address, reason=facts.problem)
        case Reach.OWN_LIMIT:
            yield found("own-limit", address=facts.address, reason=facts.problem)
        case Reach.REACHED | Reach.UNKNOWN:
            pass

"""Checks that a carriage from outside this package keeps its contract, so that a faulty carriage fails closed.

A carriage decides what the driver sends, what it takes as read, and when a handshake is complete. A faulty carriage
could lose bytes, keep the event loop busy for ever, or let in a peer that has not logged on. So the driver gets the
carriage's handshake through `CheckedHandshake`. The carriages of this package are not checked, which would cost time.

`aio.handshake` calls this module.
"""

from collections.abc import Mapping
from typing import Any, Final, NoReturn, cast

from acredssp.carriage.base import TLS, Carriage, CarriedHandshake, PassedOn
from acredssp.carriage.rdp import RDP
from acredssp.config import ServerConfig
from acredssp.core.context import SecurityContext
from acredssp.core.results import Buffer, StepResult
from acredssp.core.states import State
from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import Answered, Question
from acredssp.status import SecurityStatus
from acredssp.wire.x224 import ConnectionRequest

__all__ = ["CheckedHandshake", "checked"]

_NONE: Final = type(None)
_OWN: Final = frozenset({TLS, RDP})
"""The carriages of this package."""
_BUFFERS: Final = (bytes, bytearray, memoryview)
_HINT: Final = "mend the carriage: docs/carriages.md has its contract"

_MAX_UNFINISHED: Final = 2**20
"""The most bytes that may wait for the rest of their unit. No protocol in front of TLS has longer units."""
_MAX_IDLE: Final = 32
"""The most results in a row that take no byte. The engine asks at most six questions before it takes bytes."""

_FACTS: Final[dict[str, tuple[tuple[type, ...], object]]] = {
    "cookie": ((str,), ""),
    "request": ((ConnectionRequest, _NONE), None),
    "chosen": ((ServerConfig, _NONE), None),
    "passed_on": ((PassedOn, _NONE), None),
    "extra_info": ((Mapping,), {}),
    "heard_all": ((bool,), False),
    "farewell": (_BUFFERS, b""),
    "last_token": (_BUFFERS, b""),
}
"""For each property its types, and its value after a failure if the carriage gives none."""


def checked(carriage: Carriage, handshake: CarriedHandshake) -> CarriedHandshake:
    """Return the handshake as it is if its carriage is one of this package, else through checks."""
    return handshake if type(carriage) in _OWN else CheckedHandshake(carriage, handshake)


class CheckedHandshake:
    """A handshake of a carriage from outside this package. It raises a `CredSSPError` when the carriage is at fault.

    Args:
        carriage: The carriage, for the error texts.
        handshake: The handshake that the carriage made.

    Raises:
        TypeError: The carriage made no handshake with a context.
    """

    __slots__ = ("_carriage", "_failed", "_handshake", "_idle", "_settled", "context")

    def __init__(self, carriage: object, handshake: CarriedHandshake) -> None:
        context = getattr(handshake, "context", None)
        self._carriage = type(carriage).__name__
        if not isinstance(context, SecurityContext):
            got = f"{type(handshake).__name__} with {type(context).__name__}"
            raise TypeError(f"carriage {self._carriage}: expected a handshake with a SecurityContext, got {got}")
        self.context = context
        self._handshake = handshake
        self._failed = False
        self._idle = 0
        """The number of results that have taken no byte since the last one that took some."""
        self._settled: dict[str, Any] = {}
        """The carriage's facts, read once when the handshake is complete. Before that it is empty."""

    # --- calls of the driver ---

    def step(self, data: Buffer = b"") -> StepResult:
        """Take whole units from the front of `data`."""
        return self._checked("step", self._handshake.step(data), len(data))

    def resume(self, event: Question[Answered], answer: Answered, early: Buffer = b"") -> StepResult:
        """Give the answer to an event."""
        return self._checked("resume", self._handshake.resume(event, answer, early), len(early))

    def receive_eof(self) -> NoReturn:
        """Note that the transport has ended; raises the error that this means."""
        self._handshake.receive_eof()
        raise self._broken("receive_eof: expected an error to be raised, got a return")

    def fail(self, error: CredSSPError) -> None:
        """End the handshake with `error`. The context always learns of it, since it has secrets to overwrite."""
        self._failed = True
        try:
            self._handshake.fail(error)
        except Exception as fault:  # noqa: BLE001 - whatever a carriage of somebody else's raises
            if fault is not error:
                error.add_note(f"carriage {self._carriage}: fail raised {type(fault).__name__}")
        finally:
            self.context.fail(error)

    # --- facts ---

    @property
    def cookie(self) -> str:
        """The name that the client sent before TLS."""
        return cast("str", self._fact("cookie"))

    @property
    def request(self) -> ConnectionRequest | None:
        """The client's Connection Request."""
        return cast("ConnectionRequest | None", self._fact("request"))

    @property
    def chosen(self) -> ServerConfig | None:
        """The configuration that was chosen for this connection."""
        return cast("ServerConfig | None", self._fact("chosen"))

    @property
    def passed_on(self) -> PassedOn | None:
        """Who gets this connection as it is."""
        return cast("PassedOn | None", self._fact("passed_on"))

    @property
    def extra_info(self) -> Mapping[str, object]:
        """The carriage's own facts."""
        return cast("Mapping[str, object]", self._fact("extra_info"))

    @property
    def heard_all(self) -> bool:
        """Whether the peer may leave."""
        return cast("bool", self._fact("heard_all"))

    @property
    def farewell(self) -> bytes:
        """The bytes that should still be sent to the peer after a failure."""
        return bytes(cast("bytes", self._fact("farewell")))

    @property
    def last_token(self) -> bytes:
        """The part of the farewell that the peer should read first."""
        return bytes(cast("bytes", self._fact("last_token")))

    def _fact(self, name: str) -> object:
        if name in self._settled:
            return self._settled[name]
        kinds, usual = _FACTS[name]
        try:
            value = getattr(self._handshake, name)
        except Exception:
            if self._failed:
                return usual
            raise
        if isinstance(value, kinds):
            return value
        if self._failed:
            return usual
        raise self._broken(f"{name}: expected {_names(kinds)}, got {type(value).__name__}")

    # --- results ---

    def _checked(self, call: str, result: StepResult, size: int) -> StepResult:
        """Return the result of a call that was given `size` bytes.

        Raises:
            CredSSPError: The result breaks the contract.
        """
        if not isinstance(result, StepResult):
            raise self._broken(f"{call}: expected a StepResult, got {type(result).__name__}")
        self._expect(call, "output", result.output, *_BUFFERS)
        self._expect(call, "event", result.event, Question, _NONE)
        self._expect_number(call, "extra", result.extra, size)
        self._expect_number(call, "missing", result.missing, _MAX_UNFINISHED - result.extra)
        if result.event is None and result.status is SecurityStatus.SEC_E_OK:
            self._check_complete(call)
        self._check_progress(call, result, size)
        return result

    def _check_complete(self, call: str) -> None:
        self._settled = {name: self._fact(name) for name in _FACTS}
        if self.context.state is not State.ESTABLISHED and self._settled["passed_on"] is None:
            self._settled = {}
            raise self._broken(f"{call}: expected an established context for SEC_E_OK, got {self.context.state.name}")

    def _check_progress(self, call: str, result: StepResult, size: int) -> None:
        waits = result.event is None and (result.missing or not size)
        self._idle = 0 if waits or (call == "step" and result.extra < size) else self._idle + 1
        if self._idle > _MAX_IDLE:
            raise self._broken(f"{call}: expected bytes to be taken or missing, got {_MAX_IDLE} results with neither")

    def _expect(self, call: str, name: str, value: object, *kinds: type) -> None:
        if not isinstance(value, kinds):
            raise self._broken(f"{call}: {name}: expected {_names(kinds)}, got {type(value).__name__}")

    def _expect_number(self, call: str, name: str, value: int, most: int) -> None:
        self._expect(call, name, value, int)
        if not 0 <= value <= most:
            raise self._broken(f"{call}: {name}: expected 0 to {max(most, 0)}, got {value}")

    def _broken(self, message: str) -> CredSSPError:
        return CredSSPError(f"carriage {self._carriage}: {message}", hint=_HINT)


def _names(kinds: tuple[type, ...]) -> str:
    return " or ".join(["None" if kind is _NONE else kind.__name__ for kind in kinds])

"""What must hold for a security context after every call, whatever its peer sends: `Watched` drives and checks one."""

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

from acredssp.core.context import SecurityContext
from acredssp.core.results import StepResult
from acredssp.errors import CredSSPError
from acredssp.status import SecurityStatus

__all__ = ["Cut", "Watched", "in_pieces", "whole"]

_INCOMPLETE: Final = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
_MOST_CALLS: Final = 10_000
"""Function calls that one step may make beside those for its bytes. The dearest step of an honest logon makes
300, and 2,000 where it reads its own certificate for the first time. Instrumented code makes twice as many."""
_CALLS_A_BYTE: Final = 1
_MOST_HELD: Final = 32 * 1024
"""Bytes that a context may hold beside one TSRequest and one record."""
_MOST_SENT: Final = 64 * 1024
_MOST_PIECES: Final = 40
"""Pieces that one message is cut into at most, so that an input takes milliseconds."""
_OWN: Final = "acredssp."
_SHARED: Final = frozenset({"Policy", "NTLMIdentity", "NTLMCredential"})
"""Classes whose values all connections share, so that they are no part of a connection's memory."""

Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    """Do not cut."""
    return [data]


def in_pieces(sizes: bytes) -> Cut:
    """Return a cut into pieces of these sizes, again and again; a size of 0 stands for the rest."""

    def cut(data: bytes) -> list[bytes]:
        pieces, at, turn = [], 0, 0
        while at < len(data):
            size = sizes[turn % len(sizes)] if sizes else 0
            pieces.append(data[at : at + size] if size and turn < _MOST_PIECES else data[at:])
            at += len(pieces[-1])
            turn += 1
        return pieces

    return cut


class Watched:
    """A context, driven as docs/sansio.md says, and what it did.

    Args:
        context: The context.
        answer: Answers its events.
        cut: How the peer's bytes are cut.
    """

    def __init__(self, context: SecurityContext, answer: Callable[[object], object], cut: Cut) -> None:
        self.context = context
        self._answer, self._cut = answer, cut
        self._rest = self._output = b""
        self.error: CredSSPError | None = None
        self.established = False
        self.told: list[object] = []
        """Everything that must not depend on the cuts: events, ends, and in the bare shape the output."""

    @property
    def over(self) -> bool:
        """Whether the context takes no more bytes."""
        return self.established or self.error is not None

    def start(self) -> bytes:
        """Make a client's first call."""
        self._guarded(lambda: self._take(self.context.step(), 0), 0)
        return self._sent()

    def give(self, data: bytes) -> bytes:
        """Give the context what came from the peer; return what it sends."""
        for piece in self._cut(data):
            if self.over:
                break
            self._rest += piece
            self._guarded(self._drain, len(self._rest))
        bound = _MOST_HELD + self.context.handshake.policy.max_message
        assert (held := _held(self.context)) <= bound, f"the context holds {held} bytes"
        return self._sent()

    def end(self) -> None:
        """Tell the context that the peer is gone."""
        if not self.over:
            self._guarded(self.context.receive_eof, 0)

    def _sent(self) -> bytes:
        """Return what was sent since the last call: an error does not take back what went before."""
        sent, self._output = self._output, b""
        assert len(sent) <= _MOST_SENT, "one message is answered by too much"
        return sent

    def _drain(self) -> None:
        while True:
            given = len(self._rest)
            result = self.context.step(self._rest)
            self._check(result, given)
            self._rest = self._rest[given - result.extra :] if result.extra else b""
            self._take(result, given)
            if self.over or result.missing or not self._rest:
                return
            assert result.extra < given or result.event is not None or result.output, "a step does nothing for ever"

    def _take(self, result: StepResult, given: int) -> None:
        assert 0 <= result.extra <= given
        self._output += result.output
        while result.event is not None:
            self.told.append(type(result.event).__name__)
            result = self.context.resume(result.event, self._answer(result.event))
            self._output += result.output
        self.established = result.status is SecurityStatus.SEC_E_OK

    def _check(self, result: StepResult, given: int) -> None:
        """Check `missing` by an own reading of the frame's header, and that a repeated call is harmless."""
        if result.event is None and result.status is not SecurityStatus.SEC_E_OK and result.missing:
            left = self._rest[given - result.extra :] if result.extra else b""
            needed, exact = self._needed(left)
            right = result.missing == needed if exact else 0 < result.missing <= needed
            assert right, f"missing is {result.missing}, and the frame needs {needed}"
        if result.status is _INCOMPLETE:
            assert result.extra == given
            assert not result.output
            assert result.missing > 0
            assert self.context.step(self._rest) == result, "a repeated call is not harmless"

    def _needed(self, data: bytes) -> tuple[int, bool]:
        """How many bytes the frame at the front of `data` needs beside them, and whether that is exact."""
        if self.context.tls is not None:
            if len(data) < 5:
                return 5 - len(data), False
            return 5 + int.from_bytes(data[3:5], "big") - len(data), True
        if len(data) < 2:
            return 2 - len(data), False
        header = 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)
        if len(data) < header:
            return header - len(data), False
        length = int.from_bytes(data[2:header], "big") if header > 2 else data[1]
        return header + length - len(data), True

    def _guarded(self, call: Callable[[], object], size: int) -> None:
        """Make a call that may end the context; check its work, its memory, and what holds for a failed context."""
        work = _Work()
        try:
            with work:
                call()
        except CredSSPError as error:
            self.error = error
            self._check_failed(error)
        assert work.calls <= _MOST_CALLS + _CALLS_A_BYTE * size, f"{work.calls} calls for {size} bytes"

    def _check_failed(self, error: CredSSPError) -> None:
        failed = self.context.handshake.error
        assert failed is error, "the error that was raised is not the one that ended the context"
        again: CredSSPError | None = None
        try:
            self.context.step(b"anything")
        except CredSSPError as raised:
            again = raised
        assert again is error, "a failed context takes more bytes, or raises another error"
        assert len(self.context.farewell) <= _MOST_SENT
        assert self.context.take_credentials() is None, "a failed context gives credentials"


class _Work:
    """Counts function calls, which no machine's speed changes. Compiled functions call nothing that can be counted."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> None:
        sys.setprofile(self._note)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.calls += event in {"call", "c_call"}


def _held(context: SecurityContext) -> int:
    """How many bytes of the peer's and its own a context holds, its mechanism included."""
    seen: set[int] = set()
    todo: list[object] = [context]
    size = 0
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, bytes | bytearray):
            size += len(value)
        elif isinstance(value, dict | list | tuple):
            todo += gc.get_referents(value)
        elif type(value).__module__.startswith(_OWN) and type(value).__name__ not in _SHARED:
            todo += [each for each in gc.get_referents(value) if not isinstance(each, type)]
    return size

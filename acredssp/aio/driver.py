"""The driver, which takes a handshake to its end, for clients and servers and with every carriage.

The engine works in the callback in which the loop brings the bytes: no message wakes a task or makes a future. Answers
that the application gives at once are given in that callback, too. Meanwhile `establish` waits in the task of its
caller. It runs only when an answer takes time, at the deadline, and at the end. It starts no task of its own.

`establish` owns the connection until it returns. On success, the connection is open, and bytes that came behind the
handshake are still stored. On any failure, the connection is closed.

`handshake` calls this module.
"""

import asyncio
import contextvars
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeAlias

from acredssp.aio.protocol import CredSSPProtocol
from acredssp.carriage.base import CarriedHandshake
from acredssp.core.events import Event
from acredssp.core.results import HandshakeInfo, StepResult
from acredssp.errors import CredSSPError, HandshakeTimeout, LimitExceeded
from acredssp.mechanisms.base import Question
from acredssp.status import SecurityStatus
from acredssp.tracebacks import forget_locals
from acredssp.wire.tls_record import HEADER_SIZE

__all__ = ["Answerer", "Pending", "check_in_time", "deadline_in", "establish"]

Answerer: TypeAlias = Callable[[Event], "Pending | Any"]
"""Answers the engine's events at once, or with a `Pending`. If either raises a `CredSSPError`, the handshake ends with
that error."""

_ESTABLISHED: Final = SecurityStatus.SEC_E_OK

_FAREWELL_GRACE: Final = 1.0
"""Seconds that a peer gets to take our farewell. It has some 100 bytes, so only a peer that reads nothing needs
longer."""

_TOKEN_GRACE: Final = 0.1
"""Seconds that a client gets to act on an errorCode before close_notify follows. Most clients close at once; pyspnego's
would never return if it read both together."""


class Pending:
    """An answer that takes time. It must be awaited once, or closed.

    Args:
        awaitable: Gives the answer.
        wait: Awaits the awaitable under its time limit, and returns the answer.
    """

    __slots__ = ("_awaitable", "_wait")

    def __init__(
        self, awaitable: Awaitable[object], wait: Callable[[Awaitable[object]], Coroutine[Any, Any, object]]
    ) -> None:
        self._awaitable = awaitable
        self._wait = wait

    def __await__(self) -> Generator[Any, None, object]:
        return self._wait(self._awaitable).__await__()

    def close(self) -> None:
        """Drop the answer: Python would warn about a coroutine that never began."""
        if isinstance(self._awaitable, types.CoroutineType):
            self._awaitable.close()


def deadline_in(seconds: float) -> float:
    """Return the moment `seconds` from now, in the running loop's time, or in `time.monotonic()`'s without a loop."""
    try:
        now = asyncio.get_running_loop().time()
    except RuntimeError:  # the SSPI functions run without a loop as long as they wait for nothing
        now = time.monotonic()
    return now + seconds


async def establish(
    protocol: CredSSPProtocol,
    carried: CarriedHandshake,
    answer: Answerer,
    deadline: float,
    failed: Callable[[CredSSPError], object] = lambda _error: None,
) -> HandshakeInfo:
    """Drive `carried` over `protocol`'s connection until it is established.

    Args:
        protocol: A connected protocol that no other code uses.
        carried: A fresh handshake.
        answer: Answers the handshake's events.
        deadline: The moment at which to give up, in the loop's time.
        failed: Called with the failure before the peer is told.

    Raises:
        HandshakeTimeout: The deadline passed.
        CredSSPError: The handshake failed. The peer has been told, and the connection is closed.
        asyncio.CancelledError: The task was cancelled; the connection is aborted.
    """
    driver = _Driver(protocol, carried, answer)
    try:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                driver.begin()
                while (pending := await driver.pending()) is not None:
                    # The answer may be a key. It is kept in no variable, since an error keeps a coroutine's variables.
                    driver.resume(await driver.answer_to(pending, limit), limit)
        except TimeoutError:
            raise driver.timed_out() from None
    except CredSSPError as error:
        driver.stop()
        try:
            carried.fail(error)
            if error.__cause__ is None:
                error.__cause__ = protocol.error
            forget_locals(error)
            failed(error)
        except BaseException:
            protocol.abort()
            raise
        await driver.say_goodbye(deadline)
        driver.let_go()
        raise
    except BaseException as error:
        forget_locals(error)
        protocol.abort()
        raise
    finally:
        driver.stop()
    return carried.context.info


def check_in_time(limit: asyncio.Timeout) -> None:
    """Raise `TimeoutError` if the time limit has passed and the awaited code has swallowed its cancellation."""
    if limit.expired():
        raise TimeoutError


class _Driver:
    """The connection's receiver, which calls the engine while `establish` waits.

    Args:
        protocol: The connection. Bytes that it has stored already are a part of the handshake.
        carried: A fresh handshake.
        answer: Answers the handshake's events.
    """

    __slots__ = (
        "_answer",
        "_asked",
        "_carried",
        "_context",
        "_draining",
        "_error",
        "_established",
        "_limit",
        "_pending",
        "_protocol",
        "_turn",
        "_unneeded",
        "_waiter",
        "_wanted",
    )

    def __init__(self, protocol: CredSSPProtocol, carried: CarriedHandshake, answer: Answerer) -> None:
        self._protocol = protocol
        self._carried = carried
        self._answer = answer
        self._context = contextvars.copy_context()
        """The context variables with which `establish` was called. Hooks and log handlers see them in every
        callback."""
        self._wanted = 0
        """How many bytes must be stored before the engine can go on; 0 while it does not wait for the peer."""
        self._draining: StepResult | None = None
        """The result to go on with once the transport takes more; None while nothing waits for the transport."""
        self._asked: Question[Any] | None = None
        """The last event, for the answer that is pending."""
        self._pending: Pending | None = None
        self._limit: asyncio.Timeout | None = None
        """While an answer is awaited, the handshake's time limit, which ends the wait once the peer has left."""
        self._unneeded = False
        """Whether the answer was no longer needed."""
        self._turn: asyncio.Handle | None = None
        """The call in which the engine goes on with stored bytes, after the loop's other callbacks have had a turn."""
        self._established = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        protocol.give_to(self)

    # --- for `establish` ---

    def begin(self) -> None:
        """Let the engine begin."""
        self._go_on()

    def resume(self, answer: object, limit: asyncio.Timeout) -> None:
        """Give the engine the answer that was pending.

        Raises:
            TimeoutError: The answer came too late.
            CredSSPError: The answer was a refusal, or the handshake failed.
        """
        check_in_time(limit)
        assert self._asked is not None
        self._go_on(self._carried.resume(self._asked, answer, self._protocol.received))

    async def pending(self) -> Pending | None:
        """Wait until an answer takes time, and return that answer; return None once the handshake is established.

        Raises:
            CredSSPError: The handshake failed.
        """
        while not self._established and self._error is None and self._pending is None:
            await self._woken()
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # the error's traceback holds this frame
        pending, self._pending = self._pending, None
        return pending

    async def answer_to(self, pending: Pending, limit: asyncio.Timeout) -> object:
        """Wait for an answer that takes time. The work on it is cancelled once the answer is no longer needed.

        Raises:
            TimeoutError: The answer is no longer needed.
        """
        if self._needs_no_answer:
            pending.close()
            self._unneeded = True
            raise TimeoutError
        self._limit = limit
        try:
            return await pending
        finally:
            self._limit = None

    def timed_out(self) -> CredSSPError:
        """Return why the time limit has ended the handshake: the peer needs no answer, or the deadline has passed."""
        if not self._unneeded:
            return HandshakeTimeout("the handshake did not end before its deadline")
        if self._peer_has_left:
            try:
                self._carried.receive_eof()
            except CredSSPError as error:
                return error
        return LimitExceeded("expected the peer to wait for its answer, got more bytes than are stored meanwhile")

    async def say_goodbye(self, deadline: float) -> None:
        """Send the farewell and close; a peer that does not read it is cut off after a moment."""
        protocol = self._protocol
        try:
            token, farewell = self._carried.last_token, self._carried.farewell
            if token:
                protocol.write(token)
            if token != farewell:
                await self._comes_true(lambda: protocol.ended, min(deadline, deadline_in(_TOKEN_GRACE)))
                protocol.write(farewell[len(token) :])
            protocol.close()
            if not await self._comes_true(lambda: protocol.lost, min(deadline, deadline_in(_FAREWELL_GRACE))):
                protocol.abort()
        except BaseException:
            protocol.abort()
            raise

    async def _comes_true(self, fact: Callable[[], bool], deadline: float) -> bool:
        """Wait for a fact about the connection; return whether it came true before the deadline."""
        try:
            async with asyncio.timeout_at(deadline):
                while not fact():
                    await self._woken()
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """Drop the answer that will not be awaited, and the turn that is no longer needed."""
        if self._pending is not None:
            self._pending.close()
        if self._turn is not None:
            self._turn.cancel()

    def let_go(self) -> None:
        """Forget the engine, which keeps its error, which keeps the frames of this object's callbacks."""
        self._wanted, self._draining = 0, None
        del self._carried, self._answer

    async def _woken(self) -> None:
        self._waiter = self._protocol.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the engine ---

    def _go_on(self, result: StepResult | None = None) -> None:
        """Do what the engine says until the peer, the transport or an answer has to be waited for.

        An exception is kept for `establish`, and never raised into the loop.

        Args:
            result: The engine's last result; None to give the engine the stored bytes first.
        """
        protocol, carried = self._protocol, self._carried
        self._wanted = 0
        try:
            while True:
                if result is None:
                    received = protocol.received
                    result = carried.step(received)
                    del received[: len(received) - result.extra]
                if result.output and not protocol.write(result.output):
                    self._drain(result)
                    return
                if result.event is not None:
                    result = self._ask(result.event)
                    if result is None:
                        return
                elif result.status is _ESTABLISHED:
                    self._finish()
                    return
                elif protocol.received and not result.missing:
                    if not result.output:  # the engine took as much as one call may take
                        self._turn = protocol.loop.call_soon(self._go_on)
                        return
                    result = None
                else:
                    # With nothing stored, a step would only say that a whole header is missing.
                    self._wait_for(len(protocol.received) + (result.missing or HEADER_SIZE))
                    return
        except BaseException as error:  # noqa: BLE001 - whatever a hook raises is raised in the task
            self._fail(error)

    def _drain(self, result: StepResult) -> None:
        """Wait until the transport takes more."""
        result.output = b""
        result.missing = 0  # missing bytes may have come by then, so the engine is asked again
        self._draining = result

    def _ask(self, event: Event) -> StepResult | None:
        """Answer an event; return the engine's next result, or None while the answer is pending."""
        answer = self._context.run(self._answer, event)
        if isinstance(answer, Pending):
            self._asked, self._pending = event, answer
            self._wake()
            return None
        return self._carried.resume(event, answer, self._protocol.received)

    @property
    def _peer_has_left(self) -> bool:
        """Whether the handshake can no longer succeed, since the engine needs bytes and no more will come."""
        return self._protocol.lost or (self._protocol.ended and not self._carried.heard_all)

    @property
    def _needs_no_answer(self) -> bool:
        """Whether the answer that is awaited is no longer needed."""
        return self._peer_has_left or (self._protocol.overfull and not self._carried.heard_all)

    def _wait_for(self, size: int) -> None:
        """Wait until `size` bytes are stored."""
        if self._protocol.ended:
            self._carried.receive_eof()
        self._wanted = size
        self._protocol.resume_once()

    def _finish(self) -> None:
        self._established = True
        self._protocol.give_to(None)
        self._wake()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        # The traceback may hold a view of the stored bytes, which keeps the bytearray from growing.
        self._protocol.received = bytearray()
        self._wake()

    # --- calls of the connection ---

    def on_data(self, ciphertext: memoryview) -> None:
        """Go on once there are enough bytes, so that the engine looks at a record twice at most, however it is cut."""
        if not self._wanted:
            self._protocol.store(ciphertext)
            self._see_whether_to_wait()
            return
        self._protocol.heard = True
        received = self._protocol.received
        received += ciphertext
        if len(received) >= self._wanted:
            self._go_on()

    def on_eof(self) -> None:
        """Tell an engine that waits for more bytes that the peer has ended; wake whoever waits for the end."""
        if self._wanted:
            self._go_on()
        else:
            self._see_whether_to_wait()
        self._wake()

    def _see_whether_to_wait(self) -> None:
        """Stop waiting for an answer that is no longer needed."""
        if self._limit is not None and not self._limit.expired() and self._needs_no_answer:
            self._unneeded = True
            self._limit.reschedule(self._protocol.loop.time())

    def on_connection_lost(self, exc: Exception | None) -> None:
        """Do as for the peer's end; the transport takes no more bytes either."""
        self._protocol.error = exc
        self.on_eof()
        self.on_resume_writing()

    def on_pause_writing(self) -> None:
        """Do nothing: `write` returns whether writing is paused."""

    def on_resume_writing(self) -> None:
        """Go on with the result that waited for the transport."""
        if self._draining is not None:
            result, self._draining = self._draining, None
            self._go_on(result)

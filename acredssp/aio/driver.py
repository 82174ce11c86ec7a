"""What drives a handshake to its end, client or server, whatever the carriage.

The engine works in the loop's callback that brings the bytes: for a message no task is woken and no future made. What
the application answers at once is answered there, too. `establish` waits meanwhile, in the task of who calls it, and
has its turn when an answer takes time, at the deadline, and at the end. It starts no task of its own.

It owns the connection until it returns: on success the connection is open and what came behind the handshake is still
stored; on any failure it is closed.

Who calls: `streams` and `server`.
"""

import asyncio
import contextvars
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeAlias

from acredssp.aio.protocol import CredSSPProtocol
from acredssp.carriage.base import CarriedHandshake
from acredssp.core.context import HandshakeInfo, StepResult
from acredssp.core.events import Event
from acredssp.errors import CredSSPError, HandshakeTimeout, LimitExceeded
from acredssp.mechanisms.base import Question
from acredssp.status import SecurityStatus
from acredssp.tracebacks import forget_locals
from acredssp.wire.tls_record import HEADER_SIZE

__all__ = ["Answerer", "Pending", "check_in_time", "deadline_in", "establish"]

Answerer: TypeAlias = Callable[[Event], "Pending | Any"]
"""Answers the engine's events: at once, or with a `Pending`. Either may raise a `CredSSPError`, which ends the
handshake with it."""

_ESTABLISHED: Final = SecurityStatus.SEC_E_OK

_FAREWELL_GRACE: Final = 1.0
"""Seconds that a peer gets to take our last words. They are some 100 bytes: only one that reads nothing needs any."""

_TOKEN_GRACE: Final = 0.1
"""Seconds that a client gets to act on an errorCode before close_notify follows it: most close at once, and pyspnego's
would never return from reading both."""


class Pending:
    """An answer that takes time: to be awaited once, or closed.

    Args:
        awaitable: Gives it.
        wait: Awaits it, and knows for how long.
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
        """Drop it: a coroutine that never began would be complained of."""
        if isinstance(self._awaitable, types.CoroutineType):
            self._awaitable.close()


def deadline_in(seconds: float) -> float:
    """Return the moment `seconds` from now, in the running loop's time; where none runs, in `time.monotonic()`'s."""
    try:
        now = asyncio.get_running_loop().time()
    except RuntimeError:  # the sspi functions run without a loop as long as they wait for nothing
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
        protocol: A connected protocol without another owner.
        carried: A fresh handshake.
        answer: Answers its events.
        deadline: When to give up, in the loop's time.
        failed: Called with the failure before the peer is told.

    Raises:
        HandshakeTimeout: The deadline passed.
        CredSSPError: The handshake failed. The peer has been told, and the connection is closed.
        asyncio.CancelledError: The connection is aborted.
    """
    driver = _Driver(protocol, carried, answer)
    try:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                driver.begin()
                while (pending := await driver.pending()) is not None:
                    # The answer, which may be a key, stays in no variable: this coroutine's are kept with an error.
                    driver.resume(await driver.answer_to(pending), limit)
        except TimeoutError:
            raise HandshakeTimeout("the handshake did not end before its deadline") from None
    except CredSSPError as error:
        driver.stop()
        carried.fail(error)
        if error.__cause__ is None:
            error.__cause__ = protocol.error
        forget_locals(error)
        try:
            failed(error)
        except BaseException:
            protocol.abort()
            raise
        await driver.say_goodbye(deadline)
        raise
    except BaseException as error:
        forget_locals(error)
        protocol.abort()
        raise
    finally:
        driver.stop()
    return carried.context.info


def check_in_time(limit: asyncio.Timeout) -> None:
    """Raise `TimeoutError` where whoever was waited for has swallowed the cancellation that the limit sent."""
    if limit.expired():
        raise TimeoutError


class _Driver:
    """The handshake between two turns of `establish`: the connection's receiver, which calls the engine.

    Args:
        protocol: The connection. What it stored before counts: a server that ignored it would wait for as many bytes
            once more.
        carried: A fresh handshake.
        answer: Answers its events.
    """

    __slots__ = (
        "_answer",
        "_asked",
        "_carried",
        "_context",
        "_draining",
        "_error",
        "_established",
        "_pending",
        "_presence",
        "_protocol",
        "_turn",
        "_waiter",
        "_wanted",
    )

    def __init__(self, protocol: CredSSPProtocol, carried: CarriedHandshake, answer: Answerer) -> None:
        self._protocol = protocol
        self._carried = carried
        self._answer = answer
        self._context = contextvars.copy_context()
        """What hooks and log handlers find is what `establish` was called with, whatever callback they run in."""
        self._wanted = 0
        """Bytes that must be stored before the engine can go on; 0 while it does not wait for the peer."""
        self._draining: StepResult | None = None
        """What to go on with once the transport takes more."""
        self._asked: Question[Any] | None = None
        """The last event, for the answer that is pending."""
        self._pending: Pending | None = None
        self._presence: asyncio.Timeout | None = None
        """While an answer is awaited: ends the waiting once the peer has left."""
        self._turn: asyncio.Handle | None = None
        """Where the engine goes on with what is stored, once everybody else of the loop has had a turn."""
        self._established = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        protocol.give_to(self)

    # --- for `establish` ---

    def begin(self) -> None:
        """Have the engine begin."""
        self._go_on()

    def resume(self, answer: object, limit: asyncio.Timeout) -> None:
        """Give the engine the answer that was pending.

        Raises:
            TimeoutError: It came too late.
            CredSSPError: It was no, or the handshake failed.
        """
        check_in_time(limit)
        assert self._asked is not None
        self._go_on(self._carried.resume(self._asked, answer, self._protocol.received))

    async def pending(self) -> Pending | None:
        """Wait until an answer takes time, and return it; None once the handshake is established.

        Raises:
            CredSSPError: It failed.
        """
        while not self._established and self._error is None and self._pending is None:
            await self._woken()
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        pending, self._pending = self._pending, None
        return pending

    async def answer_to(self, pending: Pending) -> object:
        """Wait for an answer that takes time. Whoever works on it is cancelled once nobody needs the answer.

        Raises:
            CredSSPError: The peer left, or sends far more than one who waits for us has to say.
        """
        if self._needs_no_answer:
            pending.close()
            self._end_for_peer()
        try:
            async with asyncio.timeout(None) as presence:
                self._presence = presence
                answer = await pending
        except TimeoutError:
            if not presence.expired():
                raise
            answer = None
        finally:
            self._presence = None
        if presence.expired():
            answer = None  # a coroutine's variables are kept with an error
            self._end_for_peer()
        return answer

    def _end_for_peer(self) -> None:
        if self._peer_has_left:
            self._carried.receive_eof()
        raise LimitExceeded("expected a peer that waits for its answer, got more bytes than are kept for it")

    async def say_goodbye(self, deadline: float) -> None:
        """Close with our last words; nobody who does not read them holds us up."""
        protocol, token, farewell = self._protocol, self._carried.last_token, self._carried.farewell
        try:
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
        """Drop the answer that nobody will await, and the turn that nobody wants."""
        if self._pending is not None:
            self._pending.close()
        if self._turn is not None:
            self._turn.cancel()

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
        """Do what the engine says until somebody has to be waited for; None: first give it what is stored.

        What is raised here is for `establish`, never for the loop.
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
                    if not result.output:  # it took as much as one call takes
                        self._turn = protocol.loop.call_soon(self._go_on)
                        return
                    result = None
                else:
                    # With nothing stored, a step would only tell that a whole header is missing.
                    self._wait_for(len(protocol.received) + (result.missing or HEADER_SIZE))
                    return
        except BaseException as error:  # noqa: BLE001 - a hook's own, of whatever kind, ends up in the task
            self._fail(error)

    def _drain(self, result: StepResult) -> None:
        """Wait until the transport takes more."""
        result.output = b""
        result.missing = 0  # some may have come by then: the engine is asked again
        self._draining = result

    def _ask(self, event: Event) -> StepResult | None:
        """Have an event answered; return what the engine says to that, or None while the answer is pending."""
        answer = self._context.run(self._answer, event)
        if isinstance(answer, Pending):
            self._asked, self._pending = event, answer
            self._wake()
            return None
        return self._carried.resume(event, answer, self._protocol.received)

    @property
    def _peer_has_left(self) -> bool:
        """Whether the handshake can come to nothing: no more will come, and the engine needs more."""
        return self._protocol.lost or (self._protocol.ended and not self._carried.heard_all)

    @property
    def _needs_no_answer(self) -> bool:
        """Whether an answer that is awaited can come to nothing."""
        return self._peer_has_left or (self._protocol.overfull and not self._carried.heard_all)

    def _wait_for(self, size: int) -> None:
        """Wait until so many bytes are stored."""
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
        # The traceback may hold a view of what was stored, which could then not grow any more.
        self._protocol.received = bytearray()
        self._wake()

    # --- what the connection tells ---

    def on_data(self, ciphertext: memoryview) -> None:
        """Go on once there is enough: a record cut into single bytes is looked at twice, for its header and its end."""
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
        """See what the end means to an engine that waits for more, or to last words."""
        if self._wanted:
            self._go_on()
        else:
            self._see_whether_to_wait()
        self._wake()

    def _see_whether_to_wait(self) -> None:
        """End the waiting for an answer that nobody needs."""
        if self._presence is not None and self._needs_no_answer:
            presence, self._presence = self._presence, None
            presence.reschedule(self._protocol.loop.time())

    def on_connection_lost(self, exc: Exception | None) -> None:
        """The same; and nobody drains any more."""
        self._protocol.error = exc
        self.on_eof()
        self.on_resume_writing()

    def on_pause_writing(self) -> None:
        """Nothing: `write` tells."""

    def on_resume_writing(self) -> None:
        """Go on behind what the transport has taken."""
        if self._draining is not None:
            result, self._draining = self._draining, None
            self._go_on(result)

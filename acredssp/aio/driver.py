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
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeAlias

from acredssp.aio.protocol import CredSSPProtocol
from acredssp.carriage.base import Sequence
from acredssp.core.context import HandshakeInfo, StepResult
from acredssp.core.events import Event
from acredssp.errors import CredSSPError, HandshakeTimeout
from acredssp.status import SecurityStatus
from acredssp.wire.tls_record import HEADER_SIZE

__all__ = ["Answerer", "Pending", "check_in_time", "deadline_in", "establish"]

Answerer: TypeAlias = Callable[[Event], "Pending | object"]
"""Answers the engine's events: at once, or with a `Pending`. Either may raise a `CredSSPError`, which ends the
handshake with it."""

_ESTABLISHED: Final = SecurityStatus.SEC_E_OK

_FAREWELL_GRACE: Final = 1.0
"""Seconds that a peer gets to take our last words. They are some 100 bytes: only one that reads nothing needs any."""


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
    """Return the moment `seconds` from now, in the running loop's time."""
    return asyncio.get_running_loop().time() + seconds


async def establish(protocol: CredSSPProtocol, sequence: Sequence, answer: Answerer, deadline: float) -> HandshakeInfo:
    """Drive `sequence` over `protocol`'s connection until it is established.

    Args:
        protocol: A connected protocol without another owner.
        sequence: A fresh handshake.
        answer: Answers its events.
        deadline: When to give up, in the loop's time.

    Raises:
        HandshakeTimeout: The deadline passed.
        CredSSPError: The handshake failed. The peer has been told, and the connection is closed.
        asyncio.CancelledError: The connection is aborted.
    """
    driver = _Driver(protocol, sequence, answer)
    try:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                pending = await driver.begin()
                while pending is not None:
                    answered = await pending
                    check_in_time(limit)
                    pending = await driver.resume(answered)
        except TimeoutError:
            raise HandshakeTimeout("the handshake did not end before its deadline") from None
    except CredSSPError as error:
        sequence.fail(error)
        if error.__cause__ is None:
            error.__cause__ = protocol.error
        await driver.say_goodbye(deadline)
        raise
    except BaseException:
        protocol.abort()
        raise
    finally:
        driver.forget_pending()
    return sequence.context.info


def check_in_time(limit: asyncio.Timeout) -> None:
    """Raise `TimeoutError` where whoever was waited for has swallowed the cancellation that the limit sent."""
    if limit.expired():
        raise TimeoutError


class _Driver:
    """The handshake between two turns of `establish`: the connection's receiver, which calls the engine.

    Args:
        protocol: The connection. What it stored before counts: a server that ignored it would wait for as many bytes
            once more.
        sequence: A fresh handshake.
        answer: Answers its events.
    """

    __slots__ = (
        "_answer",
        "_context",
        "_draining",
        "_error",
        "_established",
        "_kept",
        "_pending",
        "_protocol",
        "_sequence",
        "_waiter",
        "_wanted",
    )

    def __init__(self, protocol: CredSSPProtocol, sequence: Sequence, answer: Answerer) -> None:
        self._protocol = protocol
        self._sequence = sequence
        self._answer = answer
        self._context = contextvars.copy_context()
        """What hooks and log handlers find is what `establish` was called with, whatever callback they run in."""
        self._kept = 0
        """Bytes at the front of what is stored that the engine has seen."""
        self._wanted = 0
        """Bytes that must be stored before the engine can go on; 0 while it does not wait for the peer."""
        self._draining: StepResult | None = None
        """What to go on with once the transport takes more."""
        self._pending: Pending | None = None
        self._established = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        protocol.give_to(self)

    # --- for `establish` ---

    async def begin(self) -> Pending | None:
        """Go on until an answer takes time, which is returned; None when the handshake is established.

        Raises:
            CredSSPError: It failed.
        """
        self._run(self._step)
        return await self._outcome()

    async def resume(self, answer: object) -> Pending | None:
        """The same once there is the answer to what was returned."""
        self._run(self._resume, answer)
        return await self._outcome()

    async def say_goodbye(self, deadline: float) -> None:
        """Close with our last words; nobody who does not read them holds us up."""
        protocol, farewell = self._protocol, self._sequence.farewell
        try:
            if farewell:
                protocol.write(farewell)
            protocol.close()
            async with asyncio.timeout_at(min(deadline, deadline_in(_FAREWELL_GRACE))):
                while not protocol.lost:
                    await self._woken()
        except TimeoutError:
            protocol.abort()
        except BaseException:
            protocol.abort()
            raise

    def forget_pending(self) -> None:
        """Drop the answer that nobody will await."""
        if self._pending is not None:
            self._pending.close()

    async def _outcome(self) -> Pending | None:
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

    def _run(self, go_on: Callable[..., None], *what: object) -> None:
        """Let the engine work until it waits; what it raises is for `establish`, never for the loop."""
        self._wanted = 0
        try:
            self._context.run(go_on, *what)
        except BaseException as error:  # noqa: BLE001 - a hook's own, of whatever kind, ends up in the task
            self._error = error
            # The traceback may hold a view of what was stored, which could then not grow any more.
            self._protocol.received = bytearray()
            self._wake()

    def _resume(self, answer: object) -> None:
        self._follow(self._sequence.resume(answer))

    def _step(self) -> None:
        self._follow(self._take())

    def _take(self) -> StepResult:
        """Give the engine what is stored; what it leaves is kept."""
        received = self._protocol.received
        result = self._sequence.step(received)
        self._kept = result.extra
        del received[: len(received) - result.extra]
        return result

    def _follow(self, result: StepResult) -> None:
        """Do what the engine says until somebody has to be waited for."""
        protocol = self._protocol
        while True:
            if result.output:
                protocol.write(result.output)
                result.output = b""
                if protocol.writing_paused and not protocol.lost:
                    self._draining = result
                    return
            if result.event is not None:
                answer = self._answer(result.event)
                if isinstance(answer, Pending):
                    self._pending = answer
                    self._wake()
                    return
                result = self._sequence.resume(answer)
                continue
            if result.status is _ESTABLISHED:
                self._established = True
                protocol.give_to(None)
                self._wake()
                return
            # With nothing stored, a step would only tell that a whole header is missing.
            wanted = self._kept + (result.missing or (0 if protocol.received else HEADER_SIZE))
            if len(protocol.received) < wanted:
                self._wait_for(wanted)
                return
            result = self._take()

    def _wait_for(self, size: int) -> None:
        """Wait until so many bytes are stored."""
        if self._protocol.ended:
            self._sequence.receive_eof()
        self._wanted = size
        self._protocol.resume_once()

    # --- what the connection tells ---

    def on_data(self, ciphertext: memoryview) -> None:
        """Go on once there is enough: a record cut into single bytes is looked at twice, for its header and its end."""
        if not self._wanted:
            self._protocol.store(ciphertext)
            return
        received = self._protocol.received
        received += ciphertext
        if len(received) >= self._wanted:
            self._run(self._step)

    def on_eof(self) -> None:
        """Nothing more will come: that is an error for whoever waits for it."""
        if self._wanted:
            self._run(self._sequence.receive_eof)

    def on_connection_lost(self, exc: Exception | None) -> None:
        """The same; and nobody drains any more."""
        self._protocol.error = exc
        self.on_eof()
        self.on_resume_writing()
        self._wake()

    def on_pause_writing(self) -> None:
        """Nothing: `_follow` looks whenever it has written."""

    def on_resume_writing(self) -> None:
        """Go on behind what the transport has taken."""
        if self._draining is not None:
            result, self._draining = self._draining, None
            self._run(self._follow, result)

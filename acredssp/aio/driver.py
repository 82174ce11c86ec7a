"""The one coroutine that drives a handshake to its end, client or server, whatever the carriage.

It runs in the task of who calls it and starts none of its own. It owns the connection until it returns: on success
the connection is open and what came behind the handshake is still stored; on any failure it is closed.

Who calls: `streams` and `server`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from acredssp.aio.protocol import CredSSPProtocol
from acredssp.carriage.base import Sequence
from acredssp.core.context import HandshakeInfo
from acredssp.core.events import Event
from acredssp.errors import CredSSPError, HandshakeTimeout
from acredssp.status import SecurityStatus
from acredssp.wire.tls_record import HEADER_SIZE

__all__ = ["Answerer", "deadline_in", "establish"]

Answerer: TypeAlias = Callable[[Event], Awaitable[object]]
"""Answers the engine's events; may raise a `CredSSPError`, which ends the handshake with it."""

_FAREWELL_GRACE: Final = 1.0
"""Seconds that a peer gets to take our last words. They are some 100 bytes: only one that reads nothing needs any."""


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
    try:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                await _drive(protocol, sequence, answer, limit)
        except TimeoutError:
            raise HandshakeTimeout("the handshake did not end before its deadline") from None
    except CredSSPError as error:
        sequence.fail(error)
        if error.__cause__ is None:
            error.__cause__ = protocol.error
        await _say_goodbye(protocol, sequence.farewell, deadline)
        raise
    except BaseException:
        protocol.abort()
        raise
    return sequence.context.info


async def _drive(protocol: CredSSPProtocol, sequence: Sequence, answer: Answerer, limit: asyncio.Timeout) -> None:
    # What came before this task began counts: a server that ignored it would wait for as many bytes once more.
    result = sequence.step(protocol.received)
    protocol.keep(result.extra)
    while True:
        if result.output:
            protocol.write(result.output)
            await protocol.drain()
        if result.status is SecurityStatus.SEC_E_OK:
            return
        if result.event is not None:
            answered = await answer(result.event)
            if limit.expired():
                raise TimeoutError  # a hook swallowed the cancellation that the deadline sent it
            result = sequence.resume(answered)
            continue
        # With nothing stored, a step would only tell that a whole header is missing.
        missing = result.missing or (0 if protocol.received else HEADER_SIZE)
        if missing and not await protocol.receive(missing):
            sequence.receive_eof()
        result = sequence.step(protocol.received)
        protocol.keep(result.extra)


async def _say_goodbye(protocol: CredSSPProtocol, farewell: bytes, deadline: float) -> None:
    """Close with our last words; nobody who does not read them holds us up."""
    try:
        if farewell:
            protocol.write(farewell)
        protocol.close()
        async with asyncio.timeout_at(min(deadline, deadline_in(_FAREWELL_GRACE))):
            await protocol.closed()
    except TimeoutError:
        protocol.abort()
    except BaseException:
        protocol.abort()
        raise

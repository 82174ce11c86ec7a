"""The asyncio protocol under every connection: it stores what arrives, and wakes its one owner.

First the owner is the coroutine of the handshake (`driver`), which asks for a number of bytes and sleeps until they
are there: a TLS record cut into single bytes wakes it twice, for its header and for its end. Then it is a `Receiver`
(`transport.SecureTransport`), which is handed the bytes as they come. Nothing is decided here.

Three observations shape it:

* `get_buffer` must never give an empty buffer, on which asyncio and uvloop alike fail; nor one of just the missing
  size, which would make a system call for each header. All connections of a loop share one buffer (`buffers`).
* uvloop forgets a `pause_reading` in `connection_made`, so reading is paused where too much has come.
* A transport calls `connection_lost` once, and says nothing at all to a protocol that is set afterwards. So this
  protocol stays on its transport for good, and remembers how it ended.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from acredssp.aio.buffers import shared_buffers

__all__ = ["CredSSPProtocol", "Receiver"]

_MOST_STORED: Final = 32 * 1024
"""Bytes kept for an owner who is busy (a slow lookup), before the peer has to wait: more than one whole record."""


class Receiver(Protocol):
    """Who gets the connection after the handshake: asyncio's protocol callbacks, by other names.

    One object with methods, since five bound methods would be half a KiB of every idle connection.
    """

    def on_data(self, ciphertext: memoryview) -> None:
        """Take what arrived; the view is only good during the call."""

    def on_eof(self) -> None:
        """Note the end of the peer's direction."""

    def on_connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""

    def on_pause_writing(self) -> None:
        """Note that the transport's buffer is full."""

    def on_resume_writing(self) -> None:
        """Note that the transport's buffer has room again."""


class CredSSPProtocol(asyncio.BufferedProtocol):
    """The bytes of one connection.

    Args:
        on_made: Called with the protocol when its transport is there.
        on_lost: Called with the protocol when its transport is gone, after everybody else knows.
    """

    __slots__ = (
        "_buffer",
        "_buffers",
        "_closing",
        "_kept",
        "_loop",
        "_on_lost",
        "_on_made",
        "_reading_paused",
        "_receiver",
        "_waiter",
        "_wanted",
        "_writing_paused",
        "ended",
        "error",
        "lost",
        "owes_resume",
        "received",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(
        self,
        on_made: "Callable[[CredSSPProtocol], None] | None" = None,
        on_lost: "Callable[[CredSSPProtocol], None] | None" = None,
    ) -> None:
        self.received = bytearray()
        """What came and was not taken yet."""
        self.ended = False
        """Whether nothing more will come."""
        self.lost = False
        """Whether the transport is gone."""
        self.error: Exception | None = None
        """What the transport ended with, if nobody was told; None for a clean end."""
        self.owes_resume = False
        """Whether writing was resumed that was paused before this protocol got the transport."""
        self._on_made = on_made
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._buffers = shared_buffers()
        self._buffer = self._buffers.early_read
        self._receiver: Receiver | None = None
        self._kept = 0
        self._wanted = 0
        self._closing = False
        self._reading_paused = False
        self._writing_paused = False
        self._waiter: asyncio.Future[None] | None = None

    # --- callbacks: store and wake ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        # A duck: uvloop's transports are registered as asyncio.Transport, a caller's own need not be.
        self.transport = transport  # type: ignore[assignment]
        on_made, self._on_made = self._on_made, None
        if on_made is not None:
            on_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - both loops say -1 or their own favourite
        """Return the buffer that all connections of this loop share."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Copy out what arrived; wake the owner once it is enough."""
        receiver = self._receiver
        if receiver is not None:
            receiver.on_data(self._buffer[:nbytes])
        elif not self._closing:
            self.store(self._buffer[:nbytes])
            if len(self.received) > max(self._wanted, _MOST_STORED):
                self._pause_once()

    def store(self, data: bytes | memoryview) -> None:
        """Take bytes as if they had just arrived: those that somebody else read before."""
        self.received += data
        if len(self.received) >= self._wanted > 0:
            self._wake()

    def eof_received(self) -> bool:
        """Note that the peer's direction has ended. Ours stays open: what that means is the owner's to say."""
        self.ended = True
        if self._receiver is not None:
            self._receiver.on_eof()
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the transport."""
        self.ended = self.lost = True
        self._wake()
        # A connection that is over shall be no cycle: neither through its receiver, nor through the frames of the write
        # that failed, which the exception holds.
        receiver, self._receiver = self._receiver, None
        try:
            if receiver is None:
                self.error = exc
            else:
                receiver.on_connection_lost(exc)
        finally:
            on_lost, self._on_lost = self._on_lost, None
            if on_lost is not None:
                on_lost(self)

    def pause_writing(self) -> None:
        """Note that the transport's buffer is full."""
        self._writing_paused = True
        if self._receiver is not None:
            self._receiver.on_pause_writing()

    def resume_writing(self) -> None:
        """Note that the transport's buffer has room again."""
        self.owes_resume = not self._writing_paused
        self._writing_paused = False
        if self._receiver is not None:
            self._receiver.on_resume_writing()
        self._wake()

    # --- for the owner ---

    async def receive(self, missing: int) -> bool:
        """Wait until there are `missing` bytes more than were kept; return whether they came before the end."""
        self._wanted = self._kept + missing
        try:
            while len(self.received) < self._wanted and not self.ended:
                self._resume_once()
                await self._woken()
            return len(self.received) >= self._wanted
        finally:
            self._wanted = 0

    def keep(self, extra: int) -> None:
        """Forget what was received, except the last `extra` bytes."""
        del self.received[: len(self.received) - extra]
        self._kept = extra

    def write(self, data: bytes) -> None:
        """Send `data`; to a transport that is gone, nothing."""
        if not self.lost and not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the transport takes more, or is gone."""
        while self._writing_paused and not self.lost:
            await self._woken()

    async def closed(self) -> None:
        """Wait until the transport is gone."""
        while not self.lost:
            await self._woken()

    def close(self) -> None:
        """Close once everything written has been sent; whatever comes from now on is dropped."""
        self._closing = True
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self.transport.abort()

    # A transport that cannot pause is as good as one that does not have to: it is asked, no more.

    def pause_reading(self) -> None:
        """Have the transport read no more for now."""
        with contextlib.suppress(NotImplementedError):
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Have the transport read again."""
        with contextlib.suppress(NotImplementedError):
            self.transport.resume_reading()

    def hand_over(self, receiver: Receiver) -> bytearray:
        """Give everything from now on to `receiver`; return what was stored for it.

        `ended`, `lost` and `error` tell what has happened already: none of it is told again.
        """
        self._buffer = self._buffers.read
        stored, self.received = self.received, bytearray()
        if not self.lost:
            self._receiver = receiver
            if not stored:
                self._resume_once()
        return stored

    # --- one owner, so one waiter ---

    async def _woken(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pause_once(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self.pause_reading()

    def _resume_once(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self.resume_reading()

"""The asyncio protocol under every connection: it hands what arrives to its receiver, or stores it for the next one.

First the receiver is what drives the handshake (`driver`), then `transport.SecureTransport`. Nothing is decided here.

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
"""Bytes kept for a receiver who is busy (a slow lookup), before the peer has to wait: more than one whole record."""


class Receiver(Protocol):
    """Who gets the connection: asyncio's protocol callbacks, by other names.

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
        "_closing",
        "_on_lost",
        "_on_made",
        "_reading_paused",
        "_receiver",
        "buffers",
        "ended",
        "error",
        "heard",
        "loop",
        "lost",
        "owes_resume",
        "received",
        "transport",
        "writing_paused",
    )

    transport: asyncio.Transport

    def __init__(
        self,
        on_made: "Callable[[CredSSPProtocol], None] | None" = None,
        on_lost: "Callable[[CredSSPProtocol], None] | None" = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.received = bytearray()
        """What came and was not taken yet."""
        self.heard = False
        """Whether the peer has sent anything before the handshake was over."""
        self.ended = False
        """Whether nothing more will come."""
        self.lost = False
        """Whether the transport is gone."""
        self.error: Exception | None = None
        """What the transport ended with, if that was before anybody got it; None for a clean end."""
        self.writing_paused = False
        """Whether the transport's buffer is full."""
        self.owes_resume = False
        """Whether writing was resumed that was paused before this protocol got the transport."""
        self._on_made = on_made
        self._on_lost = on_lost
        self.buffers = shared_buffers()
        self._buffer = self.buffers.early_read
        self._receiver: Receiver | None = None
        self._closing = False
        self._reading_paused = False

    # --- callbacks ---

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
        """Hand over what arrived, or copy it out."""
        receiver = self._receiver
        if receiver is not None:
            receiver.on_data(self._buffer[:nbytes])
        else:
            self.store(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        """Note that the peer's direction has ended. Ours stays open: what that means is the receiver's to say."""
        self.ended = True
        if self._receiver is not None:
            self._receiver.on_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the transport."""
        self.ended = self.lost = True
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
        self.writing_paused = True
        if self._receiver is not None:
            self._receiver.on_pause_writing()

    def resume_writing(self) -> None:
        """Note that the transport's buffer has room again."""
        self.owes_resume = not self.writing_paused
        self.writing_paused = False
        if self._receiver is not None:
            self._receiver.on_resume_writing()

    # --- for the owner ---

    def give_to(self, receiver: Receiver | None) -> None:
        """Give everything from now on to `receiver`; None to have it stored.

        `received`, `ended`, `lost` and `error` tell what has happened already: none of it is told again.
        """
        if not self.lost:
            self._receiver = receiver

    def store(self, data: bytes | memoryview) -> None:
        """Keep bytes that nobody takes now; whoever sends too many has to wait."""
        if not self._closing:
            self.received += data
            self.heard = True
            if self.overfull:
                self._pause_once()

    @property
    def overfull(self) -> bool:
        """Whether so much is stored that the peer has to wait, and that nobody sees it leave."""
        return len(self.received) > _MOST_STORED

    def write(self, data: bytes) -> bool:
        """Send `data`; to a transport that is gone, nothing. Return whether more may follow at once."""
        if self.lost or self.transport.is_closing():
            return True
        self.transport.write(data)
        return not self.writing_paused

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
        """Give everything to the receiver that comes after the handshake; return what was stored for it."""
        self._buffer = self.buffers.read
        stored, self.received = self.received, bytearray()
        self.give_to(receiver)
        if not stored and not self.lost:
            self.resume_once()
        return stored

    def _pause_once(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self.pause_reading()

    def resume_once(self) -> None:
        """Have the transport read again where `store` has made it wait."""
        if self._reading_paused:
            self._reading_paused = False
            self.resume_reading()

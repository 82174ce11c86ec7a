"""The asyncio protocol under every connection: it hands arriving bytes to a receiver, or stores them for the next one.

The first receiver is the driver of the handshake (`driver`), the second one is `transport.SecureTransport`. This module
makes no decisions.

Three observations shape it:

* `get_buffer` must never give an empty buffer, on which both asyncio and uvloop fail. A buffer of just the missing size
  would cost a system call for each header. So all connections of a loop share one large buffer (`buffers`).
* uvloop forgets a `pause_reading` in `connection_made`, so reading is paused only when too many bytes have come.
* A transport calls `connection_lost` once, and tells nothing to a protocol that is set afterwards. So this protocol
  stays on its transport for good, and remembers how the transport ended.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from acredssp.aio.buffers import shared_buffers

__all__ = ["CredSSPProtocol", "Receiver"]

_MOST_STORED: Final = 32 * 1024
"""The most bytes that are stored while the receiver is busy, for instance with a slow lookup; above it, the peer has to
wait. One whole record fits in."""


class Receiver(Protocol):
    """The receiver of a connection, which has asyncio's protocol callbacks under other names.

    It is one object with methods, since five bound methods would cost every idle connection half a KiB.
    """

    def on_data(self, ciphertext: memoryview) -> None:
        """Take the bytes that arrived; the view is valid only during the call."""

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
        on_made: Called with the protocol when it has got its transport.
        on_lost: Called with the protocol when its transport is gone, after the receiver was told.
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
        """The bytes that came and were not taken yet."""
        self.heard = False
        """Whether the peer has sent anything before the handshake was over."""
        self.ended = False
        """Whether nothing more will come."""
        self.lost = False
        """Whether the transport is gone."""
        self.error: Exception | None = None
        """The error with which the transport ended while there was no receiver; None for a clean end."""
        self.writing_paused = False
        """Whether the transport's buffer is full."""
        self.owes_resume = False
        """Whether the transport resumed writing that it had paused before this protocol was set on it."""
        self._on_made = on_made
        self._on_lost = on_lost
        self.buffers = shared_buffers()
        self._buffer = self.buffers.early_read
        self._receiver: Receiver | None = None
        self._closing = False
        self._reading_paused = False

    # --- callbacks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # The type is not checked: uvloop's transports are registered as asyncio.Transport, a caller's own need not be.
        self.transport = transport  # type: ignore[assignment]
        on_made, self._on_made = self._on_made, None
        if on_made is not None:
            on_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - both loops say -1 or their own favourite
        """Return the buffer that all connections of this loop share."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand the bytes that arrived to the receiver, or store a copy of them."""
        receiver = self._receiver
        if receiver is not None:
            receiver.on_data(self._buffer[:nbytes])
        else:
            self.store(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        """Note that the peer's direction has ended.

        Our direction stays open: the receiver decides what the end means.
        """
        self.ended = True
        if self._receiver is not None:
            self._receiver.on_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the transport."""
        self.ended = self.lost = True
        # A connection that is over must not be part of a reference cycle: neither through its receiver, nor through the
        # frames of a failed write, which the exception holds.
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
        """Give everything to `receiver` from now on, or store it if that is None.

        `received`, `ended`, `lost` and `error` say what has happened already; the receiver is not told these again.
        """
        if not self.lost:
            self._receiver = receiver

    def store(self, data: bytes | memoryview) -> None:
        """Store bytes that no receiver takes now. A peer that sends too many has to wait."""
        if not self._closing:
            self.received += data
            self.heard = True
            if self.overfull:
                self._pause_once()

    @property
    def overfull(self) -> bool:
        """Whether so many bytes are stored that the peer has to wait. Its end then goes unnoticed, too."""
        return len(self.received) > _MOST_STORED

    def write(self, data: bytes) -> bool:
        """Send `data`, unless the transport is gone; return whether more may follow at once."""
        if self.lost or self.transport.is_closing():
            return True
        self.transport.write(data)
        return not self.writing_paused

    def close(self) -> None:
        """Close once everything written has been sent; bytes that come from now on are dropped."""
        self._closing = True
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self.transport.abort()

    # A transport that cannot pause goes on reading.

    def pause_reading(self) -> None:
        """Have the transport stop reading for now."""
        with contextlib.suppress(NotImplementedError):
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Have the transport read again."""
        with contextlib.suppress(NotImplementedError):
            self.transport.resume_reading()

    def hand_over(self, receiver: Receiver) -> bytearray:
        """Give everything to the receiver that comes after the handshake; return the bytes that are stored for it."""
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
        """Have the transport read again if `store` has made it pause."""
        if self._reading_paused:
            self._reading_paused = False
            self.resume_reading()

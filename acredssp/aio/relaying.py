"""The relay of a gateway: bytes pass between two connections until both have ended, and no socket is left.

How it passes bytes
===================

`relay` puts a protocol of its own on both transports. What one connection brings is written to the other in the same
callback: no task runs, and nothing is stored here. A transport whose write buffer is full pauses the reading of the
other one, so a slow peer costs one write buffer and one read at most.

How it ends
===========

    end of a direction       passed on (`write_eof`); the other direction goes on until it ends, too
    the same, where one of
    the two transports can
    end no direction alone   what was received is delivered, then both connections are closed
    a connection breaks      what was received from it is delivered, then the other one is cut
    nothing moves for long   both connections are cut
    cancelled                both connections are cut

"Cut" is `abort()`: over TLS the peer gets no close_notify, so it does not take what it has got for all there was.

Who calls: applications, by `acredssp.relay`.
"""

import asyncio
import dataclasses
import enum
from collections.abc import Coroutine
from typing import Final, TypeAlias, TypeVar, cast

from acredssp.arguments import expect

__all__ = ["RelayEnd", "RelayResult", "Streams", "relay"]

_T = TypeVar("_T")

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
"""What asyncio's and our functions for streams give."""

_READ_SIZE: Final = 2**16
"""Bytes taken from a stream's buffer at a time."""

_CLOSE_TIMEOUT: Final = 30.0
"""Seconds without progress that a peer gets to take the rest; asyncio gives its TLS connections as many."""


class RelayEnd(enum.Enum):
    """What ended a relay.

    Attributes:
        A: The first connection ended or broke before the second one.
        B: The second connection ended or broke before the first one.
        IDLE: Nothing moved in either direction for `idle_timeout` seconds.
    """

    A = "a"
    B = "b"
    IDLE = "idle"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RelayResult:
    """What a relay did.

    Attributes:
        bytes_up: Bytes written to `b`, `first_up` included.
        bytes_down: Bytes written to `a`, `first_down` included.
        ended_by: Which connection ended or broke first, or that nothing moved any more.
        error: What the first connection to break broke with; None where none did.
    """

    bytes_up: int
    bytes_down: int
    ended_by: RelayEnd
    error: Exception | None


async def relay(
    a: Streams,
    b: Streams,
    *,
    first_up: bytes = b"",
    first_down: bytes = b"",
    idle_timeout: float | None = None,
) -> RelayResult:
    """Pass bytes between two connections until both have ended; both are closed in the end, whatever happens.

    The streams must not be used any more, except for `writer.close()` and `writer.wait_closed()`, and nobody may be
    reading from them. What their readers have read ahead is passed on first.

    Where one peer ends its direction, the other peer is told so and may go on. asyncio's own TLS transports cannot end
    one direction alone: where one of the two transports is such a one, the first end is the end of both connections,
    and what the other peer still sends is lost.

    Args:
        a: Reader and writer of the first connection: a gateway's client.
        b: Reader and writer of the second connection: a gateway's target.
        first_up: Bytes for `b` in front of what `a` sends.
        first_down: Bytes for `a` in front of what `b` sends.
        idle_timeout: Seconds after which both connections are cut when nothing has moved in either direction; None for
            no limit. A peer that takes nothing of what waits for it is idle, too.

    Returns:
        How many bytes were passed on and what ended the relay. A connection that breaks is no exception here: it is
        the result's `error`.

    Raises:
        asyncio.CancelledError: The task was cancelled; both connections are cut.
        TypeError, ValueError: An argument cannot be, which its name in the text says; the connections are left alone.
        RuntimeError: Somebody else is reading from one of the streams; both connections are cut.
    """
    _check(a, b, first_up, first_down, idle_timeout)
    run = _Relay(a, b, idle_timeout)
    try:
        run.start(first_up, first_down)
        return await run.over
    finally:
        run.cut()


class _Relay:
    """One relay: its two ends, its clock and its result."""

    def __init__(self, a: Streams, b: Streams, idle_timeout: float | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[RelayResult] = self.loop.create_future()
        self.moved = self.loop.time()
        """When something last moved."""
        self.ending = False
        """Whether nothing more is passed on."""
        self._a, self._b = self._ends = _End(self, RelayEnd.A, a), _End(self, RelayEnd.B, b)
        self._a.other, self._b.other = self._b, self._a
        self._patience = idle_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = (0, 0)
        """What the transports had to send when the clock was set."""
        self._ended_by: RelayEnd | None = None
        self._error: Exception | None = None

    def start(self, first_up: bytes, first_down: bytes) -> None:
        """Take both connections over, and pass on what is there already."""
        for end in self._ends:
            end.take_over()
        self._b.write(first_up)
        self._a.write(first_down)
        for end in self._ends:
            end.take_buffered()
        for end in self._ends:
            if end.full:
                end.other.hold()
            else:
                end.other.release()
        if not self.ending:
            self._set_timer()

    # --- the clock ---

    def _set_timer(self) -> None:
        if self._patience is not None:
            self._waiting = self._a.waiting, self._b.waiting
            self._timer = self.loop.call_at(self.moved + self._patience, self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Cut both connections where nothing has come for the whole time, and nothing of what waits has left."""
        assert self._patience is not None
        now = self.loop.time()
        if self._waiting != (self._a.waiting, self._b.waiting):
            self.moved = now
        if self.moved + self._patience > now:
            self._set_timer()
        else:
            self.note(RelayEnd.IDLE)
            self.cut()

    # --- the end ---

    def note(self, ended_by: RelayEnd, error: Exception | None = None) -> None:
        """Remember who was the first to end, and the first error."""
        self._ended_by = self._ended_by or ended_by
        self._error = self._error or error

    def on_eof(self, ended: RelayEnd, other: "_End", *, alone: bool) -> None:
        """Pass the end of a direction on; where that cannot be, or both have ended, close."""
        self.note(ended)
        self.moved = self.loop.time()
        alone = alone and other.can_write_eof()
        if alone and not self.ending:
            other.write_eof()
        if other.ended or not alone:
            self._finish(clean=True)

    def on_lost(self, lost: RelayEnd, error: Exception | None) -> None:
        """Close the other connection, too; the relay is over when both are gone."""
        self.note(lost, error)
        self._finish(clean=False)
        if self._a.lost and self._b.lost and not self.over.done():
            self._stop_timer()
            self.over.set_result(self._result())

    def _finish(self, *, clean: bool) -> None:
        """Have each connection closed when it has sent what it was given; cut then where the end is not `clean`."""
        if not self.ending:
            self.ending = True
            self._patience = min(self._patience or _CLOSE_TIMEOUT, _CLOSE_TIMEOUT)
            self.moved = self.loop.time()
            self._stop_timer()
            self._set_timer()
            for end in self._ends:
                end.finish(clean=clean)

    def cut(self) -> None:
        """Close both connections at once."""
        self.ending = True
        self._stop_timer()
        for end in self._ends:
            end.cut()

    def _result(self) -> RelayResult:
        assert self._ended_by is not None
        return RelayResult(
            bytes_up=self._b.written, bytes_down=self._a.written, ended_by=self._ended_by, error=self._error
        )


class _End(asyncio.Protocol):
    """One of the two connections."""

    other: "_End"

    def __init__(self, relay: _Relay, name: RelayEnd, streams: Streams) -> None:
        self._relay = relay
        self._name = name
        self._reader, self._writer = streams  # asyncio closes a transport whose writer is forgotten
        self._transport = cast("asyncio.Transport", self._writer.transport)
        self._before = self._transport.get_protocol()
        self._clean: bool | None = None
        """How to close when everything is sent; None as long as the transport is not to be closed."""
        self.full = False
        """Whether the transport has more to send than it wants to hold."""
        self.ended = False
        """Whether the peer has ended its direction."""
        self.lost = False
        self.written = 0

    @property
    def waiting(self) -> int:
        """Bytes that the transport has still to send."""
        return 0 if self.lost else self._transport.get_write_buffer_size()

    # --- the beginning ---

    def take_over(self) -> None:
        """Get what the transport brings from now on, in place of the stream's own protocol."""
        try:
            _now(self._writer.drain())
        except _WouldWait:
            self.full = True
        except Exception:  # noqa: BLE001, S110 - the reader has the same error, which take_buffered sees
            pass
        self._transport.set_protocol(self)

    def take_buffered(self) -> None:
        """Pass on what the stream has read ahead, and what became of the connection before the relay."""
        error = self._reader.exception()
        try:
            while error is None and (data := _now(self._reader.read(_READ_SIZE))):
                self.data_received(data)
        except _WouldWait:
            pass
        else:
            if error is None:
                self.eof_received()
        if self._transport.is_closing():  # nobody might ever say that it is lost
            self.cut()
            self._end(error)

    # --- asyncio's calls ---

    def data_received(self, data: bytes) -> None:
        """Pass on what the peer sent."""
        if not self._relay.ending:
            self._relay.moved = self._relay.loop.time()
            self.other.write(data)

    def eof_received(self) -> bool:
        """Pass on that the peer has ended its direction."""
        alone = self._transport.can_write_eof()
        if not self.ended:
            self.ended = True
            self._relay.on_eof(self._name, self.other, alone=alone)
        return alone

    def pause_writing(self) -> None:
        """Let the other peer wait."""
        self.full = True
        self.other.hold()

    def resume_writing(self) -> None:
        """Let the other peer go on, or close when everything is sent."""
        self.full = False
        if self._clean is not None:
            self._close()
        else:
            self.other.release()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the relay; the streams learn of the end, too, so that `wait_closed()` returns."""
        self._before.connection_lost(exc)
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = self.ended = True
            self._relay.on_lost(self._name, error)

    # --- what the other end and the relay ask for ---

    def write(self, data: bytes) -> None:
        """Send data to the peer, unless the connection is closing."""
        if data and not self._transport.is_closing():
            self.written += len(data)
            self._transport.write(data)

    def write_eof(self) -> None:
        """Tell the peer that nothing more comes."""
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError as error:  # asyncio's socket is no longer connected
                self._relay.note(self._name, error)
                self.cut()

    def can_write_eof(self) -> bool:
        """Whether the peer can be told so while it still sends."""
        return self._transport.can_write_eof()

    def hold(self) -> None:
        """Read no more for now."""
        if not self.ended:
            self._transport.pause_reading()

    def release(self) -> None:
        """Read again."""
        if not self.ended:
            self._transport.resume_reading()

    def finish(self, *, clean: bool) -> None:
        """Close when everything is sent."""
        if self._transport.is_closing():
            return
        self._clean = clean
        self._transport.set_write_buffer_limits(0)  # resume_writing() comes with the last byte
        if not self._transport.get_write_buffer_size():
            self._close()

    def _close(self) -> None:
        if self._clean:
            self._transport.close()
        else:
            self.cut()

    def cut(self) -> None:
        """Close at once."""
        if not self.lost:
            self._transport.abort()


class _WouldWait(Exception):
    """A coroutine cannot end without waiting."""


def _now(coroutine: Coroutine[object, None, _T]) -> _T:
    """Return what a coroutine returns at once.

    Raises:
        _WouldWait: It would have to wait; it is closed.
    """
    try:
        coroutine.send(None)
    except StopIteration as result:
        return cast("_T", result.value)
    coroutine.close()
    raise _WouldWait


def _check(a: object, b: object, first_up: object, first_down: object, idle_timeout: object) -> None:
    """Refuse what cannot be before a connection is touched.

    Raises:
        TypeError, ValueError: The text has the argument's name.
    """
    for name, streams in (("a", a), ("b", b)):
        expect(name, streams, tuple, list)
        if len(cast("Streams", streams)) != 2:
            raise TypeError(f"{name}: expected reader and writer, got {len(cast('Streams', streams))} values")
        reader, writer = cast("Streams", streams)
        expect(f"{name}[0]", reader, asyncio.StreamReader)
        expect(f"{name}[1]", writer, asyncio.StreamWriter)
    if cast("Streams", a)[1].transport is cast("Streams", b)[1].transport:
        raise ValueError("b: expected another connection than a, got the same")
    expect("first_up", first_up, bytes, bytearray)
    expect("first_down", first_down, bytes, bytearray)
    expect("idle_timeout", idle_timeout, float, int, None)
    if idle_timeout is not None and not cast("float", idle_timeout) > 0:
        raise ValueError(f"idle_timeout: expected more than 0 seconds, got {idle_timeout}")

"""The relay of a gateway: it passes bytes between two connections until both have ended, and leaves no socket open.

How it passes bytes
===================

`relay` puts a protocol of its own on both transports. The bytes that one connection brings are written to the other
connection in the same callback: no task runs, and nothing is stored here. A transport whose write buffer is full pauses
the reading of the other transport, so a slow peer costs at most one write buffer and one read.

How it ends
===========

    a direction ends         the end is passed on (`write_eof`); the other direction goes on until it ends, too
    a direction ends, and
    one of the transports
    cannot end one alone     what was received is delivered, then both connections are closed
    a connection breaks      what was received from it is delivered, then the other connection is cut
    nothing moves for long   both connections are cut
    the task is cancelled    both connections are cut

To cut a connection is to `abort()` it. Over TLS, the peer then gets no close_notify, so it can tell that data may be
missing.

Who else gets the bytes
=======================

With a `Recording`, the recording's sink gets every piece that was passed on, too. A task waits for its answers, unless
the sink gives them at once. Without a recording, the two ends are of a class that knows nothing of recordings.

Applications call this module, by `acredssp.relay`.
"""

import asyncio
import collections
import dataclasses
import enum
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias, TypeVar, cast

from acredssp.aio.buffers import Borrower
from acredssp.aio.transport import SecureTransport
from acredssp.arguments import expect, expect_callable, expect_seconds

__all__ = [
    "Recording",
    "RecordingSink",
    "RelayEnd",
    "RelayResult",
    "Streams",
    "WouldWait",
    "at_once",
    "pass_read_ahead",
    "relay",
]

_T = TypeVar("_T")

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
"""A pair of streams, as the functions of asyncio and of acredssp return it."""

_READ_SIZE: Final = 2**16
"""Bytes taken from a stream's buffer at a time."""

_CLOSE_TIMEOUT: Final = 30.0
"""Seconds without progress after which a peer that has not taken the rest is cut off; asyncio's TLS uses 30, too."""


class RelayEnd(enum.Enum):
    """The end of a relay: which connection ended it, or that nothing moved.

    Attributes:
        A: The first connection ended or broke before the second one.
        B: The second connection ended or broke before the first one.
        IDLE: Nothing moved in either direction for `idle_timeout` seconds.
        RECORDING: The sink of the recording failed.
    """

    A = "a"
    B = "b"
    IDLE = "idle"
    RECORDING = "recording"


RecordingSink: TypeAlias = Callable[[RelayEnd, int, bytes], Awaitable[bool | None] | bool | None]
"""Called with the connection that the bytes came from, the number of bytes that this connection had sent before them,
and the bytes. One call is awaited before the next one. False ends the recording; every other answer goes on. A function
that is not asynchronous must not block."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Who else gets the bytes that a relay passes on, in both directions, as the connections give them: decrypted.

    Attributes:
        sink: Gets them.
        most_waiting: How many bytes may wait for the sink. One read of the connections may exceed it.
        lossy: What happens when more wait. False: both connections wait, and if the sink raises an exception, both are
            cut, so nothing is passed on unrecorded. True: what comes meanwhile is passed on, and not recorded; if the
            sink raises an exception, nothing is recorded any more.
    """

    sink: RecordingSink
    most_waiting: int = 2**20
    lossy: bool = False

    def __post_init__(self) -> None:
        expect_callable("sink", self.sink)
        if self.sink is None:
            raise TypeError("sink: expected a callable, got None")
        expect("most_waiting", self.most_waiting, int)
        if self.most_waiting < 1:
            raise ValueError(f"most_waiting: expected at least 1 byte, got {self.most_waiting}")
        expect("lossy", self.lossy, bool)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RelayResult:
    """The result of a relay.

    Attributes:
        bytes_up: The number of bytes written to `b`, `first_up` included.
        bytes_down: The number of bytes written to `a`, `first_down` included.
        ended_by: The connection that ended or broke first, or `RelayEnd.IDLE` if nothing moved any more.
        error: The error of the first connection that broke, or of the sink that failed; None if nothing did.
        bytes_unrecorded: The number of bytes that were passed on and did not reach the sink of the recording, before
            it ended the recording; 0 without a recording.
    """

    bytes_up: int
    bytes_down: int
    ended_by: RelayEnd
    error: Exception | None
    bytes_unrecorded: int = 0


async def relay(  # noqa: PLR0913 - two connections, and what is rarely given, by name
    a: Streams,
    b: Streams,
    *,
    first_up: bytes = b"",
    first_down: bytes = b"",
    idle_timeout: float | None = None,
    half_open_timeout: float | None = None,
    recording: Recording | None = None,
) -> RelayResult:
    """Pass bytes between two connections until both have ended. Both are closed in the end, whatever happens.

    The streams must not be used any more, except for `writer.close()` and `writer.wait_closed()`, and no other task may
    be reading from them. Bytes that their readers have read ahead are passed on first.

    If one peer ends its direction, the other peer is told so and may go on. asyncio's own TLS transports cannot end one
    direction alone: if one of the two transports is such a transport, the first end ends both connections, and whatever
    the other peer still sends is lost.

    Args:
        a: Reader and writer of the first connection: a gateway's client.
        b: Reader and writer of the second connection: a gateway's target.
        first_up: Bytes that are sent to `b` before those of `a`.
        first_down: Bytes that are sent to `a` before those of `b`.
        idle_timeout: Seconds after which both connections are cut if nothing has moved in either direction; None for no
            limit. A peer that takes none of the bytes that wait for it is idle, too.
        half_open_timeout: Seconds that a peer has to end its direction, too, once the other peer has ended; then both
            connections are closed. None for no limit.
        recording: Who else gets the bytes; None for nobody. After the end of the relay, the sink has 30 seconds for
            what still waits for it. If the task is cancelled, the recording ends at once.

    Returns:
        How many bytes were passed on, and what ended the relay. A connection that breaks raises no exception; the
        result's `error` has its error.

    Raises:
        asyncio.CancelledError: The task was cancelled; both connections are cut.
        TypeError, ValueError: An argument is impossible. The text begins with its name. The connections are unchanged.
        RuntimeError: Another task is reading from one of the streams; both connections are cut.
    """
    _check(a, b, first_up, first_down, recording, idle_timeout=idle_timeout, half_open_timeout=half_open_timeout)
    run = _Relay(a, b, idle_timeout, half_open_timeout, recording)
    try:
        run.start(first_up, first_down)
        await run.over
        return run.result(0 if run.recorder is None else await run.recorder.finish())
    finally:
        run.cut()
        if run.recorder is not None:
            run.recorder.cut()
        run.let_go()


class _Relay:
    """One relay: its two ends, its clock and its result."""

    def __init__(
        self,
        a: Streams,
        b: Streams,
        idle_timeout: float | None,
        half_open_timeout: float | None,
        recording: Recording | None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self.loop.create_future()
        self.moved = self.loop.time()
        """The time at which something last moved."""
        self.ending = False
        """Whether the relay has stopped passing bytes on."""
        self.recorder = None if recording is None else _Recorder(self, recording)
        end = _End if self.recorder is None else _RecordedEnd
        self._a, self._b = end(self, RelayEnd.A, a), end(self, RelayEnd.B, b)
        self._ends: tuple[_End, ...] = self._a, self._b
        self._a.other, self._b.other = self._b, self._a
        self._patience = idle_timeout
        self._half_open_timeout = half_open_timeout
        self._half_open: asyncio.TimerHandle | None = None
        """Closes both connections if the second peer does not end; None while none has."""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = (0, 0)
        """How many bytes each transport still had to send when the timer was set."""
        self._ended_by: RelayEnd | None = None
        self._error: Exception | None = None

    def start(self, first_up: bytes, first_down: bytes) -> None:
        """Take both connections over, and pass on the bytes that are already there."""
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
        if self.recorder is not None and self.recorder.holding:
            self.hold()  # a stream whose buffer was read has gone on reading
        if not self.ending:
            self._set_timer()

    # --- the recording ---

    def hold(self) -> None:
        """Let both peers wait for the recording."""
        for end in self._ends:
            end.hold()

    def release(self) -> None:
        """Let both peers go on, except for one whose bytes wait for the other peer."""
        for end in self._ends:
            if not self.ending and not end.other.full:
                end.release()

    def forget_recording(self) -> None:
        """Pass bytes on as without a recording, which has ended."""
        for end in self._ends:
            end.__class__ = _End

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
        """Cut both connections if no byte has come or left for the whole time."""
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
        """Remember which connection ended first, and the first error."""
        self._ended_by = self._ended_by or ended_by
        self._error = self._error or error

    def on_eof(self, ended: RelayEnd, other: "_End", *, alone: bool) -> None:
        """Pass the end of a direction on, or close both connections if that is impossible or both have ended."""
        self.note(ended)
        self.moved = self.loop.time()
        alone = alone and other.can_write_eof()
        if alone and not self.ending:
            other.write_eof()
        if other.ended or not alone:
            self._finish(clean=True)
        elif self._half_open_timeout is not None:
            self._half_open = self.loop.call_at(self.moved + self._half_open_timeout, self._end_half_open)

    def _end_half_open(self) -> None:
        self._finish(clean=True)

    def on_lost(self, lost: RelayEnd, error: Exception | None) -> None:
        """Close the other connection, too; the relay is over when both are gone."""
        self.note(lost, error)
        self._finish(clean=False)
        if self._a.lost and self._b.lost and not self.over.done():
            self._stop_timer()
            self.over.set_result(None)

    def _finish(self, *, clean: bool) -> None:
        """Close each connection when it has sent what it was given; cut it at that time unless the end is `clean`."""
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
        if self._half_open is not None:
            self._half_open.cancel()
        for end in self._ends:
            end.cut()

    def let_go(self) -> None:
        """Forget both ends once they are gone: a reference cycle would keep both TLS sessions until a collection."""
        if self._a.lost and self._b.lost:
            for end in self._ends:
                end.let_go()
            del self._a, self._b
            self._ends, self.recorder, self._error = (), None, None

    def result(self, unrecorded: int) -> RelayResult:
        """Return the result of a relay that is over."""
        assert self._ended_by is not None
        return RelayResult(
            bytes_up=self._b.written,
            bytes_down=self._a.written,
            ended_by=self._ended_by,
            error=self._error,
            bytes_unrecorded=unrecorded,
        )


_NOBODY: Final = asyncio.BaseProtocol()
"""Stands in for a stream that has been told of the end."""


class _End(Borrower):
    """One of the two connections."""

    other: "_End"

    def __init__(self, relay: _Relay, name: RelayEnd, streams: Streams) -> None:
        self._relay = relay
        self._name = name
        self._reader, self._writer = streams  # asyncio closes a transport when its writer is garbage-collected
        transport: Any = self._writer.transport  # typed as one that can only write
        self._transport: asyncio.Transport = transport
        self._send = transport.send if isinstance(transport, SecureTransport) else self._copy
        """Writes to the transport; returns whether it takes any data. A transport that encrypts keeps no view of it."""
        self._before: asyncio.BaseProtocol = transport.get_protocol()
        self._clean: bool | None = None
        """Whether to close cleanly when everything is sent; None while the transport is not to be closed."""
        self.full = False
        """Whether the transport's write buffer is above its limit."""
        self.ended = False
        """Whether the peer has ended its direction."""
        self.lost = False
        self.written = 0

    @property
    def waiting(self) -> int:
        """The number of bytes that the transport still has to send."""
        return 0 if self.lost else self._transport.get_write_buffer_size()

    # --- the beginning ---

    def take_over(self) -> None:
        """Take the place of the stream's own protocol on the transport."""
        if not self._transport.is_closing() and self._transport.get_write_buffer_size():
            try:
                at_once(self._writer.drain())
            except WouldWait:
                self.full = True
            except Exception:  # noqa: BLE001, S110 - the reader has the same error, and take_buffered handles it
                pass
        self._transport.set_protocol(self)

    def take_buffered(self) -> None:
        """Pass on the bytes that the stream has read ahead, and the end of the connection if it has ended already."""
        error = self._reader.exception()
        if error is None and pass_read_ahead(self._reader, self.data_received):
            self.eof_received()
        if self._transport.is_closing():  # `connection_lost` may never be called
            self.cut()
            self._end(error)

    # --- asyncio's calls ---

    def data_received(self, data: bytes | memoryview) -> None:
        """Pass on the bytes that the peer sent."""
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
        """Make the other peer wait."""
        self.full = True
        self.other.hold()

    def resume_writing(self) -> None:
        """Let the other peer go on, or close when everything is sent."""
        self.full = False
        if self._clean is not None:
            self._relay.loop.call_soon(self._close)  # asyncio's transports break when they are closed in this callback
        else:
            self.other.release()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the relay; the streams learn of the end, too, so that `wait_closed()` returns."""
        before, self._before = self._before, _NOBODY  # it keeps the error, too
        before.connection_lost(exc)
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = self.ended = True
            self._relay.on_lost(self._name, error)

    # --- calls of the other end and of the relay ---

    def write(self, data: bytes | memoryview) -> None:
        """Send data to the peer, unless the connection is closing."""
        if self._send(data):
            self.written += len(data)

    def _copy(self, data: bytes | memoryview) -> bool:
        """Write to a transport that may keep a view of what it gets."""
        if not data or self._transport.is_closing():
            return False
        self._transport.write(bytes(data))
        return True

    def write_eof(self) -> None:
        """Tell the peer that no more bytes will come."""
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError as error:  # the socket is no longer connected
                self._relay.note(self._name, error)
                self.cut()

    def can_write_eof(self) -> bool:
        """Return whether the peer can be told the end while it still sends."""
        return self._transport.can_write_eof()

    def hold(self) -> None:
        """Stop reading for now."""
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
        if not self._clean:
            self.cut()
        elif not self._transport.is_closing():  # asyncio's TLS transports break when they are closed twice
            self._transport.close()

    def cut(self) -> None:
        """Close at once."""
        if not self.lost:
            self._transport.abort()

    def let_go(self) -> None:
        """Forget the other end and the streams, which keep an error, whose frames keep this object."""
        del self.other, self._send, self._reader, self._writer


class _RecordedEnd(_End):
    """One of the two connections of a relay with a recording."""

    def __init__(self, relay: _Relay, name: RelayEnd, streams: Streams) -> None:
        super().__init__(relay, name, streams)
        assert relay.recorder is not None
        self._recorder = relay.recorder

    def write(self, data: bytes | memoryview) -> None:
        """Send data to the peer, and record it as the other peer's."""
        before = self.written
        super().write(data)
        if self.written != before:
            self._recorder.take(self.other._name, before, data)  # noqa: SLF001 - of the same class

    def release(self) -> None:
        """Read again, unless the recording makes both peers wait."""
        if not self._recorder.holding:
            super().release()


class _Recorder:
    """Hands what was passed on to the sink of a recording, in a task of its own once the sink takes time."""

    def __init__(self, relay: _Relay, recording: Recording) -> None:
        self.holding = False
        """Whether both peers wait for the sink."""
        self._relay = relay
        self._recording = recording
        self._queue: collections.deque[tuple[RelayEnd, int, bytes]] = collections.deque()
        self._waiting = 0
        """The number of bytes in the queue and in the sink."""
        self._unrecorded = 0
        self._takes = True
        """Whether the sink takes more; False once it has ended the recording."""
        self._failed = self._over = self._cut = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        """Waits for the answers of the sink; None while all of them came at once."""
        self._first: Awaitable[bool | None] | None = None
        """The first answer that takes time, until the task waits for it."""

    def take(self, source: RelayEnd, offset: int, data: bytes | memoryview) -> None:
        """Take what was passed on."""
        if not self._takes:
            return
        full = self._waiting >= self._recording.most_waiting
        if self._failed or (full and self._recording.lossy):
            self._unrecorded += len(data)
            return
        self._waiting += len(data)
        if self._task is None:
            self._ask(source, offset, bytes(data))
        else:
            self._queue.append((source, offset, bytes(data)))
            self._news.set()
        if self._waiting >= self._recording.most_waiting and not self._recording.lossy and not self._failed:
            self.holding = True
            self._relay.hold()

    async def finish(self) -> int:
        """Let the sink take what is left; return how many bytes it has not taken."""
        self._over = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_CLOSE_TIMEOUT)
        return self._unrecorded + self._waiting

    def cut(self) -> None:
        """End the recording at once."""
        self._cut = True
        if self._task is not None:
            self._task.cancel()
        if isinstance(self._first, types.CoroutineType):
            self._first.close()  # Python would warn about a coroutine that never began

    def _ask(self, source: RelayEnd, offset: int, data: bytes) -> None:
        """Hand over a piece before which all answers came at once."""
        try:
            answer = self._recording.sink(source, offset, data)
        except Exception as error:  # noqa: BLE001 - whatever a sink of somebody else's raises
            self._fail(error)
            return
        if not isinstance(answer, bool) and inspect.isawaitable(answer):
            self._first = answer
            self._task = self._relay.loop.create_task(self._run(len(data)))
        else:
            self._taken(answer, len(data))

    async def _run(self, size: int) -> None:
        try:
            assert self._first is not None
            first, self._first = self._first, None
            self._taken(await first, size)
            while self._takes and not self._cut and (self._queue or not self._over):
                if self._queue:
                    await self._hand_over()
                else:
                    self._news.clear()
                    await self._news.wait()
        except asyncio.CancelledError:
            if self._cut:
                raise
            self._fail(RuntimeError("the sink was cancelled, and not by the relay"))
        except Exception as error:  # noqa: BLE001 - whatever a sink of somebody else's raises
            self._fail(error)

    async def _hand_over(self) -> None:
        source, offset, data = self._queue.popleft()
        answer = self._recording.sink(source, offset, data)
        self._taken(await answer if inspect.isawaitable(answer) else answer, len(data))

    def _taken(self, answer: object, size: int) -> None:
        """Note what the sink has answered to a piece."""
        self._takes = answer is not False
        self._waiting -= size
        if not self._takes:
            self._queue.clear()
            self._waiting = 0
            self._relay.forget_recording()
        if self.holding and self._waiting <= self._recording.most_waiting // 2:
            self.holding = False
            self._relay.release()

    def _fail(self, error: Exception) -> None:
        """The sink failed. What it has not taken is counted, and the relay ends unless it may lose some."""
        self._failed = True
        if self._recording.lossy:
            self._relay.loop.call_exception_handler({"message": "the sink of a recording failed", "exception": error})
        else:
            self._relay.note(RelayEnd.RECORDING, error)
            self._relay.cut()


class WouldWait(Exception):
    """A coroutine would have to wait."""


def at_once(coroutine: Coroutine[object, None, _T]) -> _T:
    """Return the result of a coroutine that does not wait.

    Raises:
        WouldWait: The coroutine would have to wait; it is closed.
    """
    try:
        coroutine.send(None)
    except StopIteration as result:
        return cast("_T", result.value)
    coroutine.close()
    raise WouldWait


def pass_read_ahead(reader: asyncio.StreamReader, receive: Callable[[bytes], object]) -> bool:
    """Hand over the bytes that a stream has read ahead; return whether the stream has ended behind them.

    The connection of the stream must not be broken: `reader.exception()` is None.

    Raises:
        RuntimeError: Another task is reading from the stream.
    """
    if _has_nothing(reader):
        return False
    try:
        while data := at_once(reader.read(_READ_SIZE)):
            receive(data)
    except WouldWait:
        return False
    return True


def _has_nothing(reader: asyncio.StreamReader) -> bool:
    """Whether a `read` would certainly wait. To try a `read` takes several times as long as this look.

    `_buffer` has the bytes of asyncio's reader, and `_waiter` the task that waits for bytes. A reader of another class
    may lack these attributes; the answer is then False.
    """
    taken = getattr(reader, "_buffer", True) or getattr(reader, "_waiter", True)
    return not (taken or reader.at_eof())


def _check(
    a: object, b: object, first_up: object, first_down: object, recording: object, **times: float | None
) -> None:
    """Check the arguments of `relay` before a connection is touched.

    Raises:
        TypeError, ValueError: An argument is impossible. The text begins with its name.
    """
    reader_of_a, writer_of_a = _streams("a", a)
    reader_of_b, writer_of_b = _streams("b", b)
    if writer_of_a.transport is writer_of_b.transport or reader_of_a is reader_of_b:
        raise ValueError("b: expected another connection than a, got the same one")
    expect("first_up", first_up, bytes, bytearray)
    expect("first_down", first_down, bytes, bytearray)
    for name, seconds in times.items():
        if seconds is not None:
            expect_seconds(name, seconds)
    expect("recording", recording, Recording, None)


def _streams(name: str, value: object) -> Streams:
    """Return the argument `name`, which must be a pair of streams.

    Raises:
        TypeError: It is something else.
    """
    match value:
        case asyncio.StreamReader() as reader, asyncio.StreamWriter() as writer:
            return reader, writer
        case tuple() | list():
            got = f"({', '.join([type(one).__name__ for one in value])})"
        case _:
            got = type(value).__name__
    raise TypeError(f"{name}: expected a pair of streams (StreamReader, StreamWriter), got {got}")

"""`acredssp serve --workers N`: N processes, each with its own listening socket, and one that supervises them.

The kernel deals new connections out over all sockets that listen on one address with SO_REUSEPORT, by a hash of the
client's address and port. Three facts of Linux shape the module (socket(7); inet_csk_listen_stop in the kernel):

* A socket of such a group has a queue of its own. When its last descriptor is closed, whoever stands in the queue is
  reset. So the supervisor opens the sockets, keeps every one open, and a worker inherits its own by the fork: one that
  ends loses the connections that it had accepted, and its successor finds the queue as it was. A worker closes the
  sockets of the others, so that they end when the supervisor closes them.
* The kernel goes on dealing connections to a socket that nobody reads. A worker that hangs without ending keeps its
  share of the newcomers waiting; a supervisor that restarts what has ended does not notice that.
* Any process of the same user may join the group, and would get its share. So an address is first bound alone.

The supervisor has no event loop, no threads and no TLS session: what a fork copies is only what was meant to be shared,
the credentials handle (certificate, users) above all. One pair of sockets, the lifeline, connects it with each worker.
A worker writes there when it is ready, and the supervisor writes when all of them are. When the worker's end closes,
the worker has ended. When the supervisor's end closes, also because it was killed, the worker stops.

Who calls: `serve`, with the function that serves. The sockets are made in `listening`; processes are made here alone.
"""

import contextlib
import dataclasses
import gc
import math
import mmap
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import IO, Final, NoReturn

from acredssp.cli.listening import Sockets
from acredssp.cli.outcome import UsageError, reason_of

__all__ = ["EXIT_FAILED", "Supervisor", "Worker", "check_platform"]

EXIT_FAILED: Final = 70
"""The exit status when workers do not run as they should; sysexits.h calls it EX_SOFTWARE."""

_START: Final = 30.0
"""Seconds until a worker that does not say that it is ready is killed, and counts as one that crashed."""
_STOP: Final = 15.0
"""Seconds until a worker that was told to stop is killed: what draining takes, and some."""
_SETTLED: Final = 10.0
"""Seconds after which a worker counts as sound: the next crash is its first."""
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 5.0
"""Seconds before a restart. The first is immediate, since the queue waits for it; then the delay doubles."""
_MOST_STARTS: Final = 5
"""Starts in a row that end before the worker is ready: past that it will not come up, and the supervisor gives up."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_READY: Final = b"r"
"""A worker's word: I could accept now."""
_GO: Final = b"g"
"""The supervisor's answer: do."""


def check_platform() -> None:
    """See that there can be workers here.

    Raises:
        UsageError: There cannot. Elsewhere SO_REUSEPORT is missing, or lets one socket have all the connections.
    """
    if sys.platform != "linux" or not hasattr(os, "fork") or not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError("--workers needs linux, with fork and SO_REUSEPORT: leave it out here")


# --- in a worker ---


class Worker:
    """What a worker process has of its supervisor.

    Args:
        number: From 1; a successor has the number of the one before.
        sockets: To accept connections from.
        lifeline: The worker's end.
        turn: A file that all workers lock in turn.
        torn: One byte that all workers share: whether the last line of the output has no end.
    """

    def __init__(
        self, number: int, sockets: Sockets, lifeline: socket.socket, turn: IO[bytes], torn: mmap.mmap
    ) -> None:
        self.number = number
        self.torn = torn
        self.sockets = sockets
        self.lifeline = lifeline
        """Readable as soon as the worker has to stop."""
        self._turn = turn

    def ready(self) -> None:
        """Say that all is prepared, and wait for the others: nobody serves before the server has said that it listens.

        A SIGTERM that came before is delivered now. To be called before there is anything to do for the loop.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._say(_READY)
        self.lifeline.recv(1)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep the others from writing to what is shared, whatever the length; the kernel ends the turn of the dead.

        A pipe keeps a write together up to PIPE_BUF only, and what a peer calls itself may be longer.
        """
        os.lockf(self._turn.fileno(), os.F_LOCK, 0)
        try:
            yield
        finally:
            os.lockf(self._turn.fileno(), os.F_ULOCK, 0)

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, which `lifeline` tells as well
            self.lifeline.send(word)


# --- the supervisor ---


@dataclasses.dataclass(slots=True)
class _Place:
    """The place of one worker. The sockets stay, processes come and go."""

    number: int
    sockets: Sockets
    pid: int = 0
    """The process; 0 while there is none."""
    lifeline: socket.socket | None = None
    """Our end."""
    ready: bool = False
    started: float = 0.0
    """When, by `time.monotonic()`."""
    start_at: float = 0.0
    """When to start the next process, while there is none; infinite for never."""
    kill_at: float = math.inf
    """When patience with the process ends."""
    short_lives: int = 0
    """Processes in a row that ended within `_SETTLED` seconds."""
    failed_starts: int = 0
    """Processes in a row that ended before they were ready."""


class Supervisor:
    """Keeps a worker running at each place until it is told to stop.

    Args:
        places: What each worker listens on, from `bind`; closed at the end.
        work: Serves, in a worker; what it returns is the process's exit status.
        on_ready: Called once, when all workers are ready.
        warn: Told in a sentence what went wrong.
    """

    def __init__(
        self,
        places: list[Sockets],
        work: Callable[[Worker], int],
        *,
        on_ready: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        self._places = [_Place(number, sockets) for number, sockets in enumerate(places, start=1)]
        self._work = work
        self._on_ready = on_ready
        self._warn = warn
        self._selector = selectors.DefaultSelector()
        self._turn: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `run`
        self._torn = mmap.mmap(-1, 1)
        self._all_were_ready = False
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Run the workers until SIGTERM or SIGINT; then let them drain, and return the exit status.

        A second signal ends all at once. 0 after a signal; `EXIT_FAILED` if a worker does not come up, or did not
        stop when told to. To be called in the main thread, of a process without other threads.
        """
        # The collector leaves alone what lives now, and so writes to no page that all share: a worker that has served
        # takes 15 MiB of its own, and 24 MiB without this.
        gc.collect()
        gc.freeze()
        try:
            with self._signals():
                while not self._done():
                    self._on_time()
                    for key, _ in self._selector.select(self._patience()):
                        key.data()
        finally:
            self._end()
        return self._status

    def stop(self) -> None:
        """Accept no more, here first: what stands in a queue would else wait for nobody. Then tell each worker."""
        if self._stopping:
            return
        self._stopping = True
        for place in self._places:
            for listener in place.sockets:
                listener.close()
        deadline = time.monotonic() + _STOP
        for place in self._places:
            place.start_at, place.kill_at = math.inf, deadline
            if place.lifeline is not None:
                place.lifeline.shutdown(socket.SHUT_WR)

    # --- what happens ---

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals wake the selector; the handler of Python's own does nothing."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            self._selector.register(ours, selectors.EVENT_READ, lambda: self._on_signal(ours.recv(1)[0]))
            before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
            fd = signal.set_wakeup_fd(theirs.fileno())
            try:
                yield
            finally:
                signal.set_wakeup_fd(fd)
                for number, handler in before.items():
                    signal.signal(number, handler)
                self._selector.unregister(ours)

    def _on_signal(self, number: int) -> None:
        if number not in _SIGNALS:
            return
        if self._stopping:
            self._status = 128 + number  # as shells say it
            for place in self._places:
                self._kill(place)
        self.stop()

    def _on_word(self, place: _Place) -> None:
        """Read what a worker says; nothing at all is its end."""
        assert place.lifeline is not None
        word = place.lifeline.recv(1)
        if word == _READY:
            self._on_prepared(place)
        else:
            # A lifeline ends a moment before its process does.
            status = os.waitstatus_to_exitcode(os.waitpid(place.pid, 0)[1])
            self._drop_lifeline(place)
            place.pid, place.kill_at = 0, math.inf
            if not self._stopping:
                self._after(place, _how(status))

    def _on_prepared(self, place: _Place) -> None:
        place.ready = True
        place.failed_starts = 0
        if self._stopping:
            return
        place.kill_at = math.inf
        if self._all_were_ready:
            _answer(place)
        elif all(each.ready for each in self._places):
            self._all_were_ready = True
            self._on_ready()
            for each in self._places:
                _answer(each)

    def _after(self, place: _Place, how: str) -> None:
        """See to the successor of a process that ended, or that could not be started."""
        now = time.monotonic()
        place.short_lives = place.short_lives + 1 if now - place.started < _SETTLED else 1
        place.failed_starts += not place.ready
        place.ready = False
        if place.failed_starts == _MOST_STARTS:
            self._tell(f"worker {place.number} {how}, before it was ready at each of {_MOST_STARTS} starts: giving up")
            self._status = EXIT_FAILED
            self.stop()
            return
        delay = _delay(place.short_lives)
        place.start_at = now + delay
        self._tell(f"worker {place.number} {how}: starting it again{f' in {delay:.1f} s' if delay else ''}")

    def _on_time(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.pid and place.kill_at <= now:
                self._tell(f"worker {place.number} does not {'stop' if self._stopping else 'get ready'}: killing it")
                if self._stopping:
                    self._status = self._status or EXIT_FAILED
                self._kill(place)
            elif not place.pid and place.start_at <= now:
                self._start(place)

    def _patience(self) -> float | None:
        """Seconds until there is something to do of ourselves; None for never."""
        due = min(place.kill_at if place.pid else place.start_at for place in self._places)
        return None if due == math.inf else max(0.0, due - time.monotonic())

    def _done(self) -> bool:
        return self._stopping and not any(place.pid for place in self._places)

    # --- what is done ---

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it: not worth the service
            self._warn(text)

    def _start(self, place: _Place) -> None:
        place.started = time.monotonic()
        try:
            place.pid, place.lifeline = self._fork(place)
        except OSError as error:  # no process, no memory, no descriptor: another time there may be
            self._after(place, f"cannot be started, {reason_of(error)}")
            return
        place.kill_at = place.started + _START
        self._selector.register(place.lifeline, selectors.EVENT_READ, lambda: self._on_word(place))

    def _fork(self, place: _Place) -> tuple[int, socket.socket]:
        """Make a worker; its process, and our end of its lifeline."""
        ours, theirs = socket.socketpair()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else both processes have what is left in the buffer
        # Until it handles signals itself, the new process gets none: they would find the handlers of this one.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._become(place, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            theirs.close()
        return pid, ours

    def _become(self, place: _Place, lifeline: socket.socket) -> NoReturn:
        """Be a worker, in the new process: nothing of the supervisor is left, and nothing returns to it."""
        status = EXIT_FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the supervisor passes it on
            self._selector.close()
            for other in self._places:
                if other is not place:
                    _close(other)
            status = self._work(Worker(place.number, place.sockets, lifeline, self._turn, self._torn))
        except BaseException:  # noqa: BLE001 - it must not get to the supervisor's own stack
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(status)

    @staticmethod
    def _kill(place: _Place) -> None:
        """End a process; that it has ended is then told by its lifeline."""
        if place.pid:
            os.kill(place.pid, signal.SIGKILL)
            place.kill_at = math.inf

    def _drop_lifeline(self, place: _Place) -> None:
        assert place.lifeline is not None
        self._selector.unregister(place.lifeline)
        place.lifeline.close()
        place.lifeline = None

    def _end(self) -> None:
        """Leave nothing behind, however `run` ends."""
        for place in self._places:
            if place.pid:
                self._kill(place)
                os.waitpid(place.pid, 0)
            _close(place)
        self._selector.close()
        self._turn.close()
        self._torn.close()


def _close(place: _Place) -> None:
    for listener in place.sockets:
        listener.close()
    if place.lifeline is not None:
        place.lifeline.close()


def _how(status: int) -> str:
    """How a process ended, by its `os.waitstatus_to_exitcode`."""
    if status < 0:
        return f"was ended by signal {-status}, {signal.strsignal(-status)}"
    return f"ended with status {status}"


def _delay(short_lives: int) -> float:
    """Seconds to wait before a restart after so many short lives in a row."""
    return 0.0 if short_lives < 2 else min(_FIRST_DELAY * 2.0 ** min(short_lives - 2, 10), _LONGEST_DELAY)


def _answer(place: _Place) -> None:
    assert place.lifeline is not None
    with contextlib.suppress(OSError):  # it has ended since, which its lifeline tells
        place.lifeline.send(_GO)

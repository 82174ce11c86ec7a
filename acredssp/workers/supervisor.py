"""N processes, each with listening sockets of its own, and a supervisor of them.

The kernel distributes new connections over all sockets that listen on one address with SO_REUSEPORT, by a hash of the
client's address and port. Three facts about Linux shape this module (socket(7); inet_csk_listen_stop in the kernel):

* Each socket of such a group has a queue of its own. When its last descriptor is closed, the connections in the queue
  are reset. So the supervisor opens the sockets and keeps all of them open, and each worker inherits its own socket by
  the fork. A worker that ends loses the connections that it had accepted, and its successor finds the queue unchanged.
  A worker closes the sockets of the other workers, so that those sockets end when the supervisor closes them.
* The kernel goes on giving connections to a socket that nobody reads. A worker that hangs without ending keeps its
  share of the new connections waiting. The supervisor does not notice: it restarts only workers that have ended.
* Any process of the same user may join the group, and would get its share. So the address is first bound exclusively.

The supervisor has no event loop, no threads and no TLS session. A fork therefore copies only what the processes are
meant to share, above all the credentials handle (certificate, users). A pair of sockets, the lifeline, connects the
supervisor with each worker. A worker writes to it when it is ready, and the supervisor writes when all workers are
ready. When the worker's end closes, the worker has ended. When the supervisor's end closes, for instance because the
supervisor was killed, the worker stops.

A supervisor can be replaced by a newer program without a connection being lost. `replace` executes the program in the
same process, so its number stays, and so do the listening sockets with their queues and the lifelines of the old
workers. The old workers serve until the new ones are ready, and are told to stop then. The environment variable
`ACREDSSP_INHERITED` tells the new program what it has.

`serve` and `proxy` call this module with the function that serves. `listening` makes the sockets. Only this module
makes processes.
"""

import contextlib
import dataclasses
import functools
import gc
import json
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Final, NoReturn

from acredssp.workers.listening import INHERITED, Sockets

__all__ = ["EXIT_FAILED", "Supervisor", "Worker", "is_supported"]

EXIT_FAILED: Final = 70
"""The exit status when workers do not start or do not stop; sysexits.h calls it EX_SOFTWARE."""

_START: Final = 30.0
"""Seconds that a worker has to become ready; after that, it is killed and counts as crashed."""
_STOP: Final = 15.0
"""Seconds that a worker has to stop when it is told to; after that, it is killed. Draining takes about 10."""
_SETTLED: Final = 10.0
"""Seconds after which a worker counts as sound: a later crash counts as its first."""
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 5.0
"""Seconds before a restart. The first restart is immediate, since the queue waits for it; then the delay doubles."""
_MOST_STARTS: Final = 5
"""The supervisor gives up after this many starts in a row that end before the worker is ready."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_READY: Final = b"r"
"""A worker sends this when it is ready to accept connections."""
_GO: Final = b"g"
"""The supervisor answers with this when the worker may begin to accept."""


def is_supported() -> bool:
    """Return whether this platform allows workers: Linux. Others lack SO_REUSEPORT, or give one socket everything."""
    return sys.platform == "linux" and hasattr(os, "fork") and hasattr(socket, "SO_REUSEPORT")


# --- in a worker ---


class Worker:
    """The things that a worker process gets from its supervisor.

    Args:
        number: The worker's number, from 1; a successor has the number of its predecessor.
        sockets: The sockets to accept connections on.
        lifeline: The worker's end of the lifeline.
        turn: A file that the workers lock in turn.
        torn: One byte that all workers share; it is not zero while the last line of the output has no end.
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
        """Tell the supervisor that this worker is ready, and wait until all others are ready too.

        No worker serves before the supervisor has printed that the server listens. This method blocks, so call it
        before the event loop has anything to do. A SIGTERM that came before the call is delivered now.
        """
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._say(_READY)
        self.lifeline.recv(1)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep the other workers from writing to the shared output while the block runs.

        A pipe keeps a write in one piece only up to PIPE_BUF bytes, and a line with a peer's name may be longer. If a
        worker dies in its turn, the kernel releases the lock.
        """
        os.lockf(self._turn.fileno(), os.F_LOCK, 0)
        try:
            yield
        finally:
            os.lockf(self._turn.fileno(), os.F_ULOCK, 0)

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone; reading `lifeline` tells that too
            self.lifeline.send(word)


# --- the supervisor ---


@dataclasses.dataclass(slots=True)
class _Place:
    """The place of one worker. Its sockets stay open while processes come and go."""

    number: int
    sockets: Sockets
    pid: int = 0
    """The number of the process; 0 while there is no process."""
    lifeline: socket.socket | None = None
    """The supervisor's end of the lifeline."""
    ready: bool = False
    started: float = 0.0
    """The time of the last start, by `time.monotonic()`."""
    start_at: float = 0.0
    """The time at which to start the next process, while there is none; infinite for never."""
    kill_at: float = math.inf
    """The time at which to kill the process; infinite for never."""
    short_lives: int = 0
    """Processes in a row that ended within `_SETTLED` seconds."""
    failed_starts: int = 0
    """Processes in a row that ended before they were ready."""


class Supervisor:
    """Keeps a worker running at each place until it is told to stop.

    Args:
        places: The listening sockets of each worker, from `bind`; closed when `run` ends.
        work: Serves, in a worker's process, and returns the exit status of that process.
        on_ready: Called once, when all workers are ready.
        warn: Called with a sentence about each thing that went wrong.
        patience: Seconds that a worker has to stop when it is told to; after that, it is killed.
        on_signals: What else to do on which signals. A worker inherits them blocked, until it is ready.
        on_ended: Called with the number of each process that has ended.
    """

    def __init__(  # noqa: PLR0913 - a process of its own has as many seams
        self,
        places: list[Sockets],
        work: Callable[[Worker], int],
        *,
        on_ready: Callable[[], None],
        warn: Callable[[str], None],
        patience: float = _STOP,
        on_signals: Mapping[signal.Signals, Callable[[], object]] | None = None,
        on_ended: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._places = [_Place(number, sockets) for number, sockets in enumerate(places, start=1)]
        self._work = work
        self._on_ready = on_ready
        self._warn = warn
        self._patience_of_all = patience
        self._on_signals = {**dict.fromkeys(_SIGNALS), **(on_signals or {})}
        self._on_ended = on_ended
        self._predecessors: dict[int, socket.socket] = {}
        """The workers of the program before this one, with their lifelines."""
        self._selector = selectors.DefaultSelector()
        self._turn: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `run`
        self._torn = mmap.mmap(-1, 1)
        self._all_were_ready = False
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Run the workers until SIGTERM or SIGINT; then let them drain.

        A second signal kills all workers at once. Call this in the main thread of a process without other threads.

        Returns:
            The exit status. It is 0 after one signal, 128 and the signal's number after a second one, `EXIT_FAILED` if
            a worker does not come up or does not stop.
        """
        # After this, the garbage collector ignores the objects that exist now, and so writes to none of the pages that
        # the processes share: a worker that has served takes 15 MiB of its own, and 24 MiB without the freeze.
        gc.collect()
        gc.freeze()
        self._adopt_predecessors()
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
        """Stop accepting, and tell each worker to stop.

        The supervisor closes its sockets first. Otherwise, connections in the queues would wait for a worker that never
        comes.
        """
        if self._stopping:
            return
        self._stopping = True
        for place in self._places:
            for listener in place.sockets:
                listener.close()
        self._release_predecessors()
        deadline = time.monotonic() + self._patience_of_all
        for place in self._places:
            place.start_at, place.kill_at = math.inf, deadline
            if place.lifeline is not None:
                place.lifeline.shutdown(socket.SHUT_WR)

    def signal_workers(self, number: signal.Signals) -> None:
        """Send a signal to each worker that is ready."""
        for place in self._places:
            if place.pid and place.ready:
                os.kill(place.pid, number)

    def replace(self, program: Sequence[str], keep: Sequence[socket.socket] = ()) -> None:
        """Execute a program in this process, which takes over the listening sockets; nothing while this one stops.

        Args:
            program: Its path and its arguments.
            keep: More listening sockets, for `inherited`.

        Raises:
            OSError: It cannot be executed. This one goes on.
        """
        if self._stopping or self._predecessors:
            return
        leaving = {place.pid: place.lifeline for place in self._places if place.pid and place.lifeline is not None}
        sockets = [*(each for place in self._places for each in place.sockets), *keep]
        told = {
            "sockets": [each.fileno() for each in sockets],
            "workers": {pid: lifeline.fileno() for pid, lifeline in leaving.items()},
        }
        # A signal that comes before the new program handles it would end the program.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, self._on_signals)
        try:
            for each in (*sockets, *leaving.values()):
                each.set_inheritable(True)
            os.execve(program[0], [*program], {**os.environ, INHERITED: json.dumps(told)})  # noqa: S606
        finally:
            for each in (*sockets, *leaving.values()):
                each.set_inheritable(False)
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    # --- reactions ---

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """While the block runs, have signals wake the selector; the Python handlers do nothing."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            self._selector.register(ours, selectors.EVENT_READ, lambda: self._on_signal(ours.recv(1)[0]))
            before = {number: signal.signal(number, lambda *_: None) for number in self._on_signals}
            fd = signal.set_wakeup_fd(theirs.fileno())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._on_signals)  # `replace` has blocked them
            try:
                yield
            finally:
                signal.set_wakeup_fd(fd)
                for number, handler in before.items():
                    signal.signal(number, handler)
                self._selector.unregister(ours)

    def _on_signal(self, number: int) -> None:
        act = self._on_signals.get(signal.Signals(number))
        if act is not None:
            act()
        if number not in _SIGNALS:
            return
        if self._stopping:
            self._status = 128 + number  # as shells report a program that a signal ended
            for place in self._places:
                self._kill(place)
            for pid in self._predecessors:
                os.kill(pid, signal.SIGKILL)
        self.stop()

    def _on_word(self, place: _Place) -> None:
        """Read a worker's message from its lifeline; an empty read says that the worker has ended."""
        assert place.lifeline is not None
        word = place.lifeline.recv(1)
        if word == _READY:
            self._on_prepared(place)
        else:
            # A lifeline closes a moment before its process ends, so this wait is short.
            status = os.waitstatus_to_exitcode(os.waitpid(place.pid, 0)[1])
            self._drop_lifeline(place)
            pid, place.pid, place.kill_at = place.pid, 0, math.inf
            self._on_ended(pid)
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
            self._release_predecessors()
            self._on_ready()
            for each in self._places:
                _answer(each)

    def _after(self, place: _Place, how: str) -> None:
        """Plan the successor of a process that ended or could not be started."""
        now = time.monotonic()
        place.short_lives = place.short_lives + 1 if now - place.started < _SETTLED else 1
        place.failed_starts += not place.ready
        place.ready = False
        if place.failed_starts == _MOST_STARTS:
            self._tell(f"worker {place.number} {how}; it was not ready after any of {_MOST_STARTS} starts: giving up")
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
        """Return the seconds until a process has to be started or killed; None for never."""
        due = min(place.kill_at if place.pid else place.start_at for place in self._places)
        return None if due == math.inf else max(0.0, due - time.monotonic())

    def _done(self) -> bool:
        return self._stopping and not self._predecessors and not any(place.pid for place in self._places)

    # --- the workers of the program before ---

    def _adopt_predecessors(self) -> None:
        """Take over the workers of the program that `replace` was called in."""
        told = json.loads(os.environ.pop(INHERITED, "null"))
        for pid, fd in told["workers"].items() if told else ():
            lifeline = socket.socket(fileno=fd)
            lifeline.set_inheritable(False)
            self._predecessors[int(pid)] = lifeline
            self._selector.register(lifeline, selectors.EVENT_READ, functools.partial(self._on_predecessor, int(pid)))

    def _on_predecessor(self, pid: int) -> None:
        lifeline = self._predecessors[pid]
        if lifeline.recv(1):  # it was not ready yet: nobody needs it any more
            lifeline.shutdown(socket.SHUT_WR)
            return
        os.waitpid(pid, 0)
        self._selector.unregister(lifeline)
        self._predecessors.pop(pid).close()
        self._on_ended(pid)

    def _release_predecessors(self) -> None:
        """Tell the workers of the program before to stop."""
        for lifeline in self._predecessors.values():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                lifeline.shutdown(socket.SHUT_WR)

    # --- actions ---

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads the warnings: that must not end the service
            self._warn(text)

    def _start(self, place: _Place) -> None:
        place.started = time.monotonic()
        try:
            place.pid, place.lifeline = self._fork(place)
        except OSError as error:  # no process, memory or descriptor is free; one may be free at the next try
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            self._after(place, f"cannot be started, {reason}")
            return
        place.kill_at = place.started + _START
        self._selector.register(place.lifeline, selectors.EVENT_READ, lambda: self._on_word(place))

    def _fork(self, place: _Place) -> tuple[int, socket.socket]:
        """Make a worker; return its process, and the supervisor's end of its lifeline."""
        ours, theirs = socket.socketpair()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # otherwise both processes would write the text that is left in the buffer
        # The new process gets no signals until it handles them itself: they would reach the supervisor's handlers.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, self._on_signals)
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
        """Turn the new process into a worker: drop what belongs to the supervisor, serve, and exit."""
        status = EXIT_FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to every process; the supervisor acts
            self._selector.close()
            for other in self._places:
                if other is not place:
                    _close(other)
            for old in self._predecessors.values():
                old.close()
            status = self._work(Worker(place.number, place.sockets, lifeline, self._turn, self._torn))
        except BaseException:  # noqa: BLE001 - it must not reach the stack that this process copied from the supervisor
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(status)

    @staticmethod
    def _kill(place: _Place) -> None:
        """Kill a process; its lifeline then tells that it has ended."""
        if place.pid:
            os.kill(place.pid, signal.SIGKILL)
            place.kill_at = math.inf

    def _drop_lifeline(self, place: _Place) -> None:
        assert place.lifeline is not None
        self._selector.unregister(place.lifeline)
        place.lifeline.close()
        place.lifeline = None

    def _end(self) -> None:
        """Kill every process and close every socket and file, however `run` ends."""
        for place in self._places:
            if place.pid:
                self._kill(place)
                os.waitpid(place.pid, 0)
            _close(place)
        for pid, lifeline in self._predecessors.items():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            lifeline.close()
        self._selector.close()
        self._turn.close()
        self._torn.close()


def _close(place: _Place) -> None:
    for listener in place.sockets:
        listener.close()
    if place.lifeline is not None:
        place.lifeline.close()


def _how(status: int) -> str:
    """Say how a process ended.

    Args:
        status: The result of `os.waitstatus_to_exitcode`.
    """
    if status < 0:
        return f"was ended by signal {-status}, {signal.strsignal(-status)}"
    return f"ended with status {status}"


def _delay(short_lives: int) -> float:
    """Return the seconds to wait before a restart, after this many short lives in a row."""
    return 0.0 if short_lives < 2 else min(_FIRST_DELAY * 2.0 ** min(short_lives - 2, 10), _LONGEST_DELAY)


def _answer(place: _Place) -> None:
    assert place.lifeline is not None
    with contextlib.suppress(OSError):  # the worker has ended meanwhile; its lifeline tells that
        place.lifeline.send(_GO)

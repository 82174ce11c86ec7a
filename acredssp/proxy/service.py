"""The gateway as a service: one process or several, signals, and what systemd is told.

    SIGTERM, SIGINT   drain: /readyz says no, connections are still accepted for `run.leave` seconds, then handshakes
                      and relays get `run.grace` seconds to end. A second signal ends the workers at once.
    SIGHUP            read the settings again; a file that cannot be used changes nothing
    SIGUSR2           with workers: start the program anew, for a new version or new addresses. The listening sockets
                      stay open, the old workers serve until the new ones are ready, and then drain.

With workers, the admin's address is one socket that all of them accept from, and the figures are those of all.
"""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final

from acredssp.proxy.leg import Around, as_it_is
from acredssp.proxy.records import JSONLines
from acredssp.proxy.settings import Problems, Settings, SettingsError, read
from acredssp.stores import Node, StoreError
from acredssp.workers import Sockets, Supervisor, Worker, bind, bind_shared, inherited, notify_systemd, take_bound

__all__ = ["HELD", "run", "run_workers"]

HELD: Final = frozenset({signal.SIGHUP, signal.SIGUSR2})
"""Signals that end a process which does not handle them yet. Whoever calls `run` or `run_workers` blocks them first."""
_FIGURES: Final = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX: Final = "acredssp-metrics-"
_LONGER: Final = 15.0
"""Seconds that a worker has beyond `leave` and `grace` before it is killed."""

_NEW_OBJECTS: Final = (10_000, 10, 10)
"""The thresholds of the garbage collector. A connection that stays has some 130 objects."""
_PUBLISHING: Final = 5.0
"""Seconds between two times that the store is told of the figures."""

Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """The task of one process."""

    path: pathlib.Path
    """The settings file."""
    settings: Settings
    """What it says at the start."""
    tell: Tell
    """Told what an operator should know."""
    http: Mapping[str, socket.socket]
    """The sockets of `admin` and `api`, those that there are."""
    sockets: Mapping[str, Sequence[socket.socket]] | None = None
    """The sockets that listen on each address; None to bind them."""
    processes: int = 1
    """How many processes there are."""
    ready: Callable[[], None] = lambda: None
    """Called before connections are accepted; may block."""
    notify: Callable[[str], None] = lambda _: None
    """Told what systemd is to know."""
    around: Around = as_it_is
    """Returns what carries the handshakes."""
    publishes: bool = True
    """Whether this process tells the store of the node's figures, which are those of all its workers."""


async def run(path: pathlib.Path, tell: Tell, around: Around = as_it_is) -> None:
    """Serve in this process until SIGTERM or SIGINT.

    Args:
        path: The settings file.
        tell: Told what an operator should know, a line each.
        around: Returns what carries the handshakes with clients, and those with targets.

    Raises:
        SettingsError: The settings cannot be used at the start.
    """
    settings = await asyncio.to_thread(read, path)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        http = _bind_http(settings, [])
        for sock in http.values():
            stack.enter_context(sock)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR2, tell, "SIGUSR2 starts the program anew with --workers alone")
        task = _Task(path=path, settings=settings, tell=tell, http=http, notify=notify_systemd, around=around)
        await _serve(task, stop)


async def _serve(task: _Task, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain."""
    from acredssp.proxy import web  # noqa: PLC0415 - some look for `_FIGURES` when imported
    from acredssp.proxy.admin import admin_pages, checks_of, figures_of  # noqa: PLC0415
    from acredssp.proxy.api import Broker  # noqa: PLC0415
    from acredssp.proxy.gateway import Gateway  # noqa: PLC0415
    from acredssp.proxy.metrics import Metrics  # noqa: PLC0415

    _log_as(task.settings)
    metrics, loop, tell = Metrics(), asyncio.get_running_loop(), task.tell
    gateway = Gateway(task.path, metrics, task.sockets, processes=task.processes, around=task.around)
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        try:
            await gateway.reload()
        except SettingsError as error:
            for problem in error.problems:
                tell(f"the settings are not taken: {problem}")
            tell("nothing has changed")
            metrics.reloaded(taken=False)
        else:
            tell(f"the settings are taken: listening on {', '.join(gateway.addresses)}")
            metrics.reloaded(taken=True)

    def on_hangup() -> None:
        if len(reloads) > 1:  # a second reload waits already, and reads the file as it is then
            return
        task = loop.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    async with gateway, contextlib.AsyncExitStack() as stack:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        await gateway.start(task.ready)
        checks = checks_of(gateway, metrics)
        if (sock := task.http.get("admin")) is not None:
            await stack.enter_async_context(web.serve(admin_pages(checks, metrics), sock))
        if (sock := task.http.get("api")) is not None:
            broker = Broker(gateway.node, lambda: gateway.plan)
            await stack.enter_async_context(web.serve(broker.app(), sock, broker.access.context))
        if task.publishes:
            gateway.node.begin(_publish(gateway.node, functools.partial(figures_of, checks, metrics)))
        _collect_seldom()
        tell(f"listening on {', '.join(gateway.addresses)}")
        task.notify("READY=1")
        await stop.wait()
        metrics.set_draining()
        count, run_settings = len(gateway.connections), gateway.plan.settings.run
        task.notify(f"STOPPING=1\nSTATUS=draining: {count} connections")
        tell(f"stopping: {count} connections get {run_settings.leave + run_settings.grace:g} seconds to end")
        cut = await gateway.stop()
        metrics.flush()
        tell(f"stopped: {cut} connections were cut")


def _collect_seldom() -> None:
    """Have the garbage collector look at what is new after many new objects, and never at what is there now.

    A connection that ends leaves no cycle behind, so there is little to collect. With Python's own thresholds, the
    process stops again and again to look at thousands of connections that stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_NEW_OBJECTS)


async def _publish(node: Node, figures: Callable[[], Awaitable[bytes]]) -> None:
    """Tell the store of the figures again and again, for `acredssp proxy top`."""
    while True:
        text = await figures()
        with contextlib.suppress(StoreError):
            await node.store.publish(node.name, text.decode(), 3 * _PUBLISHING)
        await asyncio.sleep(_PUBLISHING)


# --- several processes ---


def run_workers(  # noqa: PLR0913
    path: pathlib.Path,
    count: int,
    tell: Tell,
    *,
    main: Callable[[Coroutine[Any, Any, None]], object],
    program: Sequence[str],
    check_program: Sequence[str],
    around: Around = as_it_is,
) -> int:
    """Serve with `count` processes until SIGTERM or SIGINT.

    Args:
        path: The settings file.
        count: How many processes.
        tell: Told what an operator should know, a line each.
        main: Runs a coroutine on a fresh event loop.
        program: What SIGUSR2 executes in this process; it must run this function again.
        check_program: What must end with status 0 before that, since a program that fails takes everybody with it.
        around: As for `run`.

    Returns:
        The exit status, as `Supervisor.run` gives it.

    Raises:
        SettingsError: The settings cannot be used at the start.
    """
    settings, problems = read(path), Problems()
    settings.check_shared(problems, count)
    problems.check()
    with _figures() as ended, contextlib.ExitStack() as stack:
        places, listening, http = _bind(settings, count)
        for sock in http.values():
            stack.enter_context(sock)

        def work(worker: Worker) -> int:
            sockets = {address: places[worker.number - 1] for address, places in listening.items()}
            task = _Task(
                path=path,
                settings=settings,
                tell=lambda text: tell(f"worker {worker.number}: {text}"),
                http=http,
                sockets=sockets,
                publishes=worker.number == 1,
                processes=count,
                around=around,
            )
            main(_work(task, worker))
            return 0

        def on_ready() -> None:
            tell(f"{count} workers are ready")
            notify_systemd("READY=1")

        def replace() -> None:
            check = subprocess.run(  # noqa: S603 - ourselves
                [*check_program], capture_output=True, check=False, text=True
            )
            if check.returncode:
                for line in check.stderr.splitlines():
                    tell(f"the program is not started anew: {line}")
                return
            tell("the program is started anew")
            supervisor.replace([*program], keep=[*http.values()])

        supervisor = Supervisor(
            places,
            work,
            on_ready=on_ready,
            warn=tell,
            patience=settings.run.leave + settings.run.grace + _LONGER,
            on_signals={
                signal.SIGHUP: lambda: supervisor.signal_workers(signal.SIGHUP),
                signal.SIGUSR2: replace,
                signal.SIGTERM: lambda: notify_systemd("STOPPING=1"),
            },
            on_ended=ended,
        )
        return supervisor.run()


async def _work(task: _Task, worker: Worker) -> None:
    """Serve in a worker's process until the supervisor or SIGTERM says stop."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def told() -> None:
        loop.remove_reader(worker.lifeline)
        stop.set()

    def ready() -> None:
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        worker.ready()
        loop.add_reader(worker.lifeline, told)

    await _serve(dataclasses.replace(task, ready=ready), stop)


def _bind(
    settings: Settings, count: int
) -> tuple[list[Sockets], Mapping[str, list[Sockets]], Mapping[str, socket.socket]]:
    """Bind the addresses of all listeners, the admin's and the API's, or take over what the program before has bound.

    Returns:
        All sockets of each worker, the sockets of each worker by listener, and those of all workers by name.
    """
    left, problems, listening = inherited(), Problems(), dict[str, list[Sockets]]()
    for number, listener in enumerate(settings.listeners):
        where = listener.address
        with problems.at(f"listeners[{number}].address"):
            listening[str(where)] = bind(where.host, where.port, count, take_bound(left, where.host, where.port))
    http = _bind_http(settings, left)
    for each in left:  # of addresses that nobody listens on any more
        each.close()
    problems.check()
    places = [tuple(each for sockets in listening.values() for each in sockets[number]) for number in range(count)]
    return places, listening, http


def _bind_http(settings: Settings, left: list[socket.socket]) -> Mapping[str, socket.socket]:
    """Bind the addresses of the admin and the API, or take their sockets out of `left`."""
    problems, made = Problems(), dict[str, socket.socket]()
    for name, section in {"admin": settings.admin, "api": settings.api}.items():
        with problems.at(f"{name}.address"):
            if section is not None:
                made[name] = bind_shared(section.address.host, section.address.port, left)
    problems.check()
    return made


@contextlib.contextmanager
def _figures() -> Iterator[Callable[[int], None]]:
    """Have the workers keep their figures in one folder; gives what to call when one has ended."""
    folder = os.environ.setdefault(_FIGURES, "") or tempfile.mkdtemp(prefix=_PREFIX)
    os.environ[_FIGURES] = folder
    from prometheus_client import multiprocess  # noqa: PLC0415 - looks for `_FIGURES` as it is imported

    try:
        yield multiprocess.mark_process_dead
    finally:
        del os.environ[_FIGURES]
        if pathlib.Path(folder).name.startswith(_PREFIX):
            shutil.rmtree(folder, ignore_errors=True)


# --- the log ---


def _log_as(settings: Settings) -> None:
    # No line of the log names a thread or a process, but logging would look both up for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    for handler in logging.getLogger("acredssp").handlers:
        handler.setFormatter(JSONLines() if settings.run.log == "json" else text)

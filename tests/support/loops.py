"""A pytest plugin: every async test runs on each event loop, and fails if it leaves work behind or blocks the loop.

The matrix is asyncio, asyncio in debug mode and uvloop. On each, a test fails if

- it ends with tasks that still run,
- something reached the loop's exception handler (an exception in a callback, a task's that nobody fetched),
- the loop's thread made a call that may block: a blocking socket, a file, a sleep, a contended lock, a wait for a
  process, a name lookup, a GSS-API call. The call raises `BlockingError` at once, and is also remembered, since
  the code under test may take any exception of a hook for a refusal.

No clock is used: a slow machine never makes a test fail.
"""

import asyncio
import asyncio.constants
import importlib.util
import inspect
import math
import os
from pathlib import Path

import blockbuster.blockbuster
import pytest
from blockbuster import BlockBuster, BlockingError
from blockbuster.blockbuster import BlockBusterFunction

try:
    import uvloop
except ImportError:  # it is not made for Windows
    uvloop = None

TURNS_TO_END = 10
"""Turns of the loop in which tasks may end after the test: a cancelled task needs a few turns, and no wait."""


# In debug mode, asyncio keeps ten frames of the code that made a callback, task or future. This takes a fifth of the
# time of the tests in debug mode. One frame is enough to name the line.
asyncio.constants.DEBUG_STACK_DEPTH = 1


class DebugLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop in debug mode, also when whoever runs it says otherwise (`asyncio.Runner` sets it off).

    It warns of no slow callback: on a busy machine every callback may take long, and some tests count the warnings.
    """

    def __init__(self):
        super().__init__()
        self.slow_callback_duration = math.inf

    def set_debug(self, enabled):
        super().set_debug(True)


def pytest_addoption(parser):
    options = {"metavar": "NAME", "nargs": 1, "action": "extend", "choices": ["asyncio", "debug", "uvloop"]}
    parser.addoption("--loop", help="run async tests on this event loop alone; may be given again", **options)


def pytest_asyncio_loop_factories(config):
    factories = {"asyncio": asyncio.SelectorEventLoop}
    if config.getoption("quick", default=False):  # no async test is run then
        return factories
    factories["debug"] = DebugLoop
    if uvloop is not None:
        factories["uvloop"] = uvloop.new_event_loop
    wanted = config.getoption("loop", default=None) or factories
    return {name: factory for name, factory in factories.items() if name in wanted}


def pytest_itemcollected(item):
    """Guards async tests; the others have no loop to guard."""
    if inspect.iscoroutinefunction(getattr(item, "obj", None)) and "guarded_loop" not in item.fixturenames:
        item.fixturenames.insert(0, "guarded_loop")  # one list for all loops


@pytest.fixture
def guarded_loop(leftovers_are_errors, blocking_calls):
    """Fails a test that leaves something to its loop, or that blocks it."""
    yield
    assert not blocking_calls, f"blocking calls on the loop's thread: {', '.join(blocking_calls)}"


@pytest.fixture
async def leftovers_are_errors():
    """Fails a test that leaves tasks running, or unhandled exceptions to the loop."""
    loop, unhandled, before = asyncio.get_running_loop(), [], asyncio.all_tasks()
    loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
    yield
    for _ in range(TURNS_TO_END):
        await asyncio.sleep(0)
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not leaked, f"tasks left running: {', '.join(sorted(map(repr, leaked)))}"
    assert not unhandled, f"exceptions nobody handled: {unhandled}"


@pytest.fixture
def blocking_calls(monkeypatch):
    """The names of the blocking calls that were made, and refused, while a loop ran in this thread."""
    calls = []

    class RecordedBlockingError(BlockingError):
        def __init__(self, name):
            super().__init__(name)
            calls.append(name)

    monkeypatch.setattr(blockbuster.blockbuster, "BlockingError", RecordedBlockingError)
    watch = BlockBuster()
    watch.functions |= _more_blocking_functions()
    write = watch.functions["os.write"]
    pipes_may_block = write.can_block_predicate
    write.can_block_predicate = lambda fd, *args: pipes_may_block(fd, *args) or _is_memory_file(fd)
    # Where a log goes is the matter of its handlers; one of pytest's own writes to a file.
    for name in "io.TextIOWrapper.write", "io.BufferedWriter.write":
        watch.functions[name].can_block_in("logging/__init__.py", "emit")
    watch.activate()
    yield calls
    watch.deactivate()


def _more_blocking_functions():
    """Return the blocking calls that BlockBuster does not know."""
    functions = {
        name: BlockBusterFunction(None, name)
        for name in ("socket.getaddrinfo", "socket.gethostbyname", "socket.getnameinfo", "socket.getfqdn")
    }
    functions["os.waitpid"] = BlockBusterFunction(
        None,
        "os.waitpid",
        can_block_functions=[
            ("asyncio/unix_events.py", {"_do_wait"}),  # from Python 3.12, for a child known to be dead
            ("subprocess.py", {"_execute_child"}),  # for a child that found no program to become, and is dead
        ],
        can_block_predicate=lambda _pid, options: bool(options & os.WNOHANG),
    )
    if importlib.util.find_spec("gssapi"):
        functions["gssapi.SecurityContext.step"] = BlockBusterFunction(None, "gssapi.SecurityContext.step")
        functions["gssapi.Credentials.acquire"] = BlockBusterFunction(None, "gssapi.Credentials.acquire")
        functions["gssapi.raw.acquire_cred_from"] = BlockBusterFunction(None, "gssapi.raw.acquire_cred_from")
    if importlib.util.find_spec("krb5"):
        for name in ("krb5.get_init_creds_password", "krb5.get_init_creds_keytab"):
            functions[name] = BlockBusterFunction(None, name)
    return functions


def _is_memory_file(fd):
    """Whether a write to `fd` goes to memory: the way a private key enters an SSLContext."""
    link = Path(f"/proc/self/fd/{fd}")
    return link.is_symlink() and str(link.readlink()).startswith("/memfd:")

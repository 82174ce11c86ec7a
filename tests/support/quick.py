"""A pytest plugin: `--quick` runs the tests for the inner loop of work: no peer, no process, no socket, no event loop.

No list is kept of them. Of properties, a few examples are tried (`support.examples`). Left out is

- of a test that is made for more than `MOST_CASES` sets of parameters, all but so many, spread evenly; all run if files
  or tests are named on the command line, or with `--thorough`,
- each async test, since it would run on every event loop of the matrix,
- each test with the marker `interop`, which says that it needs a real peer, or `thorough`, which says that it takes
  seconds, or repeats for many values what quick tests show for some; with `--thorough` too, the latter run,
- each test that starts a process, such as a peer or a command, that makes a socket, or that makes an event loop, be it
  in a thread or in what a fixture gives: such tests wait for each other, and cost ten times what others do. The plugin
  ends them when they try to (Python's audit events tell), and counts them as left out. With `--sockets` too, it ends
  those alone that start a process.
"""

import asyncio
import contextlib
import inspect
import re
import signal
import sys
import threading
import traceback

import pytest

STARTS_A_PROCESS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
"""Audit events. Each is raised before there is a process."""
MAKES_A_SOCKET = "socket.__new__"
"""Likewise. An event loop makes a pair of them, to be woken."""
REASON = "left out of the quick tests: it "
MOST_CASES = 3
"""Of one test. A change that breaks one case breaks one of these mostly; the whole run tries each."""

MAY_RUN = re.compile(r"^\s*def test|^class Test|TestCase", re.MULTILINE)
"""Is in each file with a test that is not async."""

_watched = None
"""The test that runs. Here, since an audit hook stays until the interpreter ends."""


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="run only what needs no peer, process, socket or event loop")
    parser.addoption("--thorough", action="store_true", help="with --quick, run what is marked as thorough, too")
    parser.addoption("--sockets", action="store_true", help="with --quick, run what needs a socket or event loop, too")


@pytest.hookimpl(trylast=True)  # pytest's own sets the hooks of the interpreter
def pytest_configure(config):
    if config.getoption("quick"):
        config.option.no_skips = False  # what is left out on purpose is no failure
        markers = {"interop"} if config.getoption("thorough") else {"interop", "thorough"}
        config.pluginmanager.register(Quick(markers))
        if "thorough" in markers and config.args_source is not config.ArgsSource.ARGS:
            config.pluginmanager.register(Thinned())
        sys.addaudithook(_end_what_starts_a_process)
        if not config.getoption("sockets"):
            sys.addaudithook(_end_what_makes_a_socket)
            asyncio.BaseEventLoop.__new__ = _make_no_loop
        signal.signal(signal.SIGUSR1, _end_the_test)
        # What was ended half way is not closed, nor awaited, which is found at any later time, in another test. Nobody
        # formats it: that parses lines of the source, and breaks an `ast.parse` that it interrupts (CPython 3.11).
        sys.unraisablehook = threading.excepthook = lambda _: None


def _end_what_starts_a_process(event, _arguments):
    if _watched is not None and event in STARTS_A_PROCESS:
        _watched.end("starts a process")


def _end_what_makes_a_socket(event, _arguments):
    if _watched is not None and event == MAKES_A_SOCKET:
        _watched.end("makes a socket")


def _make_no_loop(cls, *_arguments, **_named):
    """Stands for `__new__`: of a loop that has begun to be made, a warning would be left that it was not closed."""
    if _watched is not None:
        _watched.end("makes an event loop")
    return object.__new__(cls)


def _end_the_test(_number, _frame):
    """The main thread may wait for a thread that has ended."""
    if _watched is not None and _watched.runs and _watched.reason:
        pytest.skip(_watched.reason)


class Watched:
    """A test while pytest is at it. The code under test may take the exception that ends it for a failure."""

    def __init__(self):
        self.reason = ""
        self.runs = False

    def end(self, what):
        self.reason = self.reason or REASON + what
        if threading.current_thread() is threading.main_thread():
            pytest.skip(self.reason)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        sys.exit()  # ends the thread


@contextlib.contextmanager
def _watch():
    global _watched  # noqa: PLW0603
    _watched = Watched()
    try:
        yield
    finally:
        _watched = None


@contextlib.contextmanager
def _ends():
    """While this lasts, a thread may end the test: pytest takes an exception for the test's."""
    _watched.runs = True
    try:
        yield
    finally:
        _watched.runs = False


class Thinned:
    """The hooks that leave `MOST_CASES` of each test, and tell how many are left out."""

    def __init__(self):
        self._left_out = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_generate_tests(self, metafunc):
        """What is no test by now has cost nothing: no hook of pytest's sees the cases before they are tests."""
        yield
        cases = [each for each in metafunc._calls if "thorough" not in {mark.name for mark in each.marks}]
        if len(cases) > MOST_CASES:
            self._left_out += len(cases) - MOST_CASES
            metafunc._calls[:] = [cases[number * (len(cases) - 1) // (MOST_CASES - 1)] for number in range(MOST_CASES)]

    def pytest_report_collectionfinish(self):
        return f"left out: {self._left_out} cases of tests of which {MOST_CASES} run"


class Quick:
    """The hooks of a quick session; tests with one of the markers are left out."""

    def __init__(self, markers):
        self._markers = markers

    def pytest_ignore_collect(self, collection_path):
        """A file with no test that could run need not be imported. pytest asks for files that nobody has named."""
        if collection_path.suffix == ".py" and not MAY_RUN.search(collection_path.read_text(encoding="utf-8")):
            return True
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, collector, obj):
        """Of a function, hundreds of tests may be made: none of one that is left out."""
        if inspect.isfunction(obj) and (
            inspect.iscoroutinefunction(obj) or self._has_one_of(_markers_of(collector, obj))
        ):
            return []
        return None

    def _has_one_of(self, markers):
        return any(mark.name in self._markers for mark in markers)

    def pytest_collection_modifyitems(self, config, items):
        """Leave out what a marker of its parameters names."""
        kept, left_out = [], []
        for item in items:
            (left_out if self._has_one_of(_markers_of_parameters(item)) else kept).append(item)
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self):
        with _watch():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self):
        with _ends():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self):
        with _ends():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if _watched.reason:
            report.outcome, report.longrepr = "skipped", (str(item.path), None, _watched.reason)
            if call.excinfo:
                traceback.clear_frames(call.excinfo.tb)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report):
        """Counted apart from skips, and not listed one by one."""
        if report.skipped and REASON in str(report.longrepr):
            return "left out", "", "LEFT OUT"
        return None


def _markers_of(collector, function):
    """The markers of a function, and of the classes and the file that it is in."""
    return [*getattr(function, "pytestmark", ()), *collector.iter_markers()]


def _markers_of_parameters(item):
    called = getattr(item, "callspec", None)
    return called.marks if called else ()

"""A pytest plugin: `--forks N` shares the tests out among N processes, which are forked once the tests are collected.

They collect nothing, and tell little while tests run, so that a test of a millisecond costs little more. Each takes the
next share of tests (`support.parallel`) as soon as it is through with one. The first process runs none. It tells what
ran in the others, and which test was running in one that ended too early. A fixture of the session is made in each
process. `--forks auto` means as many as `support.parallel` counts.
"""

import collections
import contextlib
import functools
import io
import mmap
import os
import signal
import time
from multiprocessing import connection

import pytest
from _pytest import runner
from _pytest._io import TerminalWriter
from support import covering, parallel, peers

EVERY = 0.5
"""Seconds: no process tells more often of the tests that ran, and so it need not for each."""
LOOK = 1.0
"""Seconds at most between two looks at which test runs."""


def pytest_addoption(parser):
    count = {"type": _count, "default": 1, "metavar": "N"}
    parser.addoption("--forks", help="share the tests out among N forked processes, or auto", **count)
    patience = {"type": float, "default": 600.0, "metavar": "SECONDS"}
    parser.addoption("--hangs-after", help="kill a forked process once its test has run for so long", **patience)


def _count(text):
    return parallel.count_workers() if text == "auto" else int(text)


def pytest_configure(config):
    if config.getoption("forks") > 1:
        config.pluginmanager.register(Forks(config.getoption("forks")))


class Forks:
    """The hooks of a session that is shared out."""

    def __init__(self, count):
        self._count = count

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        if session.testsfailed or session.config.option.collectonly:
            return None  # pytest's own loop says so
        shares = collections.defaultdict(list)
        for item in session.items:
            shares[parallel.share(item.nodeid)].append(item)
        shares = sorted(shares.values(), key=lambda share: parallel.rank(share[0].nodeid))
        session.config._tmp_path_factory.getbasetemp()  # one for all
        session.config.get_terminal_writer().flush()
        with _queue(len(shares)) as queue:
            forks = [
                Fork(session, lambda number=number: self._run(session, queue, shares, number))
                for number in range(self._count)
            ]
            try:
                _tell(session, queue, forks)
            finally:
                for fork in forks:
                    fork.end()
        _stop_if_asked(session)
        return True

    def _run(self, session, queue, shares, number):
        """Run shares for as long as there are some. As pytest does it, but for where the next test comes from."""
        peers.share_ports(number, self._count)
        taken = (shares[int.from_bytes(each)] for each in iter(lambda: os.read(queue, 2), b""))
        tests = (test for share in taken for test in share)
        test = next(tests, None)
        while test is not None:
            following = Following(tests)
            test.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
            _stop_if_asked(session)
            test = following.test


class Following:
    """The test after another one, as pytest asks for it: once the other ran, to learn which fixtures are needed still.

    So a process takes no share that another one could begin.
    """

    def __init__(self, tests):
        self._tests = tests

    @functools.cached_property
    def test(self):
        return next(self._tests, None)

    def listchain(self):
        return self.test.listchain() if self.test else []


@contextlib.contextmanager
def _queue(length):
    """A pipe with the numbers of all shares. Two bytes are read at once, or not at all."""
    reading, writing = os.pipe()
    os.write(writing, b"".join(number.to_bytes(2) for number in range(length)))
    os.close(writing)
    yield reading
    os.close(reading)


def _tell(session, queue, forks):
    """Say in the first process what the forks tell, until all have ended."""
    waiting = {fork.told: fork for fork in forks}
    while waiting:
        for told in connection.wait(waiting, LOOK):
            if not waiting[told].tell():
                del waiting[told]
        for fork in waiting.values():
            fork.kill_if_it_hangs()
        if session.shouldfail or session.shouldstop:
            os.read(queue, mmap.PAGESIZE)  # nobody takes more


def _stop_if_asked(session):
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


class Unheard:
    """Stands where the terminal's reporter was: pytest-timeout writes to its terminal, and then fails the test."""

    def __init__(self):
        self._tw = TerminalWriter(io.StringIO())


class Fork:
    """One of the processes. It runs what it is given, and ends."""

    def __init__(self, session, run):
        self._session = session
        self._runs = mmap.mmap(-1, mmap.PAGESIZE)  # the name of a test, for both processes
        self._reports, self._told_at, self._ended = [], 0.0, False
        self._seen, self._seen_at = b"", time.monotonic()
        self.told, self._telling = connection.Pipe(duplex=False)
        self._process = os.fork()
        if self._process == 0:
            self._be(run)
        self._telling.close()

    def _be(self, run):
        status = 1
        try:
            plugins = self._session.config.pluginmanager
            plugins.unregister(name="terminalreporter")
            plugins.register(Unheard(), "terminalreporter")
            plugins.register(self)
            capturing = plugins.getplugin("capturemanager")
            capturing.stop_global_capturing()  # its files are those of the first process
            capturing.start_global_capturing()
            self.told.close()  # so that sending fails where the first process has ended
            with contextlib.suppress(
                self._session.Failed, self._session.Interrupted, KeyboardInterrupt, BrokenPipeError
            ):
                run()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal has sent it, and the first process does, too
            runner.pytest_sessionfinish(self._session)  # where the tests were stopped, fixtures are left
            covering.keep()
            self._telling.send([*self._reports, None])
            status = 0
        finally:
            os._exit(status)

    def pytest_runtest_logstart(self, nodeid):
        name = nodeid.encode()[: len(self._runs) - 1]
        self._runs[: len(name) + 1] = name + b"\0"

    def pytest_runtest_logreport(self, report):
        config = self._session.config
        if report.longrepr is not None:  # what it consists of may be anything
            report = config.hook.pytest_report_to_serializable(config=config, report=report)
        self._reports.append(report)
        if (now := time.monotonic()) - self._told_at > EVERY:
            self._telling.send(self._reports)
            self._reports, self._told_at = [], now

    def tell(self):
        """Say in the first process what ran in this one since the last time; return whether more may come."""
        config = self._session.config
        try:
            reports = self.told.recv()
        except EOFError:
            reports = [None]
        for report in filter(None, reports):
            if isinstance(report, dict):
                given = config.hook.pytest_report_from_serializable(config=config, data=report)
            else:
                given = report
            config.hook.pytest_runtest_logreport(report=given)
        if reports[-1] is None:
            self._wait()
        return not self._ended

    def kill_if_it_hangs(self):
        """Kill the process if its test runs for too long.

        pytest-timeout fails such a test earlier, unless the test hangs where Python runs no signal handler, such as in
        the event loop of a library.
        """
        now, name = time.monotonic(), self._runs[:]
        if name != self._seen:
            self._seen, self._seen_at = name, now
        elif now - self._seen_at > self._session.config.getoption("hangs_after"):
            os.kill(self._process, signal.SIGABRT)  # faulthandler writes where it hangs

    def _wait(self):
        _, status = os.waitpid(self._process, 0)
        self._ended = True
        if status:
            runs = self._runs[:].partition(b"\0")[0].decode(errors="replace")
            status = os.waitstatus_to_exitcode(status)
            self._session.shouldstop = f"a forked process ended with status {status}, in {runs or 'no test'}"

    def end(self):
        """End what is left of it: where this process was interrupted, it need not have been."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGINT)
            self._wait()
        self.told.close()
        self._runs.close()

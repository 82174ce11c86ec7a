"""A pytest plugin: `--forks N` shares the tests out among N processes, which are forked once the tests are collected.

Unlike pytest-xdist's processes they collect nothing, and send nothing while tests run: a test that takes
a millisecond does not cost a second one. Each takes the next file of tests as soon as it is through with one. What ran
in the others is told by the first process at the end. It is for tests without dear peers: a fixture of the session is
made in each.
"""

import contextlib
import itertools
import os
import pickle
import tempfile

import pytest
from support import peers


def pytest_addoption(parser):
    parser.addoption("--forks", type=int, default=1, metavar="N", help="share the tests out among N forked processes")


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
        files = [list(tests) for _, tests in itertools.groupby(session.items, key=lambda item: item.path)]
        session.config._tmp_path_factory.getbasetemp()  # one for all
        with _queue(len(files)) as queue:
            forks = [
                Fork(session, lambda number=number: self._run(session, queue, files, number))
                for number in range(1, self._count)
            ]
            self._run(session, queue, files, 0)
        for fork in forks:
            fork.tell()
        _stop_if_asked(session)
        return True

    def _run(self, session, queue, files, number):
        """Run files for as long as there are some. As pytest does it, but for where the next test comes from."""
        peers.share_ports(number, self._count)
        tests = (test for taken in iter(lambda: os.read(queue, 2), b"") for test in files[int.from_bytes(taken)])
        for test, following in itertools.pairwise(itertools.chain(tests, [None])):
            test.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
            _stop_if_asked(session)


@contextlib.contextmanager
def _queue(length):
    """A pipe with the numbers of all files. Two bytes are read at once, or not at all."""
    reading, writing = os.pipe()
    os.write(writing, b"".join(number.to_bytes(2) for number in range(length)))
    os.close(writing)
    yield reading
    os.close(reading)


def _stop_if_asked(session):
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


class Fork:
    """One of the other processes. It runs what it is given, and ends."""

    def __init__(self, session, run):
        self._session = session
        self._reports = tempfile.TemporaryFile()  # noqa: SIM115  # `tell` closes it
        self._process = os.fork()
        if self._process == 0:
            self._be(run)

    def _be(self, run):
        status = 1
        try:
            plugins = self._session.config.pluginmanager
            plugins.unregister(name="terminalreporter")
            plugins.register(self)
            capturing = plugins.getplugin("capturemanager")
            capturing.stop_global_capturing()  # its files are those of the first process
            capturing.start_global_capturing()
            with contextlib.suppress(self._session.Failed, self._session.Interrupted):
                run()
            self._reports.flush()
            status = 0
        finally:
            os._exit(status)

    def pytest_runtest_logreport(self, report):
        config = self._session.config
        if report.longrepr is not None:  # what it consists of may be anything
            report = config.hook.pytest_report_to_serializable(config=config, report=report)
        pickle.dump(report, self._reports)

    def tell(self):
        """Say in the first process what ran in this one."""
        _, status = os.waitpid(self._process, 0)
        config = self._session.config
        self._reports.seek(0)
        with contextlib.suppress(EOFError, pickle.UnpicklingError), self._reports:
            while report := pickle.load(self._reports):  # noqa: S301  # this wrote it
                if isinstance(report, dict):
                    report = config.hook.pytest_report_from_serializable(config=config, data=report)
                config.hook.pytest_runtest_logreport(report=report)
        if status:
            self._session.shouldstop = f"a forked process ended with status {os.waitstatus_to_exitcode(status)}"

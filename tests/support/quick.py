"""A pytest plugin: `--quick` runs the tests for the inner loop of work: no peer, no process, no event loop matrix.

No list is kept of them. Of properties, a few examples are tried (`support.examples`). Left out is

- each async test, since it would run on every event loop of the matrix,
- each test with the marker `interop`, which says that it needs a real peer,
- each test that starts a process, such as a peer or a command: the plugin ends it when it tries to (Python's audit
  events tell), and counts it as left out.
"""

import contextlib
import inspect
import sys

import pytest

STARTS_A_PROCESS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
"""Audit events. Each is raised before there is a process."""
REASON = "left out of the quick tests: it starts a process"

_watched = False
"""Whether a test runs that may start no process. Here, since an audit hook stays until the interpreter ends."""


def pytest_addoption(parser):
    parser.addoption(
        "--quick", action="store_true", help="run only what needs no peer, no other process and no event loop matrix"
    )


def pytest_configure(config):
    if config.getoption("quick"):
        config.option.no_skips = False  # what is left out on purpose is no failure
        config.pluginmanager.register(Quick())
        sys.addaudithook(_end_what_starts_a_process)


def _end_what_starts_a_process(event, _arguments):
    if _watched and event in STARTS_A_PROCESS:
        pytest.skip(REASON)


@contextlib.contextmanager
def _watch():
    global _watched  # noqa: PLW0603
    _watched = True
    try:
        yield
    finally:
        _watched = False


class Quick:
    """The hooks of a quick session."""

    def pytest_collection_modifyitems(self, config, items):
        left_out = [item for item in items if _is_left_out(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_left_out(item)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self):
        with _watch():
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report):
        """Counted apart from skips, and not listed one by one."""
        if report.skipped and REASON in str(report.longrepr):
            return "left out", "", "LEFT OUT"
        return None


def _is_left_out(item):
    return inspect.iscoroutinefunction(item.obj) or item.get_closest_marker("interop") is not None

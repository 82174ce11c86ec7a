"""A pytest plugin: where coverage is measured (`--cov`), it rests during the tests outside of `MEASURED`.

It makes a test half as long again, or twice as long. What is measured is the engine (`source` in pyproject.toml), and
the engine's own tests have to reach all of it: what only the test of a program runs, nobody checks.
"""

import pytest

try:
    from coverage import Coverage
except ImportError:  # pytest works without it, too
    Coverage = None

_measuring = None
"""The measurement of this session."""
MEASURED = tuple(f"tests/{folder}/" for folder in ("core", "mechanisms", "wire"))
"""Folders of tests."""


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session):
    global _measuring  # noqa: PLW0603
    _measuring = measuring = Coverage and Coverage.current()
    if measuring and not _names_what_to_measure(session.config):
        session.config.pluginmanager.register(Rests(measuring))
    return (yield)


def keep():
    """Write what was measured in a forked process. pytest-cov puts the files together."""
    if _measuring:
        _measuring.stop()
        _measuring.save()


def _names_what_to_measure(config):
    """Whether the command line does (`--cov=acredssp`), which means every test of the session."""
    return any(isinstance(source, str) for source in config.getoption("cov_source", default=None) or ())


class Rests:
    """Stops one measurement, and goes on with it."""

    def __init__(self, measuring):
        self._measuring = measuring
        self._stopped = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        stop = not item.nodeid.startswith(MEASURED)
        if stop != self._stopped:
            self._stopped = stop
            (self._measuring.stop if stop else self._measuring.start)()
        return (yield)

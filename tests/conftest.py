"""What every test gets: the matrix of event loops and its guards, the requirements, the build, and the options."""

import gc
import signal
import sys

pytest_plugins = [
    "support.build",
    "support.covering",
    "support.examples",
    "support.forks",  # imports support.covering, which pytest must have seen
    "support.kdc",
    "support.loops",
    "support.quick",
    "support.requirements",
    "support.security_figures",
    "support.skips",
]


def pytest_configure():
    """A shell lets what it runs in the background ignore Ctrl-C, and so would the commands that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection():
    """Thousands of tests are no garbage: nothing is to be found while they are collected."""
    gc.disable()


def pytest_collection_finish():
    """A collection within a test need not look at them all, and none comes at every thousandth object.

    Tests that count what is left collect it themselves.
    """
    blocked = [name for name in ("gssapi", "krb5") if name in sys.modules and sys.modules[name] is None]
    assert not blocked, f"{blocked}: a test imports what keeps them out of the process (benchmarks.pyspnego)"
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()

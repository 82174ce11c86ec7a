"""What every test gets: the matrix of event loops and its guards, the requirements, the build, and the options."""

import gc

pytest_plugins = [
    "support.build",
    "support.covering",
    "support.examples",
    "support.forks",
    "support.kdc",
    "support.loops",
    "support.parallel",
    "support.quick",
    "support.requirements",
    "support.security_figures",
    "support.skips",
]


def pytest_collection():
    """Thousands of tests are no garbage: nothing is to be found while they are collected."""
    gc.disable()


def pytest_collection_finish():
    """A collection within a test need not look at them all."""
    gc.collect()
    gc.freeze()
    gc.enable()

"""What every test gets: the matrix of event loops and its guards, the requirements, the build, and `--no-skips`."""

import gc

pytest_plugins = [
    "support.build",
    "support.kdc",
    "support.loops",
    "support.quick",
    "support.requirements",
    "support.skips",
]


def pytest_collection_finish():
    """Thousands of tests are no garbage: a collection within one of them need not look at them all."""
    gc.collect()
    gc.freeze()

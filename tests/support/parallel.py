"""How the tests are shared out among processes by `support.forks`.

What is handed out is a file of tests, so that what its fixtures share is made once. A file that takes long, and whose
tests share little, is handed out by its test functions. What takes longest goes first, so that no process is left alone
with it at the end. `auto` means twice as many processes as there are processors, since many tests wait for a peer.

Each process has ports (`support.peers`), peers, folders and a Kerberos realm of its own.
"""

import os

SPREAD = ("tests/interop/", "tests/http/")
"""Folders whose files are handed out by their functions."""
WHOLE = ("tests/interop/test_proxy_cluster.py",)
"""Files there that share what is dear: gateways with their stores."""
IN_A_DOMAIN = tuple(
    f"tests/interop/test_{name}.py" for name in ("lab", "probe_and_doctor", "proxy_delegation", "proxy_domain", "samba")
)
"""Files that share a Samba domain, whose making takes longest of all: one process makes one, and runs all of them."""
FIRST = (
    "tests/test_benchmarks.py",
    "tests/test_site.py",
    "tests/test_tutorial.py",
    "tests/interop/",
    "tests/cli/",
    "tests/test_examples.py",
    "tests/test_conformance.py",
    "tests/http/",
)
"""What takes longest, in this order."""


def count_workers():
    """How many processes `auto` means."""
    return 2 * len(os.sched_getaffinity(0))


def share(nodeid):
    """What a test is handed out with."""
    path, _, name = nodeid.partition("::")
    if path in IN_A_DOMAIN:
        return "a Samba domain"
    if path.startswith(SPREAD) and path not in WHOLE:
        return f"{path}::{name.partition('[')[0]}"
    return path


def rank(nodeid):
    """The lower, the earlier."""
    return next((number for number, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))

"""Runs one target in atheris, in a process of its own: `python -m fuzz run` starts it.

atheris must instrument the package while it is imported, so nothing of the package may be imported before.
"""

import contextlib
import mmap
import sys

import atheris

from fuzz.engine_counters import COUNTERS


def main() -> None:
    """Fuzz the target that the command line names, until libFuzzer ends the process."""
    name, counters, faulty, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["acredssp"]):
        from fuzz.catalogue import target_of  # noqa: PLC0415 - instrumented

        target = target_of(name)
    with open(counters, "r+b") as file:  # noqa: PTH123
        shared = mmap.mmap(file.fileno(), COUNTERS.size)
    ran = accepted = deep = 0

    def one(data: bytes) -> None:
        nonlocal ran, accepted, deep
        ran += 1
        verdict = target.verdict(data)
        accepted += verdict.startswith("accepted")
        deep += target.is_deep(verdict)
        COUNTERS.pack_into(shared, 0, ran, accepted, deep)

    with target.fault() if faulty == "faulty" else contextlib.nullcontext():
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


main()

"""Runs one target with the options of libFuzzer that the command line has, as OSS-Fuzz calls it.

atheris must instrument the package while it is imported, so nothing of the package may be imported before.
"""

import sys

import atheris

__all__ = ["main"]


def main(name: str) -> None:
    """Fuzz a target until libFuzzer ends the process."""
    with atheris.instrument_imports(include=["acredssp"]):
        from fuzz.catalogue import target_of  # noqa: PLC0415 - instrumented

        target = target_of(name)
    atheris.Setup(sys.argv, lambda data: target.verdict(data) and None)
    atheris.Fuzz()

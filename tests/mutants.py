"""Takes one behaviour at a time out of the package and sees that the named tests notice.

`make mutants` runs this. A mutant of `mutants.toml` names the requirements that it breaks, or the behaviour in words
where no requirement speaks of it; a file of the package, a piece of its text with what stands there instead, and the
tests that must fail. Each mutant lives in a copy of the
package that Python finds before the real one, so the tree stays as it is. Exit status 1: a mutant lived or no longer
fits the text that it changes, or a test fails without any mutant.
"""

import argparse
import concurrent.futures
import dataclasses
import gc
import multiprocessing
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "acredssp"
_TESTS_FAILED = 1
"""pytest's exit status when tests ran and some failed. A mutant that cannot even be imported proves nothing."""
_PATIENCE = 400.0
"""Seconds for one test with a mutant, and for all of them without a mutant."""
_IMPORTED_ONCE = (
    "pytest", "_hypothesis_pytestplugin", "anyio.pytest_plugin", "hypothesis.strategies", "pytest_asyncio.plugin",
    "pytest_cov.plugin", "pytest_timeout", "aiohttp.web", "asn1crypto.cms", "asn1tools", "blockbuster", "coverage",
    "cryptography.x509.verification", "pdb", "pydantic", "rich.console", "rich.table", "spnego", "typer", "uvicorn",
    "uvloop",
)  # fmt: skip
"""What the tests need of others. The processes are forked from one that has imported it, and nothing of the package:
each would take longer for these imports than for its test."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One behaviour taken out."""

    requirements: tuple[str, ...]
    """Ids of docs/requirements that the package without the behaviour does not meet; none where none speaks of it."""
    file: str
    """Below the package."""
    old: str
    """Stands in the file just once."""
    new: str
    tests: tuple[str, ...]
    """Names of test functions, each with its file, that must fail together with the behaviour."""
    behaviour: str = ""
    """In words: what the package does, where no requirement says so."""

    @property
    def name(self):
        """How a report calls it."""
        return f"{self.behaviour or ', '.join(self.requirements)} ({self.file})"

    def is_called(self, name):
        """Whether a name of the command line means this one."""
        return name in self.requirements or name in self.behaviour


def load(text):
    """The mutants of a TOML text."""
    return [
        Mutant(
            tuple(row.get("requirements", ())),
            row["file"],
            row["old"],
            row["new"],
            tuple(row["tests"]),
            row.get("behaviour", ""),
        )
        for row in tomllib.loads(text)["mutant"]
    ]


def mutated(mutant, source):
    """The text of the file without the behaviour; ValueError where the mutant does not fit it."""
    if (times := source.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: its old text stands {times} times in the file, expected once")
    return source.replace(mutant.old, mutant.new)


def run_tests(tests, folder=None):
    """pytest's exit status and output for these tests, with the package that lies in `folder`; None for no end."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        process = _FORKS.Process(target=_be_pytest, args=(tests, folder, output.name))
        process.start()
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
            return None, f"it did not end within {_PATIENCE:.0f} seconds: a test has to fail, not to wait"
        return process.exitcode, output.read()


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(_IMPORTED_ONCE))


def _be_pytest(tests, folder, output):
    """Be the process that runs them, as `python -m pytest` is one."""
    gc.freeze()
    gc.disable()  # what is imported and collected is no garbage; tests/conftest.py enables it for them
    import pytest  # noqa: PLC0415 - only a forked process needs it

    loaded = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    assert not loaded, f"{loaded}: imported before the mutant could be"
    with Path(output).open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(ROOT)
    sys.path.insert(0, str(folder or ROOT))
    if folder is not None:
        os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(folder)}
    quiet = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    if folder is not None:
        quiet.append(
            "--tb=native"
        )  # a test that fails is as expected: to quote its source takes longer than most tests
    sys.exit(pytest.main([*quiet, *tests]))


def survivors(mutant):
    """The tests that do not notice the mutant, each with what pytest said."""
    with tempfile.TemporaryDirectory(prefix="acredssp-mutant-") as folder:
        copy = Path(folder, PACKAGE)
        shutil.copytree(ROOT / PACKAGE, copy, ignore=shutil.ignore_patterns("*.so"))
        path = copy / mutant.file
        for bytecode in path.parent.joinpath("__pycache__").glob(f"{path.stem}.*"):
            bytecode.unlink()  # what is copied of the other modules is good
        path.write_text(mutated(mutant, path.read_text(encoding="utf-8")), encoding="utf-8")
        outcomes = {test: run_tests([test], folder) for test in mutant.tests}
    return {test: output for test, (status, output) in outcomes.items() if status != _TESTS_FAILED}


def main():
    """Run all mutants, or those that are named; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help="only the mutants of these requirements, or with this in the behaviour")
    parser.add_argument("--tested", action="store_true", help="the tests have just passed without any mutant")
    options = parser.parse_args()
    wanted = options.name
    mutants = load(ROOT.joinpath("tests", "mutants.toml").read_text(encoding="utf-8"))
    if unknown := [name for name in wanted if not any(mutant.is_called(name) for mutant in mutants)]:
        parser.error(f"tests/mutants.toml has no mutant of {', '.join(unknown)}")
    mutants = [mutant for mutant in mutants if not wanted or any(mutant.is_called(name) for name in wanted)]
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool:  # half of the time a test waits for a peer
        tests = [] if options.tested else sorted({test for mutant in mutants for test in mutant.tests})
        untouched = pool.submit(run_tests, tests) if tests else None
        for mutant, lived in zip(mutants, pool.map(survivors, mutants), strict=True):
            print(f"{'LIVED ' if lived else 'killed'} {mutant.name}", flush=True)
            for test, said in lived.items():
                failures += 1
                print(f"  not noticed by {test}:\n{said}")
    status, output = untouched.result() if untouched else (0, "")
    if status != 0:
        failures += 1
        print(f"the tests fail without any mutant:\n{output}")
    print(f"{len(mutants)} mutants, {failures} failures")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())

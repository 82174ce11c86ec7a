"""Builds the sdist and the wheels of the files that git knows, and tries a wheel where there is no checkout."""

import email
import email.message
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent.parent
_TESTS = ("tests/compiled.py", "tests/core", "tests/wire", "tests/mechanisms")
"""What runs on a compiled wheel; `make test-installed` runs all tests."""
OWN = pathlib.Path(sys.executable)
"""The interpreter of this environment."""


class Wrong(Exception):
    """Something cannot be released; the text says why."""


def run(*command: object, folder: pathlib.Path, **names: str) -> str:
    """Return what a program prints, without what the environment tells Python, hatch and coverage.

    Args:
        command: The program, and its arguments.
        folder: Where it runs.
        names: More of the environment.

    Raises:
        Wrong: It failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HATCH_"))}
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment | names,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise Wrong(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def take_sources(folder: pathlib.Path) -> pathlib.Path:
    """Copy the files that git knows, as they are now, into a folder that there is not yet, and return it."""
    for name in run("git", "ls-files", "-z", folder=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(source: pathlib.Path, out: pathlib.Path, *kinds: str) -> list[pathlib.Path]:
    """Build "sdist" or "wheel", the pure one, and return the files."""
    for kind in kinds:
        run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out, folder=source)
    return sorted(out.iterdir())


def compile_wheel(source: pathlib.Path, out: pathlib.Path, python: pathlib.Path = OWN) -> pathlib.Path:
    """Compile the wheel for an interpreter; pip fetches the compiler of pyproject.toml."""
    pip = (*_pip(python), "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", out, source)
    run(*pip, folder=source, HATCH_BUILD_HOOKS_ENABLE="1")
    (wheel,) = out.iterdir()
    return wheel


def install(python: pathlib.Path, *words: str, folder: pathlib.Path) -> None:
    """Install packages into the environment of an interpreter, by this environment's pip."""
    run(*_pip(python), "install", *words, folder=folder)


def _pip(python: pathlib.Path) -> tuple[object, ...]:
    """Return the words that begin a command of this environment's pip for another one."""
    return sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python


def repair(wheel: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Have auditwheel name the oldest Linux that a compiled wheel runs on, and return the wheel with that name."""
    before = set(out.iterdir())
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", out, wheel, folder=out)
    (repaired,) = set(out.iterdir()) - before
    return repaired


def digest(file: pathlib.Path) -> str:
    """Return the SHA-256 of a file in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def strays(wheel: pathlib.Path) -> set[str]:
    """Return what a wheel would put beside the package and its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    return {top for top in tops if top != "acredssp" and not top.endswith((".dist-info", ".data"))}


def metadata_of(wheel: pathlib.Path) -> email.message.Message:
    """Return the metadata of a wheel, with the README as their payload."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def compiled_files(wheel: pathlib.Path) -> list[str]:
    """Return the names of the compiled files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]


def try_installed(wheel: pathlib.Path, version: str, python: pathlib.Path = OWN) -> Iterator[str]:
    """Install a wheel into an empty environment outside of the checkout, run it, and yield what was seen.

    A compiled wheel is installed with what tests need, and has to pass the tests of the engine.

    Args:
        wheel: The wheel.
        version: The version that the package has to say it is.
        python: The interpreter that the wheel is for.

    Raises:
        Wrong: It does not do what it should.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run(python, "-m", "venv", "--without-pip", "environment", folder=folder)
        programs = folder / "environment" / "bin"
        install(programs / "python", f"{wheel}[cli]", folder=folder)
        yield from _try(programs, folder, version)
        if compiled_files(wheel):
            install(programs / "python", f"{wheel}[dev]", folder=folder)
            tests = (programs / "python", "-m", "pytest", "-q", "--forks", "2", "-p", "no:cacheprovider", *_TESTS)
            said = run(*tests, folder=ROOT, PYTHONSAFEPATH="1")
            yield f"{' '.join(_TESTS)} on it: {said.strip().splitlines()[-1].strip('= ')}"


def _try(programs: pathlib.Path, folder: pathlib.Path, version: str) -> Iterator[str]:
    said = run(programs / "acredssp", "--version", folder=folder).strip()
    if said != f"acredssp {version}":
        raise Wrong(f"acredssp --version says {said!r}, not 'acredssp {version}'")
    yield said
    report = json.loads(run(programs / "acredssp", "demo", "--count", "50", "--json", folder=folder))
    if report["result"] != "success":
        raise Wrong(f"acredssp demo failed: {report}")
    yield f"acredssp demo: {report['handshakes']} handshakes, {report['result']}"
    if not (programs.parent / "share" / "man" / "man1" / "acredssp.1").is_file():
        raise Wrong("the manual pages are not installed")

"""`make test-installed`: the whole test suite on the compiled wheel as it is installed, outside of the checkout.

python -m release.installed [ARGUMENT...]      the arguments go to pytest; without a path, all tests run

The wheel and what tests need are installed into an empty environment. The tests run in a copy of the files that git
knows, where PYTHONSAFEPATH keeps Python from importing the copy's own package; tests/compiled.py fails if it does.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from release.building import OWN, Wrong, compile_wheel, install, repair, run, take_sources

_BESIDE = ("benchmarks", "fuzz")
"""The packages of the checkout that tests import, beside the one that is tested."""


def main(arguments: list[str]) -> int:
    """Run the tests, and return pytest's exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        print("compiling the wheel, a minute or two", flush=True)
        wheel = compile_wheel(take_sources(folder / "source"), folder / "compiled", OWN)
        if sys.platform == "linux":
            (folder / "repaired").mkdir()
            wheel = repair(wheel, folder / "repaired")
        print(f"installing {wheel.name} and what tests need", flush=True)
        run(OWN, "-m", "venv", "--without-pip", "environment", folder=folder)
        programs = folder / "environment" / "bin"
        install(programs / "python", f"{wheel}[dev]", folder=folder)
        if shutil.which("krb5-config"):
            install(programs / "python", f"{wheel}[kerberos]", folder=folder)
        checkout = take_sources(folder / "checkout")
        run("git", "init", "-q", folder=checkout)  # some tests ask git
        run("git", "add", "-A", folder=checkout)
        for package in _BESIDE:
            (folder / "beside").mkdir(exist_ok=True)
            (folder / "beside" / package).symlink_to(checkout / package)
        paths = [] if any((checkout / each.partition("::")[0]).exists() for each in arguments) else ["tests"]
        command = (
            programs / "python",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "tests/compiled.py",
            *paths,
            *arguments,
        )
        return subprocess.run(
            command, cwd=checkout, env=environment(programs, folder / "beside"), check=False
        ).returncode


def environment(programs: pathlib.Path, beside: pathlib.Path) -> dict[str, str]:
    """Return the environment of the tests: Python imports what is installed, and what tests use beside the package."""
    names = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    path = f"{programs}{os.pathsep}{names.get('PATH', '')}"
    return names | {
        "PATH": path,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": str(beside),
        "ACREDSSP_INSTALLED": str(programs.parent),
    }


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Wrong as wrong:
        sys.exit(f"wrong: {wrong}")

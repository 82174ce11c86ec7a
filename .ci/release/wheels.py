"""`make wheels`: the sdist, the pure wheel, and compiled wheels, in dist/.

python -m release.wheels                       a compiled wheel for this interpreter
python -m release.wheels python3.12 /opt/...   and for these, which need their headers and a compiler
python -m release.wheels all                   and for each other CPython from 3.11 on that PATH or pyenv has
python -m release.wheels cp314                 and for 3.14, in Debian's testing release (release/debian.py)
"""

import os
import pathlib
import shutil
import sys
import tempfile

import acredssp
from release import debian
from release.building import (
    OWN,
    ROOT,
    Wrong,
    build,
    compile_wheel,
    compiled_files,
    digest,
    repair,
    run,
    strays,
    take_sources,
    try_installed,
)

DIST = ROOT / "dist"
_MINORS = range(11, 15)


def main(words: list[str]) -> None:
    """Build them, and try each wheel."""
    in_debian = debian.TAG in words
    pythons = {_tag(OWN): OWN} | {_tag(each): each for each in _named([word for word in words if word != debian.TAG])}
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = take_sources(folder / "source")
        build(source, DIST, "sdist", "wheel")
        for tag, python in pythons.items():
            print(f"compiling for {tag}, a minute or two", flush=True)
            # The first build leaves C sources and objects behind that are of its interpreter.
            own_source = shutil.copytree(source, folder / f"source-{tag}")
            compiled = compile_wheel(own_source, folder / tag, python)
            if sys.platform == "linux":
                repair(compiled, DIST)
            else:  # nothing is known of delocate and delvewheel: cibuildwheel runs them
                shutil.copy(compiled, DIST)
    tried = {debian.wheel_of_debian(DIST)} if in_debian else set()
    files = sorted(DIST.iterdir())
    write_sums(files, DIST / "SHA256SUMS")
    for file in files:
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.2f} MB")
        if file.suffix == ".whl" and file not in tried:
            _try(file, pythons.get(file.name.split("-")[2], OWN))


def write_sums(files: list[pathlib.Path], sums: pathlib.Path) -> None:
    """Write the hashes of files as `sha256sum` reads them."""
    sums.write_text("".join(f"{digest(file)}  {file.name}\n" for file in files), "utf-8")


def _named(words: list[str]) -> list[pathlib.Path]:
    """Return the interpreters that the command line names."""
    if words != ["all"]:
        return [_found(word) for word in words]
    root = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    names = (*(f"python3.{minor}" for minor in _MINORS), *sorted(root.glob("versions/3.*/bin/python")))
    found = [pathlib.Path(path) for path in map(shutil.which, names) if path is not None]
    return [each for each in found if _tag(each) in {f"cp3{minor}" for minor in _MINORS}]


def _found(word: str) -> pathlib.Path:
    path = shutil.which(word)
    if path is None:
        raise Wrong(f"expected an interpreter, got {word}, which cannot be run")
    return pathlib.Path(path)


def _tag(python: pathlib.Path) -> str:
    """Return the tag of an interpreter, such as cp312; nothing for one that does not run."""
    say = "import sys; print(f'{sys.implementation.name[0]}p{sys.version_info[0]}{sys.version_info[1]}')"
    try:
        return run(python, "-c", say, folder=ROOT).strip()
    except Wrong:  # a shim of pyenv stands for a version that is not chosen
        return ""


def _try(wheel: pathlib.Path, python: pathlib.Path) -> None:
    if found := strays(wheel):
        raise Wrong(f"{wheel.name} has more than the package: {', '.join(sorted(found))}")
    if bool(compiled_files(wheel)) is wheel.name.endswith("-none-any.whl"):
        raise Wrong(f"{wheel.name} has these compiled files: {compiled_files(wheel)}")
    for seen in try_installed(wheel, acredssp.__version__, python):
        print(f"  {seen}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Wrong as wrong:
        sys.exit(f"wrong: {wrong}")

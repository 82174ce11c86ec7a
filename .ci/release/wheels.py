"""`make wheels`: the sdist, the pure wheel, and the compiled wheel of this interpreter, in dist/."""

import pathlib
import shutil
import sys
import tempfile

import acredssp
from release.building import (
    ROOT,
    Wrong,
    build,
    compile_wheel,
    compiled_files,
    digest,
    repair,
    strays,
    take_sources,
    try_installed,
)

DIST = ROOT / "dist"


def main() -> None:
    """Build them, and try each wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = take_sources(folder / "source")
        build(source, DIST, "sdist", "wheel")
        print("compiling, a minute or two", flush=True)
        compiled = compile_wheel(source, folder / "compiled")
        if sys.platform == "linux":
            repair(compiled, DIST)
        else:  # nothing is known of delocate and delvewheel: cibuildwheel runs them
            shutil.copy(compiled, DIST)
    files = sorted(DIST.iterdir())
    write_sums(files, DIST / "SHA256SUMS")
    for file in files:
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.2f} MB")
        if file.suffix == ".whl":
            _try(file)


def write_sums(files: list[pathlib.Path], sums: pathlib.Path) -> None:
    """Write the hashes of files as `sha256sum` reads them."""
    sums.write_text("".join(f"{digest(file)}  {file.name}\n" for file in files), "utf-8")


def _try(wheel: pathlib.Path) -> None:
    if found := strays(wheel):
        raise Wrong(f"{wheel.name} has more than the package: {', '.join(sorted(found))}")
    if bool(compiled_files(wheel)) is wheel.name.endswith("-none-any.whl"):
        raise Wrong(f"{wheel.name} has these compiled files: {compiled_files(wheel)}")
    for seen in try_installed(wheel, acredssp.__version__):
        print(f"  {seen}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"wrong: {wrong}")

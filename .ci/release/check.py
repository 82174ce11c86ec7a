"""`make release-check`: whether what git knows can be released as it is. Every check runs, and says what it saw."""

import datetime as dt
import hashlib
import pathlib
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable

import acredssp
from release import supply
from release.building import ROOT, Wrong, build, compiled_files, run, strays, take_sources, try_installed

VERSION = acredssp.__version__
_FRESH = dt.timedelta(days=14)
"""How old an audit of a dependency may be at a release."""


def nothing_is_uncommitted(_: list[pathlib.Path]) -> str:
    """The files are those of a commit."""
    if changed := run("git", "status", "--porcelain", folder=ROOT):
        raise Wrong(f"not committed:\n{changed.rstrip()}")
    return run("git", "rev-parse", "--short", "HEAD", folder=ROOT).strip()


def the_changelog_has_the_version(_: list[pathlib.Path]) -> str:
    """The changelog has a dated section for the version, and nothing is left as unreleased."""
    return check_changelog((ROOT / "CHANGELOG.md").read_text("utf-8"), VERSION)


def check_changelog(text: str, version: str) -> str:
    """Return the heading of a version in the text of a changelog.

    Raises:
        Wrong: There is none, it has no date, or something is unreleased.
    """
    heads = re.findall(r"^## .*$", text, re.MULTILINE)
    found: list[str] = [
        head for head in heads if re.fullmatch(rf"## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", head)
    ]
    if not found:
        raise Wrong(f"CHANGELOG.md has no heading '## [{version}] - YYYY-MM-DD'")
    if re.search(r"^- ", text.partition("## [Unreleased]")[2].partition("\n## ")[0], re.MULTILINE):
        raise Wrong(f"CHANGELOG.md has unreleased changes: move them to [{version}], or raise acredssp.__version__")
    return found[0]


def dependencies_are_audited_and_locked(_: list[pathlib.Path]) -> str:
    """No version that may be installed has a known vulnerability, as of lately, and the lock file is current."""
    return check_dependencies(supply.problems(), supply.read_audited(), dt.datetime.now(dt.UTC).date())


def check_dependencies(problems: list[str], audited: dict[str, dt.date], today: dt.date) -> str:
    """Return when the dependencies were audited.

    Raises:
        Wrong: There are problems, or the audit is too old to say something of a release.
    """
    old = [f"{name} was audited on {day}" for name, day in audited.items() if today - day > _FRESH]
    if problems or old:
        raise Wrong("\n".join([*problems, *old]))
    return f"{len(audited)} dependencies, the first one on {min(audited.values())}"


def files_have_the_version_and_nothing_else(files: list[pathlib.Path]) -> str:
    """There is an sdist and a pure wheel of this version, and the wheel holds the package alone."""
    expected = [f"acredssp-{VERSION}-py3-none-any.whl", f"acredssp-{VERSION}.tar.gz"]
    if [file.name for file in files] != expected:
        raise Wrong(f"there are {[file.name for file in files]}, not {expected}")
    if found := strays(files[0]) | set(compiled_files(files[0])):
        raise Wrong(f"the wheel has more than the package: {', '.join(sorted(found))}")
    return ", ".join(f"{file.name} ({file.stat().st_size / 1e6:.2f} MB)" for file in files)


def the_index_takes_them(files: list[pathlib.Path]) -> str:
    """The metadata are valid, and the index can show the README."""
    run(sys.executable, "-m", "twine", "check", "--strict", *files, folder=ROOT)
    return "twine has no complaint"


def another_build_gives_the_same_bytes(files: list[pathlib.Path]) -> str:
    """A build in another folder, and a wheel that is built of the sdist, have the same hashes."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        again = build(take_sources(folder / "another" / "place"), folder / "again", "sdist", "wheel")
        with tarfile.open(files[1]) as archive:
            archive.extractall(folder, filter="data")
        (of_sdist,) = build(folder / f"acredssp-{VERSION}", folder / "of-sdist", "wheel")
        same = [digest(file) for file in files] == [digest(file) for file in again]
        if not same or digest(of_sdist) != digest(files[0]):
            raise Wrong("two builds differ" if not same else "the wheel that is built of the sdist differs")
    return f"SHA-256 of the wheel: {digest(files[0])}"


def digest(file: pathlib.Path) -> str:
    """Return the SHA-256 of a file in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def the_wheel_runs_outside_of_the_checkout(files: list[pathlib.Path]) -> str:
    """The wheel is installed into an empty environment, and its command runs there."""
    return ", ".join(try_installed(files[0], VERSION))


CHECKS: tuple[Callable[[list[pathlib.Path]], str], ...] = (
    nothing_is_uncommitted,
    the_changelog_has_the_version,
    dependencies_are_audited_and_locked,
    files_have_the_version_and_nothing_else,
    the_index_takes_them,
    another_build_gives_the_same_bytes,
    the_wheel_runs_outside_of_the_checkout,
)


def main() -> int:
    """Run every check, and return the exit status: 0 if the version can be released."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = build(take_sources(folder / "source"), folder / "dist", "sdist", "wheel")
        for check in CHECKS:
            title = check.__name__.replace("_", " ")
            try:
                print(f"ok      {title}: {check(files)}", flush=True)
            except Wrong as wrong:
                failed += 1
                print(f"WRONG   {title}: {wrong}", flush=True)
    print(f"acredssp {VERSION}: {f'{failed} of {len(CHECKS)} checks failed' if failed else 'can be released'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

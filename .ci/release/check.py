"""`make release-check`: whether what git knows can be released as it is. Every check runs, and says what it saw."""

import datetime as dt
import email.message
import pathlib
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable

import acredssp
from release import api, bill, supply
from release.building import (
    ROOT,
    Wrong,
    build,
    compile_wheel,
    compiled_files,
    digest,
    metadata_of,
    run,
    strays,
    take_sources,
    try_installed,
)

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


def workflows_are_sound(_: list[pathlib.Path]) -> str:
    """The linter of workflows finds nothing, and knows nothing that it had to ask the network for."""
    run("zizmor", "--offline", "--quiet", "--persona", "pedantic", ".github", folder=ROOT)
    return "zizmor has no complaint"


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


def the_project_has_an_address(files: list[pathlib.Path]) -> str:
    """The metadata name the repository and the documentation, and the README's links lead there."""
    return check_address(metadata_of(files[0]))


def check_address(metadata: email.message.Message) -> str:
    """Return the addresses of the project.

    Raises:
        Wrong: One is missing, or a link of the README leads nowhere on the index.
    """
    named = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL", []))
    if missing := [name for name in ("Source", "Documentation") if not named.get(name, "").startswith("https://")]:
        raise Wrong(f"pyproject.toml names no address under [project.urls]: {', '.join(missing)}")
    text = str(metadata.get_payload())
    if lost := re.findall(r"\]\((?!https?:)[^)]*\)", text):
        raise Wrong(f"links of the README lead to no address: {', '.join(lost)}")
    if f"]({named['Source'].rstrip('/')}/" not in text:
        raise Wrong(f"no link of the README leads to {named['Source']}")
    return ", ".join(named.values())


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


def the_wheel_runs_outside_of_the_checkout(files: list[pathlib.Path]) -> str:
    """The wheel is installed into an empty environment, and its command runs there."""
    return ", ".join(try_installed(files[0], VERSION))


def another_compiled_wheel_has_the_same_bytes(_: list[pathlib.Path]) -> str:
    """The compiled wheel has one hash, wherever it is built; it takes some minutes to see."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        places = [folder / "here", folder / "another" / "place"]
        wheels = [compile_wheel(take_sources(place / "source"), place / "dist") for place in places]
        return check_same([digest(wheel) for wheel in wheels])


def check_same(digests: list[str]) -> str:
    """Return the hash that all have.

    Raises:
        Wrong: They differ.
    """
    if len(set(digests)) != 1:
        raise Wrong(f"builds differ: {', '.join(digests)}")
    return f"SHA-256 of the compiled wheel: {digests[0]}"


def the_bill_of_materials_is_that_of_an_empty_environment(files: list[pathlib.Path]) -> str:
    """The wheel has a bill of materials, which names what an installation into an empty environment brings."""
    with tempfile.TemporaryDirectory() as name:
        return check_bill(bill.bill_in(files[0]), bill.make_bill(files[0], pathlib.Path(name)))


def check_bill(inside: str, fresh: str) -> str:
    """Return what a wheel's bill names.

    Raises:
        Wrong: There is none, or a new one is another.
    """
    if inside != fresh:
        raise Wrong("the wheel has another bill of materials than its installation gives: make bill")
    return ", ".join(f"{name} {version}" for name, version in bill.components(inside).items())


def public_names_are_kept(_: list[pathlib.Path]) -> str:
    """Nothing breaks the users of the last release, unless the version says that it may."""
    version, old = api.read()
    return check_names(list(api.breaking(old, api.now())), version, VERSION)


def check_names(changes: list[str], recorded: str, version: str) -> str:
    """Return what has changed since the version whose names were recorded.

    Raises:
        Wrong: A change breaks users, and neither the first number has been raised nor, before 1.0, the second one.
    """
    old, new = ([int(number) for number in text.split(".")[:2]] for text in (recorded, version))
    may_break = new[0] > old[0] or (new[0] == old[0] == 0 and new[1] > old[1])
    if changes and not may_break:
        raise Wrong(f"since {recorded}, and {version} may not break users:\n" + "\n".join(changes))
    return f"{len(changes)} changes since {recorded} break users"


CHECKS: tuple[Callable[[list[pathlib.Path]], str], ...] = (
    nothing_is_uncommitted,
    the_changelog_has_the_version,
    dependencies_are_audited_and_locked,
    public_names_are_kept,
    workflows_are_sound,
    files_have_the_version_and_nothing_else,
    the_project_has_an_address,
    the_index_takes_them,
    another_build_gives_the_same_bytes,
    another_compiled_wheel_has_the_same_bytes,
    the_bill_of_materials_is_that_of_an_empty_environment,
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

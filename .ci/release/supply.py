"""What acredssp depends on: versions with known vulnerabilities are refused, and those of development are locked.

`python -m release.supply lock` writes requirements.txt anew with uv; everything else needs no network.
"""

import datetime as dt
import hashlib
import json
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from release.building import ROOT, run

__all__ = [
    "Advisory",
    "advisories",
    "audit",
    "lock_problems",
    "locked",
    "needed",
    "problems",
    "project",
    "read_audited",
]

FOLDER = pathlib.Path(__file__).parent
ADVISORIES = FOLDER / "advisories.toml"
LOCK = FOLDER / "requirements.txt"
_FOR_DEVELOPMENT = {"bench", "dev", "docs", "fuzz", "mutation", "release"}
"""Extras that no user installs."""
_PIN = re.compile(r"^(?P<name>[\w.-]+)(?:\[[\w,-]+\])?==(?P<version>[\w.+!]+)")


@dataclass(frozen=True)
class Advisory:
    """One known vulnerability, or several of the same versions."""

    package: str
    ids: tuple[str, ...]
    affected: SpecifierSet
    summary: str
    accepted: str = ""
    """Why pyproject.toml may allow affected versions; empty where it may not."""

    def allows(self, requirement: Requirement) -> bool:
        """Return whether a requirement lets affected versions in."""
        floors = [Version(each.version) for each in requirement.specifier if each.operator in {">=", "==", "~="}]
        ends = [Version(each.version) for each in self.affected if each.operator == "<"]
        return not floors or not ends or max(floors) < min(ends)


def project() -> dict[str, object]:
    """Return what pyproject.toml says of the project."""
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def needed(said: dict[str, object], *, development: bool) -> list[Requirement]:
    """Return the requirements of the package and of its extras; those for development only where they are asked for."""
    extras = said.get("optional-dependencies", {})
    assert isinstance(extras, dict)
    runtime = said["dependencies"]
    assert isinstance(runtime, list)
    texts = [*runtime]
    for name, requirements in extras.items():
        texts += requirements if development or name not in _FOR_DEVELOPMENT else []
    return [each for each in map(Requirement, texts) if each.name != "acredssp"]


def _table(path: pathlib.Path) -> dict[str, object]:
    return tomllib.loads(path.read_text("utf-8"))


def advisories(path: pathlib.Path = ADVISORIES) -> list[Advisory]:
    """Return the known vulnerabilities."""
    rows = _table(path)["advisory"]
    assert isinstance(rows, list)
    return [
        Advisory(
            canonicalize_name(row["package"]),
            tuple(row["ids"]),
            SpecifierSet(row["affected"]),
            row["summary"],
            row.get("accepted", ""),
        )
        for row in rows
    ]


def read_audited(path: pathlib.Path = ADVISORIES) -> dict[str, dt.date]:
    """Return when each dependency was last looked up."""
    dates = _table(path)["audited"]
    assert isinstance(dates, dict)
    return {canonicalize_name(name): date for name, date in dates.items()}


def audit(
    requirements: list[Requirement],
    pins: dict[str, set[Version]],
    known: list[Advisory],
    audited: dict[str, dt.date],
) -> Iterator[str]:
    """Yield what is wrong: a requirement or a pin lets an affected version in, or nobody has audited it."""
    names = {canonicalize_name(each.name) for each in requirements}
    for name in sorted(names - audited.keys()):
        yield f"{name} could not be audited: advisories.toml has no date for it"
    for name in sorted(audited.keys() - names):
        yield f"{name} is audited and no longer needed"
    for advisory in known:
        for requirement in requirements:
            if (
                canonicalize_name(requirement.name) == advisory.package
                and not advisory.accepted
                and advisory.allows(requirement)
            ):
                yield f"{requirement} allows {advisory.affected}: {', '.join(advisory.ids)}"
        for version in sorted(pins.get(advisory.package, ())):
            if version in advisory.affected:
                yield f"the lock has {advisory.package} {version}: {', '.join(advisory.ids)}"


def locked(text: str) -> dict[str, set[Version]]:
    """Return the versions that a lock file has; one package has several where they depend on the interpreter."""
    found: dict[str, set[Version]] = {}
    for pin in filter(None, map(_PIN.match, text.splitlines())):
        found.setdefault(canonicalize_name(pin["name"]), set()).add(Version(pin["version"]))
    return found


def digest_of_requirements(said: dict[str, object]) -> str:
    """Return the SHA-256 of everything that a lock file is made of."""
    parts = [said["requires-python"], said["dependencies"], said["optional-dependencies"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def lock_problems(text: str, said: dict[str, object]) -> Iterator[str]:
    """Yield what is wrong with a lock file: other requirements, one that it lacks, or a pin without a hash."""
    if f"# of {digest_of_requirements(said)}\n" not in text:
        yield "pyproject.toml has changed since it was made: make lock"
    pins = locked(text)
    for requirement in needed(said, development=True):
        versions = pins.get(canonicalize_name(requirement.name), set())
        if not any(version in requirement.specifier for version in versions):
            yield f"it has no version of {requirement}"
    for block in re.split(r"\n(?=[\w#])", text):
        if _PIN.match(block) and "--hash=sha256:" not in block:
            yield f"there is no hash of {block.partition(' ')[0]}"


def write_lock() -> None:
    """Resolve all extras for every interpreter and system with uv, and write the lock file."""
    command = ["uv", "pip", "compile", "--universal", "--python-version=3.11", "--all-extras", "--generate-hashes"]
    quiet = ["--quiet", "--no-header", "--no-annotate", "--no-emit-package=acredssp", "pyproject.toml"]
    pinned = run(*command, *quiet, folder=ROOT)
    of = digest_of_requirements(project())
    head = f"# Every package of development with its hashes; made by `make lock`.\n# of {of}\n"
    LOCK.write_text(head + pinned, "utf-8")


def problems() -> list[str]:
    """Return what is wrong with the dependencies of the tree, and with its lock file."""
    text, said = LOCK.read_text("utf-8"), project()
    found = audit(needed(said, development=False), locked(text), advisories(), read_audited())
    return [*found, *lock_problems(text, said)]


if __name__ == "__main__":
    if sys.argv[1:] == ["lock"]:
        write_lock()
    sys.exit("\n".join(problems()) or None)

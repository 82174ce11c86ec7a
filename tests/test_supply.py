"""What acredssp depends on is audited and locked, and `make release-check` refuses what is not."""

import datetime as dt
import re

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from support.pages import ROOT

from release import supply

LOCK = supply.LOCK.read_text("utf-8")
KNOWN = supply.Advisory("aiohttp", ("CVE-1",), SpecifierSet("<3.14.3"), "reads too far")
TODAY = {"aiohttp": dt.date(2026, 11, 30)}


def audit(requirement, *pins, known=KNOWN, audited=TODAY):
    return list(supply.audit([Requirement(requirement)], {"aiohttp": set(map(Version, pins))}, [known], audited))


def test_no_dependency_is_affected_and_each_one_is_audited():
    requirements = supply.needed(supply.project(), development=False)
    assert len(requirements) > 15
    known = supply.advisories()
    assert list(supply.audit(requirements, supply.locked(LOCK), known, supply.read_audited())) == []


def test_the_lock_is_of_what_pyproject_says():
    assert list(supply.lock_problems(LOCK, supply.project())) == []


@pytest.mark.parametrize(
    "floor", ["aiohttp", "aiohttp>=3.14.2", "aiohttp<4,>=3.13", "aiohttp==3.14.2", "aiohttp~=3.13"]
)
def test_a_requirement_that_lets_an_affected_version_in_is_found(floor):
    assert audit(floor, "3.14.3") == [f"{Requirement(floor)} allows <3.14.3: CVE-1"]


@pytest.mark.parametrize("floor", ["aiohttp>=3.14.3", "aiohttp[speedups]>=4", "aiohttp==3.14.3"])
def test_a_requirement_of_later_versions_is_none(floor):
    assert audit(floor, "3.14.3") == []


def test_a_vulnerability_without_a_fix_is_found_whatever_is_required():
    known = supply.Advisory("aiohttp", ("CVE-1",), SpecifierSet(">=3"), "not fixed")
    assert audit("aiohttp>=4", "5.0", known=known) == [
        "aiohttp>=4 allows >=3: CVE-1",
        "the lock has aiohttp 5.0: CVE-1",
    ]


def test_what_is_accepted_may_be_allowed_and_not_locked():
    known = supply.Advisory("aiohttp", ("CVE-1",), SpecifierSet("<3.14.3"), "reads too far", "nothing is read")
    assert audit("aiohttp>=3.14", "3.14.3", known=known) == []
    assert audit("aiohttp>=3.14", "3.14.2", known=known) == ["the lock has aiohttp 3.14.2: CVE-1"]


def test_what_could_not_be_audited_fails():
    assert audit("aiohttp>=4", audited={}) == ["aiohttp could not be audited: advisories.toml has no date for it"]
    assert audit("aiohttp>=4", audited=TODAY | {"left": TODAY["aiohttp"]}) == ["left is audited and no longer needed"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace("# of ", "# off "), "pyproject.toml has changed"),
        (lambda text: re.sub(r"^mypy==", "moppy==", text, flags=re.MULTILINE), "it has no version of mypy"),
        (lambda text: re.sub(r"^mypy==\S+", "mypy==0.1", text, flags=re.MULTILINE), "it has no version of mypy"),
        (lambda text: re.sub(r"^(ruff==\S+).*\n(?: .*\n)+", r"\1\n", text, flags=re.MULTILINE), "no hash of ruff"),
    ],
)
def test_another_lock_is_refused(change, problem):
    (found,) = supply.lock_problems(change(LOCK), supply.project())
    assert problem in found


def test_a_changed_requirement_makes_the_lock_stale():
    said = supply.project() | {"dependencies": ["cryptography>=999"]}
    assert [text for text in supply.lock_problems(LOCK, said) if "cryptography>=999" in text]
    assert [text for text in supply.lock_problems(LOCK, said) if "pyproject.toml has changed" in text]


def test_the_lock_names_no_index():
    assert re.findall(r"^--|://", LOCK, re.MULTILINE) == []


def test_every_advisory_has_an_id_of_a_database():
    wrong = [
        each for each in supply.advisories() if not all(re.match(r"(CVE|GHSA|PYSEC)-[\w-]+$", one) for one in each.ids)
    ]
    assert wrong == []


def test_the_package_decrypts_no_pkcs7():
    """So CVE-2026-69247 does not concern it, and cryptography 49 may stay."""
    for path in (ROOT / "acredssp").rglob("*.py"):
        assert "pkcs7_decrypt" not in path.read_text("utf-8"), path

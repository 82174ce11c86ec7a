"""`make release-check` refuses what cannot be released, and says why; `make wheels` finds what is in a wheel."""

import datetime as dt
import re
import zipfile

import pytest
from support.pages import ROOT

from release import building, check

PAGE = (ROOT / "docs" / "releasing.md").read_text("utf-8")
RELEASED = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-30\n\n### Added\n\n- A thing.\n"


def wheel(folder, *names):
    path = folder / f"acredssp-{check.VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


def test_a_changelog_with_the_version_and_its_date_is_complete():
    assert check.check_changelog(RELEASED, "1.2.0") == "## [1.2.0] - 2026-11-30"


@pytest.mark.parametrize(
    ("text", "version", "reason"),
    [
        (RELEASED, "1.3.0", r"no heading '## \[1\.3\.0\]"),
        (RELEASED, "1.2", "no heading"),
        (RELEASED, "1.2.00", "no heading"),
        (RELEASED.replace(" - 2026-11-30", ""), "1.2.0", "no heading"),
        (
            RELEASED.replace("[Unreleased]\n", "[Unreleased]\n\n### Fixed\n\n- Another.\n"),
            "1.2.0",
            "unreleased changes",
        ),
    ],
)
def test_another_changelog_is_not(text, version, reason):
    with pytest.raises(building.Wrong, match=reason):
        check.check_changelog(text, version)


def test_what_is_beside_the_package_is_found(tmp_path):
    inside = ["acredssp/__init__.py", "acredssp-1.dist-info/METADATA", "acredssp-1.data/data/share/man/man1/acredssp.1"]
    assert building.strays(wheel(tmp_path, *inside)) == set()
    found = wheel(tmp_path, *inside, "a7__mypyc.cpython-311-x86_64-linux-gnu.so", "tests/conftest.py")
    assert building.strays(found) == {"a7__mypyc.cpython-311-x86_64-linux-gnu.so", "tests"}


def test_a_pure_wheel_may_have_no_compiled_file(tmp_path):
    pure = wheel(tmp_path, "acredssp/md4.so")
    with pytest.raises(building.Wrong, match=r"more than the package: acredssp/md4\.so"):
        check.files_have_the_version_and_nothing_else([pure, tmp_path / f"acredssp-{check.VERSION}.tar.gz"])


def test_files_of_another_version_are_refused(tmp_path):
    with pytest.raises(building.Wrong, match=r"0\.0\.1"):
        check.files_have_the_version_and_nothing_else([tmp_path / "acredssp-0.0.1.tar.gz"])


def test_the_page_lists_the_checks_in_their_order():
    rows = re.findall(r"^\| (.*?) \|", PAGE.partition("| check of `make release-check` |")[2], re.MULTILINE)
    assert rows[1:] == [each.__name__.replace("_", " ") for each in check.CHECKS]


def test_a_program_that_fails_is_told_with_what_it_said(tmp_path):
    with pytest.raises(building.Wrong, match="ended with 3:\nso it is"):
        building.run("sh", "-c", "echo so it is; exit 3", folder=tmp_path)


def test_an_audit_must_be_of_the_last_days():
    day = dt.date(2026, 11, 30)
    assert "1 dependencies" in check.check_dependencies([], {"aiohttp": day}, day + dt.timedelta(days=14))
    with pytest.raises(building.Wrong, match="aiohttp was audited on 2026-11-30"):
        check.check_dependencies([], {"aiohttp": day}, day + dt.timedelta(days=15))
    with pytest.raises(building.Wrong, match="too old"):
        check.check_dependencies(["it is too old"], {}, day)

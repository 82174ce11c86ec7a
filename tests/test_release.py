"""`make release-check` refuses what cannot be released, and says why; `make wheels` finds what is in a wheel."""

import datetime as dt
import email.message
import json
import os
import re
import shutil
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from support.pages import ROOT

from release import api, bill, building, check, debian, supply, wheels

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
    rows = re.findall(
        r"^\| (.*?) \|", PAGE.partition("| check of `make release-check` |")[2].partition("\n\n")[0], re.MULTILINE
    )
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


def test_builds_with_one_hash_are_the_same():
    assert check.check_same(["ab", "ab"]).endswith("ab")
    with pytest.raises(building.Wrong, match="builds differ: ab, cd"):
        check.check_same(["ab", "cd"])


def test_another_bill_of_materials_is_refused():
    text = bill.BILL.read_text("utf-8")
    assert "cryptography" in check.check_bill(text, text)
    with pytest.raises(building.Wrong, match="make bill"):
        check.check_bill("", text)


def test_the_bill_of_materials_names_this_version_and_what_it_needs_in_versions_that_it_may_have():
    text = bill.BILL.read_text("utf-8")
    inside = bill.components(text)
    needed = [each for each in map(Requirement, supply.project()["dependencies"]) if each.name != "arc4"]
    assert [each for each in needed if inside.get(each.name) not in each.specifier] == []
    component = json.loads(text)["metadata"]["component"]
    assert (component["name"], component.get("version", check.VERSION)) == ("acredssp", check.VERSION)


def test_a_bill_of_materials_names_nothing_of_the_machine_that_made_it():
    assert "file:" not in bill.BILL.read_text("utf-8")
    references = [{"type": "distribution", "url": "file:///tmp/x.whl"}]
    made = {"metadata": {"tools": []}, "components": [{"name": "acredssp", "externalReferences": references}]}
    assert bill.without_places(made) == {"metadata": {}, "components": [{"name": "acredssp"}]}


def sources(folder):
    """What a wheel is built of."""
    source = folder / "source"
    shutil.copytree(ROOT / "acredssp", source / "acredssp", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(ROOT / ".ci" / "release", source / ".ci" / "release")
    shutil.copytree(ROOT / "docs" / "man", source / "docs" / "man")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


def test_the_wheel_has_the_bill_of_materials(tmp_path):
    [wheel] = building.build(sources(tmp_path), tmp_path / "dist", "wheel")
    assert bill.bill_in(wheel) == bill.BILL.read_text("utf-8")


ADDRESSES = """
[project.urls]
Source = "https://code.example/owner/acredssp/"
Documentation = "https://docs.example/"

[project.optional-dependencies]
"""


def test_with_an_address_the_links_of_the_readme_lead_there_and_without_one_no_release_is_made(tmp_path):
    source = sources(tmp_path)
    pyproject = source / "pyproject.toml"
    if "[project.urls]" not in pyproject.read_text("utf-8"):
        [wheel] = building.build(source, tmp_path / "without", "wheel")
        with pytest.raises(building.Wrong, match=r"no address .*: Source, Documentation"):
            check.the_project_has_an_address([wheel])
        text = pyproject.read_text("utf-8").replace("\n[project.optional-dependencies]\n", ADDRESSES)
        pyproject.write_text(text, "utf-8")
        [wheel] = building.build(source, tmp_path / "with", "wheel")
        assert (
            check.the_project_has_an_address([wheel]) == "https://code.example/owner/acredssp/, https://docs.example/"
        )
        shown = building.metadata_of(wheel).get_payload()
        assert f"](https://code.example/owner/acredssp/blob/v{check.VERSION}/docs/http.md#clients)" in shown
        links = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text("utf-8"))
        assert len(re.findall(r"\]\(https?:[^)]*\)", shown)) == len(links) > 40


def test_links_that_do_not_lead_to_the_address_are_refused():
    metadata = email.message.Message()
    metadata["Project-URL"] = "Source, https://code.example"
    metadata["Project-URL"] = "Documentation, https://docs.example"
    for text, reason in (("[a](docs/a.md)", r"docs/a\.md"), ("[a](https://elsewhere.example/)", "no link")):
        metadata.set_payload(text)
        with pytest.raises(building.Wrong, match=reason):
            check.check_address(metadata)


def test_debian_is_entered_with_its_own_paths_and_with_what_pip_needs_of_the_caller(tmp_path):
    names = {
        "PIP_INDEX_URL": "https://index.example",
        "PYTHONPATH": "x",
        "HOME": "/home/a",
        "HTTPS_PROXY": "p",
        "PATH": "x",
    }
    seen = debian.environment(names)
    assert seen["PIP_INDEX_URL"] == "https://index.example"
    assert seen["HTTPS_PROXY"] == "p"
    assert (seen["HOME"], seen["PATH"].split(":")[0]) == ("/root", "/usr/sbin")
    assert "PYTHONPATH" not in seen
    command = debian.bootstrap(tmp_path)
    assert command[:2] == ["debootstrap", "--variant=minbase"]
    assert command[-3:] == ["testing", str(tmp_path), debian.MIRROR]
    assert {"python3-dev", "gcc", "git", "make"} <= set(command[2].removeprefix("--include=").split(","))
    inside = debian.inside(tmp_path, "make wheels")
    assert inside[:3] == ["unshare", "--mount", "--pid"]
    assert inside[-2:] == [str(tmp_path), "make wheels"]


@pytest.mark.skipif(os.name != "posix", reason="root is a user of Unix")
def test_debian_needs_root_debootstrap_and_a_folder_outside_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(building.Wrong, match="expected root"):
        debian.expect_means(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(building.Wrong, match="apt-get install debootstrap"):
        debian.expect_means(tmp_path)
    monkeypatch.setenv("DEBIAN_TESTING", str(ROOT / "build" / "debian"))
    with pytest.raises(building.Wrong, match="outside of the checkout"):
        debian.folder()
    monkeypatch.setenv("DEBIAN_TESTING", str(tmp_path))
    assert debian.folder() == tmp_path


def test_debian_gets_the_sources_and_the_authorities_of_the_caller(tmp_path, monkeypatch):
    authorities = tmp_path / "authorities.pem"
    authorities.write_text("an authority", "utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    monkeypatch.setattr(debian, "take_sources", lambda folder: folder.mkdir(parents=True, exist_ok=True))
    root = tmp_path / "root"
    (root / "root" / "acredssp" / "old").mkdir(parents=True)
    debian._prepare(root)
    assert (root / "etc" / "ssl" / "certs" / "ca-certificates.crt").read_text("utf-8") == "an authority"
    assert list((root / "root" / "acredssp").iterdir()) == []


def test_the_wheel_of_debian_is_named_among_the_interpreters(tmp_path, monkeypatch):
    """`make wheels WHEELS=cp314` asks for it, beside the wheel of this interpreter; it is not tried again."""

    def build(_source, out, *_kinds):
        return [shutil.copy(wheel(tmp_path, "acredssp/__init__.py"), out)]

    def in_debian(out):
        path = out / "acredssp-1-cp314-cp314-manylinux_2_17_x86_64.whl"
        path.write_bytes(b"")
        return path

    tried = []
    monkeypatch.setattr(wheels, "DIST", ROOT / "build" / f"dist-{tmp_path.name}")
    monkeypatch.setattr(wheels, "build", build)
    monkeypatch.setattr(wheels, "take_sources", lambda folder: folder.mkdir() or folder)
    monkeypatch.setattr(wheels, "compile_wheel", lambda *_: None)
    monkeypatch.setattr(wheels, "repair", lambda *_: None)
    monkeypatch.setattr(wheels.debian, "wheel_of_debian", in_debian)
    monkeypatch.setattr(wheels, "_try", lambda file, _python: tried.append(file.name))
    try:
        wheels.main(["cp314"])
        assert "cp314" in (wheels.DIST / "SHA256SUMS").read_text("utf-8")
    finally:
        shutil.rmtree(wheels.DIST)
    assert tried == [f"acredssp-{check.VERSION}-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("recorded", "version", "fine"),
    [
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.1.1", False),
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "1.0.0", True),
        ("1.2.0", "1.3.0", False),
        ("1.2.0", "2.0.0", True),
    ],
)
def test_names_may_go_with_the_number_that_says_so(recorded, version, fine):
    assert check.check_names([], recorded, version).startswith("0 changes")
    if fine:
        assert check.check_names(["a is gone"], recorded, version).startswith("1 changes")
    else:
        with pytest.raises(building.Wrong, match="a is gone"):
            check.check_names(["a is gone"], recorded, version)


OLD = """
__all__ = ["CODE", "Thing", "call"]
CODE = 1

class Thing:
    size = 1
    def __init__(self, name, *, size=1): ...
    def turn(self, to): ...
    def _hidden(self): ...

def call(a, b=2, *, c=3): ...
"""


def names(folder, text):
    (folder / "other").mkdir(parents=True)
    (folder / "other" / "__init__.py").write_text(text, "utf-8")
    return api.surface("other", ("other",), folder)


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ('"CODE", ', "", ["other.CODE is gone"]),
        ("    def turn(self, to): ...\n", "", ["other.Thing.turn is gone"]),
        ("    def _hidden(self): ...\n", "", []),
        ("    def turn(self, to): ...", "    turn = 1", ["other.Thing.turn can no longer be called"]),
        ("CODE = 1", "def CODE(): ...", ["other.CODE was no function or class and is one"]),
        ("call(a, b=2, *, c=3)", "call(a, b=2, *, c=3, d=4)", []),
        ("call(a, b=2, *, c=3)", "call(a, b=2, e=5, *, c=3)", []),
        ("call(a, b=2, *, c=3)", "call(a, b=2, *, c=3, d)", ["other.call: d is new and required"]),
        ("call(a, b=2, *, c=3)", "call(a, b=2)", ["other.call: c is gone"]),
        ("call(a, b=2, *, c=3)", "call(a, b=2, **options)", []),
        ("call(a, b=2, *, c=3)", "call(a, b=3, *, c=3)", ["other.call: b was 2 by default and is 3"]),
        ("call(a, b=2, *, c=3)", "call(a, b, *, c=3)", ["other.call: b was 2 by default and is required"]),
        ("call(a, b=2, *, c=3)", "call(a, b=2, c=3)", []),
        (
            "call(a, b=2, *, c=3)",
            "call(b=2, a=1, *, c=3)",
            ["other.call: positional parameters were a, b and are b, a"],
        ),
        ("name, *, size=1", "*, name, size=1", ["name was positional or keyword and is keyword only"]),
    ],
)
def test_what_breaks_users_is_found(old, new, change, tmp_path):
    found = list(api.breaking(names(tmp_path / "old", OLD), names(tmp_path / "new", OLD.replace(old, new))))
    assert len(found) == len(change)
    assert [text for text, part in zip(found, change, strict=True) if part not in text] == []


def test_the_recorded_names_are_those_of_the_public_modules():
    version, recorded = api.read()
    assert version.count(".") == 2
    assert {"acredssp.open_connection", "acredssp.aio.open_connection", "acredssp.Trust.judge"} <= recorded.keys()
    assert [name for name in recorded if name.rpartition(".")[2].startswith("_")] == []


def test_sums_are_checked_as_the_page_says(tmp_path):
    """The first command of the page, on files that are whole, and on one that is not."""
    [command] = re.findall(r"^ {4}(sha256sum .*)$", PAGE, re.MULTILINE)
    files = [tmp_path / "acredssp-1.whl", tmp_path / "acredssp-1.tar.gz"]
    for file in files:
        file.write_bytes(file.name.encode())
    wheels.write_sums(files, tmp_path / "SHA256SUMS")
    assert "acredssp-1.whl: OK" in building.run(*command.split(), folder=tmp_path)
    files[0].write_bytes(b"another")
    with pytest.raises(building.Wrong, match="FAILED"):
        building.run(*command.split(), folder=tmp_path)


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_actions_by_hash_has_no_secret_and_begins_without_rights(path):
    text = path.read_text("utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []
    assert used
    assert "secrets." not in text
    assert "\npermissions: {}\n" in text


def test_every_goal_that_a_workflow_makes_is_there():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    goals = {goal for path in WORKFLOWS for goal in re.findall(r"run: make ([\w-]+)", path.read_text("utf-8"))}
    assert {"release-check", "wheels", "mutants-changed"} == goals
    assert [goal for goal in goals if not re.search(rf"^{goal}:", makefile, re.MULTILINE)] == []


def test_a_release_has_a_compiled_wheel_for_each_version_of_python_that_the_metadata_name():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    named = [found[1] for each in classifiers if (found := re.search(r":: (3\.\d+)$", each))]
    installed = re.findall(r"^ {12}(3\.\d+)$", text, re.MULTILINE)
    assert sorted(installed) == named
    assert installed[-1] == "3.11"  # the interpreter that make finds, which has a wheel without being named
    (others,) = re.findall(r'run: make wheels WHEELS="(.*)"', text)
    assert others.split() == [f"python{version}" for version in installed[:-1]]


def test_interpreters_are_named_by_paths_and_a_word_that_is_none_is_refused():
    (found,) = wheels._named([sys.executable])
    assert wheels._tag(found) == f"cp{sys.version_info[0]}{sys.version_info[1]}"
    with pytest.raises(building.Wrong, match="got python9, which cannot be run"):
        wheels._named(["python9"])
    assert wheels._named([]) == []


def test_all_interpreters_are_those_that_run_and_are_new_enough(tmp_path, monkeypatch):
    versions = {"3.11.7": "cp311", "3.13.0": "cp313", "3.10.1": "cp310", "3.12.1": ""}
    for version, tag in versions.items():
        program = tmp_path / "versions" / version / "bin" / "python"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{f'echo {tag}' if tag else 'exit 1'}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    found = wheels._named(["all"])
    assert [each.parent.parent.name for each in found] == ["3.11.7", "3.13.0"]

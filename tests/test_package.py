"""The wheel holds the package, its types and its manual pages, nothing else, and runs where there is no checkout."""

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile

import pytest
from support.man_pages import FOLDER
from support.pages import ROOT
from support.peers import DEADLINE

import acredssp
from release.index_readme import for_the_index

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
INFO = f"acredssp-{acredssp.__version__}.dist-info"
DATA = f"acredssp-{acredssp.__version__}.data/data"


def run(*arguments, cwd):
    """What a program prints, without what the environment tells Python and pip."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "HATCH_"))}
    done = subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_runs_in_an_empty_environment_outside_of_the_checkout(wheel, tmp_path):
    """Its dependencies are those that run this test."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = run(python, "-c", place, cwd=tmp_path).strip()
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (tmp_path / purelib / "dependencies.pth").write_text("\n".join(dependencies), "utf-8")

    where = run(python, "-c", "import acredssp; print(acredssp.__file__)", cwd=tmp_path).strip()
    assert where == f"{purelib}/acredssp/__init__.py"
    command = home / "bin" / "acredssp"
    assert run(command, "--version", cwd=tmp_path) == f"acredssp {acredssp.__version__}\n"
    report = json.loads(run(command, "demo", "--count", "3", "--json", cwd=tmp_path))
    assert (report["result"], report["handshakes"]) == ("success", 3)
    assert (home / "share" / "man" / "man1" / "acredssp-login.1").is_file()


def test_nothing_is_beside_the_package(contents):
    assert {name.partition("/")[0] for name in contents} == {"acredssp", INFO, f"acredssp-{acredssp.__version__}.data"}
    assert not [name for name in contents if name.endswith((".so", ".pyd", ".pyc"))]


def test_every_module_the_marker_of_types_and_the_manual_pages_are_in_it(contents):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "acredssp").rglob("*.py")}
    pages = {f"{DATA}/share/man/man1/{path.name}" for path in FOLDER.iterdir()}
    assert modules | pages | {"acredssp/py.typed", f"{INFO}/licenses/LICENSE"} <= set(contents)
    assert pages


def test_the_index_shows_the_readme_without_links_that_lead_nowhere(contents):
    """`make site` checks the links of the README itself."""
    shown = email.message_from_bytes(contents[f"{INFO}/METADATA"]).get_payload()
    assert re.findall(r"\]\((?!https?:)[^)]*\)", shown) == []
    address = PROJECT.get("urls", {}).get("Source")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert shown.split() == for_the_index(readme, address, acredssp.__version__).split()


def test_the_metadata_say_what_the_index_shows(contents):
    said = email.message_from_bytes(contents[f"{INFO}/METADATA"])
    assert (said["Version"], said["License-Expression"]) == (acredssp.__version__, "MIT")
    assert said["Author"] == "The acredssp contributors"
    assert said["Description-Content-Type"] == "text/markdown"
    classifiers = said.get_all("Classifier")
    assert {"Typing :: Typed", "Environment :: Console"} <= set(classifiers)
    assert any(each.startswith("Topic :: ") for each in classifiers)
    versions = [tuple(map(int, each)) for each in re.findall(r":: (\d)\.(\d+)$", "\n".join(classifiers), re.MULTILINE)]
    assert min(versions) == tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert set(said.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])

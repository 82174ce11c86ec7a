"""Installing says what it does while it does it, and all that pip said where it fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.peers import DEADLINE

MAKEFILE = (Path(__file__).parent.parent / "Makefile").read_text("utf-8")
[INSTALL] = re.findall(r"^define INSTALL_LOUDLY\n(.*?)^endef", MAKEFILE, re.DOTALL | re.MULTILINE)

PIP_SAYS = """\
Obtaining file:///src
  Installing build dependencies: started
Collecting typer>=0.15.4 (from acredssp==0.1.0)
  Downloading typer-0.15.4-py3-none-any.whl.metadata (15 kB)
Obtaining dependency information for cryptography>=49 from https://host/cryptography-49.0.0-cp311-abi3-linux.whl.metadata
  Using cached cryptography-49.0.0-cp311-abi3-linux.whl.metadata (5.7 kB)
  Downloading https://host/markdown_it_py-4.3.0-py3-none-any.whl (87 kB)
Building wheel for arc4 (pyproject.toml): started
Building wheel for arc4 (pyproject.toml): finished with status 'done'
WARNING: something that frightens
Installing collected packages: typer, arc4, cryptography
Successfully installed arc4-0.5.0
"""
TOLD = """\
  finding typer
  finding cryptography
  fetching markdown-it-py
  building arc4
  installing 3 packages
"""


def install(folder, status):
    """Run it on a pip that says the above."""
    (folder / "pip.py").write_text(f"import sys\nprint({PIP_SAYS!r}, end='')\nsys.exit({status})\n", "utf-8")
    return subprocess.run(
        [sys.executable, "-c", INSTALL, "install", "what"],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_a_line_is_printed_for_each_step_and_nothing_that_frightens(tmp_path):
    done = install(tmp_path, 0)
    assert (done.returncode, done.stdout, done.stderr) == (0, TOLD, "")


@pytest.mark.parametrize("status", [1, 2])
def test_a_failure_is_one_and_has_all_that_pip_said(tmp_path, status):
    done = install(tmp_path, status)
    assert done.returncode == 1
    assert done.stdout == TOLD
    assert done.stderr.strip() == PIP_SAYS.strip()


def test_nothing_is_installed_in_silence():
    recipes = re.findall(r"^\t.*--editable.*$", MAKEFILE, re.MULTILINE)
    assert len(recipes) >= 4
    assert all("$(INSTALL) " in recipe for recipe in recipes)

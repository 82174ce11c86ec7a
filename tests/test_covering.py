"""Coverage is measured during the engine's own tests, and goes on after others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import covering

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("folder", covering.MEASURED)
def test_a_folder_that_is_measured_has_tests(folder):
    assert list((ROOT / folder).rglob("test_*.py"))


@pytest.mark.interpreted_only("coverage sees no line of a compiled module")
def test_it_rests_for_the_tests_of_others_and_goes_on(tmp_path):
    """Files of the engine's tests, with one in between that uses the engine, too."""
    files = ["tests/wire/test_early_auth.py", "tests/test_rdp.py", "tests/wire/test_gss.py"]
    covered = covered_by(tmp_path, "--forks=2", *files)
    assert covered("wire/early_auth.py", "decode") > 0
    assert covered("wire/mcs.py", "frame_size") == 0
    assert covered("wire/gss.py", "check_mic") > 0


def covered_by(folder, *arguments):
    """Run tests; return what tells how many lines of a function they ran while coverage was measured."""
    report = folder / "report.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--cov",
            f"--cov-report=json:{report}",
            "--cov-fail-under=0",
            *arguments,
        ],
        cwd=ROOT,
        env=os.environ | {"COVERAGE_FILE": str(folder / "data")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    files = json.loads(report.read_text("utf-8"))["files"]
    return lambda file, name: files[f"acredssp/{file}"]["functions"][name]["summary"]["covered_lines"]

"""Ctrl-C while Python imports the package: the command ends quietly, and another program as it likes."""

import subprocess
import sys

import pytest
from support.pages import ROOT

import acredssp
from acredssp import ctrl_c

INTERRUPTS = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""
"""A sitecustomize.py that gives its process SIGINT as a module is imported."""
RUNS_IT = "from acredssp.cli import main\nmain()\n"
"""What pip writes as a program."""


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Runs Python, and interrupts it at the import of a module: its exit status, output and errors."""

    def run(module, *words):
        (tmp_path / "sitecustomize.py").write_text(INTERRUPTS.format(module=module))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    "module", ["acredssp.aio", "ssl", "acredssp.wire", "acredssp.cli", "acredssp.cli.app", "typer"]
)
@pytest.mark.parametrize("as_module", [True, False], ids=["-m", "program"])
def test_the_command_ends_quietly_wherever_it_is_interrupted_in_its_imports(module, as_module, interrupted, tmp_path):
    program = tmp_path / "acredssp"
    program.write_text(RUNS_IT)
    how = ["-m", "acredssp"] if as_module else [str(program)]
    assert interrupted(module, *how, "--version") == (130, "", "")


def test_a_program_of_another_name_that_runs_the_command_ends_quietly_once_the_command_has_begun(interrupted):
    assert interrupted("typer", "-c", RUNS_IT) == (130, "", "")


def test_another_program_gets_pythons_traceback(interrupted):
    status, _, err = interrupted("acredssp.aio", "-c", "import acredssp")
    assert status not in {0, 130}
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_another_package_that_is_run_as_a_module_gets_pythons_traceback(interrupted, tmp_path):
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "__init__.py").write_text("import acredssp\n")
    (tmp_path / "another" / "__main__.py").write_text("")
    status, _, err = interrupted("acredssp.aio", "-m", "another")
    assert status not in {0, 130}
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_other_errors_of_the_command_keep_their_traceback(tmp_path):
    program = tmp_path / "acredssp"
    program.write_text("import acredssp\nraise ValueError('of its own')\n")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "ValueError: of its own" in done.stderr


@pytest.mark.parametrize(
    ("begins", "typed", "is_it"),
    [
        (["/usr/bin/acredssp", "login"], [], True),
        (["C:\\Python\\Scripts\\acredssp.exe"], [], True),
        (["-m", "login"], ["python", "-m", "acredssp", "login"], True),
        (["-m"], ["python", "-I", "-macredssp"], True),
        (["-m"], ["python", "-m", "another"], False),
        (["-c"], ["python", "-c", "acredssp"], False),
        (["/usr/bin/pytest", "acredssp"], ["python", "/usr/bin/pytest", "acredssp"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_the_command_is_known_by_its_name(begins, typed, is_it, monkeypatch):
    monkeypatch.setattr(sys, "argv", begins)
    monkeypatch.setattr(sys, "orig_argv", typed)
    assert ctrl_c.is_the_command() is is_it


def test_the_library_leaves_the_hook_of_uncaught_errors_alone():
    assert acredssp
    assert sys.excepthook is not ctrl_c._hook

"""What runs in forked processes is told as in one, is stopped as in one, and leaves as little."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FIXTURE = """
    import os, pathlib, pytest

    @pytest.fixture(scope="session", autouse=True)
    def made():
        place = pathlib.Path(os.environ["MADE"], str(os.getpid()))
        place.touch()
        yield
        place.unlink()
"""


@pytest.fixture
def run(tmp_path):
    """Run tests of these files, given by name and text, in two forks: what pytest says."""
    (tmp_path / "made").mkdir()

    def run(*arguments, **files):
        for name, text in {"conftest": FIXTURE, **files}.items():
            (tmp_path / f"{name}.py").write_text("\n".join(line[4:] for line in text.splitlines()), encoding="utf-8")
        plugins = [f"-psupport.{name}" for name in ("covering", "forks")]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-v", "-pno:cacheprovider", *plugins, "--forks=2", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "MADE": str(tmp_path / "made")},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        return done.returncode, done.stdout + done.stderr

    return run


PASSES = """
    def test_it(): pass
"""
FAILS = """
    def test_it():
        print("was printed")
        assert 3 == 4
"""


def test_how_tests_end_and_why_is_told(run):
    status, said = run(test_a=PASSES, test_b=FAILS, test_c=PASSES)
    assert status == 1
    assert "1 failed, 2 passed" in said
    assert "assert 3 == 4" in said
    assert "was printed" in said


def test_a_file_is_run_by_one_process(run):
    """A fixture of the file is made once."""
    text = """
    import os, pytest

    @pytest.fixture(scope="module")
    def process():
        return os.getpid()

    @pytest.mark.parametrize("number", range(20))
    def test_it(process, number):
        assert os.getpid() == process
    """
    status, said = run(test_a=text, test_b=text)
    assert status == 0, said
    assert "40 passed" in said


@pytest.mark.parametrize("arguments", [(), ("-x",)], ids=["to the end", "to the first failure"])
def test_fixtures_of_the_session_are_torn_down(run, tmp_path, arguments):
    run(*arguments, test_a=PASSES, test_b=FAILS, test_c=FAILS)
    assert list((tmp_path / "made").iterdir()) == []


def test_who_interrupts_a_run_waits_for_its_fixtures(run, tmp_path):
    text = """
    import os, signal

    def test_it():
        os.kill(os.getppid(), signal.SIGINT)
        signal.pause()
    """
    status, said = run("--timeout=60", test_a=text, test_b=PASSES)
    assert status == 2
    assert "KeyboardInterrupt" in said
    assert list((tmp_path / "made").iterdir()) == []


def test_a_test_that_takes_too_long_fails_and_the_rest_goes_on(run):
    status, said = run("--timeout=1", test_a="    import signal\n    def test_it(): signal.pause()", test_b=PASSES)
    assert status == 1
    assert "Failed: Timeout" in said
    assert "1 failed, 1 passed" in said


def test_no_share_is_begun_after_the_last_failure_that_is_waited_for(run):
    """The other process may be at a share."""
    status, said = run("-x", **{f"test_{number}": FAILS for number in range(30)})
    assert status == 1
    assert 1 <= said.count("FAILED test_") / 2 <= 3, said  # each is named twice
    assert "!!! stopping after" in said


def test_a_process_that_ends_is_no_success_and_its_test_is_named(run):
    status, said = run(test_a=PASSES, test_b="    import os\n    def test_it(): os._exit(7)")
    assert status == 2
    assert "a forked process ended with status 7, in test_b.py::test_it" in said


def test_a_test_that_hangs_where_no_signal_is_handled_is_named_and_where_it_hangs(run):
    """pytest-timeout cannot end it."""
    text = """
    import signal, time

    def test_hangs():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(600)
    """
    status, said = run("--hangs-after=1", "--timeout=0.5", test_a=PASSES, test_b=text)
    assert status == 2
    assert "a forked process ended with status -6, in test_b.py::test_hangs" in said
    assert 'test_b.py", line 6 in test_hangs' in said


def test_each_process_has_ports_of_its_own_and_begins_what_no_other_has_begun(run, tmp_path):
    """The two tests are at their ends together, or not at all."""
    text = """
    import os, pathlib
    from support import peers

    def test_it():
        with open(os.environ["MADE"] + "/{mine}", "{mode}") as mine:
            {use}
        pathlib.Path(f"port-{peers.free_port()}").touch()
    """
    os.mkfifo(tmp_path / "fifo")
    first = text.replace("{mine}", "../fifo").replace("{mode}", "w").replace("{use}", "mine.write('x')")
    second = text.replace("{mine}", "../fifo").replace("{mode}", "r").replace("{use}", "mine.read()")
    status, said = run("--timeout=60", test_a=first, test_b=second)
    assert status == 0, said
    assert len(list(tmp_path.glob("port-*"))) == 2


def test_what_the_processes_ran_is_measured(run, tmp_path):
    code = "    def f(a):\n        if a:\n            return 1\n        return 2\n"
    test = "    import code_of_ours\n    def test_it(): assert code_of_ours.f({}) == {}"
    arguments = ("--cov=code_of_ours", "--cov-report=term-missing")
    _, said = run(*arguments, code_of_ours=code, test_a=test.format(0, 2), test_b=PASSES)
    assert "75%   3" in said, said
    _, said = run(*arguments, code_of_ours=code, test_a=test.format(0, 2), test_b=test.format(1, 1))
    assert "100%" in said, said

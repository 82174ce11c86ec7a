"""The quick tests are what needs no peer, no process, no socket and no event loop, however a test comes by one."""

import os
import subprocess
import sys
import types
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support import forks

TESTS = Path(__file__).parent


def run_quickly(report, *arguments):
    """Runs tests with `--quick`: {test name: how it ended}. What was not begun is not there."""
    subprocess.run(
        [sys.executable, "-m", "pytest", "--quick", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments],
        cwd=TESTS.parent,
        env=os.environ | {"ACREDSSP_NO_SKIPS": "1"},
        capture_output=True,
        check=False,
        timeout=600,
    )
    ended = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  # pytest wrote it
        outcome = next(iter(case), None)
        ended[case.get("name")] = "passed" if outcome is None else f"{outcome.tag}: {outcome.get('message')}"
    return ended


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return run_quickly(tmp_path_factory.mktemp("quick") / "report.xml", TESTS / "support" / "quick_samples.py")


@pytest.mark.parametrize("name", ["plain", "plain_after_all_that", "plain_after_few_examples"])
def test_what_needs_nothing_else_runs(samples, name):
    assert samples[f"test_{name}"] == "passed"


def test_what_fails_fails_and_what_skips_says_why(samples):
    assert samples["test_plain_fails"].startswith("failure: ")
    assert samples["test_plain_skips"] == "skipped: for a reason of its own"


def test_of_many_values_some_are_tried(samples):
    assert [name for name in samples if name.startswith("test_values")] == ["test_values[some]"]


def numbers(ended):
    return [int(name.removeprefix("test_numbers[").rstrip("]")) for name in ended if name.startswith("test_numbers")]


def test_of_many_cases_some_run_unless_their_file_is_named(samples, tmp_path):
    everywhere = run_quickly(tmp_path / "report.xml", "--override-ini=testpaths=tests/support/quick_samples.py")
    assert numbers(everywhere) == [0, 5, 11]
    assert numbers(samples) == list(range(12))


def test_what_is_thorough_runs_where_that_is_asked_for(tmp_path):
    ended = run_quickly(tmp_path / "report.xml", "--thorough", TESTS / "support" / "quick_samples.py")
    assert [ended.get(name) for name in ("test_thorough", "test_values[some]", "test_values[many]")] == ["passed"] * 3
    assert "test_interop" not in ended


@pytest.mark.parametrize("name", ["async", "interop", "thorough"])
def test_what_is_known_to_need_more_is_not_begun(samples, name):
    assert not {each for each in samples if each.startswith(f"test_{name}")}


@pytest.mark.parametrize(
    "name",
    [
        "process",
        "process_of_a_fixture",
        "second_process_of_a_fixture",
        "process_that_the_code_expects_to_fail",
        "shell",
        "fork",
    ],
)
def test_what_starts_a_process_is_left_out(samples, name):
    assert samples[f"test_{name}"] == "skipped: left out of the quick tests: it starts a process"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("socket", "a socket"),
        ("socket_pair", "a socket"),
        ("socket_of_a_fixture", "a socket"),
        ("second_socket_of_a_fixture", "a socket"),
        ("socket_in_a_thread_that_is_waited_for", "a socket"),
        ("loop", "an event loop"),
        ("loop_of_uvloop", "a socket"),
        ("loop_in_a_thread_that_is_waited_for", "an event loop"),
    ],
)
def test_what_waits_for_others_is_left_out(samples, name, what):
    assert samples[f"test_{name}"] == f"skipped: left out of the quick tests: it makes {what}"


def test_two_processes_tell_of_the_same_tests_as_one(samples, tmp_path):
    more = TESTS / "wire" / "test_early_auth.py"
    both = run_quickly(tmp_path / "report.xml", "--forks=2", more, TESTS / "support" / "quick_samples.py")
    assert both == samples | dict.fromkeys(both.keys() - samples.keys(), "passed")
    assert len(both) > len(samples)


def test_what_makes_sockets_runs_where_that_is_asked_for(tmp_path):
    ended = run_quickly(tmp_path / "report.xml", "--sockets", TESTS / "support" / "quick_samples.py")
    assert {how for name, how in ended.items() if "socket" in name or "loop" in name} == {"passed"}
    assert ended["test_process"].endswith("it starts a process")


class Ending(forks.Fork):
    def _be(self, run):
        self.pytest_runtest_logstart("test_it.py::test_it")
        os._exit(3)


def test_a_process_that_ends_too_early_is_no_success(request):
    session = types.SimpleNamespace(config=request.config, shouldstop=False)
    fork = Ending(session, None)
    assert not fork.tell()
    fork.end()
    assert session.shouldstop == "a forked process ended with status 3, in test_it.py::test_it"


def test_the_projects_own_tests_are_told_apart(tmp_path):
    """Of four files: codec, event loop, command line in processes of its own, peers."""
    files = ["wire/test_early_auth.py", "aio/test_buffers.py", "cli/test_main.py", "interop/test_lab.py"]
    ended = run_quickly(tmp_path / "report.xml", *(TESTS / file for file in files))
    ran = {name.partition("[")[0] for name, how in ended.items() if how == "passed"}
    written = {file: _tests_of(TESTS / file) for file in files}
    assert written["wire/test_early_auth.py"] <= ran
    assert not ran & (written["aio/test_buffers.py"] | written["interop/test_lab.py"])
    assert not {name for name, how in ended.items() if how.startswith(("failure", "error"))}
    assert "test_the_package_runs_as_a_module" in written["cli/test_main.py"] - ran


def _tests_of(path):
    lines = path.read_text("utf-8").splitlines()
    return {
        line.partition("def ")[2].partition("(")[0] for line in lines if line.lstrip("async ").startswith("def test_")
    }

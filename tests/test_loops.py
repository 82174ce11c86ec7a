"""The guards of async tests must be able to fail: a session of samples is run, and each must end as the tables say."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

TESTS = Path(__file__).parent
LOOPS = ("asyncio", "debug", "uvloop")


def run_samples(report, *arguments):
    """Runs `support/loop_samples.py` under the guards: {test name: (kind of failure or None, its text)}."""
    plugins = ["-p", "support.loops", "-p", "support.skips", "-p", "no:hypothesispytest", "-p", "no:cov"]
    options = ["--noconftest", "--override-ini=addopts=", "--tb=short", f"--junitxml={report}"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, *arguments, TESTS / "support" / "loop_samples.py"],
        env=os.environ | {"PYTHONPATH": str(TESTS), "ACREDSSP_NO_SKIPS": ""},
        capture_output=True,
        check=False,
        timeout=600,
    )
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  # pytest wrote it
        failure = next(iter(case), None)
        kind, text = (failure.tag, f"{failure.get('message')} {failure.text}") if failure is not None else (None, "")
        outcomes[case.get("name")] = kind, text
    return outcomes


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return run_samples(tmp_path_factory.mktemp("samples") / "report.xml")


def test_a_plain_test_runs_once_and_may_block(outcomes):
    assert outcomes["test_plain_may_block"] == (None, "")


def test_an_async_test_runs_on_every_loop(outcomes):
    kinds = {name: text.strip().splitlines()[0] for name, (_, text) in outcomes.items() if "loop_kind" in name}
    assert list(kinds) == [f"test_loop_kind[{loop}]" for loop in LOOPS]
    assert kinds["test_loop_kind[asyncio]"].startswith("asyncio.unix_events, debug False")
    assert ", debug True" in kinds["test_loop_kind[debug]"]
    assert kinds["test_loop_kind[uvloop]"].startswith("uvloop, debug False")


def test_an_async_test_runs_on_the_loops_that_are_named(tmp_path):
    outcomes = run_samples(tmp_path / "report.xml", "--loop", "uvloop", "--loop", "asyncio", "-k", "loop_kind")
    assert list(outcomes) == ["test_loop_kind[asyncio]", "test_loop_kind[uvloop]"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_busy_machine_is_no_warning(outcomes, loop):
    assert outcomes[f"test_a_slow_callback_is_not_told[{loop}]"] == (None, "")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("sample", ["cancelled", "nothing_blocks"])
def test_what_ends_by_itself_and_cannot_block_passes(outcomes, sample, loop):
    assert outcomes[f"test_{sample}[{loop}]"] == (None, "")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("leak", "tasks left running: <Task pending name='the leaked one'"),
        ("callback_fails", "ZeroDivisionError"),
        ("task_fails", "LookupError('unheard')"),
        ("sleep", "blocking calls on the loop's thread: time.sleep"),
        ("read_file", "blocking calls on the loop's thread: io.TextIOWrapper.read"),
        ("write_file", "blocking calls on the loop's thread: io.BufferedWriter.write"),
        ("connect", "blocking calls on the loop's thread: socket.socket.connect"),
        ("recv", "blocking calls on the loop's thread: socket.socket.recv"),
        ("send", "blocking calls on the loop's thread: socket.socket.send"),
        ("lock", "blocking calls on the loop's thread: lock.acquire"),
        ("lock_timeout", "blocking calls on the loop's thread: lock.acquire"),
        ("thread_event", "blocking calls on the loop's thread: lock.acquire"),
        ("process", "blocking calls on the loop's thread: "),
        ("waitpid", "blocking calls on the loop's thread: os.waitpid"),
        ("resolve", "blocking calls on the loop's thread: socket.getaddrinfo"),
        ("stat", "blocking calls on the loop's thread: os.stat"),
        ("pipe", "blocking calls on the loop's thread: os.write"),
    ],
)
def test_what_leaks_or_blocks_fails(outcomes, sample, said, loop):
    kind, text = outcomes[f"test_{sample}[{loop}]"]
    assert kind == "error"
    assert said in text


def test_a_skip_is_a_failure_where_nothing_may_be_skipped(tmp_path):
    outcomes = run_samples(tmp_path / "report.xml", "--no-skips", "-k", "loop_kind")
    assert len(outcomes) == len(LOOPS)
    for kind, text in outcomes.values():
        assert kind == "failure"
        assert "skipped where nothing may be skipped: Skipped: " in text

"""Tests for `tests/test_quick.py` to run in a session of their own. What becomes of each is said there, not here."""

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import examples

tried = []


@pytest.fixture(scope="session")
def peer():
    return subprocess.run([sys.executable, "-c", ""], check=True)


def test_plain():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def test_plain_fails():
    raise AssertionError


def test_plain_skips():
    pytest.skip("for a reason of its own")


async def test_async():
    pass


@pytest.mark.interop
def test_interop():
    pass


def test_process():
    subprocess.run([sys.executable, "-c", ""], check=True)


def test_process_of_a_fixture(peer):
    pass


def test_second_process_of_a_fixture(peer):
    pass


def test_process_that_the_code_expects_to_fail():
    try:
        subprocess.run([sys.executable, "-c", ""], check=True)
    except Exception as error:
        raise AssertionError from error


def test_shell():
    os.system("true")  # noqa: S605


def test_fork():
    if os.fork() == 0:
        os._exit(0)
    os.wait()


@given(st.integers())
def test_examples(number):
    tried.append(number)


def test_plain_after_few_examples():
    assert len(tried) == examples.QUICK


def test_plain_after_processes():
    pass

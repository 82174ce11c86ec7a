"""Tests for `tests/test_quick.py` to run in a session of their own. What becomes of each is said there, not here."""

import asyncio
import os
import queue
import socket
import subprocess
import sys
import threading

import pytest
import uvloop
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


@pytest.mark.parametrize(
    "number", [*range(12), *(pytest.param(number, marks=pytest.mark.thorough) for number in range(12, 20))]
)
def test_numbers(number):
    pass


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


@pytest.fixture(scope="module")
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_socket():
    with socket.socket():
        pass


def test_socket_pair():
    for end in socket.socketpair():
        end.close()


def test_socket_of_a_fixture(listener):
    pass


def test_second_socket_of_a_fixture(listener):
    pass


def test_socket_in_a_thread_that_is_waited_for():
    made = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: made.put(socket.socket()))
    thread.start()
    made.get().close()
    thread.join()


def test_loop():
    asyncio.run(asyncio.sleep(0))


def test_loop_of_uvloop():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))


def test_loop_in_a_thread_that_is_waited_for():
    ended = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: ended.put(asyncio.run(asyncio.sleep(0))))
    thread.start()
    ended.get()
    thread.join()


@given(st.integers())
def test_examples(number):
    tried.append(number)


def test_plain_after_few_examples():
    assert len(tried) == examples.QUICK


def test_plain_after_all_that():
    pass


@pytest.mark.thorough
def test_thorough():
    """Takes seconds."""


@pytest.mark.parametrize("value", ["some", pytest.param("many", marks=pytest.mark.thorough)])
def test_values(value):
    """One of them is for thorough runs."""

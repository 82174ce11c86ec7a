"""Tests for `tests/test_loops.py` to run in a session of their own. What each must end as is said there, not here."""

import asyncio
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def peer():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


@pytest.fixture
def held_lock():
    lock = threading.Lock()
    lock.acquire()
    return lock


@pytest.fixture
def pipe():
    read_end, write_end = os.pipe()
    yield write_end
    os.close(read_end)
    os.close(write_end)


def test_plain_may_block(peer):
    time.sleep(0)
    assert Path(__file__).read_text()
    assert peer.send(b"x") == 1


async def test_loop_kind():
    loop = asyncio.get_running_loop()
    pytest.skip(f"{type(loop).__module__}, debug {loop.get_debug()}")


async def test_leak():
    pytest.kept = asyncio.create_task(asyncio.Event().wait(), name="the leaked one")


async def test_cancelled():
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()


async def test_callback_fails():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)


async def test_task_fails():
    async def fail():
        raise LookupError("unheard")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task


# Each of these takes the exception for an answer, as code under test may that takes a hook's failure for a refusal.


async def test_sleep():
    with pytest.raises(Exception, match="Blocking call"):
        time.sleep(0)  # noqa: ASYNC251


async def test_read_file():
    with open(__file__) as file, pytest.raises(Exception, match="Blocking call"):  # noqa: ASYNC230, PTH123
        file.read()


async def test_write_file():
    with open(os.devnull, "wb") as file, pytest.raises(Exception, match="Blocking call"):  # noqa: ASYNC230, PTH123
        file.write(b"x")


async def test_connect(listener):
    with socket.socket() as client, pytest.raises(Exception, match="Blocking call"):
        client.connect(listener.getsockname())


async def test_recv(peer):
    with pytest.raises(Exception, match="Blocking call"):
        peer.recv(1)


async def test_send(peer):
    with pytest.raises(Exception, match="Blocking call"):
        peer.send(b"x")


async def test_lock(held_lock):
    with pytest.raises(Exception, match="Blocking call"):
        held_lock.acquire()


async def test_lock_timeout(held_lock):
    with pytest.raises(Exception, match="Blocking call"):
        held_lock.acquire(timeout=9)


async def test_thread_event():
    with pytest.raises(Exception, match="Blocking call"):
        threading.Event().wait(9)


async def test_process():
    with pytest.raises(Exception, match="Blocking call"):
        subprocess.run(["true"], check=True)  # noqa: ASYNC221


async def test_waitpid():
    with pytest.raises(Exception, match="Blocking call"):
        os.waitpid(-1, 0)  # noqa: ASYNC222


async def test_resolve():
    with pytest.raises(Exception, match="Blocking call"):
        socket.getaddrinfo("localhost", 80)


async def test_stat():
    with pytest.raises(Exception, match="Blocking call"):
        os.stat(".")  # noqa: PTH116


async def test_pipe(pipe):
    with pytest.raises(Exception, match="Blocking call"):
        os.write(pipe, b"x")


async def test_nothing_blocks():
    lock = threading.Lock()
    assert lock.acquire()
    assert not lock.acquire(blocking=False)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        assert ours.send(b"x") == 1
        with pytest.raises(BlockingIOError):
            ours.recv(1)
    await asyncio.to_thread(time.sleep, 0)
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    key = os.memfd_create("key")
    assert os.write(key, b"x") == 1
    os.close(key)


async def test_a_slow_callback_is_not_told(caplog):
    begin = time.thread_time()
    while time.thread_time() < begin + 0.11:  # more than a loop in debug mode lets pass
        pass
    await asyncio.sleep(0)
    assert caplog.records == []

import asyncio
import os
import subprocess
import sys
import threading

import pytest
from support.endpoints import until
from support.peers import DEADLINE

from acredssp.aio import offload
from acredssp.aio.offload import Lane


async def test_result_comes_from_a_thread_of_our_own():
    name = await offload.run(lambda: threading.current_thread().name)
    assert name.startswith("acredssp")
    assert getattr(asyncio.get_running_loop(), "_default_executor", None) is None


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration("not for futures")])
async def test_exception_is_a_value(error):
    def step():
        raise error

    assert await offload.run(step) is error


async def test_loop_runs_while_a_step_blocks():
    entered, go_on = threading.Event(), threading.Event()

    def step():
        entered.set()
        go_on.wait()
        return "done"

    running = asyncio.ensure_future(offload.run(step))
    await until(entered.is_set)
    assert not running.done()
    go_on.set()
    assert await running == "done"


async def test_no_more_steps_at_a_time_than_the_bound_and_a_cancelled_one_never_begins(monkeypatch):
    monkeypatch.setattr(offload, "_pools", {})
    go_on, begun, most = threading.Event(), [], Lane.LOCAL.value

    def step(number):
        begun.append(number)
        go_on.wait()

    running = [asyncio.ensure_future(offload.run(lambda number=number: step(number))) for number in range(most + 2)]
    await until(lambda: len(begun) == most)
    cancelled = running.pop(most)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    go_on.set()
    await asyncio.gather(*running)
    assert sorted(begun) == [*range(most), most + 1]


async def test_a_lane_that_is_stuck_holds_nobody_up_in_the_other(monkeypatch):
    monkeypatch.setattr(offload, "_pools", {})
    go_on = threading.Event()
    stuck = [asyncio.ensure_future(offload.run(go_on.wait, Lane.KDC)) for _ in range(Lane.KDC.value + 1)]
    assert await offload.run(lambda: "done", Lane.LOCAL) == "done"
    assert not any(step.done() for step in stuck)
    go_on.set()
    await asyncio.gather(*stuck)


async def test_a_cancelled_caller_does_not_wait_for_the_step():
    entered, go_on = threading.Event(), threading.Event()

    def step():
        entered.set()
        go_on.wait()

    running = asyncio.ensure_future(offload.run(step))
    await until(entered.is_set)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    go_on.set()


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no fork here")
def test_a_child_process_makes_a_pool_of_its_own(monkeypatch):
    monkeypatch.setitem(offload._pools, Lane.LOCAL, object())
    child = os.fork()
    if child == 0:
        os._exit(len(offload._pools))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


STUCK = """
import asyncio, threading
from acredssp.aio import offload

async def main():
    begun = threading.Event()
    stuck = asyncio.ensure_future(offload.run(lambda: (begun.set(), threading.Event().wait())))
    while not begun.is_set():
        await asyncio.sleep(0)
    stuck.cancel()

asyncio.run(main())
"""


def test_a_program_ends_while_a_step_is_stuck():
    subprocess.run([sys.executable, "-c", STUCK], check=True, timeout=DEADLINE)


async def test_a_thread_that_is_done_is_used_again(monkeypatch):
    monkeypatch.setattr(offload, "_pools", {})
    names = {await offload.run(lambda: threading.current_thread().name) for _ in range(10)}
    assert names == {"acredssp-local-1"}

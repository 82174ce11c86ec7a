"""What surrounds the engine fails: hooks, clocks, descriptors, memory, a store. Nobody comes in, the server goes on."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.cancelling import Cutter, Holdings, Secrets
from support.endpoints import PASSWORD, client_config, server_config
from support.logon import session_base_key
from support.peers import DEADLINE

from acredssp import RDP, TLS, Account, CredSSPError, Deny, Password, open_connection, start_server
from acredssp.credentials import Oracle
from acredssp.policy import Policy
from acredssp.stores import Sealer, StoreError, new_keys
from acredssp.stores.redis import RedisStore

pytestmark = pytest.mark.interpreted_only("the compiled engine asks the same hooks, and allocates elsewhere")

HOST = "127.0.0.1"
SOON = 0.05
"""Seconds that a hook has that never answers."""


# --- memory ---

STEPS = {"engine": (37, 5), "wrong": (37, 5), "tls": (17, 3), "server": (211, 41)}
"""Which allocations fail: every so many-eth here, and for the figures."""


@pytest.mark.parametrize("kind", STEPS)
def test_an_allocation_that_fails_lets_nobody_in_and_ends_no_server(kind, figure, request):
    pytest.importorskip("_testcapi")
    counted = bool(request.config.getoption("figures"))
    step = STEPS[kind][counted]
    command = [sys.executable, "-m", "support.no_memory", kind, str(step)]
    run = subprocess.run(command, capture_output=True, check=True, timeout=300, env=with_tests())
    found = json.loads(run.stdout)
    wrong = [what for _, what in found["wrong"] if counted or not what.startswith(LOST)]
    assert wrong == []
    ends = found["ends"]
    assert found["tried"] == sum(ends.values()) > 5
    assert all("acredssp" not in place for place in found["died"])
    figure(
        "memory", KINDS[kind], tried=found["tried"], wrong=0, MemoryError=ends.get("MemoryError", 0),
        refused=ends.get("CredSSPError", 0), swallowed=ends.get("nothing failed", 0) + ends.get("told to another", 0),
        SystemError=ends.get("SystemError", 0),
        asyncio_failed=ends.get("the loop ended", 0) + ends.get("asyncio lost a task", 0),
        interpreter_died=ends.get("the interpreter died", 0),
    )  # fmt: skip


LOST = ("the server does not go on", "hangs")
"""What asyncio may come to that has lost something by itself, which not every interpreter tells."""
KINDS = {
    "engine": "a logon without I/O",
    "wrong": "the same with a wrong password",
    "tls": "two TLS sessions of a loop",
    "server": "a logon on asyncio",
}


def with_tests():
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


# --- hooks ---


class Endless:
    """Text without end, and equal to everything."""

    def __eq__(self, other):
        return True

    __hash__ = None

    def __bool__(self):
        return True

    def __str__(self):
        return "x" * 10**6

    __repr__ = __str__


def raising(error):
    def hook(*_):
        raise error

    return hook


async def hangs(*_):
    await asyncio.Event().wait()


async def cancels(*_):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def swallows(*_):
    """Answers only as it is cancelled, and then with a yes."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return True


async def raises_later(*_):
    await asyncio.sleep(0)
    raise LookupError("later")


def deep(*_):
    return deep()


async def yields(*_):
    yield True


MISBEHAVES = {
    "raises an exception": raising(ValueError("x" * 10**5)),
    "raises KeyError": raising(KeyError()),
    "raises CancelledError": raising(asyncio.CancelledError()),
    "raises TimeoutError": raising(TimeoutError()),
    "raises MemoryError": raising(MemoryError()),
    "raises StopIteration": raising(StopIteration(True)),
    "raises StopAsyncIteration": raising(StopAsyncIteration(True)),
    "raises BrokenPipeError": raising(BrokenPipeError()),
    "raises an ExceptionGroup": raising(ExceptionGroup("many", [ValueError()])),
    "raises later": raises_later,
    "recurses": deep,
    "hangs": hangs,
    "swallows its cancellation": swallows,
    "cancels its task": cancels,
    "blocks": lambda *_: time.sleep(SOON),
    "answers None": lambda *_: None,
    "answers 0": lambda *_: 0,
    "answers 1": lambda *_: 1,
    "answers a text": lambda *_: "yes",
    "answers bytes": lambda *_: b"\1" * 16,
    "answers a list": lambda *_: [True],
    "answers a function": lambda *_: raising,
    "answers what equals everything": lambda *_: Endless(),
    "answers a type": lambda *_: Password,
    "answers Deny": lambda *_: Deny(),
    "answers another password": lambda *_: Password("other"),
    "answers an async generator": yields,
    "answers a coroutine that answers rubbish": lambda *_: asyncio.sleep(0, object()),
}
NEVER_ANSWERS = {"hangs", "swallows its cancellation"}
"""The client leaves where only the handshake's deadline ends them."""
HOOKS = ("lookup", "oracle", "authorize", "admit", "route", "accept")
SESSIONS = {name for name in MISBEHAVES if name.startswith("answers ")} - {"answers Deny", "answers None"}
"""Answers of `accept` that are no fault: any object but None is the session."""


def options_of(hook, behaviour):
    """A server one of whose hooks misbehaves."""
    policy = Policy(hook_timeout=SOON)
    right = {"lookup": lambda _: Password(PASSWORD)}
    match hook:
        case "oracle":
            return {"config": server_config(policy, lookup=lambda _: Oracle(behaviour))}
        case "route":
            return {"config": server_config(policy, **right), "carriage": RDP(route=behaviour)}
        case "accept":
            return {"config": server_config(policy, **right), "accept": behaviour}
    return {"config": server_config(policy, **right | {hook: behaviour})}


class Misbehaving:
    """A hook that misbehaves while `bad`, and that otherwise says yes."""

    def __init__(self, hook, name):
        self._good, self._bad, self.bad = GOOD[hook], MISBEHAVES[name], True

    def __call__(self, *given):
        return (self._bad if self.bad else self._good)(*given)


def right_key(exchange):
    return session_base_key(exchange, Password(PASSWORD, "bob", "CONTOSO"))


GOOD = {
    "lookup": lambda _: Password(PASSWORD),
    "oracle": right_key,
    "authorize": lambda _: True,
    "admit": lambda _: True,
    "route": lambda _: server_config(lookup=lambda _: Password(PASSWORD)),
    "accept": lambda _: "session",
}


async def log_on(address, carriage, patience=None):
    """Log on and have a byte come; whether that was so."""
    config, options = client_config(policy=Policy(mechanism="ntlm")), {"server_hostname": "localhost"}
    try:
        reader, writer = await open_connection(
            *address, config=config, carriage=carriage, handshake_timeout=patience, **options
        )
    except (CredSSPError, OSError):
        return False
    try:
        async with asyncio.timeout(patience):
            return await reader.read(1) == b"x"
    except (CredSSPError, OSError):
        return False
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_misbehaves_lets_nobody_in_and_ends_no_server(hook, figure, caplog):
    """Without the guards of async tests: some of these hooks block."""
    caplog.set_level(logging.CRITICAL)
    tried, unhandled, told = 0, [], []

    def serve(_, writer):
        writer.write(b"x")
        writer.close()

    async def each(name, secrets):
        nonlocal tried
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
        behaviour = Misbehaving(hook, name)
        options = options_of(hook, behaviour)
        carriage = RDP() if "carriage" in options else TLS()
        server = await start_server(serve, HOST, 0, **options, on_handshake=told.append)
        address = server.sockets[0].getsockname()
        holdings = Holdings(secrets, lambda: {"handshakes": len(server._handshakes), "places": len(server._places)})
        let_in = await log_on(address, carriage, 6 * SOON if name in NEVER_ANSWERS else None)
        assert let_in is (hook == "accept" and name in SESSIONS), name
        if name in NEVER_ANSWERS:  # a client that has sent everything and leaves ends no `admit`: its deadline does
            server.abort_clients()
        behaviour.bad = False
        assert await log_on(address, carriage), f"{name}: the server does not go on"
        await holdings.settle(name)
        server.close()
        server.abort_clients()
        await server.wait_closed()
        tried += 1

    with Secrets() as secrets:
        for name in MISBEHAVES:
            asyncio.run(each(name, secrets))
    assert unhandled == []
    assert len(told) == 2 * tried
    figure("faults", f"the hook `{hook}`, in ways", tried=tried, logons_behind=tried)


# --- clocks ---

JUMPS = {"an hour forward": 3600.0, "an hour back": -3600.0}


class Jumping(asyncio.SelectorEventLoop):
    """A loop whose clock can jump."""

    jump = 0.0

    def time(self):
        return super().time() + self.jump


class Jump(Cutter):
    """Lets the clock of the loop jump where a task is suspended for the n-th time."""

    def __init__(self, number, seconds):
        super().__init__()
        self._left, self._seconds, self.jumped = number, seconds, False

    def _suspended(self, coroutine, waits_for):
        super()._suspended(coroutine, waits_for)
        self._left -= 1
        if not self._left:
            self.jumped = True
            asyncio.get_running_loop().jump += self._seconds


@pytest.mark.parametrize("how", JUMPS)
def test_a_clock_that_jumps_ends_a_logon_or_none_and_no_server(how, figure):
    tried = 0

    async def run():
        nonlocal tried
        loop = asyncio.get_running_loop()

        async def soon(_):
            await asyncio.sleep(0)
            return True

        def serve(_, writer):
            writer.write(b"x")
            writer.close()

        config = server_config(lookup=lambda _: Password(PASSWORD), authorize=soon, admit=soon)
        server = await start_server(serve, HOST, 0, config=config, accept=soon, max_failed_per_second=100)
        address = server.sockets[0].getsockname()
        for number in itertools.count(1):
            jump = Jump(number, JUMPS[how])
            loop.set_task_factory(jump.factory)
            await loop.create_task(log_on(address, TLS()))
            loop.set_task_factory(None)
            if not jump.jumped:
                break
            tried += 1
            assert await log_on(address, TLS()), "the server does not go on"
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=Jumping) as runner:
        runner.run(run())
    assert tried > 5
    figure("faults", f"the loop's clock jumps {how}, at moments", tried=tried, logons_behind=tried)


@pytest.mark.parametrize("seconds", [86_400 * 365 * 20.0, -86_400 * 365 * 20.0, 3600.0])
def test_a_wall_clock_that_jumps_within_a_logon_ends_it_or_not_and_lets_nobody_in(seconds, figure, monkeypatch):
    """NTLM has the time in its messages; certificates have it, too, and here the key is pinned."""
    now, jumped = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: now() + jumped)
    outcomes = []

    async def run():
        nonlocal jumped

        def jump(answer):
            def hook(_):
                nonlocal jumped
                jumped = seconds
                return answer

            return hook

        def serve(_, writer):
            writer.write(b"x")
            writer.close()

        for right in (PASSWORD, "wrong"):
            for hook in ("lookup", "authorize", "admit"):
                jumped = 0.0
                hooks = {"lookup": lambda _, right=right: Password(right)}
                hooks |= {hook: jump(Password(right) if hook == "lookup" else True)}
                server = await start_server(serve, HOST, 0, config=server_config(**hooks))
                address = server.sockets[0].getsockname()
                outcomes.append((right, await log_on(address, TLS())))
                server.close()
                await server.wait_closed()

    asyncio.run(run())
    assert not any(let_in for right, let_in in outcomes if right == "wrong")
    figure("faults", f"the wall clock jumps by {seconds / 3600:,.0f} hours", tried=len(outcomes), logons_behind=0)


# --- descriptors ---

FEW = """
import asyncio, json, os, resource, socket, sys
from support.endpoints import PASSWORD, client_config, server_config
from acredssp import CredSSPError, Password, open_connection, start_server

async def main():
    def serve(_, writer):
        writer.write(b"x")
        writer.close()
    config = server_config(lookup=lambda _: Password(PASSWORD))
    server = await start_server(serve, "127.0.0.1", 0, config=config)
    address, ours = server.sockets[0].getsockname(), client_config()
    async def log_on():
        reader, writer = await open_connection(*address, config=ours, server_hostname="localhost", handshake_timeout=2)
        try:
            return await reader.read(1)
        finally:
            writer.transport.abort()
    await log_on()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    ends = []
    for free in range(8):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        for descriptor in held[:free]:
            os.close(descriptor)
        more = max(0, free - len(held))
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] + more, hard))
        try:
            ends.append("in" if await log_on() == b"x" else "cut")
        except (CredSSPError, OSError) as error:
            ends.append(type(error).__name__)
        for descriptor in held[free:]:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        for _ in range(3000):  # the server tries again after a second
            try:
                assert await log_on() == b"x"
                break
            except (CredSSPError, OSError):
                await asyncio.sleep(0.001)
        else:
            raise AssertionError("the server does not go on")
    server.close()
    print(json.dumps(ends))

asyncio.run(main())
"""


def test_a_logon_for_which_descriptors_are_missing_fails_and_the_next_goes_on(figure):
    command = [sys.executable, "-c", FEW]
    run = subprocess.run(command, capture_output=True, timeout=DEADLINE, env=with_tests(), check=False)
    assert run.returncode == 0, run.stderr.decode()
    ends = json.loads(run.stdout)
    assert ends[0] != "in"
    assert ends[-1] == "in"
    figure("faults", "so many descriptors are left, from 0 on", tried=len(ends), logons_behind=len(ends))


# --- a store that stalls half-way ---


@pytest.mark.parametrize("end", ["stalls", "resets"])
def test_a_store_that_stops_within_its_answer_is_no_answer(end, figure):
    answer, tried = b"$4\r\ntrue\r\n", 0

    async def run():
        nonlocal tried
        for size in range(len(answer)):

            async def serve(reader, writer, size=size):
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    while await reader.read(1000):
                        writer.write(answer[:size])
                        if end == "resets":
                            await writer.drain()
                            break
                writer.transport.abort()

            server = await asyncio.start_server(serve, HOST, 0)
            host, port = server.sockets[0].getsockname()
            store = RedisStore(f"redis://{host}:{port}", Sealer(new_keys()), deadline=SOON)
            with pytest.raises(StoreError):
                await store.host_of(Account("alice", "CONTOSO"), "desktops")
            await store.close()
            server.close()
            await server.wait_closed()
            tried += 1

    asyncio.run(run())
    figure("faults", f"a store {end} within its answer, at any byte", tried=tried, logons_behind=0)

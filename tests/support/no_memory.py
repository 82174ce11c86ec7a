"""Logons in which one memory allocation of the interpreter fails: the n-th, for each n. Run as a program.

    PYTHONPATH=tests python -m support.no_memory KIND STEP

`_testcapi.set_nomemory` makes CPython's allocators fail once: for objects, tables and buffers. OpenSSL's own memory is
not touched. Each run is a process of its own, since CPython itself may not survive. The output is JSON: how many runs
ended in which way, what must not have been, and where the interpreter died.

KIND is `engine` (both sides without I/O), `wrong` (the same with a wrong password), `tls` (sessions that share memory)
or `server` (both sides on asyncio, and a second logon at the same server). STEP is the distance from one n to the next.
"""

import _testcapi
import asyncio
import collections
import contextlib
import faulthandler
import gc
import json
import os
import re
import sys
import tempfile
import threading
import time
import traceback

from support.endpoints import client_config, server_config
from support.engine import client_tls, server_tls
from support.logon import DELEGATED, client, established, server

from acredssp import (
    AuthenticationError,
    CredSSPError,
    Password,
    Policy,
    open_connection,
    start_server,
    take_credentials,
)
from acredssp.core.tls import BIOPair, TLSSession
from acredssp.errors import TLSError

LONG = 60
"""Seconds after which a run hangs."""
MOST = 10_000
"""A run has fewer allocations."""
PATIENCE = 0.2
"""Seconds after which a handshake whose callback got lost ends. The logon behind it has no such limit."""


@contextlib.contextmanager
def failing(number):
    """The n-th allocation in the block fails."""
    _testcapi.set_nomemory(number, number + 1)
    try:
        yield
    finally:
        _testcapi.remove_mem_hooks()


# --- the engine ---


def engine(number, lookup):
    """A logon without I/O: how it ended, and what must not have been."""
    ours, theirs = client(), server(lookup=lookup)
    how = _talk(ours, theirs, number)
    for end in (ours, theirs):  # whoever calls again what has failed gets nothing by that
        for call in (lambda end=end: end.step(b""), lambda end=end: end.context.resume(None, True)):
            with contextlib.suppress(CredSSPError, AssertionError):
                call()
    wrong = []
    if established(theirs):
        if lookup is WRONG:
            wrong.append("a logon with a wrong password")
        elif theirs.context.context.take_credentials() != DELEGATED:
            wrong.append("other credentials")
    elif theirs.context.context.take_credentials() is not None:
        wrong.append("credentials without a logon")
    if established(ours) and not theirs.context.context.handshake._proven:
        wrong.append("credentials for an unproven server")
    if how == "nothing failed" and lookup is not WRONG and not established(theirs):
        wrong.append("no logon")
    if how not in {"nothing failed", "MemoryError", "SystemError", "CredSSPError"}:
        wrong.append(how)
    return how, wrong


def _talk(ours, theirs, number):
    flight, turn = b"", 0
    try:
        with failing(number):
            while flight or not turn:
                flight = (ours, theirs)[turn % 2].step(flight)
                turn += 1
    except MemoryError:
        return "MemoryError"
    except AuthenticationError as error:
        return "nothing failed" if str(error) == REFUSED else "CredSSPError"
    except CredSSPError:
        return "CredSSPError"
    except SystemError:  # a function of the interpreter's that failed and did not say so
        return "SystemError"
    except Exception as error:  # noqa: BLE001 - what is looked for
        return repr(error)
    return "nothing failed"


REFUSED = "logon refused: unknown user or wrong password"


# --- tls ---


def tls(number, _lookup):
    """Two TLS sessions, whose pair of BIOs others use afterwards: nothing of theirs may be found there."""
    bios, wrong = BIOPair(), []
    contexts = client_tls(Policy()), server_tls(Policy(), "ec")

    def sessions():
        return [TLSSession(each, server_side=side, bios=bios) for side, each in enumerate(contexts)]

    ours, theirs = sessions()
    try:
        with failing(number):
            _use(ours, theirs)
    except MemoryError:
        how = "MemoryError"
    except (CredSSPError, AssertionError):  # a record that got lost
        how = "CredSSPError"
    except SystemError:
        how = "SystemError"
    else:
        how = "nothing failed"
    if bios.users or bios.incoming.pending or bios.outgoing.pending:
        wrong.append(f"the pair is in use: {bios.users} {bios.incoming.pending} {bios.outgoing.pending}")
    try:
        _use(*sessions())
    except TLSError:  # CPython has left an error in OpenSSL's queue of the thread, and tells the next call of it
        how = "told to another"
    _use(*sessions())
    return how, wrong


def _use(ours, theirs):
    """Shake hands, send little, much and many, and close."""
    flight, up = b"", False
    for end in (ours, theirs) * 4:
        up = end.handshake(flight)
        flight = end.output()
    assert up
    ours.read(flight)
    room = memoryview(bytearray(1 << 18))
    for sent in ([b"x"], [b"y" * 100] * 9, [b"z" * 20_000], [b"z" * 100_000]):
        records = b"".join([theirs.encrypt(each) for each in sent])
        data, _ = ours.decrypt(records, room)
        assert data == b"".join(sent)
    ours.close()
    theirs.read(ours.output())
    assert theirs.peer_closed


# --- a server ---


async def logons(number):
    """A logon during which an allocation fails somewhere, and one behind it."""

    async def serve(_, writer):
        given = take_credentials(writer)
        if given is None or given.password.reveal() != RIGHT:
            wrong.append("other credentials")
        writer.write(b"x")
        writer.close()

    config = server_config(lookup=lambda _: Password(RIGHT))
    server = await start_server(serve, "127.0.0.1", 0, config=config, handshake_timeout=10 * PATIENCE)
    address, how, wrong = server.sockets[0].getsockname(), "nothing failed", []
    ours = client_config(authenticate=Password(RIGHT, "alice", "CONTOSO"))

    async def log_on():
        reader, writer = await open_connection(*address, config=ours, server_hostname="localhost")
        try:
            return await reader.read()
        finally:
            writer.transport.abort()

    try:
        with failing(number):
            async with asyncio.timeout(PATIENCE):
                await log_on()
    except MemoryError:
        how = "MemoryError"
    except (CredSSPError, TimeoutError, OSError):
        how = "CredSSPError"
    except SystemError:
        how = "SystemError"
    try:
        if await log_on() != b"x":
            wrong.append("no answer behind it")
    except (CredSSPError, OSError) as error:
        wrong.append(f"the server does not go on: {error!r}")
    server.close()
    return how, wrong


def on_asyncio(number, _lookup):
    """A logon over a connection. The loop is asyncio's, and knows no failure of its own memory."""
    with asyncio.Runner() as runner:
        threading.Thread(target=_watch, args=(runner.get_loop(),), daemon=True).start()
        try:
            return runner.run(logons(number))
        except (MemoryError, SystemError):
            return "the loop ended", []


def _watch(loop):
    """End the process where asyncio has lost a task: what it waits for has come, and nobody has woken it."""
    before = set()
    while True:
        time.sleep(0.5)
        with contextlib.suppress(RuntimeError):  # the tasks changed meanwhile
            tasks = {id(task) for task in asyncio.all_tasks(loop) if (waits := task._fut_waiter) and waits.done()}
            if tasks & before:
                os._exit(LOST)
            before = tasks


LOST = 77
RIGHT, WRONG = "Passw0rd!", Password("wrong")
KINDS = {
    "engine": (engine, Password(RIGHT)),
    "wrong": (engine, WRONG),
    "tls": (tls, None),
    "server": (on_asyncio, None),
}


def in_a_child(run, number, lookup):
    """A run in a process of its own: (how it ended, what must not have been, where the interpreter died)."""
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as told:
        child = os.fork()
        if not child:
            faulthandler.enable(log)
            faulthandler.dump_traceback_later(LONG, exit=True, file=log)
            os.dup2(log.fileno(), 2)
            try:
                outcome = run(number, lookup)
            except BaseException:  # noqa: BLE001 - it must not reach the stack that this process copied
                outcome = "raised", [traceback.format_exc()]
            told.write(json.dumps(outcome).encode())
            told.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        log.seek(0)
        text = log.read().decode()
        if ("Exception in callback" in text and "MemoryError" in text) or os.waitstatus_to_exitcode(status) == LOST:
            return "asyncio lost a task", [], ""
        if status:
            place = re.search(r'File "[^"]*/([\w.]+/[\w.]+)", line \d+ in (\w+)', text)
            if "Timeout" in text:
                return "hangs", [f"hangs: {text}"], ""
            return "the interpreter died", [], " in ".join(reversed(place.groups())) if place else "unknown"
        told.seek(0)
        return *json.loads(told.read()), ""


def main(kind, step):
    run, lookup = KINDS[kind]
    run(MOST, lookup)  # what is made once is made
    gc.collect()
    ends, wrong, died, tried = collections.Counter(), [], collections.Counter(), 0
    for number in range(1, MOST, step):
        how, bad, place = in_a_child(run, number, lookup)
        if how == "nothing failed" and not _fails(number, run, lookup):
            break
        tried += 1
        ends[how] += 1
        wrong += [(number, each) for each in bad]
        died.update([place] if place else [])
    sys.stdout.write(json.dumps({"tried": tried, "ends": ends, "wrong": wrong, "died": died}) + "\n")


def _fails(number, run, lookup):
    """Whether an allocation so late still fails: far behind it, nothing does."""
    return any(in_a_child(run, number + more, lookup)[0] != "nothing failed" for more in (1, 2, 3, 5, 8, 13, 21, 34))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

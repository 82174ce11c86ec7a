"""NTLM handshakes beside Kerberos handshakes whose KDC never answers: the rate that they lose, and the loop's delays.

    python -m benchmarks.stalled_kdc [--rounds N] [--seconds S] [--json]

Client and server share one event loop, which is asyncio's. A round has an undisturbed window and a disturbed one. In
both, NTLM handshakes are begun at an even pace, of which the machine can do more than twice as many: how many it can do
is measured first. In the disturbed window there are also 50 Kerberos handshakes, whose KDC has taken their requests and
is silent. The order of the windows alternates. A round's figure is the ratio of the rates at which NTLM handshakes were
completed in the two windows.

The exit status is 0 if these goals are met: the median is at least 0.95; no callback of the loop takes more than 20 ms
in a disturbed window; every stalled handshake ends at its deadline with `HandshakeTimeout`; nothing ever runs in the
loop's default executor.

All times are the loop's own: the wall clock's, less the time for which its thread waited for a processor that other
programs had (the kernel counts it in /proc/thread-self/schedstat). So a busy machine takes longer and finds the same. A
wait for a lock, Python's own included, for a KDC, for a disk or for another thread of this process counts in full.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import acredssp
from acredssp.errors import PolicyError
from acredssp.policy import MechanismChoice
from benchmarks.harness import environment, settle, skips_are_failures

GOAL = 0.95
"""The least share of the undisturbed rate that must be left."""
LONGEST_CALLBACK = 0.020
"""Seconds."""
SHARE = 0.4
"""The NTLM handshakes that are begun, of those that this machine can do. Both windows of a round must be able to keep
up, or else they compare nothing but how fast the machine happens to be in either."""
STALLED = 50
"""The Kerberos handshakes beside them."""
GRACE = 0.5
"""Seconds from the start of the stalled handshakes to the start of the window that they disturb."""

ALICE = acredssp.Password("Passw0rd!", "alice", "ACREDSSP.TEST")

KRB5_CONF = """
[libdefaults]
 default_realm = ACREDSSP.TEST
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 ACREDSSP.TEST = {{
  kdc = 127.0.0.1:{port}
 }}
"""


class OwnTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while other programs have the processor that its thread waits for."""

    def __init__(self) -> None:
        super().__init__()
        self._schedstat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._now = self._excused = 0.0
        self._seen = self._waits()

    def time(self) -> float:
        """Return the loop's own time, in seconds."""
        # The wall clock is read first: a preemption between the two readings is corrected by the next call.
        wall, seen = time.perf_counter(), self._waits()
        delayed, others = (now - before for now, before in zip(seen, self._seen, strict=True))
        self._seen = seen
        self._excused += max(0.0, delayed - others)
        self._now = max(self._now, wall - self._excused)
        return self._now

    def close(self) -> None:
        super().close()
        os.close(self._schedstat)

    def _waits(self) -> tuple[float, float]:
        """Seconds that this thread was ready and had no processor, and that our other threads had one."""
        delayed = int(os.pread(self._schedstat, 80, 0).split()[1]) / 1e9
        return delayed, time.process_time() - time.thread_time()


@contextlib.contextmanager
def timed_callbacks(loop: asyncio.AbstractEventLoop, longest: list[float]) -> Iterator[None]:
    """Time whatever the loop calls while the block runs; the longest, in seconds, goes to the end of `longest`."""
    run = asyncio.Handle._run  # noqa: SLF001 - the one place that every callback passes
    most = 0.0

    def timed(handle: asyncio.Handle) -> None:
        nonlocal most
        started = loop.time()
        run(handle)
        most = max(most, loop.time() - started)

    asyncio.Handle._run = timed  # type: ignore[method-assign]  # noqa: SLF001
    try:
        yield
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]  # noqa: SLF001
        longest.append(most)


def share(disturbed: float, undisturbed: float) -> float:
    """Return the share of the rate that is left; 0 if nothing was completed undisturbed, since that shows nothing."""
    return disturbed / undisturbed if undisturbed else 0.0


class NoExecutor:
    """Takes the place of the loop's default executor: it counts and refuses every use."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.asked = 0
        original = loop.run_in_executor

        def run_in_executor(executor: Any, function: Any, *args: Any) -> Any:
            if executor is None:
                self.asked += 1
                raise AssertionError("the default executor is not for acredssp")
            return original(executor, function, *args)

        loop.run_in_executor = run_in_executor  # type: ignore[method-assign]


class Bench:
    """Both sides of every handshake."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        certificate, key = acredssp.self_signed(["localhost"], "ec")
        pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
        context = acredssp.server_context_from_pem(acredssp.Policy(), certificate, key)
        self._server_config = acredssp.ServerConfig(ssl_context=context, lookup=lambda _request: ALICE)
        trust = acredssp.Trust.pinned(pin)
        self._ntlm = acredssp.ClientConfig(
            authenticate=ALICE, trust=trust, policy=acredssp.Policy(mechanism=MechanismChoice.NTLM)
        )
        self._kerberos = acredssp.ClientConfig(
            authenticate=ALICE,
            trust=trust,
            policy=acredssp.Policy(mechanism=MechanismChoice.KERBEROS, handshake_timeout=GRACE + seconds + GRACE),
        )
        self._pace = 0.0  # handshakes a second
        self.ends: collections.Counter[str] = collections.Counter()
        """The errors with which the stalled handshakes ended."""

    async def run(self, rounds: int, folder: pathlib.Path) -> dict[str, Any]:
        """Measure. A first round only warms everything up, and does not count."""
        executor = NoExecutor(asyncio.get_running_loop())
        server = await acredssp.start_server(_hang_up, "127.0.0.1", 0, config=self._server_config)
        self._port = server.sockets[0].getsockname()[1]
        found: list[dict[str, float]] = []
        async with server:
            self._pace = SHARE * await self._capacity()
            for number in range(rounds + 1):
                found.append({})
                for kind in ("undisturbed", "disturbed")[:: 1 if number % 2 else -1]:
                    settle()
                    if kind == "undisturbed":
                        found[-1][kind] = await self._paced()
                    else:
                        found[-1] |= await self._disturbed(folder / f"krb5-{number}.conf")
        return {
            "pace": self._pace,
            "rounds": found[1:],
            "ratio": statistics.median(share(each["disturbed"], each["undisturbed"]) for each in found[1:]),
            "longest_callback": max(each["longest_callback"] for each in found[1:]),
            "stalled_ended_with": dict(self.ends),
            "default_executor_asked": executor.asked,
        }

    async def _disturbed(self, configuration: pathlib.Path) -> dict[str, float]:
        longest: list[float] = []
        with black_hole(configuration):
            stalled = [asyncio.ensure_future(self._stalled()) for _ in range(STALLED)]
            await asyncio.sleep(GRACE)
            with timed_callbacks(asyncio.get_running_loop(), longest):
                rate = await self._paced()
            await asyncio.gather(*stalled)
        return {"disturbed": rate, "longest_callback": longest[0]}

    async def _capacity(self) -> float:
        """Do one handshake after the other; return how many a second were completed."""
        loop, done = asyncio.get_running_loop(), 0
        for seconds in (self.seconds / 4, self.seconds):  # the first only warms everything up
            started, done = loop.time(), 0
            while loop.time() <= started + seconds:
                await self._handshake(self._ntlm)
                done += 1
        return done / self.seconds

    async def _paced(self) -> float:
        """Begin `_pace` handshakes a second; return how many a second were completed."""
        loop, done = asyncio.get_running_loop(), 0
        started, running = loop.time(), set()

        async def log_on() -> None:
            nonlocal done
            await self._handshake(self._ntlm)
            done += loop.time() <= started + self.seconds

        for number in range(int(self._pace * self.seconds)):
            await asyncio.sleep(max(0.0, started + number / self._pace - loop.time()))
            task = asyncio.ensure_future(log_on())
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.sleep(max(0.0, started + self.seconds - loop.time()))
        if running:
            await asyncio.gather(*running)
        return done / self.seconds

    async def _stalled(self) -> None:
        try:
            await self._handshake(self._kerberos)
        except Exception as error:  # noqa: BLE001 - whatever it is is the finding
            self.ends[type(error).__name__] += 1
        else:
            self.ends["success"] += 1

    async def _handshake(self, config: acredssp.ClientConfig) -> None:
        _, writer = await acredssp.open_connection(
            "127.0.0.1", self._port, config=config, server_hostname="localhost", spn="TERMSRV/localhost"
        )
        writer.close()
        await writer.wait_closed()


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


@contextlib.contextmanager
def black_hole(configuration: pathlib.Path) -> Iterator[None]:
    """Let libkrb5 find a KDC that takes whatever is sent and never answers.

    It listens and does not accept: the kernel does, up to the backlog. Every round has another file, since a process
    that has read one may not look again; leaving the block frees who still waits.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        configuration.write_text(KRB5_CONF.format(port=listener.getsockname()[1]), encoding="ascii")
        os.environ["KRB5_CONFIG"] = str(configuration)
        yield


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.stalled_kdc",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="the seconds of a window")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        bench = Bench(options.seconds)
    except PolicyError as missing:
        print(f"skipped: handshakes beside a silent KDC: {missing}", file=sys.stderr)
        return int(skips_are_failures())
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=OwnTimeLoop) as runner:
        found = runner.run(bench.run(options.rounds, pathlib.Path(folder)))
    met = {
        "rate": found["ratio"] >= GOAL,
        "callbacks": found["longest_callback"] <= LONGEST_CALLBACK,
        "deadlines": set(found["stalled_ended_with"]) == {"HandshakeTimeout"},
        "executor": found["default_executor_asked"] == 0,
    }
    if options.json:
        json.dump({"goal": GOAL, **found, "met": met, "environment": environment()}, sys.stdout)
    else:
        show(found)
    return 0 if all(met.values()) else 1


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(f"ntlm handshakes begun a second: {found['pace']:.1f}, {SHARE:.0%} of what this machine can do")
    for each in found["rounds"]:
        print(
            "ntlm handshakes a second: {undisturbed:.1f} undisturbed, {disturbed:.1f} beside the stalled".format(**each)
        )
    print(f"ratio: median {found['ratio']:.3f}, goal at least {GOAL:.2f}")
    print(f"longest callback: {1e3 * found['longest_callback']:.1f} ms, goal at most {1e3 * LONGEST_CALLBACK:.0f} ms")
    ends = ", ".join(f"{count} by {end}" for end, count in found["stalled_ended_with"].items())
    print(f"stalled handshakes ended: {ends}; goal: all by HandshakeTimeout")
    print(f"default executor: asked {found['default_executor_asked']} times, goal 0")


if __name__ == "__main__":
    sys.exit(main())

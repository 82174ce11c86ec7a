"""Does the time until a refusal tell a stranger which accounts there are? A server and the gateway, over TLS and TCP.

    python -m benchmarks.timing_attack                    times, as somebody at the other end of a wire would take them
    python -m benchmarks.timing_attack --pairs 4000
    python -m benchmarks.timing_attack --count            counts what the server executes, in place of times
    python -m benchmarks.timing_attack --figures FILE     writes a table of docs/security.md; also with --count

A stranger logs on with a wrong password again and again, as an unknown user and as another one by turns, in random
order. The time is from the last byte that he sends to the first byte of the answer. The server is a process of its own.

Times: the test is that of Mann and Whitney, at p < 0.001. The effect is how often the other user's refusal takes longer
than the unknown user's, where 50 % means that there is nothing to see; its 95 % interval is stated. "Would be seen" is
the power: the effect that so many pairs find in 95 of 100 runs. Two controls belong to each run: an unknown user
against the same one, and a user with fifty candidates where an unknown user has no stand-in, which must be found.

Counts: the server runs in this process, while a thread has the other end. Counted are the opcodes of the package's own
code, from the last message of the stranger until he has left, and the calls of hash functions and of
comparisons. Of several refusals the least counts, so that an event loop's chance turns do not.
"""

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import math
import pathlib
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import acredssp
from acredssp import FailureLimit, NTHash, Password
from acredssp.accounts import Users
from acredssp.credentials import Candidates, Deny
from acredssp.hooks import CredentialRequest
from acredssp.policy import MechanismChoice, Policy
from acredssp.proxy.gateway import Gateway
from acredssp.status import NTSTATUS
from benchmarks.children import child

NAME, DOMAIN = "localhost", "CONTOSO"
PACKAGE = str(pathlib.Path(acredssp.__file__).parent)
PAIRS = 2000
WARM_UP = 30
ROUNDS = 5
"""Refusals of which the least counts."""
SEEN, POWER = 3.29, 1.645
"""Standard errors at p < 0.001 for both sides, and those that 95 of 100 runs keep."""
NEVER = FailureLimit(1_000_000, 600.0)
USERS = f"{DOMAIN}:known000:wonderland\n{DOMAIN}:hashed00:$NT${'ab' * 16}\n{DOMAIN}:ticket00:\n:anydom00:wonderland\n"
ONE, OTHER = Password("wonderland", "known000", DOMAIN), Password("looking-glass", "known000", DOMAIN)
UNKNOWN = "nobody00"


def stand_ins(count: int) -> Candidates:
    return Candidates([NTHash(bytes([number]) * 16) for number in range(1, count + 1)])


HOOKED = {
    "known000": ONE,
    "disable0": Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, ONE),
    "disable1": Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED),
    "twotwo00": Candidates([ONE, OTHER]),
    "nobody02": Deny(secret=stand_ins(2)),
    "control0": stand_ins(50),
}


def hooked(request: CredentialRequest) -> Any:
    """A lookup of an application: what is not known is refused without a secret."""
    return HOOKED.get(request.principal.user, Deny())


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A user whose refusal is compared with that of an unknown one."""

    what: str
    server: str
    user: str
    domain: str = DOMAIN
    unknown: str = UNKNOWN
    differs: bool = False
    """Whether it is a control that must be found."""


CASES = (
    Case("control: the same unknown user", "serve", UNKNOWN),
    Case("wrong password", "serve", "known000"),
    Case("wrong password, kept as a hash", "serve", "hashed00"),
    Case("known user, wrong domain", "serve", "known000", "FABRIKA"),
    Case("one who may log on by ticket alone", "serve", "ticket00"),
    Case("one of any domain", "serve", "anydom00"),
    Case("wrong password", "gateway", "known000"),
    Case("known user, wrong domain", "gateway", "known000", "FABRIKA"),
    Case("one of any domain", "gateway", "anydom00"),
    Case("wrong password", "hook", "known000"),
    Case("disabled, with the account's secret", "hook", "disable0"),
    Case("disabled, without a secret", "hook", "disable1"),
    Case("two candidates, against two stand-ins", "hook", "twotwo00", unknown="nobody02"),
    Case("control: fifty candidates, against no stand-in", "hook", "control0", differs=True),
)

SERVERS: Final = tuple(dict.fromkeys(case.server for case in CASES))
LEAST: Final = 10
"""The fewest pairs of which a test says anything."""


# --- the servers ---


@contextlib.asynccontextmanager
async def serving(which: str) -> AsyncIterator[tuple[str, int]]:
    """Run one of the servers on this loop; yield its address."""
    certificate, key = acredssp.self_signed([NAME], "ec")
    if which == "gateway":
        with tempfile.TemporaryDirectory() as folder:
            async with _gateway(pathlib.Path(folder), certificate, key) as address:
                yield address
        return
    lookup = hooked if which == "hook" else Users.parse(USERS.encode()).lookup
    config = acredssp.ServerConfig(
        ssl_context=acredssp.server_context_from_pem(Policy(), certificate, key), lookup=lookup
    )
    server = await acredssp.start_server(
        _close,
        "127.0.0.1",
        0,
        config=config,
        carriage=acredssp.RDP(),
        max_failures=NEVER,
        max_failed_per_second=None,
        max_handshakes_per_source=None,
    )
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


async def _close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@contextlib.asynccontextmanager
async def _gateway(folder: pathlib.Path, certificate: bytes, key: bytes) -> AsyncIterator[tuple[str, int]]:
    (folder / "gateway.pem").write_bytes(certificate)
    (folder / "gateway.key").write_bytes(key)
    (folder / "gateway.key").chmod(0o600)
    (folder / "users").write_text(USERS.replace(f"{DOMAIN}:ticket00:\n", ""), "utf-8")
    (folder / "users").chmod(0o600)
    (folder / "settings.toml").write_text(
        '[[listeners]]\naddress = "127.0.0.1:0"\n'
        'certificates = [{ certificate = "gateway.pem", key = "gateway.key" }]\nlogon = { users = "users" }\n'
        'routes = [{ target = "none" }]\n[targets.none]\naddresses = ["127.0.0.1:9"]\n'
        "[limits]\nfailures = 1000000\nfailed_per_second = 1000000\n"
        "lockout = { failures = 1000000 }\n",
        "utf-8",
    )
    gateway = Gateway(folder / "settings.toml")
    await gateway.start()
    try:
        host, _, port = gateway.addresses[0].rpartition(":")
        yield host, int(port)
    finally:
        await gateway.stop()


# --- the stranger ---


class Stranger:
    """Logs on with a wrong password, over a socket that blocks."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._configs: dict[tuple[str, str], acredssp.ClientConfig] = {}

    def refused(self, user: str, domain: str, before: Callable[[], object] = lambda: None) -> int:
        """Have a logon refused, and leave; return the nanoseconds from its last byte to the answer's first.

        Args:
            user: Who logs on.
            domain: The user's domain.
            before: Called before the last message is sent.
        """
        config = self._config(user, domain)
        context = config.new_context(server_hostname=NAME, spn=f"TERMSRV/{NAME}")
        side = acredssp.RDP().initiator(context)
        with socket.create_connection(self._address) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            heard = b""
            while True:
                said = self._step(side, config, heard)
                last = context.state.name == "PUB_KEY_AUTH"
                if last:
                    before()
                    began = time.perf_counter_ns()
                connection.sendall(said)
                heard = connection.recv(65536)
                if last:
                    return time.perf_counter_ns() - began

    def _config(self, user: str, domain: str) -> acredssp.ClientConfig:
        if (user, domain) not in self._configs:
            self._configs[user, domain] = acredssp.ClientConfig(
                authenticate=Password("a wrong password", user, domain),
                policy=Policy(dangerous_accept_any_certificate=True, mechanism=MechanismChoice.NTLM),
            )
        return self._configs[user, domain]

    @staticmethod
    def _step(side: Any, config: acredssp.ClientConfig, heard: bytes) -> bytes:
        result = side.step(heard)
        said = result.output
        while result.event is not None:
            result = side.resume(result.event, config.answer(result.event, NAME))
            said += result.output
        return said


# --- counts ---


class Work:
    """Counts what the calling thread executes."""

    def __init__(self) -> None:
        self.opcodes = 0
        self.calls: collections.Counter[str] = collections.Counter()

    def clear(self) -> None:
        self.opcodes = 0
        self.calls = collections.Counter()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        traced, profiled = sys.gettrace(), sys.getprofile()
        sys.settrace(self._trace)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(profiled)
            sys.settrace(traced)

    def _trace(self, frame: Any, _event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._opcode

    def _opcode(self, _frame: object, event: str, _arg: object) -> Any:
        if event == "opcode":
            self.opcodes += 1
        return self._opcode

    def _profile(self, _frame: object, event: str, arg: Any) -> None:
        if event == "c_call" and (name := getattr(arg, "__name__", "")) in COUNTED:
            self.calls[name] += 1


COUNTED = {"md5", "openssl_md5", "md4", "new", "compare_digest", "encrypt", "update"}
"""The functions of C whose calls are counted: hashes, RC4, comparisons."""


async def _some_turns() -> None:
    """Let the loop do what it has been asked to do."""
    for _ in range(20):
        await asyncio.sleep(0)


def count(which: str, attempts: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, dict[str, int]]]:
    """What a server executes to refuse each of some users, as the least of several refusals."""
    work, found = Work(), {}

    async def main() -> None:
        async with serving(which) as address:
            loop = asyncio.get_running_loop()

            def settle() -> None:
                asyncio.run_coroutine_threadsafe(_some_turns(), loop).result()

            def begin() -> None:
                settle()
                work.clear()

            def run() -> None:
                stranger = Stranger(address)
                for user, domain in attempts:
                    seen = []
                    for _ in range(ROUNDS):
                        stranger.refused(user, domain, begin)
                        settle()
                        seen.append((work.opcodes, dict(work.calls)))
                    found[user, domain] = min(seen, key=lambda each: each[0])

            with work.watching():
                await asyncio.to_thread(run)

    asyncio.run(main())
    return found


def counted() -> list[dict[str, Any]]:
    """The counts of all cases."""
    rows = []
    for which in dict.fromkeys(case.server for case in CASES):
        cases = [case for case in CASES if case.server == which]
        found = count(which, list(dict.fromkeys(each for case in cases for each in _pair(case))))
        for case in cases:
            (mine, calls), (theirs, other) = (found[each] for each in _pair(case))
            row = {"case": case.what, "server": which, "opcodes": mine, "unknown": theirs}
            rows.append(row | {"calls": calls, "unknown_calls": other, "differs": case.differs})
    return rows


def _pair(case: Case) -> tuple[tuple[str, str], tuple[str, str]]:
    return (case.user, case.domain), (case.unknown, DOMAIN)


# --- times ---


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The result of a case."""

    case: Case
    pairs: int
    answer: float
    """Median nanoseconds of the unknown user's refusal."""
    difference: float
    """Difference of the medians, in nanoseconds."""
    longer: float
    """How often the other's refusal takes longer, from 0 to 1."""
    error: float
    """Standard error of `longer`."""

    @classmethod
    def of(cls, case: Case, mine: list[int], unknown: list[int]) -> "Finding":
        many, few = len(mine), len(unknown)
        ranks = ranks_of([*mine, *unknown])
        above = sum(ranks[:many]) - many * (many + 1) / 2
        return cls(
            case=case,
            pairs=many,
            answer=statistics.median(unknown),
            difference=statistics.median(mine) - statistics.median(unknown),
            longer=above / (many * few),
            error=math.sqrt((many + few + 1) / (12 * many * few)),
        )

    @property
    def found(self) -> bool:
        """Whether the two are told apart, at p < 0.001."""
        return abs(self.longer - 0.5) > SEEN * self.error

    @property
    def would_be_seen(self) -> float:
        """The effect that is found in 95 of 100 runs."""
        return 0.5 + (SEEN + POWER) * self.error

    def row(self) -> list[str]:
        low, high = (self.longer + side * 1.96 * self.error for side in (-1, 1))
        verdict = "told apart" if self.found else "not told apart"
        return [
            self.case.server,
            self.case.what,
            f"{self.answer / 1e3:.0f} µs",
            f"{self.difference / 1e3:+.1f} µs",
            f"{self.longer:.1%} ({low:.1%} to {high:.1%})",
            f"{self.would_be_seen:.1%}",
            verdict,
        ]


HEADINGS = ["server", "who is refused", "answer", "median later by", "takes longer", "would be seen", "verdict"]


def ranks_of(values: list[int]) -> list[float]:
    """The rank of each value from 1 on; equal values share the middle of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end < len(order) and values[order[end]] == values[order[at]]:
            end += 1
        for place in order[at:end]:
            ranks[place] = (at + 1 + end) / 2
        at = end
    return ranks


def measure(case: Case, stranger: Stranger, pairs: int) -> Finding:
    times: tuple[list[int], list[int]] = ([], [])
    for _ in range(WARM_UP + pairs):
        for which in random.sample((0, 1), 2):
            times[which].append(stranger.refused(*_pair(case)[which]))
    return Finding.of(case, times[0][WARM_UP:], times[1][WARM_UP:])


@contextlib.contextmanager
def server_process(which: str) -> Iterator[Stranger]:
    """Run a server as a process; yield a stranger who knows its address."""
    with child("benchmarks.timing_attack", "--serve", which, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        yield Stranger(tuple(json.loads(process.stdout.readline())))


def timed(pairs: int, only: str = "") -> Iterator[Finding]:
    for which in [only] if only else SERVERS:
        with server_process(which) as stranger:
            for case in CASES:
                if case.server == which:
                    yield measure(case, stranger, pairs)


async def _be_server(which: str) -> None:
    async with serving(which) as address:
        print(json.dumps(address[:2]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


COUNT_HEADINGS = ["server", "who is refused", "opcodes", "of an unknown user", "hashes", "of an unknown user"]


def _count_row(row: dict[str, Any]) -> list[Any]:
    hashes = (row[calls].get("md5", 0) for calls in ("calls", "unknown_calls"))
    return [row["server"], row["case"], row["opcodes"], row["unknown"], *hashes]


def _write(path: pathlib.Path, where: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Write a table for docs/security.md; `make security-report` puts it there."""
    figures = {"measured": where, "columns": columns, "rows": rows}
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", "utf-8")


_WRONG: Final = {
    True: "FAILS: the control was not told apart: it needs more --pairs to be seen, or a quieter machine",
    False: "FAILS: this refusal was told apart from that of an unknown user",
}
"""What is said where a finding is not what it should be, by whether the case differs."""


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.timing_attack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"how many pairs each case has, {LEAST} or more")
    parser.add_argument("--count", action="store_true", help="count what is executed, and print JSON")
    parser.add_argument("--figures", type=pathlib.Path, help="the file to write the table of docs/security.md to")
    parser.add_argument("--only", default="", choices=SERVERS, metavar="SERVER", help=f"one of {', '.join(SERVERS)}")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pairs < LEAST:
        parser.error(f"--pairs: expected {LEAST} or more, got {options.pairs}")
    if options.serve:
        asyncio.run(_be_server(options.serve))
        return 0
    where = f"Python {platform.python_version()}, {platform.machine()}"
    if options.count:
        found = counted()
        print(json.dumps(found, indent=1))
        if options.figures is not None:
            _write(options.figures, where, COUNT_HEADINGS, [_count_row(row) for row in found])
        return 0
    rows, wrong = [], 0
    for finding in timed(options.pairs, options.only):
        rows.append(finding.row())
        print(" | ".join(rows[-1]), flush=True)
        if finding.found != finding.case.differs:
            wrong += 1
            print(_WRONG[finding.case.differs], flush=True)
    if options.figures is not None:
        _write(options.figures, f"{options.pairs:,} pairs each, {where}", HEADINGS, rows)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

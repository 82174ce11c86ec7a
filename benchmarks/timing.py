"""Does the time of a server's answer reveal whether an account exists? This is a study for people, not a test.

    python -m benchmarks.timing [--pairs N] [--json]

A pair is two logons over the engine in memory that an attacker would like to tell apart, such as a wrong password for a
known user and for an unknown one. The benchmark measures the server's CPU time from the client's AUTHENTICATE to the
answer. The lookup is included; network, loop and TLS are left out, since they only add noise. The two logons of a pair
follow each other in random order.

The figure is the median of the pairs' differences. Its 95 % interval comes from order statistics, and holds for every
distribution. "Would be seen" is the power: the smallest difference that this number of pairs with this spread finds in
95 of 100 runs at p < 0.001. A longer measurement finds smaller differences: four times the pairs halve it.

Two of the cases are controls. The first control compares a logon with itself, and must find nothing. The second control
makes the known user's password in the hook, which hashes it there, and must find a difference.
"""

import argparse
import dataclasses
import gc
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable

import acredssp
from acredssp.accounts import Users
from acredssp.credentials import Candidates, LookupAnswer
from acredssp.events import LookupCredential
from acredssp.hooks import CredentialRequest
from acredssp.policy import MechanismChoice
from benchmarks.harness import environment
from benchmarks.peers import NAME, Setting

PAIRS = 2000
WARM_UP = 50
"""The pairs at the beginning that only warm up."""
INTERVAL = 1.96
DETECTED = 3.29 + 1.645
"""Standard errors of a difference that is found at p < 0.001 in 95 of 100 runs."""
KEY = b"the SubjectPublicKey of a server whose TLS is somebody else's"

Lookup = Callable[[CredentialRequest], LookupAnswer]


def kept(**secrets: LookupAnswer) -> Lookup:
    """A lookup in a dictionary of answers that were made before; `unknown` is the one for everybody else."""
    unknown = secrets.pop("unknown", acredssp.Deny())
    return lambda request: secrets.get(request.principal.user, unknown)


def made_in_the_hook(request: CredentialRequest) -> LookupAnswer:
    return acredssp.Password("wonderland") if request.principal.user == "known" else acredssp.Deny()


def stand_ins(count: int) -> Candidates:
    return Candidates([acredssp.NTHash(os.urandom(16)) for _ in range(count)])


FILE = Users.parse("CONTOSO:known:wonderland\nCONTOSO:ticket:\n:anywhere:wonderland\nCONTOSO:Νίκος:wonderland".encode())
ONE, OTHER = acredssp.Password("wonderland"), acredssp.Password("looking-glass")


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """Two logons to be told apart."""

    what: str
    lookup: Lookup
    users: tuple[str, str]
    passwords: tuple[str, str] = ("wrong", "wrong")


CASES = (
    Case("control: an unknown user and the same again", kept(known=ONE), ("nobody", "nobody")),
    Case("control: a known user, password made in the hook, and an unknown one", made_in_the_hook, ("known", "nobody")),
    Case("a known and an unknown user, passwords made once", kept(known=ONE), ("known", "nobody")),
    Case("the same, a name with letters beyond ASCII", kept(Νίκος=ONE), ("Νίκος", "Νόκος")),
    Case("two candidates, and two stand-ins of an unknown user",
         kept(known=Candidates([ONE, OTHER]), unknown=acredssp.Deny(secret=stand_ins(2))),
         ("known", "nobody")),
    Case("the first and the second of two candidates is right", kept(known=Candidates([ONE, OTHER])),
         ("known", "known"), ("wonderland", "looking-glass")),
    Case("serve: a known and an unknown user", FILE.lookup, ("known", "nobody")),
    Case("serve: one by ticket alone and an unknown user", FILE.lookup, ("ticket", "nobody")),
    Case("serve: one of any domain and an unknown user", FILE.lookup, ("anywhere", "nowhere0")),
    Case("serve: a name with letters beyond ASCII", FILE.lookup, ("Νίκος", "Νόκος")),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The result of a case, in nanoseconds."""

    what: str
    answer: float
    """Median of the second one's."""
    difference: float
    low: float
    high: float
    would_be_seen: float

    @classmethod
    def of(cls, what: str, times: list[tuple[int, int]]) -> "Finding":
        differences = sorted(first - second for first, second in times)
        count = len(differences)
        reach = INTERVAL * math.sqrt(count) / 2
        low, high = (differences[min(max(round(count / 2 + side * reach), 0), count - 1)] for side in (-1, 1))
        return cls(
            what=what,
            answer=statistics.median(second for _, second in times),
            difference=statistics.median(differences),
            low=low,
            high=high,
            would_be_seen=DETECTED * (high - low) / (2 * INTERVAL),
        )

    @property
    def found(self) -> bool:
        """Whether the two are told apart, at p < 0.001."""
        error = (self.high - self.low) / (2 * INTERVAL)
        return abs(self.difference) > 3.29 * error


def answer_time(server: acredssp.ServerConfig, client: acredssp.ClientConfig, lookup: Lookup) -> int:
    """Nanoseconds of CPU from AUTHENTICATE to the server's answer."""
    theirs = client.new_bare_context(public_key=KEY, spn=f"TERMSRV/{NAME}", certified=True)
    ours = server.new_bare_context(public_key=KEY)
    authenticate = theirs.step(ours.step(theirs.step().output).output).output
    started = time.thread_time_ns()
    try:
        event = ours.step(authenticate).event
        assert isinstance(event, LookupCredential)
        ours.resume(event, lookup(CredentialRequest(event.principal, event.mechanism)))
    except acredssp.CredSSPError:
        pass
    return time.thread_time_ns() - started


def measure(case: Case, setting: Setting, pairs: int) -> Finding:
    server = acredssp.ServerConfig(ssl_context=setting.server_context, lookup=case.lookup)
    clients = [
        dataclasses.replace(
            setting.client_config(MechanismChoice.NTLM),
            authenticate=acredssp.Password(password, user, "CONTOSO"),
        )
        for user, password in zip(case.users, case.passwords, strict=True)
    ]
    times = []
    for _ in range(WARM_UP + pairs):
        pair = [0, 0]
        for which in random.sample((0, 1), 2):
            pair[which] = answer_time(server, clients[which], case.lookup)
        times.append((pair[0], pair[1]))
    return Finding.of(case.what, times[WARM_UP:])


def table(findings: list[Finding]) -> str:
    """Return Markdown."""
    head = ["logons", "the second takes", "the first takes longer by", "95 %", "would be seen", "told apart"]
    rows = [head, ["---", *["---:"] * 4, "---"]]
    rows += [
        [
            each.what,
            f"{each.answer / 1e3:.1f} µs",
            f"{each.difference:+.0f} ns",
            f"{each.low:+.0f} to {each.high:+.0f} ns",
            f"{each.would_be_seen:.0f} ns",
            "yes" if each.found else "no",
        ]
        for each in findings
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.timing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, help="the number of pairs of each case")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    setting = Setting.of(acredssp.self_signed([NAME], "ec"))
    gc.disable()  # a pause of the collector would fall on any logon
    findings = []
    for case in CASES:
        findings.append(measure(case, setting, options.pairs))
        gc.collect()
    if options.json:
        shown = [dataclasses.asdict(each) | {"found": each.found} for each in findings]
        print(json.dumps({"environment": environment(), "pairs": options.pairs, "findings": shown}))
    else:
        print(f"{options.pairs} pairs each\n\n{table(findings)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

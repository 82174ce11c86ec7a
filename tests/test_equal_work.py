"""A refusal takes the same work for every user: counted in what is executed, since times depend on the machine.

`benchmarks/timing_attack.py` counts, and measures the times, too.
"""

import itertools
import json
import random
import subprocess
import sys

import pytest
from support.pages import ROOT
from support.peers import DEADLINE

from benchmarks import timing_attack
from benchmarks.timing_attack import CASES, Finding

pytestmark = pytest.mark.interpreted_only("counts opcodes, which a compiled module does not execute")

BOUND = 40
"""Opcodes, of more than 6,000, by which refusals may differ: a third of a microsecond."""


@pytest.fixture(scope="module")
def counts():
    command = [sys.executable, "-m", "benchmarks.timing_attack", "--count"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5 * DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    return {(row["server"], row["case"]): row for row in json.loads(done.stdout)}


@pytest.mark.requirement("ntlm.uniform-failure")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.server}: {case.what}")
def test_a_refusal_takes_the_work_of_that_of_an_unknown_user(counts, case):
    row = counts[case.server, case.what]
    assert row["unknown"] > 5000
    same = row["calls"] == row["unknown_calls"] and abs(row["opcodes"] - row["unknown"]) <= BOUND
    assert same is not case.differs, row


def test_each_server_has_a_wrong_password_among_its_cases():
    assert {case.server for case in CASES if case.what == "wrong password"} == {"serve", "gateway", "hook"}
    assert any(case.differs for case in CASES)


def times(count, longer=0.0):
    noise = random.Random(3)
    mine, unknown = ([round(noise.gauss(4e6, 3e5)) for _ in range(count)] for _ in range(2))
    return [round(each + longer) for each in mine], unknown


def test_what_takes_as_long_is_not_told_apart():
    finding = Finding.of(CASES[0], *times(2000))
    assert not finding.found
    assert finding.row()[-1] == "not told apart"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_as_large_as_the_stated_power_is_found(sign):
    # Of two normal distributions that differ by d deviations, one is the larger with probability Phi(d / sqrt 2).
    finding = Finding.of(CASES[0], *times(2000, sign * 0.17 * 3e5))
    assert abs(finding.would_be_seen - 0.545) < 0.001
    assert finding.found
    assert (finding.longer - 0.5) * sign > 0


def test_the_share_that_takes_longer_is_that_of_all_pairs():
    values = random.Random(5)
    mine, unknown = ([values.randrange(9) for _ in range(30)] for _ in range(2))
    pairs = list(itertools.product(mine, unknown))
    share = sum((one > other) + (one == other) / 2 for one, other in pairs) / len(pairs)
    assert Finding.of(CASES[0], mine, unknown).longer == pytest.approx(share)


def test_ranks_of_equal_values_share_the_middle():
    assert timing_attack.ranks_of([3, 1, 3, 2]) == [3.5, 1, 3.5, 2]


def test_a_refusal_is_timed_at_a_server_of_its_own_process():
    with timing_attack.server_process("gateway") as stranger:
        assert stranger.refused("known000", "CONTOSO") > 0

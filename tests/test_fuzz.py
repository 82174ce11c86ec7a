"""The corpus of the fuzzers, replayed without any fuzzer: each input has the verdict that was written down for it.

A verdict that changes is a change of what the package accepts. If that is meant, `python -m fuzz run --keep` writes the
verdicts anew.
"""

import pytest

from fuzz import corpus
from fuzz.catalogue import TARGETS, target_of


@pytest.mark.parametrize("name", TARGETS)
def test_each_input_of_the_corpus_has_its_verdict(name):
    target, inputs = target_of(name), corpus.read(name)
    assert inputs
    assert {data: target.verdict(data) for data, _ in inputs} == dict(inputs)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_accepts_its_seeds(name):
    target = target_of(name)
    assert all(target.verdict(data).startswith("accepted") for data in target.seeds())


def test_an_unknown_target_is_named_beside_those_that_there_are():
    with pytest.raises(LookupError, match=r"ts-request, .* got ts-requests"):
        target_of("ts-requests")

"""The corpus of the fuzzers, replayed without any fuzzer: each input has the verdict that was written down for it.

A verdict that changes is a change of what the package accepts. If that is meant, `python -m fuzz run --keep` writes the
verdicts anew.
"""

import zipfile

import asn1tools
import pytest

from fuzz import corpus, export
from fuzz.catalogue import TARGETS, target_of

REFUSE_ALL = {"between"}
"""Targets that must refuse every input."""


@pytest.mark.parametrize("name", TARGETS)
def test_each_input_of_the_corpus_has_its_verdict(name):
    target, inputs = target_of(name), corpus.read(name)
    assert inputs
    assert {data: target.verdict(data) for data, _ in inputs} == dict(inputs)


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - REFUSE_ALL))
def test_a_target_accepts_its_seeds(name):
    target = target_of(name)
    assert all(target.verdict(data).startswith("accepted") for data in target.seeds())


UNENDING = {"redirection"}
"""Targets whose fault is an endless loop, which only a fuzzer's own clock ends."""


def test_a_fault_of_each_target_has_been_found():
    assert set(corpus.read_faults()) == TARGETS.keys() - UNENDING


@pytest.mark.interpreted_only("a fault replaces a function, which the compiled engine no longer looks up")
@pytest.mark.parametrize("name", sorted(TARGETS.keys() - UNENDING))
def test_a_target_notices_its_fault(name):
    target, data = target_of(name), corpus.read_faults()[name]
    target.verdict(data)
    with target.fault(), pytest.raises((AssertionError, ValueError, LookupError, asn1tools.DecodeError)):
        target.verdict(data)


@pytest.mark.parametrize("name", sorted(REFUSE_ALL))
def test_a_target_accepts_nothing(name):
    target = target_of(name)
    inputs = [*target.seeds(), *(data for data, _ in corpus.read(name))]
    assert not any(target.verdict(data).startswith("accepted") for data in inputs)


def test_each_target_is_written_out_for_a_fuzzing_service(tmp_path):
    for name in TARGETS:
        program = export.write(target_of(name), tmp_path)
        compile(program.read_text("ascii"), program, "exec")
        with zipfile.ZipFile(program.with_name(f"{program.stem}_seed_corpus.zip")) as archive:
            assert len(archive.namelist()) >= len({data for data, _ in corpus.read(name)})
    words = (tmp_path / "fuzz_ts_request.dict").read_text("ascii").splitlines()
    assert r'"\x4e\x54\x4c\x4d\x53\x53\x50\x00"' in words


def test_an_unknown_target_is_named_beside_those_that_there_are():
    with pytest.raises(LookupError, match=r"ts-request, .* got ts-requests"):
        target_of("ts-requests")

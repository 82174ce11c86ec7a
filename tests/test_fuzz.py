"""The corpus of the fuzzers, replayed without any fuzzer: each input has the verdict that was written down for it.

A verdict that changes is a change of what the package accepts. If that is meant, `python -m fuzz run --keep` writes the
verdicts anew.
"""

import pathlib
import types
import zipfile

import asn1tools
import pytest

from fuzz import corpus, export, page
from fuzz.catalogue import TARGETS, target_of

REFUSE_ALL = {"between"}
"""Targets that must refuse every input."""


CONVERSATIONS = {"client-tls", "server-tls", "http-sealed-body"}
"""Targets with hundreds of inputs, each of which makes keys of TLS."""


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.thorough if each in CONVERSATIONS else []) for each in TARGETS]
)
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
@pytest.mark.thorough
def test_a_target_accepts_nothing(name):
    target = target_of(name)
    inputs = [*target.seeds(), *(data for data, _ in corpus.read(name))]
    assert not any(target.verdict(data).startswith("accepted") for data in inputs)


@pytest.mark.thorough
def test_each_target_is_written_out_for_a_fuzzing_service(tmp_path):
    for name in TARGETS:
        program = export.write(target_of(name), tmp_path)
        compile(program.read_text("ascii"), program, "exec")
        with zipfile.ZipFile(program.with_name(f"{program.stem}_seed_corpus.zip")) as archive:
            assert len(archive.namelist()) >= len({data for data, _ in corpus.read(name)})
    words = (tmp_path / "fuzz_ts_request.dict").read_text("ascii").splitlines()
    assert r'"\x4e\x54\x4c\x4d\x53\x53\x50\x00"' in words


def test_the_figures_of_a_run_go_into_the_page_and_replace_those_of_an_earlier_one(tmp_path):
    path = tmp_path / "page.md"
    path.write_bytes((pathlib.Path(__file__).parent.parent / "docs" / "security.md").read_bytes())
    result = types.SimpleNamespace(
        target="between", seconds=5, runs=-1, ran=400, accepted=0, deep=100, edges=1234, found=""
    )
    for seconds in (5, 20):
        result.seconds = seconds
        page.write(path, [result])
    text = path.read_text("utf-8")
    assert "| `between` | 400 | 0.0 % | 25.0 % | 1,234 | nothing |\n\n<!-- " in text
    assert "20 seconds for each target" in text
    assert "5 seconds for each target" not in text


def test_a_page_without_a_place_for_the_figures_is_refused(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# A page\n", "utf-8")
    with pytest.raises(ValueError, match="expected the marks"):
        page.write(
            path, [types.SimpleNamespace(target="x", seconds=1, runs=-1, ran=0, accepted=0, deep=0, edges=0, found="")]
        )


def test_an_unknown_target_is_named_beside_those_that_there_are():
    with pytest.raises(LookupError, match=r"ts-request, .* got ts-requests"):
        target_of("ts-requests")

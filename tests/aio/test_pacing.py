import dataclasses

import pytest

from acredssp.aio import pacing
from acredssp.aio.pacing import Pacing
from acredssp.aio.report import HandshakeOutcome, HandshakeReport
from acredssp.core.results import HandshakeInfo
from acredssp.errors import CredSSPError

RATE = 10
INFO = HandshakeInfo(
    version=6, mechanism="", principal=None, delegated=None, tls_version="", cipher="", peer_key_sha256=None
)
GOOD = HandshakeReport(None, None, INFO, None, outcome=HandshakeOutcome.SUCCESS)
BROKEN = HandshakeReport(None, CredSSPError("broken"), INFO, None, outcome=HandshakeOutcome.LEFT)


def failed(pace, count, now=0.0, source="a"):
    for _ in range(count):
        pace.note(source, BROKEN, now)


def test_as_many_as_the_rate_may_fail_at_once():
    pace = Pacing(RATE)
    failed(pace, RATE)
    assert pace.wait("a", 0.0) == 0.0
    failed(pace, 1)
    assert pace.wait("a", 0.0) == pytest.approx(0.1)


def test_no_other_source_waits():
    pace = Pacing(RATE)
    failed(pace, 100)
    assert pace.wait("b", 0.0) == 0.0


def test_who_comes_again_and_again_is_held_to_the_rate():
    pace, now, starts = Pacing(RATE), 0.0, []
    while now < 20.0:
        now += pace.wait("a", now)
        starts.append(now)
        now += 0.001  # a handshake that is broken off
        failed(pace, 1, now)
    assert len([start for start in starts if start > 10.0]) == pytest.approx(10 * RATE, abs=2)


def test_a_wait_is_short_however_many_failed_and_over_soon_after():
    pace = Pacing(RATE)
    failed(pace, 10_000)
    assert pace.wait("a", 0.0) == 0.5
    assert pace.wait("a", 0.7) == 0.0


def test_a_success_makes_up_for_a_failure():
    pace = Pacing(RATE)
    for _ in range(100):
        failed(pace, 1)
        pace.note("a", GOOD, 0.0)
    assert pace.wait("a", 0.0) == 0.0
    failed(pace, RATE)
    assert pace.wait("a", 0.0) == 0.0  # and no more than that


def test_a_success_makes_up_for_one_failure_of_several():
    pace = Pacing(RATE)
    failed(pace, RATE + 2)
    pace.note("a", GOOD, 0.0)
    assert pace.wait("a", 0.0) == pytest.approx(0.1)


def test_a_source_whose_failures_are_made_up_for_takes_no_memory():
    pace = Pacing(RATE)
    failed(pace, 1)
    pace.note("a", GOOD, 0.0)
    assert not pace._levels


@pytest.mark.parametrize(
    ("outcome", "changes", "counts"),
    [
        (HandshakeOutcome.LEFT, {}, True),
        (HandshakeOutcome.DENIED, {}, True),
        (HandshakeOutcome.DENIED, {"hook": "lookup"}, True),
        (HandshakeOutcome.FAILED, {}, True),
        (HandshakeOutcome.FAILED, {"hook": "lookup"}, False),
        (HandshakeOutcome.TIMEOUT, {}, True),
        (HandshakeOutcome.TIMEOUT, {"hook": "admit"}, False),
        (HandshakeOutcome.LIMITED, {}, True),
        (HandshakeOutcome.LIMITED, {"info": None}, False),
        (HandshakeOutcome.LEFT, {"info": None}, False),
        (HandshakeOutcome.BAD_ANSWER, {"hook": "lookup"}, False),
        (HandshakeOutcome.NO_DATA, {}, False),
        (HandshakeOutcome.ABORTED, {}, False),
    ],
)
def test_what_counts_is_what_the_peer_did(outcome, changes, counts):
    pace = Pacing(1)
    report = dataclasses.replace(BROKEN, outcome=outcome, **changes)
    for _ in range(3):
        pace.note("a", report, 0.0)
    assert (pace.wait("a", 0.0) > 0.0) is counts


def test_a_bounded_number_of_sources_is_counted_and_the_quietest_makes_room(monkeypatch):
    monkeypatch.setattr(pacing, "_MOST_SOURCES", 2)
    pace = Pacing(1)
    failed(pace, 5, source="a")
    failed(pace, 5, source="b")
    failed(pace, 1, source="a")
    failed(pace, 5, source="c")
    assert [pace.wait(source, 0.0) > 0.0 for source in "abc"] == [True, False, True]

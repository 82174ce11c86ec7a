import collections
import dataclasses
import logging
import types

import pytest

from acredssp.aio import failures
from acredssp.aio.failures import FailureLimit, Failures
from acredssp.aio.report import HandshakeOutcome, HandshakeReport
from acredssp.credentials import Account
from acredssp.errors import AccessDenied, AuthenticationError, RemoteProtocolError
from acredssp.mechanisms.base import Principal
from acredssp.status import NTSTATUS

BOB, ALICE = Principal("bob", "CONTOSO"), Principal("alice", "CONTOSO")
HERE, THERE = "192.0.2.7", "192.0.2.8"


class Timer:
    """What `call_at` returns."""

    def __init__(self, clock, when, act):
        self.clock, self.when, self.act = clock, when, act

    def cancel(self):
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class Clock:
    """A clock that stands still until it is set, and calls what is due then."""

    def __init__(self):
        self.now, self.timers = 1000.0, []

    def __call__(self):
        return self.now

    def call_at(self, when, act):
        self.timers.append(timer := Timer(self, when, act))
        return timer

    def pass_(self, seconds):
        self.now += seconds
        due = [timer for timer in self.timers if timer.when <= self.now]
        self.timers = [timer for timer in self.timers if timer.when > self.now]
        for timer in due:
            timer.act()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def three(clock):
    """Three wrong passwords within a minute are too many."""
    return Failures(FailureLimit(3, 60.0), clock, clock.call_at)


def fail(failures, times, source=HERE, principal=BOB):
    for _ in range(times):
        failures.failed(source, principal)


def test_a_source_has_to_wait_after_too_many_for_an_account(three, clock):
    fail(three, 2)
    assert not three.refuses(HERE, BOB)
    fail(three, 1)
    assert three.refuses(HERE, BOB)
    assert not three.refuses(THERE, BOB)
    assert not three.refuses(HERE, ALICE)
    assert not three.refuses(HERE)
    clock.pass_(59.9)
    assert three.refuses(HERE, BOB)
    clock.pass_(0.1)
    assert not three.refuses(HERE, BOB)


def test_few_within_the_time_are_forgotten(three, clock):
    for _ in range(10):
        fail(three, 2)
        assert not three.refuses(HERE, BOB)
        clock.pass_(60)
        assert not three.refuses(HERE, BOB)


def test_a_success_is_forgiven_what_was_before(three):
    fail(three, 2)
    three.succeeded(HERE, Principal("BOB", "contoso"))
    fail(three, 2)
    assert not three.refuses(HERE, BOB)
    fail(three, 1)
    assert three.refuses(HERE, BOB)


@pytest.mark.parametrize(
    "own",
    [
        Principal("bob", "FABRIKAM"),
        Principal("bob", ""),
        Principal("bob@contoso.com", ""),
        Principal(r"CONTOSO\bob", ""),
    ],
)
def test_a_success_forgives_nothing_that_was_written_otherwise_and_may_be_anothers(three, own):
    fail(three, 2)
    three.succeeded(HERE, own)
    fail(three, 1)
    assert three.refuses(HERE, BOB)


def test_tries_of_several_spellings_are_forgiven_by_none_of_them(three):
    fail(three, 1)
    fail(three, 1, principal=Principal("bob", "FABRIKAM"))
    three.succeeded(HERE, BOB)
    three.succeeded(HERE, Principal("bob", "FABRIKAM"))
    fail(three, 1)
    assert three.refuses(HERE, BOB)


def test_a_success_without_a_domain_forgives_nothing_where_the_lookup_named_the_account(three):
    """The lookup may have tried the accounts of several domains, and wrong passwords were for any of them."""
    anywhere = Principal("bob", "")
    fail(three, 2, principal=anywhere)
    three.succeeded(HERE, dataclasses.replace(anywhere, known_as=Account("bob", "CONTOSO")))
    fail(three, 1, principal=anywhere)
    assert three.refuses(HERE, anywhere)


def test_a_success_forgives_what_was_sent_for_a_domain_that_the_lookup_has_another_name_for(three):
    suffix = Principal("bob@contoso.com", "")
    fail(three, 2, principal=suffix)
    three.succeeded(HERE, dataclasses.replace(suffix, known_as=Account("bob", "CONTOSO")))
    fail(three, 2, principal=suffix)
    assert not three.refuses(HERE, suffix)


def test_a_success_ends_no_wait(three, clock):
    fail(three, 3)
    three.succeeded(HERE, BOB)
    assert three.refuses(HERE, BOB)
    clock.pass_(60)
    three.succeeded(HERE, BOB)
    fail(three, 3)
    clock.pass_(60)
    assert three.refuses(HERE, BOB)  # and makes none shorter


def test_a_success_forgives_nothing_of_all_accounts(three):
    for _ in range(15):
        fail(three, 2)
        three.succeeded(HERE, BOB)
    assert three.refuses(HERE)


@pytest.mark.parametrize(
    ("user", "domain", "forgiven"), [(300, 0, False), (157, 100, False), (156, 100, True), (256, 0, True)]
)
def test_a_long_name_is_not_forgiven(three, user, domain, forgiven):
    long = Principal("x" * user, "D" * domain)
    fail(three, 2, principal=long)
    three.succeeded(HERE, long)
    fail(three, 1, principal=long)
    assert three.refuses(HERE, long) is not forgiven


def report_of(mechanism):
    info = types.SimpleNamespace(mechanism=mechanism)
    return HandshakeReport((HERE, 1), None, info, BOB, outcome=HandshakeOutcome.SUCCESS)


@pytest.mark.parametrize(("mechanism", "forgiven"), [("ntlm", True), ("kerberos", False)])
def test_a_logon_without_a_password_forgives_no_wrong_ones(three, mechanism, forgiven):
    fail(three, 2)
    three.note(HERE, report_of(mechanism))
    fail(three, 1)
    assert three.refuses(HERE, BOB) is not forgiven


@pytest.mark.parametrize(
    ("kind", "status", "counts"),
    [
        (AuthenticationError, NTSTATUS.STATUS_LOGON_FAILURE, True),
        (AuthenticationError, NTSTATUS.STATUS_PASSWORD_EXPIRED, False),
        (AccessDenied, NTSTATUS.STATUS_LOGON_FAILURE, False),
        (RemoteProtocolError, NTSTATUS.STATUS_LOGON_FAILURE, False),
    ],
)
def test_a_logon_counts_whose_client_was_told_the_same_as_for_a_wrong_password(three, kind, status, counts):
    error = kind("no", nt_status=status)
    for _ in range(3):
        three.note(HERE, HandshakeReport((HERE, 1), error, None, BOB, outcome=HandshakeOutcome.DENIED))
    assert three.refuses(HERE, BOB) is counts
    assert not three.refuses(HERE, ALICE)
    assert not three.refuses(THERE, BOB)


def test_a_logon_without_a_name_counts_for_nobody(three):
    error = AuthenticationError("no", nt_status=NTSTATUS.STATUS_LOGON_FAILURE)
    three.note(HERE, HandshakeReport((HERE, 1), error, None, None, outcome=HandshakeOutcome.DENIED))
    assert len(three) == 0


def test_each_wait_is_twice_as_long_up_to_a_day(three, clock):
    waits = []
    for _ in range(14):
        fail(three, 3)
        begun = clock.now
        while three.refuses(HERE, BOB):
            clock.pass_(60)
        waits.append(clock.now - begun)
    assert waits[:4] == [60, 120, 240, 480]
    assert waits[-1] == 24 * 3600


def test_a_quiet_time_as_long_as_the_last_wait_makes_it_short_again(three, clock):
    fail(three, 3)
    clock.pass_(60)
    fail(three, 3)
    clock.pass_(120 + 120)
    fail(three, 3)
    clock.pass_(60)
    assert not three.refuses(HERE, BOB)


def test_ten_times_as_many_for_all_accounts_end_every_try(three, clock):
    for number in range(30):
        assert not three.refuses(HERE)
        three.failed(HERE, Principal(f"user{number}", ""))
    assert three.refuses(HERE)
    assert three.refuses(HERE, Principal("another", ""))
    assert not three.refuses(THERE)
    assert not three.refuses(THERE, Principal("another", ""))
    clock.pass_(60)
    assert not three.refuses(HERE)
    assert not three.refuses(HERE, Principal("another", ""))


def test_tries_that_are_refused_unseen_count_for_all_accounts(three):
    fail(three, 30)
    assert three.refuses(HERE)


@pytest.mark.parametrize(
    ("user", "domain"),
    [
        ("BOB", "CONTOSO"),
        ("bob", ""),
        ("bob", "other"),
        ("bob@contoso.com", ""),
        ("bob@contoso.com", "CONTOSO"),
        (r"CONTOSO\bob", ""),
        (r"ANY\bob", ""),
        (r"CONTOSO\bob", "CONTOSO"),
        (r"CONTOSO\bob@contoso.com", ""),
        (r"A\B\bob@c@d", ""),
        (r"\bob", ""),
        (r"\a\bob", ""),
        ("bob\\", ""),
        ("bob@", ""),
        ("D" * 300 + r"\bob", ""),
    ],
)
def test_the_spellings_of_an_account_share_their_tries(three, user, domain):
    spelling = Principal(user, domain)
    fail(three, 2)
    three.failed(HERE, spelling)
    assert three.refuses(HERE, BOB)
    assert three.refuses(HERE, spelling)


@pytest.mark.parametrize("user", ["@x", "@", "\\", r"\x\@y"])
def test_a_name_of_nothing_but_a_domain_is_no_name_of_all_accounts(three, user):
    fail(three, 3, principal=Principal(user, ""))
    assert not three.refuses(HERE)
    assert three.refuses(HERE, Principal(user, ""))


def test_the_case_of_a_name_is_windows_own(three):
    fail(three, 3, principal=Principal("strasse", ""))
    assert three.refuses(HERE, Principal("STRASSE", ""))
    assert not three.refuses(HERE, Principal("straße", ""))


def test_one_line_when_a_wait_begins_and_one_when_it_ends(three, clock, caplog):
    fail(three, 9, principal=Principal("bob\nroot", ""))
    assert [record.getMessage() for record in caplog.records] == [
        "too many wrong passwords from 192.0.2.7 for BOB\\nROOT: no more tries for 60 seconds"
    ]
    caplog.clear()
    clock.pass_(60)
    assert not three.refuses(HERE, Principal("bob\nroot", ""))
    assert [record.getMessage() for record in caplog.records] == [
        "wrong passwords from 192.0.2.7 for BOB\\nROOT: tries are taken again"
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_the_end_is_told_late_rather_than_not_at_all_without_a_timer(clock, caplog):
    without = Failures(FailureLimit(1, 60.0), clock, lambda _when, _act: None)
    fail(without, 1)
    clock.pass_(60)
    assert not without.refuses(HERE, BOB)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records][1:] == ["tries are taken again"]


@pytest.fixture
def crowded(clock, monkeypatch):
    """Has room for ten accounts and ten sources."""
    monkeypatch.setattr(failures, "_MOST_ACCOUNTS", 10)
    monkeypatch.setattr(failures, "_MOST_SOURCES", 10)
    return Failures(FailureLimit(3, 60.0), clock, clock.call_at)


def fill(failures, times):
    """Fill the memory with names, by one try each, from few sources."""
    for number in range(times):
        failures.failed(f"10.0.0.{number % 5}", Principal(f"name{number}", ""))


def test_memory_is_bounded_and_the_quietest_goes_first(crowded):
    fail(crowded, 2)
    for number in range(100):
        crowded.failed(f"10.0.0.{number}", ALICE)
        assert len(crowded) <= 20
        fail(crowded, 1)
    assert crowded.refuses(HERE, BOB)  # it was never quiet
    assert not crowded.refuses("10.0.0.0", ALICE)


def test_cheap_entries_push_out_no_running_wait(crowded):
    fail(crowded, 3)
    fill(crowded, 145)
    assert crowded.refuses(HERE, BOB)
    assert not crowded.refuses(HERE, ALICE)  # which it would be if the wait had been pushed out
    for number in range(30):
        crowded.failed(THERE, Principal(f"name{number}", ""))
    for number in range(100):
        crowded.failed(f"10.0.1.{number}", ALICE)
    assert crowded.refuses(THERE)


def test_filling_the_memory_with_names_leaves_the_counts_of_sources(crowded):
    for number in range(29):
        crowded.failed(HERE, Principal(f"user{number}", ""))
    fill(crowded, 100)
    assert not crowded.refuses(HERE)
    fail(crowded, 1)
    assert crowded.refuses(HERE)


def test_nobody_gets_more_tries_by_filling_the_memory_with_other_names(crowded):
    """Each source guesses as often as it may, then fills up with other names, and comes again."""
    seen = collections.Counter()
    for _ in range(5):
        for source in "abcdefgh":
            for principal in [BOB, BOB, *(Principal(f"name{number}", "") for number in range(3))]:
                if not crowded.refuses(source) and not crowded.refuses(source, principal):
                    seen[source, principal.user] += 1
                    crowded.failed(source, principal)
    assert max(seen.values()) <= 3
    assert len(seen) > 8


def test_what_made_room_is_forgotten_after_its_time(crowded, clock):
    fail(crowded, 2)
    fill(crowded, 40)
    clock.pass_(60)
    fail(crowded, 2)
    assert not crowded.refuses(HERE, BOB)
    clock.pass_(60)
    fill(crowded, 40)
    fail(crowded, 2)
    assert not crowded.refuses(HERE, BOB)


def test_one_failure_that_made_room_counts_as_one_for_every_account(crowded):
    fail(crowded, 1)
    fill(crowded, 40)
    assert not crowded.refuses(HERE, ALICE)
    fail(crowded, 1)
    assert not crowded.refuses(HERE, BOB)
    fail(crowded, 1)
    assert crowded.refuses(HERE, BOB)  # the third for some account, which may have been any
    assert crowded.refuses(HERE, ALICE)


def test_failures_whose_time_is_over_are_not_made_up_for(crowded, clock):
    fail(crowded, 2)
    clock.pass_(60)
    fill(crowded, 40)
    fail(crowded, 1, principal=ALICE)
    assert not crowded.refuses(HERE, ALICE)
    assert not crowded.refuses(HERE, BOB)


def test_an_entry_whose_wait_is_over_makes_room_like_others(crowded, clock):
    fail(crowded, 3)
    clock.pass_(60)
    fill(crowded, 40)
    assert not crowded.refuses(HERE, BOB)


def test_a_wait_that_made_room_goes_on_for_its_source(crowded, clock):
    """Where every entry waits, the one that has waited for the longest time makes room."""
    for number in range(11):
        fail(crowded, 3, source=HERE if number < 9 else THERE, principal=Principal(f"user{number}", ""))
    assert crowded.refuses(HERE, Principal("user0", ""))
    assert crowded.refuses(HERE, BOB)  # who it was for is not known any more
    assert not crowded.refuses(THERE, BOB)
    clock.pass_(60)
    assert not crowded.refuses(HERE, Principal("user0", ""))


def test_timers_are_bounded_like_the_entries(clock, monkeypatch, caplog):
    monkeypatch.setattr(failures, "_MOST_ACCOUNTS", 10)
    monkeypatch.setattr(failures, "_MOST_SOURCES", 10)
    one = Failures(FailureLimit(1, 60.0), clock, clock.call_at)
    for number in range(100):
        one.failed(f"10.0.0.{number}", ALICE)
        assert len(clock.timers) <= len(one) <= 20
    clock.pass_(60)
    assert not clock.timers
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if text.startswith("too many")]) == 100
    assert len([text for text in texts if text.endswith("taken again")]) == 100


def test_a_wait_whose_end_is_seen_before_its_timer_leaves_no_timer(three, clock):
    fail(three, 3)
    clock.now += 60
    assert not three.refuses(HERE, BOB)
    assert not clock.timers
    fail(three, 3)
    assert len(clock.timers) == 1


def test_an_entry_counts_once_before_its_wait_and_after(three, clock):
    fail(three, 1)
    entries = len(three)
    fail(three, 2)
    assert len(three) == entries
    clock.pass_(60)
    assert len(three) == entries


def test_the_log_names_the_source_alone_where_it_waits_for_all_accounts(three, caplog):
    for number in range(30):
        three.failed(HERE, Principal(f"user{number}", ""))
    assert [record.getMessage() for record in caplog.records] == [
        "too many wrong passwords from 192.0.2.7: no more tries for 60 seconds"
    ]


def test_a_long_name_takes_no_more_memory_than_another(three):
    three.failed(HERE, Principal("x" * 60_000, ""))
    assert max(len(account) for _, account in three._accounts._not_waiting) == 256


@pytest.mark.parametrize(("count", "seconds"), [(0, 60.0), (3, 0.0), (3, -1.0), (3, 86401.0)])
def test_a_limit_that_is_none_is_refused(count, seconds):
    with pytest.raises(
        ValueError, match=r"^(count: expected 1 or more|seconds: expected seconds above 0 and at most 86,400), got "
    ):
        FailureLimit(count, seconds)


@pytest.mark.parametrize("seconds", [0.5, 1, 86_400, 86_400.0])
def test_a_limit_has_any_seconds_up_to_a_day(seconds):
    assert FailureLimit(3, seconds).seconds == seconds


def test_a_limit_has_a_number_of_seconds():
    with pytest.raises(TypeError, match="seconds: expected float or int, got str"):
        FailureLimit(3, "60")

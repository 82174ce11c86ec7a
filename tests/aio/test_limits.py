import random

import pytest

from acredssp.aio.limits import Places
from acredssp.errors import LimitExceeded
from acredssp.status import Stage


class Handshake:
    """A place that notes that it had to go."""

    def __init__(self, source, *, proven=False):
        self.source, self.proven, self.error = source, proven, None

    def give_way(self, error):
        assert self.error is None
        self.error = error


def entered(handshakes, *sources):
    made = [source if isinstance(source, Handshake) else Handshake(source) for source in sources]
    for handshake in made:
        handshakes.enter(handshake)
    return made


def test_without_limits_everybody_enters():
    handshakes = Places()
    entered(handshakes, *"a" * 1000)
    assert len(handshakes) == 1000


def test_a_source_gets_no_more_than_its_own_limit():
    handshakes = Places(None, 2)
    first, _ = entered(handshakes, "a", "a")
    with pytest.raises(LimitExceeded, match="more than 2 handshakes at a time from a"):
        entered(handshakes, "a")
    entered(handshakes, "b", "b")
    handshakes.leave(first)
    entered(handshakes, "a")
    assert len(handshakes) == 4


def test_a_newcomer_gets_the_place_of_the_source_that_holds_the_most():
    handshakes = Places(4)
    many = entered(handshakes, "a", "a", "a")
    (other,) = entered(handshakes, "b")
    entered(handshakes, "c")
    assert [handshake.error is not None for handshake in [*many, other]] == [True, False, False, False]
    assert "3 of them from a" in str(many[0].error)
    assert len(handshakes) == 4


def test_the_oldest_without_a_proven_logon_has_to_go():
    handshakes = Places(3)
    proven, unproven, young = entered(handshakes, Handshake("a", proven=True), "a", "a")
    entered(handshakes, "b")
    assert (proven.error, young.error) == (None, None)
    assert unproven.error is not None


def test_where_all_are_proven_the_oldest_has_to_go():
    handshakes = Places(2)
    oldest, young = entered(handshakes, *(Handshake("a", proven=True) for _ in range(2)))
    entered(handshakes, "b")
    assert oldest.error is not None
    assert young.error is None


def test_a_proven_place_can_be_kept():
    """The connections of HTTP keep their places after the logon."""
    connections = Places(3, counted="connections", hint="raise it", keep_proven=True)
    held = entered(connections, *(Handshake("a", proven=True) for _ in range(3)))
    with pytest.raises(LimitExceeded, match="more than 3 connections at a time"):
        entered(connections, "b")
    assert [each.error for each in held] == [None] * 3
    connections.leave(held[0])
    connections.leave(held[1])
    older, newer = entered(connections, "a", "a")
    entered(connections, "b")
    assert "more than 3 connections at a time, 2 of them from a: one made room for b" in str(older.error)
    assert (held[2].error, newer.error) == (None, None)
    assert len(connections) == 3


@pytest.mark.parametrize("honest", [2, 5, 6, 8])
def test_a_stranger_cannot_hide_behind_those_whose_places_are_kept(honest):
    """People behind one address have logged on, and hold as many places as a stranger, or more."""
    connections = Places(10, keep_proven=True)
    at_work = entered(connections, *(Handshake("office", proven=True) for _ in range(honest)))
    silent = entered(connections, *["stranger"] * (10 - honest))
    for number in range(10 - honest - 1):
        (newcomer,) = entered(connections, f"newcomer {number}")
        newcomer.proven = True
    assert [each.error for each in at_work] == [None] * honest
    assert [each.error is None for each in silent] == [False] * (10 - honest - 1) + [True]
    assert len(connections) == 10


def test_those_whose_places_are_kept_get_one_of_a_stranger_too():
    connections = Places(4, 4, keep_proven=True)
    entered(connections, *(Handshake("office", proven=True) for _ in range(2)))
    first, second = entered(connections, "stranger", "stranger")
    entered(connections, "office")
    assert (first.error is None, second.error is None) == (False, True)
    with pytest.raises(LimitExceeded):
        entered(connections, "office")  # both have one without a proven logon


def test_places_that_are_kept_count_for_their_source():
    connections = Places(3, 2, keep_proven=True)
    kept = entered(connections, *(Handshake("a", proven=True) for _ in range(2)), "b")
    with pytest.raises(LimitExceeded):
        entered(connections, "c")
    with pytest.raises(LimitExceeded, match="more than 2 handshakes at a time from a"):
        entered(connections, "a")
    connections.leave(kept[0])
    connections.leave(kept[0])
    assert len(connections) == 2
    entered(connections, "a")


@pytest.mark.parametrize(("holding", "newcomer"), [("ab", "c"), ("aabb", "a"), ("aab", "b"), ("aa", "a")])
def test_nobody_has_to_go_for_one_that_would_then_hold_as_many(holding, newcomer):
    handshakes = Places(len(holding))
    held = entered(handshakes, *holding)
    with pytest.raises(LimitExceeded, match=f"more than {len(holding)} handshakes at a time"):
        entered(handshakes, newcomer)
    assert all(handshake.error is None for handshake in held)


def test_one_that_gave_way_leaves_once():
    handshakes = Places(2)
    oldest, _ = entered(handshakes, "a", "a")
    entered(handshakes, "b")
    handshakes.leave(oldest)
    assert len(handshakes) == 2


def all_leave(places, held):
    """All that hold a place leave, and nothing of them is kept."""
    for each in held:
        places.leave(each)
    assert len(places) == 0
    assert not places._of_source
    assert not places._kept
    assert not places._sources


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_entering_and_leaving_keeps_the_books(seed):
    choose = random.Random(seed)
    handshakes, held = Places(12, 6), []
    for _ in range(500):
        if held and choose.random() < 0.4:
            handshakes.leave(held.pop(choose.randrange(len(held))))
        newcomer = Handshake(choose.choice("aaaabcdefgh"), proven=choose.random() < 0.3)
        counts = {source: sum(other.source == source for other in held) for source in "abcdefgh"}
        try:
            handshakes.enter(newcomer)
        except LimitExceeded:
            mine = counts[newcomer.source]
            assert mine == 6 or (len(held) == 12 and mine + 1 >= max(counts.values()))
            continue
        gone = [other for other in held if other.error is not None]
        assert len(gone) == (len(held) == 12)
        assert all(counts[other.source] == max(counts.values()) for other in gone)
        held = [other for other in held if other.error is None] + [newcomer]
        assert len(handshakes) == len(held) <= 12
    all_leave(handshakes, held)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_keeps_the_books_where_places_are_kept(seed):
    choose = random.Random(seed)
    connections, held = Places(12, 6, keep_proven=True), []
    for _ in range(500):
        if held and choose.random() < 0.4:
            connections.leave(held.pop(choose.randrange(len(held))))
        if held and choose.random() < 0.3:
            choose.choice(held).proven = True
        newcomer = Handshake(choose.choice("aaaabcdefgh"))
        mine = sum(each.source == newcomer.source for each in held)
        open_ = {name: sum(each.source == name and not each.proven for each in held) for name in "abcdefgh"}
        try:
            connections.enter(newcomer)
        except LimitExceeded:
            assert mine == 6 or (len(held) == 12 and open_[newcomer.source] + 1 >= max(open_.values()))
            continue
        gone = [each for each in held if each.error is not None]
        assert len(gone) == (len(held) == 12)
        assert all(not each.proven and open_[each.source] == max(open_.values()) for each in gone)
        held = [each for each in held if each.error is None] + [newcomer]
        assert len(connections) == len(held) <= 12
    all_leave(connections, held)


@pytest.mark.parametrize(
    ("limits", "hint"), [((None, 1), "raise it"), ((1, None), "raise all")], ids=["a source's", "all"]
)
def test_who_finds_no_place_is_told_so_while_it_connects(limits, hint):
    handshakes = Places(*limits, hint="raise it", hint_for_all="raise all")
    entered(handshakes, "a")
    with pytest.raises(LimitExceeded) as caught:
        entered(handshakes, "a")
    assert (caught.value.stage, caught.value.hint) == (Stage.CONNECT, hint)


def test_whoever_has_no_place_leaves_none():
    handshakes = Places()
    (first,) = entered(handshakes, "a")
    handshakes.leave(Handshake("a"))
    handshakes.leave(Handshake("b"))
    assert len(handshakes) == 1
    handshakes.leave(first)
    handshakes.leave(first)
    assert len(handshakes) == 0


def test_each_place_that_is_refused_or_has_to_make_room_is_told():
    told = []
    connections = Places(2, 2, hint="raise one", hint_for_all="raise all", tell=told.append)
    (first, _) = entered(connections, "a", "a")
    with pytest.raises(LimitExceeded) as of_source:
        entered(connections, "a")
    entered(connections, "b")
    with pytest.raises(LimitExceeded) as of_all:
        entered(connections, "c")
    assert told == [of_source.value, first.error, of_all.value]
    assert [error.hint for error in told] == ["raise one", "raise all", "raise all"]

"""The transition tables themselves."""

import pytest

from acredssp.core.states import CLIENT_MOVES, SERVER_MOVES, State


@pytest.mark.parametrize("moves", [CLIENT_MOVES, SERVER_MOVES], ids=["client", "server"])
class TestTables:
    def test_every_target_is_a_row(self, moves):
        assert {target for targets in moves.values() for target in targets} <= set(moves)

    def test_every_state_but_the_last_can_fail(self, moves):
        assert all(State.FAILED in targets for state, targets in moves.items() if state is not State.FAILED)

    def test_nothing_leaves_failed(self, moves):
        assert moves[State.FAILED] == frozenset()

    def test_nothing_leads_back(self, moves):
        order = list(State)
        for state, targets in moves.items():
            assert all(order.index(target) > order.index(state) for target in targets)

    def test_established_is_reached_from_tls(self, moves):
        reached, todo = set(), [State.TLS]
        while todo:
            state = todo.pop()
            reached.add(state)
            todo.extend(moves[state] - reached)
        assert reached == set(moves)


def test_a_client_never_waits_for_credentials():
    assert State.AUTH_INFO not in CLIENT_MOVES

"""Goes through all states of a world, breadth first, and looks for a state or a move that breaks a property.

A state is the node of each side. What the attacker has heard follows from what the sides have said. A side that has
refused a message is not followed: whatever the attacker can do then, he can also do without having sent it. So the
first counterexample that is found is a shortest one.
"""

import dataclasses
import functools
import time
from collections import deque
from collections.abc import Callable

from model.attacker import Attacker
from model.sides import Node, deliver, first_node

from acredssp.core.states import State


@dataclasses.dataclass(frozen=True)
class Step:
    """One message of a counterexample."""

    party: str
    message: bytes
    answer: bytes
    after: Node


@dataclasses.dataclass
class Report:
    """What an exploration went through."""

    world: str
    states: int = 0
    moves: int = 0
    deliveries: int = 0
    """Different messages that were given to different nodes."""
    refused: int = 0
    depth: int = 0
    whole: bool = True
    """Whether no bound cut anything off."""
    reached: set = dataclasses.field(default_factory=set)
    """Name of each side, with each state it came to."""
    broken: str = ""
    """What is wrong in the counterexample; empty if nothing was found."""
    property: str = ""
    steps: list[Step] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


class Exploration:
    """One exploration of a world.

    Args:
        world: The world; see `worlds`.
        depth: How many messages are delivered at most; 0 for the world's own bound.
        most: How many states are visited at most; 0 for the world's own bound.
        only: The name of the one property to look for; empty for all of the world's.
    """

    def __init__(self, world, *, depth=0, most=0, only=""):
        self.world = world
        self._properties = [each for each in world.properties if only in {"", each.name}]
        self.attacker = Attacker(world.abilities)
        self._depth = depth or world.depth
        self._most = most or world.most
        self._names = [party.name for party in world.parties]
        self._linked = {at: self._names.index(party.linked) for at, party in enumerate(world.parties) if party.linked}
        self._nodes: list[Node] = []
        self._known: dict[object, int] = {}
        self._moves: dict[tuple[int, int, bytes], tuple[int, str, str]] = {}
        self.report = Report(world.name)
        self.heard: Callable[[tuple[int, ...]], frozenset[bytes]] = functools.lru_cache(None)(self._heard)
        self._answers = functools.lru_cache(None)(self._all_answers)

    def run(self):
        began = time.process_time()
        first = tuple(self._note(at, first_node(party)) for at, party in enumerate(self.world.parties))
        parents = {first: None}
        depths = {first: 0}
        todo = deque([first])
        while todo and not self.report.broken:
            state = todo.popleft()
            self._visit(state, parents, depths, todo)
        self.report.states = len(parents)
        self.report.deliveries = len(self._moves)
        self.report.refused = sum(number < 0 for number, _, _ in self._moves.values())
        self.report.seconds = time.process_time() - began
        return self.report

    def nodes(self, state):
        return [self._nodes[number] for number in state]

    def _visit(self, state, parents, depths, todo):
        depth = depths[state]
        self.report.depth = max(self.report.depth, depth)
        for at in range(len(state)):
            for number, message, kind, broken in self._next(state, at):
                self.report.moves += 1
                after = (*state[:at], number, *state[at + 1 :])
                if not broken and after in parents:
                    continue
                if depth >= self._depth or len(parents) >= self._most:
                    self.report.whole = False
                    return
                parents[after] = (state, at, message)
                depths[after] = depth + 1
                found = (kind, broken) if broken else self._check_state(after)
                if found[1]:
                    self.report.property, self.report.broken = found
                    self.report.depth = depth + 1
                    self.report.steps = self._way_to(after, parents)
                    return
                todo.append(after)

    def _next(self, state, at):
        """Where one side can go from a state: number of its node, message, and what is broken thereby."""
        node = self._nodes[state[at]]
        if node.ended:
            return ()
        if at not in self._linked:
            return self._answers(at, state[at], self.heard(state))
        said = self._nodes[state[self._linked[at]]].said
        if node.taken >= len(said):
            return ()
        number, kind, broken = self._deliver(at, state[at], said[node.taken])
        return ((number, said[node.taken], kind, broken),) if number >= 0 else ()

    def _all_answers(self, at, number, heard):
        party = self.world.parties[at]
        messages = self.attacker.plain(heard) if party.plain else self.attacker.messages(heard)
        found = {}
        for message in messages:
            after, kind, broken = self._deliver(at, number, message)
            if after >= 0 and after not in found:
                found[after] = (after, message, kind, broken)
        return tuple(found.values())

    def _deliver(self, at, number, message):
        """Give a side a message: the number of the node after it, -1 if it refuses; and what is broken thereby."""
        key = (at, number, message)
        if key not in self._moves:
            party, before = self.world.parties[at], self._nodes[number]
            after = deliver(party, before, message)
            kind, broken = self._check_move(party, before, message, after)
            refused = after.state is State.FAILED and not broken
            self._moves[key] = (-1 if refused else self._note(at, after), kind, broken)
        return self._moves[key]

    def _note(self, at, node):
        key = (at, node.fingerprint())
        if key not in self._known:
            node.number = self._known[key] = len(self._nodes)
            self._nodes.append(node)
            self.report.reached.add((self._names[at], node.state.name))
        return self._known[key]

    def _heard(self, state):
        sides = [self._nodes[number] for at, number in enumerate(state) if at not in self._linked]
        return frozenset(message for node in sides for message in node.said)

    def _check_move(self, party, before, message, after):
        for each in self._properties:
            if each.of_move is not None and (broken := each.of_move(party, before, message, after)):
                return each.name, broken
        return "", ""

    def _check_state(self, state):
        sides = list(zip(self.world.parties, self.nodes(state), strict=True))
        for each in self._properties:
            if each.of_state is not None and (broken := each.of_state(sides, self.attacker.parts(self.heard(state)))):
                return each.name, broken
        return "", ""

    def _way_to(self, state, parents):
        steps = []
        while parents[state] is not None:
            before, at, message = parents[state]
            node, earlier = self._nodes[state[at]], self._nodes[before[at]]
            answer = node.said[-1] if len(node.said) > len(earlier.said) else b""
            steps.append(Step(self._names[at], message, answer, node))
            state = before
        return steps[::-1]

"""The figures of a gateway's node, counted without one."""

from acredssp.proxy.metrics import Metrics
from acredssp.proxy.records import ConnectionRecord
from acredssp.proxy.view import Look, read_figures
from acredssp.stores import Entry


class Node:
    """A node whose figures the test makes."""

    def __init__(self, *, relays=0, handshakes=0):
        self.metrics = Metrics()
        self.metrics._now_open = lambda: (handshakes, relays)

    def handshakes(self, outcome, count, hook=""):
        self.metrics._handshakes(outcome, hook).inc(count)

    def ended(self, **fields):
        record = {"connection_id": "x", "listener": "l", "peer": None, "outcome": "relayed"} | fields
        self.metrics.ended(ConnectionRecord(**record))

    @property
    def text(self):
        self.metrics.flush()
        return self.metrics._text().decode()


def entry(number=1, **fields):
    given = {"node": "gw1", "user": "CONTOSO\\alice", "target": "desktops", "host": "h1:3389", "client": "c1:1"}
    return Entry(**{"id": f"id{number}", "since": float(number)} | given | fields)


def look(at=0.0, connections=None, **nodes):
    return Look(at=at, nodes={name: read_figures(node.text) for name, node in nodes.items()}, connections=connections)

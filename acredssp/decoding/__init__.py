"""Bytes of a conversation as a tree that people read: what `acredssp decode` shows, for programs.

`decode` takes any bytes and never fails: where a structure breaks its format, the tree has a `Fault` with the offset
and the bytes around it. Values of secrets are left out unless they are asked for by name (`Secret`). The number of
nodes, units and bytes is bounded. Nothing here does I/O.
"""

from acredssp.decoding.nodes import MOST_NODES, Fault, Node, Secret, Value
from acredssp.decoding.units import MOST_BYTES, MOST_UNITS, Kind, decode

__all__ = ["MOST_BYTES", "MOST_NODES", "MOST_UNITS", "Fault", "Kind", "Node", "Secret", "Value", "decode"]

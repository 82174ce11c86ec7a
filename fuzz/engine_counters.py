"""The file by which a process that fuzzes tells how far it is."""

import struct
from typing import Final

__all__ = ["COUNTERS"]

COUNTERS: Final = struct.Struct("<QQ")
"""Inputs that ran, and those of them that were accepted."""

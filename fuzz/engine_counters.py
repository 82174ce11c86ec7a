"""The file by which a process that fuzzes tells how far it is."""

import struct
from typing import Final

__all__ = ["COUNTERS"]

COUNTERS: Final = struct.Struct("<QQQ")
"""Inputs that ran, those of them that were accepted, and those that got past the first checks."""

"""How much of a frame is there: the one answer of every framing function of this package."""

from typing import NamedTuple

__all__ = ["FrameSize"]


class FrameSize(NamedTuple):
    """The size of the frame that a buffer begins with.

    `missing` never reaches past the frame: while the header is incomplete it counts the header's own bytes,
    then those of the body. With that many more bytes the next answer says more.
    """

    total: int
    """Bytes of the whole frame, header included; 0 while the header is incomplete."""
    missing: int
    """Bytes to add before more is known; 0 when the frame is whole."""

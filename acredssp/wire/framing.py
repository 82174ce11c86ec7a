"""How much of a frame has arrived: the result of every framing function of this package."""

from typing import NamedTuple

__all__ = ["FrameSize"]


class FrameSize(NamedTuple):
    """The size of the frame that a buffer begins with.

    `missing` never reaches past the frame. It counts the header's bytes while the header is incomplete, and the
    body's bytes after that. Once that many more bytes are there, ask again.
    """

    total: int
    """Bytes of the whole frame, header included; 0 while the header is incomplete."""
    missing: int
    """Bytes to read before asking again; 0 when the frame is whole."""

"""h11 for a server, with a bound on the chunks of a body, each of which costs as much as thousands of bytes.

Who calls: `h11_connection` and `uvicorn`.
"""

from typing import Any, Final

import h11

__all__ = ["TOO_SMALL", "ChunkCount", "ServerParser"]

_FREE: Final = 1_000
"""Chunks that a body may have whatever their size is."""
_LEAST_SIZE: Final = 64
"""Bytes that further chunks must have on average. Even the lines around a sealed part have more than 200."""
TOO_SMALL: Final = "the chunks of the body are too small"


class ChunkCount:
    """Counts the chunks of one body."""

    def __init__(self) -> None:
        self._left = _FREE * _LEAST_SIZE

    def note_chunk(self) -> bool:
        """Count a chunk; return whether the body has too many chunks for its bytes so far."""
        self._left -= _LEAST_SIZE
        return self._left < 0

    def note_bytes(self, size: int) -> None:
        """Count bytes of the body."""
        self._left += size


class ServerParser(h11.Connection):
    """The server's side of one connection.

    Args:
        header_size: Bytes of a head, or of the line in front of a chunk.
    """

    def __init__(self, header_size: int) -> None:
        super().__init__(h11.SERVER, header_size)
        self._chunks = ChunkCount()

    def next_event(self) -> Any:
        """Return h11's next event.

        Raises:
            h11.RemoteProtocolError: The client breaks the rules of HTTP, or sends too many small chunks.
        """
        event = super().next_event()
        if type(event) is h11.Data:
            self._chunks.note_bytes(len(event.data))
            if event.chunk_start and self._chunks.note_chunk():
                raise h11.RemoteProtocolError(TOO_SMALL)
        elif type(event) is h11.Request:
            self._chunks = ChunkCount()
        return event

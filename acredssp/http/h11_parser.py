"""h11 for a server, with two more bounds: on the chunks of a body, and on the requests that a client sends ahead.

Each chunk, and each request, costs the server as much as thousands of bytes do.

What is no HTTP is refused in the same words by every server, and never in those of the parser, which quote the client.

Who calls: `h11_connection` and `uvicorn`.
"""

from typing import Any, Final

import h11

from acredssp.http.limits import MOST_AHEAD
from acredssp.http.replies import NO_CODING, NO_HOST

__all__ = ["NO_HTTP", "TOO_SMALL", "ChunkCount", "ServerParser", "too_large"]

_FREE: Final = 1_000
"""Chunks that a body may have whatever their size is."""
_LEAST_SIZE: Final = 64
"""Bytes that further chunks must have on average. Even the lines around a sealed part have more than 200."""
TOO_SMALL: Final = 400, "expected chunks of at least 64 bytes on average, got smaller chunks"
_NOT_IMPLEMENTED: Final = 501
_TOO_FAR_AHEAD: Final = 429, f"expected at most {MOST_AHEAD} requests ahead of the answers, got more"
NO_HTTP: Final = 400, "expected a request of http/1.1, got something else"


def too_large(header_size: int) -> tuple[int, str]:
    """Return the status and the text of the refusal of header fields that have more than `header_size` bytes."""
    return 431, f"expected header fields of at most {header_size} bytes, got more"


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
        self._header_size = header_size
        self._chunks = ChunkCount()
        self._ahead = 0
        """How many consecutive requests began to come before the server had answered the previous request."""
        self.refusal = NO_HTTP
        """The status and the text of the refusal, after the client has sent bytes that are no HTTP."""

    def next_event(self) -> Any:
        """Return h11's next event.

        Raises:
            h11.RemoteProtocolError: The client breaks the rules of HTTP, sends too many small chunks, or too many
                requests without waiting for answers. `refusal` says what to answer.
        """
        if self._ahead > MOST_AHEAD:
            self.refusal = _TOO_FAR_AHEAD
            raise h11.RemoteProtocolError(_TOO_FAR_AHEAD[1])
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.refusal = self._refusal_of(error)
            raise
        if type(event) is h11.Data:
            self._chunks.note_bytes(len(event.data))
            if event.chunk_start and self._chunks.note_chunk():
                self.refusal = TOO_SMALL
                raise h11.RemoteProtocolError(TOO_SMALL[1])
        elif type(event) is h11.Request:
            self._chunks = ChunkCount()
        return event

    def start_next_cycle(self) -> None:
        """Get ready for the next request. If its first bytes are here already, count it as sent ahead.

        Without a bound on this count, a client that sends thousands of requests and reads no answer would take the
        turns of all other clients.
        """
        super().start_next_cycle()
        self._ahead = self._ahead + 1 if self.trailing_data[0] else 0

    def _refusal_of(self, error: h11.RemoteProtocolError) -> tuple[int, str]:
        if error.error_status_hint == too_large(0)[0]:
            return too_large(self._header_size)
        if error.error_status_hint == _NOT_IMPLEMENTED:
            return _NOT_IMPLEMENTED, NO_CODING
        return (400, NO_HOST) if "Host:" in str(error) else NO_HTTP

"""What a server of HTTP takes of its clients, in bytes, connections and seconds."""

import dataclasses
from typing import Final

from acredssp.http.opening import DEFAULT_LIMIT

__all__ = ["MOST_AHEAD", "HTTPLimits"]

MOST_AHEAD: Final = 16
"""The most consecutive requests that a client may send before it has the answer to the previous request. If a client
sends more, the server ends the connection."""
_MOST_SECONDS: Final = 10_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class HTTPLimits:
    """The limits of a server of HTTP.

    Attributes:
        connections: The most connections at a time. Where they are all taken, a newcomer gets the place of a connection
            that is not logged on, of the source that has the most.
        connections_per_source: The most connections at a time from one address, or from one /64 network of IPv6.
        header_size: Bytes of a request's line and header fields. A token of Kerberos in base64 may have 64 KiB.
            Fields are refused once more bytes than these have come and their end has not, so fields that end within the
            same read of the socket (256 KiB at most) are taken.
        body_size: Bytes of a request's plaintext.
        logon_timeout: Seconds from the accept to the end of the logon. With TLS outside, its handshake may take as many
            under `start_http_server`, and 60 under uvicorn; both are a part of the logon's time. Connections in that
            handshake count for no limit of connections: nothing but a firewall or a proxy in front can bound them.
        idle_timeout: Seconds for the next request's headers to come. For uvicorn they count from the first byte of the
            request, and uvicorn's option `timeout_keep_alive` holds for the time before it.
        body_timeout: Seconds that the server waits for a client within one body, all waits together, and the seconds in
            which a client has to take each piece of an answer.
    """

    connections: int = 1_000
    connections_per_source: int = 100
    header_size: int = 131_072
    body_size: int = DEFAULT_LIMIT
    logon_timeout: float = 30.0
    idle_timeout: float = 120.0
    body_timeout: float = 60.0

    def __post_init__(self) -> None:
        for name in ("connections", "connections_per_source", "header_size", "body_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number above 0, got {value!r}")
        for name in ("logon_timeout", "idle_timeout", "body_timeout"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < _MOST_SECONDS:
                raise ValueError(f"{name}: expected seconds above 0, got {value!r}")

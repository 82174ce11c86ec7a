"""What the client needs of an HTTP library: one TCP connection that never becomes another one.

`httpcore_wire` and `aiohttp` make such connections of the libraries. The client above them is the same for all.
"""

import dataclasses
import enum
import functools
import re
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any, Final, Protocol

__all__ = [
    "CONNECT_TIMEOUT",
    "SMALL",
    "Fault",
    "Field",
    "Origin",
    "Request",
    "Wire",
    "WireResponse",
    "connect_limit",
    "expect_url",
    "limit_of",
    "no_url",
    "system_context",
]

CONNECT_TIMEOUT: Final = 30.0
"""Seconds to connect, where the request sets no limit."""

_HOST: Final = re.compile(r"[0-9A-Fa-f:.]+(?:%.+)?|[^\s%:\[\]<>\"\\^`{|}]+")
"""A host: an IP address, which may have a zone (`fe80::1%eth0`), or a name that some resolver might know."""
_MOST_PORT: Final = 65_535
_PORT: Final = re.compile(r"://(?:[^/\[\]:]+|\[[^]]*\]):([^/:]+)(?:/|$)")
"""Finds the port in a URL, as it was written. A URL without a port does not match."""
SMALL: Final = 65_536
"""Bytes of a body that is sealed and sent as a whole. The libraries send it without a task and generators."""

Field = tuple[bytes, bytes]
"""A header field: its name and its value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection goes to.

    Attributes:
        scheme: `http` or `https`.
        host: The host, as in the URL; an IPv6 address without brackets.
        port: The port.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request, in plain or sealed.

    Attributes:
        method: The method.
        target: The path with the query.
        headers: The header fields, `Host` among them.
        body: The body in pieces, or a small body as a whole; None for no body.
        extensions: What the HTTP library takes beside the request, such as its time limits (`timeout`).
    """

    method: str
    target: bytes
    headers: Sequence[Field] = dataclasses.field(repr=False)
    body: AsyncIterable[bytes] | bytes | None = dataclasses.field(default=None, repr=False)
    extensions: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)


class Fault(enum.Enum):
    """What an error of an HTTP library stands for.

    Attributes:
        TIMEOUT: A time limit has passed.
        NO_HTTP: Something else than HTTP came.
        PROXY: A proxy did not take part.
        ENDED: There is no connection, or it has ended.
    """

    TIMEOUT = enum.auto()
    NO_HTTP = enum.auto()
    PROXY = enum.auto()
    ENDED = enum.auto()


class WireResponse(Protocol):
    """A response whose headers have come."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> Sequence[Field]:
        """The header fields, in order."""

    @property
    def extensions(self) -> Mapping[str, Any]:
        """What the HTTP library says beside the response."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come."""

    async def aclose(self) -> None:
        """End the response. If its body has not been read to the end, this ends the connection."""


class Wire(Protocol):
    """One connection. It is made by `connect()`, once, and never made anew."""

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate in DER; None without TLS."""

    @property
    def connected(self) -> bool:
        """Whether there has been a connection. `connect()` may leave it to the first `send()` to make one."""

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent: the last response has ended, and the server has not closed."""

    async def connect(self, request: Request) -> None:
        """Connect, through the proxy if there is one, and shake hands for TLS.

        Args:
            request: The request that the connection is made for. It is not sent.
        """

    async def send(self, request: Request) -> WireResponse:
        """Send a request, and return the response once its headers have come."""

    def abort(self) -> None:
        """End the connection at once."""

    def fault_of(self, error: Exception) -> tuple[Fault, str] | None:
        """Return the fault that an error of the library stands for; None if it is no fault of the connection.

        The text beside the fault says what went wrong at a proxy; it is empty for other faults. An error that the
        caller makes, or raises in a body, is no fault of the connection.
        """

    def told(self, error: Exception, text: str) -> Exception:
        """Return the library's error of the same class with our text."""


def expect_url(url: str, origin: Origin, note: str = "") -> None:
    """Check that a URL is one of HTTP.

    Args:
        url: The URL as it was given. The error shows it without a user and without a query, which may be secrets.
        origin: What the HTTP library makes of it.
        note: What the error says about the URL behind it.

    Raises:
        ValueError: It has another scheme, or none, or no host, or its host or port is impossible.
    """
    if origin.scheme not in {"http", "https"} or not _is_reachable(origin):
        raise no_url(url, note)


def no_url(url: str, note: str = "") -> ValueError:
    """Return the error for a URL that is none of HTTP, with a note about the URL behind it."""
    shown = _shown(url)
    if port := _PORT.search(shown):
        return ValueError(f"url: expected a port from 1 to {_MOST_PORT}, got {port[1]!a} in {shown!a}")
    example = "https://web.contoso.example:5986/wsman"
    return ValueError(f"url: expected http:// or https:// and a host, such as {example}, got {shown!a}{note}")


def _is_reachable(origin: Origin) -> bool:
    return bool(_HOST.fullmatch(origin.host)) and 0 < origin.port <= _MOST_PORT


def _shown(url: str) -> str:
    before, at, behind = url.partition("?")[0].partition("#")[0].rpartition("@")
    scheme, separator, _ = before.partition("://")
    return f"{scheme + separator if separator else ''}{behind}"[:100] if at else behind[:100]


def connect_limit(request: Request) -> float:
    """Return the seconds that a request gives to connecting, or the usual ones where it sets no limit."""
    seconds = limit_of(request, "connect")
    return CONNECT_TIMEOUT if seconds is None else seconds


def limit_of(request: Request, doing: str) -> float | None:
    """Return the seconds that a request gives to an activity, such as `read`; None for no limit."""
    seconds = request.extensions.get("timeout", {}).get(doing)
    return None if seconds is None else float(seconds)


@functools.cache
def system_context() -> ssl.SSLContext:
    """Return the TLS context for https that trusts the operating system's authorities, made once in a process.

    It is made when it is first needed: to read the authorities takes some 50 milliseconds.
    """
    return ssl.create_default_context()

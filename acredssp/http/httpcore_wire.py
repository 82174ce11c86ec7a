"""One connection of httpcore or httpcore2, whose classes have the same names: HTTP/1.1 by them, the bytes by asyncio.

The connection is made here, and not by httpcore, for three reasons. The certificate of HTTPS has to be known before the
first request. A proxy has to be passed by CONNECT for plain HTTP too: httpcore would let such a proxy share its
connections. And a connection can be ended at once, whatever cancels the request on it.
"""

import asyncio
import base64
import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Final, cast

from acredssp.aio import reason_of, write_if_open
from acredssp.http.wire import Fault, Field, Origin, Request, WireResponse, connect_limit, system_context

__all__ = ["HTTPCoreWire", "Proxy"]

_UNREAD: Final = 256 * 1024
"""Bytes that may have come without having been read, until no more are taken from the network."""
_MOST_OF_A_HEAD: Final = 131_072
"""Bytes to read until the header of an answer is whole. httpcore bounds the header alone, not answers 1xx."""
_OF_PROXY: Final = "the proxy "
"""How the text of an error begins that is about a proxy."""
_HTTP: Final = b"HTTP/"
_NO_LOGON: Final = 0
_USER_AND_PASSWORD: Final = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, which is passed by CONNECT or by SOCKS5.

    Attributes:
        origin: Where it is. The scheme is `http`, `https`, or `socks5`.
        user: The user for its own logon; None for none.
        password: The password for its own logon.
        ssl_context: The TLS context for an `https` proxy; None for the operating system's authorities.
    """

    origin: Origin
    user: str | None = None
    password: str = dataclasses.field(default="", repr=False)
    ssl_context: ssl.SSLContext | None = None


class HTTPCoreWire:
    """One connection to an origin.

    Args:
        lib: The module `httpcore` or `httpcore2`.
        origin: Where to.
        ssl_context: The TLS context for an `https` origin; None for the operating system's authorities.
        proxy: The proxy in between; None for none.
    """

    def __init__(
        self, lib: ModuleType, origin: Origin, ssl_context: ssl.SSLContext | None, proxy: Proxy | None
    ) -> None:
        self._lib, self._origin, self._ssl_context, self._proxy = lib, origin, ssl_context, proxy
        self._stream: _Stream | None = None
        self._http: Any = None

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate in DER; None without TLS."""
        tls = self._stream.get_extra_info("ssl_object") if self._stream is not None else None
        return tls.getpeercert(binary_form=True) if tls is not None and self._origin.scheme == "https" else None

    @property
    def connected(self) -> bool:
        """Whether there has been a connection, with its TLS and through the proxy."""
        return self._http is not None

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent: the last response has ended, and the server has not closed."""
        return self._stream is not None and self._stream.is_quiet and self._http.is_idle()

    async def connect(self, request: Request) -> None:
        """Connect, through the proxy if there is one, and shake hands for TLS."""
        with _errors_of(self._lib, "Connect"):
            async with asyncio.timeout(connect_limit(request)):
                await self._connect(request.extensions)

    async def _connect(self, extensions: Mapping[str, Any]) -> None:
        stream = self._stream = await self._connect_to_nearest()
        try:
            if self._proxy is not None:
                await self._pass(self._proxy, stream)
            if self._origin.scheme == "https":
                context = self._ssl_context or system_context()
                await stream.start_tls(context, extensions.get("sni_hostname") or self._origin.host)
                self._check_version(stream)
        except BaseException:
            stream.abort()
            raise
        self._http = self._lib.AsyncHTTP11Connection(self._core_origin(self._origin), stream)

    async def _connect_to_nearest(self) -> "_Stream":
        """Connect to the proxy, or without one to the server. An error says that the proxy did not take part."""
        if self._proxy is None:
            return await _Stream.connect(self._lib, self._origin.host, self._origin.port)
        proxy = self._proxy.origin
        try:
            return await _Stream.connect(self._lib, proxy.host, proxy.port)
        except OSError as error:
            raise self._lib.ConnectError(f"{_OF_PROXY}{proxy} cannot be reached: {reason_of(error)}") from error

    async def send(self, request: Request) -> WireResponse:
        """Send a request, and return the response once its headers have come."""
        sent = self._lib.Request(
            request.method,
            self._url(self._origin, request.target),
            headers=list(request.headers),
            content=request.body,
            extensions=dict(request.extensions),
        )
        assert self._stream is not None
        self._stream.head_left, self._stream.beginning = _MOST_OF_A_HEAD, b""
        response = await self._http.handle_async_request(sent)
        self._stream.head_left = None
        return _Response(response)

    def abort(self) -> None:
        """End the connection at once."""
        if self._stream is not None:
            self._stream.abort()

    def fault_of(self, error: Exception) -> tuple[Fault, str] | None:
        """Return the fault that an error of httpcore stands for; None if it is no fault of the connection."""
        lib = self._lib
        if isinstance(error, lib.ProxyError | lib.ConnectError) and str(error).startswith(_OF_PROXY):
            return Fault.PROXY, str(error)
        if isinstance(error, lib.TimeoutException):
            return Fault.TIMEOUT, ""
        if isinstance(error, lib.RemoteProtocolError) and (error.__cause__ is not None or self._got_no_http):
            return Fault.NO_HTTP, ""  # h11's error is the cause; httpcore has one of its own for the end
        if isinstance(error, lib.NetworkError | lib.ProtocolError | lib.ProxyError):
            return Fault.ENDED, ""
        return None

    def told(self, error: Exception, text: str) -> Exception:
        """Return the error of httpcore of the same class with another text."""
        return type(error)(text)

    @property
    def _got_no_http(self) -> bool:
        return self._stream is not None and self._stream.got_no_http

    def _check_version(self, stream: "_Stream") -> None:
        if stream.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            raise self._lib.ConnectError("expected HTTP/1.1, got HTTP/2, whose requests share a connection")

    # --- proxies ---

    async def _pass(self, proxy: Proxy, stream: "_Stream") -> None:
        if proxy.origin.scheme == "socks5":
            await self._pass_socks(proxy, stream)
            return
        if proxy.origin.scheme == "https":
            await stream.start_tls(proxy.ssl_context or system_context(), proxy.origin.host)
        target = str(self._origin).partition("//")[2].encode()
        headers = [(b"Host", target)]
        if proxy.user is not None:
            basic = base64.b64encode(f"{proxy.user}:{proxy.password}".encode())
            headers.append((b"Proxy-Authorization", b"Basic " + basic))
        asked = self._lib.Request("CONNECT", self._url(proxy.origin, target), headers=headers)
        answer = await self._lib.AsyncHTTP11Connection(self._core_origin(proxy.origin), stream).handle_async_request(
            asked
        )
        if not 200 <= answer.status < 300:
            raise self._lib.ProxyError(f"{_OF_PROXY}{proxy.origin} answered CONNECT with status {answer.status}")

    async def _pass_socks(self, proxy: Proxy, stream: "_Stream") -> None:
        """Ask for a connection by SOCKS5 (RFC 1928), with a user and a password if there are any (RFC 1929)."""
        method = _NO_LOGON if proxy.user is None else _USER_AND_PASSWORD
        await stream.write(bytes([5, 1, method]))
        version, taken = await stream.read_exactly(2)
        if version != 5:
            told = "does not answer by SOCKS5: check the scheme and the port in its URL"
            raise self._lib.ProxyError(f"{_OF_PROXY}{proxy.origin} {told}")
        if taken != method:
            raise self._lib.ProxyError(f"{_OF_PROXY}{proxy.origin} takes no logon to it of the kind that was offered")
        if proxy.user is not None:
            await stream.write(b"\x01" + _sized(proxy.user) + _sized(proxy.password))
            if (await stream.read_exactly(2))[1]:
                raise self._lib.ProxyError(f"{_OF_PROXY}{proxy.origin} refused the user or the password")
        await stream.write(b"\x05\x01\x00\x03" + _sized(self._origin.host) + self._origin.port.to_bytes(2))
        _, code, _, kind = await stream.read_exactly(4)
        if code:
            raise self._lib.ProxyError(f"{_OF_PROXY}{proxy.origin} cannot connect to {self._origin}: reply {code}")
        address = {1: 4, 4: 16}.get(kind) or (await stream.read_exactly(1))[0]
        await stream.read_exactly(address + 2)

    # --- the library's types ---

    def _core_origin(self, origin: Origin) -> Any:
        return self._lib.Origin(origin.scheme.encode(), origin.host.encode(), origin.port)

    def _url(self, origin: Origin, target: bytes) -> Any:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        return self._lib.URL(scheme=origin.scheme.encode(), host=host.encode(), port=origin.port, target=target)


class _Response:
    """A response of the library, whose body can be closed."""

    def __init__(self, response: Any) -> None:
        self.status: int = response.status
        self.headers: Sequence[Field] = response.headers
        self.extensions: Mapping[str, Any] = response.extensions
        self._stream = response.stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        stream: AsyncIterator[bytes] = self._stream.__aiter__()
        return stream

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Stream(asyncio.Protocol):
    """The bytes of one connection, as httpcore takes them: its `AsyncNetworkStream`. It is read or written at a time.

    asyncio's own streams do not tell whether something has come that nobody has read.
    """

    def __init__(self, lib: ModuleType) -> None:
        self._lib = lib
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._ended, self._error = False, ""
        self._writable = True
        self._waiter: asyncio.Future[None] | None = None
        self.head_left: int | None = None
        """Bytes that may still be read until the header of an answer is whole; None while no header is awaited."""
        self.beginning = b""
        """The first bytes of the answer. h11 waits for a whole header before it looks at them."""
        self.got_no_http = False
        """Whether an answer is none of HTTP, or one whose header does not end."""

    @classmethod
    async def connect(cls, lib: ModuleType, host: str, port: int) -> "_Stream":
        _, stream = await asyncio.get_running_loop().create_connection(lambda: cls(lib), host, port)
        return stream

    # --- for us ---

    @property
    def is_quiet(self) -> bool:
        """Whether the connection is open, and nothing has come that nobody asked for."""
        return not self._received and not self._ended and not self._open.is_closing()

    async def read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (piece := await self.read(size - len(data))):
                raise self._lib.ReadError("the connection ended")
            data += piece
        return data

    async def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str) -> None:
        loop = asyncio.get_running_loop()
        if self._open.is_closing():  # uvloop raises a RuntimeError
            raise ConnectionResetError("the connection ended before the handshake of tls")
        transport = await loop.start_tls(self._open, self, ssl_context, server_hostname=server_hostname)
        if transport is None:
            raise ConnectionResetError("the connection ended behind the handshake of tls")
        self._transport = transport

    def abort(self) -> None:
        self._open.abort()

    @property
    def _open(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    # --- httpcore's methods ---

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's shape
        if self.head_left is not None and self.head_left <= 0:
            self.got_no_http = True
            raise self._lib.RemoteProtocolError(f"expected the header of an answer within {_MOST_OF_A_HEAD} bytes")
        if not self._received and not self._ended:
            with _errors_of(self._lib, "Read"):
                async with asyncio.timeout(timeout):
                    while not self._received and not self._ended:
                        await self._change()
        if self._error and not self._received:
            raise self._lib.ReadError(self._error)
        data = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        if self.head_left is not None:
            self._note_head(data)
        if len(self._received) < _UNREAD and not self._ended and not self._open.is_closing():
            self._open.resume_reading()
        return data

    def _note_head(self, data: bytes) -> None:
        assert self.head_left is not None
        self.head_left -= len(data)
        self.beginning = (self.beginning + data)[: len(_HTTP)]
        if not _HTTP.startswith(self.beginning):
            self.got_no_http = True
            raise self._lib.RemoteProtocolError("expected an answer of http, got something else")

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's shape
        write_if_open(self._open, buffer)
        if not self._writable:
            with _errors_of(self._lib, "Write"):
                async with asyncio.timeout(timeout):
                    while not self._writable and not self._ended:
                        await self._change()
        if self._ended or self._open.is_closing():
            raise self._lib.WriteError(self._error or "the connection ended")

    async def aclose(self) -> None:
        self.abort()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return not self.is_quiet
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._open.get_extra_info(names.get(info, info))

    # --- asyncio's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= _UNREAD:
            self._open.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = self._error or (f"{type(exc).__name__}: {exc}" if exc is not None else "")
        self._wake()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    async def _change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@contextlib.contextmanager
def _errors_of(lib: ModuleType, doing: str) -> Iterator[None]:
    """Turn the errors of sockets and time limits into the library's: `ReadError`, `ReadTimeout` and so on."""
    try:
        yield
    except TimeoutError as error:
        raise getattr(lib, f"{doing}Timeout")("the time limit has passed") from error
    except (OSError, ssl.SSLError) as error:
        raise getattr(lib, f"{doing}Error")(str(error)) from error


def _sized(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(1) + data

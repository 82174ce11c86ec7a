"""CredSSP for aiohttp: a session whose connections are logged on, each by itself and for one identity.

    async with CredSSPSession(config) as session:
        async with session.post("https://server.contoso.example:5986/wsman", data=envelope) as answer:
            print(answer.status, await answer.read())

Each connection has a `ClientSession` of its own with a connector that makes one connection, once. A middleware on a
shared connector cannot do this, since the next leg of a logon may then go over another connection.
"""

import asyncio
import contextlib
import json as json_module
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, Unpack

from acredssp.config import ClientConfig
from acredssp.http.client import Client, ClientOptions
from acredssp.http.connection import Response
from acredssp.http.headers import one_value
from acredssp.http.wire import SMALL, Field, Origin, Request, WireResponse, system_context

try:
    import aiohttp
    import multidict
    import yarl
except ImportError as error:
    raise ImportError("acredssp.http.aiohttp needs aiohttp: pip install 'acredssp[http]'") from error

__all__ = ["CredSSPResponse", "CredSSPSession"]

_CONNECT_TIMEOUT: Final = 30.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=300, sock_connect=_CONNECT_TIMEOUT)
_GENERATED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Header fields that aiohttp would add."""
_PIECE: Final = 65_536
_FIELD_SIZE: Final = 131_072
"""Bytes of a header field: a token has all certificates of the server, and aiohttp's own 8,190 are too few for some."""
_EMPTY: Final = [(b"Content-Length", b"0")]


class CredSSPSession:
    """Logs on by CredSSP, and seals what is sent.

    aiohttp's own errors say what the network did, and `CredSSPError` says why a logon failed.

    Args:
        config: Who logs on, and how. Its delegation policy has to allow the service principal name.
        ssl_context: The TLS context for https; None for the operating system's authorities, which are read with the
            first connection of https.
        proxy: The URL of a proxy, for https alone: aiohttp lets a proxy share the connections of plain HTTP. The
            transports for httpx also pass a proxy for plain HTTP, and SOCKS5.
        **options: See `ClientOptions`.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._ssl_context, self._proxy = ssl_context, proxy
        self._client = Client(self._new_wire, config, options)
        self._ended: list[_Wire] = []
        """Connections that have ended, whose sessions are still to be closed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        self._client.close()
        await self._clear()

    @contextlib.asynccontextmanager
    async def request(  # noqa: PLR0913 - all but two are named
        self,
        method: str,
        url: str | yarl.URL,
        *,
        data: bytes | str | AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = _TIMEOUT,  # noqa: ASYNC109 - aiohttp's shape
        config: ClientConfig | None = None,
    ) -> AsyncIterator["CredSSPResponse"]:
        """Send a request; the response ends with the block.

        Args:
            method: The method.
            url: Where to.
            data: The body, as a whole or in pieces.
            headers: Header fields.
            timeout: The time limits: `total` for the whole block, `connect` to wait for a connection of the pool,
                `sock_connect` and `sock_read`.
            config: Who sends the request; None for the session's configuration.

        Raises:
            TypeError: `data` or `config` is of another kind; nothing was sent.
            TimeoutError: The block took longer than `total`.
            aiohttp.ClientError: The connection failed. The request may have been sent, and is not sent again.
            CredSSPError: The logon failed, or the server's answer breaks the rules.
        """
        await self._clear()
        where = yarl.URL(url)
        origin = Origin(where.scheme, where.host or "", where.port or 0)
        plain = _request(method, where, data, headers or {}, timeout)
        limit = asyncio.timeout(timeout.total)
        try:
            async with limit:
                response = await self._client.send(origin, plain, config)
                try:
                    yield CredSSPResponse(response)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            if limit.expired() and not str(error):
                raise TimeoutError(
                    f"{method} to {origin} took longer than {timeout.total:g} seconds (total)"
                ) from error
            raise

    def post(self, url: str | yarl.URL, **options: Any) -> contextlib.AbstractAsyncContextManager["CredSSPResponse"]:
        """Send a POST request; `request()` has the options."""
        return self.request("POST", url, **options)

    def _new_wire(self, origin: Origin) -> "_Wire":
        if self._proxy is not None and origin.scheme != "https":
            raise ValueError(
                "proxy: expected https behind a proxy, got http, whose connections aiohttp's proxies share"
            )
        context = None if origin.scheme == "http" else self._ssl_context or system_context()
        return _Wire(origin, context, self._proxy, self._ended)

    async def _clear(self) -> None:
        while self._ended:
            await self._ended.pop().close()


class CredSSPResponse:
    """A response. Iterate over it to get its body in pieces as they come.

    Args:
        response: The response of the client below.

    Attributes:
        status: The status code. Neither it nor the header fields are sealed: only HTTPS protects them.
        headers: The header fields; those of the body are the plaintext's.
        sealed: Whether the body came sealed. The body of an error may come in plain.
    """

    def __init__(self, response: Response) -> None:
        self.status = response.status
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
        self.headers: Mapping[str, str] = multidict.CIMultiDictProxy(multidict.CIMultiDict(fields))
        self.sealed = response.sealed
        self._response = response
        self._body: bytes | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.__aiter__()

    async def read(self) -> bytes:
        """Return the whole body."""
        if self._body is None:
            self._body = b"".join([piece async for piece in self])
        return self._body

    async def text(self, encoding: str = "utf-8") -> str:
        """Return the whole body as text."""
        return (await self.read()).decode(encoding)

    async def json(self) -> Any:
        """Return the value that the whole body is in JSON."""
        return json_module.loads(await self.read())


def _request(
    method: str,
    url: yarl.URL,
    data: bytes | str | AsyncIterable[bytes] | None,
    headers: Mapping[str, str],
    timeout: aiohttp.ClientTimeout,
) -> Request:
    if not (data is None or isinstance(data, str | bytes | AsyncIterable)):
        raise TypeError(f"data: expected bytes, str or an async iterable of bytes, got {type(data).__name__}")
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    if not one_value(fields, "Host"):
        fields.insert(0, (b"Host", url.host_port_subcomponent.encode() if url.host_port_subcomponent else b""))
    if isinstance(data, str | bytes):
        whole = data.encode() if isinstance(data, str) else data
        fields = [field for field in fields if field[0].lower() != b"content-length"]
        fields.append((b"Content-Length", str(len(whole)).encode()))
        data = (whole or None) if len(whole) <= SMALL else _once(whole)
    limits = {"pool": timeout.connect, "connect": timeout.sock_connect, "read": timeout.sock_read}
    return Request(method, url.raw_path_qs.encode(), fields, data, {"timeout": limits})


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


class _OneConnection(aiohttp.TCPConnector):
    """A connector that makes one connection, once."""

    transport: asyncio.Transport | None = None

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        known = self.transport
        if known is not None and known.is_closing():
            raise aiohttp.ServerDisconnectedError("the connection that was logged on has ended")
        connection = await super().connect(*args, **kwargs)
        if known is None:
            self.transport = connection.transport
        elif connection.transport is not known:
            connection.close()
            raise aiohttp.ServerDisconnectedError("the connection that was logged on has ended")
        return connection


class _Wire:
    """One connection of aiohttp.

    Args:
        origin: Where to.
        ssl_context: The TLS context; None for plain HTTP.
        proxy: The URL of a proxy; None for none.
        ended: Gets this wire once it has ended, for `close()` to be called.
    """

    def __init__(
        self, origin: Origin, ssl_context: ssl.SSLContext | None, proxy: str | None, ended: "list[_Wire]"
    ) -> None:
        self._origin, self._ssl_context, self._proxy, self._list = origin, ssl_context, proxy, ended
        self._connector: _OneConnection | None = None
        self._session: aiohttp.ClientSession | None = None
        self._reading = False

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate in DER; None without TLS."""
        transport = self._connector.transport if self._connector is not None else None
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        return tls.getpeercert(binary_form=True) if tls is not None else None

    @property
    def connected(self) -> bool:
        """Whether there has been a connection."""
        return self._connector is not None and self._connector.transport is not None

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent."""
        transport = self._connector.transport if self._connector is not None else None
        return transport is not None and not transport.is_closing() and not self._reading

    async def connect(self, request: Request) -> None:
        """Make the connector. For https, whose certificate the logon needs, a request without a body connects."""
        self._connector = _OneConnection(limit=1, ssl=self._ssl_context or True, keepalive_timeout=3600)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_GENERATED,
            max_field_size=_FIELD_SIZE,
        )
        if self._origin.scheme == "https":
            host = [field for field in request.headers if field[0].lower() == b"host"]
            first = Request(request.method, request.target, [*host, *_EMPTY], None, request.extensions)
            try:
                async with asyncio.timeout(request.extensions["timeout"]["connect"] or _CONNECT_TIMEOUT):
                    async for _ in await self.send(first):
                        pass
            except TimeoutError as error:
                raise aiohttp.ServerTimeoutError(f"{self._origin} did not answer in time") from error

    async def send(self, request: Request) -> WireResponse:
        """Send a request, and return the response once its headers have come."""
        assert self._session is not None
        assert not self._reading
        limits = request.extensions["timeout"]
        self._reading = True
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        response = await self._session.request(
            request.method,
            yarl.URL(str(self._origin) + request.target.decode(), encoded=True),
            data=request.body,
            headers=multidict.CIMultiDict(each for each in headers if each[0].lower() != "transfer-encoding"),
            allow_redirects=False,
            proxy=self._proxy,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits["connect"], sock_read=limits["read"]),
        )
        return _Answer(self, response)

    def note_end(self) -> None:
        """Note that a response has come to its end."""
        self._reading = False

    def abort(self) -> None:
        """End the connection at once."""
        if self._connector is not None and self._connector.transport is not None:
            self._connector.transport.abort()
        if self._session is not None and self not in self._list:
            self._list.append(self)

    async def close(self) -> None:
        """Close what belongs to the connection."""
        assert self._session is not None
        await self._session.close()


class _Answer:
    """A response of aiohttp."""

    def __init__(self, wire: _Wire, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Sequence[Field] = response.raw_headers
        self.extensions: Mapping[str, Any] = {}
        self._wire, self._response = wire, response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.content.iter_chunked(_PIECE):
            yield piece
        self._wire.note_end()

    async def aclose(self) -> None:
        self._response.close() if not self._response.content.at_eof() else self._response.release()

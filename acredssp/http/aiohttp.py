"""CredSSP for aiohttp: a session whose connections are logged on, each by itself and for one identity.

    async with CredSSPSession(config) as session:
        async with session.post("https://server.contoso.example:5986/wsman", data=envelope) as answer:
            print(answer.status, await answer.read())

Each connection has a `ClientSession` of its own with a connector that makes one connection, once. A middleware on a
shared connector cannot do this, since the next leg of a logon may then go over another connection.
"""

import asyncio
import contextlib
import email.message
import inspect
import json as json_module
import ssl
import urllib.parse
import warnings
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeAlias, TypedDict, TypeVar, Unpack

from acredssp.aio import reason_of
from acredssp.config import ClientConfig
from acredssp.errors import LocalProtocolError
from acredssp.http import failures
from acredssp.http.block import Block
from acredssp.http.client import Client, ClientOptions
from acredssp.http.connection import Response
from acredssp.http.headers import one_value
from acredssp.http.wire import (
    CONNECT_TIMEOUT,
    SMALL,
    Fault,
    Field,
    Origin,
    Request,
    WireResponse,
    connect_limit,
    expect_url,
    limit_of,
    no_url,
    system_context,
)

try:
    import aiohttp
    import multidict
    import yarl
    from aiohttp.http import HttpProcessingError
except ImportError as error:
    raise ImportError("acredssp.http.aiohttp needs aiohttp: pip install 'acredssp[http]'") from error

__all__ = ["CredSSPResponse", "CredSSPSession", "Data", "RequestOptions"]

_TIMEOUT: Final = aiohttp.ClientTimeout(total=300, sock_connect=CONNECT_TIMEOUT)
_GENERATED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Header fields that aiohttp would add."""
_PIECE: Final = 65_536
_FIELD_SIZE: Final = 131_072
"""Bytes of a header field: a token has all certificates of the server, and aiohttp's own 8,190 are too few for some."""
_MOST_PROVISIONAL: Final = 1_000
"""Answers 1xx to one request. aiohttp takes any number of them, and lets nothing else run while it does."""
_EMPTY: Final = [(b"Content-Length", b"0")]
_FIRST_ERROR: Final = 400

Data: TypeAlias = bytes | bytearray | memoryview | str | Mapping[str, Any] | AsyncIterable[bytes] | None
"""What a body may be given as."""
_Sent: TypeAlias = contextlib.AbstractAsyncContextManager["CredSSPResponse"]
_Method = TypeVar("_Method", bound=Callable[..., object])


class RequestOptions(TypedDict, total=False):
    """What a request may have beside its method and its URL, as with `aiohttp.ClientSession`.

    Attributes:
        params: The query, behind that of the URL.
        data: The body, as a whole or in pieces; the fields of a form, if it is a mapping.
        json: The body as a value that is sent in JSON.
        headers: Header fields, in place of those of the session that have the same names.
        timeout: The time limits, in place of the session's: `total` for the whole block, `connect` to wait for a
            connection of the pool, `sock_connect` and `sock_read`.
        raise_for_status: Whether a status of 400 or above is an `aiohttp.ClientResponseError`.
        config: Who sends the request; None for the session's configuration.
    """

    params: Mapping[str, Any] | Sequence[tuple[str, Any]] | str | None
    data: Data
    json: Any
    headers: Mapping[str, str] | None
    timeout: aiohttp.ClientTimeout | None
    raise_for_status: bool
    config: ClientConfig | None


def _with_options(method: _Method) -> _Method:
    """Put the options of a request into the docstring of a method, which `help()` shows."""
    if method.__doc__ and RequestOptions.__doc__:  # there are none under python -OO
        options = inspect.cleandoc(RequestOptions.__doc__).partition("Attributes:\n")[2].rstrip()
        method.__doc__ = f"{inspect.cleandoc(method.__doc__)}\n\nKeyword Args:\n{options}\n"
    return method


class CredSSPSession:
    """Logs on by CredSSP, and seals what is sent. Its methods are those of `aiohttp.ClientSession`.

    Redirects are not followed: the answer has the status and the field `Location`. A request without a body cannot be
    sealed, so it takes `dangerous_allow_unsealed`, whatever its method is.

    aiohttp's own errors say what the network did, and `CredSSPError` says why a logon failed.

    Args:
        config: Who logs on, and how. Its delegation policy has to allow the service principal name.
        ssl_context: The TLS context for https; None for the operating system's authorities, which are read with the
            first connection of https.
        proxy: The URL of a proxy, for https alone: aiohttp lets a proxy share the connections of plain HTTP. The
            transports for httpx also pass a proxy for plain HTTP, and SOCKS5.
        headers: Header fields of every request.
        timeout: The time limits of requests that have none of their own; `total` is 300 seconds unless given.
        **options: See `ClientOptions`.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = _TIMEOUT,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._headers, self._timeout = multidict.CIMultiDict(headers or {}), timeout
        self._ended: list[_Wire] = []
        """Connections that have ended, whose sessions are still to be closed."""
        self._made = _Made(ssl_context, proxy, self._ended)
        self._client = Client(self._made.new_wire, config, options)

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

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._client.closed

    def __repr__(self) -> str:
        return f"<CredSSPSession {self._client}>"

    def __del__(self, warn: Callable[..., object] = warnings.warn) -> None:
        if hasattr(self, "_client") and self._made.wires and not self.closed:
            text = f"unclosed {self!r}: use it as `async with CredSSPSession(...) as session:`, or await its close()"
            warn(text, ResourceWarning, stacklevel=2, source=self)
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                self._client.close()
            self._made.forget()

    def __enter__(self) -> NoReturn:
        raise TypeError("expected `async with CredSSPSession(...) as session:`, got `with`")

    def __exit__(self, *_: object) -> None:
        """Beside `__enter__`, without which Python would not call that."""

    @_with_options
    def request(self, method: str, url: str | yarl.URL, **options: Unpack[RequestOptions]) -> _Sent:
        """Send a request with `async with`. The block gets a `CredSSPResponse`, which is closed when the block ends.

        Args:
            method: The method.
            url: Where to: http:// or https://, a host and a path.
            **options: See below.

        Raises:
            TypeError: An option is unknown or of another kind; nothing was sent.
            ValueError: The URL is none of HTTP, or both `data` and `json` are given; nothing was sent.
            TimeoutError: The block took longer than `total`.
            aiohttp.ClientError: The connection failed. The request may have been sent, and is not sent again.
            CredSSPError: The logon failed, or the server's answer breaks the rules.
        """
        example = f"async with session.{method.lower()}(...) as answer:"
        return Block(self._request(method, url, options), example, "nothing was sent")

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, url: str | yarl.URL, options: RequestOptions
    ) -> AsyncIterator["CredSSPResponse"]:
        if unknown := sorted(options.keys() - RequestOptions.__optional_keys__):
            raise TypeError(f"expected options among those of RequestOptions, got {', '.join(unknown)}")
        await self._clear()
        timeout = options.get("timeout") or self._timeout
        where, origin = _target(url)
        where = _with_params(where, options.get("params"))
        plain = _request(method, where, _body_of(options), self._headers_of(options), timeout)
        limit = asyncio.timeout(timeout.total)
        try:
            async with limit:
                raw = await self._client.send(origin, plain, options.get("config"))
                try:
                    response = CredSSPResponse(raw, method=method, url=where)
                    if options.get("raise_for_status"):
                        response.raise_for_status()
                    yield response
                finally:
                    await raw.aclose()
        except TimeoutError as error:
            if limit.expired() and not str(error):
                assert timeout.total is not None
                notes = getattr(error.__cause__, "__notes__", ())
                raise TimeoutError(str(failures.of_total(origin, method, timeout.total, notes))) from error
            raise

    @_with_options
    def get(self, url: str | yarl.URL, **options: Unpack[RequestOptions]) -> _Sent:
        """Send a GET request, by `async with`; `request()` has the errors."""
        return self.request("GET", url, **options)

    @_with_options
    def head(self, url: str | yarl.URL, **options: Unpack[RequestOptions]) -> _Sent:
        """Send a HEAD request, by `async with`; `request()` has the errors."""
        return self.request("HEAD", url, **options)

    @_with_options
    def options(self, url: str | yarl.URL, **options: Unpack[RequestOptions]) -> _Sent:
        """Send an OPTIONS request, by `async with`; `request()` has the errors."""
        return self.request("OPTIONS", url, **options)

    @_with_options
    def post(self, url: str | yarl.URL, **options: Unpack[RequestOptions]) -> _Sent:
        """Send a POST request, by `async with`; `request()` has the errors."""
        return self.request("POST", url, **options)

    @_with_options
    def put(self, url: str | yarl.URL, **options: Unpack[RequestOptions]) -> _Sent:
        """Send a PUT request, by `async with`; `request()` has the errors."""
        return self.request("PUT", url, **options)

    @_with_options
    def patch(self, url: str | yarl.URL, **options: Unpack[RequestOptions]) -> _Sent:
        """Send a PATCH request, by `async with`; `request()` has the errors."""
        return self.request("PATCH", url, **options)

    @_with_options
    def delete(self, url: str | yarl.URL, **options: Unpack[RequestOptions]) -> _Sent:
        """Send a DELETE request, by `async with`; `request()` has the errors."""
        return self.request("DELETE", url, **options)

    def _headers_of(self, options: RequestOptions) -> "multidict.CIMultiDict[str]":
        """Return the header fields of a request, with the session's and with the type of its body."""
        headers = self._headers.copy()
        headers.update(options.get("headers") or {})
        if options.get("json") is not None:
            headers.setdefault("Content-Type", "application/json")
        elif isinstance(options.get("data"), Mapping):
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return headers

    async def _clear(self) -> None:
        while self._ended:
            await self._ended.pop().close()


class CredSSPResponse:
    """A response. Iterate over it to get its body in pieces as they come.

    Args:
        response: The response of the client below.
        method: The method of the request.
        url: The URL of the request.

    Attributes:
        method: The method of the request.
        url: The URL of the request.
        status: The status code. Neither it nor the header fields are sealed: only HTTPS protects them.
        reason: The phrase beside the status; empty where the server sent none.
        headers: The header fields; those of the body are the plaintext's.
        sealed: Whether the body came sealed. The body of an error may come in plain.
    """

    def __init__(self, response: Response, *, method: str, url: yarl.URL) -> None:
        self.method, self.url = method, url
        self.status = response.status
        self.reason: str = response.extensions["reason"]
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
        self.headers: Mapping[str, str] = multidict.CIMultiDictProxy(multidict.CIMultiDict(fields))
        self.sealed = response.sealed
        self._response = response
        self._body: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < _FIRST_ERROR

    @property
    def content_type(self) -> str:
        """The media type without its parameters; `application/octet-stream` where the server sent none."""
        return self._content_type().get_content_type()

    @property
    def charset(self) -> str | None:
        """The encoding that the media type names; None for none."""
        return self._content_type().get_content_charset()

    def raise_for_status(self) -> None:
        """Raise an error if the status is 400 or above.

        Raises:
            aiohttp.ClientResponseError: The status is 400 or above.
        """
        if not self.ok:
            headers = multidict.CIMultiDictProxy(multidict.CIMultiDict[str]())
            request = aiohttp.RequestInfo(self.url, self.method, headers, self.url)
            fields = multidict.CIMultiDict(self.headers)
            raise aiohttp.ClientResponseError(request, (), status=self.status, message=self.reason, headers=fields)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.__aiter__()

    def __repr__(self) -> str:
        where = self.url.with_user(None).with_query(None)  # both may hold secrets
        return f"<CredSSPResponse {self.method} {where} [{self.status} {self.reason!a}]>"

    async def read(self) -> bytes:
        """Return the whole body."""
        if self._body is None:
            self._body = b"".join([piece async for piece in self])
        return self._body

    async def text(self, encoding: str | None = None) -> str:
        """Return the whole body as text, of this encoding, or else of `charset`, or else of UTF-8."""
        return (await self.read()).decode(encoding or self.charset or "utf-8")

    async def json(self) -> Any:
        """Return the value that the whole body is in JSON."""
        return json_module.loads(await self.read())

    def _content_type(self) -> email.message.Message:
        message = email.message.Message()
        message["Content-Type"] = self.headers.get("Content-Type", "application/octet-stream")
        return message


def _target(url: str | yarl.URL) -> tuple[yarl.URL, Origin]:
    """Return a URL, and where it leads.

    Raises:
        ValueError: It is no URL of HTTP.
        LocalProtocolError: It has a user or a password, by whom nobody would log on.
    """
    try:
        where = yarl.URL(url)
        origin = Origin(where.scheme, where.raw_host or "", where.port or 0)
    except ValueError:
        raise no_url(str(url)) from None
    expect_url(str(url), origin)
    if where.raw_user is not None or where.raw_password is not None:
        raise LocalProtocolError(
            "expected a url without a user, since the configuration says who logs on, got one with a user",
            hint="remove the user and the password from the url",
        )
    return where, origin


def _with_params(url: yarl.URL, params: Any) -> yarl.URL:
    """Return a URL whose query has more parameters."""
    if params is None:
        return url
    query = multidict.MultiDict(url.query)
    query.extend(url.with_query(params).query)
    return url.with_query(query)


def _body_of(options: RequestOptions) -> bytes | str | AsyncIterable[bytes] | None:
    """Return the body of a request.

    Raises:
        TypeError: The body is of another kind.
        ValueError: There are two.
    """
    data, value = options.get("data"), options.get("json")
    if data is not None and value is not None:
        raise ValueError("expected data or json, got both")
    if value is not None:
        return json_module.dumps(value)
    match data:
        case None | str() | bytes() | AsyncIterable():
            return data
        case bytearray() | memoryview():
            return bytes(data)
        case Mapping():
            return urllib.parse.urlencode(data, doseq=True)
        case other:
            raise TypeError(f"data: expected bytes, str, a mapping or an async iterable, got {type(other).__name__}")


def _request(
    method: str,
    url: yarl.URL,
    data: bytes | str | AsyncIterable[bytes] | None,
    headers: "multidict.CIMultiDict[str]",
    timeout: aiohttp.ClientTimeout,
) -> Request:
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    if not one_value(fields, "Host"):
        fields.insert(0, (b"Host", url.host_port_subcomponent.encode() if url.host_port_subcomponent else b""))
    if isinstance(data, str | bytes):
        whole = data.encode() if isinstance(data, str) else data
        fields = [field for field in fields if field[0].lower() != b"content-length"]
        fields.append((b"Content-Length", str(len(whole)).encode()))
        data = (whole or None) if len(whole) <= SMALL else _once(whole)
    # In aiohttp, 0 is no limit, too.
    limits = {"pool": timeout.connect, "connect": timeout.sock_connect or None, "read": timeout.sock_read}
    return Request(method, url.raw_path_qs.encode(), fields, data, {"timeout": limits})


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


class _Told(Exception):
    """An error of aiohttp with our text. aiohttp makes the text of most of its errors from what they hold."""

    text = ""

    def __str__(self) -> str:
        return self.text


_TELLING: Final[dict[type[Exception], type[_Told]]] = {}


def _telling(kind: type[Exception]) -> type[_Told]:
    """Return the subclass of a class of aiohttp whose errors have our text; its name is the same."""
    if kind not in _TELLING:
        _TELLING[kind] = type(kind.__name__, (_Told, kind), {"__module__": kind.__module__})
    return _TELLING[kind]


def _origin_of(url: str | None) -> str:
    """Return a URL without a user and a path."""
    return str(yarl.URL(url or "").origin())


class _OneConnection(aiohttp.TCPConnector):
    """A connector that makes one connection, once."""

    transport: asyncio.Transport | None = None
    got_no_http = False
    """Whether something else than HTTP came. Of what comes before a request, aiohttp tells only that it has ended."""

    _heads = 0
    """Heads of answers to the request that is being sent."""

    def __del__(self, *_: object) -> None:
        """Do nothing: aiohttp would warn of a connector, and our session warns of itself."""

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        known = self.transport
        self._heads = 0
        if known is not None and known.is_closing():
            raise aiohttp.ServerDisconnectedError("the connection that was logged on has ended")
        connection = await super().connect(*args, **kwargs)
        if known is None:
            self.transport = connection.transport
            self._watch(connection.protocol)
        elif connection.transport is not known:
            connection.close()
            raise aiohttp.ServerDisconnectedError("the connection that was logged on has ended")
        return connection

    def _watch(self, protocol: Any) -> None:
        """Note which error ends a connection, and bound the heads of answers.

        aiohttp 3.14 replaces the error by another one when the connection is lost.
        """
        set_exception, read = protocol.set_exception, protocol.read

        def noting(error: Any, *cause: Any) -> None:
            self.got_no_http = self.got_no_http or isinstance(error, HttpProcessingError)
            set_exception(error, *cause)

        async def reading() -> Any:
            self._heads += 1
            if self._heads > _MOST_PROVISIONAL + 1:
                raise HttpProcessingError(code=400, message="too many provisional answers")
            return await read()

        protocol.set_exception, protocol.read = noting, reading


class _Made:
    """The connections of one session. It knows nothing of the session, whose end is then seen at once.

    Args:
        ssl_context: The TLS context for https; None for the system's.
        proxy: The URL of a proxy; None for none.
        ended: Gets the connections that have ended.
    """

    def __init__(self, ssl_context: ssl.SSLContext | None, proxy: str | None, ended: "list[_Wire]") -> None:
        self._ssl_context, self._proxy, self._ended = ssl_context, proxy, ended
        self.wires: weakref.WeakSet[_Wire] = weakref.WeakSet()

    def new_wire(self, origin: Origin) -> "_Wire":
        """Return a connection, which is not connected yet."""
        if self._proxy is not None and origin.scheme != "https":
            raise ValueError(
                "proxy: expected https behind a proxy, got http, whose connections aiohttp's proxies share"
            )
        context = None if origin.scheme == "http" else self._ssl_context or system_context()
        wire = _Wire(origin, context, self._proxy, self._ended)
        self.wires.add(wire)
        return wire

    def forget(self) -> None:
        """Let go of what belongs to the connections, which aiohttp would warn of by other names."""
        for wire in self.wires:
            wire.forget()


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
                async with asyncio.timeout(connect_limit(request)):
                    async for _ in await self.send(first):
                        pass
            except TimeoutError as error:
                raise aiohttp.ServerTimeoutError("the time limit has passed") from error

    async def send(self, request: Request) -> WireResponse:
        """Send a request, and return the response once its headers have come."""
        assert self._session is not None
        assert not self._reading
        connect, read = connect_limit(request), limit_of(request, "read")
        self._reading = True
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        response = await self._session.request(
            request.method,
            yarl.URL(str(self._origin) + request.target.decode(), encoded=True),
            data=request.body,
            headers=multidict.CIMultiDict(each for each in headers if each[0].lower() != "transfer-encoding"),
            allow_redirects=False,
            proxy=self._proxy,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read),
        )
        return _Answer(self, response)

    def fault_of(self, error: Exception) -> tuple[Fault, str] | None:
        """Return the fault that an error of aiohttp stands for; None if it is no fault of the connection."""
        match error:
            case aiohttp.ClientProxyConnectionError():
                return (
                    Fault.PROXY,
                    f"the proxy {_origin_of(self._proxy)} cannot be reached: {reason_of(error.os_error)}",
                )
            case aiohttp.ClientHttpProxyError():
                return Fault.PROXY, f"the proxy {_origin_of(self._proxy)} answered CONNECT with status {error.status}"
            case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError() if isinstance(error, TimeoutError):
                return Fault.TIMEOUT, ""
            case aiohttp.ClientResponseError():
                return Fault.NO_HTTP, ""
            case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
                assert self._connector is not None
                return Fault.NO_HTTP if self._connector.got_no_http else Fault.ENDED, ""
            case _:
                return None

    def told(self, error: Exception, text: str) -> Exception:
        """Return the error of aiohttp of the same class with another text."""
        told = _telling(type(error))(*error.args)
        told.__dict__.update(error.__dict__)
        told.text = text
        return told

    def note_end(self) -> None:
        """Note that a response has come to its end."""
        self._reading = False

    def abort(self) -> None:
        """End the connection at once."""
        if self._connector is not None and self._connector.transport is not None:
            self._connector.transport.abort()
        if self._session is not None and self not in self._list:
            self._list.append(self)

    def forget(self) -> None:
        """Let go of what belongs to the connection, without a warning of aiohttp's."""
        if self._session is not None:
            self._session.detach()

    async def close(self) -> None:
        """Close what belongs to the connection."""
        assert self._session is not None
        await self._session.close()


class _Answer:
    """A response of aiohttp."""

    def __init__(self, wire: _Wire, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Sequence[Field] = response.raw_headers
        self.extensions: Mapping[str, Any] = {"reason": response.reason or ""}
        self._wire, self._response = wire, response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.content.iter_chunked(_PIECE):
            yield piece
        self._wire.note_end()

    async def aclose(self) -> None:
        self._response.close() if not self._response.content.at_eof() else self._response.release()

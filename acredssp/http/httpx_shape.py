"""What the transports for httpx and httpx2 have in common. The two libraries share no classes, but all names."""

import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from types import ModuleType
from typing import Any, ClassVar, Final, NoReturn, Unpack

from acredssp.config import ClientConfig
from acredssp.errors import LocalProtocolError
from acredssp.http.client import Client, ClientOptions
from acredssp.http.connection import Response
from acredssp.http.errors import PoolTimeout
from acredssp.http.headers import has_body
from acredssp.http.httpcore_wire import HTTPCoreWire, Proxy
from acredssp.http.wire import SMALL, Origin, Request, expect_url

__all__ = ["Body", "Libraries", "Transport", "origin_of"]

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080}
_NO_PROXY: Final = "proxy: expected a URL of http, https or socks5, such as http://proxy.example:3128, got another"
CONFIG: Final = "credssp"
"""The extension of a request with a configuration of its own."""
_FIRST: Final = "credssp_first"
"""The extension of a request that tells which one went first, and where to: the library gives it to what follows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Libraries:
    """The modules that a transport is made of.

    Attributes:
        httpx: The module `httpx` or `httpx2`.
        httpcore: The module `httpcore` or `httpcore2`.
        body: A subclass of `Body` and of the library's `AsyncByteStream`.
    """

    httpx: ModuleType
    httpcore: ModuleType
    body: "type[Body]"


class Transport:
    """What the transports for httpx and httpx2 share; a program makes the `CredSSPTransport` of its library.

    A request with `extensions={"credssp": config}` is sent by another identity, over connections of its own. The
    library's own errors say what the network did, and `CredSSPError` says why a logon failed.

    Args:
        config: Who logs on, and how. Its delegation policy has to allow the service principal name.
        ssl_context: The TLS context for https; None for the operating system's authorities, which are read with the
            first connection of https.
        proxy: The URL of a proxy (http, https or socks5), or the library's `Proxy`. Give it to the transport: a proxy
            of the `AsyncClient` would go around it.
        **options: See `ClientOptions`.
    """

    _libraries: ClassVar[Libraries]

    def __init__(
        self,
        config: ClientConfig,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Any = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._ssl_context = ssl_context
        self._proxy = self._proxy_of(proxy) if proxy is not None else None
        self._client = Client(self._new_wire, config, options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._client}>"

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and return the library's response; the library's client calls this."""
        origin, config = origin_of(request.url), _config_of(request.extensions)
        expect_url(url := str(request.url), origin, self._note_on(url))
        plain = Request(
            request.method,
            request.url.raw_path,
            request.headers.raw,
            self._body(request),
            request.extensions,
        )
        first, first_origin = request.extensions.setdefault(_FIRST, (request, origin))
        if first is not request:
            _check_redirect(first_origin, origin, proven=self._client.allow_unsealed)
        with self._errors():
            response = await self._client.send(origin, plain, config)
        return self._libraries.httpx.Response(
            response.status,
            headers=list(response.headers),
            stream=self._libraries.body(self, response),
            extensions={**response.extensions, "credssp_sealed": response.sealed},
        )

    def _note_on(self, url: str) -> str:
        """Return the note on a URL for an error. It is empty unless the library has kept only the path of the URL."""
        name = self._libraries.httpx.__name__
        return f", which is all that {name} keeps of a url without http:// or https://" if url.startswith("/") else ""

    def _body(self, request: Any) -> AsyncIterable[bytes] | bytes | None:
        if not has_body(request.headers.raw):
            return None
        try:
            whole: bytes = request.content
        except self._libraries.httpx.RequestNotRead:
            whole = b""  # the body is a stream
        stream: AsyncIterable[bytes] = request.stream
        return whole if 0 < len(whole) <= SMALL else stream

    async def aclose(self) -> None:
        """End all connections."""
        self._client.close()

    def _refuse(self, *_: object) -> NoReturn:
        """Refuse what the library's synchronous client calls."""
        name = self._libraries.httpx.__name__
        raise TypeError(
            f"transport: {type(self).__name__} is asynchronous: expected {name}.AsyncClient(transport=...), used by "
            f"`async with` and `await`, got {name}.Client"
        )

    __enter__ = __exit__ = handle_request = close = _refuse

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the errors of httpcore into those of httpx that have the same names."""
        try:
            yield
        except Exception as error:
            httpx, ours = self._libraries.httpx, self._libraries.httpcore.__name__
            for kind in type(error).__mro__:
                if kind is PoolTimeout or kind.__module__.partition(".")[0] == ours:
                    told = getattr(httpx, kind.__name__)(str(error))
                    told.failure = getattr(error, "failure", None)
                    raise told from error
            raise

    def _new_wire(self, origin: Origin) -> HTTPCoreWire:
        return HTTPCoreWire(self._libraries.httpcore, origin, self._ssl_context, self._proxy)

    def _proxy_of(self, proxy: Any) -> Proxy:
        """Return a proxy from the library's, or from a URL. No error quotes the URL, which may have a password."""
        httpx = self._libraries.httpx
        try:
            if not isinstance(proxy, httpx.Proxy):
                proxy = httpx.Proxy(proxy)
        except (ValueError, httpx.InvalidURL):
            raise ValueError(_NO_PROXY) from None
        origin = origin_of(proxy.url)
        if not origin.host or not 0 < origin.port < 65_536:
            raise ValueError(_NO_PROXY)
        user, password = proxy.auth or (None, "")
        return Proxy(origin, user, password, proxy.ssl_context)


class Body:
    """The body of a response.

    Args:
        transport: The transport that it came through.
        response: The response.
    """

    def __init__(self, transport: Transport, response: Response) -> None:
        self._transport, self._response = transport, response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._transport._errors():  # noqa: SLF001 - of the same module
            async for piece in self._response:
                yield piece

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._response.aclose()


def _config_of(extensions: Mapping[str, Any]) -> ClientConfig | None:
    """Return the configuration that a request has of its own; None where it names none."""
    config = extensions.get(CONFIG)
    if CONFIG in extensions and not isinstance(config, ClientConfig):
        raise TypeError(f"extensions[{CONFIG!r}]: expected a ClientConfig, got {type(config).__name__}")
    return config


def _check_redirect(first: Origin, origin: Origin, *, proven: bool) -> None:
    """Refuse to follow a redirect that anybody in between may have written: statuses and header fields are not sealed.

    One to another origin would give the user's credentials to it. One within plain HTTP would send the request again,
    and the server may have acted on it already.

    Args:
        first: Where the first request went.
        origin: Where the redirect leads.
        proven: Whether an answer over plain HTTP counts as the server's.

    Raises:
        LocalProtocolError: The redirect is not followed; nothing was sent.
    """
    if first != origin:
        raise LocalProtocolError(
            f"expected a redirect within {first}, got one to {origin}, which would get the user's credentials",
            hint="if you trust the other service, make a new request with its url",
        )
    if origin.scheme == "http" and not proven:
        raise LocalProtocolError(
            f"expected no redirect over plain http, which anybody in between can write, got one to {origin}",
            hint="make a new request with the url that the server leads to, or use https",
        )


def origin_of(url: Any) -> Origin:
    """Return where a URL of the library leads."""
    scheme = "socks5" if url.scheme == "socks5h" else url.scheme
    return Origin(scheme, url.raw_host.decode("ascii"), _PORTS.get(scheme, 0) if url.port is None else url.port)

"""WinRM over httpx: connections that CredSSP has logged on, and a client of the service on top of them."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any, Unpack

import acredssp
from acredssp.config import ClientConfig
from acredssp.errors import LocalProtocolError
from acredssp.http import ClientOptions
from acredssp.http.block import Block
from acredssp.http.httpx import CredSSPTransport
from acredssp.http.httpx_shape import origin_of
from acredssp.http.wire import expect_url, no_url
from acredssp.winrm.client import WSMan
from acredssp.winrm.errors import NotSent

try:
    import httpx
except ImportError as error:
    raise ImportError("acredssp.winrm.httpx needs httpx: pip install 'acredssp[winrm]'", name="httpx") from error

__all__ = ["connect"]

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
_CLOSED_HINT = "use it within its `async with`, or connect again"
_HEADERS = {"Content-Type": "application/soap+xml;charset=UTF-8", "User-Agent": f"acredssp/{acredssp.__version__}"}


def connect(
    url: str,
    config: ClientConfig,
    *,
    ssl_context: ssl.SSLContext | None = None,
    proxy: Any = None,
    wsman: dict[str, Any] | None = None,
    **options: Unpack[ClientOptions],
) -> contextlib.AbstractAsyncContextManager[WSMan]:
    """Open a client of a WinRM service, by `async with`; nothing is sent before the first request.

    Args:
        url: The address of the service, such as `http://host:5985/wsman`.
        config: Who logs on, and how. Its delegation policy has to allow the service principal name.
        ssl_context: The TLS context for https; None for the operating system's authorities.
        proxy: The URL of a proxy.
        wsman: More arguments for `WSMan`.
        **options: See `acredssp.http.ClientOptions`: `spn`, `server_hostname`, `max_connections`, `idle_timeout`,
            `response_limit` and `dangerous_allow_unsealed`.

    Raises:
        ValueError: The URL is none of HTTP.
        TypeError: An option is unknown.
    """
    try:
        expect_url(url, origin_of(httpx.URL(url)))
    except httpx.InvalidURL:
        raise no_url(url) from None
    transport = CredSSPTransport(config, ssl_context=ssl_context, proxy=proxy, **options)
    takes_plain = url.lower().startswith("https:") or options.get("dangerous_allow_unsealed", False)
    opened = _open(url, transport, wsman or {}, takes_plain=takes_plain)
    return Block(opened, "async with connect(url, config) as wsman:", "nothing was connected")


@contextlib.asynccontextmanager
async def _open(
    url: str, transport: CredSSPTransport, wsman: dict[str, Any], *, takes_plain: bool
) -> AsyncIterator[WSMan]:
    async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:  # noqa: S113 - WSMan's

        async def post(envelope: bytes) -> tuple[int, bytes]:
            if client.is_closed:
                raise LocalProtocolError("the client of the service is closed: nothing was sent", hint=_CLOSED_HINT)
            try:
                answer = await client.post(url, content=envelope, headers=_HEADERS)
            except _NOT_SENT as error:
                message, hint = _told(error)
                raise NotSent(message, hint=hint) from error
            except httpx.TransportError as error:
                raise ConnectionResetError(_told(error)[0]) from error  # it may be sent again, whatever the hint says
            # A fault in plain may be anybody's, and would have the client believe that a command wrote nothing.
            authentic = answer.extensions["credssp_sealed"] or takes_plain
            return answer.status_code, answer.content if authentic else b""

        yield WSMan(post, url, **wsman)


def _told(error: httpx.TransportError) -> tuple[str, str | None]:
    """Return the text of an error and its hint, each by itself."""
    failure = getattr(error, "failure", None)
    return (str(error), None) if failure is None else (failure.message, failure.hint)

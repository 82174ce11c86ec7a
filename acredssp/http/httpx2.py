"""CredSSP for httpx2: a transport whose connections are logged on, each by itself and for one identity.

    async with httpx2.AsyncClient(transport=CredSSPTransport(config)) as client:
        answer = await client.post("https://server.contoso.example:5986/wsman", content=envelope)

An `Auth` of httpx2 cannot do this, since the next leg of a logon may then go over another connection.
"""

from acredssp.http.httpx_shape import Body, Libraries, Transport

try:
    import httpcore2
    import httpx2
except ImportError as error:
    raise ImportError("acredssp.http.httpx2 needs httpx2: pip install httpx2") from error

__all__ = ["CredSSPTransport", "Transport"]


class _Body(Body, httpx2.AsyncByteStream):
    pass


class CredSSPTransport(Transport, httpx2.AsyncBaseTransport):
    """Logs on by CredSSP, and seals what is sent: give it to `httpx2.AsyncClient(transport=...)`.

    A request with `extensions={"credssp": config}` is sent by another identity, over connections of its own.
    httpx2's own errors say what the network did, and `CredSSPError` says why a logon failed.

    Args:
        config: Who logs on, and how. Its delegation policy has to allow the service principal name.
        ssl_context: The TLS context for https; None for the operating system's authorities, which are read with the
            first connection of https. `config.trust` judges the certificate inside CredSSP, not this one.
        proxy: The URL of a proxy (http, https or socks5), or httpx2's `Proxy`. Give it to the transport: a proxy of the
            `AsyncClient` would go around it.
        **options: See `acredssp.http.ClientOptions`: `spn`, `server_hostname`, `max_connections`, `idle_timeout`,
            `response_limit` and `dangerous_allow_unsealed`.
    """

    _libraries = Libraries(httpx2, httpcore2, _Body)

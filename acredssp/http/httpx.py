"""CredSSP for httpx: a transport whose connections are logged on, each by itself and for one identity.

    async with httpx.AsyncClient(transport=CredSSPTransport(config)) as client:
        answer = await client.post("https://server.contoso.example:5986/wsman", content=envelope)

An `Auth` of httpx cannot do this, since the next leg of a logon may then go over another connection.
"""

from acredssp.http.httpx_shape import Body, Libraries, Transport

try:
    import httpcore
    import httpx
except ImportError as error:
    raise ImportError("acredssp.http.httpx needs httpx: pip install 'acredssp[http]'") from error

__all__ = ["CredSSPTransport", "Transport"]


class _Body(Body, httpx.AsyncByteStream):
    pass


class CredSSPTransport(Transport, httpx.AsyncBaseTransport):
    """Logs on by CredSSP, and seals what is sent: give it to `httpx.AsyncClient(transport=...)`.

    `Transport` has the arguments.
    """

    _libraries = Libraries(httpx, httpcore, _Body)

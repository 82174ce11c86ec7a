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

    `Transport` has the arguments.
    """

    _libraries = Libraries(httpx2, httpcore2, _Body)

"""Requests after a logon that its client did not seal, as somebody in between writes them: no server serves them."""

import pytest
from support.http_bodies import END, TYPE
from support.http_by_hand import SERVERS, connected, serving

SEALED = f"Content-Type: {TYPE}"
NO_LENGTH = "Content-Length: 0"
CHUNKS = "Transfer-Encoding: chunked"
LENGTH = f"Content-Length: {len(END)}"
END_IN_CHUNKS = b"%x\r\n%b\r\n0\r\n" % (len(END), END)
FORGED = {
    **{method: (f"{method} /", [SEALED], b"") for method in ("GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "POST")},
    "no length": ("POST /", [SEALED, NO_LENGTH], b""),
    "no chunk": ("POST /", [SEALED, CHUNKS], b"0\r\n\r\n"),
    "chunks and no length": ("POST /", [SEALED, CHUNKS, NO_LENGTH], b"0\r\n\r\n"),
    "the last boundary": ("POST /", [SEALED, LENGTH], END),
    "the last boundary, and trailers": (
        "POST /",
        [SEALED, CHUNKS],
        END_IN_CHUNKS + b"Content-Type: text/plain\r\n\r\n",
    ),
    "a type in trailers": ("POST /", [CHUNKS], END_IN_CHUNKS + SEALED.encode() + b"\r\n\r\n"),
    "two types": ("POST /", [SEALED, "Content-Type: text/plain", LENGTH], END),
    "two lengths": ("POST /", [SEALED, LENGTH, NO_LENGTH], END),
    "an upgrade": ("GET /", [SEALED, "Connection: Upgrade", "Upgrade: websocket"], b""),
    "an upgrade with a body": ("POST /", [SEALED, LENGTH, "Connection: Upgrade", "Upgrade: h2c"], END),
    "a body that is announced": ("POST /", [SEALED, LENGTH, "Expect: 100-continue"], END),
    "a logon without a token": ("POST /", [SEALED, "Authorization: CredSSP", LENGTH], END),
    "a logon by another scheme": ("POST /", ["Authorization: Basic Ym9iOmJvYg==", NO_LENGTH], b""),
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
async def test_a_request_that_is_not_sealed_is_nobody_s(server, forged):
    """It comes twice, since the first one may leave the server in another state."""
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)

    line, fields, body = forged
    request = "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode() + body
    async with serving(server, app) as port, connected(port) as client:
        await client.log_on()
        client.writer.write(2 * request)
        client.writer.write_eof()
        try:
            answer = await client.reader.read()
        except ConnectionResetError:  # the second request was still on its way
            answer = b""
    assert b"HTTP/1.1 200" not in answer
    assert scopes == []

"""Requests made to tire a server out or to fill its log, by strangers and by users: each server refuses them."""

import logging

import pytest
from support.http_by_hand import SERVERS, connected, serving

from acredssp.http import seal_body

HEAD = b"%b / HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
CONNECT = b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
TRACEBACKS = logging.ERROR


def in_chunks(body, size):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class App:
    """Answers at once, or when it has read the body."""

    def __init__(self, *, reads):
        self.reads, self.bodies = reads, []

    async def __call__(self, scope, receive, send):
        body, more = b"", self.reads
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})


async def answer_to(client, request):
    client.writer.write(request)
    client.writer.write_eof()
    try:
        return await client.reader.read()
    except ConnectionResetError:  # more of the request was on its way
        return b""


@pytest.mark.parametrize("user", [True, False], ids=["user", "stranger"])
@pytest.mark.parametrize("server", SERVERS)
async def test_connect_is_refused_and_writes_no_traceback(server, user, caplog):
    app = App(reads=True)
    async with serving(server, app) as port, connected(port) as client:
        kind, body = "text/plain", b""
        if user:
            await client.log_on()
            kind, body = seal_body(client.context, b"x" * 3000)
        answer = await answer_to(client, CONNECT % (kind.encode(), len(body)) + body)
    assert answer.startswith((b"HTTP/1.1 501 ", b"HTTP/1.1 400 "))
    assert app.bodies == []
    assert [each for each in caplog.records if each.levelno >= TRACEBACKS] == []


@pytest.mark.parametrize("user", [True, False], ids=["user", "stranger"])
@pytest.mark.parametrize("server", SERVERS)
async def test_a_broken_chunk_behind_one_that_is_answered_writes_no_traceback(server, user, caplog):
    async with serving(server, App(reads=False)) as port, connected(port) as client:
        kind, body = "text/plain", b"x"
        if user:
            await client.log_on()
            kind, body = seal_body(client.context, b"x" * 3000)
        request = HEAD % (b"POST", kind.encode()) + in_chunks(body, len(body)) + b"zzzz\r\n"
        answer = await answer_to(client, request)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert [each for each in caplog.records if each.levelno >= TRACEBACKS] == []


@pytest.mark.parametrize("server", SERVERS)
async def test_a_body_in_many_tiny_chunks_is_refused(server, caplog):
    """64 KiB of them would hold the loop for some 60 ms, and every byte would cost its sender next to nothing."""
    tiny = HEAD % (b"POST", b"text/plain") + in_chunks(b"x" * 3_000, 1) + b"0\r\n\r\n"
    async with serving(server, App(reads=True)) as port, connected(port) as client:
        answer = await answer_to(client, 2 * tiny)
    assert answer.count(b"HTTP/1.1 ") <= 1, "the connection ends with the first one"
    assert [each for each in caplog.records if each.levelno >= TRACEBACKS] == []


@pytest.mark.parametrize(
    ("size", "pieces", "served"),
    [(20_000, 1, False), (900, 2, True), (100_000, 64, True), (200_000, 32, False)],
)
@pytest.mark.parametrize("server", SERVERS)
async def test_a_user_s_body_may_have_so_many_chunks(server, size, pieces, served):
    app = App(reads=True)
    async with serving(server, app) as port, connected(port) as client:
        await client.log_on()
        kind, body = seal_body(client.context, b"x" * size)
        await answer_to(client, HEAD % (b"POST", kind.encode()) + in_chunks(body, pieces) + b"0\r\n\r\n")
    assert app.bodies == [b"x" * size] * served


@pytest.mark.parametrize("digits", [21, 5000])
@pytest.mark.parametrize("user", [True, False], ids=["user", "stranger"])
@pytest.mark.parametrize("server", SERVERS)
async def test_a_length_of_more_digits_than_any_length_has_is_refused(server, user, digits, caplog):
    app = App(reads=True)
    async with serving(server, app) as port, connected(port) as client:
        kind, body = "text/plain", b"x" * 3000
        if user:
            await client.log_on()
            kind, body = seal_body(client.context, body)
        length = f"{len(body):0{digits}}"
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        answer = await answer_to(client, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert app.bodies == []
    assert [each for each in caplog.records if each.levelno >= TRACEBACKS] == []


@pytest.mark.parametrize(
    ("fields", "statuses"),
    [
        ([], {400}),
        (["Host: localhost", "Host: other"], {400}),
        (["Host: localhost", "Transfer-Encoding: gzip, chunked"], {400, 501}),
        (["Host: localhost", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], {400, 501}),
        (["Host: localhost", "Transfer-Encoding: identity"], {400, 501}),
    ],
)
@pytest.mark.parametrize("server", SERVERS)
async def test_a_head_that_servers_understand_in_different_ways_is_refused(server, fields, statuses):
    app = App(reads=True)
    async with serving(server, app) as port, connected(port) as client:
        await client.log_on()
        kind, body = seal_body(client.context, b"x" * 3000)
        coded = any(field.startswith("Transfer") for field in fields)
        lines = [
            "POST / HTTP/1.1",
            f"Content-Type: {kind}",
            *fields,
            *([] if coded else [f"Content-Length: {len(body)}"]),
        ]
        head = "\r\n".join([*lines, "", ""]).encode()
        answer = await answer_to(client, head + (in_chunks(body, len(body)) + b"0\r\n\r\n" if coded else body))
    assert int(answer.split()[1]) in statuses
    assert app.bodies == []

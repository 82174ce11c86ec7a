"""One request over a connection, and its answer: from the logon to the application, in ASGI's messages.

Rules that hold for each request
================================

1. The application is called only once a record of the body has opened, which shows whose request it is.
2. Everything that is refused gets an answer, and the client gets time to read it: what it still sends is skipped for a
   while before the connection closes.
3. The records of a connection have an order. So whatever the application leaves of a body is opened before the answer
   ends, and a body that cannot be opened to its end closes the connection.
4. No more of a body is held than the server gives at a time, and one part of what is sealed.

Who calls: `asgi`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final, TypeAlias

from acredssp.errors import CredSSPError
from acredssp.http.envelope import is_sealed
from acredssp.http.errors import HTTPProtocolError
from acredssp.http.headers import has_body, one_value, values_of
from acredssp.http.opening import Opener
from acredssp.http.replies import NO_CODING, NO_HOST, Reply
from acredssp.http.sealing import Sealer
from acredssp.http.served import STATE, ClientLeft, ServedConnection

__all__ = ["ASGIApp", "Cycle", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
"""The facts of a request, by ASGI's names."""
Message: TypeAlias = MutableMapping[str, Any]
"""A part of a request or of an answer, by ASGI's names."""
Receive: TypeAlias = Callable[[], Awaitable[Message]]
"""The function by which an application gets the next part of a request."""
Send: TypeAlias = Callable[[Message], Awaitable[None]]
"""The function by which an application sends the next part of its answer."""
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An application of ASGI 3. The server calls the application once for each request."""

_SKIPPED: Final = 16 << 20
"""The most bytes of a refused body that the server reads and drops. A client may send its whole body before it reads
the answer. If the server closes the connection meanwhile, the connection is reset, and the client loses the answer."""
_SKIPPED_SECONDS: Final = 2.0
"""The most seconds that the server spends on reading a refused body, whose bytes it drops."""
_PIECE: Final = 1 << 16
"""The bytes of an answer that the server seals and sends at a time."""
_MOST_OVERHEAD: Final = 65_536
"""Bytes that a sealed body may have beyond twice its plaintext. A part of 16,384 bytes has some 250 more."""

_MOST_DIGITS: Final = 20
"""The most digits of a Content-Length, as h11 has it. httptools takes any number of zeros in front."""

_OF_THE_ENVELOPE: Final = frozenset({b"content-type", b"content-length", b"transfer-encoding"})
_HIDDEN: Final = _OF_THE_ENVELOPE | {b"authorization", b"accept-encoding"}
"""Fields that the application does not see. Content-Encoding would stand outside of the sealed body, where it would be
wrong, so an application is not asked to compress."""
_BODILESS: Final = frozenset({204, 304})


class Cycle:
    """One request, and its answer.

    Args:
        connection: The connection that the request came by.
        scope: The scope of the server.
        receive: The server's function.
        send: The server's function.
    """

    def __init__(self, connection: ServedConnection, scope: Scope, receive: Receive, send: Send) -> None:
        self._connection = connection
        self._scope = scope
        self._receive_raw = receive
        self._send_raw = send
        self._headers: list[tuple[bytes, bytes]] = [*scope["headers"]]
        self._opener: Opener | None = None
        self._taken = 0
        """The number of bytes of the body that have come so far, sealed or plain."""
        self._all_here = not has_body(self._headers)
        """Whether the server has given the whole body."""
        self._ahead: bytes | None = b"" if self._all_here else None
        """Plaintext that was read before the application asked for it."""
        self._told_all = False
        """Whether the application has got the end of the body."""
        self._patience = connection.limits.body_timeout
        """The seconds for which the server still waits for more of the body."""
        self._start: Message | None = None
        """The beginning of the application's answer, until its first bytes show how long it is."""
        self._sealer: Sealer | None = None
        self._held: list[Message] = []
        """The message with the beginning of the answer. The server sends it with the first bytes of the body."""
        self._mute = False
        """Whether the answer to a sealed request has no body."""
        self._started = False
        """Whether an answer is on its way."""
        self._over = False
        """Whether nothing more of the application's answer can be sent."""

    async def serve(self, app: ASGIApp) -> None:
        """Log on, or give the request to the application."""
        try:
            reply = await self._admit()
        except ClientLeft:
            return
        except CredSSPError as error:
            reply = self._connection.fail(error)
        if reply is not None:
            await self._reply(reply)
            return
        await app(self._plain_scope(), self.receive, self.send)

    async def _admit(self) -> Reply | None:
        """Return the reply to a request that the application does not get.

        Raises:
            CredSSPError: The request is refused.
        """
        self._check_head()
        reply = await self._connection.receive(self._headers)
        if reply is not None:
            return reply
        if not is_sealed(one_value(self._headers, "Content-Type")):
            return None
        self._check_size()
        self._opener = self._connection.opener(self._headers)
        self._ahead = b""
        while not self._opener.proven and not self._all_here:
            self._ahead += await self._read()
        if self._all_here:
            self._opener.finish()  # where the request has no body at all, nothing has been read
        return None

    def _check_head(self) -> None:
        """Refuse what servers understand in different ways, since a proxy in front may be another server."""
        if (version := self._scope["http_version"]) != "1.1":
            what = f"expected http/1.1, whose connections stay open, got http/{version}"
            raise HTTPProtocolError(what, 505, hint="nginx asks so unless it has `proxy_http_version 1.1`")
        if self._scope["method"] == "CONNECT":
            raise HTTPProtocolError("expected a request, got connect, behind which no http is spoken", 501)
        if len(values_of(self._headers, "Host")) != 1:
            raise HTTPProtocolError(NO_HOST)  # RFC 9112 3.2
        coding, lengths = values_of(self._headers, "Transfer-Encoding"), values_of(self._headers, "Content-Length")
        if (longest := max(map(len, lengths), default=0)) > _MOST_DIGITS:
            what = f"expected a content-length of at most {_MOST_DIGITS} digits, got one of {longest}"
            raise HTTPProtocolError(what)
        if coding and lengths:
            raise HTTPProtocolError("expected a content-length or a transfer-encoding, got both")  # RFC 9112 6.3
        if coding and [each.lower() for each in coding] != [
            "chunked"
        ]:  # httptools takes `gzip, chunked` for chunks alone
            raise HTTPProtocolError(NO_CODING, 501)

    def _check_size(self) -> None:
        if coding := one_value(self._headers, "Content-Encoding"):
            raise HTTPProtocolError(f"expected a sealed body without content-encoding, got {coding[:100]!a}", 415)
        length, limit = one_value(self._headers, "Content-Length"), self._connection.limits.body_size
        if length.isascii() and length.isdecimal() and int(length) > 2 * limit + _MOST_OVERHEAD:
            raise HTTPProtocolError(f"expected a body of at most {limit} bytes, got one of {length} sealed", 413)

    def _plain_scope(self) -> Scope:
        headers = [field for field in self._headers if field[0].lower() not in self._hidden]
        if self._opener is not None:
            headers.append((b"content-type", self._opener.content_type.encode("latin-1")))
            if self._all_here:
                headers.append((b"content-length", b"%d" % len(self._ahead or b"")))
        return {
            **self._scope,
            "headers": headers,
            "credssp": self._connection.logged_on,
            "extensions": {},  # such as files that the server sends by itself: these would not be sealed
            "state": {name: value for name, value in self._scope["state"].items() if name != STATE},
        }

    @property
    def _hidden(self) -> frozenset[bytes]:
        return _HIDDEN if self._opener is not None else frozenset({b"authorization"})

    # --- the request ---

    async def receive(self) -> Message:
        """Return the next bytes of the body in plain; where it is refused, the client has left for the application."""
        try:
            while self._ahead is None and not self._all_here:
                self._ahead = await self._read() or None
        except ClientLeft:
            self._over = True
        except CredSSPError as error:
            await self._refuse(error)
        if self._over:
            return {"type": "http.disconnect"}
        if self._ahead is not None or not self._told_all:
            body, self._ahead = self._ahead or b"", None
            self._told_all = self._all_here
            return {"type": "http.request", "body": body, "more_body": not self._all_here}
        while (message := await self._receive_raw())["type"] != "http.disconnect":
            pass
        return message

    async def _read(self) -> bytes:
        """Return the next plaintext, which may be empty.

        Raises:
            ClientLeft: There is no more.
            CredSSPError: The body is refused.
        """
        data = await self._read_raw()
        self._check_taken(len(data))
        if self._opener is not None:
            plaintext = self._opener.feed(data)
            if self._all_here:
                self._opener.finish()
            return plaintext
        return data

    def _check_taken(self, size: int) -> None:
        """Count bytes of the body. A sealed one of many tiny parts would be many times as long as its plaintext."""
        self._taken += size
        limit = self._connection.limits.body_size
        if self._taken > (limit if self._opener is None else 2 * limit + _MOST_OVERHEAD):
            raise HTTPProtocolError(f"expected a body of at most {limit} bytes, got more", 413)

    async def _read_raw(self) -> bytes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive_raw()
        except TimeoutError:
            raise HTTPProtocolError("the rest of the body did not come in time", 408) from None
        finally:
            self._patience -= loop.time() - began
        if message["type"] != "http.request":
            raise ClientLeft
        self._all_here = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    async def _refuse(self, error: CredSSPError) -> None:
        """Refuse a body that the application has begun to read."""
        reply = self._connection.fail(error)
        started, self._over = self._started, True
        if started:
            self._connection.abort()
        else:
            await self._reply(reply)

    async def _reply(self, reply: Reply) -> None:
        """Send an answer of our own, and skip what is left of the body."""
        self._over = True
        headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers]
        await self._write({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = {"type": "http.response.body", "body": reply.body}
        if not self._all_here:
            await self._write({**body, "more_body": True})
            await self._skip()
            body["body"] = b""
        await self._write({**body, "more_body": False})
        if not self._all_here:
            self._connection.close()

    async def _skip(self) -> None:
        left, self._patience = _SKIPPED, min(_SKIPPED_SECONDS, self._patience)
        try:
            while not self._all_here and left > 0:
                left -= len(await self._read_raw())
        except (ClientLeft, CredSSPError):
            pass

    # --- the answer ---

    async def send(self, message: Message) -> None:
        """Take the application's answer in plain.

        Raises:
            RuntimeError: The application breaks the order of messages, or sends what cannot be sealed.
            ValueError: The answer has not as many bytes as its Content-Length says.
        """
        kind = message["type"]
        if kind == "http.response.start" and self._start is None and not self._started:
            self._start = message
        elif kind == "http.response.body" and (self._start is not None or self._started):
            if not self._over:
                await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"expected http.response.start and then http.response.body, got {kind!a}")

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._start is not None:
            start, self._start, self._started = self._start, None, True
            self._held = [self._sealed_start(start, None if more else len(body))]
        for piece in _pieces(b"" if self._mute else body):
            await self._write_body(bytes(piece) if self._sealer is None else self._sealer.feed(piece))
        if more:
            body = self._sealer.flush() if self._sealer is not None else b""
            if body or self._held:
                await self._write({"type": "http.response.body", "body": body, "more_body": True})
            return
        end = self._sealer.finish() if self._sealer is not None else b""
        if not self._all_here:
            await self._write_body(end)
            await self._drain()
            end = b""
        self._over = True
        await self._write({"type": "http.response.body", "body": end, "more_body": False})
        if not self._all_here:
            self._connection.close()

    def _sealed_start(self, start: Message, length: int | None) -> Message:
        """Return the beginning of the sealed answer, and make the sealer of its body."""
        headers: list[tuple[bytes, bytes]] = [(bytes(name), bytes(value)) for name, value in start.get("headers", ())]
        if self._opener is None:
            return {**start, "headers": headers}
        outside = [field for field in headers if field[0].lower() not in _OF_THE_ENVELOPE]
        if one_value(outside, "Content-Encoding") not in {"", "identity"}:
            raise RuntimeError("expected an answer without content-encoding, which cannot be sealed, got one")
        self._mute = start["status"] in _BODILESS or self._scope["method"] == "HEAD"
        if not self._mute:
            if declared := one_value(headers, "Content-Length"):
                length = int(declared)
            content_type = one_value(headers, "Content-Type") or "application/octet-stream"
            self._sealer = sealer = Sealer(self._connection.context, length, content_type)
            outside.append((b"content-type", sealer.media_type.encode()))
            if sealer.size is not None:
                outside.append((b"content-length", b"%d" % sealer.size))
        return {"type": "http.response.start", "status": start["status"], "headers": outside}

    async def _drain(self) -> None:
        """Open what the application has left of the body, so that the next request finds its place in the records."""
        if self._ahead is None and self._opener is None and values_of(self._headers, "Expect"):
            return  # the client waits to be asked for its body
        try:
            while not self._all_here:
                await self._read()
        except ClientLeft:
            pass
        except CredSSPError as error:
            self._connection.fail(error)
            self._all_here = False

    async def _write_body(self, body: bytes) -> None:
        if body:
            await self._write({"type": "http.response.body", "body": body, "more_body": True})

    async def _write(self, message: Message) -> None:
        """Send the beginning of the answer, if it is still held, and then a message."""
        messages, self._held = [*self._held, message], []
        try:
            async with asyncio.timeout(self._connection.limits.body_timeout):
                for each in messages:
                    await self._send_raw(each)
        except TimeoutError:
            self._over = True
            self._connection.abort()


def _pieces(body: bytes) -> Iterator[memoryview | bytes]:
    if len(body) <= _PIECE:
        yield body
        return
    view = memoryview(body)
    for start in range(0, len(view), _PIECE):
        yield view[start : start + _PIECE]

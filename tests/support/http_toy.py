"""A small asyncio server over `ServerExchange` and h11, for tests of clients: it answers sealed bodies, in upper case.

Each connection has an exchange of its own. Tests change what it does by its hooks.
"""

import asyncio
import contextlib
import dataclasses
import ssl

import h11
from support import endpoints
from support.endpoints import BOB
from support.listener import Listener

from acredssp.aio import ServerAnswers, answer_events
from acredssp.credentials import Deny, Password
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.errors import CredSSPError
from acredssp.http import Sealer, ServerExchange
from acredssp.policy import Policy
from acredssp.tls import end_point_binding, server_context_from_pem

WEB = SPNList.of("HTTP/*", "WSMAN/*")
DELEGATION = DelegationPolicy(allow_fresh_credentials=WEB, allow_fresh_credentials_when_ntlm_only=WEB)
CAROL = Password("carols", "carol", "CONTOSO")
ACCOUNTS = {"bob": BOB, "carol": CAROL}
PIECE = 65_536


def client_config(policy=None, **changes):
    return endpoints.client_config(policy, **{"delegation": DELEGATION} | changes)


def lookup(request):
    return ACCOUNTS.get(request.principal.user) or Deny()


@dataclasses.dataclass
class Asked:
    """A request that was served: by which connection, whose it is, and what was sent."""

    connection: int
    user: str
    method: str
    target: str
    body: bytes
    headers: dict
    mechanism: str = ""
    content_type: str = ""


class Toy(Listener):
    """The server. `url` is where it is.

    Args:
        config: The configuration; None for one that knows bob and carol.
        tls: The TLS context outside; None for plain HTTP.
        answer: Makes the answer of a request: (status, plaintext, whether it is sealed). An answer of bytes alone is
            sent as it is, and ends the connection.
        close_after: Whether a connection ends after an answer.
    """

    def __init__(self, config=None, tls=None, answer=None, **options):
        super().__init__()
        self.config = config or endpoints.server_config(lookup=lookup)
        self.tls, self.options = tls, options
        self.answer = answer or (lambda asked: (200, asked.body.upper(), True))
        self.served, self.legs, self.errors, self.connections = [], [], [], 0

    async def __aenter__(self):
        self.port = await self.listen(self.options.get("port", 0), limit=2**20)
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://localhost:{self.port}/wsman"
        return self

    async def serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(ConnectionError, ssl.SSLError, h11.RemoteProtocolError, asyncio.CancelledError):
            if self.tls is not None:
                await upgrade(writer, self.tls)
            await Conversation(self, reader, writer, self.connections).run()


async def upgrade(writer, tls):
    """Begin TLS. Python 3.11 raises an AttributeError for a client that leaves in the middle."""
    transport = writer.transport
    try:
        await writer.start_tls(tls)
    except AttributeError:
        writer._transport = transport
        raise ConnectionError from None


class Conversation:
    """One connection."""

    def __init__(self, toy, reader, writer, number):
        self.toy, self.reader, self.writer, self.number = toy, reader, writer, number
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        self.exchange = ServerExchange(toy.config, channel_bindings=toy.options.get("channel_bindings"))
        self.exchange._allow_unsealed = toy.options.get("unsealed", False)
        self.answers = ServerAnswers(toy.config, self.exchange.context)

    async def event(self):
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(PIECE))
        return event

    async def body(self):
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            if isinstance(event, h11.ConnectionClosed):
                raise ConnectionError
            yield bytes(event.data)

    async def run(self):
        while isinstance(request := await self.event(), h11.Request):
            headers = list(request.headers)
            turn = await answer_events(self.exchange, self.exchange.receive(headers), self.answers)
            if turn.reply is not None:
                self.toy.legs.append((self.number, turn.reply.status))
                async for _ in self.body():
                    pass
                await self.reply(turn.reply)
            else:
                await self.serve(request, headers)
            if self.http.our_state is h11.MUST_CLOSE or self.http.their_state is not h11.DONE:
                return
            self.http.start_next_cycle()

    async def serve(self, request, headers):
        try:
            unsealed = (
                self.toy.options.get("unsealed") and dict(headers).get(b"content-type", b"")[:10] != b"multipart/"
            )
            opener = None if unsealed else self.exchange.opener(headers)
            body = b"".join([opener.feed(piece) if opener else piece async for piece in self.body()])
            if opener:
                opener.finish()
        except CredSSPError as error:
            self.toy.errors.append(error)
            await self.reply(self.exchange.fail(error).reply)
            return
        user = self.exchange.context.info.principal.user
        asked = Asked(self.number, user, request.method.decode(), request.target.decode(), body, dict(headers))
        asked.mechanism = self.exchange.context.info.mechanism
        asked.content_type = opener.content_type if opener else ""
        self.toy.served.append(asked)
        answer = self.toy.answer(asked)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer is None:
            self.writer.transport.abort()
            raise ConnectionError
        if isinstance(answer, bytes):
            self.writer.write(answer)
            await self.writer.drain()
            if self.writer.can_write_eof():
                self.writer.write_eof()
                await self.reader.read()
            raise ConnectionError
        await self.respond(*answer)

    async def respond(self, status, plaintext, sealed):
        if not sealed:
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(plaintext)))]
            await self.send(h11.Response(status_code=status, headers=headers))
            await self.send(h11.Data(data=plaintext))
            await self.send(h11.EndOfMessage())
            return
        sealer = Sealer(self.exchange.context, len(plaintext), "text/plain")
        size = ("Transfer-Encoding", "chunked") if sealer.size is None else ("Content-Length", str(sealer.size))
        await self.send(h11.Response(status_code=status, headers=[("Content-Type", sealer.media_type), size]))
        for start in range(0, len(plaintext), PIECE):
            await self.send(h11.Data(data=sealer.feed(plaintext[start : start + PIECE])))
        await self.send(h11.Data(data=sealer.finish()))
        await self.send(h11.EndOfMessage())

    async def reply(self, reply):
        await self.send(h11.Response(status_code=reply.status, headers=list(reply.headers)))
        await self.send(h11.Data(data=reply.body))
        await self.send(h11.EndOfMessage())

    async def send(self, event):
        self.writer.write(self.http.send(event))
        await self.writer.drain()


@dataclasses.dataclass
class Outer:
    """The TLS of https, with the certificate of `support.endpoints`, and the channel binding to it."""

    context: ssl.SSLContext
    binding: bytes


# Made at import, since making a context reads files, which no test may do on its loop.
OUTER = Outer(
    server_context_from_pem(Policy(), endpoints.CERTIFICATE, endpoints.KEY),
    end_point_binding(ssl.PEM_cert_to_DER_cert(endpoints.CERTIFICATE.decode())),
)
TRUSTING = ssl.create_default_context(cadata=endpoints.CERTIFICATE.decode())
DEFAULT = ssl.create_default_context()

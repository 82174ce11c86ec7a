"""A server of RDP that says what a test wants, in clear, in TLS and in CredSSP."""

import asyncio
import contextlib
import datetime as dt
import functools
import ssl
import warnings

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import acredssp
from acredssp.diagnosis import missing_bytes
from acredssp.mechanisms.ntlm.context import REQUIRED_FLAGS
from acredssp.mechanisms.ntlm.messages import AvId, ChallengeMessage, Flags, encode_av_pairs
from acredssp.rdp import ConnectionConfirm, ConnectionRequest, FailureCode, read_negotiation
from acredssp.tls import TLSSession, server_context_from_pem
from acredssp.wire import TSRequest

EPOCH = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
NAMES = {
    AvId.NB_COMPUTER_NAME: "SERVER",
    AvId.NB_DOMAIN_NAME: "CONTOSO",
    AvId.DNS_COMPUTER_NAME: "server.contoso.example",
    AvId.DNS_DOMAIN_NAME: "contoso.example",
    AvId.DNS_TREE_NAME: "contoso.example",
}
CLOSE = object()
"""An answer that is the end of the connection."""


def challenge(now=None, names=NAMES):
    """An NTLM CHALLENGE with names, and with a clock unless `now` is None."""
    pairs = {name: text.encode("utf-16-le") for name, text in names.items()}
    if now is not None:
        pairs[AvId.TIMESTAMP] = int((now - EPOCH).total_seconds() * 10_000_000).to_bytes(8, "little")
    flags = REQUIRED_FLAGS | Flags.NTLM | Flags.TARGET_INFO | Flags.VERSION
    return ChallengeMessage.encode(flags, bytes(8), b"C\0O\0N\0", encode_av_pairs(pairs))


@functools.cache
def credentials():
    """A certificate and its key in PEM, made once."""
    return acredssp.self_signed(["localhost"], "ec")


def pems_of(made):
    """A certificate of `support.certificates` and its key in PEM."""
    key = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.certificate.public_bytes(Encoding.PEM), key


def context(lowest=ssl.TLSVersion.TLSv1_2, highest=ssl.TLSVersion.TLSv1_3, suites=None, pems=None):
    """A TLS context of the server's own, which nobody else uses."""
    policy = acredssp.Policy(min_tls=ssl.TLSVersion.TLSv1, dangerous_allow_legacy_tls=True)
    made = server_context_from_pem(policy, *(pems or credentials()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version, made.maximum_version = lowest, highest
    if suites:
        made.set_ciphers(suites)
    return made


class ScriptedServer:
    """A server that says what a test wants.

    Args:
        accepts: The protocols that it takes. The first that a request names is selected.
        refusal: The code for any other; None for the end of the connection.
        flags: Its flags.
        tls: Its TLS context.
        answer: A TSRequest, or the function of the client's TSRequest that returns one, or CLOSE.
        greeting: What it says before all else, after which it sends nothing more.
    """

    def __init__(self, *accepts, refusal=FailureCode.HYBRID_REQUIRED_BY_SERVER, flags=None, tls=None, answer=CLOSE,
                 greeting=b""):  # fmt: skip
        self.accepts, self.refusal, self.flags = accepts, refusal, flags
        self.tls, self.answer, self.greeting = tls, answer, greeting
        self.requests, self.asked, self.ends = [], [], []

    async def __call__(self, reader, writer):
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, acredssp.CredSSPError, EOFError):
            if self.greeting:
                writer.write(self.greeting)
                writer.write_eof()
                await reader.read()
                return
            request = ConnectionRequest.decode(await read_negotiation(reader))
            self.requests.append(request)
            confirm = self._confirm(request.requested_protocols)
            if confirm is None:
                return
            writer.write(confirm.encode())
            if confirm.selected_protocol and self.tls is not None:
                await self._in_tls(reader, writer)
            await reader.read(1)

    def _confirm(self, requested):
        for each in self.accepts:
            if each is None:
                return ConnectionConfirm()
            if each in requested and (each or not requested):
                flags = {} if self.flags is None else {"flags": self.flags}
                return ConnectionConfirm(selected_protocol=each, **flags)
        return None if self.refusal is None else ConnectionConfirm(failure_code=self.refusal)

    async def _in_tls(self, reader, writer):
        tls = TLSSession(self.tls, server_side=True)
        done = False
        try:
            while not done:
                data = await reader.read(65536)
                if not data:
                    return
                done = tls.handshake(data)
                writer.write(tls.output())
        finally:
            writer.write(tls.output())
        plain = tls.read()
        while not tls.peer_closed:
            if plain and not missing_bytes(plain):
                answer = self.answer(TSRequest.decode(plain)) if callable(self.answer) else self.answer
                self.asked.append(TSRequest.decode(plain))
                if answer is CLOSE:
                    tls.close()
                    writer.write(tls.output())
                    return
                tls.write(answer.encode())
                writer.write(tls.output())
                plain = b""
            data = await reader.read(65536)
            if not data:
                self.ends.append("without close_notify")
                return
            plain += tls.read(data)
        self.ends.append("close_notify")


@contextlib.asynccontextmanager
async def serving(server, host="127.0.0.1", port=0):
    """Serve, and give the port."""
    tasks = set()

    async def run(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await server(reader, writer)
        finally:
            tasks.discard(asyncio.current_task())

    listening = await asyncio.start_server(run, host, port)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        while tasks:
            await asyncio.wait([*tasks])
    await asyncio.sleep(0)


def ntlm(version=6, now=None):
    """A server's answer to NTLM without SPNEGO, and to nothing else."""

    def answer(request):
        return TSRequest(version, challenge(now)) if request.nego_token.startswith(b"NTLMSSP\0") else CLOSE

    return answer


class Silent:
    """Serves the first connections, and only reads from later ones.

    Args:
        answered: The number of connections to serve.
        server: Serves them.
    """

    def __init__(self, answered, server=None):
        self.answered, self.server = answered, server
        self.held = asyncio.Event()
        """Is set once a later connection has brought bytes."""

    async def __call__(self, reader, writer):
        if self.answered:
            self.answered -= 1
            await self.server(reader, writer)
            return
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                self.held.set()
        writer.close()

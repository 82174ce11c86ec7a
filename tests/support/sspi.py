"""Callers of InitializeSecurityContext and AcceptSecurityContext: the loop of the functions' pages, at any cut.

    client, server = Client(await outbound()), Server(await inbound())
    await talk(client, server, CUTS["byte_by_byte"])

A caller knows nothing of TLS and CredSSP: what it does follows from the status, from MISSING and from EXTRA alone.
"""

import contextlib
import ssl

from support.endpoints import CERTIFICATE, client_config, server_config
from support.engine import whole

from acredssp.sspi import (
    ASC_REQ,
    ISC_REQ,
    SECBUFFER_EXTRA,
    SECBUFFER_MISSING,
    SECBUFFER_READONLY,
    SECBUFFER_TOKEN,
    SECPKG_CRED_INBOUND,
    SECPKG_CRED_OUTBOUND,
    AcceptSecurityContext,
    AcquireCredentialsHandle,
    ContextAttributes,
    CredHandle,
    CtxtHandle,
    FreeContextBuffer,
    InitializeSecurityContext,
    SecBuffer,
    SecBufferDesc,
    SecurityStatus,
    TimeStamp,
)

OK = SecurityStatus.SEC_E_OK
CONTINUE = SecurityStatus.SEC_I_CONTINUE_NEEDED
INCOMPLETE = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
TOO_SMALL = SecurityStatus.SEC_E_BUFFER_TOO_SMALL
ASKED = SecurityStatus.SEC_I_INCOMPLETE_CREDENTIALS

CERTIFICATE_DER = ssl.PEM_cert_to_DER_cert(CERTIFICATE.decode())
TARGET = "TERMSRV/localhost"
CLIENT_FLAGS = ISC_REQ.ALLOCATE_MEMORY | ISC_REQ.EXTENDED_ERROR | ISC_REQ.DELEGATE
SERVER_FLAGS = ASC_REQ.ALLOCATE_MEMORY | ASC_REQ.EXTENDED_ERROR


async def outbound(auth_data=None, package="CREDSSP", **options):
    """A client's credentials handle, bob's unless told; `options` are the handle's own."""
    return await acquire(auth_data or client_config(), SECPKG_CRED_OUTBOUND, package, **options)


async def inbound(auth_data=None, package="CREDSSP", **options):
    """A server's credentials handle, whose lookup knows bob's password unless told."""
    return await acquire(auth_data or server_config(), SECPKG_CRED_INBOUND, package, **options)


async def acquire(auth_data, use, package="CREDSSP", **options):
    """A credentials handle."""
    handle = CredHandle(**options)
    status = await AcquireCredentialsHandle(None, package, use, None, auth_data, None, None, handle)
    assert status is OK, handle.error
    return handle


@contextlib.contextmanager
def held(state, use):
    """Hold a context in the way that a call in flight holds it."""
    state.hold(use)
    try:
        yield
    finally:
        state.release(use)


class Caller:
    """A caller that calls one of the two functions until the context is established.

    Args:
        credential: The credentials handle.
        flags: fContextReq of every call.
        memory: The caller's own memory for tokens, in bytes; it grows when it is too small.
        spare: Whether to give a second buffer, for MISSING and EXTRA.
        extras: More buffers for the input of the first call.
    """

    def __init__(self, credential, flags, *, memory=0, spare=True, extras=()):
        self.credential = credential
        self.flags = flags
        self.handle, self.attributes, self.expiry = CtxtHandle(), ContextAttributes(), TimeStamp()
        self.memory = bytearray(memory)
        self.status = None
        self.missing = 0
        """The number of bytes that the last call asked for."""
        self.received = b""
        """The bytes that have arrived and were not taken."""
        self.calls = 0
        self.pieces = []
        """The sizes of the pieces in which everything has come."""
        self.input = None
        """The input's descriptor of the last call."""
        self.spare, self._extras = spare, extras

    @property
    def done(self):
        """Whether the loop has ended, with a context or a failure."""
        return self.status is OK or (self.status is not None and self.status.failed and self.status is not INCOMPLETE)

    @property
    def error(self):
        """The error of the last call; None if it did not fail."""
        return self.handle.error

    async def feed(self, piece):
        """Take a piece from the network; return the tokens for the peer, one for each call that made one."""
        self.received += piece
        self.pieces.append(len(piece))
        self.missing = max(0, self.missing - len(piece))
        tokens = []
        while not self.missing and not self.done and self.status is not ASKED:
            before = self.received
            if token := await self.call(self.received):
                tokens.append(token)
            if not self.received or (before == self.received and not token):
                break
        return tokens

    async def call(self, data=None):
        """Call once with `data`, None for no input; return the token. `received` keeps bytes that were not taken."""
        buffers = self.beside()
        if data is not None:
            buffers = [SecBuffer(SECBUFFER_TOKEN, data), *([SecBuffer()] if self.spare else []), *buffers]
        self.input = SecBufferDesc(buffers) if buffers else None
        output = SecBuffer(SECBUFFER_TOKEN, self.memory or None)
        status = await self._call(output)
        while status is TOO_SMALL:
            self.memory = bytearray(output.cbBuffer)
            output.pvBuffer = self.memory
            status = await self._call(output)
        self.status, self.missing = status, 0
        if not status.failed or status is INCOMPLETE:
            self._note_report(data or b"")
        token = bytes(output)
        if output.allocated:
            assert await FreeContextBuffer(output) is OK
        return token

    async def _call(self, output):
        self.calls += 1
        return await self.invoke(SecBufferDesc([output]))

    async def invoke(self, output):
        """Call the function, with `output` for its token."""
        raise NotImplementedError

    def beside(self):
        """Buffers of the input beside those for the token."""
        return [] if self.calls else list(self._extras)

    def _note_report(self, data):
        reports = [buffer for buffer in self.input.pBuffers if buffer.type != SECBUFFER_TOKEN] if self.input else []
        kinds = {buffer.BufferType: buffer.cbBuffer for buffer in reports}
        self.missing = kinds.get(SECBUFFER_MISSING, int(self.status is INCOMPLETE))
        left = len(data) if self.status is INCOMPLETE else kinds.get(SECBUFFER_EXTRA, 0)
        assert left <= len(data)
        self.received = data[len(data) - left :]


class Client(Caller):
    """A caller of InitializeSecurityContext.

    Args:
        credential: As for `Caller`.
        target: pszTargetName.
        flags: fContextReq.
        certificate: Bare shape: the server's, in DER, which goes beside the later calls' tokens.
        options: As for `Caller`.
    """

    def __init__(self, credential, flags=CLIENT_FLAGS, *, target=TARGET, certificate=None, **options):
        super().__init__(credential, flags, **options)
        self.target = target
        self.certificate = certificate

    def beside(self):
        wrapped = len(self.certificate or b"").to_bytes(4, "little") + (self.certificate or b"")
        late = [SecBuffer(SECBUFFER_READONLY | SECBUFFER_TOKEN, wrapped)] if self.certificate and self.calls else []
        return super().beside() + late

    async def invoke(self, output):
        return await InitializeSecurityContext(
            phCredential=self.credential,
            phContext=self.handle if self.handle.valid else None,
            pszTargetName=self.target,
            fContextReq=self.flags,
            pInput=self.input,
            phNewContext=self.handle,
            pOutput=output,
            pfContextAttr=self.attributes,
            ptsExpiry=self.expiry,
        )


class Server(Caller):
    """A caller of AcceptSecurityContext."""

    def __init__(self, credential, flags=SERVER_FLAGS, **options):
        super().__init__(credential, flags, **options)

    async def invoke(self, output):
        return await AcceptSecurityContext(
            phCredential=self.credential,
            phContext=self.handle if self.handle.valid else None,
            pInput=self.input,
            fContextReq=self.flags,
            phNewContext=self.handle,
            pOutput=output,
            pfContextAttr=self.attributes,
            ptsExpiry=self.expiry,
        )


async def talk(client, server, cut=whole):
    """Let both call until each has a context or has failed, or neither has anything to send any more.

    The bytes that an end receives are cut by `cut(bytes on the way, bytes it asked for)`. Returns the flights: "c2s" or
    "s2c", and the token.
    """
    flights = [("c2s", await client.call())]
    wires = {"c2s": flights[0][1], "s2c": b""}
    while not (client.done and server.done) and any(wires.values()):
        progress = False
        for direction, end, answers in (("c2s", server, "s2c"), ("s2c", client, "c2s")):
            if wires[direction] and not end.done:
                piece = cut(wires[direction], end.missing)
                wires[direction] = wires[direction][len(piece) :]
                tokens = await end.feed(piece)
                flights += [(answers, token) for token in tokens]
                wires[answers] += b"".join(tokens)
                progress = True
        if not progress or ASKED in (client.status, server.status):
            break
    return flights


async def drive(caller, reader, writer, size=lambda: 65_536):
    """Call until there is a context or a failure, over a pair of streams; read at most `size()` bytes at once."""
    if isinstance(caller, Client):
        writer.write(await caller.call())
    while not caller.done and (piece := await reader.read(size())):
        for token in await caller.feed(piece):
            writer.write(token)
    await writer.drain()


async def pair(client=None, server=None, package="CREDSSP", **options):
    """A client and a server for each other; `options` are for both."""
    bare = {"certificate": CERTIFICATE_DER} if package == "TSSSP" else {}
    return (
        Client(await outbound(client, package), **bare, **options),
        Server(await inbound(server, package), **options),
    )

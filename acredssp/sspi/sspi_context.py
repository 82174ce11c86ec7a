"""One security context as one object: `await step(token)` until `complete`, then `wrap` and `unwrap`.

The class is for programs that are written for pywin32's ClientAuth and ServerAuth, for sspilib or for pyspnego;
docs/migration.md puts their lines beside those for acredssp. It runs the calling loop of the SSPI functions, and keeps
the buffers:

* It keeps the input that a call did not take, so a token may be cut anywhere.
* It repeats a call until the call needs more bytes than there are. So each step gives one token at most, and `missing`
  says how many bytes the next step needs.
* It raises a failing status as the `CredSSPError` that the function left on the handle.

Applications call this module, and so does `streams`, which reads and sends for it.
"""

import datetime as dt
from types import TracebackType
from typing import Final, Self

from acredssp.config import ClientConfig, ServerConfig
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.attributes import QueryContextAttributes
from acredssp.sspi.buffers import Memory, SecBuffer, SecBufferDesc
from acredssp.sspi.constants import CREDSSP_NAME
from acredssp.sspi.credentials import AcquireCredentialsHandle, AuthData, FreeCredentialsHandle
from acredssp.sspi.flags import ASC_REQ, ASC_RET, ISC_REQ, ISC_RET, SCHANNEL, SECBUFFER, SECPKG_ATTR, SECPKG_CRED
from acredssp.sspi.handles import ContextAttributes, CredHandle, CtxtHandle, TimeStamp
from acredssp.sspi.lifetime import ApplyControlToken, DeleteSecurityContext
from acredssp.sspi.messages import DecryptMessage, EncryptMessage
from acredssp.sspi.steps import AcceptSecurityContext, InitializeSecurityContext
from acredssp.sspi.structures import CREDSSP_CRED, CREDSSP_CRED_EX, SecPkgContext_StreamSizes
from acredssp.status import SecurityStatus

__all__ = ["CLIENT_FLAGS", "SERVER_FLAGS", "SSPIContext", "credentials_for", "expect_side"]

CLIENT_FLAGS: Final = (
    ISC_REQ.DELEGATE
    | ISC_REQ.MUTUAL_AUTH
    | ISC_REQ.CONFIDENTIALITY
    | ISC_REQ.INTEGRITY
    | ISC_REQ.REPLAY_DETECT
    | ISC_REQ.SEQUENCE_DETECT
    | ISC_REQ.STREAM
    | ISC_REQ.EXTENDED_ERROR
)
"""A client's flags unless the caller gives others. MUTUAL_AUTH refuses a server whose identity is not proven."""

SERVER_FLAGS: Final = (
    ASC_REQ.CONFIDENTIALITY
    | ASC_REQ.INTEGRITY
    | ASC_REQ.REPLAY_DETECT
    | ASC_REQ.SEQUENCE_DETECT
    | ASC_REQ.STREAM
    | ASC_REQ.EXTENDED_ERROR
)
"""A server's flags unless the caller gives others."""

_OK: Final = SecurityStatus.SEC_E_OK
_INCOMPLETE: Final = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
_EXPIRED: Final = SecurityStatus.SEC_I_CONTEXT_EXPIRED
_LENGTH_SIZE: Final = 4


async def credentials_for(auth_data: AuthData, package: str, *, client: bool) -> CredHandle:
    """Return a handle of credentials for one side.

    Raises:
        CredSSPError: AcquireCredentialsHandle failed.
        TypeError: An argument has a wrong type.
    """
    handle = CredHandle()
    use = SECPKG_CRED.OUTBOUND if client else SECPKG_CRED.INBOUND
    check(await AcquireCredentialsHandle(None, package, use, None, auth_data, None, None, handle), handle)
    return handle


def check(status: SecurityStatus, handle: CredHandle | CtxtHandle) -> None:
    """Raise the error behind a failing status."""
    if status.failed:
        assert handle.error is not None
        raise handle.error


def expect_side(credential: object, target: str | None) -> None:
    """Check that credentials are of a possible type, and that a client's configuration has a target and no other one.

    Raises:
        TypeError: The credentials are none.
        ValueError: A client's configuration comes without a target, or a server's with one.
    """
    expect("target", target, str, None)
    expect("credential", credential, CredHandle, CREDSSP_CRED, CREDSSP_CRED_EX, ClientConfig, ServerConfig, tuple)
    if isinstance(credential, ClientConfig) and target is None:
        raise ValueError("target: expected a name such as TERMSRV/host, since the credential is a client's, got None")
    if isinstance(credential, ServerConfig) and target is not None:
        raise ValueError("target: expected None, since the credential is a server's, got a name")


class SSPIContext:
    """A security context from its first token to its last message, for a client or for a server.

    Leave it with `close()`, or use it as an asynchronous context manager.

    Args:
        credential: A `CredHandle`, which the caller frees; or pAuthData of AcquireCredentialsHandle (a `ClientConfig`,
            a `ServerConfig`, a `CREDSSP_CRED`), for credentials that belong to this context only.
        target: The target of a client, as pszTargetName: `TERMSRV/host`. None makes the context of a server.
        package: The package for pAuthData: `CREDSSP`, or `TSSSP` for CredSSP without its TLS.
        fContextReq: `ISC_REQ` or `ASC_REQ` flags. None asks for everything that CredSSP offers: a client then delegates
            its credentials only to a server that is proven by its certificate or by Kerberos (MUTUAL_AUTH).
        server_certificate: Client of `TSSSP`: the certificate (DER) of the server whose TLS the caller runs.

    Attributes:
        handle: The handle, for QueryContextAttributes and every other SSPI function.
        complete: Whether the context is established: `wrap` and `unwrap` may follow.
        missing: How many bytes the next `step` or `unwrap` needs before it can do anything; 0 if it needs none. Bytes
            beyond that number may be given, but belong to another record.
        error_token: The bytes that should still be sent to the peer after a step that failed; may be empty.
        peer_closed: Whether the peer has ended its direction (close_notify).

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: `credential` is a `ClientConfig` and there is no target, or it is a `ServerConfig` and there is one.
    """

    def __init__(
        self,
        credential: CredHandle | AuthData,
        target: str | None = None,
        *,
        package: str = CREDSSP_NAME,
        fContextReq: int | None = None,
        server_certificate: bytes | None = None,
    ) -> None:
        expect_side(credential, target)
        expect("fContextReq", fContextReq, int, None)
        expect("server_certificate", server_certificate, bytes, None)
        self.handle: Final = CtxtHandle()
        self.complete = False
        self.missing = 0
        self.error_token = b""
        self.peer_closed = False
        self._auth_data = credential
        self._credential = credential if isinstance(credential, CredHandle) else None
        self._package = package
        self._target = target
        flags = fContextReq if fContextReq is not None else SERVER_FLAGS if target is None else CLIENT_FLAGS
        self._flags = flags | ISC_REQ.ALLOCATE_MEMORY
        self._certificate = server_certificate
        self._attributes = ContextAttributes()
        self._expiry = TimeStamp()
        self._received = bytearray()
        """What has come and was not taken yet."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        side = "server" if self._target is None else f"client for {self._target}"
        return f"<SSPIContext of a {side}{', complete' if self.complete else ''}>"

    # --- facts ---

    @property
    def attributes(self) -> ISC_RET | ASC_RET:
        """The pfContextAttr of the last step: `ISC_RET` flags of a client, `ASC_RET` flags of a server."""
        family = ASC_RET if self._target is None else ISC_RET
        return family(int(self._attributes))

    @property
    def expiry(self) -> dt.datetime | None:
        """The end of the context and its Kerberos ticket; None if it never ends, and while it is not complete."""
        return self._expiry.to_datetime() if self.complete else None

    # --- the calling loop ---

    async def step(self, token: Memory = b"") -> bytes:
        """Take bytes that have come from the peer, and return the token to send; it may be empty.

        A client's first step takes no bytes. Call `step` again with the next bytes until `complete` is True. Bytes
        behind the last token are kept for `unwrap`.

        Args:
            token: Bytes of the peer, cut anywhere.

        Raises:
            CredSSPError: The handshake has failed for good: send `error_token` and close the connection.
            asyncio.CancelledError: The step was cancelled; the context has failed.
            TypeError: `token` is not bytes-like.
        """
        self._received += token
        self.missing = max(0, self.missing - len(token))
        del token
        tokens = []
        while not self.complete and not self.missing:
            tokens.append(await self._call())
        return b"".join(tokens)

    async def _call(self) -> bytes:
        """Make one call of the function; return its token."""
        report, output = SecBuffer(), SecBuffer(SECBUFFER.TOKEN)
        size = len(self._received)
        status = await self._function(
            SecBufferDesc([SecBuffer(SECBUFFER.TOKEN, bytes(self._received)), report, *self._beside()]),
            SecBufferDesc([output]),
        )
        if status is _INCOMPLETE:
            self.missing = report.cbBuffer
            return b""
        if status.failed:
            self._received.clear()
            self.error_token = bytes(output)
            check(status, self.handle)
        del self._received[: size - (report.cbBuffer if report.type == SECBUFFER.EXTRA else 0)]
        self.complete = status is _OK
        return bytes(output)

    async def _function(self, given: SecBufferDesc, output: SecBufferDesc) -> SecurityStatus:
        """Call InitializeSecurityContext or AcceptSecurityContext; the first call makes the context.

        Later calls name no credentials. So a server that asks for a client certificate gets that of the first call's
        credentials, or none.
        """
        first = self.handle.referent is None
        if first and self._credential is None and not isinstance(self._auth_data, CredHandle):
            self._credential = await credentials_for(self._auth_data, self._package, client=self._target is not None)
        credential, context = (self._credential, None) if first else (None, self.handle)
        if self._target is None:
            return await AcceptSecurityContext(
                credential, context, given, self._flags,
                phNewContext=self.handle, pOutput=output, pfContextAttr=self._attributes, ptsExpiry=self._expiry,
            )  # fmt: skip
        return await InitializeSecurityContext(
            credential, context, self._target, self._flags, pInput=given,
            phNewContext=self.handle, pOutput=output, pfContextAttr=self._attributes, ptsExpiry=self._expiry,
        )  # fmt: skip

    def _beside(self) -> list[SecBuffer]:
        """Return the buffers that a client of the bare shape gives beside every token except the first."""
        if self._certificate is None or self.handle.referent is None:
            return []
        wrapped = len(self._certificate).to_bytes(_LENGTH_SIZE, "little") + self._certificate
        return [SecBuffer(SECBUFFER.READONLY | SECBUFFER.TOKEN, wrapped)]

    # --- messages ---

    async def wrap(self, data: Memory) -> bytes:
        """Encrypt data of any length, and return the TLS records to send.

        Raises:
            CredSSPError: The context is not complete, our direction has ended, or TLS failed.
        """
        self._expect_complete()
        rest = memoryview(data).cast("B")
        records: list[bytes] = []
        while True:
            sizes = SecPkgContext_StreamSizes()
            check(await QueryContextAttributes(self.handle, SECPKG_ATTR.STREAM_SIZES, sizes), self.handle)
            buffers = [
                SecBuffer(SECBUFFER.STREAM_HEADER, bytearray(sizes.cbHeader)),
                SecBuffer(SECBUFFER.DATA, bytearray(rest[: sizes.cbMaximumMessage])),
                SecBuffer(SECBUFFER.STREAM_TRAILER, bytearray(sizes.cbTrailer)),
            ]
            check(await EncryptMessage(self.handle, 0, SecBufferDesc([*buffers, SecBuffer()])), self.handle)
            records += map(bytes, buffers)
            rest = rest[sizes.cbMaximumMessage :]
            if not rest:
                return b"".join(records)

    async def unwrap(self, data: Memory = b"") -> bytes:
        """Decrypt all whole records, and return their data; empty if there is no whole record.

        The rest is kept for the next call. Call it once without `data` first: bytes may have come behind the last token
        of the handshake. After the peer's close_notify (`peer_closed`), there is no more data.

        Args:
            data: Bytes of the peer, cut anywhere.

        Raises:
            CredSSPError: The context is not complete, or a record does not verify. Such a record ends the context, and
                the data of the records in front of it is lost.
        """
        self._expect_complete()
        received, start, messages = self._received + data, 0, []
        self._received, self.missing = bytearray(), 0
        while not self.missing and not self.peer_closed:
            spare = [SecBuffer(), SecBuffer(), SecBuffer()]
            buffers = [SecBuffer(SECBUFFER.DATA, memoryview(received)[start:]), *spare]
            status = await DecryptMessage(self.handle, SecBufferDesc(buffers))
            if status is _INCOMPLETE:
                self.missing = next(buffer.cbBuffer for buffer in spare if buffer.type == SECBUFFER.MISSING)
                break
            check(status, self.handle)
            messages += [bytes(buffer) for buffer in buffers if buffer.type == SECBUFFER.DATA]
            start = len(received) - sum(buffer.cbBuffer for buffer in buffers if buffer.type == SECBUFFER.EXTRA)
            self.peer_closed = status is _EXPIRED
        self._received = received[start:]
        return b"".join(messages)

    def _expect_complete(self) -> None:
        """Refuse a message before the end of the handshake, whose bytes are then still there.

        Raises:
            LocalProtocolError: The handshake has not ended. A context that failed or was closed has its own error.
        """
        if not self.complete and not self.handle.deleted and self.handle.error is None:
            status = SecurityStatus.SEC_E_INVALID_HANDLE
            raise refusal("the context is not established", status, "call step() until complete is True")

    # --- the end ---

    async def shutdown(self) -> bytes:
        """End our direction, and return the close_notify to send. The peer's data can still be unwrapped.

        Raises:
            CredSSPError: The context was closed, or has failed.
        """
        control = SecBuffer(SECBUFFER.TOKEN, SCHANNEL.SHUTDOWN.to_bytes(_LENGTH_SIZE, "little"))
        check(await ApplyControlToken(self.handle, SecBufferDesc([control])), self.handle)
        output = SecBuffer(SECBUFFER.TOKEN)
        check(await self._function(SecBufferDesc([SecBuffer(SECBUFFER.TOKEN)]), SecBufferDesc([output])), self.handle)
        return bytes(output)

    async def close(self) -> None:
        """Delete the context, and its credentials if they belong to it alone. Nothing is sent."""
        if self.handle.referent is not None:
            await DeleteSecurityContext(self.handle)
        if self._credential is not None and self._credential is not self._auth_data and self._credential.valid:
            await FreeCredentialsHandle(self._credential)

"""The calling loop of the SSPI functions over asyncio's streams, awaited until the context is established.

`establish` calls InitializeSecurityContext or AcceptSecurityContext, sends the content of the TOKEN buffer, and reads
the bytes for which SECBUFFER_MISSING asks after SEC_E_INCOMPLETE_MESSAGE: first the header of a record, then the rest
of it. MISSING never reaches past the present record. So no byte behind the handshake is taken out of the reader,
whatever the reader has read ahead.

Applications call this module.
"""

import asyncio
import contextlib
import ssl
from typing import Final, NoReturn

from acredssp.aio.driver import check_in_time, deadline_in
from acredssp.aio.writing import write_if_open
from acredssp.errors import CredSSPError, HandshakeTimeout
from acredssp.policy import Policy
from acredssp.sspi.arguments import expect
from acredssp.sspi.constants import CREDSSP_NAME, TS_SSP_NAME
from acredssp.sspi.context import EstablishState
from acredssp.sspi.credentials import AuthData, FreeCredentialsHandle
from acredssp.sspi.handles import CredHandle, CtxtHandle
from acredssp.sspi.sspi_context import SSPIContext, credentials_for, expect_side

__all__ = ["establish"]

_FAREWELL_GRACE: Final = 1.0
"""Seconds that a peer gets to take the last token. It has some 100 bytes, so only a peer that reads nothing needs
longer."""

_SILENT_SERVER: Final = "a server of RDP answers TLS only after the X.224 negotiation, which the caller has to make"


async def establish(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    credential: CredHandle | AuthData,
    target: str | None = None,
    *,
    package: str = CREDSSP_NAME,
    fContextReq: int | None = None,
    handshake_timeout: float | None = None,
) -> CtxtHandle:
    """Run the calling loop of a security context over a pair of streams, and return the handle of the context.

    Bytes that the peer sends behind the handshake stay in `reader`. The streams still carry ciphertext: EncryptMessage
    and DecryptMessage protect the data. Delete the handle with DeleteSecurityContext.

    Args:
        reader: Gives the peer's bytes. Bytes that it has buffered already belong to the handshake.
        writer: Sends our tokens.
        credential: A `CredHandle`; or pAuthData of AcquireCredentialsHandle, for this one handshake.
        target: The target of a client, as pszTargetName: `TERMSRV/host`. None makes the context of a server.
        package: The package for pAuthData. `TSSSP` is CredSSP without its TLS: the streams are then those of a TLS
            connection, whose certificate a client takes from `writer`.
        fContextReq: `ISC_REQ` or `ASC_REQ` flags. None asks for everything that CredSSP offers: a client then delegates
            its credentials only to a server that is proven by its certificate or by Kerberos (MUTUAL_AUTH).
        handshake_timeout: The time limit in seconds; None for that of the credentials' policy.

    Raises:
        CredSSPError: The handshake failed; `security_status` is the status of the function. The peer was sent the last
            token, and the connection is closed. The error is a `HandshakeTimeout` after the deadline, and a
            `PeerClosed` if the peer left.
        asyncio.CancelledError: The task was cancelled. The connection is closed at once.
        TypeError: An argument has a wrong type. The connection is closed.
        ValueError: `credential` is a `ClientConfig` and there is no target, or it is a `ServerConfig` and there is one.
            The connection is closed.
    """
    expect("reader", reader, asyncio.StreamReader)
    expect("writer", writer, asyncio.StreamWriter)
    try:
        expect_side(credential, target)
        if isinstance(credential, CredHandle):
            return await _establish(reader, writer, credential, target, fContextReq, handshake_timeout)
        own = await credentials_for(credential, package, client=target is not None)
        try:
            return await _establish(reader, writer, own, target, fContextReq, handshake_timeout)
        finally:
            await FreeCredentialsHandle(own)
    except BaseException:
        writer.transport.abort()
        raise


async def _establish(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    credential: CredHandle,
    target: str | None,
    flags: int | None,
    seconds: float | None,
) -> CtxtHandle:
    certificate = _certificate_below(writer) if credential.state.package == TS_SSP_NAME else None
    context = SSPIContext(credential, target, fContextReq=flags, server_certificate=certificate)
    deadline = deadline_in(_time_limit(credential, target) if seconds is None else seconds)
    try:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                await _exchange(context, reader, writer, limit)
        except TimeoutError as error:
            if isinstance(error, CredSSPError):
                raise
            raise HandshakeTimeout("the handshake did not end before its deadline") from None
    except BaseException as error:
        await context.close()
        if isinstance(error, CredSSPError):
            await _say_goodbye(writer, context.error_token)
        raise
    return context.handle


async def _exchange(
    context: SSPIContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: asyncio.Timeout
) -> None:
    """Call, send and read until the context is established."""
    received = b""
    while True:
        token = await context.step(received)
        check_in_time(limit)
        try:
            if token:
                await _send(writer, token)
            if context.complete:
                return
            received = await reader.readexactly(context.missing)
        except (OSError, asyncio.IncompleteReadError) as error:
            _note_end(context, error)


async def _send(writer: asyncio.StreamWriter, token: bytes) -> None:
    """Send a token.

    Raises:
        OSError: The connection broke, now or before.
    """
    if writer.is_closing():  # uvloop's transports raise a RuntimeError then
        raise ConnectionResetError("the connection has ended before the token could be sent")
    writer.write(token)
    await writer.drain()


def _note_end(context: SSPIContext, error: Exception) -> NoReturn:
    """Raise the error for a connection that ended before the handshake did."""
    state = context.handle.referent
    assert isinstance(state, EstablishState)
    try:
        state.context.receive_eof(_SILENT_SERVER)
    except CredSSPError as reason:
        raise reason from (error if isinstance(error, OSError) else None)


async def _say_goodbye(writer: asyncio.StreamWriter, token: bytes) -> None:
    """Send the last token and close; a peer that does not read it is given up after a moment."""
    with contextlib.suppress(OSError):  # TimeoutError is an OSError, too
        async with asyncio.timeout(_FAREWELL_GRACE):
            if token:
                write_if_open(writer, token)
            writer.close()
            await writer.wait_closed()


def _certificate_below(writer: asyncio.StreamWriter) -> bytes | None:
    """Return the certificate (DER) that the peer of a TLS connection has shown; None without one."""
    tls = writer.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None


def _time_limit(credential: CredHandle, target: str | None) -> float:
    """Return the time limit that the credentials' policy sets."""
    state = credential.state
    config = state.client if target is not None else state.server
    return config.policy.handshake_timeout if config is not None else Policy().handshake_timeout

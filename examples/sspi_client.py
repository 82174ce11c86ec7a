"""A C client's SSPI calls, ported line by line; for echo_server.py: `python examples/sspi_client.py PORT PIN [HOST]`.

Above each piece of Python stands the C that it was ported from, without the error handling. Three things differ from C:
a pointer is an object that the call fills, a socket is a pair of streams, and every call is awaited.
"""

import asyncio
import sys

import acredssp
from acredssp.sspi import (
    CREDSSP_CRED,
    ISC_REQ_ALLOCATE_MEMORY,
    ISC_REQ_CONFIDENTIALITY,
    ISC_REQ_DELEGATE,
    ISC_REQ_EXTENDED_ERROR,
    ISC_REQ_MUTUAL_AUTH,
    ISC_REQ_STREAM,
    SCHANNEL_CRED,
    SCHANNEL_SHUTDOWN,
    SEC_WINNT_AUTH_IDENTITY,
    SECBUFFER_DATA,
    SECBUFFER_EMPTY,
    SECBUFFER_EXTRA,
    SECBUFFER_MISSING,
    SECBUFFER_STREAM_HEADER,
    SECBUFFER_STREAM_TRAILER,
    SECBUFFER_TOKEN,
    SECPKG_ATTR_STREAM_SIZES,
    SECPKG_CRED_OUTBOUND,
    SECURITY_NATIVE_DREP,
    AcquireCredentialsHandle,
    ApplyControlToken,
    ContextAttributes,
    CredHandle,
    CredsspSubmitBufferBoth,
    CtxtHandle,
    DecryptMessage,
    DeleteSecurityContext,
    EncryptMessage,
    FreeContextBuffer,
    FreeCredentialsHandle,
    InitializeSecurityContext,
    QueryContextAttributes,
    SecBuffer,
    SecBufferDesc,
    SecPkgContext_StreamSizes,
    SecurityStatus,
    TimeStamp,
)

FLAGS = (
    ISC_REQ_ALLOCATE_MEMORY
    | ISC_REQ_CONFIDENTIALITY
    | ISC_REQ_DELEGATE
    | ISC_REQ_EXTENDED_ERROR
    | ISC_REQ_MUTUAL_AUTH
    | ISC_REQ_STREAM
)


async def acquire(pin: str) -> CredHandle:
    """Make the credentials handle."""
    # SEC_WINNT_AUTH_IDENTITY id = { L"alice", 5, NULL, 0, L"wonderland", 10, SEC_WINNT_AUTH_IDENTITY_UNICODE };
    identity = SEC_WINNT_AUTH_IDENTITY(User="alice", Password="wonderland")
    # SCHANNEL_CRED tls = { SCHANNEL_CRED_VERSION };  CREDSSP_CRED cred = { CredsspSubmitBufferBoth, &tls, &id };
    schannel = SCHANNEL_CRED(hRootStore=acredssp.Trust.pinned(pin))
    cred = CREDSSP_CRED(CredsspSubmitBufferBoth, schannel, identity)
    # AcquireCredentialsHandle(NULL, L"CREDSSP", SECPKG_CRED_OUTBOUND, NULL, &cred, NULL, NULL, &hCred, &expiry);
    h_cred, expiry = CredHandle(), TimeStamp()
    status = await AcquireCredentialsHandle(
        None, "CREDSSP", SECPKG_CRED_OUTBOUND, None, cred, None, None, h_cred, expiry
    )
    if status.failed:
        sys.exit(f"AcquireCredentialsHandle: {status}: {h_cred.error}")
    return h_cred


async def log_on(
    h_cred: CredHandle, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[CtxtHandle, bytearray]:
    """Call until the context is established; return it with the bytes that have come behind the last token."""
    h_ctxt, attributes, expiry = CtxtHandle(), ContextAttributes(), TimeStamp()
    received = bytearray()  # BYTE received[0x8000]; DWORD cbReceived = 0;
    first = True  # BOOL fFirst = TRUE;
    # do {
    while True:
        # SecBuffer in[2] = { { cbReceived, SECBUFFER_TOKEN, received }, { 0, SECBUFFER_EMPTY, NULL } };
        inputs = [SecBuffer(SECBUFFER_TOKEN, received), SecBuffer(SECBUFFER_EMPTY)]
        # SecBuffer out[1] = { { 0, SECBUFFER_TOKEN, NULL } };
        outputs = [SecBuffer(SECBUFFER_TOKEN)]
        # SecBufferDesc inDesc = { SECBUFFER_VERSION, 2, in }, outDesc = { SECBUFFER_VERSION, 1, out };
        in_desc, out_desc = SecBufferDesc(inputs), SecBufferDesc(outputs)
        # status = InitializeSecurityContext(&hCred, fFirst ? NULL : &hCtxt, target, FLAGS, 0, SECURITY_NATIVE_DREP,
        #     fFirst ? NULL : &inDesc, 0, &hCtxt, &outDesc, &attributes, &expiry);
        status = await InitializeSecurityContext(
            h_cred, None if first else h_ctxt, target, FLAGS, 0, SECURITY_NATIVE_DREP,
            None if first else in_desc, 0, h_ctxt, out_desc, attributes, expiry,
        )  # fmt: skip
        first = False  # fFirst = FALSE;
        # if (out[0].cbBuffer) { send(s, out[0].pvBuffer, out[0].cbBuffer, 0); FreeContextBuffer(out[0].pvBuffer); }
        if outputs[0].cbBuffer:  # with a failing status, the token tells the server why
            writer.write(outputs[0].pvBuffer)
            await FreeContextBuffer(outputs[0])
        if status.failed and status is not SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            sys.exit(f"InitializeSecurityContext: {status}: {h_ctxt.error}")
        # if (in[1].BufferType == SECBUFFER_EXTRA)
        #     memmove(received, received + cbReceived - in[1].cbBuffer, cbReceived = in[1].cbBuffer);
        # else if (status != SEC_E_INCOMPLETE_MESSAGE) cbReceived = 0;
        if status is not SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            del received[: len(received) - (inputs[1].cbBuffer if inputs[1].BufferType == SECBUFFER_EXTRA else 0)]
        # } while (status == SEC_I_CONTINUE_NEEDED || status == SEC_E_INCOMPLETE_MESSAGE);
        if status is SecurityStatus.SEC_E_OK:
            return h_ctxt, received
        # if (!cbReceived || status == SEC_E_INCOMPLETE_MESSAGE)
        #     cbReceived += recv(s, received + cbReceived, in[1].BufferType == SECBUFFER_MISSING ? in[1].cbBuffer
        #         : sizeof received - cbReceived, 0);
        if not received or status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            missing = inputs[1].cbBuffer if inputs[1].BufferType == SECBUFFER_MISSING else 0x8000 - len(received)
            received += await receive(reader, missing)


async def send(h_ctxt: CtxtHandle, message: bytes, writer: asyncio.StreamWriter) -> None:
    """Encrypt a message and send it."""
    # QueryContextAttributes(&hCtxt, SECPKG_ATTR_STREAM_SIZES, &sizes);
    sizes = SecPkgContext_StreamSizes()
    await QueryContextAttributes(h_ctxt, SECPKG_ATTR_STREAM_SIZES, sizes)
    # SecBuffer b[4] = { { sizes.cbHeader, SECBUFFER_STREAM_HEADER, p }, { cb, SECBUFFER_DATA, p + sizes.cbHeader },
    #     { sizes.cbTrailer, SECBUFFER_STREAM_TRAILER, p + sizes.cbHeader + cb }, { 0, SECBUFFER_EMPTY, NULL } };
    buffers = [
        SecBuffer(SECBUFFER_STREAM_HEADER, bytearray(sizes.cbHeader)),
        SecBuffer(SECBUFFER_DATA, bytearray(message)),
        SecBuffer(SECBUFFER_STREAM_TRAILER, bytearray(sizes.cbTrailer)),
        SecBuffer(SECBUFFER_EMPTY),
    ]
    # EncryptMessage(&hCtxt, 0, &desc, 0);
    status = await EncryptMessage(h_ctxt, 0, SecBufferDesc(buffers), 0)
    if status.failed:
        sys.exit(f"EncryptMessage: {status}: {h_ctxt.error}")
    # DWORD cb = b[0].cbBuffer + b[1].cbBuffer + b[2].cbBuffer;  send(s, p, cb, 0);
    writer.write(b"".join(bytes(buffer) for buffer in buffers[:3]))


async def receive_message(h_ctxt: CtxtHandle, received: bytearray, reader: asyncio.StreamReader) -> bytes:
    """Receive and decrypt one record's message."""
    while True:
        # SecBuffer b[4] = { { cbReceived, SECBUFFER_DATA, received }, { 0, SECBUFFER_EMPTY, NULL }, ... };
        buffers = [SecBuffer(SECBUFFER_DATA, bytearray(received)), SecBuffer(), SecBuffer(), SecBuffer()]
        # status = DecryptMessage(&hCtxt, &desc, 0, NULL);
        status = await DecryptMessage(h_ctxt, SecBufferDesc(buffers), 0, None)
        # if (status == SEC_E_INCOMPLETE_MESSAGE) { cbReceived += recv(...); continue; }
        if status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            missing = next((b.cbBuffer for b in buffers if b.BufferType == SECBUFFER_MISSING), 1)
            received += await receive(reader, missing)
            continue
        if status.failed:
            sys.exit(f"DecryptMessage: {status}: {h_ctxt.error}")
        # for (i = 0; i < 4; i++) if (b[i].BufferType == SECBUFFER_EXTRA) memmove(received, ..., b[i].cbBuffer);
        extra = next((b.cbBuffer for b in buffers if b.BufferType == SECBUFFER_EXTRA), 0)
        del received[: len(received) - extra]
        if message := b"".join(bytes(b) for b in buffers if b.BufferType == SECBUFFER_DATA):
            return message


async def receive(reader: asyncio.StreamReader, most: int) -> bytes:
    """Receive at least one byte."""
    data = await reader.read(most)  # recv(s, p, most, 0);
    if not data:
        sys.exit("the server ended the connection")
    return data


async def main(port: str, pin: str, host: str = "127.0.0.1") -> None:
    """Log on, send a line, and print the answer."""
    h_cred = await acquire(pin)
    reader, writer = await asyncio.open_connection(host, int(port))
    h_ctxt, received = await log_on(h_cred, f"TERMSRV/{host}", reader, writer)
    print("logged on")
    await send(h_ctxt, b"hello\n", writer)
    print("echo:", (await receive_message(h_ctxt, received, reader)).decode().strip())

    # DWORD shutdown = SCHANNEL_SHUTDOWN;  ApplyControlToken(&hCtxt, &desc);
    shutdown = SecBuffer(SECBUFFER_TOKEN, int(SCHANNEL_SHUTDOWN).to_bytes(4, "little"))
    await ApplyControlToken(h_ctxt, SecBufferDesc([shutdown]))
    # InitializeSecurityContext(&hCred, &hCtxt, NULL, FLAGS, 0, 0, NULL, 0, &hCtxt, &outDesc, &attributes, &expiry);
    output = SecBuffer(SECBUFFER_TOKEN)
    await InitializeSecurityContext(h_cred, h_ctxt, fContextReq=FLAGS, pOutput=SecBufferDesc([output]))
    writer.write(bytes(output))
    # DeleteSecurityContext(&hCtxt);  FreeCredentialsHandle(&hCred);  closesocket(s);
    await DeleteSecurityContext(h_ctxt)
    await FreeCredentialsHandle(h_cred)
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    if len(sys.argv) not in {3, 4}:
        sys.exit(f"usage: {sys.argv[0]} PORT PIN [HOST]")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (acredssp.CredSSPError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")

"""Bridges from a context's handle to a transport, or to streams, that encrypt and decrypt by themselves.

acredssp has one record layer: the transport is that of the asyncio functions (`aio.transport`), on the TLS session of
the context. So chunks, backpressure, half-close and the check for a close_notify work as there. The handle can still be
used with QueryContextAttributes. While the transport is open, EncryptMessage and DecryptMessage are refused, since
their records would get in between the transport's.

Applications call this module, after `establish` or their own calling loop.
"""

import asyncio
import functools
from typing import Final

from acredssp.aio.handshake import new_connection_id
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.aio.streams import take_read_ahead
from acredssp.aio.transport import SecureTransport
from acredssp.errors import PeerClosed
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.context import AcceptorState, EstablishState, established
from acredssp.sspi.handles import CtxtHandle, Use
from acredssp.sspi.messages import message_tls
from acredssp.status import SecurityStatus, Stage

__all__ = ["secure_streams", "secure_transport"]

_LIMIT: Final = 2**16
"""Bytes that a StreamReader keeps, as in asyncio."""

_MESSAGES: Final = Use.ENCRYPT | Use.DECRYPT


def secure_transport(
    phContext: CtxtHandle,
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    *,
    initial_data: bytes = b"",
) -> SecureTransport:
    """Return a transport that encrypts written data, and gives `protocol` the peer's decrypted data.

    `protocol` gets data from the loop's next turn on; its `connection_made` is not called. The former protocol of
    `transport` is not called any more. The context can be deleted once the connection is lost. The credentials that a
    client delegated stay with the handle, for SECPKG_ATTR_CREDS_2.

    Args:
        phContext: An established context of the package `CREDSSP`. Both directions must be open.
        transport: The connection over which the context was established.
        protocol: The application's protocol.
        initial_data: The peer's bytes behind the handshake that were already read from the connection: the EXTRA of the
            last call.

    Raises:
        LocalProtocolError: The context is not established, is in use, has no TLS of its own, or one direction has ended
            already. Nothing changed.
        PeerClosed: The connection is closed already. Nothing changed.
        TypeError: An argument has a wrong type.
    """
    expect("phContext", phContext, CtxtHandle)
    expect("initial_data", initial_data, bytes, bytearray)
    state = _hold(phContext, transport)
    return _take_over(state, _connection_of(state), transport, protocol, initial_data)


async def secure_streams(
    phContext: CtxtHandle,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    initial_data: bytes = b"",
    limit: int = _LIMIT,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a pair of streams that encrypt and decrypt; arguments and errors are those of `secure_transport`.

    The new streams also take the bytes that `reader` has read ahead. The old pair must not be used any more.
    """
    expect("phContext", phContext, CtxtHandle)
    expect("reader", reader, asyncio.StreamReader)
    expect("writer", writer, asyncio.StreamWriter)
    loop = asyncio.get_running_loop()
    new_reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(new_reader, loop=loop)
    state = _hold(phContext, writer.transport)
    # The old writer must live as long as its transport: it closes the transport when it is garbage-collected.
    connection = _connection_of(state, writer)
    secure = _take_over(
        state, connection, writer.transport, protocol, initial_data + await take_read_ahead(reader, connection)
    )
    new_reader.set_transport(secure)
    return new_reader, asyncio.StreamWriter(secure, protocol, new_reader, loop)


def _hold(phContext: CtxtHandle, transport: asyncio.BaseTransport) -> EstablishState:
    """Check that a context can carry a transport, and hold it: EncryptMessage and DecryptMessage are refused then."""
    state = established(phContext.state)
    tls = message_tls(state)
    if state.shutdown or tls.closed or tls.peer_closed:
        raise refusal("one direction of the context has ended already", SecurityStatus.SEC_E_CONTEXT_EXPIRED)
    if transport.is_closing():
        raise PeerClosed("the connection is closed already", stage=Stage.ESTABLISHED)
    state.hold(_MESSAGES)
    return state


def _connection_of(state: EstablishState, *kept: object) -> CredSSPProtocol:
    """Make the protocol below the new transport. It gives the context back once the connection is lost."""
    return CredSSPProtocol(on_lost=functools.partial(_give_back, state, kept))


def _give_back(state: EstablishState, _kept: object, _connection: CredSSPProtocol) -> None:
    state.release(_MESSAGES)


def _take_over(
    state: EstablishState,
    connection: CredSSPProtocol,
    transport: asyncio.WriteTransport,
    protocol: asyncio.BaseProtocol,
    received: bytes,
) -> SecureTransport:
    """Put the transport of the asyncio functions on the connection and on the TLS session of the context."""
    if isinstance(state, AcceptorState):
        _ = state.credentials  # the handle takes the credentials from the engine, before the transport would
    transport.set_protocol(connection)
    connection.connection_made(transport)
    connection.resume_reading()
    if received := state.unfinished.surplus + received:
        connection.store(received)  # this may pause reading
    state.unfinished.surplus = b""
    if answers := state.answers():
        transport.write(answers)
    secure = SecureTransport(connection, state.context, state.context.info, connection_id=new_connection_id())
    state.context.trailing_data = b""  # the transport has these bytes now
    secure.start(protocol, connection_made=False)
    return secure

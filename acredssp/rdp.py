"""The carriage of RDP, and what gateways need: the values of the first PDUs, routing, and rewriting of fields.

`RDP()` carries a handshake as Remote Desktop does. `RDP(route=...)` chooses each connection's configuration by the
client's Connection Request (`RouteRequest`, `RDPRoute`), and by the id and the blob that a `PreconnectionPDU` may
bring before it.

An RDP client begins by sending a `ConnectionRequest` in clear text, and the server selects one of the protocols that
the request offers. Inside TLS, the first PDUs of MCS repeat the negotiation. The client repeats the protocol that the
server selected (serverSelectedProtocol in MCS Connect-Initial). The server repeats the protocols that the client
requested (clientRequestedProtocols in MCS Connect-Response). Each side compares the repeated value with the value that
it sent ([MS-RDPBCGR] 5.4.2.1). A gateway negotiates twice, and the results may differ, so the gateway rewrites both
fields:

    request = target_writer.get_extra_info("rdp_request")
    confirm = target_writer.get_extra_info("rdp_confirm")
    pdu = await acredssp.rdp.read_pdu(client_reader)
    first_up = acredssp.rdp.rewrite_selected_protocol(pdu, confirm.selected_protocol)

`acredssp.aio.exchange_mcs` does so for both, and passes on what the client sends meanwhile.

A `RedirectionWatch` notices a target that sends the client on to another host of its farm.

A gateway that passes a connection on undecrypted may read with `read_negotiation` what both sides say in clear.

The functions here keep no state, and only `read_pdu` and `read_negotiation` read from a stream. `missing_bytes` is for
any other way to read.
"""

from collections.abc import Callable
from typing import Protocol

from acredssp.arguments import expect
from acredssp.carriage.rdp import RDP, RDPAcceptor, RDPInitiator, RDPState
from acredssp.carriage.routes import Passthrough, RDPRoute, RouteAnswer, RouteHook, RouteRequest
from acredssp.errors import RemoteProtocolError
from acredssp.wire import first_bytes, mcs, x224
from acredssp.wire.preconnection import PreconnectionPDU
from acredssp.wire.redirection import RedirectionWatch, ServerRedirection, msts_address
from acredssp.wire.x224 import (
    ConnectionConfirm,
    ConnectionRequest,
    FailureCode,
    Protocols,
    RequestFlags,
    ResponseFlags,
)

__all__ = [
    "RDP",
    "ConnectionConfirm",
    "ConnectionRequest",
    "ExactReader",
    "FailureCode",
    "Passthrough",
    "PreconnectionPDU",
    "Protocols",
    "RDPAcceptor",
    "RDPInitiator",
    "RDPRoute",
    "RDPState",
    "RedirectionWatch",
    "RequestFlags",
    "ResponseFlags",
    "RouteAnswer",
    "RouteHook",
    "RouteRequest",
    "ServerRedirection",
    "missing_bytes",
    "msts_address",
    "read_negotiation",
    "read_pdu",
    "rewrite_requested_protocols",
    "rewrite_selected_protocol",
]


def missing_bytes(data: bytes) -> int:
    """Return how many more bytes to read of the MCS PDU at the front of `data`.

    Args:
        data: The bytes of the PDU received so far, cut anywhere; empty at the beginning.

    Returns:
        The number of bytes to read before the next call; 0 where the PDU is whole. The number never reaches past the
        PDU, so `readexactly` reads nothing behind it.

    Raises:
        RemoteProtocolError: `data` does not begin an MCS PDU.
    """
    expect("data", data, bytes, bytearray)
    return mcs.frame_size(data).missing


class ExactReader(Protocol):
    """What `read_pdu` and `read_negotiation` read from: an `asyncio.StreamReader`, or any object with this method."""

    async def readexactly(self, n: int) -> bytes:
        """Return exactly `n` bytes; raise EOFError if the stream ends before."""


async def read_pdu(reader: ExactReader) -> bytes:
    """Read one whole MCS PDU, and nothing behind it. The caller sets the time limit.

    Raises:
        RemoteProtocolError: The bytes do not begin an MCS PDU.
        EOFError: The stream ended before the end of the PDU (`asyncio.IncompleteReadError`).
    """
    data = await reader.readexactly(mcs.TPKT_SIZE)
    while missing := mcs.frame_size(data).missing:
        data += await reader.readexactly(missing)
    return data


async def read_negotiation(reader: ExactReader) -> bytes:
    """Read one whole Connection Request or Connection Confirm, and nothing behind it. The caller sets the time limit.

    `ConnectionRequest.decode` and `ConnectionConfirm.decode` take what this returns.

    Raises:
        RemoteProtocolError: The bytes begin no such PDU.
        LimitExceeded: The PDU is longer than any of them.
        EOFError: The stream ended before the end of the PDU (`asyncio.IncompleteReadError`).
    """
    data = b""
    try:
        while missing := x224.frame_size(data).missing:
            data += await reader.readexactly(missing)
    except RemoteProtocolError:
        await _name_stranger(reader, data)
        raise
    return data


async def _name_stranger(reader: ExactReader, data: bytes) -> None:
    """Read on while more bytes may name the protocol of somebody who does not speak RDP; raise an error that names it.

    Four bytes are `HTTP` and not yet `HTTP/`. Where the stream ends before a name is known, nothing is raised.
    """
    try:
        while first_bytes.undecided(data):
            data += await reader.readexactly(1)
    except EOFError:
        return
    x224.frame_size(data)


def rewrite_selected_protocol(data: bytes, protocol: Protocols) -> bytes:
    """Return a client's MCS Connect-Initial with the protocol that the target selected.

    Args:
        data: The whole PDU (`missing_bytes` gives 0); bytes behind it stay as they are.
        protocol: The protocol that the target has selected.

    Returns:
        `data` with another serverSelectedProtocol, and otherwise unchanged. A PDU without the field, which old clients
        send, is returned unchanged.

    Raises:
        LocalProtocolError: The PDU is not whole.
        RemoteProtocolError: The PDU is not a Connect-Initial, or one of its lengths is wrong.
    """
    return _rewritten(data, "protocol", protocol, mcs.selected_protocol_at)


def rewrite_requested_protocols(data: bytes, protocols: Protocols) -> bytes:
    """Return a target's MCS Connect-Response with the protocols that the client requested.

    Args:
        data: The whole PDU (`missing_bytes` gives 0); bytes behind it stay as they are.
        protocols: The protocols that the client has requested: `requested_protocols` of its `ConnectionRequest`.

    Returns:
        `data` with other clientRequestedProtocols, and otherwise unchanged. A PDU without the field, which old servers
        send, is returned unchanged.

    Raises:
        LocalProtocolError: The PDU is not whole.
        RemoteProtocolError: The PDU is not a Connect-Response, or one of its lengths is wrong.
    """
    return _rewritten(data, "protocols", protocols, mcs.requested_protocols_at)


def _rewritten(data: bytes, name: str, protocols: Protocols, field_at: Callable[[bytes], int | None]) -> bytes:
    """Return the PDU with other protocols in the field that `field_at` finds; unchanged where it has no such field."""
    expect("data", data, bytes, bytearray)
    expect(name, protocols, Protocols)
    data = bytes(data)
    offset = field_at(data)
    return data if offset is None else mcs.write_protocols(data, offset, protocols)

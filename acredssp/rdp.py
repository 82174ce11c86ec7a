"""RDP around a handshake, for gateways: its first PDUs as values, and the fields that have to follow another target.

An RDP client opens with a `ConnectionRequest` in clear, and the server selects a protocol for it. Both sides repeat
what was negotiated inside of TLS, in the first PDUs of MCS: the client tells the protocol that was selected
(serverSelectedProtocol in MCS Connect-Initial), the server the protocols that were requested (clientRequestedProtocols
in MCS Connect-Response), and each looks whether that is what it has sent itself ([MS-RDPBCGR] 5.4.2.1). A gateway has
negotiated twice, so it rewrites both fields:

    request = target_writer.get_extra_info("rdp_request")
    confirm = target_writer.get_extra_info("rdp_confirm")
    pdu = await acredssp.rdp.read_pdu(client_reader)
    first_up = acredssp.rdp.rewrite_selected_protocol(pdu, confirm.selected_protocol)

Nothing here keeps a state, and only `read_pdu` reads anything: whoever reads otherwise has `missing_bytes`.
"""

from typing import Protocol

from acredssp.arguments import expect
from acredssp.wire import mcs
from acredssp.wire.x224 import (
    ConnectionConfirm,
    ConnectionRequest,
    FailureCode,
    Protocols,
    RequestFlags,
    ResponseFlags,
)

__all__ = [
    "ConnectionConfirm",
    "ConnectionRequest",
    "ExactReader",
    "FailureCode",
    "Protocols",
    "RequestFlags",
    "ResponseFlags",
    "missing_bytes",
    "read_pdu",
    "rewrite_requested_protocols",
    "rewrite_selected_protocol",
]


def missing_bytes(data: bytes) -> int:
    """Tell how many bytes the MCS PDU at the front of `data` needs at least until more can be said.

    Args:
        data: What has come of the PDU, cut anywhere; empty at the beginning.

    Returns:
        0 where the PDU is whole. The count never reaches past the PDU: with `readexactly` nothing behind it is read.

    Raises:
        RemoteProtocolError: `data` is not how an MCS PDU begins.
    """
    expect("data", data, bytes, bytearray)
    return mcs.frame_size(data).missing


class ExactReader(Protocol):
    """What `read_pdu` reads from: an `asyncio.StreamReader`, or anything with its method."""

    async def readexactly(self, n: int) -> bytes:
        """Return exactly `n` bytes; raise EOFError where fewer come."""


async def read_pdu(reader: ExactReader) -> bytes:
    """Read one whole MCS PDU, and nothing behind it. The caller sets the time limit.

    Raises:
        RemoteProtocolError: What comes is not how an MCS PDU begins.
        EOFError: The stream ended before (`asyncio.IncompleteReadError`).
    """
    data = b""
    while missing := missing_bytes(data):
        data += await reader.readexactly(missing)
    return data


def rewrite_selected_protocol(data: bytes, protocol: Protocols) -> bytes:
    """Tell a target in a client's MCS Connect-Initial which protocol the target has selected.

    Args:
        data: The whole PDU (`missing_bytes` gives 0); bytes behind it stay as they are.
        protocol: What the target has selected.

    Returns:
        `data` with another serverSelectedProtocol, and else byte for byte the same. A client too old to send the field
        is left as it is.

    Raises:
        LocalProtocolError: The PDU is not whole.
        RemoteProtocolError: The PDU is no Connect-Initial, or one of its lengths is wrong.
    """
    data = _checked(data, "protocol", protocol)
    offset = mcs.selected_protocol_at(data)
    return data if offset is None else mcs.write_protocols(data, offset, protocol)


def rewrite_requested_protocols(data: bytes, protocols: Protocols) -> bytes:
    """Tell a client in a target's MCS Connect-Response which protocols the client has requested.

    Args:
        data: The whole PDU (`missing_bytes` gives 0); bytes behind it stay as they are.
        protocols: What the client has requested: `requested_protocols` of its `ConnectionRequest`.

    Returns:
        `data` with other clientRequestedProtocols, and else byte for byte the same. A server too old to send the field
        is left as it is.

    Raises:
        LocalProtocolError: The PDU is not whole.
        RemoteProtocolError: The PDU is no Connect-Response, or one of its lengths is wrong.
    """
    data = _checked(data, "protocols", protocols)
    offset = mcs.requested_protocols_at(data)
    return data if offset is None else mcs.write_protocols(data, offset, protocols)


def _checked(data: bytes, name: str, protocols: Protocols) -> bytes:
    expect("data", data, bytes, bytearray)
    expect(name, protocols, Protocols)
    return bytes(data)

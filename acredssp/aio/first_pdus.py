"""What a gateway passes on before it relays: a target's first answer, and the first PDUs of MCS.

Client and target have negotiated with the gateway and not with each other, so each is told of the protocols that it has
negotiated itself ([MS-RDPBCGR] 5.4.2.1). Everything behind these PDUs passes as it is, by `relay`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from acredssp.aio.relaying import Streams
from acredssp.arguments import expect
from acredssp.rdp import (
    ConnectionConfirm,
    ConnectionRequest,
    Protocols,
    read_pdu,
    rewrite_requested_protocols,
    rewrite_selected_protocol,
)

__all__ = ["ClientLeft", "exchange_mcs", "pass_until_answer"]

_READ_SIZE: Final = 2**16


class ClientLeft(EOFError):
    """The client ended the connection before its target answered."""


async def exchange_mcs(client: Streams, target: Streams) -> tuple[int, bytes]:
    """Pass on the client's first PDU, and what follows it before the target has answered.

    Each side's PDU gets the protocols that this side has negotiated with the gateway. The caller sets the time limit.

    Args:
        client: Reader and writer of the client's leg, which `RDP` has carried.
        target: Reader and writer of the target's leg, which `RDP` has carried.

    Returns:
        How many bytes the target was sent, and its answer, which the client is to be sent as `first_down` of `relay`.

    Raises:
        OSError, EOFError: One of them has ended the connection. `ClientLeft` if the client did, and the target had its
            PDU.
        CredSSPError: One of them sends something else.
    """
    request, confirm = client[1].get_extra_info("rdp_request"), target[1].get_extra_info("rdp_confirm")
    expect("rdp_request of client", request, ConnectionRequest)
    expect("rdp_confirm of target", confirm, ConnectionConfirm)
    selected, requested = confirm.selected_protocol or Protocols.RDP, request.requested_protocols or Protocols.RDP
    first_up = rewrite_selected_protocol(await _first_pdu(client[0], "client"), selected)
    target[1].write(first_up)
    early, answer = await pass_until_answer(client[0], target, lambda reader: _first_pdu(reader, "target"))
    return len(first_up) + early, rewrite_requested_protocols(answer, requested)


async def pass_until_answer(
    client: asyncio.StreamReader, target: Streams, read: Callable[[asyncio.StreamReader], Awaitable[bytes]]
) -> tuple[int, bytes]:
    """Wait for the target's answer, and pass on what the client sends meanwhile. The caller sets the time limit.

    Args:
        client: The client's stream.
        target: Reader and writer of the target's leg. A client that ends first aborts it.
        read: Reads the answer, as `acredssp.rdp.read_negotiation` does.

    Returns:
        How many bytes of the client were passed on, and the answer.

    Raises:
        ClientLeft: The client ended the connection before the answer.
        OSError, EOFError, CredSSPError: The target did, or answers something else.
    """
    reader, writer = target
    early = 0

    async def pass_on() -> None:
        nonlocal early
        while data := await client.read(_READ_SIZE):
            early += len(data)
            writer.write(data)
            await writer.drain()

    passing = asyncio.create_task(pass_on())
    passing.add_done_callback(lambda task: None if task.cancelled() else writer.transport.abort())
    try:
        answer = await read(reader)
    except (OSError, EOFError):
        if client.at_eof() or client.exception() is not None:
            raise ClientLeft("the client ended the connection before the target's answer") from None
        raise
    finally:
        passing.cancel()
        await asyncio.wait([passing])
        _ = passing.cancelled() or passing.exception()  # said above
    return early, answer


async def _first_pdu(reader: asyncio.StreamReader, whose: str) -> bytes:
    try:
        return await read_pdu(reader)
    except EOFError:
        raise EOFError(f"the {whose} ended the connection before its own") from None

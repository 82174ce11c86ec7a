"""The first PDU of MCS of either side, which name the protocols that were negotiated.

Client and target have negotiated with the gateway and not with each other, so each is told of the protocols that it has
negotiated itself ([MS-RDPBCGR] 5.4.2.1). Everything behind these two PDUs passes as it is.
"""

import asyncio
from typing import Final

from acredssp import rdp
from acredssp.aio import Streams
from acredssp.proxy.leg import Leg

__all__ = ["exchange"]

_TIMEOUT: Final = 30.0
"""Seconds for the first PDU of either side. Both send it at once."""


async def exchange(client: Streams, leg: Leg) -> tuple[int, bytes]:
    """Pass on the client's first PDU, and what follows it before the target has answered.

    Returns:
        How many bytes the target was sent, and its answer, which the client is to be sent.

    Raises:
        OSError, EOFError: One of them has ended the connection, or says nothing.
        CredSSPError: One of them sends something else.
    """
    request = client[1].get_extra_info("rdp_request")
    selected = leg.confirm.selected_protocol
    assert isinstance(request, rdp.ConnectionRequest)
    assert request.requested_protocols is not None
    assert selected is not None
    async with asyncio.timeout(_TIMEOUT):
        first_up = rdp.rewrite_selected_protocol(await _first_pdu(client[0], "client"), selected)
        leg.streams[1].write(first_up)
        early, answer = await leg.answer(client[0], lambda reader: _first_pdu(reader, "target"))
        return len(first_up) + early, rdp.rewrite_requested_protocols(answer, request.requested_protocols)


async def _first_pdu(reader: asyncio.StreamReader, whose: str) -> bytes:
    try:
        return await rdp.read_pdu(reader)
    except EOFError:
        raise EOFError(f"the {whose} ended the connection before its own") from None

"""Connections that are passed on undecrypted: to which host, and which are refused for want of a logon.

Nobody logs on here, and nothing is decrypted: the client's proof is for the target alone. It is the only way for Remote
Credential Guard, smart cards, RDSTLS and Microsoft Entra. The gateway still reads what both sides say in clear, the
Connection Request and the Connection Confirm. Both must name a protocol by which a user logs on before a session
begins, unless the route says `allow_without_nla`: otherwise everybody who comes by would see the target's own logon
screen, and what speaks there.
"""

import asyncio
from typing import Final

from acredssp import NTSTATUS, CredSSPError
from acredssp.aio import ClientLeft, Streams, pass_until_answer, write_if_open
from acredssp.proxy.leg import Leg, Target
from acredssp.proxy.refused import Refused
from acredssp.proxy.settings import RouteSettings
from acredssp.rdp import ConnectionConfirm, ConnectionRequest, Protocols, RouteRequest, read_negotiation
from acredssp.workers import Address

__all__ = ["connect", "logs_on_first"]

_LOGON_FIRST: Final = Protocols.HYBRID | Protocols.HYBRID_EX | Protocols.RDSTLS | Protocols.RDSAAD


def logs_on_first(protocols: Protocols | None) -> bool:
    """Whether one of the protocols lets a user log on before a session begins."""
    return bool((protocols or Protocols.RDP) & _LOGON_FIRST)


async def connect(
    target: Target, route: RouteSettings, asked: RouteRequest, client: Streams, patience: float
) -> tuple[Leg, int, bytes]:
    """Connect to a host of the target, and send it the client's Connection Request, as it came if nothing is left out.

    Args:
        target: The target.
        route: The route that leads there.
        asked: What the target is to know of what the client sent before TLS.
        client: Reader and writer of the client, whose stream begins with its Connection Request.
        patience: Seconds that the target has for its Connection Confirm.

    Returns:
        The leg, how many bytes that followed the client's request were passed on, and the target's Connection Confirm,
        which the client is to be sent.

    Raises:
        ClientLeft: The client ended the connection.
        Refused: No host can be connected to, or the one that was does not answer, or asks for no logon.
    """
    request = await read_negotiation(client[0])
    if ConnectionRequest.decode(request) != asked.request:
        request = asked.request.encode()
    if route.forward_preconnection and asked.preconnection is not None:
        request = asked.preconnection.encode() + request
    early, confirm = 0, b""

    async def begin(address: Address) -> Leg:
        nonlocal early, confirm
        leg = await target.dial(address)
        try:
            early, confirm = await _negotiate(leg, request, client, patience)
            if not route.allow_without_nla:
                _check(leg, confirm)
        except BaseException:
            leg.close()
            raise
        return leg

    leg = await target.reach(asked.request.cookie, asked.request.routing_token or "", begin)
    return leg, early, confirm


async def _negotiate(leg: Leg, request: bytes, client: Streams, patience: float) -> tuple[int, bytes]:
    """Send the request, and return the answer. A client can make it fail, so it is no failure of the host's."""
    clock = asyncio.get_running_loop().time
    begun, why = clock(), ""
    try:
        write_if_open(leg.streams[1], request)
        async with asyncio.timeout(patience):
            answered = await pass_until_answer(client, leg.streams, read_negotiation)
            leg.seconds["negotiation"] = clock() - begun
            return answered
    except ClientLeft:
        raise
    except TimeoutError:
        why = f"no Connection Confirm within {patience:g} seconds"
    except (OSError, EOFError):
        why = "it ended the connection in place of a Connection Confirm"
    except CredSSPError as error:
        why = str(error)
    raise Refused(f"target {leg.target} at {leg.address}: {why}", NTSTATUS.STATUS_NO_LOGON_SERVERS)


def _check(leg: Leg, answer: bytes) -> None:
    """Refuse a target that begins a session before anybody has logged on, or answers something else."""
    try:
        confirm = ConnectionConfirm.decode(answer)
    except CredSSPError as error:
        reason = f"target {leg.target} at {leg.address}: {error}"
        raise Refused(reason, NTSTATUS.STATUS_NO_LOGON_SERVERS, error) from error
    if confirm.failure_code is None and not logs_on_first(confirm.selected_protocol):
        chosen = (confirm.selected_protocol or Protocols.RDP).names
        reason = f"target {leg.target} at {leg.address}: it selected {chosen}, by which nobody logs on first"
        raise Refused(f"{reason}; the route has no allow_without_nla", NTSTATUS.STATUS_ACCESS_DENIED)

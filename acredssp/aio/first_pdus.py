"""What a gateway passes on before it relays: a target's first answer, and the first PDUs of MCS.

Client and target have negotiated with the gateway and not with each other, so each is told of the protocols that it has
negotiated itself ([MS-RDPBCGR] 5.4.2.1). Everything behind these PDUs passes as it is, by `relay`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, cast

from acredssp.aio.relaying import Streams, pass_read_ahead
from acredssp.aio.writing import write_if_open
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

_MOST_WAITING: Final = 2**16
"""The most bytes that wait for the target before the client has to wait."""


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
    write_if_open(target[1], first_up)
    early, answer = await pass_until_answer(client, target, lambda reader: _first_pdu(reader, "target"))
    return len(first_up) + early, rewrite_requested_protocols(answer, requested)


async def pass_until_answer(
    client: Streams, target: Streams, read: Callable[[asyncio.StreamReader], Awaitable[bytes]]
) -> tuple[int, bytes]:
    """Wait for the target's answer, and pass on what the client sends meanwhile. The caller sets the time limit.

    Args:
        client: Reader and writer of the client's leg. No other task may be reading from it.
        target: Reader and writer of the target's leg. A client that ends first aborts it.
        read: Reads the answer, as `acredssp.rdp.read_negotiation` does.

    Returns:
        How many bytes of the client were passed on, and the answer.

    Raises:
        ClientLeft: The client ended the connection before the answer.
        OSError, EOFError, CredSSPError: The target did, or answers something else.
    """
    passing = _Passing(client, target[1])
    try:
        passing.begin()
        answer = await read(target[0])
    except (OSError, EOFError):
        if passing.left:
            raise ClientLeft("the client ended the connection before the target's answer") from None
        raise
    finally:
        passing.end()
    return passing.size, answer


class _Passing(asyncio.Protocol):
    """Replaces a client's stream as the protocol of its transport, and passes each piece of data on at once.

    Args:
        client: Reader and writer of the client's leg.
        target: The writer of the target's leg. A client that ends aborts it.
    """

    def __init__(self, client: Streams, target: asyncio.StreamWriter) -> None:
        self.size = 0
        """How many bytes were passed on."""
        self.left = False
        """Whether the client has ended the connection."""
        self._reader, writer = client
        self._transport = cast("asyncio.Transport", writer.transport)
        self._stream = cast("asyncio.Protocol", self._transport.get_protocol())
        self._target = target
        self._draining: asyncio.Task[None] | None = None
        """Lets the client go on once the target has taken more; None while the client need not wait."""

    def begin(self) -> None:
        """Replace the stream, and pass on the data that the stream has read already."""
        self._transport.set_protocol(self)
        if self._reader.exception() is not None or pass_read_ahead(self._reader, self.data_received):
            self._leave()

    def end(self) -> None:
        """Make the stream the protocol of the transport again."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._stream)
        if self._draining is not None:
            self._draining.cancel()
            self._go_on()

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sent; let it wait if the target does not take it."""
        self.size += len(data)
        write_if_open(self._target, data)
        if self._draining is None and self._waiting > _MOST_WAITING:
            self._transport.pause_reading()
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    @property
    def _waiting(self) -> int:
        """The bytes that wait for the target; none where its leg is closing: asyncio's TLS cannot say it then."""
        return 0 if self._target.is_closing() else self._target.transport.get_write_buffer_size()

    async def _drain(self) -> None:
        with contextlib.suppress(OSError):  # whoever reads the target's answer is told
            await self._target.drain()
        self._go_on()

    def _go_on(self) -> None:
        self._draining = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool | None:
        """End the target's leg, and tell the stream."""
        self._leave()
        return self._stream.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the target's leg, and tell the stream."""
        self._leave()
        self._stream.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell the stream."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Tell the stream."""
        self._stream.resume_writing()

    def _leave(self) -> None:
        self.left = True
        self._target.transport.abort()


async def _first_pdu(reader: asyncio.StreamReader, whose: str) -> bytes:
    try:
        return await read_pdu(reader)
    except EOFError:
        raise EOFError(f"the {whose} ended the connection before its own") from None

"""KERB_TICKET_LOGON, which Remote Credential Guard delegates for Kerberos ([MS-CSSP] 2.2.1.2.3.1, note 22).

    u32 MessageType = 10 (KerbTicketLogon) | u32 Flags | u32 ServiceTicketLength | u32 TicketGrantingTicketLength
    u64 offset of ServiceTicket | u64 offset of TicketGrantingTicket | both, in DER

Numbers are little-endian, and offsets count from the start of the structure. FreeRDP 3.10 lays it out in this way.
"""

import dataclasses
import struct
from typing import Final, Self

from acredssp.errors import RemoteProtocolError
from acredssp.secret import SecretBytes

__all__ = ["KerbTicketLogon"]

_LAYOUT: Final = struct.Struct("<IIIIQQ")
_MESSAGE_TYPE: Final = 10
_REDIRECTED: Final = 2
"""KERB_LOGON_FLAG_REDIRECTED: the user who logs on stays on the client's machine."""


@dataclasses.dataclass(frozen=True, slots=True)
class KerbTicketLogon:
    """A user's ticket-granting ticket, sealed for a host, and the service ticket whose session key seals it.

    Attributes:
        service_ticket: A Ticket of RFC 4120 5.3 for the host, in DER.
        ticket_granting_ticket: A KRB-CRED of RFC 4120 5.8, sealed with the session key of `service_ticket`. FreeRDP
            3.10 sends it unsealed.
    """

    service_ticket: bytes = dataclasses.field(repr=False)
    ticket_granting_ticket: SecretBytes = dataclasses.field(repr=False)

    def encode(self) -> SecretBytes:
        """The bytes of the structure."""
        first = _LAYOUT.size
        second = first + len(self.service_ticket)
        front = _LAYOUT.pack(
            _MESSAGE_TYPE, _REDIRECTED, len(self.service_ticket), len(self.ticket_granting_ticket), first, second
        )
        return SecretBytes(front + self.service_ticket + self.ticket_granting_ticket)

    @classmethod
    def decode(cls, data: bytes | bytearray) -> Self:
        """Read the `cred_buffer` of the package `Kerberos`.

        Raises:
            RemoteProtocolError: `data` is not a KERB_TICKET_LOGON.
        """
        if len(data) < _LAYOUT.size:
            raise RemoteProtocolError(f"kerb_ticket_logon: expected {_LAYOUT.size} bytes or more, got {len(data)}")
        kind, _flags, *words = _LAYOUT.unpack_from(data)
        if kind != _MESSAGE_TYPE:
            raise RemoteProtocolError(f"kerb_ticket_logon: expected MessageType {_MESSAGE_TYPE}, got {kind}")
        service_size, granting_size, service_at, granting_at = words
        return cls(bytes(_slice(data, service_at, service_size)), SecretBytes(_slice(data, granting_at, granting_size)))


def _slice(data: bytes | bytearray, offset: int, size: int) -> bytes | bytearray:
    if not size or not _LAYOUT.size <= offset <= len(data) - size:
        raise RemoteProtocolError(f"kerb_ticket_logon: {size} bytes at {offset} lie outside of {len(data)} bytes")
    return data[offset : offset + size]

"""The one field of a Kerberos ticket that is in clear and tells something: its encryption type (RFC 4120 5.3).

Ticket ::= [APPLICATION 1] SEQUENCE {
    tkt-vno [0] INTEGER, realm [1] Realm, sname [2] PrincipalName, enc-part [3] EncryptedData }
EncryptedData ::= SEQUENCE { etype [0] Int32, ... }
"""

from acredssp.wire import der

__all__ = ["ticket_enctype"]


def ticket_enctype(ticket: bytes) -> int:
    """Return the number of the encryption type with which a ticket is sealed (RFC 3961 8).

    Raises:
        RemoteProtocolError: The bytes are no ticket.
    """
    offset, end = der.only(ticket, 0, len(ticket), 0x61, "ticket")
    offset, end = der.only(ticket, offset, end, 0x30, "ticket")
    for number, name in enumerate(("tkt-vno", "realm", "sname")):
        _, offset = der.element(ticket, offset, end, 0xA0 | number, name)
    offset, end = der.element(ticket, offset, end, 0xA3, "enc-part")
    offset, end = der.only(ticket, offset, end, 0x30, "enc-part")
    offset, end = der.element(ticket, offset, end, 0xA0, "etype")
    offset, end = der.only(ticket, offset, end, 0x02, "etype")
    return int.from_bytes(ticket[offset:end], "big", signed=True)

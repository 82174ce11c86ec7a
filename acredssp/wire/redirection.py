"""The Server Redirection PDU, by which a farm sends a client on to another of its hosts ([MS-RDPBCGR] 2.2.13).

    TPKT, X.224     as in `mcs`
    MCS             68 Send Data Indication: initiator (2), channel (2), priority (1), length in PER
    share control   totalLength (2) | pduType (2), whose low four bits are 10 | pduSource (2) | padding (2)
    packet          Flags 0x0400 (2) | Length (2) | SessionID (4) | RedirFlags (4) | the fields that RedirFlags names
    field           length (4) | content

Numbers are little-endian, those of TPKT and MCS big-endian. This is the form of Enhanced RDP Security (2.2.13.3.1), the
only one inside TLS. The packet may bring a name and a password for the other host, too; they are not read.
"""

import dataclasses
import ipaddress
import re
import struct
from typing import Final

from acredssp.arguments import expect
from acredssp.errors import RemoteProtocolError
from acredssp.wire import mcs

__all__ = ["RedirectionWatch", "ServerRedirection", "msts_address"]

_MOST: Final = 64 * 1024
"""Bytes of a connection that are looked at. A session begins within some thousand."""
_MCS_AT: Final = 7
_SEND_DATA_INDICATION: Final = 0x68
_LENGTH_AT: Final = _MCS_AT + 6

_SHARE_CONTROL: Final = struct.Struct("<HHH")
_PADDING: Final = 2
_DEMAND_ACTIVE: Final = 1
_SERVER_REDIRECTION: Final = 10

_PACKET: Final = struct.Struct("<HHII")
_SEC_REDIRECTION_PKT: Final = 0x0400
_NO_REDIRECT: Final = 0x80
"""The packet only tells the client about the session that it has (LB_NOREDIRECT)."""
_FIELDS: Final = {
    0x001: "net_address",
    0x002: "load_balance_info",
    0x004: "",  # the name, the domain and the password for the other host
    0x008: "",
    0x010: "",
    0x100: "fqdn",
    0x200: "netbios_name",
}
"""The fields in their order, by the flag that says that one is there; empty for those that are not read."""
_SIZE: Final = struct.Struct("<I")

_MSTS: Final = re.compile(r"Cookie: msts=([0-9]{1,10})\.([0-9]{1,5})\.[0-9]* ?")


def msts_address(routing_token: str) -> tuple[str, int] | None:
    """Return the IPv4 address and the port of the host that a routing token `Cookie: msts=` names; None for others.

    A farm gives such tokens to clients that it sends on to another host. The token has both numbers in the order of
    the network, read in the order of Intel's processors. The client may have made it up.

    Args:
        routing_token: `ConnectionRequest.routing_token`.
    """
    expect("routing_token", routing_token, str)
    found = _MSTS.fullmatch(routing_token)
    if found is None or (number := int(found[1])) >= 1 << 32 or (port := int(found[2])) >= 1 << 16:
        return None
    return str(ipaddress.IPv4Address(number.to_bytes(4, "little"))), int.from_bytes(port.to_bytes(2, "little"), "big")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerRedirection:
    """Where a server has sent a client. All of it is what that server says.

    Attributes:
        session_id: The session that the client is to be connected to there.
        fqdn: The other host's full name; empty where the server does not give it, as with the other names.
        netbios_name: The other host's short name.
        net_address: The other host's address.
        load_balance_info: What the client sends as its routing token when it connects again; empty for nothing.
    """

    session_id: int = 0
    fqdn: str = ""
    netbios_name: str = ""
    net_address: str = ""
    load_balance_info: bytes = b""

    @property
    def host(self) -> str:
        """The best of the host's names; empty if the server gives none."""
        return self.fqdn or self.netbios_name or self.net_address


class RedirectionWatch:
    """Looks for a Server Redirection PDU in what a server sends inside TLS, from its MCS Connect-Response on.

    It stops looking when a session begins (Demand Active), after 64 KiB, and where the bytes are no MCS. It raises no
    exception for what a server sends.

    Attributes:
        wants_more: Whether it is still looking.
        found: Where the server has sent the client; None if it has not.
    """

    def __init__(self) -> None:
        self.wants_more = True
        self.found: ServerRedirection | None = None
        self._data = bytearray()
        self._left = _MOST

    def receive(self, data: bytes) -> None:
        """Look at the next bytes of the server.

        Args:
            data: The bytes, cut anywhere.
        """
        expect("data", data, bytes, bytearray)
        if self.wants_more:
            self._data += data[: self._left]
            self._left -= len(data)
            try:
                self._look()
            except RemoteProtocolError:
                self.wants_more = False
            self.wants_more = self.wants_more and self._left > 0
            if not self.wants_more:
                self._data.clear()

    def _look(self) -> None:
        while self.wants_more:
            size = mcs.frame_size(self._data)
            if size.missing:
                return
            self._look_at(bytes(self._data[: size.total]))
            del self._data[: size.total]

    def _look_at(self, pdu: bytes) -> None:
        if len(pdu) <= _LENGTH_AT or pdu[_MCS_AT] != _SEND_DATA_INDICATION:
            return
        length, start = mcs.per_length(pdu, _LENGTH_AT, len(pdu), "send data indication")
        content = pdu[start : start + length]
        if len(content) < _SHARE_CONTROL.size:
            return
        total, kind, _ = _SHARE_CONTROL.unpack_from(content)
        if total > len(content):  # PDUs with a security header, such as those of licensing, come here, too
            return
        if kind & 0xF == _DEMAND_ACTIVE:
            self.wants_more = False
        elif kind & 0xF == _SERVER_REDIRECTION:
            self.found = _packet(content[_SHARE_CONTROL.size + _PADDING :])
            self.wants_more = self.found is None


def _packet(packet: bytes) -> ServerRedirection | None:
    """Read a packet, as far as it is one; None where it redirects nobody."""
    if len(packet) < _PACKET.size:
        return None
    flags, _, session_id, fields = _PACKET.unpack_from(packet)
    if flags != _SEC_REDIRECTION_PKT or fields & _NO_REDIRECT:
        return None
    at, read = _PACKET.size, dict[str, bytes]()
    for flag, name in _FIELDS.items():
        if fields & flag and at + _SIZE.size <= len(packet):
            start = at + _SIZE.size
            at = start + _SIZE.unpack_from(packet, at)[0]
            if name:
                read[name] = packet[start:at]
    return ServerRedirection(
        session_id=session_id,
        fqdn=_text(read.get("fqdn", b"")),
        netbios_name=_text(read.get("netbios_name", b"")),
        net_address=_text(read.get("net_address", b"")),
        load_balance_info=read.get("load_balance_info", b""),
    )


def _text(content: bytes) -> str:
    return content.decode("utf-16-le", "replace").partition("\0")[0]

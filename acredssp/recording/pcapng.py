"""A record as a capture of the network, for Wireshark: `to_pcapng`.

The packets are those of one TCP connection to port 3389, which Wireshark takes for RDP. The addresses are made up,
and no checksum is filled in. Nothing is decrypted: a capture is as secret as the network was, until somebody has the
key log.
"""

import struct
from typing import Final

from acredssp.recording.recording import Recording, Sender

__all__ = ["to_pcapng"]

_SECTION: Final = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
_INTERFACE: Final = struct.pack("<IIHHII", 1, 20, 101, 0, 0, 20)
"""Packets begin with their IP header."""
_ENDS: Final[dict[Sender, tuple[bytes, int]]] = {
    "client": (bytes((192, 0, 2, 1)), 49_152),
    "server": (bytes((192, 0, 2, 2)), 3389),
}
_OTHER: Final[dict[Sender, Sender]] = {"client": "server", "server": "client"}
_MOST: Final = 1_400
"""Bytes of a packet."""
_FIN, _SYN, _ACK, _PUSH = 1, 2, 16, 8


def to_pcapng(record: Recording) -> bytes:
    """Return the flights of a record as a pcapng file."""
    moment = record.flights[0].moment if record.flights else 0.0
    stream = _Stream()
    stream.add("client", moment, _SYN)
    stream.add("server", moment, _SYN | _ACK)
    stream.add("client", moment, _ACK)
    for flight in record.flights:
        moment = flight.moment
        for start in range(0, len(flight.data), _MOST):
            stream.add(flight.sender, moment, _ACK | _PUSH, flight.data[start : start + _MOST])
    for sender in _ENDS:
        stream.add(sender, moment, _FIN | _ACK)
    return _SECTION + _INTERFACE + b"".join(stream.blocks)


class _Stream:
    """The packets of a connection, as blocks of pcapng."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self._next: dict[Sender, int] = {"client": 0, "server": 0}

    def add(self, sender: Sender, moment: float, flags: int, data: bytes = b"") -> None:
        """Add a packet."""
        (source, port), (target, other_port) = _ENDS[sender], _ENDS[_OTHER[sender]]
        seen = self._next[_OTHER[sender]] if flags & _ACK else 0
        tcp = struct.pack(">HHIIBBHHH", port, other_port, self._next[sender], seen, 5 << 4, flags, 65_535, 0, 0)
        self._next[sender] += len(data) + (1 if flags & (_SYN | _FIN) else 0)
        size = 20 + len(tcp) + len(data)
        ip = struct.pack(">BBHIBBH4s4s", 0x45, 0, size, 0, 64, 6, 0, source, target)
        packet, stamp = ip + tcp + data, int(moment * 1_000_000)
        padded = packet + bytes(-len(packet) % 4)
        total = len(padded) + 32
        head = struct.pack("<IIIIIII", 6, total, 0, stamp >> 32, stamp & 0xFFFFFFFF, len(packet), len(packet))
        self.blocks.append(head + padded + struct.pack("<I", total))

"""gateway.py that records what it passes on: `pcapng_recorder.py FOLDER ...`, and behind it what gateway.py takes.

Each connection becomes FOLDER/ID.pcapng, decrypted, which Wireshark and tshark read. Such a file holds all that the
user typed and saw, and often the password: keep the folder to those who may know it.
"""

import asyncio
import contextlib
import functools
import ipaddress
import os
import struct
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import gateway

import acredssp
from acredssp.aio import Recording, RelayEnd

SECTION = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
INTERFACE = struct.pack("<IIHHII", 1, 20, 101, 0, 0, 20)  # packets begin with their IP header
RDP_PORT = 3389  # whatever the target's port is, since Wireshark takes this one for RDP
MOST = 65_000  # bytes of a packet
FIN, SYN, ACK, PUSH = 1, 2, 16, 8


class Capture:
    """A file of one connection, as packets of a TCP connection between client and target.

    Addresses are those of IPv6, into which those of IPv4 are mapped. What is missing, because the recording was lossy,
    is missing in the sequence numbers, too. No checksum is filled in.
    """

    def __init__(self, path: Path, client: tuple[str, int], target: tuple[str, int]) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._ends = {
            RelayEnd.A: (_address(client[0]), client[1]),
            RelayEnd.B: (_address(target[0]), RDP_PORT),
        }
        self._next = {RelayEnd.A: 0, RelayEnd.B: 0}
        self._base = {RelayEnd.A: 1, RelayEnd.B: 1}
        self._file.write(SECTION + INTERFACE)
        self._packet(RelayEnd.A, 0, SYN)
        self._packet(RelayEnd.B, 0, SYN | ACK)
        self._packet(RelayEnd.A, 1, ACK)

    async def __call__(self, source: RelayEnd, offset: int, data: bytes) -> None:
        """Write what one side sent: the sink of a recording, which both sides wait for."""
        await asyncio.to_thread(self.write, source, offset, data)

    def begin(self, data: bytes) -> None:
        """Write what the client sent before the relay, whose offsets begin behind it."""
        self.write(RelayEnd.A, 0, data)
        self._base[RelayEnd.A] += len(data)

    def write(self, source: RelayEnd, offset: int, data: bytes) -> None:
        """Write what one side sent; `offset` is its place in all that this side sends."""
        for start in range(0, len(data), MOST):
            self._packet(source, self._base[source] + offset + start, ACK | PUSH, data[start : start + MOST])

    def close(self) -> None:
        """End both directions."""
        for source in self._ends:
            self._packet(source, self._next[source], FIN | ACK)
        self._file.close()

    def _packet(self, source: RelayEnd, sequence: int, flags: int, data: bytes = b"") -> None:
        other = RelayEnd.B if source is RelayEnd.A else RelayEnd.A
        (sender, port), (receiver, other_port) = self._ends[source], self._ends[other]
        self._next[source] = sequence + len(data) + (1 if flags & (SYN | FIN) else 0)
        wrapped, seen = sequence & 0xFFFFFFFF, self._next[other] & 0xFFFFFFFF
        tcp = struct.pack(
            ">HHIIBBHHH", port, other_port, wrapped, seen if flags & ACK else 0, 5 << 4, flags, 65535, 0, 0
        )
        ip = struct.pack(">IHBB", 6 << 28, len(tcp) + len(data), 6, 64) + sender + receiver
        packet, now = ip + tcp + data, time.time_ns() // 1000
        padded = packet + bytes(-len(packet) % 4)
        head = struct.pack("<IIIIIII", 6, len(padded) + 32, 0, now >> 32, now & 0xFFFFFFFF, len(packet), len(packet))
        self._file.write(head + padded + struct.pack("<I", len(padded) + 32))


def _address(host: str) -> bytes:
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


@contextlib.asynccontextmanager
async def record(
    folder: Path, first_up: bytes, client: asyncio.StreamWriter, target: asyncio.StreamWriter
) -> AsyncIterator[Recording]:
    """Give the recording of one connection; `first_up` is what the client has sent before."""
    path = folder / f"{acredssp.connection_id()}.pcapng"
    ends = client.get_extra_info("peername")[:2], target.get_extra_info("peername")[:2]
    capture = await asyncio.to_thread(Capture, path, *ends)
    try:
        await asyncio.to_thread(capture.begin, first_up)
        yield Recording(sink=capture)
    finally:
        await asyncio.to_thread(capture.close)


if __name__ == "__main__":
    if len(sys.argv) <= 7:
        sys.exit(f"usage: {sys.argv[0]} FOLDER, and what gateway.py takes")
    serve = functools.partial(gateway.serve, record=functools.partial(record, Path(sys.argv[1])))
    asyncio.run(gateway.main(*sys.argv[2:], serve=serve))

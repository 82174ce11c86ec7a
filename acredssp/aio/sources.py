"""The source of a connection, which the limits count as one client.

A source is an IPv4 address, or the /64 network of an IPv6 address. A /64 network is the smallest that a subscriber
gets, and its addresses cost nothing. An IPv4 address in IPv6 form counts as the IPv4 address. All peers without an IP
address, such as those of a Unix socket, are one source.

No other module decides what a source is. Who calls: `server`, with the peer address that the accept step found.
"""

import socket
from typing import Final

__all__ = ["source_of"]

_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"
_NO_ADDRESS: Final = "no address"


def source_of(address: object) -> str:
    """Return the source that a peer address belongs to, as text for a person.

    Args:
        address: The peer address, in the form of `get_extra_info("peername")`.
    """
    if not isinstance(address, tuple) or not address:
        return _NO_ADDRESS
    host = str(address[0])
    return _of_ipv6(host) if ":" in host else host


def _of_ipv6(host: str) -> str:
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    if packed.startswith(_IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return f"{socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))}/64"

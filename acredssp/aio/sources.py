"""The source of a connection: what limits count as one client.

A source is an IPv4 address, or the /64 network of an IPv6 address: the smallest that one subscriber is given, within
which an address costs nothing. An IPv4 address in IPv6 form is the IPv4 address. All peers without an IP address, as
those of a Unix socket, are one source.

No other module decides this. Who calls: `server`, with the peer address that the accept step found.
"""

import socket
from typing import Final

__all__ = ["source_of"]

_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"
_NO_ADDRESS: Final = "no address"


def source_of(address: object) -> str:
    """Return the source that a peer address belongs to, as text for a person.

    Args:
        address: As `get_extra_info("peername")` gives it.
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

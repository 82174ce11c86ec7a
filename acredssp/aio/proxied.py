"""Connections that come through a load balancer: whose they are, as the PROXY header in front of them says.

A load balancer connects in its clients' place, so all of them would have its address. It can send a PROXY header first,
which names the client. Whoever may send one chooses the address that limits, hooks and logs go by, so only connections
from named networks may, and each of these has to: a server that guessed whether there is a header would let a client
write its own (HAProxy's specification, 2 and 5).

Who calls: `server`, before it checks the limits of a source, and while it asks `accept` about the client.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from acredssp.aio.protocol import CredSSPProtocol
from acredssp.errors import PeerClosed
from acredssp.status import Stage
from acredssp.wire import proxy_header
from acredssp.wire.proxy_header import ProxyCommand, ProxyEndpoint, ProxyFamily, ProxyHeader

__all__ = ["LoadBalancers", "address_of_client", "read_header", "watching"]

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_STREAMS = frozenset({ProxyFamily.TCP4, ProxyFamily.TCP6, ProxyFamily.UNIX_STREAM})
"""What a connection of ours can have been at the load balancer."""


class LoadBalancers:
    """The networks whose connections begin with a PROXY header.

    Args:
        networks: `10.0.0.0/8`, `2001:db8::/64`, or single addresses.

    Raises:
        TypeError: `networks` is no sequence of text.
        ValueError: One of them is no network.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        if isinstance(networks, str | bytes):
            raise TypeError(f"proxy_protocol: expected a sequence of networks, got {type(networks).__name__}")
        self._networks = [_network(network) for network in networks]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: object) -> bool:
        """Whether a connection from this peer address begins with a header."""
        if not self._networks or not isinstance(address, tuple) or not address:
            return False
        host = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
            host = host.ipv4_mapped  # an IPv4 client on a socket of both families
        return any(host in network for network in self._networks)


def _network(text: object) -> _Network:
    if not isinstance(text, str):
        raise TypeError(f"proxy_protocol: expected networks as text, got {type(text).__name__}")
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"proxy_protocol: expected a network as 10.0.0.0/8, got {text!r}: {error}") from None


async def read_header(protocol: CredSSPProtocol) -> ProxyHeader:
    """Wait for the header at the front of a connection, and take it; what comes behind it stays stored.

    Raises:
        PeerClosed: The load balancer left before its header was whole.
        RemoteProtocolError: No header comes.
    """
    arrival = _Arrival(protocol)
    protocol.give_to(arrival)
    try:
        while (size := proxy_header.frame_size(protocol.received)).missing:
            if protocol.ended:
                raise PeerClosed("the load balancer ended the connection before its PROXY header", stage=Stage.CONNECT)
            await arrival.next()
    finally:
        protocol.give_to(None)
    end = size.total
    header = ProxyHeader.decode(bytes(protocol.received[:end]))
    del protocol.received[:end]
    protocol.heard = bool(protocol.received)  # of the client, about whom reports and logs are
    return header


@contextlib.contextmanager
def watching(protocol: CredSSPProtocol, left: Callable[[], object]) -> Iterator[None]:
    """Call `left` if the peer ends its direction meanwhile or has ended it before; what it sends is stored."""
    if protocol.ended:
        left()
    protocol.give_to(_Arrival(protocol, left))
    try:
        yield
    finally:
        protocol.give_to(None)


def address_of_client(header: ProxyHeader, address: object) -> object:
    """Return the peer address that a header tells, in the shape that a socket gives it.

    Args:
        header: What the load balancer has sent.
        address: Its own address, which holds where the header tells none: for its own connections (LOCAL), and for
            clients of which it knows no address of a stream.
    """
    source = header.source
    if header.command is ProxyCommand.LOCAL or source is None or header.family not in _STREAMS:
        return address
    if not isinstance(source, ProxyEndpoint):
        return os.fsdecode(source)
    if isinstance(source.host, ipaddress.IPv4Address):
        return str(source.host), source.port
    return socket.inet_ntop(socket.AF_INET6, source.host.packed), source.port, 0, 0


class _Arrival:
    """The receiver of a connection that nobody reads yet: stores what comes, and wakes who waits.

    Args:
        protocol: The connection.
        left: Called when the peer ends its direction, or the connection ends.
    """

    __slots__ = ("_left", "_protocol", "_waiter")

    def __init__(self, protocol: CredSSPProtocol, left: Callable[[], object] = lambda: None) -> None:
        self._protocol = protocol
        self._left = left
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> None:
        """Wait until something comes, or the end."""
        self._waiter = self._protocol.loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def on_data(self, ciphertext: memoryview) -> None:
        """Store what arrived."""
        self._protocol.store(ciphertext)
        self._wake()

    def on_eof(self) -> None:
        """Note the end of the peer's direction."""
        self._left()
        self._wake()

    def on_connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        self._protocol.error = exc
        self._left()
        self._wake()

    def on_pause_writing(self) -> None:
        """Do nothing: nothing is written yet."""

    def on_resume_writing(self) -> None:
        """Do nothing: nothing is written yet."""

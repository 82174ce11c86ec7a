"""The listening sockets of `acredssp serve --workers N`: on one address, one for each worker.

`workers` says why each worker has a socket of its own, and why an address is first bound alone.
"""

import contextlib
import socket
from typing import Any, Final, TypeAlias

from acredssp.cli.arguments import Address

__all__ = ["Sockets", "bind"]

Sockets: TypeAlias = tuple[socket.socket, ...]
"""What one worker listens on: a socket for each address that the host's name stands for."""

_BACKLOG: Final = 4096
"""As in `acredssp.create_server`; the kernel takes less where it wants less (net.core.somaxconn)."""


def bind(address: Address, count: int) -> list[Sockets]:
    """Listen on an address `count` times over; with port 0 all share the port that the first one comes to.

    Raises:
        OSError: The address cannot be had, somebody else has it, or there is no such host.
    """
    with contextlib.ExitStack() as stack:
        places: list[list[socket.socket]] = [[] for _ in range(count)]
        port = address.port
        for family, host, *rest in _resolve(address.host):
            if port:
                _bound(family, (host, port, *rest), shared=False).close()
            for place in places:
                listener = stack.enter_context(_bound(family, (host, port, *rest), shared=True))
                port = listener.getsockname()[1]
                place.append(listener)
        for place in places:
            for listener in place:
                listener.listen(_BACKLOG)
        stack.pop_all()
        return [tuple(place) for place in places]


def _resolve(host: str) -> list[tuple[Any, ...]]:
    """Family, address and what else an address of the family has, for each that a host's name stands for."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, name[0], *name[2:]) for family, _, _, _, name in found))


def _bound(family: int, name: tuple[Any, ...], *, shared: bool) -> socket.socket:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:  # as asyncio: the IPv4 address has a socket of its own
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(name)
        stack.pop_all()
        return listener

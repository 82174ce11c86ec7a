"""The listening sockets of `acredssp serve --workers N`: one for each worker, all on the same address.

The module `workers` explains why each worker has a socket of its own, and why the address is first bound exclusively.
"""

import contextlib
import socket
from typing import Any, Final, TypeAlias

from acredssp.cli.arguments import Address

__all__ = ["Sockets", "bind"]

Sockets: TypeAlias = tuple[socket.socket, ...]
"""The listening sockets of one worker: one for each address that the host's name resolves to."""

_BACKLOG: Final = 4096
"""The backlog of `acredssp.create_server`; the kernel reduces it to its own limit (net.core.somaxconn)."""


def bind(address: Address, count: int) -> list[Sockets]:
    """Listen on an address with `count` sockets; with port 0, all share the port that the first socket gets.

    Raises:
        OSError: The address cannot be bound, another program uses it, or there is no such host.
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
    """Return a tuple for each address of a host: its family, the address, and the family's further fields."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, name[0], *name[2:]) for family, _, _, _, name in found))


def _bound(family: int, name: tuple[Any, ...], *, shared: bool) -> socket.socket:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:  # as asyncio does: the IPv4 address gets a socket of its own
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(name)
        stack.pop_all()
        return listener

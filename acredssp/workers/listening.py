"""The listening sockets of workers: one for each worker, all on the same address.

The module `supervisor` explains why each worker has a socket of its own, and why the address is first bound
exclusively.
"""

import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

__all__ = ["INHERITED", "Address", "Sockets", "bind", "bind_shared", "inherited", "take_bound"]

Sockets: TypeAlias = tuple[socket.socket, ...]
"""The listening sockets of one worker: one for each address that the host's name resolves to."""

INHERITED: Final = "ACREDSSP_INHERITED"
"""The environment variable that tells a program what the program before it in the same process has left to it."""

_BACKLOG: Final = 4096
"""The backlog of `acredssp.create_server`; the kernel reduces it to its own limit (net.core.somaxconn)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port.

    Attributes:
        host: A name or an IP address, without brackets.
        port: The port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def inherited() -> list[socket.socket]:
    """Return the listening sockets that the program before this one in the same process has left to it.

    Whoever calls this owns them: each of them has to be served or closed.
    """
    told = json.loads(os.environ.get(INHERITED, "null"))
    found = [socket.socket(fileno=fd) for fd in told["sockets"]] if told else []
    for each in found:
        each.set_inheritable(False)
    return found


def take_bound(left: list[socket.socket], host: str, port: int) -> list[socket.socket]:
    """Take the sockets that listen on an address out of a list, and return them; none for a host that is unknown.

    Args:
        left: Sockets that listen, as `inherited` returns them.
        host: A name, or an IP address.
        port: The port.
    """
    with contextlib.suppress(OSError):
        names = {found[4][:2] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        taken = [each for each in left if each.getsockname()[:2] in names]
        left[:] = [each for each in left if each not in taken]
        return taken
    return []


def bind_shared(host: str, port: int, left: list[socket.socket]) -> socket.socket:
    """Listen on an address with one socket that all workers accept from, as pages for administrators do.

    Args:
        host: A name, of which the first address is taken, or an IP address.
        port: 0 takes a free port.
        left: Sockets that listen, as `inherited` returns them. One for this address is taken out of the list.

    Raises:
        OSError: The address cannot be bound, or there is no such host.
    """
    if taken := take_bound(left, host, port):
        return taken[0]
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.create_server((host, port), family=family)
    listener.setblocking(False)
    return listener


def bind(host: str, port: int, count: int, ready: Sequence[socket.socket] = ()) -> list[Sockets]:
    """Listen on an address with `count` sockets; with port 0, all share the port that the first socket gets.

    Args:
        host: A name, or an IP address.
        port: 0 takes a free port.
        count: How many workers there are.
        ready: Sockets that listen on this address already. They are dealt out; a place without one gets a new one.

    Raises:
        OSError: The address cannot be bound, another program uses it, or there is no such host.
    """
    with contextlib.ExitStack() as stack:
        places: list[list[socket.socket]] = [[] for _ in range(count)]
        for index, listener in enumerate(ready):
            places[index % count].append(listener)
        missing = places[len(ready) :]
        for family, name, *rest in _resolve(host) if missing else ():
            if port and not ready:
                _bound(family, (name, port, *rest), shared=False).close()
            for place in missing:
                listener = stack.enter_context(_bound(family, (name, port, *rest), shared=True))
                port = listener.getsockname()[1]
                place.append(listener)
        for place in missing:
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

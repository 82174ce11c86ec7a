"""What all connections of a loop share, so that an idle one owns no buffer: where bytes arrive, where TLS works.

A loop calls one connection at a time, and none leaves anything in a buffer for a later call.

Who calls: `protocol` for reading, `streams` and `server` for the TLS sessions they have made.
"""

import asyncio
import dataclasses
import weakref
from typing import Final

from acredssp.core.tls import BIOPair

__all__ = ["Buffers", "shared_buffers"]

_READ_SIZE: Final = 128 * 1024
"""Bytes of one read. With 64 KiB, bulk data over 64 connections took 5 % more time; with 512 KiB over one, 10 %: what
is read has then left the cache before it is decrypted."""

_EARLY_READ_SIZE: Final = 64 * 1024
"""The same before a handshake is over: all of it may have to be stored, for a peer who is nobody yet."""


@dataclasses.dataclass(frozen=True, slots=True)
class Buffers:
    """The buffers of one loop."""

    read: memoryview
    """Both loops fill it and call `buffer_updated` before they look at another connection."""
    early_read: memoryview
    """The beginning of it, for connections whose handshake is not over."""
    bios: BIOPair
    """For the TLS sessions of this loop's connections, since one thread calls them all."""


_of_loop: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Buffers]" = weakref.WeakKeyDictionary()


def shared_buffers() -> Buffers:
    """Return the running loop's."""
    loop = asyncio.get_running_loop()
    buffers = _of_loop.get(loop)
    if buffers is None:
        read = memoryview(bytearray(_READ_SIZE))
        buffers = _of_loop[loop] = Buffers(read, read[:_EARLY_READ_SIZE], BIOPair())
    return buffers

"""The buffers that all connections of a loop share, so that an idle connection owns none: for reading, and for TLS.

Sharing is safe since a loop calls one connection at a time, and no connection leaves bytes in a buffer for a later
call.

`protocol` uses the buffers for reading, and `handshake` gives them to the TLS sessions that it makes.
"""

import asyncio
import dataclasses
import weakref
from typing import Final

from acredssp.core.tls import BIOPair

__all__ = ["Buffers", "shared_buffers"]

_READ_SIZE: Final = 256 * 1024
"""The most bytes of one read, as with asyncio's own TLS. A relay of large messages took 7 % more CPU time with 128 KiB,
and 20 % more with 64 KiB. With 512 KiB, bulk data over one connection took 10 % more time: the bytes have then left the
processor's cache before they are decrypted."""

_EARLY_READ_SIZE: Final = 64 * 1024
"""The most bytes of one read before a handshake is over. Fewer, since a stranger could have all of them stored."""


@dataclasses.dataclass(frozen=True, slots=True)
class Buffers:
    """The buffers of one loop."""

    read: memoryview
    """The buffer for reading. asyncio and uvloop fill it and call `buffer_updated` before they turn to another
    connection."""
    early_read: memoryview
    """The beginning of `read`, for connections whose handshake is not over."""
    bios: BIOPair
    """The memory BIOs for all TLS sessions of this loop's connections, which one thread calls."""


_of_loop: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Buffers]" = weakref.WeakKeyDictionary()


def shared_buffers() -> Buffers:
    """Return the buffers of the running loop; they are made on the first call."""
    loop = asyncio.get_running_loop()
    buffers = _of_loop.get(loop)
    if buffers is None:
        read = memoryview(bytearray(_READ_SIZE))
        buffers = _of_loop[loop] = Buffers(read, read[:_EARLY_READ_SIZE], BIOPair())
    return buffers

"""The buffers that all connections of a loop share, so that an idle connection owns none: for reading, and for TLS.

Connections can share the buffers for two reasons: a loop calls one connection at a time, and a connection reads only
those bytes of a buffer that the same call has written.

`protocol` uses the buffers for reading, `handshake` gives them to the TLS sessions that it makes, and `transport`
decrypts into one of them.
"""

import asyncio
import dataclasses
import weakref
from typing import Final

from acredssp.core.tls import MAX_PLAINTEXT, BIOPair

__all__ = ["Borrower", "Buffers", "shared_buffers"]

_READ_SIZE: Final = 256 * 1024
"""The most bytes of one read, as with asyncio's own TLS. A relay of large messages took 7 % more CPU time with 128 KiB,
and 20 % more with 64 KiB. With 512 KiB, bulk data over one connection took 10 % more time: the bytes have then left the
processor's cache before they are decrypted."""

_MOST_READ: Final = _READ_SIZE + MAX_PLAINTEXT
"""The most plaintext of one read, since a read may also bring the end of a record that began in an earlier read."""

_PLAINTEXT_SIZE: Final = _MOST_READ + MAX_PLAINTEXT
"""The size of the buffer for plaintext: `_MOST_READ`, and the room for one more record, which decrypting asks for."""

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
    plaintext: memoryview
    """The buffer that a read is decrypted into. A transport reads no more of it than it has just written there, and
    hands the data on before it returns to the loop."""


class Borrower(asyncio.Protocol):
    """A protocol whose `data_received` gets a view of the loop's plaintext, which it must not keep.

    The view is valid until `data_received` returns. An ordinary protocol gets bytes of its own.
    """

    def data_received(self, data: bytes | memoryview) -> None:
        """Use the data at once."""


_of_loop: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Buffers]" = weakref.WeakKeyDictionary()


def shared_buffers() -> Buffers:
    """Return the buffers of the running loop; they are made on the first call."""
    loop = asyncio.get_running_loop()
    buffers = _of_loop.get(loop)
    if buffers is None:
        read = memoryview(bytearray(_READ_SIZE))
        buffers = _of_loop[loop] = Buffers(
            read, read[:_EARLY_READ_SIZE], BIOPair(_MOST_READ), memoryview(bytearray(_PLAINTEXT_SIZE))
        )
    return buffers

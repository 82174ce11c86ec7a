"""Writing to a connection that may have ended already, in the same way on every loop.

asyncio's transports drop what is written once they close, and uvloop's raise a RuntimeError. A connection may close at
any moment between two steps of a program, so code that writes to a raw connection calls this function.

Who calls: `first_pdus`, `probes`, and the parts of `cli`, `http`, `proxy` and `sspi` that hold a transport or a
stream's writer.
"""

import asyncio

__all__ = ["write_if_open"]


def write_if_open(connection: asyncio.StreamWriter | asyncio.WriteTransport, data: bytes) -> None:
    """Write to a connection, or drop the bytes if the connection is closing. Whoever reads from it learns of its end.

    Args:
        connection: A stream's writer, or a transport.
        data: The bytes.
    """
    if not connection.is_closing():
        connection.write(data)

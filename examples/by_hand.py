"""CredSSP without asyncio: the engine does no I/O, so any loop can drive it. This example uses a blocking socket.

`python examples/by_hand.py PORT PIN [HOST]` logs on to echo_server.py.
"""

import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

import acredssp
from acredssp.events import Event, SecurityContext
from acredssp.status import SecurityStatus


def handshake(sock: socket.socket, context: SecurityContext, answer: Callable[[Event], Any]) -> bytes:
    """Drive one side to the end of the handshake; return the ciphertext that came behind the handshake."""
    data = b""
    try:
        result = context.step()
        while True:
            if result.output:
                sock.sendall(result.output)
            if result.status is SecurityStatus.SEC_E_OK:
                return data
            if result.event is not None:
                result = context.resume(result.event, answer(result.event))
                continue
            if result.missing:
                chunk = sock.recv(65536)
                if not chunk:
                    context.receive_eof()
                data += chunk
            result = context.step(data)
            data = data[len(data) - result.extra :]
    except acredssp.CredSSPError as error:
        context.fail(error)  # the engine does not know of an error that `answer` raised
        with contextlib.suppress(OSError):  # the peer may be gone
            sock.sendall(context.farewell)
        raise


def main(port: str, pin: str, host: str = "127.0.0.1") -> None:
    """Log on, send a line, and print the answer."""
    config = acredssp.ClientConfig(
        authenticate=acredssp.Password("wonderland", user="alice"), trust=acredssp.Trust.pinned(pin)
    )
    context = config.new_context(server_hostname=host, spn=f"TERMSRV/{host}")

    with socket.create_connection((host, int(port))) as sock:
        data = handshake(sock, context, lambda event: config.answer(event, host))
        print("logged on:", context.info)
        assert context.tls is not None
        context.tls.write(b"hello\n")
        sock.sendall(context.tls.output())
        echo = b""
        while not echo.endswith(b"\n"):
            data, echo = b"", echo + context.tls.read(data or sock.recv(65536))
        print("echo:", echo.decode().strip())
        context.tls.close()
        sock.sendall(context.tls.output())


if __name__ == "__main__":
    if len(sys.argv) not in {3, 4}:
        sys.exit(f"usage: {sys.argv[0]} PORT PIN [HOST]")
    try:
        main(*sys.argv[1:])
    except (acredssp.CredSSPError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")

"""What goes around the TLS bytes of an attack: nothing, RDP's negotiation, or the headers of HTTP requests."""

import base64
import contextlib
import socket
from collections.abc import Callable, Generator
from typing import Self, TypeAlias

from acredssp.rdp import ConnectionRequest, Protocols

__all__ = ["FRONTS", "Channel", "HTTPChannel", "Script", "channel_of", "request_of", "through"]

CONNECTION_REQUEST = ConnectionRequest(requested_protocols=Protocols.HYBRID).encode()
CONNECTION_CONFIRM_SIZE = 19
PATIENCE = 2.0
"""Seconds after which an attacker gives a connection up."""

FRONTS = {"serve": "tls", "tls": "tls", "gateway": "rdp", "http": "http"}
"""What is in front of the TLS bytes, by the kind of server."""


def request_of(token: bytes) -> bytes:
    """Return a request with bytes of TLS."""
    return (
        b"POST /wsman HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nAuthorization: CredSSP "
        + base64.b64encode(token)
        + b"\r\n\r\n"
    )


def _token_of(head: bytes) -> bytes:
    """Return the bytes of TLS in the head of an answer."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name.lower() == b"www-authenticate" and value.startswith(b"CredSSP "):
            return base64.b64decode(value[8:])
    raise ConnectionError("the server has refused")


class Channel:
    """A blocking connection that carries TLS bytes as they are; an attacker's.

    Args:
        connection: The connection.
    """

    _to_read = b""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.settimeout(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def sendall(self, data: bytes) -> None:
        self.socket.sendall(data)

    def recv(self, size: int = 65_536) -> bytes:
        """Return bytes; raises ConnectionError at the end of the connection."""
        if not (data := self.socket.recv(size)):
            raise ConnectionError("the server has closed the connection")
        return data

    def skip(self) -> None:
        """Drop what has come, without waiting."""
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(65_536, socket.MSG_DONTWAIT):
                pass


class RDPChannel(Channel):
    """One with RDP's negotiation in front."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        connection.sendall(CONNECTION_REQUEST)
        connection.recv(CONNECTION_CONFIRM_SIZE)


class HTTPChannel(Channel):
    """One that sends TLS bytes in requests, and takes them from the answers."""

    MOST = 48_000
    """Bytes of TLS in a request."""

    def sendall(self, data: bytes) -> None:
        for start in range(0, len(data), self.MOST):
            self.socket.sendall(request_of(data[start : start + self.MOST]))

    def recv(self, size: int = 65_536) -> bytes:  # noqa: ARG002 - the token is taken whole
        while b"\r\n\r\n" not in self._to_read:
            self._to_read += super().recv()
        head, _, self._to_read = self._to_read.partition(b"\r\n\r\n")
        return _token_of(head)


_CHANNELS = {"tls": Channel, "rdp": RDPChannel, "http": HTTPChannel}


def channel_of(front: str, connection: socket.socket) -> Channel:
    return _CHANNELS[front](connection)


Script: TypeAlias = Generator[bytes, bytes, bytes]
"""What a peer sends: each yield sends bytes and gives those that come next; what it returns is sent last."""


def through(front: str, script: Callable[[], Script]) -> Script:
    """Put a front around what a peer sends."""
    if front == "http":
        return (yield from _through_http(script()))
    if front == "rdp":
        heard = yield CONNECTION_REQUEST
        while len(heard) < CONNECTION_CONFIRM_SIZE:
            heard += yield b""
    return (yield from script())


def _through_http(script: Script) -> Script:
    heard = b""
    try:
        data = next(script)
        while True:
            heard += yield request_of(data)
            while b"\r\n\r\n" not in heard:
                heard += yield b""
            head, _, heard = heard.partition(b"\r\n\r\n")
            data = script.send(_token_of(head))
    except StopIteration as end:
        return request_of(end.value) if end.value else b""

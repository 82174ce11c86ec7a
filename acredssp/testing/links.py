"""How a hostile peer reaches what is tested: over TCP, or by calls of a library that takes and gives tokens.

Everything here blocks: tests of other projects have their own event loops, or none. A time limit of a minute ends what
would never end.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from acredssp.errors import CredSSPError
from acredssp.rdp import ConnectionConfirm, ConnectionRequest, Protocols
from acredssp.wire import der, x224

__all__ = ["QUIET", "TIMEOUT", "Channel", "Crashed", "Link", "SocketLink", "StepLink", "confirm", "request"]

__tracebackhide__ = True
"""pytest shows the test and the defect, and not the steps of the attack."""
TIMEOUT: Final = 60.0
"""Seconds until a peer that says nothing is taken for one that hangs."""
QUIET: Final = 10.0
"""Seconds that an attacked peer may say nothing before the attacker ends its side of the connection."""
_CHUNK: Final = 1 << 16
_LIMIT: Final = 1 << 20


class Crashed(AssertionError):
    """What is tested ended with an exception that is no refusal."""


class Link(Protocol):
    """A connection to what is tested."""

    def send(self, data: bytes) -> None:
        """Send bytes."""

    def receive(self) -> bytes:
        """Return the next bytes; empty where the other side has ended the connection."""

    def hurry(self) -> None:
        """From now on, end this side of the connection where the other one says nothing."""

    def close(self) -> None:
        """End the connection."""


class SocketLink:
    """A connection over TCP.

    Args:
        sock: A connected socket.
        quiet: Seconds that the peer may say nothing after `hurry`.
    """

    def __init__(self, sock: socket.socket, quiet: float = QUIET) -> None:
        sock.settimeout(TIMEOUT)
        self._socket = sock
        self._quiet = quiet
        self._hurries = False

    def send(self, data: bytes) -> None:
        """Send bytes; a peer that has left is noticed by `receive`."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def receive(self) -> bytes:
        """Return the next bytes; empty where the peer has ended the connection.

        Raises:
            Crashed: The peer says nothing for a minute, and does not end the connection.
        """
        try:
            return self._socket.recv(_CHUNK)
        except ConnectionError:
            return b""
        except TimeoutError:
            if not self._hurries:
                raise Crashed("the peer neither answers nor ends the connection") from None
        self._hurries = False
        self._socket.settimeout(TIMEOUT)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        return self.receive()

    def hurry(self) -> None:
        """From now on, end this side of the connection where the peer says nothing for the seconds of `quiet`."""
        self._hurries = True
        self._socket.settimeout(self._quiet)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


class StepLink:
    """A library whose context takes a token and gives a token.

    Args:
        step: Takes the bytes that have come, and returns the bytes to send.
        refusals: The exceptions by which the library refuses a peer.
    """

    def __init__(self, step: Callable[[bytes], bytes | None], refusals: tuple[type[BaseException], ...]) -> None:
        self._step = step
        self._refusals = refusals
        self._received = b""
        self._ended = False

    def send(self, data: bytes) -> None:
        """Keep the bytes for the next `receive`."""
        self._received += data

    def receive(self) -> bytes:
        """Give the library what was sent, and return what it makes of it; empty after a refusal.

        Raises:
            Crashed: The library raises another exception.
        """
        if self._ended:
            return b""
        data, self._received = self._received, b""
        try:
            return self._step(data) or b""
        except self._refusals:
            self._ended = True
            return b""
        except Exception as error:
            self._ended = True
            kind = type(error)
            name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
            raise Crashed(f"the library ends with {name}: {error}") from error

    def hurry(self) -> None:
        """Do nothing: a library's function never waits."""

    def close(self) -> None:
        """Give the library nothing more."""
        self._ended = True


class Channel:
    """TLS over a link, with whole TSRequests inside.

    Args:
        link: The connection.
        context: A TLS context of this side.
        server_side: Whether this side is the server.

    Attributes:
        peer_certificate: The peer's certificate in DER; None before the handshake, and for a client's.
    """

    def __init__(self, link: Link, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._link = link
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._plain = b""
        self.peer_certificate: bytes | None = None

    def hurry(self) -> None:
        """From now on, end this side of the connection where the peer says nothing."""
        self._link.hurry()

    def close(self) -> None:
        """End the connection, so that a peer that waits for more ends, too."""
        self._link.close()

    def handshake(self) -> None:
        """Make the TLS handshake.

        Raises:
            Crashed: The peer makes none.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    raise Crashed("the peer ends the connection in the tls handshake") from None
            else:
                self._flush()
                self.peer_certificate = self._tls.getpeercert(binary_form=True)
                return

    def send(self, data: bytes) -> None:
        """Send plaintext."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.write(data)
        self._flush()

    def receive(self) -> bytes:
        """Return the peer's next TSRequest; no bytes once the peer has ended."""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                try:
                    self._plain += self._tls.read(_CHUNK)
                except ssl.SSLWantReadError:
                    raise
                except ssl.SSLError:
                    return b""
            message = self._message()
            if message is not None:
                return message
            if not self._fill():
                return b""

    def _message(self) -> bytes | None:
        """Return a whole message of the plaintext; None where there is none yet."""
        try:
            frame = der.frame_size(self._plain, _LIMIT)
        except CredSSPError:
            return self._plain
        if not frame.total or frame.missing:
            return None
        message, self._plain = self._plain[: frame.total], self._plain[frame.total :]
        return message

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._link.send(data)

    def _fill(self) -> bool:
        data = self._link.receive()
        self._incoming.write(data)
        return bool(data)


def request(link: Link) -> None:
    """Negotiate CredSSP as a client of RDP.

    Raises:
        Crashed: The server does not choose it.
    """
    link.send(ConnectionRequest(requested_protocols=Protocols.SSL | Protocols.HYBRID).encode())
    chosen = ConnectionConfirm.decode(_pdu(link)).selected_protocol
    if chosen is not Protocols.HYBRID:
        raise Crashed(f"the server does not choose HYBRID, but {chosen!r}")


def confirm(link: Link) -> None:
    """Negotiate CredSSP as a server of RDP."""
    ConnectionRequest.decode(_pdu(link))
    link.send(ConnectionConfirm(selected_protocol=Protocols.HYBRID).encode())


def _pdu(link: Link) -> bytes:
    data = b""
    while True:
        frame = x224.frame_size(data)
        if frame.total and not frame.missing:
            return data[: frame.total]
        more = link.receive()
        if not more:
            raise Crashed("the peer ends the connection in rdp's negotiation")
        data += more

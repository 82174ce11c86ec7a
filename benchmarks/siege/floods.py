"""Attackers that keep a server busy: one connection after the other, each with as much work for the server as it can.

Those of `benchmarks.attackers` are among them.
"""

import contextlib
import pathlib
import socket
import ssl
import threading
from collections.abc import Callable

from benchmarks import attackers
from benchmarks.siege.fronts import Channel, channel_of
from benchmarks.siege.raw_tls import ALERT, APPLICATION_DATA, HANDSHAKE, RawTLS, plain_record

__all__ = ["FLOODS", "Flood"]

BATCH = 500
"""How many records go into one write."""
LARGEST_LENGTH = (1 << 24) - 1
"""The largest length that the header of a handshake message can say: 16 MiB."""
CERTIFICATES = 100
CERTIFICATE = bytes(1000)


class Flood(attackers.Attack):
    """Attacks a port until it is told to stop. Each method makes one connection.

    Args:
        front: What is around the TLS bytes.
        port: The server's port.
        stop: Set at the end.
        key_log: A file of our own.
    """

    def __init__(self, front: str, port: int, stop: threading.Event, key_log: pathlib.Path) -> None:
        super().__init__(port, 0.0)
        self._front, self._stop, self._key_log = front, stop, key_log
        self._connected: socket.socket | None = None

    def end(self) -> None:
        """End the attack; another thread than the attacker's calls this."""
        self._stop.set()
        if self._connected is not None:
            with contextlib.suppress(OSError):
                self._connected.shutdown(socket.SHUT_RDWR)

    @property
    def over(self) -> bool:
        return self._stop.is_set()

    def connect(self) -> None:
        self._socket().close()

    def garbage(self) -> None:
        self._flood(lambda tls: tls.record(APPLICATION_DATA, b"\x30\x03\xa0\x01\x00"), batch=1)

    def tiny(self) -> None:
        self._flood(lambda tls: tls.record(APPLICATION_DATA, b"\0"), first=b"\x30\x83\x01\xff\xf0")

    def tiny12(self) -> None:
        version = ssl.TLSVersion.TLSv1_2
        self._flood(lambda tls: tls.record(APPLICATION_DATA, b"\0"), first=b"\x30\x83\x01\xff\xf0", version=version)

    def empty(self) -> None:
        self._flood(lambda tls: tls.record(APPLICATION_DATA, b""))

    def alerts(self) -> None:
        self._flood(lambda tls: tls.record(ALERT, b"\x01\x5a"))  # a warning, user_canceled

    def key_updates(self) -> None:
        self._flood(lambda tls: tls.key_update(asked=True))

    def key_updates_unread(self) -> None:
        self._flood(lambda tls: tls.key_update(asked=True), reads=False)

    def renegotiations(self) -> None:
        self._flood(lambda tls: tls.record(HANDSHAKE, tls.hello[5:]), version=ssl.TLSVersion.TLSv1_2)

    def client_certificates(self) -> None:
        entry = len(CERTIFICATE).to_bytes(3, "big") + CERTIFICATE + b"\0\0"
        chain = b"\0" + (len(entry) * CERTIFICATES).to_bytes(3, "big") + entry * CERTIFICATES
        tls = RawTLS(self._key_log)
        with self._channel() as channel:
            channel.sendall(tls.hello)
            while not tls.done:
                tls.step(channel.recv())  # what it answers, its Finished, is not sent
            channel.sendall(tls.within_handshake(b"\x0b" + len(chain).to_bytes(3, "big") + chain))
            channel.recv()

    def big_hello(self) -> None:
        with self._channel() as channel:
            channel.sendall(plain_record(HANDSHAKE, b"\x01" + LARGEST_LENGTH.to_bytes(3, "big") + bytes(10_000)))
            for _ in range(0, LARGEST_LENGTH, 16_000):
                channel.sendall(plain_record(HANDSHAKE, bytes(16_000)))

    def big_message(self) -> None:
        """A message as large, sealed: where a Finished is due."""
        tls = RawTLS(self._key_log)
        with self._channel() as channel:
            channel.sendall(tls.hello)
            while not tls.done:
                tls.step(channel.recv())
            channel.sendall(tls.within_handshake(b"\x14" + LARGEST_LENGTH.to_bytes(3, "big") + bytes(16_000)))
            for _ in range(0, LARGEST_LENGTH, 16_000):
                channel.sendall(tls.record(HANDSHAKE, bytes(16_000)))

    def requests_unread(self) -> None:
        """Requests of HTTP whose answers are not read."""
        with self._channel() as channel:
            while not self.over:
                channel.socket.sendall(b"GET /wsman HTTP/1.1\r\nHost: localhost\r\n\r\n" * BATCH)

    def _flood(
        self,
        record: Callable[[RawTLS], bytes],
        *,
        first: bytes = b"",
        batch: int = BATCH,
        reads: bool = True,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        """Do a handshake, and then send such records until the server ends the connection."""
        self._key_log.write_bytes(b"")
        tls = RawTLS(self._key_log, version)
        with self._channel() as channel:
            flight = tls.hello
            while not tls.done:
                channel.sendall(flight)
                flight = tls.step(channel.recv())
            channel.sendall(flight + (tls.record(APPLICATION_DATA, first) if first else b""))
            while not self.over:
                channel.sendall(b"".join(record(tls) for _ in range(batch)))
                if batch == 1:
                    channel.recv()
                elif reads:
                    channel.skip()

    def _socket(self) -> socket.socket:
        connection = self._connected = super()._connection()
        return connection

    def _channel(self) -> Channel:
        return channel_of(self._front, self._socket())

    _connection = _channel


FLOODS = (
    "connect",
    "hellos",
    "hellos_nowait",
    "garbage",
    "fragments",
    "tiny",
    "tiny12",
    "empty",
    "alerts",
    "key_updates",
    "key_updates_unread",
    "renegotiations",
    "client_certificates",
    "big_hello",
    "big_message",
    "requests_unread",
)

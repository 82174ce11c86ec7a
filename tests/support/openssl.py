"""A TLS client by OpenSSL itself, which can ask for key updates: the `ssl` module has no function for that.

The system's libssl is called by ctypes. `Peer` knows no sockets: bytes go in and come out. `Channel` has a socket, and
logs on by CredSSP, so that a test has an established connection at whose other end OpenSSL is.
"""

import asyncio
import contextlib
import ctypes
import ctypes.util

from support.endpoints import BOB, SPN
from support.engine import End, answers_of

from acredssp import ClientConfig, Policy
from acredssp.wire.x509 import subject_public_key

REQUESTED = 1
"""The argument of SSL_key_update: the peer has to answer with a key update of its own."""
_HOST_NAME = 55
_READ_SIZE = 1 << 16
_HYBRID = bytes.fromhex("030000130ee000000000000100080003000000")
"""A Connection Request that asks for TLS and for CredSSP without early user authorization (MS-RDPBCGR 2.2.1.1)."""


def _library():
    ssl, crypto = (ctypes.CDLL(ctypes.util.find_library(name)) for name in ("ssl", "crypto"))
    pointer, size = ctypes.c_void_p, ctypes.c_int
    for library, name, result, arguments in (
        (ssl, "TLS_client_method", pointer, ()),
        (ssl, "SSL_CTX_new", pointer, (pointer,)),
        (ssl, "SSL_CTX_free", None, (pointer,)),
        (ssl, "SSL_new", pointer, (pointer,)),
        (ssl, "SSL_free", None, (pointer,)),
        (ssl, "SSL_ctrl", ctypes.c_long, (pointer, size, ctypes.c_long, ctypes.c_char_p)),
        (ssl, "SSL_set_bio", None, (pointer, pointer, pointer)),
        (ssl, "SSL_set_connect_state", None, (pointer,)),
        (ssl, "SSL_do_handshake", size, (pointer,)),
        (ssl, "SSL_key_update", size, (pointer, size)),
        (ssl, "SSL_read", size, (pointer, ctypes.c_char_p, size)),
        (ssl, "SSL_write", size, (pointer, ctypes.c_char_p, size)),
        (ssl, "SSL_get1_peer_certificate", pointer, (pointer,)),
        (crypto, "i2d_X509", size, (pointer, ctypes.POINTER(ctypes.c_void_p))),
        (crypto, "X509_free", None, (pointer,)),
        (crypto, "CRYPTO_free", None, (pointer, ctypes.c_char_p, size)),
        (crypto, "BIO_s_mem", pointer, ()),
        (crypto, "BIO_new", pointer, (pointer,)),
        (crypto, "BIO_read", size, (pointer, ctypes.c_char_p, size)),
        (crypto, "BIO_write", size, (pointer, ctypes.c_char_p, size)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return ssl, crypto


_SSL, _CRYPTO = _library()
"""Loaded at import: the search for a library runs a program, which no test may do on its loop."""


class Peer:
    """One connection of OpenSSL's client, which judges no certificate."""

    def __init__(self):
        self._ssl, self._crypto = _SSL, _CRYPTO
        self._context = self._ssl.SSL_CTX_new(self._ssl.TLS_client_method())
        self._connection = self._ssl.SSL_new(self._context)
        self._incoming, self._outgoing = (self._crypto.BIO_new(self._crypto.BIO_s_mem()) for _ in range(2))
        self._ssl.SSL_set_bio(self._connection, self._incoming, self._outgoing)
        self._ssl.SSL_ctrl(self._connection, _HOST_NAME, 0, b"localhost")
        self._ssl.SSL_set_connect_state(self._connection)

    def close(self):
        """Free the memory."""
        self._ssl.SSL_free(self._connection)
        self._ssl.SSL_CTX_free(self._context)

    def _output(self):
        buffer, output = ctypes.create_string_buffer(_READ_SIZE), b""
        while (size := self._crypto.BIO_read(self._outgoing, buffer, _READ_SIZE)) > 0:
            output += buffer.raw[:size]
        return output

    def handshake(self, data=b""):
        """Take the server's bytes; return whether TLS is up, and the bytes to send."""
        if data:
            self._crypto.BIO_write(self._incoming, data, len(data))
        done = self._ssl.SSL_do_handshake(self._connection) == 1
        return done, self._output()

    def key_updates(self, count):
        """The records of so many key updates, each of which asks for an answer."""
        for _ in range(count):
            assert self._ssl.SSL_key_update(self._connection, REQUESTED) == 1
            assert self._ssl.SSL_do_handshake(self._connection) == 1
        return self._output()

    def seal(self, data):
        """The records of data."""
        assert self._ssl.SSL_write(self._connection, data, len(data)) == len(data)
        return self._output()

    def open(self, data):
        """Take the server's bytes; return the data in them."""
        if data:
            assert self._crypto.BIO_write(self._incoming, data, len(data)) == len(data)
        buffer, opened = ctypes.create_string_buffer(_READ_SIZE), b""
        while (size := self._ssl.SSL_read(self._connection, buffer, _READ_SIZE)) > 0:
            opened += buffer.raw[:size]
        return opened

    @property
    def certificate(self):
        """The server's certificate, in DER."""
        found = self._ssl.SSL_get1_peer_certificate(self._connection)
        memory = ctypes.c_void_p()
        size = self._crypto.i2d_X509(found, ctypes.byref(memory))
        der = ctypes.string_at(memory, size)
        self._crypto.CRYPTO_free(memory, b"", 0)
        self._crypto.X509_free(found)
        return der


class Channel:
    """A `Peer` on a socket.

    Args:
        connected: The socket, which does not block.
    """

    def __init__(self, connected):
        self.socket, self.peer = connected, Peer()
        self._loop = asyncio.get_running_loop()

    async def send(self, data):
        """Send ciphertext."""
        await self._loop.sock_sendall(self.socket, data)

    async def recv(self):
        """The next bytes of ciphertext; at the end none."""
        return await self._loop.sock_recv(self.socket, _READ_SIZE)

    async def _more(self):
        data = await self.recv()
        assert data, "the server has ended the connection"
        return data

    async def start_tls(self):
        """Do the handshake of TLS."""
        done, flight = self.peer.handshake()
        while True:
            await self.send(flight)
            if done:
                return
            done, flight = self.peer.handshake(await self.recv())

    async def read(self, size, opened=b""):
        """So many bytes of data, and what came behind them."""
        while len(opened) < size:
            opened += self.peer.open(await self._more())
        return opened

    async def log_on(self, who=BOB, *, rdp=False):
        """Log on by CredSSP."""
        if rdp:
            await self.send(_HYBRID)
            assert (await self._loop.sock_recv(self.socket, 19))[:2] == b"\3\0"
        await self.start_tls()
        config = ClientConfig(authenticate=who, policy=Policy(dangerous_accept_any_certificate=True))
        key = subject_public_key(self.peer.certificate)
        end = End(config.new_bare_context(public_key=key, spn=SPN), answers_of(config))
        flight = end.step(b"")
        while True:
            await self.send(self.peer.seal(flight))
            if end.done:
                return
            flight = b""
            while not flight:
                flight = end.step(self.peer.open(await self._more()))

    def close(self):
        """Close the socket, and free the memory.

        A task may still read or write: uvloop would watch the descriptor of the closed socket, and never close.
        """
        self._loop.remove_reader(self.socket)
        self._loop.remove_writer(self.socket)
        self.socket.close()
        self.peer.close()


@contextlib.contextmanager
def channel(connected):
    """A `Channel` for a block."""
    each = Channel(connected)
    try:
        yield each
    finally:
        each.close()

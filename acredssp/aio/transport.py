"""The transport that the application gets, which carries its data through the TLS connection of the handshake.

What flows where
================

Ciphertext comes from `CredSSPProtocol`, one read at a time, and all of it goes into the TLS session. The plaintext of
its records comes into one buffer of the loop, and then goes to the application in one piece, as from asyncio's TLS: a
call of the application costs more than copying, above all where it writes to another connection, as a relay does. A
relay (a `Borrower`) gets a view of the buffer, and any other application gets bytes of its own. When the application
pauses, the remaining plaintext is kept, and the transport below is paused: nothing else is buffered on the way in. A
read with very many records is decrypted in several turns of the loop, so that one peer's tiny records do not hold up
the other connections.

Data that the application writes is encrypted at once and given to the transport below. The application uses that
transport's write buffer, limits and pauses: nothing is buffered here on the way out.

TLS itself writes, too: OpenSSL answers each KeyUpdate of TLS 1.3 that asks for it, and each renegotiation of TLS 1.2. A
peer that sends these without end and reads no answer would fill the memory. So no more of its bytes are read while the
transport below is full and these answers take more than `_MOST_ANSWERS`.

How it ends
===========

As on asyncio's TCP transports, each direction ends by itself. Our direction ends with our close_notify (`write_eof`),
the peer's direction ends with the peer's (`eof_received`, which keeps our direction open if it returns True).
`SSL_shutdown` discards unread data, so our close_notify is sent only when everything that TLS was given has been read.
If the TCP connection ends without close_notify, an attacker may have cut data off: `connection_lost` then gets a
`PeerClosed`.

`handshake` makes a transport once a handshake is established.
"""

import asyncio
import operator
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from acredssp.aio.buffers import Borrower
from acredssp.aio.protocol import CredSSPProtocol
from acredssp.carriage.base import CarriedHandshake
from acredssp.core.results import HandshakeInfo
from acredssp.errors import PeerClosed, TLSError
from acredssp.status import Stage
from acredssp.wire.proxy_header import ProxyHeader
from acredssp.wire.ts_credentials import TSCredentials

__all__ = ["SecureTransport", "start_application"]

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

_OF_TLS: Final[Mapping[str, Callable[[object], object]]] = {
    "ssl_object": lambda ssl_object: ssl_object,
    "cipher": operator.methodcaller("cipher"),
    "compression": operator.methodcaller("compression"),
    "peercert": operator.methodcaller("getpeercert"),
}
"""asyncio's names for the facts of an `ssl.SSLObject`."""

_NOBODY: Final = asyncio.Protocol()
"""The protocol that is called while there is no application yet."""

_MOST_RECORDS_A_TURN: Final = 2048
"""The most records decrypted in one turn of the loop, two milliseconds' work. Only a read of records below 106 bytes
has more."""

_MOST_ANSWERS: Final = 16 * 1024
"""The most bytes that TLS itself may add to a full write buffer before the peer has to read: 600 answers to KeyUpdate
messages. No program asks for so many, so none that sends first and reads afterwards is stopped."""

_CLOSE_TIMEOUT: Final = 30.0
"""Seconds that a peer gets to take the data that was written before `close()`; asyncio's TLS uses 30, too."""


class SecureTransport(asyncio.Transport):
    """A connection after the handshake, as an ordinary asyncio transport.

    Args:
        protocol: The connection, which this transport takes over.
        carried: The established handshake, whose TLS session and delegated credentials this transport takes over.
        info: The facts of the handshake.
        session: The object that `get_extra_info("session")` returns; None without one.
        connection_id: The id that `get_extra_info("connection_id")` returns.
        proxied: The header that a load balancer has sent, and the peer address that it tells; None for no header.
        seconds: How long the handshake took, as `get_extra_info("handshake_seconds")` returns it.
    """

    __slots__ = (
        "_answered",
        "_app",
        "_borrows",
        "_buffered",
        "_ciphertext",
        "_close_timer",
        "_closing",
        "_connection",
        "_credentials",
        "_eof_delivered",
        "_eof_sent",
        "_error",
        "_extra_info",
        "_flowing",
        "_info",
        "_loop",
        "_lost",
        "_nothing_to_lose",
        "_paused",
        "_plaintext",
        "_raw",
        "_records",
        "_tls",
        "_turn_due",
    )

    def __init__(  # noqa: PLR0913 - what its callers know of the connection
        self,
        protocol: CredSSPProtocol,
        carried: CarriedHandshake,
        info: HandshakeInfo,
        session: object = None,
        connection_id: str = "",
        *,
        proxied: tuple[ProxyHeader, object] | None = None,
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        context = carried.context
        assert context.tls is not None
        self._tls = context.tls
        self._info = info
        self._extra_info = {**carried.extra_info, "connection_id": connection_id, "handshake_seconds": seconds}
        if session is not None:
            self._extra_info["session"] = session
        if proxied is not None:
            self._extra_info["proxy_header"], self._extra_info["peername"] = proxied
        self._credentials = context.take_credentials()
        self._connection = protocol
        self._raw = protocol.transport
        self._loop = protocol.loop
        self._app: asyncio.BaseProtocol = _NOBODY
        self._borrows = self._buffered = False
        self._plaintext = protocol.buffers.plaintext
        self._records = [context.trailing_data] if context.trailing_data else []
        """The decrypted data that the application has not taken yet."""
        self._flowing = False
        """Whether arriving data may go straight to the application, which reads while nothing older waits."""
        self._turn_due = False
        """Whether a part of the last read waits for another turn of the loop."""
        self._paused = False
        self._answered = 0
        """How many bytes TLS itself has added to the write buffer since it was full."""
        self._eof_sent = False
        self._eof_delivered = False
        self._closing = False
        self._lost = False
        self._nothing_to_lose = False
        """Whether close_notify is all that was not sent when the application closed."""
        self._error: Exception | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._ciphertext = protocol.hand_over(self)

    def __repr__(self) -> str:
        state = " closing" if self._closing else ""
        return f"<SecureTransport{state} credssp={self._info.version} {self._info.tls_version} over {self._raw!r}>"

    def start(self, app: asyncio.BaseProtocol, *, connection_made: bool = True) -> None:
        """Connect the application's protocol; its data follows from the loop's next turn on.

        Raises:
            Exception: The exception that the protocol's `connection_made` raised; the connection is still open.
        """
        self.set_protocol(app)
        if connection_made:
            app.connection_made(self)
        if self._connection.owes_resume:
            self.on_resume_writing()
        if self._records or self._ciphertext or self._connection.ended:
            self._loop.call_soon(self._go_on)
        else:
            self._flowing = self.is_reading()

    # --- facts of the handshake ---

    @property
    def info(self) -> HandshakeInfo:
        """The facts of the handshake, also available as `get_extra_info("credssp")`."""
        return self._info

    def take_credentials(self) -> TSCredentials | None:
        """Return the credentials that the client delegated. Later calls return None, and so does a client's stream."""
        credentials, self._credentials = self._credentials, None
        return credentials

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return a fact of the connection.

        The names are `"credssp"`, `"connection_id"`, `"session"`, `"handshake_seconds"` (how long the handshake took),
        those of the carriage, asyncio's names for TLS, and those of the transport below. Where a load balancer has sent
        a PROXY header, `"proxy_header"` is that header and `"peername"` is the client's address in it. `"sslcontext"`
        is left out on purpose (`ssl_object.context` has it): asyncio's streams take its presence for a transport
        without half-close.
        """
        if name == "credssp":
            return self._info
        if name in self._extra_info:
            return self._extra_info[name]
        if (fact := _OF_TLS.get(name)) is not None:
            return fact(self._tls.ssl_object)
        return default if name == "sslcontext" else self._raw.get_extra_info(name, default)

    # --- the application's protocol ---

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol that gets the data."""
        self._app = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._borrows = isinstance(protocol, Borrower)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that gets the data."""
        return self._app

    # --- reading ---

    def is_reading(self) -> bool:
        """Return whether the application gets data as it arrives."""
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Deliver no data until `resume_reading()`."""
        if not self._paused and not self._closing:
            self._paused = True
            self._flowing = False
            self._connection.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, from the loop's next turn on."""
        if self._paused and not self._closing:
            self._paused = False
            self._loop.call_soon(self._go_on)

    def on_data(self, ciphertext: memoryview | bytearray) -> None:
        """Decrypt at most one turn's records, and call the application only then. The connection calls this.

        The application may use other connections, or end this one: TLS must then have nothing left to read.
        """
        if not self._flowing:
            if not self._closing and not self._over:
                self._ciphertext += ciphertext
                self._connection.pause_reading()
            return
        data, more = self._tls.decrypt(ciphertext, self._plaintext, _MOST_RECORDS_A_TURN)
        if more and not self._over and (untaken := self._tls.give_back()):
            self._ciphertext += ciphertext[len(ciphertext) - untaken :]
        if data:
            if self._buffered or type(data) is not bytes:
                self._deliver(data)
            else:  # as in `_deliver`, which would be one call more for each small message
                try:
                    self._app.data_received(data)  # type: ignore[attr-defined] # a Protocol, or a duck
                except Exception as error:  # noqa: BLE001 - the application may raise anything
                    self._fail(error)
        if more:
            self._look_further()
            if self._ciphertext and self._flowing:
                self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        """Go on with the rest of the last read after the loop's other callbacks have had a turn."""
        self._flowing = False
        self._turn_due = True
        self._loop.call_soon(self._go_on)

    def _look_further(self) -> None:
        """Act on what came besides data: a key update to answer, the peer's end, a fault."""
        if self._over:
            if self._flowing:
                self._end()
        elif not self.is_closing():
            answers = self._tls.output()
            self._raw.write(answers)
            if self._connection.writing_paused:
                self._answered += len(answers)
                if self._waits_for_peer:
                    self._flowing = False
                    self._connection.pause_reading()

    @property
    def _waits_for_peer(self) -> bool:
        """Whether the peer has to read the answers of TLS before more of its bytes are read."""
        return self._answered > _MOST_ANSWERS

    def _deliver(self, data: bytes | memoryview) -> None:
        """Give the application decrypted data; keep what it does not want now."""
        try:
            if self._buffered:
                self._fill_buffer(data)
            else:
                lent = data if self._borrows else bytes(data)
                self._app.data_received(lent)  # type: ignore[attr-defined] # a Protocol, or a duck
        except Exception as error:  # noqa: BLE001 - the application may raise anything
            self._fail(error)

    def _fill_buffer(self, data: bytes | memoryview) -> None:
        """Fill the application's own buffer as often as the data needs; keep the rest that it does not want now."""
        rest = memoryview(data)
        while rest and self._flowing:
            app = self._app
            if not isinstance(app, asyncio.BufferedProtocol):  # it was replaced in the middle of the data
                app.data_received(bytes(rest))  # type: ignore[attr-defined] # as above
                return
            with memoryview(app.get_buffer(len(rest))) as buffer:
                size = min(len(buffer), len(rest))
                if not size:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                buffer[:size] = rest[:size]
            rest = rest[size:]
            app.buffer_updated(size)
        if rest:
            self._records.append(bytes(rest))

    def _go_on(self) -> None:
        """Deliver the data that had to wait; then let arriving data flow again."""
        self._turn_due = False
        if self._connection.lost:
            self.on_connection_lost(self._connection.error)
        elif self.is_reading() and not self._waits_for_peer:
            self._deliver_kept()
            if self.is_reading() and not self._turn_due and not self._waits_for_peer:
                self._connection.resume_reading()
                if self._connection.ended:
                    self.on_eof()

    def _deliver_kept(self) -> None:
        self._flowing = True
        records, self._records = self._records, []
        if records:
            self._deliver(b"".join(records))
        if self._flowing and self._over:
            self._end()
        elif self._flowing and self._ciphertext:
            ciphertext, self._ciphertext = self._ciphertext, bytearray()
            self.on_data(ciphertext)

    @property
    def _over(self) -> bool:
        """Whether TLS gives no more data, since the peer has ended or a record was faulty."""
        return self._tls.peer_closed or self._tls.fault is not None

    def _end(self) -> None:
        """Tell the application that it has got all data, or that a record was faulty."""
        self._flowing = False
        if self._tls.fault is not None:
            self._break(self._tls.fault)
        elif not self._eof_delivered:
            self._eof_delivered = True
            keep_open = self._call(self._app.eof_received)  # type: ignore[attr-defined] # as above
            if not keep_open:
                self.close()

    def on_eof(self) -> None:
        """Note that TCP has ended in the peer's direction; this is an error unless TLS has ended.

        The connection calls this.
        """
        if self._flowing:
            self._break(_truncated())

    # --- writing ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; data written after `close()` is dropped."""
        if self._eof_sent and not self._closing:
            raise RuntimeError("cannot call write() after write_eof()")
        if type(data) is not bytes:
            data = memoryview(data).cast("B")
        if self._closing or not data or self._raw.is_closing():
            return
        try:  # as in `send`, which would be one call more for each small message
            self._raw.write(self._tls.encrypt(data))
        except TLSError as error:
            self._break(error)

    def send(self, data: bytes | memoryview) -> bool:
        """Encrypt and send bytes, or a view of bytes, which is not kept; return whether the connection takes them.

        A relay calls this.
        """
        if self._closing or not data or self._raw.is_closing():
            return False
        try:
            # Not writelines: on CPython before 3.12.9 and 3.13.2 it never pauses the writer (CVE-2024-12254).
            self._raw.write(self._tls.encrypt(data))
        except TLSError as error:
            self._break(error)
        return True

    def can_write_eof(self) -> bool:
        """Return True: TLS can end one direction."""
        return True

    def write_eof(self) -> None:
        """End our direction with close_notify; the peer may go on."""
        if not self._closing:
            self._send_close_notify()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the application is asked to pause writing, in bytes of ciphertext."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high limit."""
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return the bytes of ciphertext that wait to be sent."""
        return self._raw.get_write_buffer_size()

    def on_pause_writing(self) -> None:
        """Have the application pause writing. The connection calls this."""
        self._call(self._app.pause_writing)

    def on_resume_writing(self) -> None:
        """Let the application write again, and read from a peer that had to wait. The connection calls this."""
        if self._waits_for_peer:
            self._loop.call_soon(self._go_on)
        self._answered = 0
        self._call(self._app.resume_writing)

    # --- the end ---

    def is_closing(self) -> bool:
        """Return whether the connection is closed or about to be closed."""
        return self._closing or self._raw.is_closing()

    def close(self) -> None:
        """Close once everything written has been sent; a peer that does not take the rest in time is cut off."""
        if self._closing:
            return
        self._closing = True
        self._flowing = False
        # If the peer is gone, writing close_notify fails. TCP without TLS sends nothing at its end and would not fail.
        self._nothing_to_lose = not self._raw.get_write_buffer_size()
        self._send_close_notify()
        self._raw.close()
        if not self._connection.lost and self._raw.get_write_buffer_size():
            self._close_timer = self._loop.call_later(_CLOSE_TIMEOUT, self._raw.abort)

    def abort(self) -> None:
        """Close at once; written data may be lost."""
        self._closing = True
        self._flowing = False
        self._raw.abort()

    def _send_close_notify(self) -> None:
        if self._eof_sent:
            return
        self._eof_sent = True
        self._tls.close()
        if not self._raw.is_closing():
            self._raw.write(self._tls.output())

    def _break(self, error: Exception) -> None:
        """Close because of an error, which `connection_lost` will get; TLS has put its alert into the output."""
        if self._error is None and not self._closing:
            self._error = error
            if self._tls.has_output and not self._raw.is_closing():
                self._raw.write(self._tls.output())
            self.close()

    def on_connection_lost(self, exc: Exception | None) -> None:
        """Tell the application of the end, once, after the data that it wants. The connection calls this."""
        if self._lost:
            return
        if not self._paused and not self._closing:
            self._deliver_kept()
            if self._turn_due:
                self._connection.error = exc  # for the turn that delivers the rest
                return
        if exc is None and not self._closing and not self._tls.peer_closed:
            exc = _truncated()
        self._closing = self._lost = True
        self._records, self._ciphertext = [], bytearray()
        if (credentials := self.take_credentials()) is not None:
            credentials.zero()
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._nothing_to_lose and isinstance(exc, OSError):
            exc = None
        app, self._app = self._app, _NOBODY  # asyncio's transports forget their protocol, too: it would be a cycle
        app.connection_lost(self._error or exc)

    def _call(self, callback: Callable[..., object], *args: object) -> object:
        """Call the application; an exception ends its connection and goes to the loop's exception handler."""
        try:
            return callback(*args)
        except Exception as error:  # noqa: BLE001 - the application may raise anything
            self._fail(error)
            return None

    def _fail(self, error: Exception) -> None:
        self._loop.call_exception_handler(
            {
                "message": "fatal error: a callback of the application's protocol failed",
                "exception": error,
                "transport": self,
                "protocol": self._app,
            }
        )
        self._error = error
        self.abort()


def start_application(transport: SecureTransport, protocol_factory: Callable[[], _ProtocolT]) -> _ProtocolT:
    """Make the application's protocol and connect it; if that fails, close the connection."""
    try:
        protocol = protocol_factory()
        transport.start(protocol)
    except BaseException:
        transport.abort()
        raise
    return protocol


def _truncated() -> PeerClosed:
    return PeerClosed("the connection ended without close_notify: data may be missing", stage=Stage.ESTABLISHED)

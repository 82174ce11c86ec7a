"""The transport that the application gets: its data through the TLS connection that the handshake made.

What flows where
================

Ciphertext comes from `CredSSPProtocol`, one read at a time, and all of it goes into the TLS session; the plaintext of
its records then goes to the application: in one piece where they are small, since each call of the application costs
more than copying does, and else one by one. When the application pauses, the records that are left are kept, and the
transport below is paused: nothing else is buffered on the way in. A read that holds very many records is decrypted in
several turns of the loop, so that nobody's smallest records hold up everybody else.

What the application writes is encrypted at once and given to the transport below, whose write buffer, limits and pauses
are the application's own: nothing is buffered here on the way out.

How it ends
===========

As on asyncio's TCP transports each direction ends alone. Ours ends with close_notify (`write_eof`), the peer's with
theirs (`eof_received`, whose True keeps our direction open). `SSL_shutdown` discards what it finds unread, so our
close_notify is sent once, when everything that TLS was given has been read. The end of the TCP connection without
close_notify is not the end of the data, which somebody may have cut off: `connection_lost` is then told a `PeerClosed`.

Who makes one: `streams` and `server`, once a handshake is established.
"""

import asyncio
import operator
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from acredssp.aio.protocol import CredSSPProtocol
from acredssp.carriage.base import CarriedHandshake
from acredssp.core.context import HandshakeInfo
from acredssp.errors import PeerClosed, TLSError
from acredssp.status import Stage
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
"""Who is told what happens before there is an application."""

_MOST_RECORDS_A_TURN: Final = 512
"""Records decrypted in one turn of the loop: a millisecond's work. Only a read of records below 250 bytes has more."""

_LARGE: Final = 8 * 1024
"""Bytes, on average, from which records are handed on as they are: to copy one would cost as much as a call does."""

_CLOSE_TIMEOUT: Final = 30.0
"""Seconds that a peer gets to take what was written before `close()`; asyncio gives its TLS connections as many."""


class SecureTransport(asyncio.Transport):
    """A connection after the handshake, as an ordinary asyncio transport.

    Args:
        protocol: The connection; this transport becomes its owner.
        carried: The established handshake, whose TLS session and delegated credentials it takes.
        info: The facts of the handshake.
        session: The object that `get_extra_info("session")` returns; None for none.
        connection_id: What `get_extra_info("connection_id")` returns.
    """

    __slots__ = (
        "_app",
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
        "_fault",
        "_flowing",
        "_info",
        "_loop",
        "_lost",
        "_nothing_to_lose",
        "_paused",
        "_raw",
        "_records",
        "_tls",
        "_turn_due",
    )

    def __init__(
        self,
        protocol: CredSSPProtocol,
        carried: CarriedHandshake,
        info: HandshakeInfo,
        session: object = None,
        connection_id: str = "",
    ) -> None:
        super().__init__()
        context = carried.context
        assert context.tls is not None
        self._tls = context.tls
        self._info = info
        self._extra_info = {**carried.extra_info, "connection_id": connection_id}
        if session is not None:
            self._extra_info["session"] = session
        self._credentials = context.take_credentials()
        self._connection = protocol
        self._raw = protocol.transport
        self._loop = protocol.loop
        self._app: asyncio.BaseProtocol = _NOBODY
        self._buffered = False
        self._records = [context.trailing_data] if context.trailing_data else []
        """Decrypted, and not taken by the application yet."""
        self._flowing = False
        """Whether what arrives may go straight through: the application reads, and nothing older waits."""
        self._turn_due = False
        """Whether a part of what was read waits for another turn of the loop."""
        self._paused = False
        self._eof_sent = False
        self._eof_delivered = False
        self._closing = False
        self._lost = False
        self._nothing_to_lose = False
        """Whether close_notify is all that was not sent when the application closed."""
        self._fault: TLSError | None = None
        """What is wrong with the record behind `_records`."""
        self._error: Exception | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._ciphertext = protocol.hand_over(self)

    def __repr__(self) -> str:
        state = " closing" if self._closing else ""
        return f"<SecureTransport{state} credssp={self._info.version} {self._info.tls_version} over {self._raw!r}>"

    def start(self, app: asyncio.BaseProtocol, *, connection_made: bool = True) -> None:
        """Connect the application protocol; its data follows from the loop's next turn on.

        Raises:
            Exception: What its `connection_made` raised; the connection is then still open.
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

    # --- what the handshake found ---

    @property
    def info(self) -> HandshakeInfo:
        """The facts of the handshake; also `get_extra_info("credssp")`."""
        return self._info

    def take_credentials(self) -> TSCredentials | None:
        """Server: hand the delegated credentials over, once; None after that, and on a client."""
        credentials, self._credentials = self._credentials, None
        return credentials

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return a fact: `"credssp"`, the carriage's own, asyncio's names for TLS, or what the transport below knows.

        `"sslcontext"` is left out on purpose (`ssl_object.context` has it): asyncio's streams take its presence for
        a transport without half-close.
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
        """Change who gets the data."""
        self._app = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who gets the data."""
        return self._app

    # --- reading ---

    def is_reading(self) -> bool:
        """Whether the application gets data as it comes."""
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Deliver no more until `resume_reading()`."""
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
        """For the connection: decrypt a turn's worth, and only then call the application.

        The application may use other connections, or end ours: TLS must then have nothing left to read.
        """
        if not self._flowing:
            if not self._closing and not self._over:
                self._ciphertext += ciphertext
                self._connection.pause_reading()
            return
        records: list[bytes] = []
        try:
            more = self._tls.decrypt(ciphertext, records, _MOST_RECORDS_A_TURN)
        except TLSError as error:
            self._fault = error
            more = True
        if more and not self._over and (untaken := self._tls.give_back()):
            self._ciphertext += ciphertext[len(ciphertext) - untaken :]
        self._deliver(records)
        if more:
            self._look_further()
            if self._ciphertext and self._flowing:
                self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        """Go on with what was read when everybody else of the loop has had a turn."""
        self._flowing = False
        self._turn_due = True
        self._loop.call_soon(self._go_on)

    def _look_further(self) -> None:
        """See what there was besides data: a key update to answer, the end, a fault."""
        if self._over:
            if self._flowing:
                self._end()
        elif not self.is_closing():
            self._raw.write(self._tls.output())

    def _deliver(self, records: list[bytes]) -> None:
        """Give the application what is decrypted; keep what it does not want now."""
        if len(records) > 1 and sum(map(len, records)) < len(records) * _LARGE:
            records = [b"".join(records)]
        try:
            for record in records:
                if self._buffered:
                    self._fill_buffer(record)
                elif self._flowing:
                    self._app.data_received(record)  # type: ignore[attr-defined] # a Protocol, or a duck
                else:
                    self._records.append(record)
        except Exception as error:  # noqa: BLE001 - the application's own, of whatever kind
            self._fail(error)

    def _fill_buffer(self, record: bytes) -> None:
        """Have the application fill its own buffer as often as it takes; keep what it does not want now."""
        rest = memoryview(record)
        while rest and self._flowing:
            app = self._app
            if not isinstance(app, asyncio.BufferedProtocol):  # it was replaced in the middle of the record
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
        """Deliver what had to wait; when that is done, let the rest flow."""
        self._turn_due = False
        if self._connection.lost:
            self.on_connection_lost(self._connection.error)
        elif self.is_reading():
            self._deliver_kept()
            if self.is_reading() and not self._turn_due:
                self._connection.resume_reading()
                if self._connection.ended:
                    self.on_eof()

    def _deliver_kept(self) -> None:
        self._flowing = True
        records, self._records = self._records, []
        self._deliver(records)
        if self._flowing and self._over:
            self._end()
        elif self._flowing and self._ciphertext:
            ciphertext, self._ciphertext = self._ciphertext, bytearray()
            self.on_data(ciphertext)

    @property
    def _over(self) -> bool:
        """Whether TLS gives no more data, for better or worse."""
        return self._tls.peer_closed or self._fault is not None

    def _end(self) -> None:
        """Let the application know that it has got everything."""
        self._flowing = False
        if self._fault is not None:
            self._break(self._fault)
        elif not self._eof_delivered:
            self._eof_delivered = True
            keep_open = self._call(self._app.eof_received)  # type: ignore[attr-defined] # as above
            if not keep_open:
                self.close()

    def on_eof(self) -> None:
        """For the connection: TCP ended in the peer's direction: fine, if TLS has ended before."""
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
        try:
            # Not writelines: on CPython before 3.12.9 and 3.13.2 it never pauses the writer (CVE-2024-12254).
            self._raw.write(self._tls.encrypt(data))
        except TLSError as error:
            self._break(error)

    def can_write_eof(self) -> bool:
        """Yes: TLS can end one direction."""
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
        """For the connection: have the application pause."""
        self._call(self._app.pause_writing)

    def on_resume_writing(self) -> None:
        """For the connection: let the application go on."""
        self._call(self._app.resume_writing)

    # --- the end ---

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._closing or self._raw.is_closing()

    def close(self) -> None:
        """Close once everything written has been sent; a peer that does not take it in time is cut off."""
        if self._closing:
            return
        self._closing = True
        self._flowing = False
        # Written to a peer who is gone: on TCP, where nothing is sent to say good-bye, nobody would ever know.
        self._nothing_to_lose = not self._raw.get_write_buffer_size()
        self._send_close_notify()
        self._raw.close()
        if not self._connection.lost and self._raw.get_write_buffer_size():
            self._close_timer = self._loop.call_later(_CLOSE_TIMEOUT, self._raw.abort)

    def abort(self) -> None:
        """Close at once; what was written may be lost."""
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
        """Close for a reason that `connection_lost` will tell; TLS has put its alert into the output."""
        if self._error is None and not self._closing:
            self._error = error
            if self._tls.has_output and not self._raw.is_closing():
                self._raw.write(self._tls.output())
            self.close()

    def on_connection_lost(self, exc: Exception | None) -> None:
        """For the connection: tell the application, once, when it has got what it wants."""
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
        self._app.connection_lost(self._error or exc)

    def _call(self, callback: Callable[..., object], *args: object) -> object:
        """Call the application; what it raises ends its connection and goes to the loop's handler."""
        try:
            return callback(*args)
        except Exception as error:  # noqa: BLE001 - the application's own, of whatever kind
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
    """Make the application's protocol and connect it; where that fails, nobody is left with an open connection."""
    try:
        protocol = protocol_factory()
        transport.start(protocol)
    except BaseException:
        transport.abort()
        raise
    return protocol


def _truncated() -> PeerClosed:
    return PeerClosed("the connection ended without close_notify: data may be missing", stage=Stage.ESTABLISHED)

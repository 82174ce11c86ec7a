"""A TLS client that stops where the server asks for a certificate, before it has answered.

CredSSP servers do not ask for one ([MS-CSSP] 3.1.5 step 1), but a server may, and SSPI then returns
SEC_I_INCOMPLETE_CREDENTIALS so that the caller can bring another credential. CPython has no callback for the request,
so this module finds it in two ways:

* Up to TLS 1.2 the server's flight is in clear. The session reads its handshake messages before OpenSSL gets them, and
  holds the CertificateRequest back: once OpenSSL has it, assigning another context has no effect.
* In TLS 1.3 the flight is encrypted. `SSLContext._msg_callback` gets the request in clear, and takes away the bytes
  behind its record before OpenSSL reads on: OpenSSL chooses its certificate at the CertificateVerify. OpenSSL's servers
  send each message in a record of its own. A server that packs both messages into one record leaves no moment to
  choose, and TLS goes on without a certificate.

`_msg_callback` is private API, which CPython has since 3.8. Without it a TLS 1.3 server is answered without a
certificate. The callback belongs to the context, and would be called for every message and record of every connection.
So it is set only while a session takes records that may hold a request.

Who calls: the SSPI functions; the contexts of aio have their certificates from the beginning.
"""

import ssl
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from acredssp.core.tls import MAX_PLAINTEXT, TLSSession
from acredssp.errors import LimitExceeded, RemoteProtocolError
from acredssp.status import Stage
from acredssp.wire.tls_record import ALERT, HANDSHAKE, HEADER_SIZE

__all__ = ["WatchingTLSSession", "watch_certificate_requests"]

_CERTIFICATE: Final = 11
_CERTIFICATE_REQUEST: Final = 13
_LAST_MESSAGES: Final = (_CERTIFICATE, _CERTIFICATE_REQUEST)
"""The messages that decide whether there is a request: in TLS 1.3 the Certificate follows where a request would be."""
_CERTIFICATE_AUTHORITIES: Final = 47
"""The extension of TLS 1.3 that names the authorities (RFC 8446 4.2.4)."""

_HEADER: Final = struct.Struct(">BBBH")
"""A record's type, version (two bytes) and length."""
_TLS12: Final = 3
"""The second byte of TLS 1.2's version in a record. The first one is 3 for every version of TLS."""
_MESSAGE_HEADER: Final = 4
_MAX_MESSAGE: Final = 128 * 1024
"""The most bytes of one handshake message in clear. OpenSSL itself takes at most 100 KiB of certificates."""

_WATCH: Final = "acredssp_watch"
_LISTENERS: Final = "acredssp_listeners"


class _Watch:
    """The state that a session and `_note_message` share, as an attribute of the `ssl.SSLObject`.

    It refers to neither of them, since a cycle of references would outlive the connection.
    """

    __slots__ = ("behind", "incoming", "listeners", "request")

    def __init__(self, incoming: ssl.MemoryBIO) -> None:
        self.incoming: ssl.MemoryBIO | None = incoming
        """None once no request can stop TLS 1.3 any more, since one was answered or the Certificate has arrived."""
        self.listeners: _Listeners | None = None
        """The listeners of the context while the session listens; None else."""
        self.request = b""
        """The CertificateRequest that OpenSSL has just read (TLS 1.3)."""
        self.behind = b""
        """The ciphertext that was taken away behind the request's record."""

    def stop_listening(self, context: ssl.SSLContext) -> None:
        """Stop listening to the messages of the session's context."""
        listeners, self.listeners = self.listeners, None
        if listeners is not None:
            listeners.end(context)


class _Listeners:
    """Counts the sessions of a context that listen now; an attribute of the context.

    Args:
        tell: Sets or removes the context's callback.
        lock: A mutex, since several threads may call sessions of one context.
    """

    __slots__ = ("_count", "_lock", "_tell")

    def __init__(self, tell: Callable[[ssl.SSLContext, object], None], lock: AbstractContextManager[object]) -> None:
        self._tell = tell
        self._lock = lock
        self._count = 0

    def begin(self, context: ssl.SSLContext) -> None:
        """Make `context` report messages until `end`. Only connections that are made meanwhile can report them."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._tell(context, _note_message)

    def end(self, context: ssl.SSLContext) -> None:
        """Undo one `begin`. The callback is removed with the last one."""
        with self._lock:
            self._count -= 1
            if not self._count:
                self._tell(context, None)


class WatchingTLSSession(TLSSession):
    """A client's session that stops for a CertificateRequest, and then has set `certificate_request`.

    Args:
        context: A context that `watch_certificate_requests` has prepared. With any other context a request of TLS 1.3
            is answered without a certificate.
        server_hostname: The name for SNI, as `TLSSession` takes it.
        session: The session to resume, as `TLSSession` takes it.
    """

    __slots__ = ("_context", "_in_clear", "_listeners", "_messages", "_minor_version", "_watch")

    def __init__(
        self, context: ssl.SSLContext, *, server_hostname: str | None = None, session: ssl.SSLSession | None = None
    ) -> None:
        self._context = context
        listeners: _Listeners | None = getattr(context, _LISTENERS, None)
        self._listeners = listeners
        if listeners is not None:
            listeners.begin(context)  # a connection calls back only if the callback was set when it was made
        try:
            super().__init__(context, server_side=False, server_hostname=server_hostname, session=session)
        finally:
            if listeners is not None:
                listeners.end(context)
        self._messages = bytearray()
        """Handshake messages in clear that OpenSSL has not got yet."""
        self._minor_version = _TLS12
        """The second byte of the version of the records that `_messages` came in."""
        self._in_clear = True
        """Whether the next record may hold such messages."""
        self._watch = _Watch(self._incoming)
        setattr(self._object, _WATCH, self._watch)

    def handshake(self, ciphertext: bytes | bytearray | memoryview = b"") -> bool:
        """Go on until the server's messages are used up, or the next message is a CertificateRequest.

        Args:
            ciphertext: Whole records. Those with handshake messages in clear are inspected before OpenSSL gets them.
        """
        if self._in_clear:
            held = self._hold_messages(ciphertext)
            ciphertext = ciphertext[held:]
        if self._messages and (request := self._release_messages()):
            super().handshake()
            self.certificate_request = _authorities_in_clear(request, self._minor_version)
            return False
        watch = self._watch
        if not self._in_clear and watch.incoming is not None and self._listeners is not None:
            watch.listeners = self._listeners
            self._listeners.begin(self._context)
        try:
            done = super().handshake(ciphertext)
        finally:
            watch.stop_listening(self._context)
        if watch.request:
            self._untaken, watch.behind = watch.behind, b""
            self.certificate_request, watch.request = _authorities_of_tls13(watch.request), b""
        if done:
            watch.incoming = None
        if self.certificate_request is not None and (done or self._output):
            self.certificate_request = None  # the record held the rest of the flight too, and OpenSSL has answered
        return done

    def answer_certificate_request(self, answer: object) -> None:
        """Go on with the certificate in `answer`, an `ssl.SSLContext`, or without one for any other answer.

        Call `handshake()` next.
        """
        self._watch.incoming = None
        self._in_clear = False
        self._feed_messages(len(self._messages))
        self.certificate_request = None
        if isinstance(answer, ssl.SSLContext):
            self._object.context = answer

    def _hold_messages(self, records: bytes | bytearray | memoryview) -> int:
        """Hold the messages in clear that `records` begin with; return the offset of the first record behind them.

        Alerts are not held, and may overtake messages: a warning means the same in any place, and after any other alert
        the messages no longer matter.
        """
        start = 0
        while start < len(records):
            body = start + HEADER_SIZE
            end = body + (records[body - 2] << 8 | records[body - 1])
            if records[start] == HANDSHAKE:
                size = int.from_bytes(records[body + 1 : body + _MESSAGE_HEADER], "big")
                whole = size == end - body - _MESSAGE_HEADER and not self._messages
                if whole and records[body] != _CERTIFICATE_REQUEST:
                    self._untaken += records[start:end]  # the usual case, a third as costly as to hold the message
                else:
                    self._messages += records[body:end]
                    self._minor_version = records[start + 2]
            elif records[start] == ALERT:
                self._untaken += records[start:end]
            else:
                self._in_clear = False
                if self._messages:
                    self._feed_messages(len(self._messages))
                break
            start = end
        return start

    def _release_messages(self) -> bytes:
        """Feed the whole messages that are held, up to a CertificateRequest. Return the request; empty for none."""
        messages, start = self._messages, 0
        while len(messages) >= start + _MESSAGE_HEADER:
            size = _MESSAGE_HEADER + int.from_bytes(messages[start + 1 : start + _MESSAGE_HEADER], "big")
            if size > _MAX_MESSAGE:
                raise LimitExceeded(
                    f"expected a tls handshake message of at most {_MAX_MESSAGE} bytes, got {size}", stage=Stage.TLS
                )
            if len(messages) < start + size:
                break
            if messages[start] == _CERTIFICATE_REQUEST:
                self._feed_messages(start)
                return bytes(messages[:size])
            start += size
        self._feed_messages(start)
        return b""

    def _feed_messages(self, size: int) -> None:
        for start in range(0, size, MAX_PLAINTEXT):
            fragment = self._messages[start : min(size, start + MAX_PLAINTEXT)]
            self._untaken += _HEADER.pack(HANDSHAKE, 3, self._minor_version, len(fragment)) + fragment
        del self._messages[:size]


def watch_certificate_requests(context: ssl.SSLContext, lock: AbstractContextManager[object]) -> None:
    """Prepare a client context for `WatchingTLSSession`. A second call changes nothing.

    Args:
        context: The client's context.
        lock: A mutex, such as a `threading.Lock`, which is held for moments.
    """
    # This is the attribute of the C type: ssl's own setter wraps the callback, at three enum members for each message.
    callback = getattr(super(ssl.SSLContext, ssl.SSLContext), "_msg_callback", None)
    if callback is not None:
        vars(context).setdefault(_LISTENERS, _Listeners(callback.__set__, lock))


def _note_message(
    ssl_object: ssl.SSLObject, direction: str, _version: int, content_type: int, message_type: int, message: bytes
) -> None:
    # Other content types have codes of their own: the number 13 may also be an alert's.
    if content_type != HANDSHAKE or message_type not in _LAST_MESSAGES or direction != "read":
        return
    watch = getattr(ssl_object, _WATCH, None)
    if watch is None or watch.incoming is None:
        return
    if message_type == _CERTIFICATE_REQUEST:
        watch.behind = watch.incoming.read()  # so that OpenSSL reads no further record
        watch.request = message
    else:
        watch.incoming = None
        watch.stop_listening(ssl_object.context)  # saves more than half of the calls


# --- the authorities' names, in DER ---


def _authorities_in_clear(message: bytes, minor_version: int) -> tuple[bytes, ...]:
    """The names in a request of TLS 1.2 (RFC 5246 7.4.4) or an older version (RFC 4346 7.4.4).

    It holds certificate_types<1>, from TLS 1.2 on supported_signature_algorithms<2>, and certificate_authorities<2>.
    """
    _, body = _vector(message[_MESSAGE_HEADER:], 1)
    if minor_version >= _TLS12:
        _, body = _vector(body, 2)
    authorities, _ = _vector(body, 2)
    return _names(authorities)


def _authorities_of_tls13(message: bytes) -> tuple[bytes, ...]:
    """The names in a request (RFC 8446 4.3.2), which holds certificate_request_context<1> and extensions<2>."""
    _, body = _vector(message[_MESSAGE_HEADER:], 1)
    extensions, _ = _vector(body, 2)
    while extensions:
        kind = int.from_bytes(extensions[:2], "big")
        content, extensions = _vector(extensions[2:], 2)
        if kind == _CERTIFICATE_AUTHORITIES:
            return _names(_vector(content, 2)[0])
    return ()


def _names(authorities: bytes) -> tuple[bytes, ...]:
    names = []
    while authorities:
        name, authorities = _vector(authorities, 2)
        names.append(name)
    return tuple(names)


def _vector(data: bytes, size: int) -> tuple[bytes, bytes]:
    """Split off a vector whose length has `size` bytes; return its content, and the bytes behind it."""
    end = size + int.from_bytes(data[:size], "big")
    if len(data) < max(end, size):
        raise RemoteProtocolError(
            f"CertificateRequest: expected a vector of {end - size} bytes, got {len(data) - size} bytes"
        )
    return data[size:end], data[end:]

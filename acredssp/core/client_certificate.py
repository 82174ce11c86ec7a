"""A TLS client that stops when the server asks for a certificate, before anything has been answered.

CredSSP servers ask for none ([MS-CSSP] 3.1.5 step 1), but one may, and SSPI then answers SEC_I_INCOMPLETE_CREDENTIALS
so that the caller can bring another credential. CPython has no callback for it, so there are two ways:

* Up to TLS 1.2 the server's flight is in clear. Its handshake messages are looked at before OpenSSL gets them, and the
  CertificateRequest is held back: another context assigned after it was fed would have no effect.
* In TLS 1.3 it is encrypted. `SSLContext._msg_callback` sees it in clear, and takes away what is behind its record
  before OpenSSL reads on: OpenSSL makes up its mind with the CertificateVerify. Its servers send each message in a
  record of its own. A server that packs both into one record leaves no moment to choose: TLS goes on without a
  certificate.

`_msg_callback` is private API, there since CPython 3.8. Without it a TLS 1.3 server is answered without a certificate.
It is the context's, and every message and every record of every connection would be a call of Python: so it is set for
the moments in which a session takes the records that a request can be among.

Who calls: the SSPI functions; aio has certificates in its contexts from the beginning.
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
"""Those that decide whether there is a request: in TLS 1.3 the Certificate comes behind it."""
_CERTIFICATE_AUTHORITIES: Final = 47
"""The extension of TLS 1.3 that names the authorities (RFC 8446 4.2.4)."""

_HEADER: Final = struct.Struct(">BBBH")
"""Of a record: type, version, length."""
_MESSAGE_HEADER: Final = 4
_MAX_MESSAGE: Final = 128 * 1024
"""Bytes of one handshake message in clear; OpenSSL itself takes at most 100 KiB of certificates."""

_WATCH: Final = "acredssp_watch"
_LISTENERS: Final = "acredssp_listeners"


class _Watch:
    """What a session and `_note_message` share, as an attribute of the `ssl.SSLObject`.

    Neither of them is in it: a cycle would outlive the connection.
    """

    __slots__ = ("behind", "incoming", "listeners", "request")

    def __init__(self, incoming: ssl.MemoryBIO) -> None:
        self.incoming: ssl.MemoryBIO | None = incoming
        """None once no request in TLS 1.3 stops the handshake any more: one was answered, or the Certificate came."""
        self.listeners: _Listeners | None = None
        """Those that the session is among now."""
        self.request = b""
        """The CertificateRequest that OpenSSL has just read (TLS 1.3)."""
        self.behind = b""
        """What was taken away behind its record."""

    def stop_listening(self, context: ssl.SSLContext) -> None:
        """Hear of no further message of the session's context."""
        listeners, self.listeners = self.listeners, None
        if listeners is not None:
            listeners.end(context)


class _Listeners:
    """How many sessions of a context listen now, as an attribute of the context.

    Args:
        tell: Sets the context's callback, or takes it away.
        lock: A mutex: sessions of one context may be called by several threads.
    """

    __slots__ = ("_count", "_lock", "_tell")

    def __init__(self, tell: Callable[[ssl.SSLContext, object], None], lock: AbstractContextManager[object]) -> None:
        self._tell = tell
        self._lock = lock
        self._count = 0

    def begin(self, context: ssl.SSLContext) -> None:
        """Let `context` tell of messages until `end`, on connections that were made meanwhile."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._tell(context, _note_message)

    def end(self, context: ssl.SSLContext) -> None:
        """End what `begin` began; the last one ends it for all."""
        with self._lock:
            self._count -= 1
            if not self._count:
                self._tell(context, None)


class WatchingTLSSession(TLSSession):
    """A client's session; `certificate_request` is set when the handshake stopped for a CertificateRequest.

    Args:
        context: Prepared by `watch_certificate_requests`; one that is not is answered without a certificate in TLS 1.3.
        server_hostname: As for `TLSSession`.
        session: The same.
    """

    __slots__ = ("_context", "_in_clear", "_listeners", "_messages", "_watch")

    def __init__(
        self, context: ssl.SSLContext, *, server_hostname: str | None = None, session: ssl.SSLSession | None = None
    ) -> None:
        self._context = context
        listeners: _Listeners | None = getattr(context, _LISTENERS, None)
        self._listeners = listeners
        if listeners is not None:
            listeners.begin(context)  # a connection calls back only if the callback was there when it was made
        try:
            super().__init__(context, server_side=False, server_hostname=server_hostname, session=session)
        finally:
            if listeners is not None:
                listeners.end(context)
        self._messages = bytearray()
        """Handshake messages in clear that OpenSSL was not given yet."""
        self._in_clear = True
        """Whether the next record may hold such messages."""
        self._watch = _Watch(self._incoming)
        setattr(self._object, _WATCH, self._watch)

    def handshake(self, ciphertext: bytes | bytearray | memoryview = b"") -> bool:
        """Go on until the server's messages are used up, or the next one is a CertificateRequest.

        Args:
            ciphertext: Whole records; those that hold handshake messages in clear are looked at first.
        """
        if self._in_clear and ciphertext:
            held = self._hold_messages(ciphertext)
            ciphertext = ciphertext[held:]
        if self._messages and (request := self._release_messages()):
            super().handshake()
            self.certificate_request = _authorities_of_tls12(request)
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
            self.certificate_request = None  # OpenSSL had the rest of the flight in the same record, and has answered
        return done

    def answer_certificate_request(self, answer: object) -> None:
        """Go on with the certificate in an `ssl.SSLContext`, with anything else without. Call `handshake()` next."""
        self._watch.incoming = None
        self._in_clear = False
        self._feed_messages(len(self._messages))
        self.certificate_request = None
        if isinstance(answer, ssl.SSLContext):
            self._object.context = answer

    def _hold_messages(self, records: bytes | bytearray | memoryview) -> int:
        """Hold the messages in clear that `records` begin with; return where what follows them begins.

        Alerts overtake them: a warning means the same wherever it stands, and after any other nothing counts.
        """
        start = 0
        while start < len(records):
            body = start + HEADER_SIZE
            end = body + (records[body - 2] << 8 | records[body - 1])
            if records[start] == HANDSHAKE:
                size = int.from_bytes(records[body + 1 : body + _MESSAGE_HEADER], "big")
                whole = size == end - body - _MESSAGE_HEADER and not self._messages
                if whole and records[body] != _CERTIFICATE_REQUEST:
                    self._untaken += records[start:end]  # as nearly all are: a third of the price of holding it
                else:
                    self._messages += records[body:end]
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
        """Feed the whole messages that are held, up to a CertificateRequest; return that, empty for none."""
        messages, start = self._messages, 0
        while len(messages) >= start + _MESSAGE_HEADER:
            size = _MESSAGE_HEADER + int.from_bytes(messages[start + 1 : start + _MESSAGE_HEADER], "big")
            if size > _MAX_MESSAGE:
                raise LimitExceeded(f"a tls handshake message of {size} bytes", stage=Stage.TLS)
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
            self._untaken += _HEADER.pack(HANDSHAKE, 3, 3, len(fragment)) + fragment
        del self._messages[:size]


def watch_certificate_requests(context: ssl.SSLContext, lock: AbstractContextManager[object]) -> None:
    """Prepare a client context for `WatchingTLSSession`; one that is prepared stays as it is.

    Args:
        context: The client's.
        lock: A mutex, a `threading.Lock` for one, held for moments.
    """
    # The attribute of the C type: ssl's own setter wraps the callback to make three enum members for each message.
    callback = getattr(super(ssl.SSLContext, ssl.SSLContext), "_msg_callback", None)
    if callback is not None:
        vars(context).setdefault(_LISTENERS, _Listeners(callback.__set__, lock))


def _note_message(
    ssl_object: ssl.SSLObject, direction: str, _version: int, content_type: int, message_type: int, message: bytes
) -> None:
    # The other content types have codes of their own: an alert too may be number 13.
    if content_type != HANDSHAKE or message_type not in _LAST_MESSAGES or direction != "read":
        return
    watch = getattr(ssl_object, _WATCH, None)
    if watch is None or watch.incoming is None:
        return
    if message_type == _CERTIFICATE_REQUEST:
        watch.behind = watch.incoming.read()  # OpenSSL shall read no further record
        watch.request = message
    else:
        watch.incoming = None
        watch.stop_listening(ssl_object.context)  # more than half of the calls would still come, for nothing


# --- the authorities' names, in DER ---


def _authorities_of_tls12(message: bytes) -> tuple[bytes, ...]:
    """RFC 5246 7.4.4: certificate_types<1>, supported_signature_algorithms<2>, certificate_authorities<2>."""
    body = message[_MESSAGE_HEADER:]
    _, body = _vector(body, 1)
    _, body = _vector(body, 2)
    authorities, _ = _vector(body, 2)
    return _names(authorities)


def _authorities_of_tls13(message: bytes) -> tuple[bytes, ...]:
    """RFC 8446 4.3.2: certificate_request_context<1>, extensions<2>."""
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
    """Split off a vector with a length of `size` bytes; return its content, and what is behind it."""
    end = size + int.from_bytes(data[:size], "big")
    if len(data) < max(end, size):
        raise RemoteProtocolError(f"a CertificateRequest with a vector of {end - size} bytes, got {len(data) - size}")
    return data[size:end], data[end:]

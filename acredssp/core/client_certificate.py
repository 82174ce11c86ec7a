"""A TLS client that stops when the server asks for a certificate, before anything has been answered.

CredSSP servers ask for none ([MS-CSSP] 3.1.5 step 1), but one may, and SSPI then answers SEC_I_INCOMPLETE_CREDENTIALS
so that the caller can bring another credential. CPython has no callback for it, so there are two ways:

* Up to TLS 1.2 the server's flight is in clear. Its handshake messages are given to OpenSSL one at a time, and the
  CertificateRequest is held back: another context assigned after it was fed would have no effect.
* In TLS 1.3 it is encrypted. `SSLContext._msg_callback` sees it in clear once its record was fed; nothing has been
  answered as long as the server's Finished is not in the same record. OpenSSL servers send each message in a record of
  its own. A server that packs the flight into one record leaves no moment to choose: TLS goes on without a certificate.

`_msg_callback` is private API, there since CPython 3.8. Without it a TLS 1.3 server is answered without a certificate.

Who calls: the SSPI functions; aio has certificates in its contexts from the beginning.
"""

import ssl
import struct
import weakref
from typing import Final

from acredssp.core.tls import MAX_PLAINTEXT, TLSSession
from acredssp.errors import LimitExceeded, RemoteProtocolError
from acredssp.status import Stage
from acredssp.wire.tls_record import CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER_SIZE

__all__ = ["WatchingTLSSession", "watch_certificate_requests"]

_CERTIFICATE_REQUEST: Final = 13
_CERTIFICATE_AUTHORITIES: Final = 47
"""The extension of TLS 1.3 that names the authorities (RFC 8446 4.2.4)."""

_HEADER: Final = struct.Struct(">BBBH")
"""Of a record: type, version, length."""
_MESSAGE_HEADER: Final = 4
_MAX_MESSAGE: Final = 128 * 1024
"""Bytes of one handshake message in clear; OpenSSL itself takes at most 100 KiB of certificates."""

_WATCH: Final = "acredssp_watch"


class WatchingTLSSession(TLSSession):
    """A client's session; `certificate_request` is set when the handshake stopped for a CertificateRequest."""

    stops_at_records = True

    __slots__ = ("__weakref__", "_answered", "_in_clear", "_messages")

    def __init__(
        self, context: ssl.SSLContext, *, server_hostname: str | None = None, session: ssl.SSLSession | None = None
    ) -> None:
        super().__init__(context, server_side=False, server_hostname=server_hostname, session=session)
        self._messages = bytearray()
        self._in_clear = True
        self._answered = False
        setattr(self.ssl_object, _WATCH, weakref.ref(self))  # weak: a cycle would outlive the connection

    def handshake(self, ciphertext: bytes | bytearray | memoryview = b"") -> bool:
        """Go on until the server's messages are used up, or the next one is a CertificateRequest.

        Args:
            ciphertext: One whole record at most; those that hold handshake messages in clear are cut up.
        """
        done = None
        behind = self._take_messages(ciphertext)
        while self._messages and (message := self._next_message()):
            if message[0] == _CERTIFICATE_REQUEST and not self._answered:
                self.certificate_request = _authorities_of_tls12(message)
                return False
            del self._messages[: len(message)]
            done = super().handshake(_records_of(message))
        if done is None or behind:
            done = super().handshake(behind)
        if self.certificate_request is not None and (done or self.has_output):
            self.certificate_request = None  # the whole flight was in one record: TLS has answered already
        return done

    def _take_messages(self, record: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """Keep the handshake messages in clear of a record; return a record of anything else."""
        if self._in_clear and record:
            if record[0] == HANDSHAKE:
                self._messages += record[HEADER_SIZE:]
                return b""
            self._in_clear = record[0] != CHANGE_CIPHER_SPEC
        return record

    def answer_certificate_request(self, answer: object) -> None:
        """Go on with the certificate in an `ssl.SSLContext`, with anything else without. Call `handshake()` next."""
        self._answered = True
        self.certificate_request = None
        if isinstance(answer, ssl.SSLContext):
            self.ssl_object.context = answer

    def note_request(self, message: bytes) -> None:
        """Note a CertificateRequest that OpenSSL has read (TLS 1.3)."""
        if not self._answered and not self._messages:
            self.certificate_request = _authorities_of_tls13(message)

    def _next_message(self) -> bytes:
        """Return the next whole handshake message in clear; empty for none."""
        messages = self._messages
        if len(messages) < _MESSAGE_HEADER:
            return b""
        size = _MESSAGE_HEADER + int.from_bytes(messages[1:_MESSAGE_HEADER], "big")
        if size > _MAX_MESSAGE:
            raise LimitExceeded(f"a tls handshake message of {size} bytes", stage=Stage.TLS)
        return bytes(messages[:size]) if len(messages) >= size else b""


def _records_of(message: bytes) -> bytes:
    """The records that a handshake message makes in clear."""
    fragments = [message[start : start + MAX_PLAINTEXT] for start in range(0, len(message), MAX_PLAINTEXT)]
    return b"".join([_HEADER.pack(HANDSHAKE, 3, 3, len(fragment)) + fragment for fragment in fragments])


def watch_certificate_requests(context: ssl.SSLContext) -> None:
    """Prepare a client context for `WatchingTLSSession`: it costs a Python call for each TLS message."""
    # The attribute of the C type: ssl's own setter wraps the callback to make three enum members for each message,
    # which took 3 % of a handshake.
    inner = getattr(super(ssl.SSLContext, ssl.SSLContext), "_msg_callback", None)
    if inner is not None:
        inner.__set__(context, _note_message)


def _nobody() -> None:
    """Stand in for the session of a connection that does not watch."""


def _note_message(
    ssl_object: ssl.SSLObject, direction: str, _version: int, content_type: int, message_type: int, message: bytes
) -> None:
    # The other content types have codes of their own: an alert too may be number 13.
    if message_type == _CERTIFICATE_REQUEST and content_type == HANDSHAKE and direction == "read":
        watch = getattr(ssl_object, _WATCH, _nobody)()
        if watch is not None:
            watch.note_request(message)


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

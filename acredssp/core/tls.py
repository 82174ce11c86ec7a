"""One TLS connection over two memory BIOs.

`ssl.SSLObject` reads ciphertext from one `ssl.MemoryBIO` and writes ciphertext to the other; it never sees a
socket. The owner of a session gives ciphertext to `handshake()`, `read()` or `decrypt()`, and drains `output()` after
every call. Two facts of OpenSSL shape the rest:

* A memory BIO never shrinks, and a connection never frees its BIOs. After some data, two empty BIOs would take two
  thirds of the memory of an idle connection. So each call of a session leaves both BIOs empty, and sessions that one
  thread calls can share a pair (`BIOPair`).
* Once its own close_notify is out, `SSL_shutdown` reads from the input, and discards application data that it finds
  there. So `close()` is called once when everything received has been read, and once more after the peer's
  close_notify has been read.

This module must never wait, log or keep a secret.
"""

import contextlib
import functools
import itertools
import ssl
import threading
from typing import Any, Final

from acredssp.core.server_name import server_name_of
from acredssp.errors import LocalProtocolError, PeerClosed, TLSError
from acredssp.status import SecurityStatus, Stage
from acredssp.wire.tls_record import ALERT, MAX_FRAGMENT, MAX_FRAGMENT_TLS13
from acredssp.wire.x509 import subject_public_key

__all__ = [
    "MAX_PLAINTEXT",
    "BIOPair",
    "TLSSession",
    "peer_public_key",
    "session_with_ticket",
]

MAX_PLAINTEXT: Final = 16_384
"""Bytes of plaintext that one record holds at most (RFC 8446 5.1)."""

_HAS_PUBLIC_CHAIN: Final = hasattr(ssl.SSLObject, "get_unverified_chain")  # since CPython 3.13
_ENCODING_DER: Final = 2
"""`_ssl.ENCODING_DER`. The default, PEM, takes twice the instructions, and as many again to decode."""

# The alerts of RFC 8446 section 6, as OpenSSL spells them in SSLError.reason, with the status Schannel gives for each.
_ALERT_STATUS: Final = {
    "UNEXPECTED_MESSAGE": SecurityStatus.SEC_E_ILLEGAL_MESSAGE,
    "BAD_RECORD_MAC": SecurityStatus.SEC_E_MESSAGE_ALTERED,
    "DECRYPTION_FAILED": SecurityStatus.SEC_E_DECRYPT_FAILURE,
    "DECOMPRESSION_FAILURE": SecurityStatus.SEC_E_MESSAGE_ALTERED,
    "BAD_CERTIFICATE": SecurityStatus.SEC_E_CERT_UNKNOWN,
    "UNSUPPORTED_CERTIFICATE": SecurityStatus.SEC_E_CERT_UNKNOWN,
    "CERTIFICATE_REVOKED": SecurityStatus.CRYPT_E_REVOKED,
    "CERTIFICATE_EXPIRED": SecurityStatus.SEC_E_CERT_EXPIRED,
    "CERTIFICATE_UNKNOWN": SecurityStatus.SEC_E_CERT_UNKNOWN,
    "UNKNOWN_CA": SecurityStatus.SEC_E_UNTRUSTED_ROOT,
    "ACCESS_DENIED": SecurityStatus.SEC_E_LOGON_DENIED,
    "DECRYPT_ERROR": SecurityStatus.SEC_E_DECRYPT_FAILURE,
    "PROTOCOL_VERSION": SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
    "INSUFFICIENT_SECURITY": SecurityStatus.SEC_E_ALGORITHM_MISMATCH,
    "INTERNAL_ERROR": SecurityStatus.SEC_E_INTERNAL_ERROR,
    "USER_CANCELLED": SecurityStatus.SEC_E_UNFINISHED_CONTEXT_DELETED,
    "NO_APPLICATION_PROTOCOL": SecurityStatus.SEC_E_APPLICATION_PROTOCOL_MISMATCH,
}

_OF_CERTIFICATES: Final = frozenset({
    "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
})  # fmt: skip
_CERTIFICATE_HINT: Final = "the peer refuses our certificate: check which authorities and names the peer trusts"

_OWN_STATUS: Final = {
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": SecurityStatus.SEC_E_MESSAGE_ALTERED,
    "RECORD_LAYER_FAILURE": SecurityStatus.SEC_E_MESSAGE_ALTERED,
}
"""The status of the errors that OpenSSL finds itself; any other is SEC_E_ILLEGAL_MESSAGE. OpenSSL 3.6 names the second
error for a record that does not verify, and for other faults of a record too, which ours cannot tell apart."""

_VERSION_HINT: Final = (
    "no tls version in common: check min_tls and max_tls (--min-tls); "
    "a peer below tls 1.2 needs dangerous_allow_legacy_tls"
)
_SUITE_HINT: Final = "there may be no cipher suite in common: an old peer may need dangerous_allow_legacy_ciphers"
_HINTS: Final = {
    "UNSUPPORTED_PROTOCOL": _VERSION_HINT,
    "PROTOCOL_VERSION": _VERSION_HINT,
    "NO_SHARED_CIPHER": _SUITE_HINT,
    "HANDSHAKE_FAILURE": _SUITE_HINT,
    "TLSV1_UNRECOGNIZED_NAME": "the server has no certificate for the requested name: check server_hostname "
    "(--server-name)",
    "CALLBACK_FAILED": "the sni callback of the tls context refused the name that the client asked for, or failed: "
    "check the names and the default of sni_contexts",
}
"""What an administrator can do, by the error that OpenSSL finds itself or by the name of the peer's alert."""

_FATAL: Final = 2
_CLOSE_NOTIFY: Final = bytes((1, 0))
_OWN_ALERT: Final = {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC": bytes((2, 20))}
"""The alert that OpenSSL sends for an error of its own, where the error allows one alert only (RFC 8446 6.2)."""


_MOST_ENCRYPTED: Final = 4 * MAX_PLAINTEXT
"""Bytes of plaintext given to OpenSSL in one call, where a pair of BIOs is not made for more. With more, the BIO of an
idle connection would hold more memory."""

_LARGE: Final = 512
"""Bytes of plaintext of a record from which on it is better to put it where it belongs than to join it to others."""

_LITTLE: Final = 256
"""Bytes that are read of a BIO at once where there is no memory for them all."""
_JOINED: Final = 64 * 1024
"""About how many bytes of small records are joined at a time."""

_NO_BOUND: Final = 1 << 48
"""A number of records that no memory holds."""

_num_tickets_lock: Final = threading.Lock()
"""Held while a context's `num_tickets` is changed, since two threads may make sessions of one context."""


class BIOPair:
    """The BIOs that OpenSSL reads from and writes to, for any number of sessions that one thread calls.

    Between two calls both BIOs are empty: a session takes back the bytes that OpenSSL did not read, and takes out the
    bytes that OpenSSL made. So all sessions can use one pair in turn, and its memory is needed once.

    Attributes:
        incoming: The BIO that OpenSSL reads ciphertext from.
        outgoing: The BIO that OpenSSL writes ciphertext to.
        users: How many sessions are in the middle of a call: more than one where a callback of TLS uses another
            session. Where it is 0 the BIOs are empty, and are not asked, which saves 400 instructions each time.
        most_encrypted: Bytes of plaintext given to OpenSSL in one call. What it makes of them stays as the size of
            `outgoing`. What takes several calls has to be joined.
    """

    __slots__ = ("_buffer", "_places", "incoming", "most_encrypted", "outgoing", "users")

    def __init__(self, most_encrypted: int = _MOST_ENCRYPTED) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.users = 0
        self.most_encrypted = most_encrypted
        self._buffer: memoryview | None = None
        self._places: list[memoryview] = []

    def give_up(self, users: int) -> None:
        """Empty both BIOs after a call that could not, since there is no memory: no other session may find its bytes.

        Args:
            users: How many sessions are in the middle of a call now.
        """
        for bio in (self.incoming, self.outgoing):
            while bio.pending:
                bio.read(_LITTLE)
        self.users = users

    def places_in(self, buffer: memoryview) -> list[memoryview]:
        """Return the places of a buffer that hold one record each. Those of the buffer of the last call are kept."""
        if buffer is not self._buffer:
            self._buffer = buffer
            end = len(buffer) - MAX_PLAINTEXT + 1
            self._places = [buffer[start : start + MAX_PLAINTEXT] for start in range(0, end, MAX_PLAINTEXT)]
        return self._places


class TLSSession:
    """A TLS connection without a transport.

    Args:
        context: Certificate, versions and ciphers; all connections of a configuration share it.
        server_side: Whether this is the TLS server.
        server_hostname: Client: the name for SNI, or None. An IP address is not allowed in SNI (RFC 6066 section 3).
        session: Client: a session of the same context to resume; None for a new one.
        bios: A pair that other sessions of the same thread use too; None for a pair of its own.

    Attributes:
        certificate_request: Client: the authorities (names in DER) whose certificates the server takes, while TLS waits
            for a certificate; None while it does not.
        alert: The encrypted alert that we sent, as level and description (RFC 8446 6). OpenSSL tells neither, so
            this is empty where the error does not tell the alert. An alert in clear, which can be read, is not here.
        peer_closed: Whether the peer's close_notify has been read.
        fault: The error that `decrypt()` found behind the plaintext that it returned; None for no error.
    """

    __slots__ = (
        "_bios",
        "_close_sent",
        "_incoming",
        "_object",
        "_outgoing",
        "_output",
        "_untaken",
        "alert",
        "certificate_request",
        "fault",
        "peer_closed",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        bios: BIOPair | None = None,
    ) -> None:
        self._bios = bios = bios or BIOPair()
        self._incoming = bios.incoming
        self._outgoing = bios.outgoing
        self._untaken = b""
        """Ciphertext that OpenSSL has not read."""
        self._output = b""
        # As bytes, a name of ASCII passes by the codec for international names, which takes 6,000 instructions.
        name = (
            server_hostname.encode() if server_hostname is not None and server_hostname.isascii() else server_hostname
        )
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, name, session)
        self.certificate_request: tuple[bytes, ...] | None = None
        self._close_sent = False
        self.alert = b""
        self.peer_closed = False
        self.fault: TLSError | None = None

    # --- ciphertext ---

    def output(self) -> bytes:
        """Return the ciphertext for the peer, and forget it; empty where there is none."""
        output, self._output = self._output, b""
        return output

    @property
    def has_output(self) -> bool:
        """Whether `output()` would return any bytes."""
        return bool(self._output)

    @property
    def output_size(self) -> int:
        """How many bytes `output()` would return."""
        return len(self._output)

    def _enter(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Give OpenSSL the ciphertext it has not read, and then the new one. `_leave()` must follow in any case."""
        bios = self._bios
        if bios.users and (self._incoming.pending or self._outgoing.pending):
            raise _in_use()
        try:
            self._incoming.write(self._untaken + ciphertext if self._untaken else ciphertext)
        except BaseException:  # as a rule MemoryError, which may come when the bytes are in the BIO
            bios.give_up(bios.users)
            raise
        bios.users += 1
        self._untaken = b""

    def _leave(self) -> None:
        """Empty both BIOs: keep the ciphertext that OpenSSL has not read, and add what it made to the output."""
        try:
            self._untaken = self._incoming.read()
            self._output += self._outgoing.read()
        except BaseException:  # as a rule MemoryError; the caller learns of it, and this session has lost bytes
            self._bios.give_up(self._bios.users - 1)
            raise
        self._bios.users -= 1

    # --- handshake and data ---

    def handshake(self, ciphertext: bytes | bytearray | memoryview = b"") -> bool:
        """Go on with the handshake; return whether it is complete. Drain `output()` either way.

        The bytes behind the handshake's last message stay for `read()`, unless `give_back()` is called. A session that
        watches for certificate requests (`client_certificate`) also stops at one, and takes whole records.

        Raises:
            TLSError: The handshake failed; the alert for the peer is in `output()`.
            PeerClosed: The peer has sent its close_notify.
        """
        self._enter(ciphertext)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            raise PeerClosed("the peer ended the connection in the middle of the tls handshake") from None
        except ssl.SSLError as error:
            raise _tls_error(error) from None
        finally:
            self._leave()
        return True

    def give_back(self) -> int:
        """Forget the end of the last call's ciphertext that TLS has not read; return its size in bytes.

        There may be such bytes behind the last message of a handshake, and behind the last record of `decrypt()`.
        """
        size = len(self._untaken)
        self._untaken = b""
        return size

    def read(self, ciphertext: bytes | bytearray | memoryview = b"") -> bytes:
        """Take ciphertext, cut anywhere; return the plaintext of all records that are whole now, which may be empty.

        Tickets and key updates give no plaintext. After the peer's close_notify, `peer_closed` is True.

        Raises:
            TLSError: A record did not verify, or the peer sent a fatal alert.
        """
        data, more = self.decrypt(ciphertext)
        if more:
            self.raise_fault()
        return bytes(data)

    def raise_fault(self) -> None:
        """Raise the fault that `decrypt()` has found, if there is one, and forget it.

        It is forgotten because the traceback of a raised error refers to the session.

        Raises:
            TLSError: A record did not verify, or the peer sent a fatal alert.
        """
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault

    def write(self, plaintext: bytes | bytearray | memoryview) -> None:
        """Encrypt `plaintext` into `output()`. Up to `MAX_PLAINTEXT` bytes become one record.

        Raises:
            LocalProtocolError: `close()` was called before.
            TLSError: The connection is broken.
        """
        self._output = self.encrypt(plaintext)

    # --- bulk data: few calls, since on a fast loop calls cost more than the cipher ---

    def decrypt(
        self, ciphertext: bytes | bytearray | memoryview, buffer: memoryview | None = None, most: int = _NO_BOUND
    ) -> tuple[bytes | memoryview, bool]:
        """Take ciphertext, cut anywhere; return the plaintext of all records that are whole now, in one piece.

        Bytes behind the peer's close_notify are dropped. An error is not raised, since the caller needs what came
        before it: it is the `fault` then.

        Args:
            ciphertext: The peer's ciphertext.
            buffer: Where the plaintext of many records is put together: at least `MAX_PLAINTEXT` bytes. A large record
                is begun only where there is room for the longest one. None for memory of its own.
            most: How many records to decrypt at most. The bytes behind them, and the bytes that the buffer has no room
                for, stay for `give_back()` or the next call.

        Returns:
            The plaintext, which is a view of `buffer` where there is much of it, and whether the caller has to look at
            more than the plaintext: at `output()`, which may hold the answer to a key update, at `peer_closed`, at
            `fault`, and at the bytes that are left.
        """
        incoming, bios = self._incoming, self._bios
        users = bios.users
        if users and (incoming.pending or self._outgoing.pending):
            raise _in_use()
        if self._untaken:
            ciphertext = self._untaken + ciphertext
            self._untaken = b""
        tls: Any = self._object
        try:
            incoming.write(ciphertext)
            bios.users = users + 1
            try:
                # SSLObject.read adds a Python frame for each record, and nothing else.
                data: bytes = tls._sslobj.read(MAX_PLAINTEXT)  # noqa: SLF001 - as said
            except ssl.SSLWantReadError:
                data = b""
            except ssl.SSLError as error:
                return b"", self._stop(error)
            else:
                if not data:
                    self.peer_closed = True
                elif incoming.pending:
                    return self._decrypt_more(data, len(ciphertext), buffer, most)
            if self._outgoing.pending or (not data and self.peer_closed):
                return data, self._look()
        except BaseException:  # as a rule MemoryError
            bios.give_up(users)
            raise
        bios.users = users
        return data, False

    def _decrypt_more(
        self, first: bytes, length: int, buffer: memoryview | None, most: int
    ) -> tuple[bytes | memoryview, bool]:
        """Go on with `decrypt()` after the first record of `length` bytes of ciphertext."""
        rest = self._incoming.pending
        if len(first) < _LARGE:
            return self._decrypt_small(first, rest, max(1, length - rest), buffer, most)
        if buffer is None:  # with room for a record that began earlier, and for the one more that is asked for
            buffer = memoryview(bytearray(length + 2 * MAX_PLAINTEXT))
        elif len(first) == MAX_PLAINTEXT and rest > MAX_PLAINTEXT:
            return self._decrypt_full(first, rest, buffer, most)
        return self._decrypt_large(first, rest, length - rest - len(first), buffer, most)

    def _decrypt_small(
        self, first: bytes, rest: int, each: int, buffer: memoryview | None, most: int
    ) -> tuple[bytes | memoryview, bool]:
        """Decrypt the other records, which have about `each` bytes. A loop in C reads them."""
        tls: Any = self._object
        records = iter(functools.partial(tls._sslobj.read, MAX_PLAINTEXT), b"")  # noqa: SLF001 - as in `decrypt`
        # The kernel gives and takes back large blocks of memory each time, so a few records are joined at a time.
        few = most if buffer is None else _JOINED // each or 1
        full = most if buffer is None else len(buffer) - MAX_PLAINTEXT
        found, size, left = [first], 0, most - 1
        extend: Any = found.extend  # for mypyc, whose own way to extend a list loses what came before an exception
        try:
            while rest and left and size <= full:
                # One read too many would raise SSLWantReadError, which costs as much as many small records.
                count, before = min(rest // each or 1, few, left), len(found)
                extend(itertools.islice(records, count))  # it keeps what came before an exception
                if len(found) - before < count:
                    self.peer_closed = True
                    break
                left -= count
                rest = self._incoming.pending
                if len(found) >= few and buffer is not None:
                    size = _move(found, buffer, size)
        except ssl.SSLWantReadError:
            rest = 0
        except ssl.SSLError as error:
            return _join(found, buffer, size), self._stop(error)
        return _join(found, buffer, size), self._looks(rest)

    def _decrypt_large(
        self, first: bytes, rest: int, longer: int, buffer: memoryview, most: int
    ) -> tuple[memoryview, bool]:
        """Decrypt the other records into `buffer`, one behind the other.

        A record has `longer` bytes more than its plaintext.
        """
        incoming = self._incoming
        tls: Any = self._object
        read = tls._sslobj.read  # noqa: SLF001 - as in `decrypt`
        count = size = len(first)
        full = len(buffer) - MAX_PLAINTEXT
        buffer[:size] = first
        try:
            for _ in range(1, most):
                if not rest or not count or size > full:
                    break
                count = read(MAX_PLAINTEXT, buffer[size:])
                size += count
                rest -= count + longer  # an estimate: where nothing should be left, the BIO is asked
                if rest <= 0:
                    rest = incoming.pending
            self.peer_closed = not count
        except ssl.SSLWantReadError:
            rest = 0
        except ssl.SSLError as error:
            return buffer[:size], self._stop(error)
        return buffer[:size], self._looks(rest)

    def _decrypt_full(self, first: bytes, rest: int, buffer: memoryview, most: int) -> tuple[memoryview, bool]:
        """Decrypt the other records, most of which have the largest size. A loop in C reads them."""
        tls: Any = self._object
        read = tls._sslobj.read  # noqa: SLF001 - as in `decrypt`
        buffer[:MAX_PLAINTEXT] = first
        sizes = [MAX_PLAINTEXT]
        extend: Any = sizes.extend  # as in `_decrypt_small`
        places = self._bios.places_in(buffer)
        try:
            while rest and sizes[-1] and (left := min(most, len(places)) - len(sizes)) > 0:
                begin = len(sizes)
                behind = itertools.islice(places, begin, begin + min(rest // MAX_PLAINTEXT or 1, left))
                extend(map(read, itertools.repeat(MAX_PLAINTEXT), behind))  # keeps what came before an exception
                rest = self._incoming.pending
            self.peer_closed = not sizes[-1]
        except ssl.SSLWantReadError:
            rest = 0
        except ssl.SSLError as error:
            return _without_gaps(buffer, sizes), self._stop(error)
        return _without_gaps(buffer, sizes), self._looks(rest)

    def _looks(self, rest: int) -> bool:
        """Leave the BIOs; return whether there is something to look at besides plaintext."""
        if rest or self.peer_closed or self._outgoing.pending:
            return self._look()
        self._bios.users -= 1
        return False

    def _look(self) -> bool:
        """Leave the BIOs, in which there is something to look at besides plaintext; return True."""
        self._leave()
        if self.peer_closed:
            self._untaken = b""
        return True

    def _stop(self, error: ssl.SSLError) -> bool:
        """Note why OpenSSL reads no further: both directions have ended, or a record is faulty. Return True."""
        if isinstance(error, ssl.SSLZeroReturnError):
            self.peer_closed = True
        else:
            self.alert = _OWN_ALERT.get(_reason_of(error), b"")
            self.fault = _tls_error(error)
        return self._look()

    def encrypt(self, plaintext: bytes | bytearray | memoryview) -> bytes:
        """Return the bytes of `output()`, followed by the records of `plaintext` (contiguous bytes).

        Raises:
            LocalProtocolError, TLSError: `write()` would raise it too.
        """
        if self._close_sent:
            raise LocalProtocolError(
                "expected no write after close_notify, got one", security_status=SecurityStatus.SEC_E_CONTEXT_EXPIRED
            )
        bios = self._bios
        if len(plaintext) > bios.most_encrypted:
            most = bios.most_encrypted
            view, ciphertexts, start = memoryview(plaintext), [], 0
            while start < len(view):
                end = start + most
                ciphertexts.append(self.encrypt(view[start:end]))
                start = end
            return b"".join(ciphertexts)
        if bios.users and self._outgoing.pending:
            raise _in_use()
        tls: Any = self._object
        try:
            tls._sslobj.write(plaintext)  # noqa: SLF001 - SSLObject.write adds a Python frame, and nothing else
            ciphertext = self._outgoing.read()
        except ssl.SSLError as error:
            bios.users += 1
            self._leave()
            raise _tls_error(error) from None
        except BaseException:  # as a rule MemoryError
            bios.give_up(bios.users)
            raise
        return self.output() + ciphertext if self._output else ciphertext

    def answer(self) -> None:
        """Put the answer to a key update into `output()`, where there is one to send.

        Without this call OpenSSL sends the answer in front of the next record. A caller that has to know the sizes
        before it writes calls this first.
        """
        if not self._close_sent:
            with contextlib.suppress(TLSError):
                self._output = self.encrypt(b"")  # makes no record of its own

    def close(self) -> None:
        """Put our close_notify into `output()`. A call does nothing where it was sent, or where TLS was never up.

        Everything received must have been read before, since OpenSSL discards the rest.
        """
        if self._close_sent and not self.peer_closed:
            return
        self._enter(b"")
        self._close_sent = True
        before = self.output_size
        # SSLWantReadError means that the peer has not closed its direction yet, which is the usual case. Any other
        # error means that TLS is broken or was never up, so that there is nothing to close.
        try:
            with contextlib.suppress(ssl.SSLError):
                self._object.unwrap()
        finally:
            self._leave()
        if self.output_size > before:
            self.alert = _CLOSE_NOTIFY

    def refuse(self, description: int) -> None:
        """Replace the flight in `output()`, which has not been sent yet, by a fatal alert in clear.

        The `ssl` module cannot send an alert of the caller's choice. A peer understands an alert in clear as long as it
        has seen nothing encrypted: up to TLS 1.2 as a part of the handshake, in TLS 1.3 because OpenSSL's servers allow
        for clients that cannot encrypt yet.

        Args:
            description: The number of the alert (RFC 8446 6).
        """
        self._output = bytes((ALERT, *self._output[1:3], 0, 2, _FATAL, description))
        self._close_sent = True

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._close_sent

    def answer_certificate_request(self, answer: object) -> None:  # noqa: ARG002 - for sessions that watch
        """Answer `certificate_request`. Only a `WatchingTLSSession` stops at one."""
        raise LocalProtocolError("the server has not asked for a certificate")

    # --- facts ---

    @property
    def version(self) -> str:
        """`"TLSv1.3"` or `"TLSv1.2"`; empty before the handshake is complete."""
        return self._object.version() or ""

    @property
    def max_fragment(self) -> int:
        """The longest fragment that a record of the peer may have, in bytes."""
        return MAX_FRAGMENT_TLS13 if self._object.version() == "TLSv1.3" else MAX_FRAGMENT

    @property
    def cipher(self) -> str:
        """The cipher suite's OpenSSL name; empty before the handshake is complete."""
        cipher = self._object.cipher()
        return cipher[0] if cipher else ""

    @property
    def cipher_bits(self) -> int:
        """The size of the cipher's key in bits; 0 before the handshake is complete."""
        cipher = self._object.cipher()
        return cipher[2] if cipher else 0

    @property
    def unique_binding(self) -> bytes | None:
        """The channel binding `tls-unique` (RFC 5929 3); None in TLS 1.3, which has none (RFC 8446 C.5)."""
        return self._object.get_channel_binding("tls-unique") if self.version not in {"", "TLSv1.3"} else None

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session to resume later. In TLS 1.3 it is the newest ticket's, so only after something was read."""
        return self._object.session

    @property
    def session_reused(self) -> bool:
        """Whether this connection resumed an earlier session."""
        return bool(self._object.session_reused)

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The `ssl.SSLObject`, for `get_extra_info("ssl_object")`. Callers may read facts from it, and nothing else."""
        return self._object

    @property
    def server_name(self) -> str:
        """Server: the name that the client asked for by SNI; empty for none, or where the context does not note it."""
        return server_name_of(self._object)

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's own certificate in DER; None where it has sent none so far."""
        try:
            return self._object.getpeercert(binary_form=True)
        except ValueError:  # TLS is not up
            chain = self._sent_chain()
            return chain[0] if chain else None

    def peer_chain(self) -> tuple[bytes, ...]:
        """Return the certificates that the peer has sent so far, unverified, in DER, its own first."""
        if chain := self._sent_chain():
            return chain
        leaf = self.peer_certificate  # a resumed session remembers this one alone
        return (leaf,) if leaf is not None else ()

    def _sent_chain(self) -> tuple[bytes, ...]:
        tls: Any = self._object
        if _HAS_PUBLIC_CHAIN:
            return tuple(tls.get_unverified_chain())
        links = tls._sslobj.get_unverified_chain()  # noqa: SLF001 - CPython 3.11 and 3.12 have it there alone
        return tuple([link.public_bytes(_ENCODING_DER) for link in links or ()])

    @property
    def context(self) -> ssl.SSLContext:
        """The context in use, which an SNI callback may have replaced."""
        return self._object.context


def peer_public_key(chain: tuple[bytes, ...]) -> bytes:
    """Return the SubjectPublicKey of the peer's own certificate, the first of its `peer_chain()`.

    Raises:
        TLSError: The chain is empty.
        RemoteProtocolError: The certificate cannot be parsed.
    """
    if not chain:
        raise TLSError(
            "the server presented no certificate",
            security_status=SecurityStatus.SEC_E_CERT_UNKNOWN,
            stage=Stage.TLS,
        )
    return subject_public_key(chain[0])


def session_with_ticket(context: ssl.SSLContext, bios: BIOPair | None = None) -> TLSSession:
    """Make a server's session that sends one session ticket after the handshake of TLS 1.3.

    Other sessions of the context keep their number of tickets: OpenSSL copies it from the context when a connection is
    made. With the ticket a client can resume its session, which shortens the TLS handshake alone, as OpenSSL's own
    cache does for TLS 1.2.
    """
    if context.protocol is not ssl.PROTOCOL_TLS_SERVER:
        return TLSSession(context, server_side=True, bios=bios)  # sends OpenSSL's two tickets, which cannot be changed
    with _num_tickets_lock:
        usual = context.num_tickets
        context.num_tickets = 1
        try:
            return TLSSession(context, server_side=True, bios=bios)
        finally:
            context.num_tickets = usual


def _without_gaps(buffer: memoryview, sizes: list[int]) -> memoryview:
    """Return the records of these sizes in one piece, each of which is at a place of `MAX_PLAINTEXT` bytes."""
    size = sum(sizes)
    if size < MAX_PLAINTEXT * (len(sizes) - 1) + sizes[-1]:
        size = 0
        for number, count in enumerate(sizes):
            place = number * MAX_PLAINTEXT
            buffer[size : size + count] = buffer[place : place + count]
            size += count
    return buffer[:size]


def _move(records: list[bytes], buffer: memoryview, size: int) -> int:
    """Move records behind the first `size` bytes of a buffer, if there is room; return how many bytes there are."""
    joined = b"".join(records)
    end = size + len(joined)
    if end > len(buffer):
        return size
    buffer[size:end] = joined
    records.clear()
    return end


def _join(records: list[bytes], buffer: memoryview | None, size: int) -> bytes | memoryview:
    """Return the first `size` bytes of a buffer and the records in one piece."""
    if buffer is None or not size:
        return b"".join(records)
    size = _move(records, buffer, size)
    return b"".join([buffer[:size], *records]) if records else buffer[:size]


def _in_use() -> LocalProtocolError:
    return LocalProtocolError("a callback of tls, such as one for SNI, used another connection of the same event loop")


def _reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's name for a failure. An internal error has None in place of a str, which mypyc would not accept."""
    reason: Any = getattr(error, "reason", None)
    return reason if isinstance(reason, str) else "unknown reason"


def _tls_error(error: ssl.SSLError) -> TLSError:
    reason = _reason_of(error)
    _, alert, name = reason.partition("_ALERT_")
    if not alert:
        return TLSError(
            f"tls failed: {reason.lower().replace('_', ' ')}",
            security_status=_OWN_STATUS.get(reason),
            hint=_HINTS.get(reason),
        )
    return TLSError(
        f"the peer sent tls alert {name.lower()}",
        security_status=_ALERT_STATUS.get(name, SecurityStatus.SEC_E_ILLEGAL_MESSAGE),
        hint=_CERTIFICATE_HINT if name in _OF_CERTIFICATES else _HINTS.get(name),
    )

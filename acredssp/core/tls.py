"""One TLS connection over two memory BIOs: the only module of the engine that touches `ssl`.

`ssl.SSLObject` reads ciphertext from one `ssl.MemoryBIO` and writes ciphertext to the other; it never sees a
socket. Who owns a session gives ciphertext to `handshake()`, `read()` or `decrypt()`, and drains `output()` after every
call. Two facts of OpenSSL shape the rest:

* A memory BIO keeps its largest size for good, and a connection its BIOs: after some data, two thirds of the memory of
  an idle connection would be two empty BIOs. So each call of a session leaves both empty, and sessions that one thread
  calls can share a pair (`BIOPair`).
* `SSL_shutdown` reads from the input once its own close_notify is out, and throws away application data that it
  finds there. So `close()` is called once, only when everything received has been read, and once more after the
  peer's close_notify has been seen.

This module must never wait, log or keep a secret.
"""

import contextlib
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

_ENCODING_DER: Final = 2
"""`_ssl.ENCODING_DER`: PEM, the default, takes twice the instructions, and as many again to undo it."""

# RFC 8446 section 6 alert names as OpenSSL spells them in SSLError.reason, and what Schannel makes of each alert.
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
_CERTIFICATE_HINT: Final = "the peer does not take our certificate: see which authorities and names it trusts"

_OWN_STATUS: Final = {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC": SecurityStatus.SEC_E_MESSAGE_ALTERED}
"""The same for what OpenSSL finds itself; every other reason is SEC_E_ILLEGAL_MESSAGE."""

_VERSION_HINT: Final = (
    "no version in common: see min_tls and max_tls (--min-tls); a peer below tls 1.2 takes dangerous_allow_legacy_tls"
)
_SUITE_HINT: Final = "there may be no cipher suite in common: an old peer may take dangerous_allow_legacy_ciphers"
_HINTS: Final = {
    "UNSUPPORTED_PROTOCOL": _VERSION_HINT,
    "PROTOCOL_VERSION": _VERSION_HINT,
    "NO_SHARED_CIPHER": _SUITE_HINT,
    "HANDSHAKE_FAILURE": _SUITE_HINT,
    "TLSV1_UNRECOGNIZED_NAME": "the server has no certificate for the name that was asked for: see server_hostname "
    "(--server-name)",
    "CALLBACK_FAILED": "the sni callback of the tls context refused the name that the client asked for, or failed: see "
    "the names and the default of sni_contexts",
}
"""By what OpenSSL finds itself, and by the name of an alert: what an administrator can do about it."""

_FATAL: Final = 2
_CLOSE_NOTIFY: Final = bytes((1, 0))
_OWN_ALERT: Final = {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC": bytes((2, 20))}
"""What OpenSSL sends for what it finds, where its reason leaves no choice (RFC 8446 6.2)."""


_MOST_ENCRYPTED: Final = 4 * MAX_PLAINTEXT
"""Bytes of plaintext given to OpenSSL in one call: more is not measurably faster."""

_NO_BOUND: Final = 1 << 48
"""Records: more than there is memory for."""

_num_tickets_lock: Final = threading.Lock()
"""Held while a context's `num_tickets` is another one: two threads may make sessions of one context."""


class BIOPair:
    """Where OpenSSL reads and writes, for any number of sessions that one thread calls.

    Between two calls of a session both BIOs are empty: what OpenSSL did not take is taken back, what it made is taken
    out. So the pair belongs to whoever is being called, and costs its memory once for all of them.

    Attributes:
        incoming: The BIO that OpenSSL reads ciphertext from.
        outgoing: The BIO that OpenSSL writes ciphertext to.
        users: Sessions in the middle of a call. There is more than one where a callback of TLS uses another session.
            Where there is none the BIOs are empty, and need not be asked: that takes 400 instructions each time.
    """

    __slots__ = ("incoming", "outgoing", "users")

    def __init__(self) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.users = 0


class TLSSession:
    """A TLS connection without a transport.

    Args:
        context: Holds certificate, versions and ciphers; shared by all connections of a configuration.
        server_side: Whether this is the TLS server.
        server_hostname: Client: the name for SNI, None for none. An IP address is no SNI name (RFC 6066 section 3).
        session: Client: a session of the same context to resume, None for a new one.
        bios: A pair that other sessions use too, all of them called by one thread; None for one of its own.

    Attributes:
        certificate_request: Client: the authorities (names in DER) whose certificates the server takes, while TLS waits
            for a certificate; None while it does not.
        alert: The encrypted alert that we sent, as level and description (RFC 8446 6). OpenSSL tells neither, so
            this is empty where the error does not tell the alert. An alert in clear, which can be read, is not here.
        peer_closed: Whether the peer's close_notify has been read.
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
        """Ciphertext that OpenSSL did not take."""
        self._output = b""
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname, session)
        self.certificate_request: tuple[bytes, ...] | None = None
        self._close_sent = False
        self.alert = b""
        self.peer_closed = False

    # --- ciphertext ---

    def output(self) -> bytes:
        """Return and forget the ciphertext for the peer; empty when there is none."""
        output, self._output = self._output, b""
        return output

    @property
    def has_output(self) -> bool:
        """Whether `output()` has something."""
        return bool(self._output)

    @property
    def output_size(self) -> int:
        """How many bytes `output()` has."""
        return len(self._output)

    def _enter(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Give OpenSSL ciphertext, behind what it did not take. `_leave()` follows, whatever happens in between."""
        bios = self._bios
        if bios.users and (self._incoming.pending or self._outgoing.pending):
            raise _in_use()
        self._incoming.write(self._untaken + ciphertext)
        bios.users += 1
        self._untaken = b""

    def _leave(self) -> None:
        """Leave both BIOs empty: what OpenSSL did not take it is given again, what it made is output."""
        self._untaken = self._incoming.read()
        self._output += self._outgoing.read()
        self._bios.users -= 1

    # --- handshake and data ---

    def handshake(self, ciphertext: bytes | bytearray | memoryview = b"") -> bool:
        """Go on with the handshake; return whether it is complete. Drain `output()` either way.

        What is behind the handshake's last message stays for `read()`, unless `give_back()` is called. A session that
        watches for certificate requests (`client_certificate`) also stops at one, and takes whole records.

        Raises:
            TLSError: The handshake failed; the alert for the peer is in `output()`.
            PeerClosed: The peer sent its close_notify already.
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
        """Forget what TLS has not taken of the last call's ciphertext; return how many bytes at its end that is.

        Behind the last message of a handshake that is now complete, and behind the most records of `decrypt()`.
        """
        size = len(self._untaken)
        self._untaken = b""
        return size

    def read(self, ciphertext: bytes | bytearray | memoryview = b"") -> bytes:
        """Take ciphertext, cut anywhere; return the plaintext of all records that are whole now, empty for none.

        Tickets and key updates are taken in silently. After the peer's close_notify, `peer_closed` is True.

        Raises:
            TLSError: A record did not verify, or the peer sent a fatal alert.
        """
        records: list[bytes] = []
        self.decrypt(ciphertext, records)
        return b"".join(records)

    def write(self, plaintext: bytes | bytearray | memoryview) -> None:
        """Encrypt; the records are in `output()`. One call makes one record up to `MAX_PLAINTEXT` bytes.

        Raises:
            LocalProtocolError: `close()` was called before.
            TLSError: The connection is broken.
        """
        self._output = self.encrypt(plaintext)

    # --- much data: few calls, since on a fast loop they cost more than the cipher does ---

    def decrypt(self, ciphertext: bytes | bytearray | memoryview, records: list[bytes], most: int = _NO_BOUND) -> bool:
        """Take ciphertext, cut anywhere, and append to `records` the plaintext of each record that is whole now.

        What follows the peer's close_notify is dropped.

        Args:
            ciphertext: Of the peer.
            records: Where the plaintext goes; empty before.
            most: How many records to decrypt at most. What is behind them stays for `give_back()` or the next call.

        Returns:
            Whether there is more to look at than `records`: `output()`, with the answer to a key update, and
            `peer_closed`; or what was not taken.

        Raises:
            TLSError: As `read()`; the records before the faulty one are there.
        """
        incoming, bios = self._incoming, self._bios
        if bios.users and (incoming.pending or self._outgoing.pending):
            raise _in_use()
        if self._untaken:
            ciphertext = self._untaken + ciphertext
            self._untaken = b""
        incoming.write(ciphertext)
        bios.users += 1
        try:
            while record := self._object.read(MAX_PLAINTEXT):
                records.append(record)
                if not incoming.pending:
                    break  # asking once more would only raise SSLWantReadError: as expensive as 8 KiB of data
                if len(records) >= most:
                    self._leave()
                    return True
            else:
                self.peer_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.peer_closed = True
        except ssl.SSLError as error:
            self._leave()
            self.alert = _OWN_ALERT.get(_reason_of(error), b"")
            raise _tls_error(error) from None
        if self._outgoing.pending or self.peer_closed:
            self._leave()
            self._untaken = b""
            return True
        bios.users -= 1
        return False

    def encrypt(self, plaintext: bytes | bytearray | memoryview) -> bytes:
        """Return `plaintext` (contiguous bytes) as records, behind what `output()` had.

        Raises:
            LocalProtocolError, TLSError: As `write()`.
        """
        if self._close_sent:
            raise LocalProtocolError("write after close_notify", security_status=SecurityStatus.SEC_E_CONTEXT_EXPIRED)
        if len(plaintext) > _MOST_ENCRYPTED:
            view = memoryview(plaintext)
            starts = range(0, len(view), _MOST_ENCRYPTED)
            return b"".join([self.encrypt(view[start : start + _MOST_ENCRYPTED]) for start in starts])
        if self._bios.users and self._outgoing.pending:
            raise _in_use()
        try:
            self._object.write(plaintext)
        except ssl.SSLError as error:
            self._leave()
            raise _tls_error(error) from None
        if self._output:
            return self.output() + self._outgoing.read()
        return self._outgoing.read()

    def answer(self) -> None:
        """Put into `output()` what OpenSSL would else send in front of the next record: the answer to a key update.

        For those who have to know its size before they write. Of itself it comes out with the next `write()`.
        """
        if not self._close_sent:
            with contextlib.suppress(TLSError):
                self._output = self.encrypt(b"")  # makes no record of its own

    def close(self) -> None:
        """Put our close_notify into `output()`; harmless when it is already out, or when TLS never came up.

        Everything received must have been read before: OpenSSL discards what is left.
        """
        if self._close_sent and not self.peer_closed:
            return
        self._enter(b"")
        self._close_sent = True
        before = self.output_size
        # SSLWantReadError: the peer has not closed its direction yet, which is the usual case. Anything else: TLS is
        # broken or was never up, and there is nothing to close.
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        self._leave()
        if self.output_size > before:
            self.alert = _CLOSE_NOTIFY

    def refuse(self, description: int) -> None:
        """Replace the flight in `output()`, which has not left yet, by a fatal alert in clear.

        The `ssl` module sends no alert of ours. In clear it is understood as long as the peer has seen nothing
        encrypted: up to TLS 1.2 as a part of the handshake, in TLS 1.3 because OpenSSL's servers allow for clients that
        cannot encrypt yet.

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
        """Answer `certificate_request`; only a session that watches for them stops at one."""
        raise LocalProtocolError("no certificate was asked for")

    # --- facts ---

    @property
    def version(self) -> str:
        """`"TLSv1.3"` or `"TLSv1.2"`; empty before the handshake is complete."""
        return self._object.version() or ""

    @property
    def max_fragment(self) -> int:
        """The longest fragment a record of the peer's may have, in bytes."""
        return MAX_FRAGMENT_TLS13 if self._object.version() == "TLSv1.3" else MAX_FRAGMENT

    @property
    def cipher(self) -> str:
        """The cipher suite's OpenSSL name; empty before the handshake is complete."""
        cipher = self._object.cipher()
        return cipher[0] if cipher else ""

    @property
    def cipher_bits(self) -> int:
        """The strength of the cipher's key; 0 before the handshake is complete."""
        cipher = self._object.cipher()
        return cipher[2] if cipher else 0

    @property
    def unique_binding(self) -> bytes | None:
        """The channel binding `tls-unique` (RFC 5929 3); None in TLS 1.3, which has none (RFC 8446 C.5)."""
        return self._object.get_channel_binding("tls-unique") if self.version not in {"", "TLSv1.3"} else None

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session to resume later; in TLS 1.3 the newest ticket's, so only after something was read."""
        return self._object.session

    @property
    def session_reused(self) -> bool:
        """Whether this connection resumed an earlier session."""
        return bool(self._object.session_reused)

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The object itself, for `get_extra_info("ssl_object")`. Reading facts from it is fine; nothing else is."""
        return self._object

    @property
    def server_name(self) -> str:
        """Server: the name the client asked for by SNI; empty for none, or where the context does not note it."""
        return server_name_of(self._object)

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's own certificate in DER; None when it sent none, or has not yet."""
        try:
            return self._object.getpeercert(binary_form=True)
        except ValueError:  # TLS is not up
            chain = self._sent_chain()
            return chain[0] if chain else None

    def peer_chain(self) -> tuple[bytes, ...]:
        """Return the certificates that the peer sent, in DER, its own first; unverified. Empty before it has."""
        if chain := self._sent_chain():
            return chain
        leaf = self.peer_certificate  # all that a resumed session remembers
        return (leaf,) if leaf is not None else ()

    def _sent_chain(self) -> tuple[bytes, ...]:
        # Public as SSLObject.get_unverified_chain from 3.13; before that only on the inner object (3.10 on).
        getter = getattr(self._object, "get_unverified_chain", None)
        if getter is not None:
            return tuple(getter())
        inner: Any = getattr(self._object, "_sslobj", None)
        links = inner.get_unverified_chain() if hasattr(inner, "get_unverified_chain") else None
        return tuple([link.public_bytes(_ENCODING_DER) for link in links or ()])

    @property
    def context(self) -> ssl.SSLContext:
        """The context in use: another one than it was made of once an SNI callback has chosen it."""
        return self._object.context


def peer_public_key(chain: tuple[bytes, ...]) -> bytes:
    """Return the SubjectPublicKey that a peer presented, by its `peer_chain()`.

    Raises:
        TLSError: There is no certificate.
        RemoteProtocolError: It does not parse.
    """
    if not chain:
        raise TLSError(
            "the server presented no certificate",
            security_status=SecurityStatus.SEC_E_CERT_UNKNOWN,
            stage=Stage.TLS,
        )
    return subject_public_key(chain[0])


def session_with_ticket(context: ssl.SSLContext, bios: BIOPair | None = None) -> TLSSession:
    """Make a server's session that sends one session ticket behind the handshake of TLS 1.3, whatever others send.

    OpenSSL copies the number of tickets from the context to a connection when the connection is made. The ticket lets
    a client resume, which saves it the TLS handshake alone, as OpenSSL's own cache does for TLS 1.2.
    """
    if context.protocol is not ssl.PROTOCOL_TLS_SERVER:
        return TLSSession(context, server_side=True, bios=bios)  # OpenSSL's two tickets, which cannot be changed
    with _num_tickets_lock:
        usual = context.num_tickets
        context.num_tickets = 1
        try:
            return TLSSession(context, server_side=True, bios=bios)
        finally:
            context.num_tickets = usual


def _in_use() -> LocalProtocolError:
    return LocalProtocolError("a callback of tls (for SNI, say) used another connection of the same loop")


def _reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's name for a failure. An internal error has None, though its type says str, which mypyc would enforce."""
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

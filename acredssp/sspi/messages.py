"""EncryptMessage and DecryptMessage: the application's data, one TLS record for each call, in the caller's own memory.

Between two records, TLS itself may have bytes to send: the answer to a key update of TLS 1.3, or the refusal of a
renegotiation of TLS 1.2. Such bytes arise while the peer's record is decrypted, and do not change the result of
DecryptMessage. They must reach the peer before anything that is encrypted after them. There are two ways to send them:

* EncryptMessage puts them in front of its record, inside the STREAM_HEADER buffer. While they wait,
  SECPKG_ATTR_STREAM_SIZES gives a larger `cbHeader`, and a smaller header is refused with SEC_E_BUFFER_TOO_SMALL.
* InitializeSecurityContext or AcceptSecurityContext with empty input gives them out in a TOKEN buffer, as on Windows
  after SEC_I_RENEGOTIATE. A caller who asked for the sizes just once makes this call and encrypts again.

A record that does not verify ends the context. A further call of InitializeSecurityContext or AcceptSecurityContext
with empty input then returns the status and puts the alert for the peer into its TOKEN buffer.

A `memoryview` that DecryptMessage puts into a DATA buffer keeps a `bytearray` from being resized while the view exists.
A call that fails leaves no view behind.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Final

from acredssp.core.record_sizes import RecordSizes, record_sizes
from acredssp.core.tls import TLSSession
from acredssp.errors import CredSSPError, TLSError
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.buffers import SecBuffer, SecBufferDesc
from acredssp.sspi.context import EstablishState, established
from acredssp.sspi.flags import SECBUFFER, SECQOP
from acredssp.sspi.handles import CtxtHandle, Use, failure
from acredssp.sspi.structures import ULONG, SecPkgContext_StreamSizes
from acredssp.status import SecurityStatus
from acredssp.wire.tls_record import record_end

__all__ = ["DecryptMessage", "EncryptMessage", "message_tls", "stream_sizes"]

_BUFFERS: Final = 4
_ENCRYPT_ORDER: Final = (SECBUFFER.STREAM_HEADER, SECBUFFER.DATA, SECBUFFER.STREAM_TRAILER, SECBUFFER.EMPTY)
_CLOSE_NOTIFY: Final = 0
"""The description of close_notify, the only alert that CPython can send (RFC 8446 6.1)."""
_ALERT_SIZE: Final = 2
_MOST_WAITING: Final = 16_384
"""The most bytes of TLS itself that may wait for the next message: an answer has about 30, so these are more than
500."""


async def EncryptMessage(
    phContext: CtxtHandle, fQOP: int, pMessage: SecBufferDesc, MessageSeqNo: int = 0
) -> SecurityStatus:
    """Encrypt a message in place. The record to send is then in the first three buffers, in their order.

    Args:
        phContext: An established context.
        fQOP: 0, or `SECQOP.WRAP_OOB_DATA` if DATA is the two bytes of an alert; only close_notify can be sent.
        pMessage: STREAM_HEADER, DATA, STREAM_TRAILER, EMPTY. DATA has at most `cbMaximumMessage` bytes. Header and
            trailer have at least the room (`cbBuffer`) that SECPKG_ATTR_STREAM_SIZES says; afterwards, `cbBuffer` says
            how much of it is used, so set it back before you use the buffers again. Empty DATA makes no record, and
            nothing is to be sent.
        MessageSeqNo: 0.

    Returns:
        SEC_E_OK, or, with nothing changed, SEC_E_BUFFER_TOO_SMALL (`cbBuffer` is the room needed),
        SEC_E_CONTEXT_EXPIRED (close_notify was sent), SEC_E_INVALID_HANDLE, SEC_E_INVALID_TOKEN (no DATA buffer that
        may be written, or the wrong order), SEC_E_INVALID_PARAMETER (fewer than four buffers, too long a message, a
        negative count), SEC_E_QOP_NOT_SUPPORTED, SEC_E_OUT_OF_SEQUENCE (MessageSeqNo is not 0),
        SEC_E_UNSUPPORTED_FUNCTION (bare shape), SEC_E_CRYPTO_SYSTEM_INVALID (an unknown cipher suite),
        SEC_E_INSUFFICIENT_MEMORY. If TLS fails, its own status.

    Raises:
        TypeError: A parameter has a wrong Python type, a buffer is no `SecBuffer`, or its memory cannot be written.
    """
    expect("phContext", phContext, CtxtHandle)
    expect("fQOP", fQOP, int)
    expect("pMessage", pMessage, SecBufferDesc)
    return _call(phContext, Use.ENCRYPT, functools.partial(_encrypt, pMessage, fQOP, MessageSeqNo))


async def DecryptMessage(
    phContext: CtxtHandle, pMessage: SecBufferDesc, MessageSeqNo: int = 0, pfQOP: ULONG | None = None
) -> SecurityStatus:
    """Decrypt the first record of the input in place.

    The first call after a server's context is established may have empty DATA: it returns plaintext that came behind
    the client's credentials in the same record. On both sides, such a call also returns input that the last call of
    InitializeSecurityContext or AcceptSecurityContext could not report for want of an EXTRA buffer.
    SEC_E_INCOMPLETE_MESSAGE says that there is no more. Both come in memory that the package allocates. They also come
    first if DATA is not empty: the input then becomes EXTRA.

    Args:
        phContext: An established context.
        pMessage: One DATA buffer with ciphertext, and three EMPTY ones. They become STREAM_HEADER, DATA (a view of
            the plaintext inside the input; empty for a ticket or a key update), STREAM_TRAILER, and EXTRA (the last
            `cbBuffer` bytes of the input belong to the next record) or EMPTY.
        MessageSeqNo: 0.
        pfQOP: Receives 0; may be None.

    Returns:
        SEC_E_OK; SEC_I_CONTEXT_EXPIRED (the peer sent close_notify, now or earlier; the buffers are as for SEC_E_OK);
        SEC_E_INCOMPLETE_MESSAGE (an EMPTY buffer became MISSING: give the same input again, with `cbBuffer` more
        bytes). With nothing changed: SEC_E_INVALID_HANDLE, SEC_E_INVALID_TOKEN (the wrong buffers, or no TLS record),
        SEC_E_OUT_OF_SEQUENCE (MessageSeqNo is not 0), SEC_E_UNSUPPORTED_FUNCTION (bare shape),
        SEC_E_CRYPTO_SYSTEM_INVALID. With the context ended: SEC_E_MESSAGE_ALTERED (the record does not verify), the
        status of an alert that the peer sent, SEC_E_ILLEGAL_MESSAGE, SEC_E_DECRYPT_FAILURE.

    Raises:
        TypeError: A parameter has a wrong Python type, a buffer is no `SecBuffer`, or DATA's memory cannot be written.
    """
    expect("phContext", phContext, CtxtHandle)
    expect("pMessage", pMessage, SecBufferDesc)
    expect("pfQOP", pfQOP, ULONG, type(None))
    if pfQOP is not None:
        pfQOP.value = 0
    return _call(phContext, Use.DECRYPT, functools.partial(_decrypt, pMessage, MessageSeqNo))


def _call(phContext: CtxtHandle, use: Use, run: Callable[[EstablishState], SecurityStatus]) -> SecurityStatus:
    try:
        state = phContext.state
        state.hold(use)
        try:
            with state.tls_lock:
                status = run(established(state))
        finally:
            state.release(use)
    except (CredSSPError, MemoryError) as error:
        return failure(error, phContext)
    phContext.error = None
    return status


def message_tls(state: EstablishState) -> TLSSession:
    """Return the TLS session that protects messages.

    Raises:
        LocalProtocolError: SEC_E_UNSUPPORTED_FUNCTION: this is the bare shape, whose TLS the caller runs.
    """
    if state.context.tls is None:
        raise refusal(
            "the bare shape cannot protect messages: the caller runs its tls", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
        )
    return state.context.tls


def stream_sizes(tls: TLSSession) -> SecPkgContext_StreamSizes:
    """Return the sizes for the next EncryptMessage; the header includes the bytes that TLS itself has to send first.

    Raises:
        PolicyError: SEC_E_CRYPTO_SYSTEM_INVALID.
    """
    sizes = _record_sizes(tls)
    tls.answer()
    return SecPkgContext_StreamSizes(
        cbHeader=tls.output_size + sizes.header,
        cbTrailer=sizes.front + sizes.trailer,
        cbMaximumMessage=sizes.max_message,
        cBuffers=_BUFFERS,
        cbBlockSize=sizes.block,
    )


def _record_sizes(tls: TLSSession) -> RecordSizes:
    return record_sizes(tls.version, tls.cipher)


def _check_sequence(MessageSeqNo: int) -> None:
    if MessageSeqNo:
        raise refusal(f"MessageSeqNo: expected 0, got {MessageSeqNo}", SecurityStatus.SEC_E_OUT_OF_SEQUENCE)


@contextlib.contextmanager
def _or_break(state: EstablishState) -> Iterator[None]:
    """End the context if TLS fails in the block: a lost record cannot be recovered."""
    try:
        yield
    except TLSError as error:
        state.fail(error)
        raise
    except MemoryError:
        state.fail(
            CredSSPError(
                "memory ran out while a record was being made or read",
                security_status=SecurityStatus.SEC_E_INSUFFICIENT_MEMORY,
            )
        )
        raise


# --- EncryptMessage ---


def _encrypt(message: SecBufferDesc, fQOP: int, MessageSeqNo: int, state: EstablishState) -> SecurityStatus:
    tls = message_tls(state)
    sizes = stream_sizes(tls)
    if fQOP not in (0, SECQOP.WRAP_OOB_DATA):
        raise refusal(
            f"fQOP: expected 0 or SECQOP_WRAP_OOB_DATA, got {fQOP:#x}", SecurityStatus.SEC_E_QOP_NOT_SUPPORTED
        )
    _check_sequence(MessageSeqNo)
    header, data, trailer = _encrypt_buffers(message)
    if tls.closed or state.shutdown:
        raise refusal(
            "the context is shut down: nothing can be encrypted after close_notify",
            SecurityStatus.SEC_E_CONTEXT_EXPIRED,
        )
    _check_fit(sizes, header, data, trailer)
    with data.writable as plaintext:
        if not plaintext:
            header.put(b"", allocate=False)
            return trailer.put(b"", allocate=False)  # OpenSSL makes no empty records
        with _or_break(state):
            record = memoryview(_alert(tls, plaintext) if fQOP else _record(tls, plaintext))
            end = sizes.cbHeader + len(plaintext)
            if len(record) > end + sizes.cbTrailer:
                raise TLSError(
                    "tls made several records of one message", security_status=SecurityStatus.SEC_E_ENCRYPT_FAILURE
                )
        plaintext[:] = record[sizes.cbHeader : end]
    header.put(record[: sizes.cbHeader], allocate=False)
    return trailer.put(record[end:], allocate=False)


def _record(tls: TLSSession, plaintext: memoryview) -> bytes:
    tls.write(plaintext)
    return tls.output()


def _alert(tls: TLSSession, alert: memoryview) -> bytes:
    if len(alert) != _ALERT_SIZE or alert[1] != _CLOSE_NOTIFY:
        raise refusal(
            "expected the two bytes of close_notify, the only alert that can be sent, got something else",
            SecurityStatus.SEC_E_QOP_NOT_SUPPORTED,
        )
    tls.close()
    return tls.output()


def _encrypt_buffers(message: SecBufferDesc) -> list[SecBuffer]:
    """Return the buffers STREAM_HEADER, DATA and STREAM_TRAILER."""
    message.check()
    if message.cBuffers < _BUFFERS:
        raise refusal(f"expected {_BUFFERS} buffers, got {message.cBuffers}", SecurityStatus.SEC_E_INVALID_PARAMETER)
    buffers = message.pBuffers[:_BUFFERS]
    if any(buffer.type != due or buffer.readonly for buffer, due in zip(buffers, _ENCRYPT_ORDER, strict=True)):
        raise refusal(
            f"expected STREAM_HEADER, DATA, STREAM_TRAILER and EMPTY, none of them read-only, got {message!r}",
            SecurityStatus.SEC_E_INVALID_TOKEN,
        )
    return buffers[:-1]


def _check_fit(sizes: SecPkgContext_StreamSizes, header: SecBuffer, data: SecBuffer, trailer: SecBuffer) -> None:
    if _size(data) > sizes.cbMaximumMessage:
        raise refusal(
            f"expected a message of at most {sizes.cbMaximumMessage} bytes, got {_size(data)}",
            SecurityStatus.SEC_E_INVALID_PARAMETER,
        )
    # Both buffers are asked, so that one call reports both sizes that are needed.
    if not all([header.has_room(sizes.cbHeader), trailer.has_room(sizes.cbTrailer)]):
        raise refusal(
            f"expected room for a header of {sizes.cbHeader} bytes and a trailer of {sizes.cbTrailer} bytes",
            SecurityStatus.SEC_E_BUFFER_TOO_SMALL,
            hint="query SECPKG_ATTR_STREAM_SIZES again, or call InitializeSecurityContext or AcceptSecurityContext "
            "with empty input and send the token that it gives",
        )


def _size(buffer: SecBuffer) -> int:
    return buffer.view.nbytes


# --- DecryptMessage ---


def _decrypt(message: SecBufferDesc, MessageSeqNo: int, state: EstablishState) -> SecurityStatus:
    tls = message_tls(state)
    header = _record_sizes(tls).header
    _check_sequence(MessageSeqNo)
    data = _decrypt_buffers(message)
    have = _size(data)
    if waiting := state.context.trailing_data:
        state.context.trailing_data = b""
        return _hand_out(message, memoryview(waiting), slice(None), extra=have)
    if tls.peer_closed:
        _hand_out(message, memoryview(b""), slice(None), extra=have)
        return SecurityStatus.SEC_I_CONTEXT_EXPIRED
    # Kept input is not in the caller's memory, so its records are decrypted in the package's own.
    kept = state.unfinished.surplus
    memory = SecBuffer(SECBUFFER.DATA, bytearray(kept) + data.view) if kept else data
    size = _frame(memory, tls)
    if (missing := size - _size(memory)) > 0:
        message.report(SECBUFFER.MISSING, missing)
        return SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
    with _or_break(state):
        plaintext = _open(memory, size, tls)
    state.unfinished.surplus = kept[size:]
    record = memory.writable[:size]
    place = slice(header, header + len(plaintext))
    record[place] = plaintext
    _hand_out(message, record, place, extra=have - max(0, size - len(kept)))
    return SecurityStatus.SEC_I_CONTEXT_EXPIRED if tls.peer_closed else SecurityStatus.SEC_E_OK


def _decrypt_buffers(message: SecBufferDesc) -> SecBuffer:
    """Return the DATA buffer."""
    message.check()
    data = message.find(SECBUFFER.DATA)
    spare = sum(buffer.spare for buffer in message.pBuffers)
    if data is None or data.readonly or (message.cBuffers, spare) != (_BUFFERS, _BUFFERS - 1):
        raise refusal(
            f"expected one DATA buffer, not read-only, and three EMPTY ones, got {message!r}",
            SecurityStatus.SEC_E_INVALID_TOKEN,
        )
    data.writable.release()  # TypeError before anything is taken
    return data


# A view that is open while an exception passes lives as long as the exception, which the handle keeps.


def _frame(memory: SecBuffer, tls: TLSSession) -> int:
    with memory.view as data:
        return record_end(data, max_fragment=tls.max_fragment)


def _open(memory: SecBuffer, size: int, tls: TLSSession) -> bytes:
    with memory.view as data:
        record = bytes(data[:size])
    plaintext = tls.read(record)
    if tls.output_size > _MOST_WAITING:
        raise TLSError(
            f"the peer made tls answer too often: expected at most {_MOST_WAITING} waiting bytes, got {tls.output_size}"
        )
    return plaintext


def _hand_out(message: SecBufferDesc, record: memoryview, place: slice, *, extra: int) -> SecurityStatus:
    """Turn the four buffers into the parts of a record, whose plaintext is at `place`, and the rest of the input."""
    start, stop, _ = place.indices(len(record))
    header, data, trailer, rest = message.pBuffers
    header.become(SECBUFFER.STREAM_HEADER, memory=record[:start])
    data.become(SECBUFFER.DATA, memory=record[start:stop])
    trailer.become(SECBUFFER.STREAM_TRAILER, memory=record[stop:])
    rest.become(SECBUFFER.EXTRA if extra else SECBUFFER.EMPTY, extra)
    return SecurityStatus.SEC_E_OK

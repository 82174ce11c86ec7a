"""EncryptMessage and DecryptMessage: the application's data, one TLS record a call, in the caller's own memory.

Between two records TLS may have something to say for itself: the answer to a key update of TLS 1.3, the refusal of a
renegotiation of TLS 1.2. Both come up while the peer's record is decrypted, neither changes what DecryptMessage
returns, and both must reach the peer before anything that is encrypted after them. So there are two ways out:

* EncryptMessage puts them in front of its record, inside the STREAM_HEADER buffer. From then on, until it has,
  SECPKG_ATTR_STREAM_SIZES gives the larger `cbHeader`, and a header without the room is SEC_E_BUFFER_TOO_SMALL.
* InitializeSecurityContext or AcceptSecurityContext with empty input, as a caller does for SEC_I_RENEGOTIATE on
  Windows, hands them out in a TOKEN buffer. A caller who asked for the sizes just once does this and encrypts again.

A record that does not verify ends the context. The alert for the peer is what a further call of
InitializeSecurityContext or AcceptSecurityContext with empty input puts into its TOKEN buffer, beside the status.

A `memoryview` that DecryptMessage puts into a DATA buffer keeps a `bytearray` from being resized for as long as it is
there. No failing call leaves one behind.
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
"""The description of the one alert that CPython can send (RFC 8446 6.1)."""
_ALERT_SIZE: Final = 2
_MOST_WAITING: Final = 16_384
"""Bytes of TLS's own that may wait for the next message. An answer has about 30, so this is more than 500."""


async def EncryptMessage(
    phContext: CtxtHandle, fQOP: int, pMessage: SecBufferDesc, MessageSeqNo: int = 0
) -> SecurityStatus:
    """Encrypt a message in place: what the first three buffers then hold, in this order, is the record to send.

    Args:
        phContext: An established context.
        fQOP: 0, or `SECQOP.WRAP_OOB_DATA`: DATA is the two bytes of an alert, of which close_notify can be sent.
        pMessage: STREAM_HEADER, DATA, STREAM_TRAILER, EMPTY. DATA is at most `cbMaximumMessage` bytes; header and
            trailer have at least the room (`cbBuffer`) that SECPKG_ATTR_STREAM_SIZES says, and `cbBuffer` then says how
            much is used: it is set back before the buffers are used again. Empty DATA makes no record: nothing is to
            be sent.
        MessageSeqNo: 0.

    Returns:
        SEC_E_OK, or, with nothing changed, SEC_E_BUFFER_TOO_SMALL (`cbBuffer` is the room needed),
        SEC_E_CONTEXT_EXPIRED (close_notify was sent), SEC_E_INVALID_HANDLE, SEC_E_INVALID_TOKEN (no DATA buffer that
        may be written, or the wrong order), SEC_E_INVALID_PARAMETER (fewer than four buffers, too long a message, a
        negative count),
        SEC_E_QOP_NOT_SUPPORTED, SEC_E_OUT_OF_SEQUENCE (MessageSeqNo), SEC_E_UNSUPPORTED_FUNCTION (bare shape),
        SEC_E_CRYPTO_SYSTEM_INVALID (a cipher suite that was never meant), SEC_E_INSUFFICIENT_MEMORY. Where TLS is
        broken, its own status.

    Raises:
        TypeError: A parameter has a wrong Python type; a buffer is none; its memory cannot be written.
    """
    expect("phContext", phContext, CtxtHandle)
    expect("fQOP", fQOP, int)
    expect("pMessage", pMessage, SecBufferDesc)
    return _call(phContext, Use.ENCRYPT, functools.partial(_encrypt, pMessage, fQOP, MessageSeqNo))


async def DecryptMessage(
    phContext: CtxtHandle, pMessage: SecBufferDesc, MessageSeqNo: int = 0, pfQOP: ULONG | None = None
) -> SecurityStatus:
    """Decrypt the record in front, in place.

    The first call after a server's context is established may be made with empty DATA: it returns plaintext that came
    behind the client's credentials, in the same record. The same goes, for both sides, for input that the last call
    of ISC or ASC could not report for want of an EXTRA buffer; SEC_E_INCOMPLETE_MESSAGE says that there is no more.
    Both are memory of the package's, and come first also when DATA is not empty: it is EXTRA then.

    Args:
        phContext: An established context.
        pMessage: One DATA buffer with ciphertext, and three EMPTY ones. They become STREAM_HEADER, DATA (a view of
            the plaintext inside the input; empty for a ticket or a key update), STREAM_TRAILER, and EXTRA (the last
            `cbBuffer` bytes of the input are of the next record) or EMPTY.
        MessageSeqNo: 0.
        pfQOP: Receives 0; None for who does not care.

    Returns:
        SEC_E_OK; SEC_I_CONTEXT_EXPIRED (the peer sent close_notify, now or earlier; the buffers are as for SEC_E_OK);
        SEC_E_INCOMPLETE_MESSAGE (an EMPTY buffer became MISSING: the same input again, with `cbBuffer` bytes more
        behind). With nothing changed: SEC_E_INVALID_HANDLE, SEC_E_INVALID_TOKEN (the wrong buffers, or no TLS record),
        SEC_E_OUT_OF_SEQUENCE (MessageSeqNo), SEC_E_UNSUPPORTED_FUNCTION (bare shape), SEC_E_CRYPTO_SYSTEM_INVALID.
        With the context ended: SEC_E_MESSAGE_ALTERED (the record does not verify), the status of an alert that the
        peer sent, SEC_E_ILLEGAL_MESSAGE, SEC_E_DECRYPT_FAILURE.

    Raises:
        TypeError: A parameter has a wrong Python type; a buffer is none; the memory of DATA cannot be written.
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
    """The TLS connection that protects messages.

    Raises:
        LocalProtocolError: SEC_E_UNSUPPORTED_FUNCTION: the bare shape, whose TLS is the caller's.
    """
    if state.context.tls is None:
        raise refusal(
            "the bare shape protects no messages: its tls is the caller's", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
        )
    return state.context.tls


def stream_sizes(tls: TLSSession) -> SecPkgContext_StreamSizes:
    """What a caller of EncryptMessage has to provide, for the next message: all that goes in front of it included.

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
    """End the context when TLS fails: a record that is lost cannot be had again."""
    try:
        yield
    except TLSError as error:
        state.fail(error)
        raise
    except MemoryError:
        state.fail(
            CredSSPError(
                "memory ran out in the middle of a record", security_status=SecurityStatus.SEC_E_INSUFFICIENT_MEMORY
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
        raise refusal("close_notify has been sent", SecurityStatus.SEC_E_CONTEXT_EXPIRED)
    _check_fit(sizes, header, data, trailer)
    with data.writable as plaintext:
        if not plaintext:
            header.put(b"", allocate=False)
            return trailer.put(b"", allocate=False)  # OpenSSL makes no empty records
        with _or_break(state):
            record = memoryview(_alert(tls, plaintext) if fQOP else _record(tls, plaintext))
            end = sizes.cbHeader + len(plaintext)
            if len(record) > end + sizes.cbTrailer:
                raise TLSError("a message became several records", security_status=SecurityStatus.SEC_E_ENCRYPT_FAILURE)
        plaintext[:] = record[sizes.cbHeader : end]
    header.put(record[: sizes.cbHeader], allocate=False)
    return trailer.put(record[end:], allocate=False)


def _record(tls: TLSSession, plaintext: memoryview) -> bytes:
    tls.write(plaintext)
    return tls.output()


def _alert(tls: TLSSession, alert: memoryview) -> bytes:
    if len(alert) != _ALERT_SIZE or alert[1] != _CLOSE_NOTIFY:
        raise refusal("close_notify is the one alert that can be sent", SecurityStatus.SEC_E_QOP_NOT_SUPPORTED)
    tls.close()
    return tls.output()


def _encrypt_buffers(message: SecBufferDesc) -> list[SecBuffer]:
    """STREAM_HEADER, DATA and STREAM_TRAILER."""
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
    # Both are asked, so that both sizes that are needed come out of one call.
    if not all([header.has_room(sizes.cbHeader), trailer.has_room(sizes.cbTrailer)]):
        raise refusal(
            f"expected room for {sizes.cbHeader} bytes of header and {sizes.cbTrailer} of trailer",
            SecurityStatus.SEC_E_BUFFER_TOO_SMALL,
            hint="ask for SECPKG_ATTR_STREAM_SIZES again, or call ISC or ASC with empty input and send what it gives",
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
    # Input that was kept is not in the caller's memory, so its records are not either.
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
    """The DATA buffer."""
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


# A view that is open where an exception passes through lives as long as the exception, which is kept in the handle.


def _frame(memory: SecBuffer, tls: TLSSession) -> int:
    with memory.view as data:
        return record_end(data, max_fragment=tls.max_fragment)


def _open(memory: SecBuffer, size: int, tls: TLSSession) -> bytes:
    with memory.view as data:
        record = bytes(data[:size])
    plaintext = tls.read(record)
    if tls.output_size > _MOST_WAITING:
        raise TLSError(f"the peer's requests left {tls.output_size} bytes of answers waiting")
    return plaintext


def _hand_out(message: SecBufferDesc, record: memoryview, place: slice, *, extra: int) -> SecurityStatus:
    """Turn the four buffers into the parts of a record, the plaintext in its `place`, and what is behind it."""
    start, stop, _ = place.indices(len(record))
    header, data, trailer, rest = message.pBuffers
    header.become(SECBUFFER.STREAM_HEADER, memory=record[:start])
    data.become(SECBUFFER.DATA, memory=record[start:stop])
    trailer.become(SECBUFFER.STREAM_TRAILER, memory=record[stop:])
    rest.become(SECBUFFER.EXTRA if extra else SECBUFFER.EMPTY, extra)
    return SecurityStatus.SEC_E_OK

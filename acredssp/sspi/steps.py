"""InitializeSecurityContext (CredSSP) and AcceptSecurityContext (CredSSP).

The calling loop is the page's: call, send what is in the TOKEN buffer, receive, call again with [TOKEN, EMPTY], until
the status is neither SEC_I_CONTINUE_NEEDED nor SEC_E_INCOMPLETE_MESSAGE. What the EMPTY buffer becomes says what to do
with the input:

    MISSING   nothing was taken: give the same bytes again with `cbBuffer` more behind (SEC_E_INCOMPLETE_MESSAGE)
    EXTRA     the last `cbBuffer` bytes were not taken: give them again in front of what comes next
    EMPTY     all of it was taken

A token that does not fit the caller's memory is not lost: SEC_E_BUFFER_TOO_SMALL, and the same call again with a
larger buffer hands it out. The input of that call may have grown in the meantime, or be what comes behind the first
one's: nothing of either is lost. Less than the first call took is SEC_E_INVALID_PARAMETER, and changes nothing.

On a failure the TOKEN buffer holds what the peer should still be sent, where the caller asked for it (EXTENDED_ERROR).
Where that does not fit the failure is on the handle already (`error`), and the status of the call that hands it out.
"""

from typing import Final, TypeVar

from acredssp.core.context import StepResult
from acredssp.errors import CredSSPError, LocalProtocolError
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.buffers import SecBufferDesc
from acredssp.sspi.call import Call
from acredssp.sspi.context import AcceptorState, EstablishState, InitiatorState
from acredssp.sspi.first_call import hand_over, new_acceptor, new_initiator
from acredssp.sspi.flags import SECBUFFER, SECURITY_DREP
from acredssp.sspi.handles import (
    ContextAttributes,
    CredentialState,
    CredHandle,
    CtxtHandle,
    TimeStamp,
    Use,
    failure,
)
from acredssp.status import SecurityStatus

__all__ = ["AcceptSecurityContext", "InitializeSecurityContext"]

_CLIENT_HELLO: Final = b"\x16\x03"
_LENGTH_SIZE: Final = 4


# Names of their own for what every call needs: looking a member up in its enum takes longer than what is done with it.
_TOO_SMALL: Final = SecurityStatus.SEC_E_BUFFER_TOO_SMALL
_ESTABLISH: Final = Use.ESTABLISH.value
_DATA_REPRESENTATIONS: Final = frozenset(SECURITY_DREP)

_FAILURES: Final = (CredSSPError, MemoryError, OSError, ValueError)
"""What a first call may end with: `ssl` raises the last two where a context or a name makes no connection."""

_State = TypeVar("_State", bound=EstablishState)


async def InitializeSecurityContext(
    phCredential: CredHandle | None = None,
    phContext: CtxtHandle | None = None,
    pszTargetName: str | None = None,
    fContextReq: int = 0,
    Reserved1: int = 0,
    TargetDataRep: int = SECURITY_DREP.NATIVE,
    pInput: SecBufferDesc | None = None,
    Reserved2: int = 0,
    phNewContext: CtxtHandle | None = None,
    pOutput: SecBufferDesc | None = None,
    pfContextAttr: ContextAttributes | None = None,
    ptsExpiry: TimeStamp | None = None,
) -> SecurityStatus:
    """Take the client's next step.

    Args:
        phCredential: OUTBOUND credentials. After SEC_I_INCOMPLETE_CREDENTIALS another handle, whose certificate is
            then used, or the same one to go on without. A certificate of an authority that the server does not take
            is answered with SEC_I_INCOMPLETE_CREDENTIALS again. The other handle's trust and its `mutual_auth` count
            beside the first one's; who logs on, and what is delegated, stays as the first one says.
        phContext: None in the first call, the context after that.
        pszTargetName: Whom to reach, `TERMSRV/host`; counts in the first call.
        fContextReq: `ISC_REQ` flags; those of the first call count, but for ALLOCATE_MEMORY.
        Reserved1: 0.
        TargetDataRep: `SECURITY_DREP.NATIVE` or `.NETWORK`; no matter which.
        pInput: None in the first call (or PKG_PARAMS, CHANNEL_BINDINGS), then [TOKEN, EMPTY].
        Reserved2: 0.
        phNewContext: Receives the context in the first call.
        pOutput: [TOKEN], or [TOKEN, ALERT]: beside a failure ALERT has the level and the description of the alert that
            the token ends with (RFC 8446 6), two bytes; none where OpenSSL does not tell.
        pfContextAttr: Receives `ISC_RET` flags.
        ptsExpiry: Receives the expiry with SEC_E_OK, in local time: the end of Kerberos' ticket. NTLM has none, and
            until then it is not known: `TimeStamp.NEVER`.

    Returns:
        SEC_E_OK, SEC_I_CONTINUE_NEEDED, SEC_E_INCOMPLETE_MESSAGE, SEC_I_INCOMPLETE_CREDENTIALS,
        SEC_E_BUFFER_TOO_SMALL, or why it failed: `docs/sspi.md` lists every status with its cause.

    Raises:
        TypeError: A parameter has a wrong Python type; a buffer is none, or its memory was released. Nothing is lost.
    """
    if (
        (phCredential is not None and type(phCredential) is not CredHandle)
        or (phContext is not None and type(phContext) is not CtxtHandle)
        or (phNewContext is not None and type(phNewContext) is not CtxtHandle)
        or (pszTargetName is not None and type(pszTargetName) is not str)
        or not isinstance(TargetDataRep, int)
        or not isinstance(Reserved1, int)
        or not isinstance(Reserved2, int)
    ):
        _expect_types(phCredential, phContext, phNewContext, TargetDataRep, pszTargetName, Reserved1, Reserved2)
    call = Call(pInput, pOutput, pfContextAttr, ptsExpiry, fContextReq)
    try:
        if Reserved1 or Reserved2 or TargetDataRep not in _DATA_REPRESENTATIONS or call.unusual:
            _refuse_parameters(TargetDataRep, pInput, pOutput, Reserved1, Reserved2)
        if phContext is None:
            state = new_initiator(phCredential, pszTargetName, call)
            handle = hand_over(state, phNewContext)
        else:
            handle = phContext
            state = _existing(phContext, phNewContext, InitiatorState)
        return await _run(state, call, handle, phCredential)
    except _FAILURES as error:
        call.put_farewell(b"", b"")
        return failure(error, phContext or phNewContext, phCredential if phContext is None else None)


async def AcceptSecurityContext(
    phCredential: CredHandle | None = None,
    phContext: CtxtHandle | None = None,
    pInput: SecBufferDesc | None = None,
    fContextReq: int = 0,
    TargetDataRep: int = SECURITY_DREP.NATIVE,
    phNewContext: CtxtHandle | None = None,
    pOutput: SecBufferDesc | None = None,
    pfContextAttr: ContextAttributes | None = None,
    ptsExpiry: TimeStamp | None = None,
) -> SecurityStatus:
    """Take the server's next step.

    Args:
        phCredential: INBOUND credentials.
        phContext: None in the first call, the context after that.
        pInput: [TOKEN, EMPTY] with the client's bytes.
        fContextReq: `ASC_REQ` flags; those of the first call count, but for ALLOCATE_MEMORY.
        TargetDataRep: `SECURITY_DREP.NATIVE` or `.NETWORK`; no matter which.
        phNewContext: Receives the context in the first call.
        pOutput: [TOKEN] or [TOKEN, ALERT], as for a client; what is in TOKEN must be sent, whatever the status.
        pfContextAttr: Receives `ASC_RET` flags.
        ptsExpiry: Receives the expiry with SEC_E_OK, in local time: the end of Kerberos' ticket. NTLM has none, and
            until then it is not known: `TimeStamp.NEVER`.

    Returns:
        SEC_E_OK (the client's credentials came), SEC_I_CONTINUE_NEEDED, SEC_E_INCOMPLETE_MESSAGE,
        SEC_E_BUFFER_TOO_SMALL, or why it failed: `docs/sspi.md` lists every status with its cause.

    Raises:
        TypeError: A parameter has a wrong Python type; a buffer is none, or its memory was released. Nothing is lost.
    """
    if (
        (phCredential is not None and type(phCredential) is not CredHandle)
        or (phContext is not None and type(phContext) is not CtxtHandle)
        or (phNewContext is not None and type(phNewContext) is not CtxtHandle)
        or not isinstance(TargetDataRep, int)
    ):
        _expect_types(phCredential, phContext, phNewContext, TargetDataRep)
    call = Call(pInput, pOutput, pfContextAttr, ptsExpiry, fContextReq)
    try:
        if TargetDataRep not in _DATA_REPRESENTATIONS or call.unusual:
            _refuse_parameters(TargetDataRep, pInput, pOutput)
        if phContext is None:
            state = new_acceptor(phCredential, call)
            handle = hand_over(state, phNewContext)
        else:
            handle = phContext
            state = _existing(phContext, phNewContext, AcceptorState)
        return await _run(state, call, handle, phCredential)
    except _FAILURES as error:
        call.put_farewell(b"", b"")
        return failure(error, phContext or phNewContext, phCredential if phContext is None else None)


# --- one call ---


async def _run(
    state: EstablishState, call: Call, handle: CtxtHandle, phCredential: CredHandle | None
) -> SecurityStatus:
    """Take one step on a context that is held, answer what the engine asks, and fill what the caller gave."""
    try:
        if state.unfinished.unsent is not None:
            result = state.unfinished.repeat(call.input)
        else:
            try:
                credential = state.credential
                if (
                    (phCredential is None or phCredential.referent is credential)
                    and credential.alive
                    and not state.over
                    and state.choosing is None
                    and state.context.tls is not None
                ):
                    result = state.step(call.input)
                else:
                    result = _step(state, call, phCredential)
                if result.event is not None or state.unfinished.rest:
                    result = await state.answer(result, call.input)
            except LocalProtocolError:
                raise
            except Exception as error:  # noqa: BLE001 - the machine's or ours: whatever it is, nothing escapes
                return _end(state, call, handle, error)
            except BaseException:
                reason = "a call on the context was cut short"
                state.fail(CredSSPError(reason, security_status=SecurityStatus.SEC_E_INTERNAL_ERROR))
                raise
        status = call.hand_out(state, result)
    finally:
        state.in_use = 0  # this call excluded all others
    handle.error = None if status is not _TOO_SMALL else call.too_small()
    return status


def _end(state: EstablishState, call: Call, handle: CtxtHandle, error: Exception) -> SecurityStatus:
    """End the context; the caller gets what the peer should still be sent."""
    status = failure(error, handle)
    assert handle.error is not None
    state.fail(handle.error)
    if not state.tell_peer:
        call.put_farewell(b"", b"")
        return status
    token = state.context.last_token
    alert = state.context.alert if token == state.context.farewell else b""
    return status if call.put_farewell(token, alert) else _TOO_SMALL


def _step(state: EstablishState, call: Call, phCredential: CredHandle | None) -> StepResult:
    """Take a call that may be more, or less, than a step of the handshake with the credentials that began it."""
    if state.choosing is not None and not state.over:
        return _choose(state, call, phCredential)
    if phCredential is not None and (phCredential.referent is not state.credential or not state.credential.alive):
        _check_chosen(state, phCredential.state)
    if state.over:
        return _afterwards(state, call.input)
    if state.context.tls is None:
        _bind(state, call.buffers)
    return state.step(call.input)


def _choose(state: EstablishState, call: Call, phCredential: CredHandle | None) -> StepResult:
    assert isinstance(state, InitiatorState)
    chosen = phCredential.state if phCredential is not None else state.credential
    if chosen.client is None:
        raise refusal("the credentials are not OUTBOUND", SecurityStatus.SEC_E_NO_CREDENTIALS)
    certificate = None if chosen is state.credential else chosen.certificate_for(state.authorities)
    if certificate is None and chosen is not state.credential and chosen.certificate is not None:
        return state.ask_again(call.input)  # whoever brings a certificate must not go on without one unawares
    state.chosen = chosen
    return state.choose(certificate, call.input)


def _afterwards(state: EstablishState, data: bytes) -> StepResult:
    """Answer a call that comes after success or a shutdown."""
    state.unfinished.take_nothing()
    if state.shutdown:
        return StepResult(SecurityStatus.SEC_E_OK, state.close_notify())
    if not data and (output := state.answers()):
        return StepResult(SecurityStatus.SEC_E_OK, output)
    raise _again(data)


def _check_chosen(state: EstablishState, credential: CredentialState) -> None:
    if credential is not state.chosen:
        raise refusal("the context was made from other credentials", SecurityStatus.SEC_E_WRONG_CREDENTIAL_HANDLE)


def _again(data: bytes) -> LocalProtocolError:
    """A call after success asks for reauthentication (R93), which CredSSP does not have ([MS-CSSP] 3.1.5)."""
    if data.startswith(_CLIENT_HELLO):
        return refusal("credssp neither renegotiates nor reauthenticates", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)
    return refusal("the context is established: log on again with a new one", SecurityStatus.SEC_E_OUT_OF_SEQUENCE)


def _bind(state: EstablishState, buffers: SecBufferDesc | None) -> None:
    """Take the server's certificate of the bare shape: u32 length and DER, in a buffer READONLY | TOKEN."""
    if state.context.handshake.public_key or not state.started:
        return  # a server has its key from the beginning
    assert isinstance(state, InitiatorState)
    for buffer in buffers.pBuffers if buffers is not None else ():
        data = bytes(buffer)
        if buffer.readonly and buffer.type == SECBUFFER.TOKEN and len(data) > _LENGTH_SIZE:
            size = int.from_bytes(data[:_LENGTH_SIZE], "little")
            if size == len(data) - _LENGTH_SIZE:
                state.bind(data[_LENGTH_SIZE:])
                return
    raise refusal(
        "the bare shape needs the server's certificate, in a buffer SECBUFFER_READONLY | SECBUFFER_TOKEN",
        SecurityStatus.SEC_E_INVALID_TOKEN,
    )


# --- parameters ---


_NONE: Final = type(None)


def _expect_types(
    phCredential: object,
    phContext: object,
    phNewContext: object,
    TargetDataRep: object,
    pszTargetName: object = None,
    Reserved1: object = 0,
    Reserved2: object = 0,
) -> None:
    expect("phCredential", phCredential, CredHandle, _NONE)
    expect("phContext", phContext, CtxtHandle, _NONE)
    expect("phNewContext", phNewContext, CtxtHandle, _NONE)
    expect("TargetDataRep", TargetDataRep, int)
    expect("pszTargetName", pszTargetName, str, _NONE)
    expect("Reserved1", Reserved1, int)
    expect("Reserved2", Reserved2, int)


def _refuse_parameters(
    TargetDataRep: int, pInput: SecBufferDesc | None, pOutput: SecBufferDesc | None, *reserved: int
) -> None:
    if any(reserved):
        raise refusal("Reserved1 and Reserved2: expected 0", SecurityStatus.SEC_E_INVALID_PARAMETER)
    if TargetDataRep not in _DATA_REPRESENTATIONS:
        raise refusal(
            f"TargetDataRep: expected SECURITY_NATIVE_DREP or SECURITY_NETWORK_DREP, got {TargetDataRep:#x}",
            SecurityStatus.SEC_E_INVALID_PARAMETER,
        )
    for buffers in (pInput, pOutput):
        if buffers is not None:
            buffers.check()


def _existing(phContext: CtxtHandle, phNewContext: CtxtHandle | None, kind: type[_State]) -> _State:
    """Return the state of an earlier call's context, which is held."""
    state = phContext.referent
    if not isinstance(state, kind):
        _ = phContext.state  # raises where it stands for nothing
        raise refusal("the context belongs to the other side's function", SecurityStatus.SEC_E_INVALID_HANDLE)
    state.hold(_ESTABLISH)
    if phNewContext is not None and phNewContext.referent is not state:
        phNewContext.assign(state)
    return state

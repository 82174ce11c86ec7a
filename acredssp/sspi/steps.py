"""InitializeSecurityContext (CredSSP) and AcceptSecurityContext (CredSSP).

The calling loop is that of Microsoft's page: call, send the content of the TOKEN buffer, receive, and call again with
[TOKEN, EMPTY], until the status is neither SEC_I_CONTINUE_NEEDED nor SEC_E_INCOMPLETE_MESSAGE. After each call, the
type of the EMPTY buffer says what to do with the input:

    MISSING   nothing was taken: give the same bytes again, followed by `cbBuffer` more (SEC_E_INCOMPLETE_MESSAGE)
    EXTRA     the last `cbBuffer` bytes were not taken: give them again, in front of the next bytes
    EMPTY     all of the input was taken

A token that does not fit into the caller's memory is not lost: the status is SEC_E_BUFFER_TOO_SMALL, and the same call
with a larger buffer gives the token out. The input of that call may have grown in the meantime, or be the bytes that
follow the first call's input: nothing of either is lost. An input with less than the first call took is refused with
SEC_E_INVALID_PARAMETER, and changes nothing.

After a failure, the TOKEN buffer holds the bytes that should still be sent to the peer, if the caller asked for them
(EXTENDED_ERROR). If they do not fit, the handle already has the failure (`error`), and the call that gives them out
returns its status.
"""

from typing import Final, TypeVar

from acredssp.core.results import StepResult
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


# Every call needs these: looking up a member of an enum takes longer than using it.
_TOO_SMALL: Final = SecurityStatus.SEC_E_BUFFER_TOO_SMALL
_ESTABLISH: Final = Use.ESTABLISH.value
_DATA_REPRESENTATIONS: Final = frozenset(SECURITY_DREP)

_FAILURES: Final = (CredSSPError, MemoryError, OSError, ValueError)
"""The exceptions that a first call may end with: `ssl` raises the last two if a context or a name is of no use."""

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
        phCredential: OUTBOUND credentials. After SEC_I_INCOMPLETE_CREDENTIALS, give another handle, whose certificate
            is then used, or the same handle to go on without a certificate. If the server does not accept the
            certificate's authority, the status is SEC_I_INCOMPLETE_CREDENTIALS again. The other handle's trust and
            `mutual_auth` hold beside the first one's; the first handle still says who logs on and what is delegated.
        phContext: None in the first call, the context after that.
        pszTargetName: The target, `TERMSRV/host`; only that of the first call counts.
        fContextReq: `ISC_REQ` flags; only those of the first call count, except ALLOCATE_MEMORY.
        Reserved1: 0.
        TargetDataRep: `SECURITY_DREP.NATIVE` or `.NETWORK`; it makes no difference.
        pInput: None in the first call (or PKG_PARAMS, CHANNEL_BINDINGS), then [TOKEN, EMPTY].
        Reserved2: 0.
        phNewContext: Receives the context in the first call.
        pOutput: [TOKEN], or [TOKEN, ALERT]. After a failure, ALERT has the two bytes, level and description, of the
            alert at the end of the token (RFC 8446 6); it is empty if OpenSSL does not tell them.
        pfContextAttr: Receives `ISC_RET` flags.
        ptsExpiry: Receives the expiry in local time with SEC_E_OK: the end of the Kerberos ticket. It is
            `TimeStamp.NEVER` for NTLM, which has no expiry, and before SEC_E_OK, when the expiry is unknown.

    Returns:
        SEC_E_OK, SEC_I_CONTINUE_NEEDED, SEC_E_INCOMPLETE_MESSAGE, SEC_I_INCOMPLETE_CREDENTIALS,
        SEC_E_BUFFER_TOO_SMALL, or the status of a failure: `docs/sspi.md` lists every status with its cause.

    Raises:
        TypeError: A parameter has a wrong Python type, a buffer is no `SecBuffer`, or its memory was released. Nothing
            is lost.
    """
    parameters = (
        phCredential, phContext, phNewContext, TargetDataRep, pszTargetName, Reserved1, Reserved2, pInput, pOutput,
        pfContextAttr, ptsExpiry, fContextReq,
    )  # fmt: skip
    if tuple(map(type, parameters)) not in _types_of_calls:
        _expect_types(parameters)
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
        fContextReq: `ASC_REQ` flags; only those of the first call count, except ALLOCATE_MEMORY.
        TargetDataRep: `SECURITY_DREP.NATIVE` or `.NETWORK`; it makes no difference.
        phNewContext: Receives the context in the first call.
        pOutput: [TOKEN] or [TOKEN, ALERT], as for a client. Send the content of TOKEN, whatever the status is.
        pfContextAttr: Receives `ASC_RET` flags.
        ptsExpiry: Receives the expiry in local time with SEC_E_OK: the end of the Kerberos ticket. It is
            `TimeStamp.NEVER` for NTLM, which has no expiry, and before SEC_E_OK, when the expiry is unknown.

    Returns:
        SEC_E_OK (the client's credentials came), SEC_I_CONTINUE_NEEDED, SEC_E_INCOMPLETE_MESSAGE,
        SEC_E_BUFFER_TOO_SMALL, or the status of a failure: `docs/sspi.md` lists every status with its cause.

    Raises:
        TypeError: A parameter has a wrong Python type, a buffer is no `SecBuffer`, or its memory was released. Nothing
            is lost.
    """
    parameters = (
        phCredential, phContext, phNewContext, TargetDataRep, None, 0, 0, pInput, pOutput, pfContextAttr, ptsExpiry,
        fContextReq,
    )  # fmt: skip
    if tuple(map(type, parameters)) not in _types_of_calls:
        _expect_types(parameters)
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
    """Take one step on a context that is held, answer the engine's events, and fill the caller's buffers."""
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
    """End the context, and give the caller the bytes that should still be sent to the peer."""
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
    """Handle a call that is not simply a step of the handshake with the credentials of the first call."""
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
    """Return the refusal of a call after success: it asks for reauthentication (R93), which CredSSP does not have."""
    if data.startswith(_CLIENT_HELLO):
        return refusal("credssp neither renegotiates nor reauthenticates", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)
    return refusal("the context is established: log on again with a new one", SecurityStatus.SEC_E_OUT_OF_SEQUENCE)


def _bind(state: EstablishState, buffers: SecBufferDesc | None) -> None:
    """In the bare shape, take the server's certificate: a u32 length and DER, in a buffer READONLY | TOKEN."""
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
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "phCredential": (CredHandle, _NONE),
    "phContext": (CtxtHandle, _NONE),
    "phNewContext": (CtxtHandle, _NONE),
    "TargetDataRep": (int,),
    "pszTargetName": (str, _NONE),
    "Reserved1": (int,),
    "Reserved2": (int,),
    "pInput": (SecBufferDesc, _NONE),
    "pOutput": (SecBufferDesc, _NONE),
    "pfContextAttr": (ContextAttributes, _NONE),
    "ptsExpiry": (TimeStamp, _NONE),
    "fContextReq": (int,),
}
_types_of_calls: Final[set[tuple[type, ...]]] = set()
"""The types of the parameters of calls that were taken. A program's calls have few, and one look-up knows them."""


def _expect_types(parameters: tuple[object, ...]) -> None:
    """Check the types of a call's parameters, which are in the order of `_TYPES`.

    Raises:
        TypeError: A parameter has a wrong type.
    """
    for (name, types), value in zip(_TYPES.items(), parameters, strict=True):
        expect(name, value, *types)
    _types_of_calls.add(tuple(map(type, parameters)))


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

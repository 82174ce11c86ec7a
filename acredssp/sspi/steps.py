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

from typing import Final

from acredssp.core.results import StepResult
from acredssp.errors import CredSSPError, LocalProtocolError
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.buffers import SecBufferDesc
from acredssp.sspi.call import Call, stop
from acredssp.sspi.context import AcceptorState, EstablishState, InitiatorState
from acredssp.sspi.first_call import expect_handle, make_context
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
from acredssp.sspi.usual import DATA_REPRESENTATIONS, take_usual
from acredssp.status import SecurityStatus

__all__ = ["AcceptSecurityContext", "InitializeSecurityContext"]

_CLIENT_HELLO: Final = b"\x16\x03"
_LENGTH_SIZE: Final = 4


# Every call needs these: looking up a member of an enum takes longer than using it.
_TOO_SMALL: Final = SecurityStatus.SEC_E_BUFFER_TOO_SMALL
_ESTABLISH: Final = Use.ESTABLISH.value

_FAILURES: Final = (CredSSPError, MemoryError, OSError, ValueError)
"""The exceptions that a first call may end with: `ssl` raises the last two if a context or a name is of no use."""


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
    try:
        outcome = None if Reserved1 or Reserved2 else take_usual(
            InitiatorState, phCredential, phContext, phNewContext, pszTargetName, fContextReq, TargetDataRep, pInput,
            pOutput, pfContextAttr, ptsExpiry,
        )  # fmt: skip
        return outcome if isinstance(outcome, SecurityStatus) else await _take(InitiatorState, parameters, outcome)
    except _FAILURES as error:
        return _refused(parameters, error)


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
    try:
        outcome = take_usual(
            AcceptorState, phCredential, phContext, phNewContext, None, fContextReq, TargetDataRep, pInput, pOutput,
            pfContextAttr, ptsExpiry,
        )  # fmt: skip
        return outcome if isinstance(outcome, SecurityStatus) else await _take(AcceptorState, parameters, outcome)
    except _FAILURES as error:
        return _refused(parameters, error)


# --- one call, which is not of the usual kind or has to wait ---

_Parameters = tuple[
    CredHandle | None, CtxtHandle | None, CtxtHandle | None, int, str | None, int, int, SecBufferDesc | None,
    SecBufferDesc | None, ContextAttributes | None, TimeStamp | None, int,
]  # fmt: skip
"""The parameters of a call, in the order of `_TYPES`."""


async def _take(
    kind: type[InitiatorState | AcceptorState], parameters: _Parameters, call: Call | None
) -> SecurityStatus:
    """Make a call of any kind.

    Args:
        kind: The state of the function's contexts.
        parameters: The parameters of the call.
        call: The call, if `take_usual` has made its step and holds the context; None if not.
    """
    credential, context, new_context, drep, target, reserved1, reserved2, *_, flags = parameters
    handle = context or new_context
    if call is not None:
        assert handle is not None
        assert isinstance(handle.referent, EstablishState)
        return await _run(handle.referent, call, handle, credential)
    call = _call_of(parameters)
    _refuse_parameters(drep, call, reserved1, reserved2)
    if context is None:
        referent: object = make_context(kind, credential, target, flags, call.input, call)
        handle = expect_handle(new_context)
    else:
        handle, referent = context, context.referent
    if type(referent) is not kind:
        _ = handle.state  # raises where it stands for nothing
        raise refusal("the context belongs to the other side's function", SecurityStatus.SEC_E_INVALID_HANDLE)
    referent.hold(_ESTABLISH)
    if new_context is not None:
        new_context.assign(referent)
    return await _run(referent, call, handle, credential)


def _refused(parameters: _Parameters, error: Exception) -> SecurityStatus:
    """Return the status of a call that is refused, and note the error on its handle."""
    credential, context, new_context, *_ = parameters
    _call_of(parameters).put_farewell(b"", b"")
    return failure(error, context or new_context, credential if context is None else None)


def _call_of(parameters: _Parameters) -> Call:
    *_, inputs, outputs, attributes, expiry, flags = parameters
    return Call(inputs, outputs, attributes, expiry, flags)


async def _run(
    state: EstablishState, call: Call, handle: CtxtHandle, phCredential: CredHandle | None
) -> SecurityStatus:
    """Take one step on a context that is held, answer the engine's events, and fill the caller's buffers."""
    try:
        result = call.result
        if result is None and state.unfinished.unsent is not None:
            result = state.unfinished.repeat(call.input)
        else:
            try:
                if result is None:
                    result = _step(state, call, phCredential)
                if result.event is not None or state.unfinished.rest:
                    result = await state.answer(result, call.input)
            except BaseException as error:  # noqa: BLE001 - whatever it is, nothing but a misuse escapes
                return stop(state, call, handle, error)
        status = call.hand_out(state, result)
    finally:
        state.in_use = 0  # this call excluded all others
    handle.error = None if status is not _TOO_SMALL else call.too_small()
    return status


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


def _refuse_parameters(drep: int, call: Call, reserved1: int, reserved2: int) -> None:
    if reserved1 or reserved2:
        raise refusal("Reserved1 and Reserved2: expected 0", SecurityStatus.SEC_E_INVALID_PARAMETER)
    if drep not in DATA_REPRESENTATIONS:
        raise refusal(
            f"TargetDataRep: expected SECURITY_NATIVE_DREP or SECURITY_NETWORK_DREP, got {drep:#x}",
            SecurityStatus.SEC_E_INVALID_PARAMETER,
        )
    call.check()

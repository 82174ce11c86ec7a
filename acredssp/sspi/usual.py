"""The usual call of InitializeSecurityContext or AcceptSecurityContext, on the shortest way.

A usual call is one of the loop on Microsoft's page: the buffers are [TOKEN, EMPTY] and, for output, [TOKEN] in memory
that the package allocates; the call before has left nothing to it; the credentials are those of the first call. Nearly
all calls are usual, and such a call is one step of the engine. So this module looks at each buffer once, and makes no
object of its own.

`steps` calls this module first, and makes every other call itself. What a call means is said there.
"""

from typing import Final

from acredssp.core.results import StepResult
from acredssp.sspi.buffers import SecBuffer, SecBufferDesc
from acredssp.sspi.call import Call, fill_facts, stop
from acredssp.sspi.constants import CREDSSP_NAME, SECBUFFER_MISSING, SECBUFFER_TOKEN
from acredssp.sspi.context import AcceptorState, InitiatorState
from acredssp.sspi.first_call import expect_handle, make_context
from acredssp.sspi.flags import ISC_REQ, SECURITY_DREP
from acredssp.sspi.handles import ContextAttributes, CredHandle, CtxtHandle, TimeStamp
from acredssp.status import SecurityStatus

__all__ = ["DATA_REPRESENTATIONS", "take_usual"]

DATA_REPRESENTATIONS: Final = frozenset(SECURITY_DREP)

# Every call needs these: looking up a member of an enum takes longer than using it, and an operator of an IntFlag is a
# Python call.
_OK: Final = SecurityStatus.SEC_E_OK
_CONTINUE: Final = SecurityStatus.SEC_I_CONTINUE_NEEDED
_INCOMPLETE: Final = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
_ALLOCATE_MEMORY: Final = ISC_REQ.ALLOCATE_MEMORY.value  # the same for ISC and ASC

_NO_INPUT: Final = (SecBuffer(SECBUFFER_TOKEN, b""), SecBuffer())
"""The buffers of an empty input. A client's first call has no input, and is treated as if it had these buffers."""


def take_usual(
    kind: type[InitiatorState | AcceptorState],
    phCredential: CredHandle | None,
    phContext: CtxtHandle | None,
    phNewContext: CtxtHandle | None,
    pszTargetName: str | None,
    fContextReq: int,
    TargetDataRep: int,
    pInput: SecBufferDesc | None,
    pOutput: SecBufferDesc | None,
    pfContextAttr: ContextAttributes | None,
    ptsExpiry: TimeStamp | None,
) -> SecurityStatus | Call | None:
    """Make a usual call.

    Returns:
        The status; the call with the `result` of its step, if an answer takes time or input is left: the context is
        then held; or None, with nothing changed, for a call that is not usual.

    Raises:
        LocalProtocolError: The call is refused, and has changed nothing.
        OSError: The context or the name is of no use to TLS.
        ValueError: As for OSError.
    """
    data = _input(pInput, pOutput)
    flags = int(fContextReq)
    if data is None or not flags & _ALLOCATE_MEMORY or TargetDataRep not in DATA_REPRESENTATIONS:
        return None
    if phContext is not None:
        handle, state = phContext, phContext.referent
    elif phCredential is None or phCredential.state.package == CREDSSP_NAME:
        state = make_context(kind, phCredential, pszTargetName, flags, data)
        handle = expect_handle(phNewContext)
    else:
        return None  # the bare shape
    if type(state) is not kind or not state.hold_for_step(phCredential, phNewContext):
        return None
    try:
        result = state.context.step(data)
        if result.event is not None or result.extra:
            result = state.go_on(result, data)
            if not state.usual:
                return Call(pInput, pOutput, pfContextAttr, ptsExpiry, flags, result)
    except BaseException as error:  # noqa: BLE001 - whatever it is, nothing but a misuse escapes
        data = b""  # the error keeps this function's variables
        return _stop(state, handle, error, (pInput, pOutput, pfContextAttr, ptsExpiry, flags))
    try:
        status = result.status
        if status is not _CONTINUE:
            _note(state, result, pInput)
        pOutput.pBuffers[0].give(result.output)  # type: ignore[union-attr] # `_input` has seen it
        if pfContextAttr is not None or ptsExpiry is not None:
            fill_facts(state, pfContextAttr, ptsExpiry, allocated=True)
        handle.error = None
        return status
    finally:
        state.in_use = 0  # this call excluded all others


def _input(pInput: SecBufferDesc | None, pOutput: SecBufferDesc | None) -> bytes | None:
    """Return the peer's bytes, of which a client's first call has none; None if the buffers are not the usual ones."""
    if pOutput is None or pOutput.ulVersion:
        return None
    try:
        (output,) = pOutput.pBuffers
        token, report = pInput.pBuffers if pInput is not None else _NO_INPUT
    except ValueError:  # more buffers, or fewer
        return None
    if type(output) is not SecBuffer or output.BufferType != SECBUFFER_TOKEN or output.cbBuffer < 0:
        return None
    if type(token) is not SecBuffer or token.BufferType != SECBUFFER_TOKEN or type(report) is not SecBuffer:
        return None
    if report.BufferType or report.cbBuffer or (pInput is not None and pInput.ulVersion):
        return None
    memory = token.pvBuffer
    return memory if type(memory) is bytes and len(memory) == token.cbBuffer else None


def _note(state: InitiatorState | AcceptorState, result: StepResult, pInput: SecBufferDesc | None) -> None:
    """If the handshake has succeeded, note that in the state. If bytes are missing, write their number to the input."""
    if result.status is _OK:
        state.note_established()
    elif result.status is _INCOMPLETE and pInput is not None:
        pInput.pBuffers[1].become(SECBUFFER_MISSING, result.missing)


def _stop(
    state: InitiatorState | AcceptorState,
    handle: CtxtHandle,
    error: BaseException,
    parameters: tuple[SecBufferDesc | None, SecBufferDesc | None, ContextAttributes | None, TimeStamp | None, int],
) -> SecurityStatus:
    """End a call whose step has failed, as `stop` does, and release the context."""
    state.usual = False
    try:
        return stop(state, Call(*parameters), handle, error)
    finally:
        state.in_use = 0

"""The end of a context: ApplyControlToken announces it to the peer, and DeleteSecurityContext frees the context."""

import struct
from typing import Final

from acredssp.errors import CredSSPError
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.buffers import SecBufferDesc
from acredssp.sspi.context import EstablishState
from acredssp.sspi.flags import SCHANNEL, SECBUFFER
from acredssp.sspi.handles import ContextState, CtxtHandle, Use, failure
from acredssp.status import SecurityStatus

__all__ = ["ApplyControlToken", "DeleteSecurityContext"]

_CONTROL: Final = struct.Struct("<L")


async def ApplyControlToken(phContext: CtxtHandle, pInput: SecBufferDesc) -> SecurityStatus:
    """Announce to the peer that this side sends nothing more.

    After that, InitializeSecurityContext or AcceptSecurityContext with empty input gives the close_notify to send.
    EncryptMessage is refused from then on. DecryptMessage still works, until the peer's own close_notify.

    Args:
        phContext: A context, established or not.
        pInput: A TOKEN buffer with a DWORD: SCHANNEL_SHUTDOWN.

    Returns:
        SEC_E_OK, SEC_E_INVALID_HANDLE, SEC_E_INVALID_TOKEN (there is no TOKEN buffer, or no DWORD in it),
        SEC_E_UNSUPPORTED_FUNCTION for SCHANNEL_RENEGOTIATE, SCHANNEL_ALERT, SCHANNEL_SESSION and anything else, since
        CredSSP does not renegotiate, and OpenSSL alone sends alerts.

    Raises:
        TypeError: A parameter has a wrong Python type.
    """
    expect("phContext", phContext, CtxtHandle)
    expect("pInput", pInput, SecBufferDesc)
    try:
        state = phContext.state
        state.hold(Use.ENCRYPT)
        try:
            _apply(_control(pInput), state)
        finally:
            state.release(Use.ENCRYPT)
    except CredSSPError as error:
        return failure(error, phContext)
    phContext.error = None
    return SecurityStatus.SEC_E_OK


async def DeleteSecurityContext(phContext: CtxtHandle) -> SecurityStatus:
    """Delete a context in any state. The engine, TLS and the delegated credentials are dropped, and nothing is sent.

    Every handle of the context is invalid afterwards. Buffers that calls have filled stay valid; FreeContextBuffer
    takes them back.

    Returns:
        SEC_E_OK, also if the context was deleted before; SEC_E_INVALID_HANDLE for a handle that was never filled, and
        while a call on the context is in flight.

    Raises:
        TypeError: `phContext` is no context handle.
    """
    expect("phContext", phContext, CtxtHandle)
    try:
        state = phContext.state
        state.hold(Use.ESTABLISH)
        try:
            state.dispose()
        finally:
            state.release(Use.ESTABLISH)
    except CredSSPError as error:
        if not phContext.deleted:
            return failure(error, phContext)
    phContext.error = None
    return SecurityStatus.SEC_E_OK


def _apply(control: int, state: ContextState) -> None:
    if control != SCHANNEL.SHUTDOWN or not isinstance(state, EstablishState):
        raise refusal(
            f"expected the control token SCHANNEL_SHUTDOWN ({SCHANNEL.SHUTDOWN:d}), got {control}",
            SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
        )
    state.shutdown = state.over = True


def _control(buffers: SecBufferDesc) -> int:
    buffers.check()
    token = buffers.find(SECBUFFER.TOKEN)
    data = bytes(token) if token is not None else b""
    if len(data) != _CONTROL.size:
        raise refusal(
            f"expected a TOKEN buffer with a DWORD of {_CONTROL.size} bytes, got {len(data)}",
            SecurityStatus.SEC_E_INVALID_TOKEN,
        )
    return int(_CONTROL.unpack(data)[0])

"""The buffers and out-parameters of one call of InitializeSecurityContext or AcceptSecurityContext.

The buffers are looked through once at the beginning, and filled once the step is made. The text of
`acredssp.sspi.steps` says what the buffers mean to the caller.

`steps` calls this module. `first_call` reads from it what comes beside the first call's token.
"""

from typing import Final

from acredssp.core.results import StepResult
from acredssp.errors import CredSSPError, LocalProtocolError
from acredssp.sspi.arguments import refusal
from acredssp.sspi.buffers import SecBuffer, SecBufferDesc
from acredssp.sspi.constants import SECBUFFER_EMPTY, SECBUFFER_EXTRA, SECBUFFER_MISSING, SECBUFFER_TOKEN
from acredssp.sspi.context import EstablishState
from acredssp.sspi.flags import ISC_REQ, SECBUFFER
from acredssp.sspi.handles import ContextAttributes, CtxtHandle, TimeStamp, failure
from acredssp.status import SecurityStatus

__all__ = ["Call", "fill_facts", "stop"]

_MAKE_ROOM: Final = "call again with the same input and a pvBuffer of the size in cbBuffer, or ask for ALLOCATE_MEMORY"

# This is a plain integer: an operator of an IntFlag is a Python call, and costs some ten times as much.
_ALLOCATE_MEMORY: Final = ISC_REQ.ALLOCATE_MEMORY.value  # the same for ISC and ASC

# Every call needs these statuses, and looking up a member of an enum takes longer than comparing it.
_INCOMPLETE: Final = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
_TOO_SMALL: Final = SecurityStatus.SEC_E_BUFFER_TOO_SMALL


class Call:
    """The buffers and out-parameters of one call.

    Raises:
        TypeError: A buffer is no `SecBuffer`, or its memory was released.
    """

    __slots__ = (
        "_allocate", "_attributes", "_expiry", "_outputs", "_spare", "_token", "buffers", "input", "others", "result",
    )  # fmt: skip

    def __init__(
        self,
        pInput: SecBufferDesc | None,
        pOutput: SecBufferDesc | None,
        pfContextAttr: ContextAttributes | None,
        ptsExpiry: TimeStamp | None,
        fContextReq: int,
        result: StepResult | None = None,
    ) -> None:
        self.result = result
        """The result of the step; None until the step has been made."""
        self._allocate = int(fContextReq) & _ALLOCATE_MEMORY != 0
        self._attributes = pfContextAttr
        self._expiry = ptsExpiry
        self._outputs = pOutput
        self.buffers = pInput
        self.input = b""
        """The peer's bytes; empty for none."""
        self.others = False
        """Whether the input has more buffers than the peer's bytes and room for a report."""
        self._token: SecBuffer | None = None
        self._spare: SecBuffer | None = None
        """The buffer in which bytes that were not taken are reported; None without one."""
        if pOutput is not None:
            pOutput.expect_buffers()
            self._token = pOutput.find(SECBUFFER_TOKEN)
        if pInput is not None:
            pInput.expect_buffers()
            self._look_through(pInput.pBuffers)

    def _look_through(self, buffers: list[SecBuffer]) -> None:
        tokens = []
        for buffer in buffers:
            if not buffer.spare:
                buffer.view.release()  # TypeError before anything is taken
            if buffer.type == SECBUFFER_TOKEN:
                tokens.append(buffer)
                self.others = self.others or buffer.readonly
            elif not buffer.spare:
                self.others = True
            elif self._spare is None:
                self._spare = buffer
        if tokens:
            # In the bare shape, a certificate is a TOKEN too, with the attribute READONLY. Buffers with attributes come
            # last.
            self.input = bytes(min(tokens, key=lambda token: (token.readonly, token.BufferType != SECBUFFER_TOKEN)))

    def check(self) -> None:
        """Refuse descriptors of another version, and buffers with a negative count; see `SecBufferDesc.check`."""
        for buffers in (self.buffers, self._outputs):
            if buffers is not None:
                buffers.check()

    def find(self, buffer_type: SECBUFFER) -> SecBuffer | None:
        """Return the first input buffer of a type other than the usual two; None if there is none."""
        return self.buffers.find(buffer_type) if self.others and self.buffers is not None else None

    def hand_out(self, state: EstablishState, result: StepResult) -> SecurityStatus:
        """Fill the caller's buffers and return the status. After SEC_E_BUFFER_TOO_SMALL, a repeated call fills them.

        Raises:
            TypeError: The token's memory cannot be written. A repeated call fills the buffers.
        """
        output, token = result.output, self._token
        try:
            fits = not output if token is None else token.put(output, allocate=self._allocate) is not _TOO_SMALL
        except TypeError:
            state.unfinished.keep(result, self.input)
            raise
        if not fits:
            state.unfinished.keep(result, self.input)
            return _TOO_SMALL
        unfinished = state.unfinished
        unfinished.unsent = None
        status = result.status
        if status is _INCOMPLETE:
            self._report(SECBUFFER_MISSING, result.missing)
        elif self.buffers is not None:
            if unfinished.rest or unfinished.size != len(self.input):
                count = unfinished.give_back(self.input, reported=self._spare is not None)
                self._report(SECBUFFER_EXTRA if count else SECBUFFER_EMPTY, count)
            else:
                unfinished.surplus = b""
                if self._spare is not None and self._spare.BufferType:  # an EMPTY buffer need not become EMPTY again
                    self._report(SECBUFFER_EMPTY, 0)
        state.usual = not state.has_unfinished
        fill_facts(state, self._attributes, self._expiry, allocated=self._allocate)
        return status

    def too_small(self) -> LocalProtocolError:
        """Return the error that tells the caller how many bytes the token needs in `pOutput`."""
        needed = f"of {self._token.cbBuffer} bytes" if self._token is not None else "in a TOKEN buffer"
        return refusal(f"pOutput: expected room for a token {needed}, got less", _TOO_SMALL, hint=_MAKE_ROOM)

    def put_farewell(self, token: bytes, alert: bytes) -> bool:
        """Give the caller the bytes that should still be sent to the peer after a failure, and describe their alert.

        Returns:
            Whether the caller's buffers have enough room.
        """
        described = self._outputs.find(SECBUFFER.ALERT) if self._outputs is not None else None
        pairs = [(buffer, data) for buffer, data in ((self._token, token), (described, alert)) if buffer is not None]
        outcomes = [buffer.put(data, allocate=self._allocate) for buffer, data in pairs]  # put both: report both sizes
        return _TOO_SMALL not in outcomes

    def _report(self, buffer_type: SECBUFFER, count: int) -> None:
        if self._spare is not None:
            self._spare.become(buffer_type, count)


def fill_facts(
    state: EstablishState, attributes: ContextAttributes | None, expiry: TimeStamp | None, *, allocated: bool
) -> None:
    """Fill the out-parameters of a call that has succeeded."""
    if attributes is not None:
        attributes.flags = state.attributes(allocated=allocated)
    if expiry is not None:
        expiry.QuadPart = state.expiry.QuadPart if state.established else TimeStamp.NEVER


def stop(state: EstablishState, call: Call, handle: CtxtHandle, error: BaseException) -> SecurityStatus:
    """Return the status of a call whose step has failed, and give the caller the bytes that tell the peer.

    Raises:
        BaseException: `error` is a misuse, which changes nothing, or asks for the end of the task or of the program.
    """
    if isinstance(error, LocalProtocolError):
        raise error
    if not isinstance(error, Exception):
        reason = "a call on the context was cut short"
        state.fail(CredSSPError(reason, security_status=SecurityStatus.SEC_E_INTERNAL_ERROR))
        raise error
    status = failure(error, handle)  # the error may also be the machine's or ours: whatever it is, it does not escape
    assert handle.error is not None
    state.fail(handle.error)
    if not state.tell_peer:
        call.put_farewell(b"", b"")
        return status
    token = state.context.last_token
    alert = state.context.alert if token == state.context.farewell else b""
    return status if call.put_farewell(token, alert) else _TOO_SMALL

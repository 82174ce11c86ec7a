"""The buffers and out-parameters of one call of InitializeSecurityContext or AcceptSecurityContext.

The buffers are looked through once at the beginning, and filled once the step is made. The text of
`acredssp.sspi.steps` says what the buffers mean to the caller.

`steps` calls this module. `first_call` reads from it what comes beside the first call's token.
"""

from typing import Final

from acredssp.core.results import StepResult
from acredssp.errors import LocalProtocolError
from acredssp.sspi.arguments import refusal
from acredssp.sspi.buffers import SecBuffer, SecBufferDesc
from acredssp.sspi.constants import SECBUFFER_EMPTY, SECBUFFER_EXTRA, SECBUFFER_MISSING, SECBUFFER_TOKEN
from acredssp.sspi.context import EstablishState
from acredssp.sspi.flags import ISC_REQ, SECBUFFER
from acredssp.sspi.handles import ContextAttributes, TimeStamp
from acredssp.status import SecurityStatus

__all__ = ["Call"]

_MAKE_ROOM: Final = "call again with the same input and a pvBuffer of the size in cbBuffer, or ask for ALLOCATE_MEMORY"

# This is a plain integer: an operator of an IntFlag is a Python call, and costs some ten times as much.
_ALLOCATE_MEMORY: Final = ISC_REQ.ALLOCATE_MEMORY.value  # the same for ISC and ASC

# Every call needs these statuses, and looking up a member of an enum takes longer than comparing it.
_INCOMPLETE: Final = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
_TOO_SMALL: Final = SecurityStatus.SEC_E_BUFFER_TOO_SMALL


class Call:
    """The buffers and out-parameters of one call."""

    __slots__ = (
        "_allocate", "_attributes", "_expiry", "_outputs", "_spare", "_token", "buffers", "flags", "input", "others",
        "unusual",
    )  # fmt: skip

    def __init__(
        self,
        pInput: SecBufferDesc | None,
        pOutput: SecBufferDesc | None,
        pfContextAttr: ContextAttributes | None,
        ptsExpiry: TimeStamp | None,
        fContextReq: int,
    ) -> None:
        self.flags = flags = int(fContextReq)
        self._allocate = flags & _ALLOCATE_MEMORY != 0
        self._attributes = pfContextAttr
        self._expiry = ptsExpiry
        self._outputs = pOutput
        self.buffers = pInput
        self.input = b""
        """The peer's bytes; empty for none."""
        self.unusual = False
        """Whether the descriptors have to be checked, since they may have to be refused with a status."""
        self.others = False
        """Whether the input has more buffers than the peer's bytes and room for a report."""
        self._token: SecBuffer | None = None
        self._spare: SecBuffer | None = None
        """The buffer in which bytes that were not taken are reported; None without one."""
        # The loop of Microsoft's page gives [TOKEN] and [TOKEN, EMPTY], which are taken on a fast path. Other buffers
        # are looked through.
        if pOutput is not None:
            outputs = pOutput.pBuffers
            if (
                len(outputs) == 1
                and type(token := outputs[0]) is SecBuffer
                and token.BufferType == SECBUFFER_TOKEN
                and token.cbBuffer >= 0
                and not pOutput.ulVersion
            ):
                self._token = token
            else:
                self.unusual = True
                pOutput.expect_buffers()
                self._token = pOutput.find(SECBUFFER_TOKEN)
        if pInput is not None:
            inputs = pInput.pBuffers
            if (
                len(inputs) == 2
                and type(token := inputs[0]) is SecBuffer
                and type(spare := inputs[1]) is SecBuffer
                and token.BufferType == SECBUFFER_TOKEN
                and not spare.BufferType
                and token.cbBuffer >= 0 <= spare.cbBuffer
                and not pInput.ulVersion
            ):
                memory = token.pvBuffer
                # bytes() of a buffer is a Python call, which takes longer than this test.
                self.input = memory if type(memory) is bytes and len(memory) == token.cbBuffer else bytes(token)
                self._spare = spare
            else:
                self.unusual = True
                pInput.expect_buffers()
                self._look_through(inputs)

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
        if self._attributes is not None:
            self._attributes.flags = state.attributes(allocated=self._allocate)
        if self._expiry is not None:
            self._expiry.QuadPart = state.expiry.QuadPart if state.established else TimeStamp.NEVER
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

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

import dataclasses
import functools
from typing import Final, TypeVar

from acredssp.core.client_certificate import WatchingTLSSession
from acredssp.core.context import StepResult
from acredssp.core.own_certificate import ask_again, own_public_key
from acredssp.core.server import ServerHandshake
from acredssp.credentials import Password
from acredssp.delegation import CredentialClass
from acredssp.errors import CredSSPError, LocalProtocolError
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.buffers import SecBuffer, SecBufferDesc
from acredssp.sspi.constants import (
    CREDSSP_NAME,
    SECBUFFER_EMPTY,
    SECBUFFER_EXTRA,
    SECBUFFER_MISSING,
    SECBUFFER_TOKEN,
)
from acredssp.sspi.context import AcceptorState, EstablishState, InitiatorState
from acredssp.sspi.flags import ASC_REQ, ISC_REQ, SECBUFFER, SECURITY_DREP, unsupported_requests
from acredssp.sspi.handles import (
    ContextAttributes,
    CredentialState,
    CredHandle,
    CtxtHandle,
    TimeStamp,
    Use,
    failure,
)
from acredssp.sspi.kerb import KERB_INTERACTIVE_LOGON
from acredssp.sspi.session_cache import sessions
from acredssp.sspi.structures import SEC_CHANNEL_BINDINGS
from acredssp.sspi.target import Target
from acredssp.status import SecurityStatus

__all__ = ["AcceptSecurityContext", "InitializeSecurityContext"]

_MAKE_ROOM: Final = "call again with the same input and a pvBuffer of the size in cbBuffer, or ask for ALLOCATE_MEMORY"
_CLIENT_HELLO: Final = b"\x16\x03"
_LENGTH_SIZE: Final = 4

# Plain integers: an operator of an IntFlag is a Python call, at some ten times the price.
_ALLOCATE_MEMORY: Final = ISC_REQ.ALLOCATE_MEMORY.value  # the same for ISC and ASC
_DELEGATE: Final = ISC_REQ.DELEGATE.value
_MUTUAL_AUTH: Final = ISC_REQ.MUTUAL_AUTH.value
_USE_SUPPLIED_CREDS: Final = ISC_REQ.USE_SUPPLIED_CREDS.value

# Names of their own for what every call needs: looking a member up in its enum takes longer than what is done with it.
_OK: Final = SecurityStatus.SEC_E_OK
_INCOMPLETE: Final = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
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
    call = _Call(pInput, pOutput, pfContextAttr, ptsExpiry, fContextReq)
    try:
        if Reserved1 or Reserved2 or TargetDataRep not in _DATA_REPRESENTATIONS or call.unusual:
            _refuse_parameters(TargetDataRep, pInput, pOutput, Reserved1, Reserved2)
        if phContext is None:
            state = _new_initiator(phCredential, pszTargetName, call)
            handle = _hand_over(state, phNewContext)
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
    call = _Call(pInput, pOutput, pfContextAttr, ptsExpiry, fContextReq)
    try:
        if TargetDataRep not in _DATA_REPRESENTATIONS or call.unusual:
            _refuse_parameters(TargetDataRep, pInput, pOutput)
        if phContext is None:
            state = _new_acceptor(phCredential, call)
            handle = _hand_over(state, phNewContext)
        else:
            handle = phContext
            state = _existing(phContext, phNewContext, AcceptorState)
        return await _run(state, call, handle, phCredential)
    except _FAILURES as error:
        call.put_farewell(b"", b"")
        return failure(error, phContext or phNewContext, phCredential if phContext is None else None)


# --- one call ---


class _Call:
    """The buffers and out-parameters of one call, looked through once."""

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
        if (
            (pInput is not None and type(pInput) is not SecBufferDesc)
            or (pOutput is not None and type(pOutput) is not SecBufferDesc)
            or (pfContextAttr is not None and type(pfContextAttr) is not ContextAttributes)
            or (ptsExpiry is not None and type(ptsExpiry) is not TimeStamp)
            or not isinstance(fContextReq, int)
        ):
            _expect_call_types(pInput, pOutput, pfContextAttr, ptsExpiry, fContextReq)
        self.flags = flags = int(fContextReq)
        self._allocate = flags & _ALLOCATE_MEMORY != 0
        self._attributes = pfContextAttr
        self._expiry = ptsExpiry
        # [TOKEN] and [TOKEN, EMPTY] are what the page's loop gives, and are taken as they stand; anything else is
        # looked through.
        self._outputs = pOutput
        self._token: SecBuffer | None = None
        self.unusual = False
        """Whether the descriptors may be such as are refused with a status."""
        if pOutput is not None:
            outputs = pOutput.pBuffers
            if len(outputs) == 1 and type(outputs[0]) is SecBuffer and outputs[0].BufferType == SECBUFFER_TOKEN:
                self._token = outputs[0]
                self.unusual = pOutput.ulVersion != 0 or outputs[0].cbBuffer < 0
            else:
                pOutput.expect_buffers()
                self._token = pOutput.find(SECBUFFER_TOKEN)
                self.unusual = True
        self.buffers = pInput
        self.input = b""
        """The peer's bytes; empty for none."""
        self._spare: SecBuffer | None = None
        """Where what was not taken is reported."""
        self.others = False
        """Whether the input has more than the peer's bytes and room for a report."""
        if pInput is not None:
            inputs = pInput.pBuffers
            if (
                len(inputs) == 2
                and type(inputs[0]) is SecBuffer
                and type(inputs[1]) is SecBuffer
                and inputs[0].BufferType == SECBUFFER_TOKEN
                and not inputs[1].BufferType
            ):
                token, self._spare = inputs
                if pInput.ulVersion or token.cbBuffer < 0 or self._spare.cbBuffer < 0:
                    self.unusual = True
                memory = token.pvBuffer
                # bytes() of a buffer is a Python call, which takes longer than the test.
                self.input = memory if type(memory) is bytes and len(memory) == token.cbBuffer else bytes(token)
            else:
                pInput.expect_buffers()
                self.unusual = True
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
            # A certificate of the bare shape is a TOKEN too, and READONLY: it goes last, as does any other attribute.
            self.input = bytes(min(tokens, key=lambda token: (token.readonly, token.BufferType != SECBUFFER_TOKEN)))

    def find(self, buffer_type: SECBUFFER) -> SecBuffer | None:
        """The first buffer of the input of that type, which is none of the usual two."""
        return self.buffers.find(buffer_type) if self.others and self.buffers is not None else None

    def hand_out(self, state: EstablishState, result: StepResult) -> SecurityStatus:
        """Fill the caller's buffers; SEC_E_BUFFER_TOO_SMALL leaves all of them to a repeated call.

        Raises:
            TypeError: The token's memory cannot be written; the same.
        """
        try:
            if self._token is not None:
                fits = self._token.put(result.output, allocate=self._allocate) is not _TOO_SMALL
            else:
                fits = not result.output
        except TypeError:
            self._keep(state, result)
            raise
        if not fits:
            self._keep(state, result)
            return _TOO_SMALL
        state.unsent = None
        status = result.status
        if status is _INCOMPLETE:
            self._report(SECBUFFER_MISSING, result.missing)
        elif self.buffers is not None:
            if state.rest or state.size != len(self.input):
                self._give_back(state)
            else:
                state.surplus = b""
                if self._spare is not None and self._spare.BufferType:  # what is EMPTY may stay so
                    self._report(SECBUFFER_EMPTY, 0)
        if self._attributes is not None:
            self._attributes.flags = state.attributes(allocated=self._allocate)
        if self._expiry is not None:
            self._expiry.QuadPart = state.expiry.QuadPart if state.established else TimeStamp.NEVER
        return status

    def repeats(self, state: EstablishState, first: bytes) -> None:
        """Take the input of a call that asks again for a token that did not fit.

        Args:
            state: The context.
            first: The input of the call that made the token.

        Raises:
            LocalProtocolError: It is a part of what was taken then; nothing changed.
        """
        related = self.input.startswith(first) or first.startswith(self.input)
        taken = len(first) - len(state.rest)
        if related and 0 < len(self.input) < taken:
            # No report could say that more was taken than this call gives.
            raise refusal(
                f"pInput: expected the {taken} bytes again that the call before took, got the first {len(self.input)}",
                SecurityStatus.SEC_E_INVALID_PARAMETER,
                hint="call again with the same input; the token is kept",
            )
        state.size = len(first) if related else 0  # other input comes behind it, and nothing of that has been taken

    def _keep(self, state: EstablishState, result: StepResult) -> None:
        """Leave a token to the next call, with the input that it is the answer to."""
        if state.unsent is None:
            state.unsent = (result, self.input)

    def too_small(self) -> LocalProtocolError:
        """Say that there is no room for the token."""
        needed = f"{self._token.cbBuffer} bytes" if self._token is not None else "a TOKEN buffer"
        return refusal(f"pOutput: expected room for a token, {needed}", _TOO_SMALL, hint=_MAKE_ROOM)

    def put_farewell(self, token: bytes, alert: bytes) -> bool:
        """Give the caller what the peer should still be sent, beside a failure, and describe the alert in it.

        Returns:
            Whether the buffers that there are have the room.
        """
        described = self._outputs.find(SECBUFFER.ALERT) if self._outputs is not None else None
        pairs = [(buffer, data) for buffer, data in ((self._token, token), (described, alert)) if buffer is not None]
        outcomes = [buffer.put(data, allocate=self._allocate) for buffer, data in pairs]  # both, so that both are told
        return _TOO_SMALL not in outcomes

    def _give_back(self, state: EstablishState) -> None:
        """Report what was not taken, and keep for the next call what cannot be reported."""
        # Behind: it arrived while the caller made room for the token.
        rest = state.rest + self.input[state.size :]
        if 0 < len(self.input) < state.size:  # a repeated call with less: what it leaves out is the caller's still
            unsaid = state.size - len(self.input)
            rest = rest[:-unsaid] if unsaid <= len(rest) else rest
        count = min(len(rest), len(self.input)) if self._spare is not None else 0
        self._report(SECBUFFER_EXTRA if count else SECBUFFER_EMPTY, count)
        state.surplus = rest[: len(rest) - count]

    def _report(self, buffer_type: SECBUFFER, count: int) -> None:
        if self._spare is not None:
            self._spare.become(buffer_type, count)


async def _run(
    state: EstablishState, call: _Call, handle: CtxtHandle, phCredential: CredHandle | None
) -> SecurityStatus:
    """Take one step on a context that is held, answer what the engine asks, and fill what the caller gave."""
    try:
        if state.unsent is not None:
            result, first = state.unsent
            call.repeats(state, first)
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
                if result.event is not None or state.rest:
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


def _end(state: EstablishState, call: _Call, handle: CtxtHandle, error: Exception) -> SecurityStatus:
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


def _step(state: EstablishState, call: _Call, phCredential: CredHandle | None) -> StepResult:
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


def _choose(state: EstablishState, call: _Call, phCredential: CredHandle | None) -> StepResult:
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
    state.rest, state.size = b"", 0  # nothing is taken
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


# --- the first call ---


def _new_initiator(phCredential: CredHandle | None, target_name: str | None, call: _Call) -> InitiatorState:
    credential = _credential(phCredential, "OUTBOUND")
    config = credential.client
    if config is None:
        raise refusal("the credentials are not OUTBOUND", SecurityStatus.SEC_E_NO_CREDENTIALS)
    assert phCredential is not None
    flags = call.flags
    if phCredential.require_delegate:
        _require_delegate(flags)
        flags &= ~_MUTUAL_AUTH
    if unsupported := unsupported_requests(ISC_REQ, flags, strict=phCredential.strict_flags):
        raise _not_supported(unsupported)
    if call.input:
        raise refusal("the first call takes no token", SecurityStatus.SEC_E_INVALID_TOKEN)
    target = Target.parse(target_name)
    if flags & _USE_SUPPLIED_CREDS and (params := call.find(SECBUFFER.PKG_PARAMS)) is not None:
        config = dataclasses.replace(
            config, authenticate=_supplied(params), delegate=None, credential_class=CredentialClass.FRESH
        )
    bindings = _channel_bindings(call) if call.others else None
    if credential.package != CREDSSP_NAME:
        context = config.new_bare_context(public_key=None, spn=target.spn, channel_bindings=bindings)
    else:
        assert config.ssl_context is not None
        name = target.host or None
        session = sessions.take(credential, target) if config.policy.tls_resumption else None
        context = config.new_context(
            server_hostname=name,
            spn=target.spn,
            tls=WatchingTLSSession(config.ssl_context, server_hostname=name, session=session),
            judge=True,
            channel_bindings=bindings,
        )
    return InitiatorState(credential, config, context, target, flags)


def _new_acceptor(phCredential: CredHandle | None, call: _Call) -> AcceptorState:
    credential = _credential(phCredential, "INBOUND")
    config = credential.server
    if config is None:
        raise refusal("the credentials are not INBOUND", SecurityStatus.SEC_E_NO_CREDENTIALS)
    assert phCredential is not None
    if unsupported := unsupported_requests(ASC_REQ, call.flags, strict=phCredential.strict_flags):
        raise _not_supported(unsupported)
    bindings = _channel_bindings(call) if call.others else None
    if credential.package == CREDSSP_NAME:
        context = config.new_context(channel_bindings=bindings)
    else:
        key = own_public_key(config.ssl_context)
        context = config.new_bare_context(public_key=key, channel_bindings=bindings)
        assert isinstance(context.handshake, ServerHandshake)
        context.handshake.ask_key = functools.partial(ask_again, config.ssl_context)
    return AcceptorState(credential, context, call.flags)


def _credential(phCredential: CredHandle | None, use: str) -> CredentialState:
    if phCredential is None:
        raise refusal(f"phCredential: expected {use} credentials, got None", SecurityStatus.SEC_E_INVALID_HANDLE)
    return phCredential.state


def _supplied(params: SecBuffer) -> Password:
    """Read SECBUFFER_PKG_PARAMS: a packed KERB_INTERACTIVE_LOGON, as SECPKG_ATTR_CREDS_2 gives one (R85)."""
    logon = KERB_INTERACTIVE_LOGON.unpack(params.view)
    if not logon.UserName:
        raise refusal("SECBUFFER_PKG_PARAMS names no user", SecurityStatus.SEC_E_NO_CREDENTIALS)
    return Password(logon.Password, logon.UserName, logon.LogonDomainName)


def _channel_bindings(call: _Call) -> bytes | None:
    buffer = call.find(SECBUFFER.CHANNEL_BINDINGS)
    return SEC_CHANNEL_BINDINGS.parse(bytes(buffer)).ApplicationData if buffer is not None else None


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


def _expect_call_types(
    pInput: object, pOutput: object, pfContextAttr: object, ptsExpiry: object, fContextReq: object
) -> None:
    expect("pInput", pInput, SecBufferDesc, _NONE)
    expect("pOutput", pOutput, SecBufferDesc, _NONE)
    expect("pfContextAttr", pfContextAttr, ContextAttributes, _NONE)
    expect("ptsExpiry", ptsExpiry, TimeStamp, _NONE)
    expect("fContextReq", fContextReq, int)


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


def _not_supported(flags: int) -> LocalProtocolError:
    return refusal(f"fContextReq: {flags:#x} is not supported", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)


def _require_delegate(flags: int) -> None:
    if not flags & _DELEGATE:
        raise refusal("fContextReq: ISC_REQ_DELEGATE is required", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)


def _hand_over(state: EstablishState, phNewContext: CtxtHandle | None) -> CtxtHandle:
    """Let the caller's handle stand for a new context, which is held."""
    if phNewContext is None:
        raise refusal("phNewContext: expected a handle in the first call", SecurityStatus.SEC_E_INVALID_PARAMETER)
    state.hold(_ESTABLISH)
    phNewContext.assign(state)
    return phNewContext


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

"""The first call of InitializeSecurityContext or AcceptSecurityContext: it makes a context of credentials and flags.

`steps` calls this module.
"""

import dataclasses
import functools
from typing import Final

from acredssp.core.client_certificate import WatchingTLSSession
from acredssp.core.own_certificate import ask_again, own_public_key
from acredssp.core.server import ServerHandshake
from acredssp.credentials import Password
from acredssp.delegation import CredentialClass
from acredssp.errors import LocalProtocolError
from acredssp.sspi.arguments import refusal
from acredssp.sspi.buffers import SecBuffer
from acredssp.sspi.call import Call
from acredssp.sspi.constants import CREDSSP_NAME
from acredssp.sspi.context import AcceptorState, InitiatorState
from acredssp.sspi.flags import ASC_REQ, ISC_REQ, SECBUFFER, unsupported_requests
from acredssp.sspi.handles import CredentialState, CredHandle, CtxtHandle
from acredssp.sspi.kerb import KERB_INTERACTIVE_LOGON
from acredssp.sspi.schannel import unknown_credentials
from acredssp.sspi.session_cache import sessions
from acredssp.sspi.structures import SEC_CHANNEL_BINDINGS
from acredssp.sspi.target import Target
from acredssp.status import SecurityStatus

__all__ = ["expect_handle", "make_context"]

# These are plain integers: an operator of an IntFlag is a Python call, and costs some ten times as much.
_DELEGATE: Final = ISC_REQ.DELEGATE.value
_MUTUAL_AUTH: Final = ISC_REQ.MUTUAL_AUTH.value
_USE_SUPPLIED_CREDS: Final = ISC_REQ.USE_SUPPLIED_CREDS.value


def make_context(
    kind: type[InitiatorState | AcceptorState],
    phCredential: CredHandle | None,
    target_name: str | None,
    flags: int,
    data: bytes,
    call: Call | None = None,
) -> InitiatorState | AcceptorState:
    """Make a client's or a server's context.

    Args:
        kind: The kind of the context.
        phCredential: The credentials.
        target_name: pszTargetName.
        flags: fContextReq.
        data: The peer's bytes, of which there can be none.
        call: The buffers of the call; None where there are none beside the usual ones.

    Raises:
        LocalProtocolError: The credentials, the flags or the target's name cannot be used.
    """
    if kind is InitiatorState:
        return _new_initiator(phCredential, target_name, flags, data, call)
    return _new_acceptor(phCredential, flags, call)


def _new_initiator(
    phCredential: CredHandle | None, target_name: str | None, flags: int, data: bytes, call: Call | None
) -> InitiatorState:
    credential = _credential(phCredential, "OUTBOUND")
    config = credential.client
    if config is None:
        raise refusal("the credentials are not OUTBOUND", SecurityStatus.SEC_E_NO_CREDENTIALS)
    assert phCredential is not None
    if phCredential.require_delegate:
        _require_delegate(flags)
        flags &= ~_MUTUAL_AUTH
    if unsupported := unsupported_requests(ISC_REQ, flags, strict=phCredential.strict_flags):
        raise _not_supported(unsupported)
    if data:
        raise refusal("pInput: expected no token in the first call, got one", SecurityStatus.SEC_E_INVALID_TOKEN)
    target = Target.parse(target_name)
    params = call.find(SECBUFFER.PKG_PARAMS) if call is not None and flags & _USE_SUPPLIED_CREDS else None
    if params is not None:
        config = dataclasses.replace(
            config, authenticate=_supplied(params), delegate=None, credential_class=CredentialClass.FRESH
        )
    bindings = _channel_bindings(call) if call is not None else None
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


def _new_acceptor(phCredential: CredHandle | None, flags: int, call: Call | None) -> AcceptorState:
    credential = _credential(phCredential, "INBOUND")
    config = credential.server
    if config is None:
        raise refusal("the credentials are not INBOUND", SecurityStatus.SEC_E_NO_CREDENTIALS)
    assert phCredential is not None
    if unsupported := unsupported_requests(ASC_REQ, flags, strict=phCredential.strict_flags):
        raise _not_supported(unsupported)
    bindings = _channel_bindings(call) if call is not None else None
    if credential.package == CREDSSP_NAME:
        context = config.new_context(channel_bindings=bindings)
    else:
        key = own_public_key(config.ssl_context)
        context = config.new_bare_context(public_key=key, channel_bindings=bindings)
        assert isinstance(context.handshake, ServerHandshake)
        context.handshake.ask_key = functools.partial(ask_again, config.ssl_context)
    return AcceptorState(credential, context, flags)


def _credential(phCredential: CredHandle | None, use: str) -> CredentialState:
    if phCredential is None:
        raise refusal(f"phCredential: expected {use} credentials, got None", SecurityStatus.SEC_E_INVALID_HANDLE)
    return phCredential.state


def _supplied(params: SecBuffer) -> Password:
    """Read SECBUFFER_PKG_PARAMS, a packed KERB_INTERACTIVE_LOGON such as SECPKG_ATTR_CREDS_2 gives (R85)."""
    logon = KERB_INTERACTIVE_LOGON.unpack(params.view)
    if not logon.UserName:
        raise refusal("SECBUFFER_PKG_PARAMS names no user", SecurityStatus.SEC_E_NO_CREDENTIALS)
    if logon.LogonDomainName and "\\" in logon.UserName:
        raise unknown_credentials("a user name that contains a domain, beside another domain")
    return Password(logon.Password, logon.UserName, logon.LogonDomainName)


def _channel_bindings(call: Call) -> bytes | None:
    buffer = call.find(SECBUFFER.CHANNEL_BINDINGS)
    return SEC_CHANNEL_BINDINGS.parse(bytes(buffer)).ApplicationData if buffer is not None else None


def expect_handle(phNewContext: CtxtHandle | None) -> CtxtHandle:
    """Return the handle that is to stand for a new context.

    Raises:
        LocalProtocolError: There is none.
    """
    if phNewContext is None:
        raise refusal(
            "phNewContext: expected a handle in the first call, got None", SecurityStatus.SEC_E_INVALID_PARAMETER
        )
    return phNewContext


def _not_supported(flags: int) -> LocalProtocolError:
    return refusal(f"fContextReq: {flags:#x} is not supported", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)


def _require_delegate(flags: int) -> None:
    if not flags & _DELEGATE:
        raise refusal("fContextReq: ISC_REQ_DELEGATE is required", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)

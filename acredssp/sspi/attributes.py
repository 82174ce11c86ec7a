"""QueryContextAttributes (CredSSP): the facts of a context, with one small function for each attribute.

Microsoft's page for CredSSP lists SIZES, PACKAGE_INFO, ISSUER_LIST_EX and the attributes of the tables below that have
the bit 0x80000000. The others are Schannel's, which callers use since TLS protects the messages. The following are
missing, and so are refused with SEC_E_UNSUPPORTED_FUNCTION: access tokens and their attributes, which exist only on a
Windows machine; the session key, which CredSSP does not have; and the attributes of other packages.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from acredssp.core.own_certificate import own_chain
from acredssp.credentials import DelegatedKind
from acredssp.errors import CredSSPError
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.certificates import is_self_signed
from acredssp.sspi.ciphers import cipher_suite, protocol
from acredssp.sspi.context import AcceptorState, EstablishState, InitiatorState, established
from acredssp.sspi.flags import (
    CERT_TRUST_ERROR,
    CERT_TRUST_INFO,
    CREDSSP_SERVER_AUTH,
    SECPKG_ATTR,
    SECPKG_NEGOTIATION,
)
from acredssp.sspi.handles import ContextState, CtxtHandle, TimeStamp, failure
from acredssp.sspi.kerb import pack_credentials
from acredssp.sspi.messages import message_tls, stream_sizes
from acredssp.sspi.packages import copy_structure, mechanism_info, package_info
from acredssp.sspi.structures import (
    CERT_TRUST_STATUS,
    SEC_CHANNEL_BINDINGS,
    SecPkgContext_Bindings,
    SecPkgContext_ClientCreds,
    SecPkgContext_ClientSpecifiedTarget,
    SecPkgContext_ConnectionInfo,
    SecPkgContext_Flags,
    SecPkgContext_IssuerListInfoEx,
    SecPkgContext_Lifespan,
    SecPkgContext_Names,
    SecPkgContext_NativeNames,
    SecPkgContext_NegotiationInfo,
    SecPkgContext_PackageInfo,
    SecPkgContext_RemoteCertContext,
    SecPkgContext_Sizes,
    SecPkgContext_StreamSizes,
)
from acredssp.status import SecurityStatus
from acredssp.tls import end_point_binding
from acredssp.trust import Verdict

__all__ = ["QueryContextAttributes"]

_State = TypeVar("_State", bound=EstablishState)

_TRUST_ERRORS: Final = {
    Verdict.TRUSTED: CERT_TRUST_ERROR.NO_ERROR,
    Verdict.UNTRUSTED: CERT_TRUST_ERROR.IS_UNTRUSTED_ROOT,
    Verdict.EXPIRED: CERT_TRUST_ERROR.IS_NOT_TIME_VALID,
    # On Windows, another function checks the name, so no bit says exactly this.
    Verdict.WRONG_NAME: CERT_TRUST_ERROR.INVALID_NAME_CONSTRAINTS,
    Verdict.WRONG_USAGE: CERT_TRUST_ERROR.IS_NOT_VALID_FOR_USAGE,
    Verdict.WEAK: CERT_TRUST_ERROR.HAS_WEAK_SIGNATURE,
    # Windows pins no keys of servers.
    Verdict.PIN_DIFFERS: CERT_TRUST_ERROR.IS_UNTRUSTED_ROOT,
}


async def QueryContextAttributes(phContext: CtxtHandle, ulAttribute: int, pBuffer: object) -> SecurityStatus:
    """Ask for a fact about a context.

    Args:
        phContext: An established context. A context in any state gives PACKAGE_INFO. A client's context gives
            ISSUER_LIST_EX after SEC_I_INCOMPLETE_CREDENTIALS, and CERT_TRUST_STATUS and REMOTE_CERT_CONTEXT as soon as
            the server's certificate is known, even if the context has failed because of it.
        ulAttribute: A `SECPKG_ATTR`.
        pBuffer: The attribute's structure, which receives the fact. FreeContextBuffer takes back what the package
            allocates in it.

    Returns:
        SEC_E_OK, SEC_E_INVALID_HANDLE (also if the context is not established, or a call that establishes it is in
        flight), SEC_E_UNSUPPORTED_FUNCTION (there is no such attribute, or not on this side, or not in the bare shape),
        SEC_E_NO_CREDENTIALS (nothing was delegated, or the client showed no certificate), SEC_E_CANNOT_PACK (the
        delegated credentials have no packed form), SEC_E_CRYPTO_SYSTEM_INVALID.

    Raises:
        TypeError: A parameter has a wrong Python type; `pBuffer` is not the attribute's structure.
    """
    expect("phContext", phContext, CtxtHandle)
    expect("ulAttribute", ulAttribute, int)
    try:
        state = phContext.state
        with state.looked_at():
            fact = _fact(state, ulAttribute)
    except CredSSPError as error:
        return failure(error, phContext)
    expect("pBuffer", pBuffer, type(fact))
    copy_structure(fact, pBuffer)
    phContext.error = None
    return SecurityStatus.SEC_E_OK


def _fact(state: ContextState, attribute: int) -> object:
    match state:
        case InitiatorState():
            return _ask(_OF_CLIENTS, state, attribute)
        case AcceptorState():
            return _ask(_OF_SERVERS, state, attribute)
        case _:
            return established(state)


def _ask(table: Mapping[int, Callable[[_State], object]], state: _State, attribute: int) -> object:
    ask = table.get(attribute)
    if ask is None:
        raise refusal(f"this side has no attribute {attribute:#x}", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)
    if attribute not in _EARLY:
        _check_established(state)
    return ask(state)


def _check_established(state: EstablishState) -> None:
    state.check_settled()
    established(state)


# --- packages ---


def _package_info(state: EstablishState) -> SecPkgContext_PackageInfo:
    return SecPkgContext_PackageInfo(package_info(state.credential.package))


def _negotiation_package(state: EstablishState) -> SecPkgContext_PackageInfo:
    return SecPkgContext_PackageInfo(mechanism_info(state.context.info.mechanism))


def _negotiation_info(state: EstablishState) -> SecPkgContext_NegotiationInfo:
    return SecPkgContext_NegotiationInfo(mechanism_info(state.context.info.mechanism), SECPKG_NEGOTIATION.COMPLETE)


# --- messages ---


def _sizes(state: EstablishState) -> SecPkgContext_Sizes:
    """Return the sizes. CredSSP has no signatures (MakeSignature), and the bare shape has no messages either."""
    largest = package_info(state.credential.package).cbMaxToken
    if state.context.tls is None:
        return SecPkgContext_Sizes(cbMaxToken=largest)
    sizes = stream_sizes(state.context.tls)
    return SecPkgContext_Sizes(largest, 0, sizes.cbBlockSize, sizes.cbHeader + sizes.cbTrailer)


def _stream_sizes(state: EstablishState) -> SecPkgContext_StreamSizes:
    return stream_sizes(message_tls(state))


def _connection_info(state: EstablishState) -> SecPkgContext_ConnectionInfo:
    tls = message_tls(state)
    suite = cipher_suite(tls.version, tls.cipher)
    return SecPkgContext_ConnectionInfo(
        dwProtocol=protocol(tls.version, server=isinstance(state, AcceptorState)),
        aiCipher=suite.cipher_id,
        dwCipherStrength=tls.cipher_bits,
        aiHash=suite.hash_id,
        dwHashStrength=suite.hash_bits,
        aiExch=suite.exchange_id,
        dwExchStrength=0,  # OpenSSL knows the group, but CPython gives no access to it
    )


# --- names, flags and time ---


def _names(state: EstablishState) -> SecPkgContext_Names:
    return SecPkgContext_Names(state.principal)


def _names_seen_by_client(state: InitiatorState) -> SecPkgContext_NativeNames:
    return SecPkgContext_NativeNames(state.principal, state.target.spn)


def _names_seen_by_server(state: AcceptorState) -> SecPkgContext_NativeNames:
    return SecPkgContext_NativeNames(state.principal, _named_target(state))


def _client_specified_target(state: AcceptorState) -> SecPkgContext_ClientSpecifiedTarget:
    return SecPkgContext_ClientSpecifiedTarget(_named_target(state))


def _named_target(state: AcceptorState) -> str:
    """Return the service principal name that the client sent in its logon; an empty text where the client sent none."""
    principal = state.context.info.principal
    return principal.target_name if principal is not None else ""


def _flags(state: EstablishState) -> SecPkgContext_Flags:
    return SecPkgContext_Flags(int(state.attributes()))


def _lifespan(state: EstablishState) -> SecPkgContext_Lifespan:
    """Return the lifespan: it has no beginning, and ends with the Kerberos ticket or never."""
    return SecPkgContext_Lifespan(TimeStamp(), state.expiry)


# --- certificates ---


def _server_chain(state: InitiatorState) -> tuple[bytes, ...]:
    if not state.chain:
        raise refusal("the server's certificate is not known yet", SecurityStatus.SEC_E_INVALID_HANDLE)
    return state.chain


def _own_chain(state: AcceptorState) -> tuple[bytes, ...]:
    if state.context.tls is not None:
        return state.context.own_chain
    assert state.credential.server is not None
    return own_chain(state.credential.server.ssl_context)


def _server_certificate(state: InitiatorState) -> SecPkgContext_RemoteCertContext:
    chain = _server_chain(state)
    return SecPkgContext_RemoteCertContext(chain[0], chain)


def _client_certificate(state: AcceptorState) -> SecPkgContext_RemoteCertContext:
    _check_established(state)
    chain = message_tls(state).peer_chain()
    if not chain:
        raise refusal("the client showed no certificate", SecurityStatus.SEC_E_NO_CREDENTIALS)
    return SecPkgContext_RemoteCertContext(chain[0], chain)


def _own_certificate(state: AcceptorState) -> SecPkgContext_RemoteCertContext:
    chain = _own_chain(state)
    return SecPkgContext_RemoteCertContext(chain[0], chain)


def _trust_status(state: InitiatorState) -> CERT_TRUST_STATUS:
    self_signed = is_self_signed(_server_chain(state)[0])
    return CERT_TRUST_STATUS(
        _TRUST_ERRORS[state.verdict], CERT_TRUST_INFO.IS_SELF_SIGNED if self_signed else CERT_TRUST_INFO(0)
    )


def _server_authentication(state: InitiatorState) -> SecPkgContext_Flags:
    """Return what authenticates the server: its certificate, or a mechanism that does so (Kerberos, but not NTLM)."""
    return SecPkgContext_Flags(CREDSSP_SERVER_AUTH(state.server_auth.value))


def _issuers(state: InitiatorState) -> SecPkgContext_IssuerListInfoEx:
    if state.choosing is None:
        established(state)
    return SecPkgContext_IssuerListInfoEx(list(state.authorities))


# --- channel bindings ---


def _unique_bindings(state: EstablishState) -> SecPkgContext_Bindings:
    binding = message_tls(state).unique_binding
    if binding is None:
        raise refusal("tls 1.3 has no tls-unique", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)
    return SecPkgContext_Bindings(SEC_CHANNEL_BINDINGS(ApplicationData=b"tls-unique:" + binding))


def _end_point_bindings_of_client(state: InitiatorState) -> SecPkgContext_Bindings:
    return _end_point_bindings(_server_chain(state)[0])


def _end_point_bindings_of_server(state: AcceptorState) -> SecPkgContext_Bindings:
    return _end_point_bindings(_own_chain(state)[0])


def _end_point_bindings(certificate: bytes) -> SecPkgContext_Bindings:
    binding = end_point_binding(certificate)
    if binding is None:
        raise refusal("the certificate's signature names no hash", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)
    return SecPkgContext_Bindings(SEC_CHANNEL_BINDINGS(ApplicationData=binding))


# --- delegated credentials ---


def _credentials(state: AcceptorState) -> SecPkgContext_ClientCreds:
    credentials = state.credentials
    if credentials is None or credentials.kind is DelegatedKind.NOTHING:
        raise refusal("the client delegated nothing", SecurityStatus.SEC_E_NO_CREDENTIALS)
    return SecPkgContext_ClientCreds(bytearray(pack_credentials(credentials)))


# --- the tables ---

_OF_BOTH: Final[dict[int, Callable[[EstablishState], object]]] = {
    SECPKG_ATTR.SIZES: _sizes,
    SECPKG_ATTR.NAMES: _names,
    SECPKG_ATTR.LIFESPAN: _lifespan,
    SECPKG_ATTR.STREAM_SIZES: _stream_sizes,
    SECPKG_ATTR.PACKAGE_INFO: _package_info,
    SECPKG_ATTR.NEGOTIATION_INFO: _negotiation_info,
    SECPKG_ATTR.FLAGS: _flags,
    SECPKG_ATTR.UNIQUE_BINDINGS: _unique_bindings,
    SECPKG_ATTR.CONNECTION_INFO: _connection_info,
    SECPKG_ATTR.NEGOTIATION_PACKAGE: _negotiation_package,
}

_OF_CLIENTS: Final[dict[int, Callable[[InitiatorState], object]]] = {
    **_OF_BOTH,
    SECPKG_ATTR.NATIVE_NAMES: _names_seen_by_client,
    SECPKG_ATTR.ENDPOINT_BINDINGS: _end_point_bindings_of_client,
    SECPKG_ATTR.REMOTE_CERT_CONTEXT: _server_certificate,
    SECPKG_ATTR.ISSUER_LIST_EX: _issuers,
    SECPKG_ATTR.SERVER_AUTH_FLAGS: _server_authentication,
    SECPKG_ATTR.CERT_TRUST_STATUS: _trust_status,
}

_OF_SERVERS: Final[dict[int, Callable[[AcceptorState], object]]] = {
    **_OF_BOTH,
    SECPKG_ATTR.NATIVE_NAMES: _names_seen_by_server,
    SECPKG_ATTR.CLIENT_SPECIFIED_TARGET: _client_specified_target,
    SECPKG_ATTR.ENDPOINT_BINDINGS: _end_point_bindings_of_server,
    SECPKG_ATTR.REMOTE_CERT_CONTEXT: _client_certificate,
    SECPKG_ATTR.LOCAL_CERT_CONTEXT: _own_certificate,
    SECPKG_ATTR.CREDS: _credentials,
    SECPKG_ATTR.CREDS_2: _credentials,
}

_EARLY: Final = frozenset(
    {
        SECPKG_ATTR.PACKAGE_INFO,
        SECPKG_ATTR.REMOTE_CERT_CONTEXT,
        SECPKG_ATTR.ISSUER_LIST_EX,
        SECPKG_ATTR.CERT_TRUST_STATUS,
    }
)
"""The attributes that need no established context, or whose functions check that themselves."""

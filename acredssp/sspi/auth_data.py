"""Reads pAuthData: makes configurations for contexts from Microsoft's structures or acredssp's own configurations."""

import dataclasses
import ssl
from typing import Final, TypeAlias, TypeGuard, assert_never

from acredssp.config import ClientConfig, ServerConfig
from acredssp.credentials import Credential, Keytab, NTHash, Password, TicketCache
from acredssp.hooks import LookupHook
from acredssp.policy import MechanismChoice, Policy
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.constants import (
    CREDSSP_CRED_EX_VERSION,
    SEC_WINNT_AUTH_IDENTITY_VERSION,
    SEC_WINNT_AUTH_IDENTITY_VERSION_2,
)
from acredssp.sspi.flags import CREDSPP_SUBMIT_TYPE, CREDSSP_FLAG, SEC_WINNT_AUTH_IDENTITY_FLAG, SECPKG_CRED
from acredssp.sspi.schannel import (
    Certificate,
    certificate_of,
    client_context,
    issuers_of,
    policy_of,
    server_context,
    unknown_credentials,
    usable,
)
from acredssp.sspi.structures import (
    CREDSSP_CRED,
    CREDSSP_CRED_EX,
    SCH_CREDENTIALS,
    SCHANNEL_CRED,
    SEC_WINNT_AUTH_IDENTITY,
    SEC_WINNT_AUTH_IDENTITY_EX,
    SEC_WINNT_AUTH_IDENTITY_EX2,
    TLS_PARAMETERS,
    CertContext,
    SchannelCred,
    SpnegoCred,
)
from acredssp.status import SecurityStatus
from acredssp.trust import Trust

__all__ = ["AuthData", "Sides", "expect_auth_data", "read_auth_data"]

AuthData: TypeAlias = CREDSSP_CRED | CREDSSP_CRED_EX | ClientConfig | ServerConfig | tuple[ClientConfig, ServerConfig]

_BOTH_MEMBERS: Final = {
    CREDSPP_SUBMIT_TYPE.CredsspPasswordCreds,
    CREDSPP_SUBMIT_TYPE.CredsspSubmitBufferBoth,
    CREDSPP_SUBMIT_TYPE.CredsspSubmitBufferBothOld,
}
_TYPES_READ: Final = _BOTH_MEMBERS | {CREDSPP_SUBMIT_TYPE.CredsspSchannelCreds}
_IDENTITY_VERSIONS: Final = {
    SEC_WINNT_AUTH_IDENTITY_EX: SEC_WINNT_AUTH_IDENTITY_VERSION,
    SEC_WINNT_AUTH_IDENTITY_EX2: SEC_WINNT_AUTH_IDENTITY_VERSION_2,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Sides:
    """The configurations of both sides' contexts; None for a side that was not asked for or has no credentials."""

    client: ClientConfig | None = None
    server: ServerConfig | None = None
    certificate: ssl.SSLContext | None = None
    """Holds the client's certificate, for a server that asks for one; it is not used for connections itself."""
    issuers: frozenset[bytes] | None = None
    """The DER names of the issuers in the client certificate's chain; None if they are unknown."""


def expect_auth_data(auth_data: object) -> None:
    """Check the Python types in pAuthData. Whether the credentials are of any use is checked later.

    Raises:
        TypeError: A member has a wrong type.
        ValueError: A number is negative.
    """
    match auth_data:
        case None | ClientConfig() | ServerConfig() | (ClientConfig(), ServerConfig()):
            return
        case CREDSSP_CRED_EX():
            _expect_numbers(auth_data, "Type", "Version", "Flags")
            expect("pAuthData.Cred", auth_data.Cred, CREDSSP_CRED)
            _expect_members(auth_data.Cred)
        case CREDSSP_CRED():
            _expect_members(auth_data)
        case _:
            expect("pAuthData", auth_data, CREDSSP_CRED, CREDSSP_CRED_EX, ClientConfig, ServerConfig, type(None))
            raise AssertionError("unreachable")


def _expect_members(cred: CREDSSP_CRED) -> None:
    _expect_numbers(cred, "Type")
    expect("pSchannelCred", cred.pSchannelCred, SCHANNEL_CRED, SCH_CREDENTIALS, type(None))
    if cred.pSchannelCred is not None:
        _expect_schannel(cred.pSchannelCred)
    if isinstance(cred.pSpnegoCred, SEC_WINNT_AUTH_IDENTITY):
        _expect_identity(cred.pSpnegoCred)
    elif not callable(cred.pSpnegoCred):
        expect(
            "pSpnegoCred", cred.pSpnegoCred, Password, NTHash, TicketCache, Keytab, ClientConfig, ServerConfig,
            type(None),
        )  # fmt: skip


def _expect_schannel(cred: SchannelCred) -> None:
    _expect_numbers(cred, "dwVersion", "dwFlags")
    expect("hRootStore", cred.hRootStore, Trust, type(None))
    expect("paCred", cred.paCred, tuple, list)
    for certificate in cred.paCred:
        expect("paCred", certificate, CertContext, ssl.SSLContext)
        if isinstance(certificate, CertContext):
            expect("paCred.chain_pem", certificate.chain_pem, bytes)
            expect("paCred.key_pem", certificate.key_pem, bytes)
    if isinstance(cred, SCHANNEL_CRED):
        _expect_numbers(cred, "grbitEnabledProtocols", "dwMinimumCipherStrength")
        return
    expect("pTlsParameters", cred.pTlsParameters, tuple, list)
    for parameters in cred.pTlsParameters:
        expect("pTlsParameters", parameters, TLS_PARAMETERS)
        _expect_numbers(parameters, "grbitDisabledProtocols")


def _expect_identity(identity: SEC_WINNT_AUTH_IDENTITY) -> None:
    for name in ("User", "Domain", "Password"):
        expect(name, getattr(identity, name), str, bytes)
        length = f"{name}Length"
        if getattr(identity, length) is not None:
            _expect_numbers(identity, length)
    _expect_numbers(identity, "Flags")
    if isinstance(identity, SEC_WINNT_AUTH_IDENTITY_EX):
        _expect_numbers(identity, "Version")
        expect("PackageList", identity.PackageList, str)


def _expect_numbers(structure: object, *members: str) -> None:
    """Check that members can be unsigned numbers in C."""
    for member in members:
        value = getattr(structure, member)
        expect(member, value, int)
        if value < 0:
            raise ValueError(f"{member}: expected 0 or more, got {int(value)}")


def read_auth_data(auth_data: AuthData | None, use: SECPKG_CRED) -> Sides:
    """Return the configurations of the sides that `use` names. This loads keys, and may read the system's authorities.

    Raises:
        LocalProtocolError: `auth_data` cannot be used; the error has the status that AcquireCredentialsHandle returns.
    """
    outbound, inbound = bool(use & SECPKG_CRED.OUTBOUND), bool(use & SECPKG_CRED.INBOUND)
    match auth_data:
        case None:
            return Sides()
        case ClientConfig():
            return Sides(client=auth_data if outbound else None)
        case ServerConfig():
            return Sides(server=auth_data if inbound else None)
        case tuple():
            client, server = auth_data
            return Sides(client if outbound else None, server if inbound else None)
        case CREDSSP_CRED() | CREDSSP_CRED_EX():
            return _sides(_unwrapped(auth_data), outbound=outbound, inbound=inbound)
        case _:
            assert_never(auth_data)


def _unwrapped(cred: CREDSSP_CRED | CREDSSP_CRED_EX) -> CREDSSP_CRED:
    if isinstance(cred, CREDSSP_CRED_EX):
        if cred.Type != CREDSPP_SUBMIT_TYPE.CredsspCredEx or cred.Version != CREDSSP_CRED_EX_VERSION:
            raise unknown_credentials(f"CREDSSP_CRED_EX of type {int(cred.Type)} and version {cred.Version}")
        if cred.Flags:
            what = "redirected credentials" if cred.Flags == CREDSSP_FLAG.REDIRECT else f"flags {int(cred.Flags):#x}"
            raise refusal(f"CREDSSP_CRED_EX: {what} are not supported", SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION)
        cred = cred.Cred
    if cred.Type not in _TYPES_READ:
        raise unknown_credentials(f"CREDSSP_CRED of type {int(cred.Type)}")
    return cred


def _sides(cred: CREDSSP_CRED, *, outbound: bool, inbound: bool) -> Sides:
    schannel, spnego = cred.pSchannelCred, cred.pSpnegoCred
    certificate = certificate_of(schannel)
    # A server's hook is accepted with every type: on Windows, the system itself checks users, so no type has a hook.
    server = _server(spnego, schannel, certificate) if inbound else None
    client = _client(spnego, schannel) if outbound and cred.Type in _BOTH_MEMBERS else None
    if client is None:
        return Sides(server=server)
    return Sides(client, server, client_context(client.policy, certificate), issuers_of(certificate))


def _client(spnego: SpnegoCred | None, schannel: SchannelCred | None) -> ClientConfig | None:
    if isinstance(spnego, ClientConfig):
        return spnego if schannel is None else _client_with_tls(spnego, schannel)
    mechanism = MechanismChoice.AUTO
    if isinstance(spnego, SEC_WINNT_AUTH_IDENTITY):
        who: Credential = _identity(spnego)
        mechanism = _mechanism(spnego)
    elif isinstance(spnego, Password | NTHash | TicketCache | Keytab):
        who = spnego
    else:
        return None
    if isinstance(who, Password | NTHash) and not who.user:
        raise refusal("the identity names no user", SecurityStatus.SEC_E_NO_CREDENTIALS)
    trust = schannel.hRootStore if schannel is not None else None
    policy = policy_of(Policy(mechanism=mechanism), schannel, server=False)
    return ClientConfig(authenticate=who, policy=policy, trust=trust)


def _client_with_tls(config: ClientConfig, schannel: SchannelCred) -> ClientConfig:
    policy = policy_of(config.policy, schannel, server=False)
    context = config.ssl_context if policy == config.policy else None
    trust = schannel.hRootStore if schannel.hRootStore is not None else config.trust
    try:
        return dataclasses.replace(config, policy=policy, trust=trust, ssl_context=context)
    except ValueError as error:  # the policy accepts any certificate, and hRootStore does not
        raise unknown_credentials(f"a ClientConfig that contradicts pSchannelCred ({error})") from error


def _server(
    spnego: SpnegoCred | None, schannel: SchannelCred | None, certificate: Certificate | None
) -> ServerConfig | None:
    if isinstance(spnego, ServerConfig):
        policy = policy_of(spnego.policy, schannel, server=True)
        # Without a certificate in pSchannelCred, the configuration's own context is used.
        context = server_context(spnego.policy, policy, certificate or spnego.ssl_context)
        return usable(lambda: dataclasses.replace(spnego, policy=policy, ssl_context=context))
    if not _is_hook(spnego):
        return None
    if certificate is None:
        raise refusal("a server needs a certificate: paCred is empty", SecurityStatus.SEC_E_NO_CREDENTIALS)
    policy = policy_of(Policy(), schannel, server=True)
    context = server_context(Policy(), policy, certificate)
    return usable(lambda: ServerConfig(ssl_context=context, lookup=spnego, policy=policy))


def _is_hook(spnego: SpnegoCred | None) -> TypeGuard[LookupHook]:
    return callable(spnego)


# --- who ---


def _identity(identity: SEC_WINNT_AUTH_IDENTITY) -> Password:
    name = type(identity).__name__
    if isinstance(identity, SEC_WINNT_AUTH_IDENTITY_EX):
        version = _IDENTITY_VERSIONS[type(identity)]
        if identity.Version != version:
            raise unknown_credentials(f"{name} of version {identity.Version:#x}")
    if not identity.Flags & (SEC_WINNT_AUTH_IDENTITY_FLAG.ANSI | SEC_WINNT_AUTH_IDENTITY_FLAG.UNICODE):
        raise unknown_credentials(f"{name} with neither the flag ANSI nor UNICODE")
    encoding = "utf-16-le" if identity.Flags & SEC_WINNT_AUTH_IDENTITY_FLAG.UNICODE else "cp1252"
    user = _text(identity.User, identity.UserLength, encoding)
    domain = _text(identity.Domain, identity.DomainLength, encoding)
    if domain and "\\" in user:
        raise unknown_credentials("a user name that contains a domain, beside another domain")
    return Password(_text(identity.Password, identity.PasswordLength, encoding), user, domain)


def _mechanism(identity: SEC_WINNT_AUTH_IDENTITY) -> MechanismChoice:
    """Return the mechanisms that a PackageList leaves of Negotiate's two packages."""
    if not isinstance(identity, SEC_WINNT_AUTH_IDENTITY_EX):
        return MechanismChoice.AUTO
    match _permits(identity.PackageList, "kerberos"), _permits(identity.PackageList, "ntlm"):
        case True, True:
            return MechanismChoice.AUTO
        case True, False:
            return MechanismChoice.KERBEROS
        case False, True:
            return MechanismChoice.NTLM
        case _:
            raise refusal(
                "PackageList of the identity: expected kerberos or ntlm to be allowed, got neither",
                SecurityStatus.SEC_E_NO_CREDENTIALS,
            )


def _text(value: str | bytes, length: int | None, encoding: str) -> str:
    if isinstance(value, str):
        return value[:length]
    try:
        text: str | None = value.decode(encoding)
    except UnicodeDecodeError:
        text = None
    if text is None:
        # Raised outside of the handler: the UnicodeDecodeError holds the bytes, which may be the password's.
        raise unknown_credentials(f"a text that is not in {encoding}")
    return text[:length]


def _permits(package_list: str, package: str) -> bool:
    """Return whether a PackageList allows `package`: it names the package, or names only packages that it forbids."""
    names = [name.strip().casefold() for name in package_list.split(",") if name.strip()]
    allowed = [name for name in names if not name.startswith("!")]
    return f"!{package}" not in names and (package in allowed or not allowed)

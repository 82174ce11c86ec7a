"""AcquireCredentialsHandle (CredSSP), QueryCredentialsAttributes, FreeCredentialsHandle.

A credentials handle holds everything that is costly to make: the SSLContext, the certificate, the NT hash. Acquiring it
is no logon: no server or KDC is asked, so a wrong password shows only at the first context.

`pAuthData` is Microsoft's CREDSSP_CRED or CREDSSP_CRED_EX, or one of acredssp's own configurations, which have more
settings:

* OUTBOUND: pSpnegoCred is a SEC_WINNT_AUTH_IDENTITY (or `Password`, `TicketCache`, `ClientConfig`), or pAuthData itself
  is a `ClientConfig`.
* INBOUND: on Windows, the domain or the machine's own accounts check the users. Here the application checks them. So
  pSpnegoCred is its lookup hook (or a `ServerConfig` with more hooks), beside the certificate in pSchannelCred, or
  pAuthData itself is a `ServerConfig`. Without a hook, there is no authenticating authority.
* BOTH: pAuthData is a pair `(ClientConfig, ServerConfig)`.
"""

import functools
import threading

from acredssp.aio import offload
from acredssp.config import ClientConfig
from acredssp.core.client_certificate import watch_certificate_requests
from acredssp.errors import CredSSPError
from acredssp.names import logon_name, upper
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.auth_data import AuthData, expect_auth_data, read_auth_data
from acredssp.sspi.constants import CREDSSP_NAME, TS_SSP_NAME
from acredssp.sspi.flags import SECPKG_CRED, SECPKG_CRED_ATTR
from acredssp.sspi.handles import CredentialState, CredHandle, TimeStamp, failure
from acredssp.sspi.logon import logon_session
from acredssp.sspi.packages import find_package
from acredssp.sspi.session_cache import sessions
from acredssp.sspi.structures import SecPkgCredentials_Names
from acredssp.status import SecurityStatus

__all__ = ["AcquireCredentialsHandle", "AuthData", "FreeCredentialsHandle", "QueryCredentialsAttributes"]


async def AcquireCredentialsHandle(
    pszPrincipal: str | None = None,
    pszPackage: str = "",
    fCredentialUse: int = 0,
    pvLogonID: int | None = None,
    pAuthData: AuthData | None = None,
    pGetKeyFn: None = None,
    pvGetKeyArgument: None = None,
    phCredential: CredHandle | None = None,
    ptsExpiry: TimeStamp | None = None,
) -> SecurityStatus:
    """Make a handle of a principal's credentials.

    Args:
        pszPrincipal: The principal; None for that of pAuthData. For OUTBOUND credentials, another name than that of
            pAuthData is refused with SEC_E_NOT_OWNER.
        pszPackage: `CREDSSP` or `TSSSP`, in any case.
        fCredentialUse: `SECPKG_CRED.INBOUND`, `.OUTBOUND` or `.BOTH`.
        pvLogonID: The logon session, a LUID of the caller's choice; None for the user and the audit session of the
            process. It only separates sessions of TLS, and grants nothing.
        pAuthData: The credentials, as the module's text describes; None for default credentials, which do not exist.
        pGetKeyFn: None.
        pvGetKeyArgument: None.
        phCredential: Receives the handle; after a failure, its `.error` has the reason.
        ptsExpiry: Receives the expiry in local time, which is the end of a ticket cache's ticket-granting ticket.
            `TimeStamp.NEVER` for a password or a keytab, which never expire, and for a cache without such a ticket.

    Returns:
        SEC_E_OK, or SEC_E_SECPKG_NOT_FOUND, SEC_E_INVALID_PARAMETER (a reserved parameter is given, or the use is
        unknown), SEC_E_NO_CREDENTIALS (there is nothing to log on with, or a server has no certificate),
        SEC_E_NOT_OWNER, SEC_E_NO_AUTHENTICATING_AUTHORITY (INBOUND without a hook that checks users),
        SEC_E_UNKNOWN_CREDENTIALS (a structure has another version or type, or a certificate cannot be loaded),
        SEC_E_ALGORITHM_MISMATCH (no TLS version is left), SEC_E_UNSUPPORTED_FUNCTION, SEC_E_INSUFFICIENT_MEMORY,
        SEC_E_INTERNAL_ERROR.

    Raises:
        TypeError: A parameter, or a member of pAuthData, has a wrong Python type.
        ValueError: A member of pAuthData that is a number is negative.
    """
    expect("phCredential", phCredential, CredHandle)
    expect("pszPrincipal", pszPrincipal, str, type(None))
    expect("pszPackage", pszPackage, str)
    expect("fCredentialUse", fCredentialUse, int)
    expect("pvLogonID", pvLogonID, int, type(None))
    expect("ptsExpiry", ptsExpiry, TimeStamp, type(None))
    expect_auth_data(pAuthData)
    assert phCredential is not None
    try:
        _check_reserved(pGetKeyFn, pvGetKeyArgument)
        make = functools.partial(_make, _package(pszPackage), _use(fCredentialUse), pszPrincipal, pvLogonID, pAuthData)
        # This runs in the thread pool, since it loads keys and may read the system's authorities.
        state = await offload.run(make)
    except CredSSPError as error:
        return failure(error, phCredential)
    if isinstance(state, Exception):
        return failure(state, phCredential)
    phCredential.assign(state)
    phCredential.error = None
    if ptsExpiry is not None:
        ptsExpiry.QuadPart = TimeStamp.of_end(state.ends).QuadPart
    return SecurityStatus.SEC_E_OK


async def QueryCredentialsAttributes(
    phCredential: CredHandle, ulAttribute: int, pBuffer: SecPkgCredentials_Names
) -> SecurityStatus:
    """Ask for a fact about credentials, which holds for every context made from them.

    Args:
        phCredential: The handle.
        ulAttribute: `SECPKG_CRED_ATTR.NAMES`; the other attributes belong to other packages.
        pBuffer: Receives the fact.

    Returns:
        SEC_E_OK, SEC_E_INVALID_HANDLE, SEC_E_UNSUPPORTED_FUNCTION.

    Raises:
        TypeError: A parameter has a wrong Python type.
    """
    expect("phCredential", phCredential, CredHandle)
    try:
        state = phCredential.state
    except CredSSPError as error:
        return failure(error, phCredential)
    if ulAttribute != SECPKG_CRED_ATTR.NAMES:
        reason = f"credentials of {state.package} have no attribute {ulAttribute}"
        return failure(refusal(reason, SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION), phCredential)
    expect("pBuffer", pBuffer, SecPkgCredentials_Names)
    pBuffer.sUserName = state.principal
    phCredential.error = None
    return SecurityStatus.SEC_E_OK


async def FreeCredentialsHandle(phCredential: CredHandle) -> SecurityStatus:
    """Free a credentials handle. Contexts that were made from it stay usable.

    Returns:
        SEC_E_OK, or SEC_E_INVALID_HANDLE for one that was freed before or never filled.

    Raises:
        TypeError: It is no credentials handle.
    """
    expect("phCredential", phCredential, CredHandle)
    try:
        state = phCredential.state
    except CredSSPError as error:
        return failure(error, phCredential)
    state.alive = False
    sessions.forget(state)
    phCredential.error = None
    return SecurityStatus.SEC_E_OK


# --- parameters ---


def _check_reserved(*values: object) -> None:
    if any(value is not None for value in values):
        raise refusal(
            "pGetKeyFn and pvGetKeyArgument: expected None, got a value", SecurityStatus.SEC_E_INVALID_PARAMETER
        )


def _package(name: str) -> str:
    package = find_package(name)
    if package is None:
        raise refusal(
            f"expected package {CREDSSP_NAME} or {TS_SSP_NAME}, got {name!r}", SecurityStatus.SEC_E_SECPKG_NOT_FOUND
        )
    return package.Name


def _use(value: int) -> SECPKG_CRED:
    """Return INBOUND, OUTBOUND or both. AUTOLOGON_RESTRICTED, which forbids default credentials, changes nothing."""
    use = SECPKG_CRED(value & ~SECPKG_CRED.AUTOLOGON_RESTRICTED)
    if use not in (SECPKG_CRED.INBOUND, SECPKG_CRED.OUTBOUND, SECPKG_CRED.BOTH):
        raise refusal(
            f"fCredentialUse: expected INBOUND, OUTBOUND or BOTH, got {value:#x}",
            SecurityStatus.SEC_E_INVALID_PARAMETER,
        )
    return use


# --- making: in the thread pool ---


def _make(
    package: str, use: SECPKG_CRED, principal: str | None, logon_id: int | None, auth_data: AuthData | None
) -> CredentialState:
    sides = read_auth_data(auth_data, use)
    if use & SECPKG_CRED.OUTBOUND and sides.client is None:
        raise refusal(
            "pAuthData: expected credentials, got none: there are no default ones", SecurityStatus.SEC_E_NO_CREDENTIALS
        )
    if use & SECPKG_CRED.INBOUND and sides.server is None:
        raise refusal(
            "pSpnegoCred: expected a lookup hook or a ServerConfig to check users, got neither",
            SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
        )
    if sides.client is not None and sides.client.ssl_context is not None and package == CREDSSP_NAME:
        watch_certificate_requests(sides.client.ssl_context, threading.Lock())
    logon_session(logon_id)  # the first call reads a file, which is allowed in this thread but not on the loop
    return CredentialState(
        package=package,
        client=sides.client,
        server=sides.server,
        principal=_principal(principal, sides.client),
        certificate=sides.certificate,
        issuers=sides.issuers,
        logon_id=logon_id,
        ends=sides.client.end_of_tickets() if sides.client is not None else None,
    )


def _principal(asked: str | None, client: ClientConfig | None) -> str:
    """Return the principal of the credentials.

    Raises:
        LocalProtocolError: SEC_E_NOT_OWNER: the caller asked for another principal.
    """
    if client is None:
        return asked or ""
    who = client.authenticate
    names = [logon_name(who.domain, who.user), who.user, f"{who.user}@{who.domain}"]
    if asked is not None and upper(asked) not in map(upper, names):
        raise refusal(
            "pszPrincipal: expected the principal of pAuthData, got another one", SecurityStatus.SEC_E_NOT_OWNER
        )
    return names[0]

"""The functions of SSPI that CredSSP does not have, or that only Windows can have. Each names what to use in its place.

An invalid handle gives SEC_E_INVALID_HANDLE, as in every other function. The handle's `.error` has the text of the
refusal.
"""

from typing import Final

from acredssp.errors import CredSSPError
from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.auth_data import AuthData
from acredssp.sspi.buffers import SecBuffer, SecBufferDesc
from acredssp.sspi.handles import CredHandle, CtxtHandle, TimeStamp, failure
from acredssp.sspi.structures import ULONG
from acredssp.status import SecurityStatus

__all__ = [
    "AddCredentials",
    "ChangeAccountPassword",
    "CompleteAuthToken",
    "ExportSecurityContext",
    "ImpersonateSecurityContext",
    "ImportSecurityContext",
    "MakeSignature",
    "QuerySecurityContextToken",
    "RevertSecurityContext",
    "SetContextAttributes",
    "SetCredentialsAttributes",
    "VerifySignature",
]

_UNSUPPORTED: Final = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
_ELSEWHERE: Final = "keep the connection in this process, and pass the application's data to the other one"
_BY_POLICY: Final = "give a ClientConfig or ServerConfig with the policy that you want to AcquireCredentialsHandle"


async def CompleteAuthToken(phContext: CtxtHandle, pToken: SecBufferDesc) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION.

    Digest needs the function. CredSSP never returns SEC_I_COMPLETE_NEEDED or SEC_I_COMPLETE_AND_CONTINUE, which ask for
    it.
    """
    return _refuse(phContext, CtxtHandle, "credssp has no tokens to complete", "send each token as it is")


async def ImpersonateSecurityContext(phContext: CtxtHandle) -> SecurityStatus:
    """Refuse: SEC_E_NO_IMPERSONATION. A server must check the status, and must not serve the client if the call fails.

    Instead: QueryContextAttributes with SECPKG_ATTR_NAMES names the client's user, and with SECPKG_ATTR_CREDS_2 gives
    the credentials that the client delegated.
    """
    return _refuse_tokens(phContext)


async def RevertSecurityContext(phContext: CtxtHandle) -> SecurityStatus:
    """Refuse: SEC_E_NO_IMPERSONATION. ImpersonateSecurityContext always fails, so there is nothing to revert."""
    return _refuse_tokens(phContext)


async def QuerySecurityContextToken(phContext: CtxtHandle, Token: object = None) -> SecurityStatus:
    """Refuse: SEC_E_NO_IMPERSONATION. Use in its place what ImpersonateSecurityContext names."""
    return _refuse_tokens(phContext)


async def MakeSignature(
    phContext: CtxtHandle, fQOP: int, pMessage: SecBufferDesc, MessageSeqNo: int = 0
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: EncryptMessage, whose TLS records are authenticated."""
    return _refuse(phContext, CtxtHandle, "tls cannot sign a message without encrypting it", "use EncryptMessage")


async def VerifySignature(
    phContext: CtxtHandle, pMessage: SecBufferDesc, MessageSeqNo: int = 0, pfQOP: ULONG | None = None
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: DecryptMessage, which fails for an altered record."""
    return _refuse(phContext, CtxtHandle, "tls cannot sign a message without encrypting it", "use DecryptMessage")


async def ExportSecurityContext(
    phContext: CtxtHandle, fFlags: int, pPackedContext: SecBuffer, pToken: object = None
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: pass the application's data between the processes."""
    return _refuse(phContext, CtxtHandle, "a tls connection cannot leave its process", _ELSEWHERE)


async def ImportSecurityContext(
    pszPackage: str, pPackedContext: SecBuffer, Token: object, phContext: CtxtHandle
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. `phContext`, which would receive the handle, receives `.error`."""
    expect("phContext", phContext, CtxtHandle)
    error = refusal("a tls connection cannot come from another process", _UNSUPPORTED, _ELSEWHERE)
    return failure(error, phContext)


async def AddCredentials(
    hCredentials: CredHandle,
    pszPrincipal: str | None,
    pszPackage: str,
    fCredentialUse: int,
    pAuthData: AuthData | None = None,
    pGetKeyFn: None = None,
    pvGetKeyArgument: None = None,
    ptsExpiry: TimeStamp | None = None,
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: call AcquireCredentialsHandle once for each credential."""
    return _refuse(hCredentials, CredHandle, "a handle holds one set of credentials", "acquire another handle")


async def SetContextAttributes(
    phContext: CtxtHandle, ulAttribute: int, pBuffer: object, cbBuffer: int = 0
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION: CredSSP defines no attribute that can be set.

    Instead: give AcquireCredentialsHandle a `ClientConfig` or `ServerConfig` with the wanted `Policy` as pAuthData.
    """
    return _refuse(phContext, CtxtHandle, "credssp has no attribute that can be set", _BY_POLICY)


async def SetCredentialsAttributes(
    phCredential: CredHandle, ulAttribute: int, pBuffer: object, cbBuffer: int = 0
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Use in its place what SetContextAttributes names."""
    return _refuse(phCredential, CredHandle, "credssp has no attribute that can be set", _BY_POLICY)


async def ChangeAccountPassword(
    pszPackageName: str,
    pszDomainName: str,
    pszAccountName: str,
    pszOldPassword: str,
    pszNewPassword: str,
    bImpersonating: bool = False,
    dwReserved: int = 0,
    pOutput: SecBufferDesc | None = None,
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION: CredSSP carries no password change. Instead: use kpasswd or LDAP."""
    return SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


def _refuse_tokens(phContext: CtxtHandle) -> SecurityStatus:
    return _refuse(
        phContext,
        CtxtHandle,
        "windows access tokens do not exist here",
        "query SECPKG_ATTR_NAMES for the user and SECPKG_ATTR_CREDS_2 for the delegated credentials",
        SecurityStatus.SEC_E_NO_IMPERSONATION,
    )


def _refuse(
    handle: CredHandle | CtxtHandle,
    kind: type[CredHandle | CtxtHandle],
    reason: str,
    hint: str,
    status: SecurityStatus = _UNSUPPORTED,
) -> SecurityStatus:
    expect("the handle", handle, kind)
    try:
        _ = handle.state
    except CredSSPError as error:
        return failure(error, handle)
    return failure(refusal(reason, status, hint), handle)

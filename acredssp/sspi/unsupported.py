"""The functions of SSPI that CredSSP does not have, or that only Windows can have. Each says what to use in its place.

As everywhere, an invalid handle gives SEC_E_INVALID_HANDLE first. The handle's `.error` has the text of the refusal.
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


async def CompleteAuthToken(phContext: CtxtHandle, pToken: SecBufferDesc) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION.

    It is for Digest; CredSSP never answers with SEC_I_COMPLETE_NEEDED or SEC_I_COMPLETE_AND_CONTINUE.
    """
    return _refuse(phContext, CtxtHandle, "credssp's tokens are complete as they are", "send them")


async def ImpersonateSecurityContext(phContext: CtxtHandle) -> SecurityStatus:
    """Refuse: SEC_E_NO_IMPERSONATION. A server must look at the status and not serve the client on a failure.

    Instead: QueryContextAttributes with SECPKG_ATTR_NAMES says who the client is, with SECPKG_ATTR_CREDS_2 what it
    delegated.
    """
    return _refuse_tokens(phContext)


async def RevertSecurityContext(phContext: CtxtHandle) -> SecurityStatus:
    """Refuse: SEC_E_NO_IMPERSONATION. Nobody was impersonated, so there is nothing to come back from."""
    return _refuse_tokens(phContext)


async def QuerySecurityContextToken(phContext: CtxtHandle, Token: object = None) -> SecurityStatus:
    """Refuse: SEC_E_NO_IMPERSONATION. Instead: as for ImpersonateSecurityContext."""
    return _refuse_tokens(phContext)


async def MakeSignature(
    phContext: CtxtHandle, fQOP: int, pMessage: SecBufferDesc, MessageSeqNo: int = 0
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: EncryptMessage, whose TLS records are verified too."""
    return _refuse(phContext, CtxtHandle, "tls has no signatures apart", "use EncryptMessage")


async def VerifySignature(
    phContext: CtxtHandle, pMessage: SecBufferDesc, MessageSeqNo: int = 0, pfQOP: ULONG | None = None
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: DecryptMessage, which fails for an altered record."""
    return _refuse(phContext, CtxtHandle, "tls has no signatures apart", "use DecryptMessage")


async def ExportSecurityContext(
    phContext: CtxtHandle, fFlags: int, pPackedContext: SecBuffer, pToken: object = None
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: hand the connection over with the process that has it."""
    return _refuse(phContext, CtxtHandle, "a tls connection cannot leave its process", "carry its data across")


async def ImportSecurityContext(
    pszPackage: str, pPackedContext: SecBuffer, Token: object, phContext: CtxtHandle
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. `phContext`, which would receive the handle, receives `.error`."""
    expect("phContext", phContext, CtxtHandle)
    error = refusal("a tls connection cannot come from another process", _UNSUPPORTED, "carry its data across")
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
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: AcquireCredentialsHandle, once for each."""
    return _refuse(hCredentials, CredHandle, "a handle has one set of credentials", "acquire another handle")


async def SetContextAttributes(
    phContext: CtxtHandle, ulAttribute: int, pBuffer: object, cbBuffer: int = 0
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION: CredSSP defines no attribute that can be set.

    Instead: a `ClientConfig` or `ServerConfig` with the `Policy` that is wanted, as pAuthData.
    """
    return _refuse(phContext, CtxtHandle, "credssp has no attribute to set", "say it by the credentials' policy")


async def SetCredentialsAttributes(
    phCredential: CredHandle, ulAttribute: int, pBuffer: object, cbBuffer: int = 0
) -> SecurityStatus:
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION. Instead: as for SetContextAttributes."""
    return _refuse(phCredential, CredHandle, "credssp has no attribute to set", "say it by the credentials' policy")


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
    """Refuse: SEC_E_UNSUPPORTED_FUNCTION: CredSSP carries no password change. Instead: kpasswd, or LDAP."""
    return SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


def _refuse_tokens(phContext: CtxtHandle) -> SecurityStatus:
    return _refuse(
        phContext,
        CtxtHandle,
        "there are no access tokens outside of windows",
        "ask QueryContextAttributes for SECPKG_ATTR_NAMES and SECPKG_ATTR_CREDS_2, and act by them",
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

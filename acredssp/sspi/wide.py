"""The names with a W, which the SDK's headers give to the functions and structures with texts in UTF-16.

In C, a name without a suffix is a macro for the name with W if UNICODE is defined, so code uses either. Python's texts
know no such difference, so both names are the same object.
"""

from acredssp.sspi.attributes import QueryContextAttributes
from acredssp.sspi.credentials import AcquireCredentialsHandle, QueryCredentialsAttributes
from acredssp.sspi.packages import EnumerateSecurityPackages, QuerySecurityPackageInfo
from acredssp.sspi.steps import InitializeSecurityContext
from acredssp.sspi.structures import (
    SEC_WINNT_AUTH_IDENTITY,
    SEC_WINNT_AUTH_IDENTITY_EX,
    SecPkgContext_Names,
    SecPkgContext_NativeNames,
    SecPkgContext_NegotiationInfo,
    SecPkgContext_PackageInfo,
    SecPkgCredentials_Names,
    SecPkgInfo,
)
from acredssp.sspi.unsupported import (
    AddCredentials,
    ChangeAccountPassword,
    ImportSecurityContext,
    SetContextAttributes,
    SetCredentialsAttributes,
)

AcquireCredentialsHandleW = AcquireCredentialsHandle
AddCredentialsW = AddCredentials
ChangeAccountPasswordW = ChangeAccountPassword
EnumerateSecurityPackagesW = EnumerateSecurityPackages
ImportSecurityContextW = ImportSecurityContext
InitializeSecurityContextW = InitializeSecurityContext
QueryContextAttributesW = QueryContextAttributes
QueryCredentialsAttributesW = QueryCredentialsAttributes
QuerySecurityPackageInfoW = QuerySecurityPackageInfo
SetContextAttributesW = SetContextAttributes
SetCredentialsAttributesW = SetCredentialsAttributes

SecPkgContext_NamesW = SecPkgContext_Names
SecPkgContext_NativeNamesW = SecPkgContext_NativeNames
SecPkgContext_NegotiationInfoW = SecPkgContext_NegotiationInfo
SecPkgContext_PackageInfoW = SecPkgContext_PackageInfo
SecPkgCredentials_NamesW = SecPkgCredentials_Names
SecPkgInfoW = SecPkgInfo
SEC_WINNT_AUTH_IDENTITY_W = SEC_WINNT_AUTH_IDENTITY
SEC_WINNT_AUTH_IDENTITY_EXW = SEC_WINNT_AUTH_IDENTITY_EX

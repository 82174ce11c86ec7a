"""Which packages there are (EnumerateSecurityPackages, QuerySecurityPackageInfo), and FreeContextBuffer."""

import dataclasses
from typing import Final, TypeAlias

from acredssp.sspi.arguments import expect
from acredssp.sspi.buffers import SecBuffer, SecBufferDesc
from acredssp.sspi.constants import CREDSSP_NAME, TS_SSP_NAME
from acredssp.sspi.flags import SECPKG_FLAG
from acredssp.sspi.structures import (
    ULONG,
    SecPkgContext_Bindings,
    SecPkgContext_ClientCreds,
    SecPkgContext_IssuerListInfoEx,
    SecPkgContext_NegotiationInfo,
    SecPkgContext_PackageInfo,
    SecPkgContext_SessionKey,
    SecPkgInfo,
)
from acredssp.status import SecurityStatus

__all__ = [
    "ContextBuffer",
    "EnumerateSecurityPackages",
    "FreeContextBuffer",
    "QuerySecurityPackageInfo",
    "copy_structure",
    "find_package",
    "mechanism_info",
    "package_info",
]

_STREAM_OF_TLS: Final = (
    SECPKG_FLAG.INTEGRITY
    | SECPKG_FLAG.PRIVACY
    | SECPKG_FLAG.CONNECTION
    | SECPKG_FLAG.MULTI_REQUIRED
    | SECPKG_FLAG.IMPERSONATION
    | SECPKG_FLAG.ACCEPT_WIN32_NAME
    | SECPKG_FLAG.STREAM
    | SECPKG_FLAG.MUTUAL_AUTH
    | SECPKG_FLAG.APPCONTAINER_CHECKS
)
_BARE: Final = (
    SECPKG_FLAG.CONNECTION | SECPKG_FLAG.MULTI_REQUIRED | SECPKG_FLAG.ACCEPT_WIN32_NAME | SECPKG_FLAG.MUTUAL_AUTH
)
_NO_RPC_ID: Final = 0xFFFF

# As current Windows systems enumerate them.
_PACKAGES: Final = {
    CREDSSP_NAME: SecPkgInfo(
        _STREAM_OF_TLS, 1, _NO_RPC_ID, 90_567, CREDSSP_NAME, "Microsoft CredSSP Security Provider"
    ),
    TS_SSP_NAME: SecPkgInfo(_BARE, 1, 0x16, 13_000, TS_SSP_NAME),
}

_MECHANISMS: Final = {
    "ntlm": SecPkgInfo(SECPKG_FLAG(0x00082B37), 1, 10, 2_888, "NTLM", "NTLM Security Package"),
    "kerberos": SecPkgInfo(SECPKG_FLAG(0x000F3BBF), 1, 16, 48_000, "Kerberos", "Microsoft Kerberos V1.0"),
}

ContextBuffer: TypeAlias = (
    SecBuffer
    | SecBufferDesc
    | SecPkgInfo
    | list[SecPkgInfo]
    | SecPkgContext_Bindings
    | SecPkgContext_ClientCreds
    | SecPkgContext_IssuerListInfoEx
    | SecPkgContext_NegotiationInfo
    | SecPkgContext_PackageInfo
    | SecPkgContext_SessionKey
    | bytes
    | None
)
"""What may hold memory of the package's."""


def find_package(name: str) -> SecPkgInfo | None:
    """A package's facts by the name that a caller gives, in any case; None for no such package."""
    return _PACKAGES.get(name.upper())


def package_info(name: str) -> SecPkgInfo:
    """A package's facts, as an object of its own, by the name in `CredentialState.package`."""
    return dataclasses.replace(_PACKAGES[name])


def mechanism_info(name: str) -> SecPkgInfo:
    """The same for what authenticated inside, by the name in `HandshakeInfo.mechanism`."""
    return dataclasses.replace(_MECHANISMS[name])


async def EnumerateSecurityPackages(pcPackages: ULONG | None, ppPackageInfo: list[SecPkgInfo]) -> SecurityStatus:
    """List the packages.

    Args:
        pcPackages: Receives how many; None for a caller who can count.
        ppPackageInfo: Receives them in place of what is in it.

    Returns:
        SEC_E_OK.

    Raises:
        TypeError: A parameter has a wrong Python type.
    """
    expect("pcPackages", pcPackages, ULONG, type(None))
    expect("ppPackageInfo", ppPackageInfo, list)
    ppPackageInfo[:] = map(package_info, _PACKAGES)
    if pcPackages is not None:
        pcPackages.value = len(ppPackageInfo)
    return SecurityStatus.SEC_E_OK


async def QuerySecurityPackageInfo(pszPackageName: str, ppPackageInfo: SecPkgInfo) -> SecurityStatus:
    """Describe a package.

    Args:
        pszPackageName: `CREDSSP` or `TSSSP`, in any case.
        ppPackageInfo: Receives its facts.

    Returns:
        SEC_E_OK, or SEC_E_SECPKG_NOT_FOUND.

    Raises:
        TypeError: A parameter has a wrong Python type.
    """
    expect("pszPackageName", pszPackageName, str)
    expect("ppPackageInfo", ppPackageInfo, SecPkgInfo)
    info = find_package(pszPackageName)
    if info is None:
        return SecurityStatus.SEC_E_SECPKG_NOT_FOUND
    copy_structure(info, ppPackageInfo)
    return SecurityStatus.SEC_E_OK


async def FreeContextBuffer(pvContextBuffer: ContextBuffer) -> SecurityStatus:
    """Give back memory that the package allocated: what held it is empty afterwards.

    Delegated credentials are overwritten with zeros; everything else is Python's to collect. The `bytes` of an output
    buffer may be given as they are, as C code does: they cannot be taken from who holds them, so nothing happens.

    Args:
        pvContextBuffer: A buffer that the package filled, a descriptor of such, or a structure of a query.

    Returns:
        SEC_E_OK, or SEC_E_INVALID_HANDLE for a buffer whose memory is the caller's; it is left as it is.

    Raises:
        TypeError: Nothing of that Python type is ever allocated.
    """
    match pvContextBuffer:
        case None | bytes():
            pass
        case SecBuffer():
            if not pvContextBuffer.free():
                return SecurityStatus.SEC_E_INVALID_HANDLE
        case SecBufferDesc():
            pvContextBuffer.expect_buffers()
            for buffer in pvContextBuffer.pBuffers:
                if buffer.allocated:
                    buffer.free()
        case list():
            pvContextBuffer.clear()
        case SecPkgContext_ClientCreds():
            pvContextBuffer.AuthBuffer[:] = bytes(len(pvContextBuffer.AuthBuffer))
            copy_structure(SecPkgContext_ClientCreds(), pvContextBuffer)
        case _:
            expect(
                "pvContextBuffer", pvContextBuffer, SecPkgInfo, SecPkgContext_Bindings, SecPkgContext_IssuerListInfoEx,
                SecPkgContext_NegotiationInfo, SecPkgContext_PackageInfo, SecPkgContext_SessionKey,
            )  # fmt: skip
            copy_structure(type(pvContextBuffer)(), pvContextBuffer)
    return SecurityStatus.SEC_E_OK


def copy_structure(source: object, target: object) -> None:
    """Fill a structure of the caller's with what is in another one of its class."""
    for field in dataclasses.fields(source):  # type: ignore[arg-type] # both are structures of one class
        setattr(target, field.name, getattr(source, field.name))

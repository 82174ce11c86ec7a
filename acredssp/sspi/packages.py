"""The security packages (EnumerateSecurityPackages, QuerySecurityPackageInfo), and FreeContextBuffer."""

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

# The packages as current Windows systems enumerate them.
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
"""The objects that may hold memory that the package allocated."""


def find_package(name: str) -> SecPkgInfo | None:
    """Return a package's facts by the name that a caller gives, in any case; None if there is no such package."""
    return _PACKAGES.get(name.upper())


def package_info(name: str) -> SecPkgInfo:
    """Return a copy of a package's facts, by the name in `CredentialState.package`."""
    return dataclasses.replace(_PACKAGES[name])


def mechanism_info(name: str) -> SecPkgInfo:
    """Return a copy of a mechanism's facts, by the name in `HandshakeInfo.mechanism`."""
    return dataclasses.replace(_MECHANISMS[name])


async def EnumerateSecurityPackages(pcPackages: ULONG | None, ppPackageInfo: list[SecPkgInfo]) -> SecurityStatus:
    """List the packages.

    Args:
        pcPackages: Receives the number of packages; may be None.
        ppPackageInfo: Receives the packages, in place of its content.

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
        ppPackageInfo: Receives the package's facts.

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
    """Give back memory that the package allocated; the buffer or structure that held it is empty afterwards.

    Delegated credentials are overwritten with zeros; Python frees everything else. As in C, the `bytes` of an output
    buffer may be given too. Nothing happens then, since the caller still holds them.

    Args:
        pvContextBuffer: A buffer that the package filled, a descriptor of such buffers, or a structure of a query.

    Returns:
        SEC_E_OK, or SEC_E_INVALID_HANDLE for a buffer with the caller's own memory, which is left unchanged.

    Raises:
        TypeError: The package never allocates an object of that Python type.
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
    """Copy the fields of a structure into the caller's structure of the same class."""
    for field in dataclasses.fields(source):  # type: ignore[arg-type] # both are structures of one class
        setattr(target, field.name, getattr(source, field.name))

import pytest

from acredssp.sspi import (
    SEC_CHANNEL_BINDINGS,
    SECBUFFER_ALERT,
    SECBUFFER_TOKEN,
    SECPKG_FLAG,
    ULONG,
    EnumerateSecurityPackages,
    FreeContextBuffer,
    QuerySecurityPackageInfo,
    SecBuffer,
    SecBufferDesc,
    SecPkgContext_Bindings,
    SecPkgContext_ClientCreds,
    SecPkgContext_IssuerListInfoEx,
    SecPkgContext_NegotiationInfo,
    SecPkgContext_PackageInfo,
    SecPkgContext_SessionKey,
    SecPkgContext_Sizes,
    SecPkgInfo,
    SecurityStatus,
)
from acredssp.sspi.packages import package_info


@pytest.mark.requirement("C4")
async def test_the_packages_are_listed_by_their_names():
    count, packages = ULONG(), [SecPkgInfo(Name="left from before")]
    assert await EnumerateSecurityPackages(count, packages) is SecurityStatus.SEC_E_OK
    assert [package.Name for package in packages] == ["CREDSSP", "TSSSP"]
    assert count.value == 2
    assert await EnumerateSecurityPackages(None, packages) is SecurityStatus.SEC_E_OK
    assert len(packages) == 2


@pytest.mark.parametrize(
    ("name", "capabilities", "rpc_id", "most"),
    [("CREDSSP", 0x00810733, 0xFFFF, 90_567), ("TSSSP", 0x00010230, 0x16, 13_000)],
)
async def test_a_package_is_described_as_windows_does(name, capabilities, rpc_id, most):
    info = SecPkgInfo()
    assert await QuerySecurityPackageInfo(name.title(), info) is SecurityStatus.SEC_E_OK
    assert (info.Name, info.fCapabilities, info.wVersion, info.wRPCID) == (name, capabilities, 1, rpc_id)
    assert info.cbMaxToken == most
    assert info == package_info(name)
    assert SECPKG_FLAG.CONNECTION in info.fCapabilities


async def test_what_a_caller_does_to_a_description_is_the_callers_own():
    packages, again = [], SecPkgInfo()
    await EnumerateSecurityPackages(None, packages)
    packages[0].Name = "MINE"
    await QuerySecurityPackageInfo("CREDSSP", again)
    assert again.Name == "CREDSSP"


@pytest.mark.parametrize("name", ["", "NTLM", "Schannel", "credssp2"])
async def test_an_unknown_package_is_not_found(name):
    info = SecPkgInfo()
    assert await QuerySecurityPackageInfo(name, info) is SecurityStatus.SEC_E_SECPKG_NOT_FOUND
    assert info == SecPkgInfo()


async def test_wrong_python_types_are_the_callers_mistake():
    with pytest.raises(TypeError, match="ppPackageInfo: expected list, got NoneType"):
        await EnumerateSecurityPackages(None, None)
    with pytest.raises(TypeError, match="pcPackages"):
        await EnumerateSecurityPackages(2, [])
    with pytest.raises(TypeError, match="pszPackageName"):
        await QuerySecurityPackageInfo(None, SecPkgInfo())
    with pytest.raises(TypeError, match="pvContextBuffer"):
        await FreeContextBuffer(SecPkgContext_Sizes())


@pytest.mark.requirement("R87")
async def test_what_the_package_allocated_is_given_back():
    token, alert = SecBuffer(SECBUFFER_TOKEN), SecBuffer(SECBUFFER_ALERT, bytearray(8))
    token.put(b"token", allocate=True)
    alert.put(b"al", allocate=False)
    assert await FreeContextBuffer(SecBufferDesc([token, alert])) is SecurityStatus.SEC_E_OK
    assert (token.pvBuffer, token.cbBuffer) == (None, 0)
    assert bytes(alert) == b"al"


async def test_what_is_no_buffer_is_a_type_error_and_nothing_is_freed():
    token = SecBuffer(SECBUFFER_TOKEN)
    token.put(b"token", allocate=True)
    with pytest.raises(TypeError, match="expected SecBuffer, got NoneType"):
        await FreeContextBuffer(SecBufferDesc([token, None]))
    assert bytes(token) == b"token"


async def test_one_buffer_is_freed_as_it_stands_or_by_its_memory():
    token = SecBuffer(SECBUFFER_TOKEN)
    token.put(b"token", allocate=True)
    assert await FreeContextBuffer(token.pvBuffer) is SecurityStatus.SEC_E_OK
    assert await FreeContextBuffer(token) is SecurityStatus.SEC_E_OK
    assert token.pvBuffer is None
    assert await FreeContextBuffer(token) is SecurityStatus.SEC_E_OK
    assert await FreeContextBuffer(None) is SecurityStatus.SEC_E_OK


async def test_the_callers_memory_is_not_taken():
    token = SecBuffer(SECBUFFER_TOKEN, bytearray(b"mine"))
    assert await FreeContextBuffer(token) is SecurityStatus.SEC_E_INVALID_HANDLE
    assert bytes(token) == b"mine"


async def test_delegated_credentials_are_overwritten():
    memory = bytearray(b"Passw0rd!")
    creds = SecPkgContext_ClientCreds(memory)
    assert await FreeContextBuffer(creds) is SecurityStatus.SEC_E_OK
    assert memory == bytes(9)
    assert creds.AuthBufferLen == 0


@pytest.mark.parametrize(
    "filled",
    [
        SecPkgInfo(Name="CREDSSP", cbMaxToken=1),
        SecPkgContext_PackageInfo(SecPkgInfo(Name="NTLM")),
        SecPkgContext_NegotiationInfo(SecPkgInfo(Name="NTLM")),
        SecPkgContext_IssuerListInfoEx([b"issuer"]),
        SecPkgContext_Bindings(SEC_CHANNEL_BINDINGS(ApplicationData=b"abc")),
        SecPkgContext_SessionKey(b"key"),
    ],
)
async def test_structures_are_empty_once_they_are_freed(filled):
    assert await FreeContextBuffer(filled) is SecurityStatus.SEC_E_OK
    assert filled == type(filled)()


async def test_a_list_of_packages_is_freed_whole():
    packages = []
    await EnumerateSecurityPackages(None, packages)
    assert await FreeContextBuffer(packages) is SecurityStatus.SEC_E_OK
    assert packages == []

import pytest

from acredssp import sspi
from acredssp.sspi import CredHandle, CtxtHandle, SecBuffer, SecBufferDesc, SecurityStatus
from acredssp.sspi.handles import ContextState, CredentialState

UNSUPPORTED = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
NO_IMPERSONATION = SecurityStatus.SEC_E_NO_IMPERSONATION


def context():
    handle = CtxtHandle()
    handle.assign(ContextState())
    return handle


def credentials():
    handle = CredHandle()
    handle.assign(
        CredentialState(
            package="CREDSSP", client=None, server=None, principal="", certificate=None, issuers=None,
            logon_id=None,
        )
    )  # fmt: skip
    return handle


REFUSED = [
    pytest.param(
        sspi.CompleteAuthToken, context, (SecBufferDesc(),), UNSUPPORTED,
        marks=pytest.mark.requirement("R61", "R62", "R91"),
    ),
    pytest.param(
        sspi.ImpersonateSecurityContext, context, (), NO_IMPERSONATION, marks=pytest.mark.requirement("A35")
    ),
    (sspi.RevertSecurityContext, context, (), NO_IMPERSONATION),
    pytest.param(
        sspi.QuerySecurityContextToken, context, (None,), NO_IMPERSONATION, marks=pytest.mark.requirement("A35")
    ),
    (sspi.MakeSignature, context, (0, SecBufferDesc(), 0), UNSUPPORTED),
    (sspi.VerifySignature, context, (SecBufferDesc(), 0, None), UNSUPPORTED),
    (sspi.ExportSecurityContext, context, (0, SecBuffer(), None), UNSUPPORTED),
    (sspi.SetContextAttributes, context, (1, None, 0), UNSUPPORTED),
    (sspi.AddCredentials, credentials, (None, "CREDSSP", 2), UNSUPPORTED),
    (sspi.SetCredentialsAttributes, credentials, (1, None, 0), UNSUPPORTED),
]  # fmt: skip


@pytest.mark.parametrize(("function", "make", "arguments", "status"), REFUSED)
async def test_a_function_that_is_not_there_says_what_to_use(function, make, arguments, status):
    handle = make()
    assert await function(handle, *arguments) is status
    assert handle.error.security_status is status
    assert handle.error.hint
    assert function.__doc__.startswith(f"Refuse: {status}")
    assert handle.valid


@pytest.mark.parametrize(("function", "make", "arguments", "status"), REFUSED)
async def test_a_handle_that_is_not_valid_comes_first(function, make, arguments, status):
    freed, empty = make(), type(make())()
    freed.state.alive = False
    for handle in (freed, empty):
        assert await function(handle, *arguments) is SecurityStatus.SEC_E_INVALID_HANDLE
        assert handle.error.security_status is SecurityStatus.SEC_E_INVALID_HANDLE


@pytest.mark.parametrize(("function", "make", "arguments", "status"), REFUSED)
async def test_a_handle_of_another_kind_is_the_callers_mistake(function, make, arguments, status):
    other = credentials if make is context else context
    with pytest.raises(TypeError, match="the handle: expected"):
        await function(other(), *arguments)


async def test_a_context_cannot_be_imported():
    handle = CtxtHandle()
    assert await sspi.ImportSecurityContext("CREDSSP", SecBuffer(), None, handle) is UNSUPPORTED
    assert handle.error.hint
    assert not handle.valid


async def test_a_password_cannot_be_changed():
    status = await sspi.ChangeAccountPassword("CREDSSP", "CONTOSO", "alice", "old", "new")
    assert status is UNSUPPORTED

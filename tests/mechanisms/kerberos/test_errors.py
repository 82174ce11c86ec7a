"""Numbers of the libraries, and the errors they become."""

import pytest

from acredssp.errors import AuthenticationError, CredSSPError, RemoteProtocolError
from acredssp.mechanisms.kerberos.errors import Phase, translate
from acredssp.status import NTSTATUS, SecurityStatus

BASE = -1765328384
FAILURE = 13 << 16
ACCEPT, INITIATE, MESSAGE, REPLY = Phase.ACCEPT, Phase.INITIATE, Phase.MESSAGE, Phase.REPLY


class Native(Exception):
    """What a library raises: with some of the numbers."""

    def __init__(self, **numbers):
        super().__init__("principal alice@REALM in file /somewhere")
        vars(self).update(numbers)


def gss(code, major=FAILURE):
    return Native(maj_code=major, min_code=(BASE + code) & 0xFFFFFFFF)


ROWS = [
    (6, INITIATE, "SEC_E_LOGON_DENIED", "STATUS_LOGON_FAILURE"),
    (7, INITIATE, "SEC_E_TARGET_UNKNOWN", "STATUS_LOGON_FAILURE"),
    (13, INITIATE, "SEC_E_NO_CREDENTIALS", "STATUS_LOGON_FAILURE"),
    (14, INITIATE, "SEC_E_KDC_UNKNOWN_ETYPE", "STATUS_LOGON_FAILURE"),
    (18, INITIATE, "SEC_E_LOGON_DENIED", "STATUS_ACCOUNT_DISABLED"),
    (23, INITIATE, "SEC_E_LOGON_DENIED", "STATUS_PASSWORD_EXPIRED"),
    (24, INITIATE, "SEC_E_LOGON_DENIED", "STATUS_LOGON_FAILURE"),
    (31, INITIATE, "SEC_E_LOGON_DENIED", "STATUS_LOGON_FAILURE"),
    (31, REPLY, "SEC_E_WRONG_PRINCIPAL", "STATUS_MUTUAL_AUTHENTICATION_FAILED"),
    (31, ACCEPT, "SEC_E_WRONG_PRINCIPAL", "STATUS_MUTUAL_AUTHENTICATION_FAILED"),
    (32, ACCEPT, "SEC_E_CONTEXT_EXPIRED", "STATUS_TIME_DIFFERENCE_AT_DC"),
    (33, ACCEPT, "SEC_E_TIME_SKEW", "STATUS_TIME_DIFFERENCE_AT_DC"),
    (34, ACCEPT, "SEC_E_LOGON_DENIED", "STATUS_LOGON_FAILURE"),
    (35, ACCEPT, "SEC_E_WRONG_PRINCIPAL", "STATUS_MUTUAL_AUTHENTICATION_FAILED"),
    (37, REPLY, "SEC_E_TIME_SKEW", "STATUS_TIME_DIFFERENCE_AT_DC"),
    (41, REPLY, "SEC_E_WRONG_PRINCIPAL", "STATUS_MUTUAL_AUTHENTICATION_FAILED"),
    (46, REPLY, "SEC_E_MUTUAL_AUTH_FAILED", "STATUS_LOGON_FAILURE"),
    (154, INITIATE, "SEC_E_NO_AUTHENTICATING_AUTHORITY", "STATUS_NO_LOGON_SERVERS"),
    (156, INITIATE, "SEC_E_NO_AUTHENTICATING_AUTHORITY", "STATUS_NO_LOGON_SERVERS"),
    (181, INITIATE, "SEC_E_NO_CREDENTIALS", "STATUS_LOGON_FAILURE"),
    (181, ACCEPT, "SEC_E_NO_CREDENTIALS", "STATUS_NO_LOGON_SERVERS"),
    (195, INITIATE, "SEC_E_NO_CREDENTIALS", "STATUS_LOGON_FAILURE"),
    (221, INITIATE, "SEC_E_NO_CREDENTIALS", "STATUS_LOGON_FAILURE"),
    (127, INITIATE, "SEC_E_LOGON_DENIED", "STATUS_LOGON_FAILURE"),
]


@pytest.mark.parametrize(("code", "phase", "security_status", "nt_status"), ROWS)
@pytest.mark.parametrize("of", ["gssapi", "krb5", "pyspnego"])
def test_a_number_of_kerberos_is_its_error(code, phase, security_status, nt_status, of):
    native = {
        "gssapi": gss(code),
        "krb5": Native(err_code=BASE + code),
        "pyspnego": Native(base_error=gss(code)),
    }[of]
    error = translate(native, phase)
    assert isinstance(error, AuthenticationError)
    assert error.security_status is SecurityStatus[security_status]
    assert error.nt_status is NTSTATUS[nt_status]
    assert "alice" not in str(error)
    assert "somewhere" not in str(error)


@pytest.mark.parametrize(
    ("major", "kind", "security_status"),
    [
        (2 << 16, AuthenticationError, "SEC_E_TARGET_UNKNOWN"),
        (4 << 16, RemoteProtocolError, "SEC_E_BAD_BINDINGS"),
        (6 << 16, RemoteProtocolError, "SEC_E_MESSAGE_ALTERED"),
        (7 << 16, AuthenticationError, "SEC_E_NO_CREDENTIALS"),
        (9 << 16, RemoteProtocolError, "SEC_E_INVALID_TOKEN"),
        (11 << 16, AuthenticationError, "SEC_E_CONTEXT_EXPIRED"),
        (FAILURE, AuthenticationError, "SEC_E_LOGON_DENIED"),
        *((bit, RemoteProtocolError, "SEC_E_OUT_OF_SEQUENCE") for bit in (2, 4, 8, 16)),
    ],
)
def test_a_major_status_counts_where_there_is_no_cause(major, kind, security_status):
    error = translate(Native(maj_code=major, min_code=0), MESSAGE)
    assert type(error) is kind
    assert error.security_status is SecurityStatus[security_status]


def test_windows_gives_the_status_itself():
    error = translate(Native(base_error=Native(winerror=-2146893052 + 30)), INITIATE)
    assert error.security_status is SecurityStatus.SEC_E_WRONG_PRINCIPAL


@pytest.mark.parametrize("number", [2, 13])
def test_a_file_that_is_not_there_is_no_credentials(number):
    assert translate(Native(err_code=number), INITIATE).security_status is SecurityStatus.SEC_E_NO_CREDENTIALS


@pytest.mark.parametrize("error", [ValueError("x"), AttributeError("x"), OSError(5, "x")])
def test_whatever_else_it_is_no_other_exception_leaves(error):
    assert isinstance(translate(error, INITIATE), CredSSPError)


def test_a_library_that_does_not_load_is_no_wrong_password():
    error = translate(ImportError("libgssapi"), INITIATE)
    assert error.security_status is SecurityStatus.SEC_E_SECPKG_NOT_FOUND

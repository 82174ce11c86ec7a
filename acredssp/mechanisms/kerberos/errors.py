"""Turns Kerberos' failures into `CredSSPError`s, by the numbers of RFC 4120 7.5.9, of MIT's library and of GSS-API.

A failure may have several numbers. The minor status of GSS-API (or the error of libkrb5, where it was called directly)
tells the cause; where there is none, the major status counts. Windows' library gives a SECURITY_STATUS, which is used
as it is.

Error texts are our own. The library's text, which holds names of principals and files, is in the `__cause__`.
"""

import dataclasses
import enum
from typing import Final

from acredssp.errors import AuthenticationError, CredSSPError, PolicyError, RemoteProtocolError
from acredssp.status import NTSTATUS, SecurityStatus

__all__ = ["Phase", "translate"]

_BASE: Final = 0x96C73A00
"""ERROR_TABLE_BASE_krb5 as the 32 bits of a minor status. The numbers below base + 128 are the codes of RFC 4120."""
_MAJOR_SHIFT: Final = 16
_SUPPLEMENTARY: Final = 0x1E
"""GSS_S_DUPLICATE_TOKEN, OLD_TOKEN, UNSEQ_TOKEN and GAP_TOKEN: valid tokens in the wrong order."""

_NO_FILE: Final = (2, 13)
"""ENOENT and EACCES, which libkrb5 returns for a keytab's file."""

_CLOCKS: Final = "set both clocks: kerberos allows them to differ by five minutes"
_NO_KDC: Final = "check that krb5.conf or dns names the realm's kdc, and that the kdc can be reached"
_KEYTAB: Final = "check the spn, and that the service's keytab has the same key as the kdc"
_LOG_ON: Final = "get a ticket first, for example with kinit"


@dataclasses.dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    security_status: SecurityStatus
    nt_status: NTSTATUS | None = NTSTATUS.STATUS_LOGON_FAILURE
    hint: str | None = None
    error: type[CredSSPError] = AuthenticationError

    def make(self) -> CredSSPError:
        return self.error(
            f"kerberos: {self.text}",
            security_status=self.security_status,
            nt_status=self.nt_status,
            hint=self.hint,
        )


_DENIED: Final = _Failure("the password is wrong", SecurityStatus.SEC_E_LOGON_DENIED)
_NO_USER: Final = _Failure("the kdc does not know the user", SecurityStatus.SEC_E_LOGON_DENIED)
_NO_TARGET: Final = _Failure(
    "the kdc does not know the service",
    SecurityStatus.SEC_E_TARGET_UNKNOWN,
    hint="give the spn that the server is registered with",
)
_NO_AUTHORITY: Final = _Failure(
    "no kdc answers for the realm",
    SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
    NTSTATUS.STATUS_NO_LOGON_SERVERS,
    _NO_KDC,
)
_SKEW: Final = _Failure(
    "the clocks differ too much", SecurityStatus.SEC_E_TIME_SKEW, NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC, _CLOCKS
)
_EXPIRED: Final = _Failure(
    "the ticket has expired",
    SecurityStatus.SEC_E_CONTEXT_EXPIRED,
    NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC,  # a client sends only tickets that are valid by its own clock
    _LOG_ON,
)
_WRONG_PRINCIPAL: Final = _Failure(
    "the ticket was made for another key than the service's",
    SecurityStatus.SEC_E_WRONG_PRINCIPAL,
    NTSTATUS.STATUS_MUTUAL_AUTHENTICATION_FAILED,
    _KEYTAB,
)
_NO_CREDENTIALS: Final = _Failure(
    "there is no ticket or no key to log on with", SecurityStatus.SEC_E_NO_CREDENTIALS, hint=_LOG_ON
)
_NOT_FORWARDABLE: Final = _Failure(
    "the ticket may not be forwarded",
    SecurityStatus.SEC_E_NO_CREDENTIALS,
    hint="get a forwardable ticket, for example with kinit -f",
)
_NO_KEYTAB: Final = _Failure(
    "the service has no keytab",
    SecurityStatus.SEC_E_NO_CREDENTIALS,
    NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "check that the keytab exists and is readable",
)
_NO_ENCTYPE: Final = _Failure("there is no encryption type in common", SecurityStatus.SEC_E_KDC_UNKNOWN_ETYPE)
_NOT_MUTUAL: Final = _Failure("the server did not prove itself", SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED)
_REPLAY: Final = _Failure("the ticket was presented before", SecurityStatus.SEC_E_LOGON_DENIED)
_MALFORMED: Final = _Failure(
    "the peer's token is malformed", SecurityStatus.SEC_E_INVALID_TOKEN, None, error=RemoteProtocolError
)
_ALTERED: Final = _Failure(
    "the peer's token has a wrong checksum", SecurityStatus.SEC_E_MESSAGE_ALTERED, None, error=RemoteProtocolError
)
_OUT_OF_SEQUENCE: Final = _Failure(
    "the peer's token is not the next one", SecurityStatus.SEC_E_OUT_OF_SEQUENCE, None, error=RemoteProtocolError
)
_BINDINGS: Final = _Failure(
    "the peer's channel bindings are others than ours",
    SecurityStatus.SEC_E_BAD_BINDINGS,
    None,
    error=RemoteProtocolError,
)
_NO_LIBRARY: Final = _Failure(
    "the kerberos library cannot be loaded",
    SecurityStatus.SEC_E_SECPKG_NOT_FOUND,
    NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "install acredssp[kerberos], and libkrb5",
    PolicyError,
)
_UNKNOWN: Final = _Failure("the logon failed", SecurityStatus.SEC_E_LOGON_DENIED)
_CONFIGURATION: Final = _Failure(
    "the configuration cannot be used",
    SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
    NTSTATUS.STATUS_NO_LOGON_SERVERS,
    "check that krb5.conf exists and is correct",
)


def _account(text: str, nt_status: NTSTATUS) -> _Failure:
    return _Failure(text, SecurityStatus.SEC_E_LOGON_DENIED, nt_status)


_MINOR: Final = {
    1: _account("the account has expired", NTSTATUS.STATUS_ACCOUNT_EXPIRED),  # KDC_ERR_NAME_EXP
    6: _NO_USER,  # KDC_ERR_C_PRINCIPAL_UNKNOWN
    7: _NO_TARGET,  # KDC_ERR_S_PRINCIPAL_UNKNOWN
    12: _account("the kdc's policy refuses the logon", NTSTATUS.STATUS_ACCOUNT_RESTRICTION),  # KDC_ERR_POLICY
    13: _NOT_FORWARDABLE,  # KDC_ERR_BADOPTION
    14: _NO_ENCTYPE,  # KDC_ERR_ETYPE_NOSUPP
    18: _account("the account is disabled or locked", NTSTATUS.STATUS_ACCOUNT_DISABLED),  # KDC_ERR_CLIENT_REVOKED
    19: _NO_TARGET,  # KDC_ERR_SERVICE_REVOKED
    23: _account("the password has expired", NTSTATUS.STATUS_PASSWORD_EXPIRED),  # KDC_ERR_KEY_EXPIRED
    24: _DENIED,  # KDC_ERR_PREAUTH_FAILED
    27: _NO_TARGET,  # KDC_ERR_MUST_USE_USER2USER
    29: _NO_AUTHORITY,  # KDC_ERR_SVC_UNAVAILABLE
    31: _DENIED,  # KRB_AP_ERR_BAD_INTEGRITY, which means something else in another `Phase`
    32: _EXPIRED,  # KRB_AP_ERR_TKT_EXPIRED
    33: _SKEW,  # KRB_AP_ERR_TKT_NYV
    34: _REPLAY,  # KRB_AP_ERR_REPEAT
    35: _WRONG_PRINCIPAL,  # KRB_AP_ERR_NOT_US
    36: _WRONG_PRINCIPAL,  # KRB_AP_ERR_BADMATCH
    37: _SKEW,  # KRB_AP_ERR_SKEW
    41: _WRONG_PRINCIPAL,  # KRB_AP_ERR_MODIFIED
    44: _WRONG_PRINCIPAL,  # KRB_AP_ERR_BADKEYVER
    45: _WRONG_PRINCIPAL,  # KRB_AP_ERR_NOKEY
    46: _NOT_MUTUAL,  # KRB_AP_ERR_MUT_FAIL
    50: _ALTERED,  # KRB_AP_ERR_INAPP_CKSUM
    68: _NO_AUTHORITY,  # KDC_ERR_WRONG_REALM
    135: _CONFIGURATION,  # KRB5_CONFIG_CANTOPEN
    136: _CONFIGURATION,  # KRB5_CONFIG_BADFORMAT
    139: _NO_CREDENTIALS,  # KRB5_CC_BADNAME
    140: _NO_CREDENTIALS,  # KRB5_CC_UNKNOWN_TYPE
    141: _NO_CREDENTIALS,  # KRB5_CC_NOTFOUND
    144: _WRONG_PRINCIPAL,  # KRB5KRB_AP_WRONG_PRINC
    147: _DENIED,  # KRB5_KDCREP_MODIFIED
    148: _SKEW,  # KRB5_KDCREP_SKEW
    150: _NO_ENCTYPE,  # KRB5_PROG_ETYPE_NOSUPP
    154: _NO_AUTHORITY,  # KRB5_REALM_UNKNOWN
    156: _NO_AUTHORITY,  # KRB5_KDC_UNREACH
    158: _NOT_MUTUAL,  # KRB5_MUTUAL_FAILED
    163: _REPLAY,  # KRB5_RC_REPLAY
    181: _NO_CREDENTIALS,  # KRB5_KT_NOTFOUND
    182: _NO_CREDENTIALS,  # KRB5_KT_END
    184: _NO_CREDENTIALS,  # KRB5_KT_IOERR
    193: _NO_CREDENTIALS,  # KRB5_CC_IO
    194: _NO_CREDENTIALS,  # KRB5_FCC_PERM
    195: _NO_CREDENTIALS,  # KRB5_FCC_NOFILE
    199: _NO_CREDENTIALS,  # KRB5_CC_FORMAT
    203: _NO_CREDENTIALS,  # KRB5_NOCREDS_SUPPLIED
    210: _DENIED,  # KRB5_PREAUTH_FAILED
    217: _NO_TARGET,  # KRB5_ERR_HOST_REALM_UNKNOWN
    221: _NOT_FORWARDABLE,  # KRB5_TKT_NOT_FORWARDABLE
    220: _NO_AUTHORITY,  # KRB5_REALM_CANT_RESOLVE
    224: _CONFIGURATION,  # KRB5_CONFIG_NODEFREALM
    230: _WRONG_PRINCIPAL,  # KRB5_KT_KVNONOTFOUND
    237: _NO_ENCTYPE,  # KRB5_CONFIG_ETYPE_NOSUPP
}
"""Failures by the minor status, less `_BASE`."""

_MAJOR: Final = {
    2: _NO_TARGET,  # GSS_S_BAD_NAME
    3: _NO_TARGET,  # GSS_S_BAD_NAMETYPE
    4: _BINDINGS,  # GSS_S_BAD_BINDINGS
    6: _ALTERED,  # GSS_S_BAD_MIC
    7: _NO_CREDENTIALS,  # GSS_S_NO_CRED
    9: _MALFORMED,  # GSS_S_DEFECTIVE_TOKEN
    10: _NO_CREDENTIALS,  # GSS_S_DEFECTIVE_CREDENTIAL
    11: _EXPIRED,  # GSS_S_CREDENTIALS_EXPIRED
    12: _EXPIRED,  # GSS_S_CONTEXT_EXPIRED
}
"""Failures by the routine error of the major status, where no minor status tells the cause."""


class Phase(enum.Enum):
    """The phase in which a failure happened, since the same number means different things in different phases."""

    INITIATE = enum.auto()
    """The client gets tickets, and makes an AP-REQ of them."""
    REPLY = enum.auto()
    """The client takes the service's AP-REP or KRB-ERROR."""
    ACCEPT = enum.auto()
    """The service finds its keys, and takes an AP-REQ."""
    MESSAGE = enum.auto()
    """Either side seals, unseals, signs or verifies a message."""


_IN_PHASE: Final[dict[Phase, dict[_Failure, _Failure]]] = {
    Phase.INITIATE: {},
    # The peer's message cannot be decrypted, since it was made with another key.
    Phase.REPLY: {_DENIED: _WRONG_PRINCIPAL},
    Phase.ACCEPT: {_DENIED: _WRONG_PRINCIPAL, _NO_CREDENTIALS: _NO_KEYTAB, _NO_USER: _UNKNOWN},
    Phase.MESSAGE: {_DENIED: _ALTERED},
}


def translate(error: BaseException, phase: Phase) -> CredSSPError:
    """Make the `CredSSPError` for an error of pyspnego, python-gssapi or python-krb5. Raise it from `error`."""
    native = getattr(error, "base_error", None) or error
    if isinstance(native, ImportError):
        return _NO_LIBRARY.make()
    windows = getattr(native, "winerror", None)
    if windows is not None:
        return _of_windows(windows & 0xFFFFFFFF)
    failure = _of_minor(native) or _of_major(native) or _UNKNOWN
    return _IN_PHASE[phase].get(failure, failure).make()


def _of_minor(native: object) -> _Failure | None:
    """Find the failure by the minor status of GSS-API, or by libkrb5's error code, the same number with a sign."""
    code = getattr(native, "min_code", None) or getattr(native, "err_code", None)
    if code is None:
        return None
    if code in _NO_FILE:
        return _NO_CREDENTIALS
    return _MINOR.get((code & 0xFFFFFFFF) - _BASE)


def _of_major(native: object) -> _Failure | None:
    code = getattr(native, "maj_code", 0)
    if code & _SUPPLEMENTARY:
        return _OUT_OF_SEQUENCE
    return _MAJOR.get(code >> _MAJOR_SHIFT & 0xFF)


def _of_windows(code: int) -> CredSSPError:
    status = SecurityStatus(code)
    failure = _Failure(f"the logon failed: {status}", status)
    return failure.make()

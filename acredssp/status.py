"""The statuses SECURITY_STATUS and NTSTATUS, and the stages of a handshake.

Both status enums are open: a peer may send any 32-bit value. An unknown value keeps its number, compares and prints
like the others, and has its number as its name. In place of an NTSTATUS some peers send a SECURITY_STATUS or a Win32
error; such a value has the name that it has there.

In C both statuses are signed 32-bit integers, and code tests them as such: `status >= 0` is success, `status < 0` is a
failure. Here the number is the unsigned one that documents print (0x8009030C), and only the order is C's.
"""

import enum
from typing import Final, Self

__all__ = ["LOGON_STATUS", "NTSTATUS", "OpenEnum", "SecurityStatus", "Stage", "failure_status"]


_MOST_SIGNED: Final = 0x7FFFFFFF
_RANGE: Final = 1 << 32


_NUMBERS: Final = (int, float)
"""The types that a status is ordered against. `float` alone would compare the unsigned number, which is never negative.
With a float on the left side Python does so nevertheless, since it asks the float alone."""


class OpenEnum(enum.IntEnum):
    """A 32-bit enum that also takes values without a name, and that is ordered as a signed integer.

    Value, `==`, hash and text are those of the unsigned number; the signed number makes the same member. `<`, `<=`, `>`
    and `>=` compare as C does, by signed numbers, so that `status >= 0` tells success from failure. In C a plain number
    above 0x7FFFFFFF is unsigned, and both sides are then compared as unsigned numbers: `status >= 0x80000000` is true
    for failures alone.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not -_MOST_SIGNED - 1 <= value < _RANGE:
            return None
        if value < 0:
            return cls(value + _RANGE)
        # The member is made new each time and not kept, so that a peer cannot make a table of ours grow.
        member = int.__new__(cls, value)
        member._name_ = cls._name_of(value)
        member._value_ = value
        return member

    @classmethod
    def _name_of(cls, value: int) -> str:
        """The name of a value that is not in the enum."""
        return f"0x{value:08X}"

    def __str__(self) -> str:
        return self.name

    @property
    def known(self) -> bool:
        """Whether the value has a name of its own."""
        return self.name in type(self).__members__

    @property
    def signed(self) -> int:
        """The number as a signed one, as C and pywin32 use it: negative for a failure."""
        value = self._value_
        return value if value <= _MOST_SIGNED else value - _RANGE

    def _order(self, other: float) -> float:
        """Return a number below 0, 0, or a number above 0, as this status is less than, equal to or above `other`."""
        if isinstance(other, OpenEnum):
            return self.signed - other.signed
        return (self.signed if other <= _MOST_SIGNED else self._value_) - other

    def __lt__(self, other: float) -> bool:
        return self._order(other) < 0 if isinstance(other, _NUMBERS) else NotImplemented

    def __le__(self, other: float) -> bool:
        return self._order(other) <= 0 if isinstance(other, _NUMBERS) else NotImplemented

    def __gt__(self, other: float) -> bool:
        return self._order(other) > 0 if isinstance(other, _NUMBERS) else NotImplemented

    def __ge__(self, other: float) -> bool:
        return self._order(other) >= 0 if isinstance(other, _NUMBERS) else NotImplemented


class SecurityStatus(OpenEnum):
    """SECURITY_STATUS, which an SSPI function returns (winerror.h).

    A status with bit 31 clear is success or information; with bit 31 set it is a failure. SEC_E_INCOMPLETE_MESSAGE is
    the only failure that leaves the context as it was.
    """

    SEC_E_OK = 0x00000000
    SEC_I_CONTINUE_NEEDED = 0x00090312
    SEC_I_COMPLETE_NEEDED = 0x00090313
    SEC_I_COMPLETE_AND_CONTINUE = 0x00090314
    SEC_I_LOCAL_LOGON = 0x00090315
    SEC_I_CONTEXT_EXPIRED = 0x00090317
    SEC_I_INCOMPLETE_CREDENTIALS = 0x00090320
    SEC_I_RENEGOTIATE = 0x00090321
    SEC_I_NO_LSA_CONTEXT = 0x00090323
    SEC_I_SIGNATURE_NEEDED = 0x0009035C
    SEC_I_NO_RENEGOTIATION = 0x00090360
    SEC_I_MESSAGE_FRAGMENT = 0x00090364
    SEC_I_CONTINUE_NEEDED_MESSAGE_OK = 0x00090366
    SEC_I_ASYNC_CALL_PENDING = 0x00090368

    SEC_E_INSUFFICIENT_MEMORY = 0x80090300
    SEC_E_INVALID_HANDLE = 0x80090301
    SEC_E_UNSUPPORTED_FUNCTION = 0x80090302
    SEC_E_TARGET_UNKNOWN = 0x80090303
    SEC_E_INTERNAL_ERROR = 0x80090304
    SEC_E_SECPKG_NOT_FOUND = 0x80090305
    SEC_E_NOT_OWNER = 0x80090306
    SEC_E_CANNOT_INSTALL = 0x80090307
    SEC_E_INVALID_TOKEN = 0x80090308
    SEC_E_CANNOT_PACK = 0x80090309
    SEC_E_QOP_NOT_SUPPORTED = 0x8009030A
    SEC_E_NO_IMPERSONATION = 0x8009030B
    SEC_E_LOGON_DENIED = 0x8009030C
    SEC_E_UNKNOWN_CREDENTIALS = 0x8009030D
    SEC_E_NO_CREDENTIALS = 0x8009030E
    SEC_E_MESSAGE_ALTERED = 0x8009030F
    SEC_E_OUT_OF_SEQUENCE = 0x80090310
    SEC_E_NO_AUTHENTICATING_AUTHORITY = 0x80090311
    SEC_E_BAD_PKGID = 0x80090316
    SEC_E_CONTEXT_EXPIRED = 0x80090317
    SEC_E_INCOMPLETE_MESSAGE = 0x80090318
    SEC_E_INCOMPLETE_CREDENTIALS = 0x80090320
    SEC_E_BUFFER_TOO_SMALL = 0x80090321
    SEC_E_WRONG_PRINCIPAL = 0x80090322
    SEC_E_TIME_SKEW = 0x80090324
    SEC_E_UNTRUSTED_ROOT = 0x80090325
    SEC_E_ILLEGAL_MESSAGE = 0x80090326
    SEC_E_CERT_UNKNOWN = 0x80090327
    SEC_E_CERT_EXPIRED = 0x80090328
    SEC_E_ENCRYPT_FAILURE = 0x80090329
    SEC_E_DECRYPT_FAILURE = 0x80090330
    SEC_E_ALGORITHM_MISMATCH = 0x80090331
    SEC_E_SECURITY_QOS_FAILED = 0x80090332
    SEC_E_UNFINISHED_CONTEXT_DELETED = 0x80090333
    SEC_E_NO_TGT_REPLY = 0x80090334
    SEC_E_NO_IP_ADDRESSES = 0x80090335
    SEC_E_WRONG_CREDENTIAL_HANDLE = 0x80090336
    SEC_E_CRYPTO_SYSTEM_INVALID = 0x80090337
    SEC_E_MAX_REFERRALS_EXCEEDED = 0x80090338
    SEC_E_MUST_BE_KDC = 0x80090339
    SEC_E_STRONG_CRYPTO_NOT_SUPPORTED = 0x8009033A
    SEC_E_TOO_MANY_PRINCIPALS = 0x8009033B
    SEC_E_NO_PA_DATA = 0x8009033C
    SEC_E_PKINIT_NAME_MISMATCH = 0x8009033D
    SEC_E_SMARTCARD_LOGON_REQUIRED = 0x8009033E
    SEC_E_SHUTDOWN_IN_PROGRESS = 0x8009033F
    SEC_E_KDC_INVALID_REQUEST = 0x80090340
    SEC_E_KDC_UNABLE_TO_REFER = 0x80090341
    SEC_E_KDC_UNKNOWN_ETYPE = 0x80090342
    SEC_E_UNSUPPORTED_PREAUTH = 0x80090343
    SEC_E_DELEGATION_REQUIRED = 0x80090345
    SEC_E_BAD_BINDINGS = 0x80090346
    SEC_E_MULTIPLE_ACCOUNTS = 0x80090347
    SEC_E_NO_KERB_KEY = 0x80090348
    SEC_E_CERT_WRONG_USAGE = 0x80090349
    SEC_E_DOWNGRADE_DETECTED = 0x80090350
    SEC_E_SMARTCARD_CERT_REVOKED = 0x80090351
    SEC_E_ISSUING_CA_UNTRUSTED = 0x80090352
    SEC_E_REVOCATION_OFFLINE_C = 0x80090353
    SEC_E_PKINIT_CLIENT_FAILURE = 0x80090354
    SEC_E_SMARTCARD_CERT_EXPIRED = 0x80090355
    SEC_E_NO_S4U_PROT_SUPPORT = 0x80090356
    SEC_E_CROSSREALM_DELEGATION_FAILURE = 0x80090357
    SEC_E_REVOCATION_OFFLINE_KDC = 0x80090358
    SEC_E_ISSUING_CA_UNTRUSTED_KDC = 0x80090359
    SEC_E_KDC_CERT_EXPIRED = 0x8009035A
    SEC_E_KDC_CERT_REVOKED = 0x8009035B
    SEC_E_INVALID_PARAMETER = 0x8009035D
    SEC_E_DELEGATION_POLICY = 0x8009035E
    SEC_E_POLICY_NLTM_ONLY = 0x8009035F  # the misspelling is the real name
    SEC_E_NO_CONTEXT = 0x80090361
    SEC_E_PKU2U_CERT_FAILURE = 0x80090362
    SEC_E_MUTUAL_AUTH_FAILED = 0x80090363
    SEC_E_ONLY_HTTPS_ALLOWED = 0x80090365
    SEC_E_APPLICATION_PROTOCOL_MISMATCH = 0x80090367
    SEC_E_INVALID_UPN_NAME = 0x80090369
    SEC_E_EXT_BUFFER_TOO_SMALL = 0x8009036A
    SEC_E_INSUFFICIENT_BUFFERS = 0x8009036B
    CRYPT_E_REVOKED = 0x80092010

    @property
    def failed(self) -> bool:
        """Whether this is a failure, with bit 31 set."""
        return self._value_ > _MOST_SIGNED


class NTSTATUS(OpenEnum):
    """NTSTATUS, which CredSSP carries in errorCode ([MS-CSSP] 2.2.1; the values are from [MS-ERREF] 2.3.1).

    Peers other than Windows also send a SECURITY_STATUS (pyspnego: 0x8009030C), its low half as 0xC007xxxx (sspi-rs),
    or a Win32 error as 0xC007xxxx (FreeRDP 3: 0xC00700EA). Such a value keeps its number, and has the name of the
    status that it is: `SEC_E_LOGON_DENIED`, `ERROR_MORE_DATA`.
    """

    STATUS_SUCCESS = 0x00000000
    STATUS_UNSUCCESSFUL = 0xC0000001
    STATUS_INVALID_PARAMETER = 0xC000000D
    STATUS_ACCESS_DENIED = 0xC0000022
    STATUS_NO_LOGON_SERVERS = 0xC000005E
    STATUS_NO_SUCH_LOGON_SESSION = 0xC000005F
    STATUS_PRIVILEGE_NOT_HELD = 0xC0000061
    STATUS_NO_SUCH_USER = 0xC0000064
    STATUS_WRONG_PASSWORD = 0xC000006A
    STATUS_PASSWORD_RESTRICTION = 0xC000006C
    STATUS_LOGON_FAILURE = 0xC000006D
    STATUS_ACCOUNT_RESTRICTION = 0xC000006E
    STATUS_INVALID_LOGON_HOURS = 0xC000006F
    STATUS_INVALID_WORKSTATION = 0xC0000070
    STATUS_PASSWORD_EXPIRED = 0xC0000071
    STATUS_ACCOUNT_DISABLED = 0xC0000072
    STATUS_INSUFFICIENT_RESOURCES = 0xC000009A
    STATUS_NOT_SUPPORTED = 0xC00000BB
    STATUS_INVALID_SERVER_STATE = 0xC00000DC
    STATUS_NO_SUCH_DOMAIN = 0xC00000DF
    STATUS_INTERNAL_ERROR = 0xC00000E5
    STATUS_TIME_DIFFERENCE_AT_DC = 0xC0000133
    STATUS_LOGON_NOT_GRANTED = 0xC0000155
    STATUS_LOGON_TYPE_NOT_GRANTED = 0xC000015B
    STATUS_NO_TRUST_LSA_SECRET = 0xC000018A
    STATUS_NO_TRUST_SAM_ACCOUNT = 0xC000018B
    STATUS_TRUSTED_DOMAIN_FAILURE = 0xC000018C
    STATUS_TRUSTED_RELATIONSHIP_FAILURE = 0xC000018D
    STATUS_NETLOGON_NOT_STARTED = 0xC0000192
    STATUS_ACCOUNT_EXPIRED = 0xC0000193
    STATUS_NOLOGON_INTERDOMAIN_TRUST_ACCOUNT = 0xC0000198
    STATUS_NOLOGON_WORKSTATION_TRUST_ACCOUNT = 0xC0000199
    STATUS_NOLOGON_SERVER_TRUST_ACCOUNT = 0xC000019A
    STATUS_PASSWORD_MUST_CHANGE = 0xC0000224
    STATUS_DOMAIN_CONTROLLER_NOT_FOUND = 0xC0000233
    STATUS_ACCOUNT_LOCKED_OUT = 0xC0000234
    STATUS_MUTUAL_AUTHENTICATION_FAILED = 0xC00002C3  # "the server's password is out of date at the domain controller"
    STATUS_SMARTCARD_LOGON_REQUIRED = 0xC00002FA
    STATUS_PKINIT_FAILURE = 0xC0000320
    STATUS_NO_KERB_KEY = 0xC0000322
    STATUS_BAD_BINDINGS = 0xC000035B
    STATUS_SMARTCARD_WRONG_PIN = 0xC0000380
    STATUS_DOWNGRADE_DETECTED = 0xC0000388
    STATUS_AUTHENTICATION_FIREWALL_FAILED = 0xC0000413
    STATUS_NTLM_BLOCKED = 0xC0000418
    STATUS_CTX_LOGON_DISABLED = 0xC00A0037

    @classmethod
    def _name_of(cls, value: int) -> str:
        facility, code = value >> 16, value & 0xFFFF
        if facility in (_SSPI, _FOLDED):
            status = SecurityStatus(_SSPI << 16 | code)
            if status.known:
                return status.name
        if facility in _OF_WIN32:
            stands_for = _WIN32.get(code)
            if stands_for is not None:
                return stands_for.replace("STATUS_", "ERROR_", 1)
        return super()._name_of(value)

    @property
    def stands_for(self) -> "NTSTATUS":
        """The NTSTATUS that stands for the same failure as this Win32 error; for any other value the value itself."""
        name = _WIN32.get(self & 0xFFFF) if self >> 16 in _OF_WIN32 else None
        return type(self).__members__.get(name or "", self)


_SSPI: Final = 0x8009
"""The upper half of a SECURITY_STATUS that is a failure."""
_FOLDED: Final = 0xC007
"""The upper half of a Win32 error folded into an NTSTATUS (NTSTATUS_FROM_WIN32). sspi-rs folds SEC_E_ statuses too."""
_OF_WIN32: Final = (_FOLDED, 0x8007)
"""The upper halves of a Win32 error, folded into an NTSTATUS or into an HRESULT."""

_WIN32: Final = {
    5: "STATUS_ACCESS_DENIED",
    50: "STATUS_NOT_SUPPORTED",
    87: "STATUS_INVALID_PARAMETER",
    234: "STATUS_MORE_DATA",
    1263: "STATUS_PKINIT_FAILURE",
    1265: "STATUS_DOWNGRADE_DETECTED",
    1311: "STATUS_NO_LOGON_SERVERS",
    1317: "STATUS_NO_SUCH_USER",
    1323: "STATUS_WRONG_PASSWORD",
    1325: "STATUS_PASSWORD_RESTRICTION",
    1326: "STATUS_LOGON_FAILURE",
    1327: "STATUS_ACCOUNT_RESTRICTION",
    1328: "STATUS_INVALID_LOGON_HOURS",
    1329: "STATUS_INVALID_WORKSTATION",
    1330: "STATUS_PASSWORD_EXPIRED",
    1331: "STATUS_ACCOUNT_DISABLED",
    1355: "STATUS_NO_SUCH_DOMAIN",
    1380: "STATUS_LOGON_NOT_GRANTED",
    1385: "STATUS_LOGON_TYPE_NOT_GRANTED",
    1786: "STATUS_NO_TRUST_LSA_SECRET",
    1787: "STATUS_NO_TRUST_SAM_ACCOUNT",
    1788: "STATUS_TRUSTED_DOMAIN_FAILURE",
    1789: "STATUS_TRUSTED_RELATIONSHIP_FAILURE",
    1792: "STATUS_NETLOGON_NOT_STARTED",
    1793: "STATUS_ACCOUNT_EXPIRED",
    1907: "STATUS_PASSWORD_MUST_CHANGE",
    1909: "STATUS_ACCOUNT_LOCKED_OUT",
    1935: "STATUS_AUTHENTICATION_FIREWALL_FAILED",
    1937: "STATUS_NTLM_BLOCKED",
    7055: "STATUS_CTX_LOGON_DISABLED",
}
"""Win32 errors of a logon ([MS-ERREF] 2.2), with the NTSTATUS of the same name, which has STATUS_ in place of ERROR_.
FreeRDP 3 sends 234, ERROR_MORE_DATA, for any failure; there is no NTSTATUS of that name."""


LOGON_STATUS: Final = {
    NTSTATUS.STATUS_NO_LOGON_SERVERS: SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
    NTSTATUS.STATUS_DOMAIN_CONTROLLER_NOT_FOUND: SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
    NTSTATUS.STATUS_NETLOGON_NOT_STARTED: SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
    NTSTATUS.STATUS_DOWNGRADE_DETECTED: SecurityStatus.SEC_E_DOWNGRADE_DETECTED,
    NTSTATUS.STATUS_BAD_BINDINGS: SecurityStatus.SEC_E_BAD_BINDINGS,
    NTSTATUS.STATUS_TRUSTED_RELATIONSHIP_FAILURE: SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
    NTSTATUS.STATUS_TIME_DIFFERENCE_AT_DC: SecurityStatus.SEC_E_TIME_SKEW,
    NTSTATUS.STATUS_MUTUAL_AUTHENTICATION_FAILED: SecurityStatus.SEC_E_WRONG_PRINCIPAL,
    NTSTATUS.STATUS_SMARTCARD_LOGON_REQUIRED: SecurityStatus.SEC_E_SMARTCARD_LOGON_REQUIRED,
}
"""The status that SSPI returns for a refused logon, on either side. For any other NTSTATUS it is SEC_E_LOGON_DENIED."""


class Stage(enum.StrEnum):
    """The stage that a handshake has reached, or failed in: the word in `CredSSPError.stage` and in `--json`.

    NEGOTIATION and EARLY_USER_AUTH belong to the RDP carriage, CONNECT to the transport, the others are the
    states of the CredSSP engine.
    """

    CONNECT = "connect"
    NEGOTIATION = "negotiation"
    TLS = "tls"
    NEGO_TOKEN = "nego_token"  # noqa: S105 - a stage, not a secret
    PUB_KEY_AUTH = "pub_key_auth"
    AUTH_INFO = "auth_info"
    EARLY_USER_AUTH = "early_user_auth"
    ESTABLISHED = "established"


def failure_status(value: object) -> NTSTATUS:
    """Return the NTSTATUS of a refusal. A value that is not the status of a failure becomes STATUS_LOGON_FAILURE."""
    if isinstance(value, int) and 0x80000000 <= int(value) <= 0xFFFFFFFF:
        return NTSTATUS(value)
    return NTSTATUS.STATUS_LOGON_FAILURE

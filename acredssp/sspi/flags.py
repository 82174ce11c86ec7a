"""The numbers of the SSPI functions: flags, buffer types and attributes, with Microsoft's names and values.

Each family is an enum whose members drop the common prefix: `ISC_REQ.DELEGATE`. `constants` also has every member under
its full name (`ISC_REQ_DELEGATE`), so that a line of C works unchanged. EXTENDED_ERROR, STREAM and INTEGRITY have other
values in ISC than in ASC, so never mix the two families.

Sources: sspi.h, schannel.h, credssp.h and wincrypt.h of the Windows SDK.
"""

import enum
from typing import Final

__all__ = [
    "ASC_REQ",
    "ASC_REQ_ACCEPTED",
    "ASC_REQ_CREDSSP",
    "ASC_RET",
    "CERT_TRUST_ERROR",
    "CERT_TRUST_INFO",
    "CREDSPP_SUBMIT_TYPE",
    "CREDSSP_FLAG",
    "CREDSSP_SERVER_AUTH",
    "ISC_REQ",
    "ISC_REQ_ACCEPTED",
    "ISC_REQ_CREDSSP",
    "ISC_RET",
    "SCHANNEL",
    "SCH_CRED",
    "SECBUFFER",
    "SECPKG_ATTR",
    "SECPKG_CRED",
    "SECPKG_CRED_ATTR",
    "SECPKG_FLAG",
    "SECPKG_NEGOTIATION",
    "SECQOP",
    "SECURITY_DREP",
    "SEC_WINNT_AUTH_IDENTITY_FLAG",
    "SP_PROT",
    "unsupported_requests",
]


class ISC_REQ(enum.IntFlag):
    """What a client asks of InitializeSecurityContext (`fContextReq`).

    The flags from MESSAGES on do not fit into the 32 bits of fContextReq. In C, a SECBUFFER_FLAGS buffer carries them.
    """

    DELEGATE = 0x00000001
    MUTUAL_AUTH = 0x00000002
    REPLAY_DETECT = 0x00000004
    SEQUENCE_DETECT = 0x00000008
    CONFIDENTIALITY = 0x00000010
    USE_SESSION_KEY = 0x00000020
    PROMPT_FOR_CREDS = 0x00000040
    USE_SUPPLIED_CREDS = 0x00000080
    ALLOCATE_MEMORY = 0x00000100
    USE_DCE_STYLE = 0x00000200
    DATAGRAM = 0x00000400
    CONNECTION = 0x00000800
    CALL_LEVEL = 0x00001000
    FRAGMENT_SUPPLIED = 0x00002000
    EXTENDED_ERROR = 0x00004000
    STREAM = 0x00008000
    INTEGRITY = 0x00010000
    IDENTIFY = 0x00020000
    NULL_SESSION = 0x00040000
    MANUAL_CRED_VALIDATION = 0x00080000
    RESERVED1 = 0x00100000
    FRAGMENT_TO_FIT = 0x00200000
    FORWARD_CREDENTIALS = 0x00400000
    NO_INTEGRITY = 0x00800000
    USE_HTTP_STYLE = 0x01000000
    UNVERIFIED_TARGET_NAME = 0x20000000
    CONFIDENTIALITY_ONLY = 0x40000000
    MESSAGES = 1 << 32
    DEFERRED_CRED_VALIDATION = 1 << 33
    NO_POST_HANDSHAKE_AUTH = 1 << 34
    REUSE_SESSION_TICKETS = 1 << 35
    EXPLICIT_SESSION = 1 << 36


class ISC_RET(enum.IntFlag):
    """The attributes of a client's context (`pfContextAttr` of InitializeSecurityContext)."""

    DELEGATE = 0x00000001
    MUTUAL_AUTH = 0x00000002
    REPLAY_DETECT = 0x00000004
    SEQUENCE_DETECT = 0x00000008
    CONFIDENTIALITY = 0x00000010
    USE_SESSION_KEY = 0x00000020
    USED_COLLECTED_CREDS = 0x00000040
    USED_SUPPLIED_CREDS = 0x00000080
    ALLOCATED_MEMORY = 0x00000100
    USED_DCE_STYLE = 0x00000200
    DATAGRAM = 0x00000400
    CONNECTION = 0x00000800
    INTERMEDIATE_RETURN = 0x00001000
    CALL_LEVEL = 0x00002000
    EXTENDED_ERROR = 0x00004000
    STREAM = 0x00008000
    INTEGRITY = 0x00010000
    IDENTIFY = 0x00020000
    NULL_SESSION = 0x00040000
    MANUAL_CRED_VALIDATION = 0x00080000
    RESERVED1 = 0x00100000
    FRAGMENT_ONLY = 0x00200000
    FORWARD_CREDENTIALS = 0x00400000
    USED_HTTP_STYLE = 0x01000000
    NO_ADDITIONAL_TOKEN = 0x02000000
    REAUTHENTICATION = 0x08000000
    CONFIDENTIALITY_ONLY = 0x40000000
    MESSAGES = 1 << 32
    DEFERRED_CRED_VALIDATION = 1 << 33
    NO_POST_HANDSHAKE_AUTH = 1 << 34
    REUSE_SESSION_TICKETS = 1 << 35
    EXPLICIT_SESSION = 1 << 36


class ASC_REQ(enum.IntFlag):
    """What a server asks of AcceptSecurityContext (`fContextReq`)."""

    DELEGATE = 0x00000001
    MUTUAL_AUTH = 0x00000002
    REPLAY_DETECT = 0x00000004
    SEQUENCE_DETECT = 0x00000008
    CONFIDENTIALITY = 0x00000010
    USE_SESSION_KEY = 0x00000020
    SESSION_TICKET = 0x00000040
    ALLOCATE_MEMORY = 0x00000100
    USE_DCE_STYLE = 0x00000200
    DATAGRAM = 0x00000400
    CONNECTION = 0x00000800
    CALL_LEVEL = 0x00001000
    FRAGMENT_SUPPLIED = 0x00002000
    EXTENDED_ERROR = 0x00008000
    STREAM = 0x00010000
    INTEGRITY = 0x00020000
    LICENSING = 0x00040000
    IDENTIFY = 0x00080000
    ALLOW_NULL_SESSION = 0x00100000
    ALLOW_NON_USER_LOGONS = 0x00200000
    ALLOW_CONTEXT_REPLAY = 0x00400000
    FRAGMENT_TO_FIT = 0x00800000
    NO_TOKEN = 0x01000000
    PROXY_BINDINGS = 0x04000000
    ALLOW_MISSING_BINDINGS = 0x10000000
    MESSAGES = 1 << 32
    EXPLICIT_SESSION = 1 << 36


class ASC_RET(enum.IntFlag):
    """The attributes of a server's context (`pfContextAttr` of AcceptSecurityContext)."""

    DELEGATE = 0x00000001
    MUTUAL_AUTH = 0x00000002
    REPLAY_DETECT = 0x00000004
    SEQUENCE_DETECT = 0x00000008
    CONFIDENTIALITY = 0x00000010
    USE_SESSION_KEY = 0x00000020
    SESSION_TICKET = 0x00000040
    ALLOCATED_MEMORY = 0x00000100
    USED_DCE_STYLE = 0x00000200
    DATAGRAM = 0x00000400
    CONNECTION = 0x00000800
    CALL_LEVEL = 0x00002000
    THIRD_LEG_FAILED = 0x00004000
    EXTENDED_ERROR = 0x00008000
    STREAM = 0x00010000
    INTEGRITY = 0x00020000
    LICENSING = 0x00040000
    IDENTIFY = 0x00080000
    NULL_SESSION = 0x00100000
    ALLOW_NON_USER_LOGONS = 0x00200000
    ALLOW_CONTEXT_REPLAY = 0x00400000
    FRAGMENT_ONLY = 0x00800000
    NO_TOKEN = 0x01000000
    NO_ADDITIONAL_TOKEN = 0x02000000
    MESSAGES = 1 << 32
    REUSE_SESSION_TICKETS = 1 << 35
    EXPLICIT_SESSION = 1 << 36


ISC_REQ_CREDSSP: Final = (
    ISC_REQ.ALLOCATE_MEMORY
    | ISC_REQ.CONNECTION
    | ISC_REQ.EXTENDED_ERROR
    | ISC_REQ.MANUAL_CRED_VALIDATION
    | ISC_REQ.SEQUENCE_DETECT
    | ISC_REQ.STREAM
    | ISC_REQ.USE_SUPPLIED_CREDS
    | ISC_REQ.DELEGATE
    | ISC_REQ.MUTUAL_AUTH
)
"""The nine flags that the page of InitializeSecurityContext (CredSSP) lists."""

ISC_REQ_ACCEPTED: Final = (
    ISC_REQ_CREDSSP | ISC_REQ.CONFIDENTIALITY | ISC_REQ.INTEGRITY | ISC_REQ.REPLAY_DETECT | ISC_REQ.USE_SESSION_KEY
)
"""The nine flags, and four that TLS provides in any case. Real callers ask for these (FreeRDP's tsssp client,
tspkg.dll)."""

ASC_REQ_CREDSSP: Final = (
    ASC_REQ.ALLOCATE_MEMORY
    | ASC_REQ.CONNECTION
    | ASC_REQ.DELEGATE
    | ASC_REQ.EXTENDED_ERROR
    | ASC_REQ.REPLAY_DETECT
    | ASC_REQ.SEQUENCE_DETECT
    | ASC_REQ.STREAM
)
"""The seven flags that the page of AcceptSecurityContext (CredSSP) lists."""

ASC_REQ_ACCEPTED: Final = (
    ASC_REQ_CREDSSP | ASC_REQ.MUTUAL_AUTH | ASC_REQ.CONFIDENTIALITY | ASC_REQ.INTEGRITY | ASC_REQ.USE_SESSION_KEY
)
"""The seven flags, and four that CredSSP provides in any case. tspkg.dll itself asks for MUTUAL_AUTH and
CONFIDENTIALITY."""


# These are plain integers, since an operator of an IntFlag is a Python call and takes about ten times as long.
_TAKEN: Final[dict[type[ISC_REQ] | type[ASC_REQ], tuple[int, int]]] = {
    ISC_REQ: (ISC_REQ_ACCEPTED.value, ISC_REQ_CREDSSP.value),
    ASC_REQ: (ASC_REQ_ACCEPTED.value, ASC_REQ_CREDSSP.value),
}
"""For each function, the flags that it takes, and the flags that it takes with `strict_flags`."""


def unsupported_requests(family: type[ISC_REQ] | type[ASC_REQ], requested: int, *, strict: bool = False) -> int:
    """Return the bits of an fContextReq that CredSSP refuses with SEC_E_UNSUPPORTED_FUNCTION; 0 if it refuses none.

    Args:
        family: The flags of the function that is called.
        requested: The fContextReq.
        strict: Whether to take only the flags that the function's page lists.
    """
    return requested & ~_TAKEN[family][strict]


class SECURITY_DREP(enum.IntEnum):
    """Data representations (`TargetDataRep`). Neither changes what CredSSP sends."""

    NETWORK = 0x00
    NATIVE = 0x10


class SECPKG_CRED(enum.IntFlag):
    """What a credentials handle is for (`fCredentialUse`).

    The page of AcquireCredentialsHandle (CredSSP) prints 0 for OUTBOUND. The real value is 2, as in the header.
    """

    INBOUND = 0x01
    OUTBOUND = 0x02
    BOTH = 0x03
    DEFAULT = 0x04
    AUTOLOGON_RESTRICTED = 0x10
    PROCESS_POLICY_ONLY = 0x20
    RESERVED = 0xF0000000


class SECPKG_FLAG(enum.IntFlag):
    """What a package can do (`SecPkgInfo.fCapabilities`)."""

    INTEGRITY = 0x00000001
    PRIVACY = 0x00000002
    TOKEN_ONLY = 0x00000004
    DATAGRAM = 0x00000008
    CONNECTION = 0x00000010
    MULTI_REQUIRED = 0x00000020
    CLIENT_ONLY = 0x00000040
    EXTENDED_ERROR = 0x00000080
    IMPERSONATION = 0x00000100
    ACCEPT_WIN32_NAME = 0x00000200
    STREAM = 0x00000400
    NEGOTIABLE = 0x00000800
    GSS_COMPATIBLE = 0x00001000
    LOGON = 0x00002000
    ASCII_BUFFERS = 0x00004000
    FRAGMENT = 0x00008000
    MUTUAL_AUTH = 0x00010000
    DELEGATION = 0x00020000
    READONLY_WITH_CHECKSUM = 0x00040000
    RESTRICTED_TOKENS = 0x00080000
    NEGO_EXTENDER = 0x00100000
    NEGOTIABLE2 = 0x00200000
    APPCONTAINER_PASSTHROUGH = 0x00400000
    APPCONTAINER_CHECKS = 0x00800000
    CREDENTIAL_ISOLATION_ENABLED = 0x01000000
    APPLY_LOOPBACK = 0x02000000


class SECBUFFER(enum.IntEnum):
    """What a SecBuffer holds (`BufferType` without its attribute bits), and the attribute bits themselves."""

    EMPTY = 0
    DATA = 1
    TOKEN = 2
    PKG_PARAMS = 3
    MISSING = 4
    EXTRA = 5
    STREAM_TRAILER = 6
    STREAM_HEADER = 7
    NEGOTIATION_INFO = 8
    PADDING = 9
    STREAM = 10
    MECHLIST = 11
    MECHLIST_SIGNATURE = 12
    TARGET = 13
    CHANNEL_BINDINGS = 14
    CHANGE_PASS_RESPONSE = 15
    TARGET_HOST = 16
    ALERT = 17
    APPLICATION_PROTOCOLS = 18
    SRTP_PROTECTION_PROFILES = 19
    SRTP_MASTER_KEY_IDENTIFIER = 20
    TOKEN_BINDING = 21
    PRESHARED_KEY = 22
    PRESHARED_KEY_IDENTITY = 23
    DTLS_MTU = 24
    SEND_GENERIC_TLS_EXTENSION = 25
    SUBSCRIBE_GENERIC_TLS_EXTENSION = 26
    FLAGS = 27
    TRAFFIC_SECRETS = 28
    CERTIFICATE_REQUEST_CONTEXT = 29
    CHANNEL_BINDINGS_RESULT = 30
    APP_SESSION_STATE = 31
    SESSION_TICKET = 32
    READONLY_WITH_CHECKSUM = 0x10000000
    RESERVED = 0x60000000
    READONLY = 0x80000000
    ATTRMASK = 0xF0000000


class SECQOP(enum.IntFlag):
    """Quality of protection (`fQOP` of EncryptMessage)."""

    WRAP_OOB_DATA = 0x40000000


class SCHANNEL(enum.IntEnum):
    """Control codes of ApplyControlToken."""

    RENEGOTIATE = 0
    SHUTDOWN = 1
    ALERT = 2
    SESSION = 3


class SECPKG_NEGOTIATION(enum.IntEnum):
    """How far a negotiation is (`SecPkgContext_NegotiationInfo.NegotiationState`)."""

    COMPLETE = 0
    OPTIMISTIC = 1
    IN_PROGRESS = 2
    DIRECT = 3
    TRY_MULTICRED = 4


class SECPKG_ATTR(enum.IntEnum):
    """Attributes of a context (`ulAttribute` of QueryContextAttributes).

    The bit 0x80000000 marks the attributes of CredSSP (credssp.h). The page of QueryContextAttributes (CredSSP) gives
    SUBJECT_SECURITY_ATTRIBUTES as 124, and the header gives it as 128.
    """

    SIZES = 0
    NAMES = 1
    LIFESPAN = 2
    DCE_INFO = 3
    STREAM_SIZES = 4
    KEY_INFO = 5
    AUTHORITY = 6
    PROTO_INFO = 7
    PASSWORD_EXPIRY = 8
    SESSION_KEY = 9
    PACKAGE_INFO = 10
    USER_FLAGS = 11
    NEGOTIATION_INFO = 12
    NATIVE_NAMES = 13
    FLAGS = 14
    USE_VALIDATED = 15
    CREDENTIAL_NAME = 16
    TARGET_INFORMATION = 17
    ACCESS_TOKEN = 18
    TARGET = 19
    AUTHENTICATION_ID = 20
    LOGOFF_TIME = 21
    NEGO_KEYS = 22
    PROMPTING_NEEDED = 24
    UNIQUE_BINDINGS = 25
    ENDPOINT_BINDINGS = 26
    CLIENT_SPECIFIED_TARGET = 27
    LAST_CLIENT_TOKEN_STATUS = 30
    NEGO_PKG_INFO = 31
    NEGO_STATUS = 32
    CONTEXT_DELETED = 33
    DTLS_MTU = 34
    APPLICATION_PROTOCOL = 35
    NEGOTIATED_TLS_EXTENSIONS = 36
    IS_LOOPBACK = 37
    REMOTE_CERT_CONTEXT = 0x53
    LOCAL_CERT_CONTEXT = 0x54
    ISSUER_LIST_EX = 0x59
    CONNECTION_INFO = 0x5A
    SUBJECT_SECURITY_ATTRIBUTES = 128
    C_ACCESS_TOKEN = 0x80000012
    CREDS = 0x80000080
    NEGOTIATION_PACKAGE = 0x80000081
    C_FULL_ACCESS_TOKEN = 0x80000082
    SERVER_AUTH_FLAGS = 0x80000083
    CERT_TRUST_STATUS = 0x80000084
    C_FULL_IDENT_TOKEN = 0x80000085
    CREDS_2 = 0x80000086


class SECPKG_CRED_ATTR(enum.IntEnum):
    """Attributes of credentials (`ulAttribute` of QueryCredentialsAttributes)."""

    NAMES = 1
    SSI_PROVIDER = 2
    KDC_PROXY_SETTINGS = 3
    CERT = 4
    PAC_BYPASS = 5


class CREDSSP_SERVER_AUTH(enum.IntFlag):
    """The means by which the server was authenticated (SECPKG_ATTR_SERVER_AUTH_FLAGS)."""

    NEGOTIATE = 1
    CERTIFICATE = 2
    LOOPBACK = 4


class CREDSPP_SUBMIT_TYPE(enum.IntEnum):
    """Which members of a CREDSSP_CRED are used. credssp.h misspells the name of this type."""

    CredsspPasswordCreds = 2
    CredsspSchannelCreds = 4
    CredsspCertificateCreds = 13
    CredsspSubmitBufferBoth = 50
    CredsspSubmitBufferBothOld = 51
    CredsspCredEx = 100


class CREDSSP_FLAG(enum.IntFlag):
    """How to use the credentials of a CREDSSP_CRED_EX (`CREDSSP_CRED_EX.Flags`)."""

    REDIRECT = 1


class SEC_WINNT_AUTH_IDENTITY_FLAG(enum.IntFlag):
    """How texts are encoded (`SEC_WINNT_AUTH_IDENTITY.Flags`). The full names have no FLAG."""

    ANSI = 1
    UNICODE = 2


class SCH_CRED(enum.IntFlag):
    """How Schannel uses its credentials (`SCHANNEL_CRED.dwFlags`)."""

    NO_SYSTEM_MAPPER = 0x00000002
    NO_SERVERNAME_CHECK = 0x00000004
    MANUAL_CRED_VALIDATION = 0x00000008
    NO_DEFAULT_CREDS = 0x00000010
    AUTO_CRED_VALIDATION = 0x00000020
    USE_DEFAULT_CREDS = 0x00000040


class SP_PROT(enum.IntFlag):
    """TLS versions, with a bit for each side (`SCHANNEL_CRED.grbitEnabledProtocols`)."""

    TLS1_0_SERVER = 0x0040
    TLS1_0_CLIENT = 0x0080
    TLS1_1_SERVER = 0x0100
    TLS1_1_CLIENT = 0x0200
    TLS1_2_SERVER = 0x0400
    TLS1_2_CLIENT = 0x0800
    TLS1_3_SERVER = 0x1000
    TLS1_3_CLIENT = 0x2000


class CERT_TRUST_ERROR(enum.IntFlag):
    """Bits of `CERT_TRUST_STATUS.dwErrorStatus` that acredssp can set. The full names have no ERROR."""

    NO_ERROR = 0x00000000
    IS_NOT_TIME_VALID = 0x00000001
    IS_NOT_VALID_FOR_USAGE = 0x00000010
    IS_UNTRUSTED_ROOT = 0x00000020
    INVALID_NAME_CONSTRAINTS = 0x00000800
    HAS_WEAK_SIGNATURE = 0x00100000


class CERT_TRUST_INFO(enum.IntFlag):
    """Bits of `CERT_TRUST_STATUS.dwInfoStatus` that acredssp can set. The full names have no INFO."""

    HAS_EXACT_MATCH_ISSUER = 0x00000001
    IS_SELF_SIGNED = 0x00000008

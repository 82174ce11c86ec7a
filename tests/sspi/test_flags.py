"""The numbers against the headers' own, and both spellings of each."""

import enum

import pytest

from acredssp import sspi
from acredssp.sspi import constants, flags
from acredssp.sspi.flags import ASC_REQ, ASC_REQ_ACCEPTED, ISC_REQ, ISC_REQ_ACCEPTED, unsupported_requests

FAMILIES = [
    family
    for family in vars(flags).values()
    if isinstance(family, type) and issubclass(family, enum.Enum) and family.__module__ == flags.__name__
]

VALUES = {
    "ISC_REQ_DELEGATE": 0x1,
    "ISC_REQ_MUTUAL_AUTH": 0x2,
    "ISC_REQ_SEQUENCE_DETECT": 0x8,
    "ISC_REQ_USE_SUPPLIED_CREDS": 0x80,
    "ISC_REQ_ALLOCATE_MEMORY": 0x100,
    "ISC_REQ_CONNECTION": 0x800,
    "ISC_REQ_EXTENDED_ERROR": 0x4000,
    "ISC_REQ_STREAM": 0x8000,
    "ISC_REQ_INTEGRITY": 0x10000,
    "ISC_REQ_MANUAL_CRED_VALIDATION": 0x80000,
    "ISC_REQ_EXPLICIT_SESSION": 1 << 36,
    "ISC_RET_ALLOCATED_MEMORY": 0x100,
    "ISC_RET_INTERMEDIATE_RETURN": 0x1000,
    "ISC_RET_CALL_LEVEL": 0x2000,
    "ISC_RET_REAUTHENTICATION": 0x8000000,
    "ASC_REQ_EXTENDED_ERROR": 0x8000,
    "ASC_REQ_STREAM": 0x10000,
    "ASC_REQ_INTEGRITY": 0x20000,
    "ASC_REQ_ALLOW_NULL_SESSION": 0x100000,
    "ASC_RET_THIRD_LEG_FAILED": 0x4000,
    "ASC_RET_EXTENDED_ERROR": 0x8000,
    "SECURITY_NATIVE_DREP": 0x10,
    "SECURITY_NETWORK_DREP": 0,
    "SECPKG_CRED_INBOUND": 1,
    "SECPKG_CRED_OUTBOUND": 2,
    "SECPKG_CRED_BOTH": 3,
    "SECBUFFER_EMPTY": 0,
    "SECBUFFER_TOKEN": 2,
    "SECBUFFER_PKG_PARAMS": 3,
    "SECBUFFER_MISSING": 4,
    "SECBUFFER_EXTRA": 5,
    "SECBUFFER_STREAM_TRAILER": 6,
    "SECBUFFER_STREAM_HEADER": 7,
    "SECBUFFER_CHANNEL_BINDINGS": 14,
    "SECBUFFER_ALERT": 17,
    "SECBUFFER_FLAGS": 27,
    "SECBUFFER_SESSION_TICKET": 32,
    "SECBUFFER_READONLY": 0x80000000,
    "SECBUFFER_ATTRMASK": 0xF0000000,
    "SECPKG_ATTR_STREAM_SIZES": 4,
    "SECPKG_ATTR_NEGOTIATION_INFO": 12,
    "SECPKG_ATTR_REMOTE_CERT_CONTEXT": 0x53,
    "SECPKG_ATTR_ISSUER_LIST_EX": 0x59,
    "SECPKG_ATTR_SUBJECT_SECURITY_ATTRIBUTES": 128,
    "SECPKG_ATTR_C_ACCESS_TOKEN": 0x80000012,
    "SECPKG_ATTR_CREDS_2": 0x80000086,
    "SECPKG_CRED_ATTR_NAMES": 1,
    "CREDSSP_SERVER_AUTH_LOOPBACK": 4,
    "CredsspPasswordCreds": 2,
    "CredsspCredEx": 100,
    "SEC_WINNT_AUTH_IDENTITY_ANSI": 1,
    "SEC_WINNT_AUTH_IDENTITY_UNICODE": 2,
    "SECQOP_WRAP_OOB_DATA": 0x40000000,
    "SCHANNEL_SHUTDOWN": 1,
    "SP_PROT_TLS1_3_CLIENT": 0x2000,
    "CERT_TRUST_IS_UNTRUSTED_ROOT": 0x20,
    "CERT_TRUST_IS_SELF_SIGNED": 8,
}
"""Written out once more, from sspi.h, schannel.h, credssp.h and wincrypt.h."""

NINE = [0x1, 0x2, 0x8, 0x80, 0x100, 0x800, 0x4000, 0x8000, 0x80000]
"""The flags of the page of InitializeSecurityContext (CredSSP)."""

SEVEN = [0x1, 0x4, 0x8, 0x100, 0x800, 0x8000, 0x10000]
"""The flags of the page of AcceptSecurityContext (CredSSP)."""


def full_name(family, name):
    match family.__name__:
        case "SECURITY_DREP":
            return f"SECURITY_{name}_DREP"
        case "CREDSPP_SUBMIT_TYPE":
            return name
        case "CERT_TRUST_ERROR" | "CERT_TRUST_INFO" | "SEC_WINNT_AUTH_IDENTITY_FLAG":
            return f"{family.__name__.rpartition('_')[0]}_{name}"
        case prefix:
            return f"{prefix}_{name}"


@pytest.mark.requirement("R18", "C5")
@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_constants_have_the_values_of_the_headers(name, value):
    assert getattr(sspi, name) == value


@pytest.mark.parametrize("family", FAMILIES)
def test_every_member_is_there_in_full(family):
    for name, member in family.__members__.items():
        assert getattr(sspi, full_name(family, name)) is member


def test_constants_are_the_members_and_what_is_written_down_beside_them():
    members = {full_name(family, name) for family in FAMILIES for name in family.__members__}
    own = {name for name in vars(constants) if not name.startswith("_")} - {family.__name__ for family in FAMILIES}
    assert own - members == {
        "CREDSSP_CRED_EX_VERSION",
        "CREDSSP_NAME",
        "Final",
        "MICROSOFT_KERBEROS_NAME",
        "NEGOSSP_NAME",
        "NTLMSP_NAME",
        "SCHANNEL_CRED_VERSION",
        "SCH_CREDENTIALS_VERSION",
        "SECBUFFER_VERSION",
        "SEC_WINNT_AUTH_IDENTITY_VERSION",
        "SEC_WINNT_AUTH_IDENTITY_VERSION_2",
        "TS_SSP_NAME",
    }


@pytest.mark.parametrize(("kind", "listed"), [(ISC_REQ, NINE), (ASC_REQ, SEVEN)])
def test_what_a_page_lists_is_taken_in_any_combination(kind, listed):
    for bits in range(1 << len(listed)):
        requested = kind(sum(flag for place, flag in enumerate(listed) if bits >> place & 1))
        assert unsupported_requests(kind, requested) == unsupported_requests(kind, requested, strict=True) == 0


@pytest.mark.parametrize(("kind", "listed"), [(ISC_REQ, NINE), (ASC_REQ, SEVEN)])
def test_strict_takes_nothing_else(kind, listed):
    for place in range(64):
        wanted = 0 if 1 << place in listed else 1 << place
        assert unsupported_requests(kind, 1 << place, strict=True) == wanted


@pytest.mark.parametrize(
    "requested",
    [
        # FreeRDP's tsssp client, tspkg.dll's ISC and ASC to the package inside
        ISC_REQ.STREAM | ISC_REQ.EXTENDED_ERROR | ISC_REQ.ALLOCATE_MEMORY | ISC_REQ.CONFIDENTIALITY
        | ISC_REQ.SEQUENCE_DETECT | ISC_REQ.REPLAY_DETECT | ISC_REQ.MUTUAL_AUTH,
        ISC_REQ(0x132),
        ASC_REQ(0x112),
    ],
)  # fmt: skip
def test_what_real_callers_ask_for_is_taken(requested):
    assert unsupported_requests(type(requested), requested) == 0
    assert unsupported_requests(type(requested), requested, strict=True)


@pytest.mark.parametrize(
    "refused",
    [
        ISC_REQ.DATAGRAM, ISC_REQ.USE_DCE_STYLE, ISC_REQ.CALL_LEVEL, ISC_REQ.FRAGMENT_SUPPLIED, ISC_REQ.IDENTIFY,
        ISC_REQ.FRAGMENT_TO_FIT, ISC_REQ.NULL_SESSION, ISC_REQ.PROMPT_FOR_CREDS, ISC_REQ.USE_HTTP_STYLE,
        ISC_REQ.CONFIDENTIALITY_ONLY, ISC_REQ.NO_INTEGRITY, ISC_REQ.MESSAGES, ISC_REQ(1 << 31), ISC_REQ(1 << 60),
        ASC_REQ.DATAGRAM, ASC_REQ.SESSION_TICKET, ASC_REQ.ALLOW_NULL_SESSION, ASC_REQ.NO_TOKEN, ASC_REQ(1 << 31),
    ],
)  # fmt: skip
def test_what_credssp_cannot_do_is_refused_and_nothing_beside_it(refused):
    accepted = ISC_REQ_ACCEPTED if isinstance(refused, ISC_REQ) else ASC_REQ_ACCEPTED
    assert unsupported_requests(type(refused), refused | accepted) == refused

"""The structures of the SSPI functions, with Microsoft's field names.

Those that a query fills are made empty by the caller; all may be built field by field, as C code does, so none is
frozen. Counts that Python's values carry themselves (`cIssuers`, `UserLength`) are properties or left out. A secret is
in no repr.

Certificates: where C has a PCCERT_CONTEXT, here stands a `CertContext` (chain and key in PEM), or an `ssl.SSLContext`
that already holds them, which is how a key that never leaves its hardware comes in.
"""

import dataclasses
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Self, TypeAlias

from acredssp.config import ClientConfig, ServerConfig
from acredssp.credentials import Keytab, NTHash, Password, TicketCache
from acredssp.errors import LocalProtocolError
from acredssp.sspi.arguments import refusal
from acredssp.sspi.constants import (
    CREDSSP_CRED_EX_VERSION,
    SCH_CREDENTIALS_VERSION,
    SCHANNEL_CRED_VERSION,
    SEC_WINNT_AUTH_IDENTITY_VERSION,
    SEC_WINNT_AUTH_IDENTITY_VERSION_2,
)
from acredssp.sspi.flags import (
    CERT_TRUST_ERROR,
    CERT_TRUST_INFO,
    CREDSPP_SUBMIT_TYPE,
    CREDSSP_FLAG,
    CREDSSP_SERVER_AUTH,
    SCH_CRED,
    SEC_WINNT_AUTH_IDENTITY_FLAG,
    SECPKG_FLAG,
    SECPKG_NEGOTIATION,
    SP_PROT,
)
from acredssp.sspi.handles import TimeStamp
from acredssp.status import SecurityStatus
from acredssp.trust import Trust

__all__ = [
    "CERT_TRUST_STATUS",
    "CREDSSP_CRED",
    "CREDSSP_CRED_EX",
    "SCHANNEL_CRED",
    "SCH_CREDENTIALS",
    "SEC_CHANNEL_BINDINGS",
    "SEC_WINNT_AUTH_IDENTITY",
    "SEC_WINNT_AUTH_IDENTITY_EX",
    "SEC_WINNT_AUTH_IDENTITY_EX2",
    "TLS_PARAMETERS",
    "ULONG",
    "AuthIdentity",
    "CertContext",
    "SchannelCred",
    "SecPkgContext_AccessToken",
    "SecPkgContext_Bindings",
    "SecPkgContext_ClientCreds",
    "SecPkgContext_ClientSpecifiedTarget",
    "SecPkgContext_ConnectionInfo",
    "SecPkgContext_Flags",
    "SecPkgContext_IssuerListInfoEx",
    "SecPkgContext_Lifespan",
    "SecPkgContext_Names",
    "SecPkgContext_NativeNames",
    "SecPkgContext_NegotiationInfo",
    "SecPkgContext_PackageInfo",
    "SecPkgContext_RemoteCertContext",
    "SecPkgContext_SessionKey",
    "SecPkgContext_Sizes",
    "SecPkgContext_StreamSizes",
    "SecPkgContext_SubjectAttributes",
    "SecPkgCredentials_Names",
    "SecPkgInfo",
    "SpnegoCred",
]


@dataclasses.dataclass(slots=True)
class ULONG:
    """A number that a function fills: where C has a pointer to ULONG."""

    value: int = 0


# --- packages ---


@dataclasses.dataclass(slots=True)
class SecPkgInfo:
    """A security package (EnumerateSecurityPackages)."""

    fCapabilities: SECPKG_FLAG | int = 0
    wVersion: int = 0
    wRPCID: int = 0
    cbMaxToken: int = 0
    """Bytes of the largest token. Large enough, and no constant of the protocol."""
    Name: str = ""
    Comment: str = ""


@dataclasses.dataclass(slots=True)
class SecPkgCredentials_Names:
    """SECPKG_CRED_ATTR_NAMES."""

    sUserName: str = ""


# --- QueryContextAttributes ---


@dataclasses.dataclass(slots=True)
class SecPkgContext_Sizes:
    """SECPKG_ATTR_SIZES."""

    cbMaxToken: int = 0
    cbMaxSignature: int = 0
    cbBlockSize: int = 0
    cbSecurityTrailer: int = 0


@dataclasses.dataclass(slots=True)
class SecPkgContext_StreamSizes:
    """SECPKG_ATTR_STREAM_SIZES."""

    cbHeader: int = 0
    cbTrailer: int = 0
    cbMaximumMessage: int = 0
    cBuffers: int = 0
    cbBlockSize: int = 0


@dataclasses.dataclass(slots=True)
class SecPkgContext_Names:
    """SECPKG_ATTR_NAMES."""

    sUserName: str = ""


@dataclasses.dataclass(slots=True)
class SecPkgContext_NativeNames:
    """SECPKG_ATTR_NATIVE_NAMES."""

    sClientName: str = ""
    sServerName: str = ""


@dataclasses.dataclass(slots=True)
class SecPkgContext_Lifespan:
    """SECPKG_ATTR_LIFESPAN."""

    tsStart: TimeStamp = dataclasses.field(default_factory=TimeStamp)
    tsExpiry: TimeStamp = dataclasses.field(default_factory=TimeStamp)


@dataclasses.dataclass(slots=True)
class SecPkgContext_Flags:
    """SECPKG_ATTR_FLAGS and SECPKG_ATTR_SERVER_AUTH_FLAGS."""

    Flags: CREDSSP_SERVER_AUTH | int = 0


@dataclasses.dataclass(slots=True)
class SecPkgContext_PackageInfo:
    """SECPKG_ATTR_PACKAGE_INFO and SECPKG_ATTR_NEGOTIATION_PACKAGE."""

    PackageInfo: SecPkgInfo | None = None


@dataclasses.dataclass(slots=True)
class SecPkgContext_NegotiationInfo:
    """SECPKG_ATTR_NEGOTIATION_INFO."""

    PackageInfo: SecPkgInfo | None = None
    NegotiationState: SECPKG_NEGOTIATION = SECPKG_NEGOTIATION.COMPLETE


@dataclasses.dataclass(slots=True)
class SecPkgContext_AccessToken:
    """SECPKG_ATTR_C_ACCESS_TOKEN and its kin: tokens of a Windows machine, which stay None elsewhere."""

    AccessToken: None = None


@dataclasses.dataclass(slots=True)
class SecPkgContext_SessionKey:
    """SECPKG_ATTR_SESSION_KEY."""

    SessionKey: bytes = dataclasses.field(default=b"", repr=False)

    @property
    def SessionKeyLength(self) -> int:
        """In bytes."""
        return len(self.SessionKey)


@dataclasses.dataclass(slots=True)
class SecPkgContext_ClientSpecifiedTarget:
    """SECPKG_ATTR_CLIENT_SPECIFIED_TARGET."""

    sTargetName: str = ""


@dataclasses.dataclass(slots=True)
class SecPkgContext_ClientCreds:
    """SECPKG_ATTR_CREDS and SECPKG_ATTR_CREDS_2. FreeContextBuffer overwrites the buffer with zeros."""

    AuthBuffer: bytearray = dataclasses.field(default_factory=bytearray, repr=False)

    @property
    def AuthBufferLen(self) -> int:
        """In bytes; "characters" on the page is a slip."""
        return len(self.AuthBuffer)


@dataclasses.dataclass(slots=True)
class SecPkgContext_SubjectAttributes:
    """SECPKG_ATTR_SUBJECT_SECURITY_ATTRIBUTES: of a Windows machine, None elsewhere."""

    AttributeInfo: None = None


@dataclasses.dataclass(slots=True)
class SecPkgContext_IssuerListInfoEx:
    """SECPKG_ATTR_ISSUER_LIST_EX."""

    aIssuers: list[bytes] = dataclasses.field(default_factory=list)
    """The DER of each authority's Name, as the server sent it."""

    @property
    def cIssuers(self) -> int:
        """How many."""
        return len(self.aIssuers)


@dataclasses.dataclass(slots=True)
class SecPkgContext_ConnectionInfo:
    """SECPKG_ATTR_CONNECTION_INFO; algorithms by their ALG_ID (wincrypt.h), strengths in bits."""

    dwProtocol: SP_PROT | int = 0
    aiCipher: int = 0
    dwCipherStrength: int = 0
    aiHash: int = 0
    dwHashStrength: int = 0
    aiExch: int = 0
    dwExchStrength: int = 0


@dataclasses.dataclass(slots=True)
class SecPkgContext_RemoteCertContext:
    """SECPKG_ATTR_REMOTE_CERT_CONTEXT and SECPKG_ATTR_LOCAL_CERT_CONTEXT: where C has a PCCERT_CONTEXT."""

    pbCertEncoded: bytes = dataclasses.field(default=b"", repr=False)
    """The certificate in DER."""
    chain: tuple[bytes, ...] = dataclasses.field(default=(), repr=False)
    """What the peer sent with it, in DER, the certificate itself first; Windows keeps them in `hCertStore`."""


@dataclasses.dataclass(slots=True)
class CERT_TRUST_STATUS:
    """SECPKG_ATTR_CERT_TRUST_STATUS."""

    dwErrorStatus: CERT_TRUST_ERROR | int = 0
    dwInfoStatus: CERT_TRUST_INFO | int = 0


# --- channel bindings ---

_BINDINGS: Final = struct.Struct("<8L")


@dataclasses.dataclass(slots=True)
class SEC_CHANNEL_BINDINGS:
    """Channel bindings: addresses and application data, each with its place in the encoding.

    The five fields hold what the eight of C describe by offset and length; `encode` and `parse` go between them.
    """

    SIZE: ClassVar[int] = _BINDINGS.size
    """Bytes of the front, before the data."""

    dwInitiatorAddrType: int = 0
    InitiatorAddress: bytes = b""
    dwAcceptorAddrType: int = 0
    AcceptorAddress: bytes = b""
    ApplicationData: bytes = b""

    def encode(self) -> bytes:
        """The structure and its data, as a SECBUFFER_CHANNEL_BINDINGS holds it."""
        initiator = self.SIZE
        acceptor = initiator + len(self.InitiatorAddress)
        application = acceptor + len(self.AcceptorAddress)
        front = _BINDINGS.pack(
            self.dwInitiatorAddrType, len(self.InitiatorAddress), initiator if self.InitiatorAddress else 0,
            self.dwAcceptorAddrType, len(self.AcceptorAddress), acceptor if self.AcceptorAddress else 0,
            len(self.ApplicationData), application if self.ApplicationData else 0,
        )  # fmt: skip
        return front + self.InitiatorAddress + self.AcceptorAddress + self.ApplicationData

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview) -> Self:
        """The bindings that `data` describes.

        Raises:
            LocalProtocolError: SEC_E_BAD_BINDINGS: a part lies outside `data`.
        """
        if len(data) < cls.SIZE:
            raise _bad_bindings(f"expected at least {cls.SIZE} bytes, got {len(data)}")
        fields = _BINDINGS.unpack_from(data)
        initiator_type, initiator_length, initiator, acceptor_type, acceptor_length, acceptor = fields[:6]
        return cls(
            initiator_type,
            _part(data, initiator, initiator_length),
            acceptor_type,
            _part(data, acceptor, acceptor_length),
            _part(data, fields[7], fields[6]),
        )


def _part(data: bytes | bytearray | memoryview, offset: int, length: int) -> bytes:
    if length and not SEC_CHANNEL_BINDINGS.SIZE <= offset <= len(data) - length:
        raise _bad_bindings(f"{length} bytes at {offset} lie outside of {len(data)} bytes")
    return bytes(data[offset : offset + length])


def _bad_bindings(reason: str) -> LocalProtocolError:
    return refusal(f"SEC_CHANNEL_BINDINGS: {reason}", SecurityStatus.SEC_E_BAD_BINDINGS)


@dataclasses.dataclass(slots=True)
class SecPkgContext_Bindings:
    """SECPKG_ATTR_UNIQUE_BINDINGS and SECPKG_ATTR_ENDPOINT_BINDINGS."""

    Bindings: SEC_CHANNEL_BINDINGS | None = None

    @property
    def BindingsLength(self) -> int:
        """Bytes of the encoding."""
        return len(self.Bindings.encode()) if self.Bindings is not None else 0


# --- AcquireCredentialsHandle: certificates and TLS ---


@dataclasses.dataclass(frozen=True, slots=True)
class CertContext:
    """A certificate chain with its private key, both in PEM, the certificate itself first."""

    chain_pem: bytes
    key_pem: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(slots=True)
class SCHANNEL_CRED:
    """TLS: the certificate and the versions. What is not here (ciphers, mappers, formats) CredSSP does not read."""

    dwVersion: int = SCHANNEL_CRED_VERSION
    paCred: Sequence[CertContext | ssl.SSLContext] = ()
    """At most one: a server's certificate, or a client's for a server that asks."""
    hRootStore: Trust | None = None
    """Client: whom to believe; None for the operating system's authorities."""
    grbitEnabledProtocols: SP_PROT | int = 0
    """The versions to use, of those that the policy lets in; 0 for all of these. TLS 1.0 and 1.1 take a `ClientConfig`
    or `ServerConfig` as pSpnegoCred with `Policy(min_tls=ssl.TLSVersion.TLSv1, dangerous_allow_legacy_tls=True)`:
    without it they are left out beside newer versions, and refused alone."""
    dwMinimumCipherStrength: int = 0
    """In bits; every suite that is offered has at least 128."""
    dwFlags: SCH_CRED | int = 0
    """Read by nobody: the certificate is always judged and never fatal by itself (MANUAL_CRED_VALIDATION)."""

    @property
    def cCreds(self) -> int:
        """How many certificates."""
        return len(self.paCred)


@dataclasses.dataclass(slots=True)
class TLS_PARAMETERS:
    """What is not to be used (SCH_CREDENTIALS)."""

    grbitDisabledProtocols: SP_PROT | int = 0


@dataclasses.dataclass(slots=True)
class SCH_CREDENTIALS:
    """TLS: the certificate, and the versions by what is left out. The successor of SCHANNEL_CRED."""

    dwVersion: int = SCH_CREDENTIALS_VERSION
    paCred: Sequence[CertContext | ssl.SSLContext] = ()
    hRootStore: Trust | None = None
    dwFlags: SCH_CRED | int = 0
    pTlsParameters: Sequence[TLS_PARAMETERS] = ()

    @property
    def cCreds(self) -> int:
        """How many certificates."""
        return len(self.paCred)


SchannelCred: TypeAlias = SCHANNEL_CRED | SCH_CREDENTIALS


# --- AcquireCredentialsHandle: who ---


@dataclasses.dataclass(slots=True)
class SEC_WINNT_AUTH_IDENTITY:
    """An account and its password.

    Texts are `str`; `bytes` are taken as `Flags` says, UTF-16LE or the Western ANSI code page, of as many characters
    as the length says where it is given.
    """

    User: str | bytes = ""
    UserLength: int | None = None
    Domain: str | bytes = ""
    DomainLength: int | None = None
    Password: str | bytes = dataclasses.field(default="", repr=False)
    PasswordLength: int | None = None
    Flags: SEC_WINNT_AUTH_IDENTITY_FLAG | int = SEC_WINNT_AUTH_IDENTITY_FLAG.UNICODE


@dataclasses.dataclass(slots=True)
class SEC_WINNT_AUTH_IDENTITY_EX(SEC_WINNT_AUTH_IDENTITY):
    """The same with the packages that may use it."""

    Version: int = SEC_WINNT_AUTH_IDENTITY_VERSION
    PackageList: str = ""
    """Names with commas between; `!` in front of one forbids it. Empty for any."""


@dataclasses.dataclass(slots=True)
class SEC_WINNT_AUTH_IDENTITY_EX2(SEC_WINNT_AUTH_IDENTITY_EX):
    """The same again: what C packs behind offsets are the fields themselves here."""

    Version: int = SEC_WINNT_AUTH_IDENTITY_VERSION_2


AuthIdentity: TypeAlias = SEC_WINNT_AUTH_IDENTITY | Password | NTHash | TicketCache | Keytab
"""All but the first are acredssp's own, for what Microsoft's structures do not say."""

SpnegoCred: TypeAlias = AuthIdentity | ClientConfig | ServerConfig | Callable[..., object]
"""OUTBOUND: who logs on, or a `ClientConfig`. INBOUND: who validates, as a lookup hook or a `ServerConfig`."""


@dataclasses.dataclass(slots=True)
class CREDSSP_CRED:
    """Authentication data for AcquireCredentialsHandle (CredSSP): TLS's and Negotiate's."""

    Type: CREDSPP_SUBMIT_TYPE | int = CREDSPP_SUBMIT_TYPE.CredsspPasswordCreds
    pSchannelCred: SchannelCred | None = None
    pSpnegoCred: SpnegoCred | None = None
    """None for default credentials."""


@dataclasses.dataclass(slots=True)
class CREDSSP_CRED_EX:
    """The same with flags."""

    Type: CREDSPP_SUBMIT_TYPE | int = CREDSPP_SUBMIT_TYPE.CredsspCredEx
    Version: int = CREDSSP_CRED_EX_VERSION
    Flags: CREDSSP_FLAG | int = 0
    Reserved: int = 0
    Cred: CREDSSP_CRED = dataclasses.field(default_factory=CREDSSP_CRED)

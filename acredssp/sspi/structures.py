"""The structures of the SSPI functions, with Microsoft's field names.

The caller makes an empty structure, and a query fills it. Nearly all structures can be built field by field, as C code
does, so they are not frozen. A count that a Python value has itself, such as `cIssuers`, is a property. No repr shows a
secret.

Where C has a PCCERT_CONTEXT, a caller gives a `CertContext` (chain and key in PEM), or an `ssl.SSLContext` that already
holds them. An `ssl.SSLContext` is for a key that never leaves its hardware.
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
    """A number that a function sets, where C has a pointer to ULONG.

    Attributes:
        value: The number.
    """

    value: int = 0


# --- packages ---


@dataclasses.dataclass(slots=True)
class SecPkgInfo:
    """A security package (EnumerateSecurityPackages).

    Attributes:
        fCapabilities: What the package can do.
        wVersion: The version of the package protocol.
        wRPCID: The package's number in RPC.
        cbMaxToken: Bytes that suffice for the largest token. The protocol itself sets no such limit.
        Name: The package's name, for AcquireCredentialsHandle.
        Comment: A description of the package, for people.
    """

    fCapabilities: SECPKG_FLAG | int = 0
    wVersion: int = 0
    wRPCID: int = 0
    cbMaxToken: int = 0
    Name: str = ""
    Comment: str = ""


@dataclasses.dataclass(slots=True)
class SecPkgCredentials_Names:
    """SECPKG_CRED_ATTR_NAMES.

    Attributes:
        sUserName: The user's name.
    """

    sUserName: str = ""


# --- QueryContextAttributes ---


@dataclasses.dataclass(slots=True)
class SecPkgContext_Sizes:
    """SECPKG_ATTR_SIZES.

    Attributes:
        cbMaxToken: Bytes of the largest token.
        cbMaxSignature: Bytes of the largest signature.
        cbBlockSize: Bytes of a block.
        cbSecurityTrailer: Bytes of the trailer of a sealed message.
    """

    cbMaxToken: int = 0
    cbMaxSignature: int = 0
    cbBlockSize: int = 0
    cbSecurityTrailer: int = 0


@dataclasses.dataclass(slots=True)
class SecPkgContext_StreamSizes:
    """SECPKG_ATTR_STREAM_SIZES.

    Attributes:
        cbHeader: Bytes of a record in front of its plaintext.
        cbTrailer: Bytes of a record behind its plaintext, at most.
        cbMaximumMessage: Bytes of plaintext that one record holds at most.
        cBuffers: Buffers that a call of EncryptMessage takes.
        cbBlockSize: The plaintext is padded to a multiple of this.
    """

    cbHeader: int = 0
    cbTrailer: int = 0
    cbMaximumMessage: int = 0
    cBuffers: int = 0
    cbBlockSize: int = 0


@dataclasses.dataclass(slots=True)
class SecPkgContext_Names:
    """SECPKG_ATTR_NAMES.

    Attributes:
        sUserName: The user's name.
    """

    sUserName: str = ""


@dataclasses.dataclass(slots=True)
class SecPkgContext_NativeNames:
    """SECPKG_ATTR_NATIVE_NAMES.

    Attributes:
        sClientName: The client's name.
        sServerName: The server's name.
    """

    sClientName: str = ""
    sServerName: str = ""


@dataclasses.dataclass(slots=True)
class SecPkgContext_Lifespan:
    """SECPKG_ATTR_LIFESPAN.

    Attributes:
        tsStart: When the context begins to be valid.
        tsExpiry: When it expires.
    """

    tsStart: TimeStamp = dataclasses.field(default_factory=TimeStamp)
    tsExpiry: TimeStamp = dataclasses.field(default_factory=TimeStamp)


@dataclasses.dataclass(slots=True)
class SecPkgContext_Flags:
    """SECPKG_ATTR_FLAGS and SECPKG_ATTR_SERVER_AUTH_FLAGS.

    Attributes:
        Flags: For SECPKG_ATTR_FLAGS, flags of ISC_RET or ASC_RET; for the other, flags of CREDSSP_SERVER_AUTH.
    """

    Flags: CREDSSP_SERVER_AUTH | int = 0


@dataclasses.dataclass(slots=True)
class SecPkgContext_PackageInfo:
    """SECPKG_ATTR_PACKAGE_INFO and SECPKG_ATTR_NEGOTIATION_PACKAGE.

    Attributes:
        PackageInfo: The package.
    """

    PackageInfo: SecPkgInfo | None = None


@dataclasses.dataclass(slots=True)
class SecPkgContext_NegotiationInfo:
    """SECPKG_ATTR_NEGOTIATION_INFO.

    Attributes:
        PackageInfo: The package that was negotiated.
        NegotiationState: Whether the negotiation is complete.
    """

    PackageInfo: SecPkgInfo | None = None
    NegotiationState: SECPKG_NEGOTIATION = SECPKG_NEGOTIATION.COMPLETE


@dataclasses.dataclass(slots=True)
class SecPkgContext_AccessToken:
    """SECPKG_ATTR_C_ACCESS_TOKEN and the other access tokens, which exist on Windows only.

    Attributes:
        AccessToken: Always None.
    """

    AccessToken: None = None


@dataclasses.dataclass(slots=True)
class SecPkgContext_SessionKey:
    """SECPKG_ATTR_SESSION_KEY.

    Attributes:
        SessionKey: The key.
    """

    SessionKey: bytes = dataclasses.field(default=b"", repr=False)

    @property
    def SessionKeyLength(self) -> int:
        """The length in bytes."""
        return len(self.SessionKey)


@dataclasses.dataclass(slots=True)
class SecPkgContext_ClientSpecifiedTarget:
    """SECPKG_ATTR_CLIENT_SPECIFIED_TARGET.

    Attributes:
        sTargetName: The service principal name; empty for none.
    """

    sTargetName: str = ""


@dataclasses.dataclass(slots=True)
class SecPkgContext_ClientCreds:
    """SECPKG_ATTR_CREDS and SECPKG_ATTR_CREDS_2. FreeContextBuffer overwrites the buffer with zeros.

    Attributes:
        AuthBuffer: The credentials.
    """

    AuthBuffer: bytearray = dataclasses.field(default_factory=bytearray, repr=False)

    @property
    def AuthBufferLen(self) -> int:
        """The length in bytes. The page says "characters" by mistake."""
        return len(self.AuthBuffer)


@dataclasses.dataclass(slots=True)
class SecPkgContext_SubjectAttributes:
    """SECPKG_ATTR_SUBJECT_SECURITY_ATTRIBUTES, which exist on Windows only.

    Attributes:
        AttributeInfo: Always None.
    """

    AttributeInfo: None = None


@dataclasses.dataclass(slots=True)
class SecPkgContext_IssuerListInfoEx:
    """SECPKG_ATTR_ISSUER_LIST_EX.

    Attributes:
        aIssuers: The DER of each authority's Name, as the server sent it.
    """

    aIssuers: list[bytes] = dataclasses.field(default_factory=list)

    @property
    def cIssuers(self) -> int:
        """The number of authorities."""
        return len(self.aIssuers)


@dataclasses.dataclass(slots=True)
class SecPkgContext_ConnectionInfo:
    """SECPKG_ATTR_CONNECTION_INFO, with an ALG_ID of wincrypt.h for each algorithm.

    Attributes:
        dwProtocol: The version of TLS, as SP_PROT has it.
        aiCipher: The cipher.
        dwCipherStrength: Bits of its key.
        aiHash: The hash.
        dwHashStrength: Bits of the hash.
        aiExch: The key exchange.
        dwExchStrength: Bits of the key exchange.
    """

    dwProtocol: SP_PROT | int = 0
    aiCipher: int = 0
    dwCipherStrength: int = 0
    aiHash: int = 0
    dwHashStrength: int = 0
    aiExch: int = 0
    dwExchStrength: int = 0


@dataclasses.dataclass(slots=True)
class SecPkgContext_RemoteCertContext:
    """SECPKG_ATTR_REMOTE_CERT_CONTEXT and SECPKG_ATTR_LOCAL_CERT_CONTEXT, for which C has a PCCERT_CONTEXT.

    Attributes:
        pbCertEncoded: The certificate in DER.
        chain: The certificate, followed by those that came with it, in DER. Windows keeps them in `hCertStore`.
    """

    pbCertEncoded: bytes = dataclasses.field(default=b"", repr=False)
    chain: tuple[bytes, ...] = dataclasses.field(default=(), repr=False)


@dataclasses.dataclass(slots=True)
class CERT_TRUST_STATUS:
    """SECPKG_ATTR_CERT_TRUST_STATUS.

    Attributes:
        dwErrorStatus: What is wrong with the certificate (CERT_TRUST_*); 0 for nothing.
        dwInfoStatus: What else is known of the certificate.
    """

    dwErrorStatus: CERT_TRUST_ERROR | int = 0
    dwInfoStatus: CERT_TRUST_INFO | int = 0


# --- channel bindings ---

_BINDINGS: Final = struct.Struct("<8L")


@dataclasses.dataclass(slots=True)
class SEC_CHANNEL_BINDINGS:
    """Channel bindings: the two addresses, and the data that names the channel.

    The five fields hold what the eight fields of C describe by offset and length. `encode` makes the form of C, and
    `parse` reads it.

    Attributes:
        SIZE: Bytes of the fixed part, in front of the data.
        dwInitiatorAddrType: The type of the initiator's address; 0 for none.
        InitiatorAddress: The initiator's address.
        dwAcceptorAddrType: The type of the acceptor's address; 0 for none.
        AcceptorAddress: The acceptor's address.
        ApplicationData: The data that names the channel, for example `tls-server-end-point:` and a hash.
    """

    SIZE: ClassVar[int] = _BINDINGS.size

    dwInitiatorAddrType: int = 0
    InitiatorAddress: bytes = b""
    dwAcceptorAddrType: int = 0
    AcceptorAddress: bytes = b""
    ApplicationData: bytes = b""

    def encode(self) -> bytes:
        """Return the structure with its data, as a SECBUFFER_CHANNEL_BINDINGS holds them."""
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
        """Return the bindings that `data` describes.

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
        raise _bad_bindings(f"{length} bytes at offset {offset} lie outside the buffer of {len(data)} bytes")
    return bytes(data[offset : offset + length])


def _bad_bindings(reason: str) -> LocalProtocolError:
    return refusal(f"SEC_CHANNEL_BINDINGS: {reason}", SecurityStatus.SEC_E_BAD_BINDINGS)


@dataclasses.dataclass(slots=True)
class SecPkgContext_Bindings:
    """SECPKG_ATTR_UNIQUE_BINDINGS and SECPKG_ATTR_ENDPOINT_BINDINGS.

    Attributes:
        Bindings: The bindings.
    """

    Bindings: SEC_CHANNEL_BINDINGS | None = None

    @property
    def BindingsLength(self) -> int:
        """The length of the encoded bindings, in bytes."""
        return len(self.Bindings.encode()) if self.Bindings is not None else 0


# --- AcquireCredentialsHandle: certificates and TLS ---


@dataclasses.dataclass(frozen=True, slots=True)
class CertContext:
    """A certificate chain with its private key, both in PEM, the certificate itself first.

    Attributes:
        chain_pem: The certificate and the authorities above it, in PEM.
        key_pem: The private key in PEM.
    """

    chain_pem: bytes
    key_pem: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(slots=True)
class SCHANNEL_CRED:
    """TLS: the certificate and the versions. CredSSP does not use the other fields of C (ciphers, mappers, formats).

    Attributes:
        dwVersion: The version of the C structure.
        paCred: At most one certificate: a server's, or a client's for a server that asks for one.
        hRootStore: Client: the servers and authorities to trust; None for the operating system's authorities.
        grbitEnabledProtocols: The versions to use, among those that the policy allows; 0 for all of these. TLS 1.0
            and 1.1 need a `ClientConfig` or `ServerConfig` as pSpnegoCred, with `Policy(min_tls=ssl.TLSVersion.TLSv1,
            dangerous_allow_legacy_tls=True)`. Without it, they are left out if newer versions are named, too, and
            otherwise refused.
        dwMinimumCipherStrength: Bits, at most 128, which every suite on offer has.
        dwFlags: Not used: a certificate is always checked, and never ends the handshake by itself
            (MANUAL_CRED_VALIDATION).
    """

    dwVersion: int = SCHANNEL_CRED_VERSION
    paCred: Sequence[CertContext | ssl.SSLContext] = ()
    hRootStore: Trust | None = None
    grbitEnabledProtocols: SP_PROT | int = 0
    dwMinimumCipherStrength: int = 0
    dwFlags: SCH_CRED | int = 0

    @property
    def cCreds(self) -> int:
        """The number of certificates."""
        return len(self.paCred)


@dataclasses.dataclass(slots=True)
class TLS_PARAMETERS:
    """What SCH_CREDENTIALS switches off.

    Attributes:
        grbitDisabledProtocols: The TLS versions to switch off.
    """

    grbitDisabledProtocols: SP_PROT | int = 0


@dataclasses.dataclass(slots=True)
class SCH_CREDENTIALS:
    """TLS: the certificate, and the versions to switch off. It is the successor of SCHANNEL_CRED.

    Attributes:
        dwVersion: The version of the C structure.
        paCred: At most one certificate: a server's, or a client's for a server that asks for one.
        hRootStore: Client: the servers and authorities to trust; None for the operating system's authorities.
        dwFlags: Not used, as in `SCHANNEL_CRED`.
        pTlsParameters: The versions to switch off.
    """

    dwVersion: int = SCH_CREDENTIALS_VERSION
    paCred: Sequence[CertContext | ssl.SSLContext] = ()
    hRootStore: Trust | None = None
    dwFlags: SCH_CRED | int = 0
    pTlsParameters: Sequence[TLS_PARAMETERS] = ()

    @property
    def cCreds(self) -> int:
        """The number of certificates."""
        return len(self.paCred)


SchannelCred: TypeAlias = SCHANNEL_CRED | SCH_CREDENTIALS


# --- AcquireCredentialsHandle: identities ---


@dataclasses.dataclass(slots=True)
class SEC_WINNT_AUTH_IDENTITY:
    """An account and its password.

    A text is a `str`, or `bytes` in the encoding that `Flags` names: UTF-16LE or the Western ANSI code page. If a
    length is given, only so many characters of the text count.

    Attributes:
        User: The user's name.
        UserLength: Characters of `User`; None for all.
        Domain: The domain; empty for none.
        DomainLength: Characters of `Domain`; None for all.
        Password: The password.
        PasswordLength: Characters of `Password`; None for all.
        Flags: How texts given as bytes are encoded.
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
    """A `SEC_WINNT_AUTH_IDENTITY` with the packages that may use it.

    Attributes:
        Version: The version of the C structure.
        PackageList: Names separated by commas; `!` in front of a name forbids the package. Empty for any package.
    """

    Version: int = SEC_WINNT_AUTH_IDENTITY_VERSION
    PackageList: str = ""


@dataclasses.dataclass(slots=True)
class SEC_WINNT_AUTH_IDENTITY_EX2(SEC_WINNT_AUTH_IDENTITY_EX):
    """A `SEC_WINNT_AUTH_IDENTITY_EX` of another version. C packs the texts behind offsets; here they are plain fields.

    The fields of `SEC_WINNT_AUTH_IDENTITY` come first.

    Attributes:
        Version: The version of the C structure.
    """

    Version: int = SEC_WINNT_AUTH_IDENTITY_VERSION_2


AuthIdentity: TypeAlias = SEC_WINNT_AUTH_IDENTITY | Password | NTHash | TicketCache | Keytab
"""The first is Microsoft's. The others are acredssp's, for credentials that Microsoft's structures cannot hold."""

SpnegoCred: TypeAlias = AuthIdentity | ClientConfig | ServerConfig | Callable[..., object]
"""OUTBOUND: an identity that logs on, or a `ClientConfig`. INBOUND: a lookup hook, or a `ServerConfig`."""


@dataclasses.dataclass(slots=True)
class CREDSSP_CRED:
    """Credentials for AcquireCredentialsHandle (CredSSP): those of TLS and those of Negotiate.

    Attributes:
        Type: Which of the two members are used.
        pSchannelCred: TLS: certificate, authorities and versions; None for the defaults.
        pSpnegoCred: Negotiate: the identity or configuration; None for default ones, which acredssp does not have.
    """

    Type: CREDSPP_SUBMIT_TYPE | int = CREDSPP_SUBMIT_TYPE.CredsspPasswordCreds
    pSchannelCred: SchannelCred | None = None
    pSpnegoCred: SpnegoCred | None = None


@dataclasses.dataclass(slots=True)
class CREDSSP_CRED_EX:
    """A `CREDSSP_CRED` with flags.

    Attributes:
        Type: `CredsspCredEx`, which tells the structure from a CREDSSP_CRED.
        Version: The version of the C structure.
        Flags: How to use the credentials.
        Reserved: Always 0.
        Cred: The credentials.
    """

    Type: CREDSPP_SUBMIT_TYPE | int = CREDSPP_SUBMIT_TYPE.CredsspCredEx
    Version: int = CREDSSP_CRED_EX_VERSION
    Flags: CREDSSP_FLAG | int = 0
    Reserved: int = 0
    Cred: CREDSSP_CRED = dataclasses.field(default_factory=CREDSSP_CRED)

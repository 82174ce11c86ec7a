"""An asyncio CredSSP handshake engine: Windows SSPI's InitializeSecurityContext and AcceptSecurityContext, awaitable.

Most applications need `open_connection` or `start_server`, a `ClientConfig` or a `ServerConfig`, and a carriage:

    config = acredssp.ClientConfig(authenticate=acredssp.Password("secret", "alice", "CONTOSO"))
    reader, writer = await acredssp.open_connection("host", 3389, config=config, carriage=acredssp.RDP())

The engine underneath does no I/O: `config.new_context()` gives a `SecurityContext` for any other loop.
"""

from acredssp.aio.failures import FailureLimit
from acredssp.aio.relaying import RelayEnd, RelayResult, relay
from acredssp.aio.report import HandshakeOutcome, HandshakeReport
from acredssp.aio.server import CredSSPServer
from acredssp.aio.streams import (
    create_connection,
    create_server,
    open_connection,
    start_credssp,
    start_credssp_streams,
    start_server,
    take_credentials,
)
from acredssp.aio.transport import SecureTransport
from acredssp.aio.winbind import WinbindOracle
from acredssp.carriage.base import TLS, Carriage
from acredssp.carriage.rdp import RDP, RDPRoute, RouteHook, RouteRequest
from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.context import HandshakeInfo, SecurityContext, StepResult
from acredssp.core.events import (
    Admit,
    AskOracle,
    Authorize,
    ChooseCertificate,
    Delegate,
    Event,
    JudgeCertificate,
    LookupCredential,
    Route,
    StepMechanism,
)
from acredssp.core.record_sizes import RecordSizes
from acredssp.core.states import State
from acredssp.credentials import (
    Account,
    AccountSecret,
    Candidates,
    Credential,
    Deny,
    Keytab,
    LookupAnswer,
    Nothing,
    NTHash,
    Oracle,
    Password,
    RemoteGuard,
    SmartCard,
    TicketCache,
)
from acredssp.delegation import (
    CredentialClass,
    DelegatedKind,
    DelegationDecision,
    DelegationPolicy,
    DelegationRequest,
    EncryptionOracle,
    RestrictedAdministration,
    ServerAuth,
    SPNList,
)
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CertificateError,
    CredSSPError,
    HandshakeAborted,
    HandshakeTimeout,
    LimitExceeded,
    LocalProtocolError,
    NegotiationFailure,
    PeerClosed,
    PolicyError,
    PublicKeyMismatch,
    RemoteProtocolError,
    TLSError,
)
from acredssp.hooks import AcceptHook, Admission, AdmitHook, AuthorizeHook, CredentialRequest, Identity, LookupHook
from acredssp.logs import connection_id
from acredssp.mechanisms.base import NTLMExchange, Principal
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.policy import MechanismChoice, Policy
from acredssp.rdp import ConnectionRequest
from acredssp.secret import SecretBytes
from acredssp.sni import sni_contexts
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.tls_config import (
    client_context,
    client_context_from_pem,
    self_signed,
    server_context,
    server_context_from_pem,
)
from acredssp.trust import Judgement, Trust, Verdict, pin_of
from acredssp.wire.ticket_logon import KerbTicketLogon
from acredssp.wire.ts_credentials import (
    SecretText,
    TSCredentials,
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSRemoteGuardPackageCred,
    TSSmartCardCreds,
)
from acredssp.wire.x509 import subject_public_key

__version__ = "0.1.0"
"""The version of the package, which pyproject.toml takes from here."""

__all__ = [
    "NTSTATUS",
    "RDP",
    "TLS",
    "AcceptHook",
    "AccessDenied",
    "Account",
    "AccountSecret",
    "Admission",
    "Admit",
    "AdmitHook",
    "AskOracle",
    "AuthenticationError",
    "Authorize",
    "AuthorizeHook",
    "Candidates",
    "Carriage",
    "CertificateError",
    "ChooseCertificate",
    "ClientConfig",
    "ConnectionRequest",
    "CredSSPError",
    "CredSSPServer",
    "Credential",
    "CredentialClass",
    "CredentialRequest",
    "Delegate",
    "DelegatedKind",
    "DelegationDecision",
    "DelegationPolicy",
    "DelegationRequest",
    "Deny",
    "EncryptionOracle",
    "Event",
    "FailureLimit",
    "HandshakeAborted",
    "HandshakeInfo",
    "HandshakeOutcome",
    "HandshakeReport",
    "HandshakeTimeout",
    "Identity",
    "JudgeCertificate",
    "Judgement",
    "KerbTicketLogon",
    "Keytab",
    "LimitExceeded",
    "LocalProtocolError",
    "LookupAnswer",
    "LookupCredential",
    "LookupHook",
    "MechanismChoice",
    "NTHash",
    "NTLMExchange",
    "NTLMIdentity",
    "NegotiationFailure",
    "Nothing",
    "Oracle",
    "Password",
    "PeerClosed",
    "Policy",
    "PolicyError",
    "Principal",
    "PublicKeyMismatch",
    "RDPRoute",
    "RecordSizes",
    "RelayEnd",
    "RelayResult",
    "RemoteGuard",
    "RemoteProtocolError",
    "RestrictedAdministration",
    "Route",
    "RouteHook",
    "RouteRequest",
    "SPNList",
    "SecretBytes",
    "SecretText",
    "SecureTransport",
    "SecurityContext",
    "SecurityStatus",
    "ServerAuth",
    "ServerConfig",
    "SmartCard",
    "Stage",
    "State",
    "StepMechanism",
    "StepResult",
    "TLSError",
    "TSCredentials",
    "TSCspDataDetail",
    "TSPasswordCreds",
    "TSRemoteGuardCreds",
    "TSRemoteGuardPackageCred",
    "TSSmartCardCreds",
    "TicketCache",
    "Trust",
    "Verdict",
    "WinbindOracle",
    "client_context",
    "client_context_from_pem",
    "connection_id",
    "create_connection",
    "create_server",
    "open_connection",
    "pin_of",
    "relay",
    "self_signed",
    "server_context",
    "server_context_from_pem",
    "sni_contexts",
    "start_credssp",
    "start_credssp_streams",
    "start_server",
    "subject_public_key",
    "take_credentials",
]

"""An asyncio CredSSP handshake engine: Windows SSPI's InitializeSecurityContext and AcceptSecurityContext, awaitable.

Most applications need `open_connection` or `start_server`, a `ClientConfig` or a `ServerConfig`, and a carriage:

    config = acredssp.ClientConfig(authenticate=acredssp.Password("secret", "alice", "CONTOSO"))
    reader, writer = await acredssp.open_connection("host", 3389, config=config, carriage=acredssp.RDP())

The engine underneath does no I/O: `config.new_context()` gives a `SecurityContext` for any other loop.

This module has what most programs need. Each public module has all names of its subject:

    acredssp.accounts     who may log on: the users file, winbind's users, the holders of tickets
    acredssp.aio          the asyncio functions, and the types of what they take and return
    acredssp.carriage     what goes around a handshake: the contract, for carriages of your own
    acredssp.config       the configurations of both sides
    acredssp.credentials  what a client logs on with and delegates, and what a lookup answers
    acredssp.decoding     what the bytes of a handshake mean
    acredssp.delegation   which servers a client gives its credentials to
    acredssp.diagnosis    what is wrong with a server, a client or a logon, for administrators
    acredssp.errors       why a handshake failed
    acredssp.events       the engine without I/O: contexts, step results and events
    acredssp.hooks        what a server's hooks are asked, and what they answer
    acredssp.hosts        the hosts of a gateway's target: health checks, and whose turn it is
    acredssp.http         CredSSP over HTTP: the logon in headers, and sealed bodies, without I/O
    acredssp.policy       what a handshake may be
    acredssp.rdp          Remote Desktop: the carriage, routing, and the first PDUs for gateways
    acredssp.rdp_file     .rdp files, and their signature
    acredssp.recording    handshakes kept in files, and replayed
    acredssp.sspi         the SSPI functions by Microsoft's names
    acredssp.status       SECURITY_STATUS, NTSTATUS, and the stages of a handshake
    acredssp.stores       what the nodes of a gateway share
    acredssp.testing      hostile peers, for tests of other implementations
    acredssp.tls          TLS contexts and certificates
    acredssp.trust        which certificates of servers a client accepts
    acredssp.winrm        commands on Windows by WinRM
    acredssp.wire         the structures of MS-CSSP: what was delegated, secrets, TSRequest
    acredssp.workers      processes on one address, and their supervisor

Every other module is internal, and may change without notice.
"""

from acredssp import ctrl_c  # noqa: F401 - before what takes long to import
from acredssp.aio import (
    FailureLimit,
    HandshakeReport,
    connection_id,
    create_connection,
    create_server,
    open_connection,
    relay,
    start_credssp,
    start_credssp_streams,
    start_server,
    take_credentials,
)
from acredssp.carriage import TLS
from acredssp.config import ClientConfig, ServerConfig
from acredssp.credentials import Account, Deny, Keytab, NTHash, Password, TicketCache
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
from acredssp.events import HandshakeInfo
from acredssp.hooks import Admission, CredentialRequest, Identity
from acredssp.policy import Policy
from acredssp.rdp import RDP
from acredssp.status import NTSTATUS
from acredssp.tls import self_signed, server_context, server_context_from_pem, sni_contexts
from acredssp.trust import Trust, pin_of
from acredssp.wire import TSPasswordCreds

__version__ = "0.1.0"
"""The version of the package, which pyproject.toml takes from here."""

__all__ = [
    "NTSTATUS",
    "RDP",
    "TLS",
    "AccessDenied",
    "Account",
    "Admission",
    "AuthenticationError",
    "CertificateError",
    "ClientConfig",
    "CredSSPError",
    "CredentialRequest",
    "Deny",
    "FailureLimit",
    "HandshakeAborted",
    "HandshakeInfo",
    "HandshakeReport",
    "HandshakeTimeout",
    "Identity",
    "Keytab",
    "LimitExceeded",
    "LocalProtocolError",
    "NTHash",
    "NegotiationFailure",
    "Password",
    "PeerClosed",
    "Policy",
    "PolicyError",
    "PublicKeyMismatch",
    "RemoteProtocolError",
    "ServerConfig",
    "TLSError",
    "TSPasswordCreds",
    "TicketCache",
    "Trust",
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
    "take_credentials",
]

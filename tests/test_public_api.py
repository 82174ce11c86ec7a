"""The public names: added here, to `__all__` and to the docs in the same change, and never renamed once released."""

import inspect
import pathlib

import pytest

import acredssp

NAMES = [
    "AcceptHook",
    "AccessDenied",
    "Account",
    "AccountSecret",
    "Admit",
    "Admission",
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
    "Mechanism",
    "MechanismChoice",
    "NTHash",
    "NTLMExchange",
    "NTLMIdentity",
    "NTSTATUS",
    "NegotiationFailure",
    "Nothing",
    "Oracle",
    "Password",
    "PeerClosed",
    "Policy",
    "PolicyError",
    "Principal",
    "PublicKeyMismatch",
    "RDP",
    "RDPRoute",
    "RecordSizes",
    "RelayEnd",
    "RelayResult",
    "RemoteGuard",
    "Route",
    "RouteHook",
    "RouteRequest",
    "RemoteProtocolError",
    "RestrictedAdministration",
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
    "TLS",
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


def test_the_public_names():
    assert sorted(acredssp.__all__) == sorted(NAMES)
    assert all(hasattr(acredssp, name) for name in NAMES)

    assert inspect.getdoc(acredssp.rdp)


@pytest.mark.interpreted_only("mypyc keeps no docstring")
def test_every_public_class_and_function_says_what_it_is():
    for name in NAMES:
        value = getattr(acredssp, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_typing_information_is_shipped():
    assert pathlib.Path(inspect.getfile(acredssp)).with_name("py.typed").exists()

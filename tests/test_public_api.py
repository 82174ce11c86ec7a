"""The public names: added here, to `__all__` and to the docs in the same change, and never renamed once released."""

import ast
import dataclasses
import inspect
import itertools
import pathlib
import re
import textwrap

import pytest

import acredssp
import acredssp.rdp
import acredssp.sspi

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


MODULES = (acredssp, acredssp.rdp, acredssp.sspi)


def public_classes():
    """Every class that a public module gives away, once."""
    named = (getattr(module, name) for module in MODULES for name in module.__all__)
    return sorted({each for each in named if inspect.isclass(each)}, key=lambda each: each.__name__)


def instance_attributes(cls):
    """The public names that the class body annotates and that `__init__` assigns to `self`."""
    for node in ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            for each in ast.walk(node):
                if (
                    isinstance(each, ast.Attribute)
                    and isinstance(each.ctx, ast.Store)
                    and ast.unparse(each.value) == "self"
                ):
                    yield each.attr


def declared(cls):
    """Each public attribute of a class, with the class of ours that declares it."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("acredssp")]
    return {(base, name) for base in ours for name in instance_attributes(base) if not name.startswith("_")}


def is_named(name, docstring):
    return re.search(rf"^ +{name}:", docstring, re.MULTILINE) is not None


@pytest.mark.interpreted_only("mypyc keeps no docstring")
def test_help_names_every_attribute_of_a_class():
    attributes = [(cls, base, name) for cls in public_classes() for base, name in declared(cls)]
    seen = [
        (cls, name)
        for cls, base, name in attributes
        if any(is_named(name, inspect.getdoc(each)) for each in (cls, base))
    ]

    assert [f"{cls.__name__}.{name}" for cls, _, name in attributes if (cls, name) not in seen] == []
    assert len(attributes) > 300


@pytest.mark.interpreted_only("mypyc keeps no docstring")
def test_a_class_that_inherits_options_names_the_class_that_has_them():
    for cls in filter(dataclasses.is_dataclass, public_classes()):
        for base, name in declared(cls):
            assert is_named(name, inspect.getdoc(cls)) or f"`{base.__name__}`" in inspect.getdoc(cls), (cls, name)


@pytest.mark.interpreted_only("mypyc keeps no docstring")
def test_no_attribute_of_a_public_class_is_described_where_help_does_not_look():
    for cls in public_classes():
        if cls.__module__.startswith("acredssp"):
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
            for before, after in itertools.pairwise(body):
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    assert ast.unparse(before).startswith("_"), (cls, ast.unparse(before))

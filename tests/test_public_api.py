"""The public names, ring by ring: a change of them changes this file, `__all__`, the docs and CHANGELOG.md.

The root holds what most programs need. Each further public module holds all names of its subject, those of the root
included. Whatever a public signature names is public itself.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import pathlib
import re
import sys
import typing

import pytest

import acredssp

PACKAGE = pathlib.Path(inspect.getfile(acredssp)).parent

ROOT = """
    AccessDenied Account Admission AuthenticationError CertificateError ClientConfig CredSSPError CredentialRequest Deny
    FailureLimit HandshakeAborted HandshakeInfo HandshakeReport HandshakeTimeout Identity Keytab LimitExceeded
    LocalProtocolError NTHash NTSTATUS NegotiationFailure Password PeerClosed Policy PolicyError PublicKeyMismatch RDP
    RemoteProtocolError ServerConfig TLS TLSError TSPasswordCreds TicketCache Trust connection_id create_connection
    create_server open_connection pin_of relay self_signed server_context server_context_from_pem sni_contexts
    start_credssp start_credssp_streams start_server take_credentials
"""

MODULES = {
    "accounts": "AccountNames Accounts Anybody Domains TicketHolders Users WinbindUsers",
    "aio": """
        ClientAnswers ClientConnected ClientLeft ConnectOptions CredSSPServer EventSource FailureLimit HandshakeHook
        HandshakeOutcome HandshakeReport ListenOptions Outcome Pending Place Places ProtocolFactory ProxyAddress
        ProxyCommand ProxyEndpoint ProxyFamily ProxyHeader ProxyTLS Recording RecordingSink RelayEnd RelayResult
        SecureTransport ServerAnswers ServerLogon ServerLogons Sparingly Streams WinbindOracle answer_events check_rdp
        connection_id create_connection create_server exchange_mcs judge_server open_connection pass_until_answer
        reason_of relay source_of start_credssp start_credssp_streams start_server take_credentials
        write_if_open
    """,
    "anyio": "SecureStream open_connection start_credssp",
    "carriage": "Carriage CarriedHandshake NewContext PassedOn TLS",
    "config": "ClientConfig NTLMIdentity ServerConfig",
    "credentials": """
        Account AccountSecret Candidates Credential DelegatedKind Deny Keytab LookupAnswer NTHash Nothing Oracle
        Password RemoteGuard SmartCard TicketCache TicketInfo
    """,
    "decoding": "Fault Kind MOST_BYTES MOST_NODES MOST_UNITS Node Secret Value decode",
    "delegation": """
        CredentialClass DelegatedKind DelegationDecision DelegationPolicy DelegationRequest EncryptionOracle
        RestrictedAdministration SPNList ServerAuth
    """,
    "diagnosis": """
        Answer CATALOGUE CertificateFacts ChallengeFacts ClientFacts Fact Finding FindingKind FirstToken LogonFacts
        NegotiationAnswer NoAnswer Question Reach ServerFacts Severity ShownCertificate TLSAnswer TLSOutcome Unanswered
        WebFacts clock_difference
        explain found judge_certificate judge_client judge_server judge_web missing_bytes read_answer
        read_first_token
    """,
    "errors": """
        AccessDenied AuthenticationError CertificateError CredSSPError HandshakeAborted HandshakeTimeout LimitExceeded
        LocalProtocolError NegotiationFailure PeerClosed PolicyError PublicKeyMismatch RemoteProtocolError TLSError
    """,
    "events": """
        Admit Answered AskOracle Authorize Buffer ChooseCertificate Delegate Event HandshakeInfo JudgeCertificate
        LookupCredential Question Route SecurityContext State StepMechanism StepResult
    """,
    "hosts": "Counted Directory HealthCheck Host HostPool",
    "hooks": """
        AcceptHook Admission AdmitHook AuthorizeHook CredentialRequest Identity LookupHook NTLMExchange Principal
    """,
    "http": """
        Challenge ClientExchange ClientOptions ClientTurn HTTPProtocolError Headers Opener PoolTimeout Reply Sealer
        ServerExchange ServerTurn challenges is_sealed open_body seal_body
    """,
    "http.aiohttp": "CredSSPResponse CredSSPSession Data RequestOptions",
    "http.asgi": "ASGIApp CredSSPMiddleware LoggedOn Message Receive Scope Send",
    "http.httpx": "CredSSPTransport Transport",
    "http.httpx2": "CredSSPTransport Transport",
    "http.server": "HTTPLimits HTTPServer start_http_server",
    "http.uvicorn": "H11Protocol HTTPLimits HttpToolsProtocol",
    "policy": """
        EncryptionOracle FALL_BACK FIRST_SAFE_VERSION MechanismChoice NEWEST_VERSION OLDEST_VERSION Policy
    """,
    "rdp": """
        ConnectionConfirm ConnectionRequest ExactReader FailureCode PreconnectionPDU Protocols RDP RDPAcceptor
        Passthrough
        RDPInitiator RDPRoute RDPState RedirectionWatch RequestFlags ResponseFlags RouteAnswer RouteHook RouteRequest
        ServerRedirection missing_bytes msts_address read_negotiation read_pdu
        rewrite_requested_protocols rewrite_selected_protocol
    """,
    "rdp_file": "FileSigner rdp_file",
    "status": "LOGON_STATUS NTSTATUS OpenEnum SecurityStatus Stage failure_status",
    "recording": """
        Agreement Flight MOST_BYTES MOST_FILES MOST_FOLDER_BYTES MOST_MESSAGES Message RecordFolder RecordedError
        Recording RecordingCarriage Replay ReplayStep Sender replay to_pcapng without_secrets
    """,
    "stores": """
        Entry Expiring Grant KICK_LIFE Kick LockedOut LockoutRule LogonAttempt MemoryStore Node SealError Sealer Store
        StoreError TokenRefused entries_of find_token is_token issue_token key_text names_of new_keys redeem_token
    """,
    "stores.redis": "RedisStore",
    "testing": """
        CLIENT_DEFECTS Channel ClientDefects ClientEndpoint Crashed FakeServer HostileClient HostileServer Link
        NTLM_ONLY_CLIENT_DEFECTS NTLM_ONLY_SERVER_DEFECTS Realm SERVER_DEFECTS ServerDefects ServerEndpoint SocketLink
        StepLink attack_client attack_server client_defects log_on running_realm server_defects
    """,
    "tls": """
        BIOPair RecordSizes TLSSession client_context client_context_from_pem end_point_binding own_chain self_signed
        server_context server_context_from_pem sni_contexts subject_public_key
    """,
    "trust": "Judgement OptionNames Trust Verdict pin_of",
    "winrm": """
        Command CommandShell Completed Identity NotSent Option OutcomeUnknown Output Post Reply Request Session WSMan
        WSManFault
    """,
    "winrm.httpx": "connect",
    "winrm.powershell": "Pipeline Record RunspacePool",
    "wire": """
        KerbTicketLogon SecretBytes SecretText TSCredentials TSCspDataDetail TSPasswordCreds TSRemoteGuardCreds
        TSRemoteGuardPackageCred TSRequest TSSmartCardCreds UnicodeString
    """,
    "workers": """
        Address EXIT_FAILED Sockets Supervisor Worker bind bind_shared inherited is_supported notify_systemd take_bound
    """,
}
"""The names of each public module but `acredssp.sspi`, which tests/sspi/test_names.py holds against Microsoft's."""

PUBLIC = ["acredssp", "acredssp.sspi", *(f"acredssp.{name}" for name in MODULES)]

MADE_BY_THE_PACKAGE = {
    "CredSSPResponse",
    "Command",
    "CommandShell",
    "CredSSPServer",
    "HTTPServer",
    "LoggedOn",
    "Pipeline",
    "RDPAcceptor",
    "RDPInitiator",
    "RunspacePool",
    "SecureTransport",
    "SecurityContext",
    "ServerLogon",
}
"""Classes that no program makes by itself: what their constructors take is no promise."""


def imported(name):
    return importlib.import_module(name)


def test_the_names_of_the_root():
    assert sorted(acredssp.__all__) == sorted(ROOT.split())


def test_the_architecture_gives_a_reason_for_each_name_of_the_root_and_names_each_module():
    page = (pathlib.Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    page = page.split("\n## The public face\n")[1].split("\n## ")[0]
    told = set(re.findall(r"`([\w.]+)`", page))
    errors = {name for name in imported("acredssp.errors").__all__ if name != "CredSSPError"}
    assert {*ROOT.split(), *PUBLIC} - told - errors == set()
    assert f"the {len(ROOT.split())} that most programs need" in page
    assert f"`CredSSPError` and its {len(errors)} subclasses" in page


def test_each_name_of_the_root_is_in_the_module_of_its_subject():
    subjects = {id(getattr(imported(f"acredssp.{name}"), each)) for name in MODULES for each in MODULES[name].split()}
    assert [name for name in acredssp.__all__ if id(getattr(acredssp, name)) not in subjects] == []


@pytest.mark.parametrize(("name", "names"), MODULES.items())
def test_the_names_of_a_module(name, names):
    assert sorted(imported(f"acredssp.{name}").__all__) == sorted(names.split())


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_says_what_it_is_for_and_has_what_it_promises(name):
    module = imported(name)
    assert inspect.getdoc(module)
    assert all(hasattr(module, each) for each in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_class_and_function_says_what_it_is(name):
    for each in imported(name).__all__:
        value = getattr(imported(name), each)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), each


@pytest.mark.parametrize("name", PUBLIC)
def test_the_types_of_every_public_function_can_be_read_at_run_time(name):
    """Documentation tools and injectors read them so."""
    functions = [each for each in map(vars(imported(name)).get, imported(name).__all__) if inspect.isfunction(each)]
    assert all(typing.get_type_hints(each) for each in functions)


def test_typing_information_is_shipped():
    assert (PACKAGE / "py.typed").exists()


# --- what signatures name ---


@functools.cache
def tree(module):
    """Read the source, since values that were evaluated have forgotten the names of their aliases."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


@functools.cache
def definitions():
    """{identity of a class, function or type alias of the package: (module, its source)}."""
    found = {}
    for module in [each for each in sys.modules if each.split(".")[0] == "acredssp" and not each.endswith("__mypyc")]:
        for node in tree(module).body:
            match node:
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                    name = node.name
                case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
                    pass
                case _:
                    continue
            found[id(getattr(sys.modules[module], name))] = module, node
    return found


def is_member(name):
    return not name.startswith("_") or name.startswith("__")


def signature(node):
    """The expressions that say what a class, function or type alias takes, gives and is made of."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            a = node.args
            taken = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
            yield from (each.annotation for each in taken if each is not None)
            yield node.returns
            for inner in ast.walk(node):
                if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Attribute):
                    yield inner.annotation if is_member(inner.target.attr) else None
        case ast.ClassDef():
            yield from (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
            for inner in node.body:
                match inner:
                    case ast.AnnAssign(target=ast.Name(id=name)) if is_member(name):
                        yield inner.annotation
                    case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if is_member(name):
                        yield from () if name == "__init__" and node.name in MADE_BY_THE_PACKAGE else signature(inner)
        case ast.AnnAssign():
            yield node.value


def named(expression, module):
    """(name, identity) of each thing that an expression of a module names, in strings too."""
    for node in ast.walk(expression):
        match node:
            case ast.Constant(value=str() as text):
                try:
                    yield from named(ast.parse(text, mode="eval"), module)
                except SyntaxError:
                    continue  # a word of a Literal
            case ast.Name() | ast.Attribute():
                name = node.id if isinstance(node, ast.Name) else ast.unparse(node)
                try:
                    yield name, id(functools.reduce(getattr, name.split("."), sys.modules[module]))
                except AttributeError:
                    continue  # a built-in one, or what is imported for type checkers alone


def not_public(public):
    """{name: who names it} of what the signatures of the public things name and what is not public itself."""
    found, waiting, seen = {}, dict(public), set()
    while waiting:
        thing, place = waiting.popitem()
        if thing in seen or thing not in definitions():
            continue
        seen.add(thing)
        module, node = definitions()[thing]
        for expression in filter(None, signature(node)):
            for name, other in named(expression, module):
                if name.startswith("_"):
                    waiting[other] = place  # a private base: its members are the public class's
                elif other in definitions() and other not in public:
                    found[name] = place
    return found


def identities(modules):
    return {id(getattr(imported(module), name)): name for module in modules for name in imported(module).__all__}


@pytest.mark.thorough
def test_what_a_public_signature_names_is_public():
    assert not_public(identities(PUBLIC)) == {}


@pytest.mark.parametrize(
    ("module", "name", "by", "where"),
    [
        ("aio", "AcceptHook", "create_server", "an alias that a parameter has"),
        ("aio", "TSCredentials", "SecureTransport", "the result of a method"),
        ("config", "AdmitHook", "ServerConfig", "an alias that a field has"),
        ("errors", "Stage", "CredSSPError", "an attribute that the constructor sets"),
        ("hooks", "LookupAnswer", "LookupHook", "a string in an alias"),
        ("rdp", "OpenEnum", "FailureCode", "a base"),
        ("rdp", "Buffer", "RDPAcceptor", "a member of a private base"),
    ],
)
def test_what_is_named_and_not_public_is_seen(module, name, by, where):
    assert not_public(identities([f"acredssp.{module}"])).get(name) == by, where


# --- what help() shows ---


def public_classes():
    """Every class that a public module gives away, once."""
    named = (getattr(imported(module), name) for module in PUBLIC for name in imported(module).__all__)
    return sorted({each for each in named if inspect.isclass(each)}, key=lambda each: each.__name__)


@functools.cache
def body_of(cls):
    """The statements of a class of ours: `inspect.getsource` would parse the whole module once more."""
    node = tree(cls.__module__)
    for name in cls.__qualname__.split("."):
        node = next(each for each in node.body if isinstance(each, ast.ClassDef) and each.name == name)
    return node.body


@functools.cache
def instance_attributes(cls):
    """The public names that the class body annotates and that `__init__` assigns to `self`."""
    return list(_attributes_in(body_of(cls)))


def _attributes_in(body):
    for node in body:
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
    return name in _names_in(docstring)


@functools.cache
def _names_in(docstring):
    return set(re.findall(r"^ +(\w+):", docstring, re.MULTILINE))


def test_help_names_every_attribute_of_a_class():
    attributes = [(cls, base, name) for cls in public_classes() for base, name in declared(cls)]
    seen = [
        (cls, name)
        for cls, base, name in attributes
        if any(is_named(name, inspect.getdoc(each)) for each in (cls, base))
    ]

    assert [f"{cls.__name__}.{name}" for cls, _, name in attributes if (cls, name) not in seen] == []
    assert len(attributes) > 300


def test_a_class_that_inherits_options_names_the_class_that_has_them():
    for cls in filter(dataclasses.is_dataclass, public_classes()):
        for base, name in declared(cls):
            assert is_named(name, inspect.getdoc(cls)) or f"`{base.__name__}`" in inspect.getdoc(cls), (cls, name)


def test_no_attribute_of_a_public_class_is_described_where_help_does_not_look():
    for cls in public_classes():
        if cls.__module__.startswith("acredssp"):
            for before, after in itertools.pairwise(body_of(cls)):
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    assert ast.unparse(before).startswith("_"), (cls, ast.unparse(before))

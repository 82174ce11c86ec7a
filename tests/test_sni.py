"""Certificates by the name that a client asks for."""

import functools
import ssl

import pytest
from support.endpoints import BOB, CERTIFICATE, KEY, server_config, tls_policy
from support.engine import pem
from support.tls import shake_hands

import acredssp
from acredssp import ServerConfig, sni_contexts, tls_config
from acredssp.core.server_name import ServerNameNote
from acredssp.core.tls import TLSSession
from acredssp.errors import PolicyError, TLSError
from acredssp.policy import Policy

TLS12, TLS13 = tls_policy("TLSv1.2"), tls_policy("TLSv1.3")
VERSIONS = pytest.mark.parametrize("policy", [TLS12, TLS13], ids=["tls12", "tls13"])
OTHER_CERTIFICATE, OTHER_KEY = acredssp.self_signed(["other.example", "*.example"], "ec")
OTHER_PIN = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(OTHER_CERTIFICATE.decode()))

# Made here, since making one writes a file, which no test may do on its loop.
OTHER, USUAL = (
    {policy.max_tls: tls_config.server_context_from_pem(policy, *made) for policy in (TLS12, TLS13)}
    for made in ((OTHER_CERTIFICATE, OTHER_KEY), (CERTIFICATE, KEY))
)


def context(kind="ec", policy=None):
    return tls_config.server_context_from_pem(policy or Policy(), *pem(kind))


@functools.cache
def contexts_of(*names):
    """A context for each name, made once."""
    return {name: context() for name in names}


def shown(front, name, policy=TLS13):
    """The context that answers a client that asks for `name`, as the server's session says."""
    client = TLSSession(tls_config.client_context(policy), server_side=False, server_hostname=name)
    server = TLSSession(front, server_side=True)
    shake_hands(client, server)
    return server


# --- names ---


@VERSIONS
@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ("host.example", "exact"),
        ("HOST.Example", "exact"),
        ("a.wild.example", "wildcard"),
        ("A.WILD.example", "wildcard"),
        ("www.wild.example", "in front of it"),
        ("a.b.wild.example", "default"),
        ("wild.example", "default"),
        ("m\u00fcnchen.example", "international"),
        ("xn--mnchen-3ya.example", "international"),
        ("unknown.example", "default"),
        ("127.0.0.1", "default"),
        (None, "default"),
    ],
)
def test_the_context_is_that_of_the_name(policy, asked, answers):
    names = {
        "host.example.": "exact",
        "*.Wild.example": "wildcard",
        "www.wild.example": "in front of it",
        "M\u00fcnchen.example": "international",
    }
    contexts, default = contexts_of(*names), contexts_of("default")["default"]
    server = shown(sni_contexts(contexts, default), asked, policy)
    by_answer = {answer: contexts[name] for name, answer in names.items()} | {"default": default}
    assert server.context is by_answer[answers]
    told = asked if asked not in (None, "127.0.0.1") else ""
    assert server.server_name == told.encode("idna").decode()


@VERSIONS
@pytest.mark.parametrize("asked", ["unknown.example", "127.0.0.1", None])
def test_without_a_default_other_clients_are_refused(policy, asked):
    front = sni_contexts({"host.example": context()}, None)
    assert shown(front, "host.example", policy).context is front
    client = TLSSession(tls_config.client_context(policy), server_side=False, server_hostname=asked)
    server = TLSSession(front, server_side=True)
    client.handshake()
    with pytest.raises(TLSError) as ours:
        server.handshake(client.output())
    assert "sni_contexts" in ours.value.hint
    with pytest.raises(TLSError, match="unrecognized name") as theirs:
        client.handshake(server.output())
    assert "server_hostname" in theirs.value.hint


def test_the_default_may_be_the_only_one():
    default = context()
    assert sni_contexts({}, default) is default
    assert shown(default, "host.example").context is default


def test_names_can_be_replaced():
    default, first, second = context(), context(), context()
    sni_contexts({"one.example": first}, default)
    sni_contexts({"two.example": second}, default)
    assert shown(default, "one.example").context is default
    assert shown(default, "two.example").context is second


def test_a_configuration_keeps_the_names():
    default, named = context(), context()
    front = sni_contexts({"host.example": named}, default)
    ServerConfig(ssl_context=front, lookup=lambda request: None)
    assert isinstance(front.sni_callback, ServerNameNote)
    assert shown(front, "host.example").context is named


def test_one_context_for_many_names_is_checked_once(monkeypatch):
    checked = []
    monkeypatch.setattr("acredssp.sni.own_public_key", checked.append)
    shared, default = context(), context()
    front = sni_contexts({f"host{number}.example": shared for number in range(1000)}, default)
    assert sorted(map(id, checked)) == sorted(map(id, [shared, default]))
    assert shown(front, "HOST999.example.").context is shared


# --- the logon ---


@VERSIONS
@pytest.mark.parametrize("order", ["the other is default", "the other has the name"])
async def test_a_logon_is_bound_to_the_certificate_of_the_name(policy, order):
    other, usual = OTHER[policy.max_tls], USUAL[policy.max_tls]
    if order == "the other is default":
        front = sni_contexts({"localhost": usual}, other)
    else:
        front = sni_contexts({"*.example": other}, usual)
    requests, reports = [], []
    config = server_config(policy, ssl_context=front, lookup=lambda request: requests.append(request) or BOB)
    server = await acredssp.start_server(
        lambda _reader, writer: writer.close(), "127.0.0.1", 0, config=config, on_handshake=reports.append
    )
    client = acredssp.ClientConfig(authenticate=BOB, policy=policy, trust=acredssp.Trust.pinned(OTHER_PIN))
    for _ in range(2):
        reader, writer = await acredssp.open_connection(
            *server.sockets[0].getsockname(), config=client, server_hostname="some.example"
        )
        assert writer.get_extra_info("credssp").peer_key_sha256 == OTHER_PIN
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    assert [report.error for report in reports] == [None, None]
    assert {report.server_name for report in reports} == {"some.example"}
    assert {request.server_name for request in requests} == {"some.example"}


# --- what cannot be ---


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: ([], None), TypeError, "contexts: expected Mapping, got list"),
        (lambda: ({}, None), ValueError, "contexts: expected at least one context or a default, got neither"),
        (lambda: ({}, "server.pem"), TypeError, "default: expected SSLContext or None, got str"),
        (lambda: ({b"a": context()}, None), TypeError, "contexts: name: expected str, got bytes"),
        (
            lambda: ({"a.example": "server.pem"}, None),
            TypeError,
            r"contexts\['a.example'\]: expected SSLContext, got str",
        ),
        (lambda: ({"*": context()}, None), ValueError, r"expected the name of a host, .*, got '\*'"),
        (lambda: ({"*.": context()}, None), ValueError, "expected the name of a host"),
        (lambda: ({"": context()}, None), ValueError, "expected the name of a host"),
        (lambda: ({"a*.example": context()}, None), ValueError, "expected the name of a host"),
        (lambda: ({"*.*.example": context()}, None), ValueError, "expected the name of a host"),
        (lambda: ({"127.0.0.1": context()}, None), ValueError, "expected the name of a host"),
        (lambda: ({"::1": context()}, None), ValueError, "expected the name of a host"),
        (lambda: ({"a b.example": context()}, None), ValueError, "expected the name of a host"),
        (lambda: ({"a.example": context(), "A.example.": context()}, None), ValueError, "got a.example twice"),
        (lambda: ({"a.example": context()}, context(policy=TLS13)), ValueError, "make all contexts with one policy"),
        (
            lambda: ({"a.example": tls_config.client_context(Policy())}, None),
            ValueError,
            r"contexts\['a.example'\]: expected a context for servers, got one for clients",
        ),
        (lambda: ({}, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), PolicyError, "no certificate"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(make, error, said):
    contexts, default = make()
    with pytest.raises(error, match=said):
        sni_contexts(contexts, default)


@pytest.mark.parametrize("role", ["named", "default"])
def test_a_callback_of_the_callers_own_is_not_thrown_away(role):
    made = {"named": context(), "default": context()}
    made[role].sni_callback = lambda *_: None
    with pytest.raises(ValueError, match="without an sni_callback"):
        sni_contexts({"a.example": made["named"]}, made["default"])


@pytest.mark.parametrize(
    "weaken",
    [
        lambda it: setattr(it, "minimum_version", ssl.TLSVersion.TLSv1_3),
        lambda it: it.set_ciphers("ECDHE+AESGCM"),
        lambda it: setattr(it, "verify_mode", ssl.CERT_OPTIONAL),
        lambda it: setattr(it, "options", it.options & ~ssl.OP_NO_RENEGOTIATION),
    ],
)
def test_a_context_with_settings_of_its_own_is_refused_since_only_its_certificate_would_count(weaken):
    named = context()
    weaken(named)
    with pytest.raises(ValueError, match="make all contexts with one policy"):
        sni_contexts({"a.example": named}, context())

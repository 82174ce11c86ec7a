"""The logon over HTTP, both sides: tokens in headers, one connection one context, and what each refusal is answered."""

import base64
import ssl

import pytest
from support.engine import answers_of, client_tls, pem
from support.http_bodies import MULTI, TYPE
from support.turns import ALICE, VERSIONS, answer_of_server, server_config

from acredssp.config import ClientConfig
from acredssp.credentials import Deny, Password
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CertificateError,
    CredSSPError,
    LocalProtocolError,
    NegotiationFailure,
    PeerClosed,
    PolicyError,
    RemoteProtocolError,
    TLSError,
)
from acredssp.events import Authorize, Delegate, JudgeCertificate, LookupCredential
from acredssp.http import ClientExchange, HTTPProtocolError, ServerExchange, open_body, seal_body
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.trust import Trust, pin_of
from acredssp.wire import TSPasswordCreds, TSRequest

EMPTY = [("Content-Length", "0")]


@pytest.fixture(params=VERSIONS)
def policy(request):
    return policy_of(VERSIONS[request.param])


def policy_of(version=ssl.TLSVersion.TLSv1_3):
    return Policy(min_tls=version, max_tls=version)


def client_config(policy, password=ALICE, spn="HTTP/*", **kwargs):
    pin = pin_of(ssl.PEM_cert_to_DER_cert(pem()[0].decode()))
    web = SPNList.of(spn)
    return ClientConfig(
        authenticate=password,
        policy=policy,
        trust=kwargs.pop("trust", Trust.pinned(pin)),
        delegation=DelegationPolicy(allow_fresh_credentials=web, allow_fresh_credentials_when_ntlm_only=web),
        ssl_context=client_tls(policy),
        **kwargs,
    )


def client_of(policy, password=ALICE, **kwargs):
    return ClientExchange(client_config(policy, password), "localhost", **kwargs)


def server_of(policy, **kwargs):
    return ServerExchange(server_config(policy), **kwargs)


def ask(server, headers, answer=answer_of_server):
    """Give a request's headers to the server; return its reply, None for a request that is to be served."""
    turn = server.receive(headers)
    while turn.event is not None:
        assert turn.reply is None
        turn = server.resume(turn.event, answer(turn.event))
    return turn.reply


def answered(client, turn):
    while turn.event is not None:
        assert not turn.authorization
        turn = client.resume(turn.event, client.answer(turn.event))
    return turn.authorization


def with_authorization(value):
    return [("Authorization", value), *EMPTY]


def log_on(client, server, answer=answer_of_server):
    """Let both talk to the end; return the statuses."""
    authorization, statuses = answered(client, client.start()), []
    while authorization:
        reply = ask(server, with_authorization(authorization), answer)
        statuses.append(reply.status)
        authorization = answered(client, client.receive(reply.status, reply.headers))
    return statuses


def logged_on(policy, **kwargs):
    client, server = client_of(policy), server_of(policy, **kwargs)
    log_on(client, server)
    return client, server


def name_of(reply):
    return dict(reply.headers)


# --- our pair ---


@pytest.mark.parametrize("mechanism", ["ntlm", "negotiate"])
def test_both_sides_log_on_and_seal_bodies(policy, mechanism):
    client = ClientExchange(client_config(policy_with(policy, mechanism=MechanismChoice(mechanism))), "localhost")
    server = server_of(policy)
    statuses = log_on(client, server)
    assert statuses == [401] * (len(statuses) - 1) + [200]
    assert client.logged_on
    assert server.logged_on
    assert str(server.context.info.principal) == "CONTOSO\\alice"
    assert server.context.take_credentials() == TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!")
    media_type, body = seal_body(client.context, b"<s:Envelope/>")
    headers = [("Content-Type", media_type), ("Content-Length", str(len(body)))]
    assert ask(server, headers) is None
    opener = server.opener(headers)
    assert opener.feed(body) == b"<s:Envelope/>"
    opener.finish()
    assert open_body(client.context, *seal_body(server.context, bytes(40_000)))[1] == bytes(40_000)


def policy_with(policy, **kwargs):
    return Policy(min_tls=policy.min_tls, max_tls=policy.max_tls, **kwargs)


def test_a_client_may_ask_first_which_schemes_there_are(policy):
    client, server = client_of(policy), server_of(policy)
    reply = ask(server, [])
    assert (reply.status, reply.close) == (401, False)
    assert name_of(reply)["WWW-Authenticate"] == "CredSSP"
    offered = [("WWW-Authenticate", "Negotiate, Kerberos"), *reply.headers]
    authorization = answered(client, client.receive(401, offered))
    while authorization:
        reply = ask(server, with_authorization(authorization))
        offered = [("www-authenticate", "Negotiate"), *reply.headers]
        authorization = answered(client, client.receive(reply.status, offered))
    assert client.logged_on
    assert server.logged_on


@pytest.mark.parametrize("other", [[], EMPTY, [("Authorization", "Negotiate YQ==")], [("Authorization", "CredSSP")]])
def test_requests_before_the_first_token_are_asked_to_log_on(policy, other):
    client, server = client_of(policy), server_of(policy)
    for _ in range(3):
        reply = ask(server, other)
        assert (reply.status, name_of(reply)["WWW-Authenticate"], reply.close) == (401, "CredSSP", False)
        assert int(name_of(reply)["Content-Length"]) == len(reply.body)
    log_on(client, server)
    assert server.logged_on


def test_tokens_and_credentials_are_in_no_repr(policy):
    client, server = client_of(policy), server_of(policy)
    turn = client.start()
    assert turn.authorization not in repr(turn)
    reply = server.receive(with_authorization(turn.authorization)).reply
    assert name_of(reply)["WWW-Authenticate"] not in repr(reply)


@pytest.mark.parametrize(
    ("host", "spn", "name", "target"),
    [
        ("localhost", None, "localhost", "HTTP/localhost"),
        ("localhost", "WSMAN/other", "localhost", "WSMAN/other"),
        ("127.0.0.1", None, "", "HTTP/127.0.0.1"),
    ],
)
def test_the_name_and_the_service_principal_name(host, spn, name, target):
    policy = policy_of(ssl.TLSVersion.TLSv1_2)
    client = ClientExchange(client_config(policy, spn=target), host, spn=spn)
    server, asked = server_of(policy), []

    def answer(event):
        asked.append(event)
        return answer_of_server(event)

    authorization = answered(client, client.start())
    while authorization:
        reply = ask(server, with_authorization(authorization), answer)
        turn = client.receive(reply.status, reply.headers)
        while turn.event is not None:
            asked.append(turn.event)
            turn = client.resume(turn.event, client.answer(turn.event))
        authorization = turn.authorization
    assert [event.target for event in asked if isinstance(event, Delegate)] == [target]
    assert server.logged_on


@pytest.mark.parametrize(
    ("host", "spn", "name", "ask_kdc"),
    [
        ("localhost", None, "localhost", True),
        ("127.0.0.1", None, None, False),
        ("[::1]", None, None, False),
        ("127.0.0.1", "HTTP/web", None, True),
    ],
)
def test_a_kdc_is_not_asked_for_a_name_that_was_made_of_an_address(host, spn, name, ask_kdc):
    config, asked = client_config(policy_of()), {}

    class Config:
        def new_context(self, **kwargs):
            asked.update(kwargs)
            return config.new_context(server_hostname=None, spn="HTTP/localhost", turns=True)

    ClientExchange(Config(), host, spn=spn)
    assert (asked["server_hostname"], asked["ask_kdc"], asked["turns"]) == (name, ask_kdc, True)


# --- the client's refusals ---


def asked_client(policy):
    client = client_of(policy)
    answered(client, client.start())
    return client


@pytest.mark.parametrize(
    ("status", "headers", "error", "text"),
    [
        (401, [], NegotiationFailure, "expected CredSSP among the schemes that the server offers, got none"),
        (401, [("WWW-Authenticate", "Negotiate, Basic realm=CredSSP")], NegotiationFailure, "got Negotiate, Basic"),
        (401, [("WWW-Authenticate", "Negotiate")], NegotiationFailure, "Enable-WSManCredSSP -Role Server"),
        (401, [("WWW-Authenticate", "CredSSP ?")], HTTPProtocolError, "expected a credssp token in base64"),
        (
            401,
            [("WWW-Authenticate", "CredSSP ?")],
            HTTPProtocolError,
            "that are not, in leg 1 of the logon, the tls handshake inside credssp (the answer is none of credssp",
        ),
        (401, [("WWW-Authenticate", "CredSSP YQ=="), ("Connection", "x, Close")], RemoteProtocolError, "TLS record"),
        (
            401,
            [("WWW-Authenticate", "CredSSP")],
            PeerClosed,
            "did not answer with a credssp token in leg 1 of the logon, the tls handshake",
        ),
        (
            200,
            [],
            RemoteProtocolError,
            "expected status 401 with a credssp token in leg 1 of the logon, the tls handshake",
        ),
        (200, [], RemoteProtocolError, "nobody asks for a logon at this url"),
        (403, [], RemoteProtocolError, "the server refuses everybody at this path"),
        (500, [], RemoteProtocolError, "its log has the reason"),
        (501, [], RemoteProtocolError, "WinRM's takes POST alone"),
        (502, [], RemoteProtocolError, "a proxy in between cannot reach the server"),
        (400, [], RemoteProtocolError, "check the scheme and the port of the url"),
        (413, [], RemoteProtocolError, "log on with requests that have empty bodies"),
        (400, [], RemoteProtocolError, "share connections among clients"),
        (302, [], RemoteProtocolError, "give the url that the server leads to"),
        (404, [], RemoteProtocolError, "WinRM's is /wsman"),
        (405, [], RemoteProtocolError, "WinRM's takes POST alone"),
        (407, [], RemoteProtocolError, "got status 407"),
        (505, [], RemoteProtocolError, "a proxy in between asks the service by http/1.0, as nginx does unless it has"),
        (503, [], RemoteProtocolError, "no room for more connections, or the service behind it does not run"),
    ],
)
def test_what_the_client_refuses_in_the_middle(status, headers, error, text):
    client = asked_client(policy_of())
    with pytest.raises(error) as caught:
        client.receive(status, headers)
    assert text in str(caught.value)
    with pytest.raises(CredSSPError) as again:
        client.receive(401, [("WWW-Authenticate", "CredSSP YQ==")])
    assert again.value is caught.value, "an error is final"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"too many connections\n", "got status 503, and the server says 'too many connections' ("),
        (b"\x1b[2Jgone\r\nmore", "got status 503, and the server says '\\x1b[2Jgone' ("),
        (b"\xff\xe4", "got status 503, and the server says '\\ufffd\\ufffd' ("),
        (b"x" * 201, f"got status 503, and the server says '{'x' * 200}' ("),
        (b" \n", "got status 503 ("),
    ],
    ids=["text", "escapes", "bytes", "long", "blank"],
)
def test_what_the_server_says_in_plain_text_is_shown_in_one_line_that_no_terminal_obeys(body, shown):
    client = asked_client(policy_of())
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(503, [("Content-Type", "text/plain; charset=utf-8")], body)
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [[], [("Content-Type", "text/html")], [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")]],
    ids=["no type", "html", "packed"],
)
def test_what_is_no_plain_text_is_not_shown(headers):
    client = asked_client(policy_of())
    with pytest.raises(RemoteProtocolError, match=r"got status 503 \("):
        client.receive(503, headers, b"too many connections")


@pytest.mark.parametrize("token", ["?", "AAAA"], ids=["no base64", "no tls"])
def test_a_token_that_is_none_in_the_middle_of_a_logon_names_the_leg_and_what_may_be_in_between(policy, token):
    client, server = client_of(policy), server_of(policy)
    reply = ask(server, with_authorization(answered(client, client.start())))
    answered(client, client.receive(reply.status, reply.headers))
    with pytest.raises(RemoteProtocolError, match=r", in leg 2 of the logon.* \(a proxy in between may share"):
        client.receive(401, [("WWW-Authenticate", f"CredSSP {token}")])


@pytest.mark.parametrize("status", [200, 400])
def test_a_status_in_the_middle_of_a_logon_is_no_matter_of_the_url(policy, status):
    client, server = client_of(policy), server_of(policy)
    reply = ask(server, with_authorization(answered(client, client.start())))
    answered(client, client.receive(reply.status, reply.headers))
    with pytest.raises(RemoteProtocolError, match="share connections among clients") as caught:
        client.receive(status, [])
    assert "url" not in str(caught.value)


def test_the_stage_of_a_server_that_does_not_offer_credssp():
    client = client_of(policy_of())
    with pytest.raises(NegotiationFailure) as caught:
        client.receive(401, [("WWW-Authenticate", "Kerberos")])
    assert caught.value.stage is Stage.NEGOTIATION


def test_a_wrong_password(policy):
    client, server = client_of(policy, Password("wrong", "alice", "CONTOSO")), server_of(policy)
    with pytest.raises(AuthenticationError) as caught:
        log_on(client, server)
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert isinstance(server.error, AuthenticationError)
    reply = ask(server, [])
    assert (reply.status, reply.close, reply.body) == (401, True, b"the logon failed\n")
    assert name_of(reply)["Connection"] == "close"


@pytest.mark.parametrize(
    "offered", [[], [("WWW-Authenticate", "CredSSP")], [("WWW-Authenticate", "Negotiate, CredSSP")]]
)
@pytest.mark.parametrize("closes", [[], [("Connection", "close")]])
def test_a_server_that_refuses_without_a_word(policy, offered, closes):
    client, server = client_of(policy), server_of(policy)
    authorization = answered(client, client.start())
    for _ in range(3):
        reply = ask(server, with_authorization(authorization))
        authorization = answered(client, client.receive(reply.status, reply.headers))
    with pytest.raises(AuthenticationError, match=r"in leg \d of the logon, .*: check user and password"):
        client.receive(401, [*offered, *closes])


def test_a_server_that_closes_in_the_middle_and_says_how_to_go_on(policy):
    client, server = client_of(policy), server_of(policy)
    reply = ask(server, with_authorization(answered(client, client.start())))
    with pytest.raises(PeerClosed, match=r"the server closes the connection in leg 1 of the logon.*share connections"):
        client.receive(401, [*reply.headers, ("Connection", "close")])


def test_a_certificate_that_is_not_trusted(policy):
    client = ClientExchange(client_config(policy, trust=Trust.pinned("00" * 32)), "localhost")
    with pytest.raises(CertificateError) as caught:
        log_on(client, server_of(policy))
    with pytest.raises(CertificateError) as again:
        client.receive(401, [])
    assert again.value is caught.value


def test_credentials_that_the_policy_keeps(policy):
    client = ClientExchange(client_config(policy, spn="HTTP/elsewhere"), "localhost")
    with pytest.raises(PolicyError):
        log_on(client, server_of(policy))


@pytest.mark.parametrize("said", [True, False])
def test_a_server_that_refuses_the_credentials(policy, said):
    client, server = client_of(policy), server_of(policy)
    authorization = answered(client, client.start())
    while not server.logged_on:
        reply = ask(server, with_authorization(authorization))
        if not server.logged_on:
            authorization = answered(client, client.receive(reply.status, reply.headers))
    code = NTSTATUS.STATUS_LOGON_TYPE_NOT_GRANTED if said else NTSTATUS.STATUS_ACCESS_DENIED
    token = server.context.tls.encrypt(TSRequest(6, error_code=code).encode()) if said else b""
    with pytest.raises(AccessDenied, match="refused the logon after it got the credentials") as caught:
        client.receive(401, [("WWW-Authenticate", f"CredSSP {base64.b64encode(token).decode()}")])
    assert caught.value.nt_status is code
    assert ("may share connections among clients" in str(caught.value)) is (not said)
    assert not client.logged_on


@pytest.mark.parametrize("status", [200, 404, 500])
def test_every_status_but_401_is_the_applications_once_the_credentials_are_sent(policy, status):
    client, server = client_of(policy), server_of(policy)
    authorization = answered(client, client.start())
    while not server.logged_on:
        reply = ask(server, with_authorization(authorization))
        if not server.logged_on:
            authorization = answered(client, client.receive(reply.status, reply.headers))
    turn = client.receive(status, [])
    assert (turn.authorization, turn.event, client.logged_on) == ("", None, True)


def test_a_server_that_is_too_old_for_the_policy_is_told_with_windows_name_of_the_setting():
    old = Policy(min_version=2, max_version=2, dangerous_allow_legacy_versions=True)
    client, server = client_of(policy_of()), ServerExchange(server_config(old))
    with pytest.raises(PolicyError, match="AllowEncryptionOracle") as caught:
        log_on(client, server)
    assert "dangerous_allow_legacy_versions=True" in caught.value.hint


def test_an_old_client_is_told_what_a_server_may_have_against_it():
    policy = Policy(min_version=2, max_version=2, dangerous_allow_legacy_versions=True)
    client, server = client_of(policy), server_of(policy)
    authorization = answered(client, client.start())
    for _ in range(3):
        reply = ask(server, with_authorization(authorization))
        authorization = answered(client, client.receive(401, reply.headers))
    with pytest.raises(AuthenticationError, match="AllowEncryptionOracle at 0"):
        client.receive(401, [])


def test_a_leg_that_came_over_another_clients_connection(policy):
    pairs = [(client_of(policy), server_of(policy)) for _ in range(2)]
    replies = []
    for client, server in pairs:
        reply = ask(server, with_authorization(answered(client, client.start())))
        authorization = answered(client, client.receive(reply.status, reply.headers))
        replies.append(ask(server, with_authorization(authorization)))
    with pytest.raises(TLSError, match=r"in leg 2 of the logon, .*share connections among clients"):
        answered(pairs[0][0], pairs[0][0].receive(401, replies[1].headers))


def test_a_service_that_the_kdc_does_not_know_is_told_with_the_option():
    client = client_of(policy_of())
    answered(client, client.start())
    error = AuthenticationError("no such service", security_status=SecurityStatus.SEC_E_TARGET_UNKNOWN)
    client._explain(error, client.step)
    assert (
        error.hint == "the logon was for HTTP/localhost: give another name of the service (spn), for WinRM WSMAN/host"
    )


def test_calls_out_of_turn(policy):
    client, server = client_of(policy), server_of(policy)
    answered(client, client.start())
    with pytest.raises(LocalProtocolError, match="the logon has begun already"):
        client.start()
    client, server = logged_on(policy)
    with pytest.raises(LocalProtocolError, match="the connection is logged on"):
        client.receive(200, [])
    with pytest.raises(LocalProtocolError, match="established"):
        server.resume(JudgeCertificate(()), True)
    assert server.error is None


# --- the server's refusals ---


def middle(policy, legs=2):
    """A server in the middle of a logon, and the client's next Authorization."""
    client, server = client_of(policy), server_of(policy)
    authorization = answered(client, client.start())
    for _ in range(legs):
        reply = ask(server, with_authorization(authorization))
        authorization = answered(client, client.receive(reply.status, reply.headers))
    return server, authorization


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ([], 401, "expected the next token of the logon, got a request without one"),
        ([("Authorization", "Negotiate YQ==")], 401, "let no proxy share connections among clients"),
        ([("Authorization", "CredSSP")], 401, "the client ended the connection"),
        ([("Authorization", "CredSSP ????")], 400, "expected a credssp token in base64"),
        ([("Authorization", "CredSSP YQ=="), ("Authorization", "CredSSP YQ==")], 400, "expected one header field"),
        ([("Authorization", "CredSSP FgMDAAUAAAAAAA==")], 401, ""),
    ],
)
@pytest.mark.parametrize("legs", [1, 2])
def test_what_the_server_refuses_in_the_middle(policy, headers, status, text, legs):
    server, authorization = middle(policy, legs)
    reply = ask(server, headers)
    assert (reply.status, reply.close) == (status, True)
    assert text in str(server.error)
    assert ("WWW-Authenticate" in name_of(reply)) is (status == 401)
    again = ask(server, with_authorization(authorization))
    assert (again.status, again.close) == (status, True), "the logon does not go on"
    assert not server.logged_on


@pytest.mark.parametrize("token", [b"GET / HTTP/1.1", b"\x16\x03\x01", b"\x00" * 50, bytes(range(100))])
def test_a_first_token_that_is_no_tls(policy, token):
    server = server_of(policy)
    reply = ask(server, with_authorization(f"CredSSP {base64.b64encode(token).decode()}"))
    assert (reply.status, reply.close) == (401, True)
    assert isinstance(server.error, RemoteProtocolError)


def test_a_user_whom_the_lookup_denies(policy):
    server = server_of(policy)
    with pytest.raises(AuthenticationError):
        log_on(client_of(policy), server, lambda event: Deny())
    assert isinstance(server.error, AuthenticationError)
    assert not server.logged_on


def test_a_hook_that_fails(policy):
    server, authorization = middle(policy, legs=3)
    turn = server.receive(with_authorization(authorization))
    assert isinstance(turn.event, LookupCredential)
    turn = server.fail(AccessDenied("the database is away"))
    assert (turn.reply.status, turn.reply.close, turn.event) == (401, True, None)
    assert b"database" not in turn.reply.body


def test_a_request_while_a_question_is_open(policy):
    server, authorization = middle(policy, legs=3)
    turn = server.receive(with_authorization(authorization))
    with pytest.raises(LocalProtocolError, match="waits for an answer"):
        server.receive(with_authorization(authorization))
    assert server.error is None
    assert server.resume(turn.event, ALICE).reply.status == 401


def test_bytes_behind_the_credentials(policy):
    client, server = client_of(policy), server_of(policy)
    authorization = answered(client, client.start())
    while client.context.state.name != "ESTABLISHED":
        reply = ask(server, with_authorization(authorization))
        authorization = answered(client, client.receive(reply.status, reply.headers))
    token = base64.b64decode(authorization.partition(" ")[2]) + client.context.tls.encrypt(b"more")
    reply = ask(server, with_authorization(f"CredSSP {base64.b64encode(token).decode()}"))
    assert (reply.status, reply.close, server.logged_on) == (401, True, False)
    assert "expected nothing behind the credentials" in str(server.error)


# --- after the logon ---


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ([], 401, "got a request without a body"),
        (EMPTY, 401, "got a request without a body"),
        ([("Content-Type", TYPE)], 401, "got a request without a body"),
        ([("Content-Type", TYPE), *EMPTY], 401, "got a request without a body"),
        ([("Content-Length", "5"), ("Content-Type", "text/plain")], 401, "got a request with a plain body"),
        ([("Transfer-Encoding", "chunked")], 401, "got a request with a plain body"),
        ([("Authorization", "CredSSP FgMBAA=="), *EMPTY], 400, "expected no authorization on a connection"),
        ([("Authorization", "Negotiate"), ("Content-Type", TYPE)], 400, "let no proxy share connections"),
        ([("Content-Type", TYPE), ("Content-Type", TYPE)], 400, "expected one header field Content-Type, got 2"),
    ],
)
def test_requests_of_somebody_else_over_the_connection(policy, headers, status, text):
    """A proxy that shares connections sends other clients' requests too; none of them is served as alice's."""
    _, server = logged_on(policy)
    reply = ask(server, headers)
    assert (reply.status, reply.close) == (status, True)
    assert text in reply.body.decode()
    assert ask(server, [("Content-Type", TYPE)]).status == status, "the connection is refused for good"


@pytest.mark.parametrize("media_type", [TYPE, MULTI])
def test_a_sealed_request_is_served_once_its_bytes_have_shown_whose_it_is(policy, media_type):
    client, server = logged_on(policy)
    headers = [("Content-Type", media_type), ("Transfer-Encoding", "chunked")]
    assert ask(server, headers) is None
    _, body = seal_body(client.context, b"x")
    opener = server.opener(headers)
    assert opener.feed(body) == b"x"
    opener.finish()
    assert ask(server, headers) is None
    opener = server.opener(headers)
    _, forged = seal_body(client.context, b"")
    opener.feed(forged)
    with pytest.raises(HTTPProtocolError) as caught:
        opener.finish()
    reply = server.refused(caught.value)
    assert (reply.status, reply.close) == (403, True)


def test_the_answer_to_a_body_that_cannot_be_opened(policy):
    client, server = logged_on(policy)
    headers = [("Content-Type", TYPE)]
    _, body = seal_body(client.context, b"hello")
    changed = body.replace(b"\x17\x03\x03", b"\x17\x03\x03", 1)
    place = changed.index(b"\x17\x03\x03") + 10
    changed = changed[:place] + bytes([changed[place] ^ 1]) + changed[place + 1 :]
    with pytest.raises(CredSSPError) as caught:
        server.opener(headers).feed(changed)
    reply = server.refused(caught.value)
    assert (reply.status, reply.close, reply.body) == (400, True, b"the sealed body cannot be opened\n")
    with pytest.raises(HTTPProtocolError) as caught:
        server.opener(headers, limit=4).feed(body)
    reply = server.refused(caught.value)
    assert (reply.status, reply.close) == (413, True)
    assert b"expected a body of at most 4 bytes, got one of 5" in reply.body


def test_a_plain_body_beside_the_last_token_is_not_served(policy):
    client, server = client_of(policy), server_of(policy)
    authorization, reply = answered(client, client.start()), None
    while not server.logged_on:
        reply = ask(server, [("Authorization", authorization), ("Content-Length", "9")])
        if not server.logged_on:
            authorization = answered(client, client.receive(reply.status, reply.headers))
    assert (reply.status, reply.close) == (415, True)
    assert b"expected a sealed body" in reply.body
    for helps in (b"pywinrm", b"requests-credssp does not", b"dangerous_allow_unsealed"):
        assert helps in reply.body
    assert len(name_of(reply)["WWW-Authenticate"]) > len("CredSSP "), "or requests-credssp hides the status"


def test_plain_requests_are_served_only_by_a_switch_of_their_own(policy):
    client, server = client_of(policy), server_of(policy, dangerous_allow_unsealed=True)
    authorization, reply = answered(client, client.start()), None
    while authorization:
        reply = ask(server, [("Authorization", authorization), ("Content-Length", "9")])
        if reply is None:
            break
        authorization = answered(client, client.receive(reply.status, reply.headers))
    assert reply is None, "the last leg's own body is the request"
    assert ask(server, EMPTY) is None
    assert ask(server, [("Content-Length", "9")]) is None
    assert ask(server, [("Authorization", "CredSSP YQ==")]).status == 400


def test_authorize_is_asked(policy):
    server = ServerExchange(server_config(policy, authorize=lambda _: True))
    asked = []

    def answer(event):
        asked.append(type(event))
        return answer_of_server(event)

    log_on(client_of(policy), server, answer)
    assert asked == [LookupCredential, Authorize]


def test_the_hints_of_answers_are_the_clients_own(policy):
    """`answers_of` of the other tests and `answer` of the exchange give the same answers."""
    config = client_config(policy)
    client, server = ClientExchange(config, "localhost"), server_of(policy)
    answer, turn = answers_of(config), client.start()
    while True:
        while turn.event is not None:
            turn = client.resume(turn.event, answer(turn.event))
        if not turn.authorization:
            break
        reply = ask(server, with_authorization(turn.authorization))
        turn = client.receive(reply.status, reply.headers)
    assert client.logged_on

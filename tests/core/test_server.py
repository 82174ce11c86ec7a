"""The server's exchange in the bare shape, with a mechanism that plays a script: each state with each message."""

import dataclasses

import pytest
from support.engine import ALICE, KEY, Script, script_server

from acredssp.core.binding import client_value, server_value
from acredssp.core.events import Admit, Authorize, LookupCredential
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.credentials import Account, Deny
from acredssp.errors import (
    AccessDenied,
    AuthenticationError,
    CredSSPError,
    LimitExceeded,
    LocalProtocolError,
    PeerClosed,
    PolicyError,
    PublicKeyMismatch,
    RemoteProtocolError,
)
from acredssp.mechanisms.base import Principal
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire import ts_credentials
from acredssp.wire.ts_request import TSRequest

NONCE = b"n" * 32
LEGACY = Policy(min_version=2, dangerous_allow_legacy_versions=True)
CREDENTIALS = b"sealed:" + ts_credentials.encode(ALICE)


def sealed_key(version: int = 6, key: bytes = KEY) -> bytes:
    return b"sealed:" + client_value(version, NONCE, key)


def last_token(version: int = 6) -> bytes:
    return TSRequest(version, b"c2", None, sealed_key(version), None, NONCE).encode()


def at(state: State, policy: Policy | None = None, version: int = 6, **kwargs):
    """A server that waits in `state`, and what it answered last (None for nothing)."""
    server = script_server(policy=policy, **kwargs)
    result = None
    if state is State.PUB_KEY_AUTH:
        server.step(TSRequest(version, nego_token=b"c1").encode())
        result = server.step(TSRequest(version, nego_token=b"c2").encode())
    if state in (State.AUTH_INFO, State.ESTABLISHED):
        server.step(TSRequest(version, nego_token=b"c1").encode())
        result = server.step(last_token(version))
    if state is State.ESTABLISHED:
        result = server.step(TSRequest(version, auth_info=CREDENTIALS).encode())
    assert server.state is state
    return server, TSRequest.decode(result.output) if result and result.output else None


def error_code(server) -> int | None:
    return TSRequest.decode(server.farewell).error_code if server.farewell else None


# --- the straight way ---


@pytest.mark.requirement("spnego.server-patterns")
@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_pattern_c_token_and_key_together(version):
    server, reply = at(State.AUTH_INFO, LEGACY, version)
    assert reply == TSRequest(6, pub_key_auth=b"sealed:" + server_value(version, NONCE, KEY))
    server.step(TSRequest(version, auth_info=CREDENTIALS).encode())
    assert server.state is State.ESTABLISHED
    assert (server.info.version, server.info.delegated) == (version, "password")


@pytest.mark.requirement("spnego.server-patterns")
def test_pattern_a_the_last_token_goes_beside_our_key():
    server = script_server(b"s1", b"accept-completed + mic")
    server.step(TSRequest(6, nego_token=b"c1").encode())
    reply = TSRequest.decode(server.step(last_token()).output)
    assert reply.nego_token == b"accept-completed + mic"
    assert reply.pub_key_auth is not None


@pytest.mark.requirement("spnego.server-patterns")
def test_pattern_b_the_key_comes_alone():
    server, reply = at(State.PUB_KEY_AUTH)
    assert reply == TSRequest(6, nego_token=b"")
    reply = TSRequest.decode(server.step(TSRequest(6, None, None, sealed_key(), None, NONCE).encode()).output)
    assert reply == TSRequest(6, pub_key_auth=b"sealed:" + server_value(6, NONCE, KEY))


def test_credentials_are_handed_over_once():
    server, _ = at(State.ESTABLISHED)
    assert server.take_credentials() == ALICE
    assert server.take_credentials() is None


@pytest.mark.requirement("version.own", "version.strange")
@pytest.mark.parametrize("theirs", [5, 6, 7, 96])
def test_our_version_stays_and_the_effective_one_is_the_lower(theirs):
    server, reply = at(State.AUTH_INFO, version=theirs)
    assert reply.version == 6
    assert server.info.version == min(6, theirs)


@pytest.mark.requirement("version.latched")
def test_a_client_may_fall_back_to_the_negotiated_version():
    """asyauth does, after the first reply of a server of version 5."""
    server = script_server(policy=Policy(max_version=5))
    server.step(TSRequest(6, nego_token=b"c1").encode())
    server.step(last_token(5))
    assert server.state is State.AUTH_INFO


# --- the nonce ---


@pytest.mark.requirement("codec.nonce")
def test_the_nonce_of_an_earlier_message_counts():
    server = script_server()
    server.step(TSRequest(6, b"c1", client_nonce=NONCE).encode())
    server.step(TSRequest(6, b"c2", None, sealed_key()).encode())
    assert server.state is State.AUTH_INFO


@pytest.mark.requirement("codec.nonce")
def test_a_nonce_that_changes_is_refused():
    server = script_server()
    server.step(TSRequest(6, b"c1", client_nonce=b"m" * 32).encode())
    with pytest.raises(RemoteProtocolError, match="expected the same clientNonce"):
        server.step(last_token())


@pytest.mark.requirement("binding.no-downgrade")
@pytest.mark.parametrize("version", [5, 6])
def test_no_nonce_from_version_5_never_falls_back_to_the_old_form(version):
    server = script_server(policy=LEGACY)
    server.step(TSRequest(version, nego_token=b"c1").encode())
    with pytest.raises(RemoteProtocolError, match="expected a clientNonce") as caught:
        server.step(TSRequest(version, b"c2", None, b"sealed:" + KEY).encode())
    assert caught.value.security_status is SecurityStatus.SEC_E_INVALID_TOKEN


@pytest.mark.parametrize("version", [2, 3, 4])
def test_below_version_5_nonces_are_ignored_even_if_they_change(version):
    server = script_server(policy=LEGACY)
    server.step(TSRequest(version, b"c1", client_nonce=b"m" * 32).encode())
    server.step(TSRequest(version, b"c2", None, b"sealed:" + KEY, None, NONCE).encode())
    assert server.state is State.AUTH_INFO


# --- every state with every message ---

MESSAGES = {
    "nothing": TSRequest(6),
    "token": TSRequest(6, nego_token=b"c1"),
    "empty_token": TSRequest(6, nego_token=b""),
    "key": TSRequest(6, None, None, sealed_key(), None, NONCE),
    "token_and_key": TSRequest(6, b"c2", None, sealed_key(), None, NONCE),
    "auth_info": TSRequest(6, auth_info=CREDENTIALS, client_nonce=NONCE),
    "auth_info_and_token": TSRequest(6, b"c2", CREDENTIALS),
    "auth_info_and_key": TSRequest(6, None, CREDENTIALS, sealed_key(), None, NONCE),
    "error_code": TSRequest(6, error_code=0xC000006D),
}

ALLOWED = {
    (State.NEGO_TOKEN, "token"): State.NEGO_TOKEN,
    (State.PUB_KEY_AUTH, "key"): State.AUTH_INFO,
    (State.PUB_KEY_AUTH, "token_and_key"): State.AUTH_INFO,
    (State.AUTH_INFO, "auth_info"): State.ESTABLISHED,
    (State.AUTH_INFO, "auth_info_and_token"): State.ESTABLISHED,
}


@pytest.mark.requirement("defect.absent-optional", "defect.message-order")
@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("state", [State.NEGO_TOKEN, State.PUB_KEY_AUTH, State.AUTH_INFO, State.ESTABLISHED])
def test_what_is_not_in_the_table_is_refused(state, name):
    server, _ = at(state)
    message = MESSAGES[name].encode()
    if (state, name) in ALLOWED:
        server.step(message)
        assert server.state is ALLOWED[state, name]
        return
    with pytest.raises(CredSSPError) as caught:
        server.step(message)
    if state is State.ESTABLISHED:
        assert isinstance(caught.value, LocalProtocolError)
        return
    assert isinstance(caught.value, RemoteProtocolError)
    assert server.state is State.FAILED
    assert caught.value.stage == Stage(state.value)
    assert server.farewell == b""
    assert server.take_credentials() is None


# --- refusals ---


@pytest.mark.requirement("binding.order")
def test_another_tls_channel_is_refused_before_our_key_is_shown():
    server = script_server()
    server.step(TSRequest(6, nego_token=b"c1").encode())
    with pytest.raises(PublicKeyMismatch):
        server.step(TSRequest(6, b"c2", None, sealed_key(key=b"of a man in the middle"), None, NONCE).encode())
    assert error_code(server) == 0xC000006D


@pytest.mark.requirement("defect.short-signature")
@pytest.mark.parametrize("size", range(16))
def test_a_sealed_key_shorter_than_any_seal_is_a_failed_logon(size):
    server = script_server()
    server.step(TSRequest(6, nego_token=b"c1").encode())
    with pytest.raises(RemoteProtocolError):
        server.step(TSRequest(6, b"c2", None, bytes(size), None, NONCE).encode())
    assert error_code(server) == 0xC000006D


@pytest.mark.requirement("codec.error-code")
@pytest.mark.parametrize(("version", "sent"), [(2, False), (3, True), (4, True), (5, False), (6, True)])
def test_error_code_only_where_the_version_has_it(version, sent):
    refused = AuthenticationError("no", nt_status=NTSTATUS.STATUS_LOGON_FAILURE)
    server = script_server(LookupCredential(Principal("alice", ""), "ntlm"), b"", policy=LEGACY)
    event = server.step(TSRequest(version, nego_token=b"c1").encode()).event
    with pytest.raises(AuthenticationError):
        server.resume(event, refused)
    assert server.farewell == (TSRequest(6, error_code=0xC000006D).encode() if sent else b"")


@pytest.mark.requirement("version.floor")
@pytest.mark.parametrize(
    ("version", "floor", "sent"), [(2, 5, False), (3, 5, True), (4, 5, True), (5, 6, False), (1, 5, False)]
)
def test_a_version_below_the_floor(version, floor, sent):
    server = script_server(policy=Policy(min_version=floor))
    with pytest.raises((PolicyError, RemoteProtocolError)):
        server.step(TSRequest(version, nego_token=b"c1").encode())
    assert error_code(server) == (0xC00000BB if sent else None)
    assert server.handshake.mechanism.got == []


@pytest.mark.requirement("defect.endless-rounds")
def test_the_rounds_are_bounded():
    server = script_server(*[b"s"] * 50)
    with pytest.raises(LimitExceeded):
        for _ in range(50):
            server.step(TSRequest(6, nego_token=b"c").encode())


def test_credentials_of_an_unknown_kind():
    server, _ = at(State.AUTH_INFO)
    unknown = b"sealed:" + bytes.fromhex("3009a003020103a1020400")
    with pytest.raises(RemoteProtocolError) as caught:
        server.step(TSRequest(6, auth_info=unknown).encode())
    assert caught.value.security_status is SecurityStatus.SEC_E_UNKNOWN_CREDENTIALS


def test_a_client_that_leaves():
    server, _ = at(State.AUTH_INFO)
    with pytest.raises(PeerClosed):
        server.receive_eof()


@pytest.mark.parametrize(
    "message", [TSRequest(6), TSRequest(6, pub_key_auth=b"sealed:x"), TSRequest(6, b"c1", None, b"x")]
)
def test_what_comes_out_of_turn_has_that_status(message):
    """Nothing at all, the key without a token, and the key beside a token that does not complete the mechanism."""
    server, _ = at(State.NEGO_TOKEN)
    with pytest.raises(RemoteProtocolError) as caught:
        server.step(message.encode())
    assert caught.value.security_status is SecurityStatus.SEC_E_OUT_OF_SEQUENCE


def test_nothing_is_delegated_before_the_credentials_arrive_and_nothing_is_kept_after_a_failure():
    handshake = ServerHandshake(Script(b"s1"), Policy())
    assert (handshake.delegated, handshake.credentials) == (None, None)
    handshake.credentials = ts_credentials.decode(ts_credentials.encode(ALICE))
    handshake.fail(CredSSPError("over"))
    assert handshake.credentials is None


# --- authorize and admit ---


def test_a_user_has_no_other_account_unless_the_application_names_one():
    server, _ = at(State.AUTH_INFO)
    assert server.info.principal.known_as is None


def test_the_last_token_goes_beside_our_key_when_the_application_has_answered():
    server = script_server(b"s1", b"accept-completed + mic", authorize=True)
    server.step(TSRequest(6, nego_token=b"c1").encode())
    event = server.step(last_token()).event
    assert TSRequest.decode(server.resume(event, True).output).nego_token == b"accept-completed + mic"


@pytest.mark.parametrize("pattern", ["key beside the token", "key alone"])
def test_authorize_is_asked_before_our_key_is_shown(pattern):
    server = script_server(authorize=True)
    server.step(TSRequest(6, nego_token=b"c1").encode())
    if pattern == "key alone":
        asked = server.step(TSRequest(6, nego_token=b"c2").encode())
        assert asked.event is None
        last = dataclasses.replace(TSRequest.decode(last_token()), nego_token=None).encode()
    else:
        last = last_token()
    result = server.step(last)
    assert result.event == Authorize(Principal("alice", "CONTOSO"), "script")
    assert result.output == b""
    assert TSRequest.decode(server.resume(result.event, True).output).pub_key_auth is not None


@pytest.mark.requirement("defect.relay")
def test_nobody_is_asked_about_a_client_that_is_bound_to_another_key():
    """Somebody in between has brought it here: whatever the application does for the user is not for him to start."""
    server = script_server(authorize=True)
    server.step(TSRequest(6, nego_token=b"c1").encode())
    with pytest.raises(PublicKeyMismatch):
        server.step(dataclasses.replace(TSRequest.decode(last_token()), pub_key_auth=b"sealed:another").encode())


def deny_with(status):
    """A refusal whose status its constructor would not take."""
    deny = Deny()
    object.__setattr__(deny, "nt_status", status)
    return deny


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (False, 0xC0000022),
        (None, 0xC0000022),
        (1, 0xC0000022),
        ("yes", 0xC0000022),
        (RuntimeError("crashed"), 0xC0000022),
        (Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED), 0xC0000072),
        (Deny(NTSTATUS.STATUS_PASSWORD_MUST_CHANGE), 0xC0000224),
        *[(deny_with(status), 0xC000006D) for status in ("x", None, 0, 1, -1, 2.5, 1 << 40, NTSTATUS(0x40000000))],
    ],
)
def test_only_true_authorizes(answer, status):
    server = script_server(authorize=True)
    server.step(TSRequest(6, nego_token=b"c1").encode())
    event = server.step(last_token()).event
    with pytest.raises(AccessDenied) as caught:
        server.resume(event, answer)
    assert caught.value.nt_status == status
    assert error_code(server) == status


@pytest.mark.requirement("accounts.once")
def test_authorize_may_say_which_account_it_is():
    server = script_server(authorize=True, admit=True)
    server.step(TSRequest(6, nego_token=b"c1").encode())
    event = server.step(last_token()).event
    assert server.info.principal.account == Account("alice", "CONTOSO")
    server.resume(event, Account("Alice Liddell"))
    assert server.info.principal == Principal("alice", "CONTOSO")
    assert server.info.principal.account == Account("Alice Liddell")
    result = server.step(TSRequest(6, auth_info=CREDENTIALS).encode())
    assert result.event.principal.account == Account("Alice Liddell")
    with pytest.raises(AccessDenied):
        server.resume(result.event, Account("Alice Liddell"))  # too late: who admits says yes or no


@pytest.mark.requirement("accounts.once")
def test_who_refuses_may_say_which_account_it_is():
    server = script_server(authorize=True)
    server.step(TSRequest(6, nego_token=b"c1").encode())
    event = server.step(last_token()).event
    with pytest.raises(AccessDenied) as caught:
        server.resume(event, Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, account=Account("Alice Liddell")))
    assert caught.value.nt_status is NTSTATUS.STATUS_ACCOUNT_DISABLED
    assert server.info.principal == Principal("alice", "CONTOSO")
    assert server.info.principal.account == Account("Alice Liddell")


def test_admit_sees_the_credentials_and_nothing_is_established_before():
    server, _ = at(State.AUTH_INFO, admit=True)
    result = server.step(TSRequest(6, auth_info=CREDENTIALS).encode())
    assert result.event == Admit(Principal("alice", "CONTOSO"), "script", ALICE)
    assert server.take_credentials() is None
    assert server.resume(result.event, True).status is SecurityStatus.SEC_E_OK
    assert server.take_credentials() == ALICE


def test_a_refusal_to_admit_has_no_message_left():
    server, _ = at(State.AUTH_INFO, admit=True)
    event = server.step(TSRequest(6, auth_info=CREDENTIALS).encode()).event
    with pytest.raises(AccessDenied):
        server.resume(event, Deny())
    assert server.farewell == b""
    assert server.take_credentials() is None


def test_while_an_answer_is_due_nothing_else_is_taken():
    server = script_server(LookupCredential(Principal("alice", ""), "ntlm"), b"s1", b"")
    event = server.step(TSRequest(6, nego_token=b"c1").encode()).event
    with pytest.raises(LocalProtocolError, match="resume"):
        server.step(last_token())
    server.resume(event, "an answer")
    assert server.handshake.mechanism.answers == ["an answer"]

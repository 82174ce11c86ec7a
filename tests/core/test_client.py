"""The client's exchange in the bare shape, with a mechanism that plays a script: each state with each message."""

import pytest
from support.engine import ALICE, KEY, Script, script_client

from acredssp.core.binding import client_value, server_value
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.events import Delegate, StepMechanism
from acredssp.core.states import State
from acredssp.credentials import Deny
from acredssp.delegation import ServerAuth
from acredssp.errors import (
    AuthenticationError,
    CredSSPError,
    LimitExceeded,
    LocalProtocolError,
    PeerClosed,
    PolicyError,
    PublicKeyMismatch,
    RemoteProtocolError,
)
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire import ts_credentials
from acredssp.wire.ts_credentials import TSPasswordCreds
from acredssp.wire.ts_request import TSRequest

NONCE = bytes(32)
NOTHING = TSPasswordCreds.of()
LEGACY = Policy(min_version=2, dangerous_allow_legacy_versions=True)


def at(state: State, policy: Policy | None = None, version: int = 6):
    """A client that waits in `state`, and the TSRequest it sent last."""
    client = script_client(policy=policy)
    output = client.step().output
    if state is not State.NEGO_TOKEN:
        output = client.step(TSRequest(version, nego_token=b"s1").encode()).output
    if state is State.ESTABLISHED:
        output = client.step(proof(version)).output
    assert client.state is state
    return client, TSRequest.decode(output)


def proof(version: int = 6, key: bytes = KEY) -> bytes:
    sealed = b"sealed:" + server_value(version, NONCE, key)
    return TSRequest(version, pub_key_auth=sealed).encode()


# --- the straight way ---


def test_the_first_message_has_a_token_and_our_own_version_and_no_nonce():
    _, request = at(State.NEGO_TOKEN)
    assert request == TSRequest(6, nego_token=b"c1")


@pytest.mark.parametrize("version", [2, 3, 4])
def test_below_version_5_the_key_itself_is_sealed_without_a_nonce(version):
    _, request = at(State.PUB_KEY_AUTH, LEGACY, version)
    assert request == TSRequest(6, nego_token=b"c2", pub_key_auth=b"sealed:" + KEY)


@pytest.mark.parametrize("version", [5, 6])
def test_from_version_5_a_hash_is_sealed_beside_the_nonce(version):
    _, request = at(State.PUB_KEY_AUTH, version=version)
    sealed = b"sealed:" + client_value(version, NONCE, KEY)
    assert request == TSRequest(6, nego_token=b"c2", pub_key_auth=sealed, client_nonce=NONCE)


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_credentials_follow_the_servers_proof(version):
    client, request = at(State.ESTABLISHED, LEGACY, version)
    assert request == TSRequest(6, auth_info=b"sealed:" + ts_credentials.encode(ALICE))
    assert (client.info.version, client.info.delegated) == (version, "password")


@pytest.mark.requirement("version.own")
@pytest.mark.parametrize("own", [5, 6])
@pytest.mark.parametrize("theirs", [5, 6, 7, 96])
def test_the_effective_version_is_the_lower_one_and_ours_stays(own, theirs):
    client, request = at(State.PUB_KEY_AUTH, Policy(max_version=own), theirs)
    assert request.version == own
    assert client.info.version == min(own, theirs)


@pytest.mark.requirement("spnego.client-patterns")
def test_a_mechanism_that_is_complete_without_a_token_sends_pub_key_auth_alone():
    client = script_client(b"ap-req", b"")
    client.step()
    request = TSRequest.decode(client.step(TSRequest(6, nego_token=b"ap-rep").encode()).output)
    assert request.nego_token is None
    assert request.pub_key_auth is not None


@pytest.mark.requirement("spnego.client-patterns")
def test_pub_key_auth_waits_while_the_mechanism_is_not_complete():
    client = script_client(b"init", b"authenticate + mic", b"")
    client.step()
    request = TSRequest.decode(client.step(TSRequest(6, nego_token=b"challenge").encode()).output)
    assert request == TSRequest(6, nego_token=b"authenticate + mic")
    request = TSRequest.decode(client.step(TSRequest(6, nego_token=b"mic").encode()).output)
    assert request.nego_token is None
    assert request.pub_key_auth is not None


@pytest.mark.requirement("spnego.stale-token")
def test_a_stale_token_beside_the_proof_is_left_alone():
    """FreeRDP servers repeat their last token, and 2.11 sends a nonce of its own."""
    client, _ = at(State.PUB_KEY_AUTH)
    sealed = b"sealed:" + server_value(6, NONCE, KEY)
    stale = TSRequest(6, nego_token=b"s1", pub_key_auth=sealed, client_nonce=b"x" * 32)
    assert client.step(stale.encode()).status is SecurityStatus.SEC_E_OK
    assert client.handshake.mechanism.got == [b"", b"s1"]


@pytest.mark.requirement("spnego.stale-token")
def test_a_token_without_the_proof_is_waited_out():
    client, _ = at(State.PUB_KEY_AUTH)
    result = client.step(TSRequest(6, nego_token=b"last").encode())
    assert (result.status, result.output) == (SecurityStatus.SEC_I_CONTINUE_NEEDED, b"")
    assert client.step(proof()).status is SecurityStatus.SEC_E_OK


@pytest.mark.requirement("defect.endless-rounds")
def test_waiting_out_tokens_has_an_end():
    client, _ = at(State.PUB_KEY_AUTH)
    with pytest.raises(RemoteProtocolError, match="keeps sending tokens"):
        for _ in range(20):
            client.step(TSRequest(6, nego_token=b"last").encode())


@pytest.mark.requirement("defect.endless-rounds")
def test_as_many_tokens_are_waited_out_as_the_policy_has_rounds():
    """The first token and the last one were two rounds."""
    client, _ = at(State.PUB_KEY_AUTH, Policy(max_rounds=5))
    for _ in range(3):
        client.step(TSRequest(6, nego_token=b"last").encode())
    with pytest.raises(RemoteProtocolError, match="within 5 rounds"):
        client.step(TSRequest(6, nego_token=b"last").encode())


def test_a_mechanism_may_wait_for_somebody():
    waits = StepMechanism(run=bytes)
    client = script_client(waits, b"c1", b"c2")
    result = client.step()
    assert result.event is waits
    with pytest.raises(LocalProtocolError):
        client.step()
    assert TSRequest.decode(client.resume(waits, b"from the kdc").output).nego_token == b"c1"
    assert client.handshake.mechanism.answers == [b"from the kdc"]


@pytest.mark.parametrize(("answer", "sent"), [(True, ALICE), (NOTHING, NOTHING)])
def test_what_is_delegated_can_be_asked_once_the_server_is_proven(answer, sent):
    client = script_client(target="TERMSRV/host")
    client.step()
    client.step(TSRequest(6, nego_token=b"s1").encode())
    result = client.step(proof())
    assert result.event == Delegate("script", 6, "TERMSRV/host", "password", ServerAuth(0))
    assert result.output == b""
    result = client.resume(result.event, answer)
    assert result.status is SecurityStatus.SEC_E_OK
    assert TSRequest.decode(result.output).auth_info == b"sealed:" + ts_credentials.encode(sent)
    assert client.info.delegated == sent.kind


@pytest.mark.requirement("delegation.order")
@pytest.mark.parametrize(
    ("proves", "certified", "auth"),
    [
        (False, False, ServerAuth(0)),
        (False, True, ServerAuth.CERTIFICATE),
        (True, False, ServerAuth.KERBEROS),
        (True, True, ServerAuth.KERBEROS | ServerAuth.CERTIFICATE),
    ],
)
@pytest.mark.parametrize("name", ["ntlm", "kerberos"])
def test_who_decides_is_told_what_authenticates_the_server(name, proves, certified, auth):
    mechanism = Script(b"c1", b"c2", name=name, authenticates_server=proves)
    handshake = ClientHandshake(mechanism, ALICE, Policy(), target="TERMSRV/host", random=bytes)
    client = SecurityContext(handshake, None, public_key=None)
    client.step()
    client.bind(KEY, certified=certified)
    client.step(TSRequest(6, nego_token=b"s1").encode())
    assert client.step(proof()).event == Delegate(name, 6, "TERMSRV/host", "password", auth)


@pytest.mark.parametrize("answer", [None, False, "password", Deny()])
def test_no_answer_delegates_nothing(answer):
    client = script_client(target="TERMSRV/host")
    client.step()
    client.step(TSRequest(6, nego_token=b"s1").encode())
    event = client.step(proof()).event
    with pytest.raises(PolicyError) as caught:
        client.resume(event, answer)
    assert caught.value.security_status is SecurityStatus.SEC_E_DELEGATION_POLICY


class Fetched:
    """Credentials that somebody has to be asked for."""

    kind = "remote_guard"

    def fetch(self):
        return b"der"


def fetching(answer=True):
    """A client that has been told whether to delegate; what it stopped at."""
    client = script_client(credentials=Fetched(), target="TERMSRV/host")
    client.step()
    client.step(TSRequest(6, nego_token=b"s1").encode())
    event = client.step(proof()).event
    assert event.kind == "remote_guard"
    return client, client.resume(event, answer)


def test_credentials_are_fetched_once_they_may_go():
    client, result = fetching()
    assert isinstance(result.event, StepMechanism)
    assert result.output == b""
    result = client.resume(result.event, result.event.run())
    assert result.status is SecurityStatus.SEC_E_OK
    assert TSRequest.decode(result.output).auth_info == b"sealed:der"
    assert client.info.delegated == "remote_guard"


def test_credentials_that_may_not_go_are_not_fetched():
    client, result = fetching(TSPasswordCreds.of())
    assert result.event is None
    assert result.status is SecurityStatus.SEC_E_OK
    assert client.info.delegated == "nothing"


@pytest.mark.parametrize("answer", [None, True, AuthenticationError("no"), OSError()])
def test_credentials_that_could_not_be_fetched_end_it(answer):
    client, result = fetching()
    with pytest.raises(CredSSPError):
        client.resume(result.event, answer)
    assert client.state is State.FAILED


def test_why_credentials_could_not_be_fetched_is_kept():
    client, result = fetching()
    cause = OSError("no ticket")
    with pytest.raises(CredSSPError) as caught:
        client.resume(result.event, cause)
    assert caught.value.__cause__ is cause


# --- every state with every message ---

MESSAGES = {
    "nothing": TSRequest(6),
    "token": TSRequest(6, nego_token=b"s1"),
    "empty_token": TSRequest(6, nego_token=b""),
    "proof": TSRequest(6, pub_key_auth=b"sealed:" + server_value(6, NONCE, KEY)),
    "token_and_proof": TSRequest(6, nego_token=b"s1", pub_key_auth=b"sealed:" + server_value(6, NONCE, KEY)),
    "auth_info": TSRequest(6, auth_info=b"sealed:"),
    "error_code": TSRequest(6, error_code=0xC000006D),
    "error_code_and_junk": TSRequest(6, nego_token=bytes(12_256), error_code=0xC000006D),
}

ALLOWED = {
    (State.NEGO_TOKEN, "token"): State.PUB_KEY_AUTH,
    (State.NEGO_TOKEN, "token_and_proof"): State.PUB_KEY_AUTH,
    (State.PUB_KEY_AUTH, "proof"): State.ESTABLISHED,
    (State.PUB_KEY_AUTH, "token_and_proof"): State.ESTABLISHED,
    (State.PUB_KEY_AUTH, "token"): State.PUB_KEY_AUTH,
    (State.PUB_KEY_AUTH, "empty_token"): State.PUB_KEY_AUTH,
}


@pytest.mark.requirement("defect.absent-optional", "defect.message-order")
@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("state", [State.NEGO_TOKEN, State.PUB_KEY_AUTH, State.ESTABLISHED])
def test_what_is_not_in_the_table_is_refused(state, name):
    client, _ = at(state)
    message = MESSAGES[name].encode()
    if (state, name) in ALLOWED:
        client.step(message)
        assert client.state is ALLOWED[state, name]
        return
    with pytest.raises(CredSSPError) as caught:
        client.step(message)
    if state is State.ESTABLISHED:
        assert isinstance(caught.value, LocalProtocolError)
        assert client.state is State.ESTABLISHED
        return
    assert client.state is State.FAILED
    assert caught.value.stage == Stage(state.value)
    assert isinstance(caught.value, AuthenticationError if "error" in name else RemoteProtocolError)


# --- refusals ---


@pytest.mark.requirement("codec.error-code")
@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0xC000006D, SecurityStatus.SEC_E_LOGON_DENIED),
        (0xC0000072, SecurityStatus.SEC_E_LOGON_DENIED),
        (0xC000005E, SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY),
        (0xC000018D, SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY),
        (0xC00000BB, SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION),
        (0xC0000133, SecurityStatus.SEC_E_TIME_SKEW),
        (0xC00002FA, SecurityStatus.SEC_E_SMARTCARD_LOGON_REQUIRED),
        (0x8009030C, SecurityStatus.SEC_E_LOGON_DENIED),
        (0x80090305, SecurityStatus.SEC_E_SECPKG_NOT_FOUND),
        (0xC0070308, SecurityStatus.SEC_E_INVALID_TOKEN),
        (0xC00700EA, SecurityStatus.SEC_E_LOGON_DENIED),
        (0x80090318, SecurityStatus.SEC_E_LOGON_DENIED),
        (0xC0070318, SecurityStatus.SEC_E_LOGON_DENIED),
        (13, SecurityStatus.SEC_E_LOGON_DENIED),
    ],
)
@pytest.mark.parametrize("state", [State.NEGO_TOKEN, State.PUB_KEY_AUTH])
def test_an_error_code_ends_it_at_any_stage_and_keeps_its_number(state, code, status):
    client, _ = at(state)
    with pytest.raises(AuthenticationError) as caught:
        client.step(TSRequest(6, error_code=code).encode())
    assert caught.value.nt_status == code
    assert caught.value.security_status is status
    assert caught.value.nt_status.name in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0xC000006D, "check the user, the domain and the password"),
        (0xC0000224, "the password must be changed before the user logs on"),
        (0xC0DE0001, "the server gave no reason"),
    ],
)
def test_a_refusal_says_what_to_do(code, said):
    client, _ = at(State.NEGO_TOKEN)
    with pytest.raises(AuthenticationError) as caught:
        client.step(TSRequest(6, error_code=code).encode())
    assert said in str(caught.value.hint)
    assert str(caught.value) == f"{caught.value.message} ({caught.value.hint})"


def test_an_error_code_of_zero_is_none():
    client, _ = at(State.NEGO_TOKEN)
    client.step(TSRequest(6, nego_token=b"s1", error_code=0).encode())
    assert client.state is State.PUB_KEY_AUTH


@pytest.mark.requirement("binding.order")
def test_another_key_is_a_mismatch_and_nothing_is_delegated():
    client, _ = at(State.PUB_KEY_AUTH)
    with pytest.raises(PublicKeyMismatch, match="has not proven that it holds the key"):
        client.step(proof(key=b"another key"))
    assert client.farewell == b""


@pytest.mark.parametrize("version", [2, 5, 6])
def test_our_own_value_sent_back_is_a_refusal_not_a_proof(version):
    client, request = at(State.PUB_KEY_AUTH, LEGACY, version)
    with pytest.raises(AuthenticationError, match="own pubKeyAuth"):
        client.step(TSRequest(version, pub_key_auth=request.pub_key_auth).encode())


def test_a_token_of_zeros_after_our_logon_is_a_refusal():
    client = script_client(b"c1", b"c2", b"")
    client.step()
    client.step(TSRequest(5, nego_token=b"s1").encode())
    with pytest.raises(AuthenticationError, match="zeros"):
        client.step(TSRequest(5, nego_token=bytes(12_256)).encode())


def test_a_token_of_zeros_after_our_first_token_is_a_refusal_too():
    """FreeRDP 3 has no other answer to a ticket, which comes with the first token."""
    client, _ = at(State.NEGO_TOKEN)
    with pytest.raises(AuthenticationError, match="zeros"):
        client.step(TSRequest(6, nego_token=bytes(12_256)).encode())


def test_a_seal_that_does_not_open_is_the_mechanisms_error():
    client, _ = at(State.PUB_KEY_AUTH)
    with pytest.raises(RemoteProtocolError) as caught:
        client.step(TSRequest(6, pub_key_auth=b"garbage").encode())
    assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED


@pytest.mark.requirement("version.floor")
@pytest.mark.parametrize(("version", "floor"), [(2, 5), (4, 5), (5, 6)])
def test_a_version_below_the_floor_ends_it_before_the_key_is_sealed(version, floor):
    client = script_client(policy=Policy(min_version=floor))
    client.step()
    with pytest.raises(PolicyError, match=f"version {version}, at least {floor}") as caught:
        client.step(TSRequest(version, nego_token=b"s1").encode())
    assert caught.value.nt_status is NTSTATUS.STATUS_NOT_SUPPORTED
    assert client.handshake.mechanism.got == [b""]


@pytest.mark.requirement("version.strange")
@pytest.mark.parametrize("version", [0, 1])
def test_versions_that_never_were_are_refused(version):
    client, _ = at(State.NEGO_TOKEN)
    with pytest.raises(RemoteProtocolError, match="expected credssp version 2 or later"):
        client.step(TSRequest(version, nego_token=b"s1").encode())


@pytest.mark.requirement("version.latched", "version.strange")
@pytest.mark.parametrize(
    ("first", "then", "fine"),
    [(6, 6, True), (6, 5, False), (5, 6, False), (96, 6, True), (96, 96, True), (96, 7, False), (6, 2, False)],
)
def test_a_version_may_only_change_to_the_negotiated_one(first, then, fine):
    client, _ = at(State.PUB_KEY_AUTH, version=first)
    message = TSRequest(then, nego_token=b"x").encode()
    if fine:
        client.step(message)
        return
    with pytest.raises(RemoteProtocolError, match="version changed") as caught:
        client.step(message)
    assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED


@pytest.mark.requirement("defect.endless-rounds")
def test_the_rounds_are_bounded():
    client = script_client(*[b"token"] * 50)
    client.step()
    with pytest.raises(LimitExceeded, match="rounds"):
        for _ in range(50):
            client.step(TSRequest(6, nego_token=b"token").encode())


# --- the end of the connection ---


@pytest.mark.parametrize(
    ("tokens", "steps", "error"),
    [
        ((b"c1", b"c2"), 1, PeerClosed),
        ((b"c1", b"c2"), 2, AuthenticationError),
        ((b"c1", b"c2", b""), 2, AuthenticationError),
    ],
    ids=["after_negotiate", "after_authenticate", "after_authenticate_under_spnego"],
)
def test_a_close_after_our_logon_is_a_denial_and_anywhere_else_is_not(tokens, steps, error):
    client = script_client(*tokens)
    for index in range(steps):
        client.step(TSRequest(6, nego_token=b"s").encode() if index else b"")
    with pytest.raises(error) as caught:
        client.receive_eof()
    assert caught.value.nt_status is None
    assert "version 2 and 5" in str(caught.value) or error is PeerClosed


# --- sticky ---


def test_a_failure_is_raised_again_by_every_call():
    client, _ = at(State.NEGO_TOKEN)
    with pytest.raises(AuthenticationError) as first:
        client.step(MESSAGES["error_code"].encode())
    for call in (lambda: client.step(proof()), lambda: client.resume(None, None), client.receive_eof):
        with pytest.raises(AuthenticationError) as again:
            call()
        assert again.value is first.value


def test_nobody_asked():
    client, _ = at(State.NEGO_TOKEN)
    with pytest.raises(LocalProtocolError, match="does not wait"):
        client.resume(None, Deny())
    assert client.state is State.NEGO_TOKEN

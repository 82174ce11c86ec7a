"""Clients without the password, and application hooks that fail: a server of ours lets nobody in by mistake.

CVE-2022-24882 (an empty proof taken), CVE-2022-24883 (a user store that could not be read let everybody in), FreeRDP
85e49aa60 (no MIC, no password check), an acceptor that never compared the proof (sspi-rs 172), CVE-2025-68670 (long
names), CVE-2023-25563 to 25567 (text that is no text).
"""

import dataclasses

import pytest
from support.logon import MECHANISMS, attack, bare_pair, client, established, hold_error, public_key, server
from support.ntlm import WRONG, HandMade, initiator

from acredssp.core.binding import client_value
from acredssp.core.states import State
from acredssp.credentials import Candidates, Deny, NTHash, Oracle, Password
from acredssp.errors import AuthenticationError, CredSSPError, LocalProtocolError, RemoteProtocolError
from acredssp.mechanisms.ntlm.crypto import SealingHandle
from acredssp.policy import Policy
from acredssp.status import NTSTATUS
from acredssp.wire import ts_credentials
from acredssp.wire.ts_credentials import TSPasswordCreds
from acredssp.wire.ts_request import TSRequest

NONCE = b"n" * 32
every_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS)


class InsideServer:
    """A server's engine as `HandMade` wants an acceptor: raw NTLM tokens through whole TSRequests."""

    def __init__(self, policy=None, **options):
        self.end = server(policy or Policy(), bare=True, **options)

    def step(self, token):
        return TSRequest.decode(self.end.step(TSRequest(6, nego_token=token).encode())).nego_token


def last_words(hand, token, *, key="rsa"):
    """The TSRequest with AUTHENTICATE and a pubKeyAuth that is sealed under the session key in that AUTHENTICATE."""
    value = client_value(6, NONCE, public_key(key))
    return TSRequest(6, token, None, SealingHandle(hand.session_key, from_initiator=True).wrap(value), None, NONCE)


def log_on(inside=None, **authenticate):
    """Log on by hand; the server's end, or the error with which it refused."""
    inside = inside or InsideServer()
    hand = HandMade(inside)
    request = last_words(hand, hand.authenticate(**authenticate))
    try:
        reply = inside.end.step(request.encode())
    except CredSSPError as error:
        assert inside.end.context.state is State.FAILED
        assert inside.end.context.take_credentials() is None
        hold_error(inside.end, error)
        return error
    assert TSRequest.decode(reply).pub_key_auth
    credentials = SealingHandle(hand.session_key, from_initiator=True)
    credentials.wrap(client_value(6, NONCE, public_key()))
    inside.end.step(TSRequest(6, auth_info=credentials.wrap(ts_credentials.encode(TSPasswordCreds.of()))).encode())
    return inside.end


def assert_refused(error, status=NTSTATUS.STATUS_LOGON_FAILURE):
    assert isinstance(error, CredSSPError)
    assert error.nt_status is status


def test_the_right_password_by_hand_is_let_in():
    """What every refusal below is measured against."""
    assert established(log_on())
    assert established(log_on(mic=False))


# --- wrong passwords ---


@pytest.mark.requirement("defect.proof-ignored")
@pytest.mark.parametrize("mic", [True, False])
@pytest.mark.parametrize("bit", range(32))
def test_wrong_password_under_any_flag_bit(bit, mic):
    assert_refused(log_on(secret=WRONG, flags=1 << bit, mic=mic))
    assert_refused(log_on(secret=WRONG, drop_flags=1 << bit, mic=mic))


@pytest.mark.requirement("defect.absent-mic")
@pytest.mark.parametrize("mic", [True, False])
@pytest.mark.parametrize("announce", [True, False])
def test_wrong_password_whatever_is_said_of_the_mic(announce, mic):
    assert_refused(log_on(secret=WRONG, mic=mic, announce=announce))


@pytest.mark.requirement("defect.empty-proof")
@pytest.mark.parametrize("secret", [Password("", "alice", "CONTOSO"), NTHash(bytes(16)), NTHash(b"\xff" * 16)])
def test_secret_that_stands_for_none(secret):
    assert_refused(log_on(secret=secret))


@pytest.mark.requirement("defect.empty-proof")
def test_empty_password_opens_an_account_that_has_one_and_no_other():
    empty = Password("", "alice", "CONTOSO")
    assert established(log_on(InsideServer(lookup=empty), secret=empty))
    assert_refused(log_on(InsideServer(lookup=empty)))
    assert_refused(log_on(secret=empty))


# --- proofs that are none ---


@pytest.mark.requirement("defect.empty-proof")
@pytest.mark.parametrize("mic", [True, False])
@pytest.mark.parametrize("lookup", [Password(""), NTHash(bytes(16)), Password("Passw0rd!")])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 24, 25, 43, 44, 47])
def test_nt_response_that_is_empty_or_short(size, lookup, mic):
    assert_refused(log_on(InsideServer(lookup=lookup), nt_response=bytes(size), mic=mic))


@pytest.mark.requirement("defect.empty-proof")
@pytest.mark.parametrize("lm_response", [b"", bytes(24), b"\xff" * 24])
def test_lm_response_never_stands_in_for_the_nt_response(lm_response):
    assert_refused(log_on(nt_response=b"", lm_response=lm_response))


@pytest.mark.parametrize("size", [0, 1, 8, 15, 17, 32])
def test_session_key_of_another_size(size):
    assert_refused(log_on(encrypted_session_key=bytes(size)))


def test_nobody_by_name():
    assert_refused(log_on(InsideServer(lookup=Password("")), user="", secret=Password("")))


# --- the MIC ---


@pytest.mark.requirement("defect.absent-mic")
def test_mic_announced_and_absent():
    assert_refused(log_on(mic=False, announce=True))


def test_mic_there_and_not_announced_is_not_looked_at():
    """The announcement is under the proof: bytes that nobody announced prove nothing ([MS-NLMP] 3.2.5.1.2)."""
    assert established(log_on(mic=True, announce=False))


@pytest.mark.requirement("ntlm.mic", "defect.absent-mic")
def test_client_without_mic_under_a_policy_that_wants_one():
    strict = Policy(require_ntlm_mic=True)
    assert_refused(log_on(InsideServer(strict), mic=False))
    assert_refused(log_on(InsideServer(strict), mic=True, announce=False))
    assert established(log_on(InsideServer(strict)))


# --- names ---

TEXT = {
    "odd": b"a\0l",
    "one byte": b"a",
    "high surrogate at the end": "al".encode("utf-16-le") + b"\x3d\xd8",
    "low surrogate alone": b"\x00\xdc" + "al".encode("utf-16-le"),
    "surrogates the wrong way round": b"\x00\xdc\x3d\xd8",
    "past the limit": b"a\0" * 1025,
    "64 KiB": b"a\0" * 0x7FFF,
}


@pytest.mark.requirement("defect.text-and-leaks", "defect.long-names")
@pytest.mark.parametrize("text", TEXT.values(), ids=TEXT)
@pytest.mark.parametrize("field", ["user", "domain", "workstation"])
def test_name_that_is_no_name(field, text):
    asked = []

    class Watched(InsideServer):
        def __init__(self):
            super().__init__()
            answer = self.end.answer
            self.end.answer = lambda event: (asked.append(event), answer(event))[1]

    assert_refused(log_on(Watched(), **{field: text}, key_domain="CONTOSO"))
    assert asked == []


@pytest.mark.requirement("defect.av-pairs")
@pytest.mark.parametrize("pairs", [b"", b"\1\0\xff\xff", b"\1\0\4\0ab", b"\0\0", b"\x09\0\3\0abc" + bytes(4)])
@pytest.mark.parametrize("mic", [True, False])
def test_av_pairs_that_lie_or_do_not_end(pairs, mic):
    assert_refused(log_on(av_pairs=pairs, tail=b"", announce=False, mic=mic))


# --- hooks that fail ---

ANSWERS = {
    "none": None,
    "true": True,
    "an exception": OSError("the store cannot be read"),
    "a time-out": TimeoutError(),
    "the password as text": "Passw0rd!",
    "the hash as bytes": Password("Passw0rd!").nt_hash,
    "the class": Password,
    "deny": Deny(),
    "nobody": Candidates([]),
    "an oracle that says true": Oracle(lambda exchange: True),
    "an oracle that says nothing": Oracle(lambda exchange: None),
    "an oracle of 15 bytes": Oracle(lambda exchange: bytes(15)),
    "an oracle of text": Oracle(lambda exchange: "0123456789abcdef"),
    "an oracle of an oracle": Oracle(lambda exchange: Oracle(lambda exchange: bytes(16))),
    "an oracle of a password": Oracle(lambda exchange: Password("wrong")),
}


@pytest.mark.requirement("defect.failing-lookup")
@every_mechanism
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_lookup_that_gives_no_secret(answer, mechanism):
    """What a hook that raises, or takes too long, becomes is None (tests/aio): one of these."""
    ends = client(Policy(mechanism=mechanism), bare=True), server(bare=True, lookup=answer)
    attack(*ends)
    for end in ends:
        assert isinstance(end.context.handshake.error, AuthenticationError)
        assert end.context.handshake.error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


@pytest.mark.requirement("defect.failing-lookup")
@pytest.mark.parametrize("answer", [False, None, 1, "yes", "True", object(), Deny(), [True], NTSTATUS.STATUS_SUCCESS])
@pytest.mark.parametrize("hook", ["authorize", "admit"])
def test_only_true_lets_in(hook, answer):
    ends = bare_pair()
    handshake = ends[1].context.handshake
    setattr(handshake, f"_{hook}", True)
    lookup = ends[1].answer
    ends[1].answer = lambda event: answer if type(event).__name__.lower() == hook else lookup(event)
    attack(*ends)
    assert not established(ends[1])


# --- order ---


@pytest.mark.requirement("defect.message-order")
def test_key_before_any_logon():
    inside = InsideServer()
    with pytest.raises(RemoteProtocolError):
        inside.end.step(TSRequest(6, None, None, bytes(48), None, NONCE).encode())


@pytest.mark.requirement("defect.message-order")
def test_credentials_in_place_of_everything():
    plain = ts_credentials.encode(TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!"))
    for before in range(2):
        inside = InsideServer()
        if before:
            HandMade(inside)
        with pytest.raises(RemoteProtocolError):
            inside.end.step(TSRequest(6, auth_info=plain).encode())
        assert inside.end.context.take_credentials() is None


@pytest.mark.requirement("defect.message-order")
@pytest.mark.parametrize("with_token", [True, False])
def test_credentials_beside_the_key(with_token):
    """The binding is proven by our answer, which a client that sends its credentials with the key has not seen."""
    inside = InsideServer()
    hand = HandMade(inside)
    request = last_words(hand, hand.authenticate())
    if not with_token:
        inside.end.step(TSRequest(6, request.nego_token).encode())
        request = dataclasses.replace(request, nego_token=None)
    with pytest.raises(RemoteProtocolError):
        inside.end.step(dataclasses.replace(request, auth_info=bytes(64)).encode())


@pytest.mark.requirement("defect.after-the-end")
def test_second_credentials_after_the_end():
    end = log_on()
    first = end.context.take_credentials()
    with pytest.raises(LocalProtocolError):
        end.context.step(TSRequest(6, auth_info=bytes(64)).encode())
    assert end.context.state is State.ESTABLISHED
    assert first == TSPasswordCreds.of()
    assert end.context.take_credentials() is None


@pytest.mark.requirement("defect.login-attempts")
def test_second_logon_on_one_connection():
    """After one refusal the connection is spent: a guesser pays a TLS handshake for each guess (CVE-2024-39917)."""
    inside = InsideServer()
    hand = HandMade(inside)
    with pytest.raises(AuthenticationError) as first:
        inside.end.step(last_words(hand, hand.authenticate(secret=WRONG)).encode())
    for token in (initiator().step(b""), hand.authenticate()):
        with pytest.raises(AuthenticationError) as again:
            inside.end.step(TSRequest(6, nego_token=token).encode())
        assert again.value is first.value


@pytest.mark.requirement("defect.message-order")
def test_second_authenticate_before_the_key():
    inside = InsideServer()
    hand = HandMade(inside)
    inside.end.step(TSRequest(6, hand.authenticate()).encode())
    with pytest.raises(CredSSPError):
        inside.end.step(TSRequest(6, hand.authenticate()).encode())
    assert inside.end.context.take_credentials() is None


# --- seals ---


@pytest.mark.requirement("defect.short-signature", "defect.short-seal", "defect.spnego-without-mechanism")
@pytest.mark.parametrize("size", range(17))
def test_sealed_messages_shorter_than_a_signature(size):
    for field, fields in (("pub_key_auth", {"client_nonce": NONCE}), ("auth_info", {})):
        inside = InsideServer()
        hand = HandMade(inside)
        request = last_words(hand, hand.authenticate())
        if field == "auth_info":
            inside.end.step(request.encode())
            request = TSRequest(6)
        with pytest.raises(CredSSPError):
            inside.end.step(dataclasses.replace(request, **{field: bytes(size)}, **fields).encode())
        assert inside.end.context.take_credentials() is None


def test_key_sealed_under_a_guessed_session_key():
    inside = InsideServer()
    hand = HandMade(inside)
    token = hand.authenticate()
    hand.session_key = bytes(16)
    with pytest.raises(RemoteProtocolError) as caught:
        inside.end.step(last_words(hand, token).encode())
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


def test_key_of_another_channel():
    inside = InsideServer()
    hand = HandMade(inside)
    with pytest.raises(CredSSPError) as caught:
        inside.end.step(last_words(hand, hand.authenticate(), key="ec").encode())
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE

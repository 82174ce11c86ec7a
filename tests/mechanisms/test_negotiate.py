"""SPNEGO over NTLM and over mechanisms that play other parts: choice, MICs, order, refusals."""

import itertools

import pytest
from support.ntlm import ALICE, WRONG, HandMade, acceptor, assert_sealed_both_ways, converse, initiator

from acredssp.credentials import Deny, Oracle
from acredssp.errors import AuthenticationError, CredSSPError, LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.mechanisms.base import AskOracle, LookupCredential, Principal, StepMechanism
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateAcceptor, NegotiateInitiator
from acredssp.mechanisms.ntlm import crypto
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.wire import der, spnego
from acredssp.wire.spnego import NegState, NegTokenInit, NegTokenResp

KRB5 = (spnego.KERBEROS, spnego.KERBEROS_MICROSOFT)
ALTERED, INVALID = SecurityStatus.SEC_E_MESSAGE_ALTERED, SecurityStatus.SEC_E_INVALID_TOKEN


class Ticket:
    """A mechanism with Kerberos's shape: one token there, one back; its MICs are readable.

    Args:
        accepts: Whether it is the acceptor.
        wants_mic: Whether it asks for a mechListMIC by itself.
        event: What `step` stops with before it answers, if anything.
    """

    name = "kerberos"

    def __init__(self, *, accepts, wants_mic=False, event=None, mech_types=KRB5):
        self.complete = False
        self.principal = Principal("alice", "CONTOSO.TEST") if accepts else None
        self.needs_mech_list_mic = wants_mic
        self.mech_types = mech_types
        self._accepts = accepts
        self._event = event

    def step(self, token):
        assert isinstance(token, bytes)
        if self._event:
            event, self._event, self._held = self._event, None, token
            return event
        if self._accepts:
            assert token == b"AP-REQ"
            self.complete = True
            return b"AP-REP"
        if not token:
            return b"AP-REQ"
        assert token == b"AP-REP"
        self.complete = True
        return b""

    def resume(self, answer):
        if isinstance(answer, CredSSPError):
            raise answer
        return self.step(self._held)

    @property
    def sealing(self):
        return self.wrap, self.unwrap

    def wrap(self, plaintext):
        return b"sealed" + plaintext

    def unwrap(self, sealed):
        return sealed.removeprefix(b"sealed")

    def get_mic(self, message):
        return (b"acceptor " if self._accepts else b"initiator ") + message

    def verify_mic(self, message, mic):
        if mic != (b"initiator " if self._accepts else b"acceptor ") + message:
            raise RemoteProtocolError("wrong mic", security_status=ALTERED)


def ntlm_pair(**options):
    return NegotiateInitiator([initiator()]), NegotiateAcceptor([acceptor(**options)])


def resp(token):
    return NegTokenResp.decode(token)


def init(*mech_types, token=b""):
    return NegTokenInit.encode(spnego.encode_mech_list(mech_types), token)


# --- NTLM on both sides ---


def test_ntlm_takes_two_round_trips_and_a_mic_each_way():
    client, server = ntlm_pair()
    assert client.name == server.name == "negotiate"
    offer, chosen, proof, completed = converse(client, server)
    assert NegTokenInit.decode(offer).mech_types == (spnego.NTLM,)
    first = resp(chosen)
    assert (first.neg_state, first.supported_mech) == (NegState.ACCEPT_INCOMPLETE, spnego.NTLM)
    second = resp(proof)
    assert (second.neg_state, second.supported_mech) == (NegState.ACCEPT_INCOMPLETE, None)
    assert second.mech_list_mic[:4] == b"\1\0\0\0"
    last = resp(completed)
    assert (last.neg_state, last.supported_mech, last.response_token) == (NegState.ACCEPT_COMPLETED, None, None)
    assert last.mech_list_mic[:4] == b"\1\0\0\0"
    assert client.complete
    assert server.complete
    assert client.name == server.name == "ntlm"
    assert str(server.principal) == "CONTOSO\\alice"


@pytest.mark.requirement("spnego.mic-sequence")
def test_sealed_messages_after_the_mic_have_number_one():
    client, server = ntlm_pair()
    converse(client, server)
    sealed = client.wrap(b"pubKeyAuth")
    assert sealed[12:16] == b"\1\0\0\0"
    assert server.unwrap(sealed) == b"pubKeyAuth"
    assert server.wrap(b"pubKeyAuth")[12:16] == b"\1\0\0\0"


def test_what_seals_is_the_chosen_mechanisms_once_the_negotiation_is_complete():
    client, server = ntlm_pair()
    for context in (client, server, DetectingAcceptor([acceptor()])):
        with pytest.raises(LocalProtocolError):
            _ = context.sealing
    converse(client, server)
    (seal, _), (_, unseal) = client.sealing, server.sealing
    assert unseal(seal(b"pubKeyAuth")) == b"pubKeyAuth"
    assert server.unwrap(client.wrap(b"authInfo")) == b"authInfo"


@pytest.mark.parametrize("detects", [False, True])
def test_messages_are_signed_and_verified_by_the_chosen_mechanism_once_the_negotiation_is_complete(detects):
    client, server = NegotiateInitiator([Ticket(accepts=False)]), NegotiateAcceptor([Ticket(accepts=True)])
    server = DetectingAcceptor([Ticket(accepts=True)]) if detects else server
    converse(client, server)
    assert client.get_mic(b"message") == b"initiator message"
    server.verify_mic(b"message", b"initiator message")
    with pytest.raises(RemoteProtocolError, match="wrong mic"):
        server.verify_mic(b"message", b"initiator another")
    client.verify_mic(b"message", server.get_mic(b"message"))


def test_sealed_messages_of_raw_ntlm_have_number_zero():
    client, server = initiator(), DetectingAcceptor([acceptor()])
    converse(client, server)
    assert client.wrap(b"")[12:16] == server.wrap(b"")[12:16] == bytes(4)


def test_initiator_is_complete_only_with_the_acceptors_mic():
    client, server = ntlm_pair()
    token = client.step(server.step(client.step(b"")))
    assert not client.complete
    with pytest.raises(LocalProtocolError):
        client.wrap(b"early")
    assert isinstance(server.step(token), LookupCredential)
    completed = server.resume(ALICE)
    assert server.complete
    assert client.step(completed) == b""
    assert client.complete
    assert_sealed_both_ways(client, server)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "spnego"])
@pytest.mark.parametrize("detecting", [True, False], ids=["detecting", "fixed"])
def test_every_combination_logs_on_and_seals(raw, detecting):
    client = initiator() if raw else NegotiateInitiator([initiator()])
    inner = acceptor()
    server = DetectingAcceptor([inner]) if detecting else inner if raw else NegotiateAcceptor([inner])
    tokens = converse(client, server)
    assert len(tokens) == (3 if raw else 4)
    assert all(token.startswith(b"NTLMSSP\0") for token in tokens) is raw
    assert_sealed_both_ways(client, server)


def test_events_are_passed_up_and_answered_through_spnego():
    client, server = ntlm_pair()
    token = client.step(server.step(client.step(b"")))
    event = server.step(token)
    assert event == LookupCredential(event.principal, "ntlm")
    asked = server.resume(Oracle(print))
    assert isinstance(asked, AskOracle)
    exchange = asked.exchange
    key = crypto.ntowf_v2(ALICE.nt_hash, exchange.user, exchange.domain.encode("utf-16-le"))
    completed = server.resume(crypto.hmac_md5(key, exchange.nt_response[:16]))
    client.step(completed)
    assert_sealed_both_ways(client, server)


@pytest.mark.parametrize("answer", [None, WRONG, Deny(), ValueError("x")], ids=repr)
def test_wrong_answers_deny_through_spnego(answer):
    client, server = NegotiateInitiator([initiator()]), DetectingAcceptor([acceptor()])
    with pytest.raises(AuthenticationError) as caught:
        converse(client, server, answer)
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert not server.complete
    assert server.principal is None
    with pytest.raises(LocalProtocolError):
        server.resume(ALICE)


# --- mechListMIC ---


def hand_made(*, mic, mech_list_mic, alter=None):
    """A SPNEGO client whose NTLM messages are made by hand; the acceptor's answer to its last token."""
    inner = acceptor()
    server = NegotiateAcceptor([inner])

    class Unwrapped:
        """The acceptor as `HandMade` expects it: NTLM in, NTLM out."""

        def step(self, token):
            return resp(server.step(init(spnego.NTLM, token=token))).response_token

    client = HandMade(Unwrapped())
    token = client.authenticate(mic=mic)
    signature = None
    if mech_list_mic:
        handle = crypto.SealingHandle(client.session_key, from_initiator=True)
        signature = handle.get_mic(spnego.encode_mech_list([spnego.NTLM]))
    if alter:
        signature = alter(token, signature)
    assert isinstance(server.step(NegTokenResp(None, None, token, signature).encode()), LookupCredential)
    return server, resp(server.resume(ALICE))


def test_client_without_ntlm_mic_but_with_mech_list_mic_is_answered_with_one():
    server, answer = hand_made(mic=False, mech_list_mic=True)
    assert server.complete
    assert answer.neg_state is NegState.ACCEPT_COMPLETED
    assert answer.mech_list_mic is not None


def test_client_without_any_mic_is_accepted_for_its_first_choice():
    server, answer = hand_made(mic=False, mech_list_mic=False)
    assert server.complete
    assert answer == NegTokenResp(NegState.ACCEPT_COMPLETED)


def test_ntlm_mic_makes_the_mech_list_mic_compulsory():
    with pytest.raises(RemoteProtocolError) as caught:
        hand_made(mic=True, mech_list_mic=False)
    assert caught.value.security_status is ALTERED


def test_mech_list_mic_that_repeats_the_token_is_none():
    server, answer = hand_made(mic=False, mech_list_mic=True, alter=lambda token, _: token)
    assert server.complete
    assert answer.mech_list_mic is None
    with pytest.raises(RemoteProtocolError):
        hand_made(mic=True, mech_list_mic=True, alter=lambda token, _: token)


@pytest.mark.parametrize("mic", [True, False], ids=["ntlm mic", "no ntlm mic"])
@pytest.mark.parametrize(
    "alter",
    [lambda _, mic: mic[:-1], lambda _, mic: mic + b"\0", lambda *_: b"", lambda *_: bytes(16)]
    + [lambda _, mic, at=at: mic[:at] + bytes((mic[at] ^ 1,)) + mic[at + 1 :] for at in range(16)],
)
def test_altered_mech_list_mic_is_refused(mic, alter):
    with pytest.raises(RemoteProtocolError) as caught:
        hand_made(mic=mic, mech_list_mic=True, alter=alter)
    assert caught.value.security_status in {ALTERED, SecurityStatus.SEC_E_OUT_OF_SEQUENCE}


def test_mechanism_cut_off_the_offer_is_noticed():
    better = Ticket(accepts=False)
    client, server = NegotiateInitiator([better, initiator()]), NegotiateAcceptor([acceptor()])
    client.step(b"")
    inner = NegTokenInit.decode(NegotiateInitiator([initiator()]).step(b"")).mech_token
    chosen = server.step(init(spnego.NTLM, token=inner))
    with pytest.raises(CredSSPError):
        # The client sees an answer for a mechanism that it has not begun.
        client.step(chosen)


def test_altered_offer_is_noticed_by_the_mic():
    client, server = NegotiateInitiator([initiator()]), NegotiateAcceptor([acceptor()])
    offer = NegTokenInit.decode(client.step(b""))
    token = client.step(server.step(init(spnego.NTLM, spnego.NEGOEX, token=offer.mech_token)))
    assert isinstance(server.step(token), LookupCredential)
    with pytest.raises(RemoteProtocolError) as caught:
        server.resume(ALICE)
    assert caught.value.security_status is ALTERED
    assert not server.complete
    assert server.principal is None


def test_acceptor_that_completes_without_mic_is_tolerated_for_the_first_choice():
    client, server = ntlm_pair()
    client.step(server.step(client.step(b"")))
    assert client.step(NegTokenResp(NegState.ACCEPT_COMPLETED).encode()) == b""
    assert client.complete


@pytest.mark.requirement("spnego.request-mic")
def test_acceptor_that_asked_for_a_mic_must_send_its_own():
    client, server = ntlm_pair()
    first = resp(server.step(client.step(b"")))
    client.step(NegTokenResp(NegState.REQUEST_MIC, spnego.NTLM, first.response_token).encode())
    with pytest.raises(RemoteProtocolError) as caught:
        client.step(NegTokenResp(NegState.ACCEPT_COMPLETED).encode())
    assert caught.value.security_status is ALTERED
    assert not client.complete


@pytest.mark.parametrize("position", range(16))
def test_altered_mic_of_the_acceptor_is_refused(position):
    client, server = ntlm_pair()
    server.step(client.step(server.step(client.step(b""))))
    last = resp(server.resume(ALICE))
    mic = bytearray(last.mech_list_mic)
    mic[position] ^= 1
    with pytest.raises(RemoteProtocolError):
        client.step(NegTokenResp(last.neg_state, mech_list_mic=bytes(mic)).encode())
    assert not client.complete


# --- choosing ---


@pytest.mark.requirement("spnego.fallback")
@pytest.mark.parametrize(
    "offered",
    [
        (spnego.KERBEROS_USER_TO_USER, spnego.KERBEROS, spnego.NTLM),
        (spnego.NEGOEX, spnego.NTLM),
        (spnego.KERBEROS_MICROSOFT, spnego.KERBEROS, spnego.NEGOEX, spnego.NTLM),
    ],
    ids=["freerdp 3", "windows 11", "windows"],
)
def test_acceptor_passes_over_what_it_has_not_and_asks_for_a_mic(offered):
    server = NegotiateAcceptor([acceptor()])
    answer = resp(server.step(init(*offered, token=b"optimistic token of something else")))
    assert answer == NegTokenResp(NegState.REQUEST_MIC, spnego.NTLM)
    assert server.name == "ntlm"


@pytest.mark.requirement("spnego.request-mic")
def test_ntlm_as_second_choice_goes_on_with_mics_both_ways():
    client = NegotiateInitiator([Ticket(accepts=False), initiator()])
    server = NegotiateAcceptor([acceptor()])
    tokens = converse(client, server)
    states = [resp(token).neg_state for token in tokens[1::2]]
    assert states == [NegState.REQUEST_MIC, NegState.ACCEPT_INCOMPLETE, NegState.ACCEPT_COMPLETED]
    assert [resp(token).neg_state for token in tokens[2::2]] == [NegState.ACCEPT_INCOMPLETE] * 2
    assert resp(tokens[-1]).mech_list_mic is not None
    assert_sealed_both_ways(client, server)
    assert client.name == server.name == "ntlm"


def test_offer_without_token_is_answered_with_the_choice():
    server = NegotiateAcceptor([acceptor()])
    answer = resp(server.step(init(spnego.NTLM)))
    assert answer == NegTokenResp(NegState.ACCEPT_INCOMPLETE, spnego.NTLM)
    assert resp(server.step(NegTokenResp(response_token=initiator().step(b"")).encode())).supported_mech is None


@pytest.mark.requirement("spnego.fallback")
def test_offer_of_nothing_we_have_is_refused():
    with pytest.raises(PolicyError):
        NegotiateAcceptor([acceptor()]).step(init(spnego.KERBEROS, spnego.NEGOEX, token=b"x"))


def test_mechanism_that_was_not_offered_cannot_be_chosen():
    client = NegotiateInitiator([initiator()])
    client.step(b"")
    with pytest.raises(RemoteProtocolError, match="not offered"):
        client.step(NegTokenResp(NegState.REQUEST_MIC, spnego.KERBEROS).encode())


# --- a mechanism of Kerberos's shape ---


@pytest.mark.parametrize("wants_mic", [False, True])
def test_one_round_trip_mechanism_as_first_choice(wants_mic):
    client = NegotiateInitiator([Ticket(accepts=False, wants_mic=wants_mic), initiator()])
    server = NegotiateAcceptor([acceptor(), Ticket(accepts=True, wants_mic=wants_mic)])
    offer = client.step(b"")
    assert NegTokenInit.decode(offer).mech_types == (*KRB5, spnego.NTLM)
    answer = server.step(offer)
    assert resp(answer).supported_mech == spnego.KERBEROS
    last = client.step(answer)
    assert client.complete
    if wants_mic:
        assert resp(answer).neg_state is NegState.ACCEPT_INCOMPLETE
        assert resp(last).neg_state is NegState.ACCEPT_COMPLETED
        assert not server.complete
        assert server.step(last) == b""
    else:
        assert (last, resp(answer).mech_list_mic) == (b"", None)
    assert server.complete
    assert client.name == server.name == "kerberos"
    assert server.principal.domain == "CONTOSO.TEST"
    assert server.unwrap(client.wrap(b"x")) == b"x"


def test_one_round_trip_mechanism_as_second_choice_needs_mics():
    user_to_user = Ticket(accepts=False, mech_types=(spnego.KERBEROS_USER_TO_USER,))
    client = NegotiateInitiator([user_to_user, Ticket(accepts=False)])
    server = NegotiateAcceptor([Ticket(accepts=True)])
    requested = server.step(client.step(b""))
    assert resp(requested) == NegTokenResp(NegState.REQUEST_MIC, spnego.KERBEROS)
    answer = server.step(client.step(requested))
    assert resp(answer).mech_list_mic.startswith(b"acceptor ")
    assert not server.complete
    last = client.step(answer)
    assert resp(last).mech_list_mic.startswith(b"initiator ")
    assert server.step(last) == b""
    assert server.complete


@pytest.mark.requirement("spnego.request-mic")
def test_mic_that_was_asked_for_may_not_be_left_out_of_the_last_token():
    server = NegotiateAcceptor([Ticket(accepts=True, wants_mic=True)])
    server.step(init(spnego.KERBEROS, token=b"AP-REQ"))
    with pytest.raises(RemoteProtocolError) as caught:
        server.step(NegTokenResp(NegState.ACCEPT_COMPLETED).encode())
    assert caught.value.security_status is ALTERED
    assert not server.complete


class ThreeLegs(Ticket):
    """A mechanism whose initiator has the last token."""

    def step(self, token):
        if self._accepts:
            self.complete = token == b"last"
            return b"" if self.complete else b"challenge"
        self.complete = bool(token)
        return b"last" if token else b"first"


@pytest.mark.requirement("spnego.request-mic")
@pytest.mark.parametrize("required", [False, True])
def test_a_mic_goes_beside_the_initiators_last_token_where_it_is_due_and_only_there(required):
    client, server = NegotiateInitiator([ThreeLegs(accepts=False)]), NegotiateAcceptor([ThreeLegs(accepts=True)])
    choice = resp(server.step(client.step(b"")))
    state = NegState.REQUEST_MIC if required else choice.neg_state
    last = resp(client.step(NegTokenResp(state, choice.supported_mech, choice.response_token).encode()))
    assert (last.neg_state, last.response_token) == (NegState.ACCEPT_INCOMPLETE, b"last")
    assert (last.mech_list_mic is not None) is required


def test_an_initiator_without_a_token_sends_the_mic_for_which_alone_the_acceptor_can_wait():
    client = NegotiateInitiator([Ticket(accepts=False)])
    client.step(b"")
    token = resp(client.step(NegTokenResp(NegState.ACCEPT_INCOMPLETE, spnego.KERBEROS, b"AP-REP").encode()))
    assert token.mech_list_mic == b"initiator " + spnego.encode_mech_list(KRB5)
    assert token.response_token is None


def test_a_mic_in_the_first_token_that_only_repeats_the_mechanisms_token_is_none():
    server = NegotiateAcceptor([acceptor()])
    token = initiator().step(b"")
    assert resp(server.step(_init_with_mic(token, token))).response_token


def test_one_more_token_of_a_complete_mechanism_is_refused():
    server = NegotiateAcceptor([Ticket(accepts=True, wants_mic=True)])
    server.step(init(spnego.KERBEROS, token=b"AP-REQ"))
    with pytest.raises(RemoteProtocolError):
        server.step(NegTokenResp(response_token=b"AP-REQ").encode())


def test_client_that_spells_kerberos_as_windows_2000_is_answered_so():
    server = NegotiateAcceptor([Ticket(accepts=True)])
    assert (
        resp(server.step(init(spnego.KERBEROS_MICROSOFT, token=b"AP-REQ"))).supported_mech == spnego.KERBEROS_MICROSOFT
    )


def test_a_first_mechanism_that_is_chosen_by_another_name_begins_again():
    """An acceptor that knows Microsoft's identifier alone drops the token, which was for the standard one."""
    client, server = (
        NegotiateInitiator([Ticket(accepts=False)]),
        NegotiateAcceptor([Ticket(accepts=True, mech_types=KRB5[1:])]),
    )
    offer, choice, again, answer, last = converse(client, server)
    assert NegTokenInit.decode(offer).mech_types == KRB5
    assert resp(choice) == NegTokenResp(NegState.REQUEST_MIC, KRB5[1])
    assert resp(again).response_token == NegTokenInit.decode(offer).mech_token == b"AP-REQ"
    assert resp(answer).mech_list_mic
    assert resp(last).mech_list_mic
    assert client.complete
    assert client.fallback == ""


def test_a_user_to_user_offer_is_answered_by_kerberos_without_a_token():
    """FreeRDP 3: what it begins with is a KRB_TGT_REQ."""
    server = NegotiateAcceptor([Ticket(accepts=True), acceptor()])
    offered = spnego.KERBEROS_USER_TO_USER, spnego.KERBEROS, spnego.NTLM
    choice = resp(server.step(init(*offered, token=bytes.fromhex("603b060a2a864886f71201020203") + bytes(47))))
    assert choice == NegTokenResp(NegState.REQUEST_MIC, spnego.KERBEROS)
    mic = b"initiator " + spnego.encode_mech_list(offered)
    answer = resp(server.step(NegTokenResp(response_token=b"AP-REQ").encode()))
    assert (answer.neg_state, answer.response_token) == (NegState.ACCEPT_INCOMPLETE, b"AP-REP")
    assert not server.complete
    server.step(NegTokenResp(NegState.ACCEPT_COMPLETED, mech_list_mic=mic).encode())
    assert server.complete


@pytest.mark.parametrize(("have", "fallback"), [("kerberos", ""), ("ntlm", "the server chose ntlm")])
def test_an_initiator_says_whether_it_got_its_first_choice(have, fallback):
    client = NegotiateInitiator([Ticket(accepts=False), initiator()])
    assert client.fallback == ""
    converse(client, NegotiateAcceptor([Ticket(accepts=True) if have == "kerberos" else acceptor()]))
    assert (client.name, client.fallback) == (have, fallback)


def test_steps_that_may_block_are_passed_up_on_both_sides():
    event = StepMechanism(lambda: b"")
    client = NegotiateInitiator([Ticket(accepts=False, event=event)])
    server = NegotiateAcceptor([Ticket(accepts=True, event=event)])
    assert client.step(b"") is event
    assert server.step(client.resume(b"")) is event
    assert client.step(server.resume(b"")) == b""
    assert client.complete
    assert server.complete


def test_error_as_an_answer_ends_the_context():
    client = NegotiateInitiator([Ticket(accepts=False, event=StepMechanism(lambda: b""))])
    client.step(b"")
    with pytest.raises(PolicyError):
        client.resume(PolicyError("no ticket"))
    with pytest.raises(LocalProtocolError):
        client.step(b"")


# --- tokens at the wrong time ---


def test_rejection_is_an_authentication_error():
    client = NegotiateInitiator([initiator()])
    client.step(b"")
    with pytest.raises(AuthenticationError):
        client.step(NegTokenResp(NegState.REJECT).encode())
    server = NegotiateAcceptor([acceptor()])
    server.step(init(spnego.NTLM))
    with pytest.raises(RemoteProtocolError):
        server.step(NegTokenResp(NegState.REJECT).encode())


FIELDS = [
    NegTokenResp(state, mech, token, mic).encode()
    for state, mech, token, mic in itertools.product(
        (None, *NegState),
        (None, spnego.NTLM, spnego.KERBEROS),
        (None, b"", b"x", b"NTLMSSP\0"),
        (None, b"", b"x", bytes(16)),
    )
]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_no_empty_or_foreign_token_completes_either_side(stage):
    """Every combination of fields, at every stage: an error, or a context that is still not complete."""
    for token in FIELDS:
        client, server = ntlm_pair()
        tokens = [client.step(b"")]
        tokens.append(server.step(tokens[0]))
        if stage >= 1:
            tokens.append(client.step(tokens[1]))
        for side in [client] if stage in {0, 1} else [server]:
            try:
                side.step(token)
            except CredSSPError:
                pass
            else:
                completed = resp(token).neg_state is NegState.ACCEPT_COMPLETED and resp(token).mech_list_mic in {
                    None, resp(token).response_token,
                }  # fmt: skip
                assert not side.complete or (side is client and stage == 1 and completed)


def begun_client():
    """A client that has sent its AUTHENTICATE and its MIC, and what the server said first."""
    client, server = ntlm_pair()
    first = resp(server.step(client.step(b"")))
    return client, first, server


def test_mic_before_the_mechanism_is_complete_is_refused():
    with pytest.raises(RemoteProtocolError, match="before the mechanism"):
        NegotiateAcceptor([acceptor()]).step(_init_with_mic(initiator().step(b"")))
    user_to_user = Ticket(accepts=False, mech_types=(spnego.KERBEROS_USER_TO_USER,))
    client = NegotiateInitiator([user_to_user, initiator()])
    client.step(b"")
    with pytest.raises(RemoteProtocolError, match="before the mechanism"):
        client.step(NegTokenResp(NegState.REQUEST_MIC, spnego.NTLM, None, b"mic").encode())


def _init_with_mic(mech_token, mic=b"mic"):
    content = der.encode(der.CONTEXT, spnego.encode_mech_list([spnego.NTLM]))
    content += der.encode_octets(2, mech_token) + der.encode_octets(3, mic)
    return der.encode(0xA0, der.encode(der.SEQUENCE, content))


def test_request_mic_after_the_first_reply_is_refused():
    client, first, _ = begun_client()
    client.step(first.encode())
    with pytest.raises(RemoteProtocolError, match="first reply only"):
        client.step(NegTokenResp(NegState.REQUEST_MIC, mech_list_mic=b"m").encode())


def test_completion_beside_a_challenge_is_refused():
    client, first, _ = begun_client()
    with pytest.raises(RemoteProtocolError, match="the server completed, but the mechanism has a token"):
        client.step(NegTokenResp(NegState.ACCEPT_COMPLETED, spnego.NTLM, first.response_token).encode())


def test_completion_before_the_mechanism_did_is_refused():
    client = NegotiateInitiator([Ticket(accepts=False), initiator()])
    client.step(b"")
    with pytest.raises(RemoteProtocolError, match="before the mechanism did"):
        client.step(NegTokenResp(NegState.ACCEPT_COMPLETED, spnego.NTLM).encode())


def test_server_that_goes_on_without_its_mic_is_refused():
    client, first, _ = begun_client()
    client.step(first.encode())
    with pytest.raises(RemoteProtocolError, match="neither completes"):
        client.step(NegTokenResp(NegState.ACCEPT_INCOMPLETE).encode())


def test_server_that_sends_its_mic_and_says_nothing_else_is_done():
    client, first, server = begun_client()
    assert isinstance(server.step(client.step(first.encode())), LookupCredential)
    mic = resp(server.resume(ALICE)).mech_list_mic
    assert client.step(NegTokenResp(mech_list_mic=mic).encode()) == b""
    assert_sealed_both_ways(client, server)


def test_token_after_completion_is_refused():
    client, server = ntlm_pair()
    tokens = converse(client, server)
    for side, token in ((client, tokens[3]), (server, tokens[2])):
        with pytest.raises(RemoteProtocolError, match="spnego is complete"):
            side.step(token)


def test_a_context_that_has_failed_takes_no_more_tokens():
    client, server = ntlm_pair()
    offer = client.step(b"")
    for side, good in ((client, server.step(offer)), (NegotiateAcceptor([acceptor()]), offer)):
        with pytest.raises(RemoteProtocolError):
            side.step(b"nothing known")
        with pytest.raises(LocalProtocolError, match="the context is failed"):
            side.step(good)


def test_step_while_an_event_is_out_is_a_local_error_that_changes_nothing():
    client, server = ntlm_pair()
    token = client.step(server.step(client.step(b"")))
    server.step(token)
    with pytest.raises(LocalProtocolError):
        server.step(token)
    client.step(server.resume(ALICE))
    assert_sealed_both_ways(client, server)


def test_spnego_needs_a_mechanism():
    for side in (NegotiateInitiator, NegotiateAcceptor):
        with pytest.raises(ValueError, match="mechanism"):
            side([])


def test_calls_before_anything_came_are_local_errors():
    for side in (NegotiateInitiator([initiator()]), DetectingAcceptor([acceptor()])):
        for call in (side.wrap, side.unwrap, side.get_mic, side.resume):
            with pytest.raises(LocalProtocolError):
                call(b"")
        with pytest.raises(LocalProtocolError):
            side.verify_mic(b"", b"")
        assert side.complete is False
        assert side.principal is None
        assert side.name == "negotiate"
    with pytest.raises(LocalProtocolError, match="does not wait for an answer"):
        NegotiateInitiator([Ticket(accepts=False)]).resume(b"")


# --- detection ---


@pytest.mark.requirement("mechanism.detection")
@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\0",
        b"NTLMSSP",
        b"\x60",
        b"\x6e\x82",
        NegTokenResp(NegState.ACCEPT_INCOMPLETE).encode(),
        b"\x30\x03\x02\x01\6",
    ],
    ids=lambda token: token.hex() or "empty",
)
def test_first_token_of_no_known_kind_is_refused(token):
    with pytest.raises(RemoteProtocolError) as caught:
        DetectingAcceptor([acceptor()]).step(token)
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


@pytest.mark.requirement("mechanism.detection")
def test_kerberos_without_spnego_goes_to_the_mechanism_that_has_it():
    token = bytes.fromhex("600b06092a864886f712010202")
    with pytest.raises(PolicyError, match="kerberos"):
        DetectingAcceptor([acceptor()]).step(token)
    server = DetectingAcceptor([acceptor(), Ticket(accepts=True, event=StepMechanism(lambda: b""))])
    assert isinstance(server.step(token), StepMechanism)
    assert server.name == "kerberos"


@pytest.mark.requirement("mechanism.detection")
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "spnego"])
def test_form_of_the_first_token_is_kept(raw):
    client = initiator() if raw else NegotiateInitiator([initiator()])
    other = NegotiateInitiator([initiator()]) if raw else initiator()
    server = DetectingAcceptor([acceptor()])
    server.step(client.step(b""))
    with pytest.raises(RemoteProtocolError):
        server.step(other.step(b""))


def test_every_error_of_a_client_has_a_status_for_it():
    server = DetectingAcceptor([acceptor(Policy(require_ntlm_mic=True))])
    client = HandMade(server)
    with pytest.raises(PolicyError) as caught:
        server.step(client.authenticate(mic=False))
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


def test_local_errors_have_no_status():
    with pytest.raises(LocalProtocolError) as caught:
        DetectingAcceptor([acceptor()]).resume(None)
    assert caught.value.nt_status is None
    assert INVALID is RemoteProtocolError("x").security_status

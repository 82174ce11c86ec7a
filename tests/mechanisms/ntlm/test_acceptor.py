"""The acceptor: who is let in, and that nobody else is, whatever the message says."""

import copy
import hmac
import itertools
import struct
import traceback

import pytest
from support.ntlm import ALICE, IDENTITY, SPN, WRONG, HandMade, acceptor, assert_sealed_both_ways, converse, initiator

from acredssp.credentials import Account, Candidates, Deny, NTHash, Oracle, Password
from acredssp.errors import AuthenticationError, CredSSPError, LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.mechanisms.base import AskOracle, LookupCredential, Principal
from acredssp.mechanisms.ntlm import acceptor as ntlm_acceptor
from acredssp.mechanisms.ntlm import crypto
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.mechanisms.ntlm.context import REQUIRED_FLAGS
from acredssp.mechanisms.ntlm.messages import AvId, ChallengeMessage, Flags, NegotiateMessage, decode_av_pairs
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus

CANARY = "Canary-9f3c"


def log_on(server, token, answer=ALICE):
    """Give the AUTHENTICATE and answer the lookup; what the acceptor says."""
    event = server.step(token)
    assert isinstance(event, LookupCredential)
    return server.resume(answer)


def assert_denied(server, token, answer=ALICE, status=NTSTATUS.STATUS_LOGON_FAILURE):
    """The token, or the answer to its lookup, ends the context, and no key is left to use."""
    with pytest.raises(CredSSPError) as caught:
        log_on(server, token, answer)
    assert not server.complete
    assert server.principal is None
    with pytest.raises(LocalProtocolError):
        server.wrap(b"")
    if isinstance(caught.value, AuthenticationError):
        assert caught.value.nt_status is status
    return caught.value


def begun(**options):
    server = acceptor(**options)
    return server, HandMade(server)


# --- who is let in ---


def test_lookup_is_asked_for_what_the_client_claims():
    client, server = initiator(), acceptor()
    event = server.step(client.step(server.step(client.step(b""))))
    assert event == LookupCredential(Principal("alice", "CONTOSO", "PC", SPN), "ntlm")
    assert server.principal is None
    assert server.resume(ALICE) == b""
    assert server.principal == event.principal
    assert_sealed_both_ways(client, server)


def plain(value):
    """The name of a case: mutmut collects the tests twice in a process, and pytest then escapes backslashes again."""
    return repr(value).replace("\\", "")


@pytest.mark.parametrize(
    "answer",
    [
        ALICE,
        Password("Passw0rd!"),
        NTHash(ALICE.nt_hash),
        Candidates([WRONG, ALICE]),
        Candidates((NTHash(bytes(16)), NTHash(ALICE.nt_hash), WRONG)),
    ],
    ids=plain,
)
def test_right_secret_lets_in(answer):
    client, server = initiator(), acceptor()
    converse(client, server, answer)
    assert_sealed_both_ways(client, server)


OTHER = Password("other", "other", "CONTOSO")


@pytest.mark.requirement("accounts.once")
@pytest.mark.parametrize(
    ("answer", "account"),
    [
        (Password("Passw0rd!"), Account("alice@contoso.test")),
        (Password("Passw0rd!", "alice", "CONTOSO"), Account("alice", "CONTOSO")),
        (NTHash(ALICE.nt_hash, "alice"), Account("alice")),
        (Candidates([OTHER, Password("Passw0rd!", "alice", "CONTOSO")]), Account("alice", "CONTOSO")),
        (Candidates([Password("Passw0rd!", "alice", "A"), Password("Passw0rd!", "alice", "B")]), Account("alice", "A")),
        (Candidates([OTHER, Password("Passw0rd!")]), Account("alice@contoso.test")),
    ],
    ids=plain,
)
def test_the_lookup_says_whose_logon_it_is(answer, account):
    server, client = begun()
    log_on(server, client.authenticate(user="alice@contoso.test", domain=""), answer)
    assert server.principal.account == account
    assert server.principal == Principal("alice@contoso.test", "")


def test_an_oracles_answer_is_about_the_account_that_the_lookup_named():
    for oracle, account in (
        (Oracle(print, "alice", "CONTOSO"), Account("alice", "CONTOSO")),
        (Oracle(print), Account("alice@contoso.test")),
    ):
        server, client = begun()
        event = log_on(server, client.authenticate(user="alice@contoso.test", domain=""), oracle)
        server.resume(session_base_key(event.exchange))
        assert server.principal.account == account


def test_an_account_by_another_name_changes_nothing_of_what_the_client_said():
    client, server = initiator(Password("Passw0rd!", "alice@contoso.test")), acceptor()
    converse(client, server, Password("Passw0rd!", "alice", "CONTOSO"))
    assert server.principal == Principal("alice@contoso.test", "", "PC", SPN)
    assert server.principal.account == Account("alice", "CONTOSO")


def test_an_account_may_differ_by_its_domain_alone():
    server, client = begun()
    log_on(server, client.authenticate(domain=""), ALICE)
    assert server.principal.account == Account("alice", "CONTOSO")


@pytest.mark.parametrize(
    ("user", "domain"),
    [("alice", "CONTOSO"), ("ALICE", "contoso"), ("alice@contoso.test", ""), ("straße", "D"), ("用户", "域")],
)
def test_names_of_every_form_log_on(user, domain):
    client, server = initiator(Password("Passw0rd!", user, domain)), acceptor()
    converse(client, server)
    assert (server.principal.user, server.principal.domain) == (user, domain)


@pytest.mark.requirement("ntlm.no-domain")
def test_client_that_leaves_the_domain_out_of_its_key_is_let_in():
    server, client = begun()
    assert log_on(server, client.authenticate(key_domain="")) == b""


def test_domain_counts_in_the_case_the_client_wrote():
    server, client = begun()
    assert_denied(server, client.authenticate(domain="CONTOSO", key_domain="contoso"))


@pytest.mark.requirement("ntlm.upper-case")
@pytest.mark.parametrize("key_domain", ["CONTOSO", ""])
@pytest.mark.parametrize(
    ("user", "key_user"),
    [
        ("Νίκος", "ΝΊΚΟς"),
        ("Νίκος", "ΝΊΚΟΣ"),
        ("yıldız", "YıLDıZ"),
        ("yıldız", "YILDIZ"),
        ("გიორგი", "გიორგი"),
        ("გიორგი", "ᲒᲘᲝᲠᲒᲘ"),
        ("straße", "STRAßE"),
        ("\U00010428", "\U00010428"),
        ("\U00010428", "\U00010400"),
    ],
)
def test_upper_case_of_windows_and_of_unicode_are_both_taken(user, key_user, key_domain):
    server, client = begun()
    assert log_on(server, client.authenticate(user=user, key_user=key_user, key_domain=key_domain)) == b""


@pytest.mark.requirement("ntlm.upper-case")
@pytest.mark.parametrize(
    ("user", "key_user"),
    [("alice", "alice"), ("Νίκος", "Νίκος"), ("straße", "STRASSE"), ("straße", "strasse"), ("ſmith", "smith")],
)
def test_no_other_case_is_taken(user, key_user):
    server, client = begun()
    assert_denied(server, client.authenticate(user=user, key_user=key_user))


@pytest.mark.requirement("ntlm.raw-bytes")
@pytest.mark.parametrize("tail", [b"", bytes(4), bytes(12), b"anything"])
def test_bytes_behind_the_av_pairs_are_covered_as_they_came(tail):
    server, client = begun()
    assert log_on(server, client.authenticate(tail=tail)) == b""


@pytest.mark.requirement("ntlm.mic", "defect.absent-mic")
def test_client_without_mic_is_let_in_unless_the_policy_says_no():
    server, client = begun()
    assert log_on(server, client.authenticate(mic=False)) == b""
    assert not server.needs_mech_list_mic
    server = acceptor(Policy(require_ntlm_mic=True))
    error = assert_denied(server, HandMade(server).authenticate(mic=False))
    assert isinstance(error, PolicyError)


def test_mic_that_was_made_asks_for_a_mech_list_mic():
    server, client = begun()
    log_on(server, client.authenticate())
    assert server.needs_mech_list_mic


# --- the oracle ---


def ask(server, token):
    event = server.step(token)
    assert isinstance(event, LookupCredential)
    oracle = Oracle(lambda exchange: exchange)
    asked = server.resume(oracle)
    assert isinstance(asked, AskOracle)
    assert asked.oracle is oracle
    return asked.exchange


def session_base_key(exchange, nt_hash=ALICE.nt_hash):
    """What a domain controller does with an exchange."""
    key = crypto.ntowf_v2(nt_hash, exchange.user, exchange.domain.encode("utf-16-le"))
    proof = crypto.nt_proof(key, exchange.server_challenge, exchange.nt_response[16:])
    assert proof == exchange.nt_response[:16]
    return crypto.hmac_md5(key, proof)


def test_oracle_that_verifies_lets_in():
    client, server = initiator(), acceptor()
    exchange = ask(server, client.step(server.step(client.step(b""))))
    assert (exchange.user, exchange.domain, exchange.workstation) == ("alice", "CONTOSO", "PC")
    assert exchange.lm_response == bytes(24)
    assert server.resume(session_base_key(exchange)) == b""
    assert_sealed_both_ways(client, server)


@pytest.mark.parametrize(
    "answer",
    [
        None, True, b"", bytes(15), bytes(16), bytes(17), bytearray(16), "x" * 16, ALICE, Deny(), ValueError("x"),
        Oracle(print),
    ],
    ids=plain,
)  # fmt: skip
@pytest.mark.parametrize("mic", [True, False], ids=["mic", "no mic"])
def test_oracle_that_gives_no_key_denies(answer, mic):
    """A key of zeros is the one of a guest or of an anonymous logon, whose password nobody has checked."""
    server, client = begun()
    ask(server, client.authenticate(mic=mic))
    with pytest.raises(AuthenticationError) as caught:
        server.resume(answer)
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert not server.complete


def test_oracle_that_gives_another_key_fails_at_the_mic():
    server, client = begun()
    ask(server, client.authenticate())
    with pytest.raises(RemoteProtocolError) as caught:
        server.resume(b"x" * 16)
    assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED


def test_oracle_may_say_that_it_has_no_logon_server_but_not_which_users_exist():
    for said, shown in (
        (NTSTATUS.STATUS_NO_LOGON_SERVERS, NTSTATUS.STATUS_NO_LOGON_SERVERS),
        (NTSTATUS.STATUS_NO_SUCH_USER, NTSTATUS.STATUS_LOGON_FAILURE),
        (NTSTATUS.STATUS_WRONG_PASSWORD, NTSTATUS.STATUS_LOGON_FAILURE),
    ):
        server, client = begun()
        ask(server, client.authenticate())
        with pytest.raises(AuthenticationError) as caught:
            server.resume(Deny(said))
        assert caught.value.nt_status is shown


def deny_with(status, **options):
    """A refusal whose status its constructor would not take."""
    deny = Deny(**options)
    object.__setattr__(deny, "nt_status", status)
    return deny


@pytest.mark.requirement("winbind.proof")
def test_oracle_may_vouch_for_the_password_and_then_its_status_is_shown():
    for answer, shown in (
        (Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, proven=True), NTSTATUS.STATUS_ACCOUNT_DISABLED),
        (Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, proven=False), NTSTATUS.STATUS_LOGON_FAILURE),
        (deny_with(0, proven=True), NTSTATUS.STATUS_LOGON_FAILURE),
        (deny_with("x", proven=True), NTSTATUS.STATUS_LOGON_FAILURE),
    ):
        server, client = begun()
        ask(server, client.authenticate())
        with pytest.raises(AuthenticationError) as caught:
            server.resume(answer)
        assert caught.value.nt_status is shown
        assert not server.complete


@pytest.fixture
def comparisons(monkeypatch):
    """Grows by one with each comparison of a proof or a MIC."""
    calls = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *proofs: calls.append(1) or compare(*proofs))
    return calls


@pytest.mark.requirement("ntlm.uniform-failure")
def test_what_an_oracle_says_of_an_account_makes_no_difference_to_what_is_done(comparisons):
    seen = []
    for status in ("WRONG_PASSWORD", "NO_SUCH_USER", "ACCOUNT_LOCKED_OUT", "LOGON_FAILURE"):
        comparisons.clear()
        server, client = begun()
        ask(server, client.authenticate())
        with pytest.raises(AuthenticationError) as caught:
            server.resume(Deny(NTSTATUS[f"STATUS_{status}"]))
        seen.append((str(caught.value), caught.value.nt_status, caught.value.security_status, len(comparisons)))
    assert len(set(seen)) == 1
    assert seen[0][3] == 2


@pytest.mark.requirement("winbind.proof")
def test_lookup_cannot_vouch_for_a_password():
    server, client = begun()
    assert_denied(server, client.authenticate(secret=WRONG), Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, proven=True))


# --- who is not ---

GARBAGE = [
    None, True, False, 0, 1, "", "Passw0rd!", b"Passw0rd!", ALICE.nt_hash, object(), Password, [ALICE], (ALICE,), {},
    ValueError("the store is down"), LookupError(), BaseException(), NotImplemented, ...,
    WRONG, NTHash(bytes(16)), Candidates([]), Candidates(()), Candidates([WRONG, NTHash(bytes(16))]),
    Deny(), Deny(secret=WRONG),
]  # fmt: skip


@pytest.mark.parametrize("mic", [True, False], ids=["mic", "no mic"])
@pytest.mark.parametrize("answer", GARBAGE, ids=lambda answer: plain(answer).partition(" at 0x")[0])
def test_lookup_that_gives_no_right_secret_denies(answer, mic):
    server, client = begun()
    error = assert_denied(server, client.authenticate(mic=mic), answer)
    assert type(error) is AuthenticationError
    assert error.security_status is SecurityStatus.SEC_E_LOGON_DENIED


TWO_WRONG = Candidates([WRONG, NTHash(bytes(16))])


@pytest.mark.requirement("ntlm.uniform-failure")
@pytest.mark.parametrize(
    "answers",
    [
        (None, WRONG, Deny(), Deny(NTSTATUS.STATUS_NO_SUCH_USER), Deny(secret=WRONG), Candidates([]), Oracle),
        (TWO_WRONG, Deny(secret=TWO_WRONG), Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, TWO_WRONG)),
    ],
    ids=["one secret", "two secrets"],
)
@pytest.mark.parametrize(
    ("user", "domain", "ways"),
    [
        ("alice", "CONTOSO", 2),
        ("alice", "", 1),
        ("alice@contoso.test", "", 1),
        ("юзер", "CONTOSO", 2),
        ("Νίκος", "CONTOSO", 4),
        ("Νίκος", "", 2),
    ],
)
def test_unknown_user_and_wrong_password_cannot_be_told_apart(answers, user, domain, ways, comparisons):
    """What is done depends on the name as it was written, and on how many secrets the lookup gives."""
    seen = []
    for answer in answers:
        server, client = begun()
        token = client.authenticate(user=user, domain=domain, secret=Password("neither of them"))
        if answer is Oracle:
            ask(server, token)
            comparisons.clear()
            with pytest.raises(AuthenticationError) as caught:
                server.resume(Deny())
            error = caught.value
        else:
            comparisons.clear()
            error = assert_denied(server, token, answer)
        seen.append((str(error), error.nt_status, error.security_status, len(comparisons)))
    assert len(set(seen)) == 1
    assert seen[0][3] == ways * (2 if TWO_WRONG in answers else 1)


@pytest.mark.requirement("ntlm.uniform-failure")
def test_every_candidate_is_tried_also_behind_the_one_that_fits(comparisons):
    seen = []
    for order in itertools.permutations([ALICE, WRONG, NTHash(bytes(16))]):
        server, client = begun()
        token = client.authenticate(mic=False, key_domain="")
        comparisons.clear()
        assert log_on(server, token, Candidates(order)) == b""
        seen.append(len(comparisons))
    assert set(seen) == {6}


def test_the_first_of_two_candidates_that_fit_counts():
    server, client = begun()
    assert log_on(server, client.authenticate(), Candidates([ALICE, NTHash(ALICE.nt_hash)])) == b""


def test_a_refusal_may_carry_several_secrets_and_is_told_to_who_has_one_of_them():
    for secrets in itertools.permutations([ALICE, WRONG]):
        server, client = begun()
        answer = Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, Candidates(secrets))
        assert_denied(server, client.authenticate(), answer, NTSTATUS.STATUS_ACCOUNT_DISABLED)


def test_the_hash_in_the_stead_of_an_unknown_users_lets_nobody_in():
    server, client = begun()
    assert_denied(server, client.authenticate(secret=NTHash(ntlm_acceptor._STAND_IN)), None)


@pytest.mark.requirement("ntlm.uniform-failure")
@pytest.mark.parametrize(
    ("status", "security_status"),
    [
        (NTSTATUS.STATUS_ACCOUNT_DISABLED, SecurityStatus.SEC_E_LOGON_DENIED),
        (NTSTATUS.STATUS_PASSWORD_EXPIRED, SecurityStatus.SEC_E_LOGON_DENIED),
        (NTSTATUS.STATUS_SMARTCARD_LOGON_REQUIRED, SecurityStatus.SEC_E_SMARTCARD_LOGON_REQUIRED),
    ],
)
def test_status_of_a_refusal_is_shown_to_who_proved_the_password_alone(status, security_status):
    server, client = begun()
    error = assert_denied(server, client.authenticate(), Deny(status, ALICE), status)
    assert error.security_status is security_status
    for answer in (Deny(status), Deny(status, WRONG)):
        server, client = begun()
        assert_denied(server, client.authenticate(), answer)
    server, client = begun()
    assert_denied(server, client.authenticate(secret=WRONG), Deny(status, ALICE))


def test_status_that_is_not_about_the_account_is_shown_to_everybody():
    server, client = begun()
    answer = Deny(NTSTATUS.STATUS_NO_LOGON_SERVERS)
    error = assert_denied(server, client.authenticate(secret=WRONG), answer, NTSTATUS.STATUS_NO_LOGON_SERVERS)
    assert error.security_status is SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY


@pytest.mark.parametrize("status", [NTSTATUS(0), NTSTATUS(1), NTSTATUS(0x7FFFFFFF), "x", None, 1 << 40, 2.5])
def test_refusal_with_a_status_that_is_none_is_a_logon_failure(status):
    server, client = begun()
    assert_denied(server, client.authenticate(), deny_with(status, secret=ALICE))


@pytest.mark.requirement("defect.proof-ignored")
def test_wrong_password_is_denied_under_every_flag():
    for flag in [1 << bit for bit in range(32)]:
        for options in ({"flags": flag}, {"drop_flags": flag}):
            for mic in (True, False):
                server, client = begun()
                assert_denied(server, client.authenticate(secret=WRONG, mic=mic, **options))


@pytest.mark.parametrize("flag", [flag for flag in Flags if flag & REQUIRED_FLAGS], ids=lambda flag: flag.name)
def test_required_flag_may_be_missing_neither_at_first_nor_at_last(flag):
    server, client = begun()
    assert_denied(server, client.authenticate(drop_flags=flag))
    with pytest.raises(CredSSPError, match=flag.name):
        acceptor().step(NegotiateMessage.encode(0xE2088235 & ~flag))


@pytest.mark.requirement("defect.empty-proof")
@pytest.mark.parametrize("mic", [True, False], ids=["mic", "no mic"])
@pytest.mark.parametrize(
    "fields",
    [
        {"nt_response": b""},
        {"nt_response": b"", "lm_response": b""},
        {"nt_response": b"", "lm_response": b"\0"},
        {"nt_response": bytes(1)},
        {"nt_response": bytes(16)},
        {"nt_response": bytes(24)},
        {"nt_response": bytes(24), "lm_response": b"12345678" + bytes(16)},
        {"nt_response": b"", "user": b"", "lm_response": b"\0", "domain": b""},
        {"flags": Flags.ANONYMOUS},
        {"user": b""},
    ],
    ids=[
        "no nt response", "no response", "lm response of one byte", "1 byte", "16 bytes", "ntlmv1", "ntlm2 session",
        "anonymous", "anonymous flag", "no user",
    ],
)  # fmt: skip
def test_logon_without_ntlmv2_is_denied_and_nobody_is_asked(fields, mic):
    server, client = begun()
    token = client.authenticate(mic=mic, **fields)
    with pytest.raises(AuthenticationError) as caught:
        server.step(token)
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert not server.complete


@pytest.mark.parametrize(
    "fields",
    [{"encrypted_session_key": bytes(size)} for size in (0, 1, 15, 17, 32)]
    + [{"nt_response": bytes(size)} for size in (25, 44, 47, 48, 200)]
    + [{"user": b"a"}, {"user": b"\0\xd8"}, {"domain": b"a\0b"}, {"workstation": b"\0\xdc"}, {"domain": b"x" * 2050}]
    + [{"av_pairs": pairs} for pairs in (b"", b"\1\0\2\0", b"\6\0\xff\xff\2\0\0\0", b"\x09\0\1\0x" + bytes(4))]
    + [{"av_pairs": b"\1\0\0\0" * 1000 + bytes(4)}],
    ids=lambda fields: " ".join(f"{name} of {len(value)} bytes" for name, value in fields.items()),
)
@pytest.mark.parametrize("mic", [True, False], ids=["mic", "no mic"])
def test_malformed_part_is_refused_before_anybody_is_asked(fields, mic):
    server, client = begun()
    token = client.authenticate(mic=mic, **({"tail": b""} if "av_pairs" in fields else {}), **fields)
    with pytest.raises(RemoteProtocolError):
        server.step(token)
    assert not server.complete


# --- the MIC ---


@pytest.mark.requirement("ntlm.mic")
def test_announced_mic_needs_room():
    server, client = begun()
    with pytest.raises(RemoteProtocolError, match="mic"):
        server.step(client.authenticate(mic=False, announce=True))


@pytest.mark.requirement("ntlm.mic")
@pytest.mark.parametrize("position", range(72, 88))
def test_altered_mic_is_refused(position):
    server, client = begun()
    token = bytearray(client.authenticate())
    token[position] ^= 0x80
    error = assert_denied(server, bytes(token))
    assert error.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED
    assert error.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


def test_mic_of_zeros_is_refused():
    server, client = begun()
    token = client.authenticate()
    assert_denied(server, token[:72] + bytes(16) + token[88:])


@pytest.mark.requirement("defect.mic-tamper")
def test_announcement_cannot_be_cut_out_of_the_proof():
    server, client = begun()
    token = client.authenticate()
    flags = b"\6\0\4\0\2\0\0\0"
    assert token.count(flags) == 1
    for instead in (b"\6\0\4\0\0\0\0\0", b"\xff\0\4\0\2\0\0\0"):
        server, client = begun()
        assert_denied(server, client.authenticate().replace(flags, instead))


@pytest.mark.requirement("defect.mic-tamper")
def test_every_altered_byte_of_the_message_is_noticed():
    length = len(begun()[1].authenticate())
    for position in range(length):
        server, client = begun()
        token = bytearray(client.authenticate())
        token[position] ^= 1
        assert_denied(server, bytes(token))


@pytest.mark.parametrize("position", range(40))
def test_altered_negotiate_is_noticed_by_the_mic(position):
    client, server = initiator(), acceptor()
    negotiate = bytearray(client.step(b""))
    negotiate[position] ^= 1
    with pytest.raises(CredSSPError):
        log_on(server, client.step(server.step(bytes(negotiate))))


def test_altered_challenge_is_noticed():
    client, server = initiator(), acceptor()
    length = len(server.step(client.step(b"")))
    for position in range(length):
        client, server = initiator(), acceptor()
        challenge = bytearray(server.step(client.step(b"")))
        challenge[position] ^= 1
        with pytest.raises(CredSSPError):
            log_on(server, client.step(bytes(challenge)))
        assert not server.complete


def test_replayed_authenticate_does_not_fit_another_challenge():
    client, server = initiator(), acceptor()
    negotiate = client.step(b"")
    token = client.step(server.step(negotiate))
    log_on(server, token)
    other = acceptor()
    other.step(negotiate)
    assert_denied(other, token)


# --- lies in lengths and offsets ---

FIELDS = {"lm": 12, "nt": 20, "domain": 28, "user": 36, "workstation": 44, "key": 52}


@pytest.mark.requirement("defect.ntlm-offsets")
@pytest.mark.parametrize("at", FIELDS.values(), ids=FIELDS)
def test_no_length_and_offset_but_the_right_ones_log_on(at):
    server, client = begun()
    token = client.authenticate(workstation=b"P\0")
    right = struct.unpack_from("<HHI", token, at)
    offsets = (0, 1, 63, 64, 71, 72, 87, 88, right[2], right[2] + 1, len(token) - 1, len(token), 0x7FFFFFFF, 0xFFFFFFF0)
    for length, offset in itertools.product((0, 1, 2, 16, 24, 25, 48, right[0], 0x7FFF, 0xFFFF), offsets):
        if (length, offset) == (right[0], right[2]):
            continue
        server, client = begun()
        token = client.authenticate(workstation=b"P\0")
        assert_denied(server, token[:at] + struct.pack("<HHI", length, length, offset) + token[at + 8 :])


@pytest.mark.requirement("defect.ntlm-truncation")
def test_every_truncation_is_refused():
    length = len(begun()[1].authenticate())
    for size in range(length):
        server, client = begun()
        assert_denied(server, client.authenticate()[:size])


@pytest.mark.parametrize("token", [b"", b"N", b"NTLMSSP", b"NTLMSSP\0", b"NTLMSSP\0\1\0\0\0", b"\x60\x01", bytes(100)])
def test_first_token_that_is_no_negotiate_is_refused(token):
    server = acceptor()
    with pytest.raises(RemoteProtocolError):
        server.step(token)
    with pytest.raises(LocalProtocolError):
        server.step(initiator().step(b""))


def test_authenticate_cannot_come_first_nor_negotiate_twice():
    server, client = begun()
    token = client.authenticate()
    with pytest.raises(RemoteProtocolError, match="type 1"):
        acceptor().step(token)
    with pytest.raises(RemoteProtocolError, match="type 3"):
        server.step(client.negotiate)


# --- order of calls ---


def test_step_while_a_lookup_is_out_is_a_local_error_that_changes_nothing():
    server, client = begun()
    token = client.authenticate()
    server.step(token)
    with pytest.raises(LocalProtocolError):
        server.step(token)
    assert server.resume(ALICE) == b""
    assert server.complete


def test_answer_to_nothing_is_a_local_error():
    server = acceptor()
    with pytest.raises(LocalProtocolError):
        server.resume(ALICE)
    converse(initiator(), server)
    with pytest.raises(LocalProtocolError):
        server.resume(ALICE)
    assert server.complete


def test_answer_counts_once():
    server, client = begun()
    assert_denied(server, client.authenticate(), WRONG)
    with pytest.raises(LocalProtocolError):
        server.resume(ALICE)


def test_token_after_completion_is_refused():
    server, client = begun()
    token = client.authenticate()
    log_on(server, token)
    with pytest.raises(RemoteProtocolError):
        server.step(token)


def test_a_token_after_the_logon_is_refused():
    server, client = begun()
    log_on(server, token := client.authenticate())
    with pytest.raises(RemoteProtocolError, match="ntlm is complete"):
        server.step(token)


# --- channel bindings ---

BINDINGS = b"tls-server-end-point:" + bytes(32)


@pytest.mark.requirement("defect.channel-bindings")
@pytest.mark.parametrize("theirs", [None, BINDINGS])
@pytest.mark.parametrize("ours", [None, BINDINGS])
def test_bindings_of_one_channel_log_on(ours, theirs):
    client, server = initiator(channel_bindings=theirs), acceptor(channel_bindings=ours)
    converse(client, server)
    assert server.complete


def test_a_client_that_says_nothing_of_bindings_is_let_in_by_a_server_that_has_some():
    """The pair is left out, as it is not by a client that says it has none."""
    server, client = begun(channel_bindings=BINDINGS)
    log_on(server, client.authenticate())
    assert server.complete


@pytest.mark.requirement("defect.channel-bindings")
def test_bindings_of_another_channel_are_refused():
    client, server = initiator(channel_bindings=b"tls-server-end-point:other"), acceptor(channel_bindings=BINDINGS)
    with pytest.raises(AuthenticationError) as caught:
        converse(client, server)
    assert caught.value.security_status is SecurityStatus.SEC_E_BAD_BINDINGS
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert not server.complete


# --- the identity ---


def test_stand_alone_machine_is_its_own_domain():
    identity = NTLMIdentity("SRV")
    assert identity.target_name.decode("utf-16-le") == "SRV"
    assert identity.target_type == Flags.TARGET_TYPE_SERVER
    assert NTLMIdentity("SRV", "CONTOSO").target_type == Flags.TARGET_TYPE_DOMAIN


@pytest.mark.parametrize(
    ("own", "computer", "domain"),
    [
        (["SRV"], "SRV", "SRV"),
        (["SRV", "", "srv.home"], "srv.home", "srv.home"),
        (["SRV", "CONTOSO"], "SRV", None),
        (["SRV", "CONTOSO", "srv.contoso.test", "contoso.test"], "srv.contoso.test", "contoso.test"),
    ],
)
def test_a_challenge_never_lacks_the_dns_name_of_the_computer(own, computer, domain):
    """impacket's client makes its target name of it, and fails where there is none."""
    pairs = decode_av_pairs(NTLMIdentity(*own).names + bytes(4), "names")
    names = {av_id: value.decode("utf-16-le") for av_id, value in pairs.items()}
    assert names[AvId.DNS_COMPUTER_NAME] == computer
    assert names.get(AvId.DNS_DOMAIN_NAME) == domain


def test_identity_needs_a_name():
    with pytest.raises(ValueError, match="netbios"):
        NTLMIdentity("")


@pytest.mark.interpreted_only("a compiled function tells the type of a wrong argument alone")
@pytest.mark.parametrize("field", ["netbios_computer", "netbios_domain", "dns_computer", "dns_domain", "dns_tree"])
def test_an_identity_names_the_field_that_is_no_text(field):
    with pytest.raises(TypeError, match=field):
        NTLMIdentity(**{"netbios_computer": "SRV"} | {field: b"SRV"})


def test_an_identity_can_be_copied():
    assert copy.copy(IDENTITY) == IDENTITY


def test_a_challenge_offers_what_the_client_asked_for_and_the_server_knows():
    negotiate = bytearray(initiator().step(b""))
    flags = int.from_bytes(negotiate[12:16], "little") & ~Flags.KEY_56 | Flags.OEM
    negotiate[12:16] = flags.to_bytes(4, "little")
    challenge = ChallengeMessage.decode(acceptor().step(bytes(negotiate)))
    assert challenge.flags & Flags.KEY_128
    assert not challenge.flags & (Flags.KEY_56 | Flags.OEM)


def test_the_names_in_a_challenge_end_with_the_mark_of_the_end():
    assert ChallengeMessage.decode(acceptor().step(initiator().step(b""))).target_info[-4:] == bytes(4)


def test_challenges_are_random():
    challenges = {ChallengeMessage.decode(acceptor().step(initiator().step(b""))).server_challenge for _ in range(20)}
    assert len(challenges) == 20


# --- secrets ---


def test_no_secret_in_repr_or_traceback():
    secret = Password(CANARY, "alice", "CONTOSO")
    client, server = initiator(secret), acceptor()
    converse(client, server, secret)
    values = [client, server, server._logon, secret, NTHash(secret.nt_hash), Deny(secret=secret), Candidates([secret])]
    texts = [repr(value) + str(value) for value in values]
    for answer in (secret, Candidates([secret]), Deny(secret=secret), ValueError(CANARY)):
        denied, by_hand = begun()
        with pytest.raises(CredSSPError) as caught:
            log_on(denied, by_hand.authenticate(secret=WRONG), answer)
        texts.append("".join(traceback.format_exception(caught.value)))
        texts.append(repr(caught.value) + repr(vars(caught.value)))
    for text in texts:
        assert CANARY not in text
        assert secret.nt_hash.hex() not in text
        assert repr(secret.nt_hash)[2:-1] not in text

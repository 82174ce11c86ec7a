"""NTLM messages with one byte changed, judged by us, by pyspnego and by sspi-rs: alike, or the difference has a reason.

sspilib brings sspi-rs on Linux, where it has NTLM for both sides. An AUTHENTICATE_MESSAGE is tried as it is after the
change, which its MIC betrays, and with a MIC made anew by somebody who has the session key.
"""

import pytest
from support import reference

from acredssp.credentials import Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.crypto import message_mic
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.mechanisms.ntlm.messages import with_mic
from acredssp.policy import Policy

ALICE = Password(reference.PASSWORD, reference.USER, reference.DOMAIN)
CREDENTIAL = NTLMCredential(ALICE, "CLIENT")
IDENTITY = NTLMIdentity("SERVER", reference.DOMAIN)
PEERS = {"pyspnego": reference.Pyspnego, "sspi-rs": reference.SSPIRs}
SLOWER_PEER_IS_THOROUGH = [pytest.param("pyspnego", marks=pytest.mark.thorough), "sspi-rs"]
BITS = (0x01, 0x80)

HEADER_OF_CHALLENGE = range(56)
PAIRS = range(70, 136)
"""The AV pairs of `IDENTITY`, behind its TargetName: domain at 70, computer at 88, both again, and the time."""
ANSWERS = range(12, 88)
"""The fixed part of an AUTHENTICATE_MESSAGE."""

WORKSTATION = range(44, 52)
"""Where the workstation's name lies. A changed place may be among random bytes, which are text or are none."""

CHALLENGE_DIFFERS = {
    "pyspnego": [
        (range(8), "it looks at neither the signature nor what lies in front of the type"),
        (range(12, 20), "it cuts fields that lie outside of the message"),
        (range(20, 21), "it does without UNICODE, whose absence we refuse"),
        (range(40, 48), "it cuts fields that lie outside of the message"),
        (PAIRS, "it cuts pairs that are too long, and a pair that it cannot decode ends it with another error"),
    ],
    "sspi-rs": [
        (range(20, 21), "it does without UNICODE, whose absence we refuse"),
        (PAIRS, "it refuses pairs that it does not know, which [MS-NLMP] 2.2.2.1 has everybody pass over"),
    ],
}
AUTHENTICATE_DIFFERS = {
    "pyspnego": [
        (range(12, 20), "it does not read the LM response, which nothing proves anything by"),
        (WORKSTATION, "it cuts a workstation's name that lies outside of the message"),
        (range(52, 54), "it takes 16 bytes of session key, whatever length is told"),
    ],
    "sspi-rs": [
        (WORKSTATION, "it does not read the workstation's name"),
        (range(60, 64), "it does without UNICODE, and makes the MIC over flags of its own"),
    ],
}
"""What a peer judges in another way than we do: the bytes, and why. We are the stricter side but for unknown pairs."""


@pytest.fixture(autouse=True)
def accounts(tmp_path, monkeypatch):
    path = tmp_path / "accounts"
    path.write_text(reference.ACCOUNTS, encoding="ascii")
    monkeypatch.setenv("NTLM_USER_FILE", str(path))


class Ours:
    """Our acceptor, with the accounts of the others."""

    def __init__(self):
        self._acceptor = NTLMAcceptor(Policy(), IDENTITY)
        self.unwrap = self._acceptor.unwrap

    def step(self, token):
        progress = self._acceptor.step(token)
        if isinstance(progress, bytes):
            return progress
        account = progress.principal.account
        return self._acceptor.resume(ALICE if (account.user, account.domain) == (ALICE.user, ALICE.domain) else None)


def changed(message, at, bit):
    return message[:at] + bytes([message[at] ^ bit]) + message[at + 1 :]


def accepts(call):
    """Whether a call ends well. pyspnego lets errors of Python out, too, which are refusals like others."""
    try:
        call()
    except (CredSSPError, reference.Refused):
        return False
    except Exception as error:
        if type(error).__module__.startswith("acredssp"):
            raise
        return False
    return True


def logs_on(acceptor, at, bit, signs):
    """Whether an acceptor lets in who changes a byte of the last message, and reads what he seals."""
    given = []

    def random(size):
        given.append(bytes(range(size)))
        return given[-1]

    initiator = NTLMInitiator(CREDENTIAL, target_name=f"TERMSRV/{reference.HOST}", random=random)
    negotiate = initiator.step(b"")
    challenge = acceptor.step(negotiate)
    message = changed(initiator.step(challenge), at, bit)
    if signs:
        message = with_mic(message, message_mic(given[-1][8:], negotiate, challenge, with_mic(message, bytes(16))))

    def last_step():
        acceptor.step(message)
        assert acceptor.unwrap(initiator.wrap(b"hello")) == b"hello"

    return accepts(last_step)


def answers(initiator, at, bit):
    """Whether an initiator answers a challenge with a changed byte."""
    negotiate = initiator.step(None if isinstance(initiator, reference.Authenticator) else b"")
    challenge = NTLMAcceptor(Policy(), IDENTITY, now=lambda: 0x01DD8053_25FBEF34).step(negotiate)
    return accepts(lambda: initiator.step(changed(challenge, at, bit)))


def without(places, differences):
    return [at for at in places if not any(at in each for each, _ in differences)]


@pytest.mark.parametrize("signs", [False, True], ids=["as_it_is", "signed_anew"])
@pytest.mark.parametrize("peer", SLOWER_PEER_IS_THOROUGH)
def test_acceptors_judge_a_changed_answer_alike(peer, signs):
    for at in without(ANSWERS, AUTHENTICATE_DIFFERS[peer]):
        for bit in BITS:
            ours, theirs = logs_on(Ours(), at, bit, signs), logs_on(PEERS[peer].acceptor("ntlm"), at, bit, signs)
            assert ours is theirs, f"byte {at}, bit {bit:#x}: we {ours}, {peer} {theirs}"


@pytest.mark.parametrize("signs", [False, True], ids=["as_it_is", "signed_anew"])
@pytest.mark.parametrize("peer", SLOWER_PEER_IS_THOROUGH)
def test_we_let_nobody_in_whom_another_acceptor_refuses(peer, signs):
    for at in without(ANSWERS, [(WORKSTATION, "")]):
        for bit in BITS:
            if logs_on(Ours(), at, bit, signs):
                assert logs_on(PEERS[peer].acceptor("ntlm"), at, bit, signs), f"byte {at}, bit {bit:#x}"


@pytest.mark.parametrize("peer", PEERS)
def test_initiators_answer_a_changed_challenge_alike(peer):
    for at in without([*HEADER_OF_CHALLENGE, *PAIRS], CHALLENGE_DIFFERS[peer]):
        for bit in BITS:
            ours = answers(NTLMInitiator(CREDENTIAL, target_name=""), at, bit)
            theirs = answers(PEERS[peer].initiator("ntlm"), at, bit)
            assert ours is theirs, f"byte {at}, bit {bit:#x}: we {ours}, {peer} {theirs}"


@pytest.mark.parametrize("peer", PEERS)
def test_nobody_answers_a_challenge_of_a_foreign_type_and_no_listed_difference_is_stale(peer):
    """Each entry of the tables is seen to differ in one of its bytes."""
    for places, why in CHALLENGE_DIFFERS[peer]:
        assert any(
            answers(NTLMInitiator(CREDENTIAL, target_name=""), at, bit)
            is not answers(PEERS[peer].initiator("ntlm"), at, bit)
            for at in places
            for bit in BITS
        ), why
    assert not any(answers(PEERS[peer].initiator("ntlm"), at, 0x01) for at in range(8, 12))

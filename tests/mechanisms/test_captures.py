"""Every recorded NTLM conversation again, from the account's password alone, through our acceptor and initiator.

The acceptor is given the recorded challenge in place of its own. From there on everything it makes is determined: the
proof, the keys, the MICs and each sealed byte must be the recorded ones.
"""

import hashlib
import re

import pytest
from support.ntlm import IDENTITY, SPN
from vectors.load import captures

from acredssp.credentials import Password
from acredssp.errors import AuthenticationError
from acredssp.mechanisms.base import LookupCredential
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateInitiator
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.mechanisms.ntlm.messages import ChallengeMessage
from acredssp.policy import Policy
from acredssp.status import NTSTATUS
from acredssp.wire.spnego import NegTokenResp, TokenKind, token_kind

C2S, S2C = b"CredSSP Client-To-Server Binding Hash\0", b"CredSSP Server-To-Client Binding Hash\0"
WINBIND = {("ACRED", "alice"): "Passw0rd!1"}
"""The account of the recordings whose acceptor asked a domain controller: those files name none."""


def has_authenticate(capture):
    return any("4e544c4d5353500003000000" in text for _, text, _ in tokens(capture))


def tokens(capture):
    """(direction, token in hex, decoded TSRequest) of each message; no token is "".

    FreeRDP servers repeat their last token beside pubKeyAuth, and refuse with a token of zeros: both count as none.
    """
    seen, found = set(), []
    for message in capture.messages:
        text = (message.decoded["nego_tokens"] or [""])[0]
        fresh = (message.direction, text) not in seen and text.strip("0") != ""
        seen.add((message.direction, text))
        found.append((message.direction, text if fresh else "", message.decoded))
    return found


PROVEN = [capture for capture in captures() if capture.get("session_key") and has_authenticate(capture)]
DENIED = [capture for capture in captures() if has_authenticate(capture) and not capture.get("session_key")]


def first_token(capture):
    return next(text for direction, text, _ in tokens(capture) if direction == "c2s")


NTLM_ALONE = "604806062b0601050502a03e303ca00e300c"
REPLAYED_BY_INITIATOR = [
    capture
    for capture in PROVEN
    if capture["result"] == "success" and first_token(capture).startswith(("4e544c4d", NTLM_ALONE))
]
"""Not those whose client offered Kerberos too: the server's mechListMIC covers another list than ours."""


def password(capture, principal):
    known = dict(WINBIND)
    for line in capture.get("accounts") or ():
        domain, user, secret = line.split(":", 2)
        known[domain, user] = secret
    if credentials := capture.get("credentials"):
        known[credentials["domain"], credentials["user"]] = credentials["password"]
    return Password(known.get((principal.domain, principal.user)) or known["", principal.user])


class Replay:
    """An acceptor that goes through a recorded conversation."""

    def __init__(self, capture, answer=None):
        self.capture = capture
        self.answer = answer
        self.ntlm = NTLMAcceptor(Policy(), IDENTITY)
        self.acceptor = DetectingAcceptor([self.ntlm])
        self.sent = []
        self.recorded_mics = []
        self.unsealed = {}
        self.sealed = {}

    def run(self):
        for direction, text, decoded in tokens(self.capture):
            token = bytes.fromhex(text)
            if direction == "s2c":
                self.take_challenge(token)
                if decoded["pub_key_auth"]:
                    self.sealed["pub_key_auth"] = bytes.fromhex(decoded["pub_key_auth"])
                continue
            if token and not self.acceptor.complete:
                self.sent.append(self.step(token))
            for field in ("pub_key_auth", "auth_info"):
                if decoded[field] and self.acceptor.complete:
                    self.unsealed[field] = self.acceptor.unwrap(bytes.fromhex(decoded[field]))
        return self

    def step(self, token):
        progress = self.acceptor.step(token)
        if isinstance(progress, LookupCredential):
            progress = self.acceptor.resume(self.answer or password(self.capture, progress.principal))
        return progress

    def take_challenge(self, token):
        at = token.find(b"NTLMSSP\0\2\0\0\0")
        if at >= 0:
            raw = token if at == 0 else NegTokenResp.decode(token).response_token
            self.ntlm._challenge = raw
            self.ntlm._server_challenge = ChallengeMessage.decode(raw).server_challenge
        elif token and token_kind(token) is TokenKind.SPNEGO_RESP:
            mic = NegTokenResp.decode(token).mech_list_mic
            if mic is not None:
                self.recorded_mics.append(mic)


def binding_values(capture):
    """The plaintexts of both pubKeyAuths, from the certificate and the nonce."""
    key = bytes.fromhex(capture["tls"]["subject_public_key"])
    if capture["negotiated_version"] < 5:
        return key, bytes((key[0] + 1,)) + key[1:]
    beside = [m.decoded for m in capture.messages if m.direction == "c2s" and m.decoded["pub_key_auth"]]
    nonce = bytes.fromhex(beside[0]["client_nonce"])
    return hashlib.sha256(C2S + nonce + key).digest(), hashlib.sha256(S2C + nonce + key).digest()


def test_there_are_captures_of_every_kind():
    assert len(PROVEN) > 40
    assert len(DENIED) > 10
    spnego = [c for c in PROVEN if any(text.startswith("60") for _, text, _ in tokens(c))]
    assert len(spnego) > 6


@pytest.mark.requirement("spnego.mic-sequence", "ntlm.raw-bytes")
@pytest.mark.parametrize("capture", PROVEN, ids=str)
def test_acceptor_makes_the_recorded_keys_mics_and_seals(capture):
    replay = Replay(capture).run()
    assert replay.acceptor.complete
    c2s, s2c = binding_values(capture)
    assert replay.unsealed["pub_key_auth"] == c2s
    if "auth_info" in replay.unsealed:
        assert replay.unsealed["auth_info"][:1] == b"\x30"
        recorded = capture.hex("ts_credentials_plain")
        assert recorded is None or replay.unsealed["auth_info"] == recorded
    elif capture["result"] == "success":
        pytest.fail("no authInfo was unsealed")
    if replay.recorded_mics:
        assert NegTokenResp.decode(replay.sent[-1]).mech_list_mic == replay.recorded_mics[0]
    # FreeRDP 3 servers seal another value below version 5, and echo ours when it came bundled: a fault of theirs.
    if capture["result"] == "success":
        assert replay.acceptor.wrap(s2c) == replay.sealed["pub_key_auth"]


@pytest.mark.parametrize("capture", DENIED, ids=str)
def test_acceptor_denies_the_recorded_wrong_passwords(capture):
    with pytest.raises(AuthenticationError) as caught:
        Replay(capture, Password("Passw0rd!")).run()
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE


@pytest.mark.parametrize("capture", REPLAYED_BY_INITIATOR, ids=str)
def test_initiator_takes_the_recorded_servers_answers(capture):
    key = capture.hex("session_key")  # the recorded one, not a new one: it is asked for behind the client's challenge
    random = lambda size: bytes(size - len(key)) + key  # noqa: E731
    raw = first_token(capture).startswith("4e544c4d")
    inner = NTLMInitiator(NTLMCredential(Password("x", "alice")), target_name=SPN, random=random)
    client = inner if raw else NegotiateInitiator([inner])
    client.step(b"")
    for direction, text, decoded in tokens(capture):
        if direction == "s2c":
            if text and not client.complete:
                client.step(bytes.fromhex(text))
            if decoded["pub_key_auth"] and capture["negotiated_version"] >= 5:
                assert client.unwrap(bytes.fromhex(decoded["pub_key_auth"])) == binding_values(capture)[1]
    assert client.complete


def test_recorded_principals_are_who_they_said():
    names = {str(Replay(capture).run().acceptor.principal) for capture in PROVEN}
    assert {"CONTOSO\\alice", "bob@contoso.com"} <= names
    targets = {Replay(capture).run().acceptor.principal.target_name for capture in PROVEN}
    assert all(re.fullmatch(r"TERMSRV/\S+", target) for target in targets)


def test_replay_needs_the_right_password():
    for capture in PROVEN:
        with pytest.raises(AuthenticationError):
            Replay(capture, Password("other")).run()

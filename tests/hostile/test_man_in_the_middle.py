"""Somebody between a good client and a good server: he may break the logon, he may not have it.

CVE-2018-0886 (relay of a logon bound to nothing that was fresh), CVE-2019-1040 and its successors (NTLM's MIC taken
away), CVE-2014-8650 (no proof of the server asked for).
"""

import dataclasses

import pytest
from support.engine import converse
from support.logon import (
    MECHANISMS,
    TLS_POLICIES,
    attack,
    bare_pair,
    carries,
    client,
    come_up,
    established,
    flights,
    policy_of,
    public_key,
    say,
    server,
    tls_peer,
)

from acredssp.core.binding import client_value, server_value
from acredssp.core.events import Delegate
from acredssp.core.states import State
from acredssp.delegation import DelegationPolicy, EncryptionOracle
from acredssp.errors import CredSSPError, PolicyError, PublicKeyMismatch, RemoteProtocolError
from acredssp.mechanisms.ntlm.messages import AvId, Flags
from acredssp.policy import FIRST_SAFE_VERSION, Policy
from acredssp.status import SecurityStatus
from acredssp.wire.ts_request import TSRequest

VERSIONS = range(2, 7)
every_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS)


# --- relay: he ends TLS on both sides with a key of his own ---


class Relay:
    """Between a client and a server, with TLS to both, handing on whatever plaintext comes."""

    def __init__(self, victim, target, policy):
        self.victim, self.target = victim, target
        self.as_server = tls_peer(policy, server_side=True, key_type="ec")
        self.as_client = tls_peer(policy, server_side=False)
        self.seen = []

    def run(self):
        """The error that ends it; every TSRequest that he could read is in `seen`."""
        message = come_up(self.victim, self.as_server)
        come_up(self.target, self.as_client)
        try:
            while message:
                self.seen.append(("c2s", TSRequest.decode(message)))
                reply = say(self.target, self.as_client, message)
                self.seen.append(("s2c", TSRequest.decode(reply)))
                message = say(self.victim, self.as_server, reply)
        except CredSSPError as error:
            return error
        raise AssertionError("the relay went through")


@pytest.mark.requirement("binding.order", "defect.relay")
@every_mechanism
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tls", TLS_POLICIES)
def test_relay_with_another_key_fails_before_credentials_at_every_version(tls, version, mechanism):
    policy = dataclasses.replace(
        TLS_POLICIES[tls],
        dangerous_allow_legacy_versions=True,
        min_version=2,
        max_version=version,
        mechanism=mechanism,
    )
    victim = client(policy, key_type="ec")  # worst case: the victim trusts his certificate
    target = server(policy, key_type="rsa")
    relay = Relay(victim, target, policy)
    error = relay.run()
    assert isinstance(error, PublicKeyMismatch)
    assert any(message.pub_key_auth for direction, message in relay.seen if direction == "c2s")
    assert not any(message.auth_info for _, message in relay.seen)
    assert not any(message.pub_key_auth for direction, message in relay.seen if direction == "s2c")
    assert target.context.take_credentials() is None


CERTIFICATES = {"verified": Policy(), "unverified": Policy(dangerous_accept_any_certificate=True)}
"""What the victim makes of the certificate of the man in the middle: trusts it, or takes it unseen."""


@pytest.mark.requirement("binding.order", "defect.relay", "delegation.order", "delegation.encryption-oracle")
@every_mechanism
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("level", [None, *EncryptionOracle], ids=lambda level: level.name if level else "unset")
@pytest.mark.parametrize("certificate", ["verified", pytest.param("unverified", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("victims", ["his newest version", pytest.param("every version", marks=pytest.mark.thorough)])
def test_relay_with_another_key_gets_no_credential_at_any_level_of_the_policy(
    victims, certificate, level, version, mechanism
):
    """The victim speaks the version of the real server or a newer one; its policy and the server's have the level."""
    legacy = dataclasses.replace(
        CERTIFICATES[certificate], dangerous_allow_legacy_versions=True, min_version=2, mechanism=mechanism
    )
    delegation = DelegationPolicy(allow_encryption_oracle=level)
    ours = dataclasses.replace(legacy, max_version=version) if victims == "his newest version" else legacy
    theirs = dataclasses.replace(legacy, max_version=version)
    old, forced = version < FIRST_SAFE_VERSION, level is EncryptionOracle.FORCE_UPDATED_CLIENTS
    if old and (forced or (level is EncryptionOracle.MITIGATED and ours.max_version == version)):
        with pytest.raises(ValueError, match="AllowEncryptionOracle"):  # no version is left: there is no handshake
            delegation.for_server(delegation.for_client(theirs))
        return
    victim = client(ours, key_type="ec", delegation=delegation)
    target = server(delegation.for_server(theirs), key_type="rsa")
    asked = []
    answer = victim.answer
    victim.answer = lambda event: asked.append(type(event)) or answer(event)
    relay = Relay(victim, target, Policy())
    error = relay.run()
    allowed = not old or level in {None, EncryptionOracle.VULNERABLE}
    assert isinstance(error, PublicKeyMismatch if allowed else PolicyError)
    assert any(message.pub_key_auth for _, message in relay.seen) is allowed
    assert Delegate not in asked, "the policy is not even asked about a server that has not proven its key"
    assert not any(message.auth_info for _, message in relay.seen)
    assert not any(message.pub_key_auth for direction, message in relay.seen if direction == "s2c")
    assert target.context.take_credentials() is None


def test_relay_is_noticed_by_the_certificate_before_anything_of_the_logon():
    relay = Relay(client(key_type="rsa"), server(key_type="rsa"), Policy())
    with pytest.raises(CredSSPError) as caught:
        relay.run()
    assert caught.value.security_status is SecurityStatus.SEC_E_CERT_UNKNOWN
    assert relay.seen == []


@pytest.mark.requirement("defect.relay")
@pytest.mark.parametrize("old", [2, 3, 4])
@pytest.mark.parametrize("side", ["client", "server"])
def test_versions_that_can_be_relayed_are_refused_unless_asked_for(side, old):
    policies = [Policy(), policy_of(min_version=2, max_version=old)]
    ours, theirs = policies if side == "client" else reversed(policies)
    with pytest.raises(PolicyError, match=f"version {old}"):
        list(converse(client(ours, bare=True), server(theirs, bare=True)))


@pytest.mark.requirement("defect.relay")
@every_mechanism
@pytest.mark.parametrize("lie", [2, 3, 4, 5])
def test_version_lowered_on_the_way_never_leads_below_version_5(lie, mechanism):
    def lower(number, direction, flight):
        return dataclasses.replace(TSRequest.decode(flight), version=lie).encode() if flight else flight

    ends = bare_pair(mechanism)
    attack(*ends, lower)
    assert established(ends[0]) is established(ends[1]) is (lie == 5)
    if lie == 5:
        assert ends[0].context.info.version == ends[1].context.info.version == 5


@pytest.mark.requirement("binding.no-downgrade")
@every_mechanism
def test_nonce_taken_away_is_no_way_to_the_old_binding(mechanism):
    def strip(number, direction, flight):
        return dataclasses.replace(TSRequest.decode(flight), client_nonce=None).encode() if flight else flight

    ends = bare_pair(mechanism, policy_of(min_version=2))
    attack(*ends, strip)
    assert not established(ends[0])
    assert not established(ends[1])


# --- NTLM's MIC ---


def authenticate_at(flight: bytes) -> int:
    return flight.find(b"NTLMSSP\0\3\0\0\0")


@pytest.mark.requirement("defect.mic-tamper")
@every_mechanism
@pytest.mark.parametrize("value", [bytes(16), b"\xff" * 16], ids=["zeros", "ones"])
def test_mic_overwritten(value, mechanism):
    def overwrite(number, direction, flight):
        at = authenticate_at(flight)
        return flight if at < 0 else flight[: at + 72] + value + flight[at + 88 :]

    assert_broken(mechanism, overwrite)


@pytest.mark.requirement("defect.mic-tamper")
@every_mechanism
@pytest.mark.parametrize(
    "flag", [Flags.VERSION, Flags.SIGN, Flags.SEAL, Flags.KEY_EXCH, Flags.KEY_128, Flags.ALWAYS_SIGN]
)
@pytest.mark.parametrize("message", [1, 2, 3])
def test_flag_stripped_from_any_message(message, flag, mechanism):
    """CVE-2019-1040 took flags, the version and the MIC itself out of the messages on their way."""
    offset = {1: 12, 2: 20, 3: 60}[message]

    def strip(number, direction, flight):
        at = flight.find(b"NTLMSSP\0" + bytes([message, 0, 0, 0]))
        if at < 0:
            return flight
        field = slice(at + offset, at + offset + 4)
        flags = int.from_bytes(flight[field], "little")
        assert flags & flag
        return flight[: field.start] + (flags & ~flag).to_bytes(4, "little") + flight[field.stop :]

    assert_broken(mechanism, strip)


@pytest.mark.requirement("defect.mic-tamper")
@every_mechanism
def test_announcement_of_the_mic_cut_out_of_the_proof(mechanism):
    """The bit of MsvAvFlags is under the proof, so that who clears it has no proof any more (CVE-2019-1166)."""

    def clear(number, direction, flight):
        if authenticate_at(flight) < 0:
            return flight
        announced = bytes([AvId.FLAGS, 0, 4, 0, 2, 0, 0, 0])
        assert announced in flight
        return flight.replace(announced, announced[:4] + bytes(4))

    assert_broken(mechanism, clear)


@pytest.mark.requirement("defect.mic-tamper")
@every_mechanism
def test_names_of_the_server_changed_in_the_challenge(mechanism):
    def rename(number, direction, flight):
        return flight.replace("ACREDSSP".encode("utf-16-le"), "IMPOSTOR".encode("utf-16-le"))

    assert_broken(mechanism, rename)


def assert_broken(mechanism, tamper):
    ends = bare_pair(mechanism)
    attack(*ends, tamper)
    assert not established(ends[0])
    assert not established(ends[1])


# --- a server that never proves its key ---


def client_at_pub_key_auth(mechanism="ntlm"):
    """A client that has sent pubKeyAuth, the TSRequest in which it did, and the server's side of the seal."""
    victim, target = bare_pair(mechanism)
    flight = victim.step(b"")
    while not carries("pub_key_auth", flight):
        flight = victim.step(target.step(flight))
    return victim, target, TSRequest.decode(flight)


@pytest.mark.requirement("defect.short-seal", "defect.server-unproven")
@every_mechanism
@pytest.mark.parametrize(
    "proof",
    [b"", b"\0", bytes(15), bytes(16), bytes(48), bytes(100_000)],
    ids=["empty", "one_byte", "15", "16", "48", "large"],
)
def test_proof_that_opens_with_no_key(proof, mechanism):
    victim, _, _ = client_at_pub_key_auth(mechanism)
    with pytest.raises(RemoteProtocolError):
        victim.step(TSRequest(6, pub_key_auth=proof).encode())
    assert victim.context.farewell == b""


@pytest.mark.requirement("defect.server-unproven")
@every_mechanism
def test_own_value_sent_back_is_no_proof(mechanism):
    victim, _, request = client_at_pub_key_auth(mechanism)
    with pytest.raises(CredSSPError):
        victim.step(TSRequest(6, pub_key_auth=request.pub_key_auth).encode())


def wrong_proofs():
    key, other = public_key(), public_key("ec")
    nonce = b"n" * 32
    return {
        "the clients own hash": lambda n: client_value(6, n, key),
        "of another nonce": lambda n: server_value(6, nonce, key),
        "of another key": lambda n: server_value(6, n, other),
        "of no key": lambda n: server_value(6, n, b""),
        "in the old form": lambda n: server_value(4, None, key),
        "the key itself": lambda n: key,
        "nothing": lambda n: b"",
        "cut": lambda n: server_value(6, n, key)[:-1],
        "with a byte more": lambda n: server_value(6, n, key) + b"\0",
    }


@pytest.mark.requirement("defect.server-unproven")
@pytest.mark.parametrize("name", wrong_proofs())
def test_proof_that_is_sealed_rightly_and_says_something_else(name):
    victim, target, request = client_at_pub_key_auth()
    target.step(dataclasses.replace(request, pub_key_auth=None).encode())
    sealed = target.context.handshake.mechanism.wrap(wrong_proofs()[name](request.client_nonce))
    with pytest.raises(PublicKeyMismatch):
        victim.step(TSRequest(6, pub_key_auth=sealed).encode())
    assert victim.context.state is State.FAILED


@pytest.mark.requirement("defect.server-unproven")
@every_mechanism
def test_server_that_only_ever_sends_tokens(mechanism):
    """It could want the client to give up waiting for a proof; the client gives up the logon."""
    victim, _, _ = client_at_pub_key_auth(mechanism)
    with pytest.raises(CredSSPError):
        for _ in range(Policy().max_rounds + 1):
            assert victim.step(TSRequest(6, nego_token=b"one more").encode()) == b""


@pytest.mark.requirement("defect.server-unproven")
@every_mechanism
@pytest.mark.parametrize(
    "reply", [TSRequest(6), TSRequest(6, auth_info=b"x" * 64), TSRequest(6, client_nonce=bytes(32))]
)
def test_server_that_skips_its_proof(reply, mechanism):
    victim, _, _ = client_at_pub_key_auth(mechanism)
    with pytest.raises(RemoteProtocolError):
        victim.step(reply.encode())


# --- what was said once is worth nothing later ---


@pytest.mark.requirement("defect.session-reuse")
@every_mechanism
def test_recorded_client_cannot_be_played_again(mechanism):
    said = [flight for flight in flights(mechanism) if flight]
    target = server(bare=True)
    target.step(said[0])
    with pytest.raises(CredSSPError):
        for flight in said[2::2]:
            target.step(flight)
    assert target.context.take_credentials() is None


@pytest.mark.requirement("defect.session-reuse")
@every_mechanism
def test_recorded_server_cannot_be_played_again(mechanism):
    said = [flight for flight in flights(mechanism) if flight]
    victim = client(Policy(mechanism=mechanism), bare=True)
    victim.step(b"")
    with pytest.raises(CredSSPError):
        for flight in said[1::2]:
            assert not carries("auth_info", victim.step(flight))


def test_client_talking_to_itself_authenticates_nobody():
    """Reflection: what a client says is no answer to a client."""
    victim, mirror = client(bare=True), client(bare=True)
    said = victim.step(b"")
    mirror.step(b"")
    with pytest.raises(CredSSPError):
        for _ in range(5):
            said = victim.step(mirror.step(said))
    assert not established(victim)

"""Every recorded Kerberos conversation again through our whole engine: what it sends must be the recorded bytes."""

import pytest
from support.engine import CUTS, End, feed
from support.recorded_kerberos import Offered, RecordedAcceptor, RecordedInitiator, logons, tokens_of

from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.errors import PublicKeyMismatch
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateInitiator
from acredssp.policy import Policy
from acredssp.wire import spnego, ts_credentials

CLIENTS = [capture for capture in logons() if capture["recorder_role"] == "server" and capture["result"] == "success"]
PAIRS = [capture for capture in logons() if tokens_of(capture).optimistic is None]
"""Not FreeRDP's clients, who offer user-to-user Kerberos first; those of which both ends can be played."""


def policy_of(version):
    return Policy(min_version=2, max_version=version, dangerous_allow_legacy_versions=True)


def public_key(capture):
    return bytes.fromhex(capture["tls"]["subject_public_key"])


def server_of(capture):
    acceptor = DetectingAcceptor([RecordedAcceptor(capture)])
    handshake = ServerHandshake(acceptor, policy_of(capture["server_version"]))
    return End(SecurityContext(handshake, None, public_key=public_key(capture)))


def client_of(capture):
    mechanism, tokens = RecordedInitiator(capture), tokens_of(capture)
    if tokens.mech_list is not None:
        others = [Offered(oid) for oid in tokens.offered if oid != spnego.KERBEROS]
        mechanism = NegotiateInitiator([mechanism, *others])
    sent = [message for message in capture.messages if message.direction == "c2s"]
    nonces = {message.decoded["client_nonce"] for message in sent} - {None}
    plaintext = capture.hex("ts_credentials_plain")
    credentials = ts_credentials.decode(plaintext) if plaintext else ts_credentials.TSPasswordCreds()
    handshake = ClientHandshake(
        mechanism,
        credentials,
        policy_of(sent[0].decoded["version"]),
        random=lambda _size: bytes.fromhex(nonces.pop()),
    )
    return End(SecurityContext(handshake, None, public_key=public_key(capture)))


def messages(capture, direction):
    return [message.data for message in capture.messages if message.direction == direction]


@pytest.mark.requirement("binding.echo", "binding.hash")
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("capture", CLIENTS, ids=str)
def test_our_server_answers_with_the_recorded_bytes(capture, cut):
    server = server_of(capture)
    replies = [feed(server, message, CUTS[cut]) for message in messages(capture, "c2s")]
    assert [reply for reply in replies if reply] == messages(capture, "s2c")
    assert server.done
    plaintext = capture.hex("ts_credentials_plain")
    assert server.context.take_credentials() == ts_credentials.decode(plaintext)
    assert (server.context.info.version, server.context.info.mechanism) == (capture["negotiated_version"], "kerberos")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("capture", [c for c in PAIRS if c["result"] == "success"], ids=str)
def test_our_client_sends_the_recorded_bytes(capture, cut):
    client = client_of(capture)
    sent = [client.step(b"")] + [feed(client, message, CUTS[cut]) for message in messages(capture, "s2c")]
    assert sent == messages(capture, "c2s")
    assert client.done


@pytest.mark.parametrize("capture", [c for c in PAIRS if c["result"] == "server pubKeyAuth mismatch"], ids=str)
def test_our_client_refuses_a_freerdp_3_server_below_version_5(capture):
    client = client_of(capture)
    sent = [client.step(b"")]
    with pytest.raises(PublicKeyMismatch):
        sent.extend(client.step(message) for message in messages(capture, "s2c"))
    assert sent == messages(capture, "c2s")


@pytest.mark.parametrize("capture", CLIENTS, ids=str)
def test_our_server_refuses_the_recorded_client_on_another_channel(capture):
    server = server_of(capture)
    server.context.handshake.public_key = b"\x30" + server.context.handshake.public_key[1:-1] + b"\0"
    with pytest.raises(PublicKeyMismatch):
        for message in messages(capture, "c2s"):
            server.step(message)
    assert server.context.state is State.FAILED
    assert server.context.take_credentials() is None

"""Every recorded conversation of a client with a CredSSP server, again through our whole engine, at any cut.

The server's NTLM challenge is the recorded one; from there on the sealed answers must be the recorded bytes, and what
the client delegated must come out. The shape is the bare one: recordings hold TSRequests, not TLS records.
"""

import pytest
from support.engine import CUTS, End, feed
from vectors.load import captures

from acredssp.core.context import SecurityContext
from acredssp.core.events import LookupCredential
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.credentials import Candidates, Password
from acredssp.errors import AuthenticationError, CredSSPError
from acredssp.mechanisms.negotiate import DetectingAcceptor
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.messages import ChallengeMessage
from acredssp.policy import Policy
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.wire import ts_credentials
from acredssp.wire.ts_request import TSRequest

CLIENTS = [
    capture
    for capture in captures()
    if capture.get("recorder_role") == "server" and b"NTLMSSP\0\2" in b"".join(m.data for m in capture.messages)
]
ESTABLISHED = [capture for capture in CLIENTS if capture.get("ts_credentials_plain")]
DENIED = [capture for capture in CLIENTS if "auth failure" in str(capture.get("result"))]
NEGOTIATE = b"NTLMSSP\0\1\0\0\0"
DOMAIN_USERS = ("Passw0rd!1",)
"""The password of the recordings whose acceptor asked a domain controller: those files name no account."""


class RecordedNTLM:
    """An acceptor that sends the recorded CHALLENGE_MESSAGE."""

    def __init__(self, capture) -> None:
        self._acceptor = NTLMAcceptor(Policy(), NTLMIdentity("RECORDED"))
        replies = b"".join(message.data for message in capture.messages if message.direction == "s2c")
        start = replies.index(b"NTLMSSP\0\2\0\0\0")
        info_length = int.from_bytes(replies[start + 40 : start + 42], "little")
        info_offset = int.from_bytes(replies[start + 44 : start + 48], "little")
        self.recorded = replies[start : start + info_offset + info_length]

    def __getattr__(self, name):
        return getattr(self._acceptor, name)

    def step(self, token: bytes):
        progress = self._acceptor.step(token)
        if not token.startswith(NEGOTIATE):
            return progress
        self._acceptor._challenge = self.recorded
        self._acceptor._server_challenge = ChallengeMessage.decode(self.recorded).server_challenge
        return self.recorded


def server_of(capture, passwords) -> End:
    policy = Policy(min_version=2, max_version=capture["server_version"], dangerous_allow_legacy_versions=True)
    handshake = ServerHandshake(DetectingAcceptor([RecordedNTLM(capture)]), policy)
    key = bytes.fromhex(capture["tls"]["subject_public_key"])
    secrets = Candidates([Password(password) for password in passwords])
    return End(
        SecurityContext(handshake, None, public_key=key),
        lambda event: secrets if isinstance(event, LookupCredential) else True,
    )


def passwords_of(capture) -> list[str]:
    return [account.split(":", 2)[2] for account in capture.get("accounts") or []] or list(DOMAIN_USERS)


def test_there_are_recordings_of_either_end():
    assert len(ESTABLISHED) > 25
    assert len(DENIED) > 8


@pytest.mark.requirement("binding.echo", "binding.hash")
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("capture", ESTABLISHED, ids=str)
def test_a_recorded_client_is_let_in(capture, cut):
    server = server_of(capture, passwords_of(capture))
    replies = [feed(server, m.data, CUTS[cut]) for m in capture.messages if m.direction == "c2s"]
    assert server.done
    ours = [TSRequest.decode(reply).pub_key_auth for reply in replies if reply]
    theirs = [TSRequest.decode(m.data).pub_key_auth for m in capture.messages if m.direction == "s2c"]
    assert [sealed for sealed in ours if sealed] == [sealed for sealed in theirs if sealed]
    plaintext = bytes.fromhex(capture["ts_credentials_plain"])
    assert server.context.take_credentials() == ts_credentials.decode(plaintext)
    assert server.context.info.version == capture["negotiated_version"]


@pytest.mark.parametrize("capture", DENIED, ids=str)
def test_a_recorded_wrong_password_is_refused(capture):
    server = server_of(capture, ["another password"])
    with pytest.raises(AuthenticationError) as caught:
        for message in capture.messages:
            if message.direction == "c2s":
                server.step(message.data)
    assert caught.value.nt_status is NTSTATUS.STATUS_LOGON_FAILURE
    assert caught.value.security_status is SecurityStatus.SEC_E_LOGON_DENIED
    assert TSRequest.decode(server.context.farewell).error_code == 0xC000006D


@pytest.mark.parametrize("capture", ESTABLISHED, ids=str)
def test_a_recorded_client_of_another_channel_is_refused(capture):
    server = server_of(capture, passwords_of(capture))
    server.context.handshake.public_key = b"\x30" + server.context.handshake.public_key[1:-1] + b"\0"
    with pytest.raises(CredSSPError):
        for message in capture.messages:
            if message.direction == "c2s":
                server.step(message.data)
    assert server.context.state is State.FAILED
    assert server.context.take_credentials() is None

"""Helpers for tests of the mechanisms: contexts with fixed names, a driver, and AUTHENTICATE messages made by hand."""

import os

from acredssp.credentials import Password
from acredssp.mechanisms.base import AskOracle, LookupCredential
from acredssp.mechanisms.ntlm import crypto
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.mechanisms.ntlm.messages import (
    MIC_END,
    AuthenticateMessage,
    AvId,
    ChallengeMessage,
    NTLMv2Response,
    decode_av_pairs,
    encode_av_pairs,
    with_mic,
)
from acredssp.names import upper
from acredssp.policy import Policy

ALICE = Password("Passw0rd!", "alice", "CONTOSO")
WRONG = Password("wrong", "alice", "CONTOSO")
IDENTITY = NTLMIdentity("SRV", "CONTOSO", "srv.contoso.test", "contoso.test")
SPN = "TERMSRV/srv.contoso.test"


def initiator(credential=ALICE, **options):
    return NTLMInitiator(NTLMCredential(credential, "PC"), **{"target_name": SPN} | options)


def acceptor(policy=None, **options):
    return NTLMAcceptor(policy or Policy(), IDENTITY, **options)


def converse(client, server, answer=ALICE):
    """Carry tokens until nobody has one, with `answer` to every event; returns the tokens, client's first."""
    tokens = [client.step(b"")]
    while True:
        progress = server.step(tokens[-1])
        while isinstance(progress, LookupCredential | AskOracle):
            progress = server.resume(answer)
        if not progress:
            return tokens
        tokens.append(progress)
        reply = client.step(progress)
        if not reply:
            return tokens
        tokens.append(reply)


def assert_sealed_both_ways(client, server):
    for plaintext in (b"pubKeyAuth", b"", b"x" * 1000):
        assert server.unwrap(client.wrap(plaintext)) == plaintext
        assert client.unwrap(server.wrap(plaintext)) == plaintext


class HandMade:
    """A client that writes its AUTHENTICATE by hand: every part can be another than it should be.

    Args:
        server: An acceptor that has not begun.
        negotiate: The NEGOTIATE to send it.
    """

    def __init__(self, server, negotiate=None):
        self.negotiate = negotiate or initiator().step(b"")
        self.challenge = ChallengeMessage.decode(server.step(self.negotiate))
        self.session_key = os.urandom(16)

    def authenticate(
        self,
        *,
        secret=ALICE,
        user="alice",
        domain="CONTOSO",
        key_user=None,
        key_domain=None,
        mic=True,
        announce=None,
        flags=0,
        drop_flags=0,
        av_pairs=None,
        tail=bytes(4),
        **fields,
    ):
        """An AUTHENTICATE.

        `key_user` and `key_domain` are what goes into the key, in the case it is in; `announce` is what MsvAvFlags
        says of the MIC, `mic=False` leaves out its room as aardwolf does, `av_pairs` replaces the encoded pairs,
        `tail` is what follows them, `fields` replace fields of the message.
        """
        user, domain = (text if isinstance(text, bytes) else text.encode("utf-16-le") for text in (user, domain))
        pairs = decode_av_pairs(self.challenge.target_info, "test")
        if mic if announce is None else announce:
            pairs[AvId.FLAGS] = b"\2\0\0\0"
        temp = NTLMv2Response.encode_temp(
            bytes(8), b"\xaa" * 8, encode_av_pairs(pairs) if av_pairs is None else av_pairs
        )
        temp = temp[:-4] + tail
        key_user = upper(user.decode("utf-16-le", "replace")) if key_user is None else key_user
        key_domain = domain if key_domain is None else key_domain.encode("utf-16-le")
        key = crypto.hmac_md5(secret.nt_hash, key_user.encode("utf-16-le") + key_domain)
        proof = crypto.nt_proof(key, self.challenge.server_challenge, temp)
        message = AuthenticateMessage.encode(
            self.challenge.flags & ~drop_flags | flags,
            **{
                "domain": domain,
                "user": user,
                "workstation": b"",
                "lm_response": bytes(24),
                "nt_response": proof + temp,
                "encrypted_session_key": crypto.rc4(crypto.hmac_md5(key, proof), self.session_key),
            }
            | fields,
        )
        if not mic:
            return without_mic_field(message)
        return with_mic(message, crypto.message_mic(self.session_key, self.negotiate, self.challenge.raw, message))


def without_mic_field(message):
    """The same message with its payload at byte 72."""
    header = bytearray(message[:72])
    for at in range(16, 64, 8):
        header[at : at + 4] = (int.from_bytes(header[at : at + 4], "little") - 16).to_bytes(4, "little")
    return bytes(header) + message[MIC_END:]

"""The NTLM initiator: NEGOTIATE, then AUTHENTICATE with an NTLMv2 response and a MIC ([MS-NLMP] 3.1.5)."""

import enum
import secrets
from collections.abc import Callable
from typing import Final, NoReturn

from acredssp.credentials import AccountSecret
from acredssp.errors import LocalProtocolError, RemoteProtocolError
from acredssp.mechanisms.ntlm.context import REQUIRED_FLAGS, NTLMContext, require_flags
from acredssp.mechanisms.ntlm.crypto import (
    channel_bindings_hash,
    encode_text,
    hmac_md5,
    message_mic,
    nt_proof,
    ntowf_v2,
    rc4,
)
from acredssp.mechanisms.ntlm.messages import (
    AuthenticateMessage,
    AvFlags,
    AvId,
    AvPairs,
    ChallengeMessage,
    Flags,
    NegotiateMessage,
    NTLMv2Response,
    decode_av_pairs,
    encode_av_pairs,
    filetime_now,
    with_mic,
)

__all__ = ["NTLMInitiator"]

_NEGOTIATE_FLAGS: Final[int] = (
    REQUIRED_FLAGS | Flags.REQUEST_TARGET | Flags.NTLM | Flags.ALWAYS_SIGN | Flags.VERSION | Flags.KEY_56
)
_AUTHENTICATE_FLAGS: Final[int] = _NEGOTIATE_FLAGS | Flags.TARGET_INFO


class _State(enum.Enum):
    START = enum.auto()
    CHALLENGE = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


class NTLMInitiator(NTLMContext):
    """A client's NTLM context: NTLMv2 only, and always with a MIC.

    Call `step(b"")`, then `step(challenge)`: it is complete with the AUTHENTICATE_MESSAGE it answers with.

    Args:
        credential: Account and secret. `user@suffix` with an empty domain is sent as it is.
        target_name: The SPN of the server, `TERMSRV/host`; empty for none.
        workstation: The name of this machine to claim; empty for none.
        channel_bindings: The application data of the bindings (RFC 5929), None for none: CredSSP needs none.
        random: Gives as many random bytes as asked for.
        now: Gives the time as FILETIME; used only if the server sends no timestamp.
    """

    def __init__(  # noqa: PLR0913 -- all but the first are named
        self,
        credential: AccountSecret,
        *,
        target_name: str,
        workstation: str = "",
        channel_bindings: bytes | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
        now: Callable[[], int] = filetime_now,
    ) -> None:
        super().__init__()
        self._credential = credential
        self._target_name = encode_text(target_name)
        self._workstation = encode_text(workstation)
        self._bindings = bytes(16) if channel_bindings is None else channel_bindings_hash(channel_bindings)
        self._random = random
        self._now = now
        self._negotiate = b""
        self._state = _State.START

    def step(self, token: bytes) -> bytes:
        """Take nothing, then the CHALLENGE_MESSAGE; answer with the message to send.

        Raises:
            RemoteProtocolError: The token is no CHALLENGE_MESSAGE, or none that may be answered.
            PolicyError: The server offers no 128-bit sealing.
        """
        state = self._state
        if state is _State.FAILED:
            raise LocalProtocolError("the ntlm context has failed")
        self._state = _State.FAILED
        if state is _State.START:
            if token:
                raise RemoteProtocolError("an ntlm acceptor does not speak first")
            self._negotiate = NegotiateMessage.encode(_NEGOTIATE_FLAGS)
            self._state = _State.CHALLENGE
            return self._negotiate
        if state is _State.CHALLENGE:
            answer = self._authenticate(ChallengeMessage.decode(token))
            self._state = _State.DONE
            return answer
        raise RemoteProtocolError("ntlm is complete: expected no more tokens")

    def resume(self, answer: object) -> NoReturn:  # noqa: ARG002 -- the contract's name
        """An NTLM initiator waits for nobody."""
        raise LocalProtocolError("an ntlm initiator asks nothing")

    def _authenticate(self, challenge: ChallengeMessage) -> bytes:
        """AUTHENTICATE_MESSAGE ([MS-NLMP] 3.1.5.1.2)."""
        require_flags(challenge.flags, "challenge")
        target = decode_av_pairs(challenge.target_info, "challenge target info") if challenge.target_info else {}
        if AvId.NB_COMPUTER_NAME not in target and AvId.NB_DOMAIN_NAME not in target:
            raise RemoteProtocolError("ntlm challenge: expected the server's netbios names, got none")

        credential = self._credential
        domain = encode_text(credential.domain)
        response_key = ntowf_v2(credential.nt_hash, credential.user, domain)
        client_challenge = self._random(8)
        temp = NTLMv2Response.encode_temp(
            _timestamp(target) or self._now(), client_challenge, encode_av_pairs(self._respond_to(target))
        )
        proof = nt_proof(response_key, challenge.server_challenge, temp)
        if len(proof) + len(temp) > 0xFFFF:
            raise RemoteProtocolError(f"ntlm challenge: {len(challenge.target_info)} bytes of target info are too many")
        lm_response = bytes(24)
        if AvId.TIMESTAMP not in target:
            lm_response = hmac_md5(response_key, challenge.server_challenge + client_challenge) + client_challenge

        session_key = self._random(16)
        message = AuthenticateMessage.encode(
            challenge.flags & _AUTHENTICATE_FLAGS,
            domain=domain,
            user=encode_text(credential.user),
            workstation=self._workstation,
            lm_response=lm_response,
            nt_response=proof + temp,
            encrypted_session_key=rc4(hmac_md5(response_key, proof), session_key),
        )
        mic = message_mic(session_key, self._negotiate, challenge.raw, message)
        self.needs_mech_list_mic = True
        self._establish(session_key, initiator=True)
        return with_mic(message, mic)

    def _respond_to(self, target: AvPairs) -> AvPairs:
        """The server's AV pairs in its order, then ours."""
        flags = int.from_bytes(target.get(AvId.FLAGS, b"")[:4], "little") | AvFlags.MIC_PRESENT
        ours: AvPairs = {AvId.FLAGS: flags.to_bytes(4, "little"), AvId.CHANNEL_BINDINGS: self._bindings}
        if self._target_name:
            ours[AvId.TARGET_NAME] = self._target_name
        return {**target, **ours}


def _timestamp(target: AvPairs) -> int:
    """The server's FILETIME, 0 for none.

    Raises:
        RemoteProtocolError: MsvAvTimestamp has not 8 bytes.
    """
    value = target.get(AvId.TIMESTAMP, b"\0" * 8)
    if len(value) != 8:
        raise RemoteProtocolError(f"ntlm challenge: expected a timestamp of 8 bytes, got {len(value)}")
    return int.from_bytes(value, "little")

"""The NTLM initiator. It sends NEGOTIATE, then AUTHENTICATE with an NTLMv2 response and a MIC ([MS-NLMP] 3.1.5)."""

import enum
import functools
import secrets
from collections.abc import Callable
from typing import Final, NoReturn

from acredssp.credentials import AccountSecret
from acredssp.errors import LocalProtocolError, RemoteProtocolError
from acredssp.mechanisms.ntlm.context import REQUIRED_FLAGS, NTLMContext, require_flags
from acredssp.mechanisms.ntlm.crypto import (
    channel_bindings_hash,
    encode_text,
    hmac_blocks,
    hmac_md5_of,
    message_mic,
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
    encode_av_pair,
    filetime_now,
    with_mic,
)

__all__ = ["NTLMCredential", "NTLMInitiator"]

_NEGOTIATE_FLAGS: Final[int] = (
    REQUIRED_FLAGS | Flags.REQUEST_TARGET | Flags.NTLM | Flags.ALWAYS_SIGN | Flags.VERSION | Flags.KEY_56
)
_AUTHENTICATE_FLAGS: Final[int] = _NEGOTIATE_FLAGS | Flags.TARGET_INFO
_NEGOTIATE: Final = NegotiateMessage.encode(_NEGOTIATE_FLAGS)

_NB_COMPUTER_NAME: Final = int(AvId.NB_COMPUTER_NAME)
_NB_DOMAIN_NAME: Final = int(AvId.NB_DOMAIN_NAME)
_FLAGS: Final = int(AvId.FLAGS)
_TIMESTAMP: Final = int(AvId.TIMESTAMP)
_TARGET_NAME: Final = int(AvId.TARGET_NAME)
_CHANNEL_BINDINGS: Final = int(AvId.CHANNEL_BINDINGS)
_NO_BINDINGS: Final = encode_av_pair(_CHANNEL_BINDINGS, bytes(16))
_NO_TIME: Final = bytes(8)
_EOL: Final = bytes(4)
_TIME_HEADER: Final = encode_av_pair(_TIMESTAMP, bytes(8))[:4]
_NAMES: Final = frozenset(
    int(av_id)
    for av_id in (
        AvId.NB_COMPUTER_NAME, AvId.NB_DOMAIN_NAME, AvId.DNS_COMPUTER_NAME, AvId.DNS_DOMAIN_NAME, AvId.DNS_TREE_NAME,
    )
)  # fmt: skip
_SERVERS: Final = 64
"""How many servers' names are kept, to be recognized in one go."""
_LONGEST_KEPT: Final = 1024
"""The most bytes of target info of such a server."""


class _State(enum.Enum):
    START = enum.auto()
    CHALLENGE = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


_START: Final = _State.START
_CHALLENGE: Final = _State.CHALLENGE
_DONE: Final = _State.DONE
_FAILED: Final = _State.FAILED


class NTLMCredential:
    """An account in the form that logons need: the names in UTF-16LE, and NTOWFv2, which is as secret as the password.

    Make one for each account, and share it.

    Args:
        secret: The account and its secret. `user@suffix` with an empty domain is sent as it is.
        workstation: The name to send as this machine's; empty for none.
    """

    __slots__ = ("_key_blocks", "domain", "user", "workstation")

    def __init__(self, secret: AccountSecret, workstation: str = "") -> None:
        self.domain = encode_text(secret.domain)
        self.user = encode_text(secret.user)
        self.workstation = encode_text(workstation)
        self._key_blocks = hmac_blocks(ntowf_v2(secret.nt_hash, secret.user, self.domain))

    def hmac(self, message: bytes) -> bytes:
        """HMAC-MD5 of a message under NTOWFv2, the response key: 16 bytes."""
        return hmac_md5_of(self._key_blocks, message)


class NTLMInitiator(NTLMContext):
    """A client's NTLM context. It speaks NTLMv2 only, and always sends a MIC.

    Call `step(b"")`, then `step(challenge)`, which returns the AUTHENTICATE_MESSAGE. After that it is complete.

    Args:
        credential: The account that logs on.
        target_name: The SPN of the server, `TERMSRV/host`; empty for none.
        channel_bindings: The application data of the bindings (RFC 5929); None for none, since CredSSP needs none.
        random: Returns as many random bytes as asked for.
        now: Returns the time as FILETIME; used only if the server sends no timestamp.
    """

    __slots__ = ("_bindings", "_credential", "_now", "_random", "_state", "_target_name")

    def __init__(
        self,
        credential: NTLMCredential,
        *,
        target_name: str,
        channel_bindings: bytes | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
        now: Callable[[], int] = filetime_now,
    ) -> None:
        super().__init__()
        self._credential = credential
        name = encode_text(target_name)
        self._target_name = encode_av_pair(_TARGET_NAME, name) if name else b""
        self._bindings = _NO_BINDINGS
        if channel_bindings is not None:
            self._bindings = encode_av_pair(_CHANNEL_BINDINGS, channel_bindings_hash(channel_bindings))
        self._random = random
        self._now = now
        self._state = _START

    def step(self, token: bytes) -> bytes:
        """Take an empty token first, then the CHALLENGE_MESSAGE; return the message to send.

        Raises:
            RemoteProtocolError: The token is not a CHALLENGE_MESSAGE, or lacks what an answer needs.
            PolicyError: The server does not offer 128-bit sealing.
        """
        state = self._state
        if state is _FAILED:
            raise LocalProtocolError("the ntlm context has failed")
        self._state = _FAILED
        if state is _START:
            if token:
                raise RemoteProtocolError("ntlm: expected no token before the client's first, got one")
            self._state = _CHALLENGE
            return _NEGOTIATE
        if state is _CHALLENGE:
            answer = self._authenticate(ChallengeMessage.decode(token))
            self._state = _DONE
            return answer
        raise RemoteProtocolError("ntlm is complete: expected no more tokens")

    def resume(self, answer: object) -> NoReturn:  # noqa: ARG002 -- the contract's name
        """Refuse, since an NTLM initiator never waits for an answer."""
        raise LocalProtocolError("an ntlm initiator does not wait for an answer")

    def _authenticate(self, challenge: ChallengeMessage) -> bytes:
        """Make the AUTHENTICATE_MESSAGE ([MS-NLMP] 3.1.5.1.2)."""
        require_flags(challenge.flags, "challenge")
        info = challenge.target_info
        credential, server_challenge = self._credential, challenge.server_challenge
        random = self._random(24)
        client_challenge, session_key = random[:8], random[8:]
        timestamp, av_pairs = self._respond_to(info)
        temp = NTLMv2Response.encode_temp(
            self._now().to_bytes(8, "little") if timestamp is None or timestamp == _NO_TIME else timestamp,
            client_challenge,
            av_pairs,
        )
        proof = credential.hmac(server_challenge + temp)
        if len(proof) + len(temp) > 0xFFFF:
            raise RemoteProtocolError(f"ntlm challenge: {len(info)} bytes of target info are too many for an answer")
        lm_response = bytes(24)
        if timestamp is None:
            lm_response = credential.hmac(server_challenge + client_challenge) + client_challenge

        message = AuthenticateMessage.encode(
            challenge.flags & _AUTHENTICATE_FLAGS,
            domain=credential.domain,
            user=credential.user,
            workstation=credential.workstation,
            lm_response=lm_response,
            nt_response=proof + temp,
            encrypted_session_key=rc4(credential.hmac(proof), session_key),
        )
        mic = message_mic(session_key, _NEGOTIATE, challenge.raw, message)
        self.needs_mech_list_mic = True
        self._establish(session_key, initiator=True)
        return with_mic(message, mic)

    def _respond_to(self, info: bytes) -> tuple[bytes | None, bytes]:
        """The server's time, None where it tells none, and the answer to its target info.

        The answer has the server's AV pairs in its order, then ours, then MsvAvEOL. Our pairs replace those of the same
        id.

        Raises:
            RemoteProtocolError: The target info is malformed, or lacks the server's names.
        """
        # Servers send their names and the time, and send the same names each time.
        if (
            info[-16:-12] == _TIME_HEADER
            and info[-4:] == _EOL
            and len(info) <= _LONGEST_KEPT
            and _are_names(info[:-16])
        ):
            return info[-12:-4], b"".join((info[:-4], _OUR_FLAGS, self._bindings, self._target_name, _EOL))
        pairs = decode_av_pairs(info, "challenge target info", whole=True) if info else {}
        if not _has_names(pairs):
            raise RemoteProtocolError("ntlm challenge: expected the server's netbios names, got none")
        timestamp = _timestamp(pairs)
        pairs[_FLAGS] = _flags(pairs[_FLAGS]) if _FLAGS in pairs else _OUR_FLAGS
        pairs[_CHANNEL_BINDINGS] = self._bindings
        if self._target_name:
            pairs[_TARGET_NAME] = self._target_name
        return timestamp, b"".join(pairs.values()) + _EOL


def _has_names(pairs: AvPairs) -> bool:
    return _NB_COMPUTER_NAME in pairs or _NB_DOMAIN_NAME in pairs


@functools.lru_cache(_SERVERS)
def _are_names(data: bytes) -> bool:
    """Whether `data` is the AV pairs of a server's names, once each, and nothing else."""
    try:
        pairs = decode_av_pairs(data + _EOL, "challenge target info", whole=True)
    except RemoteProtocolError:
        return False
    return _has_names(pairs) and pairs.keys() <= _NAMES and b"".join(pairs.values()) == data


def _flags(theirs: bytes) -> bytes:
    """The whole pair MsvAvFlags, with the server's bits and MIC_PRESENT."""
    # A plain integer: a flag of every value that a server sends would be kept for ever.
    flags = int.from_bytes(theirs[4:8], "little") | int(AvFlags.MIC_PRESENT)
    return encode_av_pair(_FLAGS, flags.to_bytes(4, "little"))


_OUR_FLAGS: Final = _flags(b"")


def _timestamp(pairs: AvPairs) -> bytes | None:
    """The server's FILETIME, 8 bytes; None where it sends none.

    Raises:
        RemoteProtocolError: MsvAvTimestamp does not have 8 bytes.
    """
    pair = pairs.get(_TIMESTAMP)
    if pair is None:
        return None
    if len(pair) != 12:
        raise RemoteProtocolError(f"ntlm challenge: expected a timestamp of 8 bytes, got {len(pair) - 4}")
    return pair[4:]

"""The quiet questions of a probe, and what the answers tell. No question is a logon.

An NTLM logon is three messages: NEGOTIATE, the server's CHALLENGE, and AUTHENTICATE, which alone names a user and
proves a password. These questions end at the CHALLENGE, so the server has nothing to check, nothing to count and
nothing to log as a failure. The question for Kerberos offers it beside NTLM, and sends no ticket: a server without
Kerberos goes on with NTLM, and has no reason to refuse.
"""

import dataclasses
import datetime as dt
import enum
from typing import Final

from acredssp.errors import RemoteProtocolError
from acredssp.mechanisms.ntlm.messages import (
    AvId,
    ChallengeMessage,
    Flags,
    NegotiateMessage,
    decode_av_pairs,
    decode_text,
)
from acredssp.policy import NEWEST_VERSION
from acredssp.wire import der, spnego
from acredssp.wire.ts_request import TSRequest

__all__ = ["Answer", "ChallengeFacts", "FirstToken", "Question", "missing_bytes", "read_answer", "read_first_token"]

_FLAGS: Final[int] = (
    Flags.UNICODE
    | Flags.REQUEST_TARGET
    | Flags.SIGN
    | Flags.SEAL
    | Flags.NTLM
    | Flags.ALWAYS_SIGN
    | Flags.EXTENDED_SESSIONSECURITY
    | Flags.VERSION
    | Flags.KEY_128
    | Flags.KEY_EXCH
    | Flags.KEY_56
)
_MOST: Final = 64 * 1024
"""Bytes of the longest answer that is read. A CHALLENGE has some hundreds."""
_EPOCH: Final = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
_TICKS: Final = 10_000_000
"""The 100 ns units of a second."""
_LAST_TIMESTAMP: Final = 2_650_467_743_990_000_000
"""The last FILETIME that Python's dates have: the end of the year 9999."""
_VERSION_AT: Final = 48
_NAMES: Final = {
    spnego.NTLM: "ntlm",
    spnego.KERBEROS: "kerberos",
    spnego.KERBEROS_MICROSOFT: "kerberos",
    spnego.KERBEROS_USER_TO_USER: "kerberos user-to-user",
    spnego.NEGOEX: "negoex",
}


def _offer(mech_types: tuple[spnego.OID, ...]) -> bytes:
    """Return a NegTokenInit that offers mechanisms and has no token of any."""
    mech_types_field = der.encode(der.CONTEXT, spnego.encode_mech_list(mech_types))
    init = der.encode(der.CONTEXT, der.encode(der.SEQUENCE, mech_types_field))
    return der.encode(0x60, spnego.SPNEGO + init)


class Question(enum.Enum):
    """What a probe asks in its first and only message of CredSSP.

    Attributes:
        NTLM: NTLM's NEGOTIATE, without SPNEGO.
        NEGOTIATE: NTLM's NEGOTIATE, in SPNEGO.
        PREFERENCE: An offer of Kerberos and NTLM in SPNEGO, without a token of either: the server names the one that
            it takes.
    """

    NTLM = enum.auto()
    NEGOTIATE = enum.auto()
    PREFERENCE = enum.auto()

    @property
    def message(self) -> bytes:
        """The TSRequest that asks it."""
        return TSRequest(NEWEST_VERSION, _TOKENS[self]).encode()


_TOKENS: Final = {
    Question.NTLM: NegotiateMessage.encode(_FLAGS),
    Question.NEGOTIATE: spnego.NegTokenInit.encode(
        spnego.encode_mech_list((spnego.NTLM,)), NegotiateMessage.encode(_FLAGS)
    ),
    Question.PREFERENCE: _offer((spnego.KERBEROS_MICROSOFT, spnego.KERBEROS, spnego.NTLM)),
}


@dataclasses.dataclass(frozen=True, slots=True)
class ChallengeFacts:
    """What a server tells in its NTLM CHALLENGE, to anybody who asks. Nothing proves it.

    Attributes:
        netbios_computer: The server's short name.
        netbios_domain: Its domain's short name; on a server without a domain, its own.
        dns_computer: The server's DNS name.
        dns_domain: Its domain's DNS name.
        dns_forest: The DNS name of the domain's forest.
        build: The version that it gives, as `10.0.20348`.
        timestamp: Its clock; None where it sends none.
    """

    netbios_computer: str = ""
    netbios_domain: str = ""
    dns_computer: str = ""
    dns_domain: str = ""
    dns_forest: str = ""
    build: str = ""
    timestamp: dt.datetime | None = None

    @classmethod
    def of(cls, token: bytes) -> "ChallengeFacts":
        """Read a CHALLENGE_MESSAGE.

        Raises:
            RemoteProtocolError: The token is none.
        """
        challenge = ChallengeMessage.decode(token)
        info = challenge.target_info
        pairs = decode_av_pairs(info, "challenge target info") if info else {}

        def text(name: AvId) -> str:
            return decode_text(pairs.get(name, b""), name.name.lower())

        return cls(
            text(AvId.NB_COMPUTER_NAME),
            text(AvId.NB_DOMAIN_NAME),
            text(AvId.DNS_COMPUTER_NAME),
            text(AvId.DNS_DOMAIN_NAME),
            text(AvId.DNS_TREE_NAME),
            _build(challenge),
            _time(pairs.get(AvId.TIMESTAMP, b"")),
        )


def _build(challenge: ChallengeMessage) -> str:
    version = challenge.raw[_VERSION_AT : _VERSION_AT + 4]
    if not challenge.flags & Flags.VERSION or not any(version) or len(version) < 4:
        return ""
    return f"{version[0]}.{version[1]}.{int.from_bytes(version[2:4], 'little')}"


def _time(value: bytes) -> dt.datetime | None:
    ticks = int.from_bytes(value, "little")
    if len(value) != 8 or not 0 < ticks <= _LAST_TIMESTAMP:
        return None
    return _EPOCH + dt.timedelta(seconds=ticks / _TICKS)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer to a question.

    Attributes:
        version: The CredSSP version that the server gives.
        error_code: The NTSTATUS of a refusal; None where it refuses nothing.
        mechanism: The mechanism that the server goes on with; empty where it goes on with none.
        challenge: What its CHALLENGE tells; None where there is none.
        rejected: Whether it rejects every mechanism that was offered, in SPNEGO's words.
        problem: Why its token cannot be read; empty where it can, and where there is none.
    """

    version: int
    error_code: int | None = None
    mechanism: str = ""
    challenge: ChallengeFacts | None = None
    rejected: bool = False
    problem: str = ""

    @property
    def says_something(self) -> bool:
        """Whether it names a mechanism, or refuses one."""
        return bool(self.mechanism) or self.rejected or self.error_code is not None


def missing_bytes(data: bytes) -> int:
    """Return how many more bytes a TSRequest needs at least, of which `data` has come so far; 0 where it is whole.

    Raises:
        RemoteProtocolError: `data` begins no TSRequest.
        LimitExceeded: The message is longer than any answer.
    """
    return der.frame_size(data, _MOST).missing


def read_answer(data: bytes) -> Answer:
    """Read a server's answer, one whole TSRequest. A token in it that cannot be read is told in `problem`.

    Raises:
        RemoteProtocolError: `data` is no TSRequest.
    """
    request = TSRequest.decode(data)
    answer = Answer(request.version, request.error_code)
    token = request.nego_token or b""
    if not any(token):  # FreeRDP 3 refuses with zeros
        return answer
    try:
        return _with_token(answer, token)
    except RemoteProtocolError as error:
        return dataclasses.replace(answer, problem=error.message)


def _with_token(answer: Answer, token: bytes) -> Answer:
    match spnego.token_kind(token):
        case spnego.TokenKind.NTLM:
            return _with_challenge(dataclasses.replace(answer, mechanism="ntlm"), token)
        case spnego.TokenKind.SPNEGO_RESP:
            reply = spnego.NegTokenResp.decode(token)
            if reply.neg_state is spnego.NegState.REJECT:
                return dataclasses.replace(answer, rejected=True)
            named = dataclasses.replace(answer, mechanism=_NAMES.get(reply.supported_mech or b"", ""))
            return _with_challenge(named, reply.response_token or b"")
        case _:
            raise RemoteProtocolError("expected a token of ntlm or spnego, got another token")


def _with_challenge(answer: Answer, token: bytes) -> Answer:
    if not token.startswith(b"NTLMSSP\0"):
        return answer
    answer = dataclasses.replace(answer, mechanism=answer.mechanism or "ntlm")
    try:
        return dataclasses.replace(answer, challenge=ChallengeFacts.of(token))
    except RemoteProtocolError as error:
        return dataclasses.replace(answer, problem=error.message)


@dataclasses.dataclass(frozen=True, slots=True)
class FirstToken:
    """A client's first message of CredSSP.

    Attributes:
        version: The CredSSP version that the client gives.
        shape: `"spnego"`, `"ntlm"` or `"kerberos"`: what the token is, on its outside.
        mechanisms: The mechanisms that it offers, most preferred first; each once.
    """

    version: int
    shape: str
    mechanisms: tuple[str, ...]


def read_first_token(data: bytes) -> FirstToken:
    """Read a client's first message, one whole TSRequest.

    Raises:
        RemoteProtocolError: `data` holds no first token.
    """
    request = TSRequest.decode(data)
    token = request.nego_token or b""
    match spnego.token_kind(token):
        case spnego.TokenKind.NTLM:
            return FirstToken(request.version, "ntlm", ("ntlm",))
        case spnego.TokenKind.KERBEROS:
            return FirstToken(request.version, "kerberos", ("kerberos",))
        case spnego.TokenKind.SPNEGO_INIT:
            offered = spnego.NegTokenInit.decode(token).mech_types
            return FirstToken(
                request.version, "spnego", tuple(dict.fromkeys(_NAMES.get(each, "other") for each in offered))
            )
        case _:
            raise RemoteProtocolError("expected a first token of spnego, ntlm or kerberos, got another token")

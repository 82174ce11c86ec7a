"""The NTLM acceptor: it sends CHALLENGE, looks the account up, checks proof and MIC, and makes the keys.

It follows [MS-NLMP] 3.2.5.1, and fails closed. Every answer to the lookup that is not a secret is a refusal. An unknown
user costs the same work, and gets the same status, as a wrong password. Comparisons take constant time. Proofs and MICs
cover the received bytes, never bytes that are encoded again.
"""

import dataclasses
import enum
import hmac
import secrets
import struct
from collections.abc import Callable, Sequence
from typing import Final

from acredssp.arguments import expect
from acredssp.credentials import Account, AccountSecret, Candidates, Deny, NTHash, Oracle, Password
from acredssp.errors import AuthenticationError, LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.mechanisms.base import AskOracle, LookupCredential, NTLMExchange, Principal, Progress
from acredssp.mechanisms.ntlm.context import NTLMContext, require_flags
from acredssp.mechanisms.ntlm.crypto import (
    channel_bindings_hash,
    hmac_md5,
    keyed_names,
    message_mic,
    nt_proof,
    rc4,
)
from acredssp.mechanisms.ntlm.messages import (
    AuthenticateMessage,
    AvId,
    ChallengeMessage,
    Flags,
    NegotiateMessage,
    NTLMv2Response,
    decode_text,
    encode_av_pairs,
    filetime_now,
    with_mic,
)
from acredssp.policy import Policy
from acredssp.status import LOGON_STATUS, NTSTATUS, SecurityStatus, failure_status
from acredssp.values import made_by

__all__ = ["NTLMAcceptor", "NTLMIdentity"]

_OFFERED_IF_ASKED: Final[int] = (
    Flags.UNICODE
    | Flags.SIGN
    | Flags.SEAL
    | Flags.EXTENDED_SESSIONSECURITY
    | Flags.VERSION
    | Flags.KEY_128
    | Flags.KEY_EXCH
    | Flags.KEY_56
)
_ALWAYS_OFFERED: Final[int] = Flags.REQUEST_TARGET | Flags.NTLM | Flags.ALWAYS_SIGN | Flags.TARGET_INFO

_ANONYMOUS: Final = int(Flags.ANONYMOUS)
_TIMESTAMP: Final = int(AvId.TIMESTAMP)
_TARGET_NAME: Final = int(AvId.TARGET_NAME)
_CHANNEL_BINDINGS: Final = int(AvId.CHANNEL_BINDINGS)
_pack_timestamp = struct.Struct("<HHQHH").pack
"""Makes MsvAvTimestamp, with MsvAvEOL behind it."""
_NO_MIC: Final = bytes(16)
_NO_KEY: Final = bytes(16)
_NO: Final = Deny()
_STAND_IN: Final = secrets.token_bytes(16)
"""The hash that stands in for an unknown user's. It is made once, since the time to make one would show."""

_NOT_ABOUT_THE_ACCOUNT: Final = frozenset({NTSTATUS.STATUS_NO_LOGON_SERVERS})
"""Statuses that tell nothing about the account, so that a peer without the password may see them."""


@dataclasses.dataclass(frozen=True, slots=True)
class NTLMIdentity:
    """The server's own names in NTLM's challenge ([MS-NLMP] 3.2.1.1). Anybody who connects can read them.

    Make one and share it, since it keeps the encoded names.

    Attributes:
        netbios_computer: The machine's NetBIOS name.
        netbios_domain: The domain's NetBIOS name; empty for a stand-alone machine, whose domain is its own name.
        dns_computer: The machine's DNS name; empty for the NetBIOS name, as on a stand-alone machine. The challenge
            always has one: impacket's client fails without it.
        dns_domain: The domain's DNS name; empty for none. A stand-alone machine's domain is its own name.
        dns_tree: The DNS name of the forest; empty for none.
        target_name: TargetName of the challenge, UTF-16LE: the domain, or the name of a stand-alone machine.
        target_type: TARGET_TYPE_DOMAIN or TARGET_TYPE_SERVER.
        names: The AV pairs of the names, without MsvAvEOL.
    """

    netbios_computer: str
    netbios_domain: str = ""
    dns_computer: str = ""
    dns_domain: str = ""
    dns_tree: str = ""
    target_name: bytes = dataclasses.field(init=False, repr=False)
    target_type: int = dataclasses.field(init=False, repr=False)
    names: bytes = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("netbios_computer", "netbios_domain", "dns_computer", "dns_domain", "dns_tree"):
            expect(name, getattr(self, name), str)
        computer, domain = self.netbios_computer, self.netbios_domain or self.netbios_computer
        if not computer:
            raise ValueError(
                "netbios_computer: expected a name, got none: clients refuse an ntlm challenge without one"
            )
        alone = domain == computer
        dns_computer = self.dns_computer or computer
        # This is the order of Windows. Both NetBIOS names are compulsory ([MS-NLMP] 3.1.5.1.2).
        names = {
            AvId.NB_DOMAIN_NAME: domain,
            AvId.NB_COMPUTER_NAME: computer,
            AvId.DNS_DOMAIN_NAME: self.dns_domain or (dns_computer if alone else ""),
            AvId.DNS_COMPUTER_NAME: dns_computer,
            AvId.DNS_TREE_NAME: self.dns_tree,
        }
        pairs = {int(av_id): name.encode("utf-16-le") for av_id, name in names.items() if name}
        object.__setattr__(self, "target_name", domain.encode("utf-16-le"))
        target_type = Flags.TARGET_TYPE_SERVER if alone else Flags.TARGET_TYPE_DOMAIN
        object.__setattr__(self, "target_type", int(target_type))
        object.__setattr__(self, "names", encode_av_pairs(pairs)[:-4])

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return made_by(self)


class _State(enum.Enum):
    NEGOTIATE = enum.auto()
    AUTHENTICATE = enum.auto()
    LOOKUP = enum.auto()
    ORACLE = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


_NEGOTIATE: Final = _State.NEGOTIATE
_AUTHENTICATE: Final = _State.AUTHENTICATE
_LOOKUP: Final = _State.LOOKUP
_ORACLE: Final = _State.ORACLE
_DONE: Final = _State.DONE
_FAILED: Final = _State.FAILED


@dataclasses.dataclass(slots=True)
class _Logon:
    """An AUTHENTICATE_MESSAGE that waits for its account's secret."""

    message: AuthenticateMessage
    response: NTLMv2Response
    principal: Principal
    """Who claims to log on, not yet proven."""
    mic: bytes | None
    """The MIC as received; None where none was announced."""

    def name(self, answer: AccountSecret | Oracle) -> None:
        """Note the account that the lookup's answer names, if it differs from the names that the client wrote."""
        claimed, user, domain = self.principal, answer.user, answer.domain
        if user and (user != claimed.user or domain != claimed.domain):
            self.principal = Principal(
                claimed.user, claimed.domain, claimed.workstation, claimed.target_name, Account(user, domain)
            )


class NTLMAcceptor(NTLMContext):
    """A server's NTLM context. It accepts NTLMv2 only.

    Call `step(negotiate)`, then `step(authenticate)`, which returns `LookupCredential`, then `resume` until it returns
    bytes. These are empty, since an acceptor has no more tokens to send.

    The error of a refused logon has `nt_status`: STATUS_LOGON_FAILURE, or the lookup's status where the peer may know
    it.

    Args:
        policy: Whether a MIC is required.
        identity: The server's names in the challenge.
        channel_bindings: The application data of the bindings (RFC 5929). A client that sends bindings must send
            these; a client that sends none is accepted, since CredSSP has its own binding.
        random: Returns as many random bytes as asked for.
        now: Returns the time as FILETIME.
    """

    __slots__ = (
        "_bindings",
        "_challenge",
        "_identity",
        "_logon",
        "_negotiate",
        "_now",
        "_policy",
        "_random",
        "_server_challenge",
        "_state",
    )

    def __init__(
        self,
        policy: Policy,
        identity: NTLMIdentity,
        *,
        channel_bindings: bytes | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
        now: Callable[[], int] = filetime_now,
    ) -> None:
        super().__init__()
        self._policy = policy
        self._identity = identity
        self._bindings = None if channel_bindings is None else channel_bindings_hash(channel_bindings)
        self._random = random
        self._now = now
        self._negotiate = b""
        self._challenge = b""
        self._server_challenge = b""
        self._logon: _Logon | None = None
        self._state = _NEGOTIATE

    def step(self, token: bytes) -> Progress:
        """Take NEGOTIATE, then AUTHENTICATE.

        Raises:
            RemoteProtocolError: The token is not the expected message, or is malformed.
            PolicyError: The client wants less than 128-bit sealing, or has no MIC where the policy requires one.
            AuthenticationError: The logon is anonymous, or does not use NTLMv2.
        """
        state = self._state
        if state is _LOOKUP or state is _ORACLE or state is _FAILED:
            raise LocalProtocolError(f"expected no ntlm token in state {state.name.lower()}, got one")
        self._state = _FAILED
        if state is _NEGOTIATE:
            return self._step_negotiate(token)
        if state is _AUTHENTICATE:
            return self._step_authenticate(token)
        raise RemoteProtocolError("ntlm is complete: expected no more tokens")

    def resume(self, answer: object) -> Progress:
        """Take the answer to `LookupCredential` or `AskOracle`. An answer of any other type refuses the logon.

        Raises:
            AuthenticationError: The logon is refused.
            RemoteProtocolError: The message was altered, since its MIC is wrong.
        """
        state, logon = self._state, self._logon
        if logon is None:
            raise LocalProtocolError("the ntlm acceptor does not wait for an answer")
        self._state, self._logon = _FAILED, None
        if state is _ORACLE:
            return self._accept(logon, self._take_oracle_key(logon, answer))
        if isinstance(answer, Oracle):
            logon.name(answer)
            self._logon, self._state = logon, _ORACLE
            return AskOracle(answer, self._exchange(logon))
        return self._accept(logon, self._prove(logon, answer))

    def _step_negotiate(self, token: bytes) -> bytes:
        """Make the CHALLENGE_MESSAGE ([MS-NLMP] 3.2.5.1.1)."""
        message = NegotiateMessage.decode(token)
        require_flags(message.flags, "negotiate")
        identity = self._identity
        self._server_challenge = self._random(8)
        self._negotiate = token
        self._challenge = ChallengeMessage.encode(
            message.flags & _OFFERED_IF_ASKED | _ALWAYS_OFFERED | identity.target_type,
            self._server_challenge,
            identity.target_name,
            identity.names + _pack_timestamp(_TIMESTAMP, 8, self._now(), 0, 0),
        )
        self._state = _AUTHENTICATE
        return self._challenge

    def _step_authenticate(self, token: bytes) -> LookupCredential:
        """Make the checks that need no secret ([MS-NLMP] 3.2.5.1.2), and ask for the account."""
        message = AuthenticateMessage.decode(token)
        # A response of 24 bytes is NTLMv1, an empty one is LMv2 alone or anonymous. The lookup is not asked about them.
        if len(message.nt_response) <= 24:
            raise _denied(f"expected an ntlmv2 response, got {len(message.nt_response)} bytes")
        if not message.user or message.flags & _ANONYMOUS:
            raise _denied("anonymous logons are not accepted")
        require_flags(message.flags, "authenticate")
        if len(message.encrypted_session_key) != 16:
            raise RemoteProtocolError(
                f"authenticate session key: expected 16 bytes, got {len(message.encrypted_session_key)}"
            )
        response = NTLMv2Response.decode(message.nt_response, self._identity.names)
        mic = message.mic if response.mic_announced else None
        if mic is None and self._policy.require_ntlm_mic:
            raise PolicyError("ntlm: expected a mic, as require_ntlm_mic of the policy demands, got none")
        self._logon = _Logon(message, response, _claimed_principal(message, response), mic)
        self._state = _LOOKUP
        return LookupCredential(self._logon.principal, self.name)

    def _exchange(self, logon: _Logon) -> NTLMExchange:
        principal = logon.principal
        return NTLMExchange(
            user=principal.user,
            domain=principal.domain,
            workstation=principal.workstation,
            server_challenge=self._server_challenge,
            nt_response=logon.message.nt_response,
            lm_response=logon.message.lm_response,
        )

    def _prove(self, logon: _Logon, answer: object) -> bytes:
        """The session base key, if the answer holds the secret that the client proved.

        Raises:
            AuthenticationError: The answer does not hold it, or is `Deny`.
        """
        deny = answer if isinstance(answer, Deny) else _NO
        tried = _secrets(deny.secret if deny is answer else answer)
        names = keyed_names(logon.principal.user, logon.message.domain)
        proven: bytes | None = None
        # All secrets are tried, even after one fits, so that the time does not tell which one it is.
        for secret in tried:
            key = self._session_base_key(logon, names, secret.nt_hash)
            if proven is None and key is not None:
                proven = key
                logon.name(secret)
        if not tried:
            self._session_base_key(logon, names, _STAND_IN)  # does the same work; the result is ignored
        if proven is None or deny is answer:
            raise _refusal(deny, proven=proven is not None)
        return proven

    def _take_oracle_key(self, logon: _Logon, answer: object) -> bytes:
        """The session base key that an oracle answered with.

        Raises:
            AuthenticationError: The oracle gave no key. The peer sees its status no more than a lookup's, unless the
                oracle vouches for the password: its STATUS_NO_SUCH_USER must not tell the peer which users exist.
        """
        # Zeros are the key of a guest's or anonymous logon, for which no password has been checked.
        if isinstance(answer, bytes) and len(answer) == 16 and answer != _NO_KEY:
            return answer
        deny = answer if isinstance(answer, Deny) else _NO
        if deny.proven is True:
            raise _refusal(deny, proven=True)
        return self._prove(logon, deny)

    def _session_base_key(self, logon: _Logon, names: list[bytes], nt_hash: bytes) -> bytes | None:
        """SessionBaseKey if the hash made the proof under one of the names, else None ([MS-NLMP] 3.3.2)."""
        response = logon.response
        for name in names:
            response_key = hmac_md5(nt_hash, name)
            proof = nt_proof(response_key, self._server_challenge, response.temp)
            if hmac.compare_digest(proof, response.proof):
                return hmac_md5(response_key, proof)
        return None

    def _accept(self, logon: _Logon, session_base_key: bytes) -> bytes:
        """Check the MIC and the bindings of a proven logon, and make the keys."""
        message = logon.message
        session_key = rc4(session_base_key, message.encrypted_session_key)
        if logon.mic is not None:
            expected = message_mic(session_key, self._negotiate, self._challenge, with_mic(message.raw, _NO_MIC))
            if not hmac.compare_digest(expected, logon.mic):
                raise RemoteProtocolError(
                    "the mic of the ntlm messages is wrong: they were altered on the way",
                    security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED,
                    nt_status=NTSTATUS.STATUS_LOGON_FAILURE,
                )
        self._check_bindings(logon.response)
        self.needs_mech_list_mic = logon.mic is not None
        self.principal = logon.principal
        self._establish(session_key, initiator=False)
        self._state = _DONE
        return b""

    def _check_bindings(self, response: NTLMv2Response) -> None:
        """Compare the channel bindings if both sides have them ([MS-NLMP] 3.2.5.1.2, RFC 2744 3.11)."""
        theirs = response.av_pairs.get(_CHANNEL_BINDINGS, b"")
        if self._bindings is None or not any(theirs):
            return
        if not hmac.compare_digest(self._bindings, theirs):
            raise AuthenticationError(
                "the client's channel bindings belong to another tls channel",
                security_status=SecurityStatus.SEC_E_BAD_BINDINGS,
                nt_status=NTSTATUS.STATUS_LOGON_FAILURE,
            )


def _claimed_principal(message: AuthenticateMessage, response: NTLMv2Response) -> Principal:
    return Principal(
        decode_text(message.user, "authenticate user name"),
        decode_text(message.domain, "authenticate domain name"),
        decode_text(message.workstation, "authenticate workstation name"),
        decode_text(response.av_pairs.get(_TARGET_NAME, b""), "authenticate target name"),
    )


def _secrets(answer: object) -> tuple[AccountSecret, ...]:
    """The secrets in a lookup's answer. An answer of any other type holds none."""
    # Both types are asked for at once, so that a password and a hash cost the same.
    if isinstance(answer, (Password, NTHash)):
        return (answer,)
    if isinstance(answer, Candidates) and isinstance(answer.secrets, Sequence):
        return tuple(secret for secret in answer.secrets if isinstance(secret, (Password, NTHash)))
    return ()


def _refusal(deny: Deny, *, proven: bool) -> AuthenticationError:
    """The error for a refused logon, with a status that the peer may see."""
    status = failure_status(deny.nt_status)
    if not proven and status not in _NOT_ABOUT_THE_ACCOUNT:
        return _denied("unknown user or wrong password")
    return AuthenticationError(
        f"the lookup refused the logon: {status}",
        security_status=LOGON_STATUS.get(status),
        nt_status=status,
    )


def _denied(message: str) -> AuthenticationError:
    return AuthenticationError(f"logon refused: {message}", nt_status=NTSTATUS.STATUS_LOGON_FAILURE)

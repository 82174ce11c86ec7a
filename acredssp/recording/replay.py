"""A recorded handshake again: our engine in the place of one side, and the record in the place of the other.

What is random in a handshake stands in its messages, and the clock does, too: the nonce, the challenges, the time, and
with the account's secret also the session key. So the engine gets them from the record, and makes the bytes that were
recorded, if acredssp made them then. The bytes of another program differ in what it decides by itself, such as flags;
the replay goes on with what was recorded, and shows whether our engine takes the peer's messages.

A record without secrets ends at the proof, which cannot be made or checked again. A logon by Kerberos ends before its
first token: tickets and authenticators are good for minutes.
"""

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from acredssp.accounts import Users
from acredssp.carriage.rdp import judge_early_authorization
from acredssp.config import ServerConfig
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.server import ServerHandshake
from acredssp.credentials import AccountSecret, Candidates, Deny, NTHash, Password
from acredssp.decoding import Kind, Node, decode
from acredssp.errors import CredSSPError, RemoteProtocolError
from acredssp.events import Admit, AskOracle, Authorize, LookupCredential, StepResult
from acredssp.hooks import CredentialRequest, Principal
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiableMechanism, NegotiateInitiator
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.crypto import rc4
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.mechanisms.ntlm.messages import (
    AuthenticateMessage,
    AvId,
    ChallengeMessage,
    NTLMv2Response,
    decode_av_pairs,
    decode_text,
)
from acredssp.policy import NEWEST_VERSION, OLDEST_VERSION, Policy
from acredssp.rdp import RDP, ConnectionConfirm, ConnectionRequest, FailureCode, Protocols
from acredssp.recording.recording import Message, RecordedError, Recording, Sender, tokens
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.wire import TSCredentials, TSPasswordCreds, TSRequest
from acredssp.wire.spnego import TokenKind, token_kind

__all__ = ["Agreement", "Replay", "ReplayStep", "replay"]

_CHALLENGE: Final = b"NTLMSSP\0\2\0\0\0"
_AUTHENTICATE: Final = b"NTLMSSP\0\3\0\0\0"
_NO_KEY: Final = b"\x30\x00"
"""The public key of a record that has none, since it ends before TLS."""
_PROOF: Final = "NTLM AUTHENTICATE"
_OF_THE_KEY: Final = frozenset(
    {"MIC", "mechListMIC", "pubKeyAuth", "authInfo", "NTProofStr", "EncryptedRandomSessionKey"}
)
_STAND_IN: Final = TSPasswordCreds.of("", "unknown", "unknown")
"""What is delegated where the record does not tell: a password."""


class Agreement(enum.StrEnum):
    """How a message of the record and the replay agree.

    Attributes:
        SAME: Our engine makes the same bytes.
        SAME_BUT_SECRETS: Our engine makes the same bytes, but for those that need the secret of the account.
        DIFFERS: Our engine makes other bytes.
        TAKEN: The peer's message, which our engine takes.
        REFUSED: The peer's message, which our engine refuses.
    """

    SAME = "same"
    SAME_BUT_SECRETS = "same_but_secrets"
    DIFFERS = "differs"
    TAKEN = "taken"
    REFUSED = "refused"


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayStep:
    """One message of a replay.

    Attributes:
        sender: The side that sent it.
        what: What it is.
        size: Its bytes in the record.
        agreement: How the replay agrees.
        at: Where our bytes differ first; None where they do not.
    """

    sender: Sender
    what: str
    size: int
    agreement: Agreement
    at: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay.

    Attributes:
        side: The side that our engine took.
        steps: The messages, in order.
        error: Why our engine refused the peer; None where it did not.
        ended: Why the replay ended before the record does; empty where it did not.
        complete: Whether our engine's handshake is complete.
    """

    side: Sender
    steps: tuple[ReplayStep, ...]
    error: CredSSPError | None
    ended: str
    complete: bool

    def reproduces(self, record: Recording) -> bool:
        """Whether the replay ends as the record does: with the same error, or with none."""
        if self.ended or record.side != self.side:
            return False
        if self.error is None:
            return record.error is None and self.complete == (record.result == "success")
        return record.error == RecordedError.of(self.error)


class _Ended(Exception):
    """The replay cannot go on; the text says why."""


def replay(record: Recording, side: Sender | None = None) -> Replay:
    """Run our engine against one side of a record.

    Args:
        record: The record.
        side: The side that our engine takes; None for the side that was recorded by itself.

    Returns:
        What agreed, and how it ended. A peer that our engine refuses is a result, no exception.
    """
    side = side or record.side
    run = _ClientReplay(record) if side == "client" else _ServerReplay(record)
    error, ended = None, ""
    try:
        run.run()
    except _Ended as end:
        ended = str(end)
    except CredSSPError as failure:
        error = failure
        run.after_failure()
    return Replay(side, tuple(run.steps), error, ended, run.complete)


class _Replay:
    """What both sides share.

    Args:
        record: The record.
        side: Our engine's side.
    """

    def __init__(self, record: Recording, side: Sender) -> None:
        self.record = record
        self.side = side
        self.steps: list[ReplayStep] = []
        self.complete = False
        self.context: SecurityContext
        self.rdp: Any = None
        self._waiting = list(record.messages)
        self._facts = _NTLMFacts(record)

    def run(self) -> None:
        """Replay the record to its end.

        Raises:
            CredSSPError: Our engine refuses the peer.
            _Ended: The replay cannot go on.
        """
        if not self.record.messages and not self.record.x224_request:
            raise _Ended("the record has no message")
        self.context = self.new_context()
        output = self.negotiate()
        if not self.record.messages and self.record.x224_confirm and self.rdp is not None:
            raise _Ended("the record ends with the negotiation: TLS is not recorded")
        if self._facts.kerberos or (self.side == "client" and self._facts.kerberos_first):
            raise _Ended("the logon is by Kerberos, whose tickets and authenticators are good for minutes only")
        output = output or self.begin()
        while self._waiting:
            message = self._waiting.pop(0)
            if message.sender == self.side:
                self._compare(output, message)
                output = b""
            else:
                self.check(message)
                output += self._feed(message)
        self.finish()

    def new_context(self) -> SecurityContext:
        """Make our engine's context, without TLS."""
        raise NotImplementedError

    def negotiate(self) -> bytes:
        """Replay the negotiation of X.224; return what our engine sends behind it."""
        raise NotImplementedError

    def begin(self) -> bytes:
        """Return our engine's first message; empty where the peer begins."""
        return b""

    def check(self, message: Message) -> None:
        """Look at the peer's message before our engine gets it.

        Raises:
            _Ended: The replay cannot go on.
        """

    def answer(self, event: object) -> Any:
        """Answer an event of our engine."""
        raise AssertionError(event)

    def finish(self) -> None:
        """Replay what follows the messages."""
        if self.record.closed and not self.complete:
            self.context.receive_eof()
        if not self.complete:
            raise _Ended("the record ends before the handshake is complete")

    def after_failure(self) -> None:
        """Compare what our engine tells the peer at the end."""
        farewell = self.context.farewell
        own = next((message for message in self._waiting if message.sender == self.side), None)
        if own is not None and farewell:
            self._compare(farewell, own)

    def _feed(self, message: Message) -> bytes:
        try:
            output = self.drive(self.context.step(message.data))
        except CredSSPError:
            self._add(message, Agreement.REFUSED)
            raise
        self._add(message, Agreement.TAKEN)
        return output

    def drive(self, result: StepResult) -> bytes:
        """Answer the events of a result; return what our engine sends."""
        output = bytes(result.output)
        while result.event is not None:
            result = self.context.resume(result.event, self.answer(result.event))
            output += bytes(result.output)
        self.complete = self.context.state.name == "ESTABLISHED"
        return output

    def _compare(self, ours: bytes, message: Message) -> None:
        redacted = message.redacted
        if not self._facts.proven:
            redacted += tuple(_made_with_the_key(decode(message.data, kind=Kind.TS_REQUEST)))
        agreement, at = _agreement(ours, message.data, redacted)
        self._add(message, agreement, at)

    def _add(self, message: Message, agreement: Agreement, at: int | None = None) -> None:
        self.steps.append(ReplayStep(message.sender, _describe(message), len(message.data), agreement, at))

    def add_pdu(self, sender: Sender, what: str, data: bytes, ours: bytes | None = None) -> None:
        """Note a PDU in clear: the peer's, or ours beside the recorded one."""
        agreement, at = (Agreement.TAKEN, None) if ours is None else _agreement(ours, data, ())
        self.steps.append(ReplayStep(sender, what, len(data), agreement, at))

    def policy(self) -> Policy:
        """Return a policy with the version that our side spoke in the record."""
        version = next((v for m in self.record.messages if m.sender == self.side and (v := _version(m))), 0)
        newest = min(max(version, OLDEST_VERSION), NEWEST_VERSION) if version else NEWEST_VERSION
        if version == 0 and self.record.side == self.side and self.record.version:
            newest = min(max(self.record.version, OLDEST_VERSION), NEWEST_VERSION)
        return Policy(min_version=OLDEST_VERSION, max_version=newest, dangerous_allow_legacy_versions=True)


class _ClientReplay(_Replay):
    """Our client against the recorded server."""

    def __init__(self, record: Recording) -> None:
        super().__init__(record, "client")

    def new_context(self) -> SecurityContext:
        facts, policy = self._facts, self.policy()
        ntlm = NTLMInitiator(
            NTLMCredential(facts.account(), facts.workstation),
            target_name=facts.target_name,
            random=lambda size: (facts.client_challenge + facts.session_key).ljust(size, b"\0")[:size],
            now=lambda: facts.client_time,
        )
        mechanism = NegotiateInitiator([ntlm]) if facts.wrapped else ntlm
        nonce = next((n for m in self.record.messages if m.sender == "client" and (n := _nonce(m))), bytes(32))
        handshake = ClientHandshake(mechanism, self._delegated(), policy, random=lambda _size: nonce)
        return SecurityContext(handshake, None, public_key=self.record.public_key or _NO_KEY)

    def _delegated(self) -> TSCredentials:
        """Return what the client delegated, if the record's own server can tell."""
        server = _ServerReplay(self.record)
        server.deny = False
        with contextlib.suppress(CredSSPError, _Ended):
            server.run()
        return (server.context.take_credentials() if server.complete else None) or _STAND_IN

    def negotiate(self) -> bytes:
        record = self.record
        if not record.x224_request:
            return b""
        request = ConnectionRequest.decode(record.x224_request)
        requested = request.requested_protocols or Protocols.RDP
        hybrid_ex = Protocols.HYBRID_EX in requested
        if Protocols.HYBRID not in requested:
            raise _Ended("the client asks for no CredSSP, and acredssp's client always does")
        self.rdp = RDP(hybrid_ex=hybrid_ex, request=request).initiator(self.context)
        ours = bytes(self.rdp.step(b"").output)
        self.add_pdu("client", "X.224 Connection Request", record.x224_request, ours)
        if not record.x224_confirm:
            if record.closed:
                self.rdp.receive_eof()
            raise _Ended("the record ends before the server's Connection Confirm")
        try:
            result = self.rdp.step(record.x224_confirm)
        finally:
            self.add_pdu("server", "X.224 Connection Confirm", record.x224_confirm)
        if result.status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            if record.closed:
                self.rdp.receive_eof()
            raise _Ended("the record ends within the server's Connection Confirm")
        return bytes(result.output)

    def begin(self) -> bytes:
        return bytes(self.context.step(b"").output)

    def check(self, message: Message) -> None:
        if self._facts.proven or not any(_PROOF in step.what for step in self.steps):
            return
        with contextlib.suppress(RemoteProtocolError):
            request = TSRequest.decode(message.data)
            if request.error_code is not None or (request.nego_token and not any(request.nego_token)):
                return
            left_out = not self.record.with_secrets
            raise _Ended(
                "the server's proof cannot be checked: "
                + ("the record leaves it out" if left_out else "the record has not the account that logged on")
            )

    def finish(self) -> None:
        if self.complete and self.record.early_result:
            self.add_pdu("server", "early user authorization", self.record.early_result)
            try:
                judge_early_authorization(self.record.early_result)
            except CredSSPError as error:
                error.stage = Stage.EARLY_USER_AUTH
                raise
        super().finish()


class _ServerReplay(_Replay):
    """Our server against the recorded client."""

    def __init__(self, record: Recording) -> None:
        super().__init__(record, "server")
        self.deny = True
        """Whether to refuse at the stage where the record says that the server refused."""

    def new_context(self) -> SecurityContext:
        facts, policy = self._facts, self.policy()
        acceptor = NTLMAcceptor(
            policy,
            facts.identity,
            random=lambda size: facts.server_challenge.ljust(size, b"\0")[:size],
            now=lambda: facts.server_time,
        )
        mechanism = cast("NegotiableMechanism", _RecordedNTLM(acceptor, facts.challenge))
        handshake = ServerHandshake(DetectingAcceptor([mechanism]), policy, authorize=True, admit=True)
        return SecurityContext(handshake, None, public_key=self.record.public_key or _NO_KEY)

    def negotiate(self) -> bytes:
        record = self.record
        if not record.x224_request:
            return b""
        confirm = ConnectionConfirm.decode(record.x224_confirm) if record.x224_confirm else None
        early = confirm is not None and confirm.selected_protocol is Protocols.HYBRID_EX
        code = confirm.failure_code if confirm is not None else None
        carriage = RDP(hybrid_ex=early, response_flags=confirm.flags) if confirm is not None else RDP()
        if code not in {None, FailureCode.HYBRID_REQUIRED_BY_SERVER}:  # that is the server's own; others are of a route
            carriage = RDP(route=lambda _: code)
        context = self.context
        self.rdp = carriage.acceptor(cast("ServerConfig", None), lambda _config: context)
        ours = b""
        try:
            result = self.rdp.step(record.x224_request)
            if result.event is not None:
                result = self.rdp.resume(result.event, code)
            ours = bytes(result.output)
        finally:
            self.add_pdu("client", "X.224 Connection Request", record.x224_request)
            if record.x224_confirm:
                ours = ours or bytes(self.rdp.farewell)
                self.add_pdu("server", "X.224 Connection Confirm", record.x224_confirm, ours)
        return b""

    def answer(self, event: object) -> Any:
        match event:
            case LookupCredential():
                if not self._facts.secrets:
                    raise _Ended(
                        "the client's proof cannot be checked: "
                        + ("the record has no account" if self.record.with_secrets else "the record leaves it out")
                    )
                return Candidates(self._facts.secrets)
            case Authorize():
                return self._refusal(Stage.PUB_KEY_AUTH) or True
            case Admit():
                return self._refusal(Stage.AUTH_INFO, Stage.EARLY_USER_AUTH) or True
            case AskOracle():
                raise _Ended("the proof was checked by somebody else")
        raise AssertionError(event)

    def _refusal(self, *stages: Stage) -> Deny | None:
        """Return the refusal of the application, if the record has one at one of these stages."""
        error = self.record.error
        if not self.deny or error is None or error.kind != "AccessDenied" or self.record.side != "server":
            return None
        if error.stage not in {str(stage) for stage in stages}:
            return None
        status = next((each for each in NTSTATUS if str(each) == error.nt_status), NTSTATUS.STATUS_ACCESS_DENIED)
        return Deny(status)


class _RecordedNTLM:
    """An acceptor that goes on with the CHALLENGE_MESSAGE of the record, to which the recorded client has answered."""

    def __init__(self, acceptor: NTLMAcceptor, challenge: bytes) -> None:
        self._acceptor = acceptor
        self._recorded = challenge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._acceptor, name)

    def step(self, token: bytes) -> Any:
        progress = self._acceptor.step(token)
        if self._recorded and isinstance(progress, bytes) and progress.startswith(_CHALLENGE):
            acceptor: Any = self._acceptor
            acceptor._challenge = self._recorded  # noqa: SLF001 - the MIC covers the bytes that the client got
        return progress


class _NTLMFacts:
    """What the messages of NTLM tell of the two sides, as far as the record has them."""

    def __init__(self, record: Recording) -> None:
        self.secrets = tuple(_secrets(record))
        self.wrapped = self.kerberos = self.kerberos_first = False
        self.challenge = b""
        self.server_challenge, self.server_time = bytes(8), 0
        self.identity = NTLMIdentity("RECORDED")
        self.client_challenge, self.client_time, self.session_key = bytes(8), 0, bytes(16)
        self.workstation = self.target_name = ""
        self._names = ("", "unknown")
        self._proof = self._temp = self._encrypted_key = b""
        self.proven = False
        """Whether the secret of the account that logged on is known."""
        for message in record.messages[:1]:
            self._take_first(message)
        self.kerberos = self.kerberos_first and not any(b"NTLMSSP\0" in token for _, token in tokens(record))
        for sender, token in tokens(record):
            with contextlib.suppress(CredSSPError, ValueError):
                if sender == "server" and token.startswith(_CHALLENGE):
                    self._take_challenge(ChallengeMessage.decode(token))
                elif sender == "client" and token.startswith(_AUTHENTICATE):
                    self._take_authenticate(AuthenticateMessage.decode(token))

    def account(self) -> AccountSecret:
        """Return the account that logged on, by the names that the client wrote; unknown secrets are stood in for."""
        domain, user = self._names
        for secret in self.secrets:
            named = Password(secret.password, user, domain) if isinstance(secret, Password) else secret
            if isinstance(secret, NTHash):
                named = NTHash(secret.nt_hash, user, domain)
            credential = NTLMCredential(named, self.workstation)
            if self._proof and credential.hmac(self.server_challenge + self._temp) == self._proof:
                self.proven = True
                self.session_key = rc4(credential.hmac(self._proof), self._encrypted_key)
                return named
        return Password("unknown", user or "unknown", domain)

    def _take_first(self, message: Message) -> None:
        with contextlib.suppress(CredSSPError):
            token = TSRequest.decode(message.data).nego_token or b""
            kind = token_kind(token)
            self.wrapped = kind in {TokenKind.SPNEGO_INIT, TokenKind.SPNEGO_RESP}
            self.kerberos_first = kind is TokenKind.KERBEROS or (self.wrapped and b"NTLMSSP\0" not in token)

    def _take_challenge(self, message: ChallengeMessage) -> None:
        self.challenge, self.server_challenge = message.raw, message.server_challenge
        pairs = decode_av_pairs(message.target_info, "target info")
        self.server_time = int.from_bytes(pairs.get(AvId.TIMESTAMP, b"")[:8], "little")
        name = {kind: decode_text(pairs.get(kind, b""), "name") for kind in _NAMES}
        computer, domain = name[AvId.NB_COMPUTER_NAME], name[AvId.NB_DOMAIN_NAME]
        self.identity = NTLMIdentity(
            computer or "RECORDED",
            domain,
            name[AvId.DNS_COMPUTER_NAME],
            name[AvId.DNS_DOMAIN_NAME],
            name[AvId.DNS_TREE_NAME],
        )

    def _take_authenticate(self, message: AuthenticateMessage) -> None:
        self._names = decode_text(message.domain, "domain"), decode_text(message.user, "user")
        self.workstation = decode_text(message.workstation, "workstation")
        self._encrypted_key = message.encrypted_session_key
        response = NTLMv2Response.decode(message.nt_response)
        self._proof, self._temp = response.proof, response.temp
        self.client_time = int.from_bytes(response.temp[8:16], "little")
        self.client_challenge = response.temp[16:24]
        self.target_name = decode_text(response.av_pairs.get(AvId.TARGET_NAME, b""), "target")


_NAMES: Final = (
    AvId.NB_COMPUTER_NAME,
    AvId.NB_DOMAIN_NAME,
    AvId.DNS_COMPUTER_NAME,
    AvId.DNS_DOMAIN_NAME,
    AvId.DNS_TREE_NAME,
)


def _secrets(record: Recording) -> Iterator[AccountSecret]:
    """Yield the secrets of the record's accounts; lines that cannot be read are left out."""
    for line in record.accounts:
        with contextlib.suppress(ValueError):
            users = Users.parse(line.replace("\n", "").encode("utf-8", "surrogatepass"))
            domain, user, _ = line.split(":", 2)
            found = users.lookup(CredentialRequest(Principal(user, domain), "ntlm"))
            if isinstance(found, Password | NTHash):
                yield found


def _agreement(ours: bytes, theirs: bytes, redacted: tuple[tuple[int, int, str], ...]) -> tuple[Agreement, int | None]:
    """Compare our bytes with recorded ones, in which the redacted places do not count."""
    if ours == theirs:
        return Agreement.SAME, None
    masked = bytearray(ours)
    if len(ours) == len(theirs):
        for start, size, _ in redacted:
            masked[start : start + size] = theirs[start : start + size]
        if bytes(masked) == theirs:
            return Agreement.SAME_BUT_SECRETS, None
    shorter = min(len(masked), len(theirs))
    return Agreement.DIFFERS, next((at for at in range(shorter) if masked[at] != theirs[at]), shorter)


def _made_with_the_key(node: Node) -> Iterator[tuple[int, int, str]]:
    """Yield the places that only the session key can make."""
    if node.name in _OF_THE_KEY:
        yield node.offset, node.size, node.name
    for child in node.children:
        yield from _made_with_the_key(child)


def _describe(message: Message) -> str:
    """Return in words what a TSRequest holds."""
    try:
        request = TSRequest.decode(message.data)
    except CredSSPError:
        return "a message that is no TSRequest"
    parts = [_describe_token(request.nego_token)] if request.nego_token else []
    fields: tuple[tuple[str, Callable[[TSRequest], object]], ...] = (
        ("pubKeyAuth", lambda each: each.pub_key_auth),
        ("authInfo", lambda each: each.auth_info),
        ("errorCode", lambda each: each.error_code),
    )
    parts += [name for name, read in fields if read(request) is not None]
    return " + ".join(parts) or "an empty TSRequest"


def _describe_token(token: bytes) -> str:
    at = token.find(b"NTLMSSP\0")
    names = {1: "NTLM NEGOTIATE", 2: "NTLM CHALLENGE", 3: "NTLM AUTHENTICATE"}
    if at >= 0:
        name = names.get(int.from_bytes(token[at + 8 : at + 12], "little"), "NTLM")
        return name if at == 0 else f"SPNEGO {name}"
    kind = token_kind(token)
    return {TokenKind.KERBEROS: "Kerberos", TokenKind.UNKNOWN: "unknown token"}.get(kind, "SPNEGO")


def _version(message: Message) -> int:
    with contextlib.suppress(CredSSPError):
        return TSRequest.decode(message.data).version
    return 0


def _nonce(message: Message) -> bytes | None:
    with contextlib.suppress(CredSSPError):
        return TSRequest.decode(message.data).client_nonce
    return None

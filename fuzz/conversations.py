"""Targets for whole conversations: one side of ours against a peer that knows every key and lies as the input says.

The peer is a whole side of ours, too, so that what it says is honest but for the lies. A lie changes the peer's
mechanism token, the plaintext that it seals, or the message around both, and comes with fresh seals wherever the peer
could make them. Messages may be repeated, left out, reordered, or be those of an older conversation.

Every conversation runs twice, the second time cut elsewhere, and must end alike.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import ssl
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest import mock

from acredssp import tls_config
from acredssp.core import client as core_client
from acredssp.core import context as core_context
from acredssp.core import server as core_server
from acredssp.core.client import ClientHandshake
from acredssp.core.context import SecurityContext
from acredssp.core.events import Admit, Authorize, Delegate, JudgeCertificate
from acredssp.core.server import ServerHandshake
from acredssp.core.tls import TLSSession
from acredssp.credentials import Account, Candidates, Deny, NTHash, Oracle, Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import AskOracle, LookupCredential, Mechanism, NTLMExchange
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateInitiator
from acredssp.mechanisms.ntlm import acceptor as ntlm_acceptor
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.crypto import hmac_md5, nt_proof, ntowf_v2
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.policy import Policy
from acredssp.status import NTSTATUS
from acredssp.wire import der, ts_credentials
from acredssp.wire.framing import FrameSize
from acredssp.wire.x509 import subject_public_key
from fuzz.lies import (
    ALICE,
    C2S,
    KEY,
    KINDS,
    MAX_MESSAGE,
    ON_SECRETS,
    OTHER_CREDENTIALS,
    OTHER_KEY,
    S2C,
    Bent,
    Liar,
    Lie,
    Peer,
    flipped,
    lie_of,
    request_in,
)
from fuzz.program import Program, random_of
from fuzz.target import Target
from fuzz.watch import Cut, Watched, in_pieces, whole

__all__ = ["TARGETS"]

_WRONG: Final = Password("another", "alice", "CONTOSO")
_CREDENTIALS: Final = ts_credentials.TSPasswordCreds.of("CONTOSO", "alice", "delegated secret")
_IDENTITY: Final = NTLMIdentity("SERVER", "CONTOSO", "server.contoso.com", "contoso.com")
_NOW: Final = 0x01D8A0B0C0D0E0F0
_MOST_TURNS: Final = 8
_VERSIONS: Final = (6, 5, 4, 3, 2)


# --- who speaks ---


@dataclasses.dataclass(slots=True)
class _Setting:
    """What an input decides before the first message."""

    version: int
    """The newest version of the side that is watched."""
    peer_version: int
    oldest: int
    negotiate: bool
    judges: bool
    """Client: whether it asks to judge the certificate."""
    answers: bytes
    """One byte for each event of the side that is watched."""
    sizes: bytes
    """The pieces that messages are cut into in the second run; of the peer's TLS records, in both."""
    peer_secret: Password

    @classmethod
    def of(cls, program: Program) -> "_Setting":
        way = program.byte()
        return cls(
            version=_VERSIONS[way % 5],
            peer_version=_VERSIONS[program.number(5)],
            oldest=5 if way & 0x10 else 2,
            negotiate=bool(way & 0x20),
            judges=bool(way & 0x40),
            answers=program.take(3).ljust(3, b"\0"),
            sizes=program.take(3),
            peer_secret=_WRONG if way & 0x80 else ALICE,
        )

    def policy(self, version: int, oldest: int) -> Policy:
        return _policy(version, min(version, oldest))


@functools.cache
def _policy(version: int, oldest: int) -> Policy:
    return Policy(
        max_version=version, min_version=oldest, dangerous_allow_legacy_versions=True, max_message=MAX_MESSAGE
    )


def _initiator(secret: Password, seed: bytes, *, negotiate: bool) -> tuple[Mechanism, Callable[[], bytes]]:
    """Return a client's mechanism, and what tells its session key."""
    source = random_of(seed)
    given: list[bytes] = []

    def random(size: int) -> bytes:
        given.append(source(size))
        return given[-1]

    ntlm = NTLMInitiator(_credential(secret), target_name="TERMSRV/server", random=random, now=lambda: _NOW)
    return NegotiateInitiator([ntlm]) if negotiate else ntlm, lambda: given[-1][8:]


@functools.cache
def _credential(secret: Password) -> NTLMCredential:
    return NTLMCredential(secret, "CLIENT")


def _acceptor(policy: Policy, seed: bytes) -> Mechanism:
    return DetectingAcceptor([NTLMAcceptor(policy, _IDENTITY, random=random_of(seed), now=lambda: _NOW)])


def _client(mechanism: Mechanism, policy: Policy, seed: bytes, target: str | None) -> ClientHandshake:
    return ClientHandshake(mechanism, _CREDENTIALS, policy, target=target, random=random_of(seed + b" nonce"))


def _lying_client(setting: _Setting, seed: bytes, key: bytes, older: list[bytes]) -> tuple[Peer, Bent]:
    mechanism, session_key = _initiator(setting.peer_secret, seed, negotiate=setting.negotiate)
    bent = Bent(mechanism, session_key)
    handshake = _client(bent, setting.policy(setting.peer_version, 2), seed, None)
    return Peer(SecurityContext(handshake, None, public_key=key), bent, lambda _: True, older), bent


def _lying_server(setting: _Setting, seed: bytes, key: bytes, older: list[bytes]) -> tuple[Peer, Bent]:
    policy = setting.policy(setting.peer_version, 2)
    bent = Bent(_acceptor(policy, seed), lambda: b"")
    return Peer(
        SecurityContext(ServerHandshake(bent, policy), None, public_key=key), bent, lambda _: ALICE, older
    ), bent


class _ServerAnswers:
    """Answers a server's events as the input says, and remembers whether the peer may be established by that.

    Args:
        choices: A byte for the lookup, one for the oracle and `Authorize`, and one for `Admit`.
        secret: The password that the peer has.
    """

    def __init__(self, choices: bytes, secret: Password) -> None:
        self._choices = choices
        self._alice = secret is ALICE
        self.allows = True

    def __call__(self, event: object) -> object:
        match event:
            case LookupCredential():
                answers: tuple[tuple[object, bool], ...] = (
                    (ALICE, self._alice),
                    (Deny(), False),
                    (NTHash(ALICE.nt_hash, "alice", "CONTOSO"), self._alice),
                    (Candidates((_WRONG, ALICE)), True),
                    (_WRONG, not self._alice),
                    (None, False),
                    ("alice", False),
                    (Deny(NTSTATUS.STATUS_ACCOUNT_DISABLED, ALICE), False),
                    (Candidates((_WRONG,)), not self._alice),
                    (Oracle(_prove), self._alice),
                )
                return self._noted(answers, 0)
            case AskOracle():
                answers = ((_prove(event.exchange), True), (Deny(), False), (bytes(16), False), (b"x" * 16, False))
                return self._noted(answers, 1)
            case Authorize():
                return self._noted(((True, True), (Account("alice"), True), (Deny(), False), (1, False)), 1)
            case Admit():
                return self._noted(((True, True), (Deny(), False), ("yes", False), (Account("alice"), False)), 2)
        raise AssertionError(f"a server asks {event}")

    def _noted(self, answers: tuple[tuple[object, bool], ...], at: int) -> object:
        answer, allows = answers[self._choices[at] % len(answers)]
        self.allows = self.allows and allows
        return answer


def _prove(exchange: NTLMExchange) -> bytes | Deny:
    """An oracle that knows Alice."""
    key = ntowf_v2(ALICE.nt_hash, exchange.user, exchange.domain.encode("utf-16-le"))
    proof = nt_proof(key, exchange.server_challenge, exchange.nt_response[16:])
    return hmac_md5(key, proof) if proof == exchange.nt_response[:16] else Deny()


class _ClientAnswers:
    """Answers a client's events as the input says."""

    def __init__(self, choices: bytes) -> None:
        self._choices = choices
        self.allows = True

    def __call__(self, event: object) -> object:
        match event:
            case JudgeCertificate():
                answer, allows = ((True, True), (False, True), (None, False))[self._choices[0] % 3]
            case Delegate():
                answer, allows = ((True, True), (OTHER_CREDENTIALS, True), (None, False))[self._choices[1] % 3]
            case _:
                raise AssertionError(f"a client asks {event}")
        self.allows = self.allows and allows
        return answer


# --- conversations ---


@dataclasses.dataclass(slots=True)
class _Talk:
    """One conversation."""

    watched: Watched
    answers: "_ServerAnswers | _ClientAnswers"
    peer: Peer
    bent: Bent
    setting: _Setting
    key: bytes
    told: list[bytes] = dataclasses.field(default_factory=list)
    """Every message that the peer sent."""
    heard: list[bytes] = dataclasses.field(default_factory=list)
    """Every message that the watched side sent."""
    _checked: bool = False

    def delivered(self, plaintexts: set[bytes]) -> bool:
        """Whether the peer sent, whole, a seal that it made of one of the plaintexts."""
        stream = b"".join(self.told)
        return any(seal in stream for seal, plaintext in self.bent.sealed.items() if plaintext in plaintexts)

    def version(self) -> int:
        """The effective version, by the first version that the peer sent."""
        first = request_in(self.told[0]) if self.told else None
        return min(self.setting.version, first.version) if first else 0

    def bound(self, magic: bytes, old: bytes, messages: list[bytes]) -> set[bytes]:
        """The plaintexts by which the other side proves the key, for the nonces in some messages."""
        version = self.version()
        assert not version or version >= min(self.setting.oldest, self.setting.version), "a version below the policy's"
        if version < 5:
            return {old}
        nonces = [request.client_nonce for each in messages if (request := request_in(each)) and request.client_nonce]
        return {hashlib.sha256(magic + nonce + self.key).digest() for nonce in nonces}

    def check(self) -> None:
        """Check what must hold after every message."""
        assert not any(_SECRET in each for each in self.heard), "credentials are sent in clear"
        if isinstance(self.answers, _ServerAnswers):
            if self.watched.established and not self._checked:
                self._checked = True
                self._check_server()
        elif any(request.auth_info for each in self.heard if (request := request_in(each))):
            old = bytes((self.key[0] + 1,)) + self.key[1:]
            assert self.delivered(self.bound(S2C, old, self.heard)), "credentials before the server has proven its key"
            assert self.answers.allows, "credentials against the answer of the application"

    def _check_server(self) -> None:
        assert self.answers.allows, "established against the answer of the application"
        assert self.delivered(self.bound(C2S, self.key, self.told)), "established without a binding to the key"
        taken = self.watched.context.take_credentials()
        assert taken is not None
        sealed = {plaintext for plaintext in self.bent.sealed.values() if _is_credentials(plaintext, taken)}
        assert self.delivered(sealed), "the delegated credentials are not those that were sealed"
        assert self.watched.context.take_credentials() is None, "credentials were given twice"


def _is_credentials(plaintext: bytes, credentials: ts_credentials.TSCredentials) -> bool:
    try:
        return ts_credentials.decode(plaintext) == credentials
    except CredSSPError:
        return False


_SECRET: Final = "delegated secret".encode("utf-16-le")


def _bare(data: bytes, cut: bool, side: "_Side") -> _Talk:
    program = Program(data)
    setting = _Setting.of(program)
    talk = side(setting, KEY, None, in_pieces(setting.sizes) if cut else whole)
    heard = talk.watched.start() if isinstance(talk.answers, _ClientAnswers) else b""
    if heard:
        talk.heard.append(heard)
    for turn in range(_MOST_TURNS):
        if turn and not heard and program.over:
            break
        answer = b""
        for message in talk.peer.say(heard, lie_of(program)):
            talk.told.append(message)
            answer += talk.watched.give(message)
            talk.check()
        heard = answer
        if heard:
            talk.heard.append(heard)
            talk.check()
        if talk.watched.over:
            break
    talk.watched.end()
    return talk


_Side = Callable[["_Setting", bytes, TLSSession | None, Cut], _Talk]


def _server(setting: _Setting, key: bytes, tls: TLSSession | None, cut: Cut) -> _Talk:
    policy = setting.policy(setting.version, setting.oldest)
    handshake = ServerHandshake(
        _acceptor(policy, b"watched"), policy, authorize=bool(setting.answers[1]), admit=bool(setting.answers[2])
    )
    answers = _ServerAnswers(setting.answers, setting.peer_secret)
    context = SecurityContext(handshake, tls, public_key=key if tls is None else b"")
    peer, bent = _lying_client(setting, b"peer", key, _older(_lying_client, setting.negotiate))
    return _Talk(Watched(context, answers, cut), answers, peer, bent, setting, key)


def _client_side(setting: _Setting, key: bytes, tls: TLSSession | None, cut: Cut) -> _Talk:
    policy = setting.policy(setting.version, setting.oldest)
    mechanism, _ = _initiator(ALICE, b"watched", negotiate=setting.negotiate)
    handshake = _client(mechanism, policy, b"watched", "TERMSRV/server" if setting.answers[1] else None)
    answers = _ClientAnswers(setting.answers)
    context = SecurityContext(
        handshake, tls, public_key=key if tls is None else b"", judge=setting.judges and tls is not None
    )
    peer, bent = _lying_server(setting, b"peer", key, _older(_lying_server, setting.negotiate))
    return _Talk(Watched(context, answers, cut), answers, peer, bent, setting, key)


@functools.cache
def _older(make: Callable[..., tuple[Peer, Bent]], negotiate: bool) -> list[bytes]:
    """The messages of a side in an honest conversation, which was another one."""
    setting = _Setting(6, 6, 5, negotiate, judges=False, answers=bytes(3), sizes=b"", peer_secret=ALICE)
    client, _ = _lying_client(setting, b"older client", KEY, [])
    server, _ = _lying_server(setting, b"older server", KEY, [])
    heard = b""
    for side in itertools.islice(itertools.cycle((client, server)), _MOST_TURNS):
        heard = b"".join(side.say(heard, Lie()))
        if not heard:
            break
    return client.said if make is _lying_client else server.said


def _run_bare(side: _Side, data: bytes) -> bytes:
    """Run a conversation whole and cut; return what the watched side did, or raise the error that ended it."""
    first, second = _bare(data, False, side), _bare(data, True, side)
    assert first.heard == second.heard, "what is sent depends on where the input is cut"
    return _same_end(first, second)


def _same_end(first: _Talk, second: _Talk) -> bytes:
    assert first.watched.told == second.watched.told, "the events depend on where the input is cut"
    one, two = first.watched.error, second.watched.error
    assert type(one) is type(two), f"the end depends on where the input is cut: {one!r}, {two!r}"
    if one is not None and two is not None:
        assert (one.security_status, one.nt_status) == (two.security_status, two.nt_status)
        raise one
    return repr((first.watched.told, first.heard if first.watched.context.tls is None else len(first.heard))).encode()


# --- with TLS ---


@functools.cache
def _certificate() -> tuple[bytes, bytes]:
    return tls_config.self_signed(["localhost"], "ec")


@functools.cache
def _tls_contexts() -> tuple[Any, Any, bytes]:
    policy = Policy()
    certificate, key = _certificate()
    public = subject_public_key(ssl.PEM_cert_to_DER_cert(certificate.decode()))
    return tls_config.client_context(policy), tls_config.server_context_from_pem(policy, certificate, key), public


class _Channel:
    """The peer's TLS: it brings messages to the watched side in records of any sizes, and may break records."""

    def __init__(self, talk: _Talk, tls: TLSSession, sizes: bytes) -> None:
        self._talk, self._tls, self._sizes = talk, tls, sizes
        self._up = False
        self._records: list[bytes] = []

    def open(self) -> bytes:
        """Shake hands; return the plaintext that the watched side sent with its last flight."""
        watched = self._talk.watched
        if isinstance(self._talk.answers, _ClientAnswers):
            flight = watched.start()
        else:
            self._tls.handshake()
            flight = watched.give(self._tls.output())
        plaintext = b""
        for _ in range(6):
            if not flight and not self._tls.has_output:
                break
            if self._up:
                plaintext += self._tls.read(flight)
            elif self._tls.handshake(flight):
                self._up = True
                plaintext += self._tls.read()
            flight = watched.give(self._tls.output())
        return plaintext

    def bring(self, message: bytes, lie: Lie) -> bytes:
        """Bring a message; return the plaintext that comes back."""
        records = b""
        size = lie.value % 64 + 1 if lie.kind in _ON_RECORDS else 0
        step = (self._sizes[0] * 8 if self._sizes else 0) or len(message)
        for start in range(0, len(message), size or step):
            record = self._tls.encrypt(message[start : start + (size or step)])
            self._records.append(record)
            records += record
        if lie.kind == "flip_record":
            records = flipped(records, lie)
        elif lie.kind == "old_record":
            records = self._records[lie.at % len(self._records)] + records
        elif lie.kind == "foreign_record":
            records = bytes((20 + lie.at % 5, 3, 3)) + len(lie.content).to_bytes(2, "big") + lie.content + records
        elif lie.kind == "close_first":
            self._tls.close()
            records = self._tls.output() + records
        back = self._talk.watched.give(records)
        return self._tls.read(back) if back else b""


_ON_RECORDS: Final = ("flip_record", "old_record", "foreign_record", "close_first", "small_records")


def _with_tls(data: bytes, cut: bool, side: _Side) -> _Talk:
    program = Program(data)
    setting = _Setting.of(program)
    client_context, server_context, key = _tls_contexts()
    is_client = side is _client_side
    ours = TLSSession(client_context if is_client else server_context, server_side=not is_client)
    theirs = TLSSession(server_context if is_client else client_context, server_side=is_client)
    talk = side(setting, key, ours, in_pieces(setting.sizes[1:]) if cut else whole)
    channel = _Channel(talk, theirs, setting.sizes)
    try:
        heard = channel.open()
    except CredSSPError:
        heard = b""  # the watched side has refused, and said so
    if heard:
        talk.heard.append(heard)
    for turn in range(_MOST_TURNS):
        if talk.watched.over or (turn and not heard and program.over):
            break
        lie = lie_of(program)
        if program.byte() > 239:
            lie = Lie(_ON_RECORDS[program.number(len(_ON_RECORDS))], lie.at, lie.value, lie.content)
        answer = b""
        for message in talk.peer.say(heard, lie):
            talk.told.append(message)
            try:
                answer += channel.bring(message, lie)
            except CredSSPError:
                break  # the channel is broken, by an alert or by our close
            finally:
                talk.check()
        heard = answer
        if heard:
            talk.heard.append(heard)
            talk.check()
    talk.watched.end()
    return talk


def _run_with_tls(side: _Side, data: bytes) -> bytes:
    return _same_end(_with_tls(data, False, side), _with_tls(data, True, side))


# --- somebody in between, who has no key of either side ---


def _between(data: bytes) -> bytes:
    """A client that takes the attacker for its server, and a server that takes the attacker for its client.

    Nothing that the attacker repeats, drops, mixes or changes may get the client's credentials or a logon.
    """
    program = Program(data)
    setting = _Setting.of(program)
    setting.answers, setting.peer_secret = bytes(3), ALICE
    client, server = _client_side(setting, OTHER_KEY, None, whole), _server(setting, KEY, None, whole)
    between = Liar([*_older(_lying_client, setting.negotiate), *_older(_lying_server, setting.negotiate)])
    flight = client.watched.start()
    sides = itertools.cycle((server.watched, client.watched))
    for side in itertools.islice(sides, _MOST_TURNS):
        lie = lie_of(program)
        if lie.kind in ON_SECRETS:
            lie.kind = "older"
        messages = between.tell(flight, lie)
        flight = b"".join(side.give(message) for message in messages if message)
        assert not server.watched.established, "somebody in between is logged on"
        request = request_in(flight)
        assert side is server.watched or request is None or not request.auth_info, "credentials for somebody in between"
        if side.over or (not flight and program.over):
            break
    client.watched.end()
    error = server.watched.error or client.watched.error
    assert error is not None
    raise error


# --- the targets ---


def _faulty(owner: object, name: str, instead: object) -> Callable[[], AbstractContextManager[object]]:
    return lambda: mock.patch.object(owner, name, instead)


_ANY_PROOF: Final = types.SimpleNamespace(compare_digest=lambda mine, theirs: len(theirs) == 32 or mine == theirs)
_frame_size: Final = der.frame_size
_NO_LIMIT: Final = types.SimpleNamespace(frame_size=lambda data, _limit: FrameSize(*_frame_size(data, 1 << 30)))


def _unbound() -> AbstractContextManager[object]:
    """Both sides bind to no key."""
    stack = contextlib.ExitStack()
    for module in (core_client, core_server):
        for name in ("client_value", "server_value"):
            value = name.encode().ljust(32)
            stack.enter_context(mock.patch.object(module, name, lambda *_, value=value: value))
    return stack


_SEED_SIZE: Final = 24
"""Bytes of a seed: enough for a lie about each message, all of them zeros, which stand for the truth."""


def _seeds() -> list[bytes]:
    """An honest logon of each pair of versions, raw and in SPNEGO."""
    logons = [bytes((ours | way, theirs)) for way in (0, 0x20) for ours in range(5) for theirs in range(5)]
    return [logon.ljust(_SEED_SIZE, b"\0") for logon in logons]


def _seeds_with_tls() -> list[bytes]:
    logons = [bytes((way, 0, 0, 0, 0, size, 7)) for way in (0, 0x20, 0x40) for size in (0, 9, 40)]
    return [logon.ljust(_SEED_SIZE, b"\0") for logon in logons]


_LATE: Final = frozenset({"pub_key_auth", "auth_info", "established"})


def _target(name: str, run: Callable[[bytes], bytes], seeds: Callable[[], list[bytes]], fault: Any) -> Target:
    lies = [bytes((112 + number, 0, 0, value, 0)) for number in range(len(KINDS) - 1) for value in (0, 1, 4)]
    return Target(name, run, seeds, fault, size=256, words=lies, late=_LATE, kept=60)


TARGETS: Final = (
    _target(
        "server-bare",
        functools.partial(_run_bare, _server),
        _seeds,
        _faulty(ServerHandshake, "_is_bound", lambda *_: True),
    ),
    _target(
        "client-bare", functools.partial(_run_bare, _client_side), _seeds, _faulty(core_client, "hmac", _ANY_PROOF)
    ),
    _target(
        "server-tls",
        functools.partial(_run_with_tls, _server),
        _seeds_with_tls,
        _faulty(ntlm_acceptor, "_secrets", lambda _: (ALICE,)),
    ),
    _target(
        "client-tls",
        functools.partial(_run_with_tls, _client_side),
        _seeds_with_tls,
        _faulty(core_context, "der", _NO_LIMIT),
    ),
    _target("between", _between, _seeds, _unbound),
)

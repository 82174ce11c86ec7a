"""The attacker of Dolev and Yao: the network is his, and he takes apart and puts together whatever he has the keys for.

He drops (by never delivering), repeats, reorders and reflects messages, carries them from one session to another, and
makes new ones out of the parts of all that he has heard: tokens, seals and nonces in any combination. He opens and
makes seals of those sessions alone whose keys he has, by an account or a machine of his own.
"""

import dataclasses
import functools
import itertools

from model import symbols
from model.symbols import SEALS

from acredssp.core.binding import client_value, server_value
from acredssp.credentials import Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.mechanisms.ntlm.messages import AuthenticateMessage, ChallengeMessage, Flags, NegotiateMessage, with_mic
from acredssp.policy import Policy
from acredssp.status import NTSTATUS
from acredssp.wire import spnego, ts_credentials
from acredssp.wire.spnego import NegState, NegTokenInit, NegTokenResp, TokenKind
from acredssp.wire.ts_request import TSRequest, encode

MALLORY = Password("his own", "mallory", "CONTOSO")
HIS_CREDENTIALS = ts_credentials.encode(ts_credentials.TSPasswordCreds.of("CONTOSO", "mallory", "his own"))
HIS_IDENTITY = NTLMIdentity("MACHINE", "CONTOSO", "machine.contoso.test", "contoso.test")
HIS_NONCE = b"n" * 32


@dataclasses.dataclass(frozen=True)
class Abilities:
    """What the attacker can do, and how far he goes.

    Attributes:
        versions: The versions that he puts into messages of his own making.
        keys: All public keys of the world.
        account: Whether he has an account of his own in the domain.
        machine: Whether he has a machine of his own in the domain: it may have logons proven that answer its own
            challenge, and then gets their session keys.
        guest: Whether he tries to log on as a guest, whose key is zeros.
        edits: Whether he changes NTLM's messages where no key is needed: flags, and the MIC left out.
        negotiates: Whether he takes SPNEGO's tokens apart and makes new ones.
    """

    versions: tuple[int, ...]
    keys: tuple[bytes, ...]
    account: bool = True
    machine: bool = False
    guest: bool = False
    edits: bool = False
    negotiates: bool = False


@dataclasses.dataclass
class Parts:
    """What somebody who has heard some messages can use in new ones."""

    messages: set[bytes] = dataclasses.field(default_factory=set)
    tokens: set[bytes] = dataclasses.field(default_factory=set)
    seals: set[bytes] = dataclasses.field(default_factory=set)
    nonces: set[bytes] = dataclasses.field(default_factory=set)
    sessions: dict[bytes, bool] = dataclasses.field(default_factory=dict)
    """The session keys that he has, and whether he is the initiator of the session."""
    opened: set[bytes] = dataclasses.field(default_factory=set)
    """What was in the seals of others that he could open."""


class Attacker:
    """One attacker; what he can do with some messages is worked out once."""

    def __init__(self, abilities):
        self.abilities = abilities
        self._negotiate = symbols.Initiator("mallory", MALLORY, "").step(b"")
        self._machine_challenge = self._own_machine().step(self._negotiate)
        self.parts = functools.lru_cache(None)(self._parts)
        self.messages = functools.lru_cache(None)(self._messages)

    def _own_machine(self):
        return symbols.Acceptor("machine", Policy(), HIS_IDENTITY)

    # --- taking apart ---

    def _parts(self, heard):
        """Everything that can be used of what was heard, a frozenset of messages."""
        parts = Parts(messages=set(heard), nonces={HIS_NONCE}, tokens={self._negotiate, self._machine_challenge})
        for message in heard:
            self._take_apart(message, parts)
        if self.abilities.edits:
            parts.tokens |= {changed for token in parts.tokens for changed in edits_of(token)}
        for token in list(parts.tokens):
            self._use_own_accounts(token, parts)
        for sealed in parts.seals:
            term = SEALS[sealed]
            if term.session in parts.sessions:
                parts.opened.add(term.plaintext)
        parts.seals |= {made for session in parts.sessions.items() for made in self._own_seals(*session, parts)}
        return parts

    def _take_apart(self, message, parts):
        try:
            request = TSRequest.decode(message)
        except CredSSPError:
            parts.tokens.add(message)  # of a protocol without TSRequests
            return
        parts.tokens |= {request.nego_token} - {None, b""}
        parts.seals |= {request.pub_key_auth, request.auth_info} - {None}
        parts.nonces |= {request.client_nonce} - {None}

    def _use_own_accounts(self, token, parts):
        """Answer a challenge as somebody whose secret is known, and have answers to one's own challenge proven."""
        if token.startswith(b"NTLMSSP\0\2"):
            credentials = [MALLORY] if self.abilities.account else []
            if self.abilities.guest:
                credentials.append(symbols.ZeroKeys(Password("unknown", "alice", "CONTOSO"), "PC"))
            for number, credential in enumerate(credentials):
                self._log_on(token, credential, f"mallory {number} {token.hex()}", parts)
        elif self.abilities.machine and token.startswith(b"NTLMSSP\0\3"):
            session = prove(self._own_machine(), self._negotiate, token)
            if session:
                parts.sessions[session] = False

    def _log_on(self, challenge, credential, name, parts):
        initiator = symbols.Initiator(name, credential, "")
        initiator.step(b"")
        try:
            parts.tokens.add(initiator.step(challenge))
        except CredSSPError:
            return
        parts.sessions[initiator.session] = True

    def _own_seals(self, session, is_initiator, parts):
        """Seals of a session whose key is known: every plaintext with a meaning, first and second in the session."""
        value = client_value if is_initiator else server_value
        plaintexts = {HIS_CREDENTIALS} if is_initiator else set()
        for version, nonce, key in itertools.product((2, 6), parts.nonces, self.abilities.keys):
            plaintexts.add(value(version, nonce, key))
        for plaintext, number in itertools.product(sorted(plaintexts), (0, 1)):
            yield symbols.seal(session, is_initiator, number, False, plaintext)

    # --- putting together ---

    def _messages(self, heard):
        """Every message that can be sent: all that was heard, and everything that its parts can be put together to."""
        parts = self.parts(heard)
        made = dict.fromkeys(sorted(parts.messages))
        seals, nonces = sorted(parts.seals), sorted(parts.nonces)
        tokens = sorted(parts.tokens)
        for version in self.abilities.versions:
            for token in [*tokens, *self._negotiated(tokens)]:
                made[encode(version, token)] = None
            for token, sealed, nonce in itertools.product([None, *tokens], seals, [None, *nonces]):
                if token is None or not self.abilities.negotiates:
                    made[encode(version, token, pub_key_auth=sealed, client_nonce=nonce)] = None
            for sealed in seals:
                made[encode(version, auth_info=sealed)] = None
            made[encode(version, error_code=int(NTSTATUS.STATUS_LOGON_FAILURE))] = None
        return tuple(made)

    def plain(self, heard):
        """What can be sent to a service that takes tokens and seals without TSRequests."""
        parts = self.parts(heard)
        return tuple(sorted(parts.tokens | parts.seals))

    def _negotiated(self, tokens):
        """SPNEGO's tokens with the parts of those that were heard."""
        if not self.abilities.negotiates:
            return
        inner, mics, lists = {self._negotiate}, {None}, {spnego.encode_mech_list([spnego.NTLM])}
        for token in tokens:
            kind = spnego.token_kind(token)
            if kind is TokenKind.SPNEGO_INIT:
                read = NegTokenInit.decode(token)
                lists.add(read.mech_list)
                inner.add(read.mech_token)
            elif kind is TokenKind.SPNEGO_RESP:
                read = NegTokenResp.decode(token)
                inner.add(read.response_token)
                mics.add(read.mech_list_mic)
        inner.discard(None)
        for offered, token in itertools.product(sorted(lists), sorted(inner)):
            yield NegTokenInit.encode(offered, token)
        states = (NegState.ACCEPT_INCOMPLETE, NegState.ACCEPT_COMPLETED)
        chosen = (None, spnego.NTLM, spnego.KERBEROS)
        for fields in itertools.product(
            states, chosen, [None, *sorted(inner)], sorted(mics, key=lambda mic: mic or b"")
        ):
            yield spnego.encode_resp(*fields)


def prove(acceptor, negotiate, authenticate, secret=None):
    """The session key of a logon at a machine's own challenge, as its domain gives it; empty if it proves nothing."""
    acceptor.step(negotiate)
    try:
        acceptor.step(authenticate)
        acceptor.resume(secret or ALICE)
    except CredSSPError:
        return b""
    return acceptor.session


ALICE = Password("Passw0rd!", "alice", "CONTOSO")


def edits_of(token):
    """What NTLM's messages can be made to, without any key."""
    if token.startswith(b"NTLMSSP\0\1"):
        flags = NegotiateMessage.decode(token).flags
        yield NegotiateMessage.encode(flags & ~Flags.KEY_56)
        yield NegotiateMessage.encode(flags & ~(Flags.KEY_128 | Flags.SEAL))
    elif token.startswith(b"NTLMSSP\0\2"):
        read = ChallengeMessage.decode(token)
        for flags in (read.flags & ~Flags.KEY_56, read.flags & ~(Flags.KEY_128 | Flags.SEAL)):
            yield ChallengeMessage.encode(flags, read.server_challenge, read.target_name, read.target_info)
    elif token.startswith(b"NTLMSSP\0\3"):
        yield with_mic(AuthenticateMessage.decode(token).raw, bytes(16))

"""What must hold, said without the package's own checks: by what was sent, and by who has which key."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

from model.attacker import MALLORY
from model.sides import Service, at_the_deadline, mechanism_of
from model.symbols import SEALS

from acredssp.core.client import ClientHandshake
from acredssp.core.server import ServerHandshake
from acredssp.core.states import State
from acredssp.errors import CredSSPError
from acredssp.wire.ts_request import TSRequest

C2S = b"CredSSP Client-To-Server Binding Hash\0"
S2C = b"CredSSP Server-To-Client Binding Hash\0"
PROVEN = {State.AUTH_INFO, State.ESTABLISHED}
"""The states of a server for which the logon is proven."""


@dataclasses.dataclass(frozen=True)
class Property:
    """One thing that must hold.

    Attributes:
        name: What reports call it.
        says: One sentence.
        of_move: Looks at one message that a side takes: the party, its node before, the message, and its node after.
            Returns what is broken; empty for nothing.
        of_state: Looks at all sides, as (party, node), and at what the attacker has.
    """

    name: str
    says: str
    of_move: Callable[..., str] | None = None
    of_state: Callable[..., str] | None = None


def _is_client(node: Any) -> bool:
    return isinstance(node.handshake, ClientHandshake)


def _is_server(node: Any) -> bool:
    return isinstance(node.handshake, ServerHandshake)


def _requests(node):
    return [TSRequest.decode(message) for message in node.said]


def _credentials_need_proof(party, before, message, after):
    if not party.ours or not _is_client(after) or len(after.said) == len(before.said):
        return ""
    if not _requests(after)[-1].auth_info:
        return ""
    term = SEALS.get(TSRequest.decode(message).pub_key_auth or b"")
    if term is None or term.from_initiator or term.session != after.session:
        return f"{party.name} sends credentials, and the server has sealed nothing"
    nonce = next((each.client_nonce for each in _requests(after) if each.client_nonce), b"")
    old = bytes([party.key[0] + 1]) + party.key[1:]
    version = after.handshake.version
    proof = hashlib.sha256(S2C + nonce + party.key).digest() if version >= 5 else old
    if term.plaintext != proof:
        return f"{party.name} sends credentials, and the server has sealed something else than a proof of its key"
    return ""


def _versions_have_a_floor(party, before, _message, after):
    handshake = after.handshake
    if not party.ours or after.state in {State.FAILED, State.TLS} or not after.opened:
        return ""
    if handshake.version < party.floor:
        return f"{party.name} goes on with version {handshake.version}, below its floor of {party.floor}"
    lower = min(handshake.policy.max_version, after.opened)
    if handshake.version != lower:
        return f"{party.name} goes on with version {handshake.version}, and the lower of both is {lower}"
    return ""


CREDENTIALS_NEED_PROOF = Property(
    "proof-before-credentials",
    "A client sends credentials only after a seal of this session has proven the key of its TLS connection, from "
    "version 5 on together with its nonce.",
    of_move=_credentials_need_proof,
)
VERSION_FLOOR = Property(
    "version-floor",
    "No side goes on with a version below its policy's, or with another than the lower of both.",
    of_move=_versions_have_a_floor,
)


def _his(session, user, parts):
    """Whether a session is the attacker's own, under his own name."""
    return session in parts.sessions and user == MALLORY.user


def _sides_agree(sides, parts):
    seen = {}
    for party, node in sides:
        if not party.ours or not _is_server(node) or node.state not in PROVEN:
            continue
        user, session = node.handshake.mechanism.principal.user, node.session
        if _his(session, user, parts):
            continue
        if session in seen:
            return f"{party.name} and {seen[session]} have the same session of {user}"
        seen[session] = party.name
        if broken := _disagreement(party, node, user, [each for each in sides if _is_client(each[1])]):
            return broken
    return _clients_agree(sides)


def _clients_agree(sides):
    for party, node in sides:
        if not party.ours or not _is_client(node) or node.state is not State.ESTABLISHED:
            continue
        servers = [each for each in sides if _is_server(each[1]) and each[1].session == node.session]
        if not any(other.key == party.key for other, _ in servers):
            return f"{party.name} has sent credentials, and no server shares its session and its key of TLS"
    return ""


def _disagreement(party, node, user, clients):
    same = [(other, each) for other, each in clients if each.session == node.session and other.user == user]
    if not same:
        return f"{party.name} takes its peer for {user}, who has no such session"
    if not any(other.key == party.key for other, _ in same):
        return f"{party.name} shares a session with {same[0][0].name}, who has another key of TLS"
    if node.state is State.ESTABLISHED and str(node.handshake.credentials.user_name) != user:
        return f"{party.name} is given credentials that {user} has not sent"
    return ""


def _versions_agree(sides, _parts):
    for party, node in sides:
        for other, each in sides:
            ours = party.ours and other.ours and _is_server(node) and _is_client(each)
            if ours and node.session == each.session and node.state in PROVEN:
                here, there = node.handshake.version, each.handshake.version
                if here != there:
                    return f"{party.name} goes on with version {here}, and {other.name} with version {there}"
    return ""


VERSION_AGREEMENT = Property(
    "version-agreement",
    "Two sides that share a session go on with the same version. Nothing but TLS protects the version, so this holds "
    "only where TLS does.",
    of_state=_versions_agree,
)

AGREEMENT = Property(
    "agreement",
    "A server that takes a logon as proven shares its session and its key of TLS with a client of that user, and no "
    "other server has the same session. A client that sends credentials shares session and key with a server, which "
    "gets nothing but what was sent.",
    of_state=_sides_agree,
)


def _nobody_is_impersonated(sides, parts):
    for party, node in sides:
        if party.ours and _is_server(node) and node.state in PROVEN:
            user = node.handshake.mechanism.principal.user
            if node.session in parts.sessions and user != MALLORY.user:
                return f"{party.name} takes the attacker for {user}"
    return ""


NO_IMPERSONATION = Property(
    "no-impersonation",
    "The attacker gets no proven logon as a user whose secret he does not have.",
    of_state=_nobody_is_impersonated,
)


def _credentials_stay_secret(_sides, parts):
    told = [plaintext for plaintext in parts.opened if b"d\0e\0l\0e\0g\0a\0t\0e\0d" in plaintext]
    return "the attacker has opened a seal with a user's credentials" if told else ""


SECRECY = Property(
    "secrecy",
    "The attacker learns nobody's delegated credentials.",
    of_state=_credentials_stay_secret,
)


def _mechanism_is_the_best(sides, _parts):
    for party, node in sides:
        mechanism = node.handshake.mechanism
        if not party.ours or not mechanism.complete:
            continue
        if mechanism.name not in party.mechanisms:
            return f"{party.name} logs on by {mechanism.name}, which its policy leaves out"
        ours = party.user == "alice" or (mechanism.principal is not None and mechanism.principal.user == "alice")
        if ours and len(party.mechanisms) > 1 and mechanism.name == "ntlm":
            return f"{party.name} logs on by ntlm, although both sides have kerberos"
    return ""


MECHANISM_FLOOR = Property(
    "mechanism-floor",
    "No side uses a mechanism that its policy leaves out, and two sides with SPNEGO use the best that both have.",
    of_state=_mechanism_is_the_best,
)


def _ntlm_messages_agree(sides, _parts):
    for party, node in sides:
        if not _is_server(node) or node.state not in {*PROVEN, State.PUB_KEY_AUTH}:
            continue
        acceptor = mechanism_of(node)
        for other, each in sides:
            if _is_client(each) and each.session == node.session:
                initiator = mechanism_of(each)
                if acceptor.heard[0] != initiator.said[0] or acceptor.said[0] != initiator.heard[1]:
                    return f"{party.name} and {other.name} have seen different messages of ntlm"
    return ""


NTLM_AGREEMENT = Property(
    "ntlm-messages",
    "A server that takes an NTLM logon with a MIC, and its client, have seen the same messages of NTLM.",
    of_state=_ntlm_messages_agree,
)


def _bindings_hold(sides, _parts):
    for party, node in sides:
        if _is_server(node) and node.state in {*PROVEN, State.PUB_KEY_AUTH}:
            for other, each in sides:
                if _is_client(each) and each.session == node.session and other.key != party.key:
                    return f"{party.name} takes the logon of {other.name}, which was made for another channel"
    return ""


CHANNEL_BINDINGS = Property(
    "channel-bindings",
    "Where both sides have channel bindings, NTLM itself takes no logon that was made for another channel.",
    of_state=_bindings_hold,
)


def _nothing_is_borrowed(sides, _parts):
    for party, node in sides:
        if isinstance(node.handshake, Service) and node.handshake.ran:
            user = node.handshake.mechanism.principal.user
            if user != MALLORY.user:
                return f"{party.name} runs a command as {user}, who has sent none"
    return ""


NOTHING_BORROWED = Property(
    "no-borrowed-seals",
    "Nothing that a client seals can be used elsewhere as something that its user meant: no service runs a command as "
    "a user who has sent none (CVE-2018-0886).",
    of_state=_nothing_is_borrowed,
)


def _sides_end(party, _before, _message, after):
    if not party.ours or after.ended:
        return ""
    most = after.handshake.policy.max_rounds + 3
    if after.taken > most:
        return f"{party.name} has taken {after.taken} messages and still goes on"
    ended = at_the_deadline(after)
    if ended.state is not State.FAILED or getattr(ended, "credentials", None) is not None:
        return f"{party.name} waits in {after.state.name} for ever: its deadline does not end it"
    try:
        ended.receive(after.said[0] if after.said else b"0\0")
    except CredSSPError:
        return ""
    return f"{party.name} goes on after its deadline"


ENDS = Property(
    "ends",
    "Every side ends: after a number of messages that the policy bounds, and in every state at its deadline.",
    of_move=_sides_end,
)
